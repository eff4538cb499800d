//! Delivery reports: what the carrier tells of a message we gave it.

use serde_json::json;

use super::Verdict;
use crate::apps::App;
use crate::routing::carrier::{
    CarrierEvent, CarrierMessage, EventType, MessageStatus, message_status, token_of,
};
use crate::routing::phone_number::contact_identity;
use crate::routing::records::Message;
use crate::routing::status::{Cause, Status};
use crate::routing::{Router, jobs, opt_outs};
use crate::storage::{StorageError, Transaction};

/// Applies a report: found by the carrier's id, else by the token of the call, which is signed with the
/// rest. Reports come late, twice and out of order; only steps forward count.
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
        Some(token) => jobs::resolve_by_webhook(router, tx, app, token, &report.id)?,
        None => None,
    };
    let message = match by_token {
        Some(message) => Some(message),
        None => match Message::by_carrier_id(tx, app_id, &report.id)? {
            Some(message) => Message::by_row_to_change(tx, message.id)?,
            None => None,
        },
    };
    let Some(mut message) = message else { return Ok(Verdict::Unknown) };
    if message.telnyx_message_id.as_ref() != Some(&report.id) {
        // A second message of ours at the carrier: counted, and its fate is not this one's.
        return Ok(Verdict::Done);
    }
    let at = event.occurred_at_us.unwrap_or(now);
    let word = match event.event_type {
        // Whatever the word beside it says.
        EventType::Read => "read",
        EventType::Sent => report.status().unwrap_or("sent"),
        _ => report.status().unwrap_or(""),
    };
    let mapped = message_status(word);
    let is_older = at < message.status_at;
    if let MessageStatus::Unknown(word) = &mapped.status {
        tracing::warn!(app = app_id, message_id = %message.public_id(), status = word, "the carrier reported a status that the router does not know");
    }
    // The carrier's last word stands; only a failure of our own making is left for "sent".
    let was_final = message.carrier_status.as_deref().is_some_and(|word| message_status(word).is_final);
    take_facts(&mut message, report, word, is_older);
    if !is_older {
        message.is_unconfirmed =
            mapped.unconfirmed && !matches!(message.status, Status::Delivered | Status::Read);
    }
    let next = Status::parse(mapped.status.as_str());
    // What led to a failure may be overtaken by a later truth, not by an earlier one.
    let is_overtaken =
        message.status == Status::Failed && (is_older || (was_final && next == Some(Status::Sent)));
    if next == Some(Status::Failed)
        && !is_overtaken
        && message.status.may_become(Status::Failed, Cause::Event)
    {
        message.error = report.errors.first().map_or_else(
            || {
                Some(
                    json!({"code": word, "title": "The carrier gave no reason", "carrier": "telnyx"})
                        .to_string(),
                )
            },
            |error| Some(json!({"code": error.code, "title": error.title, "carrier": "telnyx"}).to_string()),
        );
        if report.errors.iter().any(|error| error.is_opt_out()) {
            let profile = report.messaging_profile_id.as_deref().unwrap_or_default();
            opt_outs::note(
                tx,
                router,
                app,
                profile,
                &contact_identity(&message.to_number),
                "carrier_40300",
                now,
            )?;
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
        router.advance(tx, app, &mut message, (next, Cause::Event), at, now)?;
    }
    Ok(Verdict::Done)
}

fn take_facts(message: &mut Message, report: &CarrierMessage, word: &str, is_older: bool) {
    if let Some(parts) = report.parts {
        message.parts = Some(i64::from(parts));
    }
    if report.encoding.is_some() {
        message.encoding.clone_from(&report.encoding);
    }
    if let Some(cost) = &report.cost {
        message.cost = Some(json!({"amount": cost.amount, "currency": cost.currency}).to_string());
    }
    if !word.is_empty() && !is_older {
        message.carrier_status = Some(word.to_owned());
    }
}
