//! The task that decides what webhooks are told.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::Inner;
use super::endpoints::AppWebhooks;
use super::ledger::Ledger;
use super::presence::{Key, Presence, Subject};
use super::queue::{Seen, What};
use super::records::{self, Known, Orphan, Record};
use super::told::{Told, event_of};
use super::writer;
use crate::config::WebhookEvent;
use crate::protocol::channel::{ChannelKind, ChannelName};
use crate::protocol::id::SocketId;
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
/// How long a process is believed to live without one.
const LIFE: Duration = Duration::from_secs(15);
/// Events written in one transaction.
const CHUNK: usize = 500;
/// How often what is there is looked at anew at most, when too much happens.
const COMPARE: Duration = Duration::from_secs(1);
/// How long clients have to come back after a crash: pusher-js tries every second, on a phone less often.
const COME_BACK: Duration = Duration::from_secs(10);
/// How often old rows are deleted.
const TIDY: Duration = Duration::from_hours(1);
/// Time in which the same cache miss is told once.
const MISS_TIME: Duration = Duration::from_secs(1);

/// Decides and writes until the queue is closed and empty.
pub(super) async fn run(inner: &Arc<Inner>) {
    let mut desk = Desk::new(inner);
    // Before anything is written: who writes and gives no sign of life is believed to be gone.
    while !(desk.give_sign().await && desk.adopt().await) {
        tokio::time::sleep(PAUSE).await;
    }
    desk.tell_of_strangers().await;
    loop {
        let next = desk.next();
        tokio::select! {
            () = inner.queue.filled() => {}
            () = wait_until(next) => {}
        }
        // Asked before: what was seen until then is taken in this round.
        let is_closed = inner.queue.is_closed();
        desk.work().await;
        if is_closed && desk.is_idle() {
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
    /// Whether something was missed since what is there was last looked at.
    has_gap: bool,
    compared: Option<Instant>,
    is_shared: bool,
    /// When this process last gave a sign of life.
    beaten: Option<Instant>,
    ledger: Ledger,
    tidied: Option<Instant>,
    /// Signs that others gave, and since when there were no more. By our own clock: theirs may be wrong.
    others: HashMap<String, (Option<i64>, Instant)>,
}

impl Desk {
    fn new(inner: &Arc<Inner>) -> Self {
        Self {
            inner: Arc::clone(inner),
            presence: Presence::default(),
            pending: Vec::new(),
            missed: HashMap::new(),
            forgotten: Vec::new(),
            has_gap: false,
            compared: None,
            beaten: None,
            ledger: Ledger::new(inner.outbox.clone()),
            tidied: None,
            others: HashMap::new(),
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
        let beat = self.beaten.filter(|_| self.is_shared).map(|at| at + BEAT);
        let gap = self.compared.filter(|_| self.has_gap).map(|at| at + COMPARE);
        due.into_iter().chain(batch).chain(beat).chain(gap).chain(self.ledger.next()).min()
    }

    async fn work(&mut self) {
        let now = Instant::now();
        self.beat().await;
        // Before the queue is taken: what comes after this look is in it.
        let there = self.inner.has_new_settings.swap(false, Ordering::AcqRel).then(|| self.there());
        let (seen, has_gap) = self.inner.queue.take();
        if let Some(there) = there {
            self.note_silently(there, &seen, now);
            self.tell_of_strangers().await;
        }
        for seen in seen {
            self.note(seen, now);
        }
        self.has_gap |= has_gap;
        if self.has_gap && self.compared.is_none_or(|at| now.duration_since(at) >= COMPARE) {
            tracing::warn!(
                lost = self.inner.queue.lost(),
                "webhooks missed events: more happened than their queue could hold"
            );
            (self.has_gap, self.compared) = (false, Some(now));
            self.compare(now);
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
        self.ledger.catch_up(&self.inner.queue.endpoints().apps()).await;
        if self.tidied.is_none_or(|at| now.duration_since(at) >= TIDY) {
            self.tidied = Some(now);
            self.ledger.tidy().await;
        }
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
            What::Came(subject) => return self.came(&app, subject, seen.by, true, now),
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
                let miss = (seen.app, channel);
                let is_news = self.missed.get(&miss).is_none_or(|at| now.duration_since(*at) >= MISS_TIME);
                is_news.then(|| {
                    let told = Told::cache_miss(&app, &miss.1).by(seen.by);
                    self.missed.insert(miss, now);
                    told
                })
            }
            What::SubscriptionCount(channel, count) => {
                Some(Told::subscription_count(&app, &channel, count).by(seen.by))
            }
            What::Opened(socket_id) => Some(Told::connection_opened(&app, &socket_id.to_string())),
            What::Closed(end) => Some(Told::closed(&app, &end)),
        };
        if let Some(told) = told {
            self.tell(told, now);
        }
    }

    fn came(
        &mut self,
        app: &Arc<AppWebhooks>,
        subject: Subject,
        by: Option<SocketId>,
        is_told: bool,
        now: Instant,
    ) {
        let told = Told::presence(app, &subject, true).by(by);
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

    /// Everything that is there and of interest.
    fn there(&self) -> Vec<(Arc<AppWebhooks>, Subject)> {
        let apps = self.inner.queue.endpoints().apps();
        let of_app = |app: &Arc<AppWebhooks>| {
            let app = Arc::clone(app);
            self.subjects(&app).into_iter().map(move |subject| (Arc::clone(&app), subject))
        };
        apps.iter().flat_map(of_app).collect()
    }

    /// Something was missed: tells what is there and was not known, and has what is not there leave.
    fn compare(&mut self, now: Instant) {
        let there = self.there();
        self.leave_unless(&there, now);
        for (app, subject) in there {
            self.came(&app, subject, None, true, now);
        }
    }

    /// Other settings: what is there already is known from now on, and not told. What came just before the
    /// look is told as the queue has it.
    fn note_silently(&mut self, there: Vec<(Arc<AppWebhooks>, Subject)>, seen: &[Seen], now: Instant) {
        self.leave_unless(&there, now);
        let mut mentioned = HashSet::new();
        let mut came = HashSet::new();
        for Seen { app, what, .. } in seen {
            if let What::Came(subject) | What::Left(subject) = what
                && mentioned.insert((app, subject))
                && matches!(what, What::Came(_))
            {
                came.insert((app, subject));
            }
        }
        for (app, subject) in there {
            if !came.contains(&(&app.id, &subject)) {
                self.came(&app, subject, None, false, now);
            }
        }
    }

    /// What is known and not among this leaves: members before their channels.
    fn leave_unless(&mut self, there: &[(Arc<AppWebhooks>, Subject)], now: Instant) {
        let there: HashSet<_> = there.iter().map(|(app, subject)| (&app.id, subject)).collect();
        let is_left = |key: &&Key| !there.contains(&(&key.app, &key.subject));
        let mut left: Vec<Key> = self.presence.present().filter(is_left).cloned().collect();
        left.sort_by_key(|key| matches!(key.subject, Subject::Channel(_)));
        for key in left {
            let delay = self.app(&key.app).map_or(Duration::ZERO, |app| app.delay);
            self.presence.left(&key, now + delay);
        }
    }

    /// Requests wait for webhooks that are not configured, because their name or URL changed.
    async fn tell_of_strangers(&self) {
        let Ok(targets) = self.inner.outbox.database().read(records::targets).await else { return };
        let endpoints = self.inner.queue.endpoints();
        for target in targets.iter().filter(|target| endpoints.webhook(target).is_none()) {
            let webhook = target.kind.split_once(':').map_or("", |(_, name)| name);
            tracing::warn!(
                app = target.app_id,
                webhook,
                "stored requests wait for a webhook that is not configured: give a webhook this name (apps.webhooks.name) to have them sent"
            );
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

    /// Writes what is ready, in pieces that do not keep others from the store.
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
        let mut told: Vec<Told> = now.into_iter().map(|(_, told)| told).collect();
        // Nobody waits for strangers. What has an order is either public or not.
        told.sort_by_key(|told| told.owners.is_public);
        let forgotten: Arc<[Record]> = std::mem::take(&mut self.forgotten).into();
        let mut told = told.into_iter().peekable();
        let mut is_first = true;
        while told.peek().is_some() || is_first {
            let chunk: Arc<[Told]> = told.by_ref().take(CHUNK).collect();
            let forgotten = if is_first { Arc::clone(&forgotten) } else { Arc::default() };
            is_first = false;
            self.write_all(chunk, forgotten).await;
            self.beat().await;
        }
    }

    /// Writes; goes on until that is done. What can't be written in any way is dropped alone.
    async fn write_all(&self, told: Arc<[Told]>, forgotten: Arc<[Record]>) {
        loop {
            match self.write(&told, 0..told.len(), &forgotten).await {
                Ok(()) => return,
                Err(StorageError::Fault(fault)) => {
                    tracing::error!(
                        fault,
                        "the store refused a batch of webhook events; they are written one by one"
                    );
                    break;
                }
                Err(error) => {
                    tracing::error!(%error, "the store can't write webhook events; they are written again")
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
        for at in 0..told.len() {
            while let Err(error) = self.write(&told, at..at + 1, &Arc::default()).await {
                if let StorageError::Fault(fault) = error {
                    self.inner.queue.lose();
                    tracing::error!(fault, "bug: the store refused a webhook event, which is dropped");
                    break;
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    async fn write(
        &self,
        told: &Arc<[Told]>,
        range: Range<usize>,
        forgotten: &Arc<[Record]>,
    ) -> Result<(), StorageError> {
        self.ledger.count(&told[range.clone()]).await?;
        let (outbox, told, forgotten) = (self.inner.outbox.clone(), Arc::clone(told), Arc::clone(forgotten));
        let rooms = Arc::clone(self.ledger.rooms());
        let write = move |tx: &mut Transaction<'_>| {
            writer::write(&outbox, tx, &told[range.clone()], &rooms)?;
            records::forget(tx, outbox.node(), &forgotten)
        };
        self.inner.outbox.database().write(write).await
    }

    /// Gives a sign of life and looks for those of others, when it is time.
    async fn beat(&mut self) {
        if !self.is_shared || self.beaten.is_some_and(|at| at.elapsed() < BEAT) {
            return;
        }
        let is_alive = self.give_sign().await;
        if is_alive && !self.is_ending() {
            self.adopt().await;
        }
    }

    /// Gives a sign of life; tells whether that worked. While it does not, nothing is known of others either.
    async fn give_sign(&mut self) -> bool {
        if !self.is_shared {
            return true;
        }
        let was_beaten = self.beaten.replace(Instant::now()).is_some();
        let node = Arc::clone(self.inner.outbox.node());
        match self.inner.outbox.database().write(move |tx| records::beat(tx, &node)).await {
            Ok(is_known) => {
                if was_beaten && !is_known {
                    tracing::warn!(
                        "other nodes took this node for dead; it announces its channels and members again"
                    );
                    self.tell_again();
                }
                true
            }
            Err(error) => {
                tracing::warn!(%error, "this node can't renew its sign of life in the store");
                self.others.clear();
                false
            }
        }
    }

    /// What is here was taken over by another process, which tells it to be gone.
    fn tell_again(&mut self) {
        let now = Instant::now();
        let mut keys: Vec<Key> = self.presence.present().cloned().collect();
        keys.sort_by_key(|key| !matches!(key.subject, Subject::Channel(_)));
        for key in keys {
            if let Some(app) = self.app(&key.app) {
                self.tell(Told::presence(&app, &key.subject, true), now);
            }
        }
    }

    /// Takes over what processes left that are gone: it leaves, unless it comes back here. Tells whether that
    /// worked. A store of our own was ours alone before, too.
    async fn adopt(&mut self) -> bool {
        let node = Arc::clone(self.inner.outbox.node());
        let database = self.inner.outbox.database().clone();
        let of = Arc::clone(&node);
        let adopted = match database.read(move |tx| records::others(tx, &of)).await {
            Ok(others) => {
                let dead = self.dead_among(others);
                match dead.is_empty() {
                    true => Ok(Vec::new()),
                    false => database.write(move |tx| records::adopt(tx, &node, &dead)).await,
                }
            }
            Err(error) => Err(error),
        };
        match adopted {
            Ok(orphans) => {
                let now = Instant::now();
                orphans.into_iter().for_each(|orphan| self.adopt_one(orphan, now));
                true
            }
            Err(error) => {
                tracing::error!(%error, "webhooks can't read the channels and members of dead nodes");
                false
            }
        }
    }

    /// Which of these gave no sign of life for too long, or ended.
    fn dead_among(&mut self, others: Vec<(String, Option<i64>)>) -> Vec<String> {
        let now = Instant::now();
        let mut dead = Vec::new();
        self.others.retain(|node, _| others.iter().any(|(other, _)| other == node));
        for (node, beats) in others {
            let known = self.others.entry(node.clone()).or_insert((beats, now));
            if known.0 != beats {
                *known = (beats, now);
            }
            if !self.is_shared || beats.is_none() || now.duration_since(known.1) >= LIFE {
                dead.push(node);
            }
        }
        dead
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
