//! Who owns a number.

use super::phone_number::spellings;
use crate::storage::{Row, StorageError, Transaction};

/// A number of the directory, as routing sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// E.164.
    pub number: String,
    /// Who has it.
    pub user_id: Option<String>,
    /// As the directory names it.
    pub status: String,
    /// Whether that status means that the number is in use by its user.
    pub is_assigned: bool,
    /// What the portal calls it.
    pub label: Option<String>,
}

/// A number that a user may send from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnNumber {
    /// E.164.
    pub number: String,
    /// Whether it is the user's main one.
    pub is_default: bool,
    /// The carrier's profile of it, where it is not the app's.
    pub messaging_profile_id: Option<String>,
}

/// Finds the owner of a number, also where the directory has another spelling of the same line; the very number goes
/// first, unless nobody has it. The row is held against changes until the transaction ends, so that a
/// number that moves to another user delivers nothing more to the old one.
///
/// # Errors
/// Of the store.
pub fn find(tx: &mut Transaction<'_>, app_id: &str, number: &str) -> Result<Option<Owner>, StorageError> {
    let mut found = None;
    for number in spellings(number) {
        let row = tx.query_one(
            "SELECT number, user_id, status, label FROM phone_numbers WHERE app_id = ?1 AND number = ?2 /* FOR SHARE */",
            &[app_id.into(), number.into()],
        )?;
        let Some(owner) = row.as_ref().map(owner).transpose()? else { continue };
        if owner.is_in_use() {
            return Ok(Some(owner));
        }
        found = found.or(Some(owner));
    }
    Ok(found)
}

impl Owner {
    /// Whether a user has the number and uses it.
    pub fn is_in_use(&self) -> bool {
        self.is_assigned && self.user_id.is_some()
    }
}

fn owner(row: &Row) -> Result<Owner, StorageError> {
    let status = row.text(2)?;
    Ok(Owner {
        number: row.text(0)?,
        user_id: row.optional_text(1)?,
        is_assigned: status == "assigned",
        status,
        label: row.optional_text(3)?,
    })
}

/// The numbers assigned to a user, the main one first.
///
/// # Errors
/// Of the store.
pub fn own_numbers(
    tx: &mut Transaction<'_>,
    app_id: &str,
    user_id: &str,
) -> Result<Vec<OwnNumber>, StorageError> {
    let rows = tx.query(
        "SELECT number, is_default, messaging_profile_id FROM phone_numbers WHERE app_id = ?1 AND user_id = ?2 \
         AND status = 'assigned' ORDER BY is_default DESC, id /* FOR SHARE */",
        &[app_id.into(), user_id.into()],
    )?;
    let own = |row: &Row| {
        Ok(OwnNumber {
            number: row.text(0)?,
            is_default: row.flag(1)?,
            messaging_profile_id: row.optional_text(2)?,
        })
    };
    rows.iter().map(own).collect()
}

/// The carrier's profile of an own number, where it has one of its own.
///
/// # Errors
/// Of the store.
pub fn profile(tx: &mut Transaction<'_>, app_id: &str, number: &str) -> Result<Option<String>, StorageError> {
    let row = tx.query_one(
        "SELECT messaging_profile_id FROM phone_numbers WHERE app_id = ?1 AND number = ?2",
        &[app_id.into(), number.into()],
    )?;
    row.map_or(Ok(None), |row| row.optional_text(0))
}
