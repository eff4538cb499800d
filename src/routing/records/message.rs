//! Messages.

use super::{Awaited, Conversation, public_id};
use crate::config::IdKind;
use crate::routing::group::Report;
use crate::routing::json::Id;
use crate::routing::portal_ids;
use crate::routing::sms::{self, Towards};
use crate::routing::status::{Cause, Direction, Status};
use crate::storage::{Row, StorageError, Transaction, Value};

/// One message of one user.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// The row's id.
    pub id: i64,
    /// What clients see instead, if anything.
    pub ulid: Option<String>,
    /// The portal's id of it, in existing-database mode.
    pub portal_id: Option<String>,
    /// Its app.
    pub app_id: String,
    /// The row of its conversation.
    pub conversation_id: i64,
    /// The id clients see of it.
    pub conversation_public_id: Id,
    /// Its owner.
    pub user_id: String,
    /// The id clients see of the other side.
    pub contact_public_id: Id,
    /// Of a received internal message: the row of the sender's.
    pub pair_id: Option<i64>,
    /// Which way.
    pub direction: Direction,
    /// `SMS`, `MMS`, `RCS` or `WHATSAPP`.
    pub kind: String,
    /// The text; `None` when deleted.
    pub body: Option<String>,
    /// Subject of an MMS.
    pub subject: Option<String>,
    /// Attachments.
    pub media_urls: Vec<String>,
    /// Other recipients of a group MMS.
    pub cc: Vec<String>,
    /// What the carrier said of each recipient of a group MMS of ours.
    pub recipients: Vec<Report>,
    /// Where it is.
    pub status: Status,
    /// Sent, but the carrier got no receipt in time.
    pub is_unconfirmed: bool,
    /// Whether the recipient is a portal user.
    pub is_internal: bool,
    /// Sender.
    pub from_number: String,
    /// Recipient.
    pub to_number: String,
    /// The carrier's id.
    pub telnyx_message_id: Option<String>,
    /// SMS parts: the carrier's word, else the count by the standard. An MMS has none.
    pub parts: Option<i64>,
    /// `GSM-7` or `UCS-2`.
    pub encoding: Option<String>,
    /// JSON.
    pub cost: Option<String>,
    /// JSON.
    pub error: Option<String>,
    /// The carrier's last word for its status.
    pub carrier_status: Option<String>,
    /// What is to come of the carrier.
    pub awaited: Awaited,
    /// The portal's own id.
    pub reference: Option<String>,
    /// Why it went where it went, JSON.
    pub decision: String,
    /// When it is to be sent. Microseconds since 1970, as all times.
    pub send_at: Option<i64>,
    /// When what led to its status happened.
    pub status_at: i64,
    /// When it was sent.
    pub sent_at: Option<i64>,
    /// When it was delivered.
    pub delivered_at: Option<i64>,
    /// When it was read.
    pub read_at: Option<i64>,
    /// When its text was last changed.
    pub edited_at: Option<i64>,
    /// When it was deleted for everyone.
    pub deleted_at: Option<i64>,
    /// Where it stands in its conversation: greater than what stands before it.
    pub place: i64,
    /// When it took that place: when it was made, or when it was sent after it had been put off.
    pub placed_at: i64,
    /// When it was made.
    pub created_at: i64,
    /// When anything of it last changed.
    pub updated_at: i64,
}

/// A message to be stored.
#[derive(Clone, Debug)]
pub struct NewMessage<'a> {
    /// See [`Message::pair_id`].
    pub pair_id: Option<i64>,
    /// Which way.
    pub direction: Direction,
    /// Its kind, where neither media nor a subject tell that.
    pub kind: Option<&'a str>,
    /// The text.
    pub body: Option<&'a str>,
    /// Subject of an MMS.
    pub subject: Option<&'a str>,
    /// Attachments.
    pub media_urls: &'a [String],
    /// Other recipients of a group MMS.
    pub cc: &'a [String],
    /// Where it is.
    pub status: Status,
    /// Whether the recipient is a portal user.
    pub is_internal: bool,
    /// Sender.
    pub from_number: &'a str,
    /// Recipient.
    pub to_number: &'a str,
    /// The carrier's id.
    pub telnyx_message_id: Option<&'a str>,
    /// SMS parts.
    pub parts: Option<i64>,
    /// `GSM-7` or `UCS-2`.
    pub encoding: Option<&'a str>,
    /// The portal's own id.
    pub reference: Option<&'a str>,
    /// Why it went where it went, JSON.
    pub decision: &'a str,
    /// When it is to be sent.
    pub send_at: Option<i64>,
    /// When it was sent, where the carrier knows; else one that has arrived was sent now.
    pub sent_at: Option<i64>,
}

/// What [`Message::from_row`] reads.
macro_rules! message_columns {
    () => {
        "SELECT m.id, m.public_id, m.portal_id, m.app_id, m.conversation_id, c.public_id, m.user_id, \
         m.contact_id, k.public_id, m.pair_id, m.direction, m.type, m.body, m.subject, m.media_urls, m.cc, \
         m.status, m.is_unconfirmed, m.is_internal, m.from_number, m.to_number, m.telnyx_message_id, m.parts, \
         m.encoding, m.cost, m.error, m.reference, m.decision, m.send_at, m.status_at, m.sent_at, \
         m.delivered_at, m.read_at, m.edited_at, m.deleted_at, m.created_at, m.updated_at, m.carrier_status, \
         m.reported_at, m.is_settled, m.ask_at, m.asks, COALESCE(m.place, m.id), COALESCE(m.placed_at, m.created_at), \
         m.recipients \
         FROM messages m JOIN conversations c ON c.id = m.conversation_id JOIN contacts k ON k.id = m.contact_id "
    };
}

pub(super) use message_columns;

impl Message {
    /// The id clients see.
    pub fn public_id(&self) -> Id {
        Id::new(self.id, self.ulid.as_deref())
    }

    /// The most parts that the carrier may count for it; at least [`Self::parts`].
    pub fn parts_max(&self) -> Option<i64> {
        let parts = self.parts?;
        // What came from outside was counted by the carrier.
        let is_ours = self.direction == Direction::Outbound || self.is_internal;
        match self.body.as_deref().filter(|_| is_ours && self.kind == "SMS") {
            Some(text) => {
                let most = sms::most_parts(text, Towards::of(&self.to_number));
                Some(parts.max(i64::from(most)))
            }
            None => Some(parts),
        }
    }

    pub(super) fn from_row(row: &Row) -> Result<Self, StorageError> {
        let list = |column| -> Result<Vec<String>, StorageError> {
            serde_json::from_str(&row.text(column)?).map_err(|_| fault("a list"))
        };
        Ok(Self {
            id: row.int(0)?,
            ulid: row.optional_text(1)?,
            portal_id: row.optional_text(2)?,
            app_id: row.text(3)?,
            conversation_id: row.int(4)?,
            conversation_public_id: Id::new(row.int(4)?, row.optional_text(5)?.as_deref()),
            user_id: row.text(6)?,
            contact_public_id: Id::new(row.int(7)?, row.optional_text(8)?.as_deref()),
            pair_id: row.optional_int(9)?,
            direction: Direction::parse(&row.text(10)?).ok_or_else(|| fault("a direction"))?,
            kind: row.text(11)?,
            body: row.optional_text(12)?,
            subject: row.optional_text(13)?,
            media_urls: list(14)?,
            cc: list(15)?,
            status: Status::parse(&row.text(16)?).ok_or_else(|| fault("a status"))?,
            is_unconfirmed: row.flag(17)?,
            is_internal: row.flag(18)?,
            from_number: row.text(19)?,
            to_number: row.text(20)?,
            telnyx_message_id: row.optional_text(21)?,
            parts: row.optional_int(22)?,
            encoding: row.optional_text(23)?,
            cost: row.optional_text(24)?,
            error: row.optional_text(25)?,
            reference: row.optional_text(26)?,
            decision: row.text(27)?,
            send_at: row.optional_int(28)?,
            status_at: row.int(29)?,
            sent_at: row.optional_int(30)?,
            delivered_at: row.optional_int(31)?,
            read_at: row.optional_int(32)?,
            edited_at: row.optional_int(33)?,
            deleted_at: row.optional_int(34)?,
            created_at: row.int(35)?,
            updated_at: row.int(36)?,
            carrier_status: row.optional_text(37)?,
            awaited: Awaited::from_row(row, 38)?,
            place: row.int(42)?,
            placed_at: row.int(43)?,
            recipients: reports(row.optional_text(44)?)?,
        })
    }

    /// Stores a message in a conversation. `Ok(None)`: this inbound message of the carrier is there already.
    ///
    /// # Errors
    /// Of the store.
    pub fn insert(
        tx: &mut Transaction<'_>,
        conversation: &Conversation,
        new: &NewMessage<'_>,
        ids: IdKind,
        now: i64,
    ) -> Result<Option<Self>, StorageError> {
        // Before the message gets its id: so the ids have the order of the commits, in which the carrier and
        // the clients get the messages.
        conversation.hold_thread(tx)?;
        let ulid = public_id(ids);
        let kind = if new.media_urls.is_empty() && new.subject.is_none() { "SMS" } else { "MMS" };
        let kind = new.kind.unwrap_or(kind);
        let arrived = matches!(new.status, Status::Delivered | Status::Received).then_some(now);
        let id = tx.insert(
            "INSERT INTO messages (public_id, app_id, conversation_id, user_id, contact_id, pair_id, direction, type, \
             body, subject, media_urls, cc, status, is_unconfirmed, is_internal, from_number, to_number, \
             telnyx_message_id, parts, encoding, reference, decision, send_at, status_at, sent_at, delivered_at, \
             created_at, updated_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, 0, ?14, ?15, ?16, \
             ?17, ?18, ?19, ?20, ?21, ?22, ?23, ?24, ?25, ?23, ?23) ON CONFLICT DO NOTHING",
            &[
                ulid.clone().into(),
                (&conversation.app_id).into(),
                conversation.id.into(),
                (&conversation.user_id).into(),
                conversation.contact.id.into(),
                new.pair_id.into(),
                new.direction.as_str().into(),
                kind.into(),
                new.body.into(),
                new.subject.into(),
                json_list(new.media_urls).into(),
                json_list(new.cc).into(),
                new.status.as_str().into(),
                new.is_internal.into(),
                new.from_number.into(),
                new.to_number.into(),
                new.telnyx_message_id.into(),
                new.parts.into(),
                new.encoding.into(),
                new.reference.into(),
                new.decision.into(),
                new.send_at.into(),
                now.into(),
                new.sent_at.or(arrived).into(),
                arrived.into(),
            ],
        )?;
        let Some(id) = id else { return Ok(None) };
        Ok(Some(Self {
            id,
            ulid,
            portal_id: None,
            app_id: conversation.app_id.clone(),
            conversation_id: conversation.id,
            conversation_public_id: conversation.public_id(),
            user_id: conversation.user_id.clone(),
            contact_public_id: conversation.contact.public_id(),
            pair_id: new.pair_id,
            direction: new.direction,
            kind: kind.to_owned(),
            body: new.body.map(str::to_owned),
            subject: new.subject.map(str::to_owned),
            media_urls: new.media_urls.to_vec(),
            cc: new.cc.to_vec(),
            recipients: Vec::new(),
            status: new.status,
            is_unconfirmed: false,
            is_internal: new.is_internal,
            from_number: new.from_number.to_owned(),
            to_number: new.to_number.to_owned(),
            telnyx_message_id: new.telnyx_message_id.map(str::to_owned),
            parts: new.parts,
            encoding: new.encoding.map(str::to_owned),
            cost: None,
            error: None,
            carrier_status: None,
            awaited: Awaited::default(),
            reference: new.reference.map(str::to_owned),
            decision: new.decision.to_owned(),
            send_at: new.send_at,
            status_at: now,
            sent_at: new.sent_at.or(arrived),
            delivered_at: arrived,
            read_at: None,
            edited_at: None,
            deleted_at: None,
            place: id,
            placed_at: now,
            created_at: now,
            updated_at: now,
        }))
    }

    pub(super) fn first(
        tx: &mut Transaction<'_>,
        sql: &'static str,
        values: &[Value],
    ) -> Result<Option<Self>, StorageError> {
        tx.query_one(sql, values)?.as_ref().map(Self::from_row).transpose()
    }

    /// A user's message by the id clients use, or by the portal's (`portal:7`); not one that the user deleted
    /// for themself. A portal's id that several have names none of them.
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
                    message_columns!(),
                    "WHERE m.portal_id = ?3 AND m.app_id = ?1 AND m.user_id = ?2 AND m.hidden_at IS NULL LIMIT 2"
                ),
                &[app_id.into(), user_id.into(), id.into()],
            )?;
            return match &rows[..] {
                [row] => Self::from_row(row).map(Some),
                _ => Ok(None),
            };
        }
        match id.parse::<i64>() {
            Ok(number) => Self::first(
                tx,
                concat!(
                    message_columns!(),
                    "WHERE m.id = ?3 AND m.public_id IS NULL AND m.app_id = ?1 AND m.user_id = ?2 AND m.hidden_at IS NULL"
                ),
                &[app_id.into(), user_id.into(), number.into()],
            ),
            Err(_) => Self::first(
                tx,
                concat!(
                    message_columns!(),
                    "WHERE m.public_id = ?3 AND m.app_id = ?1 AND m.user_id = ?2 AND m.hidden_at IS NULL"
                ),
                &[app_id.into(), user_id.into(), id.into()],
            ),
        }
    }

    /// A message by its row's id.
    ///
    /// # Errors
    /// Of the store.
    pub fn by_row(tx: &mut Transaction<'_>, id: i64) -> Result<Option<Self>, StorageError> {
        Self::first(tx, concat!(message_columns!(), "WHERE m.id = ?1"), &[id.into()])
    }

    /// As [`Self::by_row`], for a transaction that will change it by what it reads: nobody else does until
    /// its end.
    ///
    /// # Errors
    /// Of the store.
    pub fn by_row_to_change(tx: &mut Transaction<'_>, id: i64) -> Result<Option<Self>, StorageError> {
        // First the lock, then the look: the other way round, it could be a look at the past.
        tx.lock("SELECT id FROM messages WHERE id = ?1 /* FOR UPDATE */", &[id.into()])?;
        Self::by_row(tx, id)
    }

    /// The other half of an internal message.
    ///
    /// # Errors
    /// Of the store.
    pub fn pair(&self, tx: &mut Transaction<'_>) -> Result<Option<Self>, StorageError> {
        match self.pair_id {
            Some(id) => Self::by_row(tx, id),
            None if !self.is_internal => Ok(None),
            None => Self::first(tx, concat!(message_columns!(), "WHERE m.pair_id = ?1"), &[self.id.into()]),
        }
    }

    /// Moves the message to another status, if that is a step forward from where it is now; answers
    /// whether it did. Compares and sets, so that of two at once one does.
    ///
    /// # Errors
    /// Of the store.
    pub fn step(
        &mut self,
        tx: &mut Transaction<'_>,
        next: Status,
        cause: Cause,
        at: i64,
        now: i64,
    ) -> Result<bool, StorageError> {
        if !self.status.may_become(next, cause) {
            return Ok(false);
        }
        let (sent, delivered, read) = match next {
            Status::Sent => (Some(at), None, None),
            Status::Delivered => (Some(at), Some(at), None),
            // What was read has arrived, though no receipt may have said so.
            Status::Read => (Some(at), Some(at), Some(at)),
            _ => (None, None, None),
        };
        let rows = tx.query(
            "UPDATE messages SET status = ?3, status_at = ?4, sent_at = COALESCE(sent_at, ?5), \
             delivered_at = COALESCE(delivered_at, ?6), read_at = COALESCE(read_at, ?7), updated_at = ?8 \
             WHERE id = ?1 AND status = ?2 RETURNING sent_at, delivered_at, read_at",
            &[
                self.id.into(),
                self.status.as_str().into(),
                next.as_str().into(),
                at.into(),
                sent.into(),
                delivered.into(),
                read.into(),
                now.into(),
            ],
        )?;
        // Somebody else moved it meanwhile: the whole job is to see that, not just this step.
        let Some(row) = rows.first() else { return Err(tx.conflict()) };
        self.status = next;
        self.status_at = at;
        self.sent_at = row.optional_int(0)?;
        self.delivered_at = row.optional_int(1)?;
        self.read_at = row.optional_int(2)?;
        self.updated_at = now;
        Ok(true)
    }

    /// Marks received messages of a conversation read, up to a place; answers which became so. A received
    /// message stands at its row's id: only sent ones move.
    ///
    /// # Errors
    /// Of the store.
    pub fn mark_read(
        tx: &mut Transaction<'_>,
        conversation: i64,
        up_to: i64,
        now: i64,
    ) -> Result<Vec<i64>, StorageError> {
        let rows = tx.query(
            "UPDATE messages SET status = 'read', status_at = ?3, read_at = ?3, updated_at = ?3 \
             WHERE conversation_id = ?1 AND direction = 'INBOUND' AND read_at IS NULL AND id <= ?2 \
             AND deleted_at IS NULL AND hidden_at IS NULL RETURNING id",
            &[conversation.into(), up_to.into(), now.into()],
        )?;
        rows.iter().map(|row| row.int(0)).collect()
    }

    /// Notes with the senders what [`Message::mark_read`] answered, and answers the newest row so changed
    /// of each of their conversations. `read`: not empty.
    ///
    /// # Errors
    /// Of the store.
    pub fn mark_pairs_read(
        tx: &mut Transaction<'_>,
        conversation: i64,
        read: &[i64],
        now: i64,
    ) -> Result<Vec<i64>, StorageError> {
        let (first, last) = (read.iter().min().copied(), read.iter().max().copied());
        // By range and time, not by id: there may be thousands.
        let rows = tx.query(
            "UPDATE messages SET status = 'read', status_at = ?4, read_at = ?4, updated_at = ?4 \
             WHERE status = 'delivered' AND id IN (SELECT m.pair_id FROM messages m WHERE m.conversation_id = ?1 \
             AND m.id BETWEEN ?2 AND ?3 AND m.read_at = ?4 AND m.pair_id IS NOT NULL) \
             RETURNING id, conversation_id, COALESCE(place, id)",
            &[conversation.into(), first.into(), last.into(), now.into()],
        )?;
        let mut newest = std::collections::BTreeMap::new();
        for row in rows {
            let (id, conversation, place) = (row.int(0)?, row.int(1)?, row.int(2)?);
            let known = newest.entry(conversation).or_insert((place, id));
            *known = (place, id).max(*known);
        }
        Ok(newest.into_values().map(|(_, id)| id).collect())
    }

    /// Whether its owner deleted it for themself.
    ///
    /// # Errors
    /// Of the store.
    pub fn is_hidden(&self, tx: &mut Transaction<'_>) -> Result<bool, StorageError> {
        let sql = "SELECT 1 FROM messages WHERE id = ?1 AND hidden_at IS NOT NULL";
        Ok(tx.query_one(sql, &[self.id.into()])?.is_some())
    }

    /// Stores another decision, and that nothing of an earlier way of the message holds any more.
    ///
    /// # Errors
    /// Of the store.
    pub fn set_route(
        &mut self,
        tx: &mut Transaction<'_>,
        is_internal: bool,
        decision: String,
    ) -> Result<(), StorageError> {
        tx.execute(
            "UPDATE messages SET is_internal = ?2, decision = ?3 WHERE id = ?1",
            &[self.id.into(), is_internal.into(), (&decision).into()],
        )?;
        self.is_internal = is_internal;
        self.decision = decision;
        Ok(())
    }

    /// Takes it out of its owner's view.
    ///
    /// # Errors
    /// Of the store.
    pub fn hide(&self, tx: &mut Transaction<'_>, now: i64) -> Result<(), StorageError> {
        tx.execute("UPDATE messages SET hidden_at = ?2 WHERE id = ?1", &[self.id.into(), now.into()])?;
        Ok(())
    }

    /// Stores another text, with what it would need as SMS.
    ///
    /// # Errors
    /// Of the store.
    pub fn set_text(
        &mut self,
        tx: &mut Transaction<'_>,
        text: Option<&str>,
        now: i64,
    ) -> Result<(), StorageError> {
        let measure = text.filter(|_| self.kind == "SMS").map(sms::measure);
        self.body = text.map(str::to_owned);
        self.parts = measure.map(|measure| i64::from(measure.parts));
        self.encoding = measure.map(|measure| measure.encoding.as_str().to_owned());
        self.edited_at = Some(now);
        self.updated_at = now;
        tx.execute(
            "UPDATE messages SET body = ?2, parts = ?3, encoding = ?4, edited_at = ?5, updated_at = ?5 WHERE id = ?1",
            &[
                self.id.into(),
                self.body.clone().into(),
                self.parts.into(),
                self.encoding.clone().into(),
                now.into(),
            ],
        )?;
        Ok(())
    }

    /// Stores where its attachments are.
    ///
    /// # Errors
    /// Of the store.
    pub fn save_media(&mut self, tx: &mut Transaction<'_>, now: i64) -> Result<(), StorageError> {
        self.updated_at = now;
        tx.execute(
            "UPDATE messages SET media_urls = ?2, updated_at = ?3 WHERE id = ?1",
            &[self.id.into(), json_list(&self.media_urls).into(), now.into()],
        )?;
        Ok(())
    }

    /// Takes its contents away and keeps the row.
    ///
    /// # Errors
    /// Of the store.
    pub fn erase(&mut self, tx: &mut Transaction<'_>, now: i64) -> Result<(), StorageError> {
        self.body = None;
        self.subject = None;
        self.media_urls.clear();
        self.deleted_at = Some(now);
        self.updated_at = now;
        tx.execute(
            "UPDATE messages SET body = NULL, subject = NULL, media_urls = '[]', deleted_at = ?2, updated_at = ?2 \
             WHERE id = ?1",
            &[self.id.into(), now.into()],
        )?;
        Ok(())
    }
}

fn reports(text: Option<String>) -> Result<Vec<Report>, StorageError> {
    let Some(text) = text else { return Ok(Vec::new()) };
    serde_json::from_str(&text).map_err(|_| fault("a list of recipients"))
}

fn json_list(list: &[String]) -> String {
    serde_json::to_string(list).unwrap_or_default()
}

fn fault(what: &str) -> StorageError {
    StorageError::Fault(format!("a message's column is not {what}"))
}
