//! Calls from browsers, which carry user tokens: pages of the app's `allowed_origins` may read the answers.

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, HeaderMap, HeaderValue, ORIGIN, VARY,
};
use hyper::{Response, StatusCode};

use crate::apps::App;

/// The origin of a request, where the app takes user tokens and pages of that origin.
pub fn allowed_origin(app: &App, headers: &HeaderMap) -> Option<HeaderValue> {
    let origin = headers.get(ORIGIN)?;
    let routing = &app.settings.routing;
    let is_open = app.settings.enabled && routing.enabled && routing.tokens.enabled;
    (is_open && app.allows_origin(Some(origin.to_str().ok()?))).then(|| origin.clone())
}

/// The answer to the question whether a call may be made.
pub fn preflight(origin: &HeaderValue) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::new()));
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    allow(headers, origin);
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST"));
    headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static("authorization, content-type"));
    headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
    response
}

/// Lets pages of this origin read an answer.
pub fn allow(headers: &mut HeaderMap, origin: &HeaderValue) {
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
    headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("retry-after"));
    headers.append(VARY, HeaderValue::from_static("origin"));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::AppSettings;

    #[test]
    fn only_pages_of_allowed_origins_and_only_with_tokens() {
        let headers =
            |origin: &'static str| HeaderMap::from_iter([(ORIGIN, HeaderValue::from_static(origin))]);
        for (tokens, allowed, origin, expected) in [
            (true, vec![], "https://portal.example", true),
            (true, vec!["https://*.example".to_owned()], "https://portal.example", true),
            (true, vec!["https://*.example".to_owned()], "https://portal.test", false),
            (false, vec![], "https://portal.example", false),
        ] {
            let mut settings = AppSettings::new("1001", "key", "secret");
            settings.routing.enabled = true;
            settings.routing.tokens.enabled = tokens;
            settings.allowed_origins = allowed;
            let found = allowed_origin(&App::new(settings), &headers(origin));
            assert_eq!(found.is_some(), expected, "{tokens} {origin}");
        }
    }
}
