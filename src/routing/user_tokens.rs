//! User tokens: with one, a browser makes calls for one user until it ends or is revoked.
//!
//! A token is `base64url(issued:expiry:user).hex`, times in microseconds and seconds since 1970, the second part an
//! HMAC-SHA256 over it. Its key is the store's own, so no app secret can make one. All tokens of a user that were
//! issued before a moment can be revoked; so does `terminate_connections`, and a number that is taken from its user.

use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::Router;
use super::error::{Code, RoutingError};
use crate::apps::App;
use crate::storage::{self, StorageError, Transaction};

/// What the signed text begins with.
const PURPOSE: &[u8] = b"switchboard user token\n";
/// Seconds for which what was revoked is remembered: the longest life of a token, and a clock that is set back.
const REMEMBERED: i64 = 2 * MAX_TTL;

/// Longest life, in seconds: a day.
pub const MAX_TTL: i64 = 86_400;

/// What a token says.
#[derive(Debug, PartialEq, Eq)]
struct Claims {
    /// Microseconds since 1970.
    issued_at: i64,
    user: String,
}

/// Signs and verifies.
pub(super) struct Tokens {
    key: Vec<u8>,
}

impl Tokens {
    pub(super) fn new(key: Vec<u8>) -> Self {
        Self { key }
    }

    fn mint(&self, app_id: &str, user: &str, issued_at: i64, expires: i64) -> String {
        let payload = format!("{issued_at}:{expires}:{user}");
        let signature = self.mac(app_id, &payload).finalize().into_bytes();
        format!("{}.{}", BASE64_URL_SAFE_NO_PAD.encode(&payload), hex::encode(signature))
    }

    /// What a token says; `None` when it was altered, is of another app, or has ended. `now`: seconds since 1970.
    fn read(&self, app_id: &str, token: &str, now: i64) -> Option<Claims> {
        let (payload, signature) = token.split_once('.')?;
        let payload = String::from_utf8(BASE64_URL_SAFE_NO_PAD.decode(payload).ok()?).ok()?;
        self.mac(app_id, &payload).verify_slice(&hex::decode(signature).ok()?).ok()?;
        let mut parts = payload.splitn(3, ':');
        let mut number = || parts.next()?.parse::<i64>().ok();
        let (issued_at, expires) = (number()?, number()?);
        (now < expires).then_some(())?;
        Some(Claims { issued_at, user: parts.next()?.to_owned() })
    }

    fn mac(&self, app_id: &str, payload: &str) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).expect("bug: HMAC takes keys of any length");
        for part in [PURPOSE, app_id.as_bytes(), b"\n", payload.as_bytes()] {
            mac.update(part);
        }
        mac
    }
}

impl Router {
    /// Makes a token for a user that lives for so many seconds; answers it and when it ends, in seconds since 1970.
    ///
    /// # Errors
    /// `messaging_disabled` where the app gives none.
    pub fn issue_user_token(&self, app: &App, user: &str, ttl: i64) -> Result<(String, i64), RoutingError> {
        if !app.settings.routing.tokens.enabled {
            let message = "the app gives no user tokens: set routing.tokens.enabled = true";
            return Err(RoutingError::new(Code::MessagingDisabled, message));
        }
        let now = storage::now();
        let expires = now.div_euclid(1_000_000).saturating_add(ttl);
        Ok((self.inner.tokens.mint(&app.settings.id, user, now, expires), expires))
    }

    /// Whose token it is. `Ok(None)`: nobody's, as the app takes none, or it was altered, has ended or was revoked.
    ///
    /// # Errors
    /// The store can't be read.
    pub async fn user_of_token(&self, app: &Arc<App>, token: &str) -> Result<Option<String>, RoutingError> {
        if !app.settings.routing.tokens.enabled {
            return Ok(None);
        }
        let now = storage::now().div_euclid(1_000_000);
        let Some(claims) = self.inner.tokens.read(&app.settings.id, token, now) else { return Ok(None) };
        let app = Arc::clone(app);
        self.database()
            .read(move |tx| {
                let row = tx.query_one(
                    "SELECT not_before FROM user_tokens_revoked WHERE app_id = ?1 AND user_id = ?2",
                    &[(&app.settings.id).into(), (&claims.user).into()],
                )?;
                let not_before = row.map_or(Ok(i64::MIN), |row| row.int(0))?;
                Ok((claims.issued_at > not_before).then(|| claims.user.clone()))
            })
            .await
    }

    /// Ends all tokens that a user has.
    ///
    /// # Errors
    /// The store can't be written to: the tokens are still valid.
    pub async fn revoke_user_tokens(&self, app: Arc<App>, user: String) -> Result<(), RoutingError> {
        self.database()
            .write(move |tx| {
                let (app_id, now) = (&app.settings.id, storage::now());
                tx.execute(
                    "INSERT INTO user_tokens_revoked (app_id, user_id, not_before) VALUES (?1, ?2, ?3) \
                     ON CONFLICT (app_id, user_id) DO UPDATE SET not_before = excluded.not_before",
                    &[app_id.into(), (&user).into(), now.into()],
                )?;
                tx.execute(
                    "DELETE FROM user_tokens_revoked WHERE not_before < ?1",
                    &[(now - REMEMBERED * 1_000_000).into()],
                )?;
                Ok(())
            })
            .await
    }
}

/// Ends the tokens of the user who has a number in the store, if that is not `user`.
///
/// # Errors
/// Of the store.
pub(super) fn revoke_of_number(
    tx: &mut Transaction<'_>,
    app_id: &str,
    number: &str,
    user: Option<&str>,
    now: i64,
) -> Result<(), StorageError> {
    tx.execute(
        "INSERT INTO user_tokens_revoked (app_id, user_id, not_before) \
         SELECT app_id, user_id, CAST(?4 AS BIGINT) FROM phone_numbers \
         WHERE app_id = ?1 AND number = ?2 AND user_id IS NOT NULL AND user_id <> ?3 \
         ON CONFLICT (app_id, user_id) DO UPDATE SET not_before = excluded.not_before",
        &[app_id.into(), number.into(), user.unwrap_or_default().into(), now.into()],
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims(user: &str) -> Option<Claims> {
        Some(Claims { issued_at: 5, user: user.to_owned() })
    }

    #[test]
    fn a_token_speaks_for_its_user_until_it_ends() {
        let tokens = Tokens::new(b"key".to_vec());
        let token = tokens.mint("1001", "a:b@c", 5, 1_000);
        assert_eq!(tokens.read("1001", &token, 999), claims("a:b@c"));
        assert_eq!(tokens.read("1001", &token, 1_000), None);
        // Another app, and another store.
        assert_eq!(tokens.read("1002", &token, 999), None);
        assert_eq!(Tokens::new(b"other".to_vec()).read("1001", &token, 999), None);
    }

    #[test]
    fn an_altered_token_is_nobodys() {
        let tokens = Tokens::new(b"key".to_vec());
        let token = tokens.mint("1001", "7", 5, 1_000);
        let (_, signature) = token.split_once('.').expect("two parts");
        let forged = format!("{}.{signature}", BASE64_URL_SAFE_NO_PAD.encode("5:1000:8"));
        for altered in [forged.as_str(), &token[..token.len() - 1], "", ".", "a.b", &token.replace('.', ":")]
        {
            assert_eq!(tokens.read("1001", altered, 999), None, "{altered}");
        }
    }
}
