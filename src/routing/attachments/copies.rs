//! Copies of what the carrier brings: its links end after days, and a messenger's history lasts. Whatever it is, it is
//! kept: what browsers may do with it is decided when it is given out.

use std::collections::HashMap;
use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use hyper::header::CONTENT_TYPE;
use serde_json::json;
use tokio::task::JoinSet;
use ulid::Ulid;

use super::download::{self, Fetched, Miss};
use super::parts::LastPart;
use super::records::State;
use super::room::{Held, OF_AN_APP, Parties};
use super::{Attachment, names, public_url};
use crate::apps::App;
use crate::config::{AttachmentSettings, media_type};
use crate::hub::AppHub;
use crate::routing::carrier::Media;
use crate::routing::events::{self, Audience, Events, micros};
use crate::routing::records::{Conversation, Message};
use crate::routing::{Router, callbacks};
use crate::storage::{self, StorageError, Transaction};

/// How often due copies are looked for; new ones are told of.
const EVERY: Duration = Duration::from_secs(5);
/// Copies of one app that are made at the same time: a slow server keeps back the others of its app only.
const AT_ONCE: usize = 8;
/// How long a copy is left to the process that makes it, which renews it at half the time.
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
            file: None,
        };
        attachment.insert(tx)?;
    }
    let router = router.clone();
    tx.on_commit(message.user_id.as_str(), move || router.inner.attachments.due.notify_one());
    Ok(())
}

/// Makes copies until the process ends.
pub async fn run(router: &Router) {
    // By the app's id.
    let mut copies: JoinSet<String> = JoinSet::new();
    let mut under_way: HashMap<String, usize> = HashMap::new();
    loop {
        for hub in apps_with_copies(router).await {
            let running = under_way.entry(hub.id().to_owned()).or_default();
            let largest = hub.app().settings.routing.attachments.max_size;
            let most = (OF_AN_APP / largest.max(1)).clamp(1, AT_ONCE);
            for attachment in claim(router, hub.id(), most.saturating_sub(*running)).await {
                *running += 1;
                let (router, app) = (router.clone(), hub.id().to_owned());
                copies.spawn(async move {
                    copy(&router, attachment).await;
                    app
                });
            }
        }
        tokio::select! {
            Some(Ok(app)) = copies.join_next() => {
                if let Some(running) = under_way.get_mut(&app) {
                    *running -= 1;
                }
            }
            _ = tokio::time::timeout(EVERY, router.inner.attachments.due.notified()) => {}
        }
        under_way.retain(|_, running| *running > 0);
    }
}

/// Apps of this process with copies that are due. A store that is full needs its room for messages: the copies wait.
async fn apps_with_copies(router: &Router) -> Vec<Arc<AppHub>> {
    if router.database().size().is_full {
        return Vec::new();
    }
    let apps = router.database().read(|tx| Attachment::apps_with_copies(tx, storage::now())).await;
    let apps = apps.unwrap_or_else(|error| {
        tracing::error!(%error, "the router can't read which attachments are to be copied");
        Vec::new()
    });
    apps.iter().filter_map(|id| router.inner.hub.app_by_id(id)).collect()
}

/// Copies of an app that are due, at most so many.
async fn claim(router: &Router, app: &str, most: usize) -> Vec<Attachment> {
    let (app, most, lease) = (app.to_owned(), most as i64, micros(LEASE));
    if most == 0 {
        return Vec::new();
    }
    let claim = move |tx: &mut Transaction<'_>| Attachment::claim(tx, &app, storage::now(), lease, most);
    router.database().write(claim).await.unwrap_or_else(|error| {
        tracing::error!(%error, "the router can't read which attachments are to be copied");
        Vec::new()
    })
}

/// Why a copy counts as failed that the program could not make.
const BUG: &str = "bug: the copy failed in the router";

/// Makes a copy. A panic is a try that failed.
async fn copy(router: &Router, attachment: Attachment) {
    let again = attachment.clone();
    let renewed = attachment.clone();
    let made = AssertUnwindSafe(make(router, attachment)).catch_unwind();
    let made = tokio::select! {
        made = made => made,
        never = renew(router, renewed) => match never {},
    };
    if made.is_err()
        && let Err(error) = put_off(router, again, Miss::NotNow(BUG.to_owned())).await
    {
        tracing::error!(%error, "the router can't store that an attachment is copied later");
    }
}

/// Keeps a copy that takes long from the other processes.
async fn renew(router: &Router, attachment: Attachment) -> Infallible {
    loop {
        tokio::time::sleep(LEASE / 2).await;
        let (attachment, until) = (attachment.clone(), storage::now() + micros(LEASE));
        if let Err(error) = router.database().write_lazily(move |tx| attachment.keep_claim(tx, until)).await {
            tracing::debug!(%error, "the router can't note that an attachment is being copied");
        }
    }
}

async fn make(router: &Router, attachment: Attachment) {
    let Some(app) = router.inner.hub.app_by_id(&attachment.app_id).map(|app| app.app()) else { return };
    let id = attachment.public_id.clone();
    let settled = match file(router, &attachment, &app.settings.routing.attachments).await {
        Ok(file) => {
            let again = attachment.clone();
            match store(router, app, attachment, file).await {
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

/// Stores a copy, the last part of it with all that follows.
async fn store(
    router: &Router,
    app: Arc<App>,
    attachment: Attachment,
    mut file: File,
) -> Result<(), StorageError> {
    let mut spool = router.spool();
    spool.add(std::mem::take(&mut file.content)).await?;
    let (of_job, last) = (router.clone(), spool.last_part());
    let keep = move |tx: &mut Transaction<'_>| keep(&of_job, tx, &app, &attachment, &file, &last);
    if router.database().write(keep).await? {
        spool.finish();
    }
    Ok(())
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
async fn file(router: &Router, attachment: &Attachment, settings: &AttachmentSettings) -> Result<File, Miss> {
    let url = attachment.source_url.as_deref().unwrap_or_default();
    let is_last = attachment.attempts + 1 >= MAX_ATTEMPTS;
    let expected = attachment.size.filter(|_| !is_last).and_then(|size| usize::try_from(size).ok());
    let parties = Parties::of_copy(&attachment.app_id, &attachment.user_id);
    let fetched = download::fetch(url, expected, settings, (router.room(), &parties)).await?;
    Ok(File::of(attachment, fetched))
}

/// A file as it is kept.
#[derive(Debug)]
struct File {
    name: String,
    content_type: String,
    content: Bytes,
    /// The room that the content takes.
    _held: Option<Held>,
}

impl File {
    /// Its type is the one that its server names, else the carrier's webhook, else its name's ending. Its name is the
    /// webhook's, else its server's, else that of its address.
    fn of(attachment: &Attachment, fetched: Fetched) -> Self {
        let Fetched { headers, content, held } = fetched;
        let of_url = attachment.source_url.as_deref().and_then(names::of_url);
        let told = names::clean(&attachment.name).filter(|told| Some(told) != of_url.as_ref());
        let name = told.or_else(|| names::of_headers(&headers)).or(of_url);
        let header = headers.get(CONTENT_TYPE).map(|value| String::from_utf8_lossy(value.as_bytes()));
        let content_type = header
            .and_then(|header| media_type::stored(&header))
            .or_else(|| media_type::stored(&attachment.content_type))
            .or_else(|| name.as_deref().and_then(media_type::of_name).map(str::to_owned))
            .unwrap_or_else(|| media_type::OCTETS.to_owned());
        Self { name: names::with_ending(name.as_deref(), &content_type), content_type, content, _held: held }
    }
}

/// The file counts, not the figure; an operator may still want to know that they differ.
fn note_size(attachment: &Attachment, size: i64) {
    if attachment.size.is_some_and(|told| told != size) {
        tracing::debug!(
            app = attachment.app_id,
            attachment = attachment.public_id,
            told = attachment.size,
            size,
            "an inbound attachment has another size than the carrier said"
        );
    }
}

/// Makes the file the attachment's, puts its link in the place of the carrier's, and tells the user and the portal.
/// Answers whether the file is wanted.
fn keep(
    router: &Router,
    tx: &mut Transaction<'_>,
    app: &App,
    attachment: &Attachment,
    file: &File,
    last: &LastPart,
) -> Result<bool, StorageError> {
    let (settings, now) = (&app.settings.routing, storage::now());
    let found = Attachment::find_to_change(tx, &attachment.app_id, &attachment.public_id)?;
    let Some(mut attachment) = found.filter(|found| found.state == State::Fetching) else { return Ok(false) };
    let message = attachment.message_id.map(|id| Message::by_row_to_change(tx, id)).transpose()?.flatten();
    let Some(mut message) = message.filter(|message| message.deleted_at.is_none()) else {
        return attachment.delete(tx).map(|()| false);
    };
    attachment.content_type.clone_from(&file.content_type);
    attachment.name.clone_from(&file.name);
    note_size(&attachment, last.size);
    last.store(tx)?;
    attachment.fill(tx, &last.file, last.size)?;
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
    router.publish(tx, app, &conversation.thread_id, events, None, now)?;
    Ok(true)
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
        let file = File::of(&attachment, Fetched { headers, content: Bytes::new(), held: None });
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
