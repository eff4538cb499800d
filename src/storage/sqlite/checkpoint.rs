//! The thread that copies pages from the log into the file. SQLite would have the writer do that, within a
//! commit whose callers wait: it takes many times as long as their own flush.

use std::fs::File;
use std::mem::ManuallyDrop;
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender};

use super::flusher::Flushes;
use super::session::{Copied, Session};

/// Pages in the log that are worth it: 16 MB.
const DUE: i64 = 4_000;
/// Pages in the log at which the writer helps: 64 MB. The log starts anew when it was copied to its end, and
/// a writer that never pauses is always ahead of this thread.
const TOO_MANY: i64 = 16_000;
/// Commits before the writer tries again when that was in vain.
const PAUSE: u32 = 1_000;

/// Copies when it is told to; ends with the writer. SQLite flushes the file when it has copied the log to its
/// end, which the writer does: flushing it here as well leaves the writer little of that. `file` stays open
/// until the process ends, as closing it would take SQLite's locks away (POSIX).
pub(super) fn run(
    mut session: Session<'_>,
    due: &Receiver<()>,
    file: &ManuallyDrop<File>,
    flushes: &Arc<Flushes>,
) {
    let mut was_possible = true;
    for () in due {
        if flushes.failure().is_some() {
            continue;
        }
        let copied = session.checkpoint();
        if let (Copied::NotNow(reason), true) = (&copied, was_possible) {
            tracing::error!(
                reason,
                "SQLite can't copy its write-ahead log into the database file; the log grows"
            );
        }
        was_possible = matches!(copied, Copied::Yes);
        match (copied, file.sync_data()) {
            (Copied::Broken(reason), _) => flushes.fail(&reason),
            (_, Err(error)) => flushes.fail(&format!("the store's file can't be flushed ({error})")),
            (Copied::Yes | Copied::NotNow(_), Ok(())) => {}
        }
    }
}

/// The writer's view of the log.
pub(super) struct Log {
    wake: Sender<()>,
    /// Commits until the writer helps again.
    pause: u32,
}

impl Log {
    pub(super) fn new(wake: Sender<()>) -> Self {
        Self { wake, pause: 0 }
    }

    /// What follows a commit.
    pub(super) fn after_commit(&mut self, session: &mut Session<'_>, flushes: &Flushes) {
        if flushes.failure().is_some() {
            return;
        }
        let (pages, copied) = session.log_pages().unwrap_or_else(|error| {
            tracing::error!(%error, "the store can't read the size of SQLite's write-ahead log");
            (0, 0)
        });
        self.pause = self.pause.saturating_sub(1);
        if pages >= TOO_MANY && self.pause == 0 {
            match session.checkpoint() {
                Copied::Yes => {}
                Copied::NotNow(_) => self.pause = PAUSE,
                Copied::Broken(reason) => flushes.fail(&reason),
            }
        } else if pages - copied >= DUE {
            // One call is enough.
            let _ = self.wake.try_send(());
        }
    }
}
