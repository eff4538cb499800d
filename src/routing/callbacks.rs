//! What the portal's backend is told.

use super::Router;
use super::records::{Conversation, Message};
use crate::apps::App;
use crate::storage::{StorageError, Transaction};

/// Tells of a message.
pub fn message(
    _router: &Router,
    _tx: &mut Transaction<'_>,
    _app: &App,
    _event: &'static str,
    _message: &Message,
    _conversation: &Conversation,
    _now: i64,
) -> Result<(), StorageError> {
    Ok(())
}

/// Tells of something else.
pub fn other(
    _router: &Router,
    _tx: &mut Transaction<'_>,
    _app: &App,
    _event: &'static str,
    _lane: &str,
    _data: serde_json::Value,
    _now: i64,
) -> Result<(), StorageError> {
    Ok(())
}
