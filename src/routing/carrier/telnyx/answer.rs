//! What an answer to `POST /messages` means.

use std::time::Duration;

use hyper::header::{HeaderMap, RETRY_AFTER};
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;

use super::fields;
use crate::http_client::{HttpAnswer, HttpFailure};
use crate::routing::carrier::codes::{Class, classify};
use crate::routing::carrier::{Accepted, Cancellation, CarrierError, Outcome};

/// Pause when the first request with the same key is still running and the carrier names none.
const IN_PROGRESS: Duration = Duration::from_millis(1500);
/// Longer pauses are not believed.
const LONGEST_WAIT: Duration = Duration::from_hours(24);

/// Reads the result of a send. `now` in seconds since 1970.
pub(super) fn outcome(result: Result<HttpAnswer, HttpFailure>, now: i64) -> Outcome {
    match result {
        Ok(answer) if answer.status.is_success() => accepted(&answer),
        Ok(answer) => not_accepted(&answer, now),
        Err(HttpFailure::NotSent(reason)) => Outcome::NotSent { reason },
        Err(HttpFailure::Unclear(reason)) => Outcome::Unclear { reason, error: None, alert: false },
    }
}

/// Reads the result of a cancellation.
pub(super) fn cancellation(result: Result<HttpAnswer, HttpFailure>) -> Cancellation {
    match result {
        Ok(answer) if answer.status.is_success() => Cancellation::Cancelled,
        Ok(answer) => {
            let (status, error) = (answer.status.as_u16(), error_of(&answer));
            match classify(status, error.as_ref().map(|error| error.code.as_str())) {
                Class::Permanent | Class::Config(..) => Cancellation::Refused(named(error, status)),
                // Nothing is lost by trying once more. A message that can't be found any more is answered
                // with 404 and its code, which is permanent.
                _ => Cancellation::Unclear { reason: format!("HTTP {status}") },
            }
        }
        Err(failure) => Cancellation::Unclear { reason: failure.to_string() },
    }
}

/// The first error of an answer.
pub(super) fn error_of(answer: &HttpAnswer) -> Option<CarrierError> {
    let document: Value = serde_json::from_slice(&answer.body).ok()?;
    fields::errors(&document["errors"]).into_iter().next()
}

fn accepted(answer: &HttpAnswer) -> Outcome {
    let document: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let data = &document["data"];
    // Of a message to a group, what the reports of its recipients have in common.
    let carrier_id = fields::id(&data["group_message_id"]).or_else(|| fields::id(&data["id"]));
    let Some(carrier_id) = carrier_id else {
        let reason = format!("HTTP {} without a readable message id", answer.status.as_u16());
        return Outcome::Unclear { reason, error: error_of(answer), alert: false };
    };
    let replayed = answer.headers.get("idempotent-replayed");
    Outcome::Accepted(Accepted {
        carrier_id,
        status: fields::text(&data["to"][0]["status"]).unwrap_or_else(|| "queued".to_owned()),
        parts: fields::parts(&data["parts"]),
        encoding: fields::text(&data["encoding"]),
        cost: fields::cost(&data["cost"]),
        replayed: replayed.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"true")),
    })
}

/// What an answer means that is no success.
pub(super) fn not_accepted(answer: &HttpAnswer, now: i64) -> Outcome {
    let (status, error) = (answer.status.as_u16(), error_of(answer));
    let class = classify(status, error.as_ref().map(|error| error.code.as_str()));
    let asked_for = wait(&answer.headers, now);
    match class {
        Class::Permanent => Outcome::Refused(named(error, status)),
        Class::Throttled { at_least, scope } => {
            let wait = asked_for.map(|wait| wait.max(at_least)).or((!at_least.is_zero()).then_some(at_least));
            Outcome::Throttled { wait, scope, error: named(error, status) }
        }
        Class::Config(scope, until) => Outcome::Config { scope, until, error: named(error, status) },
        Class::InProgress => Outcome::InProgress { wait: asked_for.unwrap_or(IN_PROGRESS).max(IN_PROGRESS) },
        Class::Unclear { alert } => {
            let code = error.as_ref().map(|error| format!(", code {}", error.code)).unwrap_or_default();
            Outcome::Unclear { reason: format!("HTTP {status}{code}"), error, alert }
        }
    }
}

/// An answer without a readable error gets one that names its status.
fn named(error: Option<CarrierError>, status: u16) -> CarrierError {
    error.unwrap_or_else(|| CarrierError {
        code: format!("http_{status}"),
        title: format!("The carrier answered HTTP {status} without an error code"),
        detail: None,
    })
}

/// `retry-after` as seconds or date, else `x-ratelimit-reset`, which is documented both as seconds and as a
/// Unix time.
fn wait(headers: &HeaderMap, now: i64) -> Option<Duration> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let seconds_until = |time: i64| u64::try_from(time.saturating_sub(now)).unwrap_or(0);
    let retry_after = text(RETRY_AFTER.as_str()).and_then(|text| {
        let date =
            || OffsetDateTime::parse(text, &Rfc2822).ok().map(|date| seconds_until(date.unix_timestamp()));
        text.parse().ok().or_else(date)
    });
    let reset = || match text("x-ratelimit-reset")?.parse().ok()? {
        time if time > 1_000_000_000 => Some(seconds_until(time)),
        seconds => u64::try_from(seconds).ok(),
    };
    retry_after.or_else(reset).map(|seconds| Duration::from_secs(seconds).min(LONGEST_WAIT))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use hyper::StatusCode;
    use hyper::header::{HeaderName, HeaderValue};

    use super::*;
    use crate::routing::carrier::{ConfigScope, ConfigUntil, Cost};

    const NOW: i64 = 1_445_412_470; // Wed, 21 Oct 2015 07:27:50 GMT

    type Headers = &'static [(&'static str, &'static str)];

    fn answer(status: u16, headers: Headers, body: &str) -> HttpAnswer {
        let pair = |&(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value));
        HttpAnswer {
            status: StatusCode::from_u16(status).expect("a status"),
            headers: headers.iter().map(pair).collect(),
            body: Bytes::copy_from_slice(body.as_bytes()),
        }
    }

    fn of(status: u16, headers: Headers, body: &str) -> Outcome {
        outcome(Ok(answer(status, headers, body)), NOW)
    }

    fn failed(code: &str) -> String {
        format!(r#"{{"errors":[{{"code":"{code}","title":"T","detail":"to +13125550101"}}]}}"#)
    }

    fn error(code: &str) -> CarrierError {
        CarrierError {
            code: code.to_owned(),
            title: "T".to_owned(),
            detail: Some("to +13125550101".to_owned()),
        }
    }

    fn throttled(seconds: Option<u64>, scope: ConfigScope, code: &str) -> Outcome {
        Outcome::Throttled { wait: seconds.map(Duration::from_secs), scope, error: error(code) }
    }

    #[test]
    fn a_message_id_means_accepted() {
        let body = r#"{"data":{"id":"m1","to":[{"phone_number":"+1","status":"scheduled"}],"parts":2,
            "encoding":"UCS-2","cost":{"amount":"0.0040","currency":"USD"}}}"#;
        let full = Accepted {
            carrier_id: "m1".to_owned(),
            status: "scheduled".to_owned(),
            parts: Some(2),
            encoding: Some("UCS-2".to_owned()),
            cost: Some(Cost { amount: "0.0040".to_owned(), currency: "USD".to_owned() }),
            replayed: false,
        };
        assert_eq!(of(200, &[], body), Outcome::Accepted(full.clone()));
        let replayed = Accepted { replayed: true, ..full };
        assert_eq!(of(201, &[("idempotent-replayed", "True")], body), Outcome::Accepted(replayed));
        let bare = Accepted {
            carrier_id: "m1".to_owned(),
            status: "queued".to_owned(),
            parts: None,
            encoding: None,
            cost: None,
            replayed: false,
        };
        for rest in ["", r#","to":[],"cost":null,"parts":null"#, r#","to":"+1","cost":7,"parts":-1"#] {
            let body = format!(r#"{{"data":{{"id":"m1"{rest}}}}}"#);
            assert_eq!(of(200, &[], &body), Outcome::Accepted(bare.clone()), "{rest}");
        }
    }

    #[test]
    fn success_without_an_id_is_unclear() {
        let bodies = [
            "",
            "garbage",
            "<html>",
            "{}",
            r#"{"data":{}}"#,
            r#"{"data":{"id":null}}"#,
            r#"{"data":{"id":"m"#,
        ];
        let long = format!(r#"{{"data":{{"id":"{}"}}}}"#, "m".repeat(256));
        for body in bodies.into_iter().chain([long.as_str()]) {
            let outcome = of(200, &[], body);
            let Outcome::Unclear { reason, error: None, alert: false } = &outcome else {
                panic!("{body:?} gave {outcome:?}")
            };
            assert_eq!(reason, "HTTP 200 without a readable message id");
        }
    }

    #[test]
    fn the_code_decides() {
        let config = |scope, until, code| Outcome::Config { scope, until, error: error(code) };
        let unclear = |reason: &str, code, alert| Outcome::Unclear {
            reason: reason.to_owned(),
            error: Some(error(code)),
            alert,
        };
        let cases = [
            (409, "40300", Outcome::Refused(error("40300"))),
            (400, "40310", Outcome::Refused(error("40310"))),
            (409, "10036", Outcome::InProgress { wait: Duration::from_millis(1500) }),
            (422, "10027", unclear("HTTP 422, code 10027", "10027", true)),
            (429, "10011", throttled(None, ConfigScope::App, "10011")),
            (429, "40318", throttled(Some(30), ConfigScope::Number, "40318")),
            (429, "40333", config(ConfigScope::App, ConfigUntil::NextUtcMidnight, "40333")),
            (401, "10009", config(ConfigScope::App, ConfigUntil::Probe, "10009")),
            (400, "40305", config(ConfigScope::Number, ConfigUntil::Probe, "40305")),
            (400, "40309", config(ConfigScope::Lane, ConfigUntil::Probe, "40309")),
            (500, "10007", unclear("HTTP 500, code 10007", "10007", false)),
            (408, "10008", unclear("HTTP 408, code 10008", "10008", false)),
        ];
        for (status, code, expected) in cases {
            assert_eq!(of(status, &[], &failed(code)), expected, "{code}");
        }
        assert!(error("40300").is_opt_out() && !error("40310").is_opt_out());
    }

    #[test]
    fn without_a_code_the_status_decides() {
        for status in [500, 502, 503, 504, 400, 404, 408] {
            let expected = Outcome::Unclear { reason: format!("HTTP {status}"), error: None, alert: false };
            assert_eq!(of(status, &[], "<html>bad gateway</html>"), expected);
        }
        for status in [301, 302, 307, 409, 422] {
            let expected = Outcome::Unclear { reason: format!("HTTP {status}"), error: None, alert: true };
            assert_eq!(of(status, &[], ""), expected);
        }
    }

    #[test]
    fn pauses_come_from_retry_after_then_from_the_reset() {
        let cases: &[(Headers, Option<u64>)] = &[
            (&[], None),
            (&[("retry-after", "7")], Some(7)),
            (&[("retry-after", "0")], Some(0)),
            (&[("retry-after", "Wed, 21 Oct 2015 07:28:00 GMT")], Some(10)),
            (&[("retry-after", "Wed, 21 Oct 2015 07:20:00 GMT")], Some(0)),
            (&[("retry-after", "7"), ("x-ratelimit-reset", "99")], Some(7)),
            (&[("retry-after", "soon"), ("x-ratelimit-reset", "9")], Some(9)),
            (&[("x-ratelimit-reset", "1445412475")], Some(5)),
            (&[("x-ratelimit-reset", "1445412400")], Some(0)),
            (&[("x-ratelimit-reset", "-3")], None),
            (&[("retry-after", "99999999999")], Some(86_400)),
        ];
        for (headers, seconds) in cases {
            let outcome = of(429, headers, &failed("10011"));
            assert_eq!(outcome, throttled(*seconds, ConfigScope::App, "10011"), "{headers:?}");
        }
        let shorter: Headers = &[("retry-after", "5")];
        let longer: Headers = &[("retry-after", "60")];
        for (headers, seconds) in [(shorter, 30), (longer, 60)] {
            let outcome = of(429, headers, &failed("40318"));
            assert_eq!(outcome, throttled(Some(seconds), ConfigScope::Number, "40318"));
        }
    }

    #[test]
    fn failures_keep_their_meaning() {
        let not_sent = outcome(Err(HttpFailure::NotSent("refused".to_owned())), NOW);
        assert_eq!(not_sent, Outcome::NotSent { reason: "refused".to_owned() });
        let unclear = outcome(Err(HttpFailure::Unclear("reset".to_owned())), NOW);
        assert_eq!(unclear, Outcome::Unclear { reason: "reset".to_owned(), error: None, alert: false });
    }

    #[test]
    fn cancelling_either_works_or_is_refused_or_can_be_tried_again() {
        let of = |status, body: &str| cancellation(Ok(answer(status, &[], body)));
        assert_eq!(of(200, r#"{"id":"m1","to":[{"status":"cancelled"}]}"#), Cancellation::Cancelled);
        assert_eq!(of(404, &failed("40303")), Cancellation::Refused(error("40303")));
        assert_eq!(of(403, &failed("10010")), Cancellation::Refused(error("10010")));
        for (status, body) in [(429, failed("10011")), (503, failed("10037")), (502, String::new())] {
            let expected = Cancellation::Unclear { reason: format!("HTTP {status}") };
            assert_eq!(of(status, &body), expected);
        }
    }
}
