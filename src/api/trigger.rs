//! `POST /apps/{id}/events`, and what it shares with batches: reading one event.
//!
//! Source: Pusher docs, "HTTP API reference: POST event".

use std::time::Instant;

use bytes::Bytes;
use http_body_util::Full;
use hyper::Response;
use hyper::header::HeaderMap;
use serde::Deserialize;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use super::access::Signed;
use super::info::{Info, NO_LIST};
use super::{ApiError, reply};
use crate::apps::{App, Recorded};
use crate::protocol::channel::{ChannelKind, ChannelName};
use crate::protocol::id::{SocketId, check_event_name};
use crate::protocol::json::{self, JsonType};

/// Most characters of an idempotency key.
const MAX_IDEMPOTENCY_KEY: usize = 255;
/// As hosted Pusher says it, for those who search for the text.
const NO_CHANNEL: &str = "Expected channel name to be a string";

/// The fields of an event, in a trigger or in a batch.
#[derive(Deserialize)]
pub struct RawEvent<'a> {
    #[serde(borrow)]
    name: Option<&'a RawValue>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    #[serde(borrow)]
    channel: Option<&'a RawValue>,
    #[serde(borrow)]
    channels: Option<&'a RawValue>,
    #[serde(borrow)]
    socket_id: Option<&'a RawValue>,
    #[serde(borrow)]
    info: Option<&'a RawValue>,
    #[serde(borrow)]
    idempotency_key: Option<&'a RawValue>,
}

/// An event that may be published.
pub struct Event<'a> {
    /// Its name.
    pub name: String,
    /// The quoted JSON string as it was received.
    pub data: &'a str,
    /// The connection that must not get it.
    pub except: Option<SocketId>,
    /// What to answer about its channels.
    pub info: Option<Info>,
}

/// Publishes one event on one or many channels.
pub fn trigger(request: &Signed, headers: &HeaderMap) -> Result<Response<Full<Bytes>>, ApiError> {
    let app = &request.app;
    let raw: RawEvent<'_> = json::object(body_text(&request.body)?).map_err(invalid_json)?;
    let event = raw.event(app)?;
    let channels = raw.channels(app)?;
    if channels.len() > 1 && channels.iter().any(|channel| channel.kind() == ChannelKind::PrivateEncrypted) {
        return Err(ApiError::bad_request(
            "An event for an encrypted channel can't go to other channels as well: trigger it on each alone",
        ));
    }
    let key = idempotency_key(headers, raw.idempotency_key)?;
    publish(request, "events", key.as_deref(), 1, || {
        request.hub.publish_on(&channels, &event.name, event.data, event.except);
        match event.info {
            None => "{}".to_owned(),
            Some(info) => {
                let members: Vec<String> = channels
                    .iter()
                    .map(|channel| {
                        let counts = info.counts(app, channel, &request.hub.channel(channel));
                        format!(r#""{channel}":{{{counts}}}"#)
                    })
                    .collect();
                format!(r#"{{"channels":{{{}}}}}"#, members.join(","))
            }
        }
    })
}

/// Runs `work` of an endpoint (`kind`), which publishes `events` and cannot fail any more, unless there is no room, the rate is
/// exceeded, or the same request was done before.
pub fn publish(
    request: &Signed,
    kind: &'static str,
    key: Option<&str>,
    events: usize,
    work: impl FnOnce() -> String,
) -> Result<Response<Full<Bytes>>, ApiError> {
    let app = &request.app;
    let admitted = || -> Result<(), ApiError> {
        request.hub.check_room().map_err(|error| ApiError::unavailable(error.to_string()))?;
        app.take_publish_rate(events).map_err(|wait| {
            let rate = app.settings.publish_rate.map_or(0, |rate| rate.get());
            ApiError::rate_limited(
                format!("Over the publish rate of this app: {rate} events a second (publish_rate)"),
                wait,
            )
        })
    };
    let Some(key) = key else {
        admitted()?;
        return Ok(reply::json(work()));
    };
    let digest =
        Sha256::new().chain_update(kind).chain_update([0]).chain_update(&request.body).finalize().into();
    match app.idempotency.record(key, digest, Instant::now(), || admitted().map(|()| work())) {
        Recorded::New(body) | Recorded::Replayed(body) => Ok(reply::json(body)),
        Recorded::Failed(error) => Err(error),
        Recorded::Mismatch => Err(ApiError::conflict(
            "The idempotency key was used for another request within the last 5 minutes",
        )),
    }
}

/// The idempotency key of a request: `Idempotency-Key`, `X-Idempotency-Key` or the body's field.
pub fn idempotency_key(headers: &HeaderMap, field: Option<&RawValue>) -> Result<Option<String>, ApiError> {
    let wrong = || {
        ApiError::bad_request(format!(
            "Invalid idempotency key: expected a string of 1 to {MAX_IDEMPOTENCY_KEY} characters"
        ))
    };
    let header = headers.get("idempotency-key").or_else(|| headers.get("x-idempotency-key"));
    let key = match (header, field) {
        (Some(value), _) => Some(value.to_str().map_err(|_| wrong())?.to_owned()),
        (None, Some(raw)) => Some(json::decode_string(raw).ok_or_else(wrong)?),
        (None, None) => None,
    };
    match key {
        Some(key) if key.is_empty() || key.chars().count() > MAX_IDEMPOTENCY_KEY => Err(wrong()),
        key => Ok(key),
    }
}

/// The body as text.
pub fn body_text(body: &Bytes) -> Result<&str, ApiError> {
    std::str::from_utf8(body).map_err(|_| ApiError::bad_request("The request body is not valid UTF-8"))
}

/// 400 for a body that is no JSON object.
pub fn invalid_json(reason: String) -> ApiError {
    ApiError::bad_request(format!("Invalid JSON in the request body: {reason}"))
}

impl<'a> RawEvent<'a> {
    /// Everything but the channels.
    pub fn event(&self, app: &App) -> Result<Event<'a>, ApiError> {
        let name = optional_string(self.name, "name")?.ok_or_else(|| {
            ApiError::bad_request("Missing required parameter: name. Expected name parameter to be a string")
        })?;
        check_event_name(&name).map_err(|error| ApiError::bad_request(error.to_string()))?;
        let info = match self.info {
            Some(raw) => {
                let names = json::decode_string(raw)
                    .ok_or_else(|| ApiError::bad_request(format!("{NO_LIST}, as one string")))?;
                (!names.is_empty()).then(|| Info::parse(names.split(','))).transpose()?
            }
            None => None,
        };
        Ok(Event { name, data: self.data(app)?, except: self.except()?, info })
    }

    fn data(&self, app: &App) -> Result<&'a str, ApiError> {
        let data = self.data.ok_or_else(|| ApiError::bad_request("Missing required parameter: data"))?;
        match JsonType::of(data) {
            JsonType::String => {}
            other => {
                return Err(ApiError::bad_request(format!(
                    "Expected data parameter to be a string, got {}: encode the payload as JSON text first",
                    other.name()
                )));
            }
        }
        let limit = app.settings.event_size;
        let size = json::decoded_len(data.get())
            .ok_or_else(|| ApiError::bad_request("Invalid data parameter: it holds half a surrogate pair"))?;
        if size > limit {
            return Err(ApiError::too_large(format!(
                "The data content of this event exceeds the allowed maximum ({limit} bytes). It has {size} bytes; the limit is the app's setting event_size"
            )));
        }
        Ok(data.get())
    }

    fn except(&self) -> Result<Option<SocketId>, ApiError> {
        match optional_string(self.socket_id, "socket_id")? {
            Some(id) => SocketId::parse(&id).map_err(|error| ApiError::bad_request(error.to_string())),
            None => Ok(None),
        }
    }

    /// The one channel of a batch's event.
    pub fn channel(&self) -> Result<ChannelName, ApiError> {
        channel_name(&channel_string(self.channel)?)
    }

    /// `channels` and `channel` together, each channel once, in order.
    fn channels(&self, app: &App) -> Result<Vec<ChannelName>, ApiError> {
        let listed: Vec<&RawValue> = match self.channels {
            None => Vec::new(),
            Some(raw) => serde_json::from_str(raw.get()).map_err(|_| {
                ApiError::bad_request("Expected channels parameter to be an array of strings")
            })?,
        };
        if self.channels.is_none() && self.channel.is_none() {
            return Err(no_channel(", got neither channel nor channels"));
        }
        let mut channels: Vec<ChannelName> = Vec::with_capacity(listed.len() + 1);
        let mut seen = std::collections::HashSet::with_capacity(listed.len() + 1);
        for raw in listed.into_iter().map(Some).chain(self.channel.map(Some)) {
            let name = channel_name(&channel_string(raw)?)?;
            if seen.insert(name.clone()) {
                channels.push(name);
            }
        }
        let (given, limit) = (channels.len(), app.settings.max_channels_per_event);
        if given == 0 || given > limit {
            return Err(ApiError::bad_request(format!(
                "Expected 1 to {limit} channels, got {given} (setting max_channels_per_event)"
            )));
        }
        Ok(channels)
    }
}

fn no_string(name: &str) -> ApiError {
    ApiError::bad_request(format!("Expected {name} parameter to be a string"))
}

fn optional_string(raw: Option<&RawValue>, name: &str) -> Result<Option<String>, ApiError> {
    raw.map(|raw| json::decode_string(raw).ok_or_else(|| no_string(name))).transpose()
}

fn channel_string(raw: Option<&RawValue>) -> Result<String, ApiError> {
    let raw = raw.ok_or_else(|| no_channel(""))?;
    json::decode_string(raw).ok_or_else(|| ApiError::bad_request(NO_CHANNEL))
}

fn no_channel(detail: &str) -> ApiError {
    ApiError::bad_request(format!("Missing required parameter: channel. {NO_CHANNEL}{detail}"))
}

/// A channel name, or 400.
pub fn channel_name(name: &str) -> Result<ChannelName, ApiError> {
    ChannelName::parse(name).map_err(|error| ApiError::bad_request(error.to_string()))
}
