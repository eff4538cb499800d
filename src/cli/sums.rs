//! What the process needs at most at the configured limits.

use crate::config::Settings;
use crate::hub;
use crate::server;

const KB: u64 = 1 << 10;
const MB: u64 = 1 << 20;

/// An idle connection with its place in every list, rounded up (`docs/performance.md`).
const CONNECTION: u64 = 3 * KB;
/// A channel with one subscriber: its entry in the directory, on its shard and with its connection.
const CHANNEL: u64 = 512;
/// The program, its threads, the store's caches.
const PROCESS: u64 = 64 * MB;
/// Events that wait to be written for webhooks.
const WEBHOOKS: u64 = 64 * MB;
/// Attachments on their way in or out.
const ATTACHMENTS: u64 = 256 * MB;

/// Memory by use, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct MemorySum {
    /// `server.memory`.
    clients: u64,
    /// `cache_size` of all apps.
    cache: u64,
    /// Events on their way to connections.
    waiting: u64,
    connections: u64,
    /// As many channels as all connections could have together.
    channels: u64,
    /// What has a fixed size.
    fixed: u64,
}

impl MemorySum {
    pub fn of(settings: &Settings) -> Self {
        let connections = settings.server.max_connections as u64;
        let has_webhooks = settings.apps.iter().any(|app| !app.webhooks.is_empty());
        let routes = settings.apps.iter().any(|app| app.routing.enabled);
        let fixed = [(true, PROCESS), (has_webhooks, WEBHOOKS), (routes, ATTACHMENTS)];
        Self {
            clients: server::memory_budget(&settings.server) as u64,
            cache: settings.apps.iter().map(|app| app.cache_size as u64).sum(),
            waiting: server::shard_count(&settings.server) as u64 * hub::MAX_WAITING_BYTES as u64,
            connections: connections * CONNECTION,
            channels: connections * settings.server.max_channels_per_connection as u64 * CHANNEL,
            fixed: fixed.iter().filter(|(is_used, _)| *is_used).map(|(_, bytes)| bytes).sum(),
        }
    }

    /// All but channels, of which no honest client has as many as it may.
    pub fn usual(self) -> u64 {
        self.clients + self.cache + self.waiting + self.connections + self.fixed
    }

    pub fn text(self, machine: u64) -> String {
        let [sum, clients, cache, waiting, connections, channels, fixed, machine] = [
            self.usual(),
            self.clients,
            self.cache,
            self.waiting,
            self.connections,
            self.channels,
            self.fixed,
            machine,
        ]
        .map(shown);
        format!(
            "at most {sum} of {machine}: {clients} for messages, requests and slow clients (server.memory), {cache} for \
             cache channels (cache_size), {waiting} for events on their way, {connections} for connections, {fixed} for \
             the rest; {channels} more if every connection had max_channels_per_connection channels of its own"
        )
    }
}

/// In megabytes or gigabytes, rounded up.
fn shown(bytes: u64) -> String {
    match bytes.div_ceil(MB) {
        megabytes @ ..10_240 => format!("{megabytes} MB"),
        megabytes => format!("{} GB", megabytes.div_ceil(1024)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, Sources};

    #[test]
    fn every_limit_of_the_configuration_is_in_the_sum() {
        let mut settings = config::load(&Sources::default()).expect("valid").settings;
        settings.apps = vec![config::AppSettings::new("1001", "key", "secret")];
        settings.server.memory = Some(100 << 20);
        settings.server.shards = std::num::NonZeroU32::new(2);
        settings.server.max_connections = 1024;
        settings.apps[0].cache_size = 7 << 20;
        let before = MemorySum::of(&settings);
        assert_eq!((before.clients, before.cache, before.waiting), (100 * MB, 7 * MB, 128 * MB));
        assert_eq!((before.connections, before.channels), (3 * MB, 1024 * 1_000 * 512));
        settings.server.memory = Some(101 << 20);
        settings.apps[0].cache_size = 9 << 20;
        settings.server.max_connections = 2048;
        assert_eq!(MemorySum::of(&settings).usual() - before.usual(), 6 * MB);
        let text = before.text(2 << 30);
        assert!(text.contains("100 MB for messages") && text.contains("of 2048 MB"), "{text}");
        assert_eq!([shown(1), shown(20 << 30)], ["1 MB", "20 GB"]);
    }
}
