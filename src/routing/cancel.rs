//! Messages taken back before they were sent.

use std::sync::Arc;

use super::Router;
use super::error::{Code, RoutingError};
use super::records::{Conversation, Message};
use super::status::{Cause, Direction, Status};
use crate::apps::App;
use crate::storage::{self, StorageError, Transaction};

impl Router {
    /// Cancels a message that is scheduled, or that no attempt was made yet to hand to the carrier.
    ///
    /// # Errors
    /// `not_found`; `not_cancellable`: it may be on its way.
    pub async fn cancel(
        &self,
        app: Arc<App>,
        user: String,
        message_id: String,
    ) -> Result<(Message, Conversation), RoutingError> {
        let router = self.clone();
        self.database()
            .write(move |tx| {
                let now = storage::now();
                let message = Message::find(tx, &app.settings.id, &user, &message_id)?;
                let mut message = message.ok_or_else(|| RoutingError::not_found("message"))?;
                let is_open = message.direction == Direction::Outbound
                    && match message.status {
                        Status::Scheduled => true,
                        Status::Sending => take_back(tx, message.id)?,
                        _ => false,
                    };
                let cancelled = (Status::Cancelled, Cause::Event);
                if !is_open || !router.advance(tx, &app, &mut message, cancelled, now, now)? {
                    let why = "the message was sent, or may be on its way: it can't be cancelled any more";
                    return Err(RoutingError::new(Code::NotCancellable, why));
                }
                let conversation = Conversation::by_row(tx, message.conversation_id)?;
                Ok((message, conversation))
            })
            .await
    }
}

/// Takes a message away from the carrier's queue; false when an attempt was begun: each is noted before it
/// is made, by a change to this very row.
fn take_back(tx: &mut Transaction<'_>, message: i64) -> Result<bool, StorageError> {
    let taken = tx.execute(
        "UPDATE carrier_jobs SET state = 'done' \
         WHERE message_id = ?1 AND state = 'waiting' AND attempts = 0 AND first_attempt_at IS NULL \
         AND NOT EXISTS (SELECT 1 FROM carrier_attempts a WHERE a.job_id = carrier_jobs.id)",
        &[message.into()],
    )?;
    Ok(taken == 1)
}

#[cfg(test)]
mod tests {
    use super::super::test_support::Lab;
    use super::*;

    async fn cancel(lab: &Lab, user: &str, message: &Message) -> Result<Message, RoutingError> {
        let (user, id) = (user.to_owned(), message.public_id().to_string());
        Ok(lab.router.cancel(Arc::clone(&lab.app), user, id).await?.0)
    }

    #[tokio::test]
    async fn a_scheduled_message_is_cancelled_once() {
        let lab = Lab::new().await;
        let message = lab.schedule("7", "+13125550101", "later").await;
        lab.events();
        assert_eq!(cancel(&lab, "8", &message).await.expect_err("foreign").code, Code::NotFound);
        assert_eq!(cancel(&lab, "7", &message).await.expect("cancelled").status, Status::Cancelled);
        let events = lab.events();
        assert_eq!(events.len(), 1);
        assert_eq!(events[0].name, "App\\Events\\MessageStatusUpdated");
        assert_eq!(events[0].data["previous_status"], "scheduled");
        assert_eq!(cancel(&lab, "7", &message).await.expect_err("already").code, Code::NotCancellable);
    }

    #[tokio::test]
    async fn what_the_carrier_was_not_asked_yet_is_taken_back() {
        let lab = Lab::new().await;
        for (state, attempts, first, is_cancelled) in [
            ("waiting", 0, "NULL", true),
            ("waiting", 1, "NULL", false),
            ("waiting", 0, "5", false),
            ("calling", 0, "NULL", false),
            ("done", 0, "NULL", false),
        ] {
            let message = lab.send("7", "+13125559999", "hello").await;
            lab.carrier_job(&message, state, attempts, first).await;
            let status = cancel(&lab, "7", &message).await.map(|message| message.status);
            let status = status.map_err(|error| error.code);
            let expected = if is_cancelled { Ok(Status::Cancelled) } else { Err(Code::NotCancellable) };
            assert_eq!(status, expected, "{state}, {attempts} attempts, first at {first}");
            let left = lab.texts("SELECT state FROM carrier_jobs ORDER BY message_id DESC LIMIT 1").await;
            assert_eq!(left, [if is_cancelled { "done" } else { state }]);
        }
    }

    #[tokio::test]
    async fn delivered_and_received_messages_are_not_cancelled() {
        let lab = Lab::new().await;
        let sent = lab.send("7", "+13125550101", "hello").await;
        let received = lab.received(std::slice::from_ref(&sent)).await.remove(0);
        assert_eq!(cancel(&lab, "7", &sent).await.expect_err("sent").code, Code::NotCancellable);
        assert_eq!(cancel(&lab, "8", &received).await.expect_err("received").code, Code::NotCancellable);
    }
}
