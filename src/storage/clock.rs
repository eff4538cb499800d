//! The clock of stored times. It goes on by the machine's monotonic clock and follows a reference: the machine's wall
//! clock, or with PostgreSQL the database's, so that no lease is decided by comparing two machines' clocks.
//!
//! A reference that moves by more than a minute at once was set by somebody, or the machine slept. The clock follows
//! only when what waits in the store was told: see [`Database::clock_step`].

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::{Database, StorageError};

/// Time between two looks at the reference.
const LOOK: Duration = Duration::from_secs(1);
/// Difference that is followed at once, in microseconds.
const STEP: i64 = 60_000_000;
/// Difference that is none.
const SAME: i64 = 20_000;
/// A database's answer that took longer tells no time.
const PROMPT: Duration = Duration::from_millis(500);
/// How long nothing is deleted because of its age after a step: time to set the clock right.
const RETENTION: Duration = Duration::from_hours(24);

/// The process's clock.
static CLOCK: LazyLock<Clock> = LazyLock::new(|| Clock::new(wall(), Instant::now()));

struct Clock {
    start: Instant,
    /// Microseconds since 1970 at the start, as the reference sees it now.
    start_us: AtomicI64,
    stepped: Mutex<Option<Instant>>,
}

/// What the reference said.
#[derive(Clone, Copy, Debug)]
struct Reading {
    /// Microseconds since 1970.
    time: i64,
    /// When it was that, give or take so many microseconds.
    at: Instant,
    give_or_take: i64,
}

/// That the reference was set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockStep {
    /// By how many microseconds it is ahead now; less than 0 if it was set back.
    pub by: i64,
}

impl Clock {
    fn new(now: i64, at: Instant) -> Self {
        Self { start: at, start_us: AtomicI64::new(now), stepped: Mutex::new(None) }
    }

    fn at(&self, at: Instant) -> i64 {
        let since = i64::try_from(at.saturating_duration_since(self.start).as_micros()).unwrap_or(i64::MAX);
        self.start_us.load(Ordering::Relaxed).saturating_add(since)
    }

    /// Follows a reference that was read, unless it was set.
    fn follow(&self, read: Reading) -> Option<ClockStep> {
        let by = read.time.saturating_sub(self.at(read.at));
        match by.saturating_abs() {
            little if little <= SAME.max(read.give_or_take) => None,
            little if little <= STEP => {
                self.start_us.fetch_add(by, Ordering::Relaxed);
                None
            }
            _ => Some(ClockStep { by }),
        }
    }

    fn step(&self, step: ClockStep, at: Instant) {
        self.start_us.fetch_add(step.by, Ordering::Relaxed);
        *self.stepped.lock().unwrap_or_else(PoisonError::into_inner) = Some(at);
    }

    fn is_settled(&self, at: Instant) -> bool {
        let stepped = *self.stepped.lock().unwrap_or_else(PoisonError::into_inner);
        stepped.is_none_or(|stepped| at.saturating_duration_since(stepped) >= RETENTION)
    }
}

/// Microseconds since 1970, the unit of all stored times.
pub fn now() -> i64 {
    CLOCK.at(Instant::now())
}

/// Whether the clock has not been set for a day: only then rows may be deleted because of their age.
pub fn is_settled() -> bool {
    CLOCK.is_settled(Instant::now())
}

/// Follows a step, after what waits in the store was told.
pub fn follow(step: ClockStep) {
    CLOCK.step(step, Instant::now());
}

fn wall() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

impl Database {
    /// Sets the clock by the store's. To be called before anything is stored.
    ///
    /// # Errors
    /// The store can't be asked.
    pub async fn set_clock(&self) -> Result<(), StorageError> {
        if let Some(read) = self.reference().await?
            && let Some(step) = CLOCK.follow(read)
        {
            CLOCK.start_us.fetch_add(step.by, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Waits until the reference was set by more than a minute. The clock follows with [`follow`].
    pub async fn clock_step(&self) -> ClockStep {
        loop {
            tokio::time::sleep(LOOK).await;
            // A store that is away is reported by others.
            if let Ok(Some(read)) = self.reference().await
                && let Some(step) = CLOCK.follow(read)
            {
                return step;
            }
        }
    }

    async fn reference(&self) -> Result<Option<Reading>, StorageError> {
        let asked = Instant::now();
        if !self.is_shared() {
            return Ok(Some(Reading { time: wall(), at: asked, give_or_take: 0 }));
        }
        let sql = "SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT)";
        let row = self.read(move |tx| tx.query_one(sql, &[])).await?;
        let took = asked.elapsed();
        let Some(row) = row.filter(|_| took < PROMPT) else { return Ok(None) };
        let half = took / 2;
        let give_or_take = i64::try_from(half.as_micros()).unwrap_or(i64::MAX);
        Ok(Some(Reading { time: row.int(0)?, at: asked + half, give_or_take }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000_000;

    fn read(time: i64, at: Instant) -> Reading {
        Reading { time, at, give_or_take: 0 }
    }

    #[test]
    fn the_clock_follows_small_differences_and_reports_large_ones() {
        let start = Instant::now();
        let clock = Clock::new(1_000 * HOUR, start);
        let later = start + Duration::from_secs(10);
        assert_eq!(clock.at(later), 1_000 * HOUR + 10_000_000);
        for drift in [5_000_000, -5_000_000] {
            assert_eq!(clock.follow(read(clock.at(later) + drift, later)), None);
        }
        assert_eq!(clock.at(later), 1_000 * HOUR + 10_000_000);
        for by in [HOUR, -HOUR, 61_000_000, -61_000_000] {
            let before = clock.at(later);
            let step = clock.follow(read(before + by, later)).expect("a step");
            assert_eq!(step, ClockStep { by });
            assert_eq!(clock.at(later), before, "not before the store was told");
            clock.step(step, later);
            assert_eq!(clock.at(later), before + by);
            assert_eq!(clock.follow(read(before + by, later)), None);
        }
    }

    #[test]
    fn an_answer_that_took_long_moves_nothing_by_less() {
        let start = Instant::now();
        let clock = Clock::new(1_000 * HOUR, start);
        let late = Reading { give_or_take: 200_000, ..read(1_000 * HOUR + 150_000, start) };
        assert_eq!(clock.follow(late), None);
        assert_eq!(clock.at(start), 1_000 * HOUR);
    }

    #[test]
    fn after_a_step_nothing_is_old_for_a_day() {
        let start = Instant::now();
        let clock = Clock::new(1_000 * HOUR, start);
        assert!(clock.is_settled(start));
        clock.step(ClockStep { by: 10_000 * HOUR }, start);
        assert!(!clock.is_settled(start + Duration::from_hours(23)));
        assert!(clock.is_settled(start + Duration::from_hours(24)));
    }
}
