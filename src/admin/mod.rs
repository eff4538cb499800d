//! The operators' listener: health and metrics, on a port of its own.
//!
//! May import `hub`, `config`, `protocol`.

mod metrics;

use std::convert::Infallible;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ALLOW, AUTHORIZATION, CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use subtle::ConstantTimeEq;

use crate::config::AdminSettings;
use crate::hub::Hub;

/// Time for a request's head.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// Serves until the process ends.
pub async fn serve(hub: Hub, settings: AdminSettings, listener: TcpListener) {
    let listener = tokio::net::TcpListener::from_std(listener).expect("bug: the listener is not blocking");
    let settings = Arc::new(settings);
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "cannot accept an operator's connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let (hub, settings) = (hub.clone(), Arc::clone(&settings));
        tokio::spawn(async move {
            let service = service_fn(|request| {
                let response = respond(&hub, &settings, &request);
                async { Ok::<_, Infallible>(response) }
            });
            // What ends a connection early concerns its client alone.
            let _ = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_TIMEOUT)
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

fn respond(hub: &Hub, settings: &AdminSettings, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "Method not allowed: use GET");
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    match request.uri().path() {
        "/live" | "/up" | "/" => text(StatusCode::OK, "OK"),
        "/ready" if hub.is_draining() => text(StatusCode::SERVICE_UNAVAILABLE, "Server is shutting down"),
        "/ready" => text(StatusCode::OK, "OK"),
        "/metrics" if !is_allowed(settings, request) => {
            let mut response =
                text(StatusCode::UNAUTHORIZED, "Send the admin token: Authorization: Bearer …");
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            response
        }
        "/metrics" => {
            let mut response = text(StatusCode::OK, metrics::render(hub));
            let version = HeaderValue::from_static("text/plain; version=0.0.4");
            response.headers_mut().insert(CONTENT_TYPE, version);
            response
        }
        _ => text(StatusCode::NOT_FOUND, "Not found: known are /live, /ready and /metrics"),
    }
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

fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}
