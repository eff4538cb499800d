//! Whether an app may call its carrier now.
//!
//! Five failures in a row (no connection, no answer, server trouble) stop all calls for 15 s; then one goes
//! out as a probe and its result decides. An account error stops them for 60 s, longer after each probe in vain, a
//! used-up daily budget until midnight UTC, and "too many requests" for as long as the carrier says, else for a pause
//! that grows; with a probe after as well. Calls that were already out when that happened change nothing
//! any more, save that they may lengthen the pause.
//!
//! One owner holds it and asks before each call. Times are microseconds since 1970; when the clock is set
//! back, a pause ends rather than lasting for hours.

use std::time::Duration;

use super::backoff;
use super::outcome::Health;

const FAILURES: u32 = 5;
const OPEN: Duration = Duration::from_secs(15);
/// A probe without a report after this time is taken for lost.
const PROBE_LIMIT: Duration = Duration::from_secs(30);
/// How long callers wait for a probe's result before they ask again.
const PROBE_POLL: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Breaker {
    phase: Phase,
    /// How often in a row the carrier took nothing: pauses grow by it.
    refusals: u32,
    /// Grows with each change of phase: tells which calls began before it.
    epoch: u64,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    Closed { failures: u32 },
    Waiting { since: i64, until: i64, cause: Cause },
    Probing { since: i64 },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    Failures,
    Account,
}

/// The right to make one call. To be handed back with [`Breaker::report`].
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permit {
    epoch: u64,
}

/// For metrics and status pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerState {
    /// Calls go out.
    Closed,
    /// The carrier is in trouble; no calls for a while.
    Open,
    /// One call is out, the others wait for its result.
    Probing,
    /// The carrier takes nothing from the app until somebody acts or the day ends.
    Paused,
}

impl BreakerState {
    /// `closed`, `open`, `probing` or `paused`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::Probing => "probing",
            Self::Paused => "paused",
        }
    }
}

impl Breaker {
    /// Asks for one call.
    ///
    /// # Errors
    /// How long to wait before asking again.
    pub fn may_call(&mut self, now_us: i64) -> Result<Permit, Duration> {
        match self.phase {
            Phase::Closed { .. } => {}
            Phase::Waiting { since, until, .. } if (since..until).contains(&now_us) => {
                return Err(Duration::from_micros((until - now_us).unsigned_abs()));
            }
            Phase::Probing { since } if (since..after(since, PROBE_LIMIT)).contains(&now_us) => {
                return Err(PROBE_POLL);
            }
            Phase::Waiting { .. } | Phase::Probing { .. } => self.enter(Phase::Probing { since: now_us }),
        }
        Ok(Permit { epoch: self.epoch })
    }

    /// Tells what became of a call.
    pub fn report(&mut self, permit: Permit, health: Health, now_us: i64) {
        let is_current = permit.epoch == self.epoch;
        match (health, self.phase) {
            (Health::Paused(until), _) => {
                self.refusals = self.refusals.saturating_add(is_current.into());
                self.pause(until.end_after_us(self.refusals, now_us), now_us);
            }
            (Health::Throttled(wait), _) => self.throttle(wait, is_current, now_us),
            (Health::Answered, Phase::Closed { .. }) if is_current => {
                self.refusals = 0;
                self.phase = Phase::Closed { failures: 0 };
            }
            (Health::Answered, Phase::Probing { .. }) if is_current => {
                self.refusals = 0;
                self.enter(Phase::Closed { failures: 0 });
            }
            (Health::Failing, Phase::Closed { failures }) if is_current && failures + 1 < FAILURES => {
                self.phase = Phase::Closed { failures: failures + 1 };
            }
            (Health::Failing, Phase::Closed { .. } | Phase::Probing { .. }) if is_current => {
                let until = after(now_us, OPEN);
                self.enter(Phase::Waiting { since: now_us, until, cause: Cause::Failures });
            }
            _ => {}
        }
    }

    /// What it is doing.
    pub fn state(&self) -> BreakerState {
        match self.phase {
            Phase::Closed { .. } => BreakerState::Closed,
            Phase::Waiting { cause: Cause::Failures, .. } => BreakerState::Open,
            Phase::Waiting { cause: Cause::Account, .. } => BreakerState::Paused,
            Phase::Probing { .. } => BreakerState::Probing,
        }
    }

    /// A permit was not used: if it was the probe's, another call may be that.
    pub fn give_back(&mut self, permit: Permit, now_us: i64) {
        if let Phase::Probing { .. } = self.phase
            && permit.epoch == self.epoch
        {
            self.enter(Phase::Waiting { since: now_us, until: now_us, cause: Cause::Failures });
        }
    }

    /// When calls are tried again, while none goes out; microseconds since 1970.
    pub fn paused_until(&self) -> Option<i64> {
        match self.phase {
            Phase::Waiting { until, .. } => Some(until),
            Phase::Closed { .. } | Phase::Probing { .. } => None,
        }
    }

    fn pause(&mut self, end: i64, now_us: i64) {
        let longer = match self.phase {
            Phase::Waiting { until, cause: Cause::Account, .. } => end.max(until),
            _ => end,
        };
        self.enter(Phase::Waiting { since: now_us, until: longer, cause: Cause::Account });
    }

    /// Of calls that were out together the first one decides; the others may lengthen the pause.
    fn throttle(&mut self, wait: Option<Duration>, is_current: bool, now_us: i64) {
        if is_current {
            self.refusals = self.refusals.saturating_add(1);
            let until = after(now_us, backoff::pause(self.refusals, wait));
            self.enter(Phase::Waiting { since: now_us, until, cause: Cause::Account });
        } else if let (Phase::Waiting { until, .. }, Some(wait)) = (&mut self.phase, wait) {
            *until = after(now_us, wait).max(*until);
        }
    }

    fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        self.epoch += 1;
    }
}

impl Default for Phase {
    fn default() -> Self {
        Self::Closed { failures: 0 }
    }
}

fn after(time_us: i64, duration: Duration) -> i64 {
    time_us.saturating_add(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::super::outcome::ConfigUntil;
    use super::*;

    const SECOND: i64 = 1_000_000;
    /// 2025-11-22T23:59:00Z.
    const START: i64 = 1_763_855_940 * SECOND;

    const OK: Health = Health::Answered;
    const BAD: Health = Health::Failing;
    const PAUSE: Health = Health::Paused(ConfigUntil::Probe);
    const TOMORROW: Health = Health::Paused(ConfigUntil::NextUtcMidnight);

    /// Calls at second 0, 1, … (each allowed and reported at once).
    fn breaker_after(reports: &[Health]) -> Breaker {
        let mut breaker = Breaker::default();
        for health in reports {
            let permit = breaker.may_call(START).expect("closed");
            breaker.report(permit, *health, START);
        }
        breaker
    }

    #[test]
    fn what_leads_to_which_state_and_wait() {
        let cases: &[(&[Health], &str, Option<i64>)] = &[
            (&[], "closed", None),
            (&[BAD; 4], "closed", None),
            (&[BAD, BAD, BAD, BAD, OK, BAD, BAD, BAD, BAD], "closed", None),
            (&[BAD; 5], "open", Some(15)),
            (&[PAUSE], "paused", Some(60)),
            (&[BAD, BAD, PAUSE], "paused", Some(60)),
            (&[TOMORROW], "paused", Some(60)),
        ];
        for (reports, state, wait) in cases {
            let mut breaker = breaker_after(reports);
            assert_eq!(breaker.state().as_str(), *state, "{reports:?}");
            let allowed = breaker.may_call(START).map_err(|wait| wait.as_secs() as i64);
            assert_eq!(allowed.err(), *wait, "{reports:?}");
        }
    }

    #[test]
    fn one_probe_decides() {
        for (opened_by, length) in [(&[BAD; 5][..], 15), (&[PAUSE][..], 60)] {
            for (result, state) in [(OK, "closed"), (BAD, "open"), (PAUSE, "paused")] {
                let mut breaker = breaker_after(opened_by);
                assert!(breaker.may_call(START + length * SECOND - 1).is_err());
                let probe = breaker.may_call(START + length * SECOND).expect("the probe");
                assert_eq!(breaker.state(), BreakerState::Probing);
                assert_eq!(breaker.may_call(START + length * SECOND), Err(PROBE_POLL));
                breaker.report(probe, result, START + length * SECOND);
                assert_eq!(breaker.state().as_str(), state);
                assert_eq!(breaker.may_call(START + length * SECOND).is_ok(), result == OK);
            }
        }
    }

    #[test]
    fn a_lost_probe_is_replaced() {
        let mut breaker = breaker_after(&[BAD; 5]);
        let lost = breaker.may_call(START + 15 * SECOND).expect("the probe");
        assert!(breaker.may_call(START + 44 * SECOND).is_err());
        let second = breaker.may_call(START + 45 * SECOND).expect("another probe");
        breaker.report(lost, OK, START + 46 * SECOND);
        assert_eq!(breaker.state(), BreakerState::Probing);
        breaker.report(second, OK, START + 46 * SECOND);
        assert_eq!(breaker.state(), BreakerState::Closed);
    }

    #[test]
    fn a_probe_that_is_not_made_leaves_its_place_to_another() {
        for (opened_by, length) in [(&[BAD; 5][..], 15), (&[PAUSE][..], 60)] {
            let (mut breaker, now) = (breaker_after(opened_by), START + length * SECOND);
            let unused = breaker.may_call(now).expect("the probe");
            breaker.give_back(unused, now);
            let probe = breaker.may_call(now).expect("another probe");
            breaker.give_back(unused, now);
            assert_eq!(breaker.may_call(now), Err(PROBE_POLL), "given back once already");
            breaker.report(probe, OK, now);
            let permit = breaker.may_call(now).expect("closed");
            breaker.give_back(permit, now);
            assert_eq!(breaker.state(), BreakerState::Closed);
        }
    }

    #[test]
    fn calls_from_before_only_lengthen_a_pause() {
        let mut breaker = Breaker::default();
        let early = breaker.may_call(START).expect("closed");
        for _ in 0..5 {
            let permit = breaker.may_call(START).expect("closed");
            breaker.report(permit, BAD, START);
        }
        breaker.report(early, OK, START);
        breaker.report(early, BAD, START + SECOND);
        assert_eq!(breaker.may_call(START + SECOND), Err(Duration::from_secs(14)));
        breaker.report(early, PAUSE, START + SECOND);
        assert_eq!(breaker.may_call(START + SECOND), Err(Duration::from_secs(60)));
        breaker.report(early, TOMORROW, START + SECOND);
        assert_eq!(breaker.may_call(START + SECOND), Err(Duration::from_secs(60)), "the longer of both");
    }

    #[test]
    fn a_used_up_budget_lasts_until_midnight() {
        let evening = START - 3 * 3600 * SECOND;
        let mut breaker = Breaker::default();
        let permit = breaker.may_call(evening).expect("closed");
        breaker.report(permit, TOMORROW, evening);
        assert_eq!(breaker.may_call(START), Err(Duration::from_secs(60)));
        assert!(breaker.may_call(START + 60 * SECOND).is_ok());
    }

    #[test]
    fn too_many_requests_stop_all_calls_for_longer_and_longer() {
        let mut breaker = Breaker::default();
        let (first, late) =
            (breaker.may_call(START).expect("closed"), breaker.may_call(START).expect("closed"));
        breaker.report(first, Health::Throttled(Some(Duration::from_secs(7))), START);
        breaker.report(late, Health::Throttled(None), START);
        assert_eq!(breaker.may_call(START), Err(Duration::from_secs(7)), "as the carrier says");
        breaker.report(late, Health::Throttled(Some(Duration::from_secs(9))), START);
        assert_eq!(breaker.may_call(START), Err(Duration::from_secs(9)));
        let mut now = START + 9 * SECOND;
        // Without a word, or with one that means nothing.
        for wait in [None, Some(Duration::ZERO), None, None, None, None, None] {
            let probe = breaker.may_call(now).expect("the probe");
            breaker.report(probe, Health::Throttled(wait), now);
            let pause = breaker.may_call(now).expect_err("it waits");
            now = after(now, pause);
        }
        let probe = breaker.may_call(now).expect("the probe");
        breaker.report(probe, Health::Throttled(None), now);
        assert!(breaker.may_call(now).expect_err("it waits") >= Duration::from_secs(30), "up to a minute");
        let probe = breaker.may_call(now + 100 * SECOND).expect("the probe");
        breaker.report(probe, OK, now + 100 * SECOND);
        let permit = breaker.may_call(now + 100 * SECOND).expect("closed");
        breaker.report(permit, Health::Throttled(None), now + 100 * SECOND);
        assert!(breaker.may_call(now + 100 * SECOND).expect_err("it waits") <= Duration::from_millis(1500));
    }

    #[test]
    fn an_account_error_that_stays_is_probed_less_and_less_often() {
        let (mut breaker, mut now, mut waits) = (Breaker::default(), START, Vec::new());
        for _ in 0..6 {
            let permit = breaker.may_call(now).expect("the probe");
            breaker.report(permit, PAUSE, now);
            let wait = breaker.may_call(now).expect_err("it waits");
            waits.push(wait.as_secs() / 60);
            now = after(now, wait);
        }
        assert_eq!(waits, [1, 2, 4, 8, 10, 10]);
    }

    #[test]
    fn setting_the_clock_back_ends_a_pause() {
        let mut breaker = breaker_after(&[TOMORROW]);
        assert!(breaker.may_call(START - SECOND).is_ok());
    }
}
