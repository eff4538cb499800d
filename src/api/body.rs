//! Reading request bodies, within limits.

use std::fmt;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::header::{CONTENT_LENGTH, EXPECT, HeaderMap};

use super::ApiError;
use crate::apps::{App, Pace, TooSlow};

/// Time for a whole body.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest body that is read although its request is refused.
const MAX_DISCARDED: usize = 1 << 20;
/// Time for that.
const DISCARD_TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes beyond the limit that are read and dropped, so that the sender gets to see the answer.
const MAX_DROPPED: usize = 32 << 20;

/// How long a body may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// What the app's settings make of events.
    Events {
        /// Bytes of the body.
        bytes: usize,
        /// Bytes of one event, which that follows from.
        event_size: usize,
    },
    /// So many bytes, whatever the settings.
    Fixed(usize),
}

/// Why there is no body.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// The connection or the encoding broke.
    #[error("Broken request body: {0}")]
    Broken(String),
    /// It did not come in time.
    #[error("The request body did not arrive in time")]
    Timeout,
    /// It is longer than allowed.
    #[error("The request body has {size} bytes, at most {limit} are allowed")]
    TooLarge {
        /// Bytes that came or were announced.
        size: usize,
        /// What it was held against.
        limit: Limit,
    },
}

impl Limit {
    /// For requests that publish.
    pub fn of_events(app: &App) -> Self {
        Self::Events { bytes: app.max_request_body(), event_size: app.settings.event_size }
    }

    fn bytes(self) -> usize {
        match self {
            Self::Events { bytes, .. } | Self::Fixed(bytes) => bytes,
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.bytes().fmt(f)
    }
}

impl From<BodyError> for ApiError {
    fn from(error: BodyError) -> Self {
        match error {
            BodyError::Broken(_) => Self::bad_request(error.to_string()),
            BodyError::Timeout => Self::timeout(),
            BodyError::TooLarge { limit: Limit::Events { event_size, .. }, .. } => Self::too_large(format!(
                "{error} (the limit follows from event_size, {event_size} bytes, and max_batch)"
            )),
            BodyError::TooLarge { .. } => Self::too_large(error.to_string()),
        }
    }
}

/// The body's exact bytes.
pub async fn read(headers: &HeaderMap, body: Incoming, limit: Limit) -> Result<Bytes, BodyError> {
    read_within(BODY_TIMEOUT, headers, body, limit).await
}

/// As [`read`], with a time of its own.
pub async fn read_within(
    time: Duration,
    headers: &HeaderMap,
    body: Incoming,
    limit: Limit,
) -> Result<Bytes, BodyError> {
    let announced = announced(headers);
    if waits_for_continue(headers) {
        check_announced(headers, limit)?;
    }
    tokio::time::timeout(time, collect(body, announced, limit)).await.unwrap_or(Err(BodyError::Timeout))
}

/// Whether a body may be as long as it was announced.
pub fn check_announced(headers: &HeaderMap, limit: Limit) -> Result<(), BodyError> {
    let size = announced(headers);
    if size > limit.bytes() { Err(BodyError::TooLarge { size, limit }) } else { Ok(()) }
}

/// Hands a long body on bit by bit, as long as it comes fast enough. What is beyond `limit` is dropped, as is the rest
/// when `take` fails, so that the sender gets to see the answer.
pub async fn pass<E: From<BodyError>>(
    headers: &HeaderMap,
    mut body: Incoming,
    limit: usize,
    mut pace: Pace,
    mut take: impl AsyncFnMut(Bytes) -> Result<(), E>,
) -> Result<(), E> {
    let announced = announced(headers);
    let too_large = |size| E::from(BodyError::TooLarge { size, limit: Limit::Fixed(limit) });
    if waits_for_continue(headers) && announced > limit {
        return Err(too_large(announced));
    }
    let mut received = 0;
    while let Some(frame) = pace.of(body.frame()).await.map_err(|TooSlow| BodyError::Timeout)? {
        let frame = frame.map_err(|error| BodyError::Broken(error.to_string()))?;
        let Ok(data) = frame.into_data() else { continue };
        pace.moved(data.len());
        received += data.len();
        if received > limit {
            if received.max(announced) > limit + MAX_DROPPED {
                break;
            }
        } else if let Err(error) = take(data).await {
            drop_rest(body).await;
            return Err(error);
        }
    }
    if received > limit { Err(too_large(received.max(announced))) } else { Ok(()) }
}

/// Reads a small body of a request that is refused anyway, and keeps nothing of it.
pub async fn discard(headers: &HeaderMap, body: Incoming) {
    if waits_for_continue(headers) || announced(headers) > MAX_DISCARDED {
        return;
    }
    drop_rest(body).await;
}

async fn drop_rest(mut body: Incoming) {
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

async fn collect(mut body: Incoming, announced: usize, limit: Limit) -> Result<Bytes, BodyError> {
    let most = limit.bytes();
    let mut first = Bytes::new();
    let mut joined = BytesMut::new();
    let mut received = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| BodyError::Broken(error.to_string()))?;
        let Ok(data) = frame.into_data() else { continue };
        received += data.len();
        if received > most {
            joined.clear();
            if received.max(announced) > most + MAX_DROPPED {
                break;
            }
        } else if received == data.len() {
            first = data;
        } else {
            if joined.is_empty() {
                joined.reserve(announced.clamp(received, most));
                joined.extend_from_slice(&first);
            }
            joined.extend_from_slice(&data);
        }
    }
    if received > most {
        return Err(BodyError::TooLarge { size: received.max(announced), limit });
    }
    Ok(if joined.is_empty() { first } else { joined.freeze() })
}
