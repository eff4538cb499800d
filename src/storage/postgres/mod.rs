//! PostgreSQL: threads that each have a connection take jobs from one queue.
//!
//! A job is a transaction (READ COMMITTED; reads on one snapshot). Conflicts run it again. A connection that
//! breaks before the commit does so once too; one that breaks in the commit leaves the outcome unknown, and
//! the caller is told. While the server can't be reached, jobs wait [`queue::PATIENCE`] and are refused.

mod lanes;
mod migrate;
mod queue;
mod session;
mod translate;
mod worker;

use std::sync::Arc;
use std::thread;

use self::lanes::Lanes;
use self::queue::Queue;
use self::session::{Server, Session};
use self::worker::Worker;
use super::job::Job;
use super::{Purpose, StorageError};

pub(super) struct Postgres {
    queue: Arc<Queue>,
}

impl Postgres {
    /// Connects, brings the tables up to date, and starts `pool` threads.
    pub(super) fn open(url: &str, pool: usize) -> Result<Self, StorageError> {
        let server = Server::parse(url)?;
        // On a thread of its own: the caller's may belong to a runtime, which must not be blocked by another.
        let opened = thread::scope(|scope| {
            let thread = scope.spawn(|| {
                migrate::migrate(&mut Session::open(&server)?)?;
                server.probe()
            });
            thread.join().unwrap_or_else(|_| Err(StorageError::Fault("the migration panicked".to_owned())))
        });
        if !opened? {
            tracing::info!("a pooler shares the connections to PostgreSQL: statements are not kept prepared");
        }
        let postgres = Self { queue: Arc::new(Queue::new()) };
        let lanes = Arc::new(Lanes::new());
        for number in 0..pool.max(1) {
            let worker = Worker::new(server.clone(), postgres.queue.clone(), lanes.clone());
            thread::Builder::new()
                .name(format!("postgres-{number}"))
                .spawn(move || worker.work())
                .map_err(|error| StorageError::Unavailable(error.to_string()))?;
        }
        Ok(postgres)
    }

    /// Connects and changes nothing; answers whether connections keep their server process, which a pooler
    /// may prevent. Blocks, and must not be called on a runtime.
    pub(super) fn probe(url: &str) -> Result<bool, StorageError> {
        Server::parse(url)?.probe()
    }

    pub(super) fn run(&self, job: Box<dyn Job>, purpose: Purpose) -> Result<(), StorageError> {
        self.queue.push(job, purpose)
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.queue.close();
    }
}
