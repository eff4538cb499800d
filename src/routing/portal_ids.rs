//! The portal's own ids of messages and conversations, in existing-database mode. Its answers to callbacks
//! tell them; events then carry them, and go to the channels that its pages are subscribed to. In requests
//! they stand behind [`PREFIX`].

use serde::Deserialize;
use serde_json::value::to_raw_value;
use serde_json::{Value, json};

use super::events;
use crate::outbox::{About, Publication};
use crate::protocol::channel::ChannelName;
use crate::storage::{StorageError, Transaction};

/// Longest id that is taken; more fits no key of a portal's tables (MySQL: 191 characters in an index).
const MAX_ID: usize = 150;
/// Channels named after a conversation.
const CONVERSATION_CHANNELS: [&str; 2] = ["messenger.", "private-messenger."];

/// Marks a portal's id in a request. Both sides count up from 1, so that a bare number could be either's; ours
/// have no colon.
const PREFIX: &str = "portal:";

/// The portal's id that a request names a record by, if it is not ours.
pub fn named(id: &str) -> Option<&str> {
    id.strip_prefix(PREFIX)
}

/// What names a record by the portal's id in a request.
pub fn name(id: &str) -> String {
    format!("{PREFIX}{id}")
}

/// Whether an id can stand in a channel's name.
pub fn fits(id: &str) -> bool {
    let is_short = !id.is_empty() && id.len() <= MAX_ID;
    is_short && ChannelName::parse(&format!("private-messenger.{id}")).is_ok()
}

/// What is known of the portal's ids.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortalIds {
    /// Of a message.
    pub message: Option<String>,
    /// Of its conversation.
    pub conversation: Option<String>,
}

/// An answer to a callback: `{"message":{"id":…},"conversation":{"id":…}}`.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Answer {
    message: Record,
    conversation: Record,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Record {
    id: Value,
}

impl Record {
    /// A number or a text that can stand in a channel's name.
    fn id(&self) -> Option<String> {
        let id = match &self.id {
            Value::Number(number) if number.is_u64() => number.to_string(),
            Value::String(text) => text.clone(),
            _ => return None,
        };
        fits(&id).then_some(id)
    }
}

impl PortalIds {
    /// What an answer tells; nothing when it is not such JSON.
    pub fn of_answer(body: &[u8]) -> Self {
        let answer: Answer = serde_json::from_slice(body).unwrap_or_default();
        Self { message: answer.message.id(), conversation: answer.conversation.id() }
    }

    /// Those of these records.
    ///
    /// # Errors
    /// Of the store.
    pub fn read(tx: &mut Transaction<'_>, about: About) -> Result<Self, StorageError> {
        let mut ids = Self::default();
        if let Some(id) = about.message {
            let row = tx.query_one("SELECT portal_id FROM messages WHERE id = ?1", &[id.into()])?;
            ids.message = row.map_or(Ok(None), |row| row.optional_text(0))?;
        }
        if let Some(id) = about.conversation {
            let row = tx.query_one("SELECT portal_id FROM conversations WHERE id = ?1", &[id.into()])?;
            ids.conversation = row.map_or(Ok(None), |row| row.optional_text(0))?;
        }
        Ok(ids)
    }

    /// Keeps them with the records.
    ///
    /// # Errors
    /// Of the store.
    pub fn save(&self, tx: &mut Transaction<'_>, about: About) -> Result<(), StorageError> {
        if let (Some(row), Some(id)) = (about.message, &self.message) {
            tx.execute("UPDATE messages SET portal_id = ?2 WHERE id = ?1", &[row.into(), id.into()])?;
        }
        if let (Some(row), Some(id)) = (about.conversation, &self.conversation) {
            tx.execute("UPDATE conversations SET portal_id = ?2 WHERE id = ?1", &[row.into(), id.into()])?;
        }
        Ok(())
    }

    /// Puts them where data says `message.id`, `message_id`, `conversation.id`, `message.conversation_id`
    /// and `conversation_id`.
    fn put(&self, data: &mut Value) {
        let mut set = |path: &str, id: &Option<String>| {
            if let (Some(place), Some(id)) = (data.pointer_mut(path), id) {
                *place = json!(events::portal_id(id));
            }
        };
        for path in ["/message/id", "/message_id"] {
            set(path, &self.message);
        }
        for path in ["/conversation/id", "/message/conversation_id", "/conversation_id"] {
            set(path, &self.conversation);
        }
    }

    /// Puts them into an event and the name of its channel.
    pub fn amend(&self, publication: &mut Publication) {
        if let Ok(mut data) = serde_json::from_str::<Value>(publication.data.get()) {
            self.put(&mut data);
            if let Ok(data) = to_raw_value(&data) {
                publication.data = data;
            }
        }
        if let Some(id) = &self.conversation {
            let prefix =
                CONVERSATION_CHANNELS.iter().find(|prefix| publication.channel.starts_with(**prefix));
            if let Some(prefix) = prefix {
                publication.channel = format!("{prefix}{id}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_may_hold_ids() {
        let ids = |message: Option<&str>, conversation: Option<&str>| PortalIds {
            message: message.map(str::to_owned),
            conversation: conversation.map(str::to_owned),
        };
        for (answer, expected) in [
            (r#"{"message":{"id":7},"conversation":{"id":"c-1"}}"#, ids(Some("7"), Some("c-1"))),
            (r#"{"conversation":{"id":5,"more":1},"other":[]}"#, ids(None, Some("5"))),
            (r#"{"message":{"id":""},"conversation":{"id":"a b"}}"#, ids(None, None)),
            (r#"{"message":{"id":null},"conversation":{"id":-5}}"#, ids(None, None)),
            ("OK", ids(None, None)),
            ("", ids(None, None)),
        ] {
            assert_eq!(PortalIds::of_answer(answer.as_bytes()), expected, "{answer}");
        }
    }

    #[test]
    fn they_take_the_places_of_ours() {
        let data = r#"{"message":{"id":1,"conversation_id":2},"conversation":{"id":2},"conversation_id":2,"message_id":1,"x":1}"#;
        let mut publication = Publication {
            channel: "private-messenger.2".to_owned(),
            event: "E".to_owned(),
            data: serde_json::from_str(data).expect("JSON"),
            about: None,
        };
        let ids = PortalIds { message: Some("m9".to_owned()), conversation: Some("77".to_owned()) };
        ids.amend(&mut publication);
        assert_eq!(publication.channel, "private-messenger.77");
        let expected = json!({
            "message": {"id": "m9", "conversation_id": 77}, "conversation": {"id": 77},
            "conversation_id": 77, "message_id": "m9", "x": 1,
        });
        assert_eq!(publication.data.get(), expected.to_string());
        let mut other = Publication { channel: "user.7".to_owned(), ..publication };
        ids.amend(&mut other);
        assert_eq!(other.channel, "user.7");
    }
}
