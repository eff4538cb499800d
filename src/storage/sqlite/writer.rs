//! The thread that writes.

use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, select};

use super::super::job::{self, Job};
use super::super::{Purpose, StorageError};
use super::checkpoint::Log;
use super::flusher::{Commit, Flusher, Ran};
use super::session::Session;

/// How long a lazy job waits for company.
const LAZY: Duration = Duration::from_millis(200);
/// Jobs of one commit.
const GROUP: usize = 1_024;
/// How long a transaction goes on while jobs come or the disk is at work, or half of a flush if that is longer:
/// a commit has its price, too.
const SPELL: Duration = Duration::from_millis(3);

/// How long a transaction waits for as many jobs as the last one had, while the disk does nothing. Who sends alone
/// waits for nobody.
const COMPANY: Duration = Duration::from_millis(1);

/// A job as it waits.
pub(super) type Waiting = (Box<dyn Job>, Purpose);

/// Runs jobs; ends with the last handle, when all that waits is written.
pub(super) fn run(
    mut session: Session<'_>,
    jobs: &Receiver<Waiting>,
    flusher: &Flusher,
    is_idle: &Receiver<()>,
    log: &mut Log,
) {
    session.count_pages();
    let mut company = 0;
    while let Ok(first) = jobs.recv() {
        log.before_commit(&mut session, flusher.flushes());
        let mut group = Group::new(&mut session, flusher.flushes().failure(), company);
        let size = log.size();
        group.run(first);
        while let Some(next) = group.next(jobs, flusher, is_idle) {
            group.run(next);
        }
        if log.size() < size {
            log.was_cut(flusher.flushes());
            group.failure = flusher.flushes().failure();
        }
        company = group.ran.len();
        group.commit(flusher);
        log.after_commit(&mut session, flusher.flushes());
    }
}

/// Jobs of one transaction.
struct Group<'s, 'c> {
    session: &'s mut Session<'c>,
    ran: Vec<Ran>,
    since: Instant,
    /// Jobs of the transaction before.
    company: usize,
    /// Whether nobody waits for it.
    is_lazy: bool,
    has_written: bool,
    /// Whether each job can be undone by itself.
    has_savepoints: bool,
    /// Why the whole transaction is lost.
    failure: Option<StorageError>,
}

impl<'s, 'c> Group<'s, 'c> {
    fn new(session: &'s mut Session<'c>, failure: Option<StorageError>, company: usize) -> Self {
        let failure = failure.or_else(|| session.run("BEGIN IMMEDIATE").err());
        session.take_has_written();
        Self {
            session,
            ran: Vec::new(),
            since: Instant::now(),
            company,
            is_lazy: true,
            has_written: false,
            has_savepoints: false,
            failure,
        }
    }

    /// The next job of this transaction; `None` when it is to be committed: at once when nothing waits, the disk has
    /// nothing to do and there are as many jobs as usual, else after a spell, so that the next flush finds something
    /// when this one is over.
    fn next(&self, jobs: &Receiver<Waiting>, flusher: &Flusher, is_idle: &Receiver<()>) -> Option<Waiting> {
        while self.ran.len() < GROUP {
            // All that wait are told of it.
            if self.failure.is_some() {
                return jobs.try_recv().ok();
            }
            let spell = if self.is_lazy { LAZY } else { SPELL.max(flusher.time() / 2) };
            let left = spell.saturating_sub(self.since.elapsed());
            if left.is_zero() {
                return None;
            }
            // What is there already goes along, and those that came together last time do so again: each commit and
            // each flush has its price.
            let patience = if self.is_lazy || !flusher.is_idle() {
                left
            } else if self.ran.len() < self.company {
                COMPANY.saturating_sub(self.since.elapsed())
            } else {
                Duration::ZERO
            };
            select! {
                recv(jobs) -> job => return job.ok(),
                recv(is_idle) -> _ => {}
                default(patience) => return None,
            }
        }
        None
    }

    fn run(&mut self, (job, purpose): Waiting) {
        self.is_lazy &= purpose == Purpose::WriteLazily;
        let mut ran = Ran { job, outcome: Ok(()), effects: Vec::new() };
        if self.failure.is_none()
            && let Err(failure) = self.attempt(&mut ran)
        {
            self.failure = Some(failure);
        }
        self.ran.push(ran);
    }

    /// Runs a job.
    ///
    /// # Errors
    /// The whole transaction is lost.
    fn attempt(&mut self, ran: &mut Ran) -> Result<(), StorageError> {
        if self.has_savepoints {
            self.session.run("SAVEPOINT job")?;
            self.session.take_has_written();
        }
        let outcome = job::attempt(ran.job.as_mut(), self.session);
        let has_written = self.session.take_has_written();
        if !self.session.is_in_transaction() {
            let ended = StorageError::Fault("a job ended the transaction".to_owned());
            return Err(outcome.err().unwrap_or(ended));
        }
        let keep = matches!(outcome, Ok(Some(_)));
        match outcome {
            Ok(effects) => ran.effects = effects.unwrap_or_default(),
            Err(error) => ran.fail(&error),
        }
        if self.has_savepoints {
            if !keep {
                self.session.run("ROLLBACK TO job")?;
            }
            self.session.run("RELEASE job")?;
        } else if has_written && !keep {
            self.undo_last()?;
        }
        self.has_written |= has_written && keep;
        Ok(())
    }

    /// Undoes what the last job wrote, for which those before it are undone as well and run again. That is
    /// rare, so that a savepoint before each job would be dearer.
    fn undo_last(&mut self) -> Result<(), StorageError> {
        self.session.run("ROLLBACK")?;
        self.session.run("BEGIN IMMEDIATE")?;
        self.has_savepoints = true;
        let mut ran = std::mem::take(&mut self.ran);
        let outcome = ran.iter_mut().filter(|ran| ran.outcome.is_ok()).try_for_each(|ran| self.attempt(ran));
        self.ran = ran;
        outcome
    }

    fn commit(mut self, flusher: &Flusher) {
        let number = (self.has_written && !self.is_lazy).then(|| flusher.number());
        let failure = match self.failure.take() {
            Some(failure) => Some(failure),
            None => self.session.run("COMMIT").err(),
        };
        if let Some(failure) = failure {
            // Fails when the failure ended the transaction itself.
            let _ = self.session.run("ROLLBACK");
            for ran in &mut self.ran {
                ran.fail(&failure);
            }
        }
        flusher.take(Commit { ran: self.ran, number });
    }
}
