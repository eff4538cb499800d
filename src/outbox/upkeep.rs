//! Keeps the table small: gives up what is too old, drops what is too much, forgets what is long done.

use std::time::Duration;

use super::{Event, Outbox, Target, micros, queue};
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
        let endpoint = outbox.endpoint(&target);
        let bounds = endpoint.map(|endpoint| (endpoint.max_rows.min(most), endpoint.drops_waiting));
        give_up(outbox, &target).await?;
        if storage::clock_is_settled() {
            forget(outbox, &target).await?;
        }
        drop_excess(outbox, &target, bounds.unwrap_or((most, true))).await?;
        outbox.couriers.wake(&target);
    }
    if !storage::clock_is_settled() {
        return Ok(());
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
        let (of, receivers) = (target.clone(), outbox.receivers_of(target));
        let give_up = move |tx: &mut Transaction<'_>| {
            let given_up = queue::give_up_old(tx, &of, limit)?;
            for (id, payload) in &given_up {
                let Some(receivers) = &receivers else { break };
                receivers.settled(tx, &of, *id)?;
                if let Ok(event) = serde_json::from_str::<Event>(payload) {
                    receivers.gave_up(tx, &of, &event)?;
                }
            }
            Ok::<_, StorageError>(given_up.len())
        };
        let count = outbox.database.write_lazily(give_up).await?;
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

/// With at most so many rows that were given up or, if it is said, wait.
async fn drop_excess(
    outbox: &Outbox,
    target: &Target,
    (max_rows, drops_waiting): (i64, bool),
) -> Result<(), StorageError> {
    let of = target.clone();
    let [done, failed, waiting] = outbox.database.read(move |tx| queue::count(tx, &of)).await?;
    drop_rows(outbox, target, &["done"], done - MAX_DONE).await?;
    let dropped = if drops_waiting {
        drop_rows(outbox, target, &["failed", "pending", "queued"], failed + waiting - max_rows).await?
    } else {
        drop_rows(outbox, target, &["failed"], failed - max_rows).await?
    };
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
        let (of, receivers) = (target.clone(), outbox.receivers_of(target));
        let drop = move |tx: &mut Transaction<'_>| {
            let dropped = queue::drop_oldest(tx, &of, states, excess)?;
            for id in &dropped {
                receivers.iter().try_for_each(|receivers| receivers.settled(tx, &of, *id))?;
            }
            Ok::<_, StorageError>(dropped.len() as i64)
        };
        let count = outbox.database.write_lazily(drop).await?;
        if count == 0 {
            break;
        }
        excess -= count;
        all += count as u64;
    }
    Ok(all)
}
