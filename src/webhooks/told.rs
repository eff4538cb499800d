//! What webhooks are told: the JSON of each event, and the lane that keeps it in order.
//!
//! Source: Pusher docs, "Webhooks". Ids and `data` are strings: Go's and .NET's libraries read nothing else.
//! Every event has `channel`, because PHP's library looks at it; those that concern none have an empty one.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde_json::value::RawValue;

use super::endpoints::AppWebhooks;
use super::presence::Subject;
use super::queue::{ClientEvent, Closed};
use super::records::{Change, Record};
use super::room::{Owners, Share};
use crate::config::WebhookEvent;
use crate::protocol::channel::ChannelName;
use crate::protocol::id::{SocketId, UserId};

/// Something that is to be told to an app's webhooks.
pub(super) struct Told {
    pub app: Arc<AppWebhooks>,
    /// `None`: only written down.
    pub event: Option<WebhookEvent>,
    pub channel: Option<ChannelName>,
    /// One after the other goes what has the same.
    pub lane: String,
    pub json: String,
    /// What it changes in the records.
    pub change: Option<Change>,
    /// Whose room it takes.
    pub owners: Owners,
}

/// An event as it goes out.
#[derive(Default, Serialize)]
struct Json<'a> {
    name: &'a str,
    channel: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    subscription_count: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    socket_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    duration_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
}

impl Told {
    fn new(app: &Arc<AppWebhooks>, event: WebhookEvent, lane: String, json: Json<'_>) -> Self {
        let json = Json { name: event.name(), ..json };
        let json = serde_json::to_string(&json).expect("bug: text and numbers serialise");
        let owners = Owners::default();
        Self { app: Arc::clone(app), event: Some(event), channel: None, lane, json, change: None, owners }
    }

    fn of_channel(
        app: &Arc<AppWebhooks>,
        event: WebhookEvent,
        channel: &ChannelName,
        json: Json<'_>,
    ) -> Self {
        let told =
            Self::new(app, event, lane('c', channel.as_str()), Json { channel: channel.as_str(), ..json });
        Self { channel: Some(channel.clone()), owners: Owners::of_channel(channel, None), ..told }
    }

    /// Something came, or is gone.
    pub fn presence(app: &Arc<AppWebhooks>, subject: &Subject, is_there: bool) -> Self {
        let event = event_of(subject, is_there);
        let mut told = match subject {
            Subject::Channel(channel) => Self::of_channel(app, event, channel, Json::default()),
            Subject::Member(channel, user) => {
                let json = Json { user_id: Some(user.as_str()), ..Json::default() };
                Self::of_channel(app, event, channel, json)
            }
            Subject::User(user) => {
                let json = Json { user_id: Some(user.as_str()), ..Json::default() };
                Self::new(app, event, lane('u', user.as_str()), json)
            }
        };
        told.change = Some(Change::of(Record::of(&app.id, subject), is_there));
        told.owners.origin = subject.user().map(Share::user);
        told
    }

    /// The same, caused by this connection, unless a user is known.
    pub fn by(mut self, connection: Option<SocketId>) -> Self {
        self.owners.origin = self.owners.origin.or(connection.map(Share::connection));
        self
    }

    pub fn client_event(app: &Arc<AppWebhooks>, seen: &ClientEvent) -> Option<Self> {
        let data: &RawValue = serde_json::from_str(&seen.data).ok()?;
        let json = Json {
            event: Some(&seen.event),
            data: Some(data),
            socket_id: Some(seen.socket_id.to_string()),
            user_id: seen.user_id.as_ref().map(|user| user.as_str()),
            ..Json::default()
        };
        let mut told = Self::of_channel(app, WebhookEvent::ClientEvent, &seen.channel, json);
        told.owners.origin = seen.user_id.as_ref().map(Share::user);
        Some(told.by(Some(seen.socket_id)))
    }

    pub fn cache_miss(app: &Arc<AppWebhooks>, channel: &ChannelName) -> Self {
        Self::of_channel(app, WebhookEvent::CacheMiss, channel, Json::default())
    }

    pub fn subscription_count(app: &Arc<AppWebhooks>, channel: &ChannelName, count: u64) -> Self {
        let json = Json { subscription_count: Some(count), ..Json::default() };
        Self::of_channel(app, WebhookEvent::SubscriptionCount, channel, json)
    }

    pub fn connection_opened(app: &Arc<AppWebhooks>, socket_id: &str) -> Self {
        let record = Record::of_connection(&app.id, socket_id);
        let json = Json { socket_id: Some(socket_id.to_owned()), ..Json::default() };
        let told = Self::new(app, WebhookEvent::ConnectionOpened, lane('s', socket_id), json);
        let owners = Owners { is_public: true, ..Owners::default() };
        Self { change: Some(Change::of(record, true)), owners, ..told }
    }

    pub fn closed(app: &Arc<AppWebhooks>, end: &Closed) -> Self {
        let user = end.user_id.as_ref().map(|user| user.as_str());
        Self::connection_closed(app, &end.socket_id.to_string(), user, end.lasted, (end.code, &end.reason))
    }

    pub fn connection_closed(
        app: &Arc<AppWebhooks>,
        socket_id: &str,
        user_id: Option<&str>,
        lasted: Duration,
        (code, reason): (u16, &str),
    ) -> Self {
        let json = Json {
            socket_id: Some(socket_id.to_owned()),
            user_id,
            duration_ms: u64::try_from(lasted.as_millis()).ok(),
            code: Some(code),
            reason: Some(reason),
            ..Json::default()
        };
        let told = Self::new(app, WebhookEvent::ConnectionClosed, lane('s', socket_id), json);
        let owners = Owners { is_public: true, ..Owners::default() };
        Self { change: Some(Change::of(Record::of_connection(&app.id, socket_id), false)), owners, ..told }
    }

    /// The same, but told to nobody.
    pub fn silently(self) -> Self {
        Self { event: None, ..self }
    }
}

fn lane(kind: char, name: &str) -> String {
    format!("{kind}:{name}")
}

/// The event that tells that something came or is gone.
pub(super) fn event_of(subject: &Subject, is_there: bool) -> WebhookEvent {
    match (subject, is_there) {
        (Subject::Channel(_), true) => WebhookEvent::ChannelOccupied,
        (Subject::Channel(_), false) => WebhookEvent::ChannelVacated,
        (Subject::Member(..), true) => WebhookEvent::MemberAdded,
        (Subject::Member(..), false) => WebhookEvent::MemberRemoved,
        (Subject::User(_), true) => WebhookEvent::UserOnline,
        (Subject::User(_), false) => WebhookEvent::UserOffline,
    }
}

impl Subject {
    /// The channel whose name decides whether a webhook wants to know.
    pub fn channel(&self) -> Option<&ChannelName> {
        match self {
            Self::Channel(channel) | Self::Member(channel, _) => Some(channel),
            Self::User(_) => None,
        }
    }

    fn user(&self) -> Option<&UserId> {
        match self {
            Self::Channel(_) => None,
            Self::Member(_, user) | Self::User(user) => Some(user),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::AppSettings;
    use crate::webhooks::endpoints::Endpoints;

    #[test]
    fn events_have_the_keys_that_libraries_expect() {
        let webhooks = vec![crate::config::WebhookSettings {
            url: crate::config::Secret::new("http://portal.example/".to_owned()),
            ..Default::default()
        }];
        let app = AppSettings { webhooks, ..AppSettings::new("1001", "key", "secret") };
        let app = Arc::clone(Endpoints::new(&[app]).app("1001").expect("it has one"));
        let channel = |name| ChannelName::parse(name).expect("a name");
        let room = channel("presence-room");
        let user = UserId::member("42").expect("an id");
        let socket_id = SocketId::parse("1234.5678").expect("a form").expect("an id");
        let event = ClientEvent {
            channel: room.clone(),
            event: "client-typing".into(),
            data: r#""{\"n\":1}""#.into(),
            socket_id,
            user_id: Some(user.clone()),
        };
        let closed = Closed {
            socket_id,
            user_id: None,
            lasted: Duration::from_millis(1500),
            code: 1006,
            reason: String::new(),
        };
        for (told, json) in [
            (
                Told::presence(&app, &Subject::Channel(channel("private-user.42")), true),
                r#"{"name":"channel_occupied","channel":"private-user.42"}"#,
            ),
            (
                Told::presence(&app, &Subject::Member(room.clone(), user.clone()), false),
                r#"{"name":"member_removed","channel":"presence-room","user_id":"42"}"#,
            ),
            (
                Told::client_event(&app, &event).expect("JSON"),
                r#"{"name":"client_event","channel":"presence-room","event":"client-typing","data":"{\"n\":1}","socket_id":"1234.5678","user_id":"42"}"#,
            ),
            (
                Told::cache_miss(&app, &channel("cache-prices")),
                r#"{"name":"cache_miss","channel":"cache-prices"}"#,
            ),
            (
                Told::subscription_count(&app, &channel("news"), 3),
                r#"{"name":"subscription_count","channel":"news","subscription_count":3}"#,
            ),
            (
                Told::presence(&app, &Subject::User(user), true),
                r#"{"name":"user_online","channel":"","user_id":"42"}"#,
            ),
            (
                Told::closed(&app, &closed),
                r#"{"name":"connection_closed","channel":"","socket_id":"1234.5678","duration_ms":1500,"code":1006,"reason":""}"#,
            ),
        ] {
            assert_eq!(told.json, json);
        }
    }
}
