use serde_json::json;

use super::worker::{due, process};
use crate::routing::records::Message;
use crate::routing::status::Status;
use crate::routing::test_support::Lab;
use crate::storage;

const SOMEBODY: &str = "+13125559999";

/// A report of a message that the carrier knows by this id.
fn report(carrier_id: &str, kind: &str, status: &str) -> Vec<u8> {
    let payload = json!({"record_type": "message", "direction": "outbound", "id": carrier_id, "type": "SMS",
        "from": {"phone_number": "+13125550100"}, "to": [{"phone_number": SOMEBODY, "status": status}],
        "text": "hello", "errors": []});
    let body = json!({"data": {"id": format!("{carrier_id}-{kind}"), "event_type": kind, "record_type": "event",
        "occurred_at": "2026-11-22T19:13:31.148+00:00", "payload": payload}});
    body.to_string().into_bytes()
}

impl Lab {
    async fn sent(&self, text: &str, carrier_id: &'static str) -> Message {
        let message = self.send("7", SOMEBODY, text).await;
        let row = message.id;
        self.write(move |tx| {
            tx.execute(
                "UPDATE messages SET telnyx_message_id = ?2, status_at = 0 WHERE id = ?1",
                &[row.into(), carrier_id.into()],
            )
        })
        .await;
        message
    }

    async fn take_in(&self, body: impl Into<storage::Value>) {
        let body = body.into();
        self.write(move |tx| {
            tx.execute(
                "INSERT INTO inbox (app_id, event_id, body, state, attempts, not_before, locked_until, received_at) \
                 SELECT '1001', 'e' || COUNT(*), ?1, 'pending', 0, 0, 0, ?2 FROM inbox",
                &[body.clone(), storage::now().into()],
            )
        })
        .await;
    }

    /// One round.
    async fn process(&self) {
        for entry in due(&self.router, &std::collections::HashMap::new()).await.expect("readable") {
            process(&self.router, entry).await;
        }
    }

    async fn inbox(&self) -> Vec<String> {
        self.texts("SELECT state FROM inbox ORDER BY id").await
    }
}

#[tokio::test]
async fn one_bad_row_keeps_back_no_other() {
    let lab = Lab::new().await;
    lab.sent("bad", "bad").await;
    let good = lab.sent("good", "good").await;
    lab.sql("UPDATE messages SET status = 'x' WHERE body = 'bad'").await;
    // No bytes, no JSON, no message that can be read, an unknown one; and of an app that is gone.
    lab.take_in("text").await;
    lab.take_in(b"{".to_vec()).await;
    lab.take_in(report("bad", "message.finalized", "delivered")).await;
    lab.take_in(report("unknown", "message.finalized", "delivered")).await;
    lab.take_in(report("good", "message.finalized", "delivered")).await;
    lab.sql("UPDATE inbox SET app_id = 'gone' WHERE id = 4").await;
    lab.process().await;
    assert_eq!(lab.inbox().await, ["set_aside", "set_aside", "pending", "set_aside", "done"]);
    assert_eq!(lab.message(good.id).await.status, Status::Delivered);
    // The one that may still come right is not tried again at once.
    lab.process().await;
    assert_eq!(lab.texts("SELECT CAST(attempts AS TEXT) FROM inbox WHERE id = 3").await, ["1"]);
    // Nor for ever.
    for failures in 2..=8 {
        assert_eq!(lab.texts("SELECT state FROM inbox WHERE id = 3").await, ["pending"], "{failures}");
        lab.sql("UPDATE inbox SET not_before = 0 WHERE id = 3").await;
        lab.process().await;
    }
    let seen = lab.texts("SELECT state || ': ' || reason FROM inbox WHERE id = 3").await;
    assert_eq!(seen, ["set_aside: the message store has a fault: a message's column is not a status"]);
}

/// A message to user 7 that the carrier knows by this id.
fn inbound(to: &[&str], text: &str) -> Vec<u8> {
    let payload = json!({"record_type": "message", "direction": "inbound", "id": text, "type": "SMS",
        "from": {"phone_number": SOMEBODY}, "to": to, "text": text});
    let body = json!({"data": {"id": text, "event_type": "message.received", "record_type": "event",
        "payload": payload}});
    body.to_string().into_bytes()
}

const ANN: &str = "+13125550100";
const BOB: &str = "+13125550101";

#[tokio::test]
async fn a_message_that_can_not_be_processed_does_not_hold_its_thread_for_ever() {
    let lab = Lab::new().await;
    lab.sql(
        "CREATE TRIGGER poison BEFORE INSERT ON messages WHEN NEW.body = 'poison' \
         BEGIN SELECT RAISE(ABORT, 'never'); END",
    )
    .await;
    // Two threads, of which the second message is in both.
    for (to, text) in [(&[ANN][..], "poison"), (&[ANN, BOB], "both"), (&[BOB], "second"), (&[ANN], "last")] {
        lab.take_in(inbound(to, text)).await;
    }
    super::adopt(&lab.router).await.expect("adopted");
    assert_eq!(lab.inbox().await, ["pending", "queued", "queued", "queued"]);
    for _ in 0..8 {
        assert_eq!(lab.inbox().await, ["pending", "queued", "queued", "queued"]);
        lab.sql("UPDATE inbox SET not_before = 0").await;
        lab.process().await;
    }
    assert_eq!(lab.inbox().await, ["set_aside", "pending", "queued", "queued"]);
    lab.process().await;
    assert_eq!(lab.inbox().await, ["set_aside", "done", "pending", "pending"]);
    lab.process().await;
    assert_eq!(lab.inbox().await, ["set_aside", "done", "done", "done"]);
    let texts = "SELECT to_number || ' ' || body FROM messages ORDER BY to_number, id";
    let expected = ["+13125550100 both", "+13125550100 last", "+13125550101 both", "+13125550101 second"];
    assert_eq!(lab.texts(texts).await, expected);
    assert_eq!(lab.texts("SELECT thread FROM inbox_threads").await, Vec::<String>::new());

    // A person can have it tried again when what was wrong is right.
    lab.sql("DROP TRIGGER poison").await;
    lab.router.retry_carrier_event(lab.app.clone(), 1).await.expect("there");
    lab.process().await;
    assert_eq!(lab.inbox().await[0], "done");
}

#[tokio::test]
async fn a_report_of_an_unknown_message_is_tried_for_a_while() {
    let lab = Lab::new().await;
    lab.take_in(report("later", "message.finalized", "delivered")).await;
    lab.process().await;
    assert_eq!(lab.inbox().await, ["pending"]);
    let message = lab.sent("hello", "later").await;
    lab.sql("UPDATE inbox SET not_before = 0").await;
    lab.process().await;
    assert_eq!(
        (lab.inbox().await, lab.message(message.id).await.status),
        (vec!["done".to_owned()], Status::Delivered)
    );
    lab.take_in(report("never", "message.finalized", "delivered")).await;
    lab.sql("UPDATE inbox SET received_at = 1 WHERE state = 'pending'").await;
    lab.process().await;
    assert_eq!(lab.inbox().await, ["done", "set_aside"]);
}

#[tokio::test]
async fn an_app_whose_places_are_taken_keeps_back_no_other() {
    let lab = Lab::new().await;
    for _ in 0..200 {
        lab.take_in(report("slow", "message.finalized", "delivered")).await;
    }
    lab.take_in(report("other", "message.finalized", "delivered")).await;
    lab.sql("UPDATE inbox SET app_id = 'zz', not_before = 5 WHERE id = 201").await;
    let apps = |entries: Vec<super::entry::Entry>| {
        let mut apps: Vec<String> = entries.into_iter().map(|entry| entry.app_id).collect();
        apps.dedup();
        apps
    };
    let none = std::collections::HashMap::new();
    assert_eq!(apps(due(&lab.router, &none).await.expect("readable")), ["1001", "zz"]);
    let taken = std::collections::HashMap::from([("1001".to_owned(), 64)]);
    assert_eq!(apps(due(&lab.router, &taken).await.expect("readable")), ["zz"]);
}
