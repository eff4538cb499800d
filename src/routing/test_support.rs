//! A router on a temporary file, for tests: user 7 has +13125550100, user 8 has +13125550101, and what the
//! hub publishes can be read.

use std::sync::{Arc, Mutex};

use serde_json::Value;

use super::Router;
use super::draft::{SendRequest, UserRef};
use super::error::RoutingError;
use super::json::carbon;
use super::records::{Conversation, Message};
use crate::apps::App;
use crate::config::{AppSettings, RoutingSettings, Secret, ServerSettings, StoreSettings};
use crate::hub::{ConnectionLimits, Hub, RemotePublication, Uplink};
use crate::outbox::Outbox;
use crate::protocol::channel::ChannelName;
use crate::storage::{self, Database, StorageError, Transaction};

/// Everything a test of the router needs.
pub struct Lab {
    pub router: Router,
    pub app: Arc<App>,
    published: Arc<Published>,
    /// Deletes the file at the end.
    _folder: tempfile::TempDir,
}

/// An event as clients get it.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    pub channel: String,
    pub name: String,
    pub data: Value,
    /// The connection that must not get it.
    pub except: Option<String>,
}

/// Takes the place of other nodes and keeps what they would be told.
#[derive(Default)]
struct Published(Mutex<Vec<Told>>);

impl Uplink for Published {
    fn publish(&self, _: &str, publication: &RemotePublication) {
        let frame: Value = serde_json::from_slice(publication.frame.payload()).expect("JSON");
        let text = |name: &str| frame[name].as_str().expect("a string").to_owned();
        self.0.lock().expect("no panic").push(Told {
            channel: text("channel"),
            name: text("event"),
            data: serde_json::from_str(&text("data")).expect("JSON"),
            except: publication.except.map(|id| id.to_string()),
        });
    }

    fn interest(&self, _: &str, _: &ChannelName, _: bool) {}
}

impl Lab {
    /// With the default settings, and a carrier's key, so that external messages are accepted.
    pub async fn new() -> Self {
        Self::with(|_| {}).await
    }

    /// With other settings.
    pub async fn with(change: impl FnOnce(&mut RoutingSettings)) -> Self {
        let mut settings = AppSettings::new("1001", "key", "secret");
        settings.routing.telnyx.api_key = Some(Secret::new("KEY".to_owned()));
        change(&mut settings.routing);
        let folder = tempfile::tempdir().expect("a folder");
        let database = Database::open(&StoreSettings::default(), folder.path()).expect("a database");
        let published = Arc::new(Published::default());
        let uplink = Arc::clone(&published) as Arc<dyn Uplink>;
        let hub = Hub::new(0, ConnectionLimits::new(&ServerSettings::default()), uplink);
        hub.set_apps(vec![settings.clone()]);
        let router =
            Router::new(Outbox::new(database, hub.clone(), "node".into()), hub).await.expect("a router");
        let lab = Self { router, app: Arc::new(App::new(settings)), published, _folder: folder };
        lab.number("7", "+13125550100").await;
        lab.number("8", "+13125550101").await;
        lab
    }

    /// Assigns a number.
    pub async fn number(&self, user: &'static str, number: &'static str) {
        self.write(move |tx| {
            tx.execute(
                "INSERT INTO phone_numbers (app_id, number, user_id, status, is_default, created_at, updated_at) \
                 VALUES ('1001', ?1, ?2, 'assigned', 0, 1, 1)",
                &[number.into(), user.into()],
            )
        })
        .await;
    }

    /// Sends a text; the sender's record.
    pub async fn send(&self, user: &str, to: &str, text: &str) -> Message {
        self.try_send(user, to, text).await.expect("sent")
    }

    /// Sends a text, maybe in vain.
    pub async fn try_send(&self, user: &str, to: &str, text: &str) -> Result<Message, RoutingError> {
        self.request(
            user,
            SendRequest { to: Some(to.into()), text: Some(text.to_owned()), ..SendRequest::default() },
        )
        .await
    }

    /// Sends a text from one of several numbers.
    pub async fn send_from(&self, user: &str, from: &str, to: &str, text: &str) -> Message {
        let request = SendRequest {
            from: Some(from.to_owned()),
            to: Some(to.into()),
            text: Some(text.to_owned()),
            ..SendRequest::default()
        };
        self.request(user, request).await.expect("sent")
    }

    /// Schedules a text for in an hour.
    pub async fn schedule(&self, user: &str, to: &str, text: &str) -> Message {
        let request = SendRequest {
            to: Some(to.into()),
            text: Some(text.to_owned()),
            send_at: Some(carbon(storage::now() + 3_600_000_000)),
            ..SendRequest::default()
        };
        self.request(user, request).await.expect("scheduled")
    }

    async fn request(&self, user: &str, request: SendRequest) -> Result<Message, RoutingError> {
        let user_id = Some(UserRef::Text(user.to_owned()));
        let request = SendRequest { user_id, wait: Some(false), ..request };
        let draft = self.router.draft(&self.app, &request).await?;
        let sent = self.router.send(Arc::clone(&self.app), draft).await?;
        Ok(sent.message.expect("a message"))
    }

    /// The recipients' records of internal messages.
    pub async fn received(&self, sent: &[Message]) -> Vec<Message> {
        let sent = sent.to_vec();
        self.write(move |tx| {
            sent.iter()
                .map(|sent| Ok(sent.pair(tx)?.expect("an internal message")))
                .collect::<Result<_, StorageError>>()
        })
        .await
    }

    /// A message as it is stored now.
    pub async fn message(&self, row: i64) -> Message {
        self.write(move |tx| Message::by_row(tx, row)).await.expect("a message")
    }

    /// A conversation as it is stored now.
    pub async fn conversation(&self, row: i64) -> Conversation {
        self.write(move |tx| Conversation::by_row(tx, row)).await
    }

    /// Puts a carrier job of a message into a state; `first`: when it was first tried, SQL.
    pub async fn carrier_job(
        &self,
        message: &Message,
        state: &'static str,
        attempts: i64,
        first: &'static str,
    ) {
        let message = message.id;
        self.write(move |tx| {
            tx.execute("DELETE FROM carrier_jobs WHERE message_id = ?1", &[message.into()])?;
            tx.execute(
                "INSERT INTO carrier_jobs (app_id, message_id, lane, own_number, body, idempotency_key, token, state, \
                 attempts, not_before, valid_until, first_attempt_at, locked_until, created_at) \
                 VALUES ('1001', ?1, 'lane', '+13125550100', x'', 'key', ?2, ?3, ?4, 0, 0, ?5, 0, 0)",
                &[
                    message.into(),
                    format!("token-{message}").into(),
                    state.into(),
                    attempts.into(),
                    first.parse::<i64>().ok().into(),
                ],
            )
        })
        .await;
    }

    /// Runs a statement.
    pub async fn sql(&self, sql: &'static str) {
        self.write(move |tx| tx.execute(sql, &[])).await;
    }

    /// The first column of a query.
    pub async fn texts(&self, sql: &'static str) -> Vec<String> {
        let rows = self.write(move |tx| tx.query(sql, &[])).await;
        rows.iter().map(|row| row.text(0).expect("text")).collect()
    }

    /// Runs a job.
    pub async fn write<T: Send + 'static>(
        &self,
        work: impl FnMut(&mut Transaction<'_>) -> Result<T, StorageError> + Send + 'static,
    ) -> T {
        self.router.database().write(work).await.expect("a job")
    }

    /// What was published since the last call.
    pub fn events(&self) -> Vec<Told> {
        std::mem::take(&mut *self.published.0.lock().expect("no panic"))
    }
}
