//! Where the router, webhooks and the outbox keep what must survive a crash: an embedded SQLite file or
//! PostgreSQL.
//!
//! # Use
//! [`Database::open`] connects and migrates. Work is given as a synchronous job, run inside one
//! transaction on a thread of the storage's own:
//!
//! ```ignore
//! let id = database.write(move |tx| {
//!     let rows = tx.query("INSERT INTO contacts (…) VALUES (?1, …) RETURNING id", &[app.into()])?;
//!     Ok::<_, StorageError>(rows[0].int(0)?)
//! }).await?;
//! ```
//!
//! An `Err` rolls the job back, as does a statement that failed, whatever the job answers after it. When
//! a job answers `Ok`, what it wrote is on disk. Jobs may be run more than once (PostgreSQL: conflicts, a
//! lost connection), so they have no other effect than on the database and through
//! [`Transaction::on_commit`]. Their threads run nothing else meanwhile: a job does not wait for anything
//! but its statements.
//!
//! SQL is written once: numbered parameters (`?1`), integers of 64 bits, text, bytes. What only PostgreSQL
//! needs stands in a comment, `/* FOR UPDATE */` or `/* RETURNING … */` (SQLite has one writer anyway). There `SUM` of integers
//! is NUMERIC: cast it to BIGINT.
//!
//! May import `config`.

mod clock;
mod health;
mod job;
mod migrations;
mod postgres;
mod probe;
mod sqlite;
#[cfg(test)]
mod tests;
mod usage;
mod value;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::{Semaphore, oneshot};

pub use clock::{ClockStep, follow as follow_clock, is_settled as clock_is_settled, now};
pub use probe::{count, probe, used};
pub use usage::{StoreSize, free_space, threshold};
pub use value::{Row, Value};

use crate::config::StoreSettings;
use job::TypedJob;

/// A store. Cloning shares it.
#[derive(Clone)]
pub struct Database {
    backend: Arc<Backend>,
    health: Arc<health::Health>,
    /// Turns of large reads.
    aside: Arc<Semaphore>,
    usage: Arc<usage::Usage>,
}

enum Backend {
    Sqlite(sqlite::Sqlite),
    Postgres(postgres::Postgres),
}

/// What a job works with.
pub struct Transaction<'a> {
    connection: &'a mut dyn Connection,
    on_commit: Vec<(String, Effect)>,
    failure: Option<StorageError>,
}

/// What follows a commit.
type Effect = Box<dyn FnOnce() + Send>;

/// One connection inside a transaction.
trait Connection {
    fn query(&mut self, sql: &'static str, values: &[Value]) -> Result<Vec<Row>, StorageError>;
    fn execute(&mut self, sql: &'static str, values: &[Value]) -> Result<u64, StorageError>;
    fn insert(&mut self, sql: &'static str, values: &[Value]) -> Result<Option<i64>, StorageError>;
    fn lock(&mut self, sql: &'static str, values: &[Value]) -> Result<bool, StorageError>;
    fn next_id(&mut self, table: &'static str) -> Result<i64, StorageError>;
}

/// Why the store did not do something.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StorageError {
    /// It can't be reached or written to. Nothing of the job remains, unless the text says that this is
    /// not known: the connection was lost in a commit.
    #[error("the message store is not available: {0}")]
    Unavailable(String),
    /// Another process serves from the same file.
    #[error("another server uses the database file {0}")]
    Owned(String),
    /// More work waits than may wait.
    #[error("the message store is overloaded")]
    Overloaded,
    /// Another transaction was in the way: the job is run again, and this is only its answer when that
    /// did not help.
    #[error("the message store had a conflict")]
    Conflict,
    /// A statement or a row is not what the program expects: a fault of ours.
    #[error("the message store has a fault: {0}")]
    Fault(String),
}

/// What a job's transaction is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    /// Its commit is flushed as soon as the disk is free.
    Write,
    /// Its commit is flushed with another one.
    WriteLazily,
    /// It has nothing to commit.
    Read,
    /// The same, of something large: it must not keep other reads back.
    ReadAside,
}

/// Large reads at the same time.
const ASIDE: usize = 2;

impl Database {
    /// Opens the store for a server: creates and migrates its tables, and makes this process the only server of an
    /// SQLite file. SQLite files are relative to `data_dir`. Blocks; for PostgreSQL until the first connection is made.
    ///
    /// # Errors
    /// Why it can't be used; [`StorageError::Owned`] if another process serves from the file.
    pub fn own(settings: &StoreSettings, data_dir: &Path) -> Result<Self, StorageError> {
        Self::open_as(settings, data_dir, false)
    }

    /// As [`Self::own`], beside a server that may run with the same store: for a command.
    ///
    /// # Errors
    /// Why it can't be used.
    pub fn open(settings: &StoreSettings, data_dir: &Path) -> Result<Self, StorageError> {
        Self::open_as(settings, data_dir, true)
    }

    fn open_as(settings: &StoreSettings, data_dir: &Path, is_shared: bool) -> Result<Self, StorageError> {
        let backend = match sqlite_path(settings, data_dir) {
            Some(path) => Backend::Sqlite(sqlite::Sqlite::open(&path, is_shared)?),
            None => Backend::Postgres(postgres::Postgres::open(settings.url.expose(), settings.pool)?),
        };
        Ok(Self {
            backend: Arc::new(backend),
            health: Arc::default(),
            aside: Arc::new(Semaphore::new(ASIDE)),
            usage: Arc::new(usage::Usage::new(settings, data_dir)),
        })
    }

    /// Runs a job and answers when its writes are on disk.
    ///
    /// # Errors
    /// The job's own, or the storage's.
    pub async fn write<T, E, F>(&self, work: F) -> Result<T, E>
    where
        F: FnMut(&mut Transaction<'_>) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<StorageError> + Send + 'static,
    {
        self.run(work, Purpose::Write).await
    }

    /// Runs a job whose effect may be lost in a crash, without a disk flush of its own. Answers when it
    /// is committed, up to a fifth of a second later.
    ///
    /// # Errors
    /// The job's own, or the storage's.
    pub async fn write_lazily<T, E, F>(&self, work: F) -> Result<T, E>
    where
        F: FnMut(&mut Transaction<'_>) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<StorageError> + Send + 'static,
    {
        self.run(work, Purpose::WriteLazily).await
    }

    /// Runs a job that only reads (and locks no rows), on one state of the data, beside the writers. Answers when all
    /// that it may have seen is on disk.
    /// [`Transaction::on_commit`] has no effect in it.
    ///
    /// # Errors
    /// The job's own, or the storage's.
    pub async fn read<T, E, F>(&self, work: F) -> Result<T, E>
    where
        F: FnMut(&mut Transaction<'_>) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<StorageError> + Send + 'static,
    {
        self.run(work, Purpose::Read).await
    }

    /// As [`Self::read`], for parts of files: beside the other reads, which do not wait for it, and few at a time.
    ///
    /// # Errors
    /// The job's own, or the storage's.
    pub async fn read_aside<T, E, F>(&self, work: F) -> Result<T, E>
    where
        F: FnMut(&mut Transaction<'_>) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<StorageError> + Send + 'static,
    {
        let _turn = self.aside.acquire().await;
        self.run(work, Purpose::ReadAside).await
    }

    /// Waits until the store is of no use to this process any more and the next process would do better; answers
    /// why. Never for PostgreSQL, which is connected to again.
    pub async fn breaks(&self) -> String {
        match &*self.backend {
            Backend::Sqlite(sqlite) => sqlite.breaks().await,
            Backend::Postgres(_) => std::future::pending().await,
        }
    }

    /// Whether several processes may share this store.
    pub fn is_shared(&self) -> bool {
        matches!(*self.backend, Backend::Postgres(_))
    }

    async fn run<T, E, F>(&self, work: F, purpose: Purpose) -> Result<T, E>
    where
        F: FnMut(&mut Transaction<'_>) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<StorageError> + Send + 'static,
    {
        let (sender, receiver) = oneshot::channel();
        let job = Box::new(TypedJob::new(work, sender));
        match &*self.backend {
            Backend::Sqlite(sqlite) => sqlite.run(job, purpose)?,
            Backend::Postgres(postgres) => postgres.run(job, purpose)?,
        }
        receiver
            .await
            .unwrap_or_else(|_| Err(StorageError::Unavailable("its thread has ended".to_owned()).into()))
    }
}

impl Transaction<'_> {
    fn new(connection: &mut dyn Connection) -> Transaction<'_> {
        Transaction { connection, on_commit: Vec::new(), failure: None }
    }

    /// Rows of a statement.
    ///
    /// # Errors
    /// The statement failed; the job must give up. All further statements fail in the same way.
    pub fn query(&mut self, sql: &'static str, values: &[Value]) -> Result<Vec<Row>, StorageError> {
        self.attempt(|connection| connection.query(sql, values))
    }

    /// The first row of a statement.
    ///
    /// # Errors
    /// As [`Transaction::query`].
    pub fn query_one(&mut self, sql: &'static str, values: &[Value]) -> Result<Option<Row>, StorageError> {
        Ok(self.query(sql, values)?.into_iter().next())
    }

    /// Runs a statement; answers how many rows it touched.
    ///
    /// # Errors
    /// As [`Transaction::query`].
    pub fn execute(&mut self, sql: &'static str, values: &[Value]) -> Result<u64, StorageError> {
        self.attempt(|connection| connection.execute(sql, values))
    }

    /// Runs an INSERT of one row into a table with `id`; answers the row's id, or `None` when a conflict had it
    /// do nothing.
    ///
    /// # Errors
    /// As [`Transaction::query`].
    pub fn insert(&mut self, sql: &'static str, values: &[Value]) -> Result<Option<i64>, StorageError> {
        self.attempt(|connection| connection.insert(sql, values))
    }

    /// Holds the rows of a statement, which locks them, until the transaction ends; answers whether others may have
    /// written what was read before. SQLite's one writer has nobody to hold them against.
    ///
    /// # Errors
    /// As [`Transaction::query`].
    pub fn lock(&mut self, sql: &'static str, values: &[Value]) -> Result<bool, StorageError> {
        self.attempt(|connection| connection.lock(sql, values))
    }

    /// Takes the next id of a table without a row for it: greater than all that were given.
    ///
    /// # Errors
    /// As [`Transaction::query`].
    pub fn next_id(&mut self, table: &'static str) -> Result<i64, StorageError> {
        self.attempt(|connection| connection.next_id(table))
    }

    /// Another transaction was in the way, seen by its effect: the job gives up with this and is run again
    /// (by PostgreSQL; with SQLite's one writer nothing can be in the way).
    pub fn conflict(&mut self) -> StorageError {
        self.failure.get_or_insert(StorageError::Conflict).clone()
    }

    /// Has something done right after the commit, on the storage's thread: it must be quick. Effects of
    /// one lane are run in the order of their commits; transactions that share one therefore commit one after
    /// the other. Effects of the lane "" have no order and wait for nobody.
    pub fn on_commit(&mut self, lane: impl Into<String>, effect: impl FnOnce() + Send + 'static) {
        self.on_commit.push((lane.into(), Box::new(effect)));
    }

    /// Runs a statement unless one failed before: PostgreSQL would only say that the transaction is over,
    /// and the first failure decides whether the job is run again.
    fn attempt<T>(
        &mut self,
        statement: impl FnOnce(&mut dyn Connection) -> Result<T, StorageError>,
    ) -> Result<T, StorageError> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        statement(self.connection).inspect_err(|error| self.failure = Some(error.clone()))
    }
}

/// The file of an embedded store.
pub fn sqlite_path(settings: &StoreSettings, data_dir: &Path) -> Option<PathBuf> {
    let path = settings.url.expose().strip_prefix("sqlite:")?;
    Some(data_dir.join(path.strip_prefix("//").unwrap_or(path)))
}
