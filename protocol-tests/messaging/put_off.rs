//! Messages that go later than they were accepted: scheduled, sent again, or waiting for the carrier. Each decides
//! its route when it goes, and stands where it was sent.

use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::own::includes;
use crate::harness::messaging::{ANN, BOB, OUTSIDE, RECEIVED, Router, Setup, plain, text};

each_store! {
    Router::setup() =>
    a_scheduled_message_goes_where_its_recipient_is_when_it_is_due;
    a_message_sent_again_goes_where_its_recipient_is_by_then;
    what_waits_for_the_carrier_goes_inside_once_its_recipient_is_a_user;
    a_scheduled_message_stands_where_it_was_sent_on_both_sides;
    a_message_sent_again_stands_where_it_was_sent;
}

/// Schedules a text of user 1.
async fn schedule(router: &Router, to: &str, words: &str, seconds: i64) -> Value {
    let at = OffsetDateTime::now_utc() + time::Duration::seconds(seconds);
    let send_at = at.format(&Rfc3339).expect("a time");
    let later = json!({"user_id": 1, "to": to, "text": words, "send_at": send_at});
    router.ok("/messages", later).await["message"].clone()
}

async fn retry(router: &Router, message: &Value) -> Value {
    let path = format!("/messages/{}/retry", plain(&message["id"]));
    router.ok(&path, json!({"user_id": 1})).await["message"].clone()
}

/// What a user sees of the conversation with a contact: its texts, the oldest first.
async fn texts(router: &Router, user: u64, contact: &str) -> Vec<String> {
    let conversations = router.conversations(user).await;
    let with = |conversation: &&Value| conversation["contact"]["phone_number"] == contact;
    let conversation = conversations.iter().find(with).expect("a conversation");
    let messages = router.messages(user, &conversation["id"]).await;
    messages.iter().rev().map(|message| text(&message["text"])).collect()
}

async fn a_scheduled_message_goes_where_its_recipient_is_when_it_is_due(setup: Setup) {
    let router = setup.start().await;
    let mut carol = router.listen("user.3").await;
    let (mut inside, mut outside) = (router.thread(1, BOB).await, router.thread(1, OUTSIDE).await);
    let to_outside = schedule(&router, OUTSIDE, "to a user by then", 3).await;
    let to_bob = schedule(&router, BOB, "to nobody by then", 3).await;
    assert_eq!((&to_outside["is_internal"], &to_bob["is_internal"]), (&json!(false), &json!(true)));
    router.assign(OUTSIDE, 3).await;
    router.ok("/phone_numbers/release", json!({"number": BOB})).await;

    let received = carol.wait_for(RECEIVED).await.json();
    let expected = json!({"text": "to a user by then", "from_number": ANN, "is_internal": true});
    includes(&received["message"], &expected);
    assert_eq!(outside.reaches(&to_outside["id"], "delivered").await, ["delivered"]);
    assert_eq!(inside.reaches(&to_bob["id"], "delivered").await, ["sending", "sent", "delivered"]);
    includes(
        &router.message(1, &to_outside["id"]).await,
        &json!({"is_internal": true, "telnyx_message_id": null, "cost": null, "error": null}),
    );
    assert_eq!(router.message(1, &to_bob["id"]).await["is_internal"], false);
    let sends = router.carrier.sends().await;
    assert_eq!(sends.len(), 1, "{sends:?}");
    assert_eq!(sends[0]["body"]["to"], BOB);
    for (message, route) in [(to_outside, "internal"), (to_bob, "external")] {
        let path = format!("/messages/{}/decision", plain(&message["id"]));
        assert_eq!(router.get(&path, &[("user_id", "1")]).await["decision"]["route"], route);
    }
}

async fn a_message_sent_again_goes_where_its_recipient_is_by_then(setup: Setup) {
    let router = setup.start().await;
    let mut carol = router.listen("user.3").await;
    router.carrier.fault("undeliverable", 1, json!({"to": OUTSIDE})).await;
    let mut thread = router.thread(1, OUTSIDE).await;
    let sent = router.send_on(1, OUTSIDE, "in vain").await["message"].clone();
    thread.reaches(&sent["id"], "failed").await;
    router.assign(OUTSIDE, 3).await;
    let again = retry(&router, &sent).await;
    let free = json!({"id": sent["id"], "status": "delivered", "is_internal": true, "error": null,
        "telnyx_message_id": null, "cost": null, "carrier_status": null});
    includes(&again, &free);
    includes(&carol.wait_for(RECEIVED).await.json()["message"], &json!({"text": "in vain"}));
    let refused = format!("/messages/{}/retry", plain(&sent["id"]));
    router.post(&refused, &json!({"user_id": 1})).await.refused(409, "not_retryable");
    assert_eq!(router.carrier.sends().await.len(), 1);
    assert_eq!(texts(&router, 3, ANN).await, ["in vain"]);
}

async fn what_waits_for_the_carrier_goes_inside_once_its_recipient_is_a_user(setup: Setup) {
    let router = setup.start().await;
    let mut carol = router.listen("user.3").await;
    let pause = json!({"error": "10011", "retry_after": 4, "times": -1});
    router.carrier.fault_with(pause).await;
    let mut thread = router.thread(1, OUTSIDE).await;
    let sent = router.send_on(1, OUTSIDE, "patience").await["message"].clone();
    router.carrier.wait("sends=1").await;
    router.assign(OUTSIDE, 3).await;
    includes(&carol.wait_for(RECEIVED).await.json()["message"], &json!({"text": "patience"}));
    thread.reaches(&sent["id"], "delivered").await;
    assert_eq!(router.carrier.sends().await.len(), 1);
}

async fn a_scheduled_message_stands_where_it_was_sent_on_both_sides(setup: Setup) {
    let router = setup.start().await;
    let mut thread = router.thread(1, BOB).await;
    let later = schedule(&router, BOB, "scheduled", 3).await;
    let first = router.send(1, BOB, "first").await["message"].clone();
    router.send(2, ANN, "second").await;
    assert_eq!(texts(&router, 1, BOB).await, ["scheduled", "first", "second"]);
    assert_eq!(texts(&router, 2, ANN).await, ["first", "second"]);
    thread.reaches(&later["id"], "delivered").await;
    for (user, contact) in [(1, BOB), (2, ANN)] {
        assert_eq!(texts(&router, user, contact).await, ["first", "second", "scheduled"]);
        let conversation = router.conversations(user).await.remove(0);
        let messages = router.messages(user, &conversation["id"]).await;
        assert_eq!(conversation["last_message"], "scheduled");
        assert_eq!(conversation["last_message_at"], messages[0]["placed_at"]);
        assert!(text(&messages[0]["placed_at"]) > text(&messages[1]["placed_at"]), "{messages:?}");
    }
    let third = router.send(1, BOB, "third").await["message"].clone();

    let page = async |more: &[(&str, &str)]| {
        let path = format!("/conversations/{}/messages", plain(&thread.id));
        let answer = router.get(&path, &[&[("user_id", "1")], more].concat()).await;
        let list = answer["messages"].as_array().expect("a list").clone();
        list.iter().map(|message| text(&message["text"])).collect::<Vec<_>>()
    };
    let (later, first, third) = (plain(&later["id"]), plain(&first["id"]), plain(&third["id"]));
    assert_eq!(page(&[("before", &later)]).await, ["second", "first"]);
    assert_eq!(page(&[("after", &later)]).await, ["third"]);
    assert_eq!(page(&[("after", &first)]).await, ["third", "scheduled", "second"]);
    assert_eq!(page(&[("after", &first), ("limit", "2")]).await, ["scheduled", "second"]);
    assert_eq!(page(&[("before", &third), ("limit", "2")]).await, ["scheduled", "second"]);

    // Read up to the scheduled one: what stands before it, and not what follows.
    let received = router.messages(2, &router.conversations(2).await[0]["id"]).await;
    let path = format!("/conversations/{}/read", plain(&received[1]["conversation_id"]));
    let read = router.ok(&path, json!({"user_id": 2, "up_to": received[1]["id"]})).await;
    assert_eq!(read["conversation"]["unread_count"], 1, "{read}");
    let event = thread.hear("App\\Events\\MessageRead").await.json();
    assert_eq!(plain(&event["message_id"]), later);
}

async fn a_message_sent_again_stands_where_it_was_sent(setup: Setup) {
    let router = setup.start().await;
    router.carrier.fault("undeliverable", 1, json!({"to": OUTSIDE})).await;
    let mut thread = router.thread(1, OUTSIDE).await;
    let sent = router.send_on(1, OUTSIDE, "in vain").await["message"].clone();
    thread.reaches(&sent["id"], "failed").await;
    router.send(1, OUTSIDE, "meanwhile").await;
    assert_eq!(texts(&router, 1, OUTSIDE).await, ["in vain", "meanwhile"]);
    retry(&router, &sent).await;
    thread.reaches(&sent["id"], "delivered").await;
    assert_eq!(texts(&router, 1, OUTSIDE).await, ["meanwhile", "in vain"]);
    let conversation = router.conversations(1).await.remove(0);
    assert_eq!(conversation["last_message"], "in vain");
}
