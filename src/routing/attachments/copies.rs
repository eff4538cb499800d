//! Copies of what the carrier brings: its links end after days, and a messenger's history lasts. Whatever it is, it is
//! kept: what browsers may do with it is decided when it is given out.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use hyper::header::CONTENT_TYPE;
use serde_json::json;
use tokio::task::JoinSet;
use ulid::Ulid;

use super::download::{self, Fetched, Miss};
use super::records::State;
use super::{Attachment, names, public_url};
use crate::apps::App;
use crate::config::{AttachmentSettings, media_type};
use crate::routing::carrier::Media;
use crate::routing::events::{self, Audience, Events, micros};
use crate::routing::records::{Conversation, Message};
use crate::routing::{Router, callbacks};
use crate::storage::{self, StorageError, Transaction};

/// How often due copies are looked for; new ones are told of.
const EVERY: Duration = Duration::from_secs(5);
/// Copies made at the same time.
const AT_ONCE: i64 = 4;
/// How long a copy is left to the process that makes it.
const LEASE: Duration = Duration::from_secs(60);
/// Tries, and the pause after the first, doubled after each: a quarter of an hour in all.
const MAX_ATTEMPTS: i64 = 8;
const PAUSE: Duration = Duration::from_secs(5);

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
            name: media.name.clone().or_else(|| names::of_url(&media.url)).unwrap_or_default(),
            content_type: media.content_type.as_deref().and_then(media_type::stored).unwrap_or_default(),
            // As the carrier says, until it is there.
            size: media.size.and_then(|size| i64::try_from(size).ok()),
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
        while copies.join_next().await.is_some() {}
    }
}

/// Why a copy counts as failed that the program could not make.
const BUG: &str = "bug: the copy failed in the router";

/// Makes a copy. A panic is a try that failed.
async fn copy(router: &Router, attachment: Attachment) {
    let again = attachment.clone();
    if AssertUnwindSafe(make(router, attachment)).catch_unwind().await.is_err()
        && let Err(error) = put_off(router, again, Miss::NotNow(BUG.to_owned())).await
    {
        tracing::error!(%error, "the router can't store that an attachment is copied later");
    }
}

async fn make(router: &Router, attachment: Attachment) {
    let Some(app) = router.inner.hub.app_by_id(&attachment.app_id).map(|app| app.app()) else { return };
    let id = attachment.public_id.clone();
    let settled = match file(&attachment, &app.settings.routing.attachments).await {
        Ok(file) => {
            let (of_job, again) = (router.clone(), attachment.clone());
            let kept = router.database().write(move |tx| keep(&of_job, tx, &app, &attachment, &file)).await;
            match kept {
                // What can't be stored is tried as often as what can't be fetched.
                Err(StorageError::Fault(fault)) => put_off(router, again, Miss::NotNow(fault)).await,
                kept => kept,
            }
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

/// Fetches the file of a copy. On the last try a size that the carrier's webhook does not agree with is none the worse.
async fn file(attachment: &Attachment, settings: &AttachmentSettings) -> Result<File, Miss> {
    let url = attachment.source_url.as_deref().unwrap_or_default();
    let is_last = attachment.attempts + 1 >= MAX_ATTEMPTS;
    let expected = attachment.size.filter(|_| !is_last).and_then(|size| usize::try_from(size).ok());
    let fetched = download::fetch(url, expected, settings).await?;
    Ok(File::of(attachment, fetched))
}

/// A file as it is kept.
#[derive(Debug)]
struct File {
    name: String,
    content_type: String,
    content: Bytes,
}

impl File {
    /// Its type is the one that its server names, else the carrier's webhook, else its name's ending. Its name is the
    /// webhook's, else its server's, else that of its address.
    fn of(attachment: &Attachment, fetched: Fetched) -> Self {
        let Fetched { headers, content } = fetched;
        let of_url = attachment.source_url.as_deref().and_then(names::of_url);
        let told = names::clean(&attachment.name).filter(|told| Some(told) != of_url.as_ref());
        let name = told.or_else(|| names::of_headers(&headers)).or(of_url);
        let header = headers.get(CONTENT_TYPE).map(|value| String::from_utf8_lossy(value.as_bytes()));
        let content_type = header
            .and_then(|header| media_type::stored(&header))
            .or_else(|| media_type::stored(&attachment.content_type))
            .or_else(|| name.as_deref().and_then(media_type::of_name).map(str::to_owned))
            .unwrap_or_else(|| media_type::OCTETS.to_owned());
        Self { name: names::with_ending(name.as_deref(), &content_type), content_type, content }
    }
}

/// The file counts, not the figure; an operator may still want to know that they differ.
fn note_size(attachment: &Attachment, file: &File) {
    let size = i64::try_from(file.content.len()).ok();
    if attachment.size.is_some() && attachment.size != size {
        tracing::debug!(
            app = attachment.app_id,
            attachment = attachment.public_id,
            told = attachment.size,
            size,
            "an inbound attachment has another size than the carrier said"
        );
    }
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
    attachment.name.clone_from(&file.name);
    note_size(&attachment, file);
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
    use hyper::header::{CONTENT_DISPOSITION, HeaderMap, HeaderName, HeaderValue};

    use super::*;

    fn file_of(url: &str, told: (&str, &str), headers: &[(HeaderName, &str)]) -> (String, String) {
        let attachment = Attachment {
            source_url: Some(url.to_owned()),
            name: told.0.to_owned(),
            content_type: told.1.to_owned(),
            ..Attachment::default()
        };
        let value = |text: &str| HeaderValue::from_bytes(text.as_bytes()).expect("a value");
        let headers: HeaderMap = headers.iter().map(|(name, text)| (name.clone(), value(text))).collect();
        let file = File::of(&attachment, Fetched { headers, content: Bytes::new() });
        (file.content_type, file.name)
    }

    #[test]
    fn types_and_names_come_from_who_knows_them() {
        let photo = "https://media.example/a/photo";
        for (url, told, headers, expected) in [
            (
                photo,
                ("photo", "image/png"),
                vec![(CONTENT_TYPE, "image/JPG; x=y")],
                ("image/jpeg", "photo.jpg"),
            ),
            (
                photo,
                ("photo", "audio/x-m4a"),
                vec![(CONTENT_TYPE, "binary/octet-stream")],
                ("audio/mp4", "photo.m4a"),
            ),
            (photo, ("photo", "text/x-vCard"), vec![], ("text/vcard", "photo.vcf")),
            (
                photo,
                ("photo", ""),
                vec![(CONTENT_TYPE, "image/heic; name=\"Größe.heic\"")],
                ("image/heic", "Größe.heic"),
            ),
            (
                photo,
                ("photo", "application/octet-stream"),
                vec![(CONTENT_DISPOSITION, "attachment; filename=\"IMG 1.MOV\"")],
                ("video/quicktime", "IMG 1.MOV"),
            ),
            ("https://media.example/a.3g2?x", ("a.3g2", ""), vec![], ("video/3gpp2", "a.3g2")),
            (
                photo,
                ("Offer.pdf", "application/pdf"),
                vec![(CONTENT_DISPOSITION, "attachment; filename=x.pdf")],
                ("application/pdf", "Offer.pdf"),
            ),
            (photo, ("photo", ""), vec![], ("application/octet-stream", "photo")),
            ("https://media.example/", ("", "image/gif"), vec![], ("image/gif", "attachment.gif")),
            (photo, ("photo", ""), vec![(CONTENT_TYPE, "text/html")], ("text/html", "photo")),
        ] {
            let expected = (expected.0.to_owned(), expected.1.to_owned());
            assert_eq!(file_of(url, told, &headers), expected, "{url} {told:?} {headers:?}");
        }
    }
}
