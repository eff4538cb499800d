//! The SQL of webhooks: the events themselves, and what they said is there.
//!
//! Both are written in one transaction, so that after a crash it is known what receivers believe: what they
//! were told is there, and does not come back, is told to be gone. Where processes share a store each writes
//! down what is connected to it, and something is there as long as one of them has it.

use std::collections::HashMap;

use serde_json::value::RawValue;

use super::presence::Subject;
use super::told::Told;
use crate::config::WebhookEvent;
use crate::outbox::{Event, Outbox, Target};
use crate::protocol::channel::ChannelName;
use crate::protocol::id::UserId;
use crate::storage::{self, Row, StorageError, Transaction, Value};

/// Most events of one request.
const MAX_BATCH: usize = 100;
/// Most bytes of the events of one request.
const MAX_BATCH_BYTES: usize = 256 * 1024;
/// The lane of batches: they hold events of several channels.
const BATCHES: &str = "batch";
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
    record: Record,
    is_there: bool,
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
        let (app_id, kind, name, user_id) = (row.text(0)?, row.text(1)?, row.text(2)?, row.text(3)?);
        let user = || UserId::member(&user_id).ok();
        let channel = || ChannelName::parse(&name).ok();
        let known = match kind.as_str() {
            "channel" => channel().map(Subject::Channel).map(Known::Subject),
            "member" => {
                channel().zip(user()).map(|(channel, user)| Known::Subject(Subject::Member(channel, user)))
            }
            "user" => user().map(Subject::User).map(Known::Subject),
            _ => Some(Known::Connection(name.clone())),
        };
        let since = row.int(4)?;
        Ok(known.map(|known| {
            let record = match &known {
                Known::Subject(subject) => Self::of(&app_id, subject),
                Known::Connection(socket_id) => Self::of_connection(&app_id, socket_id),
            };
            Orphan { record, known, since }
        }))
    }

    fn delete(&self, tx: &mut Transaction<'_>, node: &str) -> Result<(), StorageError> {
        tx.execute(
            "DELETE FROM webhook_presence \
             WHERE app_id = ?1 AND kind = ?2 AND name = ?3 AND user_id = ?4 AND node = ?5",
            &self.values(node),
        )?;
        Ok(())
    }

    fn values(&self, node: &str) -> [Value; 5] {
        [(&self.app_id).into(), self.kind.into(), (&self.name).into(), (&self.user_id).into(), node.into()]
    }
}

impl Change {
    pub fn of(record: Record, is_there: bool) -> Self {
        Self { record, is_there }
    }

    /// Makes the change; tells whether it is news, because no other process has the same.
    fn make(&self, tx: &mut Transaction<'_>, node: &str, is_shared: bool) -> Result<bool, StorageError> {
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

/// Writes what is to be told, for each webhook that wants it.
pub(super) fn write(outbox: &Outbox, tx: &mut Transaction<'_>, all: &[Told]) -> Result<(), StorageError> {
    let (now, is_shared) = (storage::now(), outbox.database().is_shared());
    if is_shared {
        lock(tx)?;
    }
    let mut batches: HashMap<&Target, Vec<&str>> = HashMap::new();
    for told in all {
        if let Some(change) = &told.change
            && !change.make(tx, outbox.node(), is_shared)?
        {
            continue;
        }
        let Some(event) = told.event else { continue };
        for webhook in &told.app.webhooks {
            if !webhook.wants(event, told.channel.as_ref()) {
                continue;
            }
            let lane = if webhook.is_batching { BATCHES } else { &told.lane };
            // Whoever is yet to be told of a miss learns nothing from a second one.
            if event == WebhookEvent::CacheMiss && is_waiting(tx, &webhook.target, lane, &told.json)? {
                continue;
            }
            if webhook.is_batching {
                batches.entry(&webhook.target).or_default().push(&told.json);
            } else {
                post(outbox, tx, &webhook.target, lane, &[&told.json], now)?;
            }
        }
    }
    for (target, events) in batches {
        for batch in cut(&events) {
            post(outbox, tx, target, BATCHES, batch, now)?;
        }
    }
    Ok(())
}

/// Requests of at most so many events and bytes each.
fn cut<'a, 'b>(events: &'a [&'b str]) -> Vec<&'a [&'b str]> {
    let (mut batches, mut start, mut bytes) = (Vec::new(), 0, 0);
    for (at, event) in events.iter().enumerate() {
        if at > start && (at - start == MAX_BATCH || bytes + event.len() > MAX_BATCH_BYTES) {
            batches.push(&events[start..at]);
            (start, bytes) = (at, 0);
        }
        bytes += event.len() + 1;
    }
    if start < events.len() {
        batches.push(&events[start..]);
    }
    batches
}

fn post(
    outbox: &Outbox,
    tx: &mut Transaction<'_>,
    target: &Target,
    lane: &str,
    events: &[&str],
    now: i64,
) -> Result<(), StorageError> {
    let data = RawValue::from_string(format!("[{}]", events.join(",")))
        .map_err(|error| StorageError::Fault(format!("a webhook can't be written: {error}")))?;
    let event = Event { name: title(events), data, is_list: true, about: None };
    outbox.post(tx, target, lane, &event, now).map(drop)
}

/// Whether a request with this event waits, among the last ones of its lane.
fn is_waiting(
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

/// What lists call a request: its first event, and how many more there are.
fn title(events: &[&str]) -> String {
    #[derive(serde::Deserialize)]
    struct Named {
        name: String,
    }
    let first = events.first().and_then(|event| serde_json::from_str::<Named>(event).ok());
    let first = first.map_or_else(String::new, |event| event.name);
    if events.len() > 1 { format!("{first} and {} more", events.len() - 1) } else { first }
}

/// Deletes records of this process.
pub(super) fn forget(tx: &mut Transaction<'_>, node: &str, records: &[Record]) -> Result<(), StorageError> {
    records.iter().try_for_each(|record| record.delete(tx, node))
}

/// Where processes share a store, what they have in common is read and written by one at a time.
fn lock(tx: &mut Transaction<'_>) -> Result<(), StorageError> {
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

/// How many requests to a webhook wait, how many were given up, and since when the oldest waits. Read from
/// an index alone, however many there are.
pub(super) fn depth(
    tx: &mut Transaction<'_>,
    target: &Target,
) -> Result<(i64, i64, Option<i64>), StorageError> {
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
    Ok((waiting, failed, oldest.map(|row| row.int(0)).transpose()?))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_keep_their_limits_and_lose_nothing() {
        let small = vec!["x"; 250];
        assert_eq!(cut(&small).iter().map(|batch| batch.len()).collect::<Vec<_>>(), [100, 100, 50]);
        let text = "y".repeat(100 * 1024);
        let big = vec![text.as_str(); 5];
        assert_eq!(cut(&big).iter().map(|batch| batch.len()).collect::<Vec<_>>(), [2, 2, 1]);
        let huge = "z".repeat(300 * 1024);
        assert_eq!(cut(&[&huge, "x"]).len(), 2, "one that is too large goes alone");
        assert!(cut(&[]).is_empty());
    }

    #[test]
    fn requests_are_called_by_their_first_event() {
        assert_eq!(title(&[r#"{"name":"cache_miss","channel":"x"}"#]), "cache_miss");
        assert_eq!(title(&[r#"{"name":"a"}"#, "{}", "{}"]), "a and 2 more");
    }
}
