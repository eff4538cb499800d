//! What becomes of what waits when the clock is set.

use super::Router;
use super::jobs::LEASE;
use crate::storage::{self, ClockStep, StorageError, Transaction};

impl Router {
    /// The clock is about to follow a step: what was put off is due then, and messages for the carrier keep the time
    /// that they had left. Scheduled messages go when the clock says so.
    ///
    /// # Errors
    /// Of the store.
    pub async fn clock_stepped(&self, step: ClockStep) -> Result<(), StorageError> {
        let is_shared = self.database().is_shared();
        let before = storage::now();
        let now = before.saturating_add(step.by);
        let write = move |tx: &mut Transaction<'_>| {
            tx.execute(
                "UPDATE carrier_jobs SET not_before = CASE WHEN not_before > ?1 THEN ?1 ELSE not_before END, \
                 locked_until = CASE WHEN locked_until > ?2 THEN ?2 ELSE locked_until END WHERE state = 'waiting'",
                &[now.into(), (now + LEASE).into()],
            )?;
            // Of nodes that share a store, each sees the step: only what would be over is given its time again.
            let (least, most) = if is_shared { (before, now) } else { (i64::MIN, i64::MAX) };
            tx.execute(
                "UPDATE carrier_jobs SET valid_until = valid_until + ?1 WHERE state = 'waiting' \
                 AND valid_until > ?2 AND valid_until <= ?3",
                &[step.by.into(), least.into(), most.into()],
            )?;
            for sql in [
                "UPDATE inbox SET not_before = ?1 WHERE state = 'pending' AND not_before > ?1",
                "UPDATE attachments SET not_before = ?1 WHERE state = 'fetching' AND not_before > ?1",
            ] {
                tx.execute(sql, &[now.into()])?;
            }
            Ok(())
        };
        self.database().write(write).await
    }

    /// The clock followed: pauses of the carrier's lines, whose ends are times of the old clock, are over.
    pub fn follow_clock(&self) {
        self.inner.jobs.begin_anew();
    }
}
