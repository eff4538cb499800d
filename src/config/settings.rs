//! The settings tree after every layer is applied: plain values, no strings left to interpret.

use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroU64};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use super::{RoutingSettings, Secret, StoreSettings, WebhookSettings};

/// Everything the server needs to start.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// `[server]`: the public listener and what holds for every connection.
    pub server: ServerSettings,
    /// `[admin]`: the operators' listener.
    pub admin: AdminSettings,
    /// `[log]`.
    pub log: LogSettings,
    /// `[store]`.
    pub store: StoreSettings,
    /// `[routing]`, which each app's own starts from.
    pub routing: RoutingSettings,
    /// `[[apps]]`, never empty once loaded: development mode adds its own.
    pub apps: Vec<AppSettings>,
    /// True when no app was configured and the development app is used instead.
    pub development: bool,
}

/// `[server]`.
#[derive(Clone, Debug, PartialEq)]
pub struct ServerSettings {
    /// Address of the public port: WebSocket, HTTP API, `/live` and `/ready`. Port 0 takes a free one.
    pub bind: SocketAddr,
    /// Replaces the port of `bind`; `None` once loaded.
    pub port: Option<u16>,
    /// Prefix accepted (not required) before `/app/…` and `/apps/…`; empty or `/ws` without a trailing slash.
    pub path_prefix: String,
    /// Most WebSocket connections of this process; the next one gets 4100.
    pub max_connections: usize,
    /// Bytes of unfinished messages, requests and what waits for slow readers; `None`: half of what the machine or the
    /// control group has.
    pub memory: Option<usize>,
    /// Proxies whose `X-Forwarded-Proto` is believed: it tells `tls_only` apps that a client came over TLS.
    pub trusted_proxies: Vec<IpNet>,
    /// Threads that own sockets; `None`: cores - 1, at least 1.
    pub shards: Option<NonZeroU32>,
    /// Folder for what the server keeps by itself (the development app).
    pub data_dir: PathBuf,
    /// Told to clients as `activity_timeout`, whole seconds: the silence after which they ping.
    pub activity_timeout: Duration,
    /// Silence of a client after which the server pings it.
    pub ping_interval: Duration,
    /// Silence after that ping that closes the connection with 4201.
    pub pong_timeout: Duration,
    /// Bytes one connection may leave unread before it is closed with 4100.
    pub backlog_limit: usize,
    /// Age of the oldest unread frame that closes the connection with 4100.
    pub backlog_max_age: Duration,
    /// Channels one connection may be subscribed to.
    pub max_channels_per_connection: usize,
    /// Time for a request's head, from its first byte.
    pub header_timeout: Duration,
    /// How long a kept-alive HTTP connection may wait for its next request.
    pub idle_timeout: Duration,
    /// What `/ready` takes for ready.
    pub ready: ReadyWhen,
    /// `[server.drain]`.
    pub drain: DrainSettings,
    /// `[server.client]`, which each app's own starts from.
    pub client: ClientSettings,
    /// `[server.admission]`.
    pub admission: AdmissionSettings,
}

/// `[server.admission]`: what of the server's room one address and one app may take.
#[derive(Clone, Debug, PartialEq)]
pub struct AdmissionSettings {
    /// Connections of one address, and never more than half of [`ServerSettings::max_connections`]; `None`: no limit.
    pub address_connections: Option<NonZeroU32>,
    /// Connections that one address may open in a second; `None`: no limit.
    pub address_rate: Option<NonZeroU32>,
    /// Connections that one address may open at once.
    pub address_burst: usize,
    /// Addresses without these limits.
    pub exempt: Vec<IpNet>,
    /// Percent of [`ServerSettings::max_connections`] that are kept for the apps, the same number for each.
    pub app_reserve: usize,
}

/// `[server.client]`, with what `[apps.client]` overrides: the budgets of one connection. Beyond one it is closed with
/// 4100.
#[derive(Clone, Debug, PartialEq)]
pub struct ClientSettings {
    /// Messages a second, but for client events within [`AppSettings::client_event_rate`]; `None`: no limit.
    pub message_rate: Option<NonZeroU32>,
    /// Messages at once.
    pub message_burst: usize,
    /// Requests to subscribe, unsubscribe and sign in, a second; `None`: no limit.
    pub subscription_rate: Option<NonZeroU32>,
    /// Such requests at once.
    pub subscription_burst: usize,
    /// Messages that are answered with an error, a second; a message that can't be read counts ten times. `None`: no
    /// limit.
    pub refusal_rate: Option<NonZeroU32>,
    /// Such messages at once.
    pub refusal_burst: usize,
}

/// `[server.drain]`: what SIGTERM does to live connections.
#[derive(Clone, Debug, PartialEq)]
pub struct DrainSettings {
    /// Closes are spread evenly over this time; zero: all at once.
    pub window: Duration,
    /// Close code sent to established connections: 4200 (reconnect at once) or 4100 (after a second).
    pub close_code: u16,
}

/// `[admin]`.
#[derive(Clone, Debug, PartialEq)]
pub struct AdminSettings {
    /// Address of `/metrics`, `/live` and `/ready`.
    pub bind: SocketAddr,
    /// Bearer token; required when `bind` is not a loopback address.
    pub token: Option<Secret>,
}

/// `[log]`.
#[derive(Clone, Debug, PartialEq)]
pub struct LogSettings {
    /// `error`, `warn`, `info`, `debug`, `trace`, or a filter such as `info,switchboard::traffic=debug`.
    pub level: String,
    /// Line format.
    pub format: LogFormat,
}

/// `log.format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// `[[apps]]`.
#[derive(Clone, Debug, PartialEq)]
pub struct AppSettings {
    /// Path part of the HTTP API, `[A-Za-z0-9_-]+`; digits suit every SDK.
    pub id: String,
    /// Public key, path part of the WebSocket URL.
    pub key: String,
    /// The first signs, all verify. Never empty.
    pub secrets: Vec<Secret>,
    /// False: connections get 4003 or, after a reload, 4100; requests 403.
    pub enabled: bool,
    /// True: plain `ws://` gets 4000.
    pub tls_only: bool,
    /// Origins that may connect; empty: any. `*` stands for any run of characters.
    pub allowed_origins: Vec<String>,
    /// Who may send client events.
    pub client_events: ClientEvents,
    /// Client events a second for each connection; `None`: no limit.
    pub client_event_rate: Option<NonZeroU32>,
    /// Whether `pusher_internal:subscription_count` is sent and `subscription_count` may be asked.
    pub subscription_count: bool,
    /// Whether watchlist events are sent.
    pub watchlist: bool,
    /// Whether a connection must sign in or subscribe to a private channel in time.
    pub authorized_connections: bool,
    /// The time for that; beyond it 4009.
    pub authorization_timeout: Duration,
    /// Bytes of one event's `data`; request and frame limits follow from it.
    pub event_size: usize,
    /// Most connections of this app; `None`: no limit.
    pub max_connections: Option<NonZeroU32>,
    /// What a connection beyond `max_connections` is told.
    pub over_quota: OverQuota,
    /// Channels one publish may name.
    pub max_channels_per_event: usize,
    /// Events one batch may hold.
    pub max_batch: usize,
    /// Distinct members of one presence channel.
    pub presence_members: usize,
    /// Bytes of one member's `user_info`.
    pub presence_member_size: usize,
    /// How long a cache channel remembers its last event.
    pub cache_ttl: Duration,
    /// Bytes of the events that cache channels remember; the oldest is forgotten first.
    pub cache_size: usize,
    /// Events a second through the HTTP API; `None`: no limit.
    pub publish_rate: Option<NonZeroU64>,
    /// How long a channel must be empty, or a user away, before webhooks say so.
    pub webhook_delay: Duration,
    /// `[[apps.webhooks]]`.
    pub webhooks: Vec<WebhookSettings>,
    /// `[server.client]` with what `[apps.client]` overrides.
    pub client: ClientSettings,
    /// `[routing]` with what `[apps.routing]` overrides.
    pub routing: RoutingSettings,
}

/// `server.ready`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadyWhen {
    /// Clients can connect, and events be published.
    Broadcasting,
    /// The store works, too, if an app needs one.
    All,
}

/// `apps.client_events`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientEvents {
    /// Refused with an error.
    Off,
    /// Subscribers of private and presence channels may send them.
    Members,
}

/// `apps.over_quota`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OverQuota {
    /// 4004: clients stop for good, as hosted.
    Stop,
    /// 4100: clients retry after a second.
    Retry,
}

impl Default for ServerSettings {
    fn default() -> Self {
        Self {
            bind: SocketAddr::from(([127, 0, 0, 1], 6001)),
            port: None,
            path_prefix: String::new(),
            max_connections: 50_000,
            memory: None,
            trusted_proxies: vec![
                IpNet::from(std::net::IpAddr::from([127, 0, 0, 1])),
                IpNet::from(std::net::IpAddr::from(std::net::Ipv6Addr::LOCALHOST)),
            ],
            shards: None,
            data_dir: PathBuf::from("switchboard-data"),
            activity_timeout: Duration::from_secs(120),
            ping_interval: Duration::from_secs(25),
            pong_timeout: Duration::from_secs(30),
            backlog_limit: 1 << 20,
            backlog_max_age: Duration::from_secs(10),
            max_channels_per_connection: 1_000,
            header_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(120),
            ready: ReadyWhen::Broadcasting,
            drain: DrainSettings::default(),
            client: ClientSettings::default(),
            admission: AdmissionSettings::default(),
        }
    }
}

impl Default for AdmissionSettings {
    fn default() -> Self {
        let network = |text: &str| text.parse().expect("bug: a network");
        let own = [
            "127.0.0.0/8",
            "10.0.0.0/8",
            "172.16.0.0/12",
            "192.168.0.0/16",
            "169.254.0.0/16",
            "100.64.0.0/10",
            "::1/128",
            "fc00::/7",
            "fe80::/10",
        ];
        Self {
            address_connections: NonZeroU32::new(5_000),
            address_rate: NonZeroU32::new(200),
            address_burst: 5_000,
            exempt: own.map(network).into(),
            app_reserve: 25,
        }
    }
}

impl Default for ClientSettings {
    fn default() -> Self {
        Self {
            message_rate: NonZeroU32::new(200),
            message_burst: 10_000,
            subscription_rate: NonZeroU32::new(50),
            subscription_burst: 5_000,
            refusal_rate: NonZeroU32::new(10),
            refusal_burst: 1_000,
        }
    }
}

impl Default for DrainSettings {
    fn default() -> Self {
        Self { window: Duration::ZERO, close_code: 4100 }
    }
}

impl Default for AdminSettings {
    fn default() -> Self {
        Self { bind: SocketAddr::from(([127, 0, 0, 1], 9601)), token: None }
    }
}

impl Default for LogSettings {
    fn default() -> Self {
        Self { level: "info".to_owned(), format: LogFormat::Text }
    }
}

impl AppSettings {
    /// An app with these credentials and every default.
    pub fn new(id: impl Into<String>, key: impl Into<String>, secret: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            key: key.into(),
            secrets: vec![Secret::new(secret.into())],
            enabled: true,
            tls_only: false,
            allowed_origins: Vec::new(),
            client_events: ClientEvents::Off,
            client_event_rate: NonZeroU32::new(10),
            subscription_count: false,
            watchlist: true,
            authorized_connections: false,
            authorization_timeout: Duration::from_secs(30),
            event_size: 100 * 1024,
            max_connections: None,
            over_quota: OverQuota::Stop,
            max_channels_per_event: 100,
            max_batch: 10,
            presence_members: 100,
            presence_member_size: 1024,
            cache_ttl: Duration::from_secs(30 * 60),
            cache_size: 64 << 20,
            publish_rate: None,
            webhook_delay: Duration::from_secs(3),
            webhooks: Vec::new(),
            client: ClientSettings::default(),
            routing: RoutingSettings::default(),
        }
    }
}
