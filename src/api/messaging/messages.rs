//! Messages: sending, reading, changing.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::call::Caller;
use super::fields::UserRequest;
use crate::routing::decision::Explanation;
use crate::routing::draft::{Draft, SendRequest, UserRef, invalid};
use crate::routing::json::{ConversationJson, MessageJson};
use crate::routing::records::Message;
use crate::routing::{self, Code, RoutingError};

/// What was sent.
#[derive(Debug, Serialize, JsonSchema)]
pub struct SendAnswer {
    /// The sender's message. One that the carrier refused is here with `status` `failed` and its `error`.
    message: MessageJson,
    /// The sender's conversation.
    conversation: ConversationJson,
    /// Whether it went to a portal user, without carrier.
    internal: bool,
    /// Whether it was sent before, with the same idempotency key; the answer shows its present state.
    replayed: bool,
}

/// A message.
#[derive(Debug, Serialize, JsonSchema)]
pub struct MessageAnswer {
    /// As it is now.
    message: MessageJson,
}

/// Why a message went where it went.
#[derive(Debug, Serialize, JsonSchema)]
pub struct DecisionAnswer {
    /// The decision, made once when the message was sent; null for what the carrier brought.
    decision: Option<Explanation>,
}

/// `POST /messages/{id}/edit`.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct EditRequest {
    /// The sender.
    user_id: Option<UserRef>,
    /// The new text.
    text: Option<String>,
    /// The same as `text`.
    body: Option<String>,
    /// The connection that must not get the events.
    socket_id: Option<String>,
}

/// `POST /messages/{id}/delete`.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct DeleteRequest {
    /// Whose message it is.
    user_id: Option<UserRef>,
    /// For whom; `me` if not given.
    scope: Option<DeleteScope>,
    /// The connection that must not get the events.
    socket_id: Option<String>,
}

/// For whom a message is deleted.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum DeleteScope {
    /// The user no longer sees it.
    Me,
    /// It has no text any more, for both sides.
    Everyone,
}

/// Sends a message.
pub async fn send(caller: Caller, request: SendRequest) -> Result<SendAnswer, RoutingError> {
    let draft = draft(&caller, request).await?;
    let Caller { router, app, .. } = caller;
    let sent = router.send(app.clone(), draft).await?;
    let message = sent.message.ok_or_else(|| {
        tracing::error!("bug: the store lacks a message that was just sent");
        RoutingError::new(Code::StorageUnavailable, "the message is not there")
    })?;
    let settings = &app.settings.routing;
    Ok(SendAnswer {
        internal: message.is_internal,
        replayed: sent.replayed,
        conversation: sent.conversation.json(settings),
        message: message.json(settings),
    })
}

/// The checked request; a token's user is the sender.
pub(super) async fn draft(caller: &Caller, mut request: SendRequest) -> Result<Draft, RoutingError> {
    request.user_id = Some(UserRef::Text(caller.user(request.user_id.as_ref())?));
    caller.router.draft(&caller.app, &request).await
}

/// One message.
pub async fn show(caller: Caller, request: UserRequest) -> Result<MessageAnswer, RoutingError> {
    let user = caller.user(request.user_id.as_ref())?;
    let Caller { router, app, id, .. } = caller;
    let message = router.message(app.clone(), user, id).await?;
    Ok(told(&app, &message))
}

/// Why it went where it went.
pub async fn decision(caller: Caller, request: UserRequest) -> Result<DecisionAnswer, RoutingError> {
    let user = caller.user(request.user_id.as_ref())?;
    let Caller { router, app, id, .. } = caller;
    Ok(DecisionAnswer { decision: router.explain(app, user, id).await? })
}

/// Changes its text.
pub async fn edit(caller: Caller, request: EditRequest) -> Result<MessageAnswer, RoutingError> {
    let user = caller.user(request.user_id.as_ref())?;
    let text = request.text.or(request.body).ok_or_else(|| invalid("text", "text is missing"))?;
    let Caller { router, app, id, .. } = caller;
    let (message, _) = router.edit(app.clone(), user, id, text, request.socket_id).await?;
    Ok(told(&app, &message))
}

/// Deletes it.
pub async fn delete(caller: Caller, request: DeleteRequest) -> Result<MessageAnswer, RoutingError> {
    let user = caller.user(request.user_id.as_ref())?;
    let scope = match request.scope {
        Some(DeleteScope::Everyone) => routing::DeleteScope::Everyone,
        Some(DeleteScope::Me) | None => routing::DeleteScope::Me,
    };
    let Caller { router, app, id, .. } = caller;
    let (message, _) = router.delete(app.clone(), user, id, scope, request.socket_id).await?;
    Ok(told(&app, &message))
}

/// Hands a failed or unconfirmed one to the carrier again.
pub async fn retry(caller: Caller, request: UserRequest) -> Result<MessageAnswer, RoutingError> {
    let user = caller.user(request.user_id.as_ref())?;
    let Caller { router, app, id, .. } = caller;
    let (message, _) = router.retry(app.clone(), user, id).await?;
    Ok(told(&app, &message))
}

/// Takes back one that was not sent yet.
pub async fn cancel(caller: Caller, request: UserRequest) -> Result<MessageAnswer, RoutingError> {
    let user = caller.user(request.user_id.as_ref())?;
    let Caller { router, app, id, .. } = caller;
    let (message, _) = router.cancel(app.clone(), user, id).await?;
    Ok(told(&app, &message))
}

fn told(app: &crate::apps::App, message: &Message) -> MessageAnswer {
    MessageAnswer { message: message.json(&app.settings.routing) }
}
