//! Keys of `[routing]` that decide which numbers, ids and events there are. Those of the carrier, and of
//! callbacks and tokens, have files of their own.

use serde_json::{Value, json};

use super::own::includes;
use crate::clients::{Echo, user};
use crate::harness::databases::postgres;
use crate::harness::http::Request;
use crate::harness::messaging::{ANN, BOB, OUTSIDE, RECEIVED, Router, SENT, never, plain, text};

#[tokio::test]
async fn without_a_router_there_is_no_messaging() {
    let router = Router::setup().app("1002", "[apps.routing]\nenabled = false").start().await;
    let other = router.server().app_with_id("1002").clone();
    for (path, body) in [
        ("/conversations", json!({"user_id": 1, "to": OUTSIDE})),
        ("/phone_numbers", json!({"number": ANN, "user_id": 1})),
        ("/user_tokens", json!({"user_id": 1})),
    ] {
        router.post_as(&other, path, &body).await.refused(403, "messaging_disabled");
    }
    let list = other.path("messaging/conversations");
    let answer = Request::get(&other, &list).param("user_id", "1").send(router.server().public).await;
    answer.refused(403, "messaging_disabled");
}

#[tokio::test]
async fn national_numbers_are_of_the_default_region() {
    let router = Router::setup()
        .routing("default_region", "GB")
        .app("1001", "")
        .app("1002", "[apps.routing]\ndefault_region = \"\"")
        .app("1003", "[apps.routing]\ndefault_region = \"DE\"")
        .start()
        .await;
    let lookup = async |app: &str, number: &str| {
        let app = router.server().app_with_id(app).clone();
        router.post_as(&app, "/phone_numbers/lookup", &json!({"number": number})).await
    };
    assert_eq!(lookup("1001", "020 7183 8750").await.json()["number"], "+442071838750");
    assert_eq!(lookup("1003", "0151 23456789").await.json()["number"], "+4915123456789");
    for app in ["1001", "1002", "1003"] {
        assert_eq!(lookup(app, "+1 (312) 555-0100").await.json()["number"], ANN, "{app}");
    }
    let error = lookup("1002", "020 7183 8750").await.refused(422, "invalid_number");
    assert_eq!(error["field"], "number");
}

#[tokio::test]
async fn numbers_are_checked_as_strictly_as_configured() {
    let router = Router::setup()
        .app("1001", "")
        .app("1002", "[apps.routing]\nnumbers.check = \"valid\"")
        .app("1003", "[apps.routing]\nnumbers.allow_letters = true")
        .start()
        .await;
    let cases = [
        // (number, accepted by default, only valid ones, with letters)
        ("+15551234567", true, false, true),
        ("+13122345678", true, true, true),
        ("1-800-FLOWERS", false, false, true),
        ("+1 800 FLOWERS", false, false, true),
        ("12345", false, false, false),
    ];
    for (number, by_default, valid_only, with_letters) in cases {
        for (app, accepted) in [("1001", by_default), ("1002", valid_only), ("1003", with_letters)] {
            let app = router.server().app_with_id(app).clone();
            let answer = router.post_as(&app, "/phone_numbers/lookup", &json!({"number": number})).await;
            assert_eq!(answer.status, if accepted { 200 } else { 422 }, "{number}: {}", answer.text());
            if accepted && number.contains('F') {
                assert_eq!(answer.json()["number"], "+18003569377", "{number}");
            }
        }
    }
}

#[tokio::test]
async fn short_codes_can_be_texted_where_that_is_allowed() {
    let router = Router::setup().routing("numbers.allow_short_codes", true).start().await;
    let answer = router.send(1, "75973", "JOIN").await;
    includes(&answer["message"], &json!({"to_number": "75973", "is_internal": false}));
    let sends = router.carrier.sends().await;
    assert_eq!((sends.len(), &sends[0]["body"]["to"]), (1, &json!("75973")));
    // Never an own number.
    let own = router.post("/phone_numbers", &json!({"number": "75973", "user_id": 1})).await;
    own.refused(422, "invalid_number");
}

#[tokio::test]
async fn each_own_number_can_have_a_thread_of_its_own() {
    let second = "+13125550110";
    for (key, threads) in [("user+contact", 1), ("number+contact", 2)] {
        let router = Router::setup().routing("conversation.key", key).start().await;
        router.assign(second, 1).await;
        for from in [ANN, second] {
            router.ok("/messages", json!({"user_id": 1, "from": from, "to": OUTSIDE, "text": from})).await;
        }
        let conversations = router.conversations(1).await;
        assert_eq!(conversations.len(), threads, "{key}: {conversations:?}");
        if threads == 2 {
            assert_ne!(conversations[0]["phone_number"], conversations[1]["phone_number"]);
        }
        let mut ann = router.listen("user.1").await;
        router.carrier.inbound(json!({"from": OUTSIDE, "to": ANN, "text": "back"})).await;
        let back = ann.wait_for(RECEIVED).await.json();
        assert_eq!(router.conversations(1).await.len(), threads, "{key}");
        includes(&back["message"], &json!({"to_number": ANN}));
    }
}

#[tokio::test]
async fn ulids_stand_in_the_api_in_events_and_in_channels() {
    let router = Router::setup().routing("ids.kind", "ulid").start().await;
    let mut bob = router.listen("user.2").await;
    let mut ann = router.thread(1, BOB).await;
    let sent = router.send(1, BOB, "Hello").await;
    let heard = ann.hear(SENT).await.json();
    assert_eq!(heard["message"], sent["message"]);
    let theirs = bob.wait_for(RECEIVED).await.json();
    for id in [
        &sent["message"]["id"],
        &sent["message"]["contact_id"],
        &sent["conversation"]["id"],
        &sent["conversation"]["contact"]["id"],
        &theirs["message"]["id"],
        &theirs["conversation"]["id"],
    ] {
        let id = text(id);
        let is_ulid = id.len() == 26 && id.bytes().all(|c| c.is_ascii_digit() || c.is_ascii_alphabetic());
        assert!(is_ulid, "{id}");
    }
    // Every call takes them.
    assert_eq!(router.message(1, &sent["message"]["id"]).await, sent["message"]);
    let conversation = plain(&theirs["conversation"]["id"]);
    router.ok(&format!("/conversations/{conversation}/typing"), json!({"user_id": 2, "typing": true})).await;
    let read = json!({"user_id": 2, "up_to": theirs["message"]["id"]});
    assert_eq!(router.ok(&format!("/conversations/{conversation}/read"), read).await["marked"], 1);
    let edit = format!("/messages/{}/edit", plain(&sent["message"]["id"]));
    router.ok(&edit, json!({"user_id": 1, "text": "Hello!"})).await;
    for n in 0..2 {
        router.send(1, BOB, &n.to_string()).await;
    }
    let path = format!("/conversations/{conversation}/messages");
    let first = router.get(&path, &[("user_id", "2"), ("limit", "2")]).await;
    let second = router.get(&path, &[("user_id", "2"), ("before", &plain(&first["next"]))]).await;
    assert_eq!((&second["messages"][0]["text"], &second["next"]), (&json!("Hello!"), &Value::Null));
    // A number is nobody's id here.
    router.try_get("/messages/1", &[("user_id", "1")]).await.refused(404, "not_found");
}

#[tokio::test]
async fn user_ids_can_always_be_strings() {
    let router = Router::setup().routing("ids.user_json", "string").start().await;
    let mut bob = router.listen("user.2").await;
    let sent = router.send(1, BOB, "Hello").await;
    let received = bob.wait_for(RECEIVED).await.json();
    for (part, user) in [(&sent, "1"), (&received, "2")] {
        assert_eq!(part["message"]["user_id"], user);
        assert_eq!(part["conversation"]["user_id"], user);
        assert_eq!(part["conversation"]["contact"]["user_id"], user);
    }
    let numbers = router.get("/phone_numbers", &[("user_id", "1")]).await;
    assert_eq!(numbers["phone_numbers"][0]["user_id"], "1");
}

#[tokio::test]
async fn nobody_learns_who_is_a_user_when_that_is_hidden() {
    let router = Router::setup().routing("expose_internal", false).start().await;
    let mut bob = router.listen("user.2").await;
    let mut ann = router.thread(1, BOB).await;
    let sent = router.send(1, BOB, "Hello").await;
    let received = bob.wait_for(RECEIVED).await.json();
    let listed = json!({
        "conversation": router.conversations(1).await[0],
        "message": router.message(1, &sent["message"]["id"]).await,
    });
    let heard = ann.hear(SENT).await.json();
    for answer in [&sent, &received, &listed, &heard] {
        for place in
            ["/conversation/contact/is_internal", "/conversation/is_internal", "/message/is_internal"]
        {
            assert_eq!(answer.pointer(place), Some(&Value::Null), "{place} of {answer}");
        }
    }
    let page = router.listen("user.2").await;
    ann.never(&router, r"App\Events\ContactPresence").await;
    drop(page);
}

#[tokio::test]
async fn bare_and_renamed_events_reach_the_listeners_that_name_them() {
    let router = Router::setup()
        .routing("events.namespace", "")
        .routing("events.rename", json!(["MessageReceived=SmsReceived"]))
        .start()
        .await;
    let mut echo = Echo::start("2", "8", "pusher");
    echo.connect("bob", router.server(), user("2")).await;
    echo.chain("bob", json!([["channel", "user.2"], ["listen", ".SmsReceived"]])).await;
    echo.subscribed("bob", "user.2").await;
    let mut bare = router.listen("user.2").await;
    let mut ann = router.thread(1, BOB).await;
    router.send(1, BOB, "Hello").await;
    includes(&echo.heard("bob", "listen").await["message"], &json!({"text": "Hello"}));
    bare.wait_for("SmsReceived").await;
    ann.hear("MessageSent").await;
    for name in ["MessageReceived", RECEIVED] {
        never(&mut bare, &router, name).await;
    }
}

#[tokio::test]
async fn events_with_ids_only_still_fire_the_pages_listeners() {
    let router = Router::setup().routing("payload", "ids").start().await;
    let mut echo = Echo::start("2", "8", "pusher");
    echo.connect("ann", router.server(), user("1")).await;
    echo.chain("ann", json!([["channel", "user.1"], ["listen", "MessageReceived"]])).await;
    echo.subscribed("ann", "user.1").await;
    let mut page = router.listen("user.1").await;
    router.carrier.inbound(json!({"from": OUTSIDE, "to": ANN, "text": "confidential"})).await;
    let heard = echo.heard("ann", "listen").await;
    includes(&heard["message"], &json!({"status": "received", "direction": "INBOUND"}));
    let frame = page.wait_for(RECEIVED).await.text;
    for secret in ["confidential", ANN, OUTSIDE] {
        assert!(!frame.contains(secret), "{frame}");
    }
}

#[tokio::test]
async fn an_app_sends_no_more_than_its_rate() {
    let router = Router::setup().routing("send.app_rate", 1).routing("send.user_rate", 0).start().await;
    let send = |user: u64, to: &str| json!({"user_id": user, "to": to, "text": "x"});
    let mut refused = None;
    for n in 0..50_u64 {
        let (user, to) = if n % 2 == 0 { (1, BOB) } else { (2, ANN) };
        let answer = router.post("/messages", &send(user, to)).await;
        if answer.status != 200 {
            refused = Some(answer);
            break;
        }
    }
    let refused = refused.expect("fifty messages take less than fifty seconds");
    assert_eq!(refused.header("retry-after"), Some("1"));
    refused.refused(429, "rate_limited");
}

#[tokio::test]
async fn a_window_of_nothing_forbids_editing() {
    let router = Router::setup().routing("features.edit_window", "0s").start().await;
    let sent = router.send(1, BOB, "final").await;
    let path = format!("/messages/{}", plain(&sent["message"]["id"]));
    let edit = router.post(&format!("{path}/edit"), &json!({"user_id": 1, "text": "changed"})).await;
    edit.refused(409, "not_editable");
    let delete = json!({"user_id": 1, "scope": "everyone"});
    router.post(&format!("{path}/delete"), &delete).await.refused(409, "not_editable");
    router.ok(&format!("{path}/delete"), json!({"user_id": 1, "scope": "me"})).await;
}

#[tokio::test]
async fn public_channels_are_warned_of_until_that_is_acknowledged() {
    let warning = "anyone with the app key";
    for (key, value, is_warned) in [
        ("channels.public_acknowledged", json!(false), true),
        ("channels.public_acknowledged", json!(true), false),
        ("channels.mode", json!("private"), false),
        ("payload", json!("ids"), false),
    ] {
        let router = Router::setup().routing(key, value.clone()).start().await;
        // It is told before the server listens.
        assert_eq!(router.server().output().contains(warning), is_warned, "{key} = {value}");
    }
}

/// Broadcasts that the server was killed before it could forget.
fn left_over(router: &Router) -> i64 {
    let store = rusqlite::Connection::open(router.database_file()).expect("the server's own file");
    let sql = "SELECT COUNT(*) FROM outbox WHERE kind = 'broadcast'";
    store.query_row(sql, [], |row| row.get(0)).expect("a count")
}

#[tokio::test]
async fn an_event_that_a_crash_left_behind_is_sent_unless_it_is_too_old() {
    for (max_age, is_sent) in [("1h", true), ("1s", false)] {
        let mut router = Router::setup().routing("broadcast.max_age", max_age).start().await;
        // Killed right behind a message, the server has not deleted what it did; nearly always.
        loop {
            router.send(1, BOB, "left over").await;
            router.kill();
            if left_over(&router) > 0 {
                break;
            }
            router.revive();
        }
        router.revive();
        let mut bob = router.listen("user.2").await;
        if is_sent {
            let again = bob.wait_for(RECEIVED).await.json();
            includes(&again["message"], &json!({"text": "left over"}));
        }
        let expired = u64::from(!is_sent);
        router.measures(&format!("switchboard_broadcasts_expired_total {expired}")).await;
        never(&mut bob, &router, RECEIVED).await;
    }
}

#[tokio::test]
async fn the_store_has_no_more_connections_than_its_pool() {
    let database = postgres().await;
    let tables = format!("[store]\npool = 3\nurl = {}", json!(database.url));
    let router = std::sync::Arc::new(Router::setup().tables(&tables).start().await);
    let mut sends = tokio::task::JoinSet::new();
    for n in 0..20 {
        let router = std::sync::Arc::clone(&router);
        sends.spawn(async move { router.send(1, BOB, &n.to_string()).await });
    }
    sends.join_all().await;
    assert_eq!(database.connections().await, 3);
}
