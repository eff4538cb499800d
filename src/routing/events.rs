//! Events for connected clients: their names, channels and data.
//!
//! Laravel Echo's `listen('MessageSent')` binds `App\Events\MessageSent`: it puts its namespace in front,
//! as Laravel does when it broadcasts. A bare name reaches the socket and no handler.

use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Value, json};

use super::json::{ConversationJson, Id, Records, carbon};
use super::records::{Conversation, Message};
use crate::apps::App;
use crate::config::{ChannelMode, DirectoryMode, Payload, RoutingSettings};
use crate::hub::AppHub;
use crate::outbox::{About, Broadcast, Publication};
use crate::protocol::channel::ChannelName;
use crate::storage::StorageError;

/// Bytes of an event's data beyond which it carries ids only: Pusher's limit, which clients and proxies
/// are built for.
const MAX_DATA: usize = 10_000;

/// Events of one change, for the outbox.
pub struct Events<'a> {
    app: &'a App,
    publications: Vec<Publication>,
    after: Vec<i64>,
    called_at: Option<Instant>,
}

/// Data of an event about a message. What `more` holds has none of the records' names.
#[derive(Serialize)]
struct MessageEvent<'a> {
    #[serde(flatten)]
    records: Records,
    #[serde(flatten)]
    more: &'a Value,
}

/// Who gets an event.
#[derive(Clone, Copy, Debug)]
pub enum Audience<'a> {
    /// Everything of a user.
    User(&'a str),
    /// Whoever has this conversation open.
    Conversation(&'a Conversation),
    /// As `Conversation`, known by the id in its channel's name.
    ConversationId(&'a Id),
}

impl<'a> Events<'a> {
    /// No events yet.
    pub fn new(app: &'a App) -> Self {
        Self { app, publications: Vec::new(), after: Vec::new(), called_at: None }
    }

    fn settings(&self) -> &RoutingSettings {
        &self.app.settings.routing
    }

    /// Adds an event whose `message_id` and `conversation_id`, or `message` and `conversation`, are these
    /// records: in existing-database mode they get the portal's ids.
    ///
    /// # Errors
    /// The data can't be written as JSON.
    pub fn add_about(
        &mut self,
        about: About,
        audience: Audience<'_>,
        event: &str,
        data: &Value,
    ) -> Result<(), StorageError> {
        self.add_raw(about, audience, event, &raw(data)?);
        Ok(())
    }

    fn add_raw(&mut self, about: About, audience: Audience<'_>, event: &str, data: &RawValue) {
        let event = wire_name(self.settings(), event);
        let is_wanted = self.settings().directory.mode == DirectoryMode::Sql && about != About::default();
        let about = is_wanted.then_some(about);
        for channel in channels(self.settings(), audience) {
            let data = data.to_owned();
            self.publications.push(Publication { channel, event: event.clone(), data, about });
        }
    }

    /// Adds an event about a message: `{message, conversation}` and what else `more` holds. With
    /// `payload = "ids"`, or when it is too large, ids and state take the records' places.
    ///
    /// # Errors
    /// The data can't be written as JSON.
    pub fn message(
        &mut self,
        audience: Audience<'_>,
        event: &str,
        message: &Message,
        conversation: &Conversation,
        more: Value,
    ) -> Result<(), StorageError> {
        let settings = self.settings();
        let mut is_truncated = false;
        if settings.payload == Payload::Full {
            let data =
                raw(&MessageEvent { records: Records::new(message, conversation, settings), more: &more })?;
            if data.get().len() <= self.max_data() {
                self.add_raw(about(message, conversation), audience, event, &data);
                return Ok(());
            }
            is_truncated = true;
        }
        let mut data = ids_only(message, conversation, is_truncated);
        merge(&mut data, more);
        self.add_about(about(message, conversation), audience, event, &data)
    }

    /// Adds `ConversationUpdated` for its owner: `{conversation}`. With `payload = "ids"`, or when it is too
    /// large, only its id and the count of unread messages.
    ///
    /// # Errors
    /// The data can't be written as JSON.
    pub fn conversation_updated(&mut self, conversation: &Conversation) -> Result<(), StorageError> {
        let settings = self.settings();
        let about = About { message: None, conversation: Some(conversation.id) };
        let audience = Audience::User(&conversation.user_id);
        let mut brief =
            json!({"id": conversation_id(conversation), "unread_count": conversation.unread_count});
        if settings.payload == Payload::Full {
            let conversation =
                ConversationJson { id: conversation_id(conversation), ..conversation.json(settings) };
            let data = raw(&json!({"conversation": conversation}))?;
            if data.get().len() <= self.max_data() {
                self.add_raw(about, audience, "ConversationUpdated", &data);
                return Ok(());
            }
            brief["truncated"] = Value::Bool(true);
        }
        self.add_about(about, audience, "ConversationUpdated", &json!({"conversation": brief}))
    }

    fn max_data(&self) -> usize {
        self.app.settings.event_size.min(MAX_DATA)
    }

    /// Has the events wait until this callback was tried: in existing-database mode a page that they make
    /// reload must find what the portal learns from it.
    pub fn after(&mut self, callback: Option<i64>) {
        if self.settings().directory.mode == DirectoryMode::Sql {
            self.after.extend(callback);
        }
    }

    /// Has the time measured from the call that they follow from.
    pub fn since(mut self, called_at: Option<Instant>) -> Self {
        self.called_at = called_at;
        self
    }

    /// What the outbox performs; `None` when there is nothing.
    pub fn broadcast(self, except: Option<&str>, now: i64) -> Option<Broadcast> {
        let max_age = self.settings().broadcast.max_age;
        (!self.publications.is_empty()).then(|| Broadcast {
            publications: self.publications,
            except: except.map(str::to_owned),
            expires_at: now.saturating_add(micros(max_age)),
            after: self.after,
            called_at: self.called_at,
        })
    }
}

/// Whether anybody on this node listens to one of the audience's channels.
pub fn is_heard(app: &AppHub, audience: Audience<'_>) -> bool {
    let names = channels(&app.app().settings.routing, audience);
    names.iter().any(|name| ChannelName::parse(name).is_ok_and(|channel| app.is_occupied(&channel)))
}

/// Publishes an event that is stored nowhere: at once or not at all.
///
/// # Errors
/// The data can't be written as JSON.
pub fn publish_now(
    app: &AppHub,
    audience: Audience<'_>,
    event: &str,
    data: &Value,
) -> Result<(), StorageError> {
    let policy = app.app();
    let names = channels(&policy.settings.routing, audience);
    let mut channels = names.iter().filter_map(|name| ChannelName::parse(name).ok());
    channels.try_for_each(|channel| publish_to(app, &channel, event, data))
}

/// As [`publish_now`], to one channel.
///
/// # Errors
/// The data can't be written as JSON.
pub fn publish_to(
    app: &AppHub,
    channel: &ChannelName,
    event: &str,
    data: &Value,
) -> Result<(), StorageError> {
    // What is stored comes first when there is little room.
    if app.check_room().is_ok() {
        let event = wire_name(&app.app().settings.routing, event);
        app.publish(channel, &event, &crate::protocol::json::string(raw(data)?.get()), None);
    }
    Ok(())
}

/// A duration in the unit of stored times.
pub fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

fn raw(data: &impl Serialize) -> Result<Box<RawValue>, StorageError> {
    to_raw_value(data).map_err(|error| StorageError::Fault(format!("an event can't be written: {error}")))
}

/// Adds the fields of `more` to `data`.
pub fn merge(data: &mut Value, more: Value) {
    if let (Value::Object(data), Value::Object(more)) = (data, more) {
        data.extend(more);
    }
}

fn ids_only(message: &Message, conversation: &Conversation, is_truncated: bool) -> Value {
    let mut data = json!({
        "message": {
            "id": message_id(message),
            "conversation_id": conversation_id(conversation),
            "status": message.status.as_str(),
            "direction": message.direction.as_str(),
            "updated_at": carbon(message.updated_at),
        },
        "conversation": {"id": conversation_id(conversation)},
    });
    if is_truncated {
        data["message"]["truncated"] = Value::Bool(true);
    }
    data
}

/// The rows of a message and its conversation.
pub fn about(message: &Message, conversation: &Conversation) -> About {
    About { message: Some(message.id), conversation: Some(conversation.id) }
}

/// A portal's id as the portal's own JSON has it.
pub fn portal_id(id: &str) -> Id {
    Id::of_user(id, crate::config::UserJson::Auto)
}

/// A conversation's id in events: the portal's own where it is known.
pub fn conversation_id(conversation: &Conversation) -> Id {
    conversation.portal_id.as_deref().map_or_else(|| conversation.public_id(), portal_id)
}

/// A message's id in events: the portal's own where it is known.
pub fn message_id(message: &Message) -> Id {
    message.portal_id.as_deref().map_or_else(|| message.public_id(), portal_id)
}

/// An event's name on the wire.
fn wire_name(settings: &RoutingSettings, event: &str) -> String {
    let renamed = settings.events.rename.iter().find(|(ours, _)| ours == event);
    let event = renamed.map_or(event, |(_, wanted)| wanted);
    match settings.events.namespace.as_str() {
        "" => event.to_owned(),
        namespace => format!("{namespace}\\{event}"),
    }
}

fn channels(settings: &RoutingSettings, audience: Audience<'_>) -> Vec<String> {
    let name = match audience {
        Audience::User(user) => format!("user.{user}"),
        Audience::ConversationId(id) => format!("messenger.{id}"),
        Audience::Conversation(conversation) => format!("messenger.{}", conversation.channel_id()),
    };
    match settings.channels.mode {
        ChannelMode::Public => vec![name],
        ChannelMode::Private => vec![format!("private-{name}")],
        ChannelMode::Both => vec![format!("private-{name}"), name],
    }
}
