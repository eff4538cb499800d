//! A token bucket: so many a second, and at most a burst at once.

use std::time::{Duration, Instant};

/// Tokens refill continuously at `rate` a second up to `burst`.
#[derive(Clone, Debug)]
pub struct TokenBucket {
    rate: f64,
    burst: f64,
    tokens: f64,
    refilled: Instant,
}

impl TokenBucket {
    /// A full bucket that holds one second's worth.
    pub fn new(rate: f64, now: Instant) -> Self {
        Self::with_burst(rate, rate, now)
    }

    /// A full bucket of `burst` tokens.
    pub fn with_burst(rate: f64, burst: f64, now: Instant) -> Self {
        Self { rate, burst, tokens: burst, refilled: now }
    }

    /// Goes on with another rate and burst: what is missing of the burst stays missing. Nothing changes where they are
    /// the same.
    pub fn set_rate(&mut self, rate: f64, burst: f64, now: Instant) {
        if (self.rate, self.burst) != (rate, burst) {
            self.refill(now);
            let missing = self.burst - self.tokens;
            (self.rate, self.burst, self.tokens) = (rate, burst, (burst - missing).max(0.0));
        }
    }

    /// Whether nothing is missing, so that a new bucket would be the same.
    pub fn is_full(&self, now: Instant) -> bool {
        let elapsed = now.saturating_duration_since(self.refilled).as_secs_f64();
        self.tokens + elapsed * self.rate >= self.burst
    }

    /// Whether one token is there, which is left there.
    pub fn has_one(&self, now: Instant) -> bool {
        let elapsed = now.saturating_duration_since(self.refilled).as_secs_f64();
        (self.tokens + elapsed * self.rate).min(self.burst) + 1e-9 >= self.burst.min(1.0)
    }

    /// Takes `amount` tokens; more than the bucket holds when it is full count as a full bucket, so
    /// that no request is impossible.
    ///
    /// # Errors
    /// How long until there are enough; nothing was taken.
    pub fn take(&mut self, amount: f64, now: Instant) -> Result<(), Duration> {
        let amount = amount.min(self.burst);
        self.refill(now);
        if self.tokens + 1e-9 >= amount {
            self.tokens -= amount;
            return Ok(());
        }
        Err(Duration::from_secs_f64((amount - self.tokens) / self.rate))
    }

    fn refill(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.refilled).as_secs_f64();
        self.tokens = (self.tokens + elapsed * self.rate).min(self.burst);
        self.refilled = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_at_once_then_one_each_tenth_of_a_second() {
        let start = Instant::now();
        let mut bucket = TokenBucket::new(10.0, start);
        for _ in 0..10 {
            assert_eq!(bucket.take(1.0, start), Ok(()));
        }
        let wait = bucket.take(1.0, start).expect_err("empty");
        assert!(!bucket.has_one(start) && bucket.has_one(start + Duration::from_millis(100)));
        assert!(wait <= Duration::from_millis(101) && wait >= Duration::from_millis(99));
        assert_eq!(bucket.take(1.0, start + Duration::from_millis(100)), Ok(()));
        assert!(bucket.take(1.0, start + Duration::from_millis(100)).is_err());
    }

    #[test]
    fn another_rate_holds_from_now_on() {
        let start = Instant::now();
        let mut bucket = TokenBucket::new(10.0, start);
        (0..10).for_each(|_| assert_eq!(bucket.take(1.0, start), Ok(())));
        // What was taken stays taken: nobody gains by a change.
        bucket.set_rate(1.0, 1.0, start);
        assert!(bucket.take(1.0, start).is_err());
        assert_eq!(bucket.take(1.0, start + Duration::from_secs(10)), Ok(()));
        let later = start + Duration::from_secs(20);
        bucket.set_rate(5.0, 5.0, later);
        (0..5).for_each(|_| assert_eq!(bucket.take(1.0, later), Ok(())));
        assert!(bucket.take(1.0, later).is_err());
    }

    #[test]
    fn more_than_a_full_bucket_waits_for_a_full_one() {
        let start = Instant::now();
        let mut bucket = TokenBucket::new(2.0, start);
        assert_eq!(bucket.take(10.0, start), Ok(()));
        assert!(bucket.take(1.0, start).is_err());
    }
}
