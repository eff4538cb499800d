//! `/attachments/{app_id}/{id}[/{name}]?expires=…&signature=…`: files themselves. The link is the permission:
//! a page puts the file there, and pages and the carrier get it, from whatever origin.

use std::net::IpAddr;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{
    ACCEPT_RANGES, ALLOW, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_RANGE, CONTENT_SECURITY_POLICY,
    CONTENT_TYPE, ETAG, HeaderMap, HeaderName, HeaderValue, IF_NONE_MATCH, RANGE, X_CONTENT_TYPE_OPTIONS,
};
use hyper::http::request::Parts;
use hyper::{Method, Response, StatusCode};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::attachments::AttachmentAnswer;
use super::call::written;
use super::{cors, failure};
use crate::api::stream::{FileBody, ResponseBody};
use crate::api::{access, body, reply};
use crate::apps::{App, Pace};
use crate::config::media_type;
use crate::hub::AppHub;
use crate::routing::attachments::{Link, Purpose, UploadStart, least_rate};
use crate::routing::{Code, Router, RoutingError};

/// The methods, for the header `allow`.
const METHODS: &str = "GET, HEAD, PUT, OPTIONS";
/// What a browser may do with a file that it shows by itself: nothing of what it says.
const POLICY: &str =
    "sandbox; default-src 'none'; img-src 'self'; media-src 'self'; style-src 'unsafe-inline'";

/// Answers one request.
pub async fn file(
    router: Option<&Router>,
    hub: Option<Arc<AppHub>>,
    parts: &Parts,
    (app_id, id): (&str, &str),
    address: IpAddr,
    body: Incoming,
) -> Response<ResponseBody> {
    let app = hub.map(|hub| hub.app()).filter(|app| app.settings.enabled && app.settings.routing.enabled);
    let answer = match (router, app, &parts.method) {
        (_, _, &Method::OPTIONS) => Ok(cors::preflight(&parts.headers).map(ResponseBody::from)),
        (Some(router), Some(app), &Method::PUT) => {
            let put = put(router, app, parts, (app_id, id), address, body).await;
            put.map(|response| response.map(ResponseBody::from))
        }
        (Some(router), Some(app), &Method::GET | &Method::HEAD) => {
            get(router, &app, parts, (app_id, id), address).await
        }
        (Some(_), Some(_), _) => {
            let message = format!("an attachment has these methods: {METHODS}");
            Err(RoutingError::new(Code::MethodNotAllowed, message))
        }
        _ => Err(RoutingError::new(Code::NotFound, "there is no such app, or it has no message router")),
    };
    let mut response = answer.unwrap_or_else(|error| failure::response(&error).map(ResponseBody::from));
    if response.status() == StatusCode::METHOD_NOT_ALLOWED {
        response.headers_mut().insert(ALLOW, HeaderValue::from_static(METHODS));
    }
    cors::allow(response.headers_mut(), HeaderValue::from_static("*"));
    response
}

/// Whether the request's link is ours.
fn check(
    router: &Router,
    parts: &Parts,
    (app_id, public_id): (&str, &str),
    purpose: Purpose,
) -> Result<(), RoutingError> {
    let query = access::parse_query(parts)?;
    let parameter = |name| query.get(name).unwrap_or_default();
    let link = Link { app_id, public_id, expires: parameter("expires"), signature: parameter("signature") };
    if router.accepts(link, purpose) {
        return Ok(());
    }
    Err(RoutingError::new(Code::BadSignature, "the link is not valid (any more)"))
}

async fn put(
    router: &Router,
    app: Arc<App>,
    parts: &Parts,
    ids: (&str, &str),
    address: IpAddr,
    body: Incoming,
) -> Result<Response<Full<Bytes>>, RoutingError> {
    let settings = &app.settings.routing;
    let (most, pace) = (settings.attachments.max_size, Pace::new(least_rate(settings)));
    let begun = match check(router, parts, ids, Purpose::Upload) {
        Ok(()) => {
            let content_type = text(&parts.headers, &CONTENT_TYPE);
            router.begin_upload(app, ids.1, content_type, address).await
        }
        Err(error) => Err(error),
    };
    let attachment = match begun {
        Ok(UploadStart::Begun(mut upload)) => {
            body::pass(&parts.headers, body, most, pace, async |bytes| upload.add(bytes).await).await?;
            upload.finish().await?
        }
        Ok(UploadStart::Repeated(attachment)) => {
            body::pass(&parts.headers, body, most, pace, async |_| Ok::<_, RoutingError>(())).await?;
            attachment
        }
        Err(error) => {
            body::discard(&parts.headers, body).await;
            return Err(error);
        }
    };
    Ok(reply::json(written(&AttachmentAnswer { attachment })?))
}

async fn get(
    router: &Router,
    app: &App,
    parts: &Parts,
    ids: (&str, &str),
    address: IpAddr,
) -> Result<Response<ResponseBody>, RoutingError> {
    check(router, parts, ids, Purpose::Download)?;
    let file = router.stored_file(app, ids.1, address).await?;
    let etag = format!("\"{}\"", ids.1);
    let (size, name, max_age) = (file.size, file.name.clone(), file.max_age);
    let content_type = file.content_type.clone();
    let range = text(&parts.headers, &RANGE).and_then(|range| range_of(range, size));
    let (status, part) = match &range {
        _ if knows(&parts.headers, &etag) => (StatusCode::NOT_MODIFIED, 0..0),
        None => (StatusCode::OK, 0..size),
        Some(Ok(range)) => (StatusCode::PARTIAL_CONTENT, range.clone()),
        Some(Err(OutOfRange)) => (StatusCode::RANGE_NOT_SATISFIABLE, 0..0),
    };
    let least = least_rate(&app.settings.routing);
    let mut response = Response::new(match part.is_empty() {
        true => Full::new(Bytes::new()).into(),
        false if parts.method == Method::HEAD => ResponseBody::File(FileBody::new(file.read(part), least)),
        false => ResponseBody::File(FileBody::begin(file.read(part), least).await?),
    });
    *response.status_mut() = status;
    let (content_type, how) = presentation(&content_type);
    let disposition = format!("{how}; filename*=UTF-8''{}", utf8_percent_encode(&name, NON_ALPHANUMERIC));
    let headers = response.headers_mut();
    let mut set = |header: HeaderName, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(header, value);
        }
    };
    set(CONTENT_TYPE, &content_type);
    set(CONTENT_DISPOSITION, &disposition);
    set(CACHE_CONTROL, &format!("private, max-age={max_age}, immutable"));
    set(ETAG, &etag);
    set(ACCEPT_RANGES, "bytes");
    set(X_CONTENT_TYPE_OPTIONS, "nosniff");
    set(CONTENT_SECURITY_POLICY, POLICY);
    set(HeaderName::from_static("cross-origin-resource-policy"), "cross-origin");
    match range {
        _ if status == StatusCode::NOT_MODIFIED => {}
        Some(Ok(range)) => {
            set(CONTENT_RANGE, &format!("bytes {}-{}/{size}", range.start, range.end - 1));
        }
        Some(Err(OutOfRange)) => set(CONTENT_RANGE, &format!("bytes */{size}")),
        None => {}
    }
    Ok(response)
}

/// Whether the client has this version of the file (RFC 9110, section 13.1.2).
fn knows(headers: &HeaderMap, etag: &str) -> bool {
    let lists = headers.get_all(IF_NONE_MATCH).into_iter().filter_map(|list| list.to_str().ok());
    lists
        .flat_map(|list| list.split(','))
        .map(str::trim)
        .any(|known| known == "*" || known.strip_prefix("W/").unwrap_or(known) == etag)
}

/// The type that browsers get, and what they do with the file: they show pictures, sounds and films, and save the rest.
/// What they could run they do not even learn.
pub(super) fn presentation(content_type: &str) -> (String, &'static str) {
    let content_type =
        media_type::stored(content_type).filter(|content_type| !media_type::can_run(content_type));
    let content_type = content_type.unwrap_or_else(|| media_type::OCTETS.to_owned());
    let how = if media_type::is_shown(&content_type) { "inline" } else { "attachment" };
    (content_type, how)
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// No byte of a file is in the range.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct OutOfRange;

/// The bytes that a `Range` wants (RFC 9110, section 14.1.2), which players of videos ask for. `None`: it is to
/// be ignored, as everything that is not one range of bytes.
pub(super) fn range_of(header: &str, size: u64) -> Option<Result<Range<u64>, OutOfRange>> {
    let (first, last) = header.strip_prefix("bytes=")?.split_once('-')?;
    let number = |text: &str| text.trim().parse::<u64>().ok();
    let range = match (first.trim(), last.trim()) {
        ("", last) => size.saturating_sub(number(last)?)..size,
        (first, "") => number(first)?..size,
        (first, last) => {
            let (first, last) = (number(first)?, number(last)?);
            if last < first {
                return None;
            }
            first..last.saturating_add(1).min(size)
        }
    };
    Some(if range.start < range.end { Ok(range) } else { Err(OutOfRange) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_range_of_bytes_is_understood() {
        for (header, expected) in [
            ("bytes=0-", Some(Ok(0..10))),
            ("bytes=2-4", Some(Ok(2..5))),
            ("bytes=8-99", Some(Ok(8..10))),
            ("bytes=-3", Some(Ok(7..10))),
            ("bytes=-99", Some(Ok(0..10))),
            ("bytes=10-", Some(Err(OutOfRange))),
            ("bytes=-0", Some(Err(OutOfRange))),
            ("bytes=4-2", None),
            ("bytes=0-1,3-4", None),
            ("bytes=a-b", None),
            ("lines=0-1", None),
            ("bytes=0-18446744073709551615", Some(Ok(0..10))),
        ] {
            assert_eq!(range_of(header, 10), expected, "{header}");
        }
    }
}
