//! Reading request bodies, within the limit that follows from the app's `event_size`.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::header::{CONTENT_LENGTH, EXPECT, HeaderMap};

use super::ApiError;
use crate::apps::App;

/// Time for a whole body.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest body that is read although its request is refused.
const MAX_DISCARDED: usize = 1 << 20;
/// Time for that.
const DISCARD_TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes beyond the limit that are read and dropped, so that the sender gets to see the answer.
const MAX_DROPPED: usize = 32 << 20;

/// The body's exact bytes.
pub async fn read(headers: &HeaderMap, body: Incoming, app: &App) -> Result<Bytes, ApiError> {
    let announced = announced(headers);
    if waits_for_continue(headers) && announced > app.max_request_body() {
        return Err(too_large(announced, app));
    }
    tokio::time::timeout(BODY_TIMEOUT, collect(body, announced, app))
        .await
        .unwrap_or_else(|_| Err(ApiError::timeout()))
}

/// Reads a small body of a request that is refused anyway, and keeps nothing of it.
pub async fn discard(headers: &HeaderMap, mut body: Incoming) {
    if waits_for_continue(headers) || announced(headers) > MAX_DISCARDED {
        return;
    }
    let _ = tokio::time::timeout(DISCARD_TIMEOUT, async {
        let mut received = 0;
        while let Some(Ok(frame)) = body.frame().await {
            received += frame.data_ref().map_or(0, Bytes::len);
            if received > MAX_DISCARDED {
                return;
            }
        }
    })
    .await;
}

/// The body's length, as far as it was announced.
fn announced(headers: &HeaderMap) -> usize {
    let length = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    length.and_then(|length| length.parse().ok()).unwrap_or(0)
}

/// Whether the client sends its body only when asked to.
fn waits_for_continue(headers: &HeaderMap) -> bool {
    headers.get(EXPECT).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}

async fn collect(mut body: Incoming, announced: usize, app: &App) -> Result<Bytes, ApiError> {
    let limit = app.max_request_body();
    let mut first = Bytes::new();
    let mut joined = BytesMut::new();
    let mut received = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| ApiError::bad_request(format!("Broken request body: {error}")))?;
        let Ok(data) = frame.into_data() else { continue };
        received += data.len();
        if received > limit {
            joined.clear();
            if received.max(announced) > limit + MAX_DROPPED {
                break;
            }
        } else if received == data.len() {
            first = data;
        } else {
            if joined.is_empty() {
                joined.reserve(announced.clamp(received, limit));
                joined.extend_from_slice(&first);
            }
            joined.extend_from_slice(&data);
        }
    }
    if received > limit {
        return Err(too_large(received.max(announced), app));
    }
    Ok(if joined.is_empty() { first } else { joined.freeze() })
}

fn too_large(size: usize, app: &App) -> ApiError {
    let (limit, event_size) = (app.max_request_body(), app.settings.event_size);
    ApiError::too_large(format!(
        "The request body has {size} bytes, at most {limit} are allowed (the limit follows from event_size, {event_size} bytes, and max_batch)"
    ))
}
