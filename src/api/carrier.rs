//! `POST /carriers/telnyx/{app_id}[/{token}]`: what the carrier reports. The body is signed, not the request;
//! the router verifies it.

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::Response;
use hyper::body::Incoming;
use hyper::header::HeaderMap;

use super::body::{self, Limit};
use super::{ApiError, reply};
use crate::hub::AppHub;
use crate::routing::Router;

/// Longest report; the carrier's are a few kilobytes.
const MAX_BODY: usize = 256 * 1024;

/// Hands a report to the router; what it answers decides whether the carrier sends it again.
pub async fn receive(
    router: Option<&Router>,
    hub: Option<Arc<AppHub>>,
    headers: &HeaderMap,
    body: Incoming,
) -> Result<Response<Full<Bytes>>, ApiError> {
    let app = hub.map(|hub| hub.app()).filter(|app| app.settings.routing.enabled);
    let (Some(router), Some(app)) = (router, app) else {
        body::discard(headers, body).await;
        return Err(ApiError::not_found());
    };
    let body = body::read(headers, body, Limit::Fixed(MAX_BODY)).await?;
    match router.carrier_webhook(app, headers, body).await {
        Ok(()) => Ok(reply::json("{}")),
        Err(refusal) => Err(ApiError::with_status(refusal.status(), refusal.to_string())),
    }
}
