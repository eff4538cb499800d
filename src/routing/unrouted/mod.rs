//! Messages from outside for an address that nobody has.
//!
//! They are kept as they came, told to the backend (`message_unrouted`) and listed. Once a user has the number,
//! those that are not too old (`inbound.deliver_unrouted`) become that user's messages, once, in the order in which
//! they came, and before anything that comes later (`delivery`).

mod delivery;

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Router;
use super::error::RoutingError;
use super::events::micros;
use super::inbox::Inbound;
use super::json::carbon;
use super::phone_number::spelling_values;
use crate::apps::App;
use crate::storage::{Row, StorageError, Transaction};

pub use delivery::{Deliveries, deliver_all, note_owner, run};

/// Where an unrouted message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum UnroutedState {
    /// Nobody's.
    Waiting,
    /// A user has it.
    Delivered,
}

/// A message from outside that was nobody's when it came.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct UnroutedJson {
    /// Identifies it.
    pub id: i64,
    /// The carrier's id.
    pub telnyx_message_id: String,
    /// `SMS`, `MMS`, `RCS`, `WHATSAPP`.
    pub r#type: Option<String>,
    /// Who sent it.
    pub from_number: String,
    /// Where it was sent to: a number, or the id of an RCS agent.
    pub to_number: String,
    /// The other members of a group.
    pub cc: Vec<String>,
    /// The text.
    pub text: Option<String>,
    /// Subject of an MMS.
    pub subject: Option<String>,
    /// The carrier's links of its attachments, which end after days.
    pub media_urls: Vec<String>,
    /// The carrier's time of it.
    pub sent_at: Option<String>,
    /// When it came.
    pub received_at: String,
    /// Whether a user has it now.
    pub state: UnroutedState,
    /// When it was given to that user.
    pub delivered_at: Option<String>,
}

/// Which ones to list.
#[derive(Clone, Debug, Default)]
pub struct UnroutedQuery {
    /// In this state.
    pub state: Option<UnroutedState>,
    /// Sent to this number.
    pub number: Option<String>,
    /// At most so many.
    pub limit: i64,
    /// Behind the one with this id.
    pub after: Option<i64>,
}

/// One to be kept.
pub struct New<'a> {
    /// The message.
    pub inbound: &'a Inbound,
    /// The own address that nobody has.
    pub own: &'a str,
    /// The webhook.
    pub event: &'a [u8],
}

/// From when on messages are given to a number's new owner.
pub fn since(app: &App, now: i64) -> i64 {
    now.saturating_sub(micros(app.settings.routing.inbound.deliver_unrouted))
}

impl New<'_> {
    fn media(&self) -> Vec<&str> {
        self.inbound.message.media.iter().map(|media| media.url.as_str()).collect()
    }

    /// Keeps it. `Ok(None)`: it was kept before.
    ///
    /// # Errors
    /// Of the store.
    pub fn insert(
        &self,
        tx: &mut Transaction<'_>,
        app_id: &str,
        now: i64,
    ) -> Result<Option<i64>, StorageError> {
        let Inbound { message, contact, sent_at, .. } = self.inbound;
        let id = tx.insert(
            "INSERT INTO unrouted_inbound (app_id, carrier_id, own_number, contact_number, body, media_urls, created_at, \
             type, subject, sent_at, event, cc) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12) ON CONFLICT DO NOTHING",
            &[
                app_id.into(),
                (&message.id).into(),
                self.own.into(),
                contact.into(),
                message.text.as_str().into(),
                json!(self.media()).to_string().into(),
                now.into(),
                message.kind.clone().into(),
                message.subject.clone().into(),
                (*sent_at).into(),
                self.event.to_vec().into(),
                json!(self.inbound.others(self.own)).to_string().into(),
            ],
        )?;
        if id.is_some() {
            // Whoever gets the number at this moment may not see it yet.
            delivery::note(tx, app_id, self.own, now)?;
        }
        Ok(id)
    }

    /// What the backend is told.
    pub fn told(&self, id: i64) -> Value {
        let Inbound { message, contact, sent_at, .. } = self.inbound;
        json!({
            "id": id,
            "telnyx_message_id": message.id,
            "type": message.kind,
            "from_number": contact,
            "to_number": self.own,
            "cc": self.inbound.others(self.own),
            "text": message.text,
            "subject": message.subject,
            "media_urls": self.media(),
            "sent_at": sent_at.map(carbon),
        })
    }
}

impl UnroutedJson {
    fn read(row: &Row) -> Result<Self, StorageError> {
        let delivered_at = row.optional_int(10)?;
        Ok(Self {
            id: row.int(0)?,
            telnyx_message_id: row.text(1)?,
            r#type: row.optional_text(2)?,
            from_number: row.text(3)?,
            to_number: row.text(4)?,
            cc: row.optional_text(11)?.and_then(|cc| serde_json::from_str(&cc).ok()).unwrap_or_default(),
            text: row.optional_text(5)?,
            subject: row.optional_text(6)?,
            media_urls: serde_json::from_str(&row.text(7)?).unwrap_or_default(),
            sent_at: row.optional_int(8)?.map(carbon),
            received_at: carbon(row.int(9)?),
            state: if delivered_at.is_some() { UnroutedState::Delivered } else { UnroutedState::Waiting },
            delivered_at: delivered_at.map(carbon),
        })
    }
}

fn list(
    tx: &mut Transaction<'_>,
    app_id: &str,
    query: &UnroutedQuery,
) -> Result<Vec<UnroutedJson>, StorageError> {
    let state = match query.state {
        None => "",
        Some(UnroutedState::Waiting) => "waiting",
        Some(UnroutedState::Delivered) => "delivered",
    };
    let [first, second, third] = spelling_values(query.number.as_deref().unwrap_or_default());
    let rows = tx.query(
        "SELECT id, carrier_id, type, contact_number, own_number, body, subject, media_urls, sent_at, created_at, \
         delivered_at, cc FROM unrouted_inbound WHERE app_id = ?1 AND id > ?2 \
         AND (?3 = '' OR own_number IN (?3, ?6, ?7)) \
         AND (?4 = '' OR ?4 = (CASE WHEN delivered_at IS NULL THEN 'waiting' ELSE 'delivered' END)) \
         ORDER BY id LIMIT ?5",
        &[
            app_id.into(),
            query.after.unwrap_or(0).into(),
            first.into(),
            state.into(),
            query.limit.into(),
            second.into(),
            third.into(),
        ],
    )?;
    rows.iter().map(UnroutedJson::read).collect()
}

impl Router {
    /// A page of the messages that were nobody's when they came, in that order; whether there are more.
    ///
    /// # Errors
    /// Of the store.
    pub async fn unrouted_messages(
        &self,
        app: Arc<App>,
        query: UnroutedQuery,
    ) -> Result<(Vec<UnroutedJson>, bool), RoutingError> {
        let limit = usize::try_from(query.limit).unwrap_or(0);
        let query = UnroutedQuery { limit: query.limit + 1, ..query };
        let mut found = self.database().read(move |tx| list(tx, &app.settings.id, &query)).await?;
        let has_more = found.len() > limit;
        found.truncate(limit);
        Ok((found, has_more))
    }
}
