//! Stops asking a database that does not answer, so that requests fail at once instead of piling up.

use std::time::{Duration, Instant};

/// Failures in a row after which nothing is asked for a while.
const FAILURES: u32 = 5;
/// That while; then one request tries.
const PAUSE: Duration = Duration::from_secs(5);

#[derive(Debug, Default)]
pub(super) struct Breaker {
    failures: u32,
    open_until: Option<Instant>,
}

impl Breaker {
    /// Whether to ask now.
    ///
    /// # Errors
    /// How long not to.
    pub(super) fn enter(&mut self, now: Instant) -> Result<(), Duration> {
        match self.open_until {
            Some(until) if now < until => Err(until - now),
            Some(_) => {
                // This one tries. Should it never tell how that went, the next may after another pause.
                self.open_until = Some(now + PAUSE);
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// The database answered.
    pub(super) fn succeed(&mut self) {
        *self = Self::default();
    }

    /// The database did not answer. Whether this was the failure that stops requests.
    pub(super) fn fail(&mut self, now: Instant) -> bool {
        self.failures = self.failures.saturating_add(1);
        if self.failures >= FAILURES {
            self.open_until = Some(now + PAUSE);
        }
        self.failures == FAILURES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(now: Instant) -> Breaker {
        let mut breaker = Breaker::default();
        let opened: Vec<_> = (0..FAILURES).map(|_| breaker.fail(now)).collect();
        assert_eq!(opened, [false, false, false, false, true]);
        breaker
    }

    #[test]
    fn five_failures_in_a_row_stop_requests_for_five_seconds() {
        let start = Instant::now();
        let mut breaker = open(start);
        assert_eq!(breaker.enter(start + Duration::from_secs(2)), Err(Duration::from_secs(3)));
        let mut breaker = Breaker::default();
        for _ in 0..3 {
            assert!((1..FAILURES).all(|_| !breaker.fail(start)));
            assert_eq!(breaker.enter(start), Ok(()));
            breaker.succeed();
        }
    }

    #[test]
    fn then_one_tries_and_decides_for_all() {
        let start = Instant::now();
        let later = start + PAUSE;
        let mut breaker = open(start);
        assert_eq!(breaker.enter(later), Ok(()));
        assert_eq!(breaker.enter(later), Err(PAUSE));
        assert!(!breaker.fail(later + Duration::from_secs(1)));
        assert_eq!(breaker.enter(later + PAUSE), Err(Duration::from_secs(1)));

        let last = later + PAUSE + Duration::from_secs(1);
        assert_eq!(breaker.enter(last), Ok(()));
        breaker.succeed();
        assert_eq!((breaker.enter(last), breaker.enter(last)), (Ok(()), Ok(())));
    }

    #[test]
    fn a_try_that_tells_nothing_does_not_stop_requests_for_good() {
        let start = Instant::now();
        let mut breaker = open(start);
        assert_eq!(breaker.enter(start + PAUSE), Ok(()));
        assert_eq!(breaker.enter(start + PAUSE * 2), Ok(()));
    }
}
