//! What a receiver was not told of comings and goings, so that it does not hear the opposite either: nobody is
//! removed who was not added, and nobody is added twice.
//!
//! There are gaps of two kinds. For lack of *room* nothing was written: that something came is told as soon as
//! there is room, unless it left before. What was *given up* after its time had been written, and others of the
//! same subject may wait behind it: they are looked at when they go out.

use super::records::{Known, Record, known};
use super::room::Share;
use crate::outbox::Target;
use crate::storage::{self, StorageError, Transaction, Value};

/// How long it is remembered that something was given up.
const KEEP: i64 = 7 * 24 * 3_600_000_000;

/// Why a receiver was not told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    NoRoom,
    GivenUp,
}

fn values(target: &Target, why: Why, record: &Record) -> [Value; 6] {
    let [_, kind, name, user_id] = record.columns();
    [
        (&target.app_id).into(),
        (&target.kind).into(),
        i64::from(why == Why::GivenUp).into(),
        kind,
        name,
        user_id,
    ]
}

/// A receiver is not told that something came or is gone. `origin` has a share of the room, if it is known.
pub(super) fn add(
    tx: &mut Transaction<'_>,
    target: &Target,
    why: Why,
    record: &Record,
    is_there: bool,
    origin: Option<Share>,
) -> Result<(), StorageError> {
    let share = origin.map_or_else(String::new, Share::text);
    let more = [i64::from(is_there).into(), share.into(), storage::now().into()];
    tx.execute(
        "INSERT INTO webhook_gaps (app_id, target, is_given_up, kind, name, user_id, is_there, share, since) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) ON CONFLICT DO NOTHING",
        &[&values(target, why, record)[..], &more].concat(),
    )
    .map(drop)
}

/// What a receiver was not told last of something, which is forgotten: that it came, or is gone.
pub(super) fn take(
    tx: &mut Transaction<'_>,
    target: &Target,
    why: Why,
    record: &Record,
) -> Result<Option<bool>, StorageError> {
    let row = tx.query_one(
        "DELETE FROM webhook_gaps WHERE app_id = ?1 AND target = ?2 AND is_given_up = ?3 AND kind = ?4 AND name = ?5 \
         AND user_id = ?6 RETURNING is_there",
        &values(target, why, record),
    )?;
    row.map(|row| row.flag(0)).transpose()
}

/// Whether there was no room to tell a receiver that something came.
pub(super) fn has(tx: &mut Transaction<'_>, target: &Target, record: &Record) -> Result<bool, StorageError> {
    let row = tx.query_one(
        "SELECT 1 FROM webhook_gaps WHERE app_id = ?1 AND target = ?2 AND is_given_up = ?3 AND kind = ?4 AND name = ?5 \
         AND user_id = ?6",
        &values(target, Why::NoRoom, record),
    )?;
    Ok(row.is_some())
}

/// Whether a receiver lacks something.
pub(super) fn has_any(tx: &mut Transaction<'_>, target: &Target, why: Why) -> Result<bool, StorageError> {
    let row = tx.query_one(
        "SELECT 1 FROM webhook_gaps WHERE app_id = ?1 AND target = ?2 AND is_given_up = ?3 LIMIT 1",
        &[(&target.app_id).into(), (&target.kind).into(), i64::from(why == Why::GivenUp).into()],
    )?;
    Ok(row.is_some())
}

/// Comings that found no room, behind one of them, and who has the share that they take: channels before their members.
pub(super) fn list(
    tx: &mut Transaction<'_>,
    target: &Target,
    after: Option<&Record>,
    limit: i64,
) -> Result<Vec<(Record, Known, Option<Share>)>, StorageError> {
    let [_, kind, name, user_id] = after.map_or_else(|| ["", "", "", ""].map(Value::from), Record::columns);
    let rows = tx.query(
        "SELECT kind, name, user_id, share FROM webhook_gaps WHERE app_id = ?1 AND target = ?2 AND is_given_up = 0 \
         AND (kind, name, user_id) > (?3, ?4, ?5) ORDER BY kind, name, user_id LIMIT ?6",
        &[(&target.app_id).into(), (&target.kind).into(), kind, name, user_id, limit.into()],
    )?;
    let mut found = Vec::new();
    for row in &rows {
        let origin = Share::parse(&row.text(3)?);
        let known = known(&target.app_id, &row.text(0)?, &row.text(1)?, &row.text(2)?);
        found.extend(known.map(|(record, known)| (record, known, origin)));
    }
    Ok(found)
}

/// How many comings found no room and are still to be told.
pub(super) fn count(tx: &mut Transaction<'_>, target: &Target) -> Result<i64, StorageError> {
    let row = tx.query_one(
        "SELECT COUNT(*) FROM webhook_gaps WHERE app_id = ?1 AND target = ?2 AND is_given_up = 0",
        &[(&target.app_id).into(), (&target.kind).into()],
    )?;
    row.map_or(Ok(0), |row| row.int(0))
}

/// Forgets what was given up long ago.
pub(super) fn forget_old(tx: &mut Transaction<'_>) -> Result<(), StorageError> {
    tx.execute(
        "DELETE FROM webhook_gaps WHERE is_given_up = 1 AND since < ?1",
        &[(storage::now() - KEEP).into()],
    )
    .map(drop)
}
