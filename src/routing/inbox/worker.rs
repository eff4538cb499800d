//! Processes entries from the table: those that could not be processed when they came, and those that a crash
//! left behind.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::task::{Id, JoinSet};

use super::entry::{self, Entry, State};
use super::inbound::{self, Inbound, Owners, Storing};
use super::{RETRY, Verdict, report, threads};
use crate::apps::App;
use crate::routing::Router;
use crate::routing::carrier::{CarrierEvent, EventType};
use crate::routing::counters::Counter;
use crate::storage::{self, StorageError, Transaction};

/// How often entries are looked for that nobody woke us for.
const POLL: Duration = Duration::from_secs(1);
/// Entries of an app processed at once, each in its own transaction: they share commits, and one that waits for the
/// portal's database keeps back no other.
const AT_ONCE: usize = 64;
/// How long an event about an unknown message is tried again, in microseconds: the answer to our call may be on
/// its way.
const PATIENCE: i64 = 120_000_000;
/// The same for trouble of the store that stays with one entry although the store takes note of it: an hour.
const MAX_TROUBLE: i64 = 64;
/// Pause after a failure of the directory, in microseconds.
const RETRY_FAILED: i64 = 5_000_000;
/// How long a message waits for the portal's directory before it is nobody's, in microseconds: a day.
const DIRECTORY_PATIENCE: i64 = 86_400_000_000;
/// Failures for no reason outside of an entry after which it is set aside, so that it does not hold its thread for
/// ever: with pauses of 1, 2, 4, … s, a minute at most, after two minutes.
const MAX_FAILURES: i64 = 8;

/// Processes stored events until the process ends. Each app has places of its own: one whose portal's database is slow
/// keeps back no other.
pub async fn run(router: &Router) {
    let (mut running, mut ids) = (JoinSet::new(), HashMap::<Id, (i64, String)>::new());
    loop {
        let mut taken: HashMap<String, usize> = HashMap::new();
        ids.values().for_each(|(_, app)| *taken.entry(app.clone()).or_default() += 1);
        match due(router, &taken).await {
            Ok(entries) => {
                for entry in entries {
                    let (id, app) = (entry.id, entry.app_id.clone());
                    let places = taken.entry(app.clone()).or_default();
                    if *places < AT_ONCE && ids.values().all(|(other, _)| *other != id) {
                        *places += 1;
                        let router = router.clone();
                        let task = running.spawn(async move { process(&router, entry).await });
                        ids.insert(task.id(), (id, app));
                    }
                }
            }
            Err(error) => tracing::error!(%error, "the router can't read stored carrier webhooks"),
        }
        tokio::select! {
            Some(ended) = running.join_next_with_id() => {
                let mut ended = Some(ended);
                while let Some(one) = ended {
                    ids.remove(&one.map_or_else(|error| error.id(), |(task, ())| task));
                    ended = running.try_join_next_with_id();
                }
            }
            () = router.inner.inbox.wake.notified() => {}
            () = tokio::time::sleep(POLL) => {}
        }
    }
}

/// Entries that are due, of apps with free places; `taken`: the places that are not.
pub(super) async fn due(router: &Router, taken: &HashMap<String, usize>) -> Result<Vec<Entry>, StorageError> {
    let taken = taken.clone();
    let found = router.database().read(move |tx| {
        let mut found = Vec::new();
        for app in entry::apps(tx)? {
            let running = taken.get(&app).copied().unwrap_or_default();
            if running < AT_ONCE {
                // Those that are being processed are found again.
                found.extend(entry::due(tx, &app, (AT_ONCE + running) as i64)?);
            }
        }
        Ok::<_, StorageError>(found)
    });
    let mut entries = Vec::new();
    for one in found.await? {
        match one {
            Ok(entry) => entries.push(entry),
            // It keeps back no other.
            Err(id) => set_aside(router, id, "its row can't be read").await,
        }
    }
    Ok(entries)
}

/// Processes one entry. A panic is a failure of the entry.
pub(super) async fn process(router: &Router, entry: Entry) {
    let entry = Arc::new(entry);
    if AssertUnwindSafe(attempt(router, &entry)).catch_unwind().await.is_err() {
        let bug = StorageError::Fault("bug: the router failed under it".to_owned());
        come_back(router, &entry, Undone::Failed(bug)).await;
    }
}

async fn attempt(router: &Router, entry: &Arc<Entry>) {
    let Some(app) = router.inner.hub.app_by_id(&entry.app_id) else {
        return set_aside(router, entry.id, "its app is gone").await;
    };
    let app = app.app();
    let event = match CarrierEvent::parse(&entry.body) {
        Ok(event) => event,
        Err(error) => return set_aside(router, entry.id, &error.to_string()).await,
    };
    let Some(work) = Work::of(router, &app, event) else {
        return set_aside(router, entry.id, "the webhook has no payload.id").await;
    };
    let Some(owners) = owners(router, &app, entry, &work).await else { return };
    let job = Arc::new(Job { router: router.clone(), app, entry: Arc::clone(entry), work, owners });
    let result = router.database().write(move |tx| job.run(tx)).await;
    if let Err(undone) = result {
        come_back(router, entry, undone).await;
    }
}

/// What an event is about.
enum Work {
    Inbound(Inbound),
    Report(CarrierEvent),
}

impl Work {
    fn of(router: &Router, app: &App, event: CarrierEvent) -> Option<Self> {
        match (&event.event_type, &event.message) {
            (_, None) => None,
            (EventType::Received, Some(_)) => Inbound::of(router, app, event).map(Self::Inbound),
            _ => Some(Self::Report(event)),
        }
    }
}

/// Who has the receiving numbers; `None`: that can't be told now, and the entry waits.
async fn owners(router: &Router, app: &Arc<App>, entry: &Entry, work: &Work) -> Option<Owners> {
    let Work::Inbound(inbound) = work else { return Some(None) };
    match inbound::owners(router, app, inbound).await {
        Ok(owners) => Some(owners),
        // Nobody's, until the directory says whose it is.
        Err(_) if storage::now() - entry.received_at > DIRECTORY_PATIENCE => Some(Some(HashMap::new())),
        Err(error) => {
            let code = error.code.as_str();
            tracing::error!(
                app = app.settings.id,
                code,
                "the router keeps an inbound message for later: the directory can't be asked"
            );
            put_off(router, entry.id, code.to_owned(), RETRY_FAILED, false).await;
            None
        }
    }
}

/// One run of the transaction.
struct Job {
    router: Router,
    app: Arc<App>,
    entry: Arc<Entry>,
    work: Work,
    owners: Owners,
}

/// Why a transaction was rolled back.
enum Undone {
    /// The event is about a message that is not known (yet).
    Unknown,
    Failed(StorageError),
}

impl From<StorageError> for Undone {
    fn from(error: StorageError) -> Self {
        Self::Failed(error)
    }
}

impl Job {
    fn run(&self, tx: &mut Transaction<'_>) -> Result<(), Undone> {
        let (id, now) = (self.entry.id, storage::now());
        threads::hold_of(tx, id)?;
        if let Work::Inbound(inbound) = &self.work {
            // One that a person had tried again waits in none.
            threads::hold(tx, inbound.thread_ids())?;
        }
        // Another node may have it: its row is locked until that one's commit.
        if !entry::is_pending(tx, id)? {
            return Ok(());
        }
        match &self.work {
            Work::Inbound(inbound) => self.store(tx, inbound, now)?,
            Work::Report(event) => {
                let Some(message) = &event.message else { return Ok(()) };
                // Nothing was written: it costs those beside it nothing.
                if let Verdict::Unknown = report::apply(&self.router, tx, &self.app, event, message, now)? {
                    return Err(Undone::Unknown);
                }
            }
        }
        entry::settle(tx, id, State::Done, None, now)?;
        leave(&self.router, tx, id, now)?;
        Ok(())
    }

    fn store(&self, tx: &mut Transaction<'_>, inbound: &Inbound, now: i64) -> Result<(), StorageError> {
        let look = threads::look(tx, &self.app, inbound, now)?;
        let storing = Storing {
            router: &self.router,
            app: &self.app,
            inbound,
            body: &self.entry.body,
            owners: &self.owners,
            has_unrouted: &look.has_unrouted,
            now,
        };
        storing.run(tx)
    }
}

/// Lets those go that waited behind an entry.
fn leave(router: &Router, tx: &mut Transaction<'_>, id: i64, now: i64) -> Result<(), StorageError> {
    if threads::leave(tx, id, now)? {
        let router = router.clone();
        tx.on_commit("", move || router.inner.inbox.wake.notify_one());
    }
    Ok(())
}

/// Decides when an entry that was not processed is tried again.
async fn come_back(router: &Router, entry: &Entry, undone: Undone) {
    let app = &entry.app_id;
    let age = storage::now() - entry.received_at;
    match undone {
        // Often at first, when an answer is on its way; a report of somebody else's message rarely.
        Undone::Unknown if age < PATIENCE => {
            put_off(router, entry.id, "its message is not known".to_owned(), RETRY.max(age / 4), false).await;
        }
        Undone::Unknown => set_aside(router, entry.id, "the store has no such message").await,
        Undone::Failed(error) => {
            // The store's trouble is mostly no fault of the entry; but who can write this down has a store.
            let most = match error {
                StorageError::Fault(_) => MAX_FAILURES,
                _ => MAX_TROUBLE,
            };
            let failures = entry.failures + 1;
            tracing::error!(app, %error, failures, "the router can't process a carrier webhook; it tries again");
            if failures >= most {
                return set_aside(router, entry.id, &error.to_string()).await;
            }
            let pause = (1_000_000_i64 << entry.failures.clamp(0, 6)).min(60_000_000);
            put_off(router, entry.id, error.to_string(), pause, true).await;
        }
    }
}

/// Keeps an entry that nothing can be done with, for people to look into.
async fn set_aside(router: &Router, id: i64, reason: &str) {
    router.counters().count(Counter::WebhookSetAside);
    tracing::error!(inbox_id = id, reason, "the router set a carrier webhook aside");
    let (job_router, reason) = (router.clone(), reason.to_owned());
    let done = router.database().write(move |tx| {
        let now = storage::now();
        threads::hold_of(tx, id)?;
        entry::settle(tx, id, State::SetAside, Some(&reason), now)?;
        leave(&job_router, tx, id, now)
    });
    note(done.await).await;
}

async fn put_off(router: &Router, id: i64, reason: String, pause: i64, has_failed: bool) {
    let until = storage::now().saturating_add(pause);
    let done = router.database().write_lazily(move |tx| entry::put_off(tx, id, &reason, until, has_failed));
    note(done.await).await;
}

async fn note(done: Result<(), StorageError>) {
    if let Err(error) = done {
        tracing::error!(%error, "the router can't store that a carrier webhook is tried later");
        tokio::time::sleep(POLL).await;
    }
}
