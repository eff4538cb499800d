//! How much one user, and one app, may make the server do: messages, calls, edits, conversations and files.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use dashmap::DashMap;

use super::error::RoutingError;
use crate::apps::{App, TokenBucket};
use crate::config::LimitSettings;

/// Buckets remembered before those that are full are forgotten.
const REMEMBERED: usize = 10_000;

const SECOND: f64 = 1.0;
const MINUTE: f64 = 60.0;
const HOUR: f64 = 3_600.0;
/// Seconds whose worth of calls a page may make at once, as when it is opened.
const CALLS_AT_ONCE: f64 = 10.0;

/// Token buckets of users and apps, in memory.
pub struct Limits {
    buckets: DashMap<Owner, TokenBucket>,
    /// Buckets at which it is looked for full ones.
    most: AtomicUsize,
}

/// What is counted, and whose it is: an app's, or that of a user of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Owner {
    what: What,
    app: String,
    user: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum What {
    Messages,
    Calls,
    Edits,
    Conversations,
    Files,
    Bytes,
}

/// So many in so many seconds, and as many at once as `burst`.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Rate {
    per_second: f64,
    burst: f64,
}

impl Rate {
    /// As many at once.
    fn new(count: f64, seconds: f64) -> Self {
        Self { per_second: count / seconds, burst: count }
    }

    fn of(count: Option<NonZeroU32>, seconds: f64) -> Option<Self> {
        count.map(|count| Self::new(f64::from(count.get()), seconds))
    }

    /// Of bytes in an hour.
    fn of_bytes(bytes: Option<u64>) -> Option<Self> {
        bytes.map(|bytes| Self::new(bytes as f64, HOUR))
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self { buckets: DashMap::default(), most: AtomicUsize::new(REMEMBERED) }
    }
}

impl Limits {
    /// Takes one message of a user.
    ///
    /// # Errors
    /// `rate_limited`, with the time to wait; as for all others here.
    pub fn take_send(&self, app: &App, user_id: &str) -> Result<(), RoutingError> {
        let settings = &app.settings.routing.send;
        let of_user = Rate::of(settings.user_rate, MINUTE);
        self.take(app, Some(user_id), What::Messages, of_user, 1.0, "this user sends too many messages")?;
        let of_app = Rate::of(settings.app_rate, SECOND);
        self.take(app, None, What::Messages, of_app, 1.0, "this app sends too many messages")
    }

    /// Takes one call with a user's token.
    pub fn take_call(&self, app: &App, user_id: &str) -> Result<(), RoutingError> {
        let rate = Rate::of(settings(app).user_calls, SECOND)
            .map(|rate| Rate { burst: rate.per_second * CALLS_AT_ONCE, ..rate });
        self.take(app, Some(user_id), What::Calls, rate, 1.0, "this user makes too many calls")
    }

    /// Takes one change of a message.
    pub fn take_edit(&self, app: &App, user_id: &str) -> Result<(), RoutingError> {
        let rate = Rate::of(settings(app).user_edits, MINUTE);
        self.take(app, Some(user_id), What::Edits, rate, 1.0, "this user changes too many messages")
    }

    /// Takes one new conversation.
    pub fn take_conversation(&self, app: &App, user_id: &str) -> Result<(), RoutingError> {
        let rate = Rate::of(settings(app).user_conversations, MINUTE);
        self.take(
            app,
            Some(user_id),
            What::Conversations,
            rate,
            1.0,
            "this user begins too many conversations",
        )
    }

    /// Takes one file that is announced.
    pub fn take_file(&self, app: &App, user_id: &str) -> Result<(), RoutingError> {
        let of_user = Rate::of(settings(app).user_files, MINUTE);
        self.take(app, Some(user_id), What::Files, of_user, 1.0, "this user announces too many files")?;
        let of_app = Rate::of(settings(app).app_files, MINUTE);
        self.take(app, None, What::Files, of_app, 1.0, "this app announces too many files")
    }

    /// Takes bytes that are being brought, also of a file that will not be finished.
    pub fn take_bytes(&self, app: &App, user_id: &str, bytes: usize) -> Result<(), RoutingError> {
        let (bytes, settings) = (bytes as f64, settings(app));
        let of_user = Rate::of_bytes(settings.user_bytes);
        self.take(app, Some(user_id), What::Bytes, of_user, bytes, "this user uploads too many bytes")?;
        let of_app = Rate::of_bytes(settings.app_bytes);
        self.take(app, None, What::Bytes, of_app, bytes, "this app's users upload too many bytes")
    }

    fn take(
        &self,
        app: &App,
        user: Option<&str>,
        what: What,
        rate: Option<Rate>,
        amount: f64,
        refusal: &str,
    ) -> Result<(), RoutingError> {
        let Some(rate) = rate else { return Ok(()) };
        let now = Instant::now();
        self.forget_full(now);
        let owner = Owner { what, app: app.settings.id.clone(), user: user.map(str::to_owned) };
        let new = || TokenBucket::with_burst(rate.per_second, rate.burst, now);
        let mut bucket = self.buckets.entry(owner).or_insert_with(new);
        bucket.set_rate(rate.per_second, rate.burst, now);
        bucket.take(amount, now).map_err(|wait| refused(refusal, wait))
    }

    /// Forgets full buckets when there are many, and looks again when there are twice as many as are left.
    fn forget_full(&self, now: Instant) {
        if self.buckets.len() > self.most.load(Ordering::Relaxed) {
            self.buckets.retain(|_, bucket| !bucket.is_full(now));
            self.most.store(REMEMBERED.max(self.buckets.len() * 2), Ordering::Relaxed);
        }
    }
}

fn settings(app: &App) -> &LimitSettings {
    &app.settings.routing.limits
}

fn refused(message: &str, wait: Duration) -> RoutingError {
    RoutingError::rate_limited(message, wait)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::AppSettings;

    fn app(change: impl FnOnce(&mut LimitSettings)) -> App {
        let mut settings = AppSettings::new("1001", "key", "secret");
        change(&mut settings.routing.limits);
        App::new(settings)
    }

    /// How many are taken before one is refused.
    fn taken(take: impl Fn() -> Result<(), RoutingError>) -> usize {
        (0..10_000).take_while(|_| take().is_ok()).count()
    }

    #[test]
    fn each_user_has_limits_of_their_own_and_the_app_has_one_for_all() {
        let app = app(|limits| {
            limits.user_edits = NonZeroU32::new(3);
            limits.user_conversations = NonZeroU32::new(4);
            limits.user_files = NonZeroU32::new(5);
            limits.app_files = NonZeroU32::new(7);
            limits.user_calls = NonZeroU32::new(2);
        });
        let limits = Limits::default();
        for user in ["7", "8"] {
            assert_eq!(taken(|| limits.take_edit(&app, user)), 3);
            assert_eq!(taken(|| limits.take_conversation(&app, user)), 4);
            assert_eq!(taken(|| limits.take_call(&app, user)), 20);
        }
        assert_eq!(["7", "8", "9"].map(|user| taken(|| limits.take_file(&app, user))), [5, 2, 0]);
        let refusal = limits.take_edit(&app, "7").expect_err("too many");
        assert!(refusal.retry_after.is_some_and(|wait| wait <= Duration::from_secs(20)), "{refusal:?}");
    }

    #[test]
    fn bytes_are_counted_for_users_and_apps() {
        let app = app(|limits| (limits.user_bytes, limits.app_bytes) = (Some(1_000_000), Some(1_500_000)));
        let limits = Limits::default();
        assert_eq!(["7", "8"].map(|user| taken(|| limits.take_bytes(&app, user, 100_000))), [10, 5]);
    }

    #[test]
    fn a_changed_rate_counts_at_once_and_none_is_no_limit() {
        let limits = Limits::default();
        let of = |edits| app(|limits| limits.user_edits = NonZeroU32::new(edits));
        let (few, many) = (of(2), of(5));
        assert_eq!(taken(|| limits.take_edit(&few, "7")), 2);
        assert_eq!(taken(|| limits.take_edit(&many, "7")), 3, "what was taken stays taken");
        assert_eq!(taken(|| limits.take_edit(&of(0), "7")), 10_000);
    }

    #[test]
    fn users_without_debts_are_forgotten() {
        let (app, limits) = (app(|limits| limits.user_edits = NonZeroU32::new(60_000)), Limits::default());
        for user in 0..3 * REMEMBERED {
            limits.take_edit(&app, &user.to_string()).expect("within the limit");
        }
        assert!(limits.buckets.len() <= 2 * REMEMBERED + 1, "{}", limits.buckets.len());
    }
}
