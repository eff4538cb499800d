//! Writes what webhooks are to be told, each event for every webhook that wants it and as far as there is room.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use serde_json::value::RawValue;

use super::endpoints::{AppWebhooks, Webhook};
use super::gaps::{self, Why};
use super::presence::Subject;
use super::records::{self, Known, Record};
use super::room::{Room, Rooms, Shares};
use super::told::Told;
use crate::config::WebhookEvent;
use crate::outbox::{Event, Lane, Outbox, Target};
use crate::storage::{self, StorageError, Transaction};

/// Most events of one request.
const MAX_BATCH: usize = 100;
/// Most bytes of the events of one request.
const MAX_BATCH_BYTES: usize = 256 * 1024;
/// The lanes of batches, which hold events of several channels: of those that everybody may use, and the others.
const BATCHES: [&str; 2] = ["batch", "batch of public channels"];
/// Comings that are told at once when there is room again.
const CATCH_UP: i64 = 200;
/// Requests that are counted at once.
const PAGE: i64 = 10_000;

/// Writes what is to be told, for each webhook that wants it.
pub(super) fn write(
    outbox: &Outbox,
    tx: &mut Transaction<'_>,
    all: &[Told],
    rooms: &Mutex<Rooms>,
) -> Result<(), StorageError> {
    let is_shared = outbox.database().is_shared();
    if is_shared {
        records::lock(tx)?;
    }
    let mut writer = Writer::new(outbox, tx, rooms);
    for told in all {
        if let Some(change) = &told.change
            && !change.make(writer.tx, outbox.node(), is_shared)?
        {
            continue;
        }
        let Some(event) = told.event else { continue };
        for webhook in &told.app.webhooks {
            if webhook.wants(event, told.channel.as_ref()) {
                writer.tell(webhook, event, told)?;
            }
        }
    }
    writer.finish()
}

/// Tells a webhook of what is there and found no room when it came; answers the last one that was looked at, if
/// there may be more.
pub(super) fn catch_up(
    outbox: &Outbox,
    tx: &mut Transaction<'_>,
    app: &std::sync::Arc<AppWebhooks>,
    webhook: &Webhook,
    after: Option<&Record>,
    rooms: &Mutex<Rooms>,
) -> Result<Option<Record>, StorageError> {
    if outbox.database().is_shared() {
        records::lock(tx)?;
    }
    let held = gaps::list(tx, &webhook.target, after, CATCH_UP)?;
    let has_more = held.len() as i64 == CATCH_UP;
    let mut came = Vec::with_capacity(held.len());
    for (record, known, origin) in &held {
        // Nobody noticed its end while the webhook was not configured.
        if !records::is_there(tx, record)? {
            gaps::take(tx, &webhook.target, Why::NoRoom, record)?;
            continue;
        }
        let mut told = match known {
            Known::Subject(subject) => Told::presence(app, subject, true),
            Known::Connection(socket_id) => Told::connection_opened(app, socket_id),
        };
        told.owners.origin = *origin;
        // Other settings may not want it any more.
        if told.event.is_some_and(|event| webhook.wants(event, told.channel.as_ref())) {
            came.push((record, told));
        } else {
            gaps::take(tx, &webhook.target, Why::NoRoom, record)?;
        }
    }
    let mut writer = Writer::new(outbox, tx, rooms);
    for (record, told) in &came {
        if writer.admits(webhook, told) && !writer.is_of_unknown_channel(webhook, told)? {
            gaps::take(writer.tx, &webhook.target, Why::NoRoom, record)?;
            writer.put(webhook, told)?;
        }
    }
    writer.finish()?;
    Ok(held.into_iter().last().map(|(record, ..)| record).filter(|_| has_more))
}

/// Counts what waits for a webhook.
pub(super) fn count(tx: &mut Transaction<'_>, target: &Target) -> Result<Room, StorageError> {
    let started = Instant::now();
    let (mut room, mut after) = (Room::default(), 0);
    loop {
        let rows = tx.query(
            "SELECT outbox_id, is_public, shares FROM webhook_waiting WHERE app_id = ?1 AND target = ?2 \
             AND outbox_id > ?3 ORDER BY outbox_id LIMIT ?4",
            &[(&target.app_id).into(), (&target.kind).into(), after.into(), PAGE.into()],
        )?;
        for row in &rows {
            after = row.int(0)?;
            room.add_stored(row.flag(1)?, &row.text(2)?);
        }
        if (rows.len() as i64) < PAGE {
            let now = Instant::now();
            return Ok(room.counted(now, now.duration_since(started)));
        }
    }
}

/// Rows of requests that do not wait any more: their end was not noticed, because no app had webhooks then.
pub(super) fn forget_settled(tx: &mut Transaction<'_>) -> Result<(), StorageError> {
    tx.execute(
        "DELETE FROM webhook_waiting WHERE NOT EXISTS (SELECT 1 FROM outbox WHERE outbox.id = webhook_waiting.outbox_id \
         AND outbox.state IN ('pending', 'queued'))",
        &[],
    )
    .map(drop)
}

/// A request does not wait any more.
pub(super) fn settled(tx: &mut Transaction<'_>, target: &Target, id: i64) -> Result<(), StorageError> {
    tx.execute(
        "DELETE FROM webhook_waiting WHERE app_id = ?1 AND target = ?2 AND outbox_id = ?3",
        &[(&target.app_id).into(), (&target.kind).into(), id.into()],
    )
    .map(drop)
}

/// How many events found no room, since the store was made.
pub(super) fn dropped(tx: &mut Transaction<'_>, target: &Target) -> Result<i64, StorageError> {
    let row = tx.query_one(
        "SELECT events FROM webhook_dropped WHERE app_id = ?1 AND target = ?2",
        &[(&target.app_id).into(), (&target.kind).into()],
    )?;
    row.map_or(Ok(0), |row| row.int(0))
}

/// Events of one webhook that go out together.
type Batches<'a> = HashMap<(&'a Target, bool), Vec<&'a Told>>;

/// One transaction's work.
struct Writer<'a, 't, 'c> {
    outbox: &'a Outbox,
    tx: &'t mut Transaction<'c>,
    rooms: MutexGuard<'a, Rooms>,
    batches: Batches<'a>,
    dropped: HashMap<&'a Target, i64>,
    now: i64,
}

impl<'a, 't, 'c> Writer<'a, 't, 'c> {
    fn new(outbox: &'a Outbox, tx: &'t mut Transaction<'c>, rooms: &'a Mutex<Rooms>) -> Self {
        let rooms = rooms.lock().unwrap_or_else(PoisonError::into_inner);
        Self { outbox, tx, rooms, batches: HashMap::new(), dropped: HashMap::new(), now: storage::now() }
    }

    fn tell(
        &mut self,
        webhook: &'a Webhook,
        event: WebhookEvent,
        told: &'a Told,
    ) -> Result<(), StorageError> {
        // Whoever is yet to be told of a miss learns nothing from a second one.
        if event == WebhookEvent::CacheMiss
            && records::is_waiting(self.tx, &webhook.target, lane(webhook, told), &told.json)?
        {
            return Ok(());
        }
        match &told.change {
            Some(change) if change.is_there => self.tell_came(webhook, &change.record, told),
            Some(change) => self.tell_left(webhook, &change.record, told),
            None if self.admits(webhook, told) => self.put(webhook, told),
            None => {
                self.drop(webhook, 1);
                Ok(())
            }
        }
    }

    fn tell_came(
        &mut self,
        webhook: &'a Webhook,
        record: &Record,
        told: &'a Told,
    ) -> Result<(), StorageError> {
        if self.admits(webhook, told) && !self.is_of_unknown_channel(webhook, told)? {
            // Another process may have found no room for it.
            if self.may_have_gaps(webhook) {
                gaps::take(self.tx, &webhook.target, Why::NoRoom, record)?;
            }
            return self.put(webhook, told);
        }
        self.rooms.of(&webhook.target).has_gaps = true;
        gaps::add(self.tx, &webhook.target, Why::NoRoom, record, true, told.owners.origin)
    }

    /// Whether it is of a member of a channel that the receiver does not know of: the channel comes first.
    fn is_of_unknown_channel(&mut self, webhook: &Webhook, told: &Told) -> Result<bool, StorageError> {
        let Some(channel) = told.channel.as_ref().filter(|_| told.event == Some(WebhookEvent::MemberAdded))
        else {
            return Ok(false);
        };
        if !self.may_have_gaps(webhook) {
            return Ok(false);
        }
        let channel = Record::of(&told.app.id, &Subject::Channel(channel.clone()));
        gaps::has(self.tx, &webhook.target, &channel)
    }

    /// Always finds room, because it had it when it came.
    fn tell_left(
        &mut self,
        webhook: &'a Webhook,
        record: &Record,
        told: &'a Told,
    ) -> Result<(), StorageError> {
        if self.may_have_gaps(webhook) && gaps::take(self.tx, &webhook.target, Why::NoRoom, record)?.is_some()
        {
            // The receiver hears neither that it came nor that it is gone.
            self.drop(webhook, 2);
            return Ok(());
        }
        self.put(webhook, told)
    }

    /// Where other processes write, too, they may have found no room.
    fn may_have_gaps(&mut self, webhook: &Webhook) -> bool {
        self.outbox.database().is_shared() || self.rooms.of(&webhook.target).has_gaps
    }

    fn admits(&mut self, webhook: &Webhook, told: &Told) -> bool {
        self.rooms.of(&webhook.target).admits(told.owners, &webhook.limits)
    }

    fn drop(&mut self, webhook: &'a Webhook, events: i64) {
        *self.dropped.entry(&webhook.target).or_default() += events;
        self.rooms.of(&webhook.target).dropped += events as u64;
    }

    fn put(&mut self, webhook: &'a Webhook, told: &'a Told) -> Result<(), StorageError> {
        let is_public = told.owners.is_public;
        self.rooms.of(&webhook.target).add_event(told.owners);
        if webhook.is_batching {
            self.batches.entry((&webhook.target, is_public)).or_default().push(told);
            return Ok(());
        }
        self.post(&webhook.target, Lane { name: &told.lane, is_public }, &[told])
    }

    fn finish(mut self) -> Result<(), StorageError> {
        for ((target, is_public), events) in std::mem::take(&mut self.batches) {
            let lane = Lane { name: BATCHES[usize::from(is_public)], is_public };
            for batch in cut(&events, |told| told.json.len()) {
                self.post(target, lane, batch)?;
            }
        }
        for (target, events) in std::mem::take(&mut self.dropped) {
            self.tx.execute(
                "INSERT INTO webhook_dropped (app_id, target, events) VALUES (?1, ?2, ?3) \
                 ON CONFLICT (app_id, target) DO UPDATE SET events = webhook_dropped.events + ?3",
                &[(&target.app_id).into(), (&target.kind).into(), events.into()],
            )?;
        }
        Ok(())
    }

    fn post(&mut self, target: &Target, lane: Lane<'_>, events: &[&Told]) -> Result<(), StorageError> {
        let texts: Vec<&str> = events.iter().map(|told| told.json.as_str()).collect();
        let data = list(&texts)?;
        let event = Event { name: title(&texts), data, is_list: true, about: None };
        let id = self.outbox.post(self.tx, target, lane, &event, self.now)?;
        let mut shares = Shares::default();
        events.iter().for_each(|told| shares.add(told.owners));
        self.rooms.of(target).add_request(lane.is_public);
        self.tx.execute(
            "INSERT INTO webhook_waiting (app_id, target, outbox_id, is_public, shares) VALUES (?1, ?2, ?3, ?4, ?5)",
            &[
                (&target.app_id).into(),
                (&target.kind).into(),
                id.into(),
                lane.is_public.into(),
                shares.write().into(),
            ],
        )?;
        Ok(())
    }
}

fn lane<'a>(webhook: &Webhook, told: &'a Told) -> &'a str {
    if webhook.is_batching { BATCHES[usize::from(told.owners.is_public)] } else { &told.lane }
}

/// Events as they go out.
pub(super) fn list(events: &[&str]) -> Result<Box<RawValue>, StorageError> {
    RawValue::from_string(format!("[{}]", events.join(",")))
        .map_err(|error| StorageError::Fault(format!("a webhook can't be written: {error}")))
}

/// Requests of at most so many events and bytes each.
fn cut<T>(events: &[T], size: impl Fn(&T) -> usize) -> Vec<&[T]> {
    let (mut batches, mut start, mut bytes) = (Vec::new(), 0, 0);
    for (at, event) in events.iter().enumerate() {
        let size = size(event);
        if at > start && (at - start == MAX_BATCH || bytes + size > MAX_BATCH_BYTES) {
            batches.push(&events[start..at]);
            (start, bytes) = (at, 0);
        }
        bytes += size + 1;
    }
    if start < events.len() {
        batches.push(&events[start..]);
    }
    batches
}

/// What lists call a request: its first event, and how many more there are.
pub(super) fn title(events: &[&str]) -> String {
    #[derive(serde::Deserialize)]
    struct Named {
        name: String,
    }
    let first = events.first().and_then(|event| serde_json::from_str::<Named>(event).ok());
    let first = first.map_or_else(String::new, |event| event.name);
    if events.len() > 1 { format!("{first} and {} more", events.len() - 1) } else { first }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_keep_their_limits_and_lose_nothing() {
        let lengths = |texts: &[&str]| {
            cut(texts, |text| text.len()).iter().map(|batch| batch.len()).collect::<Vec<_>>()
        };
        assert_eq!(lengths(&["x"; 250]), [100, 100, 50]);
        let text = "y".repeat(100 * 1024);
        assert_eq!(lengths(&[text.as_str(); 5]), [2, 2, 1]);
        let huge = "z".repeat(300 * 1024);
        assert_eq!(lengths(&[&huge, "x"]), [1, 1], "one that is too large goes alone");
        assert!(lengths(&[]).is_empty());
    }

    #[test]
    fn requests_are_called_by_their_first_event() {
        assert_eq!(title(&[r#"{"name":"cache_miss","channel":"x"}"#]), "cache_miss");
        assert_eq!(title(&[r#"{"name":"a"}"#, "{}", "{}"]), "a and 2 more");
    }
}
