//! Contacts.

use super::{ConversationKey, public_id};
use crate::config::IdKind;
use crate::routing::json::Id;
use crate::routing::phone_number::spellings;
use crate::storage::{Row, StorageError, Transaction};

/// Somebody a user exchanges messages with.
#[derive(Clone, Debug, PartialEq)]
pub struct Contact {
    /// The row's id.
    pub id: i64,
    /// What clients see instead, if anything.
    pub ulid: Option<String>,
    /// Whose contact it is.
    pub user_id: String,
    /// E.164, or what the carrier gave.
    pub number: String,
    /// As the user calls it.
    pub name: Option<String>,
    /// Whether the number belonged to a portal user at the last message.
    pub is_internal: bool,
    /// Microseconds since 1970, as all times.
    pub created_at: i64,
    /// When it last changed.
    pub updated_at: i64,
}

impl Contact {
    /// The id clients see.
    pub fn public_id(&self) -> Id {
        Id::new(self.id, self.ulid.as_deref())
    }

    /// A user's contact by its number, or by another spelling of the same line.
    ///
    /// # Errors
    /// Of the store.
    pub fn find(
        tx: &mut Transaction<'_>,
        app_id: &str,
        user_id: &str,
        number: &str,
    ) -> Result<Option<Self>, StorageError> {
        for number in spellings(number) {
            let row = tx.query_one(
                "SELECT id, public_id, number, name, is_internal, created_at, updated_at FROM contacts \
                 WHERE app_id = ?1 AND user_id = ?2 AND number = ?3",
                &[app_id.into(), user_id.into(), number.into()],
            )?;
            if let Some(row) = row {
                return Self::read(&row, 0, user_id).map(Some);
            }
        }
        Ok(None)
    }

    /// Finds or makes a contact and gives it this name.
    ///
    /// # Errors
    /// Of the store.
    pub fn name(
        tx: &mut Transaction<'_>,
        key: &ConversationKey<'_>,
        name: &str,
        ids: IdKind,
        now: i64,
    ) -> Result<Self, StorageError> {
        Self::rename(tx, key, Some(name), false, ids, now)
    }

    /// Finds or makes a contact and gives it this name, or takes away the one it has. `is_internal` is for a new
    /// one.
    ///
    /// # Errors
    /// Of the store.
    pub fn rename(
        tx: &mut Transaction<'_>,
        key: &ConversationKey<'_>,
        name: Option<&str>,
        is_internal: bool,
        ids: IdKind,
        now: i64,
    ) -> Result<Self, StorageError> {
        Self::insert(tx, key, is_internal, ids, now)?;
        let rows = tx.query(
            "UPDATE contacts SET name = ?4, updated_at = ?5 WHERE app_id = ?1 AND user_id = ?2 AND number = ?3 \
             RETURNING id, public_id, number, name, is_internal, created_at, updated_at",
            &[key.app_id.into(), key.user_id.into(), key.contact_number.into(), name.into(), now.into()],
        )?;
        let row = rows.first().ok_or_else(|| StorageError::Fault("a contact vanished".to_owned()))?;
        Self::read(row, 0, key.user_id)
    }

    /// Reads a contact whose first column is this one of a row.
    pub(super) fn read(row: &Row, first: usize, user_id: &str) -> Result<Self, StorageError> {
        Ok(Self {
            id: row.int(first)?,
            ulid: row.optional_text(first + 1)?,
            user_id: user_id.to_owned(),
            number: row.text(first + 2)?,
            name: row.optional_text(first + 3)?,
            is_internal: row.flag(first + 4)?,
            created_at: row.int(first + 5)?,
            updated_at: row.int(first + 6)?,
        })
    }

    /// The contact of this number, or of another spelling of the same line; made if there is none.
    pub(super) fn find_or_create(
        tx: &mut Transaction<'_>,
        key: &ConversationKey<'_>,
        is_internal: bool,
        ids: IdKind,
        now: i64,
    ) -> Result<Self, StorageError> {
        // Of most numbers there is one spelling, and most contacts of new conversations are new.
        if spellings(key.contact_number).len() > 1
            && let Some(known) = Self::find(tx, key.app_id, key.user_id, key.contact_number)?
        {
            return Ok(known);
        }
        if let Some(made) = Self::insert(tx, key, is_internal, ids, now)? {
            return Ok(made);
        }
        let found = Self::find(tx, key.app_id, key.user_id, key.contact_number)?;
        found.ok_or_else(|| StorageError::Fault("a contact vanished".to_owned()))
    }

    /// Makes a contact; `None`: it is there.
    fn insert(
        tx: &mut Transaction<'_>,
        key: &ConversationKey<'_>,
        is_internal: bool,
        ids: IdKind,
        now: i64,
    ) -> Result<Option<Self>, StorageError> {
        let ulid = public_id(ids);
        let id = tx.insert(
            "INSERT INTO contacts (public_id, app_id, user_id, number, is_internal, created_at, updated_at) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6) ON CONFLICT DO NOTHING",
            &[
                ulid.clone().into(),
                key.app_id.into(),
                key.user_id.into(),
                key.contact_number.into(),
                is_internal.into(),
                now.into(),
            ],
        )?;
        Ok(id.map(|id| Self {
            id,
            ulid,
            user_id: key.user_id.to_owned(),
            number: key.contact_number.to_owned(),
            name: None,
            is_internal,
            created_at: now,
            updated_at: now,
        }))
    }
}
