//! `[[apps.webhooks]]`: who is told what happens on an app's channels.

use std::path::PathBuf;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::Value;

use super::Secret;
use super::credential::fingerprint;
use super::kind::{Kind, Words, text_kind};
use super::raw::Raw;

/// Longest name of a webhook.
const MAX_NAME: usize = 64;

/// One endpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct WebhookSettings {
    /// What lists and metrics call it; `""`: made from the URL.
    pub name: String,
    /// Where to. It may hold a token.
    pub url: Secret,
    /// Which events; empty: all of Pusher's.
    pub events: Vec<WebhookEvent>,
    /// Patterns of the channels whose events are told; empty: all.
    pub channels: Vec<String>,
    /// Sent with each request.
    pub headers: Vec<(String, Secret)>,
    /// Whether events are sent in batches.
    pub batch: bool,
    /// Time for an answer.
    pub timeout: Duration,
    /// How long an event is tried.
    pub retry_for: Duration,
    /// Requests that may wait.
    pub max_waiting: usize,
    /// Whether the address may be one that is not part of the internet.
    pub allow_private_addresses: bool,
    /// PEM file of the authorities that are believed instead of the public ones.
    pub ca_file: Option<PathBuf>,
}

impl Default for WebhookSettings {
    fn default() -> Self {
        Self {
            name: String::new(),
            url: Secret::new(String::new()),
            events: Vec::new(),
            channels: Vec::new(),
            headers: Vec::new(),
            batch: false,
            timeout: Duration::from_secs(5),
            retry_for: Duration::from_secs(300),
            max_waiting: 100_000,
            allow_private_addresses: false,
            ca_file: None,
        }
    }
}

/// What a webhook may tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum WebhookEvent {
    /// A channel has its first subscriber.
    ChannelOccupied,
    /// A channel lost its last subscriber.
    ChannelVacated,
    /// A user joined a presence channel.
    MemberAdded,
    /// A user left a presence channel.
    MemberRemoved,
    /// A client sent an event.
    ClientEvent,
    /// Somebody subscribed to an empty cache channel.
    CacheMiss,
    /// The number of subscribers changed.
    SubscriptionCount,
    /// A connection was established.
    ConnectionOpened,
    /// A connection ended.
    ConnectionClosed,
    /// A user signed in.
    UserOnline,
    /// A user's last signed-in connection ended.
    UserOffline,
}

impl WebhookEvent {
    /// Its name on the wire.
    pub fn name(self) -> &'static str {
        Self::WORDS.iter().find(|(_, event)| *event == self).map_or("", |(name, _)| name)
    }

    /// All of them.
    pub fn all() -> impl Iterator<Item = Self> {
        Self::WORDS.iter().map(|(_, event)| *event)
    }

    /// Whether hosted Pusher has it. The others are only sent to webhooks that name them.
    pub fn is_pushers(self) -> bool {
        (self as u8) <= (Self::SubscriptionCount as u8)
    }
}

impl Words for WebhookEvent {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("channel_occupied", Self::ChannelOccupied),
        ("channel_vacated", Self::ChannelVacated),
        ("member_added", Self::MemberAdded),
        ("member_removed", Self::MemberRemoved),
        ("client_event", Self::ClientEvent),
        ("cache_miss", Self::CacheMiss),
        ("subscription_count", Self::SubscriptionCount),
        ("connection_opened", Self::ConnectionOpened),
        ("connection_closed", Self::ConnectionClosed),
        ("user_online", Self::UserOnline),
        ("user_offline", Self::UserOffline),
    ];
}

text_kind!(WebhookName, "letters, digits, `-`, `_`", name);

fn name(text: &str) -> Result<String, String> {
    let is_plain = text.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c));
    if is_plain && text.len() <= MAX_NAME {
        return Ok(text.to_owned());
    }
    Err(format!("must be at most {MAX_NAME} letters, digits, - and _, not {text:?}"))
}

/// Patterns of channel names.
pub(super) struct ChannelPatterns;

impl Kind for ChannelPatterns {
    type Value = Vec<String>;

    fn describe() -> String {
        "list of patterns".to_owned()
    }

    fn parse(raw: &Raw) -> Result<Vec<String>, String> {
        raw.list()?.iter().map(|item| pattern(item.text()?)).collect()
    }

    fn show(value: &Vec<String>) -> Value {
        value.iter().map(String::as_str).collect()
    }
}

/// A pattern that no channel's name could match is a mistake.
fn pattern(text: &str) -> Result<String, String> {
    let is_possible = |c: char| c.is_ascii_alphanumeric() || "_-=@,.;*".contains(c);
    if text.is_empty() || !text.chars().all(is_possible) {
        return Err(format!(
            "{text:?} is no pattern of channel names (letters, digits, _ - = @ , . ; and * for any characters)"
        ));
    }
    Ok(text.to_owned())
}

/// Headers, as a table or as a list of `Name: value`.
pub(super) struct Headers;

impl Kind for Headers {
    type Value = Vec<(String, Secret)>;
    const SECRET: bool = true;

    fn describe() -> String {
        "table of header names and values".to_owned()
    }

    fn parse(raw: &Raw) -> Result<Self::Value, String> {
        if let Raw::Table(entries) = raw {
            return entries.iter().map(|(name, value)| header(name, value.text()?)).collect();
        }
        let fields = raw.list()?;
        let field = |field: &Raw| {
            let (name, value) =
                field.text()?.split_once(':').ok_or("must be Name: value for each header".to_owned())?;
            header(name.trim(), value.trim())
        };
        fields.iter().map(field).collect()
    }

    fn show(value: &Self::Value) -> Value {
        let shown = value.iter().map(|(name, value)| format!("{name}: {}", fingerprint(value)));
        shown.collect::<Vec<_>>().into()
    }
}

/// Names that are the server's own or say how a request is framed.
const RESERVED: [&str; 10] = [
    "connection",
    "content-length",
    "content-type",
    "expect",
    "host",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

fn header(name: &str, value: &str) -> Result<(String, Secret), String> {
    let lower = name.to_ascii_lowercase();
    if RESERVED.contains(&lower.as_str()) || lower.starts_with("x-pusher-") {
        return Err(format!("{name} is set by the server: remove it"));
    }
    let is_valid = hyper::header::HeaderName::try_from(&lower).is_ok();
    if !is_valid || hyper::header::HeaderValue::from_str(value).is_err() {
        // The value may be a secret.
        return Err(format!(
            "{name:?} is no name of a header, or its value has line breaks or characters outside ASCII: correct it"
        ));
    }
    Ok((lower, Secret::new(value.to_owned())))
}

/// A file with certificates.
pub(super) struct CaFile;

impl Kind for CaFile {
    type Value = Option<PathBuf>;

    fn describe() -> String {
        "PEM file".to_owned()
    }

    fn parse(raw: &Raw) -> Result<Option<PathBuf>, String> {
        let text = raw.text()?;
        if text.is_empty() {
            return Ok(None);
        }
        let certificates =
            CertificateDer::pem_file_iter(text).and_then(Iterator::collect::<Result<Vec<_>, _>>);
        match certificates {
            Ok(found) if found.is_empty() => Err(format!(
                "{text:?} holds no certificate: name a PEM file, with -----BEGIN CERTIFICATE-----"
            )),
            Ok(_) => Ok(Some(text.into())),
            Err(error) => Err(format!("cannot read {text:?}: {error}")),
        }
    }

    fn show(value: &Option<PathBuf>) -> Value {
        value.as_ref().map_or(Value::Null, |path| path.display().to_string().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Raw {
        Raw::Text(text.to_owned())
    }

    #[test]
    fn headers_are_a_table_or_lines() {
        let table = Raw::Table(vec![("X-Env".to_owned(), text("prod"))]);
        let lines = Raw::Untyped("X-Env: prod".to_owned(), ',');
        for raw in [table, lines] {
            let headers = Headers::parse(&raw).expect("headers");
            assert_eq!(headers.len(), 1);
            assert_eq!((headers[0].0.as_str(), headers[0].1.expose()), ("x-env", "prod"));
            assert!(!Headers::show(&headers).to_string().contains("prod"));
        }
        for name in ["Content-Type", "X-Pusher-Key", "x-pusher-signature", "Host", "a b"] {
            let table = Raw::Table(vec![(name.to_owned(), text("hidden"))]);
            let fault = Headers::parse(&table).expect_err(name);
            assert!(fault.contains(name) && !fault.contains("hidden"), "{fault}");
        }
        assert!(Headers::parse(&Raw::Table(vec![("X-A".to_owned(), text("a\nb"))])).is_err());
    }

    #[test]
    fn patterns_fit_channel_names() {
        assert_eq!(pattern("presence-*"), Ok("presence-*".to_owned()));
        for wrong in ["", "presence room", "a/b", "#server-to-user-*"] {
            assert!(pattern(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn pushers_events_are_told_from_others() {
        assert_eq!(WebhookEvent::all().filter(|event| event.is_pushers()).count(), 7);
        assert_eq!(WebhookEvent::UserOffline.name(), "user_offline");
        assert!(!WebhookEvent::ConnectionOpened.is_pushers());
    }
}
