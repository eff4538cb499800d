//! What becomes of rows when the clock is set.

use super::{LEASE, Outbox};
use crate::storage::{self, ClockStep, StorageError, Transaction};

/// Longest lease: of an event, whose endpoint has a minute at most to answer.
const LONGEST_LEASE: i64 = LEASE + 120_000_000;

impl Outbox {
    /// The clock is about to follow a step: events that were put off are due then, and may be tried for as long as new
    /// ones. No lease of a node that ended outlasts the step.
    ///
    /// # Errors
    /// Of the store.
    pub async fn clock_stepped(&self, step: ClockStep) -> Result<(), StorageError> {
        let now = storage::now().saturating_add(step.by);
        let write = move |tx: &mut Transaction<'_>| {
            tx.execute(
                "UPDATE outbox SET not_before = CASE WHEN not_before > ?1 THEN ?1 ELSE not_before END, queued_at = ?1 \
                 WHERE kind <> 'broadcast' AND state IN ('pending', 'queued')",
                &[now.into()],
            )?;
            tx.execute(
                "UPDATE outbox SET locked_until = ?1 WHERE state = 'pending' AND locked_until > ?1",
                &[(now + LONGEST_LEASE).into()],
            )?;
            Ok(())
        };
        self.database.write(write).await
    }

    /// Has all that is due looked for.
    pub fn wake(&self) {
        self.couriers.wake_all();
    }
}
