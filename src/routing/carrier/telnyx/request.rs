//! The bodies of `POST /messages` and `POST /messages/group_mms`.

use bytes::Bytes;
use serde::{Serialize, Serializer};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// A message as the carrier is asked to send it. What is empty or `None` is left out: Telnyx' schema does
/// not allow null.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct OutgoingMessage<'a> {
    /// Own number, +E.164.
    pub from: &'a str,
    /// Destination, +E.164 or a short code.
    pub to: &'a str,
    /// May be empty when there are media.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub text: &'a str,
    /// Public URLs that the carrier fetches; make it an MMS.
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    pub media_urls: &'a [String],
    /// Of an MMS.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub subject: &'a str,
    /// Empty: the carrier derives it from the number.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub messaging_profile_id: &'a str,
    /// Where this message's webhooks go; see [`webhook_url`](super::webhook_url::webhook_url).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webhook_url: Option<&'a str>,
    /// When to send it, microseconds since 1970; the carrier wants 5 minutes to 5 days ahead.
    #[serde(rename = "send_at", skip_serializing_if = "Option::is_none", serialize_with = "iso_8601")]
    pub send_at_us: Option<i64>,
}

/// The bytes to send. Equal messages give equal bytes, yet a job stores them: after an upgrade they might
/// come out differently, and an idempotency key only protects byte-identical repeats.
pub fn request_body(message: &OutgoingMessage<'_>) -> Bytes {
    serde_json::to_vec(message).expect("bug: text and numbers always serialise").into()
}

/// A message to a group as the carrier is asked to send it. The call has neither a profile nor a time.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct OutgoingGroupMessage<'a> {
    /// Own number, +E.164.
    pub from: &'a str,
    /// Destinations, +E.164, eight at most.
    pub to: &'a [&'a str],
    /// May be empty when there are media.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub text: &'a str,
    /// Public URLs that the carrier fetches.
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    pub media_urls: &'a [String],
    /// May be empty.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub subject: &'a str,
    /// Where this message's webhooks go.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webhook_url: Option<&'a str>,
}

/// As [`request_body`], for a group.
pub fn group_request_body(message: &OutgoingGroupMessage<'_>) -> Bytes {
    serde_json::to_vec(message).expect("bug: text and numbers always serialise").into()
}

/// To the second, rounded down; the carrier goes by minutes.
fn iso_8601<S: Serializer>(time_us: &Option<i64>, serializer: S) -> Result<S::Ok, S::Error> {
    let seconds = time_us.map(|time| time.div_euclid(1_000_000));
    let time = seconds.and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok());
    // A time outside years 0 to 9999 can't be written; the carrier refuses the null.
    serializer.serialize_some(&time.and_then(|time| time.format(&Rfc3339).ok()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text_of(message: &OutgoingMessage<'_>) -> String {
        String::from_utf8(request_body(message).to_vec()).expect("UTF-8")
    }

    #[test]
    fn a_plain_message_has_three_fields() {
        let message = OutgoingMessage {
            from: "+13125550100",
            to: "+13125550101",
            text: "Grüße 😀",
            ..Default::default()
        };
        assert_eq!(text_of(&message), r#"{"from":"+13125550100","to":"+13125550101","text":"Grüße 😀"}"#);
    }

    #[test]
    fn a_message_to_a_group_has_a_list_of_recipients() {
        let mut message = OutgoingGroupMessage {
            from: "+13125550100",
            to: &["+13125550101", "+13125550102"],
            text: "Hello",
            media_urls: &[],
            subject: "",
            webhook_url: None,
        };
        let text = |message: &OutgoingGroupMessage<'_>| {
            String::from_utf8(group_request_body(message).to_vec()).expect("UTF-8")
        };
        assert_eq!(
            text(&message),
            r#"{"from":"+13125550100","to":["+13125550101","+13125550102"],"text":"Hello"}"#
        );
        let media = ["https://portal.example/a.jpg".to_owned()];
        (message.text, message.media_urls, message.subject) = ("", &media, "Photo");
        message.webhook_url = Some("https://h/carriers/telnyx/1/t");
        assert_eq!(
            text(&message),
            concat!(
                r#"{"from":"+13125550100","to":["+13125550101","+13125550102"],"#,
                r#""media_urls":["https://portal.example/a.jpg"],"subject":"Photo","#,
                r#""webhook_url":"https://h/carriers/telnyx/1/t"}"#
            )
        );
    }

    #[test]
    fn a_full_message_has_all_in_this_order() {
        let media = ["https://portal.example/a.jpg".to_owned()];
        let message = OutgoingMessage {
            from: "+13125550100",
            to: "+13125550101",
            text: "",
            media_urls: &media,
            subject: "Photo",
            messaging_profile_id: "p1",
            webhook_url: Some("https://h/carriers/telnyx/1/t"),
            send_at_us: Some(1_795_374_810_574_000),
        };
        assert_eq!(
            text_of(&message),
            concat!(
                r#"{"from":"+13125550100","to":"+13125550101","media_urls":["https://portal.example/a.jpg"],"#,
                r#""subject":"Photo","messaging_profile_id":"p1","webhook_url":"https://h/carriers/telnyx/1/t","#,
                r#""send_at":"2026-11-22T19:13:30Z"}"#
            )
        );
    }
}
