//! Whether a webhook really comes from the carrier.
//!
//! Ed25519 over the `telnyx-timestamp` header, `|` and the body as received: not one byte may be changed by
//! parsing and writing it again. Repeats within the allowed five minutes pass; the table of event ids stops
//! them. Source: <https://developers.telnyx.com/docs/messaging/messages/receiving-webhooks>

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signature, VerifyingKey};
use hyper::header::HeaderMap;

const TIMESTAMP: &str = "telnyx-timestamp";
const SIGNATURE: &str = "telnyx-signature-ed25519";
/// Largest difference between the carrier's clock and ours, in seconds.
const TOLERANCE: u64 = 300;

/// Checks signatures against an account's public keys, two during a change.
#[derive(Clone, Debug)]
pub struct Verifier {
    keys: Vec<VerifyingKey>,
}

/// A public key that is none: it must be 32 bytes in standard base64 and no weak point of the curve.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("public key {number} is not an Ed25519 key of 32 bytes in base64")]
pub struct BadPublicKey {
    /// Which one, from 1.
    pub number: usize,
}

/// Why a webhook is not believed. To be answered with 403, never 5xx: the carrier would repeat it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// One of the two headers is absent.
    #[error("no {0} header")]
    Missing(&'static str),
    /// A header is there twice, or not of the form it must have.
    #[error("malformed {0} header")]
    Malformed(&'static str),
    /// Signed more than 300 s ago or ahead: an old recording, or a wrong clock here.
    #[error("signed {0} seconds from now")]
    Stale(u64),
    /// No key fits: another account, or a changed body.
    #[error("the signature does not match")]
    Mismatch,
}

impl SignatureError {
    /// A short name for metrics.
    pub fn kind(self) -> &'static str {
        match self {
            Self::Missing(_) => "missing",
            Self::Malformed(_) => "malformed",
            Self::Stale(_) => "stale",
            Self::Mismatch => "mismatch",
        }
    }
}

impl Verifier {
    /// A verifier for these keys (base64, as the carrier's portal shows them).
    ///
    /// # Errors
    /// The first key that is none.
    pub fn new<K: AsRef<str>>(keys: &[K]) -> Result<Self, BadPublicKey> {
        let parse =
            |(index, key): (usize, &K)| public_key(key.as_ref()).ok_or(BadPublicKey { number: index + 1 });
        Ok(Self { keys: keys.iter().enumerate().map(parse).collect::<Result<_, _>>()? })
    }

    /// Whether there is any key. Without one webhooks are answered with 503.
    pub fn has_keys(&self) -> bool {
        !self.keys.is_empty()
    }

    /// Checks a webhook's headers alone; `now` in seconds since 1970. Answers the timestamp and the signature, which
    /// may still be wrong.
    ///
    /// # Errors
    /// See [`SignatureError`].
    pub fn check_headers<'h>(
        &self,
        headers: &'h HeaderMap,
        now: i64,
    ) -> Result<(&'h [u8], Signature), SignatureError> {
        let timestamp = single(headers, TIMESTAMP)?;
        let signature = single(headers, SIGNATURE)?;
        let is_decimal = !timestamp.is_empty() && timestamp.iter().all(u8::is_ascii_digit);
        let seconds =
            std::str::from_utf8(timestamp).ok().filter(|_| is_decimal).and_then(|text| text.parse().ok());
        let seconds: i64 = seconds.ok_or(SignatureError::Malformed(TIMESTAMP))?;
        let distance = now.abs_diff(seconds);
        if distance > TOLERANCE {
            return Err(SignatureError::Stale(distance));
        }
        let signature = STANDARD.decode(signature).ok().and_then(|bytes| Signature::from_slice(&bytes).ok());
        Ok((timestamp, signature.ok_or(SignatureError::Malformed(SIGNATURE))?))
    }

    /// Checks a webhook's headers and body; `now` in seconds since 1970.
    ///
    /// # Errors
    /// See [`SignatureError`].
    pub fn verify(&self, headers: &HeaderMap, body: &[u8], now: i64) -> Result<(), SignatureError> {
        let (timestamp, signature) = self.check_headers(headers, now)?;
        let signed = [timestamp, b"|", body].concat();
        let fits = |key: &VerifyingKey| key.verify_strict(&signed, &signature).is_ok();
        if self.keys.iter().any(fits) { Ok(()) } else { Err(SignatureError::Mismatch) }
    }
}

fn public_key(text: &str) -> Option<VerifyingKey> {
    let bytes: [u8; 32] = STANDARD.decode(text.trim()).ok()?.try_into().ok()?;
    VerifyingKey::from_bytes(&bytes).ok().filter(|key| !key.is_weak())
}

/// The value of a header that is there once.
fn single<'a>(headers: &'a HeaderMap, name: &'static str) -> Result<&'a [u8], SignatureError> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => Ok(value.as_bytes()),
        (None, _) => Err(SignatureError::Missing(name)),
        _ => Err(SignatureError::Malformed(name)),
    }
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::{Signer, SigningKey};
    use hyper::header::HeaderValue;

    use super::*;

    const KEY: &str = "0EqyMnQrtKs6E2i9RhXk5tAiSrcaAWuvhSCjMsl3hzc=";
    const BODY: &str = "ewogICJkYXRhIjogewogICAgImV2ZW50X3R5cGUiOiAibWVzc2FnZS5maW5hbGl6ZWQiLAogICAgImlkIjogIjRlZThjM2E2LTAwMDAtNDMwOS1hM2M2LTM4ZTNkYjllYTRiZSIsCiAgICAicGF5bG9hZCI6IHsKICAgICAgInRleHQiOiAiR3LDvMOfZSDwn5iAIGEvYiIKICAgIH0sCiAgICAicmVjb3JkX3R5cGUiOiAiZXZlbnQiCiAgfQp9";
    const SIGNED: &str =
        "qqWOHUTBnsQ/MzC0p8TsWayZBw+UBM9q5OtgoDJB1WYSDKF47ARE3WHTBx1k+fzkPEGm2e2C83pSKCO0bL7rCg==";
    const NOW: i64 = 1_700_000_000;

    fn body() -> Vec<u8> {
        STANDARD.decode(BODY).expect("base64")
    }

    fn headers(timestamp: &str, signature: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(TIMESTAMP, timestamp.parse().expect("a value"));
        headers.insert(SIGNATURE, signature.parse().expect("a value"));
        headers
    }

    fn verify(timestamp: &str, signature: &str, body: &[u8], now: i64) -> Result<(), SignatureError> {
        let verifier = Verifier::new(&[KEY]).expect("a key");
        verifier.verify(&headers(timestamp, signature), body, now)
    }

    #[test]
    fn the_known_webhook_is_genuine() {
        assert_eq!(body().len(), 192);
        assert_eq!(verify("1700000000", SIGNED, &body(), NOW), Ok(()));
    }

    #[test]
    fn one_of_several_keys_is_enough_and_none_is_never() {
        let other = STANDARD.encode(SigningKey::from_bytes(&[0x22; 32]).verifying_key().as_bytes());
        let headers = headers("1700000000", SIGNED);
        let check = |keys: &[&str]| Verifier::new(keys).expect("keys").verify(&headers, &body(), NOW);
        assert_eq!(check(&[&other, KEY]), Ok(()));
        assert_eq!(check(&[&other]), Err(SignatureError::Mismatch));
        assert_eq!(check(&[]), Err(SignatureError::Mismatch));
        assert!(!Verifier::new::<&str>(&[]).expect("no keys").has_keys());
    }

    #[test]
    fn five_minutes_either_way_and_not_a_second_more() {
        for (now, expected) in [
            (NOW + 300, Ok(())),
            (NOW - 300, Ok(())),
            (NOW + 301, Err(SignatureError::Stale(301))),
            (NOW - 301, Err(SignatureError::Stale(301))),
        ] {
            assert_eq!(verify("1700000000", SIGNED, &body(), now), expected, "{now}");
        }
    }

    #[test]
    fn every_changed_part_is_noticed() {
        let (mismatch, time, sign) = (
            SignatureError::Mismatch,
            SignatureError::Malformed(TIMESTAMP),
            SignatureError::Malformed(SIGNATURE),
        );
        let mut tampered = body();
        tampered[20] ^= 1;
        let raw = STANDARD.decode(SIGNED).expect("base64");
        let short = STANDARD.encode(&raw[..63]);
        let long = STANDARD.encode([&raw[..], &[0]].concat());
        let url_safe = SIGNED.replace('/', "_").replace('+', "-");
        let cases = [
            ("1700000000", SIGNED, &tampered, mismatch),
            ("1700000001", SIGNED, &body(), mismatch),
            ("01700000000", SIGNED, &body(), mismatch),
            ("", SIGNED, &body(), time),
            ("+1700000000", SIGNED, &body(), time),
            ("-1700000000", SIGNED, &body(), time),
            ("1700000000.0", SIGNED, &body(), time),
            ("99999999999999999999", SIGNED, &body(), time),
            ("1700000000", "", &body(), sign),
            ("1700000000", &SIGNED[..86], &body(), sign),
            ("1700000000", &short, &body(), sign),
            ("1700000000", &long, &body(), sign),
            ("1700000000", &url_safe, &body(), sign),
        ];
        for (timestamp, signature, body, expected) in cases {
            assert_eq!(verify(timestamp, signature, body, NOW), Err(expected), "{timestamp} {signature}");
        }
    }

    /// The same point with the group's order added to the number: careless libraries take it as well.
    #[test]
    fn another_form_of_a_genuine_signature_does_not_match() {
        let order = "edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010";
        let mut raw = STANDARD.decode(SIGNED).expect("base64");
        let mut carry = 0;
        for (byte, add) in raw[32..].iter_mut().zip(hex::decode(order).expect("hex")) {
            let sum = u16::from(*byte) + u16::from(add) + carry;
            (*byte, carry) = (sum.to_le_bytes()[0], sum >> 8);
        }
        let other = STANDARD.encode(&raw);
        assert_eq!(verify("1700000000", &other, &body(), NOW), Err(SignatureError::Mismatch));
    }

    #[test]
    fn headers_must_be_there_once() {
        let verifier = Verifier::new(&[KEY]).expect("a key");
        for name in [TIMESTAMP, SIGNATURE] {
            let mut headers = headers("1700000000", SIGNED);
            let value = headers.remove(name).expect("set");
            assert_eq!(verifier.verify(&headers, &body(), NOW), Err(SignatureError::Missing(name)));
            headers.append(name, value.clone());
            headers.append(name, value);
            assert_eq!(verifier.verify(&headers, &body(), NOW), Err(SignatureError::Malformed(name)));
        }
    }

    #[test]
    fn the_body_need_not_be_text() {
        let body = [0xff, 0x00, 0xfe];
        let signature = SigningKey::from_bytes(&[0x11; 32]).sign(&[b"1700000000|", &body[..]].concat());
        assert_eq!(verify("1700000000", &STANDARD.encode(signature.to_bytes()), &body, NOW), Ok(()));
        let mut headers = headers("1700000000", SIGNED);
        headers.insert(TIMESTAMP, HeaderValue::from_bytes(b"17\xff").expect("a value"));
        let verifier = Verifier::new(&[KEY]).expect("a key");
        assert_eq!(verifier.verify(&headers, &body, NOW), Err(SignatureError::Malformed(TIMESTAMP)));
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let weak = STANDARD.encode([0; 32]);
        for bad in ["", "abc", KEY.trim_end_matches('='), &weak, SIGNED] {
            assert_eq!(Verifier::new(&[KEY, bad]).expect_err("no key"), BadPublicKey { number: 2 }, "{bad}");
        }
    }
}
