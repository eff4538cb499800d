//! When to try an event again.

use std::time::Duration;

/// Longest pause: an endpoint may be back at any time.
const MAX_PAUSE: Duration = Duration::from_mins(1);

/// Pause before the next try after `failures` of them: doubling up to a minute, ±20 % so that what failed
/// together does not come back together.
pub(super) fn pause(base: Duration, failures: u32) -> Duration {
    let doubled = base.saturating_mul(1_u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX));
    doubled.min(MAX_PAUSE).mul_f64(0.8 + 0.4 * fastrand::f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_minute() {
        for (failures, expected) in [(0, 1), (1, 1), (2, 2), (3, 4), (6, 32), (7, 60), (12, 60), (400, 60)] {
            let pause = pause(Duration::from_secs(1), failures).as_secs_f64();
            let range = f64::from(expected) * 0.8..=f64::from(expected) * 1.2;
            assert!(range.contains(&pause), "{failures}: {pause}");
        }
    }
}
