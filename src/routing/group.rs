//! Group MMS: who belongs to a group, whether the carrier answers it, and what became of a message to it.
//!
//! A group is what one message was sent to: there are no groups without one. It always goes through the carrier, also
//! to members who are portal users, since the carrier makes the thread that all of them see on their phones.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Router;
use super::carrier::{CarrierError, CarrierMessage, MappedStatus, MessageStatus, message_status};
use super::error::{Code, RoutingError};
use super::phone_number::{PhoneNumber, contact_identity};
use super::records::Message;
use super::status::{Direction, Status};
use crate::apps::App;

/// Most recipients of a group MMS.
///
/// Source: <https://developers.telnyx.com/docs/messaging/messages/group-messaging>.
const MAX_RECIPIENTS: usize = 8;

/// Where the carrier takes group MMS to: the United States with their territories, and Canada.
const REGIONS: &[&str] = &["US", "CA", "PR", "VI", "GU", "AS", "MP"];

/// Area codes of toll-free numbers, from which the carrier sends no group MMS.
const TOLL_FREE: &[&str] = &["800", "833", "844", "855", "866", "877", "888"];

/// Who gets an answer to a group message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Whose conversation the answer belongs to.
    pub contact: PhoneNumber,
    /// The number that the group has of the user.
    pub own: PhoneNumber,
    /// The others, each once.
    pub others: Vec<PhoneNumber>,
}

/// What the carrier said of one recipient.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    number: String,
    /// The carrier's word.
    word: String,
    is_final: bool,
    /// Microseconds since 1970.
    at: i64,
    /// Code and title.
    error: Option<(String, String)>,
}

/// One recipient of a message to a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct RecipientJson {
    /// E.164.
    pub phone_number: String,
    /// As `status` of the message, for this recipient.
    pub status: String,
    /// Whether the carrier got no receipt in time.
    pub delivery_unconfirmed: bool,
    /// Why it failed: `{"code","title","carrier"}`.
    pub error: Option<serde_json::Value>,
}

impl Router {
    /// The group of a user's message.
    ///
    /// # Errors
    /// `not_found`; `group_not_possible`: it has none, or the carrier answers none such.
    pub async fn group_of(&self, app: Arc<App>, user: String, id: String) -> Result<Group, RoutingError> {
        let found = self.database().read(move |tx| Message::find(tx, &app.settings.id, &user, &id)).await?;
        let message = found.ok_or_else(|| RoutingError::not_found("message").at("reply_all"))?;
        Group::of(&message)
    }
}

impl Group {
    /// The group of a message.
    ///
    /// # Errors
    /// `group_not_possible`.
    pub fn of(message: &Message) -> Result<Self, RoutingError> {
        if message.cc.is_empty() {
            return Err(not_possible("this message was not sent to a group: send `to` instead of reply_all"));
        }
        let (contact, own) = match message.direction {
            Direction::Inbound => (&message.from_number, &message.to_number),
            Direction::Outbound => (&message.to_number, &message.from_number),
        };
        let number = |text: &String| {
            PhoneNumber::from_stored(text)
                .ok_or_else(|| not_possible("somebody of the group has no phone number that MMS reach"))
        };
        let group = Self {
            contact: number(contact)?,
            own: number(own)?,
            others: others(&message.cc, contact, own).iter().map(number).collect::<Result<_, _>>()?,
        };
        group.check()?;
        Ok(group)
    }

    /// Whether the carrier takes a message to it. What the numbering plan does not know yet, the carrier judges.
    fn check(&self) -> Result<(), RoutingError> {
        if self.others.len() >= MAX_RECIPIENTS {
            let message = format!("the carrier sends a group MMS to {MAX_RECIPIENTS} recipients at most");
            return Err(not_possible(message));
        }
        if !is_in_reach(&self.own) || is_toll_free(&self.own) {
            let message = "the carrier sends group MMS from US and Canadian long codes only: not from toll-free \
                numbers, nor from other countries";
            return Err(not_possible(message));
        }
        if !self.recipients().all(is_in_reach) {
            return Err(not_possible("the carrier sends group MMS to the US and Canada only"));
        }
        Ok(())
    }

    fn recipients(&self) -> impl Iterator<Item = &PhoneNumber> {
        std::iter::once(&self.contact).chain(&self.others)
    }
}

fn not_possible(message: impl Into<String>) -> RoutingError {
    RoutingError::new(Code::GroupNotPossible, message).at("reply_all")
}

fn is_in_reach(number: &PhoneNumber) -> bool {
    number.as_str().starts_with("+1")
        && number.region().is_none_or(|region| REGIONS.contains(&region.as_str()))
}

fn is_toll_free(number: &PhoneNumber) -> bool {
    number.as_str().get(2..5).is_some_and(|area| TOLL_FREE.contains(&area))
}

/// The numbers of a group other than these two, each once, in their order.
pub fn others(members: &[String], contact: &str, own: &str) -> Vec<String> {
    let mut others: Vec<String> = Vec::with_capacity(members.len());
    for member in members {
        if member != contact && member != own && !member.is_empty() && !others.contains(member) {
            others.push(member.clone());
        }
    }
    others
}

impl Message {
    /// Whether it was sent to a group by its owner.
    pub fn is_to_group(&self) -> bool {
        self.direction == Direction::Outbound && !self.cc.is_empty()
    }

    fn group_members(&self) -> impl Iterator<Item = &String> {
        std::iter::once(&self.to_number).chain(&self.cc)
    }

    /// Notes what a report says of recipients of a message to a group; answers the word for all of them together, in
    /// the carrier's vocabulary. The carrier reports each recipient by itself, or all at once.
    ///
    /// `is_final`: nothing more is reported of them.
    pub fn note_recipients(&mut self, report: &CarrierMessage, is_final: bool, at: i64) -> &'static str {
        let error = report.errors.first();
        for recipient in &report.to {
            let (number, word) = (contact_identity(&recipient.number), recipient.status.as_deref());
            if self.group_members().any(|member| *member == number) {
                self.note_recipient(number, word.unwrap_or_default(), is_final, at, error);
            }
        }
        self.group_word()
    }

    fn note_recipient(
        &mut self,
        number: String,
        word: &str,
        is_final: bool,
        at: i64,
        error: Option<&CarrierError>,
    ) {
        let mapped = message_status(word);
        let is_final = is_final || mapped.is_final;
        // A last word that says nothing fails by the error beside it.
        let says_nothing = matches!(mapped.status, MessageStatus::Unknown(_) | MessageStatus::Sending);
        let error = error.filter(|_| mapped.status == MessageStatus::Failed || (is_final && says_nothing));
        let news = Report {
            number,
            word: word.to_owned(),
            is_final,
            at,
            error: error.map(|error| (error.code.clone(), error.title.clone())),
        };
        match self.recipients.iter_mut().find(|known| known.number == news.number) {
            // Late, out of order, or what a receipt contradicts.
            Some(known) if (known.is_final, known.at) > (news.is_final, news.at) => {}
            Some(known) if known.kind() == Kind::Arrived && news.kind() == Kind::Unconfirmed => {}
            Some(known) => *known = news,
            None => self.recipients.push(news),
        }
    }

    /// All recipients together: as far as the one that is least far, `delivered` only if all are, failed only if none
    /// got it.
    fn group_word(&self) -> &'static str {
        let kinds: Vec<Kind> = self
            .group_members()
            .map(|member| {
                let known = self.recipients.iter().find(|known| known.number == *member);
                known.map_or(Kind::Pending, Report::kind)
            })
            .collect();
        let all = |kind: Kind| kinds.iter().all(|other| *other == kind);
        if kinds.iter().any(|kind| matches!(kind, Kind::Pending | Kind::Sent)) {
            if all(Kind::Pending) { "sending" } else { "sent" }
        } else if all(Kind::Arrived) {
            "delivered"
        } else if all(Kind::Failed) {
            "delivery_failed"
        } else {
            "delivery_unconfirmed"
        }
    }

    /// Each recipient of a message to a group; of other messages none.
    pub fn recipients_json(&self) -> Vec<RecipientJson> {
        if !self.is_to_group() {
            return Vec::new();
        }
        let of = |member: &String| {
            let known = self.recipients.iter().find(|known| known.number == *member);
            let status = match (known, self.status) {
                (Some(known), _) => known.status().as_str(),
                // It never left, or nobody knows.
                (None, Status::Sent | Status::Delivered | Status::Read) => Status::Sending.as_str(),
                (None, status) => status.as_str(),
            };
            RecipientJson {
                phone_number: member.clone(),
                status: status.to_owned(),
                delivery_unconfirmed: known.is_some_and(|known| known.kind() == Kind::Unconfirmed),
                error: known.and_then(|known| known.error.as_ref()).map(
                    |(code, title)| serde_json::json!({"code": code, "title": title, "carrier": "telnyx"}),
                ),
            }
        };
        self.group_members().map(of).collect()
    }
}

/// How far a message is for one recipient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Pending,
    Sent,
    Arrived,
    /// Sent, and no more will be heard.
    Unconfirmed,
    Failed,
}

impl Report {
    fn kind(&self) -> Kind {
        let MappedStatus { status, unconfirmed, .. } = message_status(&self.word);
        match status {
            MessageStatus::Delivered | MessageStatus::Read => Kind::Arrived,
            MessageStatus::Failed | MessageStatus::Cancelled => Kind::Failed,
            _ if self.error.is_some() => Kind::Failed,
            _ if self.is_final || unconfirmed => Kind::Unconfirmed,
            MessageStatus::Sent => Kind::Sent,
            _ => Kind::Pending,
        }
    }

    fn status(&self) -> Status {
        match self.kind() {
            Kind::Pending => Status::Sending,
            Kind::Sent | Kind::Unconfirmed => Status::Sent,
            Kind::Arrived => Status::Delivered,
            Kind::Failed => Status::Failed,
        }
    }
}

#[cfg(test)]
mod tests;
