//! Conversations: starting, listing, reading; and that somebody types.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::call::Caller;
use super::fields::{Done, UserRequest, limit, whole};
use super::messages::draft;
use crate::routing::RoutingError;
use crate::routing::draft::{SendRequest, UserRef};
use crate::routing::json::{ConversationJson, Id, MessageJson};
use crate::routing::reading::{ConversationQuery, MessageQuery};

/// A conversation that was found or made.
#[derive(Debug, Serialize, JsonSchema)]
pub struct StartAnswer {
    /// The user's conversation.
    conversation: ConversationJson,
    /// Whether it is new.
    created: bool,
    /// The message that was sent with it, if one was.
    message: Option<MessageJson>,
    /// Whether the contact is a portal user, as of the last message.
    internal: bool,
    /// Whether the message was sent before, with the same idempotency key.
    replayed: bool,
}

/// `GET /conversations`.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct ConversationsRequest {
    /// Whose conversations.
    user_id: Option<UserRef>,
    /// At most so many, up to 100; 50 if not given.
    #[serde(default, deserialize_with = "whole")]
    #[schemars(with = "Option<u32>")]
    limit: Option<i64>,
    /// `next` of the page before.
    before: Option<String>,
    /// A part of a number, a name or a last message; upper and lower case count as one, in every script.
    q: Option<String>,
}

/// A page of conversations, the most active first.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ConversationList {
    /// The conversations.
    conversations: Vec<ConversationJson>,
    /// To be sent as `before` for the next page; null on the last one.
    next: Option<String>,
    /// Unread messages in all conversations of the user.
    unread_total: i64,
}

/// A conversation.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ConversationAnswer {
    /// As it is now.
    conversation: ConversationJson,
}

/// `GET /conversations/{id}/messages`.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct MessagesRequest {
    /// Whose conversation it is.
    user_id: Option<UserRef>,
    /// At most so many, up to 200; 50 if not given.
    #[serde(default, deserialize_with = "whole")]
    #[schemars(with = "Option<u32>")]
    limit: Option<i64>,
    /// Only messages older than this one.
    before: Option<String>,
    /// Only messages newer than this one; those next to it first.
    after: Option<String>,
}

/// A page of messages, newest first.
#[derive(Debug, Serialize, JsonSchema)]
pub struct MessageList {
    /// The messages.
    messages: Vec<MessageJson>,
    /// The message to go on from: to be sent as `after` where that was given, otherwise as `before`; null at
    /// the end.
    next: Option<Id>,
}

/// `POST /conversations/{id}/read`.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct ReadRequest {
    /// The user who read.
    user_id: Option<UserRef>,
    /// The last message that was read; all of them if not given.
    up_to: Option<UserRef>,
    /// The connection that must not get the events.
    socket_id: Option<String>,
}

/// What was read.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ReadAnswer {
    /// As it is now.
    conversation: ConversationJson,
    /// Messages that were unread before.
    marked: i64,
}

/// `POST /conversations/{id}/typing`.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct TypingRequest {
    /// Who types.
    user_id: Option<UserRef>,
    /// Whether they do; yes if not given.
    typing: Option<bool>,
}

/// Finds or makes a conversation, and sends a message in it if there is one.
pub async fn start(caller: Caller, request: SendRequest) -> Result<StartAnswer, RoutingError> {
    let draft = draft(&caller, request).await?;
    let Caller { router, app, .. } = caller;
    let sent = router.start_conversation(app.clone(), draft).await?;
    let settings = &app.settings.routing;
    Ok(StartAnswer {
        internal: sent.conversation.is_internal,
        created: sent.created,
        replayed: sent.replayed,
        message: sent.message.map(|message| message.json(settings)),
        conversation: sent.conversation.json(settings),
    })
}

/// A page of a user's conversations.
pub async fn list(caller: Caller, request: ConversationsRequest) -> Result<ConversationList, RoutingError> {
    let user = caller.user(request.user_id.as_ref())?;
    let query = ConversationQuery {
        limit: limit(request.limit, 50, 100)?,
        before: request.before,
        search: request.q,
    };
    let Caller { router, app, .. } = caller;
    let page = router.conversations(app.clone(), user, query).await?;
    let settings = &app.settings.routing;
    Ok(ConversationList {
        conversations: page.conversations.iter().map(|conversation| conversation.json(settings)).collect(),
        next: page.next,
        unread_total: page.unread_total,
    })
}

/// One conversation.
pub async fn show(caller: Caller, request: UserRequest) -> Result<ConversationAnswer, RoutingError> {
    let user = caller.user(request.user_id.as_ref())?;
    let Caller { router, app, id, .. } = caller;
    let conversation = router.conversation(app.clone(), user, id).await?;
    Ok(ConversationAnswer { conversation: conversation.json(&app.settings.routing) })
}

/// A page of its messages.
pub async fn messages(caller: Caller, request: MessagesRequest) -> Result<MessageList, RoutingError> {
    let user = caller.user(request.user_id.as_ref())?;
    let query =
        MessageQuery { limit: limit(request.limit, 50, 200)?, before: request.before, after: request.after };
    let Caller { router, app, id, .. } = caller;
    let page = router.messages(app.clone(), user, id, query).await?;
    let settings = &app.settings.routing;
    let messages = page.messages.iter().map(|message| message.json(settings)).collect();
    Ok(MessageList { messages, next: page.next })
}

/// Marks its messages as read.
pub async fn read(caller: Caller, request: ReadRequest) -> Result<ReadAnswer, RoutingError> {
    let user = caller.user(request.user_id.as_ref())?;
    let up_to = request.up_to.map(|id| match id {
        UserRef::Number(number) => number.to_string(),
        UserRef::Text(text) => text,
    });
    let Caller { router, app, id, .. } = caller;
    let (conversation, marked) = router.mark_read(app.clone(), user, id, up_to, request.socket_id).await?;
    Ok(ReadAnswer { conversation: conversation.json(&app.settings.routing), marked })
}

/// Shows the other side that the user types.
pub async fn typing(caller: Caller, request: TypingRequest) -> Result<Done, RoutingError> {
    let user = caller.user(request.user_id.as_ref())?;
    let Caller { router, app, id, .. } = caller;
    router.typing(app, user, id, request.typing.unwrap_or(true)).await?;
    Ok(Done {})
}
