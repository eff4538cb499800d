//! How long clients waited to be told what a caller asked for.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use dashmap::DashMap;

/// Upper bounds of the buckets, in milliseconds; one more has the rest.
const BOUNDS: [u64; 12] = [1, 2, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 10_000];

/// Times from a call to the broadcast that followed, by app.
#[derive(Debug, Default)]
pub(super) struct Latencies {
    apps: DashMap<String, Histogram>,
}

#[derive(Debug, Default)]
struct Histogram {
    counts: [AtomicU64; BOUNDS.len() + 1],
    microseconds: AtomicU64,
}

/// One app's times, as Prometheus counts them.
#[derive(Clone, Debug, PartialEq)]
pub struct LatencyHistogram {
    /// The app.
    pub app_id: String,
    /// Upper bounds in seconds, and how many took no longer.
    pub buckets: Vec<(f64, u64)>,
    /// All of them.
    pub count: u64,
    /// Their sum in seconds.
    pub sum: f64,
}

impl Latencies {
    pub(super) fn observe(&self, app_id: &str, took: Duration) {
        match self.apps.get(app_id) {
            Some(histogram) => histogram.observe(took),
            None => self.apps.entry(app_id.to_owned()).or_default().observe(took),
        }
    }

    /// In the order of the apps' ids.
    pub(super) fn read(&self) -> Vec<LatencyHistogram> {
        let mut all: Vec<_> = self.apps.iter().map(|app| app.value().read(app.key())).collect();
        all.sort_by(|a, b| a.app_id.cmp(&b.app_id));
        all
    }
}

impl Histogram {
    fn observe(&self, took: Duration) {
        let microseconds = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = BOUNDS.iter().position(|bound| microseconds <= bound * 1_000).unwrap_or(BOUNDS.len());
        self.counts[bucket].fetch_add(1, Ordering::Relaxed);
        self.microseconds.fetch_add(microseconds, Ordering::Relaxed);
    }

    fn read(&self, app_id: &str) -> LatencyHistogram {
        let mut count = 0;
        let mut cumulative = |counter: &AtomicU64| {
            count += counter.load(Ordering::Relaxed);
            count
        };
        let buckets =
            BOUNDS.iter().zip(&self.counts).map(|(bound, own)| (*bound as f64 / 1e3, cumulative(own)));
        let buckets = buckets.collect();
        let count = cumulative(&self.counts[BOUNDS.len()]);
        let sum = self.microseconds.load(Ordering::Relaxed) as f64 / 1e6;
        LatencyHistogram { app_id: app_id.to_owned(), buckets, count, sum }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_time_counts_in_every_bucket_that_holds_it() {
        let latencies = Latencies::default();
        for (app, microseconds) in [("b", 1), ("a", 1_000), ("a", 1_001), ("a", 60_000_000)] {
            latencies.observe(app, Duration::from_micros(microseconds));
        }
        let all = latencies.read();
        assert_eq!(all.iter().map(|app| app.app_id.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!((all[0].buckets[0], all[0].buckets[1]), ((0.001, 1), (0.002, 2)));
        assert_eq!((all[0].buckets[BOUNDS.len() - 1], all[0].count), ((10.0, 2), 3));
        assert!((all[0].sum - 60.002_001).abs() < 1e-9, "{}", all[0].sum);
    }
}
