//! The thread that copies pages from the log into the file. SQLite would have the writer do that, within a
//! commit whose callers wait: it takes many times as long as their own flush.

use crossbeam_channel::{Receiver, Sender};

use super::super::StorageError;
use super::session::Session;

/// Pages in the log that are worth it: 16 MB.
const DUE: i64 = 4_000;
/// Pages in the log at which the writer helps: 64 MB. The log starts anew when it was copied to its end, and
/// a writer that never pauses is always ahead of this thread.
const TOO_MANY: i64 = 16_000;

/// Copies when it is told to; ends with the writer.
pub(super) fn run(mut session: Session<'_>, due: &Receiver<()>) {
    let mut was_possible = true;
    for () in due {
        let copied = session.checkpoint();
        if let (Err(error), true) = (&copied, was_possible) {
            tracing::error!(%error, "the store's log can't be copied into its file, and grows");
        }
        was_possible = copied.is_ok();
    }
}

/// What follows a commit.
pub(super) fn after_commit(session: &mut Session<'_>, wake: &Sender<()>) -> Result<(), StorageError> {
    let (pages, copied) = session.log_pages()?;
    if pages >= TOO_MANY {
        session.checkpoint()?;
    } else if pages - copied >= DUE {
        // One call is enough.
        let _ = wake.try_send(());
    }
    Ok(())
}
