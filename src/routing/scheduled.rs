//! Messages to be sent later: kept with us until their time, so that they can be cancelled.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use super::decision::{self, Route};
use super::error::{Code, RoutingError};
use super::records::{Conversation, Message};
use super::routed::{self, Steps};
use super::send::Delivery;
use super::status::{Cause, Status};
use super::{Router, directory, jobs, opt_outs};
use crate::apps::App;
use crate::config::DirectoryMode;
use crate::routing::directory::{OwnNumber, Owner};
use crate::routing::phone_number::contact_identity;
use crate::storage::{self, Transaction};

/// How often it is looked for messages whose time has come.
const POLL: Duration = Duration::from_secs(1);
/// Messages of one round.
const PAGE: i64 = 256;

/// Sends what is due until the process ends.
pub async fn run(router: &Router) {
    let mut each = tokio::time::interval(POLL);
    loop {
        each.tick().await;
        if let Err(error) = send_due(router).await {
            tracing::error!(
                code = error.code.as_str(),
                "the router can't read which scheduled messages are due"
            );
        }
    }
}

async fn send_due(router: &Router) -> Result<(), RoutingError> {
    let mut last = (0, 0);
    loop {
        let rows = router
            .database()
            .read(move |tx| {
                tx.query(
                    "SELECT id, app_id, send_at FROM messages WHERE status = 'scheduled' AND send_at <= ?1 \
                     AND (send_at > ?2 OR (send_at = ?2 AND id > ?3)) ORDER BY send_at, id LIMIT ?4",
                    &[storage::now().into(), last.0.into(), last.1.into(), PAGE.into()],
                )
            })
            .await?;
        for row in &rows {
            let (id, app_id) = (row.int(0)?, row.text(1)?);
            last = (row.int(2)?, id);
            let Some(app) = router.inner.hub.app_by_id(&app_id) else { continue };
            // One that can't be sent now keeps back no other.
            if let Err(error) = send(router, app.app(), id).await {
                tracing::error!(
                    app = app_id,
                    code = error.code.as_str(),
                    "the router can't send a scheduled message"
                );
            }
        }
        if rows.len() < PAGE as usize {
            return Ok(());
        }
    }
}

async fn send(router: &Router, app: Arc<App>, id: i64) -> Result<(), RoutingError> {
    let owner = portal_owner(router, &app, id).await?;
    let router_in_job = router.clone();
    router
        .database()
        .write(move |tx| {
            let now = storage::now();
            let Some(mut message) = Message::by_row(tx, id)? else { return Ok(()) };
            let conversation = Conversation::by_row(tx, message.conversation_id)?;
            if message.is_internal {
                deliver(&router_in_job, tx, &app, &mut message, &conversation, owner.clone(), now)
            } else {
                hand_over(&router_in_job, tx, &app, &mut message, &conversation, now)
            }
        })
        .await
}

/// Gives an external message to the carrier, if that is still possible.
fn hand_over(
    router: &Router,
    tx: &mut Transaction<'_>,
    app: &App,
    message: &mut Message,
    conversation: &Conversation,
    now: i64,
) -> Result<(), RoutingError> {
    let checked = jobs::check_enabled(app).and_then(|()| check_external(tx, app, message));
    if let Err(refusal) = checked {
        let reason = json!({"code": refusal.code.as_str(), "title": refusal.message, "carrier": null});
        message.error = Some(reason.to_string());
        message.save_carrier_facts(tx)?;
        router.advance(tx, app, message, (Status::Failed, Cause::Event), now, now)?;
    } else if router.advance(tx, app, message, (Status::Sending, Cause::Event), now, now)? {
        let profile = directory::profile(tx, &app.settings.id, &message.from_number)?;
        let thread_id = &conversation.thread_id;
        jobs::create(router, tx, app, message, profile.as_deref(), thread_id, now)?;
        routed::log(tx, thread_id, &app.settings.id, message, Steps::DueExternal, None);
    }
    Ok(())
}

/// Whether a message that was accepted earlier may go to the carrier now: its number still is the user's (where
/// the directory is ours), and the recipient did not opt out meanwhile.
fn check_external(tx: &mut Transaction<'_>, app: &App, message: &Message) -> Result<(), RoutingError> {
    let (app_id, number) = (&app.settings.id, &message.from_number);
    if app.settings.routing.directory.mode == DirectoryMode::Own {
        let owner = directory::find(tx, app_id, number)?.filter(|owner| owner.is_assigned);
        if owner.is_none_or(|owner| owner.user_id.as_ref() != Some(&message.user_id)) {
            let reason = "the number that the message is from is not assigned to this user any more";
            return Err(RoutingError::new(Code::FromNotOwned, reason));
        }
    }
    let messaging_profile_id = directory::profile(tx, app_id, number)?;
    let own = OwnNumber { number: number.clone(), is_default: false, messaging_profile_id };
    opt_outs::check(tx, app, &own, &contact_identity(&message.to_number))
}

/// Who has the number now, when the portal's tables say it.
async fn portal_owner(router: &Router, app: &Arc<App>, id: i64) -> Result<Option<Owner>, RoutingError> {
    if app.settings.routing.directory.mode == DirectoryMode::Own {
        return Ok(None);
    }
    let message = router.database().read(move |tx| Message::by_row(tx, id)).await?;
    match message {
        Some(message) => router.portal_owner(app, &message.to_number).await,
        None => Ok(None),
    }
}

/// Delivers an internal message to who has the number now: it was meant for the number's user, and a
/// number that moved delivers nothing more to its old one.
fn deliver(
    router: &Router,
    tx: &mut Transaction<'_>,
    app: &App,
    message: &mut Message,
    conversation: &Conversation,
    portal_owner: Option<Owner>,
    now: i64,
) -> Result<(), RoutingError> {
    let settings = &app.settings.routing;
    let owner = match settings.directory.mode {
        DirectoryMode::Own => directory::find(tx, &app.settings.id, &message.to_number)?,
        DirectoryMode::Sql => portal_owner,
    };
    let Ok((Route::Internal(user), _)) = decision::route(owner.as_ref(), settings.unassigned_own_number)
    else {
        let title = "The recipient's number was not assigned to anybody any more";
        message.error =
            Some(json!({"code": "recipient_unassigned", "title": title, "carrier": null}).to_string());
        message.save_carrier_facts(tx)?;
        router.advance(tx, app, message, (Status::Failed, Cause::Event), now, now)?;
        return Ok(());
    };
    if router.advance(tx, app, message, (Status::Delivered, Cause::Event), now, now)? {
        let delivery = Delivery {
            router,
            app,
            message,
            conversation,
            recipient_user: &user,
            known_conversation: None,
            except: None,
            is_announced: true,
            called_at: None,
        };
        let created = delivery.run(tx, now)?;
        let steps = Steps::DueInternal { created };
        routed::log(tx, &conversation.thread_id, &app.settings.id, message, steps, None);
    }
    Ok(())
}

impl Router {
    /// Has a failed or unconfirmed message sent again.
    ///
    /// # Errors
    /// It did neither fail nor stay open, or went to a portal user.
    pub async fn retry(
        &self,
        app: Arc<App>,
        user: String,
        id: String,
    ) -> Result<(Message, Conversation), RoutingError> {
        let router = self.clone();
        self.database()
            .write(move |tx| {
                let now = storage::now();
                let message = Message::find(tx, &app.settings.id, &user, &id)?;
                let mut message = message.ok_or_else(|| RoutingError::not_found("message"))?;
                jobs::check_enabled(&app)?;
                if !message.is_internal {
                    check_external(tx, &app, &message)?;
                }
                let is_open = matches!(message.status, Status::Failed | Status::Unconfirmed);
                if message.is_internal || !is_open || !jobs::start_over(&router, tx, &app, &message, now)? {
                    let reason = "only an external message that failed or is unconfirmed can be sent again";
                    return Err(RoutingError::new(Code::NotRetryable, reason));
                }
                if message.status == Status::Failed {
                    // Another send of the carrier's, with an id of its own.
                    message.telnyx_message_id = None;
                }
                message.error = None;
                message.save_carrier_facts(tx)?;
                if !router.advance(tx, &app, &mut message, (Status::Sending, Cause::Retry), now, now)? {
                    return Err(tx.conflict().into());
                }
                let conversation = Conversation::by_row(tx, message.conversation_id)?;
                Ok((message, conversation))
            })
            .await
    }
}
