//! Entries of a version that knew no threads: they get theirs before anything new is taken in.

use std::sync::Arc;

use super::inbound::Inbound;
use super::threads;
use crate::routing::Router;
use crate::routing::carrier::{CarrierEvent, EventType};
use crate::storage::{Row, StorageError, Transaction};

/// Entries of one transaction.
const PAGE: i64 = 500;

/// Finds the threads of entries that have none yet.
///
/// # Errors
/// Of the store.
pub async fn adopt(router: &Router) -> Result<(), StorageError> {
    let mut seen = 0;
    loop {
        let job = router.clone();
        let last = router.database().write(move |tx| {
            // One node at a time; the others find nothing left.
            threads::hold(tx, ["inbox adoption"])?;
            let rows = tx.query(
                "SELECT id, app_id, body FROM inbox WHERE state IN ('pending', 'queued') AND state = 'pending' \
                 AND kind IS NULL AND id > ?1 ORDER BY id LIMIT ?2",
                &[seen.into(), PAGE.into()],
            )?;
            rows.iter().try_for_each(|row| adopt_one(&job, tx, row))?;
            rows.last().map(|row| row.int(0)).transpose()
        });
        match last.await? {
            Some(last) => seen = last,
            None => return Ok(()),
        }
    }
}

fn adopt_one(router: &Router, tx: &mut Transaction<'_>, row: &Row) -> Result<(), StorageError> {
    let (id, app_id) = (row.int(0)?, row.text(1)?);
    // What can't be read is left to the worker, which sets it aside.
    let Ok(event) = row.bytes(2).map_err(drop).and_then(|body| CarrierEvent::parse(&body).map_err(drop))
    else {
        return Ok(());
    };
    let kind = event.event_type.as_str().to_owned();
    let is_inbound = event.event_type == EventType::Received;
    let app = router.inner.hub.app_by_id(&app_id).map(|app| app.app()).filter(|_| is_inbound);
    let inbound = app.and_then(|app: Arc<_>| Inbound::of(router, &app, event));
    if let Some(inbound) = inbound {
        threads::hold(tx, inbound.thread_ids())?;
        threads::enter(tx, &app_id, id, inbound.thread_ids())?;
    }
    tx.execute(
        "UPDATE inbox SET kind = ?2, state = CASE WHEN EXISTS (SELECT 1 FROM inbox_threads mine \
         JOIN inbox_threads before ON before.app_id = mine.app_id AND before.thread = mine.thread \
         AND before.inbox_id < mine.inbox_id WHERE mine.inbox_id = ?1) THEN 'queued' ELSE 'pending' END WHERE id = ?1",
        &[id.into(), kind.into()],
    )?;
    Ok(())
}
