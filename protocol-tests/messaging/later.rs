//! What changes between a message and what follows it: numbers move, people opt out, the carrier sends twice.

use serde_json::json;

use crate::harness::messaging::{ANN, BOB, OUTSIDE, Router, plain};

#[tokio::test]
async fn a_known_key_is_answered_however_much_was_sent_since() {
    let router = Router::setup().routing("send.user_rate", 2).start().await;
    let message =
        |text: &str, key: &str| json!({"user_id": 1, "to": BOB, "text": text, "idempotency_key": key});
    let first = router.ok("/messages", message("one", "k-1")).await;
    router.ok("/messages", message("two", "k-2")).await;
    router.post("/messages", &message("three", "k-3")).await.refused(429, "rate_limited");
    let again = router.ok("/messages", message("one", "k-1")).await;
    assert_eq!((&again["replayed"], &again["message"]["id"]), (&json!(true), &first["message"]["id"]));
    router.post("/messages", &message("another", "k-1")).await.refused(409, "idempotency_mismatch");
}

#[tokio::test]
async fn a_user_without_a_number_needs_one() {
    let router = Router::start().await;
    let error = router.post("/messages", &json!({"user_id": 9, "to": BOB, "text": "Hi"})).await;
    assert_eq!(error.refused(422, "from_required")["field"], "from");
}

#[tokio::test]
async fn a_reply_goes_out_from_the_number_of_its_thread() {
    let router = Router::setup().routing("conversation.key", "number+contact").start().await;
    let second = "+13125550102";
    router.assign(second, 1).await;
    let send = |from: &str| json!({"user_id": 1, "from": from, "to": BOB, "text": "Hi"});
    let thread = router.ok("/messages", send(second)).await["conversation"]["id"].clone();
    router.ok("/messages", send(ANN)).await;
    let reply = json!({"user_id": 1, "to": BOB, "text": "Again", "conversation_id": thread});
    let sent = router.ok("/messages", reply).await;
    assert_eq!((&sent["message"]["from_number"], &sent["conversation"]["id"]), (&json!(second), &thread));
}

#[tokio::test]
async fn whether_a_contact_is_a_user_is_known_without_a_message() {
    let router = Router::start().await;
    let contact = router.ok("/contacts", json!({"user_id": 1, "number": BOB, "name": "Bob"})).await;
    assert_eq!(contact["contact"]["is_internal"], true);
    let contact = router.ok("/contacts", json!({"user_id": 1, "number": OUTSIDE, "name": "Eve"})).await;
    assert_eq!(contact["contact"]["is_internal"], false);

    router.send_on(1, OUTSIDE, "to the carrier").await;
    router.assign(OUTSIDE, 3).await;
    let started = router.ok("/conversations", json!({"user_id": 1, "to": OUTSIDE})).await;
    let conversation = &started["conversation"];
    let found = [&conversation["is_internal"], &conversation["contact"]["is_internal"]];
    assert_eq!((&started["created"], found), (&json!(false), [&json!(true); 2]));
}

/// A message of user 1 that the carrier refused.
async fn failed(router: &Router) -> String {
    router.carrier.fault("undeliverable", 1, json!({"to": OUTSIDE})).await;
    let mut thread = router.thread(1, OUTSIDE).await;
    let sent = router.send_on(1, OUTSIDE, "in vain").await;
    thread.reaches(&sent["message"]["id"], "failed").await;
    format!("/messages/{}/retry", plain(&sent["message"]["id"]))
}

#[tokio::test]
async fn a_failed_message_is_not_sent_again_to_who_opted_out() {
    let router = Router::start().await;
    let retry = failed(&router).await;
    router.ok("/opt_outs", json!({"number": OUTSIDE})).await;
    router.post(&retry, &json!({"user_id": 1})).await.refused(403, "opted_out");
    assert_eq!(router.carrier.sends().await.len(), 1);
    router.ok("/opt_outs/remove", json!({"number": OUTSIDE})).await;
    router.ok(&retry, json!({"user_id": 1})).await;
}

#[tokio::test]
async fn a_failed_message_is_not_sent_again_from_a_number_that_moved() {
    let router = Router::start().await;
    let retry = failed(&router).await;
    router.ok("/phone_numbers/assign", json!({"number": ANN, "user_id": 3})).await;
    router.post(&retry, &json!({"user_id": 1})).await.refused(403, "from_not_owned");
    assert_eq!(router.carrier.sends().await.len(), 1);
}

#[tokio::test]
async fn the_backend_knows_by_its_reference_what_was_changed_and_for_whom_it_was_deleted() {
    let mut router = Router::setup().portal().start().await;
    let message = json!({"user_id": 1, "to": BOB, "text": "Hi", "reference": "r-1"});
    let sent = router.ok("/messages", message).await;
    let path = format!("/messages/{}", plain(&sent["message"]["id"]));
    router.ok(&format!("{path}/edit"), json!({"user_id": 1, "text": "Hello"})).await;
    for direction in ["OUTBOUND", "INBOUND"] {
        let told = router.portal().event("message_updated").await;
        let data = [&told["data"]["message"]["direction"], &told["data"]["reference"]];
        assert_eq!(data, [&json!(direction), &json!("r-1")]);
    }
    for scope in ["me", "everyone"] {
        // What the user does not see any more can't be deleted for both sides: another message.
        let message = json!({"user_id": 1, "to": BOB, "text": "Hi", "reference": scope});
        let sent = router.ok("/messages", message).await;
        let path = format!("/messages/{}/delete", plain(&sent["message"]["id"]));
        router.ok(&path, json!({"user_id": 1, "scope": scope})).await;
        let told = router.portal().event("message_deleted").await;
        assert_eq!((&told["data"]["scope"], &told["data"]["reference"]), (&json!(scope), &json!(scope)));
    }
}
