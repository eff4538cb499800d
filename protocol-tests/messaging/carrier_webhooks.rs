//! What the carrier reports, however often, in whatever order, and by whomever.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use super::own::includes;
use crate::harness::databases::postgres;
use crate::harness::http::{HttpConnection, exchange};
use crate::harness::messaging::{ANN, OUTSIDE, RECEIVED, Router, SENT, STATUS, text};

#[tokio::test]
async fn t26_signatures_hold_for_any_layout_of_the_body() {
    let router = Router::setup().carrier(&["--webhook-json", "mixed", "--random-seed", "3"]).start().await;
    let mut ann = router.thread(1, OUTSIDE).await;
    let mut last = Value::Null;
    for n in 0..10 {
        last = router.send_on(1, OUTSIDE, &format!("Grüße {n} / 👋 \\ \"")).await["message"]["id"].take();
    }
    ann.reaches(&last, "delivered").await;
    let stats = router.carrier.wait("accepted=10&idle=1").await;
    includes(&stats, &json!({"events": 20, "events_delivered": 20, "webhook_posts": 20}));
}

#[tokio::test]
async fn t27_forged_and_stale_webhooks_are_refused_and_change_nothing() {
    let router = Router::start().await;
    router.carrier.settings(json!({"webhook_attempts": 1})).await;
    let mut owner = router.listen("user.1").await;
    for (count, fault) in
        [json!({"tamper": true}), json!({"unsigned": true}), json!({"stale_s": 900})].into_iter().enumerate()
    {
        let mut message = json!({"from": OUTSIDE, "to": ANN, "text": "forged"});
        message.as_object_mut().expect("an object").extend(fault.as_object().expect("an object").clone());
        router.carrier.inbound(message).await;
        router.carrier.wait(&format!("webhook_posts={}&idle=1", count + 1)).await;
        let events = router.carrier.events("").await;
        assert_eq!(events[count]["attempts"][0]["status"], 403, "{fault}");
    }
    // By somebody who has no key at all, with the token or without.
    for path in ["/carriers/telnyx/1001", "/carriers/telnyx/1001/abc"] {
        let request = format!("POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{{}}");
        assert_eq!(exchange(router.server().public, request).await.status, 403, "{path}");
    }
    router.carrier.inbound(json!({"from": OUTSIDE, "to": ANN, "text": "true"})).await;
    assert_eq!(owner.wait_for(RECEIVED).await.json()["message"]["text"], "true");
    let conversations = router.conversations(1).await;
    assert_eq!(conversations.len(), 1);
    assert_eq!(conversations[0]["unread_count"], 1, "{conversations:?}");
}

#[tokio::test]
async fn without_a_public_key_no_webhook_is_believed() {
    let router = Router::setup().routing("carrier.telnyx.public_key", "").start().await;
    router.carrier.settings(json!({"webhook_attempts": 1})).await;
    router.carrier.inbound(json!({"from": OUTSIDE, "to": ANN, "text": "hello"})).await;
    router.carrier.wait("webhook_posts=1&idle=1").await;
    assert_eq!(router.carrier.events("").await[0]["attempts"][0]["status"], 503);
    assert_eq!(router.conversations(1).await.len(), 0);
}

#[tokio::test]
async fn t28_a_webhook_delivered_twice_has_one_effect() {
    let router = Router::start().await;
    router.carrier.fault("duplicate_webhooks", 1, json!({})).await;
    let mut ann = router.thread(1, OUTSIDE).await;
    let first = router.send_on(1, OUTSIDE, "first").await["message"]["id"].clone();
    let stats = router.carrier.wait("accepted=1&webhook_posts=6&idle=1").await;
    assert_eq!(stats["events_delivered"], 2, "{stats}");
    for event in router.carrier.events("").await {
        let statuses: Vec<&Value> =
            event["attempts"].as_array().expect("a list").iter().map(|attempt| &attempt["status"]).collect();
        assert_eq!(statuses, [200, 200, 200]);
        router.carrier.redeliver(&text(&event["id"]), 1).await;
    }
    router.carrier.wait("webhook_posts=8&idle=1").await;
    let second = router.send_on(1, OUTSIDE, "second").await["message"]["id"].clone();
    // What the second message comes through is behind whatever the duplicates might have made.
    let (mut seen, mut done) = (Vec::new(), false);
    while !done {
        let event = ann.client.next().await;
        let data = event.json();
        if event.event == STATUS && data["message"]["id"] == first {
            seen.push(text(&data["message"]["status"]));
        }
        done = event.event == STATUS
            && data["message"]["id"] == second
            && data["message"]["status"] == "delivered";
    }
    assert_eq!(seen, ["sent", "delivered"]);
}

#[tokio::test]
async fn t29_out_of_order_ends_delivered() {
    let router = Router::start().await;
    router.carrier.fault("out_of_order_webhooks", 1, json!({})).await;
    let mut ann = router.thread(1, OUTSIDE).await;
    let first = router.send_on(1, OUTSIDE, "first").await["message"]["id"].clone();
    ann.reaches(&first, "delivered").await;
    router.carrier.wait("events_delivered=2&idle=1").await;
    let second = router.send_on(1, OUTSIDE, "second").await["message"]["id"].clone();
    ann.reaches(&second, "delivered").await;
    assert_eq!(router.message(1, &first).await["status"], "delivered");
}

#[tokio::test]
async fn a_later_delivery_report_corrects_a_failure_but_not_the_other_way_round() {
    let router = Router::setup().carrier(&["--manual-finalize"]).start().await;
    let mut ann = router.thread(1, OUTSIDE).await;
    let id = router.send(1, OUTSIDE, "hello").await["message"]["id"].clone();
    let carriers_id = text(&router.carrier.messages().await[0]["id"]);
    router.carrier.finalize(&carriers_id, "delivery_failed", &["40008"]).await;
    ann.reaches(&id, "failed").await;
    includes(&router.message(1, &id).await["error"], &json!({"code": "40008", "carrier": "telnyx"}));
    router.carrier.finalize(&carriers_id, "delivered", &[]).await;
    ann.reaches(&id, "delivered").await;
    router.carrier.finalize(&carriers_id, "delivery_unconfirmed", &[]).await;
    router.carrier.wait("events_delivered=4&idle=1").await;
    assert_eq!(router.message(1, &id).await["status"], "delivered");
}

/// "sent" and "delivered" come at the same moment and are worked on at once, by several connections.
#[tokio::test]
async fn t29_reports_that_race_lose_no_state_on_postgresql() {
    let database = postgres().await;
    let setup = Router::setup().store(&database.url).routing("send.user_rate", 0);
    let router = setup.routing("carrier.telnyx.ordering", "relaxed").start().await;
    router.carrier.settings(json!({"sent_delay_ms": 500, "final_delay_ms": 500})).await;
    let mut ann = router.thread(1, OUTSIDE).await;
    let mut states = BTreeMap::new();
    for n in 0..40 {
        let sent = router.send_on(1, OUTSIDE, &n.to_string()).await;
        states.insert(text(&sent["message"]["text"]), "sending".to_owned());
    }
    while states.values().any(|state| state != "delivered") {
        let step = ann.hear(STATUS).await.json();
        let (state, message) = (&step["message"]["status"], text(&step["message"]["text"]));
        let before = states.insert(message, text(state)).expect("one of ours");
        assert_eq!(step["previous_status"], json!(before), "each step leads on from the last one: {step}");
    }
    for message in router.messages(1, &ann.id).await {
        assert_eq!(message["status"], "delivered", "{message}");
    }
}

#[tokio::test]
async fn t30_one_inbound_message_under_two_event_ids_is_one_message() {
    let router = Router::start().await;
    let mut owner = router.listen("user.1").await;
    let id = "11111111-2222-4333-8444-555555555555";
    for _ in 0..2 {
        router.carrier.inbound(json!({"from": OUTSIDE, "to": ANN, "text": "once", "id": id})).await;
    }
    router.carrier.wait("events_delivered=2&idle=1").await;
    router.carrier.inbound(json!({"from": OUTSIDE, "to": ANN, "text": "next"})).await;
    let first = owner.wait_for(RECEIVED).await.json();
    includes(
        &first["message"],
        &json!({"text": "once", "direction": "INBOUND", "status": "received", "is_internal": false,
            "from_number": OUTSIDE, "to_number": ANN, "telnyx_message_id": id, "user_id": 1}),
    );
    includes(&first["conversation"]["contact"], &json!({"phone_number": OUTSIDE, "is_internal": false}));
    let next = owner.wait_for(RECEIVED).await.json();
    assert_eq!(next["message"]["text"], "next");
    assert_eq!(router.conversations(1).await[0]["unread_count"], 2);
    router.logged("Inbound message received", 2);
}

#[tokio::test]
async fn t31_short_codes_are_contacts_as_they_are() {
    let router = Router::start().await;
    let mut owner = router.listen("user.1").await;
    router.carrier.inbound(json!({"from": "+75973", "to": ANN, "text": "Your code is 1234"})).await;
    let event = owner.wait_for(RECEIVED).await.json();
    assert_eq!(event["message"]["from_number"], "+75973");
    assert_eq!(event["conversation"]["contact"]["phone_number"], "+75973");
    assert_eq!(event["conversation"]["contact"]["is_internal"], false);
}

#[tokio::test]
async fn t31_a_short_code_answers_in_the_conversation_it_was_texted_in() {
    let router = Router::setup().routing("numbers.allow_short_codes", true).start().await;
    let mut owner = router.listen("user.1").await;
    let first = router.send(1, "75973", "JOIN").await;
    router.carrier.inbound(json!({"from": "+75973", "to": ANN, "text": "Welcome"})).await;
    let answer = owner.wait_for(RECEIVED).await.json();
    let conversation = &answer["conversation"];
    assert_eq!(conversation["id"], first["conversation"]["id"]);
    assert_eq!(conversation["thread_id"], first["conversation"]["thread_id"]);
    // What the conversation shows can be answered, under either name; the carrier wants the bare digits.
    for (to, text) in [("+75973", "HELP"), ("75973", "STATUS")] {
        assert_eq!(router.send(1, to, text).await["conversation"]["id"], conversation["id"], "{to}");
    }
    let tos: Vec<Value> =
        router.carrier.sends().await.iter().map(|send| send["body"]["to"].clone()).collect();
    assert_eq!(tos, ["75973", "75973", "75973"]);
    assert_eq!(router.conversations(1).await.len(), 1);
    let named = json!({"user_id": 1, "number": "75973", "name": "Lottery"});
    assert_eq!(router.ok("/contacts", named).await["contact"]["id"], conversation["contact"]["id"]);

    // Who wants nothing more is one as well.
    router.ok("/opt_outs", json!({"number": "75973"})).await;
    assert_eq!(router.conversations(1).await[0]["opted_out"], true);
    let refused = router.post("/messages", &json!({"user_id": 1, "to": "+75973", "text": "more"})).await;
    refused.refused(403, "opted_out");
}

#[tokio::test]
async fn t32_a_webhook_meets_a_slow_store_and_is_taken_in_the_end() {
    let router = Router::start().await;
    let mut owner = router.listen("user.1").await;
    let store = rusqlite::Connection::open(router.database_file()).expect("the server's own file");
    store.busy_timeout(Duration::from_secs(5)).expect("a setting");
    store.execute_batch("BEGIN IMMEDIATE").expect("nobody writes for long");
    router.carrier.settings(json!({"webhook_backoff_ms": 200})).await;
    router.carrier.inbound(json!({"from": OUTSIDE, "to": ANN, "text": "patience"})).await;
    // The carrier has given up on its first attempt, or the server has refused it cleanly.
    router.carrier.wait("webhook_posts=1").await;
    store.execute_batch("ROLLBACK").expect("the end of it");
    assert_eq!(owner.wait_for(RECEIVED).await.json()["message"]["text"], "patience");
    router.carrier.wait("events_delivered=1&idle=1").await;
    for attempt in router.carrier.events("").await[0]["attempts"].as_array().expect("a list") {
        let is_clean = attempt["status"] == 200 || attempt["status"] == 503 || attempt.get("error").is_some();
        assert!(is_clean, "{attempt}");
    }
    assert_eq!(router.conversations(1).await[0]["unread_count"], 1, "one message however often it came");
}

#[tokio::test]
async fn t33_unknown_events_are_taken_and_ignored() {
    let router = Router::start().await;
    for event_type in ["messaging-profile.spend-limit-reached", "10dlc.brand.update", "message.unheard-of"] {
        router.carrier.event(json!({"event_type": event_type, "payload": {"id": 1}})).await;
    }
    let stats = router.carrier.wait("events_delivered=3&idle=1").await;
    assert_eq!(stats["webhook_posts"], 3, "{stats}");
    router.server().expect_alive();
}

#[tokio::test]
async fn t34_an_unknown_state_is_kept_and_does_no_harm() {
    let router = Router::setup().carrier(&["--manual-finalize"]).start().await;
    let mut ann = router.thread(1, OUTSIDE).await;
    let id = router.send(1, OUTSIDE, "hello").await["message"]["id"].clone();
    let carriers_id = text(&router.carrier.messages().await[0]["id"]);
    ann.reaches(&id, "sent").await;
    router.carrier.finalize(&carriers_id, "teleported", &[]).await;
    let stats = router.carrier.wait("events_delivered=2&idle=1").await;
    assert_eq!(stats["webhook_posts"], 2, "{stats}");
    router.carrier.finalize(&carriers_id, "delivered", &[]).await;
    assert_eq!(ann.reaches(&id, "delivered").await, ["delivered"], "the unknown one changed nothing");
    router.logged("teleported", 1);
}

#[tokio::test]
async fn a_stop_is_remembered_and_a_start_forgets_it() {
    let router = Router::start().await;
    let mut owner = router.listen("user.1").await;
    let send = json!({"user_id": 1, "to": OUTSIDE, "text": "offer"});
    for (word, opted_out) in [("STOP", true), ("START", false)] {
        router.carrier.inbound(json!({"from": OUTSIDE, "to": ANN, "text": word})).await;
        let event = owner.wait_for(RECEIVED).await.json();
        assert_eq!(event["message"]["text"], word);
        assert_eq!(event["conversation"]["opted_out"], opted_out, "{word}");
        let answer = router.post("/messages", &send).await;
        assert_eq!(answer.status, if opted_out { 403 } else { 200 }, "{word}: {}", answer.text());
    }
    assert_eq!(router.carrier.sends().await.len(), 1);
}

#[tokio::test]
async fn an_inbound_message_to_nobody_is_kept_and_reported() {
    let mut router = Router::setup().portal().start().await;
    router.carrier.inbound(json!({"from": OUTSIDE, "to": "+13125550166", "text": "anyone?"})).await;
    let event = router.portal().event("message_unrouted").await;
    assert!(event["data"].to_string().contains("+13125550166"), "{event}");
    router.logged("Inbound message has no assigned user", 1);
    assert_eq!(router.conversations(1).await.len() + router.conversations(2).await.len(), 0);
}

#[tokio::test]
async fn a_lost_answer_is_settled_by_the_token_in_the_webhook() {
    let router = Router::setup().routing("carrier.telnyx.on_unclear", "hold").start().await;
    router.carrier.fault("reset_after", 1, json!({})).await;
    let mut ann = router.thread(1, OUTSIDE).await;
    let id = router.send_on(1, OUTSIDE, "lost answer").await["message"]["id"].clone();
    ann.hear(SENT).await;
    ann.reaches(&id, "delivered").await;
    let message = router.message(1, &id).await;
    assert_eq!(message["telnyx_message_id"], router.carrier.messages().await[0]["id"]);
    assert_eq!(router.carrier.sends().await.len(), 1, "not tried again");
}

/// The head of a webhook that may be the carrier's as far as its headers go.
fn plausible_head(length: usize) -> String {
    use std::time::{SystemTime, UNIX_EPOCH};
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    let signature = "A".repeat(86) + "==";
    format!(
        "POST /carriers/telnyx/1001 HTTP/1.1\r\nHost: x\r\ntelnyx-timestamp: {now}\r\n\
         telnyx-signature-ed25519: {signature}\r\nContent-Length: {length}\r\n\r\n"
    )
}

#[tokio::test]
async fn a_webhook_without_the_carriers_headers_is_refused_before_its_body_comes() {
    let router = Router::start().await;
    let address = router.server().public;
    let stale = plausible_head(2_000_000).replace("telnyx-timestamp: ", "telnyx-timestamp: 1");
    let unsigned = "POST /carriers/telnyx/1001 HTTP/1.1\r\nHost: x\r\nContent-Length: 2000000\r\n\r\n";
    for (head, status) in [(unsigned, 403), (&stale, 403), (&plausible_head(2_000_000), 413)] {
        assert_eq!(exchange(address, head).await.status, status, "{head}");
    }
}

#[tokio::test]
async fn strangers_whose_bodies_never_end_hold_up_no_webhook_of_the_carrier() {
    let router = Router::start().await;
    let mut owner = router.listen("user.1").await;
    let mut strangers = Vec::new();
    for _ in 0..300 {
        let mut stranger = HttpConnection::connect(router.server().public).await;
        stranger.write(plausible_head(200_000)).await;
        stranger.write("x").await;
        strangers.push(stranger);
    }
    router.carrier.inbound(json!({"from": OUTSIDE, "to": ANN, "text": "through"})).await;
    assert_eq!(owner.wait_for(RECEIVED).await.json()["message"]["text"], "through");
    let refused = strangers[0].response().await.expect_status(503);
    assert!(refused.header("retry-after").is_some());
}
