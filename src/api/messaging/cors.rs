//! Calls from pages of other origins (the Fetch standard's "CORS protocol"): those with user tokens, from the app's
//! `allowed_origins`, and those of files, whose link is the permission, from everywhere.
//!
//! None of these calls carries cookies. So a page may send any header it likes: Echo puts `X-Socket-Id` into every
//! request of axios, axios and jQuery add `X-Requested-With`, tracers `traceparent` or `sentry-trace`. Refusing one
//! of them would only keep the page from its own call.

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS, HeaderMap,
    HeaderValue, ORIGIN, VARY,
};
use hyper::{Response, StatusCode};

use crate::apps::App;

/// Every method that one of the calls has.
const METHODS: &str = "GET, HEAD, POST, PUT";
/// What a page may send where its browser does not say what it wants to.
const USUAL: &str = "authorization, content-type, range";
/// What a page may read of an answer beside the headers that every page may read.
const EXPOSED: &str = "retry-after, allow, etag, accept-ranges, content-range, content-disposition";
/// Seconds that a browser may remember the permission. Chromium cuts what is longer than two hours.
const MAX_AGE: &str = "7200";
/// Longest list of headers that is repeated.
const MAX_REQUESTED: usize = 2048;

/// Whether the app takes calls of pages at all.
pub fn is_open(app: &App) -> bool {
    let routing = &app.settings.routing;
    app.settings.enabled && routing.enabled && routing.tokens.enabled
}

/// The origin of a request, where the app takes user tokens and pages of that origin.
pub fn allowed_origin(app: &App, headers: &HeaderMap) -> Option<HeaderValue> {
    let origin = headers.get(ORIGIN)?;
    (is_open(app) && app.allows_origin(Some(origin.to_str().ok()?))).then(|| origin.clone())
}

/// The answer to the question whether a call may be made. [`allow`] says to whom it is given.
pub fn preflight(asked: &HeaderMap) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::new()));
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(METHODS));
    headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, requested(asked));
    headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static(MAX_AGE));
    headers.append(VARY, HeaderValue::from_static("access-control-request-headers"));
    response
}

/// Lets pages of this origin, or of all (`*`), read an answer, be it a success or an error.
pub fn allow(headers: &mut HeaderMap, origin: HeaderValue) {
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED));
}

/// Tells caches that another origin gets another answer.
pub fn vary(headers: &mut HeaderMap) {
    headers.append(VARY, HeaderValue::from_static("origin"));
}

/// What the browser wants to send, if these are names of headers (RFC 9110, section 5.6.2).
fn requested(asked: &HeaderMap) -> HeaderValue {
    let names = asked.get(ACCESS_CONTROL_REQUEST_HEADERS).and_then(|names| names.to_str().ok());
    let list = names.filter(|names| names.len() <= MAX_REQUESTED).and_then(|names| {
        let names: Vec<&str> = names.split(',').map(str::trim).collect();
        names.iter().all(|name| is_token(name)).then(|| names.join(", "))
    });
    list.and_then(|list| HeaderValue::from_str(&list).ok()).unwrap_or(HeaderValue::from_static(USUAL))
}

fn is_token(name: &str) -> bool {
    !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
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
            (true, vec!["null".to_owned()], "null", true),
            (true, vec!["https://*.example".to_owned()], "null", false),
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

    #[test]
    fn what_the_browser_asks_for_is_allowed_if_it_is_a_list_of_names() {
        let allowed = |asked: Option<&str>| {
            let asked = asked.map(|asked| HeaderValue::from_str(asked).expect("a value"));
            let headers = asked.into_iter().map(|asked| (ACCESS_CONTROL_REQUEST_HEADERS, asked)).collect();
            let response = preflight(&headers);
            response.headers()[ACCESS_CONTROL_ALLOW_HEADERS].to_str().expect("text").to_owned()
        };
        for (asked, expected) in [
            (Some("authorization,x-socket-id"), "authorization, x-socket-id"),
            (Some("X-Requested-With , traceparent"), "X-Requested-With, traceparent"),
            (None, USUAL),
            (Some(""), USUAL),
            (Some("*"), "*"),
            (Some("a b"), USUAL),
            (Some("a,,b"), USUAL),
            (Some("a\"b"), USUAL),
            (Some("x:y"), USUAL),
            (Some(&"x".repeat(MAX_REQUESTED + 1)), USUAL),
        ] {
            assert_eq!(allowed(asked), expected, "{asked:?}");
        }
    }
}
