//! The SQL of webhooks: the events themselves, and what they said is there.
//!
//! Both are written in one transaction, so that after a crash it is known what receivers believe: what they
//! were told is there, and does not come back, is told to be gone. Where processes share a store each writes
//! down what is connected to it, and something is there as long as one of them has it.

use super::presence::Subject;
use super::{gaps, writer};
use crate::outbox::Target;
use crate::protocol::channel::ChannelName;
use crate::protocol::id::UserId;
use crate::storage::{self, Row, StorageError, Transaction, Value};

/// Requests of a lane among which one that waits is looked for: a receiver that is away for long may have
/// thousands, and is the last one to slow the store for.
const LOOKED_THROUGH: i64 = 100;

/// A row of what is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub app_id: String,
    kind: &'static str,
    name: String,
    user_id: String,
}

/// What a record is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Known {
    Subject(Subject),
    /// With its socket id.
    Connection(String),
}

/// A change of the records.
#[derive(Clone, Debug)]
pub(super) struct Change {
    pub record: Record,
    pub is_there: bool,
}

/// A record of a process that is gone.
#[derive(Clone, Debug)]
pub(super) struct Orphan {
    pub record: Record,
    pub known: Known,
    /// Microseconds since 1970.
    pub since: i64,
}

impl Record {
    pub fn of(app_id: &str, subject: &Subject) -> Self {
        let (kind, name, user) = match subject {
            Subject::Channel(channel) => ("channel", channel.as_str(), ""),
            Subject::Member(channel, user) => ("member", channel.as_str(), user.as_str()),
            Subject::User(user) => ("user", "", user.as_str()),
        };
        Self { app_id: app_id.to_owned(), kind, name: name.to_owned(), user_id: user.to_owned() }
    }

    pub fn of_connection(app_id: &str, socket_id: &str) -> Self {
        let name = socket_id.to_owned();
        Self { app_id: app_id.to_owned(), kind: "connection", name, user_id: String::new() }
    }

    fn read(row: &Row) -> Result<Option<Orphan>, StorageError> {
        let known = known(&row.text(0)?, &row.text(1)?, &row.text(2)?, &row.text(3)?);
        let since = row.int(4)?;
        Ok(known.map(|(record, known)| Orphan { record, known, since }))
    }

    fn delete(&self, tx: &mut Transaction<'_>, node: &str) -> Result<(), StorageError> {
        tx.execute(
            "DELETE FROM webhook_presence \
             WHERE app_id = ?1 AND kind = ?2 AND name = ?3 AND user_id = ?4 AND node = ?5",
            &self.values(node),
        )?;
        Ok(())
    }

    /// App, kind, name and user.
    pub fn columns(&self) -> [Value; 4] {
        [(&self.app_id).into(), self.kind.into(), (&self.name).into(), (&self.user_id).into()]
    }

    fn values(&self, node: &str) -> [Value; 5] {
        let [app_id, kind, name, user_id] = self.columns();
        [app_id, kind, name, user_id, node.into()]
    }
}

/// What the columns of a record say; `None`: no program of ours wrote them.
pub(super) fn known(app_id: &str, kind: &str, name: &str, user_id: &str) -> Option<(Record, Known)> {
    let user = || UserId::member(user_id).ok();
    let channel = || ChannelName::parse(name).ok();
    let subject = match kind {
        "channel" => Subject::Channel(channel()?),
        "member" => Subject::Member(channel()?, user()?),
        "user" => Subject::User(user()?),
        _ => return Some((Record::of_connection(app_id, name), Known::Connection(name.to_owned()))),
    };
    Some((Record::of(app_id, &subject), Known::Subject(subject)))
}

impl Change {
    pub fn of(record: Record, is_there: bool) -> Self {
        Self { record, is_there }
    }

    /// Makes the change; tells whether it is news, because no other process has the same.
    pub fn make(&self, tx: &mut Transaction<'_>, node: &str, is_shared: bool) -> Result<bool, StorageError> {
        let values = self.record.values(node);
        if self.is_there {
            tx.execute(
                "INSERT INTO webhook_presence (app_id, kind, name, user_id, node, since) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT DO NOTHING",
                &[&values[..], &[storage::now().into()]].concat(),
            )?;
        } else {
            self.record.delete(tx, node)?;
        }
        if !is_shared {
            return Ok(true);
        }
        let other = tx.query_one(
            "SELECT 1 FROM webhook_presence \
             WHERE app_id = ?1 AND kind = ?2 AND name = ?3 AND user_id = ?4 AND node <> ?5 LIMIT 1",
            &values,
        )?;
        Ok(other.is_none())
    }
}

/// Whether a request with this event waits, among the last ones of its lane.
pub(super) fn is_waiting(
    tx: &mut Transaction<'_>,
    target: &Target,
    lane: &str,
    event: &str,
) -> Result<bool, StorageError> {
    // SQLite and PostgreSQL have no other function in common that finds a text as it is.
    let row = tx.query_one(
        "SELECT 1 FROM (SELECT payload FROM outbox WHERE app_id = ?1 AND kind = ?2 AND lane = ?3 \
         AND kind <> 'broadcast' AND state IN ('pending', 'queued') ORDER BY id DESC LIMIT ?5) AS waiting \
         WHERE REPLACE(payload, ?4, '') <> payload LIMIT 1",
        &[(&target.app_id).into(), (&target.kind).into(), lane.into(), event.into(), LOOKED_THROUGH.into()],
    )?;
    Ok(row.is_some())
}

/// Whether something is there, on whichever process.
pub(super) fn is_there(tx: &mut Transaction<'_>, record: &Record) -> Result<bool, StorageError> {
    let row = tx.query_one(
        "SELECT 1 FROM webhook_presence WHERE app_id = ?1 AND kind = ?2 AND name = ?3 AND user_id = ?4 LIMIT 1",
        &record.columns(),
    )?;
    Ok(row.is_some())
}

/// Deletes records of this process.
pub(super) fn forget(tx: &mut Transaction<'_>, node: &str, records: &[Record]) -> Result<(), StorageError> {
    records.iter().try_for_each(|record| record.delete(tx, node))
}

/// Where processes share a store, what they have in common is read and written by one at a time.
pub(super) fn lock(tx: &mut Transaction<'_>) -> Result<(), StorageError> {
    tx.execute("UPDATE webhook_nodes SET beats = beats WHERE node = ''", &[]).map(drop)
}

/// Gives a sign of life; tells whether the one before was still there. If not, others believe that this
/// process is gone and have taken over what it wrote.
pub(super) fn beat(tx: &mut Transaction<'_>, node: &str) -> Result<bool, StorageError> {
    let known = tx.execute("UPDATE webhook_nodes SET beats = beats + 1 WHERE node = ?1", &[node.into()])? > 0;
    if !known {
        tx.execute("INSERT INTO webhook_nodes (node, beats) VALUES (?1, 1)", &[node.into()])?;
    }
    Ok(known)
}

/// This process ends: what it leaves is taken over at once.
pub(super) fn end(tx: &mut Transaction<'_>, node: &str) -> Result<(), StorageError> {
    tx.execute("DELETE FROM webhook_nodes WHERE node = ?1", &[node.into()]).map(drop)
}

/// Other processes that wrote something, and how many signs of life each gave; `None`: it ended.
pub(super) fn others(
    tx: &mut Transaction<'_>,
    node: &str,
) -> Result<Vec<(String, Option<i64>)>, StorageError> {
    let rows = tx.query(
        "SELECT DISTINCT p.node, n.beats FROM webhook_presence AS p LEFT JOIN webhook_nodes AS n ON n.node = p.node \
         WHERE p.node <> ?1",
        &[node.into()],
    )?;
    rows.iter().map(|row| Ok((row.text(0)?, row.optional_int(1)?))).collect()
}

/// Takes over what processes left that are gone: members before their channels, as they are told to be gone.
pub(super) fn adopt(
    tx: &mut Transaction<'_>,
    node: &str,
    dead: &[String],
) -> Result<Vec<Orphan>, StorageError> {
    lock(tx)?;
    let mut orphans = Vec::new();
    for dead in dead {
        let values = [node.into(), dead.into()];
        tx.execute(
            "DELETE FROM webhook_presence WHERE node = ?2 AND EXISTS (SELECT 1 FROM webhook_presence AS own \
             WHERE own.app_id = webhook_presence.app_id AND own.kind = webhook_presence.kind \
             AND own.name = webhook_presence.name AND own.user_id = webhook_presence.user_id AND own.node = ?1)",
            &values,
        )?;
        let rows = tx.query(
            "UPDATE webhook_presence SET node = ?1 WHERE node = ?2 RETURNING app_id, kind, name, user_id, since",
            &values,
        )?;
        for row in &rows {
            orphans.extend(Record::read(row)?);
        }
        tx.execute("DELETE FROM webhook_nodes WHERE node = ?1", &values[1..])?;
    }
    orphans.sort_by_key(|orphan| orphan.record.kind == "channel");
    Ok(orphans)
}

/// What is stored of a webhook.
#[derive(Clone, Copy, Debug)]
pub(super) struct Depth {
    /// Requests that wait, and that were given up.
    pub waiting: i64,
    pub failed: i64,
    /// Since when the oldest waits.
    pub oldest: Option<i64>,
    /// Comings that are to be told when there is room.
    pub held_back: i64,
    /// Events that found no room.
    pub dropped: i64,
}

/// How a webhook stands. Read from indices alone, however much there is.
pub(super) fn depth(tx: &mut Transaction<'_>, target: &Target) -> Result<Depth, StorageError> {
    let of_target = [(&target.app_id).into(), (&target.kind).into()];
    let mut count = |state: &'static str| {
        let values = [&of_target[..], &[state.into()]].concat();
        let row = tx.query_one(
            "SELECT COUNT(*) FROM outbox WHERE app_id = ?1 AND kind = ?2 AND kind <> 'broadcast' AND state = ?3",
            &values,
        )?;
        row.map_or(Ok(0), |row| row.int(0))
    };
    let (waiting, failed) = (count("pending")? + count("queued")?, count("failed")?);
    let oldest = tx.query_one(
        "SELECT created_at FROM outbox WHERE app_id = ?1 AND kind = ?2 AND kind <> 'broadcast' \
         AND state = 'pending' ORDER BY id LIMIT 1",
        &of_target,
    )?;
    let oldest = oldest.map(|row| row.int(0)).transpose()?;
    let (held_back, dropped) = (gaps::count(tx, target)?, writer::dropped(tx, target)?);
    Ok(Depth { waiting, failed, oldest, held_back, dropped })
}

/// Names under which requests wait, by app.
pub(super) fn targets(tx: &mut Transaction<'_>) -> Result<Vec<Target>, StorageError> {
    let rows = tx.query(
        "SELECT DISTINCT app_id, kind FROM outbox WHERE kind > 'webhook:' AND kind < 'webhook;' \
         AND state IN ('pending', 'queued') AND kind <> 'broadcast'",
        &[],
    )?;
    rows.iter().map(|row| Ok(Target { app_id: row.text(0)?, kind: row.text(1)? })).collect()
}
