//! The thread that reads.

use crossbeam_channel::Receiver;

use super::super::job::{self, Job};
use super::flusher::Flushes;
use super::session::Session;

/// Runs jobs, each in a transaction of its own; ends with the last handle.
pub(super) fn run(mut session: Session<'_>, jobs: &Receiver<Box<dyn Job>>, flushes: &Flushes) {
    for mut job in jobs {
        let outcome = session.run("BEGIN").and_then(|()| job::attempt(job.as_mut(), &mut session).map(drop));
        // Fails when the failure ended the transaction itself, and there is nothing to lose.
        let _ = session.run("ROLLBACK");
        flushes.answer(job, outcome);
    }
}
