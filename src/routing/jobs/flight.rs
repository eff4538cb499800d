//! Calls that this process makes: what a job holds while its call is out, and how all of it is given back.
//!
//! A job is in flight from before its attempt is written until its outcome is stored. So a job that is locked in this
//! process's name and is not in flight has nobody who goes on with it: the commit of its attempt took place although
//! the store could not say so, or its call ended in a panic. Such jobs are looked for as long as there may be any.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::lines::Line;
use super::worker::Due;
use crate::routing::Router;
use crate::routing::carrier::{Outcome, Permit};
use crate::storage;

/// How long an attempt is looked for whose commit may have taken place: longer than the store may take for it.
const DOUBT: Duration = Duration::from_mins(5);

/// The jobs in flight.
#[derive(Default)]
pub struct Flights {
    jobs: Mutex<HashSet<i64>>,
    /// Jobs whose attempt may be written although they were not called, and since when.
    doubtful: Mutex<HashMap<i64, Instant>>,
    /// Interrupted calls whose outcome the store refused, and how often.
    faults: Mutex<HashMap<i64, u32>>,
    /// Whether a call ended in a panic and left its job locked.
    has_orphans: AtomicBool,
}

impl Flights {
    /// How many there are.
    pub fn len(&self) -> usize {
        lock(&self.jobs).len()
    }

    /// All of them.
    pub fn all(&self) -> HashSet<i64> {
        lock(&self.jobs).clone()
    }

    /// Whether jobs may be locked in this process's name that are not in flight.
    pub fn may_have_orphans(&self) -> bool {
        self.has_orphans.load(Ordering::Acquire) || !lock(&self.doubtful).is_empty()
    }

    /// All orphans of before are settled.
    pub fn forget_orphans(&self) {
        self.has_orphans.store(false, Ordering::Release);
        lock(&self.doubtful).retain(|_, since| since.elapsed() < DOUBT);
    }

    /// A call ended in a panic, or could not be settled.
    pub fn note_orphan(&self) {
        self.has_orphans.store(true, Ordering::Release);
    }

    /// The store could not say whether the attempts of these jobs are written. They are not called.
    pub fn doubt(&self, jobs: impl IntoIterator<Item = i64>) {
        let now = Instant::now();
        lock(&self.doubtful).extend(jobs.into_iter().map(|job| (job, now)));
    }

    /// Whether a job's attempt may be written although it was not called.
    pub fn is_doubtful(&self, job: i64) -> bool {
        lock(&self.doubtful).contains_key(&job)
    }

    /// The store refused the outcome of an interrupted call; answers how often by now.
    pub fn fault(&self, job: i64) -> u32 {
        let mut faults = lock(&self.faults);
        let count = faults.entry(job).or_default();
        *count += 1;
        *count
    }

    /// Whether interrupted calls are to be settled again.
    pub fn has_faults(&self) -> bool {
        !lock(&self.faults).is_empty()
    }

    /// What became of a job's attempt is known.
    pub fn is_known(&self, job: i64) {
        lock(&self.doubtful).remove(&job);
        lock(&self.faults).remove(&job);
    }
}

/// One job in flight. Dropped, also by a panic, it gives back what was not used, and lets its lane go on.
pub(super) struct Flight {
    router: Router,
    line: Arc<Line>,
    job: i64,
    lane: String,
    own_number: String,
    permit: Option<Permit>,
    number_permit: Option<Permit>,
}

impl Flight {
    /// Of a job that was chosen: its line counts it already.
    pub fn begin(router: &Router, line: &Arc<Line>, due: Due, permit: Permit) -> Self {
        lock(&router.inner.jobs.flights.jobs).insert(due.id);
        Self {
            router: router.clone(),
            line: Arc::clone(line),
            job: due.id,
            lane: due.lane,
            own_number: due.own_number,
            permit: Some(permit),
            number_permit: due.number_permit,
        }
    }

    /// The job.
    pub fn job(&self) -> i64 {
        self.job
    }

    /// The line it goes over.
    pub fn line(&self) -> &Line {
        &self.line
    }

    /// Tells the line what became of the call.
    pub fn report(&mut self, outcome: &Outcome) {
        let (mut state, now) = (self.line.state(), storage::now());
        if let Some(permit) = self.permit.take() {
            state.breaker.report(permit, outcome.health(), now);
        }
        state.held.report(&self.own_number, self.number_permit.take(), outcome, now);
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        let jobs = &self.router.inner.jobs;
        if std::thread::panicking() {
            tracing::error!(
                job = self.job,
                "bug: a call to the carrier failed in the router; its job is settled"
            );
            jobs.flights.note_orphan();
        }
        let mut state = self.line.state();
        if let Some(permit) = self.permit.take() {
            state.breaker.give_back(permit, storage::now());
            state.held.give_back(&self.own_number, self.number_permit.take(), storage::now());
        }
        state.calls = state.calls.saturating_sub(1);
        state.lanes.remove(&self.lane);
        drop(state);
        lock(&jobs.flights.jobs).remove(&self.job);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
