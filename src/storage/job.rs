//! Jobs without their types, so that threads can queue them.

use std::panic::{AssertUnwindSafe, catch_unwind};

use tokio::sync::oneshot;

use super::{Connection, Effect, StorageError, Transaction};

/// A piece of work for a storage thread.
pub(super) trait Job: Send {
    /// Runs the work and keeps its result; answers whether what it wrote is to be kept.
    fn run(&mut self, transaction: &mut Transaction<'_>) -> bool;
    /// Tells the result, or that the store failed (then the result, which may stem from what others wrote
    /// and was lost with it, is worth nothing).
    fn finish(self: Box<Self>, outcome: Result<(), StorageError>);
}

/// Runs a job in the transaction that is open on a connection. `Ok(Some)`: what it wrote is to be kept, and
/// what follows the commit; `Ok(None)`: it wants nothing kept.
///
/// # Errors
/// A statement failed, or the job panicked (a fault of ours that must not take the thread with it).
pub(super) fn attempt(
    job: &mut dyn Job,
    connection: &mut dyn Connection,
) -> Result<Option<Vec<(String, Effect)>>, StorageError> {
    let mut transaction = Transaction::new(connection);
    let ran = catch_unwind(AssertUnwindSafe(|| job.run(&mut transaction)));
    let Transaction { on_commit, failure, .. } = transaction;
    match (ran, failure) {
        (Err(_), _) => Err(StorageError::Fault("a job panicked".to_owned())),
        (Ok(_), Some(failure)) => Err(failure),
        (Ok(keep), None) => Ok(keep.then_some(on_commit)),
    }
}

/// Runs what follows a commit; a panic in it stays there.
pub(super) fn follow(effects: Vec<(String, Effect)>) {
    for (_, effect) in effects {
        if catch_unwind(AssertUnwindSafe(effect)).is_err() {
            tracing::error!("bug: an action after a commit panicked");
        }
    }
}

pub(super) struct TypedJob<F, T, E> {
    work: F,
    result: Option<Result<T, E>>,
    answer: oneshot::Sender<Result<T, E>>,
}

impl<F, T, E> TypedJob<F, T, E> {
    pub(super) fn new(work: F, answer: oneshot::Sender<Result<T, E>>) -> Self {
        Self { work, result: None, answer }
    }
}

impl<F, T, E> Job for TypedJob<F, T, E>
where
    F: FnMut(&mut Transaction<'_>) -> Result<T, E> + Send,
    T: Send,
    E: From<StorageError> + Send,
{
    fn run(&mut self, transaction: &mut Transaction<'_>) -> bool {
        // A job may be run again, and must not answer with what an earlier run said.
        self.result = None;
        let result = (self.work)(transaction);
        let keep = result.is_ok();
        self.result = Some(result);
        keep
    }

    fn finish(self: Box<Self>, outcome: Result<(), StorageError>) {
        let result = match (outcome, self.result) {
            (Ok(()), Some(result)) => result,
            (Err(error), _) => Err(error.into()),
            (Ok(()), None) => Err(StorageError::Fault("a job was not run".to_owned()).into()),
        };
        // Whoever asked may be gone.
        let _ = self.answer.send(result);
    }
}
