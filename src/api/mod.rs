//! The HTTP API, the WebSocket handshake and the health checks: everything on the public port up to the
//! moment a connection becomes a WebSocket.
//!
//! Handlers use the [`Hub`]'s handles only, never a shard, so it does not matter on which thread they run.
//! A request is authenticated before its body is parsed, and validated as a whole before anything is
//! published: an error answer means that nothing went out.
//!
//! May import `hub`, `apps`, `protocol`, `config`.

mod batch;
mod body;
mod channels;
mod info;
mod reply;
mod route;
mod trigger;
mod upgrade;
mod users;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{CONNECTION, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Request, Response};
use ipnet::IpNet;

pub use reply::ApiError;
pub use upgrade::Upgrade;

use crate::apps::App;
use crate::config::ServerSettings;
use crate::hub::{AppHub, Hub};
use crate::protocol::http_auth::{HttpAuthError, Query, SignedRequest};
use route::{Endpoint, Route};

/// Most query parameters of a request; the SDKs send about ten.
const MAX_PARAMETERS: usize = 100;

/// Serves requests. One per shard; holds handles only.
pub struct Api {
    hub: Hub,
    path_prefix: String,
    trusted_proxies: Vec<IpNet>,
}

/// What a request comes to.
pub enum Answer {
    /// A response, after which the connection goes on as HTTP.
    Response(Response<Full<Bytes>>),
    /// A 101 response, after which the connection is a WebSocket.
    Upgrade(Response<Full<Bytes>>, Upgrade),
}

/// A request whose signature was verified.
struct Authentic {
    app: Arc<App>,
    hub: Arc<AppHub>,
    body: Bytes,
}

impl Api {
    /// An API over these apps.
    pub fn new(hub: Hub, server: &ServerSettings) -> Self {
        Self { hub, path_prefix: server.path_prefix.clone(), trusted_proxies: server.trusted_proxies.clone() }
    }

    /// Answers one request. `peer` is the address at the other end of the TCP connection.
    pub async fn handle(&self, request: Request<Incoming>, peer: IpAddr) -> Answer {
        let (parts, body) = request.into_parts();
        let path = self.strip_prefix(parts.uri.path());
        if upgrade::is_requested(&parts) {
            return self.upgrade(&parts, path, peer);
        }
        let mut response = match self.respond(&parts, body, path).await {
            Ok(response) => response,
            Err(error) => error.into_response(),
        };
        if self.hub.is_draining() {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        Answer::Response(response)
    }

    async fn respond(
        &self,
        parts: &Parts,
        body: Incoming,
        path: &str,
    ) -> Result<Response<Full<Bytes>>, ApiError> {
        let endpoint = Route::find(path).ok_or_else(ApiError::not_found)?.endpoint(&parts.method)?;
        match endpoint {
            Endpoint::Live => Ok(reply::text("OK")),
            Endpoint::Ready if self.hub.is_draining() => {
                Err(ApiError::unavailable("Server is shutting down"))
            }
            Endpoint::Ready => Ok(reply::text("OK")),
            Endpoint::WebSocket => Err(upgrade::required()),
            Endpoint::TerminateByKey { user } => {
                let query = parse_query(parts)?;
                let key = query.get("auth_key").ok_or_else(|| unauthorized(&HttpAuthError::KeyMissing))?;
                let request = self.authenticate(parts, &query, self.hub.app_by_key(key), body).await?;
                users::terminate(&request, &user)
            }
            Endpoint::App { id, action } => {
                let query = parse_query(parts)?;
                // An unknown app answers as a known one does to a stranger, so that ids can't be probed.
                query.get("auth_key").ok_or_else(|| unauthorized(&HttpAuthError::KeyMissing))?;
                let request = self.authenticate(parts, &query, self.hub.app_by_id(&id), body).await?;
                action.run(&request, parts, &query)
            }
        }
    }

    /// Verifies the signature, then reads the body, then looks whether the app is enabled. A stranger's
    /// body is read, too, as far as it is small, but not kept: who is cut off while sending sees no answer.
    async fn authenticate(
        &self,
        parts: &Parts,
        query: &Query<'_>,
        hub: Option<Arc<AppHub>>,
        body: Incoming,
    ) -> Result<Authentic, ApiError> {
        let signed = SignedRequest { method: parts.method.as_str(), path: parts.uri.path(), query };
        let verified = hub.ok_or(HttpAuthError::UnknownKey).and_then(|hub| {
            let app = hub.app();
            signed.verify(&app.keys, unix_seconds())?;
            Ok((hub, app))
        });
        let (hub, app) = match verified {
            Ok(verified) => verified,
            Err(error) => {
                body::discard(&parts.headers, body).await;
                return Err(unauthorized(&error));
            }
        };
        let body = body::read(&parts.headers, body, &app).await?;
        signed.verify_body(&body).map_err(|error| unauthorized(&error))?;
        if !app.settings.enabled {
            return Err(ApiError::forbidden("Application disabled"));
        }
        Ok(Authentic { app, hub, body })
    }

    fn strip_prefix<'a>(&self, path: &'a str) -> &'a str {
        match path.strip_prefix(&self.path_prefix) {
            Some(rest) if rest.starts_with('/') => rest,
            _ => path,
        }
    }
}

fn parse_query(parts: &Parts) -> Result<Query<'_>, ApiError> {
    let raw = parts.uri.query().unwrap_or_default();
    if raw.bytes().filter(|byte| *byte == b'&').count() >= MAX_PARAMETERS {
        return Err(ApiError::bad_request(format!("Too many query parameters: at most {MAX_PARAMETERS}")));
    }
    Ok(Query::parse(raw))
}

fn unauthorized(error: &HttpAuthError) -> ApiError {
    ApiError::unauthorized(error.to_string())
}

fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
