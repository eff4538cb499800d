//! What must still happen after a commit: broadcasts to connected clients, events for backends (the router's
//! callbacks, Pusher webhooks).
//!
//! A row is written in the transaction that causes it, so nothing is announced that was not stored, and
//! nothing stored is forgotten: what a crash left undone is done after the restart (at least once). Rows
//! of one lane (the two sides of a conversation) are performed in the order of their commits.
//!
//! Broadcasts cost nothing but memory, so they are performed right behind the commit, on the storage's
//! thread; [`Outbox::run`] does what that could not. `held` keeps those back that must come after a
//! callback. Events for backends wait for others: they are claimed from the table (`queue`, `claim`) by one courier
//! for each endpoint (`courier`, `posting`), and each has a schedule of its own, so that neither a dead endpoint nor a
//! lane that fails delays others. `outage` logs when one begins and stops failing. `log` lists them and has them sent again. `upkeep` gives up, drops and
//! deletes what is too old or too much.
//!
//! May import `hub`, `storage`, `http_client`, `apps`, `protocol`, `config`.

mod backoff;
mod broadcast;
mod claim;
mod courier;
mod held;
mod latency;
mod log;
mod outage;
mod posting;
mod queue;
mod request;
mod step;
mod upkeep;

#[cfg(test)]
mod costs;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use hyper::Uri;
use hyper::header::HeaderMap;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::apps::App;
use crate::config::CallbackData;
use crate::http_client::Reach;
use crate::hub::Hub;
use crate::storage::{Database, StorageError, Transaction};

pub use broadcast::{Broadcast, Publication};

pub use latency::LatencyHistogram;
pub use log::{EventState, Listing, StoredEvent};
pub use queue::Attempt;
pub use upkeep::MAX_ROWS;

/// How long a row is left to the process that wrote it, in microseconds. Broadcasts are performed within
/// milliseconds, and beyond the lease of an event comes the time of its call.
const LEASE: i64 = 10_000_000;

/// Requests that one endpoint may have at once.
pub const REQUESTS_AT_ONCE: usize = courier::PARALLEL * claim::Group::ALL.len();

/// The outbox. Cloning shares it.
#[derive(Clone)]
pub struct Outbox {
    database: Database,
    broadcasts: Arc<broadcast::Broadcasts>,
    couriers: Arc<courier::Couriers>,
    receivers: Arc<Families>,
    node: Arc<str>,
    pace: Pace,
}

/// Who knows the endpoints, by the first word of their kinds.
type Families = RwLock<HashMap<&'static str, Arc<dyn Receivers>>>;

/// Who events are posted to: one endpoint of one app.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    /// The app.
    pub app_id: String,
    /// Which of its endpoints: a word, or `word:name` where there are several; never `broadcast`.
    pub kind: String,
}

/// Events that go out one after the other.
#[derive(Clone, Copy, Debug)]
pub struct Lane<'a> {
    /// Its name, unique within a target.
    pub name: &'a str,
    /// Whether they are of something that everybody may do who knows the app's key. Such events take no
    /// place of others.
    pub is_public: bool,
}

impl<'a> From<&'a str> for Lane<'a> {
    fn from(name: &'a str) -> Self {
        Self { name, is_public: false }
    }
}

impl<'a> From<&'a String> for Lane<'a> {
    fn from(name: &'a String) -> Self {
        Self::from(name.as_str())
    }
}

/// What the outbox must know of the world it posts to.
pub trait Receivers: Send + Sync + 'static {
    /// Where a target's events go now; `None`: nowhere, they wait until they are given up.
    fn endpoint(&self, target: &Target) -> Option<Endpoint>;

    /// An event was taken; `body` is the answer's first bytes. Part of the transaction that settles it.
    ///
    /// # Errors
    /// Of the store.
    fn answered(&self, tx: &mut Transaction<'_>, about: About, body: &[u8]) -> Result<(), StorageError> {
        let _ = (tx, about, body);
        Ok(())
    }

    /// An event does not wait any more: it was taken, given up or dropped. Part of the transaction that settles it.
    ///
    /// # Errors
    /// Of the store.
    fn settled(&self, tx: &mut Transaction<'_>, target: &Target, id: i64) -> Result<(), StorageError> {
        let _ = (tx, target, id);
        Ok(())
    }

    /// An event was given up. Part of the same transaction.
    ///
    /// # Errors
    /// Of the store.
    fn gave_up(&self, tx: &mut Transaction<'_>, target: &Target, event: &Event) -> Result<(), StorageError> {
        let _ = (tx, target, event);
        Ok(())
    }

    /// Whether [`Receivers::amend_event`] may have something to do for a target.
    ///
    /// # Errors
    /// Of the store.
    fn amends(&self, tx: &mut Transaction<'_>, target: &Target) -> Result<bool, StorageError> {
        let _ = (tx, target);
        Ok(false)
    }

    /// A last look at an event that goes out for the first time: others before it may have been given up.
    ///
    /// # Errors
    /// Of the store.
    fn amend_event(
        &self,
        tx: &mut Transaction<'_>,
        target: &Target,
        event: &mut Event,
    ) -> Result<Amended, StorageError> {
        let _ = (tx, target, event);
        Ok(Amended::Not)
    }

    /// A last look at a broadcast that waited for callbacks: their answers may have changed what it says.
    ///
    /// # Errors
    /// Of the store.
    fn amend(&self, tx: &mut Transaction<'_>, broadcast: &mut Broadcast) -> Result<(), StorageError> {
        let _ = (tx, broadcast);
        Ok(())
    }
}

/// What became of an event before it went out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Amended {
    /// It goes out as it was written.
    Not,
    /// It goes out as it is now.
    Changed,
    /// It says nothing any more and does not go out.
    Away,
}

/// Where events are posted to, as settings say at the time of a try.
#[derive(Clone)]
pub struct Endpoint {
    /// What operators call it.
    pub name: String,
    /// Signs with its first secret.
    pub app: Arc<App>,
    /// http or https.
    pub url: Uri,
    /// Time for an answer.
    pub timeout: Duration,
    /// How long an event is tried before it is given up.
    pub give_up_after: Duration,
    /// Sent with every event; never in the place of the outbox's own.
    pub headers: HeaderMap,
    /// Which addresses and certificates are accepted.
    pub reach: Reach,
    /// The form of an event's `data`; of no meaning for lists of events, which are posted as they are.
    pub data: CallbackData,
    /// Whether events that were taken, and all tries, are kept for 24 h.
    pub keeps_log: bool,
    /// Events that may be given up and, with `drops_waiting`, wait; beyond that the oldest are deleted, first those
    /// given up.
    pub max_rows: i64,
    /// Whether events that wait count, too. Otherwise whoever writes them sees to that.
    pub drops_waiting: bool,
}

/// Rows of records that an event is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    /// A message's row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<i64>,
    /// A conversation's row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conversation: Option<i64>,
}

/// What is posted to an endpoint.
#[derive(Debug, Serialize, Deserialize)]
pub struct Event {
    /// `message_sent` and the like.
    pub name: String,
    /// What happened; goes out as `data`, beside `name`, `id` and `seq`.
    pub data: Box<RawValue>,
    /// Whether `data` is the whole list of events as it goes out: Pusher's webhooks have keys of their own.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_list: bool,
    /// Set where [`Receivers::answered`] wants to know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub about: Option<About>,
}

/// What was counted since the start of the process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OutboxStats {
    /// Events published to clients.
    pub published: u64,
    /// Broadcasts that were too old.
    pub expired: u64,
    /// Events that an endpoint took.
    pub delivered: u64,
    /// Tries that failed.
    pub failed_tries: u64,
    /// Events given up after their time.
    pub given_up: u64,
    /// Events deleted because there were too many.
    pub dropped: u64,
}

/// Times that tests shorten.
#[derive(Clone, Copy, Debug)]
struct Pace {
    /// Pause after the first failure; doubled after each, up to a minute.
    backoff: Duration,
    /// How long a broadcast waits for its callbacks.
    hold: Duration,
    /// Time for clients to come back after a start, before they are told what was left over: pusher-js
    /// tries every second.
    reconnect: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        let second = Duration::from_secs(1);
        Self { backoff: second, hold: second * 2, reconnect: second * 3 }
    }
}

impl Outbox {
    /// An outbox over this store, publishing through this hub. `node` names this process among those that
    /// share the store.
    pub fn new(database: Database, hub: Hub, node: Arc<str>) -> Self {
        Self::with_pace(database, hub, node, Pace::default())
    }

    fn with_pace(database: Database, hub: Hub, node: Arc<str>, pace: Pace) -> Self {
        let broadcasts = Arc::new(broadcast::Broadcasts::new(hub, pace.hold));
        Self { broadcasts, couriers: Arc::default(), database, receivers: Arc::default(), node, pace }
    }

    /// Has events of kind `family`, or `family:…`, posted to the endpoints that these receivers know.
    pub fn serve(&self, family: &'static str, receivers: Arc<dyn Receivers>) {
        self.receivers.write().unwrap_or_else(PoisonError::into_inner).insert(family, receivers);
        self.couriers.wake_all();
    }

    /// Connects anew from now on: files of certificates may have changed.
    pub fn reconnect(&self) {
        self.couriers.forget_clients();
    }

    /// Who knows a target's endpoint.
    fn receivers_of(&self, target: &Target) -> Option<Arc<dyn Receivers>> {
        let family = target.kind.split(':').next().unwrap_or(&target.kind);
        self.receivers.read().unwrap_or_else(PoisonError::into_inner).get(family).cloned()
    }

    fn endpoint(&self, target: &Target) -> Option<Endpoint> {
        self.receivers_of(target)?.endpoint(target)
    }

    fn all_receivers(&self) -> Vec<Arc<dyn Receivers>> {
        self.receivers.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// The store.
    pub fn database(&self) -> &Database {
        &self.database
    }

    /// What names this process among those that share the store.
    pub fn node(&self) -> &Arc<str> {
        &self.node
    }

    /// Adds a broadcast to a transaction. One with `after` waits until each of these events was tried, or
    /// for 2 s; later broadcasts of its lane wait behind it.
    ///
    /// # Errors
    /// Of the store.
    pub fn broadcast(
        &self,
        tx: &mut Transaction<'_>,
        app_id: &str,
        lane: &str,
        broadcast: Broadcast,
        now: i64,
    ) -> Result<(), StorageError> {
        broadcast::add(self, tx, app_id, lane, broadcast, now)
    }

    /// Adds an event for an endpoint to a transaction; answers its row. Those of one lane go out one after
    /// the other.
    ///
    /// # Errors
    /// Of the store.
    pub fn post<'a>(
        &self,
        tx: &mut Transaction<'_>,
        target: &Target,
        lane: impl Into<Lane<'a>>,
        event: &Event,
        now: i64,
    ) -> Result<i64, StorageError> {
        let lane = lane.into();
        let payload = serde_json::to_string(event)
            .map_err(|error| StorageError::Fault(format!("an event can't be written: {error}")))?;
        let id = queue::add(tx, target, lane, payload, &self.node, now)?;
        let (couriers, target) = (Arc::clone(&self.couriers), target.clone());
        tx.on_commit(lane.name, move || couriers.wake(&target));
        Ok(id)
    }

    /// What was counted.
    pub fn stats(&self) -> OutboxStats {
        let (published, expired) = self.broadcasts.counts();
        OutboxStats { published, expired, ..self.couriers.stats() }
    }

    /// How long it took from calls to the broadcasts that they led to, by app; see
    /// [`Broadcast::called_at`].
    pub fn latencies(&self) -> Vec<LatencyHistogram> {
        self.broadcasts.latencies().read()
    }

    /// The process is about to end and its clients are sent away. They are still told what happens, but it
    /// is told again after the next start.
    pub fn end(&self) {
        self.broadcasts.end();
    }

    /// Performs what is left over from before and what could not be performed at once; never ends.
    pub async fn run(self) {
        tokio::join!(broadcast::run(&self), held::run(&self), courier::run(&self), upkeep::run(&self));
    }
}

fn no_id() -> StorageError {
    StorageError::Fault("bug: a row of the outbox got no id".to_owned())
}

/// A duration in the unit of stored times.
fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}
