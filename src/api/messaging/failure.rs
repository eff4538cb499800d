//! Failures as responses: `{"error":{"code","message","field"}}`.

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{HeaderValue, RETRY_AFTER};
use hyper::{Response, StatusCode};
use schemars::JsonSchema;
use serde::Serialize;

use super::super::access::{Denied, TooManyParameters};
use super::super::body::BodyError;
use super::super::reply;
use crate::logging::traffic;
use crate::protocol::http_auth::HttpAuthError;
use crate::routing::{Code, RoutingError};

/// Why a call was not carried out; nothing of it was.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ErrorJson<'a> {
    /// What went wrong.
    error: ErrorDetail<'a>,
}

/// What went wrong.
#[derive(Debug, Serialize, JsonSchema)]
struct ErrorDetail<'a> {
    /// What kind of failure, for programs.
    code: &'a str,
    /// A sentence for the developer.
    message: &'a str,
    /// The field of the request that is wrong, as a path such as `phone_numbers[2].number`.
    field: Option<&'a str>,
}

/// A failure, with what the log says of it where that is not the error's code.
pub struct Failure {
    error: RoutingError,
    cause: Option<String>,
}

impl From<RoutingError> for Failure {
    fn from(error: RoutingError) -> Self {
        Self { error, cause: None }
    }
}

impl From<Denied> for Failure {
    fn from(denied: Denied) -> Self {
        let cause = match &denied {
            Denied::Unauthorized { cause, .. } => Some(cause.clone()),
            Denied::Body(error) => Some(error.to_string()),
        };
        Self { error: denied.into(), cause }
    }
}

impl From<TooManyParameters> for Failure {
    fn from(error: TooManyParameters) -> Self {
        RoutingError::from(error).into()
    }
}

impl Failure {
    /// The answer that tells of it.
    pub fn response(self) -> Response<Full<Bytes>> {
        let mut response = response(&self.error);
        if traffic::is_on() {
            // The message may hold a number; the code and the field do not.
            let cause = self.cause.unwrap_or_else(|| match &self.error.field {
                Some(field) => format!("{}: {field}", self.error.code.as_str()),
                None => self.error.code.as_str().to_owned(),
            });
            response.extensions_mut().insert(reply::Cause(cause));
        }
        response
    }
}

/// The answer that tells of a failure.
pub fn response(error: &RoutingError) -> Response<Full<Bytes>> {
    let detail =
        ErrorDetail { code: error.code.as_str(), message: &error.message, field: error.field.as_deref() };
    let body = serde_json::to_vec(&ErrorJson { error: detail }).unwrap_or_default();
    let mut response = reply::json(body);
    *response.status_mut() =
        StatusCode::from_u16(error.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    if let Some(wait) = error.retry_after {
        let seconds = wait.as_secs_f64().ceil().max(1.0) as u64;
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// Why there is no body.
impl From<BodyError> for RoutingError {
    fn from(error: BodyError) -> Self {
        let code = match error {
            BodyError::Broken(_) => Code::BadJson,
            BodyError::Timeout => Code::RequestTimeout,
            BodyError::TooLarge { .. } => Code::TooLarge,
        };
        Self::new(code, error.to_string())
    }
}

impl From<Denied> for RoutingError {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::Body(error) => error.into(),
            Denied::Unauthorized { error, .. } => {
                let code = match error {
                    HttpAuthError::TimestampExpired { .. } => Code::StaleTimestamp,
                    _ => Code::BadSignature,
                };
                Self::new(code, error.to_string())
            }
        }
    }
}

impl From<TooManyParameters> for RoutingError {
    fn from(error: TooManyParameters) -> Self {
        Self::new(Code::InvalidField, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http_body_util::BodyExt;

    use super::*;

    fn told(error: &RoutingError) -> (u16, String, Option<String>) {
        let response = response(error);
        let header =
            response.headers().get(RETRY_AFTER).map(|value| value.to_str().expect("text").to_owned());
        let status = response.status().as_u16();
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let body = runtime.block_on(response.into_body().collect()).expect("a body").to_bytes();
        (status, String::from_utf8(body.to_vec()).expect("UTF-8"), header)
    }

    #[test]
    fn a_failure_names_its_code_its_field_and_when_to_come_back() {
        let wrong = RoutingError::new(Code::FromNotOwned, "not \"yours\"").at("from");
        let body = r#"{"error":{"code":"from_not_owned","message":"not \"yours\"","field":"from"}}"#;
        assert_eq!(told(&wrong), (403, body.to_owned(), None));
        let soon = RoutingError::rate_limited("too many", Duration::from_millis(1_200));
        let body = r#"{"error":{"code":"rate_limited","message":"too many","field":null}}"#;
        assert_eq!(told(&soon), (429, body.to_owned(), Some("2".to_owned())));
    }

    #[test]
    fn what_happens_before_a_call_has_codes_too() {
        let expired = HttpAuthError::TimestampExpired { given: String::new(), now: String::new(), behind: 0 };
        for (denied, code) in [
            (Denied::unauthorized(expired, |_| String::new()), Code::StaleTimestamp),
            (Denied::unauthorized(HttpAuthError::KeyMissing, |_| String::new()), Code::BadSignature),
            (Denied::unauthorized(HttpAuthError::Md5Mismatch, |_| String::new()), Code::BadSignature),
            (Denied::Body(BodyError::Timeout), Code::RequestTimeout),
            (Denied::Body(BodyError::Broken("x".to_owned())), Code::BadJson),
        ] {
            assert_eq!(RoutingError::from(denied).code, code);
        }
    }
}
