//! One thread with one connection.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::super::job;
use super::super::{Purpose, StorageError};
use super::lanes::Lanes;
use super::queue::{PATIENCE, Queue, Waiting};
use super::session::{CommitError, Server, Session};

/// How often a job is run that others are in the way of.
const TRIES: u32 = 10;
/// The first pause between two attempts to connect; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// The longest.
const LAST_PAUSE: Duration = Duration::from_secs(1);

pub(super) struct Worker {
    server: Server,
    queue: Arc<Queue>,
    lanes: Arc<Lanes>,
}

/// How a run of a job ended.
enum Run {
    Done(Result<(), StorageError>),
    /// Another transaction was in the way.
    Conflict,
    /// The connection broke and nothing was committed.
    Lost {
        error: StorageError,
        had_begun: bool,
    },
}

impl Worker {
    pub(super) fn new(server: Server, queue: Arc<Queue>, lanes: Arc<Lanes>) -> Self {
        Self { server, queue, lanes }
    }

    /// The thread; ends when the store's last handle is gone and no job waits.
    pub(super) fn work(&self) {
        let mut pause = FIRST_PAUSE;
        loop {
            match Session::open(&self.server) {
                Ok(session) => {
                    pause = FIRST_PAUSE;
                    self.queue.connected();
                    let is_over = self.serve(session);
                    self.queue.disconnected();
                    if is_over {
                        return;
                    }
                }
                Err(error) => {
                    if !self.queue.wait_without_connection(Instant::now() + pause, &error) {
                        return;
                    }
                    pause = (pause * 2).min(LAST_PAUSE);
                }
            }
        }
    }

    /// Does jobs until the connection is lost; true when no more jobs can come.
    fn serve(&self, mut session: Session) -> bool {
        while let Some(mut waiting) = self.queue.take() {
            match self.run(&mut session, &mut waiting) {
                Run::Done(outcome) => waiting.job.finish(outcome),
                Run::Conflict => waiting.job.finish(Err(session.conflict())),
                Run::Lost { error, had_begun } => self.rescue(waiting, error, had_begun),
            }
            if session.is_lost() {
                return false;
            }
        }
        true
    }

    /// Has a job that lost its connection run again on another: when nothing of it had been run (the server
    /// was restarted since the last job), or else once, since the job may be what breaks connections.
    fn rescue(&self, mut waiting: Waiting, error: StorageError, had_begun: bool) {
        if waiting.was_interrupted && had_begun || waiting.since.elapsed() > PATIENCE {
            return waiting.job.finish(Err(error));
        }
        waiting.was_interrupted |= had_begun;
        self.queue.put_back(waiting);
    }

    /// Runs a job until no other transaction is in its way.
    fn run(&self, session: &mut Session, waiting: &mut Waiting) -> Run {
        session.forget_conflict();
        for tried in 1..=TRIES {
            let run = self.run_once(session, waiting);
            if !matches!(run, Run::Conflict) || tried == TRIES {
                return run;
            }
            thread::sleep(pause(tried));
        }
        Run::Conflict
    }

    fn run_once(&self, session: &mut Session, waiting: &mut Waiting) -> Run {
        if let Err(error) = session.begin(waiting.purpose) {
            return ended(session, error, false);
        }
        let effects = match job::attempt(waiting.job.as_mut(), session) {
            Ok(Some(effects)) => effects,
            Ok(None) => {
                session.roll_back();
                return Run::Done(Ok(()));
            }
            Err(error) => {
                session.roll_back();
                return ended(session, error, true);
            }
        };
        if matches!(waiting.purpose, Purpose::Read | Purpose::ReadAside) {
            session.roll_back();
            return Run::Done(Ok(()));
        }
        let lanes = effects.iter().map(|(lane, _)| lane.as_str()).filter(|lane| !lane.is_empty());
        let turn = self.lanes.hold(lanes);
        let run = match session.commit() {
            Ok(()) => {
                job::follow(effects);
                Run::Done(Ok(()))
            }
            Err(CommitError::Refused(error)) => ended(session, error, true),
            Err(CommitError::Unknown(error)) => Run::Done(Err(error)),
        };
        drop(turn);
        run
    }
}

fn ended(session: &Session, error: StorageError, had_begun: bool) -> Run {
    match error {
        error if session.is_lost() => Run::Lost { error, had_begun },
        StorageError::Conflict => Run::Conflict,
        error => Run::Done(Err(error)),
    }
}

/// A random pause before a job is run again, so that those in each other's way part.
fn pause(tried: u32) -> Duration {
    let longest = 2_000 << tried.min(5);
    Duration::from_micros(u64::from(getrandom::u32().unwrap_or(0) % longest))
}
