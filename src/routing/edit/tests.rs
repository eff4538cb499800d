use super::super::test_support::{Lab, Told};
use super::*;

/// What a call to edit or delete comes to.
type Answer = Result<(Message, Conversation), RoutingError>;

async fn edit(lab: &Lab, user: &str, message: &Message, text: &str) -> Answer {
    let (user, id) = (user.to_owned(), message.public_id().to_string());
    lab.router.edit(Arc::clone(&lab.app), user, id, text.to_owned(), Some("1.2".to_owned())).await
}

async fn delete(lab: &Lab, user: &str, message: &Message, scope: DeleteScope) -> Answer {
    let (user, id) = (user.to_owned(), message.public_id().to_string());
    lab.router.delete(Arc::clone(&lab.app), user, id, scope, Some("1.2".to_owned())).await
}

fn refusal(answer: Answer) -> (Code, String) {
    let error = answer.expect_err("refused");
    (error.code, error.message)
}

fn told(events: &[Told]) -> Vec<(String, &str, bool)> {
    let bare = |name: &'_ str| name.rsplit('\\').next().map(str::len).unwrap_or_default();
    events
        .iter()
        .map(|told| {
            let name = &told.name[told.name.len() - bare(&told.name)..];
            (told.channel.clone(), name, told.except.is_some())
        })
        .collect()
}

/// One message of user 7 to user 8: both records.
async fn exchanged(lab: &Lab, text: &str) -> (Message, Message) {
    let sent = lab.send("7", "+13125550101", text).await;
    let received = lab.received(std::slice::from_ref(&sent)).await.remove(0);
    lab.events();
    (sent, received)
}

#[tokio::test]
async fn an_edit_changes_both_sides_and_tells_each_with_its_own_ids() {
    let lab = Lab::new().await;
    let (sent, received) = exchanged(&lab, "helo").await;
    let (message, conversation) = edit(&lab, "7", &sent, "hello 👋").await.expect("edited");
    assert_eq!((message.body.as_deref(), message.encoding.as_deref()), (Some("hello 👋"), Some("UCS-2")));
    assert!(message.edited_at.is_some());
    assert_eq!(conversation.last_message.as_deref(), Some("hello 👋"));
    let theirs = lab.message(received.id).await;
    assert_eq!((theirs.body.as_deref(), theirs.edited_at), (Some("hello 👋"), message.edited_at));
    assert_eq!(lab.conversation(received.conversation_id).await.last_message.as_deref(), Some("hello 👋"));
    let events = lab.events();
    let (here, there) = (&sent.conversation_public_id, &received.conversation_public_id);
    assert_eq!(
        told(&events),
        [
            (format!("messenger.{here}"), "MessageUpdated", true),
            (format!("messenger.{there}"), "MessageUpdated", false),
            ("user.8".to_owned(), "MessageUpdated", false),
        ]
    );
    for (event, record) in events.iter().zip([&sent, &received, &received]) {
        assert_eq!(event.data["message"]["id"], json!(record.public_id()));
        assert_eq!(event.data["message"]["body"], "hello 👋");
        assert_eq!(event.data["conversation"]["id"], json!(record.conversation_public_id));
    }
    // The same again.
    edit(&lab, "7", &sent, "hello 👋").await.expect("nothing to do");
    assert!(lab.events().is_empty());
    // Nobody can read what was replaced, so it is not kept.
    assert!(lab.texts("SELECT body FROM message_versions").await.is_empty());
}

#[tokio::test]
async fn only_own_internal_messages_can_be_edited_for_a_while() {
    let lab = Lab::new().await;
    let (sent, received) = exchanged(&lab, "hello").await;
    assert_eq!(refusal(edit(&lab, "8", &sent, "x").await).0, Code::NotFound);
    let cases = [
        (refusal(edit(&lab, "8", &received, "x").await), "own messages"),
        (refusal(delete(&lab, "8", &received, DeleteScope::Everyone).await), "own messages"),
    ];
    for ((code, why), part) in cases {
        assert_eq!(code, Code::NotEditable);
        assert!(why.contains(part), "{why}");
    }
    let outside = lab.send("7", "+13125559999", "hello").await;
    let (code, why) = refusal(edit(&lab, "7", &outside, "x").await);
    assert_eq!((code, why.contains("SMS")), (Code::NotEditable, true));
    let scheduled = lab.schedule("7", "+13125550101", "later").await;
    for answer in [
        edit(&lab, "7", &scheduled, "x").await,
        delete(&lab, "7", &scheduled, DeleteScope::Everyone).await,
        delete(&lab, "7", &scheduled, DeleteScope::Me).await,
    ] {
        let (code, why) = refusal(answer);
        assert_eq!((code, why.contains("cancel")), (Code::NotEditable, true));
    }
    for (text, code) in
        [(" ", Code::NoContent), ("a\0b", Code::InvalidField), (&"x".repeat(10_001), Code::TooLong)]
    {
        assert_eq!(refusal(edit(&lab, "7", &sent, text).await).0, code);
    }
    lab.events();
    let past = "UPDATE messages SET created_at = created_at - 901000000, sent_at = sent_at - 901000000";
    lab.sql(past).await;
    for answer in [edit(&lab, "7", &sent, "x").await, delete(&lab, "7", &sent, DeleteScope::Everyone).await] {
        let (code, why) = refusal(answer);
        assert_eq!((code, why.contains("900 s")), (Code::NotEditable, true), "{why}");
    }
    assert!(lab.events().is_empty());
    assert_eq!(lab.message(received.id).await.body.as_deref(), Some("hello"));
}

#[tokio::test]
async fn deleted_for_everyone_both_records_stay_without_contents() {
    let lab = Lab::new().await;
    exchanged(&lab, "first").await;
    let (sent, received) = exchanged(&lab, "second").await;
    assert_eq!(lab.conversation(received.conversation_id).await.unread_count, 2);
    let (message, conversation) = delete(&lab, "7", &sent, DeleteScope::Everyone).await.expect("deleted");
    assert_eq!((message.body, conversation.last_message.as_deref()), (None, Some("first")));
    let deleted_at = message.deleted_at.expect("when");
    let theirs = lab.message(received.id).await;
    assert_eq!((theirs.body, theirs.media_urls.len(), theirs.deleted_at), (None, 0, Some(deleted_at)));
    let there = lab.conversation(received.conversation_id).await;
    assert_eq!((there.unread_count, there.last_message.as_deref()), (1, Some("first")));
    let events = lab.events();
    let their_channel = format!("messenger.{}", there.public_id());
    assert_eq!(
        told(&events),
        [
            (format!("messenger.{}", conversation.public_id()), "MessageDeleted", true),
            (their_channel, "MessageDeleted", false),
            ("user.8".to_owned(), "MessageDeleted", false),
            ("user.8".to_owned(), "ConversationUpdated", false),
        ]
    );
    let deleted = |record: &Message| {
        json!({"message_id": record.public_id(), "conversation_id": record.conversation_public_id,
               "deleted_at": carbon(deleted_at)})
    };
    assert_eq!(events[0].data, deleted(&sent));
    assert_eq!((&events[1].data, &events[2].data), (&deleted(&received), &deleted(&received)));
    assert_eq!(events[3].data["conversation"]["unread_count"], 1);
    assert!(lab.texts("SELECT body FROM message_versions").await.is_empty());
    // Again: it is so already.
    delete(&lab, "7", &sent, DeleteScope::Everyone).await.expect("nothing to do");
    assert!(lab.events().is_empty());
    assert_eq!(refusal(edit(&lab, "7", &sent, "x").await).0, Code::NotEditable);
}

#[tokio::test]
async fn deleted_for_me_it_leaves_only_my_view() {
    let lab = Lab::new().await;
    let (sent, received) = exchanged(&lab, "hello").await;
    let (_, conversation) = delete(&lab, "8", &received, DeleteScope::Me).await.expect("hidden");
    assert_eq!((conversation.unread_count, conversation.last_message.as_deref()), (0, None));
    let events = lab.events();
    assert_eq!(
        told(&events),
        [
            (format!("messenger.{}", conversation.public_id()), "MessageDeleted", true),
            ("user.8".to_owned(), "ConversationUpdated", true),
        ]
    );
    assert_eq!(refusal(delete(&lab, "8", &received, DeleteScope::Me).await).0, Code::NotFound);
    assert_eq!(lab.message(sent.id).await.body.as_deref(), Some("hello"));
    assert_eq!(lab.conversation(sent.conversation_id).await.last_message.as_deref(), Some("hello"));
    // The sender edits it: who hid it hears nothing.
    edit(&lab, "7", &sent, "hello!").await.expect("edited");
    let here = format!("messenger.{}", sent.conversation_public_id);
    assert_eq!(told(&lab.events()), [(here, "MessageUpdated", true)]);
    let outside = lab.send("7", "+13125559999", "hello").await;
    delete(&lab, "7", &outside, DeleteScope::Me).await.expect("an SMS can be hidden");
}
