//! The thread that flushes the disk.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use tokio::sync::watch;

use super::super::job::{self, Job};
use super::super::{Effect, StorageError};
use super::files::Files;
use super::spawn;

/// Commits that may wait for a flush.
const QUEUE: usize = 2;
/// Reads that may: each keeps what it read.
const READS: usize = 1_024;

/// A job that was run, with what is to follow.
pub(super) struct Ran {
    pub job: Box<dyn Job>,
    pub outcome: Result<(), StorageError>,
    pub effects: Vec<(String, Effect)>,
}

impl Ran {
    /// What it wrote is lost.
    pub(super) fn fail(&mut self, failure: &StorageError) {
        self.outcome = Err(failure.clone());
        self.effects.clear();
    }
}

/// Jobs of one transaction that has ended.
pub(super) struct Commit {
    pub ran: Vec<Ran>,
    /// What [`Flusher::number`] gave; `None`: it needs no flush.
    pub number: Option<u64>,
}

/// The writer's side of the thread.
pub(super) struct Flusher {
    commits: Sender<Commit>,
    flushes: Arc<Flushes>,
}

/// What was committed and what was flushed, for those that wait for it.
#[derive(Default)]
pub(super) struct Flushes {
    state: Mutex<State>,
    waiting: AtomicUsize,
    /// Nanoseconds that the last flush took.
    time: AtomicU64,
    /// Why the process must be started anew.
    broken: watch::Sender<Option<String>>,
}

/// What helps a store that takes nothing any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Remedy {
    /// The next process finds all that is on disk.
    Restart,
    /// The next process would find another file or none, so a person must look first.
    Operator,
}

#[derive(Default)]
struct State {
    /// Number of the last commit, perhaps still under way.
    committed: u64,
    /// Number of the last one that is on disk.
    flushed: u64,
    /// Reads that may have seen a commit of this number.
    reads: Vec<(u64, Ran)>,
    /// Why nothing is taken any more, until the end of the process: what the system could not write it may
    /// have forgotten, and a later flush that succeeds proves nothing of it.
    failure: Option<StorageError>,
}

impl Flusher {
    /// Starts the thread; it ends with this handle. Also answers what tells that the thread has nothing to do.
    pub(super) fn start(
        files: Arc<Files>,
        flushes: &Arc<Flushes>,
    ) -> Result<(Self, Receiver<()>), StorageError> {
        let (commits, to_flush) = bounded(QUEUE);
        let (tell, is_idle) = bounded(1);
        let its = Arc::clone(flushes);
        spawn("sqlite-flusher", move || {
            while let Ok(first) = to_flush.recv() {
                let commits: Vec<_> = std::iter::once(first).chain(to_flush.try_iter()).collect();
                let count = commits.len();
                flush(&files, commits, &its);
                its.waiting.fetch_sub(count, Ordering::AcqRel);
                // Once is enough.
                let _ = tell.try_send(());
            }
        })?;
        Ok((Self { commits, flushes: Arc::clone(flushes) }, is_idle))
    }

    /// The number of a commit. To be taken before it: reads that see it must know that it is there.
    pub(super) fn number(&self) -> u64 {
        let mut state = self.flushes.lock();
        state.committed += 1;
        state.committed
    }

    /// Has a commit flushed and its jobs answered; waits while too many do.
    pub(super) fn take(&self, commit: Commit) {
        self.flushes.waiting.fetch_add(1, Ordering::AcqRel);
        if self.commits.send(commit).is_err() {
            self.flushes.fail("bug: the thread that flushes has ended", Remedy::Restart);
        }
    }

    /// What was flushed.
    pub(super) fn flushes(&self) -> &Flushes {
        &self.flushes
    }

    /// Whether it has nothing to do.
    pub(super) fn is_idle(&self) -> bool {
        self.flushes.waiting.load(Ordering::Acquire) == 0
    }

    /// How long the last flush took.
    pub(super) fn time(&self) -> Duration {
        Duration::from_nanos(self.flushes.time.load(Ordering::Relaxed))
    }
}

impl Flushes {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why nothing is taken any more.
    pub(super) fn failure(&self) -> Option<StorageError> {
        self.lock().failure.clone()
    }

    /// Has nothing taken any more, neither written nor read: what is read may be what was lost.
    pub(super) fn fail(&self, reason: &str, remedy: Remedy) {
        let mut state = self.lock();
        if state.failure.is_none() {
            tracing::error!(reason, "the message store refuses all writes until the next start");
        }
        let failure =
            state.failure.get_or_insert_with(|| StorageError::Unavailable(reason.to_owned())).clone();
        let reads = std::mem::take(&mut state.reads);
        drop(state);
        for (_, read) in reads {
            read.job.finish(Err(failure.clone()));
        }
        if remedy == Remedy::Restart {
            self.broken.send_replace(Some(reason.to_owned()));
        }
    }

    /// Looks whether the files are still there; has nothing taken any more if they are not.
    pub(super) fn verify(&self, files: &Files) -> bool {
        files.verify().map_err(|reason| self.fail(&reason, Remedy::Operator)).is_ok()
    }

    /// Waits until only a restart can help; answers why.
    pub(super) async fn breaks(&self) -> String {
        let mut broken = self.broken.subscribe();
        let reason = broken.wait_for(Option::is_some).await.ok().and_then(|reason| reason.clone());
        reason.unwrap_or_default()
    }

    /// Answers a read when all that it may have seen is on disk: nothing that was told is lost.
    pub(super) fn answer(&self, job: Box<dyn Job>, outcome: Result<(), StorageError>) {
        let mut state = self.lock();
        let outcome = match &state.failure {
            Some(failure) => Err(failure.clone()),
            None if state.flushed == state.committed => outcome,
            None if state.reads.len() >= READS => Err(StorageError::Overloaded),
            None => {
                let number = state.committed;
                state.reads.push((number, Ran { job, outcome, effects: Vec::new() }));
                return;
            }
        };
        drop(state);
        job.finish(outcome);
    }

    /// Notes a flush; answers the reads that waited for it.
    fn flushed(&self, number: u64) {
        let mut state = self.lock();
        state.flushed = number;
        let reads: Vec<_> = state.reads.extract_if(.., |read| read.0 <= number).collect();
        drop(state);
        for (_, ran) in reads {
            ran.job.finish(ran.outcome);
        }
    }
}

/// Flushes once for all these.
fn flush(files: &Files, mut commits: Vec<Commit>, flushes: &Flushes) {
    let number = commits.iter().filter_map(|commit| commit.number).max();
    // What jobs read that wrote nothing may be of another file, too.
    if number.is_none() && flushes.failure().is_none() {
        flushes.verify(files);
    }
    if let Some(number) = number.filter(|_| flushes.failure().is_none()) {
        let start = Instant::now();
        match files.log().sync_data() {
            Ok(()) if flushes.verify(files) => flushes.flushed(number),
            Ok(()) => {}
            Err(error) => {
                let reason = format!("the disk can't be flushed ({error}), so what was written may be lost");
                flushes.fail(&reason, Remedy::Restart);
            }
        }
        let time = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        flushes.time.store(time, Ordering::Relaxed);
    }
    if let Some(failure) = flushes.failure() {
        commits.iter_mut().flat_map(|commit| &mut commit.ran).for_each(|ran| ran.fail(&failure));
    }
    for commit in &mut commits {
        commit.ran.iter_mut().for_each(|ran| job::follow(std::mem::take(&mut ran.effects)));
    }
    for ran in commits.into_iter().flat_map(|commit| commit.ran) {
        ran.job.finish(ran.outcome);
    }
}
