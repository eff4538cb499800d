//! The table of attachments.

use super::{names, parts};
use crate::routing::{Code, RoutingError};
use crate::storage::{Row, StorageError, Transaction};

/// A file, without its contents.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Attachment {
    /// The row's id.
    pub id: i64,
    /// What clients know it by.
    pub public_id: String,
    /// Its app.
    pub app_id: String,
    /// Whose it is.
    pub user_id: String,
    /// The row of its conversation.
    pub conversation_id: i64,
    /// Of a copy: the row of the message it came with.
    pub message_id: Option<i64>,
    /// Of a copy: where it was.
    pub source_url: Option<String>,
    /// What it is called.
    pub name: String,
    /// Its media type.
    pub content_type: String,
    /// Bytes, if it is there, was announced, or the carrier said how many; only a file that is there surely has as many.
    pub size: Option<i64>,
    /// Where it is on its way.
    pub state: State,
    /// How often it was tried to fetch it.
    pub attempts: i64,
    /// Until when it is awaited and, once it is there, a message that names it. Microseconds since 1970, as all times.
    pub not_before: i64,
    /// The connection that must not be told.
    pub except: Option<String>,
    /// When it was announced.
    pub created_at: i64,
    /// End of its link.
    pub expires_at: i64,
    /// Of one that is there: the parts that it consists of.
    pub file: Option<String>,
}

/// Where an attachment is on its way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// A browser is to bring it.
    #[default]
    Awaited,
    /// It is to be copied from the carrier.
    Fetching,
    /// It is there.
    Ready,
    /// It could not be copied.
    Failed,
}

impl State {
    const ALL: [(Self, &'static str); 4] = [
        (Self::Awaited, "awaited"),
        (Self::Fetching, "fetching"),
        (Self::Ready, "ready"),
        (Self::Failed, "failed"),
    ];

    fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(state, _)| *state == self).map_or("", |(_, word)| word)
    }

    fn parse(word: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, other)| *other == word).map(|(state, _)| *state)
    }
}

macro_rules! attachment_columns {
    () => {
        "SELECT id, public_id, app_id, user_id, conversation_id, message_id, source_url, name, content_type, size, \
         state, attempts, not_before, except_socket, created_at, expires_at, file FROM attachments "
    };
}

impl Attachment {
    fn from_row(row: &Row) -> Result<Self, StorageError> {
        let state = State::parse(&row.text(10)?);
        Ok(Self {
            id: row.int(0)?,
            public_id: row.text(1)?,
            app_id: row.text(2)?,
            user_id: row.text(3)?,
            conversation_id: row.int(4)?,
            message_id: row.optional_int(5)?,
            source_url: row.optional_text(6)?,
            // Also one from before names were made safe.
            name: names::safe(&row.text(7)?).unwrap_or_default(),
            content_type: row.text(8)?,
            size: row.optional_int(9)?,
            state: state.ok_or_else(|| StorageError::Fault("an attachment has no state".to_owned()))?,
            attempts: row.int(11)?,
            not_before: row.int(12)?,
            except: row.optional_text(13)?,
            created_at: row.int(14)?,
            expires_at: row.int(15)?,
            file: row.optional_text(16)?,
        })
    }

    /// Stores it; the row's id is given then.
    ///
    /// # Errors
    /// Of the store.
    pub fn insert(&mut self, tx: &mut Transaction<'_>) -> Result<(), StorageError> {
        let id = tx.insert(
            "INSERT INTO attachments (public_id, app_id, user_id, conversation_id, message_id, source_url, name, \
             content_type, size, state, attempts, not_before, except_socket, created_at, expires_at, is_named) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)",
            &[
                (&self.public_id).into(),
                (&self.app_id).into(),
                (&self.user_id).into(),
                self.conversation_id.into(),
                self.message_id.into(),
                self.source_url.clone().into(),
                (&self.name).into(),
                (&self.content_type).into(),
                self.size.into(),
                self.state.as_str().into(),
                self.attempts.into(),
                self.not_before.into(),
                self.except.clone().into(),
                self.created_at.into(),
                self.expires_at.into(),
                // A copy comes with its message.
                self.message_id.is_some().into(),
            ],
        )?;
        self.id = id.ok_or_else(|| StorageError::Fault("bug: an attachment got no id".to_owned()))?;
        Ok(())
    }

    /// An attachment by the id that clients use. Held until the transaction ends.
    ///
    /// # Errors
    /// Of the store.
    pub fn find_to_change(
        tx: &mut Transaction<'_>,
        app_id: &str,
        public_id: &str,
    ) -> Result<Option<Self>, StorageError> {
        let row = tx.query_one(
            concat!(attachment_columns!(), "WHERE app_id = ?1 AND public_id = ?2 /* FOR UPDATE */"),
            &[app_id.into(), public_id.into()],
        )?;
        row.as_ref().map(Self::from_row).transpose()
    }

    /// An attachment by the id that clients use, to be read.
    ///
    /// # Errors
    /// Of the store.
    pub fn find(
        tx: &mut Transaction<'_>,
        app_id: &str,
        public_id: &str,
    ) -> Result<Option<Self>, StorageError> {
        let row = tx.query_one(
            concat!(attachment_columns!(), "WHERE app_id = ?1 AND public_id = ?2"),
            &[app_id.into(), public_id.into()],
        )?;
        row.as_ref().map(Self::from_row).transpose()
    }

    /// The apps with copies that are due.
    ///
    /// # Errors
    /// Of the store.
    pub fn apps_with_copies(tx: &mut Transaction<'_>, now: i64) -> Result<Vec<String>, StorageError> {
        let sql = "SELECT DISTINCT app_id FROM attachments WHERE state = 'fetching' AND not_before <= ?1";
        tx.query(sql, &[now.into()])?.iter().map(|row| row.text(0)).collect()
    }

    /// Copies of an app that are due, each for so long from `now` on this caller's.
    ///
    /// # Errors
    /// Of the store.
    pub fn claim(
        tx: &mut Transaction<'_>,
        app_id: &str,
        now: i64,
        lease: i64,
        most: i64,
    ) -> Result<Vec<Self>, StorageError> {
        let rows = tx.query(
            concat!(
                attachment_columns!(),
                "WHERE state = 'fetching' AND app_id = ?1 AND not_before <= ?2 ORDER BY not_before LIMIT ?3 \
                 /* FOR UPDATE SKIP LOCKED */"
            ),
            &[app_id.into(), now.into(), most.into()],
        )?;
        let claimed: Vec<Self> = rows.iter().map(Self::from_row).collect::<Result<_, _>>()?;
        for attachment in &claimed {
            tx.execute(
                "UPDATE attachments SET attempts = attempts + 1, not_before = ?2 WHERE id = ?1",
                &[attachment.id.into(), (now + lease).into()],
            )?;
        }
        Ok(claimed)
    }

    /// The claim of a copy goes on until then.
    ///
    /// # Errors
    /// Of the store.
    pub fn keep_claim(&self, tx: &mut Transaction<'_>, until: i64) -> Result<(), StorageError> {
        tx.execute(
            "UPDATE attachments SET not_before = ?2 WHERE id = ?1 AND state = 'fetching'",
            &[self.id.into(), until.into()],
        )?;
        Ok(())
    }

    /// Its contents are there: these parts.
    ///
    /// # Errors
    /// Of the store.
    pub fn fill(&mut self, tx: &mut Transaction<'_>, file: &str, size: i64) -> Result<(), StorageError> {
        (self.size, self.state, self.file) = (Some(size), State::Ready, Some(file.to_owned()));
        tx.execute(
            "UPDATE attachments SET file = ?2, size = ?3, content_type = ?4, name = ?5, not_before = ?6, state = 'ready' \
             WHERE id = ?1",
            &[
                self.id.into(),
                file.into(),
                self.size.into(),
                (&self.content_type).into(),
                (&self.name).into(),
                self.not_before.into(),
            ],
        )?;
        Ok(())
    }

    /// It is tried again then, or not any more.
    ///
    /// # Errors
    /// Of the store.
    pub fn put_off(&self, tx: &mut Transaction<'_>, until: Option<i64>) -> Result<(), StorageError> {
        let (state, at) = until.map_or((State::Failed, self.not_before), |until| (State::Fetching, until));
        tx.execute(
            "UPDATE attachments SET state = ?2, not_before = ?3 WHERE id = ?1 AND state = 'fetching'",
            &[self.id.into(), state.as_str().into(), at.into()],
        )?;
        Ok(())
    }

    /// It goes.
    ///
    /// # Errors
    /// Of the store.
    pub fn delete(&self, tx: &mut Transaction<'_>) -> Result<(), StorageError> {
        if let Some(file) = &self.file {
            parts::delete(tx, file)?;
        }
        tx.execute("DELETE FROM attachments WHERE id = ?1", &[self.id.into()]).map(drop)
    }
}

/// Deletes what a user sent with a message: their own attachments among these URLs.
///
/// # Errors
/// Of the store.
pub fn delete_sent(
    tx: &mut Transaction<'_>,
    app_id: &str,
    user_id: &str,
    media_urls: &[String],
) -> Result<(), StorageError> {
    for public_id in media_urls.iter().filter_map(|url| public_id(url)) {
        let found = Attachment::find_to_change(tx, app_id, public_id)?;
        if let Some(attachment) = found.filter(|found| found.user_id == user_id) {
            attachment.delete(tx)?;
        }
    }
    Ok(())
}

/// Notes that a message has the attachments among these URLs, which begin with `links`: they are kept from now on.
///
/// # Errors
/// `invalid_field`: one is gone. Of the store.
pub fn name(
    tx: &mut Transaction<'_>,
    app_id: &str,
    links: &str,
    media_urls: &[String],
) -> Result<(), RoutingError> {
    for (at, url) in media_urls.iter().enumerate() {
        let Some(public_id) = public_id(url).filter(|_| url.starts_with(links)) else { continue };
        let named = tx.execute(
            "UPDATE attachments SET is_named = 1 WHERE app_id = ?1 AND public_id = ?2",
            &[app_id.into(), public_id.into()],
        )?;
        if named == 0 {
            let message = "the attachment is deleted, as its time is over or no message named it in time: upload it again";
            return Err(RoutingError::new(Code::InvalidField, message).at(format!("media_urls[{at}]")));
        }
    }
    Ok(())
}

/// Attachments that match, a few: `$condition` compares with `?1`.
macro_rules! delete_where {
    ($condition:literal) => {
        concat!(attachment_columns!(), "WHERE ", $condition, " LIMIT ?2 /* FOR UPDATE SKIP LOCKED */")
    };
}

/// Those whose link ended before `?1`.
pub const EXPIRED: &str = delete_where!("expires_at < ?1");
/// Those that nobody brought until `?1`.
pub const NEVER_BROUGHT: &str = delete_where!("state = 'awaited' AND not_before < ?1");

/// Those that no message named until `?1`.
pub const UNNAMED: &str = delete_where!("is_named = 0 AND state = 'ready' AND not_before < ?1");

/// Deletes a few attachments that a query finds; answers how many.
///
/// # Errors
/// Of the store.
pub fn delete_some(
    tx: &mut Transaction<'_>,
    found_by: &'static str,
    before: i64,
    most: i64,
) -> Result<u64, StorageError> {
    let rows = tx.query(found_by, &[before.into(), most.into()])?;
    for row in &rows {
        Attachment::from_row(row)?.delete(tx)?;
    }
    Ok(rows.len() as u64)
}

/// The attachment that a URL leads to, if it looks like one of ours.
fn public_id(url: &str) -> Option<&str> {
    let (_, path) = url.rsplit_once("/attachments/")?;
    path.split('/').nth(1)
}
