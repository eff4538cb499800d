//! The thread that copies pages from the log into the file. SQLite would have the writer do that, within a
//! commit whose callers wait: it takes many times as long as their own flush.

use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};

use super::files::Files;
use super::flusher::{Flushes, Remedy};
use super::session::{Copied, Session};

/// Pages in the log that are worth it: 16 MB.
const DUE: i64 = 4_000;
/// Pages in the log at which the writer helps: 64 MB. The log starts anew when it was copied to its end, and
/// a writer that never pauses is always ahead of this thread.
const TOO_MANY: i64 = 16_000;
/// Commits before the writer tries again when that was in vain.
const PAUSE: u32 = 1_000;
/// Time between two looks at the files while nothing is written.
const LOOK: Duration = Duration::from_secs(1);

/// Copies when there is enough; ends with the writer. SQLite flushes the file when it has copied the log to its
/// end, which the writer does: flushing it here as well leaves the writer little of that. Also looks each second
/// whether the files are still there.
pub(super) fn run(mut session: Session<'_>, due: &Receiver<()>, files: &Files, flushes: &Flushes) {
    let mut was_possible = true;
    loop {
        let is_due = match due.recv_timeout(LOOK) {
            Ok(()) => true,
            Err(RecvTimeoutError::Timeout) => false,
            Err(RecvTimeoutError::Disconnected) => return,
        };
        if flushes.failure().is_some() || !flushes.verify(files) || !is_due {
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
        match (copied, files.database().sync_data()) {
            (Copied::Broken(reason, remedy), _) => flushes.fail(&reason, remedy),
            (_, Err(error)) => {
                flushes.fail(&format!("the store's file can't be flushed ({error})"), Remedy::Restart);
            }
            (Copied::Yes | Copied::NotNow(_), Ok(())) => {}
        }
    }
}

/// The writer's view of the log.
pub(super) struct Log {
    wake: Sender<()>,
    files: Arc<Files>,
    /// Pages in it after the last commit.
    pages: i64,
    /// Pages of it that were in the file as well when that was asked.
    copied: i64,
    /// Commits until the writer helps again.
    pause: u32,
}

impl Log {
    pub(super) fn new(wake: Sender<()>, files: Arc<Files>) -> Self {
        Self { wake, files, pages: 0, copied: 0, pause: 0 }
    }

    /// Bytes of the log.
    pub(super) fn size(&self) -> u64 {
        self.files.log_size()
    }

    /// Looks whether somebody else cut the log: the next commit would leave a hole, behind which nothing is
    /// found again. Another process may have copied it all and begun it anew, in which case SQLite knows.
    pub(super) fn before_commit(&mut self, session: &mut Session<'_>, flushes: &Flushes) {
        for _ in 0..3 {
            if self.size() >= self.files.size_of_log(self.pages) || flushes.failure().is_some() {
                return;
            }
            self.pages = session.log_pages().map_or(0, |(pages, _)| pages);
        }
        flushes.fail(&self.files.log_was_cut(), Remedy::Operator);
    }

    /// That the log was cut within a transaction, in which no other process may.
    pub(super) fn was_cut(&self, flushes: &Flushes) {
        flushes.fail(&self.files.log_was_cut(), Remedy::Operator);
    }

    /// What follows a commit.
    pub(super) fn after_commit(&mut self, session: &mut Session<'_>, flushes: &Flushes) {
        if flushes.failure().is_some() {
            return;
        }
        self.pages = session.committed_pages();
        self.pause = self.pause.saturating_sub(1);
        // SQLite prepares the question anew each time, so it is asked when the answer may matter.
        if (0..DUE).contains(&(self.pages - self.copied)) && self.pages < TOO_MANY {
            return;
        }
        let (pages, copied) = session.log_pages().unwrap_or_else(|error| {
            tracing::error!(%error, "the store can't read the size of SQLite's write-ahead log");
            (0, 0)
        });
        self.copied = copied;
        if pages >= TOO_MANY && self.pause == 0 {
            match session.checkpoint() {
                Copied::Yes => {}
                Copied::NotNow(_) => self.pause = PAUSE,
                Copied::Broken(reason, remedy) => flushes.fail(&reason, remedy),
            }
        } else if pages - copied >= DUE {
            // One call is enough.
            let _ = self.wake.try_send(());
        }
    }
}
