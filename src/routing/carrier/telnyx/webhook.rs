//! What a webhook says.
//!
//! Telnyx' bodies vary: `to` as list or text, addresses as objects or text, amounts as text or numbers,
//! keys null or absent. All forms are read, and words that are not known are kept, since a webhook that is
//! not understood is one that is lost.

use serde_json::Value;

use super::{fields, lenient, rich};
use crate::routing::carrier::{CarrierError, Cost};

/// One webhook. The carrier may send an event several times, with the same `event_id` and other bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CarrierEvent {
    /// `data.id`: what to tell repeats by.
    pub event_id: String,
    /// `data.event_type`.
    pub event_type: EventType,
    /// When it happened, microseconds since 1970. Events arrive in any order; of two final states the later
    /// one holds.
    pub occurred_at_us: Option<i64>,
    /// `data.payload`, if that is a message.
    pub message: Option<CarrierMessage>,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EventType {
    /// `message.sent`: handed to the recipient's carrier.
    Sent,
    /// `message.finalized`: the last state.
    Finalized,
    /// `message.received`: an inbound message.
    Received,
    /// `message.read`: the recipient read it (RCS, WhatsApp).
    Read,
    /// Something else that goes to the same URL: kept, and does nothing.
    Other(String),
}

/// Which way a message went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// To us.
    Inbound,
    /// From us.
    Outbound,
}

/// A message as a webhook shows it. Holds numbers and text: not for logs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CarrierMessage {
    /// The carrier's message id. Two different events may report the same inbound message: effects are
    /// told apart by this.
    pub id: String,
    /// What the reports of all recipients of a message to a group have in common.
    pub group_id: Option<String>,
    /// Without `direction`, by the event's type.
    pub direction: Direction,
    /// As sent by the carrier; short codes come as `+75973`, which is not E.164. Empty if absent.
    pub from: String,
    /// Own addresses of an inbound message, recipients of an outbound one.
    pub to: Vec<Recipient>,
    /// Further recipients of a group message.
    pub cc: Vec<String>,
    /// Empty if absent.
    pub text: String,
    /// Of an MMS.
    pub subject: Option<String>,
    /// `SMS`, `MMS`, `RCS`, `WHATSAPP`, open.
    pub kind: Option<String>,
    /// Attachments; the links of inbound ones expire.
    pub media: Vec<Media>,
    /// SMS parts it is charged as.
    pub parts: Option<u32>,
    /// `GSM-7`, `UCS-2`, `UTF-16`, …
    pub encoding: Option<String>,
    /// Price.
    pub cost: Option<Cost>,
    /// Why it failed; the first one counts.
    pub errors: Vec<CarrierError>,
    /// The profile it belongs to, for which opt-outs hold.
    pub messaging_profile_id: Option<String>,
    /// Which keyword the text was and the carrier acted on.
    pub autoresponse_type: Option<Autoresponse>,
    /// The URL of the attempt, signed: see [`token_of`](super::webhook_url::token_of).
    pub webhook_url: Option<String>,
    /// Taken by the carrier, microseconds since 1970.
    pub received_at_us: Option<i64>,
    /// Handed over.
    pub sent_at_us: Option<i64>,
    /// Final.
    pub completed_at_us: Option<i64>,
    /// When the sender's device or network says it was sent (WhatsApp).
    pub written_at_us: Option<i64>,
}

/// One address of `to`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipient {
    /// As sent by the carrier: a phone number, or the id of an RCS agent. Empty where an outbound message's report
    /// has a status without one.
    pub number: String,
    /// Whether it is an RCS agent's id.
    pub is_agent: bool,
    /// See [`message_status`](crate::routing::carrier::message_status).
    pub status: Option<String>,
}

/// An attachment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Media {
    /// Where it can be fetched.
    pub url: String,
    /// MIME type.
    pub content_type: Option<String>,
    /// Bytes.
    pub size: Option<u64>,
    /// What it is called, where the sender says so (WhatsApp, RCS).
    pub name: Option<String>,
}

/// `autoresponse_type`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Autoresponse {
    /// The sender opted out.
    Stop,
    /// The sender opted in again.
    Start,
    /// The sender asked for help.
    Help,
    /// Another word.
    Other(String),
}

/// A body that is no event: not JSON, or without `data.id`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnreadableEvent {
    /// Not a JSON document, or one that was cut off.
    #[error("the webhook is not JSON")]
    NotJson,
    /// No `data.id`, so repeats can't be told.
    #[error("the webhook has no data.id")]
    NoEventId,
}

impl CarrierEvent {
    /// Reads a webhook's body.
    ///
    /// # Errors
    /// See [`UnreadableEvent`]; nothing else is one.
    pub fn parse(body: &[u8]) -> Result<Self, UnreadableEvent> {
        let document = lenient::parse(body).map_err(|_| UnreadableEvent::NotJson)?;
        let data = &document["data"];
        let event_id = fields::id(&data["id"]).ok_or(UnreadableEvent::NoEventId)?;
        let event_type = EventType::from_word(&fields::text(&data["event_type"]).unwrap_or_default());
        let payload = &data["payload"];
        let is_message =
            !matches!(event_type, EventType::Other(_)) || payload["record_type"].as_str() == Some("message");
        Ok(Self {
            event_id,
            occurred_at_us: fields::time_us(&data["occurred_at"]),
            message: is_message.then(|| message(payload, &event_type)).flatten(),
            event_type,
        })
    }
}

impl EventType {
    fn from_word(word: &str) -> Self {
        match word {
            "message.sent" => Self::Sent,
            "message.finalized" => Self::Finalized,
            "message.received" => Self::Received,
            "message.read" => Self::Read,
            other => Self::Other(other.to_owned()),
        }
    }

    /// The carrier's word.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Sent => "message.sent",
            Self::Finalized => "message.finalized",
            Self::Received => "message.received",
            Self::Read => "message.read",
            Self::Other(word) => word,
        }
    }
}

impl CarrierMessage {
    /// The id that the carrier answered an outbound message with.
    pub fn carrier_id(&self) -> &str {
        self.group_id.as_ref().unwrap_or(&self.id)
    }

    /// Reads an outbound message as the carrier shows it when it is asked. `None`: it has no id.
    pub(super) fn outbound(shown: &Value) -> Option<Self> {
        message(shown, &EventType::Finalized)
    }

    /// When an inbound message was sent, as far as the carrier knows: `sent_at`, which it mostly leaves empty,
    /// else `received_at`, when it took the message.
    pub fn inbound_at_us(&self) -> Option<i64> {
        self.sent_at_us.or(self.received_at_us).or(self.written_at_us)
    }
}

fn message(payload: &Value, event_type: &EventType) -> Option<CarrierMessage> {
    let direction = match payload["direction"].as_str() {
        Some("inbound") => Direction::Inbound,
        Some("outbound") => Direction::Outbound,
        _ if *event_type == EventType::Received => Direction::Inbound,
        _ => Direction::Outbound,
    };
    let mut to: Vec<Recipient> = several(&payload["to"]).filter_map(|to| recipient(to, direction)).collect();
    if direction == Direction::Outbound && to.iter().all(|recipient| recipient.status.is_none()) {
        to.extend(fields::text(&payload["status"]).map(Recipient::nameless));
    }
    let body = &payload["body"];
    let mut attached: Vec<Media> = several(&payload["media"]).filter_map(media).collect();
    if attached.is_empty() {
        attached = rich::media(body);
    }
    Some(CarrierMessage {
        id: fields::id(&payload["id"])?,
        group_id: fields::id(&payload["group_message_id"]),
        direction,
        from: address(&payload["from"]).unwrap_or_default(),
        to,
        cc: several(&payload["cc"]).filter_map(address).collect(),
        text: fields::text(&payload["text"]).unwrap_or_else(|| rich::text(body)),
        subject: fields::text(&payload["subject"]),
        kind: fields::text(&payload["type"]),
        media: attached,
        parts: fields::parts(&payload["parts"]),
        encoding: fields::text(&payload["encoding"]),
        cost: fields::cost(&payload["cost"]),
        errors: fields::errors(&payload["errors"]),
        messaging_profile_id: fields::text(&payload["messaging_profile_id"]),
        autoresponse_type: fields::text(&payload["autoresponse_type"]).map(autoresponse),
        webhook_url: fields::text(&payload["webhook_url"]),
        received_at_us: fields::time_us(&payload["received_at"]),
        sent_at_us: fields::time_us(&payload["sent_at"]),
        completed_at_us: fields::time_us(&payload["completed_at"]),
        written_at_us: fields::time_us(&body["timestamp"]),
    })
}

/// The members of a list, or the one value that stands in its place.
fn several(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().map_or_else(|| std::slice::from_ref(value), Vec::as_slice).iter()
}

/// `"+1…"` or `{"phone_number":"+1…"}`.
fn address(value: &Value) -> Option<String> {
    fields::text(value).or_else(|| fields::text(&value["phone_number"]))
}

fn recipient(value: &Value, direction: Direction) -> Option<Recipient> {
    let status = fields::text(&value["status"]);
    match address(value) {
        Some(number) => Some(Recipient { number, is_agent: false, status }),
        None => {
            let agent = ["agent_id", "agent_name"].into_iter().find_map(|name| fields::text(&value[name]));
            match agent {
                Some(number) => Some(Recipient { number, is_agent: true, status }),
                // What became of a message of ours counts, though it does not say for whom.
                None => status.filter(|_| direction == Direction::Outbound).map(Recipient::nameless),
            }
        }
    }
}

impl Recipient {
    fn nameless(status: String) -> Self {
        Self { number: String::new(), is_agent: false, status: Some(status) }
    }
}

fn media(value: &Value) -> Option<Media> {
    let url = fields::text(value).or_else(|| fields::text(&value["url"]))?;
    Some(Media {
        url,
        content_type: fields::text(&value["content_type"]),
        size: fields::count(&value["size"]),
        name: ["filename", "file_name", "name"].into_iter().find_map(|name| fields::text(&value[name])),
    })
}

fn autoresponse(word: String) -> Autoresponse {
    match word.to_ascii_uppercase().as_str() {
        "STOP" => Autoresponse::Stop,
        "START" => Autoresponse::Start,
        "HELP" => Autoresponse::Help,
        _ => Autoresponse::Other(word),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse(event_type: &str, payload: &Value) -> CarrierEvent {
        let body = json!({"data": {"id": "e1", "event_type": event_type, "record_type": "event",
            "occurred_at": "2026-11-22T19:13:31.148+00:00", "payload": payload}, "meta": {"attempt": 1}});
        CarrierEvent::parse(body.to_string().as_bytes()).expect("an event")
    }

    fn message_of(payload: &Value) -> CarrierMessage {
        parse("message.received", payload).message.expect("a message")
    }

    fn numbers(message: &CarrierMessage) -> Vec<&str> {
        message.to.iter().map(|recipient| recipient.number.as_str()).collect()
    }

    #[test]
    fn a_failed_final_event_is_read_whole() {
        let payload = json!({"record_type": "message", "direction": "outbound", "id": "m1", "type": "SMS",
            "messaging_profile_id": "p1",
            "from": {"phone_number": "+13125550100", "carrier": "Telnyx", "line_type": "Wireless"},
            "to": [{"phone_number": "+13125550101", "status": "delivery_failed", "carrier": ""}],
            "cc": [], "text": "Hello", "subject": null, "media": [], "parts": 1, "encoding": "GSM-7",
            "webhook_url": "https://h/carriers/telnyx/1/t", "cost": {"amount": "0.0040", "currency": "USD"},
            "received_at": "2026-11-22T19:13:30.574+00:00", "sent_at": "2026-11-22T19:13:30Z",
            "completed_at": "2026-11-22T19:13:31.000001Z",
            "errors": [{"code": "40008", "title": "Undeliverable", "detail": "…",
                "source": {"pointer": "/to/0/phone_number"}}]});
        let event = parse("message.finalized", &payload);
        assert_eq!(event.event_id, "e1");
        assert_eq!(event.event_type, EventType::Finalized);
        assert_eq!(event.occurred_at_us, Some(1_795_374_811_148_000));
        let message = event.message.expect("a message");
        let expected = CarrierMessage {
            id: "m1".to_owned(),
            group_id: None,
            direction: Direction::Outbound,
            from: "+13125550100".to_owned(),
            to: vec![Recipient {
                number: "+13125550101".to_owned(),
                is_agent: false,
                status: Some("delivery_failed".to_owned()),
            }],
            cc: vec![],
            text: "Hello".to_owned(),
            subject: None,
            kind: Some("SMS".to_owned()),
            media: vec![],
            parts: Some(1),
            encoding: Some("GSM-7".to_owned()),
            cost: Some(Cost { amount: "0.0040".to_owned(), currency: "USD".to_owned() }),
            errors: vec![CarrierError {
                code: "40008".to_owned(),
                title: "Undeliverable".to_owned(),
                detail: Some("…".to_owned()),
            }],
            messaging_profile_id: Some("p1".to_owned()),
            autoresponse_type: None,
            webhook_url: Some("https://h/carriers/telnyx/1/t".to_owned()),
            received_at_us: Some(1_795_374_810_574_000),
            sent_at_us: Some(1_795_374_810_000_000),
            completed_at_us: Some(1_795_374_811_000_001),
            written_at_us: None,
        };
        assert_eq!(message, expected);
    }

    #[test]
    fn addresses_come_in_every_form() {
        for to in [
            json!("+13125550100"),
            json!(["+13125550100"]),
            json!({"phone_number": "+13125550100"}),
            json!([{"phone_number": "+13125550100", "status": "webhook_delivered"}, null, {}]),
        ] {
            let message = message_of(&json!({"id": "m", "to": to}));
            assert_eq!(numbers(&message), ["+13125550100"], "{to}");
        }
        for (cc, expected) in [
            (json!(["+1", "+2"]), vec!["+1", "+2"]),
            (json!([{"phone_number": "+1"}, {"phone_number": "+2", "status": "sent"}]), vec!["+1", "+2"]),
            (json!("+1"), vec!["+1"]),
            (json!(null), vec![]),
        ] {
            assert_eq!(message_of(&json!({"id": "m", "cc": cc})).cc, expected, "{cc}");
        }
        for (from, expected) in
            [(json!("+75973"), "+75973"), (json!({"phone_number": "+75973"}), "+75973"), (json!(null), "")]
        {
            assert_eq!(message_of(&json!({"id": "m", "from": from})).from, expected);
        }
    }

    #[test]
    fn a_status_of_a_message_of_ours_needs_no_address() {
        for (payload, expected) in [
            (json!({"to": [{"status": "delivered"}]}), vec![("", Some("delivered"))]),
            (json!({"to": [{"phone_number": null, "status": "x"}, {}]}), vec![("", Some("x"))]),
            (json!({"to": "+1", "status": "delivered"}), vec![("+1", None), ("", Some("delivered"))]),
            (json!({"status": "delivered"}), vec![("", Some("delivered"))]),
            (json!({"to": [{"phone_number": "+1", "status": "a"}], "status": "b"}), vec![("+1", Some("a"))]),
            (json!({"to": [{"phone_number": "+1", "status": ""}]}), vec![("+1", None)]),
        ] {
            let mut payload = payload;
            payload["id"] = json!("m");
            let message = parse("message.finalized", &payload).message.expect("a message");
            let seen: Vec<_> =
                message.to.iter().map(|to| (to.number.as_str(), to.status.as_deref())).collect();
            assert_eq!(seen, expected, "{payload}");
        }
    }

    #[test]
    fn nothing_but_the_id_is_needed() {
        let bare = message_of(&json!({"id": "m"}));
        let names =
            ["direction", "from", "to", "cc", "text", "subject", "type", "media", "parts", "encoding"];
        let more = ["cost", "errors", "autoresponse_type", "webhook_url", "received_at", "sent_at"];
        for odd in [json!(null), json!({}), json!([]), json!([[]]), json!(true), json!("")] {
            let fields = names.iter().chain(&more).map(|name| ((*name).to_owned(), odd.clone()));
            let mut payload: serde_json::Map<String, Value> = fields.collect();
            payload.insert("id".to_owned(), json!("m"));
            assert_eq!(message_of(&Value::Object(payload)), bare, "{odd}");
        }
        assert_eq!(bare.direction, Direction::Inbound);
        assert_eq!(parse("message.sent", &json!({})).message, None);
    }

    #[test]
    fn an_inbound_mms_with_keyword() {
        let message = message_of(&json!({"id": "m", "direction": "inbound", "subject": "", "cost": null,
            "autoresponse_type": "STOP", "parts": "2", "text": "Stop",
            "media": [{"url": "https://c/a.jpg", "content_type": "image/jpeg", "size": "1200",
                "hash_sha256": "x"}, {"url": null}, {"url": "https://c/b", "content_type": null, "size": 5}]}));
        assert_eq!(message.autoresponse_type, Some(Autoresponse::Stop));
        assert_eq!((message.subject, message.cost, message.parts), (None, None, Some(2)));
        let media: Vec<_> =
            message.media.iter().map(|m| (m.url.as_str(), m.content_type.as_deref(), m.size)).collect();
        let expected = [("https://c/a.jpg", Some("image/jpeg"), Some(1200)), ("https://c/b", None, Some(5))];
        assert_eq!(media, expected);
        let other = message_of(&json!({"id": "m", "autoresponse_type": "JOIN"}));
        assert_eq!(other.autoresponse_type, Some(Autoresponse::Other("JOIN".to_owned())));
    }

    #[test]
    fn an_agent_of_rcs_is_a_recipient_without_a_number() {
        let to = json!([{"agent_id": "agent_1", "agent_name": "Shop", "status": "webhook_delivered"}]);
        let message = message_of(&json!({"id": "m", "type": "RCS", "to": to, "body": {"text": "hi"}}));
        assert_eq!(numbers(&message), ["agent_1"]);
        assert!(message.to[0].is_agent);
        assert_eq!((message.text.as_str(), message.kind.as_deref()), ("hi", Some("RCS")));
    }

    #[test]
    fn the_carriers_time_of_an_inbound_message() {
        let (early, late) = ("2026-11-22T19:13:30Z", "2026-11-22T19:13:31Z");
        for (payload, at) in [
            (json!({"id": "m", "sent_at": early, "received_at": late}), Some(1_795_374_810_000_000)),
            (json!({"id": "m", "sent_at": null, "received_at": late}), Some(1_795_374_811_000_000)),
            (json!({"id": "m", "body": {"timestamp": "1796030000"}}), Some(1_796_030_000_000_000)),
            (json!({"id": "m"}), None),
        ] {
            assert_eq!(message_of(&payload).inbound_at_us(), at, "{payload}");
        }
    }

    #[test]
    fn other_events_are_events_too() {
        let payload = json!({"configured_limit": 1, "current_cost": 2, "profile_id": "p", "id": "x"});
        let event = parse("messaging-profile.spend-limit-reached", &payload);
        assert_eq!(event.event_type.as_str(), "messaging-profile.spend-limit-reached");
        assert_eq!(event.message, None);
        let event = parse("message.read", &json!({"id": "m", "record_type": "message"}));
        assert_eq!(event.message.expect("a message").direction, Direction::Outbound);
    }

    #[test]
    fn what_is_no_event() {
        for (body, expected) in [
            (&b""[..], UnreadableEvent::NotJson),
            (b"<html>", UnreadableEvent::NotJson),
            (b"\xff", UnreadableEvent::NotJson),
            (b"{\"data\":{\"id\":\"e", UnreadableEvent::NotJson),
            (b"[]", UnreadableEvent::NoEventId),
            (b"{\"data\":null}", UnreadableEvent::NoEventId),
            (b"{\"data\":{\"id\":\"\"}}", UnreadableEvent::NoEventId),
        ] {
            assert_eq!(CarrierEvent::parse(body), Err(expected));
        }
    }
}
