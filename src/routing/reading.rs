//! What a user may look at: their own conversations and messages, page by page.

use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;

use super::Router;
use super::decision::Explanation;
use super::draft::invalid;
use super::error::RoutingError;
use super::json::Id;
use super::phone_number::spellings;
use super::portal_ids;
use super::records::{Conversation, Message};
use super::search::Needle;
use crate::apps::App;
use crate::storage::{StorageError, Transaction};

/// Conversations that a search looks at in one go.
const SEARCHED_AT_ONCE: i64 = 500;

/// Some of a user's conversations, the most active first.
#[derive(Clone, Debug)]
pub struct ConversationPage {
    /// The conversations.
    pub conversations: Vec<Conversation>,
    /// Where the next page begins, if there is one.
    pub next: Option<String>,
    /// Unread messages in all conversations of the user.
    pub unread_total: i64,
}

/// Which conversations.
#[derive(Clone, Debug, Default)]
pub struct ConversationQuery {
    /// At most so many.
    pub limit: i64,
    /// What the page before gave as `next`.
    pub before: Option<String>,
    /// A part of a number, of a name or of the last message.
    pub search: Option<String>,
}

/// Some messages of a conversation, newest first.
#[derive(Clone, Debug)]
pub struct MessagePage {
    /// The messages.
    pub messages: Vec<Message>,
    /// The message to go on from, in the direction that was asked for; `None` at the end.
    pub next: Option<Id>,
}

/// Which messages.
#[derive(Clone, Debug, Default)]
pub struct MessageQuery {
    /// At most so many.
    pub limit: i64,
    /// Only older ones than this message.
    pub before: Option<String>,
    /// Only newer ones than this message; the oldest of those come first.
    pub after: Option<String>,
}

impl Router {
    /// A page of a user's conversations.
    ///
    /// # Errors
    /// `invalid_field`, or the store's.
    pub async fn conversations(
        &self,
        app: Arc<App>,
        user: String,
        query: ConversationQuery,
    ) -> Result<ConversationPage, RoutingError> {
        let before = query.before.as_deref().map(Cursor::parse).transpose()?;
        let needle = query.search.as_deref().map(Needle::new).transpose()?.flatten();
        let limit = query.limit;
        self.database()
            .read(move |tx| {
                let before = before.as_ref().map(|cursor| (cursor.active_at, cursor.id));
                let app_id = &app.settings.id;
                let mut found = match &needle {
                    None => Conversation::list(tx, app_id, &user, before, limit + 1)?,
                    Some(needle) => search(tx, (app_id.as_str(), user.as_str()), before, needle, limit + 1)?,
                };
                let has_more = cut(&mut found, limit);
                let last = found.last().filter(|_| has_more);
                let next = last.map(|(last, active_at)| Cursor { active_at: *active_at, id: last.id }.text());
                Ok(ConversationPage {
                    conversations: found.into_iter().map(|(conversation, _)| conversation).collect(),
                    next,
                    unread_total: Conversation::unread_total(tx, app_id, &user)?,
                })
            })
            .await
    }

    /// One of a user's conversations.
    ///
    /// # Errors
    /// `not_found`, or the store's.
    pub async fn conversation(
        &self,
        app: Arc<App>,
        user: String,
        id: String,
    ) -> Result<Conversation, RoutingError> {
        self.database().read(move |tx| find_conversation(tx, &app, &user, &id)).await
    }

    /// A page of a conversation's messages.
    ///
    /// # Errors
    /// `not_found`, `invalid_field`, or the store's.
    pub async fn messages(
        &self,
        app: Arc<App>,
        user: String,
        conversation_id: String,
        query: MessageQuery,
    ) -> Result<MessagePage, RoutingError> {
        self.database()
            .read(move |tx| {
                let conversation = find_conversation(tx, &app, &user, &conversation_id)?;
                let before = place(tx, conversation.id, "before", query.before.as_deref())?;
                let after = place(tx, conversation.id, "after", query.after.as_deref())?;
                let mut messages = Message::list(tx, conversation.id, before, after, query.limit + 1)?;
                let next = if after.is_some() {
                    messages.reverse();
                    let has_more = cut(&mut messages, query.limit);
                    messages.reverse();
                    messages.first().filter(|_| has_more)
                } else {
                    let has_more = cut(&mut messages, query.limit);
                    messages.last().filter(|_| has_more)
                };
                let next = next.map(Message::public_id);
                Ok(MessagePage { messages, next })
            })
            .await
    }

    /// One of a user's messages.
    ///
    /// # Errors
    /// `not_found`, or the store's.
    pub async fn message(&self, app: Arc<App>, user: String, id: String) -> Result<Message, RoutingError> {
        self.database()
            .read(move |tx| {
                let message = Message::find(tx, &app.settings.id, &user, &id)?;
                message.ok_or_else(|| RoutingError::not_found("message"))
            })
            .await
    }

    /// Why a message went where it went; `None` for what the carrier brought.
    ///
    /// # Errors
    /// `not_found`, or the store's.
    pub async fn explain(
        &self,
        app: Arc<App>,
        user: String,
        id: String,
    ) -> Result<Option<Explanation>, RoutingError> {
        let message = self.message(app, user, id).await?;
        Ok(serde_json::from_str(&message.decision).ok())
    }
}

fn find_conversation(
    tx: &mut Transaction<'_>,
    app: &App,
    user: &str,
    id: &str,
) -> Result<Conversation, RoutingError> {
    let found = Conversation::find(tx, &app.settings.id, user, id)?;
    found.ok_or_else(|| RoutingError::not_found("conversation"))
}

/// The place of a message that a page begins at. It may be hidden meanwhile.
fn place(
    tx: &mut Transaction<'_>,
    conversation: i64,
    field: &'static str,
    id: Option<&str>,
) -> Result<Option<i64>, RoutingError> {
    let Some(id) = id else { return Ok(None) };
    if let Ok(row) = id.parse() {
        return Ok(Some(Message::place_of(tx, row)?));
    }
    let (sql, id) = match portal_ids::named(id) {
        Some(id) => (
            "SELECT COALESCE(place, id) FROM messages WHERE portal_id = ?1 AND conversation_id = ?2 LIMIT 1",
            id,
        ),
        None => {
            ("SELECT COALESCE(place, id) FROM messages WHERE public_id = ?1 AND conversation_id = ?2", id)
        }
    };
    let row = tx.query_one(sql, &[id.into(), conversation.into()])?;
    match row {
        Some(row) => Ok(Some(row.int(0)?)),
        None => Err(invalid(field, "this is no message of the conversation")),
    }
}

/// Takes away what is beyond a page; whether there was any.
fn cut<T>(found: &mut Vec<T>, limit: i64) -> bool {
    let limit = usize::try_from(limit).unwrap_or(0);
    let has_more = found.len() > limit;
    found.truncate(limit);
    has_more
}

/// As [`Conversation::list`], only those in whose number, name or last text the needle is.
fn search(
    tx: &mut Transaction<'_>,
    (app_id, user): (&str, &str),
    mut before: Option<(i64, i64)>,
    needle: &Needle,
    limit: i64,
) -> Result<Vec<(Conversation, i64)>, StorageError> {
    let limit = usize::try_from(limit).unwrap_or_default();
    let mut found = Vec::new();
    loop {
        let seen = Conversation::list(tx, app_id, user, before, SEARCHED_AT_ONCE)?;
        let is_last = (seen.len() as i64) < SEARCHED_AT_ONCE;
        before = seen.last().map(|(last, active_at)| (*active_at, last.id));
        found.extend(seen.into_iter().filter(|(conversation, _)| holds(conversation, needle)));
        if is_last || found.len() >= limit {
            found.truncate(limit);
            return Ok(found);
        }
    }
}

fn holds(conversation: &Conversation, needle: &Needle) -> bool {
    let contact = &conversation.contact;
    let texts = [contact.name.as_ref(), conversation.last_message.as_ref()];
    texts.into_iter().flatten().any(|text| needle.is_in(text))
        || spellings(&contact.number).iter().any(|number| needle.is_in(number))
}

/// The last conversation of a page. Clients pass it on unread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cursor {
    active_at: i64,
    id: i64,
}

impl Cursor {
    pub(super) fn text(self) -> String {
        BASE64_URL_SAFE_NO_PAD.encode(format!("{}:{}", self.active_at, self.id))
    }

    pub(super) fn parse(text: &str) -> Result<Self, RoutingError> {
        let read = || {
            let plain = String::from_utf8(BASE64_URL_SAFE_NO_PAD.decode(text).ok()?).ok()?;
            let (active_at, id) = plain.split_once(':')?;
            Some(Self { active_at: active_at.parse().ok()?, id: id.parse().ok()? })
        };
        read().ok_or_else(|| invalid("before", "before must be what the page before gave as next"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::Code;

    #[test]
    fn cursors_come_back_as_they_were() {
        let cursor = Cursor { active_at: 1_795_374_810_574_000, id: 41 };
        assert_eq!(Cursor::parse(&cursor.text()), Ok(cursor));
        for broken in ["", "41", "é", "MTIz", &BASE64_URL_SAFE_NO_PAD.encode("a:b")] {
            assert_eq!(
                Cursor::parse(broken).map_err(|error| error.code),
                Err(Code::InvalidField),
                "{broken}"
            );
        }
    }

    #[test]
    fn a_page_knows_whether_there_is_another() {
        let mut found = vec![1, 2, 3];
        assert!(!cut(&mut found, 3));
        assert!(cut(&mut found, 2));
        assert_eq!(found, [1, 2]);
    }
}
