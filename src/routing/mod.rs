//! The message router: a portal's backend hands over a text message; it goes to another user of the
//! portal without a carrier (internal), or out through Telnyx (external), and both people see it at once.
//!
//! # The promise
//! 1. A message to a number that is assigned to a portal user never reaches the carrier.
//! 2. What was acknowledged is on disk, and what must follow from it is, too.
//! 3. A message is never handed to the carrier twice by the server's own doing; where the carrier leaves
//!    it open whether it took one, the doubt is told (`unconfirmed`).
//! 4. Nothing that fails later (a broadcast, a callback, the carrier) fails or delays the storing.
//! 5. Apps never see each other's data.
//!
//! # Where things are
//! `draft` checks a request, `decision` decides, `send` writes the records, `events` names and fills what
//! clients are told, `callbacks` what the backend is told. `jobs` hands messages to the carrier (`carrier`
//! speaks to it), `inbox` takes its webhooks in, `unrouted` keeps messages that are nobody's. `records` and `directory` hold the SQL.
//!
//! Methods of [`Router`] are called by HTTP handlers on the shards; they wait for the storage's threads,
//! never block. [`Router::run`] runs the rest on the service runtime.
//!
//! May import `hub`, `outbox`, `storage`, `http_client`, `apps`, `protocol`, `config`, `logging`.

mod answer;
pub mod attachments;
mod callbacks;
mod cancel;
pub mod carrier;
mod channel_access;
mod clock;
mod contact_presence;
mod contacts;
mod counters;
pub mod decision;
pub mod directory;
pub mod draft;
mod edit;
pub mod error;
mod events;
pub mod exposure;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
pub mod group;
mod inbox;
mod jobs;
pub mod json;
mod later;
mod limits;
pub mod numbers;
pub mod numbers_file;
pub mod numbers_import;
mod observe;
mod opt_outs;
mod overview;
pub mod phone_number;
pub mod portal_directory;
mod portal_ids;
mod progress;
mod read;
pub mod reading;
pub mod records;
mod retention;
mod routed;
mod search;
mod send;
mod sms;
pub mod status;
#[cfg(test)]
mod test_support;
pub mod text;
mod typing;
mod unrouted;
pub mod user_tokens;

use std::sync::Arc;
use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use tokio::runtime::Handle;

pub use callbacks::FailedCallback;
pub use counters::{Counter, Counters, ThrottledBy};
pub use edit::DeleteScope;
pub use error::{Code, RoutingError};
pub use inbox::{CarrierEventJson, CarrierEventQuery, KeptState, WebhookRefusal};
pub use jobs::LineState;
pub use opt_outs::OptOut;
pub use overview::{Depth, Lanes, Overview, Queues};
pub use send::Sent;
pub use unrouted::{UnroutedJson, UnroutedQuery, UnroutedState};

pub use crate::outbox::LatencyHistogram;

use crate::apps::App;
use crate::hub::Hub;
use crate::outbox::Outbox;
use crate::storage::{Database, StorageError, Transaction};
use events::Events;

/// When to come back to a full store.
const FULL_FOR: Duration = Duration::from_mins(1);

/// The message router of all apps. Cloning shares it.
#[derive(Clone)]
pub struct Router {
    inner: Arc<Inner>,
}

struct Inner {
    database: Database,
    outbox: Outbox,
    hub: Hub,
    hints: observe::Hints,
    node: Arc<str>,
    thread_key: Vec<u8>,
    tokens: user_tokens::Tokens,
    limits: limits::Limits,
    counters: Counters,
    jobs: jobs::Jobs,
    typing: typing::Typing,
    inbox: inbox::Inbox,
    unrouted: unrouted::Deliveries,
    portal_directories: portal_directory::PortalDirectories,
    attachments: attachments::Attachments,
    exposure: exposure::Exposure,
}

impl Router {
    /// A router over the outbox's store; the outbox is run by whoever made it. It observes and guards the hub from now on, so it must be there before
    /// connections are accepted.
    ///
    /// # Errors
    /// The store can't be used.
    pub async fn new(outbox: Outbox, hub: Hub) -> Result<Self, StorageError> {
        let (database, node) = (outbox.database().clone(), Arc::clone(outbox.node()));
        outbox.serve(callbacks::KIND, Arc::new(callbacks::Portals { hub: hub.clone() }));
        let (observer, hints) = observe::observer();
        hub.observe(&observer);
        hub.guard(Arc::new(channel_access::ChannelAccess::new(database.clone())));
        let server_key = server_key(&database, "thread").await?;
        let tokens = user_tokens::Tokens::new(self::server_key(&database, "user tokens").await?);
        let inner = Inner {
            outbox,
            attachments: attachments::Attachments::new(&server_key, Handle::current()),
            thread_key: server_key,
            tokens,
            database,
            hub,
            hints,
            node,
            limits: limits::Limits::default(),
            counters: Counters::default(),
            jobs: jobs::Jobs::default(),
            typing: typing::Typing::default(),
            inbox: inbox::Inbox::default(),
            exposure: exposure::Exposure::default(),
            unrouted: unrouted::Deliveries::default(),
            portal_directories: portal_directory::PortalDirectories::new(Handle::current()),
        };
        let router = Self { inner: Arc::new(inner) };
        inbox::adopt(&router).await?;
        Ok(router)
    }

    /// Does what follows from messages until the process ends.
    pub async fn run(self) {
        tokio::join!(
            observe::run(&self),
            opt_outs::take_over(&self),
            jobs::run(&self),
            jobs::ask(&self),
            inbox::run(&self),
            unrouted::run(&self),
            later::run(&self),
            attachments::run(&self),
            attachments::sweep(&self),
            retention::run(&self)
        );
    }

    /// Ends the calls to the carrier: starts no more and waits for those that are out, for so long at most.
    /// What remains is done after the next start.
    pub async fn stop(&self, limit: Duration) {
        let done = async {
            while self.inner.jobs.stop() > 0 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        if tokio::time::timeout(limit, done).await.is_err() {
            tracing::warn!("the router cut off calls to the carrier and settles them after the next start");
        }
    }

    fn database(&self) -> &Database {
        &self.inner.database
    }

    /// Whether there is room for something new.
    ///
    /// # Errors
    /// `store_full`.
    fn check_room_in_store(&self) -> Result<(), RoutingError> {
        if !self.database().size().is_full {
            return Ok(());
        }
        Err(RoutingError {
            retry_after: Some(FULL_FOR),
            ..RoutingError::new(Code::StoreFull, "the message store is full and takes nothing new")
        })
    }

    fn limits(&self) -> &limits::Limits {
        &self.inner.limits
    }

    /// Counts a call with a user's token.
    ///
    /// # Errors
    /// `rate_limited`: the user makes too many.
    pub fn take_call(&self, app: &App, user_id: &str) -> Result<(), RoutingError> {
        self.limits().take_call(app, user_id)
    }

    /// How an app's line to the carrier is.
    pub fn line(&self, app_id: &str) -> LineState {
        self.inner.jobs.line(app_id)
    }

    /// Comings, goings and typing that were too many to be followed.
    pub fn lost_observations(&self) -> u64 {
        self.inner.hints.lost()
    }

    /// How long it took from calls to send to the broadcasts that followed, by app.
    pub fn latencies(&self) -> Vec<LatencyHistogram> {
        self.inner.outbox.latencies()
    }

    /// What was counted since the start.
    pub fn counters(&self) -> &Counters {
        &self.inner.counters
    }

    /// Counts something once, though its job may be run again.
    fn count_on_commit(&self, tx: &mut Transaction<'_>, counter: Counter) {
        let router = self.clone();
        tx.on_commit("", move || router.counters().count(counter));
    }

    /// What both sides of an internal conversation have in common; tells nothing of the numbers.
    fn thread_id(&self, app_id: &str, one: &str, other: &str) -> String {
        // Of all spellings of a line it is the same.
        let (one, other) = (phone_number::line(one), phone_number::line(other));
        let (low, high) = if one < other { (&one, &other) } else { (&other, &one) };
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.inner.thread_key)
            .expect("bug: HMAC takes keys of any length");
        for part in [app_id, "\0", low.as_str(), "\0", high.as_str()] {
            mac.update(part.as_bytes());
        }
        hex::encode(&mac.finalize().into_bytes()[..16])
    }

    /// Has events published once the transaction is committed.
    fn publish(
        &self,
        tx: &mut Transaction<'_>,
        app: &App,
        lane: &str,
        events: Events<'_>,
        except: Option<&str>,
        now: i64,
    ) -> Result<(), StorageError> {
        match events.broadcast(except, now) {
            Some(broadcast) => self.inner.outbox.broadcast(tx, &app.settings.id, lane, broadcast, now),
            None => Ok(()),
        }
    }
}

/// A key of this store, for this use, made when it is asked for the first time.
async fn server_key(database: &Database, name: &'static str) -> Result<Vec<u8>, StorageError> {
    let mut key = vec![0_u8; 32];
    getrandom::fill(&mut key).map_err(|error| StorageError::Fault(error.to_string()))?;
    database
        .write(move |tx| {
            tx.execute(
                "INSERT INTO server_keys (name, value) VALUES (?1, ?2) ON CONFLICT DO NOTHING",
                &[name.into(), key.clone().into()],
            )?;
            let row = tx.query_one("SELECT value FROM server_keys WHERE name = ?1", &[name.into()])?;
            row.map_or_else(
                || Err(StorageError::Fault("the server key vanished".to_owned())),
                |row| row.bytes(0),
            )
        })
        .await
}
