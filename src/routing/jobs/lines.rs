//! An app's line to the carrier: client, breaker, rates, what is being sent.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::held::HeldNumbers;
use crate::apps::{App, TokenBucket};
use crate::config::TelnyxSettings;
use crate::routing::carrier::{Breaker, BreakerState, Health, Permit, SetUpError, Telnyx};

/// The lines of all apps.
#[derive(Default)]
pub struct Lines {
    lines: Mutex<HashMap<String, Arc<Line>>>,
}

/// One app's.
pub struct Line {
    settings: TelnyxSettings,
    /// Speaks to the carrier.
    pub telnyx: Telnyx,
    /// Outlives a change of settings: what is out comes back to the same count.
    state: Arc<Mutex<State>>,
}

/// What changes.
#[derive(Default)]
pub struct State {
    /// Whether calls are allowed.
    pub breaker: Breaker,
    /// Own numbers from which nothing goes out.
    pub held: HeldNumbers,
    /// How fast, and from when on, the carrier is asked about messages.
    pub asking: Asking,
    /// Lanes with a call out.
    pub lanes: HashSet<String>,
    /// Calls out.
    pub calls: usize,
    /// Rates of own numbers.
    pub buckets: HashMap<String, TokenBucket>,
    /// Jobs, each the first of its number, that waited for the number's rate when they were last looked at.
    pub rate_waits: HashSet<i64>,
}

/// When the carrier may be asked.
#[derive(Default)]
pub struct Asking {
    rate: Option<TokenBucket>,
    not_before: Option<Instant>,
}

impl Asking {
    fn take(&mut self, settings: &TelnyxSettings, now: Instant) -> bool {
        if self.not_before.is_some_and(|time| now < time) {
            return false;
        }
        let Some(rate) = settings.ask_rate else { return true };
        // A minute's worth is spread over the minute.
        let rate = f64::from(rate.get()) / 60.0;
        let bucket = self.rate.get_or_insert_with(|| TokenBucket::with_burst(rate, rate.max(1.0), now));
        bucket.set_rate(rate, rate.max(1.0), now);
        bucket.take(1.0, now).is_ok()
    }
}

/// How a line is, for metrics and the status call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LineState {
    /// `closed` (calls go out), `open`, `probing`, `paused`.
    pub breaker: &'static str,
    /// Microseconds since 1970 until when no call goes out.
    pub paused_until: Option<i64>,
    /// Calls out.
    pub calls: usize,
}

impl Lines {
    /// The app's line; a new one when its settings changed, with the state of the old one.
    pub fn get(&self, app: &App) -> Result<Arc<Line>, SetUpError> {
        let settings = &app.settings.routing.telnyx;
        let mut lines = lock(&self.lines);
        let known = lines.get(&app.settings.id);
        if let Some(line) = known.filter(|line| line.settings == *settings) {
            return Ok(Arc::clone(line));
        }
        let telnyx = Telnyx::new(settings)?;
        let state = known.map(|line| Arc::clone(&line.state)).unwrap_or_default();
        lock(&state).forget();
        let line = Arc::new(Line { settings: settings.clone(), telnyx, state });
        lines.insert(app.settings.id.clone(), Arc::clone(&line));
        Ok(line)
    }

    /// Has all lines begin anew.
    pub fn forget(&self) {
        lock(&self.lines).values().for_each(|line| line.state().forget());
    }

    /// See [`LineState`].
    pub fn state(&self, app_id: &str) -> LineState {
        let line = lock(&self.lines).get(app_id).cloned();
        let Some(line) = line else {
            return LineState { breaker: "closed", ..LineState::default() };
        };
        let state = line.state();
        LineState {
            breaker: state.breaker.state().as_str(),
            paused_until: state.breaker.paused_until(),
            calls: state.calls,
        }
    }
}

impl Line {
    /// What changes, locked.
    pub fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl State {
    /// Asks for one question about a message. None while the breaker is not closed: questions are no probes, since an
    /// account that may send nothing may still ask.
    pub fn may_ask(&mut self, settings: &TelnyxSettings, now: i64) -> Option<Permit> {
        let is_free = self.breaker.state() == BreakerState::Closed && self.calls < settings.concurrency;
        if !is_free || !self.asking.take(settings, Instant::now()) {
            return None;
        }
        let permit = self.breaker.may_call(now).ok()?;
        self.calls += 1;
        Some(permit)
    }

    /// A question was answered, or not; no further one for `pause`.
    pub fn asked(&mut self, permit: Permit, health: Health, pause: Option<Duration>, now: i64) {
        self.calls = self.calls.saturating_sub(1);
        self.breaker.report(permit, health, now);
        if let Some(pause) = pause {
            self.asking.not_before = Some(Instant::now() + pause);
        }
    }

    /// A question was not asked after all.
    pub fn gives_up_question(&mut self, permit: Permit, now: i64) {
        self.calls = self.calls.saturating_sub(1);
        self.breaker.give_back(permit, now);
    }

    /// Begins anew, as after a change of settings: new credentials deserve a new try.
    pub fn forget(&mut self) {
        self.breaker = Breaker::default();
        self.held = HeldNumbers::default();
        self.asking = Asking::default();
        self.buckets.clear();
    }

    /// Whether an own number's rate allows one message now.
    pub fn has_number_rate(&self, number: &str, settings: &TelnyxSettings) -> bool {
        let bucket = self.buckets.get(number).filter(|_| settings.number_rate.is_some());
        bucket.is_none_or(|bucket| bucket.has_one(Instant::now()))
    }

    /// Takes one message of an own number's rate; false when it must wait.
    pub fn take_number_rate(&mut self, number: &str, settings: &TelnyxSettings) -> bool {
        let Some(rate) = settings.number_rate else { return true };
        let (rate, now) = (f64::from(rate.get()), Instant::now());
        let bucket = self.buckets.entry(number.to_owned()).or_insert_with(|| TokenBucket::new(rate, now));
        bucket.set_rate(rate, rate, now);
        bucket.take(1.0, now).is_ok()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::RoutingSettings;

    #[test]
    fn questions_are_spread_over_the_minute() {
        let mut settings = RoutingSettings::default().telnyx;
        settings.ask_rate = std::num::NonZeroU32::new(30);
        let (mut asking, start) = (Asking::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let asked: Vec<u64> = (0..60).filter(|second| asking.take(&settings, at(*second))).collect();
        assert_eq!(asked, (0..60).step_by(2).collect::<Vec<_>>());
        settings.ask_rate = None;
        assert!((0..100).all(|_| asking.take(&settings, at(61))));
        asking.not_before = Some(at(90));
        assert!(!asking.take(&settings, at(89)) && asking.take(&settings, at(90)));
    }
}
