//! What was answered is on disk. A killed process proves little of that, as the system keeps what it wrote;
//! here the disk itself hangs or breaks.

use std::pin::pin;

use futures_util::FutureExt;
use serde_json::json;
use tokio_tungstenite::tungstenite::Message;

use crate::harness::disk::Disk;
use crate::harness::http::{HttpConnection, Request};
use crate::harness::messaging::{ANN, BOB, RECEIVED, Router, never};
use crate::harness::ws::WsClient;
use crate::harness::{DEADLINE, within};

/// A server on this disk, and a connection of user 2.
async fn start(disk: &Disk) -> (Router, WsClient) {
    let router = disk.under(Router::setup()).start().await;
    let bob = router.listen("user.2").await;
    (router, bob)
}

fn count(router: &Router) -> i64 {
    let store = rusqlite::Connection::open(router.database_file()).expect("the server's own file");
    store.query_row("SELECT COUNT(*) FROM messages", [], |row| row.get(0)).expect("a number")
}

#[tokio::test]
async fn nobody_hears_of_a_message_before_it_is_on_disk() {
    let disk = Disk::new();
    let (router, mut bob) = start(&disk).await;
    let mut sender = HttpConnection::connect(router.server().public).await;
    let mut reader = HttpConnection::connect(router.server().public).await;

    disk.hold();
    let message = json!({"user_id": 1, "to": BOB, "text": "Hello"});
    let path = router.app.path("messaging/messages");
    sender.write(Request::post(&router.app, &path, message.to_string()).bytes()).await;
    disk.holds().await;
    // Both halves are stored, and whoever looks into the file sees them; but they are not on disk.
    assert_eq!(count(&router), 2);
    let path = router.app.path("messaging/conversations");
    reader.write(Request::get(&router.app, &path).param("user_id", "2").bytes()).await;
    let (mut sent, mut read) = (pin!(sender.response()), pin!(reader.response()));
    // Clients that have nothing to do with it are served.
    for _ in 0..20 {
        never(&mut bob, &router, RECEIVED).await;
        assert!((&mut sent).now_or_never().is_none(), "sent before it was on disk");
        assert!((&mut read).now_or_never().is_none(), "read before it was on disk");
    }

    disk.go_on();
    let sent = sent.await.expect_status(200).json();
    let read = read.await.expect_status(200).json();
    assert_eq!(sent["internal"], true);
    assert_eq!(read["conversations"][0]["last_message"], "Hello");
    assert_eq!(bob.wait_for(RECEIVED).await.json()["message"]["text"], "Hello");
}

#[tokio::test]
async fn after_a_failed_flush_nothing_is_taken_and_the_process_ends() {
    let disk = Disk::new();
    let (mut router, mut bob) = start(&disk).await;
    router.send(1, BOB, "before").await;
    bob.wait_for(RECEIVED).await;

    // While one flush hangs, another message is committed; then that flush fails, and the next one would not.
    disk.hold();
    let message = json!({"user_id": 1, "to": BOB, "text": "lost"});
    let path = router.app.path("messaging/messages");
    let mut senders = Vec::new();
    for stored in [4, 6] {
        let mut sender = HttpConnection::connect(router.server().public).await;
        sender.write(Request::post(&router.app, &path, message.to_string()).bytes()).await;
        disk.holds().await;
        let is_stored = async {
            while count(&router) < stored {
                tokio::task::yield_now().await;
            }
        };
        within(DEADLINE, "the message in the file", is_stored).await;
        senders.push(sender);
    }
    disk.break_down();
    disk.go_on();
    for sender in &mut senders {
        sender.response().await.refused(503, "storage_unavailable");
    }
    // A supervisor starts the server anew, and clients come back to that: nobody has heard of what is lost.
    let closed = loop {
        match bob.next_message(DEADLINE).await {
            Message::Text(text) => assert!(!text.contains("MessageReceived"), "{text}"),
            Message::Close(frame) => break frame,
            _ => {}
        }
    };
    assert_eq!(closed.map(|frame| u16::from(frame.code)), Some(4100));
    router.logged("the message store refuses all writes until the next start", 1);
    let status = router.server().exit_status(DEADLINE).await;
    assert_eq!(status.code(), Some(1), "{}", router.server().output());
    router.logged("ended because the message store failed: the disk can't be flushed", 1);

    router.revive();
    let mut bob = router.listen("user.2").await;
    router.send(2, ANN, "after").await;
    router.send(1, BOB, "and on").await;
    // What was refused may be there nevertheless, and is told then.
    while bob.wait_for(RECEIVED).await.json()["message"]["text"] != "and on" {}
    let conversation = router.conversations(2).await[0]["id"].clone();
    let texts: Vec<_> = router.messages(2, &conversation).await.iter().map(|m| m["text"].clone()).collect();
    assert!(texts.contains(&json!("before")) && texts.contains(&json!("after")), "{texts:?}");
}
