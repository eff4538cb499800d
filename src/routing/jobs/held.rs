//! Own numbers from which the carrier takes nothing for now: not enabled for messaging, a port that is not done, a queue
//! that is full.
//!
//! Such a number waits as a whole: all its messages, whoever they are for, until one of them is tried. The app's
//! other numbers go on.

use std::collections::HashMap;
use std::time::Duration;

use crate::routing::carrier::{Breaker, BreakerState, ConfigScope, Health, Outcome, Permit};

/// Those of one app.
#[derive(Default)]
pub struct HeldNumbers {
    /// Numbers that are not here are free.
    breakers: HashMap<String, Breaker>,
}

impl HeldNumbers {
    /// Asks for one call. From a number that is free no permit is needed; the one that a held number gives makes
    /// the call its probe.
    ///
    /// # Errors
    /// How long to wait before asking again.
    pub fn may_call(&mut self, number: &str, now: i64) -> Result<Option<Permit>, Duration> {
        self.breakers.get_mut(number).map(|breaker| breaker.may_call(now)).transpose()
    }

    /// Whether a number waits, so that [`HeldNumbers::may_call`] would refuse.
    pub fn is_held(&self, number: &str, now: i64) -> bool {
        self.breakers.get(number).is_some_and(|breaker| breaker.clone().may_call(now).is_err())
    }

    /// Takes note of what came of a call.
    pub fn report(&mut self, number: &str, permit: Option<Permit>, outcome: &Outcome, now: i64) {
        let pause = match outcome {
            Outcome::Config { scope: ConfigScope::Number, until, .. } => Some(Health::Paused(*until)),
            Outcome::Throttled { scope: ConfigScope::Number, wait, .. } => Some(Health::Throttled(*wait)),
            _ => None,
        };
        if let Some(pause) = pause {
            let breaker = self.breakers.entry(number.to_owned()).or_default();
            // A call that was out already when the number was held makes the pause no longer.
            if let Some(permit) = permit.or_else(|| breaker.may_call(now).ok()) {
                breaker.report(permit, pause, now);
            }
            return;
        }
        let says_nothing = matches!(
            outcome,
            Outcome::NotSent { .. }
                | Outcome::Unclear { .. }
                | Outcome::Throttled { .. }
                | Outcome::Config { scope: ConfigScope::App, .. }
        );
        if says_nothing {
            return self.give_back(number, permit, now);
        }
        let (Some(permit), Some(breaker)) = (permit, self.breakers.get_mut(number)) else { return };
        breaker.report(permit, Health::Answered, now);
        if breaker.state() == BreakerState::Closed {
            self.breakers.remove(number);
        }
    }

    /// A permit was not used, or its call told nothing of the number: another call may be the probe.
    pub fn give_back(&mut self, number: &str, permit: Option<Permit>, now: i64) {
        if let (Some(permit), Some(breaker)) = (permit, self.breakers.get_mut(number)) {
            breaker.give_back(permit, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::carrier::{Accepted, CarrierError, ConfigUntil};

    const ONE: &str = "+13125550100";
    const OTHER: &str = "+13125550101";
    const NOW: i64 = 1_763_855_940_000_000;
    const MINUTE: i64 = 60_000_000;

    fn error(code: &str) -> CarrierError {
        CarrierError { code: code.to_owned(), title: String::new(), detail: None }
    }

    fn config(scope: ConfigScope) -> Outcome {
        Outcome::Config { scope, until: ConfigUntil::Probe, error: error("40150") }
    }

    fn accepted() -> Outcome {
        Outcome::Accepted(Accepted {
            carrier_id: "m".to_owned(),
            status: "queued".to_owned(),
            parts: None,
            encoding: None,
            cost: None,
            replayed: false,
        })
    }

    /// One number that has been held since [`NOW`].
    fn held() -> HeldNumbers {
        let mut numbers = HeldNumbers::default();
        assert_eq!(numbers.may_call(ONE, NOW), Ok(None));
        numbers.report(ONE, None, &config(ConfigScope::Number), NOW);
        numbers
    }

    #[test]
    fn a_number_that_is_not_ready_waits_a_minute_and_no_other_does() {
        let mut numbers = held();
        assert!(
            numbers.is_held(ONE, NOW) && !numbers.is_held(ONE, NOW + MINUTE) && !numbers.is_held(OTHER, NOW)
        );
        assert_eq!(numbers.may_call(ONE, NOW), Err(Duration::from_secs(60)));
        assert_eq!(numbers.may_call(OTHER, NOW), Ok(None));
        // One that was out already.
        numbers.report(ONE, None, &config(ConfigScope::Number), NOW + MINUTE / 2);
        assert_eq!(numbers.may_call(ONE, NOW + MINUTE / 2), Err(Duration::from_secs(30)));
    }

    #[test]
    fn a_number_whose_queue_is_full_waits_and_no_other_does() {
        let (mut numbers, wait) = (HeldNumbers::default(), Duration::from_secs(30));
        let full = Outcome::Throttled { wait: Some(wait), scope: ConfigScope::Number, error: error("40318") };
        numbers.report(ONE, None, &full, NOW);
        assert_eq!((numbers.may_call(ONE, NOW), numbers.may_call(OTHER, NOW)), (Err(wait), Ok(None)));
    }

    #[test]
    fn one_probe_decides_for_all() {
        for (outcome, is_free) in [
            (accepted(), true),
            (Outcome::Refused(error("40310")), true),
            (config(ConfigScope::Lane), true),
            (config(ConfigScope::Number), false),
        ] {
            let mut numbers = held();
            let probe = numbers.may_call(ONE, NOW + MINUTE).expect("the probe");
            assert!(numbers.may_call(ONE, NOW + MINUTE).is_err(), "the others wait for it");
            numbers.report(ONE, probe, &outcome, NOW + MINUTE);
            assert_eq!(numbers.may_call(ONE, NOW + MINUTE).is_ok(), is_free, "{outcome:?}");
        }
    }

    #[test]
    fn a_probe_that_says_nothing_of_the_number_leaves_its_place_to_another() {
        for outcome in [
            Outcome::NotSent { reason: String::new() },
            Outcome::Unclear { reason: String::new(), error: None, alert: false },
            Outcome::Throttled { wait: None, scope: ConfigScope::App, error: error("10011") },
            config(ConfigScope::App),
        ] {
            let mut numbers = held();
            let probe = numbers.may_call(ONE, NOW + MINUTE).expect("the probe");
            numbers.report(ONE, probe, &outcome, NOW + MINUTE);
            assert!(matches!(numbers.may_call(ONE, NOW + MINUTE), Ok(Some(_))), "{outcome:?}");
        }
        let mut numbers = held();
        let probe = numbers.may_call(ONE, NOW + MINUTE).expect("the probe");
        numbers.give_back(ONE, probe, NOW + MINUTE);
        assert!(matches!(numbers.may_call(ONE, NOW + MINUTE), Ok(Some(_))));
    }
}
