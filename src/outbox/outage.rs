//! Outages of endpoints: one log line when an endpoint begins to fail, and one when it works again.
//!
//! Each lane has a schedule of its own, so an endpoint may refuse one event for hours while it takes all others.
//! That is no outage: it *begins* with the failed first try of an event (or the first failed try at all since the
//! start of the process), and *ends* with the next event that the endpoint takes. Further tries of an event that
//! failed before begin none. An endpoint that changes its mind all the time begins an outage at most each
//! [`QUIET`].

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::Target;

/// Time between the beginnings of two outages of one endpoint, as far as the log is concerned.
const QUIET: Duration = Duration::from_secs(10);

/// What is known of the endpoints.
#[derive(Default)]
pub(super) struct Outages(Mutex<HashMap<Target, State>>);

#[derive(Default)]
struct State {
    has_worked: bool,
    failing: Option<Failing>,
    last_line: Option<Instant>,
}

struct Failing {
    since: Instant,
    failures: u64,
    is_logged: bool,
}

/// An outage that ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Ended {
    pub lasted: Duration,
    pub failures: u64,
}

impl Outages {
    /// A try failed. Answers whether that is to be logged.
    pub fn failed(&self, target: &Target, is_first_try: bool, now: Instant) -> bool {
        let mut states = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !states.contains_key(target) {
            states.insert(target.clone(), State::default());
        }
        let Some(state) = states.get_mut(target) else { return false };
        if state.failing.is_none() && state.has_worked && !is_first_try {
            return false;
        }
        let failing = state.failing.get_or_insert(Failing { since: now, failures: 0, is_logged: false });
        failing.failures += 1;
        let is_quiet = state.last_line.is_some_and(|last| now.saturating_duration_since(last) < QUIET);
        if failing.is_logged || is_quiet {
            return false;
        }
        failing.is_logged = true;
        state.last_line = Some(now);
        true
    }

    /// An event was taken. Answers the outage that this ends, if its beginning was logged.
    pub fn worked(&self, target: &Target, now: Instant) -> Option<Ended> {
        let mut states = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !states.contains_key(target) {
            states.insert(target.clone(), State::default());
        }
        let state = states.get_mut(target)?;
        state.has_worked = true;
        let failing = state.failing.take().filter(|failing| failing.is_logged)?;
        let lasted = now.saturating_duration_since(failing.since);
        Some(Ended { lasted, failures: failing.failures })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Watch {
        outages: Outages,
        target: Target,
        start: Instant,
    }

    impl Watch {
        fn new() -> Self {
            let target = Target { app_id: "1001".to_owned(), kind: "callback".to_owned() };
            Self { outages: Outages::default(), target, start: Instant::now() }
        }

        fn failed(&self, second: u64, is_first_try: bool) -> bool {
            self.outages.failed(&self.target, is_first_try, self.start + Duration::from_secs(second))
        }

        fn worked(&self, second: u64) -> Option<Ended> {
            self.outages.worked(&self.target, self.start + Duration::from_secs(second))
        }
    }

    #[test]
    fn an_outage_has_one_beginning_and_one_end() {
        let watch = Watch::new();
        assert_eq!(watch.worked(0), None);
        assert!(watch.failed(20, true));
        assert!(![watch.failed(21, false), watch.failed(22, true), watch.failed(80, false)].contains(&true));
        assert_eq!(watch.worked(90), Some(Ended { lasted: Duration::from_secs(70), failures: 4 }));
        assert_eq!(watch.worked(91), None);
        assert!(watch.failed(92, true));
    }

    #[test]
    fn an_endpoint_that_fails_from_the_start_is_known_by_any_try() {
        assert!(Watch::new().failed(0, false));
    }

    #[test]
    fn one_event_that_is_refused_again_and_again_is_no_outage() {
        let watch = Watch::new();
        assert!(watch.failed(0, true));
        assert!(watch.worked(1).is_some());
        assert!(!watch.failed(100, false));
        assert_eq!(watch.worked(101), None);
    }

    #[test]
    fn an_endpoint_that_changes_its_mind_is_told_of_seldom_but_told_of() {
        let watch = Watch::new();
        assert!(watch.failed(0, true));
        assert!(watch.worked(1).is_some());
        assert!(!watch.failed(2, true));
        assert_eq!(watch.worked(3), None);
        assert!(!watch.failed(4, true));
        assert!(watch.failed(11, false), "still failing when the quiet time is over");
        assert_eq!(watch.worked(12), Some(Ended { lasted: Duration::from_secs(8), failures: 2 }));
    }
}
