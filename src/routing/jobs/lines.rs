//! An app's line to the carrier: client, breaker, rates, what is being sent.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::held::HeldNumbers;
use crate::apps::{App, TokenBucket};
use crate::config::TelnyxSettings;
use crate::routing::carrier::{Breaker, SetUpError, Telnyx};

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
    /// Lanes with a call out.
    pub lanes: HashSet<String>,
    /// Calls out.
    pub calls: usize,
    /// Rates of own numbers.
    pub buckets: HashMap<String, TokenBucket>,
    /// Jobs that waited for their number's rate when they were last looked at.
    pub rate_waits: HashSet<i64>,
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
        // New credentials deserve a new try.
        lock(&state).breaker = Breaker::default();
        lock(&state).held = HeldNumbers::default();
        lock(&state).buckets.clear();
        let line = Arc::new(Line { settings: settings.clone(), telnyx, state });
        lines.insert(app.settings.id.clone(), Arc::clone(&line));
        Ok(line)
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
    /// Takes one message of an own number's rate; false when it must wait.
    pub fn take_number_rate(&mut self, number: &str, settings: &TelnyxSettings) -> bool {
        let Some(rate) = settings.number_rate else { return true };
        let now = Instant::now();
        let bucket = self
            .buckets
            .entry(number.to_owned())
            .or_insert_with(|| TokenBucket::new(f64::from(rate.get()), now));
        bucket.take(1.0, now).is_ok()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
