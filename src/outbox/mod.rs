//! What must still happen after a commit: broadcasts to connected clients, callbacks to backends.
//!
//! A row is written in the transaction that causes it, so nothing is announced that was not stored, and
//! nothing stored is forgotten: what a crash left undone is done after the restart (at least once). Rows
//! of one lane (the two sides of a conversation) are performed in the order of their commits.
//!
//! Broadcasts cost nothing but memory, so they are performed right behind the commit, on the storage's
//! thread; [`Outbox::run`] does what that could not. Callbacks wait for others and are claimed from the
//! table.
//!
//! May import `hub`, `storage`, `protocol`, `config`, `http_client`.

mod broadcast;

use std::sync::Arc;

use crate::hub::Hub;
use crate::storage::{Database, StorageError, Transaction};

pub use broadcast::{Broadcast, Publication};

/// How long a row is left to the process that wrote it, in microseconds.
const LEASE: i64 = 30_000_000;

/// The outbox. Cloning shares it.
#[derive(Clone)]
pub struct Outbox {
    database: Database,
    broadcasts: Arc<broadcast::Broadcasts>,
    node: Arc<str>,
}

impl Outbox {
    /// An outbox over this store, publishing through this hub. `node` names this process among those that
    /// share the store.
    pub fn new(database: Database, hub: Hub, node: Arc<str>) -> Self {
        Self { broadcasts: Arc::new(broadcast::Broadcasts::new(hub)), database, node }
    }

    /// Adds a broadcast to a transaction.
    ///
    /// # Errors
    /// Of the store.
    pub fn broadcast(
        &self,
        tx: &mut Transaction<'_>,
        app_id: &str,
        lane: &str,
        broadcast: Broadcast,
        now: i64,
    ) -> Result<(), StorageError> {
        broadcast::add(self, tx, app_id, lane, broadcast, now)
    }

    /// Performs what is left over from before and what could not be performed at once; never ends.
    pub async fn run(self) {
        broadcast::run(&self).await;
    }
}
