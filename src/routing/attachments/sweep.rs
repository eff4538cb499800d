//! Files that have served or never will: deleted soon after their time, a few at a time, as writes wait for it.

use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use super::{parts, records};
use crate::routing::Router;
use crate::routing::events::micros;
use crate::storage::{self, StorageError, Transaction};

const EVERY: Duration = Duration::from_secs(10);
/// Files deleted in one transaction.
const FEW: i64 = 10;
/// How long after its time an announced attachment may still be on its way.
const GRACE: Duration = Duration::from_hours(1);
/// How long an upload may take.
const UNFINISHED: Duration = Duration::from_hours(24);

/// Deletes files until the process ends.
pub async fn run(router: &Router) {
    let mut due = interval(EVERY);
    due.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        due.tick().await;
        match sweep(router, storage::now()).await {
            Ok(0) => {}
            Ok(deleted) => tracing::debug!(deleted, "the router deleted files whose time is over"),
            Err(error) => tracing::error!(%error, "the router can't delete files whose time is over"),
        }
    }
}

/// Deletes all files whose time is over; answers how many. Without any, nothing is written and nothing flushed.
async fn sweep(router: &Router, now: i64) -> Result<u64, StorageError> {
    let never_brought = now - micros(GRACE);
    let unfinished = now - micros(UNFINISHED);
    Ok(repeat(router, move |tx| records::delete_some(tx, records::EXPIRED, now, FEW)).await?
        + repeat(router, move |tx| records::delete_some(tx, records::UNNAMED, now, FEW)).await?
        + repeat(router, move |tx| records::delete_some(tx, records::NEVER_BROUGHT, never_brought, FEW))
            .await?
        + repeat(router, move |tx| parts::delete_unfinished(tx, unfinished, FEW)).await?)
}

/// Repeats a job as long as it finds as many as it may delete.
async fn repeat(
    router: &Router,
    job: impl Fn(&mut Transaction<'_>) -> Result<u64, StorageError> + Copy + Send + 'static,
) -> Result<u64, StorageError> {
    let mut total = 0;
    loop {
        let deleted = router.database().write_lazily(move |tx| job(tx)).await?;
        total += deleted;
        if deleted < FEW.unsigned_abs() {
            return Ok(total);
        }
    }
}
