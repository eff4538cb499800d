//! Messages that are changed or taken back by who sent them.

use std::sync::Arc;

use serde_json::json;

use super::error::{Code, RoutingError};
use super::events::{self, Audience, Events, micros};
use super::json::carbon;
use super::records::{Conversation, Message};
use super::status::{Direction, Status};
use super::text::{self, Way};
use super::{Router, attachments, callbacks};
use crate::apps::App;
use crate::storage::{self, StorageError, Transaction};

/// For whom a message is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeleteScope {
    /// It leaves the user's own view; anything may be.
    Me,
    /// Its text is gone on both sides; own internal messages, for a while.
    Everyone,
}

impl Router {
    /// Changes the text of an own internal message, on both sides. The text before is kept. `socket_id`: the
    /// sender's connection that knows already.
    ///
    /// # Errors
    /// `not_found`; `not_editable`, saying why; `no_content`, `too_long`, `invalid_field`: the text; `rate_limited`.
    pub async fn edit(
        &self,
        app: Arc<App>,
        user: String,
        message_id: String,
        text: String,
        socket_id: Option<String>,
    ) -> Result<(Message, Conversation), RoutingError> {
        self.limits().take_edit(&app, &user)?;
        self.check_room_in_store()?;
        let router = self.clone();
        self.database()
            .write(move |tx| {
                let now = storage::now();
                let mut own = Half::find(tx, &app, &user, &message_id)?;
                check_changeable(&app, &own.message, now)?;
                let text = checked_text(&own.message, &text)?;
                if own.message.body.as_deref() == text {
                    return Ok((own.message, own.conversation));
                }
                let mut other = own.other(tx)?;
                for half in std::iter::once(&mut own).chain(&mut other) {
                    half.message.set_text(tx, text, now)?;
                    half.conversation.refresh(tx, now)?;
                }
                let telling = Telling { router: &router, app: &app, event: Event::Updated, now };
                telling.run(tx, &own, other.as_ref(), socket_id.as_deref())?;
                Ok((own.message, own.conversation))
            })
            .await
    }

    /// Deletes a message. For everyone: both records stay, without contents; what was written is kept.
    /// `socket_id`: the user's connection that knows already.
    ///
    /// # Errors
    /// `not_found`; `not_editable`, saying why; `rate_limited`.
    pub async fn delete(
        &self,
        app: Arc<App>,
        user: String,
        message_id: String,
        scope: DeleteScope,
        socket_id: Option<String>,
    ) -> Result<(Message, Conversation), RoutingError> {
        self.limits().take_edit(&app, &user)?;
        let router = self.clone();
        self.database()
            .write(move |tx| {
                let now = storage::now();
                let own = Half::find(tx, &app, &user, &message_id)?;
                let telling = Telling { router: &router, app: &app, event: Event::Deleted, now };
                match scope {
                    DeleteScope::Me => delete_for_me(tx, &telling, own, socket_id.as_deref()),
                    DeleteScope::Everyone => delete_for_everyone(tx, &telling, own, socket_id.as_deref()),
                }
            })
            .await
    }
}

fn delete_for_me(
    tx: &mut Transaction<'_>,
    telling: &Telling<'_>,
    mut own: Half,
    except: Option<&str>,
) -> Result<(Message, Conversation), RoutingError> {
    if own.message.status == Status::Scheduled {
        return Err(not_editable("the message is not sent yet: cancel it instead"));
    }
    own.message.hide(tx, telling.now)?;
    own.conversation.refresh(tx, telling.now)?;
    let mut events = Events::new(telling.app);
    telling.event(&mut events, Audience::Conversation(&own.conversation), &own)?;
    own.tell_unread(&mut events)?;
    events.after(telling.call_back(tx, &own, &own.message.reference, "me")?);
    telling.router.publish(tx, telling.app, &own.conversation.thread_id, events, except, telling.now)?;
    Ok((own.message, own.conversation))
}

fn delete_for_everyone(
    tx: &mut Transaction<'_>,
    telling: &Telling<'_>,
    mut own: Half,
    except: Option<&str>,
) -> Result<(Message, Conversation), RoutingError> {
    if own.message.deleted_at.is_some() {
        return Ok((own.message, own.conversation));
    }
    check_changeable(telling.app, &own.message, telling.now)?;
    let mut other = own.other(tx)?;
    for half in std::iter::once(&mut own).chain(&mut other) {
        half.erase(tx, telling.now)?;
        half.conversation.refresh(tx, telling.now)?;
    }
    telling.run(tx, &own, other.as_ref(), except)?;
    Ok((own.message, own.conversation))
}

/// A message with its conversation, held until the transaction ends.
struct Half {
    message: Message,
    conversation: Conversation,
    unread_before: i64,
}

impl Half {
    /// The user's own half. Both conversations are held from here on, so what is read is how it stays.
    fn find(tx: &mut Transaction<'_>, app: &App, user: &str, id: &str) -> Result<Self, RoutingError> {
        let app_id = app.settings.id.as_str();
        let missing = || RoutingError::not_found("message");
        let message = Message::find(tx, app_id, user, id)?.ok_or_else(missing)?;
        let pair = message.pair(tx)?;
        let conversations = std::iter::once(&message).chain(&pair).map(|message| message.conversation_id);
        Conversation::hold(tx, conversations)?;
        let message = Message::find(tx, app_id, user, id)?.ok_or_else(missing)?;
        Ok(Self::of(tx, message)?)
    }

    fn of(tx: &mut Transaction<'_>, message: Message) -> Result<Self, StorageError> {
        let conversation = Conversation::by_row(tx, message.conversation_id)?;
        Ok(Self { unread_before: conversation.unread_count, message, conversation })
    }

    fn other(&self, tx: &mut Transaction<'_>) -> Result<Option<Self>, StorageError> {
        self.message.pair(tx)?.map(|message| Self::of(tx, message)).transpose()
    }

    /// Takes the contents away, files that the user sent along included.
    fn erase(&mut self, tx: &mut Transaction<'_>, now: i64) -> Result<(), StorageError> {
        let Message { app_id, user_id, media_urls, .. } = &self.message;
        attachments::delete_sent(tx, app_id, user_id, media_urls)?;
        self.message.erase(tx, now)
    }

    /// Adds what keeps the owner's tabs in step, if the count of unread messages changed.
    fn tell_unread(&self, events: &mut Events<'_>) -> Result<(), StorageError> {
        if self.conversation.unread_count == self.unread_before {
            return Ok(());
        }
        events.conversation_updated(&self.conversation)
    }
}

#[derive(Clone, Copy)]
enum Event {
    Updated,
    Deleted,
}

/// How a change on both sides is told.
struct Telling<'a> {
    router: &'a Router,
    app: &'a App,
    event: Event,
    now: i64,
}

impl Telling<'_> {
    fn run(
        &self,
        tx: &mut Transaction<'_>,
        own: &Half,
        other: Option<&Half>,
        except: Option<&str>,
    ) -> Result<(), StorageError> {
        let mut events = Events::new(self.app);
        self.event(&mut events, Audience::Conversation(&own.conversation), own)?;
        let reference = &own.message.reference;
        events.after(self.call_back(tx, own, reference, "everyone")?);
        self.router.publish(tx, self.app, &own.conversation.thread_id, events, except, self.now)?;
        let Some(other) = other else { return Ok(()) };
        let callback = self.call_back(tx, other, reference, "everyone")?;
        // What the recipient took out of their view stays out of it.
        if other.message.is_hidden(tx)? {
            return Ok(());
        }
        let mut events = Events::new(self.app);
        events.after(callback);
        self.event(&mut events, Audience::Conversation(&other.conversation), other)?;
        self.event(&mut events, Audience::User(&other.conversation.user_id), other)?;
        other.tell_unread(&mut events)?;
        self.router.publish(tx, self.app, &own.conversation.thread_id, events, None, self.now)
    }

    fn event(
        &self,
        events: &mut Events<'_>,
        audience: Audience<'_>,
        half: &Half,
    ) -> Result<(), StorageError> {
        let Half { message, conversation, .. } = half;
        match self.event {
            Event::Updated => events.message(audience, "MessageUpdated", message, conversation, json!({})),
            Event::Deleted => {
                let data = json!({
                    "message_id": events::message_id(message),
                    "conversation_id": events::conversation_id(conversation),
                    "deleted_at": carbon(self.now),
                });
                events.add_about(events::about(message, conversation), audience, "MessageDeleted", &data)
            }
        }
    }

    /// `reference`: the sender's, by which the portal knows both records.
    fn call_back(
        &self,
        tx: &mut Transaction<'_>,
        half: &Half,
        reference: &Option<String>,
        scope: &str,
    ) -> Result<Option<i64>, StorageError> {
        let name = match self.event {
            Event::Updated => "message_updated",
            Event::Deleted => "message_deleted",
        };
        let told = (&half.message, &half.conversation);
        let mut more = json!({"reference": reference});
        if matches!(self.event, Event::Deleted) {
            more["scope"] = json!(scope);
        }
        callbacks::message(self.router, tx, self.app, name, told, more, self.now)
    }
}

/// Whether a message may still be changed on both sides.
fn check_changeable(app: &App, message: &Message, now: i64) -> Result<(), RoutingError> {
    let window = app.settings.routing.features.edit_window;
    let age = now.saturating_sub(message.sent_at.unwrap_or(message.created_at));
    let why = match message.status {
        _ if message.direction == Direction::Inbound => "only own messages can be changed".to_owned(),
        _ if message.deleted_at.is_some() => "the message is deleted".to_owned(),
        Status::Scheduled | Status::Cancelled => {
            "the message is not sent: cancel it and send another instead".to_owned()
        }
        _ if !message.is_internal => "an SMS can't be changed or recalled once it is sent".to_owned(),
        _ if age > micros(window) => {
            format!("a message can be changed for {} s after it was sent", window.as_secs())
        }
        _ => return Ok(()),
    };
    Err(not_editable(why))
}

fn not_editable(why: impl Into<String>) -> RoutingError {
    RoutingError::new(Code::NotEditable, why)
}

/// A text that the message may have instead; `None` where its media are enough.
fn checked_text<'a>(message: &Message, text: &'a str) -> Result<Option<&'a str>, RoutingError> {
    if text.trim().is_empty() {
        return if message.media_urls.is_empty() {
            Err(RoutingError::new(Code::NoContent, "a message needs text or media_urls").at("text"))
        } else {
            Ok(None)
        };
    }
    // Only internal ones can be edited.
    text::check_text(text, Way::Internal).map_err(|error| error.at("text"))?;
    Ok(Some(text))
}

#[cfg(test)]
mod tests;
