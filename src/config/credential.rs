//! Kinds for an app's names and for secrets.

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::Secret;
use super::kind::{Kind, text_kind};
use super::raw::Raw;

text_kind!(Id, "letters, digits, `_`, `-`", id);
text_kind!(AppKey, "text", app_key);

fn id(text: &str) -> Result<String, String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if text.is_empty() || !text.chars().all(allowed) {
        return Err(format!("{text:?} must be one or more of A-Z a-z 0-9 _ -; digits suit every SDK"));
    }
    Ok(text.to_owned())
}

/// The key is a segment of the WebSocket URL and the first part of `key:signature`.
fn app_key(text: &str) -> Result<String, String> {
    let allowed = |c: char| c.is_ascii_graphic() && !"/?#%:".contains(c);
    if text.is_empty() || !text.chars().all(allowed) {
        return Err(format!("{text:?} must be printable ASCII without spaces and / ? # % :"));
    }
    Ok(text.to_owned())
}

/// First digits of a secret's SHA-256: tells two secrets apart, tells nothing else.
pub(super) fn fingerprint(secret: &Secret) -> String {
    let digest = hex::encode(Sha256::digest(secret.expose()));
    format!("sha256:{}", &digest[..8])
}

const EMPTY_SECRET: &str = "a secret is empty: write a long random one, as `openssl rand -hex 20` prints it";

fn parse_secret(raw: &Raw) -> Result<Secret, String> {
    let text = raw.text()?;
    if text.is_empty() {
        return Err(EMPTY_SECRET.to_owned());
    }
    if text.trim() != text {
        return Err("a secret begins or ends with white space: remove it".to_owned());
    }
    Ok(Secret::new(text.to_owned()))
}

pub(super) struct Token;

impl Kind for Token {
    type Value = Option<Secret>;
    const SECRET: bool = true;

    fn describe() -> String {
        "secret".to_owned()
    }

    fn parse(raw: &Raw) -> Result<Option<Secret>, String> {
        parse_secret(raw).map(Some)
    }

    fn show(value: &Option<Secret>) -> Value {
        value.as_ref().map_or(Value::Null, |secret| fingerprint(secret).into())
    }
}

pub(super) struct Secrets;

impl Kind for Secrets {
    type Value = Vec<Secret>;
    const SECRET: bool = true;

    fn describe() -> String {
        "list of secrets".to_owned()
    }

    fn parse(raw: &Raw) -> Result<Vec<Secret>, String> {
        let items = raw.list()?;
        if items.is_empty() {
            return Err("needs at least one secret, as in [\"…\"]".to_owned());
        }
        items.iter().map(parse_secret).collect()
    }

    fn show(value: &Vec<Secret>) -> Value {
        value.iter().map(fingerprint).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_keys() {
        for good in ["1001", "my_App-1"] {
            assert_eq!(id(good), Ok(good.to_owned()));
        }
        for bad in ["", "a b", "a/b", "ä", "a.b"] {
            assert!(id(bad).is_err(), "{bad}");
        }
        for good in ["portal-key", "a.b=c@d"] {
            assert_eq!(app_key(good), Ok(good.to_owned()));
        }
        for bad in ["", "a b", "a/b", "a?b", "a:b", "a#b", "a%b", "ä", "a\n"] {
            assert!(app_key(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn secrets_are_never_empty_and_shown_as_fingerprints() {
        assert_eq!(message(Secrets::parse(&Raw::List(vec![]))), "needs at least one secret, as in [\"…\"]");
        assert_eq!(message(Secrets::parse(&Raw::List(vec![text("")]))), EMPTY_SECRET);
        assert!(message(Secrets::parse(&Raw::List(vec![text("hidden ")]))).contains("white space"));
        assert_eq!(message(Token::parse(&text(""))), EMPTY_SECRET);
        assert_eq!(Token::show(&None), Value::Null);
        // printf secret | sha256sum
        assert_eq!(Token::show(&Some(Secret::new("secret".to_owned()))), "sha256:2bb80d53");
    }

    fn text(text: &str) -> Raw {
        Raw::Text(text.to_owned())
    }

    fn message<T: std::fmt::Debug>(result: Result<T, String>) -> String {
        result.expect_err("refused")
    }
}
