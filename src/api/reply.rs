//! Responses: JSON objects, and errors as `{"error":"TEXT","code":400}`.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use hyper::{Response, StatusCode};

use crate::logging::traffic;
use crate::protocol::json;
use crate::readiness::Report;

/// Why a request was not carried out; nothing of it was.
#[derive(Debug)]
pub struct ApiError {
    status: StatusCode,
    message: String,
    header: Option<(HeaderName, HeaderValue)>,
    cause: Option<Box<str>>,
}

/// What the log says of a response that is an error; travels with it as an extension.
#[derive(Clone, Debug)]
pub struct Cause(pub String);

impl ApiError {
    fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), header: None, cause: None }
    }

    /// A refusal with a status that was decided elsewhere.
    pub fn with_status(status: u16, message: impl Into<String>) -> Self {
        Self::new(StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), message)
    }

    /// 400: a parameter is wrong.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// 401: not authentic.
    pub fn unauthorized(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, message)
    }

    /// 403: the app is disabled.
    pub fn forbidden(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, message)
    }

    /// 404: no such path.
    pub fn not_found() -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "Not found: the API is below /apps/{app_id}/, WebSockets connect to /app/{key}",
        )
    }

    /// 405, with the methods that are.
    pub fn method_not_allowed(allowed: &'static str) -> Self {
        let message = format!("Method not allowed: use {allowed}");
        Self::new(StatusCode::METHOD_NOT_ALLOWED, message).with(ALLOW, HeaderValue::from_static(allowed))
    }

    /// 408: the body did not come in time.
    pub fn timeout() -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, "The request body did not arrive in time")
    }

    /// 409: an idempotency key was used for another request.
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, message)
    }

    /// 413: too large.
    pub fn too_large(message: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, message)
    }

    /// 426: the path is for WebSockets.
    pub fn upgrade_required(message: impl Into<String>, header: (HeaderName, HeaderValue)) -> Self {
        Self { header: Some(header), ..Self::new(StatusCode::UPGRADE_REQUIRED, message) }
    }

    /// 429: over a rate, with the time to wait.
    pub fn rate_limited(message: impl Into<String>, wait: Duration) -> Self {
        let seconds = wait.as_secs_f64().ceil().max(1.0) as u64;
        Self::new(StatusCode::TOO_MANY_REQUESTS, message).with(RETRY_AFTER, HeaderValue::from(seconds))
    }

    /// 503: not now.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, message).with(RETRY_AFTER, HeaderValue::from_static("1"))
    }

    /// The same fault, told with where it is.
    pub fn within(mut self, place: &str) -> Self {
        self.message = format!("{place}: {}", self.message);
        self
    }

    /// With what the log says instead of the message, which repeats parts of the request.
    #[must_use]
    pub fn because(self, cause: impl Into<String>) -> Self {
        Self { cause: Some(cause.into().into_boxed_str()), ..self }
    }

    /// As a response.
    pub fn into_response(self) -> Response<Full<Bytes>> {
        let body = format!(r#"{{"error":{},"code":{}}}"#, json::string(&self.message), self.status.as_u16());
        let mut response = json(body);
        *response.status_mut() = self.status;
        if let Some((name, value)) = self.header {
            response.headers_mut().insert(name, value);
        }
        if traffic::is_on() {
            response.extensions_mut().insert(Cause(self.cause.map_or(self.message, String::from)));
        }
        response
    }

    fn with(self, name: HeaderName, value: HeaderValue) -> Self {
        Self { header: Some((name, value)), ..self }
    }
}

/// 200 with a JSON object.
pub fn json(body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    with_type(body.into(), "application/json")
}

/// What `/ready` says: 200 or 503.
pub fn readiness(report: Report) -> Response<Full<Bytes>> {
    let mut response = json(report.body);
    if !report.is_ready {
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    }
    response
}

/// 200 with plain text.
pub fn text(body: &'static str) -> Response<Full<Bytes>> {
    with_type(Bytes::from_static(body.as_bytes()), "text/plain")
}

fn with_type(body: Bytes, content_type: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_that_pass_say_when_to_come_back() {
        for (error, status, wait) in [
            (ApiError::unavailable("x"), 503, "1"),
            (ApiError::rate_limited("x", Duration::from_millis(10)), 429, "1"),
            (ApiError::rate_limited("x", Duration::from_millis(2_100)), 429, "3"),
        ] {
            let response = error.into_response();
            assert_eq!(response.status(), status);
            assert_eq!(response.headers()[RETRY_AFTER], wait);
        }
    }
}
