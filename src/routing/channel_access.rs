//! Who may subscribe to the router's public channels, for apps with `channels.authenticated_public`.

use std::time::Duration;

use super::records::Conversation;
use crate::apps::App;
use crate::config::ChannelMode;
use crate::hub::{Gatekeeper, Verdict};
use crate::logging::seldom::Seldom;
use crate::protocol::channel::ChannelName;
use crate::protocol::id::UserId;
use crate::storage::Database;

/// Time until a store is asked again that could not answer.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// Lets users subscribe to their own `user.<id>` and to `messenger.<id>` of their own conversations.
/// Other channels are open; so is everything in the private mode, where nothing is published publicly.
pub struct ChannelAccess {
    database: Database,
}

impl ChannelAccess {
    /// Access by the conversations of this store.
    pub fn new(database: Database) -> Self {
        Self { database }
    }

    fn ask(&self, app: &App, channel: &ChannelName, conversation: &str, user: &UserId) -> Verdict {
        let (database, app_id) = (self.database.clone(), app.settings.id.clone());
        let (conversation, user) = (conversation.to_owned(), user.clone());
        let refusal =
            format!("Not authorized: {channel} is for connections signed in as the conversation's owner");
        Verdict::Ask(Box::pin(async move {
            // A refusal would be final for the client, so a store in trouble is asked again.
            loop {
                let (app_id, conversation, user) = (app_id.clone(), conversation.clone(), user.clone());
                let is_own = database.read(move |tx| {
                    let found = Conversation::of_channel(tx, &app_id, &conversation)?;
                    Ok::<_, crate::storage::StorageError>(
                        found.iter().any(|found| found.user_id == user.as_str()),
                    )
                });
                match is_own.await {
                    Ok(true) => return Ok(()),
                    Ok(false) => return Err(refusal),
                    Err(error) => {
                        static SELDOM: Seldom = Seldom::new();
                        if let Some(suppressed) = SELDOM.admit() {
                            tracing::warn!(%error, suppressed, "the router can't check the right to subscribe to a conversation: the store can't be read");
                        }
                    }
                }
                tokio::time::sleep(ASK_AGAIN).await;
            }
        }))
    }
}

impl Gatekeeper for ChannelAccess {
    fn check(&self, app: &App, channel: &ChannelName, user: Option<&UserId>) -> Verdict {
        if app.settings.routing.channels.mode == ChannelMode::Private {
            return Verdict::Allow;
        }
        let name = channel.as_str();
        let (owner, conversation) = (name.strip_prefix("user."), name.strip_prefix("messenger."));
        match (owner, conversation, user) {
            (None, None, _) => Verdict::Allow,
            (_, _, None) => {
                Verdict::SignInFirst(format!("Not authorized: {channel} needs a connection that signed in"))
            }
            (None, Some(conversation), Some(user)) => self.ask(app, channel, conversation, user),
            (Some(owner), _, Some(user)) if owner == user.as_str() => Verdict::Allow,
            (Some(_), _, Some(_)) => {
                let refusal = format!("Not authorized: {channel} is for connections signed in as that user");
                Verdict::Refuse(refusal)
            }
        }
    }
}
