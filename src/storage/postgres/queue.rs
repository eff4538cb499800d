//! The jobs that wait for a connection, and what becomes of them when there is none.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::super::job::Job;
use super::super::{Purpose, StorageError};

/// Jobs that may wait.
const LIMIT: usize = 16_384;
/// How long a job waits for the database to come back: a restart of the server goes unnoticed, and nobody
/// waits for a server that is gone.
pub(super) const PATIENCE: Duration = Duration::from_millis(1500);

/// A job in the queue.
pub(super) struct Waiting {
    pub job: Box<dyn Job>,
    pub purpose: Purpose,
    pub since: Instant,
    /// A connection was lost in the middle of it.
    pub was_interrupted: bool,
}

pub(super) struct Queue {
    state: Mutex<State>,
    /// Wakes workers with a connection.
    ready: Condvar,
    /// Wakes workers without one, when no one has one.
    outage: Condvar,
}

struct State {
    jobs: VecDeque<Waiting>,
    /// Workers that have a connection.
    connected: usize,
    is_closed: bool,
    is_outage_told: bool,
}

impl Queue {
    pub(super) fn new() -> Self {
        let state = State { jobs: VecDeque::new(), connected: 0, is_closed: false, is_outage_told: false };
        Self { state: Mutex::new(state), ready: Condvar::new(), outage: Condvar::new() }
    }

    pub(super) fn push(&self, job: Box<dyn Job>, purpose: Purpose) -> Result<(), StorageError> {
        let mut state = self.lock();
        if state.jobs.len() >= LIMIT {
            return Err(StorageError::Overloaded);
        }
        state.jobs.push_back(Waiting { job, purpose, since: Instant::now(), was_interrupted: false });
        self.wake(&state);
        Ok(())
    }

    /// Gives back a job that could not be done.
    pub(super) fn put_back(&self, waiting: Waiting) {
        let mut state = self.lock();
        state.jobs.push_front(waiting);
        self.wake(&state);
    }

    /// Waits for a job; `None` when no more can come.
    pub(super) fn take(&self) -> Option<Waiting> {
        let mut state = self.lock();
        loop {
            if let Some(waiting) = state.jobs.pop_front() {
                return Some(waiting);
            }
            if state.is_closed {
                return None;
            }
            state = self.ready.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Waits until it is time to connect again. If no worker has a connection, jobs whose patience is over
    /// are told so meanwhile. False when no more can come.
    pub(super) fn wait_without_connection(&self, until: Instant, error: &StorageError) -> bool {
        let mut state = self.lock();
        loop {
            let now = Instant::now();
            if state.connected == 0 && !state.is_outage_told {
                state.is_outage_told = true;
                tracing::error!(%error, "PostgreSQL cannot be reached");
            }
            let mut wake = until;
            while state.connected == 0 {
                let Some(first) = state.jobs.front() else { break };
                let patient_until = first.since + PATIENCE;
                if patient_until > now && !state.is_closed {
                    wake = wake.min(patient_until);
                    break;
                }
                if let Some(waiting) = state.jobs.pop_front() {
                    waiting.job.finish(Err(error.clone()));
                }
            }
            if state.is_closed && (state.jobs.is_empty() || state.connected > 0) {
                return false;
            }
            if now >= until {
                return true;
            }
            let wait = self.outage.wait_timeout(state, wake.saturating_duration_since(now));
            state = wait.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// A worker has a connection.
    pub(super) fn connected(&self) {
        let mut state = self.lock();
        state.connected += 1;
        if std::mem::take(&mut state.is_outage_told) {
            tracing::info!("PostgreSQL can be reached again");
        }
    }

    /// A worker has lost it.
    pub(super) fn disconnected(&self) {
        self.lock().connected -= 1;
        self.outage.notify_all();
    }

    /// No more jobs come; those that wait are done.
    pub(super) fn close(&self) {
        self.lock().is_closed = true;
        self.ready.notify_all();
        self.outage.notify_all();
    }

    fn wake(&self, state: &State) {
        if state.connected == 0 {
            self.outage.notify_one();
        } else {
            self.ready.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::super::super::job::TypedJob;
    use super::*;

    fn job() -> (Box<dyn Job>, oneshot::Receiver<Result<(), StorageError>>) {
        let (sender, receiver) = oneshot::channel();
        (Box::new(TypedJob::new(|_: &mut crate::storage::Transaction<'_>| Ok(()), sender)), receiver)
    }

    fn gone() -> StorageError {
        StorageError::Unavailable("gone".to_owned())
    }

    #[test]
    fn a_full_queue_says_so() {
        let queue = Queue::new();
        for _ in 0..LIMIT {
            queue.push(job().0, Purpose::Write).expect("room");
        }
        assert_eq!(queue.push(job().0, Purpose::Write), Err(StorageError::Overloaded));
    }

    #[test]
    fn without_any_connection_only_jobs_that_waited_long_are_refused() {
        let queue = Queue::new();
        let ((old, mut old_answer), (young, mut young_answer)) = (job(), job());
        queue.push(young, Purpose::Write).expect("room");
        let since = Instant::now().checked_sub(PATIENCE).expect("a past");
        queue.put_back(Waiting { job: old, purpose: Purpose::Write, since, was_interrupted: false });
        assert!(queue.wait_without_connection(Instant::now(), &gone()));
        assert_eq!(old_answer.try_recv().expect("answered"), Err(gone()));
        assert!(young_answer.try_recv().is_err());
        assert!(queue.take().is_some());
    }

    #[test]
    fn a_worker_without_connection_leaves_the_jobs_to_those_with_one() {
        let queue = Queue::new();
        queue.connected();
        let since = Instant::now().checked_sub(PATIENCE).expect("a past");
        let (job, mut answer) = job();
        queue.put_back(Waiting { job, purpose: Purpose::Write, since, was_interrupted: false });
        assert!(queue.wait_without_connection(Instant::now(), &gone()));
        assert!(answer.try_recv().is_err());
    }

    #[test]
    fn a_closed_queue_ends_its_workers_when_it_is_empty() {
        let queue = Queue::new();
        let (job, mut answer) = job();
        queue.push(job, Purpose::Write).expect("room");
        queue.close();
        assert!(!queue.wait_without_connection(Instant::now() + PATIENCE, &gone()));
        assert_eq!(answer.try_recv().expect("answered"), Err(gone()));
        assert!(queue.take().is_none());
    }
}
