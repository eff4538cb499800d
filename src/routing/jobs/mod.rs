//! Messages on their way to the carrier.
//!
//! A job is written with its message: the exact bytes of the request, its idempotency key, and the token
//! in its webhook URL, none of which ever change. Before each call an attempt is committed, so that after
//! a crash an attempt without an outcome says that the carrier may have the message. Jobs of one lane (the
//! two numbers of a conversation) go one after the other; a lane that must wait delays no other.
//!
//! `due` finds what may go, `worker` chooses and calls, `flight` holds what a call takes, `settle` decides what an outcome means, `report` logs it, `ask` asks about what the
//! carrier has and does not report.

mod ask;
mod due;
mod flight;
mod held;
mod lines;
mod report;
mod settle;
mod starts;
mod worker;

use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use dashmap::DashMap;
use tokio::sync::{Notify, oneshot};

use super::Router;
use super::carrier::{OutgoingGroupMessage, OutgoingMessage, group_request_body, request_body, webhook_url};
use super::error::{Code, RoutingError};
use super::events::micros;
use super::records::Message;
use crate::apps::App;
use crate::storage::{StorageError, Transaction};

pub use ask::run as ask;
pub use lines::LineState;
pub(super) use settle::{close_all, resolve_by_webhook, send_again};
pub(super) use worker::LEASE;
pub use worker::run;

/// What this process knows of its jobs.
#[derive(Default)]
pub struct Jobs {
    /// Answers that wait for the first attempt of a message.
    waiting: DashMap<i64, oneshot::Sender<()>>,
    wake: Notify,
    is_stopping: AtomicBool,
    flights: flight::Flights,
    lines: lines::Lines,
}

impl Jobs {
    /// Ends all pauses and looks for what is due.
    pub fn begin_anew(&self) {
        self.lines.forget();
        self.wake();
    }

    fn wake(&self) {
        self.wake.notify_one();
    }

    /// The first attempt of this message is over.
    fn attempted(&self, message: i64) {
        if let Some((_, sender)) = self.waiting.remove(&message) {
            // Whoever waited may be gone.
            let _ = sender.send(());
        }
    }

    /// Starts no more calls; answers how many are out.
    pub fn stop(&self) -> usize {
        self.is_stopping.store(true, Ordering::Release);
        self.flights.len()
    }

    /// How the app's line to the carrier is.
    pub fn line(&self, app_id: &str) -> LineState {
        self.lines.state(app_id)
    }
}

/// Whether external messages can be sent at all.
///
/// # Errors
/// `messaging_disabled`.
pub fn check_enabled(app: &App) -> Result<(), RoutingError> {
    if app.settings.routing.telnyx.api_key.is_some() {
        return Ok(());
    }
    let message = "the recipient is not a portal user, and no carrier is configured: set routing.carrier.telnyx.api_key";
    Err(RoutingError::new(Code::MessagingDisabled, message))
}

/// Has a message sent once the transaction is committed. The receiver resolves when the carrier was asked
/// for the first time.
///
/// # Errors
/// Of the store.
pub fn create(
    router: &Router,
    tx: &mut Transaction<'_>,
    app: &App,
    message: &Message,
    profile: Option<&str>,
    lane: &str,
    now: i64,
) -> Result<oneshot::Receiver<()>, StorageError> {
    let request = Request::new(app, message, profile)?;
    tx.execute(
        "INSERT INTO carrier_jobs (app_id, message_id, lane, own_number, body, idempotency_key, token, state, attempts, \
         not_before, valid_until, locked_until, created_at) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, 'waiting', 0, ?8, ?9, 0, ?8)",
        &[
            (&app.settings.id).into(),
            message.id.into(),
            lane.into(),
            (&message.from_number).into(),
            request.body.into(),
            request.idempotency_key.into(),
            request.token.into(),
            now.into(),
            now.saturating_add(micros(app.settings.routing.telnyx.valid_for)).into(),
        ],
    )?;
    let (sender, receiver) = oneshot::channel();
    let (router, id) = (router.clone(), message.id);
    let mut sender = Some(sender);
    tx.on_commit(lane, move || {
        if let Some(sender) = sender.take() {
            router.inner.jobs.waiting.insert(id, sender);
        }
        router.inner.jobs.wake();
    });
    Ok(receiver)
}

/// What the carrier is asked, fixed before it is asked the first time.
struct Request {
    body: Vec<u8>,
    idempotency_key: String,
    token: String,
}

impl Request {
    fn new(app: &App, message: &Message, profile: Option<&str>) -> Result<Self, StorageError> {
        let telnyx = &app.settings.routing.telnyx;
        let mut random = [0_u8; 16];
        getrandom::fill(&mut random).map_err(|error| StorageError::Fault(error.to_string()))?;
        let token = hex::encode(random);
        let url = (!telnyx.public_url.is_empty())
            .then(|| webhook_url(&telnyx.public_url, &app.settings.id, &token));
        if message.is_to_group() {
            let to: Vec<&str> =
                std::iter::once(&message.to_number).chain(&message.cc).map(String::as_str).collect();
            let body = group_request_body(&OutgoingGroupMessage {
                from: &message.from_number,
                to: &to,
                text: message.body.as_deref().unwrap_or_default(),
                media_urls: &message.media_urls,
                subject: message.subject.as_deref().unwrap_or_default(),
                webhook_url: url.as_deref(),
            });
            return Ok(Self::with(body, token));
        }
        let body = request_body(&OutgoingMessage {
            from: &message.from_number,
            to: &message.to_number,
            text: message.body.as_deref().unwrap_or_default(),
            media_urls: &message.media_urls,
            subject: message.subject.as_deref().unwrap_or_default(),
            messaging_profile_id: profile.unwrap_or(&telnyx.messaging_profile_id),
            webhook_url: url.as_deref(),
            send_at_us: None,
        });
        Ok(Self::with(body, token))
    }

    fn with(body: Bytes, token: String) -> Self {
        Self { body: body.to_vec(), idempotency_key: ulid::Ulid::generate().to_string(), token }
    }
}
