//! HMAC-SHA256 signatures of channels, users, requests and webhooks, with an app's key and secrets.
//!
//! Source: Pusher docs, "Generating authentication and authorization signatures".

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::id::SocketId;

/// An app's key and secrets, ready to sign and verify. `Debug` shows the key alone.
#[derive(Clone)]
pub struct AppKeys {
    key: String,
    secrets: Vec<(SecretId, Hmac<Sha256>)>,
}

/// Tells the secrets of an app apart; the same for the same secret. It says nothing of the secret that would help
/// to find it: 32 bits of a digest of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SecretId(u32);

/// The secrets by which a connection was authorized.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Authorization {
    /// It neither signed in nor subscribed to a channel that needs a signature.
    #[default]
    None,
    /// By this one.
    By(SecretId),
    /// By several: one was taken out of use meanwhile, or will be.
    BySeveral,
}

impl Authorization {
    /// Another signature was valid.
    pub fn add(&mut self, secret: SecretId) {
        *self = match *self {
            Self::None => Self::By(secret),
            Self::By(known) if known == secret => Self::By(known),
            Self::By(_) | Self::BySeveral => Self::BySeveral,
        };
    }

    /// Whether one of these secrets may be behind it.
    pub fn may_be_by(self, secrets: &[SecretId]) -> bool {
        match self {
            Self::None => false,
            Self::By(secret) => secrets.contains(&secret),
            Self::BySeveral => !secrets.is_empty(),
        }
    }
}

/// Why an `auth` was refused. The texts name what should have been signed, never a digest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// No `auth`, not a string, or without a colon.
    #[error("Missing parameter: auth, expected '<app key>:<signature>'")]
    Missing,
    /// The part in front of the colon is another key.
    #[error("Invalid key in subscription auth data: '{0}'")]
    WrongKey(String),
    /// The signature is not one of this app's.
    #[error("Invalid signature: Expected HMAC SHA256 hex digest of {expected}, but got {got}")]
    Mismatch {
        /// The text that should have been signed.
        expected: String,
        /// What the client sent.
        got: String,
    },
}

impl AuthError {
    /// The likely cause, without anything of the request.
    #[must_use]
    pub fn cause(&self) -> &'static str {
        match self {
            Self::Missing => {
                "the client sent no auth: its library got none from the backend, or asked no backend"
            }
            Self::WrongKey(_) => "the backend signed with the key of another app",
            Self::Mismatch { .. } => {
                "the signature is not valid: the backend has another secret, or signed another socket id, \
                 channel or data"
            }
        }
    }
}

impl AppKeys {
    /// The first secret signs, all verify.
    pub fn new<'a>(key: impl Into<String>, secrets: impl IntoIterator<Item = &'a str>) -> Self {
        let secrets = secrets
            .into_iter()
            .map(|secret| {
                let mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes());
                let mac = mac.expect("bug: HMAC takes a key of any length");
                let digest = mac.clone().chain_update("switchboard secret id").finalize().into_bytes();
                (SecretId(u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]])), mac)
            })
            .collect();
        Self { key: key.into(), secrets }
    }

    /// The public key.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Which of the secrets there are.
    pub fn secrets(&self) -> impl Iterator<Item = SecretId> {
        self.secrets.iter().map(|(id, _)| *id)
    }

    /// Whether `signature`, 64 lower-case hex digits, is that of `parts` joined; in constant time.
    pub fn verify(&self, parts: &[&[u8]], signature: &str) -> bool {
        self.signer(parts, signature).is_some()
    }

    /// As [`Self::verify`], with the secret that it was signed with.
    fn signer(&self, parts: &[&[u8]], signature: &str) -> Option<SecretId> {
        let lower_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        let mut digest = [0_u8; 32];
        if !signature.bytes().all(lower_hex) || hex::decode_to_slice(signature, &mut digest).is_err() {
            return None;
        }
        let signed = |(_, secret): &&(SecretId, Hmac<Sha256>)| {
            let mut mac = secret.clone();
            parts.iter().for_each(|part| mac.update(part));
            mac.verify_slice(&digest).is_ok()
        };
        self.secrets.iter().find(signed).map(|(id, _)| *id)
    }

    /// Signs `parts` joined with the first secret: 64 lower-case hex digits.
    pub fn sign(&self, parts: &[&[u8]]) -> String {
        let Some((_, secret)) = self.secrets.first() else { return String::new() };
        let mut mac = secret.clone();
        parts.iter().for_each(|part| mac.update(part));
        hex::encode(mac.finalize().into_bytes())
    }

    /// Verifies the `auth` of a subscription to a private or presence channel: `key:hex` over
    /// `socket_id:channel[:channel_data]`, `channel_data` byte for byte as the client sent it.
    ///
    /// On a private channel hosted Pusher signs `channel_data` too whenever the field is there, the
    /// SDKs don't; both are accepted, which is safe because no channel name holds a colon.
    ///
    /// # Errors
    /// [`AuthError`], whose text is meant for the client.
    pub fn verify_channel(
        &self,
        auth: Option<&str>,
        socket_id: SocketId,
        channel: &str,
        channel_data: Option<&str>,
        is_presence: bool,
    ) -> Result<SecretId, AuthError> {
        let signature = self.signature_of(auth)?;
        let plain = format!("{socket_id}:{channel}");
        let valid = match channel_data {
            Some(data) => {
                let with_data = self.signer(&[plain.as_bytes(), b":", data.as_bytes()], signature);
                with_data.or_else(|| self.signer(&[plain.as_bytes()], signature).filter(|_| !is_presence))
            }
            None => self.signer(&[plain.as_bytes()], signature),
        };
        if let Some(secret) = valid {
            return Ok(secret);
        }
        let expected = match channel_data {
            Some(data) if is_presence => format!("{plain}:{data}"),
            _ => plain,
        };
        Err(AuthError::Mismatch { expected, got: shown(signature) })
    }

    /// Verifies the `auth` of `pusher:signin`: `key:hex` over `socket_id::user::user_data`.
    ///
    /// # Errors
    /// [`AuthError`], whose text is meant for the client.
    pub fn verify_user(
        &self,
        auth: Option<&str>,
        socket_id: SocketId,
        user_data: &str,
    ) -> Result<SecretId, AuthError> {
        let signature = self.signature_of(auth)?;
        let plain = format!("{socket_id}::user::");
        if let Some(secret) = self.signer(&[plain.as_bytes(), user_data.as_bytes()], signature) {
            return Ok(secret);
        }
        Err(AuthError::Mismatch { expected: format!("{plain}{user_data}"), got: shown(signature) })
    }

    fn signature_of<'a>(&self, auth: Option<&'a str>) -> Result<&'a str, AuthError> {
        let (key, signature) = auth.and_then(|auth| auth.split_once(':')).ok_or(AuthError::Missing)?;
        if key != self.key {
            return Err(AuthError::WrongKey(shown(key)));
        }
        Ok(signature)
    }
}

impl fmt::Debug for AppKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AppKeys").field("key", &self.key).finish_non_exhaustive()
    }
}

/// What a client sent, cut to a length that can't be used to flood anybody.
fn shown(text: &str) -> String {
    text.chars().take(128).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> AppKeys {
        AppKeys::new("sb-key", ["sb-secret"])
    }

    fn socket() -> SocketId {
        SocketId::parse("1234.5678").expect("well formed").expect("in range")
    }

    #[test]
    fn channel_vectors_of_the_sdks_verify() {
        let keys = keys();
        let private = "sb-key:80f2f83fbc2915bd5a544a2883345694bced21118e3d192572169e45b08b1b0e";
        assert_eq!(
            keys.verify_channel(Some(private), socket(), "private-user.42", None, false).map(drop),
            Ok(())
        );
        let data = r#"{"user_id": "42", "user_info": {"name": "Ann"}}"#;
        let presence = "sb-key:c09c96e6d359cb75418d5e9e15ae8ba41a7b32d37b260f9f4edf2d15f77d3a9c";
        assert_eq!(
            keys.verify_channel(Some(presence), socket(), "presence-room", Some(data), true).map(drop),
            Ok(())
        );
        assert!(keys.verify_channel(Some(presence), socket(), "presence-room", None, true).is_err());
        let encrypted = "sb-key:89ba7c422b22e397e9d55a67eaf0db047ff487717ad65a6988f9d02bfba564c6";
        assert_eq!(
            keys.verify_channel(Some(encrypted), socket(), "private-encrypted-room", None, false).map(drop),
            Ok(())
        );
    }

    #[test]
    fn sign_in_vectors_of_the_sdks_verify() {
        let python = "sb-key:5755796e9cc855b60c2f4df7b7b0ee7caada1b936c53b2eb8361265471ca0f87";
        let node = "sb-key:d2dbfef4e554635d3d48df9a47307decba243a25caa3644d6c0838b9a7336b72";
        assert_eq!(keys().verify_user(Some(python), socket(), r#"{"id": "42"}"#).map(drop), Ok(()));
        assert_eq!(keys().verify_user(Some(node), socket(), r#"{"id":"42"}"#).map(drop), Ok(()));
        assert!(keys().verify_user(Some(node), socket(), r#"{"id": "42"}"#).is_err());
    }

    #[test]
    fn vectors_of_the_documentation_verify() {
        let keys = AppKeys::new("278d425bdf160c739803", ["7ad3773142a6692b25b8"]);
        for (text, digest) in [
            ("1234.1234:private-foobar", "58df8b0c36d6982b82c3ecf6b4662e34fe8c25bba48f5369f135bf843651c3a4"),
            (
                r#"1234.1234::user::{"id":"12345"}"#,
                "4708d583dada6a56435fb8bc611c77c359a31eebde13337c16ab43aa6de336ba",
            ),
            (
                r#"1234.1234:presence-foobar:{"user_id":10,"user_info":{"name":"Mr. Channels"}}"#,
                "31935e7d86dba64c2a90aed31fdc61869f9b22ba9d8863bba239c03ca481bc80",
            ),
        ] {
            assert_eq!(keys.sign(&[text.as_bytes()]), digest);
            assert!(keys.verify(&[text.as_bytes()], digest));
            assert!(!keys.verify(&[text.as_bytes()], &digest.to_uppercase()), "hex is lower case");
        }
    }

    #[test]
    fn a_private_channel_accepts_both_signatures_when_channel_data_is_there() {
        let keys = keys();
        let plain = format!("sb-key:{}", keys.sign(&[b"1234.5678:private-x"]));
        let with_data = format!("sb-key:{}", keys.sign(&[b"1234.5678:private-x:"]));
        for auth in [plain, with_data] {
            assert_eq!(
                keys.verify_channel(Some(&auth), socket(), "private-x", Some(""), false).map(drop),
                Ok(())
            );
        }
    }

    #[test]
    fn refusals_say_what_to_sign_and_never_the_digest() {
        let keys = keys();
        let digest = keys.sign(&[b"1234.5678:private-x"]);
        let wrong = format!("sb-key:{}0", &digest[..63]);
        let error = keys.verify_channel(Some(&wrong), socket(), "private-x", None, false).expect_err("wrong");
        let text = error.to_string();
        assert!(text.starts_with(
            "Invalid signature: Expected HMAC SHA256 hex digest of 1234.5678:private-x, but got "
        ));
        assert!(!text.contains(&digest) || wrong.contains(&digest));
        let other = keys.verify_channel(Some(&format!("other:{digest}")), socket(), "private-x", None, false);
        assert_eq!(other, Err(AuthError::WrongKey("other".to_owned())));
        for missing in [None, Some(""), Some("sb-key")] {
            assert_eq!(
                keys.verify_channel(missing, socket(), "private-x", None, false),
                Err(AuthError::Missing)
            );
        }
        assert!(!format!("{keys:?}").contains("sb-secret"));
    }

    #[test]
    fn every_secret_verifies_and_the_first_signs() {
        let both = AppKeys::new("k", ["new", "old"]);
        let old = AppKeys::new("k", ["old"]).sign(&[b"x"]);
        assert!(both.verify(&[b"x"], &old));
        assert_eq!(both.sign(&[b"x"]), AppKeys::new("k", ["new"]).sign(&[b"x"]));
    }
}
