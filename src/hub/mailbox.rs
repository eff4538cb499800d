//! What other threads (and the shard's own HTTP handlers) hand to a shard: a queue with one wake per
//! turn in which it stops being empty.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::connection::Address;
use super::review::Review;
use crate::protocol::error_code::ErrorCode;
use crate::protocol::frame::Frame;
use crate::protocol::id::SocketId;

/// Waiting parcels beyond which publishing is refused.
const MAX_PARCELS: usize = 65_536;
/// Waiting bytes beyond which publishing is refused.
pub const MAX_BYTES: usize = 64 << 20;

/// One thing for a shard to do, in the order in which it was pushed.
#[derive(Debug)]
pub(super) enum Parcel {
    /// An event for the shard's subscribers of a channel.
    Publication(LocalPublication),
    /// A frame for one connection.
    Direct(Address, Frame),
    /// Close one connection.
    Close(Address, ErrorCode, &'static str),
    /// Close all connections, spread evenly over a time.
    Drain(Duration, u16),
    /// Close the connections of an app that was disabled or taken away.
    CloseApp(Box<str>, ErrorCode, &'static str),
    /// Close the connections of an app that its new settings would refuse.
    Review(Review),
}

/// A publication as one shard sees it.
#[derive(Debug)]
pub(super) struct LocalPublication {
    /// Where the shard keeps the channel.
    pub local: u32,
    /// Which channel that must be, should the place have been given to another since.
    pub channel: u64,
    /// Subscribers that joined at or after this revision do not get it.
    pub revision: u64,
    /// The connection that must not get it.
    pub except: Option<SocketId>,
    /// Whether it tells the whole state of the channel, so that it replaces an earlier one that waits for a slow reader.
    pub is_state: bool,
    /// What to send.
    pub frame: Frame,
}

/// The queue of one shard.
#[derive(Debug, Default)]
pub(super) struct Mailbox {
    parcels: Mutex<Vec<Parcel>>,
    waiting: AtomicUsize,
    bytes: AtomicUsize,
    /// Turns of the shard that began, and those that are over.
    begun: AtomicU64,
    over: AtomicU64,
    notify: Notify,
}

impl Mailbox {
    /// Appends a parcel and wakes the shard when it is the first. Never refuses: whoever publishes asks
    /// [`Mailbox::has_room`] before.
    pub fn push(&self, parcel: Parcel) {
        let len = match &parcel {
            Parcel::Publication(publication) => publication.frame.bytes().len(),
            Parcel::Direct(_, frame) => frame.bytes().len(),
            Parcel::Close(..) | Parcel::Drain(..) | Parcel::CloseApp(..) | Parcel::Review(_) => 0,
        };
        let mut parcels = self.parcels.lock().unwrap_or_else(PoisonError::into_inner);
        let was_empty = parcels.is_empty();
        parcels.push(parcel);
        self.waiting.store(parcels.len(), Ordering::Relaxed);
        self.bytes.fetch_add(len, Ordering::Relaxed);
        drop(parcels);
        if was_empty {
            self.notify.notify_one();
        }
    }

    /// Whether another publication may be pushed.
    pub fn has_room(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) < MAX_PARCELS && self.bytes.load(Ordering::Relaxed) < MAX_BYTES
    }

    /// Whether less than half of what may wait does; for connections that cause much of it, an eighth.
    pub fn is_calm(&self, is_busy: bool) -> bool {
        let share = if is_busy { 8 } else { 2 };
        self.waiting.load(Ordering::Relaxed) < MAX_PARCELS / share
            && self.bytes.load(Ordering::Relaxed) < MAX_BYTES / share
    }

    /// Swaps what is waiting with the empty `into`: a turn begins.
    pub fn take(&self, into: &mut Vec<Parcel>) {
        debug_assert!(into.is_empty());
        let mut parcels = self.parcels.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::swap(&mut *parcels, into);
        self.waiting.store(0, Ordering::Relaxed);
        self.bytes.store(0, Ordering::Relaxed);
        self.begun.fetch_add(1, Ordering::Relaxed);
    }

    /// What was taken last was written to the connections.
    pub fn turn_is_over(&self) {
        self.over.store(self.begun.load(Ordering::Relaxed), Ordering::Release);
    }

    /// Stands for what was pushed so far.
    pub fn mark(&self) -> u64 {
        let _parcels = self.parcels.lock().unwrap_or_else(PoisonError::into_inner);
        self.begun.load(Ordering::Relaxed)
    }

    /// Whether the shard is done with what was pushed before this mark.
    pub fn is_past(&self, mark: u64) -> bool {
        let parcels = self.parcels.lock().unwrap_or_else(PoisonError::into_inner);
        let over = self.over.load(Ordering::Acquire);
        // What waited at the mark is in the turn after it.
        over > mark || (parcels.is_empty() && over == self.begun.load(Ordering::Relaxed))
    }

    /// Resolves when something was pushed since the last call.
    pub async fn filled(&self) {
        self.notify.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_passed_when_the_turn_with_what_was_before_it_is_over() {
        let (mailbox, mut taken) = (Mailbox::default(), Vec::new());
        let push = || mailbox.push(Parcel::Drain(Duration::ZERO, 0));
        assert!(mailbox.is_past(mailbox.mark()), "nothing was pushed");
        push();
        let before = mailbox.mark();
        assert!(!mailbox.is_past(before), "it waits");
        mailbox.take(&mut taken);
        assert!(!mailbox.is_past(before), "it is taken");
        // A turn is under way: what comes now is in the next one.
        push();
        let later = mailbox.mark();
        mailbox.turn_is_over();
        assert!(mailbox.is_past(before) && !mailbox.is_past(later));
        taken.clear();
        mailbox.take(&mut taken);
        push();
        mailbox.turn_is_over();
        assert!(mailbox.is_past(later), "whatever waits since");
    }
}
