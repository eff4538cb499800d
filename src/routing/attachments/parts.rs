//! The contents of files: parts in the store, of which a transfer has one at a time in memory. A file is written part by
//! part under a name of its own, and becomes an attachment's with the last one.

use bytes::{Bytes, BytesMut};
use tokio::runtime::Handle;
use ulid::Ulid;

use crate::storage::{self, Database, StorageError, Transaction};

/// Bytes of a part; the last one has fewer. As in migration 11.
pub const PART: usize = 131_072;

/// A file on its way into the store. What was stored of it goes again unless it is finished.
pub struct Spool {
    database: Database,
    /// Deletes what is left, also when the caller's own runtime drops it.
    runtime: Handle,
    file: String,
    /// Parts that are stored.
    stored: i64,
    part: BytesMut,
    size: usize,
    is_finished: bool,
}

/// The end of a file, to be stored in the transaction that makes it an attachment's.
#[derive(Clone, Debug)]
pub struct LastPart {
    /// The file's name.
    pub file: String,
    /// Bytes of the whole file.
    pub size: i64,
    number: i64,
    content: Bytes,
}

impl Spool {
    /// A file without contents.
    pub fn new(database: Database, runtime: Handle) -> Self {
        Self {
            database,
            runtime,
            file: Ulid::generate().to_string(),
            stored: 0,
            part: BytesMut::new(),
            size: 0,
            is_finished: false,
        }
    }

    /// Bytes of all that was added.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Adds bytes; answers whether all that came before them is out of memory, which they may be themselves.
    ///
    /// # Errors
    /// Of the store.
    pub async fn add(&mut self, mut bytes: Bytes) -> Result<bool, StorageError> {
        self.size += bytes.len();
        let mut has_stored = false;
        while self.part.len() + bytes.len() > PART {
            let piece = bytes.split_to(PART - self.part.len());
            self.part.extend_from_slice(&piece);
            self.store().await?;
            has_stored = true;
        }
        self.part.extend_from_slice(&bytes);
        Ok(has_stored)
    }

    async fn store(&mut self) -> Result<(), StorageError> {
        let (file, number, content) = (self.file.clone(), self.stored, self.part.split().freeze());
        let write = move |tx: &mut Transaction<'_>| {
            if number == 0 {
                tx.execute(
                    "INSERT INTO unfinished_files (file, begun_at) VALUES (?1, ?2)",
                    &[(&file).into(), storage::now().into()],
                )?;
            }
            insert(tx, &file, number, &content)
        };
        // Before the answer, which may be lost.
        self.stored += 1;
        self.database.note_written(PART);
        self.database.write(write).await
    }

    /// What is still to be stored.
    pub fn last_part(&mut self) -> LastPart {
        LastPart {
            file: self.file.clone(),
            size: i64::try_from(self.size).unwrap_or(i64::MAX),
            number: self.stored,
            content: self.part.split().freeze(),
        }
    }

    /// The file is an attachment's.
    pub fn finish(mut self) {
        self.is_finished = true;
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        if self.is_finished || self.stored == 0 {
            return;
        }
        let (database, file) = (self.database.clone(), std::mem::take(&mut self.file));
        self.runtime.spawn(async move {
            // What remains is deleted by `delete_unfinished`.
            if let Err(error) = database.write_lazily(move |tx| forget(tx, &file)).await {
                tracing::debug!(%error, "the router can't delete what came of an attachment yet");
            }
        });
    }
}

impl LastPart {
    /// Stores it.
    ///
    /// # Errors
    /// Of the store.
    pub fn store(&self, tx: &mut Transaction<'_>) -> Result<(), StorageError> {
        if self.number > 0 {
            tx.execute("DELETE FROM unfinished_files WHERE file = ?1", &[(&self.file).into()])?;
        }
        insert(tx, &self.file, self.number, &self.content)
    }
}

fn insert(tx: &mut Transaction<'_>, file: &str, number: i64, content: &Bytes) -> Result<(), StorageError> {
    tx.execute(
        "INSERT INTO attachment_parts (file, number, content) VALUES (?1, ?2, ?3)",
        &[file.into(), number.into(), content.to_vec().into()],
    )?;
    Ok(())
}

/// Bytes of a file: at most `most` from `first` on, which end with their part at the latest. Empty: it is not there.
///
/// # Errors
/// Of the store.
pub fn read(tx: &mut Transaction<'_>, file: &str, first: u64, most: usize) -> Result<Vec<u8>, StorageError> {
    let part = PART as u64;
    let (number, offset) = (first / part, first % part);
    let row = tx.query_one(
        "SELECT substr(content, CAST(?3 AS INTEGER), CAST(?4 AS INTEGER)) FROM attachment_parts \
         WHERE file = ?1 AND number = ?2",
        &[file.into(), (number as i64).into(), (offset as i64 + 1).into(), (most as i64).into()],
    )?;
    row.map_or(Ok(Vec::new()), |row| row.bytes(0))
}

/// Deletes the parts of a file.
///
/// # Errors
/// Of the store.
pub fn delete(tx: &mut Transaction<'_>, file: &str) -> Result<(), StorageError> {
    tx.execute("DELETE FROM attachment_parts WHERE file = ?1", &[file.into()]).map(drop)
}

fn forget(tx: &mut Transaction<'_>, file: &str) -> Result<(), StorageError> {
    tx.execute("DELETE FROM unfinished_files WHERE file = ?1", &[file.into()])?;
    delete(tx, file)
}

/// Deletes a few files whose upload began before then and did not end; answers how many.
///
/// # Errors
/// Of the store.
pub fn delete_unfinished(tx: &mut Transaction<'_>, before: i64, most: i64) -> Result<u64, StorageError> {
    let rows = tx.query(
        "SELECT file FROM unfinished_files WHERE begun_at < ?1 ORDER BY begun_at LIMIT ?2 \
         /* FOR UPDATE SKIP LOCKED */",
        &[before.into(), most.into()],
    )?;
    for row in &rows {
        forget(tx, &row.text(0)?)?;
    }
    Ok(rows.len() as u64)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::routing::test_support::Lab;

    const COUNTS: &str = "SELECT CAST(COUNT(*) AS TEXT) FROM attachment_parts UNION ALL \
                          SELECT CAST(COUNT(*) AS TEXT) FROM unfinished_files";

    /// Three parts, of which the last one is not stored yet.
    async fn spool(lab: &Lab) -> Spool {
        let mut spool = lab.router.spool();
        assert_eq!(spool.add(Bytes::from(vec![1; 100_000])).await, Ok(false));
        assert_eq!(spool.add(Bytes::from(vec![2; 200_000])).await, Ok(true));
        assert_eq!((spool.size(), lab.texts(COUNTS).await), (300_000, vec!["2".to_owned(), "1".to_owned()]));
        spool
    }

    #[tokio::test]
    async fn a_finished_file_is_whole() {
        let lab = Lab::new().await;
        let mut spool = spool(&lab).await;
        let last = spool.last_part();
        let (file, end) = (last.file.clone(), last.size - 1);
        lab.write(move |tx| last.store(tx)).await;
        spool.finish();
        assert_eq!(lab.texts(COUNTS).await, ["3", "0"]);
        let read =
            lab.write(move |tx| Ok((read(tx, &file, 99_999, 3)?, read(tx, &file, end.unsigned_abs(), 9)?)));
        assert_eq!(read.await, (vec![1, 2, 2], vec![2]));
    }

    #[tokio::test]
    async fn what_came_of_a_broken_upload_is_deleted() {
        let lab = Lab::new().await;
        drop(spool(&lab).await);
        let gone = async {
            while lab.texts(COUNTS).await != ["0", "0"] {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), gone).await.expect("deleted");
    }

    #[tokio::test]
    async fn what_a_killed_server_left_is_deleted_later() {
        let lab = Lab::new().await;
        // As if the process ended before it was dropped.
        std::mem::forget(spool(&lab).await);
        let now = storage::now();
        assert_eq!(lab.write(move |tx| delete_unfinished(tx, now - 60_000_000, 10)).await, 0);
        assert_eq!(lab.write(move |tx| delete_unfinished(tx, now + 60_000_000, 10)).await, 1);
        assert_eq!(lab.texts(COUNTS).await, ["0", "0"]);
    }
}
