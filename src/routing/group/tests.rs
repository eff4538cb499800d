use serde_json::json;

use super::*;
use crate::routing::carrier::CarrierEvent;
use crate::routing::records::{Conversation, ConversationKey, NewMessage};
use crate::routing::test_support::Lab;

const OWN: &str = "+13125550100";
const ANN: &str = "+13125550171";
const BEN: &str = "+13125550172";
const CYD: &str = "+13125550173";

fn group(own: &str, members: &[&str]) -> Result<(), Code> {
    let number = |text: &&str| PhoneNumber::from_stored(text).expect("a number");
    let group = Group {
        own: number(&own),
        contact: number(&members[0]),
        others: members[1..].iter().map(number).collect(),
    };
    group.check().map_err(|error| error.code)
}

#[test]
fn the_carrier_answers_groups_in_its_two_countries_only() {
    let not_possible = Err(Code::GroupNotPossible);
    assert_eq!(group(OWN, &[ANN, BEN]), Ok(()));
    assert_eq!(group("+14165550100", &[ANN, "+16045550101"]), Ok(()), "Canada");
    assert_eq!(group(OWN, &[ANN, "+17875550101"]), Ok(()), "a territory");
    // In no library yet: the carrier knows better.
    assert_eq!(group(OWN, &[ANN, "+13575550101"]), Ok(()));
    for own in ["+18005550100", "+18885550100", "+447911123456", "+18765550100"] {
        assert_eq!(group(own, &[ANN, BEN]), not_possible, "from {own}");
    }
    for member in ["+447911123456", "+18765550100", "+5215512345678"] {
        assert_eq!(group(OWN, &[ANN, member]), not_possible, "to {member}");
        assert_eq!(group(OWN, &[member, ANN]), not_possible, "to {member}");
    }
    let members: Vec<String> = (0..9).map(|last| format!("+1312555017{last}")).collect();
    let members: Vec<&str> = members.iter().map(String::as_str).collect();
    assert_eq!(group(OWN, &members[..8]), Ok(()));
    assert_eq!(group(OWN, &members), not_possible, "nine");
}

#[test]
fn a_group_has_each_of_the_others_once() {
    let members = [OWN, BEN, ANN, "", CYD, BEN].map(str::to_owned);
    assert_eq!(others(&members, ANN, OWN), [BEN, CYD]);
}

/// A message of user 7 to Ann, Ben and Cyd.
async fn sent() -> Message {
    let lab = Lab::new().await;
    let app = Arc::clone(&lab.app);
    lab.write(move |tx| {
        let key = ConversationKey {
            app_id: "1001",
            user_id: "7",
            own_number: OWN,
            contact_number: ANN,
            thread_id: "t",
        };
        let (conversation, _) = Conversation::find_or_create(tx, &key, false, &app.settings.routing, 1)?;
        let new = NewMessage {
            pair_id: None,
            direction: Direction::Outbound,
            kind: Some("MMS"),
            body: Some("hello"),
            subject: None,
            media_urls: &[],
            cc: &[BEN.to_owned(), CYD.to_owned()],
            status: Status::Sending,
            is_internal: false,
            from_number: OWN,
            to_number: ANN,
            telnyx_message_id: None,
            parts: None,
            encoding: None,
            reference: None,
            decision: "{}",
            send_at: None,
            sent_at: None,
        };
        let message = Message::insert(tx, &conversation, &new, crate::config::IdKind::Int, 1)?;
        Ok(message.expect("new"))
    })
    .await
}

fn report(recipients: &[(&str, &str)], errors: &[&str]) -> CarrierMessage {
    let to: Vec<_> =
        recipients.iter().map(|(number, word)| json!({"phone_number": number, "status": word})).collect();
    let errors: Vec<_> = errors.iter().map(|code| json!({"code": code, "title": "Why"})).collect();
    let body = json!({"data": {"id": "e", "event_type": "message.finalized", "payload": {
        "id": "m", "direction": "outbound", "to": to, "errors": errors}}});
    CarrierEvent::parse(body.to_string().as_bytes()).expect("an event").message.expect("a message")
}

#[tokio::test]
async fn recipients_are_summed_up() {
    let fresh = sent().await;
    let statuses = |message: &Message| -> Vec<String> {
        message.recipients_json().into_iter().map(|recipient| recipient.status).collect()
    };
    assert_eq!(statuses(&fresh), ["sending", "sending", "sending"]);
    for (words, together, each) in [
        (["queued", "queued", "queued"], "sending", ["sending", "sending", "sending"]),
        (["sent", "queued", "queued"], "sent", ["sent", "sending", "sending"]),
        (["delivered", "sent", "sent"], "sent", ["delivered", "sent", "sent"]),
        (["delivered", "delivered", "delivered"], "delivered", ["delivered", "delivered", "delivered"]),
        (["delivery_failed"; 3], "delivery_failed", ["failed", "failed", "failed"]),
        (
            ["delivered", "delivery_failed", "delivered"],
            "delivery_unconfirmed",
            ["delivered", "failed", "delivered"],
        ),
        (
            ["delivered", "delivery_unconfirmed", "delivered"],
            "delivery_unconfirmed",
            ["delivered", "sent", "delivered"],
        ),
    ] {
        let mut message = fresh.clone();
        let pairs: Vec<_> = [ANN, BEN, CYD].into_iter().zip(words).collect();
        // All in one report, or each in one of its own, in whatever order.
        assert_eq!(message.note_recipients(&report(&pairs, &[]), false, 5), together, "{words:?}");
        assert_eq!(statuses(&message), each, "{words:?}");
        let mut message = fresh.clone();
        let last = [2, 0, 1].map(|at| message.note_recipients(&report(&pairs[at..=at], &[]), false, 5));
        assert_eq!(last[2], together, "{words:?}");
        assert_eq!(statuses(&message), each, "{words:?}");
    }
}

#[tokio::test]
async fn the_last_report_of_a_recipient_ends_it_whatever_its_word() {
    let mut message = sent().await;
    let mut note = |pairs: &[(&str, &str)], errors: &[&str], is_final, at| {
        let word = message.note_recipients(&report(pairs, errors), is_final, at);
        (word, message.recipients_json())
    };
    assert_eq!(note(&[(ANN, "unknown")], &[], true, 5).0, "sent");
    // Late, and of a number that is not of the group.
    assert_eq!(note(&[(ANN, "sent"), ("+13125550199", "delivered")], &[], false, 9).0, "sent");
    assert_eq!(note(&[(BEN, "delivery_failed")], &["40008"], true, 6).0, "sent");
    let (word, recipients) = note(&[(CYD, "delivered")], &[], true, 4);
    assert_eq!(word, "delivery_unconfirmed");
    let told = serde_json::to_value(&recipients).expect("JSON");
    let expected = json!([
        {"phone_number": ANN, "status": "sent", "delivery_unconfirmed": true, "error": null},
        {"phone_number": BEN, "status": "failed", "delivery_unconfirmed": false,
            "error": {"code": "40008", "title": "Why", "carrier": "telnyx"}},
        {"phone_number": CYD, "status": "delivered", "delivery_unconfirmed": false, "error": null},
    ]);
    assert_eq!(told, expected);
    // A receipt that comes after all, and one that is contradicted by none.
    assert_eq!(note(&[(BEN, "delivered")], &[], true, 7).0, "delivery_unconfirmed");
    assert_eq!(note(&[(ANN, "delivered")], &[], true, 8).0, "delivered");
    assert_eq!(note(&[(ANN, "delivery_unconfirmed")], &[], true, 9).0, "delivered");
}
