//! Server processes lent to several tests: [`shared`] to all that need no settings of their own,
//! a [`SharedServer`] to the tests of one file.
//!
//! One lives while any test holds it and is started anew when needed, so nothing outlives the run.
//! Tests keep apart by [`super::names::unique`] channel names and, where counts of a whole app
//! matter, by an app of their own.

use std::ops::Deref;
use std::sync::{Arc, Mutex, Weak};
use std::thread;

use super::server::{Config, TestServer};

/// Client events on, Pusher's own event size, everything else by default. The first app.
pub const MAIN: &str = "1001";
/// `subscription_count` on.
pub const COUNTING: &str = "1002";
/// Nothing but credentials: client events off, 100 KB events.
pub const DEFAULTS: &str = "1003";
/// `enabled = false`.
pub const DISABLED: &str = "1004";
/// `tls_only = true`.
pub const TLS_ONLY: &str = "1005";
/// Nobody ever subscribes to anything here.
pub const EMPTY: &str = "1006";
/// Client events without a rate limit.
pub const UNLIMITED: &str = "1007";
/// Small limits: 3 members of 64 bytes.
pub const SMALL: &str = "1008";

static COMMON: SharedServer = SharedServer::new(common);

/// A server that is started for the first test that asks and ended by the last that lets go.
#[derive(Debug)]
pub struct SharedServer {
    current: Mutex<Weak<TestServer>>,
    configure: fn() -> Config,
}

impl SharedServer {
    /// For a `static`.
    pub const fn new(configure: fn() -> Config) -> Self {
        Self { current: Mutex::new(Weak::new()), configure }
    }

    /// The server, started if nobody holds it.
    pub fn get(&self) -> Shared {
        let mut current = self.current.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(server) = current.upgrade() {
            return Shared(server);
        }
        let server = Arc::new((self.configure)().start());
        *current = Arc::downgrade(&server);
        Shared(server)
    }
}

/// A share of a server.
#[derive(Debug)]
pub struct Shared(Arc<TestServer>);

impl Deref for Shared {
    type Target = TestServer;

    fn deref(&self) -> &TestServer {
        &self.0
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if thread::panicking() && Arc::strong_count(&self.0) > 1 {
            eprintln!("--- the shared server {} wrote ---\n{}---", self.0.pid, self.0.output());
        }
    }
}

/// The common server, started if nobody holds it.
pub fn shared() -> Shared {
    COMMON.get()
}

/// Two shards, so that what crosses threads is tested on the smallest machine, too.
fn common() -> Config {
    Config::new()
        .server("shards = 2")
        .app(MAIN, "client_events = \"members\"\nevent_size = \"10KB\"")
        .app(COUNTING, "subscription_count = true\nclient_events = \"members\"")
        .app(DEFAULTS, "")
        .app(DISABLED, "enabled = false")
        .app(TLS_ONLY, "tls_only = true")
        .app(EMPTY, "")
        .app(UNLIMITED, "client_events = \"members\"\nclient_event_rate = 0")
        .app(SMALL, "presence_members = 3\npresence_member_size = \"64B\"")
}
