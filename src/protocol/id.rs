//! Identifiers that clients see: socket ids, event names, user ids.

use std::fmt;
use std::sync::Arc;

use super::channel::is_name_byte;

/// Most characters of an event name (Pusher docs, "HTTP API reference").
pub const MAX_EVENT_NAME: usize = 200;
/// Most characters of a user id (Pusher docs, "Presence channels").
pub const MAX_USER_ID: usize = 128;

/// The id of one live connection: two decimal numbers joined by a dot, as every server SDK checks
/// (`^\d+\.\d+$`).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SocketId {
    high: u32,
    low: u32,
}

impl SocketId {
    /// A new id from the system's random source. Never reused: a channel signature stays valid for
    /// its socket id for ever.
    pub fn random() -> Self {
        let mut bytes = [0_u8; 8];
        getrandom::fill(&mut bytes).expect("bug: the system has no random source");
        let [a, b, c, d, e, f, g, h] = bytes;
        Self { high: u32::from_le_bytes([a, b, c, d]), low: u32::from_le_bytes([e, f, g, h]) }
    }

    /// Reads the `socket_id` of a publish: `Err` when it has not the form of one, `Ok(None)` when it
    /// has but can't be one of ours, so nobody needs to be left out. Nor does the empty text name anybody: the C++
    /// SDK sends it with every event.
    pub fn parse(text: &str) -> Result<Option<Self>, InvalidSocketId> {
        if text.is_empty() {
            return Ok(None);
        }
        let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        match text.split_once('.') {
            Some((high, low)) if digits(high) && digits(low) => {
                let id = match (high.parse(), low.parse()) {
                    (Ok(high), Ok(low)) => Some(Self { high, low }),
                    _ => None,
                };
                Ok(id.filter(|id| id.to_string() == text))
            }
            _ => Err(InvalidSocketId(text.chars().take(64).collect())),
        }
    }
}

impl fmt::Display for SocketId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.high, self.low)
    }
}

impl fmt::Debug for SocketId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A `socket_id` that is not two numbers joined by a dot.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Invalid socket_id '{0}': expected two numbers joined by a dot, for example 1234.5678")]
pub struct InvalidSocketId(String);

/// Why a publisher's event name is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidEventName {
    /// The empty text.
    #[error("Event name must not be empty")]
    Empty,
    /// Longer than [`MAX_EVENT_NAME`].
    #[error("Event name is too long: {0} characters, at most {MAX_EVENT_NAME} are allowed")]
    TooLong(usize),
    /// `pusher:` and `pusher_internal:` belong to the service.
    #[error(
        "Event name '{0}' is reserved: names that start with 'pusher:' or 'pusher_internal:' can't be published"
    )]
    Reserved(String),
}

/// Checks the name of an event that somebody else than the service sends: 1 to 200 characters of any
/// kind, not starting with `pusher:` or `pusher_internal:`.
pub fn check_event_name(name: &str) -> Result<(), InvalidEventName> {
    if name.is_empty() {
        return Err(InvalidEventName::Empty);
    }
    if name.len() > MAX_EVENT_NAME && name.chars().count() > MAX_EVENT_NAME {
        return Err(InvalidEventName::TooLong(name.chars().count()));
    }
    if name.starts_with("pusher:") || name.starts_with("pusher_internal:") {
        return Err(InvalidEventName::Reserved(name.to_owned()));
    }
    Ok(())
}

/// A user's id: 1 to 128 characters. Presence members may use any characters; a signed-in user's id
/// becomes part of a channel name and obeys its rules.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UserId(Arc<str>);

/// Why a user id is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidUserId {
    /// The empty text.
    #[error("User id must not be empty")]
    Empty,
    /// Longer than [`MAX_USER_ID`].
    #[error("User id is too long: {0} characters, at most {MAX_USER_ID} are allowed")]
    TooLong(usize),
    /// A character that can't stand in `#server-to-user-ID`.
    #[error("User id may only contain letters, digits and _ - = @ , . ;")]
    Character,
}

impl UserId {
    /// The id of a presence member.
    pub fn member(id: &str) -> Result<Self, InvalidUserId> {
        if id.is_empty() {
            return Err(InvalidUserId::Empty);
        }
        if id.len() > MAX_USER_ID && id.chars().count() > MAX_USER_ID {
            return Err(InvalidUserId::TooLong(id.chars().count()));
        }
        Ok(Self(id.into()))
    }

    /// The id of a user who signs in, or of one on a watchlist.
    pub fn signed_in(id: &str) -> Result<Self, InvalidUserId> {
        let id = Self::member(id)?;
        if id.as_str().bytes().all(is_name_byte) { Ok(id) } else { Err(InvalidUserId::Character) }
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::borrow::Borrow<str> for UserId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn socket_ids_have_the_form_that_sdks_check() {
        let text = SocketId::random().to_string();
        let (high, low) = text.split_once('.').expect("a dot");
        assert!([high, low].iter().all(|part| part.bytes().all(|byte| byte.is_ascii_digit())));
        assert_eq!(SocketId::parse(&text).map(|id| id.map(|id| id.to_string())), Ok(Some(text)));
    }

    #[test]
    fn foreign_socket_ids_are_told_from_malformed_ones() {
        for unknown in ["", "99999999999999.1", "01.2", "1.00"] {
            assert_eq!(SocketId::parse(unknown), Ok(None), "{unknown}");
        }
        for bad in ["undefined", " ", "1", "1.", ".1", "1.2.3", "1,2", "-1.2", "1.2\n", "+1.2"] {
            assert!(SocketId::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn event_names_are_counted_in_characters_and_reserved_prefixes_refused() {
        assert!(check_event_name(&"é".repeat(200)).is_ok());
        assert_eq!(check_event_name(&"é".repeat(201)), Err(InvalidEventName::TooLong(201)));
        assert!(check_event_name("App\\Events\\X").is_ok());
        assert!(check_event_name("pusherx:foo").is_ok());
        for bad in ["", "pusher:foo", "pusher_internal:foo"] {
            assert!(check_event_name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn user_ids_obey_their_use() {
        assert!(UserId::member("Jörg Müller").is_ok());
        assert_eq!(UserId::signed_in("Jörg"), Err(InvalidUserId::Character));
        assert_eq!(UserId::member(""), Err(InvalidUserId::Empty));
        assert_eq!(UserId::member(&"x".repeat(129)), Err(InvalidUserId::TooLong(129)));
        assert!(UserId::signed_in("42").is_ok());
    }
}
