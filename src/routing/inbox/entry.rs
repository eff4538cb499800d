//! Rows of the inbox.

use bytes::Bytes;

use crate::storage::{self, Row, StorageError, Transaction};

/// Where an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// To be processed when its time comes.
    Pending,
    /// Behind another one of its thread.
    Queued,
    /// Processed.
    Done,
    /// Nothing can be done with it.
    SetAside,
    /// Of a kind that does nothing here.
    Noted,
}

/// A webhook to be stored.
pub struct NewEntry {
    pub app_id: String,
    /// `data.id`, by which repeats are told.
    pub event_id: String,
    /// `data.event_type`; empty if it can't be read.
    pub kind: String,
    pub body: Bytes,
}

/// A stored event that is to be processed.
pub struct Entry {
    pub id: i64,
    pub app_id: String,
    pub body: Vec<u8>,
    pub received_at: i64,
    /// How often it failed for no reason outside of it.
    pub failures: i64,
}

impl State {
    /// As it is stored.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Queued => "queued",
            Self::Done => "done",
            Self::SetAside => "set_aside",
            Self::Noted => "noted",
        }
    }
}

impl NewEntry {
    /// Stores it with this body. `Ok(None)`: it is there already.
    pub fn insert(
        &self,
        tx: &mut Transaction<'_>,
        body: &[u8],
        state: State,
        reason: Option<&str>,
        now: i64,
    ) -> Result<Option<i64>, StorageError> {
        tx.insert(
            "INSERT INTO inbox (app_id, event_id, kind, body, state, reason, attempts, not_before, locked_until, \
             received_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, 0, ?7, 0, ?7) ON CONFLICT DO NOTHING",
            &[
                (&self.app_id).into(),
                (&self.event_id).into(),
                (&self.kind).into(),
                body.to_vec().into(),
                state.as_str().into(),
                reason.into(),
                now.into(),
            ],
        )
    }
}

impl Entry {
    fn read(row: &Row) -> Result<Self, StorageError> {
        Ok(Self {
            id: row.int(0)?,
            app_id: row.text(1)?,
            body: row.bytes(2)?,
            received_at: row.int(3)?,
            failures: row.int(4)?,
        })
    }
}

/// Apps that have entries to be processed, found by hopping through an index.
pub fn apps(tx: &mut Transaction<'_>) -> Result<Vec<String>, StorageError> {
    let mut apps: Vec<String> = Vec::new();
    loop {
        let row = tx.query_one(
            "SELECT app_id FROM inbox WHERE state = 'pending' AND app_id > ?1 ORDER BY app_id LIMIT 1",
            &[apps.last().map_or("", String::as_str).into()],
        )?;
        let Some(row) = row else { return Ok(apps) };
        apps.push(row.text(0)?);
    }
}

/// An app's entries whose time has come, those that have waited longest first; of one that can't be read its id.
pub fn due(
    tx: &mut Transaction<'_>,
    app_id: &str,
    limit: i64,
) -> Result<Vec<Result<Entry, i64>>, StorageError> {
    let rows = tx.query(
        "SELECT id, app_id, body, received_at, attempts FROM inbox WHERE app_id = ?1 AND state = 'pending' \
         AND not_before <= ?2 ORDER BY not_before, id LIMIT ?3",
        &[app_id.into(), storage::now().into(), limit.into()],
    )?;
    let read = |row: &Row| match Entry::read(row) {
        Ok(entry) => Ok(Ok(entry)),
        Err(_) => row.int(0).map(Err),
    };
    rows.iter().map(read).collect()
}

/// Whether an entry still waits; nobody else gets it until the transaction ends.
pub fn is_pending(tx: &mut Transaction<'_>, id: i64) -> Result<bool, StorageError> {
    let row = tx.query_one(
        "SELECT id FROM inbox WHERE id = ?1 AND state = 'pending' /* FOR UPDATE */",
        &[id.into()],
    )?;
    Ok(row.is_some())
}

/// Moves an entry that waits into another state. `at`: from when on it is due, or was set aside.
pub fn settle(
    tx: &mut Transaction<'_>,
    id: i64,
    state: State,
    reason: Option<&str>,
    at: i64,
) -> Result<(), StorageError> {
    tx.execute(
        "UPDATE inbox SET state = ?2, reason = ?3, not_before = ?4 WHERE id = ?1",
        &[id.into(), state.as_str().into(), reason.into(), at.into()],
    )?;
    Ok(())
}

/// Has an entry tried again later. `has_failed`: for no reason outside of it.
pub fn put_off(
    tx: &mut Transaction<'_>,
    id: i64,
    reason: &str,
    until: i64,
    has_failed: bool,
) -> Result<(), StorageError> {
    tx.execute(
        "UPDATE inbox SET not_before = ?2, reason = ?3, attempts = attempts + ?4 WHERE id = ?1 AND state = 'pending'",
        &[id.into(), until.into(), reason.into(), has_failed.into()],
    )?;
    Ok(())
}
