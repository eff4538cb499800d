//! Somebody types: told to the other side of an internal conversation, never stored.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::json;

use super::Router;
use super::error::RoutingError;
use super::events::{self, Audience};
use super::phone_number::spelling_values;
use super::records::Conversation;
use crate::apps::App;
use crate::config::DirectoryMode;
use crate::storage::{StorageError, Transaction};

/// How often "is typing" is told in one conversation.
const PAUSE: Duration = Duration::from_secs(2);
/// Seconds after which the other side takes the typing for ended, unless told again.
const EXPIRES_IN: u32 = 6;
/// Conversations remembered at once; while there are more, nobody else is told to type.
const REMEMBERED: usize = 20_000;

/// What was told last, by the typist's conversation.
#[derive(Default)]
pub struct Typing {
    told: Mutex<HashMap<i64, Told>>,
}

struct Told {
    /// When "is typing" was told.
    at: Instant,
    is_typing: bool,
}

impl Typing {
    /// Whether this is news for the other side, which is then taken as told.
    fn take(&self, conversation: i64, is_typing: bool, now: Instant) -> bool {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        match told.get_mut(&conversation) {
            Some(last) if is_typing => {
                let is_due = now.saturating_duration_since(last.at) >= PAUSE;
                if is_due {
                    *last = Told { at: now, is_typing };
                }
                is_due
            }
            Some(last) => std::mem::replace(&mut last.is_typing, false),
            None if !is_typing => false,
            None => {
                if told.len() >= REMEMBERED {
                    let lifetime = Duration::from_secs(u64::from(EXPIRES_IN));
                    told.retain(|_, last| now.saturating_duration_since(last.at) < lifetime);
                }
                let has_room = told.len() < REMEMBERED;
                if has_room {
                    told.insert(conversation, Told { at: now, is_typing });
                }
                has_room
            }
        }
    }
}

impl Router {
    /// Tells the other side of an internal conversation that its contact types or does so no more. Accepted
    /// without effect where the other side can't be told: SMS knows no typing.
    ///
    /// # Errors
    /// `not_found`: the conversation.
    pub async fn typing(
        &self,
        app: Arc<App>,
        user: String,
        conversation: String,
        is_typing: bool,
    ) -> Result<(), RoutingError> {
        let asked = Arc::clone(&app);
        let halves = self
            .database()
            .read(move |tx| {
                let found = Conversation::find(tx, &asked.settings.id, &user, &conversation)?;
                let conversation = found.ok_or_else(|| RoutingError::not_found("conversation"))?;
                let other = listener(tx, &asked, &conversation)?;
                Ok::<_, RoutingError>(other.map(|other| (conversation, other)))
            })
            .await?;
        if let Some((conversation, other)) = halves {
            announce(self, &app, &conversation, &other, is_typing);
        }
        Ok(())
    }
}

/// The conversation in which the other side sees its contact type; `None`: nobody may. A number that has
/// moved to another user since the last message shows nothing to the one who had it.
pub(super) fn listener(
    tx: &mut Transaction<'_>,
    app: &App,
    conversation: &Conversation,
) -> Result<Option<Conversation>, StorageError> {
    let settings = &app.settings.routing;
    if !settings.features.typing || !conversation.is_internal {
        return Ok(None);
    }
    let Some(other) = conversation.other_half(tx)? else { return Ok(None) };
    if settings.directory.mode == DirectoryMode::Sql {
        // The portal's tables would have to be asked for each key that is pressed.
        return Ok(Some(other));
    }
    let sql = "SELECT 1 FROM phone_numbers WHERE app_id = ?1 AND number IN (?2, ?4, ?5) AND user_id = ?3 \
               AND status = 'assigned' LIMIT 1";
    let numbers = [(&conversation.contact.number, &other), (&other.contact.number, conversation)];
    for (number, owner) in numbers {
        let [first, second, third] = spelling_values(number);
        let values =
            [(&owner.app_id).into(), first.into(), (&owner.user_id).into(), second.into(), third.into()];
        if tx.query_one(sql, &values)?.is_none() {
            return Ok(None);
        }
    }
    Ok(Some(other))
}

/// Tells `other` that the owner of `conversation` types or does so no more, unless that is no news.
pub(super) fn announce(
    router: &Router,
    app: &App,
    conversation: &Conversation,
    other: &Conversation,
    is_typing: bool,
) {
    let is_wanted = app.settings.routing.features.typing && conversation.is_internal;
    if !is_wanted || !router.inner.typing.take(conversation.id, is_typing, Instant::now()) {
        return;
    }
    let Some(hub) = router.inner.hub.app_by_id(&app.settings.id) else { return };
    let data = json!({
        "conversation_id": events::conversation_id(other),
        "contact_id": other.contact.public_id(),
        "typing": is_typing,
        "expires_in": EXPIRES_IN,
    });
    if let Err(error) = events::publish_now(&hub, Audience::Conversation(other), "UserTyping", &data) {
        tracing::error!(%error, "bug: the router can't write a typing event as JSON");
    }
}

#[cfg(test)]
mod tests {
    use super::super::error::Code;
    use super::super::json::Id;
    use super::super::test_support::{Lab, Told as Event};
    use super::*;

    #[test]
    fn typing_is_told_every_two_seconds_and_its_end_once() {
        let (typing, start) = (Typing::default(), Instant::now());
        let steps = [
            (0, false, false),
            (0, true, true),
            (1_999, true, false),
            (2_000, true, true),
            (2_001, false, true),
            (2_002, false, false),
            (2_003, true, false),
            (4_000, true, true),
            (90_000, false, true),
        ];
        for (at, is_typing, is_told) in steps {
            let now = start + Duration::from_millis(at);
            assert_eq!(typing.take(1, is_typing, now), is_told, "{at} ms: {is_typing}");
        }
        assert!(typing.take(2, true, start), "each conversation by itself");
    }

    #[test]
    fn memory_is_bounded_and_what_has_expired_makes_room() {
        let (typing, start) = (Typing::default(), Instant::now());
        let limit = i64::try_from(REMEMBERED).expect("small");
        assert!((0..limit).all(|id| typing.take(id, true, start)));
        assert!(!typing.take(limit, true, start), "full");
        assert!(typing.take(limit, true, start + Duration::from_secs(6)));
        assert_eq!(typing.told.lock().expect("no panic").len(), 1);
    }

    async fn type_in(lab: &Lab, user: &str, conversation: &Id, is_typing: bool) -> Vec<Event> {
        lab.events();
        let (user, conversation) = (user.to_owned(), conversation.to_string());
        lab.router.typing(Arc::clone(&lab.app), user, conversation, is_typing).await.expect("accepted");
        lab.events()
    }

    #[tokio::test]
    async fn the_other_side_hears_it_with_its_own_ids() {
        let lab = Lab::new().await;
        let sent = lab.send("7", "+13125550101", "hello").await;
        let theirs = lab.received(std::slice::from_ref(&sent)).await.remove(0);
        let data = |message: &super::super::records::Message, typing: bool| {
            json!({"conversation_id": message.conversation_public_id, "contact_id": message.contact_public_id,
                   "typing": typing, "expires_in": 6})
        };
        for (user, from, to) in [("7", &sent, &theirs), ("8", &theirs, &sent)] {
            for typing in [true, false] {
                let told = type_in(&lab, user, &from.conversation_public_id, typing).await;
                assert_eq!(told.len(), 1);
                assert_eq!(told[0].channel, format!("messenger.{}", to.conversation_public_id));
                assert_eq!(told[0].name, "App\\Events\\UserTyping");
                assert_eq!(told[0].data, data(to, typing));
            }
        }
        let foreign = lab
            .router
            .typing(Arc::clone(&lab.app), "8".to_owned(), sent.conversation_public_id.to_string(), true)
            .await;
        assert_eq!(foreign.expect_err("foreign").code, Code::NotFound);
        lab.sql("UPDATE phone_numbers SET user_id = '9' WHERE number = '+13125550101'").await;
        lab.router.inner.typing.told.lock().expect("no panic").clear();
        let told = type_in(&lab, "7", &sent.conversation_public_id, true).await;
        assert!(told.is_empty(), "the number moved on: its old user hears nothing more");
    }

    #[tokio::test]
    async fn outside_and_with_the_feature_off_nothing_is_told() {
        let lab = Lab::new().await;
        let outside = lab.send("7", "+13125559999", "hello").await;
        assert!(type_in(&lab, "7", &outside.conversation_public_id, true).await.is_empty());
        let lab = Lab::with(|routing| routing.features.typing = false).await;
        let sent = lab.send("7", "+13125550101", "hello").await;
        assert!(type_in(&lab, "7", &sent.conversation_public_id, true).await.is_empty());
    }
}
