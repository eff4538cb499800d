//! What other threads (and the shard's own HTTP handlers) hand to a shard: a queue with one wake per
//! turn in which it stops being empty.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::connection::Address;
use crate::protocol::error_code::ErrorCode;
use crate::protocol::frame::Frame;
use crate::protocol::id::SocketId;

/// Waiting parcels beyond which publishing is refused.
const MAX_PARCELS: usize = 65_536;
/// Waiting bytes beyond which publishing is refused.
const MAX_BYTES: usize = 64 << 20;

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
    /// What to send.
    pub frame: Frame,
}

/// The queue of one shard.
#[derive(Debug, Default)]
pub(super) struct Mailbox {
    parcels: Mutex<Vec<Parcel>>,
    waiting: AtomicUsize,
    bytes: AtomicUsize,
    notify: Notify,
}

impl Mailbox {
    /// Appends a parcel and wakes the shard when it is the first. Never refuses: whoever publishes asks
    /// [`Mailbox::has_room`] before.
    pub fn push(&self, parcel: Parcel) {
        let len = match &parcel {
            Parcel::Publication(publication) => publication.frame.bytes().len(),
            Parcel::Direct(_, frame) => frame.bytes().len(),
            Parcel::Close(..) | Parcel::Drain(..) | Parcel::CloseApp(..) => 0,
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

    /// Whether less than an eighth of what may wait does.
    pub fn is_calm(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) < MAX_PARCELS / 8
            && self.bytes.load(Ordering::Relaxed) < MAX_BYTES / 8
    }

    /// Swaps what is waiting with the empty `into`.
    pub fn take(&self, into: &mut Vec<Parcel>) {
        debug_assert!(into.is_empty());
        let mut parcels = self.parcels.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::swap(&mut *parcels, into);
        self.waiting.store(0, Ordering::Relaxed);
        self.bytes.store(0, Ordering::Relaxed);
    }

    /// Resolves when something was pushed since the last call.
    pub async fn filled(&self) {
        self.notify.notified().await;
    }
}
