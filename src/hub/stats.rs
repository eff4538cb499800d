//! Counters of the shards. A shard counts in plain numbers and publishes them once a second.

use std::sync::atomic::{AtomicU64, Ordering};

use super::budget::Budget;

/// What one shard counted so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct ShardStats {
    /// WebSocket connections established.
    pub opened: u64,
    /// Frames of publications handed to connections.
    pub delivered: u64,
    /// Messages received from clients.
    pub received: u64,
    /// Messages that were answered with an error.
    pub faults: u64,
    /// Connections closed because they did not read.
    pub slow_consumers: u64,
    /// Connections closed because they did not answer a ping.
    pub timed_out: u64,
    /// Connections closed because a budget was used up, in the order of [`OVER_BUDGET`].
    pub over_budget: [u64; 3],
}

/// The budgets that a connection may use up.
pub const OVER_BUDGET: [&str; 3] =
    [Budget::Messages.word(), Budget::Subscriptions.word(), Budget::Refusals.word()];

/// The published counters of all shards.
#[derive(Debug)]
pub struct Stats {
    shards: Vec<[AtomicU64; 9]>,
}

impl Stats {
    pub(super) fn new(shards: usize) -> Self {
        Self { shards: (0..shards).map(|_| Default::default()).collect() }
    }

    pub(super) fn publish(&self, shard: usize, stats: &ShardStats) {
        let values = [
            stats.opened,
            stats.delivered,
            stats.received,
            stats.faults,
            stats.slow_consumers,
            stats.timed_out,
            stats.over_budget[0],
            stats.over_budget[1],
            stats.over_budget[2],
        ];
        for (cell, value) in self.shards[shard].iter().zip(values) {
            cell.store(value, Ordering::Relaxed);
        }
    }

    /// The sum over all shards, at most a second old.
    pub fn total(&self) -> ShardStats {
        let sum = |index: usize| self.shards.iter().map(|shard| shard[index].load(Ordering::Relaxed)).sum();
        ShardStats {
            opened: sum(0),
            delivered: sum(1),
            received: sum(2),
            faults: sum(3),
            slow_consumers: sum(4),
            timed_out: sum(5),
            over_budget: [sum(6), sum(7), sum(8)],
        }
    }
}
