//! Reading: the reader's count of unread messages, the sender's receipt.

use std::sync::Arc;

use serde_json::json;

use super::error::RoutingError;
use super::events::{self, Audience, Events};
use super::json::carbon;
use super::records::{Conversation, Message};
use super::{Router, callbacks};
use crate::apps::App;
use crate::storage::{self, StorageError, Transaction};

impl Router {
    /// Marks received messages of a conversation read, up to one of them or all. Answers the conversation
    /// and how many became read. Senders of internal messages are told, unless the app wants no receipts;
    /// a person who got an SMS can't be. `socket_id`: the reader's connection that knows already.
    ///
    /// # Errors
    /// `not_found`: the conversation, or the message in it.
    pub async fn mark_read(
        &self,
        app: Arc<App>,
        user: String,
        conversation: String,
        up_to: Option<String>,
        socket_id: Option<String>,
    ) -> Result<(Conversation, i64), RoutingError> {
        let router = self.clone();
        self.database()
            .write(move |tx| {
                let app_id = app.settings.id.as_str();
                let conversation = Conversation::find(tx, app_id, &user, &conversation)?;
                let mut conversation = conversation.ok_or_else(|| RoutingError::not_found("conversation"))?;
                let up_to = match &up_to {
                    None => i64::MAX,
                    Some(id) => {
                        let message = Message::find(tx, app_id, &user, id)?;
                        let message = message.filter(|message| message.conversation_id == conversation.id);
                        message.ok_or_else(|| RoutingError::not_found("message").at("up_to"))?.place
                    }
                };
                let reading = Reading { router: &router, app: &app, up_to, except: socket_id.as_deref() };
                let marked = reading.run(tx, &mut conversation, storage::now())?;
                Ok((conversation, marked))
            })
            .await
    }
}

struct Reading<'a> {
    router: &'a Router,
    app: &'a App,
    up_to: i64,
    except: Option<&'a str>,
}

impl Reading<'_> {
    fn run(
        &self,
        tx: &mut Transaction<'_>,
        conversation: &mut Conversation,
        now: i64,
    ) -> Result<i64, StorageError> {
        Conversation::hold(tx, [conversation.id])?;
        let read = Message::mark_read(tx, conversation.id, self.up_to, now)?;
        if read.is_empty() {
            return Ok(0);
        }
        conversation.refresh(tx, now)?;
        let mut events = Events::new(self.app);
        events.conversation_updated(conversation)?;
        self.router.publish(tx, self.app, &conversation.thread_id, events, self.except, now)?;
        if self.app.settings.routing.features.read_receipts {
            for newest in Message::mark_pairs_read(tx, conversation.id, &read, now)? {
                self.tell_sender(tx, newest, now)?;
            }
        }
        Ok(i64::try_from(read.len()).unwrap_or(i64::MAX))
    }

    fn tell_sender(&self, tx: &mut Transaction<'_>, newest: i64, now: i64) -> Result<(), StorageError> {
        let Some(message) = Message::by_row(tx, newest)? else { return Ok(()) };
        let conversation = Conversation::by_row(tx, message.conversation_id)?;
        let mut events = Events::new(self.app);
        let data = json!({
            "conversation_id": events::conversation_id(&conversation),
            "message_id": events::message_id(&message),
            "read_at": carbon(now),
        });
        let about = events::about(&message, &conversation);
        events.add_about(about, Audience::Conversation(&conversation), "MessageRead", &data)?;
        let told = (&message, &conversation);
        events.after(callbacks::message(self.router, tx, self.app, "message_read", told, json!({}), now)?);
        self.router.publish(tx, self.app, &conversation.thread_id, events, None, now)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::super::error::Code;
    use super::super::json::Id;
    use super::super::status::Status;
    use super::super::test_support::Lab;
    use super::*;

    async fn read(lab: &Lab, user: &str, conversation: &Id, up_to: Option<&Id>) -> (i64, i64) {
        let up_to = up_to.map(ToString::to_string);
        let done = lab
            .router
            .mark_read(Arc::clone(&lab.app), user.to_owned(), conversation.to_string(), up_to, None)
            .await
            .expect("marked");
        (done.0.unread_count, done.1)
    }

    #[tokio::test]
    async fn the_reader_counts_down_and_the_sender_is_told_once_up_to_which_message() {
        let lab = Lab::new().await;
        let mut sent = Vec::new();
        for text in ["one", "two", "three"] {
            sent.push(lab.send("7", "+13125550101", text).await);
        }
        let theirs = lab.received(&sent).await;
        let there = theirs[0].conversation_public_id.clone();
        lab.events();
        assert_eq!(read(&lab, "8", &there, Some(&theirs[1].public_id())).await, (1, 2));
        let events = lab.events();
        let here = &sent[0].conversation_public_id;
        assert_eq!(
            events.iter().map(|told| (told.channel.as_str(), told.name.as_str())).collect::<Vec<_>>(),
            [
                ("user.8", "App\\Events\\ConversationUpdated"),
                (format!("messenger.{here}").as_str(), "App\\Events\\MessageRead")
            ]
        );
        assert_eq!(events[0].data["conversation"]["unread_count"], 1);
        let read_at = events[1].data["read_at"].clone();
        assert_eq!(
            events[1].data,
            json!({"conversation_id": here, "message_id": sent[1].public_id(), "read_at": read_at})
        );
        let statuses = [Status::Read, Status::Read, Status::Delivered];
        for (message, status) in sent.iter().zip(statuses) {
            assert_eq!(lab.message(message.id).await.status, status);
        }
        assert_eq!(
            lab.message(sent[0].id).await.json(&lab.app.settings.routing).read_at,
            read_at.as_str().map(str::to_owned)
        );
        // Earlier ones again: nothing moves back, nothing is told.
        assert_eq!(read(&lab, "8", &there, Some(&theirs[0].public_id())).await, (1, 0));
        assert!(lab.events().is_empty());
        assert_eq!(read(&lab, "8", &there, None).await, (0, 1));
        assert_eq!(lab.events().len(), 2);
        // The sender's own messages are no received ones.
        assert_eq!(read(&lab, "7", here, None).await, (0, 0));
        assert!(lab.events().is_empty());
    }

    #[tokio::test]
    async fn a_foreign_conversation_or_message_is_not_found() {
        let lab = Lab::new().await;
        let sent = lab.send("7", "+13125550101", "hello").await;
        let theirs = lab.received(std::slice::from_ref(&sent)).await.remove(0);
        let there = theirs.conversation_public_id.to_string();
        let app = || Arc::clone(&lab.app);
        let foreign = lab.router.mark_read(app(), "7".to_owned(), there.clone(), None, None).await;
        assert_eq!(foreign.expect_err("foreign").code, Code::NotFound);
        for id in [sent.public_id().to_string(), "999".to_owned(), "x".to_owned()] {
            let refused = lab.router.mark_read(app(), "8".to_owned(), there.clone(), Some(id), None).await;
            let refused = refused.expect_err("not in this conversation");
            assert_eq!((refused.code, refused.field.as_deref()), (Code::NotFound, Some("up_to")));
        }
    }

    #[tokio::test]
    async fn without_receipts_only_the_reader_hears_of_it() {
        let lab = Lab::with(|routing| routing.features.read_receipts = false).await;
        let sent = lab.send("7", "+13125550101", "hello").await;
        let theirs = lab.received(std::slice::from_ref(&sent)).await.remove(0);
        lab.events();
        assert_eq!(read(&lab, "8", &theirs.conversation_public_id, None).await, (0, 1));
        let events = lab.events();
        assert_eq!((events.len(), events[0].channel.as_str()), (1, "user.8"));
        assert_eq!(lab.message(sent.id).await.status, Status::Delivered);
        assert_eq!(lab.message(theirs.id).await.status, Status::Read);
    }

    #[tokio::test]
    async fn a_user_reads_what_they_sent_to_their_other_number() {
        let lab = Lab::new().await;
        lab.number("7", "+13125550109").await;
        let sent = lab.send_from("7", "+13125550100", "+13125550109", "note").await;
        let received = lab.received(std::slice::from_ref(&sent)).await.remove(0);
        assert_ne!(sent.conversation_id, received.conversation_id);
        lab.events();
        assert_eq!(read(&lab, "7", &received.conversation_public_id, None).await, (0, 1));
        let read = lab.events().into_iter().find(|told| told.name.ends_with("MessageRead")).expect("told");
        assert_eq!(read.channel, format!("messenger.{}", sent.conversation_public_id));
    }

    #[tokio::test]
    async fn with_ids_only_an_update_carries_no_record() {
        let lab = Lab::with(|routing| routing.payload = crate::config::Payload::Ids).await;
        let sent = lab.send("7", "+13125550101", "hello").await;
        let theirs = lab.received(std::slice::from_ref(&sent)).await.remove(0);
        lab.events();
        read(&lab, "8", &theirs.conversation_public_id, None).await;
        let told: Value = lab.events().remove(0).data;
        assert_eq!(told, json!({"conversation": {"id": theirs.conversation_public_id, "unread_count": 0}}));
    }
}
