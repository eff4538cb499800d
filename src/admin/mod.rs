//! The operators' listener: health, metrics, webhooks, on a port of its own.
//!
//! May import `readiness`, `routing`, `webhooks`, `outbox`, `storage`, `hub`, `config`, `protocol`.

mod metrics;
mod webhooks;

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::{IpAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ALLOW, AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue, WWW_AUTHENTICATE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::Value;
use subtle::ConstantTimeEq;
use tokio::task::JoinHandle;

use crate::config::AdminSettings;
use crate::hub::Hub;
use crate::outbox::Outbox;
use crate::readiness::{Readiness, Report};
use crate::routing::Router;
use crate::webhooks::Webhooks;

/// Paths that are answered without the token.
const OPEN: [&str; 5] = ["/", "/live", "/up", "/ready", "/openapi.json"];
/// Below it, each part of the process has a path.
const PARTS: &str = "/ready/";
/// Time for a request's head.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// Connections that are served at once where the limit of open files lets them.
pub const MAX_CONNECTIONS: usize = 128;

/// What the operators see.
pub struct Admin {
    /// Connections and events.
    pub hub: Hub,
    /// The message router, if any app has one.
    pub router: Option<Router>,
    /// What must still happen, if there is a store.
    pub outbox: Option<Outbox>,
    /// Webhooks, if any app has some.
    pub webhooks: Option<Webhooks>,
    /// What `/ready` says.
    pub readiness: Readiness,
    /// Who may see what.
    pub settings: AdminSettings,
    /// The description of the messaging API, if there is one.
    pub openapi: Option<Bytes>,
    /// Connections that are served at once.
    pub max_connections: usize,
}

/// Serves until the process ends.
pub async fn serve(admin: Admin, listener: TcpListener) {
    let listener = tokio::net::TcpListener::from_std(listener).expect("bug: the listener is not blocking");
    let admin = Arc::new(admin);
    let mut open: VecDeque<JoinHandle<()>> = VecDeque::new();
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "the operators' port can't accept a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        open.retain(|connection| !connection.is_finished());
        if open.len() >= admin.max_connections
            && let Some(oldest) = open.pop_front()
        {
            // Whoever asks now is answered; whoever has been here longest says nothing, or asks again.
            oldest.abort();
        }
        let admin = Arc::clone(&admin);
        open.push_back(tokio::spawn(async move {
            let service = service_fn(|request| {
                let admin = Arc::clone(&admin);
                async move { Ok::<_, Infallible>(admin.respond(request).await) }
            });
            // What ends a connection early concerns its client alone.
            let _ = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_TIMEOUT)
                .serve_connection(TokioIo::new(stream), service)
                .await;
        }));
    }
}

impl Admin {
    async fn respond(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let path = request.uri().path();
        let is_open = OPEN.contains(&path) || path.starts_with(PARTS);
        if !is_open && !is_allowed(&self.settings, &request) {
            let mut response =
                text(StatusCode::UNAUTHORIZED, "Send the admin token: Authorization: Bearer …");
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            return response;
        }
        if !is_open && self.settings.token.is_none() && !is_asked_by_address(&request) {
            let message = "Use the address, or set admin.token: a page in a browser might be asking";
            return text(StatusCode::FORBIDDEN, message);
        }
        if path.starts_with("/webhooks") {
            return webhooks::respond(self, request).await;
        }
        if request.method() != Method::GET && request.method() != Method::HEAD {
            let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "Method not allowed: use GET");
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return response;
        }
        match request.uri().path() {
            "/live" | "/up" | "/" => text(StatusCode::OK, "OK"),
            "/ready" => readiness(self.readiness.of_all()),
            path if path.starts_with(PARTS) => self.part(path),
            "/metrics" => {
                let text_format = metrics::render(self).await;
                let mut response = text(StatusCode::OK, text_format);
                let version = HeaderValue::from_static("text/plain; version=0.0.4");
                response.headers_mut().insert(CONTENT_TYPE, version);
                response
            }
            "/openapi.json" if self.openapi.is_some() => {
                let mut response = text(StatusCode::OK, self.openapi.clone().unwrap_or_default());
                response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
                response
            }
            _ => text(StatusCode::NOT_FOUND, "Not found: known are /live, /ready, /metrics and /webhooks"),
        }
    }

    /// The readiness of the part that a path names.
    fn part(&self, path: &str) -> Response<Full<Bytes>> {
        let report = path.strip_prefix(PARTS).and_then(|part| self.readiness.of_part(part));
        report.map_or_else(
            || {
                let message = "Not found: /ready names the parts of this server that can be asked for";
                text(StatusCode::NOT_FOUND, message)
            },
            readiness,
        )
    }
}

fn readiness(report: Report) -> Response<Full<Bytes>> {
    let status = if report.is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let mut response = text(status, report.body);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// Whether `Host` is an address or `localhost`: a web page that had its own name point here does not get past.
fn is_asked_by_address(request: &Request<Incoming>) -> bool {
    let host = request.headers().get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let host = host.rsplit_once(':').filter(|(_, port)| !port.ends_with(']')).map_or(host, |(host, _)| host);
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare == "localhost" || bare.parse::<IpAddr>().is_ok()
}

/// Whether the request carries the token, where one is set.
fn is_allowed(settings: &AdminSettings, request: &Request<Incoming>) -> bool {
    let Some(token) = &settings.token else { return true };
    let given = request
        .headers()
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("Bearer "))
        .unwrap_or_default();
    given.as_bytes().ct_eq(token.expose().as_bytes()).into()
}

fn json_reply(status: StatusCode, value: &Value) -> Response<Full<Bytes>> {
    let mut response = text(status, value.to_string());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}
