//! What a portal asks to be sent, and the checks that need no records.

use hmac::digest::Digest;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::error::{Code, RoutingError};
use super::group::Group;
use super::phone_number::{Destination, PhoneNumber};
use super::text::{self, MediaError, Way};
use crate::config::RoutingSettings;
use crate::protocol::id::{SocketId, UserId};
use crate::storage;

/// Longest idempotency key and reference, in characters.
const MAX_KEY: usize = 255;
/// What a list of recipients is answered.
const ONE_RECIPIENT: &str = "to is one phone number: each recipient gets a message of their own, with a call of its own. \
    To answer all members of a group MMS, send reply_all with the id of a message of that group in place of to";
/// How far ahead a message may be scheduled, in microseconds: five days, the carrier's limit.
const MAX_AHEAD: i64 = 5 * 24 * 3_600 * 1_000_000;

/// A user's id as portals write it: a number or a text.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "expected a number or a string")]
pub enum UserRef {
    /// A number.
    Number(i64),
    /// A text.
    Text(String),
}

impl UserRef {
    /// The id as it is stored. It becomes part of a channel name, so it obeys the rules of those.
    ///
    /// # Errors
    /// It is missing or can't be one.
    pub fn required(user: Option<&Self>) -> Result<String, RoutingError> {
        let id = match user {
            Some(Self::Number(number)) => number.to_string(),
            Some(Self::Text(text)) => text.trim().to_owned(),
            None => return Err(invalid("user_id", "user_id is missing")),
        };
        UserId::signed_in(&id).map_err(|error| invalid("user_id", &error.to_string()))?;
        Ok(id)
    }
}

/// A record's id as portals write it: a number or a text.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "expected a number or a string")]
pub enum IdRef {
    /// A number.
    Number(i64),
    /// A text.
    Text(String),
}

impl IdRef {
    /// As a text.
    pub fn text(&self) -> String {
        match self {
            Self::Number(number) => number.to_string(),
            Self::Text(text) => text.clone(),
        }
    }
}

/// The recipient as portals write it: a number; a list only to be refused with a sentence.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged, expecting = "expected a phone number")]
pub enum ToRef {
    /// A number.
    One(String),
    /// Several.
    Several(Vec<serde_json::Value>),
}

impl ToRef {
    /// The one recipient.
    ///
    /// # Errors
    /// `invalid_field`: there are several, and what is possible instead.
    pub fn one(&self) -> Result<&str, RoutingError> {
        match self {
            Self::One(number) => Ok(number),
            Self::Several(_) => Err(invalid("to", ONE_RECIPIENT)),
        }
    }
}

impl From<&str> for ToRef {
    fn from(number: &str) -> Self {
        Self::One(number.to_owned())
    }
}

/// `POST /messages` and `POST /conversations`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
pub struct SendRequest {
    /// The sender.
    pub user_id: Option<UserRef>,
    /// The recipient's number, in any usual spelling, or the `phone_number` of one of the user's contacts. It may be
    /// missing where `conversation_id` names a conversation.
    #[schemars(with = "Option<String>")]
    pub to: Option<ToRef>,
    /// In place of `to`: the id of a message that was sent to a group, whose members all get this one as a group MMS.
    pub reply_all: Option<IdRef>,
    /// Which of the user's numbers to send from.
    pub from: Option<String>,
    /// The text.
    pub text: Option<String>,
    /// The same as `text`.
    pub body: Option<String>,
    /// Attachments: public URLs.
    pub media_urls: Option<Vec<String>>,
    /// Subject of an MMS.
    pub subject: Option<String>,
    /// The conversation it belongs to, if known.
    pub conversation_id: Option<IdRef>,
    /// The portal's own id of the message; it comes back in callbacks.
    pub reference: Option<String>,
    /// When to send it, ISO 8601.
    pub send_at: Option<String>,
    /// The same key sends a message once.
    pub idempotency_key: Option<String>,
    /// The connection that must not get the events.
    pub socket_id: Option<String>,
    /// `false`: don't wait for the carrier.
    pub wait: Option<bool>,
    /// Names the contact.
    pub contact: Option<ContactRequest>,
}

/// What is known of a contact.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
pub struct ContactRequest {
    /// As the user calls it.
    pub name: Option<String>,
}

/// A request whose fields were checked and normalised.
#[derive(Clone, Debug, Serialize)]
pub struct Draft {
    /// The sender.
    pub user_id: String,
    /// The recipient.
    #[serde(serialize_with = "as_text")]
    pub to: Destination,
    /// The other recipients of a group MMS. Left out where there are none: so requests that an older version stored
    /// have the same hash.
    #[serde(serialize_with = "as_texts", skip_serializing_if = "Vec::is_empty")]
    pub cc: Vec<PhoneNumber>,
    /// The number to send from.
    #[serde(serialize_with = "as_optional_text")]
    pub from: Option<PhoneNumber>,
    /// The text; `None` when it is empty.
    pub text: Option<String>,
    /// Attachments.
    pub media_urls: Vec<String>,
    /// Subject of an MMS.
    pub subject: Option<String>,
    /// The conversation it must belong to.
    pub conversation_id: Option<String>,
    /// The portal's own id.
    pub reference: Option<String>,
    /// Microseconds since 1970.
    pub send_at: Option<i64>,
    /// The contact's name.
    pub contact_name: Option<String>,
    /// Sends it once.
    #[serde(skip)]
    pub idempotency_key: Option<String>,
    /// The connection that must not get the events.
    #[serde(skip)]
    pub socket_id: Option<String>,
    /// Whether the answer waits for the carrier's.
    #[serde(skip)]
    pub wait: bool,
}

impl Draft {
    /// Checks a request to this recipient.
    ///
    /// # Errors
    /// The first field that is wrong.
    pub fn new(
        request: &SendRequest,
        to: Destination,
        settings: &RoutingSettings,
    ) -> Result<Self, RoutingError> {
        let from = parsed_number("from", request.from.as_deref(), settings)?;
        Self::addressed(request, to, Vec::new(), from)
    }

    /// Checks a request that answers a group.
    ///
    /// # Errors
    /// The first field that is wrong.
    pub fn to_group(
        request: &SendRequest,
        group: Group,
        settings: &RoutingSettings,
    ) -> Result<Self, RoutingError> {
        if request.to.is_some() {
            return Err(invalid(
                "to",
                "send either to or reply_all: a group's members are those of its message",
            ));
        }
        let from = parsed_number("from", request.from.as_deref(), settings)?;
        if from.is_some_and(|from| from != group.own) {
            return Err(invalid("from", "a group is answered from the number that it has of this user"));
        }
        Self::addressed(request, Destination::Number(group.contact), group.others, Some(group.own))
    }

    fn addressed(
        request: &SendRequest,
        to: Destination,
        cc: Vec<PhoneNumber>,
        from: Option<PhoneNumber>,
    ) -> Result<Self, RoutingError> {
        let user_id = UserRef::required(request.user_id.as_ref())?;
        let text = request.text.as_deref().or(request.body.as_deref());
        let text = text.filter(|text| !text.trim().is_empty()).map(str::to_owned);
        let media_urls = request.media_urls.clone().unwrap_or_default();
        text::check_media_urls(&media_urls).map_err(|error| media(&error))?;
        check_socket_id(request.socket_id.as_deref())?;
        let conversation_id = request.conversation_id.as_ref().map(IdRef::text);
        Ok(Self {
            user_id,
            to,
            cc,
            from,
            text,
            media_urls,
            subject: short("subject", request.subject.as_deref())?,
            conversation_id,
            reference: short("reference", request.reference.as_deref())?,
            send_at: request.send_at.as_deref().map(send_at).transpose()?,
            contact_name: name(request.contact.as_ref().and_then(|contact| contact.name.as_deref()))?,
            idempotency_key: short("idempotency_key", request.idempotency_key.as_deref())?,
            socket_id: request.socket_id.clone(),
            wait: request.wait.unwrap_or(true),
        })
    }

    /// Whether there is a message in it.
    pub fn has_content(&self) -> bool {
        self.text.is_some() || !self.media_urls.is_empty()
    }

    /// Whether it is an MMS, if it goes through the carrier.
    pub fn is_mms(&self) -> bool {
        !self.media_urls.is_empty() || self.subject.is_some() || self.is_to_group()
    }

    /// Whether all members of a group get it.
    pub fn is_to_group(&self) -> bool {
        !self.cc.is_empty()
    }

    /// Checks the text for the way that it goes.
    ///
    /// # Errors
    /// `too_long`, `invalid_field`.
    pub fn check_text(&self, is_internal: bool) -> Result<(), RoutingError> {
        let way = Way::of(is_internal, self.is_mms(), self.to.as_str());
        text::check_text(self.text.as_deref().unwrap_or_default(), way).map_err(|error| error.at("text"))
    }

    /// Tells requests apart that carry the same idempotency key.
    pub fn hash(&self) -> String {
        let normalised = serde_json::to_vec(self).unwrap_or_default();
        hex::encode(Sha256::digest(&normalised))
    }
}

fn as_text<S: serde::Serializer>(to: &Destination, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(to.as_str())
}

fn as_texts<S: serde::Serializer>(numbers: &[PhoneNumber], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(numbers.iter().map(PhoneNumber::as_str))
}

fn as_optional_text<S: serde::Serializer>(
    from: &Option<PhoneNumber>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    from.as_ref().map(PhoneNumber::as_str).serialize(serializer)
}

/// A field that is missing or can't be what it is.
pub fn invalid(field: &'static str, message: &str) -> RoutingError {
    RoutingError::new(Code::InvalidField, message).at(field)
}

/// Whether it can be a connection's.
///
/// # Errors
/// It can't.
pub fn check_socket_id(id: Option<&str>) -> Result<(), RoutingError> {
    let checked = id.map(SocketId::parse).transpose();
    checked.map(drop).map_err(|error| invalid("socket_id", &error.to_string()))
}

fn number(field: &'static str, error: &impl ToString) -> RoutingError {
    RoutingError::new(Code::InvalidNumber, error.to_string()).at(field)
}

/// An optional number of a request.
///
/// # Errors
/// It is none.
pub fn parsed_number(
    field: &'static str,
    text: Option<&str>,
    settings: &RoutingSettings,
) -> Result<Option<PhoneNumber>, RoutingError> {
    let region = settings.default_region.as_deref();
    let parse = |text| PhoneNumber::parse(text, &settings.numbers, region);
    text.map(parse).transpose().map_err(|error| number(field, &error))
}

fn media(error: &MediaError) -> RoutingError {
    let code = match error {
        MediaError::TooMany(_) => Code::TooManyMedia,
        _ => Code::InvalidField,
    };
    RoutingError::new(code, error.to_string()).at("media_urls")
}

fn short(field: &'static str, text: Option<&str>) -> Result<Option<String>, RoutingError> {
    let Some(text) = text else { return Ok(None) };
    let length = text.chars().count();
    if length == 0 || length > MAX_KEY || text.chars().any(char::is_control) {
        let message = format!("{field} must have 1 to {MAX_KEY} printable characters");
        return Err(invalid(field, &message));
    }
    Ok(Some(text.to_owned()))
}

/// A contact's name: trimmed, and none when empty.
///
/// # Errors
/// It is too long or not printable.
pub fn name(text: Option<&str>) -> Result<Option<String>, RoutingError> {
    let Some(text) = text.map(str::trim).filter(|text| !text.is_empty()) else { return Ok(None) };
    if text.chars().count() > MAX_KEY || text.chars().any(char::is_control) {
        return Err(invalid("name", "a name has at most 255 printable characters"));
    }
    Ok(Some(text.to_owned()))
}

fn send_at(text: &str) -> Result<i64, RoutingError> {
    let time = OffsetDateTime::parse(text, &Rfc3339)
        .map_err(|_| invalid("send_at", "send_at must be a time such as 2026-11-22T19:13:30Z"))?;
    let at = i64::try_from(time.unix_timestamp_nanos() / 1_000).unwrap_or(i64::MAX);
    let ahead = at.saturating_sub(storage::now());
    if !(0..=MAX_AHEAD).contains(&ahead) {
        return Err(invalid("send_at", "send_at must be in the future, at most five days ahead"));
    }
    Ok(at)
}
