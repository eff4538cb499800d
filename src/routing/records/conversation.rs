//! Conversations.

use super::{Contact, public_id};
use crate::config::{ConversationKey as KeyRule, RoutingSettings};
use crate::routing::json::Id;
use crate::routing::phone_number::{spelling_values, spellings};
use crate::routing::portal_ids;
use crate::storage::{Row, StorageError, Transaction};

/// A user's messages with one contact.
#[derive(Clone, Debug, PartialEq)]
pub struct Conversation {
    /// The row's id.
    pub id: i64,
    /// What clients see instead, if anything.
    pub ulid: Option<String>,
    /// The portal's id of it, in existing-database mode.
    pub portal_id: Option<String>,
    /// Its app.
    pub app_id: String,
    /// Its owner.
    pub user_id: String,
    /// The owner's number last used in it.
    pub own_number: String,
    /// The other side.
    pub contact: Contact,
    /// The last message's text.
    pub last_message: Option<String>,
    /// When that was.
    pub last_message_at: Option<i64>,
    /// Received messages not read yet.
    pub unread_count: i64,
    /// Whether the contact is a portal user.
    pub is_internal: bool,
    /// Whether the contact opted out of messages.
    pub opted_out: bool,
    /// The same for both sides of an internal conversation; also the lane its messages go in.
    pub thread_id: String,
    /// When it was made.
    pub created_at: i64,
    /// When it last changed.
    pub updated_at: i64,
}

/// What makes two messages belong to one conversation.
#[derive(Clone, Debug)]
pub struct ConversationKey<'a> {
    /// The app.
    pub app_id: &'a str,
    /// The owner.
    pub user_id: &'a str,
    /// The owner's number.
    pub own_number: &'a str,
    /// The other side.
    pub contact_number: &'a str,
    /// See [`Conversation::thread_id`].
    pub thread_id: &'a str,
}

macro_rules! conversation_columns {
    () => {
        "SELECT c.id, c.public_id, c.portal_id, c.app_id, c.user_id, c.own_number, c.last_message, \
         c.last_message_at, c.unread_count, c.is_internal, c.opted_out, c.thread_id, c.created_at, \
         c.updated_at, k.id, k.public_id, k.number, k.name, k.is_internal, k.created_at, k.updated_at \
         FROM conversations c JOIN contacts k ON k.id = c.contact_id "
    };
}

impl Conversation {
    /// The id clients see.
    pub fn public_id(&self) -> Id {
        Id::new(self.id, self.ulid.as_deref())
    }

    /// The id in events and channel names: the portal's own where it is known.
    pub fn channel_id(&self) -> Id {
        self.portal_id.clone().map_or_else(|| self.public_id(), Id::Text)
    }

    fn from_row(row: &Row) -> Result<Self, StorageError> {
        let user_id = row.text(4)?;
        Ok(Self {
            contact: Contact::read(row, 14, &user_id)?,
            id: row.int(0)?,
            ulid: row.optional_text(1)?,
            portal_id: row.optional_text(2)?,
            app_id: row.text(3)?,
            user_id,
            own_number: row.text(5)?,
            last_message: row.optional_text(6)?,
            last_message_at: row.optional_int(7)?,
            unread_count: row.int(8)?,
            is_internal: row.flag(9)?,
            opted_out: row.flag(10)?,
            thread_id: row.text(11)?,
            created_at: row.int(12)?,
            updated_at: row.int(13)?,
        })
    }

    /// The conversation of this key, or that of another spelling of the same lines. Where an earlier version made
    /// one for each spelling, each goes on with its own.
    ///
    /// # Errors
    /// Of the store.
    pub fn find_by_key(
        tx: &mut Transaction<'_>,
        key: &ConversationKey<'_>,
        rule: KeyRule,
    ) -> Result<Option<Self>, StorageError> {
        let own_keys = spellings(&own_key(key, rule));
        for contact in spellings(key.contact_number) {
            for own_key in &own_keys {
                let row = tx.query_one(
                    concat!(
                        conversation_columns!(),
                        "WHERE c.app_id = ?1 AND c.user_id = ?2 AND c.contact_number = ?3 AND c.own_key = ?4"
                    ),
                    &[key.app_id.into(), key.user_id.into(), contact.as_str().into(), own_key.into()],
                )?;
                if let Some(row) = row {
                    return Self::from_row(&row).map(Some);
                }
            }
        }
        Ok(None)
    }

    /// The conversation of this key, made if there is none; says whether it was. Two at once get the same
    /// one.
    ///
    /// # Errors
    /// Of the store.
    pub fn find_or_create(
        tx: &mut Transaction<'_>,
        key: &ConversationKey<'_>,
        is_internal: bool,
        settings: &RoutingSettings,
        now: i64,
    ) -> Result<(Self, bool), StorageError> {
        let rule = settings.conversation.key;
        if let Some(found) = Self::find_by_key(tx, key, rule)? {
            return Ok((found, false));
        }
        // First messages in both directions make the same rows, each its own first: one after the other.
        let is_late =
            tx.lock("SELECT pg_advisory_xact_lock(hashtextextended(?1, 0))", &[key.thread_id.into()])?;
        if is_late && let Some(found) = Self::find_by_key(tx, key, rule)? {
            return Ok((found, false));
        }
        let contact = Contact::find_or_create(tx, key, is_internal, settings.ids.kind, now)?;
        let made = Self::insert(tx, key, contact, is_internal, settings, now)?;
        if let Some(made) = made {
            return Ok((made, true));
        }
        let found = Self::find_by_key(tx, key, rule)?;
        let found = found.ok_or_else(|| StorageError::Fault("a conversation vanished".to_owned()))?;
        Ok((found, false))
    }

    /// Makes a conversation; `None`: it is there.
    fn insert(
        tx: &mut Transaction<'_>,
        key: &ConversationKey<'_>,
        contact: Contact,
        is_internal: bool,
        settings: &RoutingSettings,
        now: i64,
    ) -> Result<Option<Self>, StorageError> {
        let [first, second, third] = spelling_values(&contact.number);
        let opted_out = tx.query_one(
            "SELECT 1 FROM opt_outs WHERE app_id = ?1 AND number IN (?2, ?3, ?4) LIMIT 1",
            &[key.app_id.into(), first.into(), second.into(), third.into()],
        )?;
        let (ulid, opted_out) = (public_id(settings.ids.kind), opted_out.is_some());
        let id = tx.insert(
            "INSERT INTO conversations (public_id, app_id, user_id, contact_id, contact_number, own_number, own_key, \
             active_at, unread_count, is_internal, opted_out, thread_id, created_at, updated_at) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, 0, ?9, ?10, ?11, ?8, ?8) ON CONFLICT DO NOTHING",
            &[
                ulid.clone().into(),
                key.app_id.into(),
                key.user_id.into(),
                contact.id.into(),
                (&contact.number).into(),
                key.own_number.into(),
                own_key(key, settings.conversation.key).into(),
                now.into(),
                is_internal.into(),
                opted_out.into(),
                key.thread_id.into(),
            ],
        )?;
        Ok(id.map(|id| Self {
            id,
            ulid,
            portal_id: None,
            app_id: key.app_id.to_owned(),
            user_id: key.user_id.to_owned(),
            own_number: key.own_number.to_owned(),
            contact,
            last_message: None,
            last_message_at: None,
            unread_count: 0,
            is_internal,
            opted_out,
            thread_id: key.thread_id.to_owned(),
            created_at: now,
            updated_at: now,
        }))
    }

    /// A user's conversation by the id clients use, or by the portal's (`portal:7`). A portal's id that several
    /// have names none of them.
    ///
    /// # Errors
    /// Of the store.
    pub fn find(
        tx: &mut Transaction<'_>,
        app_id: &str,
        user_id: &str,
        id: &str,
    ) -> Result<Option<Self>, StorageError> {
        if let Some(id) = portal_ids::named(id) {
            let rows = tx.query(
                concat!(
                    conversation_columns!(),
                    "WHERE c.portal_id = ?3 AND c.app_id = ?1 AND c.user_id = ?2 LIMIT 2"
                ),
                &[app_id.into(), user_id.into(), id.into()],
            )?;
            return match &rows[..] {
                [row] => Self::from_row(row).map(Some),
                _ => Ok(None),
            };
        }
        let row = match id.parse::<i64>() {
            Ok(number) => tx.query_one(
                concat!(
                    conversation_columns!(),
                    "WHERE c.id = ?3 AND c.public_id IS NULL AND c.app_id = ?1 AND c.user_id = ?2"
                ),
                &[app_id.into(), user_id.into(), number.into()],
            )?,
            Err(_) => tx.query_one(
                concat!(
                    conversation_columns!(),
                    "WHERE c.public_id = ?3 AND c.app_id = ?1 AND c.user_id = ?2"
                ),
                &[app_id.into(), user_id.into(), id.into()],
            )?,
        };
        row.as_ref().map(Self::from_row).transpose()
    }

    /// A conversation by its row's id.
    ///
    /// # Errors
    /// Of the store.
    pub fn by_row(tx: &mut Transaction<'_>, id: i64) -> Result<Self, StorageError> {
        let row = tx.query_one(concat!(conversation_columns!(), "WHERE c.id = ?1"), &[id.into()])?;
        let row = row.ok_or_else(|| StorageError::Fault("a message without conversation".to_owned()))?;
        Self::from_row(&row)
    }

    /// Holds conversations against other changes until the transaction ends, so that what is counted in
    /// them stays true. In the order of their ids: whoever holds several waits for nobody in a circle.
    ///
    /// # Errors
    /// Of the store.
    pub fn hold(tx: &mut Transaction<'_>, ids: impl IntoIterator<Item = i64>) -> Result<(), StorageError> {
        let ids: std::collections::BTreeSet<i64> = ids.into_iter().collect();
        for id in ids {
            tx.lock("SELECT id FROM conversations WHERE id = ?1 /* FOR UPDATE */", &[id.into()])?;
        }
        Ok(())
    }

    /// As [`Self::hold`], for this one and the other side's.
    ///
    /// # Errors
    /// Of the store.
    pub fn hold_thread(&self, tx: &mut Transaction<'_>) -> Result<(), StorageError> {
        tx.lock(
            "SELECT id FROM conversations WHERE app_id = ?1 AND thread_id = ?2 ORDER BY id /* FOR UPDATE */",
            &[(&self.app_id).into(), (&self.thread_id).into()],
        )
        .map(drop)
    }

    /// The other side's conversation: where the counterpart of the last internal message lies. Numbers
    /// alone don't tell it, as a user may have several.
    ///
    /// # Errors
    /// Of the store.
    pub fn other_half(&self, tx: &mut Transaction<'_>) -> Result<Option<Self>, StorageError> {
        let Some(last) = super::Message::last_of_pair(tx, self.id)? else { return Ok(None) };
        let Some(pair) = last.pair(tx)? else { return Ok(None) };
        Self::by_row(tx, pair.conversation_id).map(Some)
    }

    /// A user's conversations with one contact: one for each own number, or just one.
    ///
    /// # Errors
    /// Of the store.
    pub fn of_contact(tx: &mut Transaction<'_>, contact: &Contact) -> Result<Vec<Self>, StorageError> {
        let rows = tx.query(
            concat!(
                conversation_columns!(),
                "JOIN contacts x ON x.app_id = c.app_id AND x.user_id = c.user_id AND x.number = c.contact_number \
                 WHERE x.id = ?1 ORDER BY c.id"
            ),
            &[contact.id.into()],
        )?;
        rows.iter().map(Self::from_row).collect()
    }

    /// Notes whether a contact opted out; answers the conversations, of all users, in which that is new.
    ///
    /// # Errors
    /// Of the store.
    pub fn set_opted_out(
        tx: &mut Transaction<'_>,
        app_id: &str,
        number: &str,
        opted_out: bool,
        now: i64,
    ) -> Result<Vec<Self>, StorageError> {
        let [first, second, third] = spelling_values(number);
        let rows = tx.query(
            "UPDATE conversations SET opted_out = ?3, updated_at = ?4 WHERE app_id = ?1 \
             AND contact_number IN (?2, ?5, ?6) AND opted_out <> ?3 RETURNING id",
            &[app_id.into(), first.into(), opted_out.into(), now.into(), second.into(), third.into()],
        )?;
        rows.iter().map(|row| Self::by_row(tx, row.int(0)?)).collect()
    }

    /// Both halves of an internal conversation, or the one of an external.
    ///
    /// # Errors
    /// Of the store.
    pub fn of_thread(
        tx: &mut Transaction<'_>,
        app_id: &str,
        thread_id: &str,
    ) -> Result<Vec<Self>, StorageError> {
        let rows = tx.query(
            concat!(conversation_columns!(), "WHERE c.app_id = ?1 AND c.thread_id = ?2 ORDER BY c.id"),
            &[app_id.into(), thread_id.into()],
        )?;
        rows.iter().map(Self::from_row).collect()
    }

    /// The conversations of a channel (`messenger.<id>`): more than one only where the portal gave several
    /// the same id.
    ///
    /// # Errors
    /// Of the store.
    pub fn of_channel(tx: &mut Transaction<'_>, app_id: &str, id: &str) -> Result<Vec<Self>, StorageError> {
        let mut rows = tx.query(
            concat!(conversation_columns!(), "WHERE c.app_id = ?1 AND c.portal_id = ?2 ORDER BY c.id"),
            &[app_id.into(), id.into()],
        )?;
        if rows.is_empty() {
            rows = match id.parse::<i64>() {
                Ok(number) => tx.query(
                    concat!(
                        conversation_columns!(),
                        "WHERE c.id = ?2 AND c.app_id = ?1 AND c.public_id IS NULL AND c.portal_id IS NULL"
                    ),
                    &[app_id.into(), number.into()],
                )?,
                Err(_) => tx.query(
                    concat!(
                        conversation_columns!(),
                        "WHERE c.public_id = ?2 AND c.app_id = ?1 AND c.portal_id IS NULL"
                    ),
                    &[app_id.into(), id.into()],
                )?,
            };
        }
        rows.iter().map(Self::from_row).collect()
    }

    /// A user's conversations, the most active first, behind `before` (time and row of the last one seen).
    ///
    /// # Errors
    /// Of the store.
    pub fn list(
        tx: &mut Transaction<'_>,
        app_id: &str,
        user_id: &str,
        before: Option<(i64, i64)>,
        limit: i64,
    ) -> Result<Vec<(Self, i64)>, StorageError> {
        let (active_at, id) = before.unwrap_or((i64::MAX, i64::MAX));
        let rows = tx.query(
            concat!(
                conversation_columns!(),
                "WHERE c.app_id = ?1 AND c.user_id = ?2 AND (c.active_at < ?3 OR (c.active_at = ?3 AND c.id < ?4)) \
                 ORDER BY c.active_at DESC, c.id DESC LIMIT ?5"
            ),
            &[app_id.into(), user_id.into(), active_at.into(), id.into(), limit.into()],
        )?;
        let found = rows.iter().map(Self::from_row);
        found
            .map(|found| found.map(|found| (found.last_message_at.unwrap_or(found.created_at), found)))
            .map(|found| found.map(|(active_at, found)| (found, active_at)))
            .collect()
    }

    /// All unread messages of a user.
    ///
    /// # Errors
    /// Of the store.
    pub fn unread_total(tx: &mut Transaction<'_>, app_id: &str, user_id: &str) -> Result<i64, StorageError> {
        let row = tx.query_one(
            "SELECT CAST(COALESCE(SUM(unread_count), 0) AS BIGINT) FROM conversations WHERE app_id = ?1 AND user_id = ?2",
            &[app_id.into(), user_id.into()],
        )?;
        row.map_or(Ok(0), |row| row.int(0))
    }

    /// Notes a new message as the last one, and one more unread if it is.
    ///
    /// # Errors
    /// Of the store.
    pub fn add_message(
        &mut self,
        tx: &mut Transaction<'_>,
        message: &super::Message,
        is_unread: bool,
    ) -> Result<(), StorageError> {
        let own_number = match message.direction {
            crate::routing::status::Direction::Outbound => &message.from_number,
            crate::routing::status::Direction::Inbound => &message.to_number,
        };
        // A message to a group goes through the carrier, whoever the contact is.
        let is_internal = if message.cc.is_empty() { message.is_internal } else { self.is_internal };
        let row = tx.query_one(
            "UPDATE conversations SET last_message = ?2, last_message_id = ?3, last_message_at = ?4, active_at = ?4, \
             unread_count = unread_count + ?5, own_number = ?6, is_internal = ?7, updated_at = ?4 WHERE id = ?1 \
             /* RETURNING unread_count */",
            &[
                self.id.into(),
                message.body.clone().into(),
                message.id.into(),
                message.placed_at.into(),
                is_unread.into(),
                own_number.into(),
                is_internal.into(),
            ],
        )?;
        // SQLite's one writer has read what is there.
        self.unread_count = row.map_or(Ok(self.unread_count + i64::from(is_unread)), |row| row.int(0))?;
        self.last_message.clone_from(&message.body);
        self.last_message_at = Some(message.placed_at);
        self.own_number.clone_from(own_number);
        self.updated_at = message.placed_at;
        self.is_internal = is_internal;
        if message.cc.is_empty() && self.contact.is_internal != is_internal {
            self.contact.is_internal = is_internal;
            tx.execute(
                "UPDATE contacts SET is_internal = ?2, updated_at = ?3 WHERE id = ?1",
                &[self.contact.id.into(), is_internal.into(), message.placed_at.into()],
            )?;
        }
        Ok(())
    }

    /// Counts unread messages again and takes the last visible message's text, after a change to messages.
    ///
    /// # Errors
    /// Of the store.
    pub fn refresh(&mut self, tx: &mut Transaction<'_>, now: i64) -> Result<(), StorageError> {
        let last_message = super::Message::last_text(tx, self.id)?;
        let row = tx.query_one(
            "UPDATE conversations SET updated_at = ?2, last_message = ?3, \
             unread_count = (SELECT COUNT(*) FROM messages m WHERE m.conversation_id = ?1 \
               AND m.direction = 'INBOUND' AND m.read_at IS NULL AND m.deleted_at IS NULL AND m.hidden_at IS NULL) \
             WHERE id = ?1 RETURNING unread_count",
            &[self.id.into(), now.into(), last_message.clone().into()],
        )?;
        if let Some(row) = row {
            self.unread_count = row.int(0)?;
            self.last_message = last_message;
            self.updated_at = now;
        }
        Ok(())
    }

    /// Notes whether the contact is a portal user now.
    ///
    /// # Errors
    /// Of the store.
    pub fn set_internal(
        &mut self,
        tx: &mut Transaction<'_>,
        is_internal: bool,
        now: i64,
    ) -> Result<(), StorageError> {
        for (sql, id) in [
            ("UPDATE conversations SET is_internal = ?2, updated_at = ?3 WHERE id = ?1", self.id),
            ("UPDATE contacts SET is_internal = ?2, updated_at = ?3 WHERE id = ?1", self.contact.id),
        ] {
            tx.execute(sql, &[id.into(), is_internal.into(), now.into()])?;
        }
        (self.is_internal, self.contact.is_internal) = (is_internal, is_internal);
        (self.updated_at, self.contact.updated_at) = (now, now);
        Ok(())
    }

    /// Notes the portal's own id.
    ///
    /// # Errors
    /// Of the store.
    pub fn set_portal_id(&mut self, tx: &mut Transaction<'_>, id: &str) -> Result<(), StorageError> {
        tx.execute("UPDATE conversations SET portal_id = ?2 WHERE id = ?1", &[self.id.into(), id.into()])?;
        self.portal_id = Some(id.to_owned());
        Ok(())
    }
}

fn own_key(key: &ConversationKey<'_>, rule: KeyRule) -> String {
    match rule {
        KeyRule::UserContact => String::new(),
        KeyRule::NumberContact => key.own_number.to_owned(),
    }
}
