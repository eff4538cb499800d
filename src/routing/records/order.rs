//! The order of the messages of a conversation.
//!
//! A message stands at its row's id; one that was put off (scheduled, or sent again) stands at an id that was
//! taken when it was sent. Few are moved: they have an index of their own, and what is read by place is merged
//! from both.

use super::Conversation;
use super::message::{Message, message_columns};
use crate::storage::{StorageError, Transaction};

/// The ids of at most `?4` messages with places between `?3` and `?2`, of both kinds.
macro_rules! ids_by_place {
    ($direction:literal) => {
        concat!(
            "SELECT id FROM (SELECT id FROM messages WHERE conversation_id = ?1 AND place IS NULL \
             AND id < ?2 AND id > ?3 AND hidden_at IS NULL ORDER BY id ",
            $direction,
            " LIMIT ?4) unmoved UNION ALL SELECT id FROM (SELECT id FROM messages WHERE conversation_id = ?1 \
             AND place < ?2 AND place > ?3 AND hidden_at IS NULL ORDER BY place ",
            $direction,
            " LIMIT ?4) moved"
        )
    };
}

impl Message {
    /// Messages of a conversation, newest first, at places below `before` and above `after`.
    ///
    /// # Errors
    /// Of the store.
    pub fn list(
        tx: &mut Transaction<'_>,
        conversation: i64,
        before: Option<i64>,
        after: Option<i64>,
        limit: i64,
    ) -> Result<Vec<Self>, StorageError> {
        let values =
            [conversation.into(), before.unwrap_or(i64::MAX).into(), after.unwrap_or(0).into(), limit.into()];
        // Behind a given message, the ones next to it; otherwise the newest.
        let sql = if after.is_some() {
            concat!(
                message_columns!(),
                "WHERE m.id IN (",
                ids_by_place!("ASC"),
                ") ORDER BY COALESCE(m.place, m.id) LIMIT ?4"
            )
        } else {
            concat!(
                message_columns!(),
                "WHERE m.id IN (",
                ids_by_place!("DESC"),
                ") ORDER BY COALESCE(m.place, m.id) DESC LIMIT ?4"
            )
        };
        let mut found: Vec<Self> =
            tx.query(sql, &values)?.iter().map(Self::from_row).collect::<Result<_, _>>()?;
        if after.is_some() {
            found.reverse();
        }
        Ok(found)
    }

    /// Where the message of this row, which may be hidden or gone, stands.
    ///
    /// # Errors
    /// Of the store.
    pub fn place_of(tx: &mut Transaction<'_>, row: i64) -> Result<i64, StorageError> {
        let place = tx.query_one("SELECT place FROM messages WHERE id = ?1", &[row.into()])?;
        let place = place.map_or(Ok(None), |place| place.optional_int(0))?;
        Ok(place.unwrap_or(row))
    }

    /// Moves the message to the end of its conversation, where it is sent now.
    ///
    /// # Errors
    /// Of the store.
    pub fn move_to_end(
        &mut self,
        tx: &mut Transaction<'_>,
        conversation: &Conversation,
        now: i64,
    ) -> Result<(), StorageError> {
        // First the lock, then the place, as with a new message.
        conversation.hold_thread(tx)?;
        self.place = tx.next_id("messages")?;
        self.placed_at = now;
        // When an earlier attempt was sent says nothing of this one.
        self.sent_at = None;
        tx.execute(
            "UPDATE messages SET place = ?2, placed_at = ?3, sent_at = NULL WHERE id = ?1",
            &[self.id.into(), self.place.into(), now.into()],
        )?;
        Ok(())
    }

    /// The newest message of a conversation that has a counterpart at the other side.
    ///
    /// # Errors
    /// Of the store.
    pub fn last_of_pair(tx: &mut Transaction<'_>, conversation: i64) -> Result<Option<Self>, StorageError> {
        Self::first(
            tx,
            concat!(
                message_columns!(),
                "WHERE m.id IN (SELECT id FROM (SELECT id FROM messages WHERE conversation_id = ?1 AND place IS NULL \
                 AND is_internal = 1 AND status NOT IN ('scheduled', 'cancelled', 'failed') ORDER BY id DESC LIMIT 1) unmoved \
                 UNION ALL SELECT id FROM (SELECT id FROM messages WHERE conversation_id = ?1 AND place IS NOT NULL \
                 AND is_internal = 1 AND status NOT IN ('scheduled', 'cancelled', 'failed') ORDER BY place DESC LIMIT 1) moved) \
                 ORDER BY COALESCE(m.place, m.id) DESC LIMIT 1"
            ),
            &[conversation.into()],
        )
    }

    /// The text of the last message of a conversation that its owner sees.
    ///
    /// # Errors
    /// Of the store.
    pub fn last_text(tx: &mut Transaction<'_>, conversation: i64) -> Result<Option<String>, StorageError> {
        let row = tx.query_one(
            "SELECT body FROM (SELECT * FROM (SELECT body, id AS stands FROM messages WHERE conversation_id = ?1 \
             AND place IS NULL AND deleted_at IS NULL AND hidden_at IS NULL ORDER BY id DESC LIMIT 1) unmoved \
             UNION ALL SELECT * FROM (SELECT body, place AS stands FROM messages WHERE conversation_id = ?1 \
             AND place IS NOT NULL AND deleted_at IS NULL AND hidden_at IS NULL ORDER BY place DESC LIMIT 1) moved) last \
             ORDER BY stands DESC LIMIT 1",
            &[conversation.into()],
        )?;
        row.map_or(Ok(None), |row| row.optional_text(0))
    }
}
