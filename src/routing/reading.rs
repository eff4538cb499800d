//! What a user may look at: their own conversations and messages, page by page.

use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;

use super::Router;
use super::decision::Explanation;
use super::draft::invalid;
use super::error::RoutingError;
use super::json::Id;
use super::portal_ids;
use super::records::{Conversation, Message};
use crate::apps::App;
use crate::storage::Transaction;

/// Longest text that is searched for, in characters.
const MAX_SEARCH: usize = 100;

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
        // SQLite's lower() knows ASCII alone.
        let like =
            query.search.as_deref().map(|text| pattern(text, self.database().is_shared())).transpose()?;
        let limit = query.limit;
        self.database()
            .read(move |tx| {
                let before = before.as_ref().map(|cursor| (cursor.active_at, cursor.id));
                let app_id = &app.settings.id;
                let like = like.as_ref().and_then(Option::as_deref);
                let mut found = Conversation::list(tx, app_id, &user, before, like, limit + 1)?;
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

/// The row of a message that a page begins at. It may be hidden meanwhile.
fn place(
    tx: &mut Transaction<'_>,
    conversation: i64,
    field: &'static str,
    id: Option<&str>,
) -> Result<Option<i64>, RoutingError> {
    let Some(id) = id else { return Ok(None) };
    if let Ok(row) = id.parse() {
        return Ok(Some(row));
    }
    let (sql, id) = match portal_ids::named(id) {
        Some(id) => ("SELECT id FROM messages WHERE portal_id = ?1 AND conversation_id = ?2 LIMIT 1", id),
        None => ("SELECT id FROM messages WHERE public_id = ?1 AND conversation_id = ?2", id),
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

/// A LIKE pattern for a search. What has digits but no letters is part of a phone number, which people
/// write with brackets and dashes.
fn pattern(text: &str, knows_unicode: bool) -> Result<Option<String>, RoutingError> {
    let text = text.trim();
    if text.chars().count() > MAX_SEARCH {
        return Err(invalid("q", "at most 100 characters can be searched for"));
    }
    if text.is_empty() {
        return Ok(None);
    }
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    let is_number = digits.len() >= 3 && text.chars().all(|c| c.is_ascii_digit() || "+-.() ".contains(c));
    let wanted = match (is_number, knows_unicode) {
        (true, _) => digits,
        (false, true) => text.to_lowercase(),
        (false, false) => text.to_ascii_lowercase(),
    };
    let mut like = String::with_capacity(wanted.len() + 2);
    like.push('%');
    for c in wanted.chars() {
        if matches!(c, '%' | '_' | '\\') {
            like.push('\\');
        }
        like.push(c);
    }
    like.push('%');
    Ok(Some(like))
}

/// The last conversation of a page. Clients pass it on unread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cursor {
    active_at: i64,
    id: i64,
}

impl Cursor {
    fn text(self) -> String {
        BASE64_URL_SAFE_NO_PAD.encode(format!("{}:{}", self.active_at, self.id))
    }

    fn parse(text: &str) -> Result<Self, RoutingError> {
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
    fn searches_find_text_as_it_stands_and_numbers_however_they_are_written() {
        for (text, shared, like) in [
            ("  ", false, None),
            ("Hello", false, Some("%hello%")),
            ("École", false, Some("%École%")),
            ("École", true, Some("%école%")),
            ("100%_\\", false, Some("%100\\%\\_\\\\%")),
            ("+1 (312) 555-01", false, Some("%131255501%")),
            ("12", false, Some("%12%")),
            ("4-5", false, Some("%4-5%")),
            ("room 312", false, Some("%room 312%")),
        ] {
            assert_eq!(pattern(text, shared), Ok(like.map(str::to_owned)), "{text}");
        }
        assert!(pattern(&"x".repeat(101), false).is_err());
    }

    #[test]
    fn a_page_knows_whether_there_is_another() {
        let mut found = vec![1, 2, 3];
        assert!(!cut(&mut found, 3));
        assert!(cut(&mut found, 2));
        assert_eq!(found, [1, 2]);
    }
}
