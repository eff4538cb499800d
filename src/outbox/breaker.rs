//! When to try again: one event, and a whole endpoint.

use std::time::Duration;

use super::micros;

/// Failures in a row that open the breaker.
const TOLERATED: u32 = 5;
/// Longest pause of an endpoint: it may be back at any time.
const MAX_PROBE_PAUSE: Duration = Duration::from_mins(1);

/// Pause before the next try after `failures` of them: doubling up to `max`, ±20 % so that what failed
/// together does not come back together.
pub(super) fn pause(base: Duration, failures: u32, max: Duration) -> Duration {
    spread(doubled(base, failures).min(max))
}

fn doubled(base: Duration, failures: u32) -> Duration {
    base.saturating_mul(1_u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX))
}

fn spread(pause: Duration) -> Duration {
    pause.mul_f64(0.8 + 0.4 * fastrand::f64())
}

/// Keeps a dead endpoint from being asked with everything that waits for it.
#[derive(Debug, Default)]
pub(super) struct Breaker {
    failures: u32,
    /// No try before this time.
    until: i64,
}

impl Breaker {
    /// Whether the endpoint is asked with one event at a time.
    pub(super) fn is_open(&self) -> bool {
        self.failures >= TOLERATED
    }

    /// When the next try may start.
    pub(super) fn until(&self) -> i64 {
        self.until
    }

    /// The endpoint answered; tells whether the breaker was open.
    pub(super) fn answered(&mut self) -> bool {
        std::mem::take(self).is_open()
    }

    /// The endpoint does not work.
    pub(super) fn failed(&mut self, base: Duration, now: i64) {
        // Tries that were under way when it opened say nothing new.
        if self.is_open() && now < self.until {
            return;
        }
        self.failures = self.failures.saturating_add(1);
        if self.is_open() {
            let pause = doubled(base, self.failures - TOLERATED + 1).min(MAX_PROBE_PAUSE);
            self.until = now.saturating_add(micros(spread(pause)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn pauses_double_up_to_a_limit() {
        for (failures, expected) in [(0, 1), (1, 1), (2, 2), (5, 16), (12, 2048), (13, 3600), (400, 3600)] {
            let pause = pause(SECOND, failures, Duration::from_hours(1)).as_secs_f64();
            let range = f64::from(expected) * 0.8..=f64::from(expected) * 1.2;
            assert!(range.contains(&pause), "{failures}: {pause}");
        }
    }

    #[test]
    fn it_opens_after_five_failures_in_a_row_and_probes_ever_less_often() {
        let mut breaker = Breaker::default();
        for _ in 0..4 {
            breaker.failed(SECOND, 0);
        }
        assert!(!breaker.answered(), "four are tolerated");
        for _ in 0..5 {
            assert!(!breaker.is_open() && breaker.until() == 0);
            breaker.failed(SECOND, 0);
        }
        let first = breaker.until();
        assert!(breaker.is_open() && (800_000..=1_200_000).contains(&first), "{first}");
        breaker.failed(SECOND, first - 1);
        assert_eq!(breaker.until(), first, "a straggler");
        for _ in 0..20 {
            breaker.failed(SECOND, breaker.until());
        }
        let before = breaker.until();
        breaker.failed(SECOND, before);
        assert!((48_000_000..=72_000_000).contains(&(breaker.until() - before)));
        assert!(breaker.answered() && !breaker.is_open() && breaker.until() == 0);
    }
}
