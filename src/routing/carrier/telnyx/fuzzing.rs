//! What must hold for whatever comes from the carrier, or pretends to.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use ed25519_dalek::{Signer, SigningKey};
use hyper::StatusCode;
use hyper::header::{HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use serde_json::Value;
use time::OffsetDateTime;

use super::answer::{cancellation, outcome};
use super::look_up::{LookUp, look_up};
use super::signature::{SignatureError, Verifier};
use super::webhook::{CarrierEvent, CarrierMessage, Direction};
use super::{token_of, webhook_url};
use crate::http_client::HttpAnswer;
use crate::routing::carrier::{CarrierError, Outcome};

/// 2026-01-01, in seconds since 1970.
const NOW: i64 = 1_767_225_600;
const DAY: Duration = Duration::from_hours(24);
/// Longest id that is stored.
const MAX_ID: usize = 255;

/// A webhook's body: means the same in any way of writing its JSON, and is genuine only as it was signed.
pub(crate) fn webhook(body: &[u8]) {
    let event = CarrierEvent::parse(body);
    if let Some(document) = strict(body) {
        let written = serde_json::to_vec_pretty(&document).expect("bug: JSON is written");
        assert_eq!(CarrierEvent::parse(&written), event, "written anew");
    }
    if let Ok(event) = &event {
        id(&event.event_id);
        event.message.iter().for_each(message);
    }
    signature(body);
}

/// The document, where each reader of JSON reads the same numbers.
fn strict(body: &[u8]) -> Option<Value> {
    let is_long = |digits: &[u8]| digits.len() > 15;
    let has_long = body.split(|byte| !byte.is_ascii_digit()).any(is_long);
    if has_long { None } else { serde_json::from_slice(body).ok() }
}

fn id(id: &str) {
    assert!((1..=MAX_ID).contains(&id.len()) && !id.chars().any(char::is_control), "{id:?}");
}

fn message(message: &CarrierMessage) {
    id(&message.id);
    message.group_id.iter().for_each(|group| id(group));
    for recipient in &message.to {
        let is_ours = message.direction == Direction::Outbound && recipient.status.is_some();
        assert!(!recipient.number.is_empty() || is_ours, "{recipient:?}");
    }
    assert!(message.cc.iter().all(|number| !number.is_empty()));
    assert!(message.media.iter().all(|media| !media.url.is_empty()));
    message.errors.iter().for_each(error);
    if let Some(token) = message.webhook_url.as_deref().and_then(|url| token_of(url, "1001")) {
        assert_eq!(token_of(&webhook_url("https://h.example", "1001", token), "1001"), Some(token));
    }
}

fn error(error: &CarrierError) {
    assert!(!error.code.is_empty());
}

fn signature(body: &[u8]) {
    let key = SigningKey::from_bytes(&[7; 32]);
    let public = STANDARD.encode(key.verifying_key().as_bytes());
    let verifier = Verifier::new(&[public]).expect("bug: a key");
    let mut signed = [format!("{NOW}|").as_bytes(), body].concat();
    let signature = STANDARD.encode(key.sign(&signed).to_bytes());
    let value = |text: &str| HeaderValue::from_str(text).expect("bug: no header value");
    let headers = HeaderMap::from_iter([
        (HeaderName::from_static("telnyx-timestamp"), value(&NOW.to_string())),
        (HeaderName::from_static("telnyx-signature-ed25519"), value(&signature)),
    ]);
    assert_eq!(verifier.verify(&headers, body, NOW), Ok(()));
    assert_eq!(verifier.verify(&headers, body, NOW + 301), Err(SignatureError::Stale(301)));
    // Another byte, chosen by the body.
    let at = body.len() % signed.len();
    signed[at] ^= 1;
    if let Some(changed) = signed.strip_prefix(format!("{NOW}|").as_bytes()) {
        assert_eq!(verifier.verify(&headers, changed, NOW), Err(SignatureError::Mismatch));
    }
}

/// An answer: a line with its status, lines with headers, an empty line, a body. Only a success is one, each pause has
/// bounds, and nothing is stored that can't be.
pub(crate) fn answer(input: &[u8]) {
    let answer = || read(input);
    let Some(is_success) = answer().map(|answer| answer.status.is_success()) else { return };
    let all = || answer().ok_or_else(|| unreachable!("bug: it was read before"));
    let came = outcome(all(), NOW);
    assert_eq!(outcome(all(), NOW), came);
    assert_eq!(matches!(came, Outcome::Accepted(_)), is_success && !matches!(came, Outcome::Unclear { .. }));
    match came {
        Outcome::Accepted(accepted) => {
            id(&accepted.carrier_id);
            assert!(!accepted.status.is_empty());
        }
        Outcome::Throttled { wait, error: cause, .. } => {
            assert!(wait.is_none_or(|wait| wait <= DAY), "{wait:?}");
            error(&cause);
        }
        Outcome::InProgress { wait } => {
            assert!((Duration::from_millis(1500)..=DAY).contains(&wait), "{wait:?}");
        }
        Outcome::Refused(cause) | Outcome::Config { error: cause, .. } => error(&cause),
        Outcome::Unclear { reason, .. } => assert!(reason.starts_with("HTTP ") && reason.is_ascii()),
        Outcome::NotSent { .. } => panic!("it was answered"),
    }
    let _ = cancellation(all());
    if let LookUp::Found(found) = look_up(all(), "m1", NOW) {
        assert!(is_success && found.id == "m1");
        message(&found);
    }
    date(input.iter().map(|byte| u64::from(*byte)).sum());
}

fn read(input: &[u8]) -> Option<HttpAnswer> {
    let end = input.windows(2).position(|pair| pair == b"\n\n").unwrap_or(input.len());
    let mut lines = input[..end].split(|byte| *byte == b'\n');
    let status = StatusCode::from_bytes(lines.next()?).ok()?;
    let header = |line: &[u8]| {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let name = HeaderName::from_bytes(&line[..colon]).ok()?;
        Some((name, HeaderValue::from_bytes(line[colon + 1..].trim_ascii()).ok()?))
    };
    let body = Bytes::copy_from_slice(input.get(end + 2..).unwrap_or_default());
    Some(HttpAnswer { status, headers: lines.filter_map(header).collect(), body })
}

/// A date that asks for a pause of so many seconds is read as that pause, a day at most.
fn date(seconds: u64) {
    let time = OffsetDateTime::from_unix_timestamp(NOW + seconds.cast_signed()).expect("bug: no date");
    let (weekday, month) = (time.weekday().to_string(), time.month().to_string());
    let text = format!(
        "{}, {:02} {} {} {:02}:{:02}:{:02} GMT",
        &weekday[..3],
        time.day(),
        &month[..3],
        time.year(),
        time.hour(),
        time.minute(),
        time.second()
    );
    let headers = HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_str(&text).expect("bug: no value"))]);
    let body = Bytes::from_static(br#"{"errors":[{"code":"10011"}]}"#);
    let answer = HttpAnswer { status: StatusCode::TOO_MANY_REQUESTS, headers, body };
    let Outcome::Throttled { wait, .. } = outcome(Ok(answer), NOW) else { panic!("429 is no pause") };
    assert_eq!(wait, Some(Duration::from_secs(seconds).min(DAY)), "{text}");
}
