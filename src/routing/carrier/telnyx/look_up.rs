//! What an answer to `GET /messages/{id}` means.

use super::answer::{error_of, not_accepted};
use super::lenient;
use super::webhook::CarrierMessage;
use crate::http_client::{HttpAnswer, HttpFailure};
use crate::routing::carrier::{Health, Outcome};

/// The carrier's code for a message that it does not know, or not any more (after 10 days).
const NOT_FOUND: &str = "40303";

/// What the carrier says when it is asked about a message.
#[derive(Clone, Debug, PartialEq)]
pub enum LookUp {
    /// The message as it is now.
    Found(Box<CarrierMessage>),
    /// It does not know the message.
    Unknown,
    /// Nothing that can be used; may be asked again later.
    Failed {
        /// For logs: neither numbers nor secrets.
        reason: String,
        /// What it says about the carrier's service.
        health: Health,
        /// Whether it asks for fewer calls.
        is_throttled: bool,
    },
}

impl LookUp {
    /// What it says about the carrier's service. Whatever is wrong with questions only, such as a key that may not
    /// ask them, stops no sends.
    pub fn health(&self) -> Health {
        match self {
            Self::Failed { health, .. } => *health,
            Self::Found(_) | Self::Unknown => Health::Answered,
        }
    }
}

/// Reads the result of a look-up of this id. `now` in seconds since 1970.
pub(super) fn look_up(result: Result<HttpAnswer, HttpFailure>, carrier_id: &str, now: i64) -> LookUp {
    let answer = match result {
        Ok(answer) => answer,
        Err(failure) => return failed(failure.to_string(), Health::Failing, false),
    };
    let status = answer.status.as_u16();
    if answer.status.is_success() {
        let document = lenient::parse(&answer.body).unwrap_or_default();
        let message = CarrierMessage::outbound(&document["data"]).filter(|message| message.id == carrier_id);
        return message.map_or_else(
            || failed(format!("HTTP {status} without the message"), Health::Answered, false),
            |message| LookUp::Found(Box::new(message)),
        );
    }
    // Of the carrier itself: a wrong address and a gateway answer with 404 as well.
    if status == 404 && error_of(&answer).is_some_and(|error| error.code == NOT_FOUND) {
        return LookUp::Unknown;
    }
    let health = if status >= 500 { Health::Failing } else { Health::Answered };
    let is_throttled = matches!(not_accepted(&answer, now), Outcome::Throttled { .. });
    let code = error_of(&answer).map(|error| format!(", code {}", error.code)).unwrap_or_default();
    failed(format!("HTTP {status}{code}"), health, is_throttled)
}

fn failed(reason: String, health: Health, is_throttled: bool) -> LookUp {
    LookUp::Failed { reason, health, is_throttled }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use hyper::{HeaderMap, StatusCode};

    use super::*;

    fn of(status: u16, body: &str) -> LookUp {
        let answer = HttpAnswer {
            status: StatusCode::from_u16(status).expect("a status"),
            headers: HeaderMap::new(),
            body: Bytes::copy_from_slice(body.as_bytes()),
        };
        look_up(Ok(answer), "m1", 0)
    }

    fn error(code: &str) -> String {
        format!(r#"{{"errors":[{{"code":"{code}","title":"T"}}]}}"#)
    }

    #[test]
    fn a_message_is_read_as_in_a_webhook() {
        let shown = r#"{"data":{"id":"m1","to":[{"phone_number":"+1","status":"delivered"}],"parts":2}}"#;
        let LookUp::Found(message) = of(200, shown) else { panic!("found") };
        assert_eq!((message.to[0].status.as_deref(), message.parts), (Some("delivered"), Some(2)));
    }

    #[test]
    fn only_the_carrier_itself_says_that_there_is_no_message() {
        assert_eq!(of(404, &error("40303")), LookUp::Unknown);
        for (status, body, health, is_throttled) in [
            (404, error("10005"), Health::Answered, false),
            (404, "<html>".to_owned(), Health::Answered, false),
            (200, "<html>".to_owned(), Health::Answered, false),
            (200, r#"{"data":{"id":"another"}}"#.to_owned(), Health::Answered, false),
            (401, error("10009"), Health::Answered, false),
            (403, error("10010"), Health::Answered, false),
            (429, error("10011"), Health::Answered, true),
            (429, String::new(), Health::Answered, true),
            (500, error("10007"), Health::Failing, false),
            (502, "<html>".to_owned(), Health::Failing, false),
        ] {
            let seen = of(status, &body);
            let LookUp::Failed { health: is, is_throttled: throttled, .. } = seen else { panic!("{seen:?}") };
            assert_eq!((is, throttled), (health, is_throttled), "HTTP {status} {body}");
        }
        let lost = look_up(Err(HttpFailure::Unclear("reset".to_owned())), "m1", 0);
        assert_eq!(lost.health(), Health::Failing);
    }
}
