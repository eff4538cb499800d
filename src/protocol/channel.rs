//! Channel names and what their prefixes say.

use std::fmt;
use std::sync::Arc;

/// Most characters of a channel name, prefix included. The SDKs allow 200, the documentation says 164.
pub const MAX_CHANNEL_NAME: usize = 200;

/// The prefix of the one channel that only a signed-in user may subscribe to.
pub const SERVER_TO_USER_PREFIX: &str = "#server-to-user-";

/// What a channel's prefix demands. Derived once, from the longest prefix that fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChannelKind {
    /// Anybody may subscribe.
    Public,
    /// `private-`: needs a signature.
    Private,
    /// `private-encrypted-`: as private; the payload is opaque to the server.
    PrivateEncrypted,
    /// `presence-`: as private, with a member list.
    Presence,
    /// `#server-to-user-ID`: for the connections signed in as that user.
    ServerToUser,
}

/// A channel name that obeys Pusher's rules: 1 to 200 characters of `A-Za-z0-9_-=@,.;`, any prefix
/// counted in, or `#server-to-user-` and a user id of the same characters.
///
/// Source: Pusher docs, "Channels: naming conventions"; "Sending events to authenticated users".
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChannelName(Arc<str>);

/// Why a text is no channel name; says what to change.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidChannelName {
    /// The empty text.
    #[error("Channel name must not be empty")]
    Empty,
    /// Longer than [`MAX_CHANNEL_NAME`].
    #[error("Channel name is too long: {0} characters, at most {MAX_CHANNEL_NAME} are allowed")]
    TooLong(usize),
    /// A character that is not allowed, or `#` outside of the server-to-user prefix.
    #[error(
        "Invalid channel name '{0}': only letters, digits and _ - = @ , . ; are allowed (and '#server-to-user-' in front of a user id)"
    )]
    Character(String),
}

impl ChannelName {
    /// Parses a name.
    ///
    /// # Errors
    /// [`InvalidChannelName`], whose text is meant for the client.
    pub fn parse(name: &str) -> Result<Self, InvalidChannelName> {
        if name.is_empty() {
            return Err(InvalidChannelName::Empty);
        }
        if name.len() > MAX_CHANNEL_NAME {
            return Err(InvalidChannelName::TooLong(name.chars().count()));
        }
        let plain = name.strip_prefix(SERVER_TO_USER_PREFIX).unwrap_or(name);
        if plain.is_empty() || !plain.bytes().all(is_name_byte) {
            return Err(InvalidChannelName::Character(name.to_owned()));
        }
        Ok(Self(name.into()))
    }

    /// The name as clients write it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The shared text, for maps that are searched by `&str`.
    pub fn shared(&self) -> Arc<str> {
        Arc::clone(&self.0)
    }

    /// What the prefix says.
    pub fn kind(&self) -> ChannelKind {
        let name = self.as_str();
        if name.starts_with("private-encrypted-") {
            ChannelKind::PrivateEncrypted
        } else if name.starts_with("private-") {
            ChannelKind::Private
        } else if name.starts_with("presence-") {
            ChannelKind::Presence
        } else if name.starts_with(SERVER_TO_USER_PREFIX) {
            ChannelKind::ServerToUser
        } else {
            ChannelKind::Public
        }
    }

    /// Whether the channel remembers its last event (Pusher docs, "Cache channels").
    pub fn is_cache(&self) -> bool {
        ["cache-", "private-cache-", "private-encrypted-cache-", "presence-cache-"]
            .iter()
            .any(|prefix| self.as_str().starts_with(prefix))
    }

    /// The user whose connections alone may subscribe, for `#server-to-user-ID`.
    pub fn server_to_user(&self) -> Option<&str> {
        self.as_str().strip_prefix(SERVER_TO_USER_PREFIX)
    }
}

impl ChannelKind {
    /// Whether subscribing needs a signature.
    pub fn needs_auth(self) -> bool {
        matches!(self, Self::Private | Self::PrivateEncrypted | Self::Presence)
    }
}

impl fmt::Debug for ChannelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for ChannelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Whether a byte may stand in a channel name (and in the id of a signed-in user).
pub fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"_-=@,.;".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn kind(name: &str) -> (ChannelKind, bool) {
        let name = ChannelName::parse(name).expect(name);
        (name.kind(), name.is_cache())
    }

    #[test]
    fn the_longest_prefix_decides_and_the_dash_belongs_to_it() {
        use ChannelKind::*;
        for (name, expected) in [
            ("news", (Public, false)),
            ("cache-prices", (Public, true)),
            ("private-user.42", (Private, false)),
            ("private-cache-x", (Private, true)),
            ("private-encrypted-x", (PrivateEncrypted, false)),
            ("private-encrypted-cache-x", (PrivateEncrypted, true)),
            ("presence-room", (Presence, false)),
            ("presence-cache-room", (Presence, true)),
            ("#server-to-user-42", (ServerToUser, false)),
            ("presences", (Public, false)),
            ("privateer", (Public, false)),
            ("cachet", (Public, false)),
            ("private-encryptedx", (Private, false)),
            ("private-cachet", (Private, false)),
        ] {
            assert_eq!(kind(name), expected, "{name}");
        }
    }

    #[test]
    fn names_are_limited_in_length_and_characters() {
        assert!(ChannelName::parse(&"a".repeat(200)).is_ok());
        assert_eq!(ChannelName::parse(&"a".repeat(201)), Err(InvalidChannelName::TooLong(201)));
        assert_eq!(ChannelName::parse(""), Err(InvalidChannelName::Empty));
        for bad in
            ["bad name", "a:b", "#x", "#server-to-user-", "a#b", "a/b", "é", "a\n", "#server-to-user-#1"]
        {
            assert!(matches!(ChannelName::parse(bad), Err(InvalidChannelName::Character(_))), "{bad}");
        }
        assert!(ChannelName::parse("A-Za-z0-9_-=@,.;").is_ok());
    }

    proptest! {
        #[test]
        fn parsing_keeps_the_text_and_never_panics(text in ".{0,210}") {
            if let Ok(name) = ChannelName::parse(&text) {
                prop_assert_eq!(name.as_str(), text.as_str());
                prop_assert!(text.len() <= MAX_CHANNEL_NAME && !text.contains([':', '/', ' ']));
            }
        }
    }
}
