//! Posts events to endpoints: one courier, a task of its own, for each.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::Instant;

use super::claim::{self, Claim, Due, Group};
use super::outage::Outages;
use super::posting::Try;
use super::{Outbox, OutboxStats, Target, backoff, queue};
use crate::http_client::{HttpClient, HttpFailure, HttpOptions, Reach};
use crate::storage::{self, StorageError};

/// Lanes of one endpoint and group that are served at once. The next try of one that failed may take its time, too,
/// and what strangers cause may be much, so these must not take the places of the others.
pub(super) const PARALLEL: usize = 16;
/// Pause after the store failed.
const PAUSE: Duration = Duration::from_secs(1);
/// A courier that failed after it worked for so long fails for the first time.
const RECENT: Duration = Duration::from_mins(5);
/// How often targets with events are looked for, for what no wake-up told: a store of our own.
const LOOK: Duration = Duration::from_secs(30);
/// The same where other nodes may leave events to us.
const LOOK_SHARED: Duration = Duration::from_secs(5);

/// The couriers of this process.
pub(super) struct Couriers {
    /// One for each way to reach endpoints.
    clients: Mutex<HashMap<Reach, HttpClient>>,
    known: Mutex<HashMap<Target, Arc<Notify>>>,
    has_new: Notify,
    delivered: AtomicU64,
    failed_tries: AtomicU64,
    given_up: AtomicU64,
    dropped: AtomicU64,
    outages: Outages,
}

impl Default for Couriers {
    fn default() -> Self {
        Self {
            clients: Mutex::default(),
            known: Mutex::default(),
            has_new: Notify::new(),
            delivered: AtomicU64::new(0),
            failed_tries: AtomicU64::new(0),
            given_up: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            outages: Outages::default(),
        }
    }
}

impl Couriers {
    /// Has a target's courier look for events.
    pub(super) fn wake(&self, target: &Target) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        match known.get(target) {
            Some(courier) => courier.notify_one(),
            None => {
                known.insert(target.clone(), Arc::default());
                self.has_new.notify_one();
            }
        }
    }

    /// Has all couriers look again.
    pub(super) fn wake_all(&self) {
        self.all().iter().for_each(|(_, courier)| courier.notify_one());
    }

    pub(super) fn forget_clients(&self) {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    pub(super) fn client(&self, reach: &Reach) -> Result<HttpClient, HttpFailure> {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(reach) {
            return Ok(client.clone());
        }
        let options = HttpOptions { title_case_headers: true, ..HttpOptions::default() };
        let client = HttpClient::within(reach, options).map_err(HttpFailure::NotSent)?;
        clients.insert(reach.clone(), client.clone());
        Ok(client)
    }

    fn wake_of(&self, target: &Target) -> Arc<Notify> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(known.entry(target.clone()).or_default())
    }

    fn all(&self) -> Vec<(Target, Arc<Notify>)> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.iter().map(|(target, wake)| (target.clone(), Arc::clone(wake))).collect()
    }

    pub(super) fn stats(&self) -> OutboxStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        OutboxStats {
            delivered: read(&self.delivered),
            failed_tries: read(&self.failed_tries),
            given_up: read(&self.given_up),
            dropped: read(&self.dropped),
            ..OutboxStats::default()
        }
    }

    /// Outages of endpoints.
    pub(super) fn outages(&self) -> &Outages {
        &self.outages
    }

    pub(super) fn took(&self) {
        self.delivered.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn failed_to_take(&self) {
        self.failed_tries.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn gave_up(&self, count: u64) {
        self.given_up.fetch_add(count, Ordering::Relaxed);
    }

    pub(super) fn dropped(&self, count: u64) {
        self.dropped.fetch_add(count, Ordering::Relaxed);
    }
}

/// Starts couriers where there are events; never ends.
pub(super) async fn run(outbox: &Outbox) {
    let couriers = &outbox.couriers;
    let mut staff = Staff::default();
    let mut look = tokio::time::interval(if outbox.database.is_shared() { LOOK_SHARED } else { LOOK });
    loop {
        tokio::select! {
            () = couriers.has_new.notified() => {}
            Some(ended) = staff.tasks.join_next_with_id() => staff.start_again(outbox, ended),
            _ = look.tick() => match outbox.database.read(queue::targets).await {
                Ok(targets) => targets.iter().for_each(|target| couriers.wake(target)),
                Err(error) => tracing::error!(%error, "the outbox can't read which endpoints have events"),
            },
        }
        for (target, wake) in couriers.all() {
            staff.start(outbox, target, wake);
        }
    }
}

/// The couriers that run, each a task.
#[derive(Default)]
struct Staff {
    tasks: JoinSet<()>,
    at_work: HashMap<Id, Target>,
    /// Those that were ever started, how often they failed lately, and when they last began.
    started: HashMap<Target, (u32, Instant)>,
}

impl Staff {
    fn start(&mut self, outbox: &Outbox, target: Target, wake: Arc<Notify>) {
        if !self.started.contains_key(&target) {
            self.spawn(outbox, target, wake, 0);
        }
    }

    fn spawn(&mut self, outbox: &Outbox, target: Target, wake: Arc<Notify>, failures: u32) {
        let pause = match failures {
            0 => Duration::ZERO,
            failures => backoff::pause(outbox.pace.backoff, failures),
        };
        self.started.insert(target.clone(), (failures, Instant::now() + pause));
        let courier = Courier::new(outbox.clone(), target.clone(), wake);
        let task = self.tasks.spawn(async move {
            tokio::time::sleep(pause).await;
            courier.run().await;
        });
        self.at_work.insert(task.id(), target);
    }

    /// A courier panicked: another one takes its place, after a pause that grows while that goes on. Whatever the
    /// first one was posting is posted again.
    fn start_again(&mut self, outbox: &Outbox, ended: Result<(Id, ()), JoinError>) {
        let id = ended.map_or_else(|error| error.id(), |(id, ())| id);
        let Some(target) = self.at_work.remove(&id) else { return };
        let began = self.started.get(&target);
        let failures = began.filter(|(_, at)| at.elapsed() < RECENT).map_or(0, |(failures, _)| *failures);
        tracing::error!(
            app = target.app_id,
            kind = target.kind,
            failures = failures + 1,
            "bug: the task that posts an endpoint's events failed; it starts again"
        );
        let wake = outbox.couriers.wake_of(&target);
        self.spawn(outbox, target, wake, failures + 1);
    }
}

/// Serves one endpoint.
struct Courier {
    outbox: Outbox,
    target: Target,
    wake: Arc<Notify>,
    /// Events that are being posted, by the task that does, and their groups.
    under_way: HashMap<Id, (i64, Group)>,
    /// Events whose results could not be stored because the program failed: how often, and until when they rest.
    resting: HashMap<i64, (u32, Instant)>,
}

impl Courier {
    fn new(outbox: Outbox, target: Target, wake: Arc<Notify>) -> Self {
        Self { outbox, target, wake, under_way: HashMap::new(), resting: HashMap::new() }
    }

    async fn run(mut self) {
        let mut tries = JoinSet::new();
        loop {
            let next = self.start_due(&mut tries).await;
            tokio::select! {
                Some(done) = tries.join_next_with_id() => self.note(done),
                () = self.wake.notified() => {}
                () = wait_until(next) => {}
            }
        }
    }

    /// Starts what is due and has room; tells when to look again, if no wake-up comes first.
    async fn start_due(&mut self, tries: &mut JoinSet<()>) -> Option<Instant> {
        let timeout = self.outbox.endpoint(&self.target)?.timeout;
        let mut room = Group::ALL
            .map(|group| PARALLEL - self.under_way.values().filter(|(_, other)| *other == group).count());
        let due = match self.claim(room, timeout).await {
            Ok(due) => due,
            Err(error) => {
                tracing::error!(app = self.target.app_id, %error, "the outbox can't read the events of an endpoint");
                return Some(Instant::now() + PAUSE);
            }
        };
        // As it is now: what was written after a change of settings goes where they say.
        let endpoint = self.outbox.endpoint(&self.target)?;
        let now = Instant::now();
        for task in due.tasks {
            let (id, group) = (task.id, task.group);
            let Some(room) = Group::ALL.iter().position(|other| *other == group).map(|at| &mut room[at])
            else {
                continue;
            };
            // It was not known yet when the claim began, unless its rest ended in between.
            if *room == 0 || self.resting.get(&id).is_some_and(|(_, until)| *until > now) {
                continue;
            }
            *room -= 1;
            let a_try = Try { outbox: self.outbox.clone(), target: self.target.clone(), task };
            let handle = tries.spawn(a_try.run(endpoint.clone()));
            self.under_way.insert(handle.id(), (id, group));
        }
        let rested = self.resting.values().map(|(_, until)| *until).filter(|until| *until > now);
        rested.chain(due.next.map(instant)).min()
    }

    async fn claim(&self, room: [usize; 4], lease: Duration) -> Result<Due, StorageError> {
        let (database, now) = (&self.outbox.database, Instant::now());
        let resting = self.resting.iter().filter(|(_, (_, until))| *until > now).map(|(id, _)| *id);
        let claim = Claim {
            target: self.target.clone(),
            node: database.is_shared().then(|| self.outbox.node.to_string()),
            lease,
            // Those under way, and those that rest, are first in their lanes, too.
            limits: room.map(|room| if room > 0 { PARALLEL + self.resting.len() } else { 0 }),
            known: self.under_way.values().map(|(id, _)| *id).chain(resting).collect(),
        };
        if database.is_shared() {
            database.write_lazily(move |tx| claim::claim(tx, &claim)).await
        } else {
            database.read(move |tx| claim::claim(tx, &claim)).await
        }
    }

    /// A try ended. Of one that panicked nothing is stored, so its event would be due again at once: it rests.
    fn note(&mut self, done: Result<(Id, ()), JoinError>) {
        let (task, has_failed) = match done {
            Ok((task, ())) => (task, false),
            Err(error) => (error.id(), true),
        };
        let Some((event, _)) = self.under_way.remove(&task) else { return };
        if !has_failed {
            self.resting.remove(&event);
            return;
        }
        let failures = self.resting.get(&event).map_or(0, |(failures, _)| *failures) + 1;
        let pause = backoff::pause(self.outbox.pace.backoff, failures);
        self.resting.insert(event, (failures, Instant::now() + pause));
        tracing::error!(
            app = self.target.app_id,
            id = event,
            failures,
            "bug: the outbox failed while it stored the result of posting an event; it posts the event again"
        );
    }
}

/// Waits; for ever when there is nothing to wait for.
async fn wait_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

fn instant(at: i64) -> Instant {
    Instant::now() + Duration::from_micros(u64::try_from(at - storage::now()).unwrap_or(0))
}
