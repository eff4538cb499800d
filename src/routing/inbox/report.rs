//! Delivery reports: what the carrier tells of a message we gave it, by itself or when it is asked.
//!
//! Reports come late, twice and out of order; only steps forward count. Which of two is the later one is told by
//! the carrier's clock alone: ours may be ahead of it or behind.

use serde_json::json;

use super::Verdict;
use super::recipients::{Said, of_message};
use crate::apps::App;
use crate::routing::carrier::{
    CarrierEvent, CarrierMessage, EventType, MessageStatus, is_known, message_status, token_of,
};
use crate::routing::phone_number::contact_identity;
use crate::routing::records::Message;
use crate::routing::status::{Cause, Status};
use crate::routing::{Router, jobs, opt_outs};
use crate::storage::{StorageError, Transaction};

/// What a report is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The carrier handed the message over.
    Sent,
    /// The carrier's last word.
    Finalized,
    /// The recipient read it.
    Read,
    /// An answer of the carrier: how the message is now.
    Asked,
}

/// One report of a message.
#[derive(Clone, Copy, Debug)]
pub struct Report<'a> {
    /// What it is.
    pub kind: Kind,
    /// When what it tells happened, by the carrier's clock.
    pub at: Option<i64>,
    /// The message as the carrier has it; `None`: the carrier does not know it.
    pub message: Option<&'a CarrierMessage>,
}

impl<'a> Report<'a> {
    /// The carrier's answer, when it was asked.
    pub fn answer(message: Option<&'a CarrierMessage>) -> Self {
        let at = message.and_then(|message| message.completed_at_us.or(message.sent_at_us));
        let is_over = message.is_none_or(|message| message.completed_at_us.is_some());
        Self { kind: if is_over { Kind::Finalized } else { Kind::Asked }, at, message }
    }

    fn of_event(event: &CarrierEvent, message: &'a CarrierMessage) -> Self {
        let kind = match event.event_type {
            EventType::Sent => Kind::Sent,
            EventType::Read => Kind::Read,
            _ => Kind::Finalized,
        };
        Self { kind, at: event.occurred_at_us, message: Some(message) }
    }
}

/// Applies a webhook: its message is found by the carrier's id, else by the token of the call, which is signed with
/// the rest.
pub fn apply(
    router: &Router,
    tx: &mut Transaction<'_>,
    app: &App,
    event: &CarrierEvent,
    report: &CarrierMessage,
    now: i64,
) -> Result<Verdict, StorageError> {
    let app_id = app.settings.id.as_str();
    let token = report.webhook_url.as_deref().and_then(|url| token_of(url, app_id));
    // The token first: it also settles a call whose answer was lost.
    let by_token = match token {
        Some(token) => jobs::resolve_by_webhook(router, tx, app, token, report.carrier_id())?,
        None => None,
    };
    let message = match by_token {
        Some(message) => Some(message),
        None => Message::by_carrier_id(tx, app_id, report.carrier_id())?,
    };
    let Some(mut message) = message else { return Ok(Verdict::Unknown) };
    // Each recipient of a group may have an id of its own.
    if message.is_to_group() || message.telnyx_message_id.as_deref() == Some(report.carrier_id()) {
        take(router, tx, app, &mut message, Report::of_event(event, report), now)?;
    }
    // Else a second message of ours at the carrier: counted, and its fate is not this one's.
    Ok(Verdict::Done)
}

/// Notes what a report says of its message, and moves the message on.
///
/// # Errors
/// Of the store.
pub fn take(
    router: &Router,
    tx: &mut Transaction<'_>,
    app: &App,
    message: &mut Message,
    report: Report<'_>,
    now: i64,
) -> Result<(), StorageError> {
    let is_to_group = message.is_to_group();
    let said = match report.message.filter(|_| is_to_group) {
        Some(shown) => of_group(message, shown, report, now),
        None => of_message(message, report),
    };
    if !said.word.is_empty() && !is_known(&said.word) {
        let (app, message_id, status) = (&app.settings.id, message.public_id(), &said.word);
        tracing::warn!(app, message_id = %message_id, status, "the carrier reported a status that the router does not know");
    }
    // Messages of earlier versions have the word only.
    let was_final = message.awaited.is_settled
        || message.carrier_status.as_deref().is_some_and(|word| message_status(word).is_final);
    // The reports of a group's recipients come in any order; what is late among them is left out already.
    let is_older =
        !is_to_group && report.at.zip(message.awaited.reported_at).is_some_and(|(at, known)| at < known);
    let is_late = is_older || (was_final && !said.status.is_final);
    note_facts(message, report, &said, is_late);
    let next = next_status(message, &said);
    // What led to a failure may be overtaken by a later truth, not by an earlier one. The carrier's last word
    // stands; only a failure of our own making is left for "sent".
    let is_overtaken = message.status == Status::Failed
        && (is_older || (was_final && !is_to_group && next == Some(Status::Sent)));
    if let Some(shown) = report.message.filter(|_| is_to_group) {
        note_opt_outs(router, tx, app, message, shown, now)?;
    }
    if next == Some(Status::Failed)
        && !is_overtaken
        && message.status.may_become(Status::Failed, Cause::Event)
    {
        note_failure(message, report, &said);
        if let Some(shown) = report.message.filter(|_| !is_to_group) {
            note_opt_outs(router, tx, app, message, shown, now)?;
        }
    }
    let has_arrived = matches!(next, Some(Status::Delivered | Status::Read));
    if has_arrived && !is_overtaken {
        message.is_unconfirmed = false;
    }
    let leaves_failure =
        |next: Status| next != Status::Failed && message.status.may_become(next, Cause::Event);
    if !is_overtaken && (has_arrived || next.is_some_and(leaves_failure)) {
        message.error = None;
    }
    message.save_carrier_facts(tx)?;
    if let Some(next) = next.filter(|_| !is_overtaken) {
        router.advance(tx, app, message, (next, Cause::Event), report.at.unwrap_or(now), now)?;
    }
    if !message.awaited.is_settled && message.awaited.ask_at.is_none() {
        message.awaited.await_report(now, app.settings.routing.telnyx.ask_after);
        message.save_carrier_facts(tx)?;
    }
    Ok(())
}

/// Notes whoever the carrier refused a message for, as they opted out.
fn note_opt_outs(
    router: &Router,
    tx: &mut Transaction<'_>,
    app: &App,
    message: &Message,
    report: &CarrierMessage,
    now: i64,
) -> Result<(), StorageError> {
    if !report.errors.iter().any(|error| error.is_opt_out()) {
        return Ok(());
    }
    let profile = report.messaging_profile_id.as_deref().unwrap_or_default();
    let failed = |word: &Option<String>| message_status(word.as_deref().unwrap_or_default()).status;
    let of_group = report.to.iter().filter(|to| failed(&to.status) == MessageStatus::Failed);
    let numbers: Vec<&str> = if message.is_to_group() {
        of_group.map(|to| to.number.as_str()).collect()
    } else {
        vec![&message.to_number]
    };
    for number in numbers {
        opt_outs::note(tx, router, app, profile, &contact_identity(number), "carrier_40300", now)?;
    }
    Ok(())
}

/// The status that the message goes to, if it can.
fn next_status(message: &Message, said: &Said) -> Option<Status> {
    match &said.status.status {
        MessageStatus::Unknown(_) => None,
        // Somebody took it back at the carrier after it had gone there.
        MessageStatus::Cancelled if !message.status.may_become(Status::Cancelled, Cause::Event) => {
            Some(Status::Failed)
        }
        status => Status::parse(status.as_str()),
    }
}

fn note_facts(message: &mut Message, report: Report<'_>, said: &Said, is_late: bool) {
    if let Some(facts) = report.message {
        if let Some(parts) = facts.parts {
            message.parts = Some(i64::from(parts));
        }
        if facts.encoding.is_some() {
            message.encoding.clone_from(&facts.encoding);
        }
        // A report of one recipient of a group has that one's cost; the answer had the cost of all.
        if let Some(cost) = facts.cost.as_ref().filter(|_| !message.is_to_group() || message.cost.is_none()) {
            message.cost = Some(json!({"amount": cost.amount, "currency": cost.currency}).to_string());
        }
    }
    message.awaited.reported_at = message.awaited.reported_at.max(report.at);
    if !is_late {
        if !said.word.is_empty() {
            message.carrier_status = Some(said.word.clone());
        }
        message.is_unconfirmed =
            said.status.unconfirmed && !matches!(message.status, Status::Delivered | Status::Read);
    }
    if said.status.is_final {
        message.awaited.settle();
    }
}

fn note_failure(message: &mut Message, report: Report<'_>, said: &Said) {
    let errors = report.message.map_or(&[][..], |message| &message.errors);
    let (code, title) = errors.first().map_or_else(
        || (said.word.as_str(), "The carrier gave no reason"),
        |error| (error.code.as_str(), error.title.as_str()),
    );
    message.error = Some(json!({"code": code, "title": title, "carrier": "telnyx"}).to_string());
}

/// What a report of some recipients of a group makes of the whole message.
fn of_group(message: &mut Message, shown: &CarrierMessage, report: Report<'_>, now: i64) -> Said {
    let is_final = report.kind == Kind::Finalized;
    let word = message.note_recipients(shown, is_final, report.at.unwrap_or(now));
    Said { word: word.to_owned(), status: message_status(word) }
}
