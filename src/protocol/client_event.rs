//! What clients send: one JSON object a text frame, read into [`ClientMessage`].

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::json::{self, JsonType};

/// A message from a client, well formed but not yet judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientMessage<'a> {
    /// `pusher:ping`, with any or no data.
    Ping,
    /// `pusher:pong`: an answer nobody waits for; it proves life like any frame.
    Pong,
    /// `pusher:subscribe`.
    Subscribe(Subscribe),
    /// `pusher:unsubscribe` from this channel.
    Unsubscribe(String),
    /// `pusher:signin`. What can't be read is a failed sign-in: those have an answer of their own.
    SignIn(Result<SignIn, InvalidMessage>),
    /// An event whose name starts with `client-`.
    Event(ClientEvent<'a>),
}

/// Data of `pusher:subscribe`. Whether `auth` and `channel_data` may be wrong depends on the channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscribe {
    /// The channel asked for; not yet checked.
    pub channel: String,
    /// `key:signature`.
    pub auth: Result<Option<String>, InvalidMessage>,
    /// The exact text that was signed, for presence channels.
    pub channel_data: Result<Option<String>, InvalidMessage>,
}

/// Data of `pusher:signin`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignIn {
    /// `key:signature`.
    pub auth: Option<String>,
    /// The exact text that was signed.
    pub user_data: String,
}

/// An event for the other subscribers of a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientEvent<'a> {
    /// Starts with `client-`.
    pub name: String,
    /// Not yet checked.
    pub channel: String,
    /// What others get as `data`: always a quoted JSON string.
    pub data: Cow<'a, str>,
}

/// Why a frame is answered with `pusher:error` (code null). The texts resemble hosted Pusher's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidMessage {
    /// Not JSON, or not an object.
    #[error("Received invalid JSON: {0}")]
    Json(String),
    /// A parameter is missing.
    #[error("Missing parameter: {0}")]
    Missing(&'static str),
    /// A parameter has another type than it must have.
    #[error("Invalid parameter: {name} must be {expected}, got {got}")]
    Type {
        /// Which parameter.
        name: &'static str,
        /// What it must be.
        expected: &'static str,
        /// What it was.
        got: &'static str,
    },
    /// An event name of the service's own that clients don't send.
    #[error("Unknown event '{0}'")]
    UnknownEvent(String),
    /// An event that is not the client's to send.
    #[error("Client event rejected - event name '{0}' must be prefixed by 'client-'")]
    NotAClientEvent(String),
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    event: Option<&'a RawValue>,
    #[serde(borrow)]
    channel: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "json::present")]
    data: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct SubscribeData<'a> {
    #[serde(borrow)]
    channel: Option<&'a RawValue>,
    #[serde(borrow)]
    auth: Option<&'a RawValue>,
    #[serde(borrow)]
    channel_data: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct SignInData<'a> {
    #[serde(borrow)]
    auth: Option<&'a RawValue>,
    #[serde(borrow)]
    user_data: Option<&'a RawValue>,
}

impl<'a> ClientMessage<'a> {
    /// Reads one text frame.
    ///
    /// # Errors
    /// [`InvalidMessage`], whose text is meant for the client; the connection stays.
    pub fn parse(text: &'a str) -> Result<Self, InvalidMessage> {
        let envelope: Envelope<'a> = json::object(text).map_err(InvalidMessage::Json)?;
        let event = required_string(envelope.event, "event")?;
        match event.as_str() {
            "pusher:ping" => Ok(Self::Ping),
            "pusher:pong" => Ok(Self::Pong),
            "pusher:subscribe" => Subscribe::parse(envelope.data).map(Self::Subscribe),
            "pusher:unsubscribe" => unsubscribed_channel(envelope.data).map(Self::Unsubscribe),
            "pusher:signin" => Ok(Self::SignIn(SignIn::parse(envelope.data))),
            name if name.starts_with("client-") => {
                let channel = required_string(envelope.channel, "channel")?;
                Ok(Self::Event(ClientEvent { name: event, channel, data: event_data(envelope.data) }))
            }
            name if name.starts_with("pusher:") || name.starts_with("pusher_internal:") => {
                Err(InvalidMessage::UnknownEvent(shown(name)))
            }
            name => Err(InvalidMessage::NotAClientEvent(shown(name))),
        }
    }
}

impl Subscribe {
    fn parse(data: Option<&RawValue>) -> Result<Self, InvalidMessage> {
        let text = object_text(data)?;
        let data: SubscribeData<'_> = json::object(&text).map_err(InvalidMessage::Json)?;
        Ok(Self {
            channel: required_string(data.channel, "channel")?,
            auth: optional_string(data.auth, "auth"),
            channel_data: optional_string(data.channel_data, "channel_data"),
        })
    }
}

impl SignIn {
    fn parse(data: Option<&RawValue>) -> Result<Self, InvalidMessage> {
        let text = object_text(data)?;
        let data: SignInData<'_> = json::object(&text).map_err(InvalidMessage::Json)?;
        Ok(Self {
            auth: optional_string(data.auth, "auth")?,
            user_data: required_string(data.user_data, "user_data")?,
        })
    }
}

fn unsubscribed_channel(data: Option<&RawValue>) -> Result<String, InvalidMessage> {
    let text = object_text(data)?;
    let data: SubscribeData<'_> = json::object(&text).map_err(InvalidMessage::Json)?;
    required_string(data.channel, "channel")
}

/// The object in `data`, which some clients send as a string holding JSON.
fn object_text<'a>(data: Option<&'a RawValue>) -> Result<Cow<'a, str>, InvalidMessage> {
    let data = data.ok_or(InvalidMessage::Missing("data"))?;
    match JsonType::of(data) {
        JsonType::Object => Ok(Cow::Borrowed(data.get())),
        JsonType::String => json::decode_string(data)
            .map(Cow::Owned)
            .ok_or_else(|| InvalidMessage::Json("data is a broken string".to_owned())),
        JsonType::Null => Err(InvalidMessage::Missing("data")),
        other => Err(InvalidMessage::Type { name: "data", expected: "an object", got: other.name() }),
    }
}

fn required_string(raw: Option<&RawValue>, name: &'static str) -> Result<String, InvalidMessage> {
    optional_string(raw, name)?.ok_or(InvalidMessage::Missing(name))
}

fn optional_string(raw: Option<&RawValue>, name: &'static str) -> Result<Option<String>, InvalidMessage> {
    let Some(raw) = raw else { return Ok(None) };
    match JsonType::of(raw) {
        JsonType::Null => Ok(None),
        JsonType::String => json::decode_string(raw)
            .map(Some)
            .ok_or_else(|| InvalidMessage::Json(format!("{name} is a broken string"))),
        other => Err(InvalidMessage::Type { name, expected: "a string", got: other.name() }),
    }
}

/// A string stays the same string, anything else becomes its own text as a string, nothing becomes `{}`.
fn event_data(raw: Option<&RawValue>) -> Cow<'_, str> {
    match raw {
        None => Cow::Borrowed(r#""{}""#),
        Some(raw) if JsonType::of(raw) == JsonType::String => Cow::Borrowed(raw.get()),
        Some(raw) => Cow::Owned(json::string(raw.get())),
    }
}

/// Part of an unknown name that may be repeated to its sender.
fn shown(name: &str) -> String {
    name.chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn service_events_are_read_with_data_as_object_or_string() {
        let expected = Subscribe {
            channel: "private-x".to_owned(),
            auth: Ok(Some("k:s".to_owned())),
            channel_data: Ok(None),
        };
        for text in [
            r#"{"event":"pusher:subscribe","data":{"auth":"k:s","channel":"private-x"}}"#,
            r#"{"event":"pusher:subscribe","data":{"auth":"k:s","channel":"private-x","channel_data":null}}"#,
            r#"{"event":"pusher:subscribe","data":"{\"auth\":\"k:s\",\"channel\":\"private-x\"}"}"#,
        ] {
            assert_eq!(ClientMessage::parse(text), Ok(ClientMessage::Subscribe(expected.clone())));
        }
        for text in [
            r#"{"event":"pusher:ping"}"#,
            r#"{"event":"pusher:ping","data":"{}"}"#,
            r#"{"event":"pusher:ping","data":[]}"#,
        ] {
            assert_eq!(ClientMessage::parse(text), Ok(ClientMessage::Ping));
        }
    }

    #[test]
    fn client_event_data_becomes_a_string_once() {
        for (data, out) in [
            (r#","data":{"n":1.0}"#, r#""{\"n\":1.0}""#),
            (r#","data":"abc""#, r#""abc""#),
            (r#","data":7"#, r#""7""#),
            (r#","data":null"#, r#""null""#),
            ("", r#""{}""#),
        ] {
            let text = format!(r#"{{"event":"client-x","channel":"private-a"{data}}}"#);
            match ClientMessage::parse(&text) {
                Ok(ClientMessage::Event(event)) => assert_eq!(event.data, out, "{text}"),
                other => panic!("{text}: {other:?}"),
            }
        }
    }

    #[test]
    fn bad_input_is_told_what_is_wrong() {
        for (text, part) in [
            ("nonsense", "Received invalid JSON"),
            ("[]", "Received invalid JSON"),
            (r#"["pusher:ping"]"#, "Received invalid JSON"),
            ("{}", "Missing parameter: event"),
            (r#"{"event":1}"#, "event must be a string, got a number"),
            (r#"{"event":"pusher:subscribe"}"#, "Missing parameter: data"),
            (r#"{"event":"pusher:subscribe","data":{}}"#, "Missing parameter: channel"),
            (r#"{"event":"pusher:subscribe","data":[]}"#, "data must be an object, got an array"),
            (r#"{"event":"pusher:subscribe","data":{"channel":1}}"#, "channel must be a string"),
            (r#"{"event":"pusher:unsubscribe","data":{}}"#, "Missing parameter: channel"),
            (r#"{"event":"pusher:nonsense"}"#, "Unknown event 'pusher:nonsense'"),
            (r#"{"event":"pusher_internal:member_added","channel":"presence-x"}"#, "Unknown event"),
            (r#"{"event":"xclient-foo","channel":"private-x"}"#, "must be prefixed by 'client-'"),
            (r#"{"event":"client-foo"}"#, "Missing parameter: channel"),
        ] {
            let error = ClientMessage::parse(text).expect_err(text).to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn no_frame_breaks_the_parser(text in ".{0,200}") {
            let _ = ClientMessage::parse(&text);
        }
    }
}
