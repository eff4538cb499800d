//! Which jobs may go: looked for number by number, so that however many wait of one number, none of another is hidden.

use std::sync::Arc;

use super::lines::Line;
use super::worker::Due;
use crate::apps::App;
use crate::config::Ordering;
use crate::routing::Router;
use crate::routing::counters::ThrottledBy;
use crate::storage::{self, Row, StorageError, Transaction};

/// How long a job waits before the route of its message is decided anew, in microseconds.
const OLD: i64 = 2_000_000;
/// Jobs looked at in one round of an app, and of one of its numbers.
const LOOK_AHEAD: usize = 256;
const PER_NUMBER: i64 = 64;

/// The job of a number that waits longest.
struct Head {
    number: String,
    job: i64,
}

/// The first jobs of all lanes that wait for nothing but a call, of numbers that may send now.
///
/// # Errors
/// Of the store.
pub(super) async fn find(router: &Router, app: &Arc<App>, line: &Line) -> Result<Vec<Due>, StorageError> {
    let (id, now) = (app.settings.id.clone(), storage::now());
    let heads = router.database().read(move |tx| heads(tx, &id, now)).await?;
    let numbers = may_send(router, app, line, heads, now);
    if numbers.is_empty() {
        return Ok(Vec::new());
    }
    let (id, ordering) = (app.settings.id.clone(), app.settings.routing.telnyx.ordering);
    let read = move |tx: &mut Transaction<'_>| {
        let mut due = Vec::new();
        for number in &numbers {
            due.extend(of_number(tx, (&id, number), ordering, now)?);
            if due.len() >= LOOK_AHEAD {
                break;
            }
        }
        Ok(due)
    };
    router.database().read(read).await
}

/// Numbers with due jobs, those that have waited longest first. Found by hopping through an index.
fn heads(tx: &mut Transaction<'_>, app_id: &str, now: i64) -> Result<Vec<Head>, StorageError> {
    let rows = tx.query(
        "WITH RECURSIVE numbers (number) AS (\
         SELECT MIN(own_number) FROM carrier_jobs WHERE app_id = ?1 AND state = 'waiting' UNION ALL \
         SELECT (SELECT MIN(n.own_number) FROM carrier_jobs n WHERE n.app_id = ?1 AND n.state = 'waiting' \
         AND n.own_number > numbers.number) FROM numbers WHERE numbers.number IS NOT NULL) \
         SELECT numbers.number, j.id FROM numbers JOIN carrier_jobs j ON j.id = (SELECT f.id FROM carrier_jobs f \
         WHERE f.app_id = ?1 AND f.own_number = numbers.number AND f.state = 'waiting' AND f.not_before <= ?2 \
         AND f.locked_by IS NULL ORDER BY f.not_before, f.id LIMIT 1) ORDER BY j.not_before, j.id",
        &[app_id.into(), now.into()],
    )?;
    rows.iter().map(|row| Ok(Head { number: row.text(0)?, job: row.int(1)? })).collect()
}

/// Leaves out numbers that are held and those whose rate is used up. A job that waits for that is counted once.
fn may_send(router: &Router, app: &App, line: &Line, heads: Vec<Head>, now: i64) -> Vec<String> {
    let settings = &app.settings.routing.telnyx;
    let mut state = line.state();
    let waited = std::mem::take(&mut state.rate_waits);
    let mut numbers = Vec::new();
    for head in heads {
        if state.held.is_held(&head.number, now) {
            continue;
        }
        if state.has_number_rate(&head.number, settings) {
            numbers.push(head.number);
            continue;
        }
        if !waited.contains(&head.job) {
            router.counters().count_throttled(&app.settings.id, ThrottledBy::NumberRate);
        }
        state.rate_waits.insert(head.job);
    }
    numbers
}

fn of_number(
    tx: &mut Transaction<'_>,
    (app_id, number): (&str, &str),
    ordering: Ordering,
    now: i64,
) -> Result<Vec<Due>, StorageError> {
    let sql = match ordering {
        Ordering::Strict => {
            "SELECT j.id, j.lane, j.own_number, j.created_at, j.message_id FROM carrier_jobs j WHERE j.app_id = ?1 \
             AND j.own_number = ?4 AND j.state = 'waiting' AND j.not_before <= ?2 AND j.locked_by IS NULL \
             AND NOT EXISTS (SELECT 1 FROM carrier_jobs e \
             WHERE e.app_id = j.app_id AND e.lane = j.lane AND e.state = 'waiting' AND e.id < j.id) \
             ORDER BY j.not_before, j.id LIMIT ?3"
        }
        Ordering::Relaxed => {
            "SELECT j.id, j.lane, j.own_number, j.created_at, j.message_id FROM carrier_jobs j WHERE j.app_id = ?1 \
             AND j.own_number = ?4 AND j.state = 'waiting' AND j.not_before <= ?2 AND j.locked_by IS NULL \
             ORDER BY j.not_before, j.id LIMIT ?3"
        }
    };
    let rows = tx.query(sql, &[app_id.into(), now.into(), PER_NUMBER.into(), number.into()])?;
    let due = |row: &Row| {
        let is_old = now - row.int(3)? > OLD;
        let waited = is_old.then(|| row.int(4)).transpose()?;
        let (id, lane, own_number) = (row.int(0)?, row.text(1)?, row.text(2)?);
        Ok(Due { id, lane, own_number, waited, number_permit: None })
    };
    rows.iter().map(due).collect()
}

#[cfg(test)]
mod tests;
