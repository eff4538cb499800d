//! SQLite: one thread writes, one reads.
//!
//! The writer takes all jobs that wait, runs each in a savepoint of one transaction, and commits them
//! together (group commit): with `synchronous=FULL` each commit is a flush of the disk, which is by far
//! the dearest part. Answers are given after it.

use std::error::Error;
use std::fmt::Display;
use std::fs::{self, OpenOptions};
use std::io;
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::types::ValueRef;
use rusqlite::{Connection as Sqlite3, ErrorCode, OpenFlags, ToSql, TransactionBehavior};

use super::job::{self, Job};
use super::migrations::{self, SQLITE, STEPS};
use super::{Connection, Effect, Purpose, Row, StorageError, Value};

/// How long a lazy job waits for company.
const LAZY: Duration = Duration::from_millis(200);
/// Jobs that may wait.
const QUEUE: usize = 16_384;
/// How long a job waits for company at most; never longer than half a flush takes.
const COMPANY: Duration = Duration::from_millis(5);
/// Jobs of one commit.
const GROUP: usize = 1_024;
/// How long another process (an import) may hold the file.
const BUSY: Duration = Duration::from_secs(5);
/// Statements kept prepared.
const STATEMENTS: usize = 256;

pub(super) struct Sqlite {
    writer: SyncSender<(Box<dyn Job>, Purpose)>,
    reader: SyncSender<Box<dyn Job>>,
}

impl Sqlite {
    /// Opens or creates the file and brings its tables up to date.
    pub(super) fn open(path: &Path) -> Result<Self, StorageError> {
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            fs::create_dir_all(folder).map_err(|error| unavailable_at(path, &error))?;
        }
        create(path).map_err(|error| unavailable_at(path, &error))?;
        let mut write = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        migrate(&mut write).map_err(|error| unavailable_at(path, &error))?;
        let read = connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        let (writer, jobs) = sync_channel(QUEUE);
        spawn("sqlite-writer", move || write_all(&write, &jobs))?;
        let (reader, jobs) = sync_channel(QUEUE);
        spawn("sqlite-reader", move || read_all(&read, &jobs))?;
        Ok(Self { writer, reader })
    }

    pub(super) fn run(&self, job: Box<dyn Job>, purpose: Purpose) -> Result<(), StorageError> {
        match purpose {
            Purpose::Read => self.reader.try_send(job).map_err(|error| refused(&error)),
            Purpose::Write | Purpose::WriteLazily => {
                self.writer.try_send((job, purpose)).map_err(|error| refused(&error))
            }
        }
    }
}

/// Creates the file, for the owner's eyes only: it holds people's messages. SQLite gives its journal the
/// same permissions.
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
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    connection.busy_timeout(BUSY).map_err(|error| unavailable_at(path, &error))?;
    // FULL: the last commits survive a power failure; a message whose record vanished after the carrier
    // took it would be sent twice. macOS flushes its disks' caches only when asked to by fullfsync.
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
            "PRAGMA synchronous = FULL; PRAGMA fullfsync = ON; PRAGMA checkpoint_fullfsync = ON;
             PRAGMA wal_autocheckpoint = 4000; PRAGMA journal_size_limit = 67108864;
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

/// The reader's thread; ends with the last handle.
fn read_all(connection: &Sqlite3, jobs: &Receiver<Box<dyn Job>>) {
    while let Ok(mut job) = jobs.recv() {
        let outcome = run(connection, "BEGIN")
            .and_then(|()| job::attempt(job.as_mut(), &mut Handle(connection)).map(drop));
        // Fails when the failure ended the transaction itself, and there is nothing to lose.
        let _ = run(connection, "ROLLBACK");
        job.finish(outcome);
    }
}

/// The writer's thread; ends with the last handle, when all that waits is written.
fn write_all(connection: &Sqlite3, jobs: &Receiver<(Box<dyn Job>, Purpose)>) {
    let mut pace = Pace::default();
    while let Some(group) = gather(jobs, pace) {
        let company = group.len();
        pace = Pace { company, flush: commit(connection, group) };
    }
}

/// What the last commit was like, from which the next one's company is guessed: callers that were just
/// answered come back with their next job a moment later, and a flush that starts without them makes
/// them wait for two.
#[derive(Clone, Copy, Default)]
struct Pace {
    company: usize,
    flush: Duration,
}

/// Waits for a job and takes all that wait with it; lazy ones wait for an urgent one, [`LAZY`] at most.
/// `None` when no more can come.
fn gather(jobs: &Receiver<(Box<dyn Job>, Purpose)>, pace: Pace) -> Option<Vec<Box<dyn Job>>> {
    let (first, mut purpose) = jobs.recv().ok()?;
    let start = Instant::now();
    let mut group = vec![first];
    while group.len() < GROUP {
        let patience = match purpose {
            Purpose::WriteLazily => LAZY,
            _ if group.len() < pace.company => (pace.flush / 2).min(COMPANY),
            _ => Duration::ZERO,
        };
        let next = jobs.recv_timeout(patience.saturating_sub(start.elapsed())).ok();
        let Some((job, its)) = next else { break };
        group.push(job);
        if its != Purpose::WriteLazily {
            purpose = its;
        }
    }
    Some(group)
}

/// Runs a group of jobs in one transaction and answers them; tells how long the commit itself took.
fn commit(connection: &Sqlite3, mut group: Vec<Box<dyn Job>>) -> Duration {
    let mut outcomes = Vec::with_capacity(group.len());
    let mut effects = Vec::new();
    let committed = run(connection, "BEGIN IMMEDIATE").and_then(|()| {
        for job in &mut group {
            outcomes.push(run_in_savepoint(connection, job.as_mut(), &mut effects)?);
        }
        let start = Instant::now();
        run(connection, "COMMIT")?;
        Ok(start.elapsed())
    });
    let flush = match committed {
        Ok(flush) => {
            job::follow(effects);
            flush
        }
        Err(error) => {
            // Fails when the failure ended the transaction itself.
            let _ = run(connection, "ROLLBACK");
            outcomes = vec![Err(error); group.len()];
            Duration::ZERO
        }
    };
    for (job, outcome) in group.into_iter().zip(outcomes) {
        job.finish(outcome);
    }
    flush
}

/// Runs a job and answers its outcome.
///
/// # Errors
/// The whole transaction is lost.
fn run_in_savepoint(
    connection: &Sqlite3,
    job: &mut dyn Job,
    effects: &mut Vec<(String, Effect)>,
) -> Result<Result<(), StorageError>, StorageError> {
    run(connection, "SAVEPOINT job")?;
    let attempt = job::attempt(job, &mut Handle(connection));
    // A full disk or a broken file rolls back everything, not just this job.
    if connection.is_autocommit() {
        let ended = StorageError::Fault("a job ended the transaction".to_owned());
        return Err(attempt.err().unwrap_or(ended));
    }
    let outcome = match attempt {
        Ok(Some(mut its)) => {
            effects.append(&mut its);
            Ok(())
        }
        other => {
            run(connection, "ROLLBACK TO job")?;
            other.map(drop)
        }
    };
    run(connection, "RELEASE job")?;
    Ok(outcome)
}

fn run(connection: &Sqlite3, sql: &str) -> Result<(), StorageError> {
    let mut statement = connection.prepare_cached(sql).map_err(failure)?;
    statement.raw_execute().map(drop).map_err(failure)
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

struct Handle<'a>(&'a Sqlite3);

impl Connection for Handle<'_> {
    fn query(&mut self, sql: &'static str, values: &[Value]) -> Result<Vec<Row>, StorageError> {
        let mut statement = self.0.prepare_cached(sql).map_err(failure)?;
        let columns = statement.column_count();
        let mut rows = statement.query(bound(values).as_slice()).map_err(failure)?;
        let mut found = Vec::new();
        while let Some(row) = rows.next().map_err(failure)? {
            let values = (0..columns).map(|column| row.get_ref(column).map(value).map_err(failure));
            found.push(Row(values.collect::<Result<_, _>>()?));
        }
        Ok(found)
    }

    fn execute(&mut self, sql: &'static str, values: &[Value]) -> Result<u64, StorageError> {
        let mut statement = self.0.prepare_cached(sql).map_err(failure)?;
        statement.execute(bound(values).as_slice()).map(|count| count as u64).map_err(failure)
    }
}

fn bound(values: &[Value]) -> Vec<&dyn ToSql> {
    values.iter().map(parameter).collect()
}

fn parameter(value: &Value) -> &dyn ToSql {
    match value {
        Value::Int(value) => value,
        Value::Text(value) => value,
        Value::Bytes(value) => value,
    }
}

fn value(value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Null => Value::Text(None),
        ValueRef::Integer(value) => Value::Int(Some(value)),
        ValueRef::Real(value) => Value::Text(Some(value.to_string())),
        ValueRef::Text(text) => Value::Text(Some(String::from_utf8_lossy(text).into_owned())),
        ValueRef::Blob(bytes) => Value::Bytes(Some(bytes.to_vec())),
    }
}
