//! What the portal's backend is told: `message_sent`, `message_received`, `message_status`,
//! `message_read`, `message_updated`, `message_deleted`, `message_unrouted`, `opt_out`.

use std::sync::Arc;

use hyper::header::HeaderMap;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::value::to_raw_value;
use serde_json::{Value, json};

use super::Router;
use super::error::RoutingError;
use super::events::{self, merge};
use super::json::{Records, carbon};
use super::portal_ids::PortalIds;
use super::records::{Conversation, Message};
use crate::apps::App;
use crate::config::DirectoryMode;
use crate::http_client::Reach;
use crate::hub::Hub;
use crate::outbox::{
    About, Attempt, Broadcast, Endpoint, Event, EventState, Listing, MAX_ROWS, Receivers, Target,
};
use crate::storage::{StorageError, Transaction};

/// The outbox's name for callbacks.
pub(super) const KIND: &str = "callback";
/// Most events of one list.
const MAX_LIST: i64 = 501;

/// Tells of a message: `{message, conversation, reference}` and what else `more` holds, in the lane of its
/// conversation. Answers the outbox's row; `None`: the app wants no callbacks.
///
/// # Errors
/// Of the store.
pub fn message(
    router: &Router,
    tx: &mut Transaction<'_>,
    app: &App,
    name: &'static str,
    (message, conversation): (&Message, &Conversation),
    more: Value,
    now: i64,
) -> Result<Option<i64>, StorageError> {
    let settings = &app.settings.routing;
    if settings.callbacks.url.is_none() {
        return Ok(None);
    }
    let mut data = json!(Records::new(message, conversation, settings));
    data["reference"] = json!(message.reference);
    merge(&mut data, more);
    let about = events::about(message, conversation);
    let about = (settings.directory.mode == DirectoryMode::Sql).then_some(about);
    let (event, lane) = (event(name, &data, about)?, conversation.thread_id.as_str());
    router.inner.outbox.post(tx, &target(&app.settings.id), lane, &event, now).map(Some)
}

/// Tells of something else.
///
/// # Errors
/// Of the store.
pub fn other(
    router: &Router,
    tx: &mut Transaction<'_>,
    app: &App,
    name: &'static str,
    lane: &str,
    data: Value,
    now: i64,
) -> Result<(), StorageError> {
    if app.settings.routing.callbacks.url.is_none() {
        return Ok(());
    }
    let event = event(name, &data, None)?;
    router.inner.outbox.post(tx, &target(&app.settings.id), lane, &event, now).map(drop)
}

fn event(name: &str, data: &Value, about: Option<About>) -> Result<Event, StorageError> {
    let data = to_raw_value(data)
        .map_err(|error| StorageError::Fault(format!("a callback can't be written: {error}")))?;
    Ok(Event { name: name.to_owned(), data, is_list: false, about })
}

fn target(app_id: &str) -> Target {
    Target { app_id: app_id.to_owned(), kind: KIND.to_owned() }
}

/// A callback that was given up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct FailedCallback {
    /// What it is sent again by, and what lists go on behind.
    pub id: i64,
    /// Its id as the backend sees it.
    pub event_id: String,
    /// `message_sent` and the like.
    pub name: String,
    /// Tries since it was last queued.
    pub attempts: i64,
    /// What the last try came to.
    pub error: Option<String>,
    /// When it happened.
    pub created_at: String,
    /// When it was given up.
    pub failed_at: String,
}

impl Router {
    /// Callbacks that were given up in the last 7 days, oldest first, behind the one of id `after`; at most
    /// 501.
    ///
    /// # Errors
    /// The store can't be read.
    pub async fn failed_callbacks(
        &self,
        app: Arc<App>,
        limit: i64,
        after: Option<i64>,
    ) -> Result<Vec<FailedCallback>, RoutingError> {
        let limit = limit.clamp(1, MAX_LIST);
        let which = Listing { state: EventState::Failed, after: after.unwrap_or(0), since: 0, limit };
        let failed = self.inner.outbox.events(target(&app.settings.id), which).await?;
        let failed = failed.into_iter().map(|event| FailedCallback {
            id: event.id,
            event_id: event.event_id,
            name: event.name,
            attempts: event.attempts,
            error: event.error,
            created_at: carbon(event.created_at),
            failed_at: carbon(event.changed_at),
        });
        Ok(failed.collect())
    }

    /// Tries of a callback in the last 24 h, oldest first; none when it was taken at once.
    ///
    /// # Errors
    /// The store can't be read.
    pub async fn callback_attempts(&self, app: Arc<App>, id: i64) -> Result<Vec<Attempt>, RoutingError> {
        Ok(self.inner.outbox.attempts(target(&app.settings.id), id).await?)
    }

    /// Sends callbacks again that were given up: these, or all. Answers how many.
    ///
    /// # Errors
    /// The store can't be written to.
    pub async fn resend_callbacks(&self, app: Arc<App>, ids: Option<Vec<i64>>) -> Result<u64, RoutingError> {
        let (outbox, target) = (&self.inner.outbox, target(&app.settings.id));
        Ok(match ids {
            Some(ids) => outbox.resend(target, ids).await?,
            None => outbox.resend_all(target, EventState::Failed, 0).await?,
        })
    }
}

/// The portals' backends, as the outbox knows them.
pub(super) struct Portals {
    pub hub: Hub,
}

impl Receivers for Portals {
    fn endpoint(&self, target: &Target) -> Option<Endpoint> {
        let app = self.hub.app_by_id(&target.app_id)?.app();
        let settings = &app.settings.routing.callbacks;
        let (timeout, give_up_after, data) = (settings.timeout, settings.give_up_after, settings.data);
        // The configuration has checked it.
        let url = settings.url.as_deref()?.parse().ok()?;
        Some(Endpoint {
            name: "callbacks".to_owned(),
            app,
            url,
            timeout,
            give_up_after,
            headers: HeaderMap::new(),
            reach: Reach::default(),
            data,
            keeps_log: false,
            max_rows: MAX_ROWS,
            drops_waiting: true,
        })
    }

    fn answered(&self, tx: &mut Transaction<'_>, about: About, body: &[u8]) -> Result<(), StorageError> {
        PortalIds::of_answer(body).save(tx, about)
    }

    fn amend(&self, tx: &mut Transaction<'_>, broadcast: &mut Broadcast) -> Result<(), StorageError> {
        for publication in &mut broadcast.publications {
            if let Some(about) = publication.about {
                PortalIds::read(tx, about)?.amend(publication);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{AppSettings, RoutingSettings};
    use crate::outbox::Outbox;
    use crate::outbox::testing::{Backend, Reply, hub, store};
    use crate::routing::events::{Audience, Events};
    use crate::routing::records::{ConversationKey, NewMessage};
    use crate::routing::status::{Direction, Status};

    /// Stores a message, with its callback and its event, as sending does.
    fn send(
        router: &Router,
        app: &App,
        tx: &mut Transaction<'_>,
    ) -> Result<(Message, Conversation), StorageError> {
        let settings = &app.settings.routing;
        let key = ConversationKey {
            app_id: &app.settings.id,
            user_id: "7",
            own_number: "+13125550100",
            contact_number: "+13125550101",
            thread_id: "thread",
        };
        let (conversation, _) = Conversation::find_or_create(tx, &key, true, settings, 1)?;
        let new = NewMessage {
            pair_id: None,
            direction: Direction::Outbound,
            body: Some("Hello"),
            subject: None,
            media_urls: &[],
            cc: &[],
            status: Status::Delivered,
            is_internal: true,
            from_number: "+13125550100",
            to_number: "+13125550101",
            telnyx_message_id: None,
            parts: Some(1),
            encoding: None,
            reference: Some("r-1"),
            decision: "{}",
            send_at: None,
            kind: None,
            sent_at: None,
        };
        let message = Message::insert(tx, &conversation, &new, settings.ids.kind, 1)?.expect("new");
        let now = crate::storage::now();
        let mut events = Events::new(app);
        let audience = Audience::Conversation(&conversation);
        events.message(audience, "MessageSent", &message, &conversation, json!({}))?;
        let told = (&message, &conversation);
        events.after(super::message(router, tx, app, "message_sent", told, json!({"more": 1}), now)?);
        router.publish(tx, app, "thread", events, None, now)?;
        Ok((message, conversation))
    }

    fn settings(url: Option<String>, mode: DirectoryMode) -> AppSettings {
        let mut routing = RoutingSettings::default();
        routing.callbacks.url = url;
        routing.directory.mode = mode;
        AppSettings { routing, ..AppSettings::new("a", "key", "secret") }
    }

    #[tokio::test]
    async fn in_existing_database_mode_the_portal_is_told_first_and_its_ids_are_used() {
        let answer = r#"{"message":{"id":501},"conversation":{"id":"77"}}"#;
        let mut backend = Backend::start(move |_| Reply::Status("200 OK", answer)).await;
        let settings = settings(Some(backend.url()), DirectoryMode::Sql);
        let (hub, mut published) = hub(vec![settings.clone()]);
        let folder = tempfile::tempdir().expect("a folder");
        let outbox = Outbox::new(store(folder.path()), hub.clone(), "node".into());
        let running = tokio::spawn(outbox.clone().run());
        let router = Router::new(outbox, hub).await.expect("a router");
        let (of_job, app) = (router.clone(), App::new(settings));
        let sent = router.database().write(move |tx| send(&of_job, &app, tx)).await;
        let (message, conversation) = sent.expect("stored");

        let data = backend.next().await.data();
        assert_eq!(data["message"]["id"], message.id);
        assert_eq!((&data["reference"], &data["message"]["reference"]), (&json!("r-1"), &json!("r-1")));
        assert_eq!((&data["conversation"]["user_id"], &data["more"]), (&json!(7), &json!(1)));
        let (channel, event, data) = published.recv().await.expect("published");
        assert_eq!((channel.as_str(), event.as_str()), ("messenger.77", "App\\Events\\MessageSent"));
        assert_eq!((&data["message"]["id"], &data["message"]["conversation_id"]), (&json!(501), &json!(77)));
        assert_eq!((&data["conversation"]["id"], &data["message"]["body"]), (&json!(77), &json!("Hello")));
        let kept = router.reload(&message).await.expect("there");
        assert_eq!(kept.0.portal_id.as_deref(), Some("501"));
        assert_eq!((kept.1.id, kept.1.portal_id.as_deref()), (conversation.id, Some("77")));
        running.abort();
    }

    #[tokio::test]
    async fn without_a_url_nothing_is_written_and_nothing_waits() {
        let settings = settings(None, DirectoryMode::Sql);
        let (hub, mut published) = hub(vec![settings.clone()]);
        let folder = tempfile::tempdir().expect("a folder");
        let outbox = Outbox::new(store(folder.path()), hub.clone(), "node".into());
        let router = Router::new(outbox, hub).await.expect("a router");
        let (of_job, app) = (router.clone(), App::new(settings));
        let sent = router.database().write(move |tx| send(&of_job, &app, tx)).await;
        let (_, conversation) = sent.expect("stored");
        // Though nothing runs: events that need not wait go with the commit.
        let (channel, ..) = published.recv().await.expect("published");
        assert_eq!(channel, format!("messenger.{}", conversation.id));
        assert_eq!(router.queues().await.expect("readable").callbacks.count, 0);
    }
}
