//! Lines that strangers can cause as often as they like, limited to one a minute.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use std::sync::OnceLock;

/// At most one line in this time.
const INTERVAL: Duration = Duration::from_secs(60);

/// Limits one kind of line. Const, so that it can be a static beside the line.
#[derive(Debug)]
pub struct Seldom {
    started: OnceLock<Instant>,
    /// When the next line may be written, in milliseconds since `started`.
    next: AtomicU64,
    suppressed: AtomicU64,
}

impl Seldom {
    /// With its first line free.
    #[must_use]
    pub const fn new() -> Self {
        Self { started: OnceLock::new(), next: AtomicU64::new(0), suppressed: AtomicU64::new(0) }
    }

    /// Whether the line may be written now; if so, how many were not since the last one.
    pub fn admit(&self) -> Option<u64> {
        let started = *self.started.get_or_init(Instant::now);
        self.admit_at(u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    fn admit_at(&self, now: u64) -> Option<u64> {
        let next = self.next.load(Ordering::Relaxed);
        let after = now.saturating_add(INTERVAL.as_millis() as u64);
        if now < next
            || self.next.compare_exchange(next, after, Ordering::Relaxed, Ordering::Relaxed).is_err()
        {
            self.suppressed.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        Some(self.suppressed.swap(0, Ordering::Relaxed))
    }
}

impl Default for Seldom {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_a_minute_tells_how_many_were_left_out() {
        let seldom = Seldom::new();
        assert_eq!(seldom.admit_at(0), Some(0));
        assert_eq!([1, 30_000, 59_999].map(|now| seldom.admit_at(now)), [None; 3]);
        assert_eq!(seldom.admit_at(60_000), Some(3));
        assert_eq!(seldom.admit_at(60_001), None);
    }
}
