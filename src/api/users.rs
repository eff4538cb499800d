//! `POST /apps/{id}/users/{user_id}/terminate_connections`.
//!
//! Sending to a user needs no endpoint: SDKs trigger on `#server-to-user-<id>`.

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::Response;
use serde::de::IgnoredAny;

use super::access::Signed;
use super::trigger::{body_text, invalid_json};
use super::{ApiError, reply};
use crate::protocol::id::UserId;
use crate::protocol::json;
use crate::routing::Router;

/// Closes every connection of a signed-in user, and ends the user's tokens for the messaging API; also an unknown user
/// is answered with `{}`.
pub async fn terminate(
    router: Option<&Router>,
    request: &Signed,
    user: &str,
) -> Result<Response<Full<Bytes>>, ApiError> {
    if !request.body.is_empty() {
        json::object::<IgnoredAny>(body_text(&request.body)?).map_err(invalid_json)?;
    }
    let user = UserId::signed_in(user).map_err(|error| ApiError::bad_request(error.to_string()))?;
    request.hub.terminate_user(user.as_str());
    if let Some(router) = router.filter(|_| request.app.settings.routing.tokens.enabled) {
        let revoked = router.revoke_user_tokens(Arc::clone(&request.app), user.as_str().to_owned()).await;
        revoked.map_err(|error| {
            tracing::error!(%error, app = request.app.settings.id, "the tokens of a user can't be revoked");
            ApiError::with_status(503, "The user's tokens can't be revoked now: try again".to_owned())
        })?;
    }
    Ok(reply::json("{}"))
}
