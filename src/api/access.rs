//! Who may ask: the signature of a request, and reading its body once that is verified.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::http::request::Parts;

use super::ApiError;
use super::body::{self, BodyError, Limit};
use crate::apps::App;
use crate::hub::AppHub;
use crate::logging::traffic;
use crate::protocol::http_auth::{HttpAuthError, Query, SignedRequest};

/// Most query parameters of a request; the SDKs send about ten.
const MAX_PARAMETERS: usize = 100;

/// What the log says of a request to an app that is not there.
const NO_APP: &str = "wrong app: no app has the id in the path";

/// A request whose signature was verified.
pub struct Signed {
    /// Its app, as it was when the request came.
    pub app: Arc<App>,
    /// What is connected to that app.
    pub hub: Arc<AppHub>,
    /// The body's exact bytes.
    pub body: Bytes,
}

/// Why a request is not answered.
#[derive(Debug, thiserror::Error)]
pub enum Denied {
    /// It is not authentic.
    #[error("{error}")]
    Unauthorized {
        /// For the sender.
        error: HttpAuthError,
        /// For the log, when it is written.
        cause: String,
    },
    /// Its body can't be taken.
    #[error(transparent)]
    Body(#[from] BodyError),
}

/// More parameters than any SDK sends.
#[derive(Debug, thiserror::Error)]
#[error("Too many query parameters: at most {MAX_PARAMETERS}")]
pub struct TooManyParameters;

impl Denied {
    pub(super) fn unauthorized(error: HttpAuthError, cause: impl FnOnce(&HttpAuthError) -> String) -> Self {
        let cause = if traffic::is_on() { cause(&error) } else { String::new() };
        Self::Unauthorized { error, cause }
    }
}

impl From<Denied> for ApiError {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::Unauthorized { error, cause } => Self::unauthorized(error.to_string()).because(cause),
            Denied::Body(error) => error.into(),
        }
    }
}

impl From<TooManyParameters> for ApiError {
    fn from(error: TooManyParameters) -> Self {
        Self::bad_request(error.to_string())
    }
}

/// The query of a request.
pub fn parse_query(parts: &Parts) -> Result<Query<'_>, TooManyParameters> {
    let raw = parts.uri.query().unwrap_or_default();
    if raw.bytes().filter(|byte| *byte == b'&').count() >= MAX_PARAMETERS {
        return Err(TooManyParameters);
    }
    Ok(Query::parse(raw))
}

/// Verifies the signature, then reads the body. A stranger's body is read, too, as far as it is small, but
/// not kept: who is cut off while sending sees no answer. An unknown app answers as a known one does to a
/// stranger, so that ids can't be probed.
pub async fn authenticate(
    parts: &Parts,
    query: &Query<'_>,
    hub: Option<Arc<AppHub>>,
    body: Incoming,
    limit: fn(&App) -> Limit,
) -> Result<Signed, Denied> {
    let signed = SignedRequest { method: parts.method.as_str(), path: parts.uri.path(), query };
    let verified = match hub {
        None => {
            let is_missing = query.get("auth_key").is_none();
            let error = if is_missing { HttpAuthError::KeyMissing } else { HttpAuthError::UnknownKey };
            Err(Denied::unauthorized(error, |_| NO_APP.to_owned()))
        }
        Some(hub) => {
            let app = hub.app();
            match signed.verify(&app.keys, unix_seconds()) {
                Ok(()) => Ok((hub, app)),
                Err(error) => Err(Denied::unauthorized(error, |error| signed.cause(error, &app.keys))),
            }
        }
    };
    let (hub, app) = match verified {
        Ok(verified) => verified,
        Err(error) => {
            body::discard(&parts.headers, body).await;
            return Err(error);
        }
    };
    let body = body::read(&parts.headers, body, limit(&app)).await?;
    signed
        .verify_body(&body)
        .map_err(|error| Denied::unauthorized(error, |error| signed.cause(error, &app.keys)))?;
    Ok(Signed { app, hub, body })
}

/// The clock that signatures and tokens are held against.
pub fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
