//! Who may send from which number, and where a message goes.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::harness::databases::postgres;
use crate::harness::messaging::{ANN, BOB, OUTSIDE, RECEIVED, Router, Setup, never, text};

#[tokio::test]
async fn t07_nobody_sends_from_a_number_of_somebody_else() {
    let router = Router::start().await;
    let send = |from: &str| json!({"user_id": 1, "from": from, "to": OUTSIDE, "text": "x"});
    for from in [BOB, "+13125550177"] {
        let answer = router.post("/messages", &send(from)).await;
        assert_eq!(answer.refused(403, "from_not_owned")["field"], "from");
    }
    router.ok("/phone_numbers/suspend", json!({"number": ANN})).await;
    router.post("/messages", &send(ANN)).await.refused(403, "from_not_owned");
    assert_eq!(router.carrier.sends().await.len(), 0);
    assert_eq!(router.conversations(1).await.len(), 0, "a refused message leaves nothing behind");
}

#[tokio::test]
async fn t08_nobody_texts_themselves() {
    let router = Router::start().await;
    for to in [ANN, "(312) 555-0100"] {
        let answer = router.post("/messages", &json!({"user_id": 1, "to": to, "text": "me"})).await;
        answer.refused(422, "self_message");
    }
    assert_eq!(router.carrier.sends().await.len(), 0);
}

#[tokio::test]
async fn t09_a_user_with_two_numbers_can_write_from_one_to_the_other() {
    let router = Router::start().await;
    let second = "+13125550110";
    router.assign(second, 1).await;
    let unclear = router.post("/messages", &json!({"user_id": 1, "to": OUTSIDE, "text": "which?"})).await;
    unclear.refused(422, "from_required");
    let mut own = router.listen("user.1").await;
    let send = json!({"user_id": 1, "from": ANN, "to": second, "text": "note to self"});
    let answer = router.ok("/messages", send).await;
    assert_eq!(answer["internal"], true);
    let received = own.wait_for(RECEIVED).await.json();
    assert_eq!(received["message"]["user_id"], 1);
    assert_ne!(received["conversation"]["id"], answer["conversation"]["id"]);
    assert_eq!(router.conversations(1).await.len(), 2, "two conversations, both theirs");
    assert_eq!(router.carrier.sends().await.len(), 0);

    // What was last used in a conversation is used again; a default decides elsewhere.
    let again = router.send(1, second, "and again").await;
    assert_eq!(again["message"]["from_number"], ANN);
    router.ok("/phone_numbers", json!({"number": second, "user_id": 1, "is_default": true})).await;
    assert_eq!(router.send(1, OUTSIDE, "by default").await["message"]["from_number"], second);
}

#[tokio::test]
async fn t10_what_is_no_phone_number_is_refused_and_never_sent() {
    let router = Router::start().await;
    let refused = [
        "",
        "   ",
        "hello",
        "911",
        "12345",
        "1-800-FLOWERS",
        "+1 312 555 0101 ext. 5",
        "+1312555010",
        "312\u{0}5550101",
        "+1  312  555  0101               0",
        "+",
        "+03125550101",
        "+1234567890123456",
    ];
    for to in refused {
        let answer = router.post("/messages", &json!({"user_id": 1, "to": to, "text": "x"})).await;
        assert_eq!(answer.refused(422, "invalid_number")["field"], "to", "{to:?}");
    }
    // Numbers of other countries stay what they are whatever the own region is.
    for to in ["+4915123456789", "+8613912345678", "+33142764978", "+442071838750"] {
        let answer = router.ok("/phone_numbers/lookup", json!({"number": to})).await;
        assert_eq!((&answer["number"], &answer["internal"]), (&json!(to), &json!(false)));
    }
    assert_eq!(router.carrier.sends().await.len(), 0);
}

#[tokio::test]
async fn t12_a_reassigned_number_reaches_only_its_new_owner() {
    let router = Router::start().await;
    let (mut bob, mut cid) = (router.listen("user.2").await, router.listen("user.3").await);
    router.send(1, BOB, "for Bob").await;
    router.assign(BOB, 3).await;
    router.send(1, BOB, "for Cid").await;
    assert_eq!(bob.wait_for(RECEIVED).await.json()["message"]["text"], "for Bob");
    assert_eq!(cid.wait_for(RECEIVED).await.json()["message"]["text"], "for Cid");
    never(&mut bob, &router, RECEIVED).await;
    never(&mut cid, &router, RECEIVED).await;
    for (user, text) in [(2, "for Bob"), (3, "for Cid")] {
        let conversations = router.conversations(user).await;
        assert_eq!(conversations.len(), 1);
        assert_eq!(conversations[0]["last_message"], text);
    }
}

#[tokio::test]
async fn t13_a_hundred_first_messages_at_once_make_one_conversation_a_side() {
    a_hundred_first_messages(Router::setup()).await;
}

#[tokio::test]
async fn t13_a_hundred_first_messages_at_once_make_one_conversation_a_side_on_postgresql() {
    let database = postgres().await;
    a_hundred_first_messages(Router::setup().store(&database.url)).await;
}

async fn a_hundred_first_messages(setup: Setup) {
    let router = setup.routing("send.user_rate", 0).start().await;
    let router = std::sync::Arc::new(router);
    let mut sends = JoinSet::new();
    for n in 0..50 {
        for (user, to) in [(1, BOB), (2, ANN)] {
            let router = std::sync::Arc::clone(&router);
            sends.spawn(async move { router.send(user, to, &format!("{user}-{n}")).await });
        }
    }
    let answers = sends.join_all().await;
    let mut threads = BTreeSet::new();
    for user in [1, 2] {
        let conversations = router.conversations(user).await;
        assert_eq!(conversations.len(), 1, "{conversations:?}");
        assert_eq!(conversations[0]["unread_count"], 50);
        threads.insert(text(&conversations[0]["thread_id"]));
        let messages = router.messages(user, &conversations[0]["id"]).await;
        // A page has 50 by default at least; all have their own id.
        let ids: BTreeSet<String> = messages.iter().map(|message| message["id"].to_string()).collect();
        assert_eq!(ids.len(), messages.len());
    }
    assert_eq!(threads.len(), 1, "both halves are one thread");
    let ids: BTreeSet<String> = answers.iter().map(|answer| answer["message"]["id"].to_string()).collect();
    assert_eq!(ids.len(), 100);
}

#[tokio::test]
async fn t14_a_number_of_another_app_is_external() {
    let router = Router::setup().app("1002", "").start().await;
    let other = router.server().app_with_id("1002").clone();
    let number = "+13125550120";
    let assign = json!({"number": number, "user_id": 2, "status": "assigned"});
    router.post_as(&other, "/phone_numbers", &assign).await.expect_status(200);
    assert_eq!(router.send(1, number, "to the neighbours").await["internal"], false);
    assert_eq!(router.carrier.sends().await.len(), 1);
    let lookup = router.ok("/phone_numbers/lookup", json!({"number": number})).await;
    assert_eq!((&lookup["internal"], &lookup["status"]), (&json!(false), &Value::Null));
}
