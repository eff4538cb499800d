//! Webhooks of the carrier.
//!
//! A webhook is verified, stored under its event's id, and answered; everything else happens from the
//! table. The carrier gives two seconds, repeats what it got no 2xx for, and keeps no order.

mod inbound;
mod report;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use hyper::HeaderMap;
use tokio::sync::Notify;

use super::Router;
use super::carrier::{CarrierEvent, EventType, SignatureError, Verifier};
use super::counters::Counter;
use super::error::RoutingError;
use crate::apps::App;
use crate::logging::seldom::Seldom;
use crate::storage::{self, StorageError, Transaction};

/// How often events are looked for that nobody woke us for.
const POLL: Duration = Duration::from_secs(1);
/// Events processed at once.
const PAGE: i64 = 64;
/// How long an event about an unknown message is tried again: the answer to our call may be on its way.
const PATIENCE: i64 = 120_000_000;
/// Pause before such an event is tried again, in microseconds.
const RETRY: i64 = 1_000_000;
/// Pause after a failure of the store or the directory, in microseconds.
const RETRY_FAILED: i64 = 5_000_000;

/// What wakes the worker.
#[derive(Default)]
pub struct Inbox {
    wake: Notify,
}

/// Why a webhook was not taken.
#[derive(Debug, thiserror::Error)]
pub enum WebhookRefusal {
    /// 503: there is no key to verify it with.
    #[error("no public key is configured for the carrier's webhooks: set routing.carrier.telnyx.public_key")]
    NoKey,
    /// 403: it is not the carrier's.
    #[error("the webhook's signature is not valid: {0}")]
    Signature(#[from] SignatureError),
    /// 503: it could not be stored; the carrier tries again.
    #[error("the webhook could not be stored")]
    Store,
}

impl WebhookRefusal {
    /// The answer's HTTP status.
    pub fn status(&self) -> u16 {
        match self {
            Self::NoKey | Self::Store => 503,
            Self::Signature(_) => 403,
        }
    }
}

/// What became of an event.
enum Verdict {
    /// Nothing more to do.
    Done,
    /// It is about a message that is not known (yet).
    Unknown,
}

/// A stored event.
struct Entry {
    id: i64,
    app_id: String,
    body: Vec<u8>,
    received_at: i64,
}

impl Router {
    /// Takes in a webhook of the carrier: verified, stored, to be processed at once. One that was stored
    /// before changes nothing.
    ///
    /// # Errors
    /// See [`WebhookRefusal`].
    pub async fn carrier_webhook(
        &self,
        app: Arc<App>,
        headers: &HeaderMap,
        body: Bytes,
    ) -> Result<(), WebhookRefusal> {
        let keys = &app.settings.routing.telnyx.public_key;
        let verifier = Verifier::new(keys).map_err(|_| WebhookRefusal::NoKey)?;
        if !verifier.has_keys() {
            return Err(WebhookRefusal::NoKey);
        }
        verifier.verify(headers, &body, storage::now() / 1_000_000).inspect_err(|error| {
            self.counters().count(Counter::WebhookRefused);
            log_refusal(&app.settings.id, error.kind());
        })?;
        let event = match CarrierEvent::parse(&body) {
            Ok(event) => event,
            Err(error) => {
                // Genuine, but nothing we know: a repeat would be the same.
                tracing::warn!(app = app.settings.id, %error, "the router ignored a carrier webhook: it can't be read");
                return Ok(());
            }
        };
        if let EventType::Other(kind) = &event.event_type {
            tracing::info!(
                app = app.settings.id,
                kind,
                "the router ignored a carrier webhook: its event type is not used"
            );
            return Ok(());
        }
        let (router, app_id) = (self.clone(), app.settings.id.clone());
        let stored = self.database().write(move |tx| {
            let now = storage::now();
            let added = tx.execute(
                "INSERT INTO inbox (app_id, event_id, body, state, attempts, not_before, locked_until, received_at) \
                 VALUES (?1, ?2, ?3, 'pending', 0, ?4, 0, ?4) ON CONFLICT DO NOTHING",
                &[(&app_id).into(), (&event.event_id).into(), body.to_vec().into(), now.into()],
            )?;
            if added == 0 {
                router.count_on_commit(tx, Counter::WebhookRepeated);
            }
            let router = router.clone();
            tx.on_commit(event.event_id.as_str(), move || router.inner.inbox.wake.notify_one());
            Ok::<_, StorageError>(())
        });
        stored.await.map_err(|error| {
            tracing::error!(%error, "the router can't store a carrier webhook; the carrier sends it again");
            WebhookRefusal::Store
        })
    }
}

/// Anybody can send such a request as often as they like, so only one a minute is a warning.
fn log_refusal(app: &str, reason: &str) {
    static SELDOM: Seldom = Seldom::new();
    match SELDOM.admit() {
        Some(suppressed) => tracing::warn!(app, reason, suppressed, "carrier webhook refused"),
        None => tracing::debug!(app, reason, "carrier webhook refused"),
    }
}

/// Processes stored events until the process ends.
pub async fn run(router: &Router) {
    loop {
        let found = match due(router).await {
            Ok(entries) => {
                let found = entries.len();
                // At once: each has its own transaction, and they share a commit.
                join_all(entries.into_iter().map(|entry| process(router, entry))).await;
                found
            }
            Err(error) => {
                tracing::error!(%error, "the router can't read stored carrier webhooks");
                0
            }
        };
        if found < PAGE as usize {
            let _ = tokio::time::timeout(POLL, router.inner.inbox.wake.notified()).await;
        }
    }
}

async fn due(router: &Router) -> Result<Vec<Entry>, StorageError> {
    let rows = router
        .database()
        .read(|tx| {
            tx.query(
                "SELECT id, app_id, body, received_at FROM inbox WHERE state = 'pending' AND not_before <= ?1 \
                 ORDER BY not_before, id LIMIT ?2",
                &[storage::now().into(), PAGE.into()],
            )
        })
        .await?;
    let mut entries = Vec::new();
    for row in &rows {
        match Entry::read(row) {
            Ok(entry) => entries.push(entry),
            // It keeps back no other.
            Err(error) => {
                tracing::error!(%error, "the router set a stored carrier webhook aside: its row can't be read");
                put_off(router, row.int(0)?, "set_aside", 0).await;
            }
        }
    }
    Ok(entries)
}

impl Entry {
    fn read(row: &storage::Row) -> Result<Self, StorageError> {
        Ok(Self { id: row.int(0)?, app_id: row.text(1)?, body: row.bytes(2)?, received_at: row.int(3)? })
    }
}

async fn process(router: &Router, entry: Entry) {
    let Some(app) = router.inner.hub.app_by_id(&entry.app_id) else {
        tracing::warn!(
            app = entry.app_id,
            "the router set a carrier webhook aside: its app is not configured any more"
        );
        return put_off(router, entry.id, "set_aside", 0).await;
    };
    let (app, id) = (app.app(), entry.id);
    let event = match CarrierEvent::parse(&entry.body) {
        Ok(event) => Arc::new(event),
        Err(_) => return put_off(router, entry.id, "set_aside", 0).await,
    };
    let owners = match inbound::owners(router, &app, &event).await {
        Ok(owners) => owners,
        Err(error) => {
            tracing::error!(
                app = app.settings.id,
                code = error.code.as_str(),
                "the router keeps an inbound message for later: the directory can't be asked"
            );
            return put_off(router, entry.id, "pending", RETRY_FAILED).await;
        }
    };
    let (job_router, job_event) = (router.clone(), Arc::clone(&event));
    let job_app = Arc::clone(&app);
    let result = router
        .database()
        .write(move |tx| {
            // Another node may have it: its row is locked until that one's commit.
            let pending = tx.query_one(
                "SELECT id FROM inbox WHERE id = ?1 AND state = 'pending' /* FOR UPDATE */",
                &[id.into()],
            )?;
            if pending.is_none() {
                return Ok(());
            }
            match perform(&job_router, tx, &job_app, &job_event, &owners)? {
                Verdict::Done => {
                    tx.execute(
                        "UPDATE inbox SET state = 'done', attempts = attempts + 1 WHERE id = ?1",
                        &[id.into()],
                    )?;
                    Ok(())
                }
                // Nothing was written: it costs those beside it nothing.
                Verdict::Unknown => Err(Undone::Unknown),
            }
        })
        .await;
    match result {
        Ok(()) => {}
        Err(Undone::Unknown) if storage::now() - entry.received_at < PATIENCE => {
            // Often at first, when an answer is on its way; a report of somebody else's message rarely.
            let age = storage::now() - entry.received_at;
            put_off(router, entry.id, "pending", RETRY.max(age / 4)).await;
        }
        Err(Undone::Unknown) => {
            router.counters().count(Counter::WebhookSetAside);
            tracing::warn!(
                app = app.settings.id,
                "the router set a delivery report aside: the store has no such message"
            );
            put_off(router, entry.id, "set_aside", 0).await;
        }
        Err(Undone::Failed(error)) => {
            tracing::error!(app = app.settings.id, %error, "the router can't process a carrier webhook; it tries again");
            put_off(router, entry.id, "pending", RETRY_FAILED).await;
        }
    }
}

/// Why a transaction was rolled back.
enum Undone {
    Unknown,
    Failed(StorageError),
}

impl From<StorageError> for Undone {
    fn from(error: StorageError) -> Self {
        Self::Failed(error)
    }
}

fn perform(
    router: &Router,
    tx: &mut Transaction<'_>,
    app: &App,
    event: &CarrierEvent,
    owners: &inbound::Owners,
) -> Result<Verdict, StorageError> {
    let now = storage::now();
    match (&event.event_type, &event.message) {
        (EventType::Sent | EventType::Finalized, Some(message)) => {
            report::apply(router, tx, app, event, message, now)
        }
        (EventType::Received, Some(message)) => {
            inbound::store(router, tx, app, message, owners, now)?;
            Ok(Verdict::Done)
        }
        _ => Ok(Verdict::Done),
    }
}

async fn put_off(router: &Router, id: i64, state: &'static str, pause: i64) {
    let put_off = router.database().write_lazily(move |tx| {
        tx.execute(
            "UPDATE inbox SET state = ?2, not_before = ?3, attempts = attempts + 1 WHERE id = ?1",
            &[id.into(), state.into(), storage::now().saturating_add(pause).into()],
        )?;
        Ok::<_, StorageError>(())
    });
    if let Err(error) = put_off.await {
        tracing::error!(%error, "the router can't store that a carrier webhook is tried later");
        tokio::time::sleep(POLL).await;
    }
}

/// A failure of the directory, which is asked before the transaction.
type Refused = RoutingError;

#[cfg(test)]
mod tests;
