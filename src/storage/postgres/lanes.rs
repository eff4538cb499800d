//! The order of what follows commits.
//!
//! Transactions of one lane (a conversation) come one after the other: the second waits in the database for
//! row locks that the first gives back with its commit. But from then on the second could overtake the first
//! on its way from the commit to the effects, since both are on threads of their own. So a thread holds its
//! lanes from before its commit until its effects are done: the second may get its row locks and come to its
//! commit, and waits there.
//!
//! No deadlock comes of it: a commit, which is all that is waited for with lanes held, needs no lock of
//! another transaction; and lanes are taken in one order.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Lanes share so many locks.
const STRIPES: usize = 64;

pub(super) struct Lanes([Mutex<()>; STRIPES]);

impl Lanes {
    pub(super) fn new() -> Self {
        Self([const { Mutex::new(()) }; STRIPES])
    }

    /// Waits until it is the turn of a transaction on these lanes; it is over when the answer is dropped.
    pub(super) fn hold<'a>(&self, lanes: impl Iterator<Item = &'a str>) -> Vec<MutexGuard<'_, ()>> {
        let mut stripes: Vec<_> = lanes.map(stripe).collect();
        stripes.sort_unstable();
        stripes.dedup();
        stripes.into_iter().map(|at| self.0[at].lock().unwrap_or_else(PoisonError::into_inner)).collect()
    }
}

fn stripe(lane: &str) -> usize {
    let mut hasher = DefaultHasher::new();
    lane.hash(&mut hasher);
    (hasher.finish() % STRIPES as u64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lane_is_held_once_however_often_it_is_named() {
        let lanes = Lanes::new();
        let held = lanes.hold(["a", "b", "a", "b"].into_iter());
        assert!(lanes.0[stripe("a")].try_lock().is_err());
        assert!(held.len() <= 2);
        drop(held);
        assert!(lanes.0.iter().all(|stripe| stripe.try_lock().is_ok()));
    }
}
