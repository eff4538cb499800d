//! Pusher webhooks: tells backends which channels are occupied, who is there, what clients send.
//!
//! The hub's threads leave what they see in a bounded [`queue`]; one task on the service runtime ([`desk`])
//! decides what is news (`presence`: who is back within the delay was never gone), says it in JSON (`told`)
//! and writes it into the outbox (`writer`, `records`), which signs, posts and retries it. Nothing here is on the
//! way of a publication.
//!
//! # What is guaranteed
//! - What is written is delivered at least once, in order for each channel, or given up after
//!   `apps.webhooks.retry_for` and kept to be sent again.
//! - What receivers were told is there is written down with the event itself. After a crash it stays if it
//!   comes back in time; otherwise it is told to be gone.
//! - What happens is written within milliseconds. A crash in between loses client events, cache misses and
//!   counts of that moment, but no coming and going: what is there is looked at again.
//! - The queue is bounded. What finds no room is counted, and what is there is looked at anew.
//! - What waits in the store is bounded when it is written, and nobody takes the room of others (`room`, `ledger`).
//!   Whatever found none or was given up, receivers hear of nothing that goes and did not come (`gaps`, `given_up`).
//!
//! May import `hub`, `outbox`, `storage`, `http_client`, `apps`, `protocol`, `config`.

mod desk;
mod endpoints;
mod gaps;
mod given_up;
mod ledger;
mod presence;
mod queue;
mod records;
mod room;
mod told;
mod writer;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::watch;

use crate::config::AppSettings;
use crate::hub::{Hub, Observer};
use crate::outbox::{Amended, Endpoint, Event, Outbox, Receivers, Target};
use crate::storage::{self, StorageError, Transaction};
use endpoints::Endpoints;
use gaps::Why;
use queue::Queue;

/// The first word of the outbox's names for webhooks.
pub const FAMILY: &str = "webhook";

/// The webhooks of all apps. Cloning shares them.
#[derive(Clone)]
pub struct Webhooks {
    inner: Arc<Inner>,
}

struct Inner {
    outbox: Outbox,
    hub: Hub,
    queue: Arc<Queue>,
    /// Whether what is there must be compared with what is known: other settings want more.
    has_new_settings: AtomicBool,
    /// The process ends: clients leave, and are not gone.
    is_ending: AtomicBool,
    /// Whether the task has written everything and ended.
    has_ended: watch::Sender<bool>,
    tracked: AtomicU64,
}

/// How a webhook stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Standing {
    /// Its name.
    pub name: String,
    /// Its app and the outbox's name for it.
    pub target: Target,
    /// Where it is, without what may be a secret.
    pub address: String,
    /// Requests that wait.
    pub waiting: i64,
    /// Requests that were given up and can be sent again.
    pub failed: i64,
    /// Age of the oldest that waits.
    pub oldest_seconds: f64,
    /// What is there and is to be told when there is room.
    pub held_back: i64,
    /// Events that found no room and were not told.
    pub dropped: i64,
}

impl Webhooks {
    /// Webhooks that observe this hub and write into this outbox; to be made before connections are accepted.
    pub fn new(outbox: Outbox, hub: Hub, apps: &[AppSettings]) -> Self {
        let queue = Arc::new(Queue::default());
        queue.set(Endpoints::new(apps));
        hub.observe(&(Arc::clone(&queue) as Arc<dyn Observer>));
        let inner = Arc::new(Inner {
            outbox: outbox.clone(),
            hub,
            queue,
            has_new_settings: AtomicBool::new(false),
            is_ending: AtomicBool::new(false),
            has_ended: watch::Sender::new(false),
            tracked: AtomicU64::new(0),
        });
        outbox.serve(FAMILY, Arc::clone(&inner) as Arc<dyn Receivers>);
        Self { inner }
    }

    /// Takes other settings. What is there already is known from now on, and not told.
    pub fn configure(&self, apps: &[AppSettings]) {
        self.inner.queue.set(Endpoints::new(apps));
        self.inner.has_new_settings.store(true, Ordering::Release);
        self.inner.outbox.reconnect();
        self.inner.queue.wake();
    }

    /// Decides and writes until the process ends.
    pub async fn run(self) {
        desk::run(&self.inner).await;
        self.inner.has_ended.send_replace(true);
    }

    /// Clients are about to be sent away. They are not told to be gone: they come back, here after the next
    /// start or on another node.
    pub fn freeze(&self) {
        self.inner.is_ending.store(true, Ordering::Release);
    }

    /// Writes what was seen, for so long at most.
    pub async fn stop(&self, limit: Duration) {
        self.freeze();
        let mut ended = self.inner.has_ended.subscribe();
        let stopped = async {
            self.inner.queue.close();
            // Fails with the sender, which is ours.
            let _ = ended.wait_for(|ended| *ended).await;
        };
        if tokio::time::timeout(limit, stopped).await.is_err() {
            tracing::warn!("the store did not write the last webhook events in the time before the end");
        }
    }

    /// What happened and could not be followed, because too much happened at once.
    pub fn lost(&self) -> u64 {
        self.inner.queue.lost()
    }

    /// Channels, members and users that are remembered.
    pub fn tracked(&self) -> u64 {
        self.inner.tracked.load(Ordering::Relaxed)
    }

    /// How all webhooks stand, by app and in the order of the settings.
    ///
    /// # Errors
    /// The store can't be read.
    pub async fn standings(&self) -> Result<Vec<Standing>, StorageError> {
        let endpoints = self.inner.queue.endpoints();
        let mut found = Vec::new();
        for webhook in endpoints.apps().iter().flat_map(|app| &app.webhooks) {
            let target = webhook.target.clone();
            let of = target.clone();
            let depth = self.inner.outbox.database().read(move |tx| records::depth(tx, &of)).await?;
            let age = |oldest: i64| (storage::now() - oldest).max(0) as f64 / 1e6;
            found.push(Standing {
                name: webhook.name.clone(),
                target,
                address: webhook.address(),
                waiting: depth.waiting,
                failed: depth.failed,
                oldest_seconds: depth.oldest.map_or(0.0, age),
                held_back: depth.held_back,
                dropped: depth.dropped,
            });
        }
        Ok(found)
    }

    /// The outbox's name for a webhook; `None`: there is none of this name.
    pub fn target(&self, app_id: &str, name: &str) -> Option<Target> {
        let target = Target { app_id: app_id.to_owned(), kind: format!("{FAMILY}:{name}") };
        self.inner.queue.endpoints().webhook(&target).map(|webhook| webhook.target.clone())
    }
}

impl Receivers for Inner {
    fn endpoint(&self, target: &Target) -> Option<Endpoint> {
        let app = self.hub.app_by_id(&target.app_id)?.app();
        Some(self.queue.endpoints().webhook(target)?.endpoint(app))
    }

    fn settled(&self, tx: &mut Transaction<'_>, target: &Target, id: i64) -> Result<(), StorageError> {
        writer::settled(tx, target, id)
    }

    fn gave_up(&self, tx: &mut Transaction<'_>, target: &Target, event: &Event) -> Result<(), StorageError> {
        given_up::note(tx, target, event)
    }

    fn amends(&self, tx: &mut Transaction<'_>, target: &Target) -> Result<bool, StorageError> {
        gaps::has_any(tx, target, Why::GivenUp)
    }

    fn amend_event(
        &self,
        tx: &mut Transaction<'_>,
        target: &Target,
        event: &mut Event,
    ) -> Result<Amended, StorageError> {
        given_up::amend(tx, target, event)
    }
}

#[cfg(test)]
mod tests;
