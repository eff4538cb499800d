//! Nothing is lost and nothing is sent twice, whatever the carrier and the line do.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::task::JoinSet;

use super::own::includes;
use crate::harness::databases::postgres;
use crate::harness::messaging::{BOB, OUTSIDE, RECEIVED, Router, SENT, Setup, text};

/// Time in which an attempt that should not be made would have been.
const LONG_ENOUGH: Duration = Duration::from_secs(3);

/// Calls that hang are given up soon.
fn impatient() -> Setup {
    Router::setup().routing("carrier.telnyx.timeout", "1s")
}

#[tokio::test]
async fn t15_the_same_key_fifty_times_at_once_sends_once() {
    let router = Arc::new(Router::setup().routing("send.user_rate", 0).start().await);
    for (to, kind) in [(OUTSIDE, "external"), (BOB, "internal")] {
        let mut sends = JoinSet::new();
        for _ in 0..50 {
            let router = Arc::clone(&router);
            let send = json!({"user_id": 1, "to": to, "text": kind, "idempotency_key": kind});
            sends.spawn(async move { router.ok("/messages", send).await });
        }
        let answers = sends.join_all().await;
        let ids: BTreeSet<String> =
            answers.iter().map(|answer| answer["message"]["id"].to_string()).collect();
        assert_eq!(ids.len(), 1, "{kind}");
        assert_eq!(answers.iter().filter(|answer| answer["replayed"] == false).count(), 1, "{kind}");
        let messages = router.messages(1, &answers[0]["conversation"]["id"]).await;
        assert_eq!(messages.len(), 1, "{kind}");
    }
    assert_eq!(router.carrier.sends().await.len(), 1);
    assert_eq!(router.conversations(2).await[0]["unread_count"], 1);
}

#[tokio::test]
async fn t15_a_replay_tells_the_present_state_and_broadcasts_nothing() {
    let router = Router::start().await;
    let mut ann = router.thread(1, OUTSIDE).await;
    let send = json!({"user_id": 1, "to": OUTSIDE, "text": "once", "idempotency_key": "k", "wait": false});
    let first = router.ok("/messages", send.clone()).await;
    ann.hear(SENT).await;
    ann.reaches(&first["message"]["id"], "delivered").await;
    let second = router.ok("/messages", send.clone()).await;
    assert_eq!(second["replayed"], true);
    includes(&second["message"], &json!({"id": first["message"]["id"], "status": "delivered"}));
    ann.never(&router, SENT).await;
    assert_eq!(router.carrier.sends().await.len(), 1);
    // A key belongs to one user.
    let mut other = send;
    other["user_id"] = json!(2);
    assert_eq!(router.ok("/messages", other).await["replayed"], false);
}

#[tokio::test]
async fn t16_a_key_used_for_another_message_is_refused() {
    let router = Router::start().await;
    let send = json!({"user_id": 1, "to": BOB, "text": "one", "idempotency_key": "k"});
    router.ok("/messages", send.clone()).await;
    let other_fields =
        [("text", json!("two")), ("to", json!(OUTSIDE)), ("media_urls", json!(["https://a.example/b"]))];
    for (field, value) in other_fields {
        let mut other = send.clone();
        other[field] = value;
        router.post("/messages", &other).await.refused(409, "idempotency_mismatch");
    }
    let mut same = send;
    same["to"] = json!("(312) 555-0101");
    assert_eq!(router.ok("/messages", same).await["replayed"], true, "the same number written otherwise");
    // What was refused has not used up its key.
    let refused = json!({"user_id": 1, "to": "nobody", "text": "three", "idempotency_key": "k3"});
    router.post("/messages", &refused).await.refused(422, "invalid_number");
    let right = json!({"user_id": 1, "to": BOB, "text": "three", "idempotency_key": "k3"});
    assert_eq!(router.ok("/messages", right).await["replayed"], false);
    assert_eq!(router.carrier.sends().await.len(), 0);
}

/// Makes a test of each fault that leaves open whether the carrier took the message.
macro_rules! each_unclear_fault {
    ($($fault:ident),+) => {
        mod t17_an_unclear_outcome_is_tried_again_and_sent_once {
            $(#[tokio::test]
            async fn $fault() {
                super::an_unclear_outcome_is_tried_again_and_sent_once(stringify!($fault)).await;
            })+
        }

        mod t18_without_keys_an_unclear_outcome_waits_for_the_webhook {
            $(#[tokio::test]
            async fn $fault() {
                super::without_keys_an_unclear_outcome_waits_for_the_webhook(stringify!($fault)).await;
            })+
        }
    };
}

each_unclear_fault!(timeout_after, reset_after, truncated_after, garbage_after, no_id_after);

async fn an_unclear_outcome_is_tried_again_and_sent_once(fault: &str) {
    let router = impatient().start().await;
    // The webhooks must not settle it: the retry has to.
    let fault = json!({"preset": fault, "webhooks": {"delay_ms": 4000}});
    router.carrier.fault_with(fault).await;
    let mut ann = router.thread(1, OUTSIDE).await;
    let answer = router.send_on(1, OUTSIDE, "unclear").await;
    let stats = router.carrier.wait("replayed=1").await;
    assert_eq!(stats["accepted"], 1, "{stats}");
    ann.reaches(&answer["message"]["id"], "delivered").await;
    router.carrier.sent_once(1).await;
    let sends = router.carrier.sends().await;
    assert_eq!(sends.len(), 2, "{sends:?}");
    let message = router.message(1, &answer["message"]["id"]).await;
    assert_eq!(message["telnyx_message_id"], sends[0]["message_id"]);
}

async fn without_keys_an_unclear_outcome_waits_for_the_webhook(fault: &str) {
    let router = impatient()
        .routing("carrier.telnyx.idempotency", "off")
        .carrier(&["--idempotency", "off", "--manual-finalize"])
        .start()
        .await;
    router.carrier.fault_with(json!({"preset": fault, "webhooks": {"drop": ["message.sent"]}})).await;
    let mut ann = router.thread(1, OUTSIDE).await;
    let answer = router.send_on(1, OUTSIDE, "unclear").await;
    let id = &answer["message"]["id"];
    assert_eq!(ann.reaches(id, "unconfirmed").await, ["unconfirmed"]);
    router.carrier.stays_at(1, LONG_ENOUGH).await;
    assert_eq!(router.carrier.sends().await[0]["idempotency_key"], Value::Null);
    let carriers_id = text(&router.carrier.messages().await[0]["id"]);
    router.carrier.finalize(&carriers_id, "delivered", &[]).await;
    assert_eq!(ann.reaches(id, "delivered").await, ["delivered"]);
    assert_eq!(router.message(1, id).await["telnyx_message_id"], carriers_id);
    router.carrier.sent_once(1).await;
}

#[tokio::test]
async fn t19_every_attempt_sends_the_same_bytes_also_after_a_restart() {
    let mut router = impatient().start().await;
    router.carrier.fault("unavailable", 2, json!({})).await;
    // Without its webhooks only the repeat can tell that the carrier has it.
    let unseen = json!({"drop": ["message.sent", "message.finalized"]});
    router.carrier.fault_with(json!({"preset": "reset_after", "times": 1, "webhooks": unseen})).await;
    let answer = router.send_on(1, OUTSIDE, "byte for byte").await;
    router.carrier.wait("sends=1").await;
    router.revive();
    router.carrier.wait_within(Duration::from_secs(60), "replayed=1").await;
    let sends = router.carrier.sends().await;
    assert!(sends.len() >= 4, "{sends:?}");
    for field in ["body_sha256", "idempotency_key"] {
        let values: BTreeSet<String> = sends.iter().map(|send| text(&send[field])).collect();
        assert_eq!(values.len(), 1, "{field}: {values:?}");
    }
    router.carrier.sent_once(1).await;
    let ann = router.thread(1, OUTSIDE).await;
    assert_eq!(router.messages(1, &ann.id).await[0]["id"], answer["message"]["id"]);
}

#[tokio::test]
async fn t21_webhooks_may_come_before_the_answer() {
    let router = Router::start().await;
    router.carrier.fault("webhook_before_response", 1, json!({})).await;
    let mut ann = router.thread(1, OUTSIDE).await;
    let answer = router.send_on(1, OUTSIDE, "quick").await;
    let id = &answer["message"]["id"];
    ann.reaches(id, "delivered").await;
    // The answer comes after them and must not take anything back.
    router.carrier.wait("idle=1&accepted=1&events_delivered=2").await;
    let next = router.send(1, OUTSIDE, "next in the lane").await;
    ann.reaches(&next["message"]["id"], "delivered").await;
    let message = router.message(1, id).await;
    includes(&message, &json!({"status": "delivered", "error": null}));
    assert_eq!(message["telnyx_message_id"], router.carrier.messages().await[0]["id"]);
    router.carrier.sent_once(2).await;
}

#[tokio::test]
async fn t22_a_blocked_recipient_fails_once_and_is_remembered() {
    let router = Router::start().await;
    router.carrier.fault("opted_out", 1, json!({})).await;
    let answer = router.send(1, OUTSIDE, "unwanted").await;
    includes(&answer["message"], &json!({"status": "failed"}));
    includes(&answer["message"]["error"], &json!({"code": "40300", "carrier": "telnyx"}));
    router.carrier.stays_at(1, LONG_ENOUGH).await;
    let listed = router.get("/opt_outs", &[]).await;
    assert!(listed["opt_outs"].to_string().contains(OUTSIDE), "{listed}");
    assert_eq!(router.conversations(1).await[0]["opted_out"], true);
    let again = json!({"user_id": 1, "to": OUTSIDE, "text": "still unwanted"});
    router.post("/messages", &again).await.refused(403, "opted_out");
    assert_eq!(router.carrier.sends().await.len(), 1);
    router.ok("/opt_outs/remove", json!({"number": OUTSIDE})).await;
    assert_eq!(router.send(1, OUTSIDE, "welcome again").await["internal"], false);
    assert_eq!(router.carrier.sends().await.len(), 2);
}

#[tokio::test]
async fn t23_a_spend_limit_stops_sending_for_the_day() {
    let mut router = Router::start().await;
    router.carrier.fault("spend_limit", -1, json!({})).await;
    let answer = router.send(1, OUTSIDE, "too expensive").await;
    assert_eq!(answer["message"]["status"], "sending");
    let other = router.send_on(1, "+13125550198", "another lane").await;
    assert_eq!(other["message"]["status"], "sending");
    router.carrier.stays_at(1, LONG_ENOUGH).await;
    let status = router.get("/status", &[]).await;
    assert!(status.to_string().contains("00:00:00"), "paused until midnight UTC: {status}");
    // A start changes nothing about the budget.
    router.revive();
    router.send_on(1, "+13125550197", "a third lane").await;
    router.carrier.stays_at(1, LONG_ENOUGH).await;
}

#[tokio::test]
async fn t24_the_carriers_retry_after_is_obeyed() {
    let router = Router::start().await;
    router.carrier.fault_with(json!({"preset": "rate_limited", "retry_after": 3})).await;
    let mut ann = router.thread(1, OUTSIDE).await;
    let answer = router.send_on(1, OUTSIDE, "patience").await;
    ann.reaches(&answer["message"]["id"], "delivered").await;
    let sends = router.carrier.sends().await;
    assert_eq!(sends.len(), 2, "{sends:?}");
    let at = |send: &Value| OffsetDateTime::parse(&text(&send["at"]), &Rfc3339).expect("a time");
    let pause = at(&sends[1]) - at(&sends[0]);
    assert!(pause.as_seconds_f64() >= 2.9, "{pause}");
}

#[tokio::test]
async fn t25_a_lane_keeps_its_order_and_holds_up_no_other() {
    let router = Router::start().await;
    let (slow, quick) = (OUTSIDE, "+13125550198");
    router.carrier.fault("unavailable", 2, json!({"to": slow})).await;
    for n in 0..4 {
        router.send_on(1, slow, &format!("slow {n}")).await;
    }
    for n in 0..4 {
        router.send_on(1, quick, &format!("quick {n}")).await;
    }
    router.carrier.wait("accepted=8").await;
    let order: Vec<String> =
        router.carrier.messages().await.iter().map(|message| text(&message["text"])).collect();
    let numbered = |lane: &str| (0..4).map(|n| format!("{lane} {n}")).collect::<Vec<_>>();
    assert_eq!(order, [numbered("quick"), numbered("slow")].concat());
    router.carrier.sent_once(8).await;
}

#[tokio::test]
async fn t25_order_is_kept_among_random_errors() {
    let router = Router::setup().carrier(&["--error-rate", "0.3", "--random-seed", "7"]).start().await;
    let lanes: Vec<String> = (0..6).map(|n| format!("+1312555017{n}")).collect();
    for n in 0..4 {
        for to in &lanes {
            router.send_on(1, to, &format!("{n} to {to}")).await;
        }
    }
    router.carrier.wait_within(Duration::from_secs(120), "accepted=24").await;
    let accepted = router.carrier.messages().await;
    for to in &lanes {
        let texts: Vec<String> =
            accepted.iter().map(|message| text(&message["text"])).filter(|text| text.ends_with(to)).collect();
        let expected: Vec<String> = (0..4).map(|n| format!("{n} to {to}")).collect();
        assert_eq!(texts, expected);
    }
    router.carrier.sent_once(24).await;
}

/// What is sent at the same time has the order in which the conversation shows it, everywhere. PostgreSQL
/// has several writers at once.
#[tokio::test]
async fn t25_messages_sent_at_once_keep_the_order_of_their_conversation() {
    let database = postgres().await;
    let router = Router::setup().store(&database.url).routing("send.user_rate", 0).start().await;
    let router = Arc::new(router);
    let mut bob = router.listen("user.2").await;
    for to in [OUTSIDE, BOB] {
        let mut sends = JoinSet::new();
        for n in 0..40 {
            let (router, to) = (Arc::clone(&router), to.to_owned());
            sends.spawn(async move { router.send_on(1, &to, &format!("{n} to {to}")).await });
        }
        let answers = sends.join_all().await;
        let mut shown = router.messages(1, &answers[0]["conversation"]["id"]).await;
        shown.reverse();
        let shown: Vec<String> = shown.iter().map(|message| text(&message["text"])).collect();
        let mut came = Vec::new();
        if to == OUTSIDE {
            router.carrier.wait("accepted=40").await;
            came.extend(router.carrier.messages().await.iter().map(|message| text(&message["text"])));
        } else {
            while came.len() < 40 {
                came.push(text(&bob.wait_for(RECEIVED).await.json()["message"]["text"]));
            }
        }
        assert_eq!(came, shown, "{to}");
    }
}

#[tokio::test]
async fn an_acknowledged_message_survives_a_kill() {
    let mut router = Router::start().await;
    router.carrier.fault("unavailable", 1, json!({})).await;
    let external = router.send_on(1, OUTSIDE, "out").await;
    let internal = router.send(1, BOB, "in").await;
    router.revive();
    let mut bob = router.listen("user.2").await;
    let mut ann = router.thread(1, OUTSIDE).await;
    if router.message(1, &external["message"]["id"]).await["status"] != "delivered" {
        ann.reaches(&external["message"]["id"], "delivered").await;
    }
    assert_eq!(router.message(1, &internal["message"]["id"]).await["status"], "delivered");
    assert_eq!(router.conversations(2).await[0]["unread_count"], 1);
    router.send(1, BOB, "after").await;
    // The first may be told again, as nobody can know whether it was.
    while bob.wait_for(RECEIVED).await.json()["message"]["text"] != "after" {}
    router.carrier.sent_once(1).await;
}
