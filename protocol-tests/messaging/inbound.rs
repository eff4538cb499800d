//! What comes from outside: read whatever it looks like, kept whoever it is for, in the order in which it came.

use std::time::Duration;

use serde_json::{Value, json};

use super::own::includes;
use super::portal_database::directory;
use crate::harness::databases::{mariadb, postgres};
use crate::harness::messaging::{ANN, BOB, OUTSIDE, RECEIVED, Router, STATUS, Setup, text};
use crate::harness::server::{binary, run};
use crate::harness::webhook::{event, inbound};
use crate::harness::{DEADLINE, on_a_large_stack, within};

each_store! {
    Router::setup().own_webhooks() =>
    what_strict_json_refuses_is_delivered;
    what_can_not_be_read_is_kept_and_listed;
    every_kind_of_webhook_is_kept_where_it_belongs;
    a_thread_keeps_the_order_of_receipt;
    unrouted_messages_are_listed_and_given_to_who_gets_the_number;
    unrouted_messages_go_before_what_comes_later;
    what_is_too_old_is_not_given_to_a_numbers_new_owner;
    a_sender_is_one_contact_however_it_is_written;
    the_carriers_time_is_kept;
}

/// The texts of a user's only conversation, the oldest first, once there are so many.
async fn texts(router: &Router, user: u64, count: usize) -> Vec<String> {
    let conversations = router.conversations(user).await;
    assert_eq!(conversations.len(), 1, "{conversations:?}");
    let messages = router.messages(user, &conversations[0]["id"]).await;
    let texts: Vec<String> = messages.iter().rev().map(|message| text(&message["text"])).collect();
    assert_eq!(texts.len(), count, "{texts:?}");
    texts
}

fn numbered(count: usize) -> Vec<String> {
    (1..=count).map(|number| number.to_string()).collect()
}

/// Waits until nothing of the carrier's waits to be processed.
async fn processed(router: &Router) {
    let done = async {
        while router.get("/status", &[]).await["inbox"]["count"] != 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    within(DEADLINE * 2, "the inbox is empty", done).await;
}

async fn what_strict_json_refuses_is_delivered(setup: Setup) {
    let router = setup.start().await;
    let mut ann = router.listen("user.1").await;
    let body = |text: &str| inbound(OUTSIDE, ANN, "TEXT").to_string().replace("TEXT", text).into_bytes();
    let with = |find: &str, replace: &[u8]| {
        let body = inbound(OUTSIDE, ANN, "FIND").to_string();
        let (before, after) = body.split_once(find).expect(find);
        [before.as_bytes(), replace, after.as_bytes()].concat()
    };
    let deep = format!("\"media\":{}1{}", "[".repeat(20_000), "]".repeat(20_000));
    for (bytes, read) in [
        (body(r"cut \ud83d"), "cut \u{fffd}"),
        (body(r"\ude00 cut"), "\u{fffd} cut"),
        (body(r"whole \ud83d\ude00"), "whole 😀"),
        (body(r"literal \\ud83d"), r"literal \ud83d"),
        (with("FIND", b"caf\xe9"), "caf\u{fffd}"),
        (with("FIND", b"bell \x07 and tab \t"), "bell \u{7} and tab \t"),
        (with("FIND", b"null \\u0000"), "null \u{fffd}"),
        (with("\"media\":[]", deep.as_bytes()), "FIND"),
        (with("\"media\":[]", br#""subject":"\ud83d","tags":["\xff"]"#), "FIND"),
        (with("\"text\":\"FIND\"", br#""text":"first","text":"last""#), "last"),
        (with("\"media\":[]", b"\"parts\":1e999,\"cost\":NaN"), "FIND"),
        ([b"\xef\xbb\xbf".as_slice(), &body("mark")].concat(), "mark"),
    ] {
        router.webhook_bytes(&bytes).await;
        let event = ann.wait_for(RECEIVED).await.json();
        assert_eq!(event["message"]["text"], read, "{}", String::from_utf8_lossy(&bytes));
    }
}

async fn what_can_not_be_read_is_kept_and_listed(setup: Setup) {
    let router = setup.start().await;
    let no_id =
        event("message.received", json!({"from": {"phone_number": OUTSIDE}, "to": ANN, "text": "hello"}));
    let cut = inbound(OUTSIDE, ANN, "cut off").to_string();
    let cases = [
        (b"<html>\xff</html>".to_vec(), "the webhook is not JSON"),
        (cut[..cut.len() - 30].into(), "the webhook is not JSON"),
        (b"{\"data\":{\"event_type\":\"message.received\"}}".to_vec(), "the webhook has no data.id"),
        (no_id.to_string().into_bytes(), "the webhook has no payload.id"),
    ];
    for (bytes, _) in &cases {
        router.webhook_bytes(bytes).await;
        // As the carrier does that got no answer.
        router.webhook_bytes(bytes).await;
    }
    let listed = router.get("/carrier_events", &[("state", "set_aside")]).await;
    let events = listed["carrier_events"].as_array().expect("a list");
    assert_eq!(events.len(), cases.len(), "{listed}");
    for (event, (bytes, reason)) in events.iter().zip(&cases) {
        let expected = json!({"reason": reason, "size": bytes.len(), "body": String::from_utf8_lossy(bytes),
            "state": "set_aside", "truncated": false});
        includes(event, &expected);
    }
    router.measures(r#"switchboard_carrier_webhooks_total{result="set_aside"} 4"#).await;
    router.logged("set a carrier webhook aside", 4);
    assert_eq!(router.conversations(1).await.len(), 0);
    // One at a time, and one in full.
    let first = router.get("/carrier_events", &[("limit", "1")]).await;
    assert_eq!(first["next"], events[0]["id"]);
    let shown = router.get(&format!("/carrier_events/{}", events[3]["id"]), &[]).await;
    assert_eq!(shown["carrier_event"], events[3]);
    router.try_get("/carrier_events/999999", &[]).await.refused(404, "not_found");
}

/// Rows of `data/telnyx-webhooks.jsonl`: the event, and what becomes of it.
async fn every_kind_of_webhook_is_kept_where_it_belongs(setup: Setup) {
    let mut router = setup.portal().start().await;
    let mut ann = router.listen("user.1").await;
    for line in include_str!("../data/telnyx-webhooks.jsonl").lines() {
        let row: Value = serde_json::from_str(line).expect("JSON");
        let (case, want, event) = (&row["case"], &row["want"], &row["event"]);
        assert!(row["source"].is_string(), "{case}");
        router.webhook(event).await;
        router.webhook(event).await;
        let id = &event["data"]["payload"]["id"];
        if want["message"].is_object() {
            let told = ann.wait_for(RECEIVED).await.json();
            includes(&told["message"], &want["message"]);
            assert_eq!(&told["message"]["telnyx_message_id"], id, "{case}");
        } else if want["unrouted"].is_object() {
            let told = router.portal().event("message_unrouted").await;
            includes(&told["data"], &want["unrouted"]);
            let listed = router.get("/unrouted_messages", &[]).await;
            let last = listed["messages"].as_array().and_then(|list| list.last()).expect("listed").clone();
            assert_eq!(&last["telnyx_message_id"], id, "{case}");
            includes(&last, &want["unrouted"]);
            assert_eq!(last["state"], "waiting", "{case}");
        } else if want["noted"].is_string() {
            let kind = text(&want["noted"]);
            let listed = router.get("/carrier_events", &[("event_type", &kind)]).await;
            let events = listed["carrier_events"].as_array().expect("a list");
            assert_eq!(events.len(), 1, "{case}: {listed}");
            includes(
                &events[0],
                &json!({"state": "noted", "event_type": kind, "event_id": event["data"]["id"]}),
            );
            assert!(text(&events[0]["body"]).contains("\"payload\""), "{case}");
        } else {
            assert_eq!(want["nothing"], true, "{case}");
        }
    }
    router.measures(r#"switchboard_carrier_webhooks_total{result="other_kind"} 4"#).await;
}

#[tokio::test]
async fn a_read_receipt_of_the_carrier_marks_the_message_read() {
    let mut router = Router::setup().portal().carrier(&["--manual-finalize"]).start().await;
    let mut ann = router.thread(1, OUTSIDE).await;
    let id = router.send(1, OUTSIDE, "hello").await["message"]["id"].clone();
    ann.reaches(&id, "sent").await;
    let carriers_id = text(&router.carrier.messages().await[0]["id"]);
    let payload = json!({"record_type": "message", "direction": "outbound", "id": carriers_id, "type": "RCS",
        "to": [{"phone_number": OUTSIDE, "status": "read"}]});
    router.carrier.event(json!({"event_type": "message.read", "payload": payload})).await;
    let told = loop {
        let told = ann.hear(STATUS).await.json();
        if told["message"]["status"] == "read" {
            break told;
        }
    };
    assert_eq!(told["previous_status"], "sent");
    let message = router.message(1, &id).await;
    includes(&message, &json!({"status": "read", "carrier_status": "read"}));
    assert!(message["read_at"].is_string() && message["delivered_at"].is_string(), "{message}");
    while router.portal().event("message_status").await["data"]["message"]["status"] != "read" {}
    // What comes late does not lead back.
    router.carrier.finalize(&carriers_id, "delivered", &[]).await;
    router.carrier.wait("events_delivered=3&idle=1").await;
    assert_eq!(router.message(1, &id).await["status"], "read");
}

async fn a_thread_keeps_the_order_of_receipt(setup: Setup) {
    let mut router = setup.portal().start().await;
    let mut ann = router.listen("user.1").await;
    for round in 0..5 {
        let contact = format!("+1415555010{round}");
        for number in numbered(8) {
            // Each when the last one was answered.
            router.webhook(&inbound(&contact, ANN, &number)).await;
        }
        processed(&router).await;
        for (count, number) in numbered(8).into_iter().enumerate() {
            let told = ann.wait_for(RECEIVED).await.json();
            assert_eq!(told["message"]["text"], number.as_str(), "round {round}");
            includes(&told["conversation"], &json!({"last_message": number, "unread_count": count + 1}));
            let told = router.portal().event("message_received").await;
            assert_eq!(told["data"]["message"]["text"], number.as_str(), "round {round}");
        }
        let conversation = &router.conversations(1).await[0];
        includes(conversation, &json!({"last_message": "8", "unread_count": 8}));
        let stored = router.messages(1, &conversation["id"]).await;
        let stored: Vec<String> = stored.iter().rev().map(|message| text(&message["text"])).collect();
        assert_eq!(stored, numbered(8), "round {round}");
    }
}

#[tokio::test]
async fn nodes_that_share_a_store_keep_the_order_of_receipt() {
    let database = postgres().await;
    let setup = || Router::setup().own_webhooks().store(&database.url);
    let nodes = [setup().start().await, setup().start().await];
    for (count, number) in numbered(40).into_iter().enumerate() {
        nodes[count % 2].webhook(&inbound(OUTSIDE, ANN, &number)).await;
    }
    processed(&nodes[0]).await;
    assert_eq!(texts(&nodes[0], 1, 40).await, numbered(40));
    assert_eq!(nodes[1].conversations(1).await[0]["last_message"], "40");
}

/// The store of the server, which is another database than the portal's.
async fn waits_for_the_portal(setup: Setup, portal: crate::harness::databases::Database) {
    let router = setup.start().await;
    let mut bob = router.listen("user.2").await;
    router.webhook(&inbound(OUTSIDE, ANN, "1")).await;
    processed(&router).await;
    portal.run("ALTER TABLE phone_numbers RENAME TO gone").await;
    for number in ["2", "3", "4"] {
        router.webhook(&inbound(OUTSIDE, ANN, number)).await;
    }
    router.logged("keeps an inbound message for later", 1);
    portal.run("ALTER TABLE gone RENAME TO phone_numbers").await;
    // Those that wait are not tried at once, and what comes now is behind them.
    router.webhook(&inbound(OUTSIDE, ANN, "5")).await;
    router.webhook(&inbound(OUTSIDE, BOB, "other thread")).await;
    assert_eq!(bob.wait_for(RECEIVED).await.json()["message"]["text"], "other thread");
    router.webhook(&inbound(OUTSIDE, ANN, "6")).await;
    processed(&router).await;
    assert_eq!(texts(&router, 1, 6).await, numbered(6));

    // A number that the portal gives to two users holds up its own threads only.
    portal.run(&format!("INSERT INTO phone_numbers VALUES (9, '{ANN}', 'assigned', 1)")).await;
    router.webhook(&inbound(OUTSIDE, ANN, "7")).await;
    router.webhook(&inbound(OUTSIDE, BOB, "meanwhile")).await;
    assert_eq!(bob.wait_for(RECEIVED).await.json()["message"]["text"], "meanwhile");
    router.webhook(&inbound(OUTSIDE, ANN, "8")).await;
    assert_eq!(texts(&router, 1, 6).await, numbered(6));
    portal.run("DELETE FROM phone_numbers WHERE user_id = 9").await;
    processed(&router).await;
    assert_eq!(texts(&router, 1, 8).await, numbered(8));
}

#[test]
fn messages_that_wait_for_the_portal_are_not_overtaken_on_sqlite() {
    on_a_large_stack(async || {
        let portal = mariadb().await;
        let setup = directory(&portal).await.own_webhooks();
        waits_for_the_portal(setup, portal).await;
    });
}

#[test]
fn messages_that_wait_for_the_portal_are_not_overtaken_on_postgresql() {
    on_a_large_stack(async || {
        let (portal, store) = (postgres().await, postgres().await);
        let setup = directory(&portal).await.own_webhooks().store(&store.url);
        waits_for_the_portal(setup, portal).await;
    });
}

#[tokio::test]
async fn a_backlog_is_worked_off_in_order_after_a_restart() {
    let mut router = Router::setup().own_webhooks().start().await;
    let store = || {
        let store = rusqlite::Connection::open(router.database_file()).expect("the server's own file");
        store.busy_timeout(DEADLINE).expect("a setting");
        store
    };
    let poison = "CREATE TRIGGER poison BEFORE INSERT ON messages WHEN NEW.to_number = '+13125550100' \
                  BEGIN SELECT RAISE(ABORT, 'not now'); END";
    store().execute_batch(poison).expect("a trigger");
    for number in numbered(5) {
        router.webhook(&inbound(OUTSIDE, ANN, &number)).await;
    }
    let mut bob = router.listen("user.2").await;
    router.webhook(&inbound(OUTSIDE, BOB, "other thread")).await;
    assert_eq!(bob.wait_for(RECEIVED).await.json()["message"]["text"], "other thread");
    drop(bob);
    store().execute_batch("DROP TRIGGER poison").expect("dropped");
    router.revive();
    for number in ["6", "7"] {
        router.webhook(&inbound(OUTSIDE, ANN, number)).await;
    }
    processed(&router).await;
    assert_eq!(texts(&router, 1, 7).await, numbered(7));
}

const SPARE: &str = "+13125550166";

async fn unrouted_messages_are_listed_and_given_to_who_gets_the_number(setup: Setup) {
    let mut router = setup.portal().start().await;
    for (contact, texts) in [(OUTSIDE, ["1", "3"]), ("ACME", ["2", "4"])] {
        for text in texts {
            router.webhook(&inbound(contact, SPARE, text)).await;
        }
    }
    let listed = router.get("/unrouted_messages", &[("number", SPARE), ("state", "waiting")]).await;
    let waiting = listed["messages"].as_array().expect("a list");
    assert_eq!(waiting.len(), 4, "{listed}");
    let first = json!({"from_number": OUTSIDE, "to_number": SPARE, "text": "1", "type": "SMS", "delivered_at": null,
        "sent_at": "2026-11-30T10:00:00.000000Z"});
    includes(&waiting[0], &first);
    for _ in 0..4 {
        let told = router.portal().event("message_unrouted").await;
        assert_eq!(told["data"]["to_number"], SPARE);
    }

    let mut carla = router.listen("user.3").await;
    router.assign(SPARE, 3).await;
    let mut seen = Vec::new();
    for _ in 0..4 {
        let told = carla.wait_for(RECEIVED).await.json();
        assert_eq!(told["late"], true, "{told}");
        let expected = json!({"status": "received", "user_id": 3, "to_number": SPARE,
            "sent_at": "2026-11-30T10:00:00.000000Z"});
        includes(&told["message"], &expected);
        seen.push((text(&told["message"]["from_number"]), text(&told["message"]["text"])));
        let told = router.portal().event("message_received").await;
        assert_eq!(told["data"]["late"], true, "{told}");
    }
    let expected = [(OUTSIDE, "1"), (OUTSIDE, "3"), ("ACME", "2"), ("ACME", "4")];
    assert_eq!(seen, expected.map(|(contact, text)| (contact.to_owned(), text.to_owned())));
    let conversations = router.conversations(3).await;
    assert_eq!(conversations.len(), 2);
    assert!(conversations.iter().all(|conversation| conversation["unread_count"] == 2), "{conversations:?}");
    let listed = router.get("/unrouted_messages", &[("state", "delivered")]).await;
    assert_eq!(listed["messages"].as_array().map(Vec::len), Some(4), "{listed}");

    // Once: neither who has it still nor who gets it next is given them again.
    for user in [3, 4] {
        router.assign(SPARE, user).await;
    }
    router.webhook(&inbound(OUTSIDE, SPARE, "5")).await;
    assert_eq!(texts(&router, 4, 1).await, ["5"]);
    assert_eq!(router.conversations(3).await.len(), 2);
}

async fn unrouted_messages_go_before_what_comes_later(setup: Setup) {
    let router = setup.start().await;
    for number in ["1", "2"] {
        router.webhook(&inbound(OUTSIDE, SPARE, number)).await;
    }
    router.assign(SPARE, 3).await;
    router.webhook(&inbound(OUTSIDE, SPARE, "3")).await;
    assert_eq!(texts(&router, 3, 3).await, numbered(3));
}

async fn what_is_too_old_is_not_given_to_a_numbers_new_owner(setup: Setup) {
    let router = setup.routing("inbound.deliver_unrouted", "0s").start().await;
    router.webhook(&inbound(OUTSIDE, SPARE, "for somebody else")).await;
    router.assign(SPARE, 3).await;
    router.webhook(&inbound(OUTSIDE, SPARE, "mine")).await;
    assert_eq!(texts(&router, 3, 1).await, ["mine"]);
    let listed = router.get("/unrouted_messages", &[("state", "waiting")]).await;
    assert_eq!(listed["messages"][0]["text"], "for somebody else");
}

#[tokio::test]
async fn unrouted_messages_are_given_to_who_gets_the_number_by_import() {
    let router = Router::setup().own_webhooks().start().await;
    router.webhook(&inbound(OUTSIDE, SPARE, "hello")).await;
    let mut carla = router.listen("user.3").await;
    let folder = router.server().folder();
    std::fs::write(folder.join("numbers.csv"), format!("number,user_id\n{SPARE},3\n")).expect("written");
    let mut command = binary();
    command.current_dir(&folder).args(["numbers", "import", "numbers.csv"]);
    let done = run(command, "");
    assert_eq!(done.code, Some(0), "{done:?}");
    let told = carla.wait_for(RECEIVED).await.json();
    assert_eq!((&told["late"], &told["message"]["text"]), (&json!(true), &json!("hello")), "{told}");
}

#[tokio::test]
async fn unrouted_messages_are_given_to_who_gets_the_number_in_the_portals_tables() {
    let portal = postgres().await;
    let router = directory(&portal).await.own_webhooks().start().await;
    for number in ["1", "2"] {
        router.webhook(&inbound(OUTSIDE, SPARE, number)).await;
    }
    processed(&router).await;
    let mut carla = router.listen("user.3").await;
    portal.run(&format!("INSERT INTO phone_numbers VALUES (3, '{SPARE}', 'assigned', 1)")).await;
    for number in ["1", "2"] {
        let told = carla.wait_for(RECEIVED).await.json();
        assert_eq!((&told["late"], &told["message"]["text"]), (&json!(true), &json!(number)), "{told}");
    }
    assert_eq!(texts(&router, 3, 2).await, numbered(2));
}

async fn a_sender_is_one_contact_however_it_is_written(setup: Setup) {
    let router = setup.start().await;
    let long = "northern.lights.travel.and.leisure.notifications@mail.example.com";
    let other = "northern.lights.travel.and.leisure.offers@mail.example.com";
    for (written, contact) in [
        ("+14155550199", "+14155550199"),
        ("4155550199", "+14155550199"),
        ("(415) 555-0199", "+14155550199"),
        ("1 415 555 0199", "+14155550199"),
        ("\u{200e}+1 415 555 0199\u{200b}", "+14155550199"),
        ("75973", "+75973"),
        ("+75973", "+75973"),
        (long, long),
        (other, other),
        ("ACME", "ACME"),
        ("\u{feff}ACME \u{200d}", "ACME"),
        ("Acme", "Acme"),
        ("+5215512345678", "+5215512345678"),
        (&"x".repeat(6_000), ""),
    ] {
        router.webhook(&inbound(written, ANN, written)).await;
        processed(&router).await;
        let newest = &router.conversations(1).await[0];
        assert_eq!(newest["last_message"], written);
        if !contact.is_empty() {
            assert_eq!(newest["contact"]["phone_number"], contact, "{written:?}");
        }
    }
    assert_eq!(router.conversations(1).await.len(), 8);
}

async fn the_carriers_time_is_kept(setup: Setup) {
    let router = setup.start().await;
    let mut ann = router.listen("user.1").await;
    let at = |sent: Value, received: Value| {
        let mut event = inbound(OUTSIDE, ANN, "hello");
        event["data"]["payload"]["sent_at"] = sent;
        event["data"]["payload"]["received_at"] = received;
        event
    };
    // The second one says that it was sent before the first, and comes after it all the same.
    for (event, sent_at) in [
        (at(Value::Null, json!("2026-11-29T08:00:00.250+00:00")), "2026-11-29T08:00:00.250000Z"),
        (at(json!("2026-11-28T08:00:00Z"), json!("2026-11-29T08:00:00Z")), "2026-11-28T08:00:00.000000Z"),
        (at(Value::Null, Value::Null), "2026-11-30T10:00:00.000000Z"),
    ] {
        router.webhook(&event).await;
        assert_eq!(ann.wait_for(RECEIVED).await.json()["message"]["sent_at"], sent_at);
        let newest = &router.messages(1, &router.conversations(1).await[0]["id"]).await[0];
        assert_eq!(newest["sent_at"], sent_at);
    }
}
