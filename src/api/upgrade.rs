//! The WebSocket handshake (RFC 6455, section 4.2).
//!
//! Also a connection that is turned away is upgraded first: only then can it be told why. A refused
//! upgrade reaches browsers as "closed 1006", and they retry for ever.

use std::net::IpAddr;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{
    CONNECTION, HeaderMap, HeaderName, HeaderValue, ORIGIN, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use hyper::http::request::Parts;
use hyper::{Method, Response, StatusCode, Version};
use percent_encoding::percent_decode_str;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::{Answer, Api, ApiError, ResponseBody};
use crate::hub::{Admission, Handshake, Newcomer, Refusal, Visit};
use crate::logging::traffic;
use crate::protocol::error_code::ErrorCode;
use crate::protocol::http_auth::Query;

/// The subprotocol that the Swift client offers.
const SUBPROTOCOL: &str = "pusher-channels-protocol-7";
/// Protocol versions that clients in use announce and that behave like 7.
const PROTOCOLS: std::ops::RangeInclusive<u32> = 4..=7;

/// What the upgraded connection becomes.
pub enum Upgrade {
    /// A connection of an app; with what the log says of it, when it does.
    Accept(Admission, Option<Box<Newcomer>>),
    /// A connection that is told why it has to go.
    Refuse(Refusal),
}

/// Whether the client wants a WebSocket.
pub fn is_requested(parts: &Parts) -> bool {
    parts.method == Method::GET
        && parts.version == Version::HTTP_11
        && has_token(&parts.headers, &CONNECTION, "upgrade")
        && has_token(&parts.headers, &UPGRADE, "websocket")
}

/// The answer to a plain request for a path that is for WebSockets.
pub fn required() -> ApiError {
    ApiError::upgrade_required(
        "This path is for WebSocket connections",
        (UPGRADE, HeaderValue::from_static("websocket")),
    )
}

impl Api {
    pub(super) fn upgrade(&self, parts: &Parts, path: &str, visit: &Visit) -> Answer {
        let accept = match handshake(&parts.headers) {
            Ok(accept) => accept,
            Err(error) => return Answer::Response(error.into_response().map(ResponseBody::from)),
        };
        let mut response = Response::new(Full::new(Bytes::new()));
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
        if items(&parts.headers, &SEC_WEBSOCKET_PROTOCOL).any(|item| item == SUBPROTOCOL) {
            headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL));
        }
        let newcomer = traffic::is_on().then(|| Box::new(self.newcomer(parts, visit)));
        let upgrade = match self.admit(parts, path, visit) {
            Ok(admission) => Upgrade::Accept(admission, newcomer),
            Err(refusal) => {
                if let Some(newcomer) = newcomer {
                    newcomer.is_refused(None, &self.without_secret(path, &refusal));
                }
                Upgrade::Refuse(refusal)
            }
        };
        Answer::Upgrade(response.map(ResponseBody::from), upgrade)
    }

    fn admit(&self, parts: &Parts, path: &str, visit: &Visit) -> Result<Admission, Refusal> {
        let refuse = |code, message: String| Err(Refusal { code, message });
        let Some(key) =
            path.strip_prefix("/app/").map(|key| key.trim_end_matches('/')).filter(|key| !key.contains('/'))
        else {
            return refuse(ErrorCode::PathNotFound, "Path not found: connect to /app/{key}".to_owned());
        };
        let key = percent_decode_str(key).decode_utf8_lossy();
        let Some(hub) = self.hub.app_by_key(&key) else {
            return refuse(ErrorCode::AppDoesNotExist, format!("App key {key} does not exist."));
        };
        let query = Query::parse(parts.uri.query().unwrap_or_default());
        if let Some((_, protocol)) = query.iter().find(|(name, _)| *name == "protocol")
            && !protocol.parse().is_ok_and(|version| PROTOCOLS.contains(&version))
        {
            let message = "Unsupported protocol version: this server speaks version 7".to_owned();
            return refuse(ErrorCode::UnsupportedProtocol, message);
        }
        let app = hub.app();
        if app.settings.tls_only
            && let Some(refusal) = self.tls.refusal(hub.id(), &parts.headers, visit.peer)
        {
            return Err(refusal);
        }
        let origin = parts.headers.get(ORIGIN).and_then(|origin| origin.to_str().ok());
        if !app.allows_origin(origin) {
            return refuse(ErrorCode::Unauthorized, "Origin not allowed".to_owned());
        }
        let mut admission =
            self.hub.admit(&hub, visit, self.tls.proxies().client(&parts.headers, visit.peer))?;
        let is_secure = self.tls.is_secure(&parts.headers, visit.peer);
        admission.handshake = Some(Handshake::of(origin, is_secure));
        Ok(admission)
    }

    fn newcomer(&self, parts: &Parts, visit: &Visit) -> Newcomer {
        let header = |name: &HeaderName| parts.headers.get(name).and_then(|value| value.to_str().ok());
        let query = Query::parse(parts.uri.query().unwrap_or_default());
        let library = match query.get("client") {
            Some("js") => Some("pusher-js"),
            other => other,
        };
        let client = match (library, query.get("version")) {
            (Some(library), Some(version)) => Some(format!("{library} {version}")),
            (library, version) => library.or(version).map(str::to_owned),
        };
        Newcomer {
            address: self.address(&parts.headers, visit.peer),
            origin: header(&ORIGIN).map(|origin| traffic::name(origin).into_owned()),
            client: client.map(|client| traffic::name(&client).into_owned()),
        }
    }

    /// Where a client is, for the log.
    pub(super) fn address(&self, headers: &HeaderMap, peer: IpAddr) -> String {
        let client = self.tls.proxies().client(headers, peer);
        let peer = peer.to_canonical();
        client.map_or_else(|| peer.to_string(), |client| format!("{client} via {peer}"))
    }

    /// The refusal as the log has it. Its text repeats the key of the path, and that may be an app's secret:
    /// people mix them up.
    fn without_secret(&self, path: &str, refusal: &Refusal) -> Refusal {
        let key = path.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
        let key = percent_decode_str(key).decode_utf8_lossy();
        let is_secret =
            self.hub.apps().iter().any(|hub| hub.app().settings.secrets.iter().any(|it| it.expose() == key));
        if !is_secret {
            return refusal.clone();
        }
        let message = "the client sent the app's secret in place of its key: take it out of the page";
        Refusal { code: refusal.code, message: message.to_owned() }
    }
}

fn handshake(headers: &HeaderMap) -> Result<HeaderValue, ApiError> {
    if headers.get(SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
        return Err(ApiError::upgrade_required(
            "Unsupported WebSocket version: use 13",
            (SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13")),
        ));
    }
    let key = headers
        .get(SEC_WEBSOCKET_KEY)
        .ok_or_else(|| ApiError::bad_request("Missing header: Sec-WebSocket-Key"))?;
    if !is_nonce(key.as_bytes()) {
        return Err(ApiError::bad_request("Invalid header: Sec-WebSocket-Key must be 16 bytes in base64"));
    }
    HeaderValue::from_str(&derive_accept_key(key.as_bytes()))
        .map_err(|_| ApiError::bad_request("Invalid header: Sec-WebSocket-Key"))
}

/// Whether this is base64 of 16 bytes (RFC 6455, section 4.2.1).
fn is_nonce(key: &[u8]) -> bool {
    let is_base64 = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    key.strip_suffix(b"==").is_some_and(|digits| digits.len() == 22 && digits.iter().all(is_base64))
}

/// Whether a comma-separated header names `token`, in any case.
fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    items(headers, name).any(|item| item.eq_ignore_ascii_case(token))
}

/// The items of a comma-separated header.
fn items<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim)
}
