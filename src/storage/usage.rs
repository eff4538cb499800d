//! How full the store is. New messages and files are refused from nine tenths of `store.max_size` on, and while the disk has
//! less than `store.min_free`, so that there is room for what follows from those that were accepted.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use super::{Database, StorageError, Transaction, sqlite_path};
use crate::config::StoreSettings;

/// Time between two measurements.
const INTERVAL: Duration = Duration::from_secs(2);

/// How much is stored, and how much may be.
#[derive(Debug)]
pub(super) struct Usage {
    /// Bytes as of the last measurement, and those of files since.
    used: AtomicU64,
    /// Bytes that the disk has left.
    free: AtomicU64,
    max_size: Option<u64>,
    min_free: Option<u64>,
    /// Where the file of an embedded store is.
    folder: Option<PathBuf>,
    was_full: AtomicBool,
}

/// Figures of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreSize {
    /// Bytes in use. What was deleted and can be used again does not count, except on PostgreSQL.
    pub used: u64,
    /// `store.max_size`.
    pub max: Option<u64>,
    /// Whether new messages and files are refused.
    pub is_full: bool,
}

impl Usage {
    pub(super) fn new(settings: &StoreSettings, data_dir: &Path) -> Self {
        let path = sqlite_path(settings, data_dir);
        Self {
            used: AtomicU64::new(0),
            free: AtomicU64::new(u64::MAX),
            max_size: settings.max_size,
            min_free: settings.min_free,
            folder: path.and_then(|path| path.parent().map(Path::to_owned)),
            was_full: AtomicBool::new(false),
        }
    }

    fn size(&self) -> StoreSize {
        let (used, free) = (self.used.load(Ordering::Relaxed), self.free.load(Ordering::Relaxed));
        let is_over = self.max_size.is_some_and(|max| used >= threshold(max));
        let is_short = self.min_free.is_some_and(|min| free < min);
        StoreSize { used, max: self.max_size, is_full: is_over || is_short }
    }

    /// Says once that the store is full, or is not any more.
    fn tell(&self) {
        let StoreSize { used, max, is_full } = self.size();
        if self.was_full.swap(is_full, Ordering::Relaxed) == is_full {
            return;
        }
        if is_full {
            let free = self.free.load(Ordering::Relaxed);
            tracing::error!(
                used,
                max,
                free = (free != u64::MAX).then_some(free),
                "the message store is full: new messages and files are refused, reports and what was accepted are still \
                 stored. Raise store.max_size, free space on the disk (store.min_free), or lower routing.attachments.keep"
            );
        } else {
            tracing::info!(used, max, "the message store has room again");
        }
    }
}

/// Bytes of a store of this size at which new messages are refused.
pub fn threshold(max: u64) -> u64 {
    max / 10 * 9
}

impl Database {
    /// How full the store is, as of a few seconds ago.
    pub fn size(&self) -> StoreSize {
        self.usage.size()
    }

    /// Counts bytes that were just written, until they are measured.
    pub fn note_written(&self, bytes: usize) {
        self.usage.used.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Keeps measuring until the process ends.
    pub(super) async fn watch_size(&self) {
        loop {
            match self.measure().await {
                Ok(used) => self.usage.used.store(used, Ordering::Relaxed),
                Err(error) => tracing::debug!(%error, "the size of the message store can't be read"),
            }
            if let Some(free) = self.usage.folder.as_deref().and_then(free_space) {
                self.usage.free.store(free, Ordering::Relaxed);
            }
            self.usage.tell();
            tokio::time::sleep(INTERVAL).await;
        }
    }

    async fn measure(&self) -> Result<u64, StorageError> {
        let sql = match self.is_shared() {
            true => "SELECT pg_database_size(current_database())",
            false => IN_FILE,
        };
        let read = move |tx: &mut Transaction<'_>| tx.query_one(sql, &[])?.map_or(Ok(0), |row| row.int(0));
        self.read_aside(read).await.map(|bytes| u64::try_from(bytes).unwrap_or(0))
    }
}

/// Pages that hold something.
pub(super) const IN_FILE: &str = "SELECT (page_count - freelist_count) * page_size \
     FROM pragma_page_count(), pragma_freelist_count(), pragma_page_size()";

/// Bytes that this process may still write to the disk of a folder.
pub fn free_space(folder: &Path) -> Option<u64> {
    let disk = rustix::fs::statvfs(folder).ok()?;
    Some(disk.f_bavail.saturating_mul(disk.f_frsize))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(max_size: Option<u64>, min_free: Option<u64>) -> Usage {
        let settings = StoreSettings { max_size, min_free, ..StoreSettings::default() };
        Usage::new(&settings, Path::new("."))
    }

    #[test]
    fn a_store_is_full_before_its_last_byte_is_written() {
        let usage = usage(Some(1_000), None);
        for (used, is_full) in [(0, false), (899, false), (900, true), (2_000, true)] {
            usage.used.store(used, Ordering::Relaxed);
            assert_eq!(usage.size(), StoreSize { used, max: Some(1_000), is_full });
        }
    }

    #[test]
    fn a_disk_without_space_is_full_whatever_the_store_has() {
        let usage = usage(None, Some(1_000));
        assert!(!usage.size().is_full, "not measured yet");
        for (free, is_full) in [(1_000, false), (999, true)] {
            usage.free.store(free, Ordering::Relaxed);
            assert_eq!(usage.size().is_full, is_full);
        }
        assert!(free_space(Path::new(".")).is_some_and(|free| free > 0));
    }
}
