//! The JSON shapes of records: what a Laravel application's models would serialise to.

use schemars::JsonSchema;
use serde::Serialize;
use time::OffsetDateTime;

use super::events;
use super::group::RecipientJson;
use super::records::{Contact, Conversation, Message};
use crate::config::{RoutingSettings, UserJson};

/// An id: a number, or a text (ULIDs, a portal's own).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum Id {
    /// Counted up.
    Number(i64),
    /// Anything else.
    Text(String),
}

impl Id {
    /// A record's id as clients see it.
    pub fn new(id: i64, public_id: Option<&str>) -> Self {
        public_id.map_or(Self::Number(id), |public| Self::Text(public.to_owned()))
    }

    /// A text that is a number where JavaScript can hold it exactly: front ends compare ids with `===`.
    pub fn of_user(user: &str, rule: UserJson) -> Self {
        let is_plain = user.len() <= 15
            && user.bytes().all(|byte| byte.is_ascii_digit())
            && (user == "0" || !user.starts_with('0'));
        match user.parse() {
            Ok(number) if is_plain && rule == UserJson::Auto => Self::Number(number),
            _ => Self::Text(user.to_owned()),
        }
    }
}

impl std::fmt::Display for Id {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Text(text) => f.write_str(text),
        }
    }
}

/// A time as Carbon writes it: `2026-11-22T19:13:30.574000Z`.
pub fn carbon(microseconds: i64) -> String {
    // Every record has several: a format that is read at run time would take as long as all the rest of its JSON.
    let second = OffsetDateTime::from_unix_timestamp(microseconds.div_euclid(1_000_000));
    second.map_or_else(
        |_| String::new(),
        |at| {
            format!(
                "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:06}Z",
                at.year(),
                u8::from(at.month()),
                at.day(),
                at.hour(),
                at.minute(),
                at.second(),
                microseconds.rem_euclid(1_000_000)
            )
        },
    )
}

/// A message.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct MessageJson {
    /// Identifies it.
    pub id: Id,
    /// The conversation of its owner.
    pub conversation_id: Id,
    /// Its owner: the sender of an OUTBOUND, the recipient of an INBOUND message.
    pub user_id: Id,
    /// The other side, in the owner's contacts.
    pub contact_id: Id,
    /// `OUTBOUND` or `INBOUND`.
    pub direction: String,
    /// `SMS` or `MMS`; of a received message also `RCS` or `WHATSAPP`.
    pub r#type: String,
    /// The text; null when deleted.
    pub body: Option<String>,
    /// The same text.
    pub text: Option<String>,
    /// Subject of an MMS.
    pub subject: Option<String>,
    /// Attachments.
    pub media_urls: Vec<String>,
    /// The other members of a group: neither `from_number` nor `to_number`.
    pub cc: Vec<String>,
    /// Whether it was sent to a group.
    pub group: bool,
    /// Of a message to a group: each recipient, and what the carrier said of it.
    pub recipients: Vec<RecipientJson>,
    /// `scheduled`, `sending`, `sent`, `delivered`, `read`, `failed`, `cancelled`, `unconfirmed`, `received`.
    pub status: String,
    /// Whether the carrier got no receipt in time for a message that was sent.
    pub delivery_unconfirmed: bool,
    /// Whether it went to a portal user, without carrier; null when that is not told.
    pub is_internal: Option<bool>,
    /// Sender, E.164.
    pub from_number: String,
    /// Recipient, E.164.
    pub to_number: String,
    /// The carrier's id.
    pub telnyx_message_id: Option<String>,
    /// SMS parts, as the carrier counted them; until then, and for internal messages, by the standard. Null for an
    /// MMS of which the carrier has told none.
    pub parts: Option<i64>,
    /// The most parts that the carrier may count for the text, depending on its list of characters and on the smart
    /// encoding of the messaging profile; the same as `parts` where that makes no difference.
    pub parts_max: Option<i64>,
    /// `GSM-7` or `UCS-2`.
    pub encoding: Option<String>,
    /// What the carrier charges: `{"amount","currency"}`.
    pub cost: Option<serde_json::Value>,
    /// Why it failed: `{"code","title","carrier"}`.
    pub error: Option<serde_json::Value>,
    /// The carrier's last word for its status, as it came.
    pub carrier_status: Option<String>,
    /// The portal's own id.
    pub reference: Option<String>,
    /// When it is to be sent.
    pub send_at: Option<String>,
    /// When it was sent; of a message from outside the carrier's time, which orders nothing.
    pub sent_at: Option<String>,
    /// When it was delivered.
    pub delivered_at: Option<String>,
    /// When it was read, if that is known.
    pub read_at: Option<String>,
    /// When its text was last changed.
    pub edited_at: Option<String>,
    /// When it was deleted for everyone.
    pub deleted_at: Option<String>,
    /// When it took its place in the conversation, which is the order of lists: when it was made, or, of a
    /// message that was scheduled or sent again, when it was sent.
    pub placed_at: String,
    /// When it was made.
    pub created_at: String,
    /// When anything of it last changed.
    pub updated_at: String,
}

/// A user's contact.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct ContactJson {
    /// Identifies it.
    pub id: Id,
    /// Whose contact it is.
    pub user_id: Id,
    /// As the user calls it.
    pub name: Option<String>,
    /// E.164, or what the carrier gave.
    pub phone_number: String,
    /// Whether the number belongs to a portal user; null when that is not told.
    pub is_internal: Option<bool>,
    /// When it was made.
    pub created_at: String,
    /// When it last changed.
    pub updated_at: String,
}

/// A conversation of one user with one contact.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct ConversationJson {
    /// Identifies it.
    pub id: Id,
    /// Its owner.
    pub user_id: Id,
    /// The contact's id.
    pub contact_id: Id,
    /// The owner's number last used in it.
    pub phone_number: String,
    /// The other side.
    pub contact: ContactJson,
    /// The last message's text.
    pub last_message: Option<String>,
    /// When that was.
    pub last_message_at: Option<String>,
    /// Received messages not read yet.
    pub unread_count: i64,
    /// Whether the contact is a portal user; null when that is not told.
    pub is_internal: Option<bool>,
    /// Whether the contact opted out of messages.
    pub opted_out: bool,
    /// The same for both sides of an internal conversation.
    pub thread_id: String,
    /// When it was made.
    pub created_at: String,
    /// When it last changed.
    pub updated_at: String,
}

/// A message and its conversation as events and callbacks tell of them: in existing-database mode they have
/// the portal's ids.
#[derive(Clone, Debug, Serialize)]
pub struct Records {
    message: MessageJson,
    conversation: ConversationJson,
}

impl Records {
    /// These two.
    pub fn new(message: &Message, conversation: &Conversation, settings: &RoutingSettings) -> Self {
        let id = events::conversation_id(conversation);
        Self {
            message: MessageJson {
                id: events::message_id(message),
                conversation_id: id.clone(),
                ..message.json(settings)
            },
            conversation: ConversationJson { id, ..conversation.json(settings) },
        }
    }
}

impl Message {
    /// As clients see it.
    pub fn json(&self, settings: &RoutingSettings) -> MessageJson {
        let parsed = |text: &Option<String>| text.as_deref().and_then(|text| serde_json::from_str(text).ok());
        MessageJson {
            id: self.public_id(),
            conversation_id: self.conversation_public_id.clone(),
            user_id: Id::of_user(&self.user_id, settings.ids.user_json),
            contact_id: self.contact_public_id.clone(),
            direction: self.direction.as_str().to_owned(),
            r#type: self.kind.clone(),
            body: self.body.clone(),
            text: self.body.clone(),
            subject: self.subject.clone(),
            media_urls: self.media_urls.clone(),
            cc: self.cc.clone(),
            group: !self.cc.is_empty(),
            recipients: self.recipients_json(),
            status: self.status.as_str().to_owned(),
            delivery_unconfirmed: self.is_unconfirmed,
            is_internal: settings.expose_internal.then_some(self.is_internal),
            from_number: self.from_number.clone(),
            to_number: self.to_number.clone(),
            telnyx_message_id: self.telnyx_message_id.clone(),
            parts: self.parts,
            parts_max: self.parts_max(),
            encoding: self.encoding.clone(),
            cost: parsed(&self.cost),
            error: parsed(&self.error),
            carrier_status: self.carrier_status.clone(),
            reference: self.reference.clone(),
            send_at: self.send_at.map(carbon),
            sent_at: self.sent_at.map(carbon),
            delivered_at: self.delivered_at.map(carbon),
            read_at: self.read_at.map(carbon),
            edited_at: self.edited_at.map(carbon),
            deleted_at: self.deleted_at.map(carbon),
            placed_at: carbon(self.placed_at),
            created_at: carbon(self.created_at),
            updated_at: carbon(self.updated_at),
        }
    }
}

impl Contact {
    /// As clients see it.
    pub fn json(&self, settings: &RoutingSettings) -> ContactJson {
        ContactJson {
            id: self.public_id(),
            user_id: Id::of_user(&self.user_id, settings.ids.user_json),
            name: self.name.clone(),
            phone_number: self.number.clone(),
            is_internal: settings.expose_internal.then_some(self.is_internal),
            created_at: carbon(self.created_at),
            updated_at: carbon(self.updated_at),
        }
    }
}

impl Conversation {
    /// As clients see it.
    pub fn json(&self, settings: &RoutingSettings) -> ConversationJson {
        ConversationJson {
            id: self.public_id(),
            user_id: Id::of_user(&self.user_id, settings.ids.user_json),
            contact_id: self.contact.public_id(),
            phone_number: self.own_number.clone(),
            contact: self.contact.json(settings),
            last_message: self.last_message.clone(),
            last_message_at: self.last_message_at.map(carbon),
            unread_count: self.unread_count,
            is_internal: settings.expose_internal.then_some(self.is_internal),
            opted_out: self.opted_out,
            thread_id: self.thread_id.clone(),
            created_at: carbon(self.created_at),
            updated_at: carbon(self.updated_at),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_carbon_does() {
        assert_eq!(carbon(1_795_374_810_574_000), "2026-11-22T19:13:30.574000Z");
        assert_eq!(carbon(0), "1970-01-01T00:00:00.000000Z");
    }

    #[test]
    fn user_ids_are_numbers_when_javascript_can_hold_them() {
        let number = Id::Number;
        let text = |text: &str| Id::Text(text.to_owned());
        for (user, id) in [
            ("7", number(7)),
            ("0", number(0)),
            ("999999999999999", number(999_999_999_999_999)),
            ("1000000000000000", text("1000000000000000")),
            ("07", text("07")),
            ("-7", text("-7")),
            ("7a", text("7a")),
            ("", text("")),
        ] {
            assert_eq!(Id::of_user(user, UserJson::Auto), id, "{user}");
            assert_eq!(Id::of_user(user, UserJson::String), text(user));
        }
    }
}
