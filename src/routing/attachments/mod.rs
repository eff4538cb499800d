//! Files of conversations. A page uploads one to an address that the portal got for it (`upload`), or the
//! carrier brought one with a message and a copy is made before its link ends (`copies`, which gets it with
//! `download` and names it with `names`). Either way it lies in the store, so that each node has it, and is read through a link that is signed and ends (`links`).

mod copies;
mod download;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod links;
mod names;
mod records;
mod upload;

use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use super::{Code, Router, RoutingError};
use crate::apps::App;
use crate::config::{AttachmentSettings, RoutingSettings};
pub(super) use copies::{plan as plan_copies, run};
pub use links::{Link, Purpose};
pub(super) use records::{Attachment, delete_sent};
pub use upload::{Content, NewAttachment, Upload};

/// Memory for files on their way in or out, in kilobytes.
const MEMORY: usize = 256 * 1024;
/// How long one waits for its share.
const PATIENCE: Duration = Duration::from_secs(5);

/// The state of this process.
pub struct Attachments {
    link_key: Vec<u8>,
    memory: Arc<Semaphore>,
    /// A copy is to be made.
    due: Notify,
}

impl Attachments {
    pub(super) fn new(server_key: &[u8]) -> Self {
        Self {
            link_key: links::key(server_key),
            memory: Arc::new(Semaphore::new(MEMORY)),
            due: Notify::new(),
        }
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
    /// Makes room for a file in memory, for as long as the answer is held.
    ///
    /// # Errors
    /// `rate_limited`: too many are on their way.
    pub async fn make_room(&self, app: &App) -> Result<OwnedSemaphorePermit, RoutingError> {
        let kilobytes = app.settings.routing.attachments.max_size / 1024 + 1;
        let share = u32::try_from(kilobytes.min(MEMORY)).unwrap_or(u32::MAX);
        let memory = Arc::clone(&self.inner.attachments.memory);
        match tokio::time::timeout(PATIENCE, memory.acquire_many_owned(share)).await {
            Ok(Ok(room)) => Ok(room),
            _ => Err(RoutingError {
                retry_after: Some(Duration::from_secs(1)),
                ..RoutingError::new(Code::RateLimited, "too many attachments are on their way")
            }),
        }
    }
}

/// Where links lead; `None`: nowhere, so there are no attachments.
fn public_url(settings: &RoutingSettings) -> Option<&str> {
    let AttachmentSettings { public_url, .. } = &settings.attachments;
    [public_url, &settings.telnyx.public_url].into_iter().find(|url| !url.is_empty()).map(String::as_str)
}
