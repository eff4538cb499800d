//! Who has whom as a contact.

use crate::config::DirectoryMode;
use crate::routing::json::Id;
use crate::routing::phone_number::{spelling_values, spellings};
use crate::routing::records::Conversation;
use crate::storage::{Row, StorageError, Transaction};

/// A conversation, as far as its contact's presence is told in it.
#[derive(Clone, Debug, PartialEq)]
pub struct View {
    /// The portal's id of the conversation, where it has one.
    pub portal_id: Option<String>,
    /// The server's id of it.
    pub id: Id,
    /// The contact's id.
    pub contact_id: Id,
}

/// A conversation that was opened, and who its contact is.
#[derive(Clone, Debug, PartialEq)]
pub struct Opened {
    /// The conversation.
    pub view: View,
    /// The portal user who has the contact's number.
    pub user: String,
    /// When that user was last seen.
    pub last_seen_at: Option<i64>,
}

/// Conversations of others whose contact this user is: by the directory where it is ours, else by the
/// internal conversations that the user has with them (by the last owner of a number, should it have
/// had several).
///
/// # Errors
/// Of the store.
pub fn of_contact(
    tx: &mut Transaction<'_>,
    app_id: &str,
    user: &str,
    mode: DirectoryMode,
) -> Result<Vec<View>, StorageError> {
    match mode {
        DirectoryMode::Own => {
            let sql =
                "SELECT number FROM phone_numbers WHERE app_id = ?1 AND user_id = ?2 AND status = 'assigned'";
            let mut views = Vec::new();
            for number in tx.query(sql, &[app_id.into(), user.into()])? {
                views.extend(with_number(tx, app_id, &number.text(0)?)?);
            }
            Ok(views)
        }
        DirectoryMode::Sql => {
            let sql = "SELECT c.id, c.public_id, c.portal_id, k.id, k.public_id FROM conversations mine \
             JOIN conversations c ON c.app_id = mine.app_id AND c.thread_id = mine.thread_id \
             AND c.contact_number <> mine.contact_number AND c.is_internal = 1 \
             JOIN contacts k ON k.id = c.contact_id \
             WHERE mine.app_id = ?1 AND mine.user_id = ?2 AND mine.is_internal = 1 \
             AND NOT EXISTS (SELECT 1 FROM conversations later WHERE later.app_id = mine.app_id \
             AND later.thread_id = mine.thread_id AND later.contact_number = mine.contact_number \
             AND later.active_at > mine.active_at)";
            tx.query(sql, &[app_id.into(), user.into()])?.iter().map(view).collect()
        }
    }
}

/// Conversations whose contact has this number, in any spelling of its line.
fn with_number(tx: &mut Transaction<'_>, app_id: &str, number: &str) -> Result<Vec<View>, StorageError> {
    let mut views = Vec::new();
    for number in spellings(number) {
        let rows = tx.query(
            "SELECT c.id, c.public_id, c.portal_id, k.id, k.public_id FROM conversations c \
             JOIN contacts k ON k.id = c.contact_id WHERE c.app_id = ?1 AND c.contact_number = ?2",
            &[app_id.into(), number.into()],
        )?;
        for row in &rows {
            views.push(view(row)?);
        }
    }
    Ok(views)
}

fn view(row: &Row) -> Result<View, StorageError> {
    Ok(View {
        id: Id::new(row.int(0)?, row.optional_text(1)?.as_deref()),
        portal_id: row.optional_text(2)?,
        contact_id: Id::new(row.int(3)?, row.optional_text(4)?.as_deref()),
    })
}

/// The conversations of a channel whose contacts are portal users.
///
/// # Errors
/// Of the store.
pub fn of_channel(
    tx: &mut Transaction<'_>,
    app_id: &str,
    channel_id: &str,
    mode: DirectoryMode,
) -> Result<Vec<Opened>, StorageError> {
    let mut opened = Vec::new();
    for conversation in Conversation::of_channel(tx, app_id, channel_id)? {
        if let Some((user, last_seen_at)) = contact_user(tx, &conversation, mode)? {
            let view = View {
                id: conversation.public_id(),
                contact_id: conversation.contact.public_id(),
                portal_id: conversation.portal_id,
            };
            opened.push(Opened { view, user, last_seen_at });
        }
    }
    Ok(opened)
}

/// The portal user who has the contact's number, and when that user was last seen.
fn contact_user(
    tx: &mut Transaction<'_>,
    conversation: &Conversation,
    mode: DirectoryMode,
) -> Result<Option<(String, Option<i64>)>, StorageError> {
    let app_id = conversation.app_id.as_str();
    let contact = conversation.contact.number.as_str();
    let row = match mode {
        DirectoryMode::Own => {
            let [first, second, third] = spelling_values(contact);
            tx.query_one(
                "SELECT p.user_id, s.last_seen_at FROM phone_numbers p \
                 LEFT JOIN users_seen s ON s.app_id = p.app_id AND s.user_id = p.user_id \
                 WHERE p.app_id = ?1 AND p.number IN (?2, ?3, ?4) AND p.status = 'assigned' \
                 AND p.user_id IS NOT NULL ORDER BY CASE WHEN p.number = ?2 THEN 0 ELSE 1 END LIMIT 1",
                &[app_id.into(), first.into(), second.into(), third.into()],
            )?
        }
        DirectoryMode::Sql => tx.query_one(
            "SELECT c.user_id, s.last_seen_at FROM conversations c \
             LEFT JOIN users_seen s ON s.app_id = c.app_id AND s.user_id = c.user_id \
             WHERE c.app_id = ?1 AND c.thread_id = ?2 AND c.contact_number <> ?3 AND c.is_internal = 1 \
             ORDER BY c.active_at DESC LIMIT 1",
            &[app_id.into(), conversation.thread_id.as_str().into(), contact.into()],
        )?,
    };
    row.map(|row| Ok((row.text(0)?, row.optional_int(1)?))).transpose()
}

/// Notes when a user was last seen; an older time changes nothing. Only of users that the router knows: in
/// the public mode everybody may subscribe to `user.` and anything.
///
/// # Errors
/// Of the store.
pub fn note_seen(tx: &mut Transaction<'_>, app_id: &str, user: &str, at: i64) -> Result<(), StorageError> {
    tx.execute(
        "INSERT INTO users_seen (app_id, user_id, last_seen_at) SELECT ?1, ?2, ?3 \
         WHERE EXISTS (SELECT 1 FROM phone_numbers p WHERE p.app_id = ?1 AND p.user_id = ?2) \
         OR EXISTS (SELECT 1 FROM conversations c WHERE c.app_id = ?1 AND c.user_id = ?2) \
         ON CONFLICT (app_id, user_id) DO UPDATE SET last_seen_at = excluded.last_seen_at \
         WHERE excluded.last_seen_at > users_seen.last_seen_at",
        &[app_id.into(), user.into(), at.into()],
    )?;
    Ok(())
}
