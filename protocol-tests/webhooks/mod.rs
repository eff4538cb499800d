//! Pusher webhooks (`[[apps.webhooks]]`) at a real receiver. The tests' names begin with the rule of the
//! webhooks' reference that they show.

mod crash;
mod delivery;
mod events;
mod libraries;
mod nodes;
mod operating;
mod outages;
mod presence;
mod room;

use std::collections::HashSet;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::names::free_port;
use crate::harness::portal::{Portal, Received};
use crate::harness::server::{Config, TestServer};

/// All of Pusher's events.
const PUSHERS: &str = r#"["channel_occupied", "channel_vacated", "member_added", "member_removed",
    "client_event", "cache_miss", "subscription_count"]"#;

/// A server whose app `1001` has one webhook, and the receiver.
struct Hooks {
    /// `None` only while it is started anew.
    server: Option<TestServer>,
    portal: Portal,
    config: Config,
    home: TempDir,
    /// Bodies that came.
    seen: HashSet<Vec<u8>>,
}

impl Hooks {
    /// With lines for the app and for its webhook.
    async fn start(app: &str, webhook: &str) -> Self {
        Self::with(app, webhook, |config| config).await
    }

    async fn with(app: &str, webhook: &str, change: impl Fn(Config) -> Config) -> Self {
        let portal = Portal::start().await;
        let lines = format!("client_events = \"members\"\n{app}\n{}", table(&portal, webhook));
        let config = Config::new().port(free_port()).app("1001", &lines);
        let config = change(config.server("drain.window = \"0s\""));
        let home = TempDir::new().expect("a temporary folder");
        let server = Some(config.clone().start_in(home.path()));
        Self { server, portal, config, home, seen: HashSet::new() }
    }

    fn server(&self) -> &TestServer {
        self.server.as_ref().expect("running")
    }

    /// Kills the server at once.
    fn kill(&mut self) {
        self.server = None;
    }

    /// Starts it again, on the same port and the same data.
    fn revive(&mut self) {
        self.kill();
        self.server = Some(self.config.clone().start_in(self.home.path()));
    }

    /// The only event of the next request, whose signature must be right. Repeats are left out: they have the
    /// same bytes.
    async fn next(&mut self) -> Value {
        loop {
            let request = self.portal.next().await;
            request.expect_signed(self.server().app());
            if self.seen.insert(request.body.clone()) {
                return only(&request);
            }
        }
    }

    /// The next events, each in a request of its own.
    async fn expect(&mut self, events: &[Value]) {
        for expected in events {
            assert_eq!(&self.next().await, expected);
        }
    }
}

/// The table of a webhook at this receiver.
fn table(portal: &Portal, lines: &str) -> String {
    format!("[[apps.webhooks]]\nurl = \"{}\"\nallow_private_addresses = true\n{lines}\n", portal.url())
}

#[track_caller]
fn only(request: &Received) -> Value {
    let events = request.events();
    assert_eq!(events.len(), 1, "{events:?}");
    events[0].clone()
}

fn occupied(channel: &str) -> Value {
    json!({"name": "channel_occupied", "channel": channel})
}

fn vacated(channel: &str) -> Value {
    json!({"name": "channel_vacated", "channel": channel})
}

fn added(channel: &str, user: &str) -> Value {
    json!({"name": "member_added", "channel": channel, "user_id": user})
}

fn removed(channel: &str, user: &str) -> Value {
    json!({"name": "member_removed", "channel": channel, "user_id": user})
}
