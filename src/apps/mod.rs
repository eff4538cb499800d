//! What an app may do: its keys, limits and switches, and the state that belongs to no connection.
//!
//! An [`App`] is shared by all shards; its locks are held for single steps only.
//!
//! May import `protocol` and `config`.

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod idempotency;
mod origin;
mod pace;
mod rate_limit;

pub use idempotency::{Idempotency, Recorded};
pub use pace::{LeastRate, Pace, TooSlow};
pub use rate_limit::TokenBucket;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::config::{AppSettings, Secret};
use crate::protocol::auth::AppKeys;

/// One tenant.
#[derive(Debug)]
pub struct App {
    /// Its settings.
    pub settings: AppSettings,
    /// Its key and secrets, ready to verify.
    pub keys: AppKeys,
    /// Answers of publishes that carried an idempotency key.
    pub idempotency: Arc<Idempotency>,
    publish_bucket: Option<Mutex<TokenBucket>>,
}

impl App {
    /// An app with these settings.
    pub fn new(settings: AppSettings) -> Self {
        let keys = AppKeys::new(settings.key.clone(), settings.secrets.iter().map(Secret::expose));
        let publish_bucket =
            settings.publish_rate.map(|rate| Mutex::new(TokenBucket::new(rate.get() as f64, Instant::now())));
        Self { settings, keys, idempotency: Arc::default(), publish_bucket }
    }

    /// The same app with other settings.
    pub fn with_settings(&self, settings: AppSettings) -> Self {
        Self { idempotency: Arc::clone(&self.idempotency), ..Self::new(settings) }
    }

    /// Takes `events` from the publish rate.
    ///
    /// # Errors
    /// How long to wait, when there are not that many left.
    pub fn take_publish_rate(&self, events: usize) -> Result<(), Duration> {
        let Some(bucket) = &self.publish_bucket else { return Ok(()) };
        let mut bucket = bucket.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        bucket.take(events as f64, Instant::now())
    }

    /// Whether a page of this `Origin` may connect.
    pub fn allows_origin(&self, origin: Option<&str>) -> bool {
        let allowed = &self.settings.allowed_origins;
        allowed.is_empty()
            || origin.is_some_and(|origin| allowed.iter().any(|pattern| origin::matches(pattern, origin)))
    }

    /// Longest message a client may send, in bytes: room for one event of `event_size` that JSON
    /// escapes made longer, and for the `channel_data` of a subscription.
    pub fn max_client_message(&self) -> usize {
        (self.settings.event_size * 2 + 8 * 1024).max(64 * 1024)
    }

    /// Longest request body, in bytes: a full batch whose every byte is escaped (`\u00XX`).
    pub fn max_request_body(&self) -> usize {
        (self.settings.event_size * self.settings.max_batch * 6 + 64 * 1024).max(1024 * 1024)
    }
}
