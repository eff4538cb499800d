//! Calls to the Telnyx Messaging API v2.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use hyper::Uri;
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use super::look_up::{LookUp, look_up};
use super::{answer, fields};
use crate::config::TelnyxSettings;
use crate::http_client::{HttpClient, HttpFailure, HttpOptions};
use crate::routing::carrier::{Cancellation, OptOut, Outcome};

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// Dots stay encoded: an id can't climb out of its folder.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_');
/// Answers are a few kilobytes; a page of opt-outs some tens.
const MAX_ANSWER: usize = 1024 * 1024;
/// Most that the carrier gives at once.
const PAGE: usize = 250;
/// Bounds the opt-out list at 250,000.
const MAX_PAGES: u64 = 1000;

/// An app's access to the carrier. Cheap to clone; clones share their connections.
#[derive(Clone)]
pub struct Telnyx {
    http: HttpClient,
    base_url: String,
    messages: Uri,
    group_messages: Uri,
    authorization: HeaderValue,
    timeout: Duration,
}

/// What is sent with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// `POST /messages`: to one recipient.
    Message,
    /// `POST /messages/group_mms`: to all members of a group.
    Group,
}

/// Settings that allow no calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SetUpError {
    /// `api_key` is not set: the app has no external messaging.
    #[error("no api_key")]
    NoApiKey,
    /// It can't be put into a header.
    #[error("api_key has characters that no key has")]
    BadApiKey,
    /// Not an absolute http or https URL.
    #[error("base_url is not an http or https URL")]
    BadBaseUrl,
}

/// A call that gave nothing usable; may be made again later.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct CallFailed(String);

impl Telnyx {
    /// Access with these settings. Connects when first used.
    ///
    /// # Errors
    /// See [`SetUpError`].
    pub fn new(settings: &TelnyxSettings) -> Result<Self, SetUpError> {
        let key = settings.api_key.as_ref().ok_or(SetUpError::NoApiKey)?;
        let mut authorization = HeaderValue::from_str(&format!("Bearer {}", key.expose().trim()))
            .map_err(|_| SetUpError::BadApiKey)?;
        authorization.set_sensitive(true);
        let base_url = settings.base_url.trim_end_matches('/').to_owned();
        let messages: Uri = format!("{base_url}/messages").parse().map_err(|_| SetUpError::BadBaseUrl)?;
        if !matches!(messages.scheme_str(), Some("http" | "https")) || messages.host().is_none() {
            return Err(SetUpError::BadBaseUrl);
        }
        let group_messages = format!("{base_url}/messages/group_mms").parse();
        let options = HttpOptions { connect_timeout: settings.connect_timeout, ..HttpOptions::default() };
        Ok(Self {
            http: HttpClient::new(options),
            base_url,
            messages,
            group_messages: group_messages.map_err(|_| SetUpError::BadBaseUrl)?,
            authorization,
            timeout: settings.timeout,
        })
    }

    /// Makes one request with exactly these bytes and tells what became of it. With the same bytes and key
    /// a repeat within 24 h gets the first one's answer; without a key each request is a message.
    ///
    /// Not cancel-safe: a future that is dropped midway has an unclear outcome.
    pub async fn send(&self, call: Call, body: Bytes, idempotency_key: Option<&str>) -> Outcome {
        let mut headers = self.headers();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(key) = idempotency_key {
            let Ok(key) = HeaderValue::from_str(key) else {
                return Outcome::NotSent { reason: "the idempotency key does not fit a header".to_owned() };
            };
            headers.insert(IDEMPOTENCY_KEY, key);
        }
        let uri = match call {
            Call::Message => &self.messages,
            Call::Group => &self.group_messages,
        };
        let result = self.http.post(uri, headers, body, self.timeout, MAX_ANSWER).await;
        answer::outcome(result, unix_seconds())
    }

    /// Cancels a scheduled message, which works until a minute before its time.
    pub async fn cancel(&self, carrier_id: &str) -> Cancellation {
        let id = utf8_percent_encode(carrier_id, SEGMENT);
        let Ok(uri) = self.uri(&format!("/messages/{id}")) else {
            return Cancellation::Unclear { reason: "the message id does not fit a URL".to_owned() };
        };
        let result = self.http.delete(&uri, self.headers(), self.timeout, MAX_ANSWER).await;
        answer::cancellation(result)
    }

    /// Asks what became of a message.
    pub async fn look_up(&self, carrier_id: &str) -> LookUp {
        let id = utf8_percent_encode(carrier_id, SEGMENT);
        let Ok(uri) = self.uri(&format!("/messages/{id}")) else { return LookUp::Unknown };
        let result = self.http.get(&uri, self.headers(), self.timeout, MAX_ANSWER).await;
        look_up(result, carrier_id, unix_seconds())
    }

    /// Everybody who opted out, of all profiles of the account. Many requests for a long list; each has the
    /// usual time-out.
    ///
    /// # Errors
    /// The first request that failed; a part of the list is not given.
    pub async fn opt_outs(&self) -> Result<Vec<OptOut>, CallFailed> {
        let mut all = Vec::new();
        for page in 1..=MAX_PAGES {
            let (rows, pages) = self.opt_out_page(page).await?;
            let is_last = pages.map_or(rows.len() < PAGE, |pages| page >= pages) || rows.is_empty();
            all.extend(rows.iter().filter_map(opt_out));
            if is_last {
                return Ok(all);
            }
        }
        Err(CallFailed(format!("the opt-out list is longer than {MAX_PAGES} pages")))
    }

    /// The rows of one page, and how many pages there are if told.
    async fn opt_out_page(&self, page: u64) -> Result<(Vec<Value>, Option<u64>), CallFailed> {
        let path = format!("/messaging_optouts?page%5Bnumber%5D={page}&page%5Bsize%5D={PAGE}");
        let uri = self.uri(&path).map_err(|_| CallFailed("bad URL".to_owned()))?;
        let answer = self.http.get(&uri, self.headers(), self.timeout, MAX_ANSWER).await?;
        if !answer.status.is_success() {
            let error = answer::error_of(&answer).map(|error| format!(": {error}")).unwrap_or_default();
            return Err(CallFailed(format!("HTTP {}{error}", answer.status.as_u16())));
        }
        let mut document: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        let pages = fields::count(&document["meta"]["total_pages"]);
        match document.get_mut("data").map(Value::take) {
            Some(Value::Array(rows)) => Ok((rows, pages)),
            _ => Err(CallFailed("the opt-out list is not readable".to_owned())),
        }
    }

    fn uri(&self, path: &str) -> Result<Uri, hyper::http::uri::InvalidUri> {
        format!("{}{path}", self.base_url).parse()
    }

    fn headers(&self) -> HeaderMap {
        let agent = HeaderValue::from_static(concat!("switchboard/", env!("CARGO_PKG_VERSION")));
        let json = HeaderValue::from_static("application/json");
        [(AUTHORIZATION, self.authorization.clone()), (ACCEPT, json), (USER_AGENT, agent)]
            .into_iter()
            .collect()
    }
}

impl From<HttpFailure> for CallFailed {
    fn from(failure: HttpFailure) -> Self {
        Self(failure.to_string())
    }
}

impl fmt::Debug for Telnyx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Telnyx")
    }
}

/// `to` is the one who sent STOP, `from` the number that must not write any more.
fn opt_out(row: &Value) -> Option<OptOut> {
    Some(OptOut {
        number: fields::text(&row["to"])?,
        from: fields::text(&row["from"]),
        keyword: fields::text(&row["keyword"]),
        profile_id: fields::text(&row["messaging_profile_id"]),
        created_at_us: fields::time_us(&row["created_at"]),
    })
}

fn unix_seconds() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
