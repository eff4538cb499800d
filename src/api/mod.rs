//! The HTTP API, the WebSocket handshake and the health checks: everything on the public port up to the
//! moment a connection becomes a WebSocket.
//!
//! Handlers use the [`Hub`]'s handles only, never a shard, so it does not matter on which thread they run.
//! A request is authenticated before its body is parsed, and validated as a whole before anything is
//! published: an error answer means that nothing went out.
//!
//! May import `routing`, `hub`, `apps`, `protocol`, `config`, `logging`.

mod access;
mod batch;
mod body;
mod carrier;
mod channels;
mod info;
mod messaging;
mod places;
mod proxies;
mod reply;
mod route;
mod stream;
mod tls;
mod trigger;
mod upgrade;
mod users;

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{CONNECTION, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Method, Request, Response};

#[cfg(any(test, fuzzing))]
pub(crate) use messaging::fuzzing;
pub use messaging::openapi;
pub use reply::ApiError;
pub use stream::ResponseBody;
pub use tls::TlsGuard;
pub use upgrade::Upgrade;

use crate::config::ServerSettings;
use crate::hub::{AppHub, Hub, Visit};
use crate::logging::traffic;
use crate::protocol::http_auth::{HttpAuthError, Query};
use crate::readiness::Readiness;
use crate::routing::Router;
use access::Signed;
use body::Limit;
use places::Places;
use route::{Endpoint, Route};

/// Serves requests. One per shard; holds handles only.
pub struct Api {
    hub: Hub,
    /// The message router, if any app has one.
    router: Option<Router>,
    readiness: Readiness,
    path_prefix: String,
    tls: TlsGuard,
    /// Room for the carrier's webhooks.
    places: Places,
}

/// What a request comes to.
pub enum Answer {
    /// A response, after which the connection goes on as HTTP.
    Response(Response<ResponseBody>),
    /// A 101 response, after which the connection is a WebSocket.
    Upgrade(Response<ResponseBody>, Upgrade),
}

impl Api {
    /// An API over these apps. The guard is shared by all shards.
    pub fn new(
        hub: Hub,
        router: Option<Router>,
        readiness: Readiness,
        server: &ServerSettings,
        tls: TlsGuard,
    ) -> Self {
        Self {
            hub,
            router,
            readiness,
            path_prefix: server.path_prefix.clone(),
            tls,
            places: Places::new(carrier::BODIES_AT_ONCE),
        }
    }

    /// Whether an address is one of `server.trusted_proxies`.
    pub fn trusts(&self, peer: IpAddr) -> bool {
        self.tls.proxies().trust(peer)
    }

    /// Whether a request brings a file, which is taken part by part.
    pub fn is_upload<B>(&self, request: &Request<B>) -> bool {
        // Asked of each request, publishes among them: nearly all end here.
        if request.method() != Method::PUT {
            return false;
        }
        let path = route::single_slashes(request.uri().path());
        matches!(Route::find(self.strip_prefix(&path)), Some(Route::Attachment { .. }))
    }

    /// Answers one request of a socket.
    pub async fn handle(&self, request: Request<Incoming>, visit: &Visit) -> Answer {
        let (parts, body) = request.into_parts();
        let path = route::single_slashes(parts.uri.path());
        let path = self.strip_prefix(&path);
        if upgrade::is_requested(&parts) {
            let answer = self.upgrade(&parts, path, visit);
            if let Answer::Response(response) = &answer {
                self.log_refusal(&parts, visit.peer, response);
            }
            return answer;
        }
        let mut response = match self.respond(&parts, body, path, visit.peer).await {
            Ok(response) => response,
            Err(error) => error.into_response().map(ResponseBody::from),
        };
        self.log_refusal(&parts, visit.peer, &response);
        if self.hub.is_ending() {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        Answer::Response(response)
    }

    /// Writes the line of a request that was refused.
    fn log_refusal(&self, parts: &Parts, peer: IpAddr, response: &Response<ResponseBody>) {
        if response.status().as_u16() < 400 {
            return;
        }
        let cause = response.extensions().get::<reply::Cause>();
        tracing::debug!(
            target: traffic::TARGET,
            address = self.address(&parts.headers, peer),
            request = format!("{} {}", parts.method, traffic::name(&route::shown(parts.uri.path()))),
            status = response.status().as_u16(),
            why = cause.map(|cause| traffic::sentence(&cause.0).into_owned()),
            "request refused"
        );
    }

    async fn respond(
        &self,
        parts: &Parts,
        body: Incoming,
        path: &str,
        peer: IpAddr,
    ) -> Result<Response<ResponseBody>, ApiError> {
        let endpoint = match self.endpoint(parts, path) {
            Ok(endpoint) => endpoint,
            Err(error) => {
                // Who is cut off while sending sees no answer.
                body::discard(&parts.headers, body).await;
                return Err(error);
            }
        };
        if let Endpoint::Attachment { app, id } = &endpoint {
            let client = self.tls.proxies().client(&parts.headers, peer);
            let (hub, address) = (self.hub.app_by_id(app), client.unwrap_or_else(|| peer.to_canonical()));
            return Ok(messaging::file(self.router.as_ref(), hub, parts, (app, id), address, body).await);
        }
        self.respond_at_once(endpoint, parts, body).await.map(|response| response.map(ResponseBody::from))
    }

    /// Answers a request whose answer is small.
    async fn respond_at_once(
        &self,
        endpoint: Endpoint,
        parts: &Parts,
        body: Incoming,
    ) -> Result<Response<Full<Bytes>>, ApiError> {
        match endpoint {
            Endpoint::Live => Ok(reply::text("OK")),
            Endpoint::Ready => Ok(reply::readiness(self.readiness.of_all())),
            Endpoint::WebSocket => Err(upgrade::required()),
            Endpoint::OpenApi if self.router.is_some() => Ok(reply::json(messaging::openapi())),
            Endpoint::OpenApi => Err(ApiError::not_found()),
            Endpoint::TerminateByKey { user } => {
                let query = access::parse_query(parts)?;
                let key = query.get("auth_key").unwrap_or_default();
                let request = self.authenticate(parts, &query, self.hub.app_by_key(key), body).await?;
                users::terminate(self.router.as_ref(), &request, &user).await
            }
            Endpoint::App { id, action } => {
                let query = access::parse_query(parts)?;
                let request = self.authenticate(parts, &query, self.hub.app_by_id(&id), body).await?;
                action.run(self.router.as_ref(), &request, parts, &query).await
            }
            Endpoint::Messaging { id, path } => {
                let hub = self.hub.app_by_id(&id);
                Ok(messaging::answer(self.router.as_ref(), hub, parts, &path, body).await)
            }
            // Answered before: files are large.
            Endpoint::Attachment { .. } => Err(ApiError::not_found()),
            Endpoint::CarrierWebhook { id } => {
                let hub = self.hub.app_by_id(&id);
                carrier::receive(self.router.as_ref(), hub, &parts.headers, body, &self.places).await
            }
        }
    }

    /// What a request is for, if it can be that.
    fn endpoint(&self, parts: &Parts, path: &str) -> Result<Endpoint, ApiError> {
        let endpoint = Route::find(path).ok_or_else(ApiError::not_found)?.endpoint(&parts.method)?;
        if matches!(endpoint, Endpoint::App { .. } | Endpoint::TerminateByKey { .. }) {
            access::parse_query(parts)?.get("auth_key").ok_or_else(key_missing)?;
        }
        Ok(endpoint)
    }

    async fn authenticate(
        &self,
        parts: &Parts,
        query: &Query<'_>,
        hub: Option<Arc<AppHub>>,
        body: Incoming,
    ) -> Result<Signed, ApiError> {
        let request = access::authenticate(parts, query, hub, body, Limit::of_events).await?;
        if !request.app.settings.enabled {
            return Err(ApiError::forbidden("Application disabled"));
        }
        Ok(request)
    }

    fn strip_prefix<'a>(&self, path: &'a str) -> &'a str {
        match path.strip_prefix(&self.path_prefix) {
            Some(rest) if rest.starts_with('/') => rest,
            _ => path,
        }
    }
}

fn key_missing() -> ApiError {
    ApiError::unauthorized(HttpAuthError::KeyMissing.to_string())
}
