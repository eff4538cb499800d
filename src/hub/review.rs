//! What a reload forbids: connections that the app's new settings would refuse are closed. Their clients come back at
//! once, get the channels that they may still have, and are told why not the others.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::AppHub;
use super::gate::Verdict;
use super::shard::ShardState;
use crate::apps::App;
use crate::protocol::auth::SecretId;
use crate::protocol::channel::ChannelKind;
use crate::protocol::error_code::ErrorCode;

/// As clients are told it.
const REASON: &str = "The application's settings have changed, please reconnect";
/// Kinds of handshakes that a thread knows at a time; most clients of a portal come alike.
const KNOWN: usize = 16;

/// What a client's handshake said, as far as settings may forbid it later.
#[derive(Debug, PartialEq, Eq)]
pub struct Handshake {
    origin: Option<Box<str>>,
    is_secure: bool,
}

impl Handshake {
    /// Of a page of this origin, if it was a page, over TLS or not. Clients that come alike share it.
    pub fn of(origin: Option<&str>, is_secure: bool) -> Arc<Self> {
        thread_local! {
            static SEEN: RefCell<Vec<Arc<Handshake>>> = const { RefCell::new(Vec::new()) };
        }
        SEEN.with_borrow_mut(|seen| {
            let is_like = |it: &&Arc<Self>| it.origin.as_deref() == origin && it.is_secure == is_secure;
            if let Some(known) = seen.iter().find(is_like) {
                return Arc::clone(known);
            }
            if seen.len() == KNOWN {
                seen.remove(0);
            }
            let new = Arc::new(Self { origin: origin.map(Box::from), is_secure });
            seen.push(Arc::clone(&new));
            new
        })
    }
}

/// What became stricter.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stricter {
    /// Secrets that do not count any more.
    secrets: Vec<SecretId>,
    /// Whether the key is another one.
    key: bool,
    origins: bool,
    tls: bool,
    /// Whether public channels are guarded now, or by other rules.
    guard: bool,
}

/// To look at an app's connections after its settings have changed.
#[derive(Clone, Debug)]
pub(super) struct Review {
    stricter: Arc<Stricter>,
    tally: Arc<Tally>,
}

/// How many connections were closed; written to the log when all shards are through.
#[derive(Debug)]
struct Tally {
    app: Box<str>,
    closed: AtomicUsize,
}

impl Stricter {
    fn between(old: &App, new: &App) -> Option<Self> {
        let kept: Vec<SecretId> = new.keys.secrets().collect();
        let is_guarded =
            |app: &App| app.settings.routing.enabled && app.settings.routing.channels.authenticated_public;
        let stricter = Self {
            secrets: old.keys.secrets().filter(|secret| !kept.contains(secret)).collect(),
            key: old.keys.key() != new.keys.key(),
            origins: old.settings.allowed_origins != new.settings.allowed_origins
                && !new.settings.allowed_origins.is_empty(),
            tls: new.settings.tls_only && !old.settings.tls_only,
            guard: is_guarded(new)
                && (!is_guarded(old) || old.settings.routing.channels != new.settings.routing.channels),
        };
        let Self { secrets, key, origins, tls, guard } = &stricter;
        (!secrets.is_empty() || *key || *origins || *tls || *guard).then_some(stricter)
    }
}

impl AppHub {
    /// A look at its connections for each shard, if new settings are stricter than the old ones.
    pub(super) fn reviews(&self, old: &App, new: &App, shards: usize) -> Vec<Review> {
        let Some(stricter) = Stricter::between(old, new).map(Arc::new) else { return Vec::new() };
        let tally = Arc::new(Tally { app: self.id().into(), closed: AtomicUsize::new(0) });
        let review = || Review { stricter: Arc::clone(&stricter), tally: Arc::clone(&tally) };
        std::iter::repeat_with(review).take(shards).collect()
    }
}

impl ShardState {
    /// Closes the connections that are not allowed any more.
    pub(super) fn review(&mut self, review: &Review) {
        let (stricter, tally) = (&review.stricter, Arc::clone(&review.tally));
        let forbidden = self.addresses(|connection| {
            *connection.app.id() == *tally.app && {
                let handshake = connection.app.handshake.as_deref();
                let origin = || handshake.and_then(|it| it.origin.as_deref());
                stricter.key
                    || stricter.tls && !handshake.is_some_and(|it| it.is_secure)
                    || stricter.origins && !connection.app.app().allows_origin(origin())
                    || connection.authorization.may_be_by(&stricter.secrets)
                    || stricter.guard && self.reads_what_is_guarded(connection)
            }
        });
        self.close_all(forbidden, 1, move |state, slot| {
            tally.closed.fetch_add(1, Ordering::Relaxed);
            state.close_with_error(slot, ErrorCode::ReconnectImmediately, REASON);
        });
    }

    /// Whether it is subscribed to a public channel that it would not get at once now.
    fn reads_what_is_guarded(&self, connection: &super::connection::Connection) -> bool {
        let Some(gatekeeper) = self.hub.gatekeeper() else { return false };
        let app = connection.app.app();
        let user = connection.user.as_deref().map(|user| &user.id);
        connection.subscriptions.iter().any(|subscription| {
            let channel = &self.channels[subscription.local as usize].name;
            channel.kind() == ChannelKind::Public
                && !matches!(gatekeeper.check(&app, channel, user), Verdict::Allow)
        })
    }
}

impl Drop for Tally {
    fn drop(&mut self) {
        let connections = *self.closed.get_mut();
        tracing::info!(
            app = &*self.app,
            connections,
            "the server closed the connections that an app's new settings would refuse"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{AppSettings, Secret, ServerSettings};
    use crate::hub::testing::{self, OneShard};

    fn stricter(change: impl FnOnce(&mut AppSettings)) -> Option<Stricter> {
        let old = testing::app();
        let mut new = old.clone();
        change(&mut new);
        Stricter::between(&App::new(old), &App::new(new))
    }

    #[test]
    fn only_what_became_stricter_counts() {
        let secret = |text: &str| Secret::new(text.to_owned());
        assert_eq!(stricter(|_| {}), None);
        assert_eq!(stricter(|app| app.secrets.push(secret("another"))), None);
        assert_eq!(stricter(|app| app.secrets.insert(0, secret("another"))), None);
        assert_eq!(stricter(|app| app.client_event_rate = None), None);
        assert!(
            stricter(|app| app.secrets = vec![secret("another")]).is_some_and(|it| it.secrets.len() == 1)
        );
        assert!(stricter(|app| app.key = "another".to_owned()).is_some_and(|it| it.key));
        assert!(
            stricter(|app| app.allowed_origins = vec!["a.example".to_owned()]).is_some_and(|it| it.origins)
        );
        assert!(stricter(|app| app.tls_only = true).is_some_and(|it| it.tls));
        let guard = |app: &mut AppSettings| {
            app.routing.enabled = true;
            app.routing.channels.authenticated_public = true;
        };
        assert!(stricter(guard).is_some_and(|it| it.guard));
    }

    #[test]
    fn who_was_authorized_by_a_secret_that_is_gone_comes_back_and_the_others_stay() {
        testing::run(async {
            let one = OneShard::with(testing::app(), ServerSettings::default());
            let (mut public, mut private) = (one.connect().await, one.connect().await);
            public.subscribe("news").await;
            private.subscribe("private-news").await;
            let mut app = testing::app();
            app.secrets = vec![Secret::new("another".to_owned())];
            one.hub.set_apps(vec![app]);
            assert_eq!(private.close_code().await, 4200);
            assert!(public.names_until_now().await.is_empty());
        });
    }

    #[test]
    fn handshakes_that_are_alike_are_shared() {
        let one = Handshake::of(Some("https://a.example"), true);
        assert!(Arc::ptr_eq(&one, &Handshake::of(Some("https://a.example"), true)));
        for (origin, is_secure) in
            [(Some("https://a.example"), false), (Some("https://b.example"), true), (None, true)]
        {
            assert_ne!(*one, *Handshake::of(origin, is_secure));
        }
    }
}
