//! `POST /carriers/telnyx/{app_id}[/{token}]`: what the carrier reports. The body is signed, not the request;
//! the router verifies it. Anybody can send one, so that its
//! headers are looked at before its body is read, and few bodies are read at a time.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::Response;
use hyper::body::Incoming;
use hyper::header::HeaderMap;

use super::body::{self, Limit};
use super::places::Places;
use super::{ApiError, reply};
use crate::hub::AppHub;
use crate::routing::{Router, WebhookRefusal};

/// Longest report; the carrier's are a few kilobytes.
const MAX_BODY: usize = 256 * 1024;
/// Bodies that one shard reads at once.
pub const BODIES_AT_ONCE: usize = 32;
/// Time for a body; the carrier itself waits two seconds for the answer.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// Hands a report to the router; what it answers decides whether the carrier sends it again.
pub async fn receive(
    router: Option<&Router>,
    hub: Option<Arc<AppHub>>,
    headers: &HeaderMap,
    body: Incoming,
    places: &Places,
) -> Result<Response<Full<Bytes>>, ApiError> {
    let app = hub.map(|hub| hub.app()).filter(|app| app.settings.routing.enabled);
    let (Some(router), Some(app)) = (router, app) else {
        body::discard(headers, body).await;
        return Err(ApiError::not_found());
    };
    let limit = Limit::Fixed(MAX_BODY);
    let checked = router.check_carrier_webhook(&app, headers).map_err(|refusal| refused(&refusal));
    if let Err(error) = checked.and_then(|()| Ok(body::check_announced(headers, limit)?)) {
        body::discard(headers, body).await;
        return Err(error);
    }
    let read = body::read_within(BODY_TIMEOUT, headers, body, limit);
    let body = places.take().hold(read).await;
    let body = body.ok_or_else(|| ApiError::unavailable("Too many webhooks at once, send it again"))??;
    match router.carrier_webhook(app, headers, body).await {
        Ok(()) => Ok(reply::json("{}")),
        Err(refusal) => Err(refused(&refusal)),
    }
}

fn refused(refusal: &WebhookRefusal) -> ApiError {
    ApiError::with_status(refusal.status(), refusal.to_string())
}
