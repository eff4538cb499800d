//! The records and their SQL: contacts, conversations, messages.

mod awaited;
mod contact;
mod conversation;
mod message;
mod order;

pub use awaited::{Awaited, Due};
pub use contact::Contact;
pub use conversation::{Conversation, ConversationKey};
pub use message::{Message, NewMessage};

use ulid::Ulid;

use crate::config::IdKind;

/// The id that clients see instead of the row's own, if any.
fn public_id(kind: IdKind) -> Option<String> {
    (kind == IdKind::Ulid).then(|| Ulid::generate().to_string())
}
