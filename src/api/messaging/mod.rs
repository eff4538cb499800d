//! `/apps/{app_id}/messaging/…`: the message router's API, signed as every other request of an app, so
//! that a portal makes these calls with the Pusher SDK it has.
//!
//! `table` lists all calls; it drives the dispatch here and the OpenAPI document. SDKs send GET and POST
//! only and take anything but 200 for an error, so success is always 200 with a JSON object. Every failure
//! has the form `{"error":{"code","message","field"}}`.

mod attachments;
mod call;
mod conversations;
mod cors;
mod failure;
mod fields;
mod files;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod inbound;
mod messages;
mod openapi;
mod operations;
mod phone_numbers;
mod table;
mod user_tokens;

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::ALLOW;
use hyper::http::request::Parts;
use hyper::{Method, Response, StatusCode};

pub use files::file;
pub use openapi::document as openapi;

use super::body::{self, Limit};
use super::{access, reply};
use crate::apps::App;
use crate::hub::AppHub;
use crate::protocol::http_auth::Query;
use crate::routing::{Code, Router, RoutingError};
use call::{Access, Call, Caller, Input};
use failure::Failure;

/// Longest body: a list of a thousand numbers fits.
const MAX_BODY: usize = 1 << 20;

/// Answers one request.
pub async fn answer(
    router: Option<&Router>,
    hub: Option<Arc<AppHub>>,
    parts: &Parts,
    path: &[String],
    body: Incoming,
) -> Response<Full<Bytes>> {
    let app = hub.as_ref().map(|hub| hub.app()).filter(|app| cors::is_open(app));
    let origin = app.as_ref().and_then(|app| cors::allowed_origin(app, &parts.headers));
    let mut response = if origin.is_some() && parts.method == Method::OPTIONS {
        cors::preflight(&parts.headers)
    } else {
        match respond(router, hub, parts, path, body).await {
            Ok(answer) => reply::json(answer),
            Err(failure) => failure.response(),
        }
    };
    if response.status() == StatusCode::METHOD_NOT_ALLOWED {
        response.headers_mut().insert(ALLOW, table::allowed(path));
    }
    // Also where there is no such app: its absence would tell.
    cors::vary(response.headers_mut());
    if let Some(origin) = origin {
        cors::allow(response.headers_mut(), origin);
    }
    response
}

async fn respond(
    router: Option<&Router>,
    hub: Option<Arc<AppHub>>,
    parts: &Parts,
    path: &[String],
    body: Incoming,
) -> Result<Bytes, Failure> {
    let (call, id) = table::find(&parts.method, path)?;
    let query = access::parse_query(parts)?;
    let (app, body, token_user) = authenticate(router, call, hub, parts, &query, body).await?;
    let disabled = |message: &str| Err(RoutingError::new(Code::MessagingDisabled, message).into());
    if !app.settings.enabled {
        return disabled("the app is disabled");
    }
    if !app.settings.routing.enabled {
        return disabled("the app has no message router: set routing.enabled = true");
    }
    let Some(router) = router.cloned() else {
        return disabled("the message router was enabled after the start: restart the server");
    };
    let input = if parts.method == Method::GET { Input::of_query(&query) } else { Input::of_body(body) };
    Ok((call.run)(Caller { router, app, id: id.to_owned(), token_user }, input).await?)
}

/// Who asks: the portal, by its signature, or a browser, by a user's token.
async fn authenticate(
    router: Option<&Router>,
    call: &Call,
    hub: Option<Arc<AppHub>>,
    parts: &Parts,
    query: &Query<'_>,
    body: Incoming,
) -> Result<(Arc<App>, Bytes, Option<String>), Failure> {
    let Some(token) = user_tokens::bearer(&parts.headers, query) else {
        let limit = |_: &App| Limit::Fixed(MAX_BODY);
        let signed = access::authenticate(parts, query, hub, body, limit).await?;
        query.check_is_unambiguous().map_err(|error| {
            RoutingError::new(Code::BadQuery, error.to_string()).at(error.name().to_owned())
        })?;
        return Ok((signed.app, signed.body, None));
    };
    let app = hub.map(|hub| hub.app());
    let user = match (router, &app) {
        (Some(router), Some(app)) => router.user_of_token(app, token).await?,
        _ => None,
    };
    let (Some(app), Some(user)) = (app, user) else {
        body::discard(&parts.headers, body).await;
        let message = "the user token is not valid (any more), or the app does not take user tokens";
        return Err(RoutingError::new(Code::BadSignature, message).into());
    };
    if call.access == Access::Portal {
        body::discard(&parts.headers, body).await;
        let message = "this call takes a signed request, not a user token";
        return Err(RoutingError::new(Code::BadSignature, message).into());
    }
    if let Some(Err(refusal)) = router.map(|router| router.take_call(&app, &user)) {
        body::discard(&parts.headers, body).await;
        return Err(refusal.into());
    }
    let body = body::read(&parts.headers, body, Limit::Fixed(MAX_BODY)).await.map_err(RoutingError::from)?;
    Ok((app, body, Some(user)))
}
