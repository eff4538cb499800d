//! What makes a messenger of it: typing, receipts, presence, editing, attachments. (41): each of them.

use serde_json::{Value, json};

use super::own::includes;
use crate::harness::messaging::{ANN, BOB, OUTSIDE, RECEIVED, Router, SENT, STATUS, Thread, plain};
use crate::harness::ws::WsClient;

const TYPING: &str = r"App\Events\UserTyping";
const READ: &str = r"App\Events\MessageRead";
const CONVERSATION: &str = r"App\Events\ConversationUpdated";
const PRESENCE: &str = r"App\Events\ContactPresence";
const UPDATED: &str = r"App\Events\MessageUpdated";
const DELETED: &str = r"App\Events\MessageDeleted";

/// Both halves of a pair that has one message: Ann's thread, Bob's thread, and the answer to the send.
async fn pair(router: &Router) -> (Thread, Thread, Value) {
    let sent = router.send(1, BOB, "Hello").await;
    (router.thread(1, BOB).await, router.thread(2, ANN).await, sent)
}

#[tokio::test]
async fn t41_typing_is_shown_on_the_other_side() {
    let router = Router::start().await;
    let (mut ann, mut bob, _) = pair(&router).await;
    let path = format!("/conversations/{}/typing", plain(&ann.id));
    assert_eq!(router.ok(&path, json!({"user_id": 1, "typing": true})).await, json!({}));
    let event = bob.hear(TYPING).await.json();
    includes(&event, &json!({"conversation_id": bob.id, "typing": true, "expires_in": 6}));
    let theirs = router.conversations(2).await[0]["contact_id"].clone();
    assert_eq!(event["contact_id"], theirs);
    ann.never(&router, TYPING).await;
    // At most one in 2 s; and nothing at all outside.
    router.ok(&path, json!({"user_id": 1, "typing": true})).await;
    bob.never(&router, TYPING).await;
    let outside = router.thread(1, OUTSIDE).await;
    let path = format!("/conversations/{}/typing", plain(&outside.id));
    router.ok(&path, json!({"user_id": 1, "typing": true})).await;
    assert_eq!(router.carrier.requests("").await.len(), 0);
}

#[tokio::test]
async fn t41_a_whisper_on_the_private_channel_reaches_the_other_side() {
    let router = Router::setup()
        .routing("channels.mode", "private")
        .app("1001", "client_events = \"members\"")
        .start()
        .await;
    router.send(1, BOB, "Hello").await;
    let (ann_id, bob_id) =
        (router.conversations(1).await[0]["id"].clone(), router.conversations(2).await[0]["id"].clone());
    let mut ann = router.listen(&format!("private-messenger.{}", plain(&ann_id))).await;
    let mut bob = router.listen(&format!("private-messenger.{}", plain(&bob_id))).await;
    let channel = format!("private-messenger.{}", plain(&ann_id));
    ann.send_client_event(&channel, "client-typing", &json!({"typing": true})).await;
    includes(&bob.wait_for(TYPING).await.json(), &json!({"conversation_id": bob_id, "typing": true}));
}

#[tokio::test]
async fn t41_reading_is_told_to_the_sender_and_to_ones_other_tabs() {
    let router = Router::start().await;
    let (mut ann, bob, _) = pair(&router).await;
    let last = router.send(1, BOB, "and again").await;
    ann.hear(SENT).await;
    let mut tab = router.listen("user.2").await;
    let path = format!("/conversations/{}/read", plain(&bob.id));
    let answer = router.ok(&path, json!({"user_id": 2})).await;
    assert_eq!((&answer["marked"], &answer["conversation"]["unread_count"]), (&json!(2), &json!(0)));
    let read = ann.client.wait_for(READ).await.json();
    includes(&read, &json!({"conversation_id": ann.id, "message_id": last["message"]["id"]}));
    assert!(read["read_at"].is_string(), "{read}");
    let updated = tab.wait_for(CONVERSATION).await.json();
    includes(&updated["conversation"], &json!({"id": bob.id, "unread_count": 0}));
    includes(&router.message(1, &last["message"]["id"]).await, &json!({"status": "read"}));
    // Reading again is nothing new.
    assert_eq!(router.ok(&path, json!({"user_id": 2})).await["marked"], 0);
    ann.never(&router, READ).await;
}

#[tokio::test]
async fn t41_reading_up_to_a_message_leaves_the_later_ones_unread() {
    let router = Router::start().await;
    let mut bob = router.listen("user.2").await;
    let mut ids = Vec::new();
    for n in 0..3 {
        router.send(1, BOB, &n.to_string()).await;
        ids.push(bob.wait_for(RECEIVED).await.json()["message"]["id"].clone());
    }
    let conversation = router.conversations(2).await[0]["id"].clone();
    let path = format!("/conversations/{}/read", plain(&conversation));
    let answer = router.ok(&path, json!({"user_id": 2, "up_to": ids[1]})).await;
    assert_eq!((&answer["marked"], &answer["conversation"]["unread_count"]), (&json!(2), &json!(1)));
    let earlier = router.ok(&path, json!({"user_id": 2, "up_to": ids[0]})).await;
    assert_eq!((&earlier["marked"], &earlier["conversation"]["unread_count"]), (&json!(0), &json!(1)));
}

#[tokio::test]
async fn t41_the_state_of_a_message_follows_it() {
    let router = Router::start().await;
    let mut ann = router.thread(1, OUTSIDE).await;
    let sent = router.send_on(1, OUTSIDE, "Hello").await;
    ann.hear(SENT).await;
    let event = ann.hear(STATUS).await.json();
    includes(&event, &json!({"previous_status": "sending"}));
    includes(&event["conversation"], &json!({"id": ann.id}));
    includes(&event["message"], &json!({"id": sent["message"]["id"], "status": "sent"}));
}

#[tokio::test]
async fn t41_contacts_are_seen_online_and_offline() {
    let router = Router::setup().routing("features.offline_grace", "1s").start().await;
    let (mut ann, _, _) = pair(&router).await;
    // Who opens a conversation learns the present state at once.
    includes(&ann.hear(PRESENCE).await.json(), &json!({"conversation_id": ann.id, "online": false}));
    let bob = router.listen("user.2").await;
    let online = ann.hear(PRESENCE).await.json();
    includes(&online, &json!({"conversation_id": ann.id, "online": true}));
    assert_eq!(online["contact_id"], router.conversations(1).await[0]["contact_id"]);
    // A page change is not the end of it.
    bob.close().await;
    let again = router.listen("user.2").await;
    ann.never(&router, PRESENCE).await;
    again.close().await;
    let offline = ann.hear(PRESENCE).await.json();
    includes(&offline, &json!({"conversation_id": ann.id, "online": false}));
    assert!(offline["last_seen_at"].is_string(), "{offline}");
    let mut signed_in = WsClient::connect_to(router.server(), &router.app).await;
    signed_in.sign_in(r#"{"id":"2"}"#).await;
    includes(&ann.hear(PRESENCE).await.json(), &json!({"online": true}));
}

#[tokio::test]
async fn t41_internal_messages_can_be_edited_on_both_sides() {
    let router = Router::start().await;
    let (mut ann, mut bob, sent) = pair(&router).await;
    let mut tab = router.listen("user.2").await;
    let path = format!("/messages/{}/edit", plain(&sent["message"]["id"]));
    let edited = router.ok(&path, json!({"user_id": 1, "text": "Hello Bob"})).await;
    includes(&edited["message"], &json!({"text": "Hello Bob", "body": "Hello Bob"}));
    assert!(edited["message"]["edited_at"].is_string(), "{edited}");
    for event in
        [ann.client.wait_for(UPDATED).await, bob.client.wait_for(UPDATED).await, tab.wait_for(UPDATED).await]
    {
        assert_eq!(event.json()["message"]["text"], "Hello Bob");
        assert_eq!(event.json()["conversation"]["last_message"], "Hello Bob");
    }
    let theirs = router.messages(2, &bob.id).await;
    assert_eq!(theirs[0]["text"], "Hello Bob");
    // Only what one has sent oneself.
    let received = format!("/messages/{}/edit", plain(&theirs[0]["id"]));
    let answer = router.post(&received, &json!({"user_id": 2, "text": "forged"})).await;
    answer.refused(409, "not_editable");
}

#[tokio::test]
async fn t41_internal_messages_can_be_deleted_for_everyone() {
    let router = Router::start().await;
    let (mut ann, mut bob, sent) = pair(&router).await;
    let path = format!("/messages/{}/delete", plain(&sent["message"]["id"]));
    let deleted = router.ok(&path, json!({"user_id": 1, "scope": "everyone"})).await;
    includes(&deleted["message"], &json!({"body": null, "text": null}));
    assert!(deleted["message"]["deleted_at"].is_string(), "{deleted}");
    let mine = ann.client.wait_for(DELETED).await.json();
    includes(&mine, &json!({"message_id": sent["message"]["id"], "conversation_id": ann.id}));
    let theirs = bob.client.wait_for(DELETED).await.json();
    includes(&theirs, &json!({"conversation_id": bob.id}));
    let conversation = &router.conversations(2).await[0];
    includes(conversation, &json!({"unread_count": 0, "last_message": null}));
}

#[tokio::test]
async fn t41_external_messages_can_only_be_hidden() {
    let router = Router::start().await;
    let sent = router.send(1, OUTSIDE, "out").await;
    let path = format!("/messages/{}/delete", plain(&sent["message"]["id"]));
    let everyone = json!({"user_id": 1, "scope": "everyone"});
    router.post(&path, &everyone).await.refused(409, "not_editable");
    router.ok(&path, json!({"user_id": 1, "scope": "me"})).await;
    assert_eq!(router.conversations(1).await[0]["last_message"], Value::Null);
}

#[tokio::test]
async fn t41_editing_ends_with_its_window() {
    let router = Router::setup().routing("features.edit_window", "1s").start().await;
    let (_, _, sent) = pair(&router).await;
    let path = format!("/messages/{}/edit", plain(&sent["message"]["id"]));
    let deadline = std::time::Instant::now() + crate::harness::DEADLINE;
    loop {
        let answer = router.post(&path, &json!({"user_id": 1, "text": "changed"})).await;
        if answer.status == 409 {
            answer.refused(409, "not_editable");
            break;
        }
        assert!(std::time::Instant::now() < deadline, "{}", answer.text());
    }
}

#[tokio::test]
async fn t41_media_goes_along_inside_and_outside() {
    let router = Router::start().await;
    let url = "https://media.example/picture.png?size=2&name=ü";
    let url = url.replace('ü', "%C3%BC");
    let mut bob = router.listen("user.2").await;
    let send = |to: &str| json!({"user_id": 1, "to": to, "media_urls": [url]});
    let inside = router.ok("/messages", send(BOB)).await;
    includes(&inside["message"], &json!({"type": "MMS", "media_urls": [url]}));
    let received = bob.wait_for(RECEIVED).await.json();
    includes(&received["message"], &json!({"media_urls": [url]}));
    router.ok("/messages", send(OUTSIDE)).await;
    let sends = router.carrier.sends().await;
    assert_eq!((sends.len(), &sends[0]["body"]["media_urls"]), (1, &json!([url])));
    for bad in [
        "ftp://media.example/a",
        "javascript:alert(1)",
        "/relative",
        &format!("https://a.example/{}", "x".repeat(2_000)),
    ] {
        let answer = router.post("/messages", &json!({"user_id": 1, "to": BOB, "media_urls": [bad]})).await;
        assert_eq!(answer.status, 422, "{bad}: {}", answer.text());
    }
}

#[tokio::test]
async fn t41_media_comes_in_with_a_message() {
    let router = Router::start().await;
    let mut owner = router.listen("user.1").await;
    let media = json!([{"url": "https://media.example/in.jpg", "content_type": "image/jpeg"}]);
    router.carrier.inbound(json!({"from": OUTSIDE, "to": ANN, "text": "look", "media": media})).await;
    let event = owner.wait_for(RECEIVED).await.json();
    includes(&event["message"], &json!({"type": "MMS", "media_urls": ["https://media.example/in.jpg"]}));
}

#[tokio::test]
async fn t41_typing_receipts_and_presence_can_be_turned_off() {
    let router = Router::setup()
        .routing("features.typing", false)
        .routing("features.read_receipts", false)
        .routing("features.contact_presence", false)
        .start()
        .await;
    let (mut ann, mut bob, _) = pair(&router).await;
    let typing = format!("/conversations/{}/typing", plain(&ann.id));
    router.post(&typing, &json!({"user_id": 1, "typing": true})).await;
    let read = format!("/conversations/{}/read", plain(&bob.id));
    assert_eq!(
        router.ok(&read, json!({"user_id": 2})).await["marked"],
        1,
        "the reader's own count still works"
    );
    let page = router.listen("user.2").await;
    for event in [READ, PRESENCE] {
        ann.never(&router, event).await;
    }
    bob.never(&router, TYPING).await;
    drop(page);
}
