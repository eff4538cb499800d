//! The SQL of events for endpoints.
//!
//! The first event of a lane is `pending`, those behind it are `queued`; when the first is `done` or `failed`
//! the next one is *promoted*. So what is due is found by an index, however many wait behind it. A first one
//! with a `last_error` is that of a lane whose last try failed; whoever follows one that was given up has one.
//! `claim` finds what is due.
//!
//! Where nodes share a store, an event that is added behind another one locks that one, and whoever ends
//! it waits until the new one can be seen: no event is left `queued` behind nothing. Two that are added to
//! an empty lane at once may both be `pending`; a claim therefore looks again whether it is the first.

use serde::Serialize;

use super::claim::Task;
use super::log::{EventState, Listing, StoredEvent};
use super::{Event, LEASE, Lane, Target, no_id, request};
use crate::storage::{self, Row, StorageError, Transaction, Value};

/// Rows changed in one transaction.
pub(super) const PAGE: i64 = 500;
/// Bytes kept of an answer.
const KEPT_ANSWER: usize = 200;

/// One try of an event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Attempt {
    /// Microseconds since 1970.
    pub started_at: i64,
    /// Until the answer, or until there was none.
    pub latency_ms: i64,
    /// HTTP status; `None`: no answer.
    pub status: Option<u16>,
    /// The answer's first 200 bytes.
    pub answer: String,
    /// Why it counts as failed; `None`: it was taken.
    pub error: Option<String>,
}

impl Attempt {
    /// Cuts an answer to what is kept.
    pub(super) fn cut(body: &[u8]) -> String {
        String::from_utf8_lossy(&body[..body.len().min(KEPT_ANSWER)]).into_owned()
    }
}

/// Locks the first event of a lane that waits, if there is one.
pub(super) const LOCK_FIRST: &str = "UPDATE outbox SET locked_until = locked_until WHERE id = (SELECT id FROM outbox \
     WHERE app_id = ?1 AND kind = ?2 AND lane = ?3 AND kind <> 'broadcast' AND state IN ('pending', 'queued') \
     ORDER BY id LIMIT 1)";

/// Makes the first event of a lane that waits one that can be claimed.
pub(super) const PROMOTE: &str = "UPDATE outbox SET state = 'pending', locked_until = 0, last_error = COALESCE(?4, last_error) \
     WHERE state = 'queued' AND id = (SELECT id FROM outbox \
     WHERE app_id = ?1 AND kind = ?2 AND lane = ?3 AND kind <> 'broadcast' AND state IN ('pending', 'queued') \
     ORDER BY id LIMIT 1)";

/// Writes an event. The node that writes it posts it, unless it does not get to it.
pub(super) fn add(
    tx: &mut Transaction<'_>,
    target: &Target,
    lane: Lane<'_>,
    payload: String,
    node: &str,
    now: i64,
) -> Result<i64, StorageError> {
    let is_behind =
        tx.execute(LOCK_FIRST, &[(&target.app_id).into(), (&target.kind).into(), lane.name.into()])? > 0;
    let id = tx.insert(
        "INSERT INTO outbox (app_id, kind, lane, payload, state, attempts, not_before, locked_by, locked_until, \
         created_at, queued_at, is_public) VALUES (?1, ?2, ?3, ?4, ?5, 0, ?6, ?7, ?8, ?6, ?6, ?9)",
        &[
            (&target.app_id).into(),
            (&target.kind).into(),
            lane.name.into(),
            payload.into(),
            if is_behind { "queued" } else { "pending" }.into(),
            now.into(),
            node.into(),
            (now + LEASE).into(),
            lane.is_public.into(),
        ],
    )?;
    id.ok_or_else(no_id)
}

/// Makes the first event of a lane the one that can be claimed, at once and by whoever looks first. `after` is
/// why its predecessor was given up.
fn promote(
    tx: &mut Transaction<'_>,
    target: &Target,
    lane: &str,
    after: Option<&str>,
) -> Result<(), StorageError> {
    tx.execute(
        PROMOTE,
        &[
            (&target.app_id).into(),
            (&target.kind).into(),
            lane.into(),
            after.map(|error| format!("the one before it: {error}")).into(),
        ],
    )?;
    Ok(())
}

/// The event was taken; it is kept or deleted.
pub(super) fn finish(
    tx: &mut Transaction<'_>,
    target: &Target,
    task: &Task,
    is_kept: bool,
) -> Result<(), StorageError> {
    if is_kept {
        tx.execute(
            "UPDATE outbox SET state = 'done', attempts = ?2, not_before = ?3, locked_until = 0 WHERE id = ?1",
            &[task.id.into(), (task.attempts + 1).into(), storage::now().into()],
        )?;
    } else {
        tx.execute("DELETE FROM outbox WHERE id = ?1", &[task.id.into()])?;
    }
    promote(tx, target, &task.lane, None)
}

/// A try failed: the next one is not before `next`, or never. Tells whether it was still to be tried.
pub(super) fn retry(
    tx: &mut Transaction<'_>,
    target: &Target,
    task: &Task,
    next: Option<i64>,
    error: &str,
) -> Result<bool, StorageError> {
    let was_waiting = tx.execute(
        "UPDATE outbox SET state = ?2, attempts = ?3, not_before = ?4, locked_until = 0, last_error = ?5 \
         WHERE id = ?1 AND state = 'pending'",
        &[
            task.id.into(),
            if next.is_some() { "pending" } else { "failed" }.into(),
            (task.attempts + 1).into(),
            next.unwrap_or_else(storage::now).into(),
            error.into(),
        ],
    )? > 0;
    if next.is_none() {
        promote(tx, target, &task.lane, Some(error))?;
    }
    Ok(was_waiting)
}

/// What an event says was changed before it went out for the first time.
pub(super) fn change(tx: &mut Transaction<'_>, id: i64, payload: &str) -> Result<(), StorageError> {
    tx.execute("UPDATE outbox SET payload = ?2 WHERE id = ?1", &[id.into(), payload.into()]).map(drop)
}

/// Notes a try.
pub(super) fn record(
    tx: &mut Transaction<'_>,
    target: &Target,
    event: i64,
    attempt: &Attempt,
) -> Result<(), StorageError> {
    tx.execute(
        "INSERT INTO outbox_attempts (outbox_id, app_id, kind, started_at, latency_ms, status, answer, error) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        &[
            event.into(),
            (&target.app_id).into(),
            (&target.kind).into(),
            attempt.started_at.into(),
            attempt.latency_ms.into(),
            attempt.status.map(i64::from).into(),
            (&attempt.answer).into(),
            attempt.error.clone().into(),
        ],
    )?;
    Ok(())
}

/// All targets that have events, found by hopping through an index.
pub(super) fn targets(tx: &mut Transaction<'_>) -> Result<Vec<Target>, StorageError> {
    let mut found: Vec<Target> = Vec::new();
    loop {
        let (app_id, kind) = found.last().map_or(("", ""), |last| (last.app_id.as_str(), last.kind.as_str()));
        let row = tx.query_one(
            "SELECT app_id, kind FROM outbox WHERE kind <> 'broadcast' AND (app_id, kind) > (?1, ?2) \
             ORDER BY app_id, kind LIMIT 1",
            &[app_id.into(), kind.into()],
        )?;
        let Some(row) = row else { return Ok(found) };
        found.push(Target { app_id: row.text(0)?, kind: row.text(1)? });
    }
}

/// The parameters of lists.
fn listed(target: &Target, which: Listing) -> [Value; 7] {
    let [one, other] = which.state.columns();
    [
        (&target.app_id).into(),
        (&target.kind).into(),
        one.into(),
        other.into(),
        which.after.into(),
        which.since.into(),
        which.limit.into(),
    ]
}

/// Rows of events.
pub(super) fn ids(
    tx: &mut Transaction<'_>,
    target: &Target,
    which: Listing,
) -> Result<Vec<i64>, StorageError> {
    let rows = tx.query(
        "SELECT id FROM outbox WHERE app_id = ?1 AND kind = ?2 AND kind <> 'broadcast' AND state IN (?3, ?4) \
         AND id > ?5 AND CASE WHEN state IN ('failed', 'done') THEN not_before ELSE created_at END >= ?6 \
         ORDER BY id LIMIT ?7",
        &listed(target, which),
    )?;
    rows.iter().map(|row| row.int(0)).collect()
}

/// Events with what became of them.
pub(super) fn list(
    tx: &mut Transaction<'_>,
    target: &Target,
    which: Listing,
) -> Result<Vec<StoredEvent>, StorageError> {
    let rows = tx.query(
        "SELECT id, created_at, payload, attempts, last_error, not_before, state FROM outbox \
         WHERE app_id = ?1 AND kind = ?2 AND kind <> 'broadcast' AND state IN (?3, ?4) \
         AND id > ?5 AND CASE WHEN state IN ('failed', 'done') THEN not_before ELSE created_at END >= ?6 \
         ORDER BY id LIMIT ?7",
        &listed(target, which),
    )?;
    let event = |row: &Row| {
        let (id, created_at) = (row.int(0)?, row.int(1)?);
        let event: Option<Event> = serde_json::from_str(&row.text(2)?).ok();
        let (name, data) =
            event.map_or_else(Default::default, |event| (event.name, event.data.get().to_owned()));
        Ok(StoredEvent {
            id,
            event_id: request::event_id(target, id, created_at),
            name,
            data,
            state: EventState::of_column(&row.text(6)?),
            attempts: row.int(3)?,
            error: row.optional_text(4)?,
            created_at,
            changed_at: row.int(5)?,
        })
    };
    rows.iter().map(event).collect()
}

/// Tries of an event.
pub(super) fn attempts(
    tx: &mut Transaction<'_>,
    target: &Target,
    event: i64,
) -> Result<Vec<Attempt>, StorageError> {
    let rows = tx.query(
        "SELECT started_at, latency_ms, status, answer, error FROM outbox_attempts \
         WHERE outbox_id = ?1 AND app_id = ?2 AND kind = ?3 ORDER BY id",
        &[event.into(), (&target.app_id).into(), (&target.kind).into()],
    )?;
    let attempt = |row: &Row| {
        Ok(Attempt {
            started_at: row.int(0)?,
            latency_ms: row.int(1)?,
            status: row.optional_int(2)?.and_then(|status| u16::try_from(status).ok()),
            answer: row.text(3)?,
            error: row.optional_text(4)?,
        })
    };
    rows.iter().map(attempt).collect()
}

/// Puts events that were given up or taken back in their lanes; answers the rows, in order.
pub(super) fn resend(
    tx: &mut Transaction<'_>,
    target: &Target,
    ids: &[i64],
) -> Result<Vec<i64>, StorageError> {
    let now = storage::now();
    let (mut done, mut lanes) = (Vec::new(), Vec::new());
    for id in ids {
        // Whoever was the first is behind it now, and a claim must not find it in its way.
        tx.execute(
            "UPDATE outbox SET state = 'queued' WHERE state = 'pending' AND id > ?1 AND id = (SELECT id FROM outbox \
             WHERE app_id = ?2 AND kind = ?3 AND kind <> 'broadcast' AND state IN ('pending', 'queued') \
             AND lane = (SELECT lane FROM outbox WHERE id = ?1 AND app_id = ?2 AND kind = ?3 \
             AND state IN ('failed', 'done')) ORDER BY id LIMIT 1)",
            &[(*id).into(), (&target.app_id).into(), (&target.kind).into()],
        )?;
        let row = tx.query_one(
            "UPDATE outbox SET state = 'queued', attempts = 0, not_before = ?4, queued_at = ?4, locked_until = 0 \
             WHERE id = ?1 AND app_id = ?2 AND kind = ?3 AND state IN ('failed', 'done') RETURNING lane",
            &[(*id).into(), (&target.app_id).into(), (&target.kind).into(), now.into()],
        )?;
        if let Some(row) = row {
            done.push(*id);
            lanes.push(row.text(0)?);
        }
    }
    promote_all(tx, target, lanes, None)?;
    Ok(done)
}

/// Gives up the events that were written (or sent again) before `limit`, a page of them; answers them with their
/// payloads, in order.
pub(super) fn give_up_old(
    tx: &mut Transaction<'_>,
    target: &Target,
    limit: i64,
) -> Result<Vec<(i64, String)>, StorageError> {
    let now = storage::now();
    let (mut lanes, mut given_up) = (Vec::new(), Vec::new());
    for state in ["pending", "queued"] {
        // In its first page: a lane's events are about in the order of their times.
        let rows = tx.query(
            "UPDATE outbox SET state = 'failed', not_before = ?5, last_error = COALESCE(last_error, 'never tried') \
             WHERE id IN (SELECT id FROM outbox WHERE app_id = ?1 AND kind = ?2 AND kind <> 'broadcast' AND state = ?3 \
             ORDER BY id LIMIT ?6) AND state = ?3 AND queued_at < ?4 AND (state = 'queued' OR locked_until < ?5) \
             RETURNING lane, id, payload",
            &[
                (&target.app_id).into(),
                (&target.kind).into(),
                state.into(),
                limit.into(),
                now.into(),
                PAGE.into(),
            ],
        )?;
        for row in &rows {
            lanes.push(row.text(0)?);
            given_up.push((row.int(1)?, row.text(2)?));
        }
    }
    promote_all(tx, target, lanes, Some("given up"))?;
    given_up.sort_unstable_by_key(|(id, _)| *id);
    Ok(given_up)
}

/// How many events a target has that were taken, that were given up, and that wait.
pub(super) fn count(tx: &mut Transaction<'_>, target: &Target) -> Result<[i64; 3], StorageError> {
    let row = tx.query_one(
        "SELECT COUNT(CASE WHEN state = 'done' THEN 1 END), COUNT(CASE WHEN state = 'failed' THEN 1 END), \
         COUNT(CASE WHEN state IN ('pending', 'queued') THEN 1 END) \
         FROM outbox WHERE app_id = ?1 AND kind = ?2 AND kind <> 'broadcast'",
        &[(&target.app_id).into(), (&target.kind).into()],
    )?;
    row.map_or(Ok([0; 3]), |row| Ok([row.int(0)?, row.int(1)?, row.int(2)?]))
}

/// How many events a target has that are still to be posted.
pub(super) fn waiting(tx: &mut Transaction<'_>, target: &Target) -> Result<i64, StorageError> {
    let row = tx.query_one(
        "SELECT COUNT(*) FROM outbox WHERE app_id = ?1 AND kind = ?2 AND kind <> 'broadcast' \
         AND state IN ('pending', 'queued')",
        &[(&target.app_id).into(), (&target.kind).into()],
    )?;
    row.map_or(Ok(0), |row| row.int(0))
}

/// Deletes the oldest events in these states, a page of them, those of the first state first; answers which.
pub(super) fn drop_oldest(
    tx: &mut Transaction<'_>,
    target: &Target,
    states: &[&'static str],
    count: i64,
) -> Result<Vec<i64>, StorageError> {
    let (mut lanes, mut dropped) = (Vec::new(), Vec::new());
    for state in states {
        let room = count.min(PAGE) - lanes.len() as i64;
        if room <= 0 {
            break;
        }
        let rows = tx.query(
            "DELETE FROM outbox WHERE id IN (SELECT id FROM outbox WHERE app_id = ?1 AND kind = ?2 \
             AND kind <> 'broadcast' AND state = ?3 ORDER BY id LIMIT ?4) RETURNING lane, id",
            &[(&target.app_id).into(), (&target.kind).into(), (*state).into(), room.into()],
        )?;
        for row in &rows {
            lanes.push(row.text(0)?);
            dropped.push(row.int(1)?);
        }
    }
    promote_all(tx, target, lanes, None)?;
    Ok(dropped)
}

/// Deletes events that came into this state, `failed` or `done`, before `limit`, a page of them; answers how
/// many.
pub(super) fn delete_over(
    tx: &mut Transaction<'_>,
    target: &Target,
    state: &'static str,
    limit: i64,
) -> Result<u64, StorageError> {
    tx.execute(
        "DELETE FROM outbox WHERE id IN (SELECT id FROM outbox WHERE app_id = ?1 AND kind = ?2 \
         AND kind <> 'broadcast' AND state = ?5 ORDER BY id LIMIT ?4) AND not_before < ?3",
        &[(&target.app_id).into(), (&target.kind).into(), limit.into(), PAGE.into(), state.into()],
    )
}

/// Deletes tries before `limit` and those beyond the newest `max`, a page of each; answers how many.
pub(super) fn delete_attempts(tx: &mut Transaction<'_>, limit: i64, max: i64) -> Result<u64, StorageError> {
    let old = tx.execute(
        "DELETE FROM outbox_attempts WHERE id IN (SELECT id FROM outbox_attempts WHERE started_at < ?1 \
         ORDER BY started_at LIMIT ?2)",
        &[limit.into(), PAGE.into()],
    )?;
    let excess = tx.execute(
        "DELETE FROM outbox_attempts WHERE id IN (SELECT id FROM outbox_attempts \
         WHERE id <= (SELECT MAX(id) FROM outbox_attempts) - ?1 ORDER BY id LIMIT ?2)",
        &[max.into(), PAGE.into()],
    )?;
    Ok(old + excess)
}

fn promote_all(
    tx: &mut Transaction<'_>,
    target: &Target,
    mut lanes: Vec<String>,
    after: Option<&str>,
) -> Result<(), StorageError> {
    lanes.sort_unstable();
    lanes.dedup();
    lanes.iter().try_for_each(|lane| promote(tx, target, lane, after))
}
