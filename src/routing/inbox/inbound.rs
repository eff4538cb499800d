//! Messages from outside.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::json;

use super::Refused;
use crate::apps::App;
use crate::config::DirectoryMode;
use crate::routing::carrier::{Autoresponse, CarrierEvent, CarrierMessage, EventType};
use crate::routing::counters::Counter;
use crate::routing::directory::{self, Owner};
use crate::routing::events::{Audience, Events};
use crate::routing::phone_number::{PhoneNumber, contact_identity, mask};
use crate::routing::records::{Conversation, ConversationKey, Message, NewMessage};
use crate::routing::status::{Direction, Status};
use crate::routing::{Router, attachments, callbacks, opt_outs};
use crate::storage::{StorageError, Transaction};

/// Who has the receiving numbers, where the portal's tables say so; `None`: our own table, asked in the
/// transaction.
pub type Owners = Option<HashMap<String, Option<Owner>>>;

/// Asks the portal's directory for the receiving numbers.
pub async fn owners(router: &Router, app: &Arc<App>, event: &CarrierEvent) -> Result<Owners, Refused> {
    let Some(message) = event.message.as_ref().filter(|_| event.event_type == EventType::Received) else {
        return Ok(None);
    };
    if app.settings.routing.directory.mode == DirectoryMode::Own {
        return Ok(None);
    }
    let directory = router.portal_directory(app)?;
    let mut owners = HashMap::new();
    for recipient in &message.to {
        if let Some(number) = PhoneNumber::from_stored(&contact_identity(&recipient.number)) {
            let owner = directory.find_owner(&number).await?;
            owners.insert(number.as_str().to_owned(), owner);
        }
    }
    Ok(Some(owners))
}

/// Stores an inbound message for each of our numbers it was sent to.
pub fn store(
    router: &Router,
    tx: &mut Transaction<'_>,
    app: &App,
    message: &CarrierMessage,
    owners: &Owners,
    now: i64,
) -> Result<(), StorageError> {
    let contact = contact_identity(&message.from);
    let numbers: Vec<String> = message.to.iter().map(|to| contact_identity(&to.number)).collect();
    // Not for a repeat, which may come after a later word.
    if !is_known(tx, app, &message.id)? {
        note_keyword(router, tx, app, message, &contact, now)?;
    }
    let mut is_anybodys = false;
    for number in &numbers {
        let owner = match owners {
            Some(owners) => owners.get(number).cloned().flatten(),
            None => directory::find(tx, &app.settings.id, number)?,
        };
        match owner {
            Some(Owner { is_assigned: true, user_id: Some(user), .. }) => {
                is_anybodys = true;
                let others = others(message, &numbers, number);
                receive(
                    router,
                    tx,
                    app,
                    message,
                    &Receiver { contact: &contact, number, user: &user, others },
                    now,
                )?;
            }
            // Of several numbers, those that are not ours are other people's.
            None if numbers.len() > 1 => {}
            _ => {
                is_anybodys = true;
                set_aside(router, tx, app, message, &contact, number, now)?;
            }
        }
    }
    if let (false, Some(number)) = (is_anybodys, numbers.first()) {
        set_aside(router, tx, app, message, &contact, number, now)?;
    }
    Ok(())
}

/// Whether the carrier's message was stored before, for whomever.
fn is_known(tx: &mut Transaction<'_>, app: &App, carrier_id: &str) -> Result<bool, StorageError> {
    let row = tx.query_one(
        "SELECT 1 FROM messages WHERE app_id = ?1 AND telnyx_message_id = ?2 AND direction = 'INBOUND' \
         UNION ALL SELECT 1 FROM unrouted_inbound WHERE app_id = ?1 AND carrier_id = ?2 LIMIT 1",
        &[(&app.settings.id).into(), carrier_id.into()],
    )?;
    Ok(row.is_some())
}

/// The other recipients of a group message.
fn others(message: &CarrierMessage, numbers: &[String], own: &str) -> Vec<String> {
    let cc = message.cc.iter().map(|number| contact_identity(number));
    let mut others: Vec<String> = numbers.iter().cloned().chain(cc).filter(|number| number != own).collect();
    others.dedup();
    others
}

struct Receiver<'a> {
    contact: &'a str,
    number: &'a str,
    user: &'a str,
    others: Vec<String>,
}

fn receive(
    router: &Router,
    tx: &mut Transaction<'_>,
    app: &App,
    message: &CarrierMessage,
    receiver: &Receiver<'_>,
    now: i64,
) -> Result<(), StorageError> {
    let (app_id, settings) = (app.settings.id.as_str(), &app.settings.routing);
    let thread_id = router.thread_id(app_id, receiver.number, receiver.contact);
    let key = ConversationKey {
        app_id,
        user_id: receiver.user,
        own_number: receiver.number,
        contact_number: receiver.contact,
        thread_id: &thread_id,
    };
    let (mut conversation, _) = Conversation::find_or_create(tx, &key, false, settings, now)?;
    let media: Vec<String> = message.media.iter().map(|media| media.url.clone()).collect();
    let decision = json!({"route": "inbound", "reason": "assigned", "number_status": "assigned",
        "directory": "own", "from": "carrier"})
    .to_string();
    let new = NewMessage {
        pair_id: None,
        direction: Direction::Inbound,
        body: Some(message.text.as_str()).filter(|text| !text.is_empty()),
        subject: message.subject.as_deref(),
        media_urls: &media,
        cc: &receiver.others,
        status: Status::Received,
        is_internal: false,
        from_number: receiver.contact,
        to_number: receiver.number,
        telnyx_message_id: Some(&message.id),
        parts: message.parts.map(i64::from),
        encoding: message.encoding.as_deref(),
        reference: None,
        decision: &decision,
        send_at: None,
    };
    let Some(received) = Message::insert(tx, &conversation, &new, settings.ids.kind, now)? else {
        router.count_on_commit(tx, Counter::WebhookRepeated);
        return Ok(());
    };
    conversation.add_message(tx, &received, true)?;
    tracing::info!(
        app = app_id,
        user = receiver.user,
        message_id = %received.public_id(),
        from = mask(receiver.contact),
        to = mask(receiver.number),
        "Inbound message received"
    );
    router.count_on_commit(tx, Counter::Received);
    attachments::plan_copies(router, tx, app, &received, &message.media, now)?;
    let mut events = Events::new(app);
    let audience = Audience::User(receiver.user);
    events.message(audience, "MessageReceived", &received, &conversation, json!({}))?;
    let told = (&received, &conversation);
    events.after(callbacks::message(router, tx, app, "message_received", told, json!({}), now)?);
    router.publish(tx, app, &thread_id, events, None, now)
}

/// Keeps a message for a number that nobody has: who it is for is never guessed.
fn set_aside(
    router: &Router,
    tx: &mut Transaction<'_>,
    app: &App,
    message: &CarrierMessage,
    contact: &str,
    number: &str,
    now: i64,
) -> Result<(), StorageError> {
    let media: Vec<&str> = message.media.iter().map(|media| media.url.as_str()).collect();
    let kept = tx.execute(
        "INSERT INTO unrouted_inbound (app_id, carrier_id, own_number, contact_number, body, media_urls, created_at) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT DO NOTHING",
        &[
            (&app.settings.id).into(),
            (&message.id).into(),
            number.into(),
            contact.into(),
            message.text.as_str().into(),
            json!(media).to_string().into(),
            now.into(),
        ],
    )?;
    if kept == 0 {
        return Ok(());
    }
    router.count_on_commit(tx, Counter::Unrouted);
    tracing::info!(
        app = app.settings.id,
        telnyx_message_id = message.id,
        from = mask(contact),
        to = mask(number),
        "Inbound message has no assigned user"
    );
    let data = json!({
        "telnyx_message_id": message.id,
        "from_number": contact,
        "to_number": number,
        "text": message.text,
        "media_urls": media,
    });
    let lane = router.thread_id(&app.settings.id, number, contact);
    callbacks::other(router, tx, app, "message_unrouted", &lane, data, now)
}

/// The carrier acted on STOP and START by itself; we keep its list in step.
fn note_keyword(
    router: &Router,
    tx: &mut Transaction<'_>,
    app: &App,
    message: &CarrierMessage,
    contact: &str,
    now: i64,
) -> Result<(), StorageError> {
    let profile = message.messaging_profile_id.as_deref().unwrap_or_default();
    match message.autoresponse_type {
        Some(Autoresponse::Stop) => opt_outs::note(tx, router, app, profile, contact, "stop_message", now),
        Some(Autoresponse::Start) => opt_outs::lift(tx, router, app, profile, contact, "start_message", now),
        _ => Ok(()),
    }
}
