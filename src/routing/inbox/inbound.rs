//! Messages from outside.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::json;

use super::Refused;
use crate::apps::App;
use crate::config::DirectoryMode;
use crate::routing::carrier::{Autoresponse, CarrierEvent, CarrierMessage, Recipient};
use crate::routing::counters::Counter;
use crate::routing::directory::{self, Owner};
use crate::routing::events::{Audience, Events};
use crate::routing::phone_number::{PhoneNumber, contact_identity, mask, sender_identity};
use crate::routing::records::{Conversation, ConversationKey, Message, NewMessage};
use crate::routing::status::{Direction, Status};
use crate::routing::{Router, attachments, callbacks, group, opt_outs, unrouted};
use crate::storage::{StorageError, Transaction};

/// Who has the receiving numbers, where the portal's tables say so; `None`: our own table, asked in the
/// transaction.
pub type Owners = Option<HashMap<String, Option<Owner>>>;

/// An inbound message, and whose it may be.
pub struct Inbound {
    /// As the carrier says.
    pub message: CarrierMessage,
    /// Who sent it.
    pub contact: String,
    /// The threads it belongs to: one for each own address that it was sent to, at least one.
    pub threads: Vec<Thread>,
    /// The carrier's time of it.
    pub sent_at: Option<i64>,
}

/// An own address of a message.
pub struct Thread {
    /// E.164, or what else the carrier calls it: a short code, an RCS agent, nothing.
    pub own: String,
    /// The same for all messages between this address and the contact.
    pub id: String,
}

/// The transaction that stores a message.
pub struct Storing<'a> {
    pub router: &'a Router,
    pub app: &'a App,
    pub inbound: &'a Inbound,
    /// The webhook.
    pub body: &'a [u8],
    pub owners: &'a Owners,
    /// Of each thread, whether older messages must go first; see [`Look`](super::threads::Look).
    pub has_unrouted: &'a [bool],
    pub now: i64,
}

/// Who gets a message.
pub struct Receiver<'a> {
    pub user: &'a str,
    pub thread: &'a Thread,
    /// Whether nobody had the number when it came.
    pub is_late: bool,
}

impl Inbound {
    /// The message of an event; `None`: it has none.
    pub fn of(router: &Router, app: &App, event: CarrierEvent) -> Option<Self> {
        let CarrierEvent { message, occurred_at_us, .. } = event;
        let message = message?;
        let mut own: Vec<String> = message.to.iter().map(own_address).collect();
        // Also one to nobody is kept.
        if own.is_empty() {
            own.push(String::new());
        }
        let contact =
            sender_identity(&message.from, own.iter().find_map(|own| PhoneNumber::from_stored(own)).as_ref());
        let mut threads: Vec<Thread> = Vec::with_capacity(own.len());
        for own in own {
            if threads.iter().all(|thread| thread.own != own) {
                let id = router.thread_id(&app.settings.id, &own, &contact);
                threads.push(Thread { own, id });
            }
        }
        let sent_at = message.inbound_at_us().or(occurred_at_us);
        Some(Self { message, contact, threads, sent_at })
    }

    /// Ids of its threads in their order, each once.
    pub fn thread_ids(&self) -> Vec<&str> {
        let mut ids: Vec<&str> = self.threads.iter().map(|thread| thread.id.as_str()).collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    /// Members of the group other than this address and the sender. The carrier's list has them, too.
    pub fn others(&self, own: &str) -> Vec<String> {
        let number = PhoneNumber::from_stored(own);
        let to = self.threads.iter().map(|thread| thread.own.clone());
        let cc = self.message.cc.iter().map(|member| sender_identity(member, number.as_ref()));
        let members: Vec<String> = to.chain(cc).collect();
        group::others(&members, &self.contact, own)
    }
}

fn own_address(to: &Recipient) -> String {
    if to.is_agent { to.number.trim().to_owned() } else { contact_identity(&to.number) }
}

/// Asks the portal's directory for the receiving numbers.
pub async fn owners(router: &Router, app: &Arc<App>, inbound: &Inbound) -> Result<Owners, Refused> {
    if app.settings.routing.directory.mode == DirectoryMode::Own {
        return Ok(None);
    }
    let directory = router.portal_directory(app)?;
    let mut owners = HashMap::new();
    for thread in &inbound.threads {
        if let Some(number) = PhoneNumber::from_stored(&thread.own) {
            let owner = directory.find_owner(&number).await?;
            owners.insert(number.as_str().to_owned(), owner);
        }
    }
    Ok(Some(owners))
}

impl Storing<'_> {
    /// Stores an inbound message for each of our numbers it was sent to.
    pub fn run(&self, tx: &mut Transaction<'_>) -> Result<(), StorageError> {
        self.note_keyword(tx)?;
        let mut is_anybodys = false;
        for (thread, has_unrouted) in self.inbound.threads.iter().zip(self.has_unrouted) {
            match self.owner(tx, &thread.own)? {
                Some(Owner { is_assigned: true, user_id: Some(user), .. }) => {
                    is_anybodys = true;
                    let receiver = Receiver { user: &user, thread, is_late: false };
                    if *has_unrouted {
                        unrouted::deliver_all(
                            self.router,
                            tx,
                            self.app,
                            &self.inbound.contact,
                            &receiver,
                            self.now,
                        )?;
                    }
                    receive(self.router, tx, self.app, self.inbound, &receiver, self.now)?;
                }
                // Of several numbers, those that are not ours are other people's.
                None if self.inbound.threads.len() > 1 => {}
                _ => {
                    is_anybodys = true;
                    self.set_aside(tx, thread)?;
                }
            }
        }
        match self.inbound.threads.first() {
            Some(thread) if !is_anybodys => self.set_aside(tx, thread),
            _ => Ok(()),
        }
    }

    fn owner(&self, tx: &mut Transaction<'_>, own: &str) -> Result<Option<Owner>, StorageError> {
        match self.owners {
            Some(owners) => Ok(owners.get(own).cloned().flatten()),
            None if PhoneNumber::from_stored(own).is_none() => Ok(None),
            None => directory::find(tx, &self.app.settings.id, own),
        }
    }

    /// Keeps a message for a number that nobody has: who it is for is never guessed.
    fn set_aside(&self, tx: &mut Transaction<'_>, thread: &Thread) -> Result<(), StorageError> {
        let Self { router, app, inbound, .. } = *self;
        let kept = unrouted::New { inbound, own: &thread.own, event: self.body };
        let Some(id) = kept.insert(tx, &app.settings.id, self.now)? else { return Ok(()) };
        router.count_on_commit(tx, Counter::Unrouted);
        tracing::info!(
            app = app.settings.id,
            telnyx_message_id = inbound.message.id,
            from = mask(&inbound.contact),
            to = mask(&thread.own),
            "Inbound message has no assigned user"
        );
        callbacks::other(router, tx, app, "message_unrouted", &thread.id, kept.told(id), self.now)
    }

    /// The carrier acted on STOP and START by itself; we keep its list in step.
    fn note_keyword(&self, tx: &mut Transaction<'_>) -> Result<(), StorageError> {
        let Self { router, app, now, .. } = *self;
        let message = &self.inbound.message;
        let is_stop = match message.autoresponse_type {
            Some(Autoresponse::Stop) => true,
            Some(Autoresponse::Start) => false,
            _ => return Ok(()),
        };
        // Not for a repeat, which may come after a later word.
        if is_known(tx, app, &message.id)? {
            return Ok(());
        }
        let profile = message.messaging_profile_id.as_deref().unwrap_or_default();
        let contact = &self.inbound.contact;
        if is_stop {
            opt_outs::note(tx, router, app, profile, contact, "stop_message", now)
        } else {
            opt_outs::lift(tx, router, app, profile, contact, "start_message", now)
        }
    }
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

/// Stores a message for the user who has the number; answers its row, `None` if it was there already.
pub fn receive(
    router: &Router,
    tx: &mut Transaction<'_>,
    app: &App,
    inbound: &Inbound,
    receiver: &Receiver<'_>,
    now: i64,
) -> Result<Option<i64>, StorageError> {
    let (app_id, settings) = (app.settings.id.as_str(), &app.settings.routing);
    let (message, thread) = (&inbound.message, receiver.thread);
    let key = ConversationKey {
        app_id,
        user_id: receiver.user,
        own_number: &thread.own,
        contact_number: &inbound.contact,
        thread_id: &thread.id,
    };
    let (mut conversation, _) = Conversation::find_or_create(tx, &key, false, settings, now)?;
    let media: Vec<String> = message.media.iter().map(|media| media.url.clone()).collect();
    let others = inbound.others(&thread.own);
    let mut decision = json!({"route": "inbound", "reason": "assigned", "number_status": "assigned",
        "directory": "own", "from": "carrier"});
    // Told with the message as well.
    let mut more = json!({});
    if receiver.is_late {
        decision["late"] = true.into();
        more["late"] = true.into();
    }
    let new = NewMessage {
        pair_id: None,
        direction: Direction::Inbound,
        kind: message.kind.as_deref().filter(|kind| ["MMS", "RCS", "WHATSAPP"].contains(kind)),
        body: Some(message.text.as_str()).filter(|text| !text.is_empty()),
        subject: message.subject.as_deref(),
        media_urls: &media,
        cc: &others,
        status: Status::Received,
        is_internal: false,
        from_number: &inbound.contact,
        to_number: &thread.own,
        telnyx_message_id: Some(&message.id),
        parts: message.parts.map(i64::from),
        encoding: message.encoding.as_deref(),
        reference: None,
        decision: &decision.to_string(),
        send_at: None,
        sent_at: inbound.sent_at,
    };
    let Some(received) = Message::insert(tx, &conversation, &new, settings.ids.kind, now)? else {
        router.count_on_commit(tx, Counter::WebhookRepeated);
        return Ok(None);
    };
    conversation.add_message(tx, &received, true)?;
    tracing::info!(
        app = app_id,
        user = receiver.user,
        message_id = %received.public_id(),
        from = mask(&inbound.contact),
        to = mask(&thread.own),
        "Inbound message received"
    );
    router.count_on_commit(tx, Counter::Received);
    attachments::plan_copies(router, tx, app, &received, &message.media, now)?;
    let mut events = Events::new(app);
    let audience = Audience::User(receiver.user);
    events.message(audience, "MessageReceived", &received, &conversation, more.clone())?;
    let told = (&received, &conversation);
    events.after(callbacks::message(router, tx, app, "message_received", told, more, now)?);
    router.publish(tx, app, &thread.id, events, None, now)?;
    Ok(Some(received.id))
}
