//! A least rate: a transfer may take as long as it likes while bytes move, and ends when too few do.

use std::pin::pin;
use std::time::Duration;

use tokio::time::Instant;

/// The least that a transfer must move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeastRate {
    /// Bytes in each window.
    bytes: u64,
    window: Duration,
}

/// How a transfer goes. Only the time counts in which the other side is waited for.
#[derive(Debug)]
pub struct Pace {
    least: LeastRate,
    moved: u64,
    /// Waited in this window.
    waited: Duration,
}

/// Too few bytes moved in a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooSlow;

impl LeastRate {
    /// So many bytes a second, measured over windows of this length; at least one byte in each.
    pub fn new(bytes_per_second: usize, window: Duration) -> Self {
        Self { bytes: ((bytes_per_second as f64 * window.as_secs_f64()) as u64).max(1), window }
    }

    /// Whether so many bytes are enough for a window.
    pub fn is_met_by(self, bytes: u64) -> bool {
        bytes >= self.bytes
    }

    /// The length of a window.
    pub fn window(self) -> Duration {
        self.window
    }
}

impl Pace {
    /// A transfer that begins.
    pub fn new(least: LeastRate) -> Self {
        Self { least, moved: 0, waited: Duration::ZERO }
    }

    /// So many bytes moved.
    pub fn moved(&mut self, bytes: usize) {
        self.moved += bytes as u64;
    }

    /// Waits for the other side's next step.
    ///
    /// # Errors
    /// A window ended in which too few bytes moved.
    pub async fn of<T>(&mut self, step: impl Future<Output = T>) -> Result<T, TooSlow> {
        let mut step = pin!(step);
        loop {
            let (start, left) = (Instant::now(), self.least.window.saturating_sub(self.waited));
            if let Ok(done) = tokio::time::timeout_at(start + left, &mut step).await {
                self.waited += start.elapsed();
                return Ok(done);
            }
            if !self.least.is_met_by(self.moved) {
                return Err(TooSlow);
            }
            (self.moved, self.waited) = (0, Duration::ZERO);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 100 bytes in each tenth of a second.
    fn pace() -> Pace {
        Pace::new(LeastRate::new(1_000, WINDOW))
    }

    const WINDOW: Duration = Duration::from_millis(100);

    async fn step(pace: &mut Pace, milliseconds: u64, bytes: usize) -> Result<(), TooSlow> {
        pace.of(tokio::time::sleep(Duration::from_millis(milliseconds))).await?;
        pace.moved(bytes);
        Ok(())
    }

    #[tokio::test]
    async fn what_moves_may_take_as_long_as_it_likes() {
        let mut pace = pace();
        for _ in 0..50 {
            assert_eq!(step(&mut pace, 10, 1_000).await, Ok(()));
        }
    }

    #[tokio::test]
    async fn an_idle_transfer_ends_after_its_window() {
        let start = Instant::now();
        assert_eq!(step(&mut pace(), 60_000, 0).await, Err(TooSlow));
        assert!(start.elapsed() >= WINDOW);
        // After a good beginning, too: at the end of the first window without bytes.
        let mut pace = pace();
        pace.moved(1_000_000);
        let start = Instant::now();
        assert_eq!(step(&mut pace, 60_000, 0).await, Err(TooSlow));
        assert!(start.elapsed() >= 2 * WINDOW);
    }

    #[tokio::test]
    async fn single_bytes_are_too_few_and_the_servers_own_time_does_not_count() {
        let mut too_slow = pace();
        let mut steps = 0;
        while step(&mut too_slow, 5, 1).await.is_ok() {
            steps += 1;
        }
        assert!(steps <= 20, "{steps}");
        let mut pace = pace();
        for _ in 0..3 {
            assert_eq!(step(&mut pace, 1, 1).await, Ok(()));
            tokio::time::sleep(2 * WINDOW).await;
        }
    }
}
