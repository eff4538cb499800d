//! `POST /apps/{id}/users/{user_id}/terminate_connections`.
//!
//! Sending to a user needs no endpoint: SDKs trigger on `#server-to-user-<id>`.

use bytes::Bytes;
use http_body_util::Full;
use hyper::Response;
use serde::de::IgnoredAny;

use super::access::Signed;
use super::trigger::{body_text, invalid_json};
use super::{ApiError, reply};
use crate::protocol::id::UserId;
use crate::protocol::json;

/// Closes every connection of a signed-in user; also an unknown user is answered with `{}`.
pub fn terminate(request: &Signed, user: &str) -> Result<Response<Full<Bytes>>, ApiError> {
    if !request.body.is_empty() {
        json::object::<IgnoredAny>(body_text(&request.body)?).map_err(invalid_json)?;
    }
    let user = UserId::signed_in(user).map_err(|error| ApiError::bad_request(error.to_string()))?;
    request.hub.terminate_user(user.as_str());
    Ok(reply::json("{}"))
}
