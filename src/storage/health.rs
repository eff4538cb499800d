//! Whether the store answers, for load balancers: asked now and then, not once a request.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::{Database, StorageError};

/// Time between two questions.
const INTERVAL: Duration = Duration::from_secs(2);
/// Time for an answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the last question came to.
pub(super) struct Health(AtomicBool);

impl Default for Health {
    /// The store was just opened, so it is there.
    fn default() -> Self {
        Self(AtomicBool::new(true))
    }
}

impl Database {
    /// Whether something can be stored, as of a few seconds ago.
    pub fn is_available(&self) -> bool {
        self.health.0.load(Ordering::Relaxed)
    }

    /// Keeps asking, and measuring, until the process ends.
    pub async fn watch(self) {
        tokio::join!(self.watch_health(), self.watch_size());
    }

    async fn watch_health(&self) {
        loop {
            tokio::time::sleep(INTERVAL).await;
            let answer = tokio::time::timeout(PATIENCE, self.ask()).await;
            let answer =
                answer.unwrap_or_else(|_| Err(StorageError::Unavailable("no answer in time".to_owned())));
            let was = self.health.0.swap(answer.is_ok(), Ordering::Relaxed);
            match answer {
                Err(error) if was => tracing::error!(%error, "not ready: the message store does not answer"),
                Ok(()) if !was => tracing::info!("ready again: the message store answers"),
                _ => {}
            }
        }
    }

    /// Goes the way of a message, but writes nothing, so that it costs no flush of the disk.
    async fn ask(&self) -> Result<(), StorageError> {
        let question = "SELECT name FROM server_keys WHERE name = 'thread'";
        self.write(move |tx| tx.query(question, &[]).map(drop)).await
    }
}
