//! A message that was accepted earlier and goes now.

use serde_json::json;

use crate::apps::App;
use crate::config::DirectoryMode;
use crate::routing::decision::{self, Explanation, Route};
use crate::routing::directory::{self, OwnNumber, Owner};
use crate::routing::error::{Code, RoutingError};
use crate::routing::phone_number::contact_identity;
use crate::routing::records::{Awaited, Conversation, Message};
use crate::routing::routed::{self, Occasion, Steps};
use crate::routing::send::Delivery;
use crate::routing::status::{Cause, Status};
use crate::routing::text::{self, Way};
use crate::routing::{Router, jobs, opt_outs};
use crate::storage::{StorageError, Transaction};

/// What decides where a message goes that was accepted earlier.
pub(super) struct Departure<'a> {
    pub router: &'a Router,
    pub app: &'a App,
    /// Who has the recipient's number, where the portal's tables say it.
    pub portal_owner: Option<&'a Owner>,
    pub occasion: Occasion,
}

/// Where a message goes, and why.
pub(super) struct Decided {
    route: Route,
    explanation: Explanation,
}

impl Departure<'_> {
    /// Where the message goes now.
    ///
    /// # Errors
    /// It may not go: its number is not the user's any more (where the directory is ours), nobody has the
    /// recipient's number and such are refused, the recipient opted out, or the like.
    pub(super) fn decide(
        &self,
        tx: &mut Transaction<'_>,
        message: &Message,
    ) -> Result<Decided, RoutingError> {
        let (app_id, settings) = (&self.app.settings.id, &self.app.settings.routing);
        self.check_sender(tx, message)?;
        let owner = match settings.directory.mode {
            DirectoryMode::Own => directory::find(tx, app_id, &message.to_number)?,
            DirectoryMode::Sql => self.portal_owner.cloned(),
        };
        let (route, reason) = if message.is_to_group() {
            (Route::External, "group")
        } else {
            decision::route(owner.as_ref(), settings.unassigned_own_number)?
        };
        let is_internal = route != Route::External;
        let way = Way::of(is_internal, message.kind == "MMS", &message.to_number);
        let checked = text::check_text(message.body.as_deref().unwrap_or_default(), way);
        checked.map_err(|error| error.at("text"))?;
        if !is_internal {
            jobs::check_enabled(self.app)?;
            let messaging_profile_id = directory::profile(tx, app_id, &message.from_number)?;
            let own =
                OwnNumber { number: message.from_number.clone(), is_default: false, messaging_profile_id };
            for recipient in std::iter::once(&message.to_number).chain(&message.cc) {
                opt_outs::check(tx, self.app, &own, &contact_identity(recipient), "to")?;
            }
        }
        let earlier = serde_json::from_str::<Explanation>(&message.decision);
        let from = earlier.map_or_else(|_| "request".to_owned(), |earlier| earlier.from);
        let explanation = Explanation::new(&route, reason, owner.as_ref(), settings.directory.mode, from);
        Ok(Decided { route, explanation })
    }

    fn check_sender(&self, tx: &mut Transaction<'_>, message: &Message) -> Result<(), RoutingError> {
        if self.app.settings.routing.directory.mode == DirectoryMode::Sql {
            return Ok(());
        }
        let owner = directory::find(tx, &self.app.settings.id, &message.from_number)?;
        let owner = owner.filter(|owner| owner.is_assigned).and_then(|owner| owner.user_id);
        if owner.as_ref() == Some(&message.user_id) {
            return Ok(());
        }
        let reason = "the number that the message is from is not assigned to this user any more";
        Err(RoutingError::new(Code::FromNotOwned, reason))
    }

    /// Has the message go there, from the end of its conversation.
    ///
    /// # Errors
    /// Of the store; a conflict where the message can't take this step any more.
    pub(super) fn go(
        &self,
        tx: &mut Transaction<'_>,
        message: &mut Message,
        decided: &Decided,
        now: i64,
    ) -> Result<(), StorageError> {
        let is_internal = decided.route != Route::External;
        let mut conversation = Conversation::by_row(tx, message.conversation_id)?;
        message.set_route(tx, is_internal, json!(decided.explanation).to_string())?;
        message.move_to_end(tx, &conversation, now)?;
        conversation.add_message(tx, message, false)?;
        let created = match &decided.route {
            Route::Internal(user) => Some(self.deliver(tx, message, &conversation, user, now)?),
            Route::External => {
                self.hand_over(tx, message, &conversation, now)?;
                None
            }
        };
        let steps = Steps::Later { occasion: self.occasion, created };
        let why = Some(&decided.explanation);
        routed::log(tx, &conversation.thread_id, &self.app.settings.id, message, steps, why);
        Ok(())
    }

    /// Delivers it to the portal user who has the number now; answers whether the recipient's conversation is new.
    fn deliver(
        &self,
        tx: &mut Transaction<'_>,
        message: &mut Message,
        conversation: &Conversation,
        recipient_user: &str,
        now: i64,
    ) -> Result<bool, StorageError> {
        jobs::close_all(tx, message.id)?;
        // What the carrier said of an earlier attempt is nothing of this one.
        (message.telnyx_message_id, message.carrier_status, message.cost) = (None, None, None);
        (message.error, message.is_unconfirmed) = (None, false);
        message.awaited.settle();
        message.save_carrier_facts(tx)?;
        self.advance(tx, message, Status::Delivered, now)?;
        let delivery = Delivery {
            router: self.router,
            app: self.app,
            message,
            conversation,
            recipient_user,
            known_conversation: None,
            except: None,
            is_announced: true,
            called_at: None,
        };
        delivery.run(tx, now)
    }

    fn hand_over(
        &self,
        tx: &mut Transaction<'_>,
        message: &mut Message,
        conversation: &Conversation,
        now: i64,
    ) -> Result<(), StorageError> {
        jobs::send_again(self.router, tx, self.app, message, &conversation.thread_id, now)?;
        if message.status == Status::Failed {
            // Another send of the carrier's, with an id of its own.
            (message.telnyx_message_id, message.carrier_status) = (None, None);
            message.is_unconfirmed = false;
            message.recipients.clear();
            message.awaited = Awaited::default();
        }
        message.error = None;
        message.save_carrier_facts(tx)?;
        self.advance(tx, message, Status::Sending, now)
    }

    fn advance(
        &self,
        tx: &mut Transaction<'_>,
        message: &mut Message,
        next: Status,
        now: i64,
    ) -> Result<(), StorageError> {
        let cause = if self.occasion == Occasion::Retried { Cause::Retry } else { Cause::Event };
        if self.router.advance(tx, self.app, message, (next, cause), now, now)? {
            return Ok(());
        }
        Err(tx.conflict())
    }
}

/// Delivers a message inside that waits for the carrier, if its recipient became a portal user meanwhile and the
/// carrier has it for certain not; answers whether it did.
///
/// # Errors
/// Of the store.
pub fn turn_internal(
    router: &Router,
    tx: &mut Transaction<'_>,
    app: &App,
    message: i64,
    portal_owner: Option<&Owner>,
    now: i64,
) -> Result<bool, StorageError> {
    let Some(mut message) = Message::by_row_to_change(tx, message)? else { return Ok(false) };
    let departure = Departure { router, app, portal_owner, occasion: Occasion::Waited };
    match departure.decide(tx, &message) {
        Ok(decided) if decided.route != Route::External && message.status == Status::Sending => {
            departure.go(tx, &mut message, &decided, now)?;
            Ok(true)
        }
        // What stands in the way of a message is asked when it is accepted; this one was.
        _ => Ok(false),
    }
}
