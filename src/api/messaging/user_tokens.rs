//! Calls about user tokens: for demonstrations without a backend, a browser makes calls for one user.

use hyper::header::{AUTHORIZATION, HeaderMap};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::call::Caller;
use super::fields::{Done, UserRequest, whole};
use crate::protocol::http_auth::Query;
use crate::routing::RoutingError;
use crate::routing::draft::{UserRef, invalid};
use crate::routing::json::{Id, carbon};
use crate::routing::user_tokens::MAX_TTL;

/// Life of a token for which none is asked, in seconds: an hour.
const DEFAULT_TTL: i64 = 3_600;

/// `POST /user_tokens`.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct TokenRequest {
    /// The user.
    user_id: Option<UserRef>,
    /// Seconds until it ends, up to 86400; an hour if not given.
    #[serde(default, deserialize_with = "whole")]
    #[schemars(with = "Option<u32>")]
    ttl: Option<i64>,
}

/// A token.
#[derive(Debug, Serialize, JsonSchema)]
pub struct TokenAnswer {
    /// To be sent as `Authorization: Bearer …`.
    token: String,
    /// Who it speaks for.
    user_id: Id,
    /// When it ends.
    expires_at: String,
}

/// Makes a token.
pub async fn create(caller: Caller, request: TokenRequest) -> Result<TokenAnswer, RoutingError> {
    let user = caller.user(request.user_id.as_ref())?;
    let ttl = request.ttl.unwrap_or(DEFAULT_TTL);
    if !(1..=MAX_TTL).contains(&ttl) {
        return Err(invalid("ttl", &format!("ttl must be between 1 and {MAX_TTL} seconds")));
    }
    let (token, expires) = caller.router.issue_user_token(&caller.app, &user, ttl)?;
    Ok(TokenAnswer {
        token,
        user_id: Id::of_user(&user, caller.app.settings.routing.ids.user_json),
        expires_at: carbon(expires.saturating_mul(1_000_000)),
    })
}

/// Ends all tokens of a user.
pub async fn revoke(caller: Caller, request: UserRequest) -> Result<Done, RoutingError> {
    let user = caller.user(request.user_id.as_ref())?;
    caller.router.revoke_user_tokens(caller.app, user).await?;
    Ok(Done {})
}

/// The token of a request that is not signed.
pub fn bearer<'a>(headers: &'a HeaderMap, query: &Query<'_>) -> Option<&'a str> {
    if query.get("auth_signature").is_some() {
        return None;
    }
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}
