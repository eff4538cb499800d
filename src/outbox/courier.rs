//! Posts events to endpoints: one courier, a task of its own, for each.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::Instant;

use super::outage::Outages;
use super::queue::{self, Attempt, Claim, Due, Task};
use super::{Endpoint, Event, Outbox, OutboxStats, Target, backoff, micros, request};
use crate::http_client::{self, HttpAnswer, HttpClient, HttpFailure, HttpOptions, Reach};
use crate::storage::{self, StorageError};

/// Lanes of one endpoint that are served at once; beside them as many of those whose last try failed. The next
/// one may take its time, too, so these must not take the places of the others.
const PARALLEL: usize = 16;
/// Bytes read of an answer.
const MAX_ANSWER: usize = 4 * 1024;
/// How long an answer's body is waited for where nobody but the log wants it.
const BODY_TIME: Duration = Duration::from_secs(1);
/// Pause after the store failed.
const PAUSE: Duration = Duration::from_secs(1);
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

    fn client(&self, reach: &Reach) -> Result<HttpClient, HttpFailure> {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(reach) {
            return Ok(client.clone());
        }
        let options = HttpOptions { title_case_headers: true, ..HttpOptions::default() };
        let client = HttpClient::within(reach, options).map_err(HttpFailure::NotSent)?;
        clients.insert(reach.clone(), client.clone());
        Ok(client)
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
    let mut tasks = JoinSet::new();
    let mut started = HashSet::new();
    let mut look = tokio::time::interval(if outbox.database.is_shared() { LOOK_SHARED } else { LOOK });
    loop {
        tokio::select! {
            () = couriers.has_new.notified() => {}
            _ = look.tick() => match outbox.database.read(queue::targets).await {
                Ok(targets) => targets.iter().for_each(|target| couriers.wake(target)),
                Err(error) => tracing::error!(%error, "the outbox can't read which endpoints have events"),
            },
        }
        for (target, wake) in couriers.all() {
            if started.insert(target.clone()) {
                let courier = Courier { outbox: outbox.clone(), target, wake, under_way: HashMap::new() };
                tasks.spawn(courier.run());
            }
        }
    }
}

/// Serves one endpoint.
struct Courier {
    outbox: Outbox,
    target: Target,
    wake: Arc<Notify>,
    /// Events that are being posted, by the task that does, and whether their lanes' last tries failed.
    under_way: HashMap<Id, (i64, bool)>,
}

impl Courier {
    async fn run(mut self) {
        let mut tries = JoinSet::new();
        loop {
            let next = self.start_due(&mut tries).await;
            tokio::select! {
                Some(done) = tries.join_next_with_id() => self.note(done).await,
                () = self.wake.notified() => {}
                () = wait_until(next) => {}
            }
        }
    }

    /// Starts what is due and has room; tells when to look again, if no wake-up comes first.
    async fn start_due(&mut self, tries: &mut JoinSet<()>) -> Option<Instant> {
        let timeout = self.outbox.endpoint(&self.target)?.timeout;
        let mut room = [false, true].map(|fails| {
            PARALLEL - self.under_way.values().filter(|(_, lane_fails)| *lane_fails == fails).count()
        });
        let due = match self.claim(room, timeout).await {
            Ok(due) => due,
            Err(error) => {
                tracing::error!(app = self.target.app_id, %error, "the outbox can't read the events of an endpoint");
                return Some(Instant::now() + PAUSE);
            }
        };
        // As it is now: what was written after a change of settings goes where they say.
        let endpoint = self.outbox.endpoint(&self.target)?;
        for task in due.tasks {
            let (id, lane_fails) = (task.id, task.lane_fails);
            let room = &mut room[usize::from(lane_fails)];
            if *room == 0 || self.under_way.values().any(|(under_way, _)| *under_way == id) {
                continue;
            }
            *room -= 1;
            let a_try = Try { outbox: self.outbox.clone(), target: self.target.clone(), task };
            let handle = tries.spawn(a_try.run(endpoint.clone()));
            self.under_way.insert(handle.id(), (id, lane_fails));
        }
        due.next.map(instant)
    }

    async fn claim(&self, room: [usize; 2], lease: Duration) -> Result<Due, StorageError> {
        let database = &self.outbox.database;
        let claim = Claim {
            target: self.target.clone(),
            node: database.is_shared().then(|| self.outbox.node.to_string()),
            lease,
            // Those under way are first in their lanes, too.
            limits: room.map(|room| if room > 0 { PARALLEL } else { 0 }),
        };
        if database.is_shared() {
            database.write_lazily(move |tx| queue::claim(tx, &claim)).await
        } else {
            database.read(move |tx| queue::claim(tx, &claim)).await
        }
    }

    async fn note(&mut self, done: Result<(Id, ()), JoinError>) {
        let id = match done {
            Ok((id, ())) => id,
            Err(error) => {
                tracing::error!(app = self.target.app_id, %error, "bug: the outbox failed while it posted an event; it posts the event again");
                // Nothing is stored of it, so the event is due again at once.
                tokio::time::sleep(PAUSE).await;
                error.id()
            }
        };
        self.under_way.remove(&id);
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

/// One try of one event.
struct Try {
    outbox: Outbox,
    target: Target,
    task: Task,
}

impl Try {
    async fn run(self, endpoint: Endpoint) {
        let event: Event = match serde_json::from_str(&self.task.payload) {
            Ok(event) => event,
            Err(error) => {
                tracing::error!(app = self.target.app_id, id = self.task.id, %error, "bug: the outbox gave up an event: its row can't be read");
                self.settle(Outcome::GivenUp("it can't be read".to_owned()), None, &endpoint).await;
                return;
            }
        };
        let (started_at, started) = (storage::now(), Instant::now());
        let answer = self.post(&endpoint, &event).await;
        let latency_ms = i64::try_from(started.elapsed().as_millis()).unwrap_or(i64::MAX);
        let (status, body, error) = match &answer {
            Ok(answer) if answer.status.is_success() => (Some(answer.status), &answer.body[..], None),
            Ok(answer) => {
                (Some(answer.status), &answer.body[..], Some(format!("HTTP {}", answer.status.as_u16())))
            }
            Err(failure) => (None, &b""[..], Some(failure.to_string())),
        };
        let attempt = Attempt {
            started_at,
            latency_ms,
            status: status.map(|status| status.as_u16()),
            answer: Attempt::cut(body),
            error: error.clone(),
        };
        let outcome = match error {
            None => Outcome::Taken(event.about.map(|about| (about, Bytes::copy_from_slice(body)))),
            Some(error) => self.after_failure(&endpoint, error),
        };
        self.settle(outcome, Some(attempt), &endpoint).await;
    }

    async fn post(&self, endpoint: &Endpoint, event: &Event) -> Result<HttpAnswer, HttpFailure> {
        let body = request::body(&self.target, &self.task, event, endpoint.data)
            .map_err(|error| HttpFailure::NotSent(format!("bug: the event can't be written: {error}")))?;
        let headers = request::headers(endpoint, &body);
        let client = self.outbox.couriers.client(&endpoint.reach)?;
        let patience = if event.about.is_some() { endpoint.timeout } else { BODY_TIME };
        client.notify(&endpoint.url, headers, body, endpoint.timeout, MAX_ANSWER, patience).await
    }

    fn after_failure(&self, endpoint: &Endpoint, error: String) -> Outcome {
        let failures = u32::try_from(self.task.attempts + 1).unwrap_or(u32::MAX);
        let pause = backoff::pause(self.outbox.pace.backoff, failures);
        let next = storage::now() + micros(pause);
        let limit = self.task.queued_at.saturating_add(micros(endpoint.give_up_after));
        if next < limit { Outcome::Again(next, error) } else { Outcome::GivenUp(error) }
    }

    /// Stores what the try came to. It goes on until that is done: otherwise the event would be posted again
    /// at once.
    async fn settle(&self, outcome: Outcome, attempt: Option<Attempt>, endpoint: &Endpoint) {
        let (app, id, couriers) = (self.target.app_id.as_str(), self.task.id, &self.outbox.couriers);
        while let Err(error) = self.store(outcome.clone(), attempt.clone(), endpoint.keeps_log).await {
            tracing::error!(app, id, %error, "the outbox can't store the result of posting an event; it tries again");
            tokio::time::sleep(PAUSE).await;
        }
        match &outcome {
            Outcome::Taken(_) => {
                couriers.delivered.fetch_add(1, Ordering::Relaxed);
                self.log_recovery(endpoint).await;
            }
            Outcome::Again(next, error) => {
                couriers.failed_tries.fetch_add(1, Ordering::Relaxed);
                self.log_failure(endpoint, error, Some(*next));
                let name = &endpoint.name;
                tracing::debug!(
                    app,
                    endpoint = name,
                    id,
                    error,
                    "an endpoint did not take an event; it is posted again"
                );
            }
            Outcome::GivenUp(error) => {
                couriers.failed_tries.fetch_add(1, Ordering::Relaxed);
                couriers.gave_up(1);
                self.log_failure(endpoint, error, None);
                let name = &endpoint.name;
                tracing::warn!(
                    app,
                    endpoint = name,
                    id,
                    error,
                    "the outbox gave up an event; it can be sent again"
                );
            }
        }
        self.outbox.broadcasts.held().tried(id);
    }

    /// Once an outage.
    fn log_failure(&self, endpoint: &Endpoint, cause: &str, next: Option<i64>) {
        let is_first_try = self.task.attempts == 0;
        if !self.outbox.couriers.outages.failed(&self.target, is_first_try, Instant::now()) {
            return;
        }
        let wait = next.map(|next| Duration::from_micros(u64::try_from(next - storage::now()).unwrap_or(0)));
        tracing::warn!(
            app = self.target.app_id,
            endpoint = endpoint.name,
            address = http_client::address(&endpoint.url),
            cause,
            next_try_in = wait.map(|wait| tracing::field::debug(Duration::from_millis(wait.as_millis() as u64))),
            give_up_after = ?endpoint.give_up_after,
            "an endpoint fails; its events wait and are posted again"
        );
    }

    async fn log_recovery(&self, endpoint: &Endpoint) {
        let Some(ended) = self.outbox.couriers.outages.worked(&self.target, Instant::now()) else { return };
        let target = self.target.clone();
        let waiting = self.outbox.database.read(move |tx| queue::waiting(tx, &target)).await.ok();
        tracing::info!(
            app = self.target.app_id,
            endpoint = endpoint.name,
            address = http_client::address(&endpoint.url),
            failed_for = ?Duration::from_millis(ended.lasted.as_millis() as u64),
            failed_tries = ended.failures,
            waiting,
            "an endpoint takes events again"
        );
    }

    async fn store(
        &self,
        outcome: Outcome,
        attempt: Option<Attempt>,
        is_kept: bool,
    ) -> Result<(), StorageError> {
        let (target, task) = (self.target.clone(), self.task.clone());
        let receivers = self.outbox.receivers_of(&target);
        self.outbox
            .database
            .write(move |tx| {
                match &outcome {
                    Outcome::Taken(answer) => {
                        queue::finish(tx, &target, &task, is_kept)?;
                        if let (Some((about, body)), Some(receivers)) = (answer, &receivers) {
                            receivers.answered(tx, *about, body)?;
                        }
                    }
                    Outcome::Again(next, error) => queue::retry(tx, &target, &task, Some(*next), error)?,
                    Outcome::GivenUp(error) => queue::retry(tx, &target, &task, None, error)?,
                }
                match &attempt {
                    // Without a log, what was taken at once has no history worth a row.
                    Some(attempt) if is_kept || attempt.error.is_some() || task.attempts > 0 => {
                        queue::record(tx, &target, task.id, attempt)
                    }
                    _ => Ok(()),
                }
            })
            .await
    }
}

/// What a try came to.
#[derive(Clone, Debug)]
enum Outcome {
    /// With what the answer is about and says, where that is wanted.
    Taken(Option<(super::About, Bytes)>),
    /// Failed; the next try is not before this time.
    Again(i64, String),
    /// Failed for good.
    GivenUp(String),
}
