//! The process's limit of open files, and who gets them: what the store, the carrier, receivers of webhooks, the operators
//! and requests need is set apart at the start, and clients have the rest. So clients can't take the last one.

use crate::admin;
use crate::config::{AppSettings, DirectoryMode, Settings};
use crate::hub;
use crate::outbox;

/// Standard streams, listeners, signals, what libraries keep.
const PROCESS: u64 = 24;
/// A runtime: its event queue and what wakes it.
const RUNTIME: u64 = 4;
/// The three connections to SQLite with their file and log each, its shared memory, its owner's lock, files watched, and
/// what SQLite opens for a moment.
const SQLITE: u64 = 24;
/// Names that are resolved, files that are read for a moment.
const PASSING: u64 = 16;
/// Copies of the carrier's files that are made at once.
const COPIES: u64 = 4;
/// Part of a small limit that requests may have.
const REQUESTS_PART: u64 = 8;
/// Part of a small limit that operators may have.
const ADMIN_PART: u64 = 16;

/// What the limit was and what it is now.
#[derive(Clone, Copy, Debug)]
pub struct FileLimit {
    /// Soft limit at start.
    pub before: u64,
    /// Soft limit now; the hard limit where the system allowed it.
    pub after: u64,
}

/// Descriptors by use, at the configured limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descriptors {
    /// WebSockets.
    pub connections: u64,
    /// Requests, and clients that are told why they can't stay.
    pub requests: u64,
    /// The operators' port.
    pub admin: u64,
    /// The store and the portals' databases.
    pub store: u64,
    /// Calls to carriers, callbacks and webhooks.
    pub outgoing: u64,
    /// The process itself.
    pub process: u64,
}

/// Raises the soft limit to the hard limit.
pub fn raise_file_limit() -> FileLimit {
    let before = rlimit::getrlimit(rlimit::Resource::NOFILE).map_or(0, |(soft, _)| soft);
    let after = rlimit::increase_nofile_limit(u64::MAX).unwrap_or(before);
    FileLimit { before, after }
}

impl Descriptors {
    /// What these settings need.
    pub fn of(settings: &Settings) -> Self {
        Self {
            connections: settings.server.max_connections as u64,
            requests: hub::REQUEST_SOCKETS as u64,
            admin: admin::MAX_CONNECTIONS as u64,
            store: store(settings),
            outgoing: outgoing(settings),
            process: PROCESS + PASSING + RUNTIME * (super::shard_count(&settings.server) as u64 + 2),
        }
    }

    /// All of them.
    pub fn sum(self) -> u64 {
        self.connections + self.reserve()
    }

    /// All but the clients'.
    pub fn reserve(self) -> u64 {
        self.requests + self.admin + self.store + self.outgoing + self.process
    }

    /// As many as fit below a limit: fewer connections and, if it is small, fewer requests. One connection is left in any
    /// case.
    #[must_use]
    pub fn within(self, limit: u64) -> Self {
        if self.sum() <= limit {
            return self;
        }
        let requests = self.requests.min(limit / REQUESTS_PART).max(1);
        let admin = self.admin.min(limit / ADMIN_PART).max(1);
        let reserve = Self { requests, admin, ..self }.reserve();
        let connections = self.connections.min(limit.saturating_sub(reserve)).max(1);
        Self { connections, requests, admin, ..self }
    }
}

fn store(settings: &Settings) -> u64 {
    let needs_one = settings.apps.iter().any(|app| app.routing.enabled || !app.webhooks.is_empty());
    let own = match settings.store.url.expose().starts_with("sqlite:") {
        _ if !needs_one => 0,
        true => SQLITE,
        false => settings.store.pool as u64 + 1,
    };
    let directories = settings.apps.iter().map(|app| &app.routing).filter(|routing| routing.enabled);
    let pools = directories.filter(|routing| routing.directory.mode == DirectoryMode::Sql);
    own + pools.map(|routing| routing.directory.pool as u64).sum::<u64>()
}

fn outgoing(settings: &Settings) -> u64 {
    let of_endpoints = outbox::REQUESTS_AT_ONCE as u64;
    let of_app = |app: &AppSettings| {
        let webhooks = app.webhooks.len() as u64 * of_endpoints;
        let routing = &app.routing;
        if !routing.enabled {
            return webhooks;
        }
        let callbacks = if routing.callbacks.url.is_some() { of_endpoints } else { 0 };
        let has_carrier = routing.telnyx.api_key.is_some();
        let carrier = if has_carrier { routing.telnyx.concurrency as u64 + COPIES } else { 0 };
        webhooks + callbacks + carrier
    };
    settings.apps.iter().map(of_app).sum()
}

impl FileLimit {
    /// Lowers `server.max_connections` to what the limit leaves for clients, and answers what everybody gets. Logs both
    /// limits if they differ. In development mode nobody chose the number or will come near it; elsewhere a lower one is
    /// worth a warning.
    pub fn apply(self, settings: &mut Settings) -> Descriptors {
        let needed = Descriptors::of(settings);
        let given = needed.within(self.after);
        if settings.development {
            tracing::debug!(before = self.before, now = self.after, "limit of open files");
        } else {
            if self.after != self.before {
                tracing::info!(before = self.before, now = self.after, "limit of open files");
            }
            if given != needed {
                tracing::warn!(
                    limit = self.after,
                    needed = needed.sum(),
                    max_connections = settings.server.max_connections,
                    connections = given.connections,
                    "the limit of open files is too low for server.max_connections, so the server takes fewer \
                     connections: raise it (LimitNOFILE=, ulimit -n)"
                );
            }
        }
        settings.server.max_connections = usize::try_from(given.connections).unwrap_or(usize::MAX);
        given
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("no panic").write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn settings() -> Settings {
        let loaded = crate::config::load(&crate::config::Sources::default()).expect("valid");
        let mut settings = Settings { development: false, ..loaded.settings };
        settings.apps = vec![AppSettings::new("1001", "key", "secret")];
        settings.server.max_connections = 1000;
        settings
    }

    fn logged(before: u64, after: u64, settings: &mut Settings) -> String {
        let written = Written::default();
        let writer = written.clone();
        let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).finish();
        tracing::subscriber::with_default(subscriber, || FileLimit { before, after }.apply(settings));
        let bytes = written.0.lock().expect("no panic").clone();
        String::from_utf8(bytes).expect("UTF-8")
    }

    #[test]
    fn clients_get_what_the_limit_leaves() {
        let mut settings = settings();
        let needed = Descriptors::of(&settings);
        assert_eq!(FileLimit { before: 1, after: needed.sum() }.apply(&mut settings), needed);
        assert_eq!(settings.server.max_connections, 1000);
        let many = Descriptors { connections: 50_000, ..needed };
        assert_eq!(many.within(20_000), Descriptors { connections: 20_000 - needed.reserve(), ..needed });
        for limit in [300, 1024, 2000, needed.sum() - 1] {
            let given = needed.within(limit);
            assert!(given.sum() <= limit && given.connections > limit / 3, "{given:?} of {limit}");
        }
        FileLimit { before: 1, after: 1024 }.apply(&mut settings);
        assert_eq!(settings.server.max_connections as u64, needed.within(1024).connections);
        assert_eq!(needed.within(1).connections, 1);
    }

    #[test]
    fn each_use_has_its_part() {
        let mut settings = settings();
        let before = Descriptors::of(&settings);
        settings.apps[0].routing.telnyx.api_key = Some(crate::config::Secret::new("k".to_owned()));
        settings.apps[0].routing.telnyx.concurrency = 40;
        settings.apps[0].webhooks = vec![crate::config::WebhookSettings::default()];
        settings.store.url = crate::config::Secret::new("postgres://localhost/x".to_owned());
        settings.store.pool = 100;
        let after = Descriptors::of(&settings);
        assert_eq!(after.outgoing - before.outgoing, 40 + COPIES + outbox::REQUESTS_AT_ONCE as u64);
        assert_eq!((before.store, after.store), (SQLITE, 101));
        assert_eq!((before.requests, before.admin), (after.requests, after.admin));
    }

    #[test]
    fn the_limit_is_logged_when_it_was_raised_and_when_it_is_too_low() {
        assert_eq!(logged(5000, 5000, &mut settings()), "");
        assert!(logged(1024, 5000, &mut settings()).contains("INFO"));
        let low = logged(1024, 1024, &mut settings());
        assert!(low.contains("WARN") && !low.contains("INFO"), "{low}");
        let mut development = Settings { development: true, ..settings() };
        assert_eq!(logged(264, 264, &mut development), "");
        assert!(development.server.max_connections < 200);
    }
}
