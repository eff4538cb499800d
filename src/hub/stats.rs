//! Counters of the shards. A shard counts in plain numbers and publishes them once a second.

use std::sync::atomic::{AtomicU64, Ordering};

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
}

/// The published counters of all shards.
#[derive(Debug)]
pub struct Stats {
    shards: Vec<[AtomicU64; 6]>,
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
        }
    }
}
