//! User tokens: for demonstrations without a backend, a browser makes calls for one user.
//!
//! A token is `base64url(expiry:user).hex`, the second part an HMAC-SHA256 with the app's secret over a text
//! that begins as nothing else that is signed with it.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use hyper::header::{AUTHORIZATION, HeaderMap};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::call::Caller;
use super::fields::whole;
use crate::api::access::unix_seconds;
use crate::apps::App;
use crate::protocol::http_auth::Query;
use crate::routing::draft::{UserRef, invalid};
use crate::routing::json::{Id, carbon};
use crate::routing::{Code, RoutingError};

/// Longest life, in seconds: a day.
const MAX_TTL: i64 = 86_400;
/// Life of a token for which none is asked: an hour.
const DEFAULT_TTL: i64 = 3_600;
/// What the signed text begins with.
const PURPOSE: &[u8] = b"switchboard user token\n";

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
    let settings = &caller.app.settings.routing;
    if !settings.tokens.enabled {
        let message = "the app gives no user tokens: set routing.tokens.enabled = true";
        return Err(RoutingError::new(Code::MessagingDisabled, message));
    }
    let user = caller.user(request.user_id.as_ref())?;
    let ttl = request.ttl.unwrap_or(DEFAULT_TTL);
    if !(1..=MAX_TTL).contains(&ttl) {
        return Err(invalid("ttl", &format!("ttl must be between 1 and {MAX_TTL} seconds")));
    }
    let expires = unix_seconds().saturating_add(ttl.unsigned_abs());
    Ok(TokenAnswer {
        token: mint(&caller.app, &user, expires),
        user_id: Id::of_user(&user, settings.ids.user_json),
        expires_at: carbon(i64::try_from(expires).unwrap_or(i64::MAX).saturating_mul(1_000_000)),
    })
}

/// The token of a request that is not signed.
pub fn bearer<'a>(headers: &'a HeaderMap, query: &Query<'_>) -> Option<&'a str> {
    if query.get("auth_signature").is_some() {
        return None;
    }
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// Whose token it is. Nobody's when the app takes none, when it was altered, or when it has ended.
pub fn verify(app: &App, token: &str, now: u64) -> Option<String> {
    if !app.settings.routing.tokens.enabled {
        return None;
    }
    let (payload, signature) = token.split_once('.')?;
    let payload = String::from_utf8(BASE64_URL_SAFE_NO_PAD.decode(payload).ok()?).ok()?;
    if !app.keys.verify(&signed_text(app, &payload), signature) {
        return None;
    }
    let (expires, user) = payload.split_once(':')?;
    (now < expires.parse().ok()?).then(|| user.to_owned())
}

fn mint(app: &App, user: &str, expires: u64) -> String {
    let payload = format!("{expires}:{user}");
    let signature = app.keys.sign(&signed_text(app, &payload));
    format!("{}.{signature}", BASE64_URL_SAFE_NO_PAD.encode(&payload))
}

fn signed_text<'a>(app: &'a App, payload: &'a str) -> [&'a [u8]; 4] {
    [PURPOSE, app.settings.id.as_bytes(), b"\n", payload.as_bytes()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::AppSettings;

    fn app(id: &str, secret: &str) -> App {
        let mut settings = AppSettings::new(id, "key", secret);
        settings.routing.tokens.enabled = true;
        App::new(settings)
    }

    #[test]
    fn a_token_speaks_for_its_user_until_it_ends() {
        let app_1 = app("1001", "secret");
        let token = mint(&app_1, "a:b@c", 1_000);
        assert_eq!(verify(&app_1, &token, 999), Some("a:b@c".to_owned()));
        assert_eq!(verify(&app_1, &token, 1_000), None);
        // The same secret in another app, and another secret in the same.
        assert_eq!(verify(&app("1002", "secret"), &token, 999), None);
        assert_eq!(verify(&app("1001", "other"), &token, 999), None);
        let mut off = app_1.settings.clone();
        off.routing.tokens.enabled = false;
        assert_eq!(verify(&App::new(off), &token, 999), None);
    }

    #[test]
    fn an_altered_token_is_nobodys() {
        let app = app("1001", "secret");
        let token = mint(&app, "7", 1_000);
        let (_, signature) = token.split_once('.').expect("two parts");
        let forged = format!("{}.{signature}", BASE64_URL_SAFE_NO_PAD.encode("1000:8"));
        for altered in [forged.as_str(), &token[..token.len() - 1], "", ".", "a.b", &token.replace('.', ":")]
        {
            assert_eq!(verify(&app, altered, 999), None, "{altered}");
        }
    }
}
