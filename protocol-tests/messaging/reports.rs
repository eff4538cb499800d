//! What the carrier says of messages: of numbers that are not ready, and its last words, however it writes them.

use serde_json::{Value, json};

use super::own::includes;
use crate::harness::messaging::{ANN, OUTSIDE, Router, Setup, text};
use crate::harness::webhook::event;

each_store! {
    Router::setup().own_webhooks().routing("send.user_rate", 0) =>
    a_final_report_settles_a_message_whatever_its_word;
    a_report_counts_for_the_messages_own_recipient;
    reports_are_ordered_by_the_carriers_clock_alone;
}

/// <https://developers.telnyx.com/api/errors>: the number is not enabled for messaging, or its order is not done.
#[tokio::test]
async fn a_number_that_the_carrier_has_not_enabled_waits_and_no_other_does() {
    let codes = ["40100", "40150", "40151", "40154", "40158", "40159", "40305"];
    let router = Router::start().await;
    for (n, code) in codes.into_iter().enumerate() {
        let (user, number) = (20 + n as u64, format!("+131255501{}", 20 + n));
        router.assign(&number, user).await;
        router.carrier.fault_with(json!({"error": code, "times": -1, "match": {"from": number}})).await;
        let held = router.send(user, OUTSIDE, code).await;
        includes(&held["message"], &json!({"status": "sending", "error": null}));
        // To whomever it is, nothing goes from this number before it was tried again.
        let next = router.send_on(user, "+13125550177", &format!("next {code}")).await;
        // What goes from another number shows that this one's time would have come.
        let other = router.send(1, OUTSIDE, &format!("other than {code}")).await;
        assert!(other["message"]["telnyx_message_id"].is_string(), "{other}");
        let id = &next["message"]["id"];
        includes(&router.message(user, id).await, &json!({"status": "sending", "error": null}));
        let tried = router.carrier.sends().await;
        let tried = tried.iter().filter(|send| send["body"]["from"] == number.as_str()).count();
        assert_eq!(tried, 1, "{code}");
    }
    router.measures(r#"switchboard_carrier_attempts_total{class="config"} 7"#).await;
}

/// A message of user 1 that the carrier has; its ids, ours and the carrier's.
async fn sent(router: &Router, text: &str) -> (Value, String) {
    let sent = router.send(1, OUTSIDE, text).await;
    let message = &sent["message"];
    (message["id"].clone(), self::text(&message["telnyx_message_id"]))
}

/// The carrier's report, as of a time.
fn report(kind: &str, carrier_id: &str, at: &str, more: &Value) -> Value {
    let mut payload = json!({"record_type": "message", "direction": "outbound", "id": carrier_id, "type": "SMS",
        "from": {"phone_number": ANN}, "text": "x", "errors": []});
    payload.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    let mut report = event(kind, payload);
    report["data"]["occurred_at"] = json!(at);
    report
}

const NOON: &str = "2026-11-30T12:00:00.000+00:00";

fn to(word: &str) -> Value {
    json!({"to": [{"phone_number": OUTSIDE, "status": word}]})
}

/// Words: <https://developers.telnyx.com/docs/messaging/messages/receiving-webhooks>; `gw_timeout`, `dlr_timeout`,
/// `unknown`: <https://developers.telnyx.com/docs/messaging/messages/group-messaging>. The rest is what nobody
/// documents.
async fn a_final_report_settles_a_message_whatever_its_word(setup: Setup) {
    let router = setup.start().await;
    let failed = json!([{"code": "40008", "title": "Undeliverable"}]);
    let with = |mut report: Value, errors: &Value| {
        report["errors"] = errors.clone();
        report
    };
    let table = [
        (to("delivered"), "delivered", false),
        (to("DELIVERED"), "delivered", false),
        (to(" Delivered\n"), "delivered", false),
        (to("delivery_unconfirmed"), "sent", true),
        (to("Delivery Unconfirmed"), "sent", true),
        (to("gw_timeout"), "sent", true),
        (to("GW_TIMEOUT"), "sent", true),
        (to("dlr_timeout"), "sent", true),
        (to("dlr-timeout "), "sent", true),
        (to("unknown"), "sent", true),
        (to("Unknown"), "sent", true),
        (to("teleported"), "sent", true),
        (to("sent"), "sent", true),
        (to("queued"), "sent", true),
        (to("sending"), "sent", true),
        (to("webhook_delivered"), "sent", true),
        (to(""), "sent", true),
        (to("  "), "sent", true),
        (json!({"to": [{"phone_number": OUTSIDE, "status": null}]}), "sent", true),
        (json!({"to": [{"phone_number": OUTSIDE}]}), "sent", true),
        (json!({"to": [{"status": "delivered"}]}), "delivered", false),
        (json!({"to": OUTSIDE}), "sent", true),
        (json!({"to": []}), "sent", true),
        (json!({"to": null}), "sent", true),
        (json!({}), "sent", true),
        (to("undelivered"), "failed", false),
        (to("UNDELIVERED"), "failed", false),
        (to("undeliverable"), "failed", false),
        (to("delivery_failed"), "failed", false),
        (to("Delivery-Failed"), "failed", false),
        (to("sending_failed"), "failed", false),
        (to("failed"), "failed", false),
        (to("rejected"), "failed", false),
        (to("expired"), "failed", false),
        (to("EXPIRED"), "failed", false),
        (to("cancelled"), "cancelled", false),
        (with(to(""), &failed), "failed", false),
        (with(to("teleported"), &failed), "failed", false),
        (with(to("gw_timeout"), &failed), "sent", true),
    ];
    for (n, (more, status, unconfirmed)) in table.iter().enumerate() {
        // With the report of the hand-over before it, and without.
        for is_first in [true, false] {
            let (id, carrier_id) = sent(&router, &format!("{n} {is_first}")).await;
            if !is_first {
                router.webhook(&report("message.sent", &carrier_id, NOON, &to("sent"))).await;
            }
            router.webhook(&report("message.finalized", &carrier_id, NOON, more)).await;
            let message = router.message(1, &id).await;
            // What was handed over is not cancelled any more.
            let status = if !is_first && *status == "cancelled" { "failed" } else { *status };
            let expected = json!({"status": status, "delivery_unconfirmed": unconfirmed});
            assert_eq!(
                (&message["status"], &message["delivery_unconfirmed"]),
                (&expected["status"], &expected["delivery_unconfirmed"]),
                "{more} {is_first}: {message}"
            );
            assert_eq!(message["error"].is_object(), status == "failed", "{more}: {message}");
            // What comes late says nothing any more.
            router.webhook(&report("message.sent", &carrier_id, NOON, &to("sent"))).await;
            let later = router.message(1, &id).await;
            assert_eq!(
                (&later["status"], &later["delivery_unconfirmed"]),
                (&message["status"], &message["delivery_unconfirmed"]),
                "{more}: {later}"
            );
        }
    }
}

/// A message has one recipient; a report may name others beside it.
async fn a_report_counts_for_the_messages_own_recipient(setup: Setup) {
    let router = setup.start().await;
    let other = "+13125550155";
    let two = |first: (&str, &str), second: (&str, &str)| json!({"to": [{"phone_number": first.0, "status": first.1}, {"phone_number": second.0, "status": second.1}]});
    let third = "+13125550156";
    for (n, (more, status, unconfirmed)) in [
        (two((other, "delivery_failed"), (OUTSIDE, "delivered")), "delivered", false),
        (two((OUTSIDE, "delivered"), (other, "queued")), "delivered", false),
        (two((other, "delivered"), (OUTSIDE, "undelivered")), "failed", false),
        (two((other, "delivered"), (OUTSIDE, "gw_timeout")), "sent", true),
        (two((other, "delivered"), ("+1 (312) 555-0199", "delivery_failed")), "failed", false),
        // It names none of ours: what all of them have in common.
        (two((other, "delivered"), (third, "delivered")), "delivered", false),
        (two((other, "delivered"), (third, "delivery_failed")), "sent", true),
        (two((other, "sending_failed"), (third, "delivery_failed")), "failed", false),
        // One of them has no status.
        (
            json!({"to": [{"phone_number": OUTSIDE}, {"phone_number": other, "status": "delivered"}]}),
            "delivered",
            false,
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let (id, carrier_id) = sent(&router, &n.to_string()).await;
        router.webhook(&report("message.finalized", &carrier_id, NOON, &more)).await;
        let message = router.message(1, &id).await;
        assert_eq!(
            (&message["status"], &message["delivery_unconfirmed"]),
            (&json!(status), &json!(unconfirmed)),
            "{more}: {message}"
        );
    }
}

async fn reports_are_ordered_by_the_carriers_clock_alone(setup: Setup) {
    let router = setup.start().await;
    // Long before the message was made by our clock, and long after.
    for year in [2020, 2099] {
        let at = |second: u32| format!("{year}-01-01T00:00:{second:02}.000+00:00");
        let finalized =
            |id: &str, second, word: &str| report("message.finalized", id, &at(second), &to(word));

        let (id, carrier_id) = sent(&router, &format!("{year} one")).await;
        router.webhook(&finalized(&carrier_id, 9, "delivery_unconfirmed")).await;
        let message = router.message(1, &id).await;
        let expected =
            json!({"status": "sent", "delivery_unconfirmed": true, "carrier_status": "delivery_unconfirmed"});
        includes(&message, &expected);
        router.webhook(&report("message.sent", &carrier_id, &at(5), &to("sent"))).await;
        includes(&router.message(1, &id).await, &expected);

        // Of two last words the later one holds, whichever comes first.
        for (first, second, end) in [(1, 9, "delivered"), (9, 1, "failed")] {
            let (id, carrier_id) = sent(&router, &format!("{year} {first}")).await;
            router.webhook(&finalized(&carrier_id, first, "delivery_failed")).await;
            router.webhook(&finalized(&carrier_id, second, "delivered")).await;
            assert_eq!(router.message(1, &id).await["status"], end, "{year} {first}");
        }
    }
}

/// The answer to the call comes last, and the carrier's webhooks know the message by its token, or by nothing.
#[tokio::test]
async fn a_last_word_may_come_before_the_answer_to_the_call() {
    for has_url in [true, false] {
        let mut setup = Router::setup().routing("send.wait", "20s");
        if !has_url {
            setup = setup.routing("carrier.telnyx.public_url", "");
        }
        let router = setup.start().await;
        for offset in [-7_200, 7_200] {
            router.carrier.settings(json!({"clock_offset_s": offset})).await;
            for (word, status, unconfirmed) in [
                ("DELIVERED", "delivered", false),
                ("gw_timeout", "sent", true),
                ("undelivered", "failed", false),
            ] {
                let only =
                    json!({"preset": "webhook_before_response", "times": 1, "final": {"status": word}});
                router.carrier.fault_with(only).await;
                let before = router.carrier.messages().await.len();
                let mut thread = router.thread(1, OUTSIDE).await;
                let sent = router.send(1, OUTSIDE, &format!("{offset} {word}")).await;
                let id = &sent["message"]["id"];
                router.carrier.wait(&format!("events_delivered={}&idle=1", 2 * (before + 1))).await;
                if router.message(1, id).await["status"] != status {
                    thread.reaches(id, status).await;
                }
                // A webhook that nobody knew is tried again after a second.
                let message = router.message_that(1, id, |it| it["carrier_status"] == word).await;
                includes(&message, &json!({"status": status, "delivery_unconfirmed": unconfirmed}));
            }
        }
    }
}
