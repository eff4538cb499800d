//! Files of conversations. A page uploads one to an address that the portal got for it (`upload`), or the
//! carrier brought one with a message and a copy is made before its link ends (`copies`, which gets it with
//! `download` and names it with `names`). Either way it lies in the store, in `parts`, so that each node has it, and is
//! read (`reading`) through a link that is signed and ends (`links`). What is on its way takes `room` in memory.

mod copies;
mod download;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod links;
mod names;
mod parts;
mod reading;
mod records;
mod room;
mod sweep;
mod upload;

use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;
use tokio::runtime::Handle;
use tokio::sync::Notify;

use super::{Router, RoutingError};
use crate::apps::{App, LeastRate};
use crate::config::{AttachmentSettings, RoutingSettings};
use crate::storage::Transaction;
pub(super) use copies::{plan as plan_copies, run};
pub use links::{Link, Purpose};
pub use reading::{FileReader, StoredFile};
pub(super) use records::{Attachment, delete_sent};
pub(super) use sweep::run as sweep;
pub use upload::{NewAttachment, Upload, UploadStart, Uploading};

/// How long one waits for its share of the memory.
const PATIENCE: Duration = Duration::from_secs(5);

/// The state of this process.
pub struct Attachments {
    link_key: Vec<u8>,
    room: Arc<room::Room>,
    /// Deletes what came of an upload that ended early.
    runtime: Handle,
    /// A copy is to be made.
    due: Notify,
}

impl Attachments {
    pub(super) fn new(server_key: &[u8], runtime: Handle) -> Self {
        Self { link_key: links::key(server_key), room: Arc::default(), runtime, due: Notify::new() }
    }
}

/// A file, as clients see it.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct AttachmentJson {
    /// Identifies it.
    pub id: String,
    /// Where it can be read until it is deleted; for `media_urls`.
    pub url: String,
    /// Its media type.
    pub content_type: String,
    /// Bytes; null while it is not there yet.
    pub size: Option<i64>,
    /// What it is called.
    pub name: String,
}

impl Attachment {
    /// As clients see it.
    pub(super) fn json(&self, router: &Router, settings: &RoutingSettings) -> AttachmentJson {
        AttachmentJson {
            id: self.public_id.clone(),
            url: router.download_url(self, settings),
            content_type: self.content_type.clone(),
            size: self.size,
            name: self.name.clone(),
        }
    }
}

impl Router {
    fn room(&self) -> &Arc<room::Room> {
        &self.inner.attachments.room
    }

    /// A file on its way into the store.
    fn spool(&self) -> parts::Spool {
        parts::Spool::new(self.database().clone(), self.inner.attachments.runtime.clone())
    }
}

/// What a transfer must move at least.
pub fn least_rate(settings: &RoutingSettings) -> LeastRate {
    LeastRate::new(settings.attachments.least_rate, settings.attachments.rate_window)
}

/// Notes that a message has the attachments among these URLs, which are kept from now on.
///
/// # Errors
/// `invalid_field`: one is gone. Of the store.
pub(super) fn name(tx: &mut Transaction<'_>, app: &App, media_urls: &[String]) -> Result<(), RoutingError> {
    let Some(public_url) = public_url(&app.settings.routing) else { return Ok(()) };
    let links = format!("{public_url}/attachments/{}/", app.settings.id);
    records::name(tx, &app.settings.id, &links, media_urls)
}

/// Where links lead; `None`: nowhere, so there are no attachments.
fn public_url(settings: &RoutingSettings) -> Option<&str> {
    let AttachmentSettings { public_url, .. } = &settings.attachments;
    [public_url, &settings.telnyx.public_url].into_iter().find(|url| !url.is_empty()).map(String::as_str)
}
