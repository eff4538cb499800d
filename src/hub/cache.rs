//! The sum of what an app's cache channels remember, and which event is the oldest.
//!
//! The events themselves are in the directory. Its locks come before this one: what is too much is taken from here first
//! and forgotten there afterwards, without any lock in between.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What an event costs besides its bytes: its entry in the directory and in here.
const OVERHEAD: usize = 512;

/// The remembered events of one app, by age.
#[derive(Debug)]
pub(super) struct CacheLedger {
    most: AtomicUsize,
    forgotten: AtomicU64,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    /// Channel and bytes, by the number of the event.
    events: BTreeMap<u64, (Arc<str>, usize)>,
    bytes: usize,
    newest: u64,
}

impl CacheLedger {
    /// A ledger for at most this many bytes.
    pub fn new(most: usize) -> Self {
        Self { most: AtomicUsize::new(most), forgotten: AtomicU64::new(0), kept: Mutex::default() }
    }

    /// Changes how many bytes there may be.
    pub fn set_most(&self, most: usize) {
        self.most.store(most, Ordering::Relaxed);
    }

    /// Enters an event of a channel in place of an earlier one; answers its number.
    pub fn enter(&self, channel: &Arc<str>, bytes: usize, before: Option<u64>) -> u64 {
        let mut kept = self.kept();
        kept.remove(before);
        kept.newest += 1;
        let (number, bytes) = (kept.newest, bytes + channel.len() + OVERHEAD);
        kept.bytes += bytes;
        kept.events.insert(number, (Arc::clone(channel), bytes));
        number
    }

    /// Strikes out an event that is forgotten.
    pub fn remove(&self, number: u64) {
        self.kept().remove(Some(number));
    }

    /// Strikes out the oldest event while there is too much; answers its number and channel. The newest one stays.
    pub fn pop_excess(&self) -> Option<(u64, Arc<str>)> {
        let mut kept = self.kept();
        if kept.bytes <= self.most.load(Ordering::Relaxed) || kept.events.len() < 2 {
            return None;
        }
        let (number, (channel, bytes)) = kept.events.pop_first()?;
        kept.bytes -= bytes;
        self.forgotten.fetch_add(1, Ordering::Relaxed);
        Some((number, channel))
    }

    /// Bytes that are remembered, and events that were forgotten because there was too much.
    pub fn figures(&self) -> (usize, u64) {
        (self.kept().bytes, self.forgotten.load(Ordering::Relaxed))
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn remove(&mut self, number: Option<u64>) {
        if let Some((_, bytes)) = number.and_then(|number| self.events.remove(&number)) {
            self.bytes -= bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_goes_first_and_a_replaced_one_is_the_newest() {
        let ledger = CacheLedger::new(3 * (OVERHEAD + 101));
        let enter = |name: &str, before| ledger.enter(&Arc::from(name), 100, before);
        let (a, b) = (enter("a", None), enter("b", None));
        enter("c", None);
        let a = enter("a", Some(a));
        assert_eq!(ledger.pop_excess(), None);
        enter("d", None);
        assert_eq!(ledger.pop_excess(), Some((b, Arc::from("b"))));
        assert_eq!(ledger.pop_excess(), None);
        ledger.remove(a);
        assert_eq!(ledger.figures(), (2 * (OVERHEAD + 101), 1));
    }

    #[test]
    fn one_event_is_remembered_however_large_it_is() {
        let ledger = CacheLedger::new(10);
        ledger.enter(&Arc::from("a"), 1_000_000, None);
        assert_eq!(ledger.pop_excess(), None);
    }
}
