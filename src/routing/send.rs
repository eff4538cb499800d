//! A portal hands over a message: the decision, the records, what follows.

use std::sync::Arc;
use std::time::Instant;

use serde_json::json;
use tokio::sync::oneshot;

use super::counters::Counter;
use super::decision::{self, Explanation, Route};
use super::directory::{self, OwnNumber, Owner};
use super::draft::Draft;
use super::error::{Code, RoutingError};
use super::events::{Audience, Events};
use super::phone_number::{is_same_line, mask, spelling_values};
use super::records::{Contact, Conversation, ConversationKey, Message, NewMessage};
use super::routed::{self, Steps};
use super::status::{Direction, Status};
use super::{Router, attachments, callbacks, jobs, opt_outs, portal_ids, sms};
use crate::apps::App;
use crate::config::DirectoryMode;
use crate::storage::{self, StorageError, Transaction};

/// What sending comes to.
#[derive(Clone, Debug)]
pub struct Sent {
    /// The sender's message; `None` when a conversation was started without one.
    pub message: Option<Message>,
    /// The sender's conversation.
    pub conversation: Conversation,
    /// Whether the conversation is new.
    pub created: bool,
    /// Whether the message was sent before, with the same idempotency key.
    pub replayed: bool,
}

/// What is known of the numbers before the transaction: nothing, unless the directory is the portal's.
#[derive(Clone, Debug)]
pub enum Numbers {
    /// They are looked up in the transaction.
    Own,
    /// The portal's tables said this.
    Portal {
        /// Who has the recipient's number.
        recipient: Option<Owner>,
        /// What the sender may send from.
        own_numbers: Vec<OwnNumber>,
        /// Conversations the portal has already.
        conversations: super::portal_directory::KnownConversations,
    },
}

impl Router {
    /// Sends a message.
    ///
    /// # Errors
    /// Why nothing was stored or sent.
    pub async fn send(&self, app: Arc<App>, draft: Draft) -> Result<Sent, RoutingError> {
        if !draft.has_content() {
            return Err(RoutingError::new(Code::NoContent, "a message needs text or media_urls").at("text"));
        }
        self.start_conversation(app, draft).await
    }

    /// Finds or makes a conversation and sends a message in it, if there is one in the draft.
    ///
    /// # Errors
    /// Why nothing was stored or sent.
    pub async fn start_conversation(&self, app: Arc<App>, draft: Draft) -> Result<Sent, RoutingError> {
        let called_at = Instant::now();
        if draft.has_content()
            && let Err(refusal) =
                self.check_room_in_store().and_then(|()| self.limits().take_send(&app, &draft.user_id))
        {
            // What was sent before is told however much was sent since.
            return self.sent_before(&app, draft).await?.ok_or(refusal);
        }
        let numbers = self.look_up(&app, &draft).await?;
        let (router, draft) = (self.clone(), Arc::new(draft));
        let (job_app, job_draft) = (Arc::clone(&app), Arc::clone(&draft));
        let (sent, waits) = self
            .database()
            .write(move |tx| {
                let (draft, app) = (&job_draft, &job_app);
                Sending { router: &router, app, draft, numbers: &numbers, called_at }.run(tx)
            })
            .await?;
        // Its number may have been imported by another process.
        self.warn_if_exposed(&app.settings);
        match (waits, sent.message) {
            (Some(first_attempt), Some(message)) if draft.wait => {
                // The wait decides nothing: whatever happens, the answer is what is stored.
                let _ = tokio::time::timeout(app.settings.routing.send.wait, first_attempt).await;
                // Where that can't be read now, it is what was written: the message is there.
                let reloaded = self.reload(&message).await;
                let (message, conversation) = reloaded.unwrap_or((message, sent.conversation));
                Ok(Sent { message: Some(message), conversation, ..sent })
            }
            (_, message) => Ok(Sent { message, ..sent }),
        }
    }

    /// What a draft's idempotency key was used for.
    async fn sent_before(&self, app: &Arc<App>, draft: Draft) -> Result<Option<Sent>, RoutingError> {
        if draft.idempotency_key.is_none() {
            return Ok(None);
        }
        let (router, app) = (self.clone(), Arc::clone(app));
        self.database().write(move |tx| replay(&router, tx, &app, &draft)).await
    }

    async fn look_up(&self, app: &Arc<App>, draft: &Draft) -> Result<Numbers, RoutingError> {
        match app.settings.routing.directory.mode {
            DirectoryMode::Own => Ok(Numbers::Own),
            DirectoryMode::Sql => self.portal_directory(app)?.look_up(draft).await,
        }
    }

    /// A message and its conversation as they are now.
    pub(super) async fn reload(&self, message: &Message) -> Result<(Message, Conversation), RoutingError> {
        let id = message.id;
        self.database()
            .read(move |tx| {
                let message = Message::by_row(tx, id)?.ok_or_else(|| RoutingError::not_found("message"))?;
                let conversation = Conversation::by_row(tx, message.conversation_id)?;
                Ok((message, conversation))
            })
            .await
    }
}

/// One run of the transaction.
struct Sending<'a> {
    router: &'a Router,
    app: &'a App,
    draft: &'a Draft,
    numbers: &'a Numbers,
    called_at: Instant,
}

/// Resolves when the carrier was asked for the first time.
type FirstAttempt = Option<oneshot::Receiver<()>>;

impl Sending<'_> {
    fn run(&self, tx: &mut Transaction<'_>) -> Result<(Sent, FirstAttempt), RoutingError> {
        let now = storage::now();
        if let Some(replay) = self.claim_key(tx, now)? {
            return Ok((replay, None));
        }
        let (app_id, settings) = (&self.app.settings.id, &self.app.settings.routing);
        let to = self.draft.to.identity();
        let to = to.as_str();
        let (own, from_reason) = self.sender(tx)?;
        if is_same_line(&own.number, to) {
            let message = "a number can't write to itself";
            return Err(RoutingError::new(Code::SelfMessage, message).at("to"));
        }
        let user = self.draft.user_id.as_str();
        let (recipient, route, reason) = if self.draft.is_to_group() {
            // The carrier makes the group's thread, so it gets the message whoever the members are.
            (None, Route::External, "group")
        } else {
            tracing::debug!(
                app = app_id.as_str(),
                user,
                from = mask(&own.number),
                to = mask(to),
                "Checking if recipient is internal user"
            );
            let recipient = self.recipient(tx)?;
            let (route, reason) = decision::route(recipient.as_ref(), settings.unassigned_own_number)?;
            (recipient, route, reason)
        };
        let is_internal = route != Route::External;
        let thread_id = self.router.thread_id(app_id, &own.number, to);
        // A new contact gets the number that the directory has.
        let listed = recipient.as_ref().filter(|_| is_internal).map(|owner| owner.number.as_str());
        let key = ConversationKey {
            app_id,
            user_id: user,
            own_number: &own.number,
            contact_number: listed.unwrap_or(to),
            thread_id: &thread_id,
        };
        let (mut conversation, created) = Conversation::find_or_create(tx, &key, is_internal, settings, now)?;
        if created {
            self.router.check_room_in_store()?;
            self.router.limits().take_conversation(self.app, user)?;
        }
        self.check_conversation(tx, &mut conversation)?;
        if let Some(name) = &self.draft.contact_name {
            conversation.contact = Contact::name(tx, &key, name, settings.ids.kind, now)?;
        }
        if !self.draft.has_content() {
            if conversation.is_internal != is_internal && !self.draft.is_to_group() {
                conversation.set_internal(tx, is_internal, now)?;
            }
            return Ok((Sent { message: None, conversation, created, replayed: false }, None));
        }
        let explanation =
            Explanation::new(&route, reason, recipient.as_ref(), settings.directory.mode, from_reason);
        self.draft.check_text(is_internal)?;
        if !is_internal {
            jobs::check_enabled(self.app)?;
            opt_outs::check(tx, self.app, &own, to, "to")?;
            for member in &self.draft.cc {
                opt_outs::check(tx, self.app, &own, member.as_str(), "reply_all")?;
            }
        }
        let message = self.insert(tx, &mut conversation, &own, &explanation, now)?;
        self.keep_key(tx, &message)?;
        let (first_attempt, steps) = match &route {
            _ if message.status == Status::Scheduled => {
                let mut events = Events::new(self.app).since(Some(self.called_at));
                self.router.message_sent(tx, &mut events, self.app, &message, &conversation, now)?;
                self.router.publish(
                    tx,
                    self.app,
                    &thread_id,
                    events,
                    self.draft.socket_id.as_deref(),
                    now,
                )?;
                (None, Steps::Scheduled)
            }
            Route::Internal(recipient_user) => {
                let delivery = Delivery {
                    router: self.router,
                    app: self.app,
                    message: &message,
                    conversation: &conversation,
                    recipient_user,
                    known_conversation: match self.numbers {
                        Numbers::Own => None,
                        Numbers::Portal { conversations, .. } => conversations.recipient(&own.number),
                    },
                    except: self.draft.socket_id.as_deref(),
                    is_announced: false,
                    called_at: Some(self.called_at),
                };
                let created = delivery.run(tx, now)?;
                (None, Steps::Internal { created })
            }
            Route::External => {
                let mut events = Events::new(self.app).since(Some(self.called_at));
                self.router.message_sent(tx, &mut events, self.app, &message, &conversation, now)?;
                self.router.publish(
                    tx,
                    self.app,
                    &thread_id,
                    events,
                    self.draft.socket_id.as_deref(),
                    now,
                )?;
                let profile = own.messaging_profile_id.as_deref();
                let attempt = jobs::create(self.router, tx, self.app, &message, profile, &thread_id, now)?;
                (Some(attempt), if self.draft.is_to_group() { Steps::Group } else { Steps::External })
            }
        };
        routed::log(tx, &thread_id, app_id, &message, steps, Some(&explanation));
        self.count(tx, is_internal, message.parts);
        Ok((Sent { message: Some(message), conversation, created, replayed: false }, first_attempt))
    }

    fn count(&self, tx: &mut Transaction<'_>, is_internal: bool, parts: Option<i64>) {
        let router = self.router.clone();
        tx.on_commit(self.draft.user_id.as_str(), move || {
            if is_internal {
                router.counters().count(Counter::SentInternal);
                let parts = parts.and_then(|parts| u64::try_from(parts).ok()).unwrap_or(1).max(1);
                router.counters().add(Counter::PartsSaved, parts);
            } else {
                router.counters().count(Counter::SentExternal);
            }
        });
    }

    /// Claims the idempotency key, or answers what it was used for. Of two at once, the unique index makes
    /// the second wait for the first.
    fn claim_key(&self, tx: &mut Transaction<'_>, now: i64) -> Result<Option<Sent>, RoutingError> {
        let key = self.draft.idempotency_key.as_ref().filter(|_| self.draft.has_content());
        let Some(key) = key else { return Ok(None) };
        let (app_id, user_id) = (&self.app.settings.id, &self.draft.user_id);
        let hash = self.draft.hash();
        let claimed = tx.execute(
            "INSERT INTO idempotency (app_id, user_id, key, request_hash, message_id, created_at) \
             VALUES (?1, ?2, ?3, ?4, 0, ?5) ON CONFLICT DO NOTHING",
            &[app_id.into(), user_id.into(), key.into(), (&hash).into(), now.into()],
        )?;
        if claimed == 1 {
            return Ok(None);
        }
        // Its age may have made it disappear just now.
        replay(self.router, tx, self.app, self.draft)?.ok_or_else(|| tx.conflict().into()).map(Some)
    }

    fn keep_key(&self, tx: &mut Transaction<'_>, message: &Message) -> Result<(), StorageError> {
        let Some(key) = &self.draft.idempotency_key else { return Ok(()) };
        tx.execute(
            "UPDATE idempotency SET message_id = ?4 WHERE app_id = ?1 AND user_id = ?2 AND key = ?3",
            &[(&self.app.settings.id).into(), (&self.draft.user_id).into(), key.into(), message.id.into()],
        )?;
        Ok(())
    }

    fn sender(&self, tx: &mut Transaction<'_>) -> Result<(OwnNumber, &'static str), RoutingError> {
        let (app_id, user_id) = (&self.app.settings.id, &self.draft.user_id);
        let own = match self.numbers {
            Numbers::Own => directory::own_numbers(tx, app_id, user_id)?,
            Numbers::Portal { own_numbers, .. } => own_numbers.clone(),
        };
        let last_used = match (own.len(), &self.draft.from, &self.draft.conversation_id, self.numbers) {
            // There may be a conversation for each own number.
            (2.., None, Some(id), Numbers::Own) => {
                Conversation::find(tx, app_id, user_id, id)?.map(|conversation| conversation.own_number)
            }
            (2.., None, ..) => {
                Conversation::last_used_number(tx, app_id, user_id, &self.draft.to.identity())?
            }
            _ => None,
        };
        let (own, how) = decision::sender(self.draft.from.as_ref(), &own, last_used.as_deref())?;
        Ok((own.clone(), how))
    }

    fn recipient(&self, tx: &mut Transaction<'_>) -> Result<Option<Owner>, RoutingError> {
        match (self.numbers, self.draft.to.number()) {
            (_, None) => Ok(None),
            (Numbers::Own, Some(number)) => Ok(directory::find(tx, &self.app.settings.id, number.as_str())?),
            (Numbers::Portal { recipient, .. }, Some(_)) => Ok(recipient.clone()),
        }
    }

    /// The conversation of the request must be the one of its numbers; in existing-database mode it is the
    /// portal's and is noted.
    fn check_conversation(
        &self,
        tx: &mut Transaction<'_>,
        conversation: &mut Conversation,
    ) -> Result<(), RoutingError> {
        match (self.numbers, &self.draft.conversation_id) {
            (Numbers::Own, Some(id)) if *id != conversation.public_id().to_string() => {
                Err(RoutingError::not_found("conversation with this number").at("conversation_id"))
            }
            (Numbers::Own, _) => Ok(()),
            (Numbers::Portal { conversations, .. }, requested) => {
                let requested = requested.as_deref().map(|id| portal_ids::named(id).unwrap_or(id));
                if requested.is_some_and(|id| !portal_ids::fits(id)) {
                    let message = "conversation_id can't be part of a channel name";
                    return Err(RoutingError::new(Code::InvalidField, message).at("conversation_id"));
                }
                let known = requested.or(conversations.sender.as_deref());
                if let Some(id) = known.filter(|id| conversation.portal_id.as_deref() != Some(id)) {
                    conversation.set_portal_id(tx, id)?;
                }
                Ok(())
            }
        }
    }

    fn insert(
        &self,
        tx: &mut Transaction<'_>,
        conversation: &mut Conversation,
        own: &OwnNumber,
        explanation: &Explanation,
        now: i64,
    ) -> Result<Message, RoutingError> {
        attachments::name(tx, self.app, &self.draft.media_urls)?;
        let is_internal = explanation.route == "internal";
        let text = self.draft.text.as_deref().filter(|_| !self.draft.is_mms());
        let measure = text.map(sms::measure);
        let cc: Vec<String> = self.draft.cc.iter().map(|member| member.as_str().to_owned()).collect();
        let decision = json!(explanation).to_string();
        let new = NewMessage {
            pair_id: None,
            direction: Direction::Outbound,
            body: self.draft.text.as_deref(),
            subject: self.draft.subject.as_deref(),
            media_urls: &self.draft.media_urls,
            cc: &cc,
            status: match (self.draft.send_at, is_internal) {
                (Some(_), _) => Status::Scheduled,
                (None, true) => Status::Delivered,
                (None, false) => Status::Sending,
            },
            is_internal,
            from_number: &own.number,
            to_number: self.draft.to.as_str(),
            telnyx_message_id: None,
            parts: measure.map(|measure| i64::from(measure.parts)),
            encoding: measure.map(|measure| measure.encoding.as_str()),
            reference: self.draft.reference.as_deref(),
            decision: &decision,
            send_at: self.draft.send_at,
            kind: self.draft.is_to_group().then_some("MMS"),
            sent_at: None,
        };
        let ids = self.app.settings.routing.ids.kind;
        let message = Message::insert(tx, conversation, &new, ids, now)?;
        let message = message.ok_or_else(|| tx.conflict())?;
        conversation.add_message(tx, &message, false)?;
        Ok(message)
    }
}

/// What a draft's idempotency key was used for, as it is now.
fn replay(
    router: &Router,
    tx: &mut Transaction<'_>,
    app: &App,
    draft: &Draft,
) -> Result<Option<Sent>, RoutingError> {
    let (app_id, user_id) = (&app.settings.id, &draft.user_id);
    let row = tx.query_one(
        "SELECT request_hash, message_id FROM idempotency WHERE app_id = ?1 AND user_id = ?2 AND key = ?3",
        &[app_id.into(), user_id.into(), draft.idempotency_key.clone().into()],
    )?;
    let Some(row) = row else { return Ok(None) };
    if row.text(0)? != draft.hash() {
        let message = "this idempotency_key was used for another request";
        return Err(RoutingError::new(Code::IdempotencyMismatch, message).at("idempotency_key"));
    }
    let message = Message::by_row(tx, row.int(1)?)?;
    let message = message.ok_or_else(|| RoutingError::not_found("message"))?;
    let conversation = Conversation::by_row(tx, message.conversation_id)?;
    router.count_on_commit(tx, Counter::Replayed);
    Ok(Some(Sent { message: Some(message), conversation, created: false, replayed: true }))
}

/// An internal message on its way to its recipient: the reciprocal record and both events.
pub(super) struct Delivery<'a> {
    pub router: &'a Router,
    pub app: &'a App,
    pub message: &'a Message,
    pub conversation: &'a Conversation,
    pub recipient_user: &'a str,
    /// The recipient's conversation in the portal's tables.
    pub known_conversation: Option<&'a str>,
    pub except: Option<&'a str>,
    /// Whether the sender's side was told of the message already.
    pub is_announced: bool,
    /// When the call came that it follows from, unless that was long ago.
    pub called_at: Option<Instant>,
}

impl Delivery<'_> {
    /// Answers whether the recipient's conversation is new.
    pub(super) fn run(&self, tx: &mut Transaction<'_>, now: i64) -> Result<bool, StorageError> {
        let (settings, sent) = (&self.app.settings.routing, self.message);
        let app_id = self.app.settings.id.as_str();
        tracing::debug!(
            app = app_id,
            user = sent.user_id,
            message_id = %sent.public_id(),
            from = mask(&sent.from_number),
            to = mask(&sent.to_number),
            "Internal message detected - skipping Telnyx API"
        );
        let key = ConversationKey {
            app_id,
            user_id: self.recipient_user,
            own_number: &sent.to_number,
            contact_number: &sent.from_number,
            thread_id: &self.conversation.thread_id,
        };
        let (mut conversation, created) = Conversation::find_or_create(tx, &key, true, settings, now)?;
        if let Some(id) = self.known_conversation.filter(|id| conversation.portal_id.as_deref() != Some(id)) {
            conversation.set_portal_id(tx, id)?;
        }
        if created
            && conversation.contact.name.is_none()
            && let Some(label) = self.sender_label(tx)?
        {
            conversation.contact = Contact::name(tx, &key, &label, settings.ids.kind, now)?;
        }
        let new = NewMessage {
            pair_id: Some(sent.id),
            direction: Direction::Inbound,
            body: sent.body.as_deref(),
            subject: sent.subject.as_deref(),
            media_urls: &sent.media_urls,
            cc: &[],
            status: Status::Received,
            is_internal: true,
            from_number: &sent.from_number,
            to_number: &sent.to_number,
            telnyx_message_id: None,
            parts: sent.parts,
            encoding: sent.encoding.as_deref(),
            reference: None,
            decision: &sent.decision,
            send_at: None,
            kind: None,
            sent_at: None,
        };
        let received = Message::insert(tx, &conversation, &new, settings.ids.kind, now)?;
        let received = received.ok_or_else(|| tx.conflict())?;
        conversation.add_message(tx, &received, true)?;
        tracing::debug!(
            app = app_id,
            user = received.user_id,
            message_id = %received.public_id(),
            from = mask(&received.from_number),
            to = mask(&received.to_number),
            created,
            "Reciprocal conversation created for internal message"
        );
        let mut events = Events::new(self.app).since(self.called_at);
        let lane = self.conversation.thread_id.as_str();
        if !self.is_announced {
            self.router.message_sent(tx, &mut events, self.app, sent, self.conversation, now)?;
        }
        events.message(
            Audience::User(self.recipient_user),
            "MessageReceived",
            &received,
            &conversation,
            json!({}),
        )?;
        // The recipient's record has no reference of its own: the portal finds its message by the sender's.
        let (told, more) = ((&received, &conversation), json!({"reference": sent.reference}));
        let callback = callbacks::message(self.router, tx, self.app, "message_received", told, more, now)?;
        events.after(callback);
        self.router.publish(tx, self.app, lane, events, self.except, now)?;
        Ok(created)
    }

    /// What the directory calls the sender's number: the recipient's name for a new contact.
    fn sender_label(&self, tx: &mut Transaction<'_>) -> Result<Option<String>, StorageError> {
        let settings = &self.app.settings.routing;
        if !settings.expose_internal || settings.directory.mode != DirectoryMode::Own {
            return Ok(None);
        }
        let sender = directory::find(tx, &self.app.settings.id, &self.message.from_number)?;
        Ok(sender.and_then(|owner| owner.label))
    }
}

impl Router {
    /// Tells the sender's side of a new message.
    fn message_sent(
        &self,
        tx: &mut Transaction<'_>,
        events: &mut Events<'_>,
        app: &App,
        message: &Message,
        conversation: &Conversation,
        now: i64,
    ) -> Result<(), StorageError> {
        let audience = Audience::Conversation(conversation);
        events.message(audience, "MessageSent", message, conversation, json!({}))?;
        let told = (message, conversation);
        events.after(callbacks::message(self, tx, app, "message_sent", told, json!({}), now)?);
        Ok(())
    }
}

impl Conversation {
    /// The number a user last sent from to this contact.
    fn last_used_number(
        tx: &mut Transaction<'_>,
        app_id: &str,
        user_id: &str,
        contact: &str,
    ) -> Result<Option<String>, StorageError> {
        let [first, second, third] = spelling_values(contact);
        let row = tx.query_one(
            "SELECT own_number FROM conversations WHERE app_id = ?1 AND user_id = ?2 \
             AND contact_number IN (?3, ?4, ?5) ORDER BY active_at DESC LIMIT 1",
            &[app_id.into(), user_id.into(), first.into(), second.into(), third.into()],
        )?;
        row.map(|row| row.text(0)).transpose()
    }
}
