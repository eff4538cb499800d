//! When to try again.

use std::time::Duration;

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);

/// The pause after the `failures`th failure in a row (from 1): 1 s, doubling to 60 s, each 50 to 150 % of
/// that, so that jobs that failed together don't come back together. A pause the carrier `asked_for` is
/// kept as it is; none at all is no pause.
pub fn pause(failures: u32, asked_for: Option<Duration>) -> Duration {
    pause_with(failures, asked_for, fastrand::f64())
}

/// As [`pause`], with `random` from 0 to 1 as the dice.
pub fn pause_with(failures: u32, asked_for: Option<Duration>, random: f64) -> Duration {
    if let Some(wait) = asked_for.filter(|wait| !wait.is_zero()) {
        return wait;
    }
    let doublings = failures.saturating_sub(1).min(6);
    let base = (FIRST * 2_u32.pow(doublings)).min(LONGEST);
    base.mul_f64(0.5 + random.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_from_one_second_to_sixty() {
        let cases =
            [(0, 1), (1, 1), (2, 2), (3, 4), (4, 8), (5, 16), (6, 32), (7, 60), (8, 60), (u32::MAX, 60)];
        for (failures, seconds) in cases {
            assert_eq!(pause_with(failures, None, 0.5), Duration::from_secs(seconds), "{failures}");
            assert_eq!(pause_with(failures, None, 0.0), Duration::from_millis(seconds * 500), "{failures}");
            assert_eq!(pause_with(failures, None, 1.0), Duration::from_millis(seconds * 1500), "{failures}");
        }
    }

    #[test]
    fn what_the_carrier_asks_for_wins() {
        assert_eq!(pause_with(7, Some(Duration::from_secs(3)), 0.0), Duration::from_secs(3));
        assert_eq!(pause_with(1, Some(Duration::from_secs(300)), 0.9), Duration::from_secs(300));
        assert_eq!(pause_with(1, Some(Duration::ZERO), 0.5), FIRST, "a loop without pause helps nobody");
    }

    #[test]
    fn the_dice_are_thrown() {
        let pauses: std::collections::HashSet<_> = (0..20).map(|_| pause(3, None)).collect();
        assert!(pauses.len() > 1);
        assert!(pauses.iter().all(|pause| (2.0..=6.0).contains(&pause.as_secs_f64())));
    }
}
