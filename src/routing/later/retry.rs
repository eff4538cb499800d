//! Messages that a person has sent again.

use std::sync::Arc;

use super::departure::Departure;
use crate::apps::App;
use crate::routing::Router;
use crate::routing::error::{Code, RoutingError};
use crate::routing::records::{Conversation, Message};
use crate::routing::routed::Occasion;
use crate::routing::status::{Direction, Status};
use crate::storage;

impl Router {
    /// Has a failed or unconfirmed message sent again, to where its recipient is reached now.
    ///
    /// # Errors
    /// `not_retryable`: it did neither fail nor stay open. Why it may not go. `directory_unavailable`.
    pub async fn retry(
        &self,
        app: Arc<App>,
        user: String,
        id: String,
    ) -> Result<(Message, Conversation), RoutingError> {
        let message = self.message(Arc::clone(&app), user, id).await?;
        let portal_owner = self.portal_owner(&app, &message.to_number).await?;
        let router = self.clone();
        self.database()
            .write(move |tx| {
                let message = Message::by_row_to_change(tx, message.id)?;
                let mut message = message.ok_or_else(|| RoutingError::not_found("message"))?;
                let is_open = matches!(message.status, Status::Failed | Status::Unconfirmed);
                if message.direction == Direction::Inbound || !is_open {
                    let reason = "only a message that failed or is unconfirmed can be sent again";
                    return Err(RoutingError::new(Code::NotRetryable, reason));
                }
                let departure = Departure {
                    router: &router,
                    app: &app,
                    portal_owner: portal_owner.as_ref(),
                    occasion: Occasion::Retried,
                };
                let decided = departure.decide(tx, &message)?;
                departure.go(tx, &mut message, &decided, storage::now())?;
                let conversation = Conversation::by_row(tx, message.conversation_id)?;
                Ok((message, conversation))
            })
            .await
    }
}
