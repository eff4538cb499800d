//! A message moves on: the step, and who is told.

use serde_json::json;

use super::counters::Counter;
use super::events::{Audience, Events};
use super::records::{Conversation, Message};
use super::status::{Cause, Status};
use super::{Router, callbacks};
use crate::apps::App;
use crate::storage::{StorageError, Transaction};

impl Router {
    /// Moves a message to another status, if that is a step forward, and tells the sender's side and the
    /// backend. `at`: when what led to it happened. Answers whether it moved.
    ///
    /// # Errors
    /// Of the store.
    pub(super) fn advance(
        &self,
        tx: &mut Transaction<'_>,
        app: &App,
        message: &mut Message,
        (next, cause): (Status, Cause),
        at: i64,
        now: i64,
    ) -> Result<bool, StorageError> {
        let previous = message.status;
        if !message.step(tx, next, cause, at, now)? {
            return Ok(false);
        }
        self.count_on_commit(tx, Counter::StatusChanged);
        if next == Status::Failed {
            self.count_on_commit(tx, Counter::MessageFailed);
        }
        let conversation = Conversation::by_row(tx, message.conversation_id)?;
        self.tell_status(tx, app, message, &conversation, previous, now)?;
        let (app, user, message_id) = (app.settings.id.as_str(), &message.user_id, message.public_id());
        let (previous, status) = (previous.as_str(), next.as_str());
        if next == Status::Failed {
            tracing::info!(app, user, message_id = %message_id, previous, status, "message status changed");
        } else {
            tracing::debug!(app, user, message_id = %message_id, previous, status, "message status changed");
        }
        Ok(true)
    }

    fn tell_status(
        &self,
        tx: &mut Transaction<'_>,
        app: &App,
        message: &Message,
        conversation: &Conversation,
        previous: Status,
        now: i64,
    ) -> Result<(), StorageError> {
        let more = json!({"previous_status": previous.as_str()});
        let mut events = Events::new(app);
        let audience = Audience::Conversation(conversation);
        events.message(audience, "MessageStatusUpdated", message, conversation, more.clone())?;
        let told = (message, conversation);
        events.after(callbacks::message(self, tx, app, "message_status", told, more, now)?);
        self.publish(tx, app, &conversation.thread_id, events, None, now)
    }
}
