//! How many messages may be sent.

use std::time::{Duration, Instant};

use dashmap::DashMap;

use super::error::RoutingError;
use crate::apps::{App, TokenBucket};

/// Users remembered before those with a full bucket are forgotten.
const REMEMBERED: usize = 10_000;

/// Token buckets of users and apps, in memory.
#[derive(Default)]
pub struct Limits {
    users: DashMap<(String, String), TokenBucket>,
    apps: DashMap<String, TokenBucket>,
}

impl Limits {
    /// Takes one message of a user.
    ///
    /// # Errors
    /// `rate_limited`, with the time to wait.
    pub fn take_send(&self, app: &App, user_id: &str) -> Result<(), RoutingError> {
        let (settings, app_id, now) = (&app.settings.routing.send, &app.settings.id, Instant::now());
        if let Some(rate) = settings.user_rate {
            if self.users.len() > REMEMBERED {
                self.users.retain(|_, bucket| !bucket.is_full(now));
            }
            let rate = f64::from(rate.get());
            let mut bucket = self
                .users
                .entry((app_id.clone(), user_id.to_owned()))
                .or_insert_with(|| TokenBucket::with_burst(rate / 60.0, rate, now));
            bucket.set_rate(rate / 60.0, rate, now);
            let taken = bucket.take(1.0, now);
            taken.map_err(|wait| refused("this user sends too many messages", wait))?;
        }
        if let Some(rate) = settings.app_rate {
            let rate = f64::from(rate.get());
            let mut bucket = self.apps.entry(app_id.clone()).or_insert_with(|| TokenBucket::new(rate, now));
            bucket.set_rate(rate, rate, now);
            bucket.take(1.0, now).map_err(|wait| refused("this app sends too many messages", wait))?;
        }
        Ok(())
    }
}

fn refused(message: &str, wait: Duration) -> RoutingError {
    RoutingError::rate_limited(message, wait)
}
