//! Giving a file out, part by part: a transfer has one part in memory, and a range reads only its own bytes.

use std::net::IpAddr;
use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;

use super::parts;
use super::records::State;
use super::room::{Held, Parties};
use super::{Attachment, PATIENCE};
use crate::apps::App;
use crate::routing::{Router, RoutingError};
use crate::storage;

/// How long a transfer under way waits for its share of the memory.
const PATIENCE_UNDER_WAY: Duration = Duration::from_secs(30);

/// A file, of which nothing is read yet.
#[derive(Clone)]
pub struct StoredFile {
    /// What it is called.
    pub name: String,
    /// Its media type.
    pub content_type: String,
    /// Bytes.
    pub size: u64,
    /// Seconds for which it may be kept elsewhere.
    pub max_age: i64,
    file: String,
    router: Router,
    parties: Parties,
}

/// Bytes of a file, read as they are asked for.
pub struct FileReader {
    file: StoredFile,
    range: Range<u64>,
    has_begun: bool,
}

/// A part with its share of the memory, which is free again when its last byte has left.
struct Part {
    bytes: Vec<u8>,
    _held: Held,
}

impl AsRef<[u8]> for Part {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Router {
    /// A file that is there.
    ///
    /// # Errors
    /// `not_found`.
    pub async fn stored_file(
        &self,
        app: &App,
        public_id: &str,
        address: IpAddr,
    ) -> Result<StoredFile, RoutingError> {
        let (app_id, id, now) = (app.settings.id.clone(), public_id.to_owned(), storage::now());
        let found = self.database().read_aside(move |tx| Attachment::find(tx, &app_id, &id)).await?;
        let is_there = |found: &Attachment| found.state == State::Ready && found.expires_at > now;
        let missing = || RoutingError::not_found("attachment");
        let found = found.filter(is_there).ok_or_else(missing)?;
        Ok(StoredFile {
            size: found.size.and_then(|size| u64::try_from(size).ok()).ok_or_else(missing)?,
            max_age: (found.expires_at - now) / 1_000_000,
            parties: Parties::of_link(&found.app_id, &found.user_id, &found.public_id, address),
            router: self.clone(),
            file: found.file.ok_or_else(missing)?,
            name: found.name,
            content_type: found.content_type,
        })
    }
}

impl StoredFile {
    /// Reads these bytes, which the file must have.
    pub fn read(self, range: Range<u64>) -> FileReader {
        FileReader { file: self, range, has_begun: false }
    }
}

impl FileReader {
    /// Bytes that are not read yet.
    pub fn left(&self) -> u64 {
        self.range.end.saturating_sub(self.range.start)
    }

    /// The next bytes; `None` at the end.
    ///
    /// # Errors
    /// `rate_limited`: there is no room for them. `not_found`: the file was deleted meanwhile.
    pub async fn next(&mut self) -> Result<Option<Bytes>, RoutingError> {
        let Range { start, end } = self.range;
        let in_part = parts::PART as u64 - start % parts::PART as u64;
        let most = in_part.min(end.saturating_sub(start)) as usize;
        if most == 0 {
            return Ok(None);
        }
        let StoredFile { router, parties, file, .. } = &self.file;
        let patience = if self.has_begun { PATIENCE_UNDER_WAY } else { PATIENCE };
        let held = router.room().take(parties, most, patience).await?;
        let file = file.clone();
        let bytes = router.database().read_aside(move |tx| parts::read(tx, &file, start, most)).await?;
        if bytes.len() != most {
            return Err(RoutingError::not_found("attachment"));
        }
        self.has_begun = true;
        self.range.start += most as u64;
        Ok(Some(Bytes::from_owner(Part { bytes, _held: held })))
    }
}
