//! SQLite: one thread writes, one flushes the disk, one reads, one reads files, one moves what was written from the log
//! into the file.
//!
//! A message that was answered survives a power failure, so each answer needs a flush of the disk, which
//! may take a hundred times as long as what is to be flushed. One flush therefore serves all jobs that were
//! committed before it (group commit), and meanwhile the writer runs those that come next:
//!
//! - `writer` runs jobs in one transaction, and has the next one ready when a flush is over. Its commit writes to the
//!   log (`-wal`) and does not flush (`synchronous=NORMAL`).
//! - `flusher` flushes the log, and only then has the jobs' effects follow and their answers given.
//! - `reader` answers what it read of a commit when that is flushed, too.
//! - `checkpoint` copies pages from the log into the file before the log gets long.
//!
//! One server owns the file (`owner`). Before anything is acknowledged, `files` looks whether the file is still there.

mod checkpoint;
mod files;
mod flusher;
mod owner;
mod reader;
mod session;
mod writer;

use std::error::Error;
use std::fmt::Display;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::mem::ManuallyDrop;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Sender, TrySendError, bounded};
use rusqlite::{Connection as Sqlite3, ErrorCode, OpenFlags, TransactionBehavior};

use super::job::Job;
use super::migrations::{self, SQLITE, STEPS};
use super::{Purpose, StorageError};
use checkpoint::Log;
use files::Files;
use flusher::{Flusher, Flushes};
use owner::Owner;
use session::Session;

/// Jobs that may wait.
const QUEUE: usize = 16_384;
/// How long another process (an import) may hold the file.
const BUSY: Duration = Duration::from_secs(5);

pub(super) struct Sqlite {
    writer: Sender<(Box<dyn Job>, Purpose)>,
    reader: Sender<Box<dyn Job>>,
    /// Of files, for which no list waits.
    files: Sender<Box<dyn Job>>,
    flushes: Arc<Flushes>,
}

impl Sqlite {
    /// Opens or creates the file and brings its tables up to date. Unless it is `shared`, this process becomes the
    /// owner, or is refused.
    pub(super) fn open(path: &Path, is_shared: bool) -> Result<Self, StorageError> {
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            fs::create_dir_all(folder).map_err(|error| unavailable_at(path, &error))?;
        }
        create(path).map_err(|error| unavailable_at(path, &error))?;
        let owner = if is_shared { None } else { Some(Owner::take(path)?) };
        // Before the connections: see `Files::database`.
        let file = File::options().read(true).write(true).open(path);
        let file = ManuallyDrop::new(file.map_err(|error| unavailable_at(path, &error))?);
        let mut write = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        migrate(&mut write).map_err(|error| unavailable_at(path, &error))?;
        if owner.is_some() {
            mark(&write);
        }
        // After a flush that failed, the log may be whole in the system's memory only. It is copied while it is there,
        // and begun anew: what would be added to it could not be read after a power failure.
        write
            .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
            .map_err(|error| unavailable_at(path, &error))?;
        let files = Arc::new(Files::open(path, file).map_err(|error| unavailable_at(path, &error))?);
        let checkpoint = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        let read = connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;

        let (wake_checkpoint, due) = bounded(1);
        let flushes = Arc::new(Flushes::default());
        let (of_checkpoint, its_files) = (Arc::clone(&flushes), Arc::clone(&files));
        spawn("sqlite-checkpoint", move || {
            checkpoint::run(Session::new(&checkpoint), &due, &its_files, &of_checkpoint);
        })?;
        let (flusher, is_idle) = Flusher::start(Arc::clone(&files), &flushes)?;
        let (writer, jobs) = bounded(QUEUE);
        spawn("sqlite-writer", move || {
            let mut log = Log::new(wake_checkpoint, files);
            writer::run(Session::new(&write), &jobs, &flusher, &is_idle, &mut log);
            drop(owner);
        })?;
        let reader = start_reader("sqlite-reader", read, &flushes)?;
        let files = connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        let files = start_reader("sqlite-files", files, &flushes)?;
        Ok(Self { writer, reader, files, flushes })
    }

    /// Waits until only a restart can help; answers why.
    pub(super) async fn breaks(&self) -> String {
        self.flushes.breaks().await
    }

    pub(super) fn run(&self, job: Box<dyn Job>, purpose: Purpose) -> Result<(), StorageError> {
        match purpose {
            Purpose::Read => self.reader.try_send(job).map_err(|error| refused(&error)),
            Purpose::ReadAside => self.files.try_send(job).map_err(|error| refused(&error)),
            Purpose::Write | Purpose::WriteLazily => {
                self.writer.try_send((job, purpose)).map_err(|error| refused(&error))
            }
        }
    }
}

fn start_reader(
    name: &str,
    connection: Sqlite3,
    flushes: &Arc<Flushes>,
) -> Result<Sender<Box<dyn Job>>, StorageError> {
    let (reader, jobs) = bounded(QUEUE);
    let flushes = Arc::clone(flushes);
    spawn(name, move || reader::run(Session::new(&connection), &jobs, &flushes))?;
    Ok(reader)
}

/// Creates the file, for the owner's eyes only: it holds people's messages. SQLite gives its journal the
/// same permissions. Not while the process has it open: closing a file drops SQLite's locks on it (POSIX).
fn create(path: &Path) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.append(true).create(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(0o600);
    }
    options.open(path).map(drop)
}

/// Has the header's change counter grow, so that a copy from before this start is known by it (see `files`). A server
/// whose disk is full starts without.
fn mark(connection: &Sqlite3) {
    let marked = connection
        .query_row("PRAGMA user_version", [], |row| row.get::<_, i64>(0))
        .and_then(|version| connection.pragma_update(None, "user_version", version));
    if let Err(error) = marked {
        tracing::warn!(%error, "nothing can be written to the database file yet");
    }
}

/// The name of a file that stands beside the database. SQLite follows links before it adds the ending.
fn beside(database: &Path, ending: &str) -> io::Result<PathBuf> {
    let mut name = database.canonicalize()?.into_os_string();
    name.push(ending);
    Ok(name.into())
}

fn refused<T>(error: &TrySendError<T>) -> StorageError {
    match error {
        TrySendError::Full(_) => StorageError::Overloaded,
        TrySendError::Disconnected(_) => StorageError::Unavailable("its thread has ended".to_owned()),
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), StorageError> {
    let thread = thread::Builder::new().name(name.to_owned()).spawn(work);
    thread.map(drop).map_err(|error| StorageError::Unavailable(error.to_string()))
}

fn connect(path: &Path, flags: OpenFlags) -> Result<Sqlite3, StorageError> {
    let connection = Sqlite3::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)
        .map_err(|error| unavailable_at(path, &error))?;
    connection.busy_timeout(BUSY).map_err(|error| unavailable_at(path, &error))?;
    // The change to WAL does not wait as other statements do: it fails at once when another process is
    // just making it.
    let deadline = Instant::now() + BUSY;
    let mut made = connection.execute_batch("PRAGMA journal_mode = WAL");
    while let Err(error) = &made
        && error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy)
        && Instant::now() < deadline
    {
        thread::sleep(BUSY / 500);
        made = connection.execute_batch("PRAGMA journal_mode = WAL");
    }
    made.and_then(|()| {
        connection.execute_batch(
            // macOS flushes its disks' caches only when asked to by fullfsync.
            "PRAGMA synchronous = NORMAL; PRAGMA fullfsync = ON; PRAGMA checkpoint_fullfsync = ON;
             PRAGMA wal_autocheckpoint = 0; PRAGMA journal_size_limit = 67108864;
             PRAGMA cache_size = -16000; PRAGMA temp_store = MEMORY;",
        )
    })
    .map_err(|error| unavailable_at(path, &error))?;
    Ok(connection)
}

pub(super) fn unavailable_at(path: &Path, error: &dyn Display) -> StorageError {
    StorageError::Unavailable(format!("{}: {error}", path.display()))
}

fn migrate(connection: &mut Sqlite3) -> Result<(), Box<dyn Error>> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let done: i64 = transaction.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    let missing = migrations::missing(done)?;
    // Without a need nothing is written: a server whose disk is full still starts.
    if !missing.is_empty() {
        for step in missing {
            transaction.execute_batch(&SQLITE.render(step))?;
        }
        transaction.pragma_update(None, "user_version", STEPS.len() as i64)?;
    }
    Ok(transaction.commit()?)
}

fn failure(error: rusqlite::Error) -> StorageError {
    match error.sqlite_error_code() {
        Some(
            ErrorCode::DatabaseBusy
            | ErrorCode::DatabaseLocked
            | ErrorCode::DiskFull
            | ErrorCode::OutOfMemory
            | ErrorCode::PermissionDenied
            | ErrorCode::FileLockingProtocolFailed
            | ErrorCode::CannotOpen
            | ErrorCode::ReadOnly
            | ErrorCode::SystemIoFailure
            | ErrorCode::DatabaseCorrupt
            | ErrorCode::NotADatabase,
        ) => StorageError::Unavailable(error.to_string()),
        _ => StorageError::Fault(error.to_string()),
    }
}
