//! Stores of earlier versions, with work in them: the new version loses none of it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::json;

use super::own::includes;
use crate::harness::databases::postgres;
use crate::harness::messaging::{ANN, OUTSIDE, Router, text};
use crate::harness::webhook::{event, inbound};
use crate::harness::{DEADLINE, within};

/// The tables of the versions that were released, one step each.
const STEPS: [&str; 4] = [
    include_str!("../../src/storage/migrations/0001_router.sql"),
    include_str!("../../src/storage/migrations/0002_webhooks.sql"),
    include_str!("../../src/storage/migrations/0003_attachments.sql"),
    include_str!("../../src/storage/migrations/0004_inbox_order.sql"),
];

/// What is in the stores: a message whose report waits in the inbox, one that the carrier never reported, one that it
/// did, and three webhooks from outside.
const REPORTED: &str = "aaaaaaaa-0000-4000-8000-000000000001";
const SILENT: &str = "aaaaaaaa-0000-4000-8000-000000000002";
const DONE: &str = "aaaaaaaa-0000-4000-8000-000000000003";

fn rows(bytes: impl Fn(&[u8]) -> String) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_micros();
    let hour_ago = now - 3_600_000_000;
    let mut sql = format!(
        "INSERT INTO phone_numbers (app_id, number, user_id, status, is_default, created_at, updated_at) \
         VALUES ('1001', '{ANN}', '1', 'assigned', 1, 1, 1); \
         INSERT INTO contacts (app_id, user_id, number, is_internal, created_at, updated_at) \
         VALUES ('1001', '1', '{OUTSIDE}', 0, 1, 1); \
         INSERT INTO conversations (app_id, user_id, contact_id, contact_number, own_number, own_key, active_at, \
         unread_count, is_internal, opted_out, thread_id, created_at, updated_at) \
         VALUES ('1001', '1', 1, '{OUTSIDE}', '{ANN}', '', 1, 0, 0, 0, 'old', 1, 1);"
    );
    for (n, (id, status, word)) in
        [(REPORTED, "sending", "queued"), (SILENT, "sending", "queued"), (DONE, "delivered", "delivered")]
            .into_iter()
            .enumerate()
    {
        let n = n + 1;
        sql += &format!(
            "INSERT INTO messages (app_id, conversation_id, user_id, contact_id, direction, type, body, media_urls, cc, \
             status, is_unconfirmed, is_internal, from_number, to_number, telnyx_message_id, decision, carrier_status, \
             status_at, created_at, updated_at) VALUES ('1001', 1, '1', 1, 'OUTBOUND', 'SMS', 'old {n}', '[]', '[]', \
             '{status}', 0, 0, '{ANN}', '{OUTSIDE}', '{id}', '{{}}', '{word}', {hour_ago}, {hour_ago}, {hour_ago}); \
             INSERT INTO carrier_jobs (app_id, message_id, lane, own_number, body, idempotency_key, token, state, attempts, \
             not_before, valid_until, first_attempt_at, locked_until, created_at) VALUES ('1001', {n}, 'lane', '{ANN}', \
             {body}, 'key', 'token-{n}', 'done', 1, 0, 0, {hour_ago}, 0, {hour_ago});",
            body = bytes(b"{}"),
        );
    }
    let report = event(
        "message.finalized",
        json!({"record_type": "message", "direction": "outbound", "id": REPORTED,
            "to": [{"phone_number": OUTSIDE, "status": "delivered"}]}),
    );
    let webhooks = [
        inbound(OUTSIDE, ANN, "first"),
        inbound(OUTSIDE, ANN, "second"),
        report,
        inbound(OUTSIDE, ANN, "third"),
    ];
    for webhook in webhooks {
        let (id, body) = (text(&webhook["data"]["id"]), bytes(webhook.to_string().as_bytes()));
        sql += &format!(
            "INSERT INTO inbox (app_id, event_id, body, state, attempts, not_before, locked_until, received_at) \
             VALUES ('1001', '{id}', {body}, 'pending', 0, 0, 0, {now});"
        );
    }
    sql
}

fn tables(version: usize, (id, int, bytes): (&str, &str, &str)) -> String {
    let steps: String = STEPS[..version].concat();
    steps.replace("{id}", id).replace("{int}", int).replace("{bytes}", bytes)
}

/// Starts the server on the old store, which it must take over whole.
async fn is_taken_over(mut router: Router, version: usize) {
    router.carrier.fault("no_webhooks", -1, json!({})).await;
    router.revive();
    let settled = async {
        loop {
            let conversations = router.conversations(1).await;
            let messages = router.messages(1, &conversations[0]["id"]).await;
            let statuses: Vec<String> =
                messages.iter().rev().map(|message| text(&message["status"])).collect();
            if messages.len() == 6 && !statuses.contains(&"sending".to_owned()) {
                return messages;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let mut messages = within(DEADLINE, "the end of what waited", settled).await;
    messages.reverse();
    let states: Vec<_> = messages
        .iter()
        .map(|message| {
            (text(&message["text"]), text(&message["status"]), message["delivery_unconfirmed"] == true)
        })
        .collect();
    let expected = [
        ("old 1", "delivered", false),
        // The carrier was asked and does not know it.
        ("old 2", "sent", true),
        ("old 3", "delivered", false),
        ("first", "received", false),
        ("second", "received", false),
        ("third", "received", false),
    ]
    .map(|(text, status, flag)| (text.to_owned(), status.to_owned(), flag));
    assert_eq!(states, expected, "version {version}");
    includes(&router.conversations(1).await[0], &json!({"unread_count": 3, "last_message": "third"}));
    let asked = router.carrier.requests("method=GET").await;
    let asked = asked.iter().filter(|request| request["path"] == format!("/v2/messages/{SILENT}")).count();
    assert_eq!(asked, 1, "version {version}");
    // It goes on as with a store of its own.
    assert_eq!(router.send(1, OUTSIDE, "new").await["conversation"]["id"], messages[0]["conversation_id"]);
}

#[tokio::test]
async fn work_of_earlier_versions_is_done_on_sqlite() {
    for version in 1..=STEPS.len() {
        let mut router = Router::setup().own_webhooks().start().await;
        router.kill();
        let file = router.database_file();
        for suffix in ["", "-wal", "-shm"] {
            let _ = std::fs::remove_file(format!("{}{suffix}", file.display()));
        }
        let store = rusqlite::Connection::open(&file).expect("a new file");
        let dialect = ("INTEGER PRIMARY KEY AUTOINCREMENT", "INTEGER", "BLOB");
        store.execute_batch(&tables(version, dialect)).expect("the tables");
        store.execute_batch(&rows(|bytes| format!("x'{}'", hex::encode(bytes)))).expect("the rows");
        store.pragma_update(None, "user_version", version as i64).expect("the version");
        store.close().expect("closed");
        is_taken_over(router, version).await;
    }
}

#[tokio::test]
async fn work_of_earlier_versions_is_done_on_postgresql() {
    for version in 1..=STEPS.len() {
        let database = postgres().await;
        let mut router = Router::setup().own_webhooks().store(&database.url).start().await;
        router.kill();
        let dialect = ("BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY", "BIGINT", "BYTEA");
        let rows = rows(|bytes| format!("decode('{}', 'hex')", hex::encode(bytes)));
        let old = format!(
            "DROP SCHEMA public CASCADE; CREATE SCHEMA public; GRANT ALL ON SCHEMA public TO PUBLIC; {} {rows} \
             CREATE TABLE switchboard_schema (version BIGINT NOT NULL); INSERT INTO switchboard_schema VALUES ({version});",
            tables(version, dialect)
        );
        database.run(&old).await;
        is_taken_over(router, version).await;
    }
}
