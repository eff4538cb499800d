//! The signature of HTTP API requests.
//!
//! Source: Pusher docs, "HTTP API reference: authentication", and what the SDKs really send: PHP joins
//! array parameters with commas, Ruby keeps `info[]`, .NET puts `auth_signature` first, Python sends
//! `body_md5` on GETs, Node and Python do not encode values (so a `+` is sent and signed as such, and what
//! the caller has encoded is signed encoded), and a path prefix of a reverse proxy is part of the URL but not of the signature.

mod forms;

use std::borrow::Cow;

use md5::{Digest, Md5};
use subtle::ConstantTimeEq;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::auth::AppKeys;
use forms::{base_name, canonical, decode, split};

/// Seconds a request's timestamp may differ from the server's clock, both ways.
pub const TIMESTAMP_WINDOW: u64 = 600;

/// The query parameters of a request, decoded, in the order received.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query<'a> {
    pairs: Vec<(Cow<'a, str>, Cow<'a, str>)>,
    raw: &'a str,
}

/// What of a request is signed.
#[derive(Clone, Copy, Debug)]
pub struct SignedRequest<'a> {
    /// `GET`, `POST`.
    pub method: &'a str,
    /// As received, without the query.
    pub path: &'a str,
    /// Parsed query.
    pub query: &'a Query<'a>,
}

/// Why a request is not authentic; always HTTP 401. The texts are those of Pusher's own verifier.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HttpAuthError {
    /// No `auth_key`.
    #[error("Missing parameter: auth_key")]
    KeyMissing,
    /// The key belongs to no app, or to another than the one in the path.
    #[error("Unknown auth_key: auth_key should be the key of the app in the path")]
    UnknownKey,
    /// No `auth_version`.
    #[error("Version required: send auth_version=1.0")]
    VersionMissing,
    /// Another `auth_version` than 1.0.
    #[error("Version not supported: send auth_version=1.0")]
    VersionUnsupported,
    /// No `auth_timestamp`, or not whole seconds.
    #[error("Timestamp required: send auth_timestamp as whole seconds since 1970")]
    TimestampMissing,
    /// Too far from the server's clock.
    #[error("Timestamp expired: Given timestamp ({given}) not within 600s of server time ({now})")]
    TimestampExpired {
        /// The request's, as date and time.
        given: String,
        /// The server's.
        now: String,
        /// Seconds that the sender's clock is behind the server's; negative: ahead of it.
        behind: i64,
    },
    /// A body without `body_md5`.
    #[error("Missing parameter: body_md5 is required when the request has a body")]
    Md5Missing,
    /// `body_md5` is that of other bytes.
    #[error("Invalid body_md5: it is not the MD5 digest of the body received")]
    Md5Mismatch,
    /// No `auth_signature`.
    #[error("Missing parameter: auth_signature")]
    SignatureMissing,
    /// The signature does not fit.
    #[error(
        "Invalid signature: you should have sent HmacSHA256Hex({expected}, your_secret_key), but you sent {got}"
    )]
    SignatureMismatch {
        /// The text that should have been signed, as a JSON string.
        expected: String,
        /// What was sent, as a JSON string.
        got: String,
    },
}

/// What makes a signed query mean something else to somebody else.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Ambiguous {
    /// Which of the two counts?
    #[error("the query has the parameter {0} twice")]
    Twice(String),
    /// Signed as it is, as most SDKs do it, it is the same text as one more parameter.
    #[error("the parameter {0} holds what could be another parameter: & and a name and =")]
    Nested(String),
}

impl Ambiguous {
    /// The parameter's name.
    pub fn name(&self) -> &str {
        match self {
            Self::Twice(name) | Self::Nested(name) => name,
        }
    }
}

impl<'a> Query<'a> {
    /// Decodes a query string; never fails: what is no UTF-8 can't have been signed by an SDK.
    pub fn parse(raw: &'a str) -> Self {
        let pairs = split(raw).map(|(key, value)| (decode(key, true), decode(value, true))).collect();
        Self { pairs, raw }
    }

    /// The first value of a parameter, upper and lower case of its name alike.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.pairs.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_ref())
    }

    /// A list parameter in all its spellings: `info=a,b`, `info[]=a&info[]=b`, `info[0]=a&info[1]=b`.
    /// `None` when it is not there.
    pub fn list(&self, name: &str) -> Option<Vec<&str>> {
        let mut found =
            self.pairs.iter().filter(|(key, _)| base_name(key).eq_ignore_ascii_case(name)).peekable();
        found.peek()?;
        Some(
            found
                .flat_map(|(_, value)| value.split(','))
                .map(str::trim)
                .filter(|item| !item.is_empty())
                .collect(),
        )
    }

    /// Checks that the query has one reading, and that its signature fits no other: whoever has a part of it in their
    /// hands (a text that is looked for) can't add another parameter.
    ///
    /// # Errors
    /// [`Ambiguous`], with the parameter's name in lower case.
    pub fn check_is_unambiguous(&self) -> Result<(), Ambiguous> {
        let mut names: Vec<String> = Vec::with_capacity(self.pairs.len());
        for (name, value) in self.iter() {
            let name = name.to_ascii_lowercase();
            if value.split('&').skip(1).any(is_parameter) || name.contains(['&', '=']) {
                return Err(Ambiguous::Nested(name));
            }
            if names.contains(&name) {
                return Err(Ambiguous::Twice(name));
            }
            names.push(name);
        }
        Ok(())
    }

    /// Names and values, decoded, in the order received.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.pairs.iter().map(|(key, value)| (key.as_ref(), value.as_ref()))
    }
}

impl SignedRequest<'_> {
    /// Checks everything but the body, which the signature covers through `body_md5` alone: so a stranger's
    /// body need not be read. `now` is Unix time in seconds.
    ///
    /// # Errors
    /// [`HttpAuthError`], whose text is meant for the sender.
    pub fn verify(&self, keys: &AppKeys, now: u64) -> Result<(), HttpAuthError> {
        match self.query.get("auth_key") {
            None => return Err(HttpAuthError::KeyMissing),
            Some(key) if key != keys.key() => return Err(HttpAuthError::UnknownKey),
            Some(_) => {}
        }
        self.check_version()?;
        self.check_timestamp(now)?;
        self.check_signature(keys)
    }

    fn check_version(&self) -> Result<(), HttpAuthError> {
        match self.query.get("auth_version") {
            None => Err(HttpAuthError::VersionMissing),
            Some("1.0") => Ok(()),
            Some(_) => Err(HttpAuthError::VersionUnsupported),
        }
    }

    fn check_timestamp(&self, now: u64) -> Result<(), HttpAuthError> {
        let given: u64 = self
            .query
            .get("auth_timestamp")
            .filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))
            .and_then(|text| text.parse().ok())
            .ok_or(HttpAuthError::TimestampMissing)?;
        if given.abs_diff(now) > TIMESTAMP_WINDOW {
            let behind = i64::try_from(i128::from(now) - i128::from(given)).unwrap_or(i64::MIN);
            return Err(HttpAuthError::TimestampExpired { given: date(given), now: date(now), behind });
        }
        Ok(())
    }

    /// Checks that `body` is what `body_md5` says.
    ///
    /// # Errors
    /// [`HttpAuthError::Md5Missing`] or [`HttpAuthError::Md5Mismatch`].
    pub fn verify_body(&self, body: &[u8]) -> Result<(), HttpAuthError> {
        match self.query.get("body_md5") {
            None if body.is_empty() => Ok(()),
            None => Err(HttpAuthError::Md5Missing),
            Some(given) => {
                let digest = hex::encode(Md5::digest(body));
                if bool::from(digest.as_bytes().ct_eq(given.as_bytes())) {
                    Ok(())
                } else {
                    Err(HttpAuthError::Md5Mismatch)
                }
            }
        }
    }

    /// The likely cause of a refusal, for the log: nothing of the request but numbers.
    pub fn cause(&self, error: &HttpAuthError, keys: &AppKeys) -> String {
        match error {
            HttpAuthError::KeyMissing => "no signature: the request has no auth_key".to_owned(),
            HttpAuthError::UnknownKey => {
                "wrong key: auth_key is not the key of the app in the path".to_owned()
            }
            HttpAuthError::TimestampExpired { behind, .. } => {
                let side = if *behind > 0 { "behind" } else { "ahead" };
                format!("clock off: the sender's clock is {} s {side}", behind.unsigned_abs())
            }
            HttpAuthError::Md5Mismatch => {
                "body changed: another body was signed than the one that arrived".to_owned()
            }
            HttpAuthError::SignatureMismatch { .. } => match self.other_signed(keys) {
                Some(what) => format!("wrong {what}: the sender signed another one with the right secret"),
                None => "wrong secret, or path or query were changed after signing".to_owned(),
            },
            other => other.to_string(),
        }
    }

    /// What of the request would have to be otherwise for the signature to fit.
    fn other_signed(&self, keys: &AppKeys) -> Option<&'static str> {
        let signature = self.query.get("auth_signature")?;
        let queries = forms::of_query(&self.query.pairs, self.query.raw);
        let fits = |method: &str, path: &str| {
            queries.iter().any(|query| {
                keys.verify(&[method.as_bytes(), b"\n", path.as_bytes(), b"\n", query.as_bytes()], signature)
            })
        };
        let slashed = match self.path.strip_suffix('/') {
            Some(path) => path.to_owned(),
            None => format!("{}/", self.path),
        };
        if fits(self.method, &slashed) {
            Some("path")
        } else {
            ["GET", "POST"].iter().any(|method| fits(method, self.path)).then_some("method")
        }
    }

    fn check_signature(&self, keys: &AppKeys) -> Result<(), HttpAuthError> {
        let signature = self.query.get("auth_signature").ok_or(HttpAuthError::SignatureMissing)?;
        let likeliest = canonical(&self.query.pairs);
        let fits = |path: &str, query: &str| {
            keys.verify(&[self.method.as_bytes(), b"\n", path.as_bytes(), b"\n", query.as_bytes()], signature)
        };
        if fits(self.path, &likeliest) {
            return Ok(());
        }
        let queries = forms::of_query(&self.query.pairs, self.query.raw);
        if forms::of_path(self.path).iter().any(|path| queries.iter().any(|query| fits(path, query))) {
            return Ok(());
        }
        let expected: String =
            format!("{}\n{}\n{likeliest}", self.method, self.path).chars().take(2_000).collect();
        let got: String = signature.chars().take(128).collect();
        Err(HttpAuthError::SignatureMismatch {
            expected: super::json::string(&expected),
            got: super::json::string(&got),
        })
    }
}

/// Whether a text begins like a parameter of a call: a name and `=`.
fn is_parameter(text: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'[' | b']');
    text.split_once('=').is_some_and(|(name, _)| !name.is_empty() && name.bytes().all(is_letter))
}

fn date(unix_seconds: u64) -> String {
    i64::try_from(unix_seconds)
        .ok()
        .and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok())
        .and_then(|time| time.format(&Rfc3339).ok())
        .unwrap_or_else(|| unix_seconds.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: u64 = 1_767_225_600;
    const AUTH: &str = "auth_key=sb-key&auth_timestamp=1767225600&auth_version=1.0";
    const EMPTY_MD5: &str = "d41d8cd98f00b204e9800998ecf8427e";

    #[test]
    fn a_query_with_two_readings_is_told() {
        let twice = |name: &str| Err(Ambiguous::Twice(name.to_owned()));
        let nested = |name: &str| Err(Ambiguous::Nested(name.to_owned()));
        for (query, expected) in [
            ("user_id=1&search=AT%26T", Ok(())),
            ("user_id=1&search=a%3Db", Ok(())),
            ("user_id=1&search=a+%26+=", Ok(())),
            ("", Ok(())),
            ("user_id=1&user_id=1", twice("user_id")),
            ("user_id=1&USER_ID=2", twice("user_id")),
            ("user_id=1&user%5Fid=2", twice("user_id")),
            ("auth_key=a&auth_key=b", twice("auth_key")),
            ("search=a%26user_id=2", nested("search")),
            ("search=a%26b%26user_id%3D2", nested("search")),
            ("a%3Db=c", nested("a=b")),
            ("a%26b=c", nested("a&b")),
        ] {
            assert_eq!(Query::parse(query).check_is_unambiguous(), expected, "{query}");
        }
    }

    proptest! {
        /// Two queries for which the same text is signed say the same, or one of them is refused.
        #[test]
        fn what_is_signed_has_one_reading(one in "[ab]=[ab&=]{0,6}(&[ab]=[ab&=]{0,4})?", cut in 0usize..8) {
            let encoded = |text: &str| {
                let pairs: Vec<String> = text.split('&').map(str::to_owned).collect();
                pairs.join("%26").replacen("%26", "&", cut)
            };
            let other = encoded(&one);
            let (one, other) = (Query::parse(&one), Query::parse(&other));
            let is_fine = |query: &Query<'_>| query.check_is_unambiguous().is_ok();
            if canonical(&one.pairs) == canonical(&other.pairs) && is_fine(&one) && is_fine(&other) {
                let sorted = |query: &Query<'_>| {
                    let mut pairs: Vec<_> = query.iter().map(|(a, b)| (a.to_owned(), b.to_owned())).collect();
                    pairs.sort();
                    pairs
                };
                prop_assert_eq!(sorted(&one), sorted(&other));
            }
        }
    }

    fn check(method: &str, target: &str, body: &str) -> Result<(), HttpAuthError> {
        let keys = AppKeys::new("sb-key", ["sb-secret"]);
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let query = Query::parse(query);
        let request = SignedRequest { method, path, query: &query };
        request.verify(&keys, NOW).and_then(|()| request.verify_body(body.as_bytes()))
    }

    #[test]
    fn requests_of_the_sdks_verify_and_one_changed_digit_does_not() {
        let event = r#"{"name": "MessageReceived", "channels": ["user.42"], "data": "{\"id\": 7, \"body\": \"h\u00e9\"}"}"#;
        let batch = r#"{"batch":[{"channel":"user.42","name":"MessageReceived","data":"{}"}]}"#;
        for (method, path, params, body, signature) in [
            (
                "POST",
                "/apps/1001/events",
                "body_md5=aec9df0cc31327709bdf013a546eabec",
                event,
                "a47db53e8116c8995962859e068ebebc3f0bd386f864c0972934e6cb486bebf5",
            ),
            (
                "POST",
                "/apps/1001/batch_events",
                "body_md5=0565b46ffb66a34f71a42f52ea633103",
                batch,
                "c3cbcea3b2dd5f3a25699f070bf310b88f96258bbf225fbb2fb2155ffae3e666",
            ),
            (
                "POST",
                "/apps/1001/users/42/terminate_connections",
                "body_md5=99914b932bd37a50b983c5e7c90ae93b",
                "{}",
                "f32957af64b4d1fea2e7f4250a9275bb5508115bed9f5eaa2691be40e868bf16",
            ),
            (
                "GET",
                "/apps/1001/channels",
                &format!("body_md5={EMPTY_MD5}&filter_by_prefix=presence-&info=user_count"),
                "",
                "099bece54899b34a9ed81db8c6e5579a15d4833aed908137ff66cef2b340671e",
            ),
            (
                "GET",
                "/apps/1001/channels",
                "filter_by_prefix=presence-&info=user_count",
                "",
                "6e5dcbfb105db3bad07b895e689d3ad4c59f4b1964672929676300134e2c3166",
            ),
            (
                "GET",
                "/apps/1001/channels/presence-room",
                &format!("body_md5={EMPTY_MD5}&info=user_count,subscription_count"),
                "",
                "68b87044aaef4c7011103afbc956891c0a22cb4323a6d98f286661dc5ace41e7",
            ),
            (
                "GET",
                "/apps/1001/channels/presence-room",
                "info=user_count%2Csubscription_count",
                "",
                "36a4d00cbe0b553224fb75206798ea34efab0bc6668639c6dbed931da63368e7",
            ),
            (
                "GET",
                "/apps/1001/channels",
                "info%5B0%5D=user_count&info%5B1%5D=subscription_count",
                "",
                "a0e257c83fbf341409572df693bc20c7efbe489f2a63d0cdbd6a561d4dc5efd4",
            ),
            (
                "GET",
                "/apps/1001/channels",
                "info[]=user_count&info[]=subscription_count",
                "",
                "5ac5fe9580fdc0713ee5d3260487bff98bf4b84d5c97c8e43bec76187fadae55",
            ),
        ] {
            let target = format!("{path}?auth_signature={signature}&{params}&{AUTH}");
            assert_eq!(check(method, &target, body), Ok(()), "{target}");
            let prefixed = format!("/ws{target}");
            assert_eq!(check(method, &prefixed, body), Ok(()), "a proxy's prefix is not signed");
            let digit = if signature.ends_with('0') { '1' } else { '0' };
            let wrong = format!("{path}?auth_signature={}{digit}&{params}&{AUTH}", &signature[..63]);
            assert!(matches!(check(method, &wrong, body), Err(HttpAuthError::SignatureMismatch { .. })));
        }
    }

    #[test]
    fn the_documentations_example_verifies() {
        let keys = AppKeys::new("278d425bdf160c739803", ["7ad3773142a6692b25b8"]);
        let query = Query::parse(
            "auth_key=278d425bdf160c739803&auth_timestamp=1353088179&auth_version=1.0&body_md5=ec365a775a4cd0599faeb73354201b6f&auth_signature=da454824c97ba181a32ccc17a72625ba02771f50b50e1e7430e47a1f3f457e6c",
        );
        let body = br#"{"name":"foo","channels":["project-3"],"data":"{\"some\":\"data\"}"}"#;
        let request = SignedRequest { method: "POST", path: "/apps/3/events", query: &query };
        assert_eq!(request.verify(&keys, 1_353_088_179), Ok(()));
        assert_eq!(request.verify_body(body), Ok(()));
        assert_eq!(request.verify_body(b"{}"), Err(HttpAuthError::Md5Mismatch));
        // Both bounds, to the second.
        for (now, fits) in [(0, true), (600, true), (601, false)] {
            assert_eq!(request.verify(&keys, 1_353_088_179 + now).is_ok(), fits);
            assert_eq!(request.verify(&keys, 1_353_088_179 - now).is_ok(), fits);
        }
    }

    fn signed(method: &str, path: &str, params: &str, canonical: &str) -> String {
        let keys = AppKeys::new("sb-key", ["sb-secret"]);
        let signature = keys.sign(&[method.as_bytes(), b"\n", path.as_bytes(), b"\n", canonical.as_bytes()]);
        format!("{path}?{params}&auth_signature={signature}")
    }

    #[test]
    fn order_and_case_of_parameters_do_not_matter() {
        let params = "Auth_Version=1.0&AUTH_KEY=sb-key&auth_timestamp=1767225600";
        assert_eq!(check("GET", &signed("GET", "/apps/1001/channels", params, AUTH), ""), Ok(()));
    }

    #[test]
    fn a_plus_is_tried_as_space_and_as_plus() {
        let params = format!("{AUTH}&x=a+b");
        for value in ["a b", "a+b"] {
            let target = signed("GET", "/apps/1001/channels", &params, &format!("{AUTH}&x={value}"));
            assert_eq!(check("GET", &target, ""), Ok(()), "{value}");
        }
    }

    #[test]
    fn values_are_signed_as_sent_or_decoded() {
        let path = "/apps/1001/messaging/conversations";
        for (sent, signed_value) in [
            // Node and Python: as it is.
            ("number=+13125550100", "number=+13125550100"),
            // Node, with a value that the caller encoded.
            ("number=%2B13125550100", "number=%2B13125550100"),
            ("q=100%25+x", "q=100%25+x"),
            // Node, through the URL parser.
            ("q=a%20b", "q=a b"),
            // PHP and Ruby: encoded, signed unencoded.
            ("number=%2B13125550100", "number=+13125550100"),
            ("q=caf%C3%A9", "q=café"),
            // A form's encoding.
            ("q=a+b%2Bc", "q=a b+c"),
            ("q=a+b%2Bc", "q=a+b+c"),
        ] {
            let target = signed("GET", path, &format!("{AUTH}&{sent}"), &format!("{AUTH}&{signed_value}"));
            assert_eq!(check("GET", &target, ""), Ok(()), "{sent} signed as {signed_value}");
            // Python, which sends the digest of no body.
            let with_md5 = |query: &str| format!("{AUTH}&body_md5={EMPTY_MD5}&{query}");
            let target = signed("GET", path, &with_md5(sent), &with_md5(signed_value));
            assert_eq!(check("GET", &target, ""), Ok(()), "{sent} with body_md5");
            let target = signed("GET", path, &format!("{AUTH}&{sent}"), &format!("{AUTH}&{signed_value}x"));
            assert!(check("GET", &target, "").is_err(), "{sent} is not {signed_value}x");
        }
    }

    #[test]
    fn each_fault_is_named() {
        let ok = |params: &str| {
            let sorted = Query::parse(params);
            signed("POST", "/apps/1001/events", params, &canonical(&sorted.pairs))
        };
        for (params, body, error) in [
            ("x=1", "", HttpAuthError::KeyMissing),
            ("auth_key=other", "", HttpAuthError::UnknownKey),
            ("auth_key=sb-key", "", HttpAuthError::VersionMissing),
            ("auth_key=sb-key&auth_version=2.0", "", HttpAuthError::VersionUnsupported),
            ("auth_key=sb-key&auth_version=1.0", "", HttpAuthError::TimestampMissing),
            ("auth_key=sb-key&auth_version=1.0&auth_timestamp=1.5", "", HttpAuthError::TimestampMissing),
            (AUTH, "{}", HttpAuthError::Md5Missing),
            (
                "auth_key=sb-key&auth_version=1.0&auth_timestamp=1767225600&body_md5=0",
                "{}",
                HttpAuthError::Md5Mismatch,
            ),
        ] {
            assert_eq!(check("POST", &ok(params), body), Err(error), "{params}");
        }
        assert_eq!(
            check("POST", &format!("/apps/1001/events?{AUTH}"), ""),
            Err(HttpAuthError::SignatureMissing)
        );
        let expired = check("GET", &ok("auth_key=sb-key&auth_version=1.0&auth_timestamp=1767224999"), "");
        assert_eq!(
            expired.expect_err("601 s old").to_string(),
            "Timestamp expired: Given timestamp (2025-12-31T23:49:59Z) not within 600s of server time (2026-01-01T00:00:00Z)"
        );
    }

    #[test]
    fn the_likely_cause_of_a_refusal_is_named() {
        let keys = AppKeys::new("sb-key", ["sb-secret"]);
        let cause = |method: &str, target: &str, now: u64| {
            let (path, query) = target.split_once('?').expect("a query");
            let query = Query::parse(query);
            let request = SignedRequest { method, path, query: &query };
            let error = request.verify(&keys, now).expect_err("refused");
            request.cause(&error, &keys)
        };
        let target = signed("POST", "/apps/1001/events", AUTH, AUTH);
        assert_eq!(cause("POST", &target, NOW + 700), "clock off: the sender's clock is 700 s behind");
        assert_eq!(cause("POST", &target, NOW - 700), "clock off: the sender's clock is 700 s ahead");
        let slashed = target.replace("/events", "/events/");
        assert!(cause("POST", &slashed, NOW).starts_with("wrong path"));
        assert!(cause("GET", &target, NOW).starts_with("wrong method"));
        let other = target.replace("1001", "1002");
        assert!(cause("POST", &other, NOW).starts_with("wrong secret"));
        assert!(cause("POST", "/apps/1001/events?auth_key=x", NOW).starts_with("wrong key"));
        assert!(!cause("POST", &other, NOW).contains("auth_"), "nothing of the request");
    }

    #[test]
    fn lists_are_read_in_every_spelling() {
        for raw in [
            "info=a,b",
            "info=a%2Cb",
            "info[]=a&info[]=b",
            "info[0]=a&info[1]=b",
            "info%5B0%5D=a&info%5B1%5D=b",
        ] {
            assert_eq!(Query::parse(raw).list("info"), Some(vec!["a", "b"]), "{raw}");
        }
        assert_eq!(Query::parse("x=1").list("info"), None);
    }

    proptest! {
        #[test]
        fn no_query_breaks_the_verifier(query in ".{0,120}", path in "/.{0,40}", body in ".{0,20}") {
            let keys = AppKeys::new("sb-key", ["sb-secret"]);
            let parsed = Query::parse(&query);
            let request = SignedRequest { method: "POST", path: &path, query: &parsed };
            prop_assert!(request.verify(&keys, NOW).is_err());
            let _ = request.verify_body(body.as_bytes());
        }

        #[test]
        fn what_is_signed_over_decoded_values_verifies(value in "[ -~]{0,40}") {
            let encoded = percent_encoding::utf8_percent_encode(&value, percent_encoding::NON_ALPHANUMERIC);
            let params = format!("{AUTH}&x={encoded}");
            let target = signed("GET", "/apps/1001/channels", &params, &format!("{AUTH}&x={value}"));
            prop_assert_eq!(check("GET", &target, ""), Ok(()));
        }
    }
}
