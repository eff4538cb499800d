//! Contacts, opt-outs, callbacks that were given up, and how things stand.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::call::Caller;
use super::fields::{NoFields, limit, whole};
use crate::routing::draft::{UserRef, invalid, name};
use crate::routing::json::{ContactJson, Id};
use crate::routing::{FailedCallback, OptOut, Overview, RoutingError};

/// Callbacks that one request may have sent again.
const MAX_RESEND: usize = 1_000;

/// `POST /contacts`.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct NameRequest {
    /// Whose contact it is.
    user_id: Option<UserRef>,
    /// The contact's number, in any usual spelling.
    #[schemars(required)]
    number: Option<String>,
    /// As the user calls it.
    name: Option<String>,
}

/// A contact.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ContactAnswer {
    /// As it is now.
    contact: ContactJson,
}

/// `POST /opt_outs` and `POST /opt_outs/remove`.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct OptOutRequest {
    /// In any usual spelling.
    #[schemars(required)]
    number: Option<String>,
}

/// Numbers that opted out of messages.
#[derive(Debug, Serialize, JsonSchema)]
pub struct OptOutList {
    /// All of them.
    opt_outs: Vec<OptOut>,
}

/// `GET /callbacks`.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct CallbacksRequest {
    /// Only `failed`, the default.
    state: Option<CallbackState>,
    /// At most so many, up to 200; 50 if not given.
    #[serde(default, deserialize_with = "whole")]
    #[schemars(with = "Option<u32>")]
    limit: Option<i64>,
    /// `next` of the page before.
    #[serde(default, deserialize_with = "whole")]
    #[schemars(with = "Option<u64>")]
    after: Option<i64>,
}

/// Which callbacks.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum CallbackState {
    /// Those that were given up.
    Failed,
}

/// A page of callbacks, the oldest first.
#[derive(Debug, Serialize, JsonSchema)]
pub struct CallbackList {
    /// The callbacks.
    callbacks: Vec<FailedCallback>,
    /// To be sent as `after` for the next page; null on the last one.
    next: Option<Id>,
}

/// `POST /callbacks/resend`.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct ResendRequest {
    /// Which ones, up to 1000.
    ids: Option<Vec<i64>>,
    /// All that the server gave up, instead of `ids`.
    all: Option<bool>,
}

/// What is sent again.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ResendAnswer {
    /// How many callbacks.
    resent: u64,
}

/// Gives a contact a name.
pub async fn name_contact(caller: Caller, request: NameRequest) -> Result<ContactAnswer, RoutingError> {
    let user = caller.user(request.user_id.as_ref())?;
    let Caller { router, app, .. } = caller;
    let number = given(request.number)?;
    let name = name(request.name.as_deref())?;
    let contact = router.name_contact(app.clone(), user, number, name).await?;
    Ok(ContactAnswer { contact: contact.json(&app.settings.routing) })
}

/// Numbers that opted out of messages.
pub async fn opt_outs(caller: Caller, _request: NoFields) -> Result<OptOutList, RoutingError> {
    let Caller { router, app, .. } = caller;
    Ok(OptOutList { opt_outs: router.opt_outs(app).await? })
}

/// Adds one.
pub async fn add_opt_out(caller: Caller, request: OptOutRequest) -> Result<OptOutList, RoutingError> {
    let Caller { router, app, .. } = caller;
    let number = given(request.number)?;
    Ok(OptOutList { opt_outs: router.add_opt_out(app, number).await? })
}

/// Takes one away.
pub async fn remove_opt_out(caller: Caller, request: OptOutRequest) -> Result<OptOutList, RoutingError> {
    let Caller { router, app, .. } = caller;
    let number = given(request.number)?;
    Ok(OptOutList { opt_outs: router.remove_opt_out(app, number).await? })
}

/// Callbacks that were given up.
pub async fn callbacks(caller: Caller, request: CallbacksRequest) -> Result<CallbackList, RoutingError> {
    let CallbacksRequest { state: Some(CallbackState::Failed) | None, .. } = request;
    let Caller { router, app, .. } = caller;
    let limit = limit(request.limit, 50, 200)?;
    let mut callbacks = router.failed_callbacks(app, limit + 1, request.after).await?;
    let size = usize::try_from(limit).unwrap_or(0);
    let has_more = callbacks.len() > size;
    callbacks.truncate(size);
    let next = callbacks.last().filter(|_| has_more).map(|last| Id::Number(last.id));
    Ok(CallbackList { callbacks, next })
}

/// Sends them again.
pub async fn resend(caller: Caller, request: ResendRequest) -> Result<ResendAnswer, RoutingError> {
    let ids = match (request.ids, request.all.unwrap_or(false)) {
        (Some(ids), false) if ids.len() <= MAX_RESEND => Some(ids),
        (Some(_), false) => {
            return Err(invalid("ids", &format!("at most {MAX_RESEND} callbacks can be named")));
        }
        (None, true) => None,
        (Some(_), true) | (None, false) => {
            return Err(invalid("ids", "name the callbacks in ids, or send all = true"));
        }
    };
    let Caller { router, app, .. } = caller;
    Ok(ResendAnswer { resent: router.resend_callbacks(app, ids).await? })
}

/// How things stand.
pub async fn status(caller: Caller, _request: NoFields) -> Result<Overview, RoutingError> {
    let Caller { router, app, .. } = caller;
    router.overview(app).await
}

/// A number, which the router reads: a contact may also be a short code.
fn given(number: Option<String>) -> Result<String, RoutingError> {
    number.ok_or_else(|| invalid("number", "number is missing"))
}
