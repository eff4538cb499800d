//! Keeps the table small: gives up what is too old, drops what is too much, forgets what is long done.

use std::time::Duration;

use super::{Outbox, Target, micros, queue};
use crate::storage::{self, StorageError, Transaction};

/// Events that one endpoint may have waiting or given up where its settings do not say less. At about 1.5 KB
/// each this is 1.5 GB.
pub const MAX_ROWS: i64 = 1_000_000;
/// Events of one endpoint that were taken and are kept to be sent again.
const MAX_DONE: i64 = 10_000;
/// Tries that are kept, of all endpoints.
const MAX_ATTEMPTS: i64 = 200_000;
/// How often this is done.
const EVERY: Duration = Duration::from_mins(1);
/// How long events that were given up can be sent again.
const KEEP_FAILED: Duration = Duration::from_hours(7 * 24);
/// How long events that were taken are kept, and tries.
const KEEP_LOG: Duration = Duration::from_hours(24);
/// How long events wait for an endpoint that is not configured (any more).
const WITHOUT_ENDPOINT: Duration = Duration::from_hours(24);

/// Does it once a minute; never ends.
pub(super) async fn run(outbox: &Outbox) {
    let mut clock = tokio::time::interval(EVERY);
    loop {
        clock.tick().await;
        if let Err(error) = tidy(outbox, MAX_ROWS).await {
            tracing::error!(%error, "the outbox can't delete old events");
        }
    }
}

/// With at most so many rows of each endpoint, or fewer where its settings say so.
pub(super) async fn tidy(outbox: &Outbox, most: i64) -> Result<(), StorageError> {
    for target in outbox.database.read(queue::targets).await? {
        let max_rows = outbox.endpoint(&target).map_or(most, |endpoint| endpoint.max_rows.min(most));
        give_up(outbox, &target).await?;
        forget(outbox, &target).await?;
        drop_excess(outbox, &target, max_rows).await?;
        outbox.couriers.wake(&target);
    }
    let limit = storage::now() - micros(KEEP_LOG);
    let delete = move |tx: &mut Transaction<'_>| queue::delete_attempts(tx, limit, MAX_ATTEMPTS);
    while outbox.database.write_lazily(delete).await? > 0 {}
    Ok(())
}

async fn give_up(outbox: &Outbox, target: &Target) -> Result<(), StorageError> {
    let endpoint = outbox.endpoint(target);
    let time = endpoint.map_or(WITHOUT_ENDPOINT, |endpoint| endpoint.give_up_after);
    let limit = storage::now() - micros(time);
    let mut all = 0;
    loop {
        let of = target.clone();
        let count = outbox.database.write_lazily(move |tx| queue::give_up_old(tx, &of, limit)).await?;
        if count == 0 {
            break;
        }
        all += count as u64;
    }
    if all > 0 {
        outbox.couriers.gave_up(all);
        tracing::warn!(
            app = target.app_id,
            count = all,
            "the outbox gave up events after their time; they can be sent again"
        );
    }
    Ok(())
}

async fn forget(outbox: &Outbox, target: &Target) -> Result<(), StorageError> {
    for (state, time) in [("failed", KEEP_FAILED), ("done", KEEP_LOG)] {
        let limit = storage::now() - micros(time);
        let delete = || {
            let of = target.clone();
            outbox.database.write_lazily(move |tx| queue::delete_over(tx, &of, state, limit))
        };
        while delete().await? > 0 {}
    }
    Ok(())
}

async fn drop_excess(outbox: &Outbox, target: &Target, max_rows: i64) -> Result<(), StorageError> {
    let of = target.clone();
    let (done, others) = outbox.database.read(move |tx| queue::count(tx, &of)).await?;
    drop_rows(outbox, target, &["done"], done - MAX_DONE).await?;
    let dropped = drop_rows(outbox, target, &["failed", "pending", "queued"], others - max_rows).await?;
    if dropped > 0 {
        outbox.couriers.dropped(dropped);
        tracing::error!(
            app = target.app_id,
            count = dropped,
            "the outbox dropped the oldest events: too many wait for the endpoint"
        );
    }
    Ok(())
}

/// Deletes the oldest events in these states; answers how many.
async fn drop_rows(
    outbox: &Outbox,
    target: &Target,
    states: &'static [&'static str],
    mut excess: i64,
) -> Result<u64, StorageError> {
    let mut all = 0;
    while excess > 0 {
        let of = target.clone();
        let drop = move |tx: &mut Transaction<'_>| queue::drop_oldest(tx, &of, states, excess);
        let count = outbox.database.write_lazily(drop).await? as i64;
        if count == 0 {
            break;
        }
        excess -= count;
        all += count as u64;
    }
    Ok(all)
}
