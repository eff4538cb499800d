//! Broadcasts: events for connected clients.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::held::Held;
use super::latency::Latencies;
use super::{About, LEASE, Outbox, no_id};
use crate::hub::{Hub, Mark};
use crate::protocol::channel::ChannelName;
use crate::protocol::id::SocketId;
use crate::protocol::json;
use crate::storage::{self, Row, StorageError, Transaction};

/// How often rows that were performed are deleted, and left-over rows looked for.
const SWEEP: Duration = Duration::from_millis(250);
/// Pause before a broadcast that found no room is tried again.
const PAUSE: Duration = Duration::from_millis(20);
/// Rows read at once.
const PAGE: i64 = 500;
/// Bytes of the broadcasts that line up. What comes beyond them is read from its row when its turn comes.
const MAX_LINED_UP: usize = if cfg!(test) { 16 << 10 } else { 32 << 20 };

/// Events that belong together, published in this order.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Broadcast {
    /// The events.
    pub publications: Vec<Publication>,
    /// The connection that must not get them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub except: Option<String>,
    /// Microseconds since 1970 after which they are not sent any more.
    pub expires_at: i64,
    /// Rows of callbacks that must be tried first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<i64>,
    /// When the call came that it follows from, if its time is to be measured. Of this process only.
    #[serde(skip)]
    pub called_at: Option<Instant>,
}

/// One event.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Publication {
    /// Where to.
    pub channel: String,
    /// Its name on the wire.
    pub event: String,
    /// Its data, which goes out as a JSON string.
    pub data: Box<RawValue>,
    /// What it is about, where callbacks' answers may change what that is called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub about: Option<About>,
}

/// A row to be performed.
#[derive(Debug)]
pub(super) struct Entry {
    pub id: i64,
    pub app_id: String,
    pub lane: String,
    pub broadcast: Broadcast,
}

/// What lines up while there is no room.
enum LinedUp {
    Entry(Entry),
    /// Its row has it.
    Row(i64),
}

/// The state of this process.
pub(super) struct Broadcasts {
    hub: Hub,
    held: Held,
    /// Entries that could not be performed at once; while there are any, the others line up behind.
    waiting: AtomicUsize,
    /// Bytes of those that are no mere rows.
    lined_up: AtomicUsize,
    sender: UnboundedSender<LinedUp>,
    receiver: Mutex<Option<UnboundedReceiver<LinedUp>>>,
    done: Mutex<Vec<i64>>,
    /// Rows that this process has in hand, from the commit until they are deleted. Any other in its name was
    /// committed although the store could not say so, or what follows the commit failed.
    in_hand: Mutex<HashSet<i64>>,
    /// Clients are leaving: what is performed now is kept for the next start as well.
    is_ending: AtomicBool,
    published: AtomicU64,
    expired: AtomicU64,
    latencies: Latencies,
}

impl Entry {
    /// Memory that it takes, about.
    fn bytes(&self) -> usize {
        let of_publication = |it: &Publication| {
            size_of::<Publication>() + it.channel.len() + it.event.len() + it.data.get().len()
        };
        let publications: usize = self.broadcast.publications.iter().map(of_publication).sum();
        size_of::<Self>() + self.app_id.len() + self.lane.len() + publications
    }
}

impl Broadcasts {
    pub(super) fn new(hub: Hub, hold: Duration) -> Self {
        let (sender, receiver) = unbounded_channel();
        Self {
            hub,
            held: Held::new(hold),
            waiting: AtomicUsize::new(0),
            lined_up: AtomicUsize::new(0),
            sender,
            receiver: Mutex::new(Some(receiver)),
            done: Mutex::default(),
            in_hand: Mutex::default(),
            is_ending: AtomicBool::new(false),
            published: AtomicU64::new(0),
            expired: AtomicU64::new(0),
            latencies: Latencies::default(),
        }
    }

    /// The hub, and how many broadcasts line up, with their bytes.
    #[cfg(test)]
    pub(super) fn line_for_test(&self) -> (&Hub, usize, usize) {
        (&self.hub, self.waiting.load(Ordering::Relaxed), self.lined_up.load(Ordering::Relaxed))
    }

    pub(super) fn held(&self) -> &Held {
        &self.held
    }

    /// Events published and broadcasts that were too old.
    pub(super) fn counts(&self) -> (u64, u64) {
        (self.published.load(Ordering::Relaxed), self.expired.load(Ordering::Relaxed))
    }

    pub(super) fn latencies(&self) -> &Latencies {
        &self.latencies
    }

    /// Whether a row was not in hand before, and is now.
    fn take(&self, id: i64) -> bool {
        self.in_hand.lock().unwrap_or_else(PoisonError::into_inner).insert(id)
    }

    /// Performs an entry, now or when its callbacks were tried.
    fn accept(&self, entry: Entry) {
        if !self.take(entry.id) {
            return;
        }
        if let Some(entry) = self.held.keep(entry) {
            self.accept_now(entry);
        }
    }

    /// Performs an entry, or lines it up.
    pub(super) fn accept_now(&self, entry: Entry) {
        if self.waiting.load(Ordering::Acquire) == 0 && self.perform(&entry) {
            return;
        }
        self.waiting.fetch_add(1, Ordering::AcqRel);
        if self.sender.send(self.line_up(entry)).is_err() {
            tracing::error!("bug: the outbox does not run, so a broadcast waits for the next start");
        }
    }

    /// An entry in the line, or its row when the line is long.
    fn line_up(&self, entry: Entry) -> LinedUp {
        let bytes = entry.bytes();
        if self.lined_up.fetch_add(bytes, Ordering::AcqRel) < MAX_LINED_UP {
            return LinedUp::Entry(entry);
        }
        self.lined_up.fetch_sub(bytes, Ordering::AcqRel);
        LinedUp::Row(entry.id)
    }

    /// Publishes an entry; false when there is no room for it now.
    fn perform(&self, entry: &Entry) -> bool {
        let Some(app) = self.hub.app_by_id(&entry.app_id) else {
            tracing::warn!(
                app = entry.app_id,
                "the outbox dropped a broadcast: its app is not configured any more"
            );
            self.finish(entry.id);
            return true;
        };
        if entry.broadcast.expires_at < storage::now() {
            self.expired.fetch_add(1, Ordering::Relaxed);
            self.finish(entry.id);
            return true;
        }
        if app.check_room().is_err() {
            return false;
        }
        let except = entry.broadcast.except.as_deref().and_then(|id| SocketId::parse(id).ok().flatten());
        for publication in &entry.broadcast.publications {
            match ChannelName::parse(&publication.channel) {
                Ok(channel) => {
                    app.publish(&channel, &publication.event, &json::string(publication.data.get()), except);
                }
                Err(error) => {
                    tracing::error!(%error, "bug: the outbox dropped a broadcast: its channel name is not valid")
                }
            }
        }
        self.published.fetch_add(entry.broadcast.publications.len() as u64, Ordering::Relaxed);
        if let Some(called_at) = entry.broadcast.called_at {
            self.latencies.observe(&entry.app_id, called_at.elapsed());
        }
        self.finish(entry.id);
        true
    }

    /// The entry of a row, unless it can't be read and is dropped.
    fn entry(&self, row: &Row) -> Result<Option<Entry>, StorageError> {
        let (id, app_id, lane) = (row.int(0)?, row.text(1)?, row.text(2)?);
        match serde_json::from_str(&row.text(3)?) {
            Ok(broadcast) => Ok(Some(Entry { id, app_id, lane, broadcast })),
            Err(error) => {
                tracing::error!(%error, id, "the outbox dropped a broadcast: its row can't be read");
                self.finish(id);
                Ok(None)
            }
        }
    }

    /// From here on rows are kept.
    pub(super) fn end(&self) {
        self.is_ending.store(true, Ordering::Release);
    }

    fn finish(&self, id: i64) {
        if self.is_ending.load(Ordering::Acquire) {
            return;
        }
        self.done.lock().unwrap_or_else(PoisonError::into_inner).push(id);
    }
}

pub(super) fn add(
    outbox: &Outbox,
    tx: &mut Transaction<'_>,
    app_id: &str,
    lane: &str,
    broadcast: Broadcast,
    now: i64,
) -> Result<(), StorageError> {
    let payload = serde_json::to_string(&broadcast)
        .map_err(|error| StorageError::Fault(format!("a broadcast can't be written: {error}")))?;
    let id = tx.insert(
        "INSERT INTO outbox (app_id, kind, lane, payload, state, attempts, not_before, locked_by, locked_until, \
         created_at) VALUES (?1, 'broadcast', ?2, ?3, 'pending', 0, ?4, ?5, ?6, ?4)",
        &[
            app_id.into(),
            lane.into(),
            payload.into(),
            now.into(),
            (&*outbox.node).into(),
            (now + LEASE).into(),
        ],
    )?;
    let id = id.ok_or_else(no_id)?;
    let entry = Entry { id, app_id: app_id.to_owned(), lane: lane.to_owned(), broadcast };
    let broadcasts = std::sync::Arc::clone(&outbox.broadcasts);
    tx.on_commit(lane, move || broadcasts.accept(entry));
    Ok(())
}

/// Performs what was left over, then what lines up, and deletes what was performed.
pub(super) async fn run(outbox: &Outbox) {
    let broadcasts = &outbox.broadcasts;
    let receiver = broadcasts.receiver.lock().unwrap_or_else(PoisonError::into_inner).take();
    let Some(mut receiver) = receiver else { return };
    // A store of our own holds only what we left there ourselves, whatever its lease says.
    let mut due = if outbox.database.is_shared() { storage::now() } else { i64::MAX };
    let mut sweep = tokio::time::interval(SWEEP);
    let mut last_search = None;
    let mut ripe = Ripe { ids: Vec::new(), mark: broadcasts.hub.mark() };
    loop {
        tokio::select! {
            Some(lined_up) = receiver.recv() => {
                if let Some(entry) = fetch(outbox, lined_up).await {
                    while !broadcasts.perform(&entry) {
                        tokio::time::sleep(PAUSE).await;
                    }
                }
                broadcasts.waiting.fetch_sub(1, Ordering::AcqRel);
            }
            _ = sweep.tick() => {
                delete(outbox, &mut ripe).await;
                ripe.refill(broadcasts);
                let is_time = last_search.is_none_or(|at: tokio::time::Instant| at.elapsed() > SWEEP * 20);
                let is_start = last_search.is_none();
                if is_time && !broadcasts.is_ending.load(Ordering::Acquire) {
                    // The clock may have been set back since.
                    let due = if outbox.database.is_shared() { due.min(storage::now()) } else { due };
                    match claim_left_over(outbox, due, is_start).await {
                        Ok(entries) => {
                            // A full page: there is more.
                            if entries.len() < PAGE as usize {
                                last_search = Some(tokio::time::Instant::now());
                            }
                            for entry in entries {
                                if is_start {
                                    // Nobody is there to hear it yet.
                                    broadcasts.take(entry.id);
                                    broadcasts.held.keep_for(outbox.pace.reconnect, entry);
                                } else {
                                    broadcasts.accept(entry);
                                }
                            }
                        }
                        Err(error) => tracing::error!(%error, "the outbox can't read broadcasts that wait in the store"),
                    }
                }
                // Until the first search is through, it goes on with what it began with.
                if last_search.is_some() {
                    due = storage::now();
                }
            }
        }
    }
}

/// What is next in the line. Its row can't be gone before it was performed, unless somebody else deleted it.
async fn fetch(outbox: &Outbox, lined_up: LinedUp) -> Option<Entry> {
    let id = match lined_up {
        LinedUp::Entry(entry) => {
            outbox.broadcasts.lined_up.fetch_sub(entry.bytes(), Ordering::AcqRel);
            return Some(entry);
        }
        LinedUp::Row(id) => id,
    };
    loop {
        let read = outbox.database.read(move |tx| {
            tx.query_one("SELECT id, app_id, lane, payload FROM outbox WHERE id = ?1", &[id.into()])
        });
        match read.await.and_then(|row| row.map(|row| outbox.broadcasts.entry(&row)).transpose()) {
            Ok(entry) => return entry.flatten(),
            Err(error) => {
                tracing::error!(%error, "the outbox can't read a broadcast that waits in the store");
                tokio::time::sleep(SWEEP).await;
            }
        }
    }
}

/// Rows to be deleted at the next sweep, or when the connections' threads have written them: a broadcast is
/// performed when these threads have it, and they may be late.
struct Ripe {
    ids: Vec<i64>,
    mark: Mark,
}

impl Ripe {
    /// Takes what was performed meanwhile, unless there is something left to delete.
    fn refill(&mut self, broadcasts: &Broadcasts) {
        if self.ids.is_empty() {
            std::mem::swap(
                &mut self.ids,
                &mut *broadcasts.done.lock().unwrap_or_else(PoisonError::into_inner),
            );
            self.mark = broadcasts.hub.mark();
        }
    }
}

/// Deletes rows of what was performed; what a crash keeps from being deleted is performed again.
async fn delete(outbox: &Outbox, ripe: &mut Ripe) {
    let broadcasts = &outbox.broadcasts;
    let is_ending = broadcasts.is_ending.load(Ordering::Acquire);
    if ripe.ids.is_empty() || is_ending || !broadcasts.hub.is_past(&ripe.mark) {
        return;
    }
    let ids = ripe.ids.clone();
    let deleted = outbox
        .database
        .write_lazily(move |tx| {
            for id in &ids {
                tx.execute("DELETE FROM outbox WHERE id = ?1", &[(*id).into()])?;
            }
            Ok::<_, StorageError>(())
        })
        .await;
    match deleted {
        Ok(()) => {
            let mut in_hand = broadcasts.in_hand.lock().unwrap_or_else(PoisonError::into_inner);
            for id in ripe.ids.drain(..) {
                in_hand.remove(&id);
            }
        }
        Err(error) => tracing::error!(%error, "the outbox can't delete published broadcasts from the store"),
    }
}

/// Takes over rows whose lease ended before `due`: their process did not perform them. After the start that may be this
/// one: the connection to the store was lost in their commit. Those in hand are left out.
async fn claim_left_over(outbox: &Outbox, due: i64, is_start: bool) -> Result<Vec<Entry>, StorageError> {
    // A look costs no flush.
    if !is_start && !outbox.database.read(move |tx| has_left_over(tx, due)).await? {
        return Ok(Vec::new());
    }
    let node = std::sync::Arc::clone(&outbox.node);
    let rows = outbox
        .database
        .write(move |tx| {
            tx.query(
                "UPDATE outbox SET locked_by = ?1, locked_until = ?2, attempts = attempts + 1 WHERE id IN \
                 (SELECT id FROM outbox WHERE kind = 'broadcast' AND state = 'pending' AND locked_until < ?3 \
                 AND (?5 = 0 OR locked_by IS NULL OR locked_by <> ?1) ORDER BY id LIMIT ?4) \
                 AND locked_until < ?3 RETURNING id, app_id, lane, payload",
                &[
                    (&*node).into(),
                    (storage::now() + LEASE).into(),
                    due.into(),
                    PAGE.into(),
                    i64::from(is_start).into(),
                ],
            )
        })
        .await?;
    let mut entries = Vec::new();
    for row in rows {
        entries.extend(outbox.broadcasts.entry(&row)?);
    }
    // RETURNING promises no order.
    entries.sort_by_key(|entry| entry.id);
    Ok(entries)
}

fn has_left_over(tx: &mut Transaction<'_>, due: i64) -> Result<bool, StorageError> {
    let row = tx.query_one(
        "SELECT 1 FROM outbox WHERE kind = 'broadcast' AND state = 'pending' AND locked_until < ?1 LIMIT 1",
        &[due.into()],
    )?;
    Ok(row.is_some())
}
