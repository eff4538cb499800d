//! Copies of what the carrier brings: its links end after days, and a messenger's history lasts.
//!
//! The addresses come from the carrier's signed webhooks, and still are somebody else's word: only `https`, only
//! addresses of the internet, only so many bytes of a type that is taken, within a time.

use std::time::Duration;

use bytes::Bytes;
use hyper::Uri;
use hyper::header::{CONTENT_TYPE, HeaderMap, LOCATION};
use serde_json::json;
use tokio::task::JoinSet;
use ulid::Ulid;

use super::records::State;
use super::{Attachment, media_type, public_url};
use crate::apps::App;
use crate::config::AttachmentSettings;
use crate::http_client::{HttpAnswer, HttpClient, HttpFailure, HttpOptions, Reach};
use crate::routing::carrier::Media;
use crate::routing::events::{self, Audience, Events, micros};
use crate::routing::records::{Conversation, Message};
use crate::routing::{Router, callbacks};
use crate::storage::{self, StorageError, Transaction};

/// How often due copies are looked for; new ones are told of.
const EVERY: Duration = Duration::from_secs(5);
/// Copies made at the same time.
const AT_ONCE: i64 = 4;
/// Time for one, redirects included.
const TIMEOUT: Duration = Duration::from_secs(20);
/// How long a copy is left to the process that makes it.
const LEASE: Duration = Duration::from_secs(60);
/// Tries, and the pause after the first, doubled after each: a quarter of an hour in all.
const MAX_ATTEMPTS: i64 = 8;
const PAUSE: Duration = Duration::from_secs(5);
/// Redirects that are followed, each looked at as the first address was.
const MAX_REDIRECTS: usize = 3;

/// Why there is no copy.
#[derive(Debug, PartialEq, Eq)]
enum Miss {
    /// It may be there later.
    NotNow(String),
    /// It never will.
    Never(String),
}

/// Has the media of a message copied.
///
/// # Errors
/// Of the store.
pub fn plan(
    router: &Router,
    tx: &mut Transaction<'_>,
    app: &App,
    message: &Message,
    media: &[Media],
    now: i64,
) -> Result<(), StorageError> {
    let settings = &app.settings.routing;
    if media.is_empty() || !settings.attachments.copy_inbound || public_url(settings).is_none() {
        return Ok(());
    }
    for media in media {
        let mut attachment = Attachment {
            id: 0,
            public_id: Ulid::generate().to_string(),
            app_id: message.app_id.clone(),
            user_id: message.user_id.clone(),
            conversation_id: message.conversation_id,
            message_id: Some(message.id),
            source_url: Some(media.url.clone()),
            name: name_of(&media.url),
            content_type: media.content_type.as_deref().map(media_type).unwrap_or_default(),
            size: None,
            state: State::Fetching,
            attempts: 0,
            not_before: now,
            except: None,
            created_at: now,
            expires_at: now + micros(settings.attachments.keep),
        };
        attachment.insert(tx)?;
    }
    let router = router.clone();
    tx.on_commit(message.user_id.as_str(), move || router.inner.attachments.due.notify_one());
    Ok(())
}

/// The last part of a URL's path.
fn name_of(url: &str) -> String {
    let path = url.split(['?', '#']).next().unwrap_or_default();
    let name = path.rsplit('/').next().unwrap_or_default();
    let name: String = name.chars().filter(|c| !c.is_control()).take(100).collect();
    if name.is_empty() { "attachment".to_owned() } else { name }
}

/// Makes copies until the process ends.
pub async fn run(router: &Router) {
    loop {
        let lease = micros(LEASE);
        let claimed =
            router.database().write(move |tx| Attachment::claim(tx, storage::now(), lease, AT_ONCE)).await;
        let claimed = match claimed {
            Ok(claimed) => claimed,
            Err(error) => {
                tracing::error!(%error, "the router can't read which attachments are to be copied");
                Vec::new()
            }
        };
        if claimed.is_empty() {
            let _ = tokio::time::timeout(EVERY, router.inner.attachments.due.notified()).await;
            continue;
        }
        let mut copies = JoinSet::new();
        for attachment in claimed {
            let router = router.clone();
            copies.spawn(async move { copy(&router, attachment).await });
        }
        copies.join_all().await;
    }
}

async fn copy(router: &Router, attachment: Attachment) {
    let Some(app) = router.inner.hub.app_by_id(&attachment.app_id).map(|app| app.app()) else { return };
    let id = attachment.public_id.clone();
    let settled = match fetch(&attachment, &app.settings.routing.attachments).await {
        Ok(file) => {
            let of_job = router.clone();
            router.database().write(move |tx| keep(&of_job, tx, &app, &attachment, &file)).await
        }
        Err(miss) => put_off(router, attachment, miss).await,
    };
    if let Err(error) = settled {
        tracing::error!(%error, attachment = id, "the router can't store the copy of an attachment");
    }
}

async fn put_off(router: &Router, attachment: Attachment, miss: Miss) -> Result<(), StorageError> {
    let (reason, is_over) = match miss {
        Miss::NotNow(reason) => (reason, attachment.attempts + 1 >= MAX_ATTEMPTS),
        Miss::Never(reason) => (reason, true),
    };
    let app = attachment.app_id.as_str();
    if is_over {
        tracing::warn!(
            app,
            attachment = attachment.public_id,
            reason,
            "the router gave up copying an inbound attachment"
        );
    } else {
        tracing::debug!(
            app,
            attachment = attachment.public_id,
            reason,
            "the router failed to copy an inbound attachment and tries again later"
        );
    }
    let pause = micros(PAUSE) << attachment.attempts.clamp(0, MAX_ATTEMPTS);
    let until = (!is_over).then(|| storage::now() + pause);
    router.database().write(move |tx| attachment.put_off(tx, until)).await
}

/// A file as it was fetched.
struct File {
    content_type: String,
    content: Bytes,
}

async fn fetch(attachment: &Attachment, settings: &AttachmentSettings) -> Result<File, Miss> {
    let reach = Reach { public_only: !settings.allow_private_addresses, ca_file: None };
    let client = HttpClient::within(&reach, HttpOptions::default()).map_err(Miss::Never)?;
    let url = attachment.source_url.as_deref().unwrap_or_default();
    let answer = tokio::time::timeout(TIMEOUT, follow(&client, url, settings)).await;
    let answer = answer.map_err(|_| Miss::NotNow("it took too long".to_owned()))??;
    let header = answer.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).map(media_type);
    // A store that does not know says so with this one.
    let known = header.filter(|header| !header.is_empty() && header != "application/octet-stream");
    let content_type = known.unwrap_or_else(|| attachment.content_type.clone());
    if !settings.types.contains(&content_type) {
        return Err(Miss::Never(format!("its type {content_type:?} is not among attachments.types")));
    }
    if answer.body.len() > settings.max_size || answer.body.is_empty() {
        return Err(Miss::Never("it is empty, or larger than attachments.max_size".to_owned()));
    }
    Ok(File { content_type, content: answer.body })
}

async fn follow(client: &HttpClient, url: &str, settings: &AttachmentSettings) -> Result<HttpAnswer, Miss> {
    let mut uri = address(url, settings)?;
    for _ in 0..=MAX_REDIRECTS {
        // One byte more, to see that it is too large.
        let answer = client.get(&uri, HeaderMap::new(), TIMEOUT, settings.max_size + 1).await;
        let answer = answer.map_err(|failure| match failure {
            HttpFailure::NotSent(reason) | HttpFailure::Unclear(reason) => Miss::NotNow(reason),
        })?;
        let status = answer.status;
        match status.as_u16() {
            200 => return Ok(answer),
            301 | 302 | 303 | 307 | 308 => {
                let location = answer.headers.get(LOCATION).and_then(|value| value.to_str().ok());
                uri = address(location.unwrap_or_default(), settings)?;
            }
            408 | 425 | 429 | 500.. => return Err(Miss::NotNow(format!("HTTP {status}"))),
            _ => return Err(Miss::Never(format!("HTTP {status}"))),
        }
    }
    Err(Miss::Never("it is redirected too often".to_owned()))
}

fn address(url: &str, settings: &AttachmentSettings) -> Result<Uri, Miss> {
    let uri: Uri = url.parse().map_err(|_| Miss::Never("its address is none".to_owned()))?;
    let is_allowed = match uri.scheme_str() {
        Some("https") => true,
        Some("http") => settings.allow_private_addresses,
        _ => false,
    };
    if is_allowed { Ok(uri) } else { Err(Miss::Never("its address is not https".to_owned())) }
}

/// Stores a copy, puts its link in the place of the carrier's, and tells the user and the portal.
fn keep(
    router: &Router,
    tx: &mut Transaction<'_>,
    app: &App,
    attachment: &Attachment,
    file: &File,
) -> Result<(), StorageError> {
    let (settings, now) = (&app.settings.routing, storage::now());
    let found = Attachment::find_to_change(tx, &attachment.app_id, &attachment.public_id)?;
    let Some(mut attachment) = found.filter(|found| found.state == State::Fetching) else { return Ok(()) };
    let message = attachment.message_id.map(|id| Message::by_row_to_change(tx, id)).transpose()?.flatten();
    let Some(mut message) = message.filter(|message| message.deleted_at.is_none()) else {
        return attachment.delete(tx);
    };
    attachment.content_type.clone_from(&file.content_type);
    attachment.fill(tx, &file.content)?;
    let link = router.download_url(&attachment, settings);
    let source = attachment.source_url.as_deref();
    if let Some(url) = message.media_urls.iter_mut().find(|url| Some(url.as_str()) == source) {
        *url = link;
        message.save_media(tx, now)?;
    }
    let conversation = Conversation::by_row(tx, attachment.conversation_id)?;
    let mut events = Events::new(app);
    let data = json!({
        "conversation_id": events::conversation_id(&conversation),
        "message_id": events::message_id(&message),
        "attachment": attachment.json(router, settings),
    });
    let about = events::about(&message, &conversation);
    events.add_about(about, Audience::User(&attachment.user_id), "AttachmentReady", &data)?;
    let told = (&message, &conversation);
    events.after(callbacks::message(router, tx, app, "message_updated", told, json!({}), now)?);
    router.publish(tx, app, &conversation.thread_id, events, None, now)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::RoutingSettings;

    #[test]
    fn names_are_the_ends_of_paths() {
        for (url, name) in [
            ("https://media.example/a/photo.jpg?x=1/2", "photo.jpg"),
            ("https://media.example/a/", "attachment"),
            ("", "attachment"),
        ] {
            assert_eq!(name_of(url), name, "{url}");
        }
    }

    #[test]
    fn only_https_is_fetched() {
        let mut settings = RoutingSettings::default().attachments;
        assert!(address("https://media.example/a.jpg", &settings).is_ok());
        for url in ["http://media.example/a.jpg", "file:///etc/passwd", "/a.jpg", "", "ftp://a"] {
            assert!(address(url, &settings).is_err(), "{url}");
        }
        settings.allow_private_addresses = true;
        assert!(address("http://127.0.0.1/a.jpg", &settings).is_ok());
        assert!(address("file:///etc/passwd", &settings).is_err());
    }
}
