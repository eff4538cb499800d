//! What the router is for: messages between users stay inside, others go to the carrier, and both people
//! see them at once through unchanged Laravel Echo.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::clients::{Echo, each_version, user};
use crate::harness::messaging::{ANN, BOB, OUTSIDE, RECEIVED, Router, SENT, STATUS, plain};

#[tokio::test]
async fn t01_an_internal_message_reaches_both_at_once_and_costs_nothing() {
    let router = Router::start().await;
    let mut ann = router.thread(1, BOB).await;
    let mut bob = router.listen("user.2").await;
    let start = Instant::now();
    let answer = router.send(1, BOB, "Hello").await;
    let sent = ann.hear(SENT).await.json();
    let received = bob.wait_for(RECEIVED).await.json();
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());

    assert_eq!((&answer["internal"], &answer["replayed"]), (&json!(true), &json!(false)));
    let expected = json!({
        "direction": "OUTBOUND", "type": "SMS", "body": "Hello", "text": "Hello", "media_urls": [],
        "status": "delivered", "is_internal": true, "from_number": ANN, "to_number": BOB, "user_id": 1,
        "telnyx_message_id": null, "parts": 1, "encoding": "GSM-7", "cost": null, "error": null,
        "reference": null, "read_at": null, "edited_at": null, "deleted_at": null, "conversation_id": ann.id,
    });
    includes(&answer["message"], &expected);
    assert_eq!(sent["message"], answer["message"], "the event carries what the API answers");
    assert_eq!(sent["conversation"], answer["conversation"]);
    includes(
        &received["message"],
        &json!({"direction": "INBOUND", "body": "Hello", "status": "received", "is_internal": true,
            "from_number": ANN, "to_number": BOB, "user_id": 2}),
    );
    includes(
        &received["conversation"],
        &json!({"user_id": 2, "phone_number": BOB, "last_message": "Hello", "unread_count": 1,
            "is_internal": true}),
    );
    includes(
        &received["conversation"]["contact"],
        &json!({"user_id": 2, "phone_number": ANN, "is_internal": true}),
    );
    assert_ne!(received["message"]["id"], sent["message"]["id"]);
    assert_ne!(received["conversation"]["id"], sent["conversation"]["id"]);
    assert_eq!(received["conversation"]["thread_id"], sent["conversation"]["thread_id"]);

    for (user, event) in [(1, &sent), (2, &received)] {
        assert_eq!(router.conversations(user).await, [event["conversation"].clone()]);
        let conversation = &event["conversation"]["id"];
        assert_eq!(router.messages(user, conversation).await, [event["message"].clone()]);
    }
    assert_eq!(router.carrier.requests("").await, Vec::<serde_json::Value>::new());
    router.logged("Checking if recipient is internal user", 1);
    router.logged("Internal message detected - skipping Telnyx API", 1);
    router.logged("Reciprocal conversation created for internal message", 1);
    router.send(1, BOB, "Again").await;
    router.logged("Reciprocal conversation created for internal message", 2);
}

#[tokio::test]
async fn t02_an_external_message_is_seen_at_once_and_followed_to_delivery() {
    let router = Router::start().await;
    let mut ann = router.thread(1, OUTSIDE).await;
    let answer = router.send_on(1, OUTSIDE, "Hello out there").await;
    assert_eq!(answer["internal"], false);
    let sent = ann.hear(SENT).await.json();
    includes(
        &sent["message"],
        &json!({"status": "sending", "direction": "OUTBOUND", "is_internal": false,
            "from_number": ANN, "to_number": OUTSIDE, "id": answer["message"]["id"]}),
    );
    let mut previous = json!("sending");
    for status in ["sent", "delivered"] {
        let event = ann.hear(STATUS).await.json();
        assert_eq!(event["message"]["status"], status);
        assert_eq!(event["previous_status"], previous);
        previous = json!(status);
    }
    let message = router.message(1, &answer["message"]["id"]).await;
    let requests = router.carrier.requests("").await;
    assert_eq!(requests.len(), 1, "{requests:?}");
    assert_eq!(requests[0]["problems"], json!([]));
    assert_eq!(requests[0]["unknown_fields"], json!([]));
    assert_eq!(message["telnyx_message_id"], requests[0]["message_id"]);
    includes(&message, &json!({"status": "delivered", "parts": 1, "encoding": "GSM-7", "error": null}));
    assert!(message["sent_at"].is_string() && message["delivered_at"].is_string(), "{message}");
    assert!(message["cost"] != json!(null), "{message}");
}

each_version! {
    t03_the_pages_own_listeners_fire: echo_1 echo_2;
}

/// `Echo.channel('user.2').listen('MessageReceived', …)` and `Echo.channel('messenger.1')
/// .listen('MessageSent', …)`, with nothing else configured.
async fn t03_the_pages_own_listeners_fire(version: &str) {
    let router = Router::start().await;
    let (echo, pusher_js) = if version == "echo_1" { ("1", "7") } else { ("2", "8") };
    let mut echo = Echo::start(echo, pusher_js, "pusher");
    let thread = router.thread(1, BOB).await;
    let messenger = format!("messenger.{}", plain(&thread.id));
    let pages = [("ann", "MessageSent", messenger.as_str()), ("bob", "MessageReceived", "user.2")];
    for (on, event, channel) in pages {
        echo.connect(on, router.server(), user(on)).await;
        echo.chain(on, json!([["channel", channel], ["listen", event]])).await;
        echo.subscribed(on, channel).await;
    }
    router.send(1, BOB, "Grüße 👋").await;
    for (on, direction) in [("ann", "OUTBOUND"), ("bob", "INBOUND")] {
        let heard = echo.heard(on, "listen").await;
        includes(&heard["message"], &json!({"text": "Grüße 👋", "direction": direction}));
        assert_eq!(heard["conversation"]["last_message"], "Grüße 👋");
    }
}

#[tokio::test]
async fn t04_a_number_that_is_not_assigned_is_external() {
    let router = Router::start().await;
    for (index, status) in ["available", "suspended", "reserved", "released"].into_iter().enumerate() {
        let number = format!("+1312555015{index}");
        router.ok("/phone_numbers", json!({"number": number, "status": status})).await;
        let answer = router.send(1, &number, status).await;
        assert_eq!(answer["internal"], false, "{status}");
        assert_eq!(router.carrier.sends().await.len(), index + 1, "{status}");
    }
    router.ok("/phone_numbers/suspend", json!({"number": BOB})).await;
    assert_eq!(router.send(1, BOB, "suspended later").await["internal"], false);
}

#[tokio::test]
async fn t05_numbers_are_found_however_they_are_written() {
    let router = Router::start().await;
    let mut conversations = Vec::new();
    for to in ["(312) 555-0101", "312.555.0101", "1 312 555 0101", " +1 (312) 555-0101 ", "+13125550101"] {
        let answer = router.send(1, to, to).await;
        assert_eq!(answer["internal"], true, "{to}");
        assert_eq!(answer["message"]["to_number"], BOB, "{to}");
        conversations.push(answer["conversation"]["id"].clone());
    }
    conversations.dedup();
    assert_eq!(conversations.len(), 1, "one person, one conversation");
}

#[tokio::test]
async fn t06_a_conversation_can_be_started_with_and_without_a_message() {
    let router = Router::start().await;
    let start = json!({"user_id": 1, "to": BOB, "contact": {"name": "Bob"}});
    let first = router.ok("/conversations", start.clone()).await;
    assert_eq!(first["created"], true);
    includes(&first["conversation"]["contact"], &json!({"name": "Bob", "phone_number": BOB, "user_id": 1}));
    let second = router.ok("/conversations", start).await;
    assert_eq!(
        (&second["created"], &second["conversation"]["id"]),
        (&json!(false), &first["conversation"]["id"])
    );
    assert_eq!(router.conversations(2).await.len(), 0, "nothing happened to Bob yet");

    let mut bob = router.listen("user.2").await;
    let hello = router.ok("/conversations", json!({"user_id": 1, "to": BOB, "text": "Hello"})).await;
    assert_eq!((&hello["created"], &hello["message"]["text"]), (&json!(false), &json!("Hello")));
    let theirs = bob.wait_for(RECEIVED).await.json()["conversation"]["id"].clone();

    let mut ann = router.listen("user.1").await;
    let back = router.ok("/conversations", json!({"user_id": 2, "to": ANN, "text": "Hi Ann"})).await;
    assert_eq!((&back["created"], &back["conversation"]["id"]), (&json!(false), &theirs));
    let event = ann.wait_for(RECEIVED).await.json();
    assert_eq!(event["conversation"]["id"], first["conversation"]["id"], "the one Ann began");
}

/// Fails unless `value` has all of these fields.
#[track_caller]
pub(super) fn includes(value: &serde_json::Value, fields: &serde_json::Value) {
    for (name, expected) in fields.as_object().expect("fields are an object") {
        assert_eq!(&value[name], expected, "{name} of {value}");
    }
}
