//! The task that decides what webhooks are told.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::time::MissedTickBehavior;

use super::Inner;
use super::endpoints::AppWebhooks;
use super::presence::{Key, Presence, Subject};
use super::queue::{Seen, What};
use super::records::{self, Known, Orphan, Record};
use super::told::{Told, event_of};
use crate::config::WebhookEvent;
use crate::protocol::channel::{ChannelKind, ChannelName};
use crate::storage::{self, StorageError, Transaction};

/// Pause between two looks at the queue.
const PACE: Duration = Duration::from_millis(10);
/// How long events wait for company where a webhook takes batches (soketi's figure).
const BATCH_TIME: Duration = Duration::from_millis(50);
/// Events that are enough company.
const BATCH_COUNT: usize = 100;
/// Pause after the store failed.
const PAUSE: Duration = Duration::from_secs(1);
/// How often signs of life are given and looked for.
const BEAT: Duration = Duration::from_secs(5);
/// How long clients have to come back after a crash: pusher-js tries every second, on a phone less often.
const COME_BACK: Duration = Duration::from_secs(10);
/// Time in which the same cache miss is told once.
const MISS_TIME: Duration = Duration::from_secs(1);

/// Decides and writes until the queue is closed and empty.
pub(super) async fn run(inner: &Arc<Inner>) {
    let mut desk = Desk::new(inner);
    desk.adopt().await;
    let mut beat = tokio::time::interval(BEAT);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let next = desk.next();
        tokio::select! {
            () = inner.queue.filled() => {}
            () = wait_until(next) => {}
            _ = beat.tick() => desk.beat().await,
        }
        desk.work().await;
        if inner.queue.is_closed() && desk.is_idle() {
            return desk.end().await;
        }
        tokio::time::sleep(PACE).await;
    }
}

async fn wait_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

struct Desk {
    inner: Arc<Inner>,
    presence: Presence,
    /// What is to be written, in order, and when it was seen.
    pending: Vec<(Instant, Told)>,
    /// Cache misses that were just told.
    missed: HashMap<(Arc<str>, ChannelName), Instant>,
    /// Records of apps that have no webhooks any more; deleted without a word.
    forgotten: Vec<Record>,
    is_shared: bool,
}

impl Desk {
    fn new(inner: &Arc<Inner>) -> Self {
        Self {
            inner: Arc::clone(inner),
            presence: Presence::default(),
            pending: Vec::new(),
            missed: HashMap::new(),
            forgotten: Vec::new(),
            is_shared: inner.outbox.database().is_shared(),
        }
    }

    fn is_ending(&self) -> bool {
        self.inner.is_ending.load(Ordering::Acquire)
    }

    fn is_idle(&self) -> bool {
        self.pending.is_empty()
    }

    /// When there is something to do, if nothing is seen before.
    fn next(&self) -> Option<Instant> {
        let due = if self.is_ending() { None } else { self.presence.next_due() };
        let batch = self.pending.first().map(|(seen, _)| *seen + BATCH_TIME);
        due.into_iter().chain(batch).min()
    }

    async fn work(&mut self) {
        let now = Instant::now();
        let (seen, has_gap) = self.inner.queue.take();
        for seen in seen {
            self.note(seen, now);
        }
        if has_gap {
            tracing::warn!(lost = self.inner.queue.lost(), "more happened than webhooks could be told");
        }
        let has_new_settings = self.inner.has_new_settings.swap(false, Ordering::AcqRel);
        if has_gap || has_new_settings {
            self.compare(has_gap, now);
        }
        while !self.is_ending()
            && let Some(key) = self.presence.pop_due(now)
        {
            self.gone(&key, now);
        }
        self.missed.retain(|_, at| now.duration_since(*at) < MISS_TIME);
        self.presence.shrink();
        self.inner.tracked.store(self.presence.len() as u64, Ordering::Relaxed);
        self.flush(now).await;
    }

    fn app(&self, id: &str) -> Option<Arc<AppWebhooks>> {
        self.inner.queue.endpoints().app(id).cloned()
    }

    fn tell(&mut self, told: Told, now: Instant) {
        self.pending.push((now, told));
    }

    fn note(&mut self, seen: Seen, now: Instant) {
        let Some(app) = self.app(&seen.app) else { return };
        let told = match seen.what {
            What::Came(subject) => return self.came(&app, subject, true, now),
            What::Left(subject) => {
                let key = Key { app: seen.app, subject };
                // Whoever leaves because the process ends comes back.
                if !self.is_ending() {
                    self.presence.left(&key, now + app.delay);
                }
                return;
            }
            What::ClientEvent(event) => Told::client_event(&app, &event),
            What::CacheMiss(channel) => {
                let is_known = self.missed.insert((seen.app, channel.clone()), now);
                is_known
                    .is_none_or(|at| now.duration_since(at) >= MISS_TIME)
                    .then(|| Told::cache_miss(&app, &channel))
            }
            What::SubscriptionCount(channel, count) => Some(Told::subscription_count(&app, &channel, count)),
            What::Opened(socket_id) => Some(Told::opened(&app, socket_id)),
            What::Closed(end) => Some(Told::closed(&app, &end)),
        };
        if let Some(told) = told {
            self.tell(told, now);
        }
    }

    fn came(&mut self, app: &Arc<AppWebhooks>, subject: Subject, is_told: bool, now: Instant) {
        let told = Told::presence(app, &subject, true);
        if self.presence.came(Key { app: Arc::clone(&app.id), subject }) {
            self.tell(if is_told { told } else { told.silently() }, now);
        }
    }

    fn gone(&mut self, key: &Key, now: Instant) {
        match self.app(&key.app) {
            Some(app) => self.tell(Told::presence(&app, &key.subject, false), now),
            None => self.forgotten.push(Record::of(&key.app, &key.subject)),
        }
    }

    /// Compares what is known with what is there. What is there and was not known is told, or, when only
    /// the settings changed, just noted.
    fn compare(&mut self, is_told: bool, now: Instant) {
        let mut there = HashSet::new();
        for app in self.inner.queue.endpoints().apps() {
            for subject in self.subjects(&app) {
                there.insert(Key { app: Arc::clone(&app.id), subject: subject.clone() });
                self.came(&app, subject, is_told, now);
            }
        }
        let left: Vec<Key> = self.presence.present().filter(|key| !there.contains(*key)).cloned().collect();
        for key in left {
            let delay = self.app(&key.app).map_or(Duration::ZERO, |app| app.delay);
            self.presence.left(&key, now + delay);
        }
    }

    /// What is there of an app, and of interest: channels before their members.
    fn subjects(&self, app: &AppWebhooks) -> Vec<Subject> {
        let Some(hub) = self.inner.hub.app_by_id(&app.id) else { return Vec::new() };
        let mut found = Vec::new();
        let channels = hub.channels("");
        let names: Vec<_> = channels.keys().filter_map(|name| ChannelName::parse(name).ok()).collect();
        for channel in names {
            let members = match channel.kind() {
                ChannelKind::Presence if app.watches(WebhookEvent::MemberAdded) => {
                    hub.channel_users(&channel)
                }
                _ => Vec::new(),
            };
            found.push(Subject::Channel(channel.clone()));
            found.extend(members.into_iter().map(|user| Subject::Member(channel.clone(), user)));
        }
        if app.watches(WebhookEvent::UserOnline) {
            found.extend(hub.signed_in_users().into_iter().map(Subject::User));
        }
        found.retain(|subject| app.tracks(event_of(subject, true), subject.channel()));
        found
    }

    /// Writes what is ready. It goes on until that is done: what was decided must not be forgotten.
    async fn flush(&mut self, now: Instant) {
        let is_full = self.pending.len() >= BATCH_COUNT || self.inner.queue.is_closed();
        let is_ready = |(seen, told): &(Instant, Told)| {
            is_full || !told.app.is_batching() || now.duration_since(*seen) >= BATCH_TIME
        };
        // An app's events wait together: with the first one that is ready all of them are.
        let ready: HashSet<Arc<str>> = self
            .pending
            .iter()
            .filter(|pending| is_ready(pending))
            .map(|(_, told)| Arc::clone(&told.app.id))
            .collect();
        if ready.is_empty() && self.forgotten.is_empty() {
            return;
        }
        let (now, later): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.pending).into_iter().partition(|(_, told)| ready.contains(&told.app.id));
        self.pending = later;
        let told: Arc<[Told]> = now.into_iter().map(|(_, told)| told).collect();
        let forgotten: Arc<[Record]> = std::mem::take(&mut self.forgotten).into();
        while let Err(error) = self.write(&told, &forgotten).await {
            tracing::error!(%error, "webhooks can't be written; trying again");
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn write(&self, told: &Arc<[Told]>, forgotten: &Arc<[Record]>) -> Result<(), StorageError> {
        let (outbox, told, forgotten) = (self.inner.outbox.clone(), Arc::clone(told), Arc::clone(forgotten));
        let write = move |tx: &mut Transaction<'_>| {
            records::write(&outbox, tx, &told)?;
            records::forget(tx, outbox.node(), &forgotten)
        };
        self.inner.outbox.database().write(write).await
    }

    async fn beat(&mut self) {
        if !self.is_shared || self.is_ending() {
            return;
        }
        let node = Arc::clone(self.inner.outbox.node());
        let beaten = self.inner.outbox.database().write_lazily(move |tx| records::beat(tx, &node)).await;
        match beaten {
            Ok(()) => self.adopt().await,
            Err(error) => tracing::warn!(%error, "this process can't tell that it lives"),
        }
    }

    /// Takes over what processes left that are gone: it leaves, unless it comes back here.
    async fn adopt(&mut self) {
        let (node, is_shared) = (Arc::clone(self.inner.outbox.node()), self.is_shared);
        let adopted =
            self.inner.outbox.database().write(move |tx| records::adopt(tx, &node, is_shared)).await;
        match adopted {
            Ok(orphans) => {
                let now = Instant::now();
                for orphan in orphans {
                    self.adopt_one(orphan, now);
                }
            }
            Err(error) => tracing::error!(%error, "what was there before can't be read for webhooks"),
        }
    }

    fn adopt_one(&mut self, orphan: Orphan, now: Instant) {
        let Some(app) = self.app(&orphan.record.app_id) else { return self.forgotten.push(orphan.record) };
        match orphan.known {
            Known::Subject(subject) => {
                let key = Key { app: Arc::clone(&app.id), subject };
                self.presence.remembered(key, now + app.delay.max(COME_BACK));
            }
            Known::Connection(socket_id) => {
                let lasted = u64::try_from(storage::now() - orphan.since).unwrap_or(0);
                let end = (1006, "The server ended unexpectedly");
                let lasted = Duration::from_micros(lasted);
                let told = Told::connection_closed(&app, &socket_id, None, lasted, end);
                self.tell(told, now);
            }
        }
    }

    async fn end(&self) {
        if self.is_shared {
            let node = Arc::clone(self.inner.outbox.node());
            // Otherwise it is believed to live for some seconds more.
            let _ = self.inner.outbox.database().write(move |tx| records::end(tx, &node)).await;
        }
    }
}
