//! The server's own sections, and an app's.

use std::num::{NonZeroU32, NonZeroU64};

use super::{DAY, HOUR, KB, Key, MB, MINUTE, Root, SECOND, Section};
use crate::config::credential::{AppKey, Id, Secrets, Token};
use crate::config::kind::{
    Address, Count, Folder, Kind, Limit, ListOf, Networks, OneOf, Port, Shards, Size, Switch, Time,
    WholeSeconds,
};
use crate::config::shape::{CloseCode, LogLevel, Origins, PathPrefix};
use crate::config::url::{HookUrl, StoreUrl};
use crate::config::webhooks::{CaFile, ChannelPatterns, Headers, WebhookName};
use crate::config::{
    AppSettings, ClientEvents, LogFormat, OverQuota, Settings, WebhookEvent, WebhookSettings,
};

/// In the order of the reference page.
pub(super) static SECTIONS: &[Section] = &[
    section! {
        /// The public listener, and what holds for every connection.
        "server", |settings: Settings| settings.server;
        /// Address of WebSocket, HTTP API, `/live` and `/ready`. Port 0 takes a free one. In development
        /// mode the default is `127.0.0.1:6001` and only a loopback address is accepted.
        bind: Address;
        /// Port instead of the one in `bind`, for environments that set nothing but a port.
        port: Port, example "6001";
        /// Prefix accepted, but not required, before `/app/…` and `/apps/…`.
        path_prefix: PathPrefix;
        /// Most WebSocket connections of this process; the next one is closed with 4100. Needs as many
        /// open files (`switchboard check` compares).
        max_connections: Count<1, 16_000_000>;
        /// Proxies whose `X-Forwarded-Proto` is believed: it tells `tls_only` apps that a client came over TLS.
        trusted_proxies: Networks;
        /// Threads that own sockets; `"auto"`: processor cores less one, at least one.
        shards: Shards;
        /// Folder for what the server keeps by itself (the database file, the development app). Relative to
        /// the current folder.
        data_dir: Folder;
        /// Silence after which the server pings a connection; told to clients as `activity_timeout`.
        activity_timeout: WholeSeconds;
        /// Silence after that ping which closes the connection with 4201.
        pong_timeout: Time<1, HOUR>;
        /// Bytes one connection may leave unread before it is closed with 4100.
        backlog_limit: Size<KB, { 1024 * MB }>;
        /// Age of the oldest unread event that closes the connection with 4100.
        backlog_max_age: Time<1, HOUR>;
        /// Channels one connection may be subscribed to.
        max_channels_per_connection: Count<1, 1_000_000>;
        /// Time for the head of an HTTP request, from its first byte.
        header_timeout: Time<1, HOUR>;
        /// How long a kept-alive HTTP connection may wait for its next request.
        idle_timeout: Time<1, DAY>;
    },
    section! {
        /// What SIGTERM does to live connections.
        "server.drain", |settings: Settings| settings.server.drain;
        /// Closes are spread evenly over this time.
        window: Time<0, HOUR>;
        /// Close code for established connections: 4200 (clients reconnect at once, right behind a load
        /// balancer) or 4100 (after a second, right for a single server that restarts).
        close_code: CloseCode;
    },
    section! {
        /// The operators' listener: `/metrics`, `/live`, `/ready`.
        "admin", |settings: Settings| settings.admin;
        /// Its address. Port 0 takes a free one.
        bind: Address;
        /// Bearer token; required when `bind` is not a loopback address. `token_file` reads it from a file.
        token: Token, example "${ADMIN_TOKEN}";
    },
    section! {
        /// Logs go to standard error.
        "log", |settings: Settings| settings.log;
        /// `error`, `warn`, `info`, `debug`, `trace`, or a filter such as `info,switchboard::traffic=debug`,
        /// which adds the lines about connections and requests. In development mode these are on.
        level: LogLevel;
        /// Lines for people or one JSON object a line.
        format: OneOf<LogFormat>;
    },
    section! {
        /// Where messages, phone numbers and what is still to be sent are kept. Used when an app has a message
        /// router (`[routing]`) or webhooks.
        "store", |settings: Settings| settings.store;
        /// `sqlite:PATH`, a file, relative to `server.data_dir`; or `postgres://user:password@host/database`.
        /// `url_file` reads it from a file. Passwords are never shown.
        url: StoreUrl;
        /// Most connections to PostgreSQL. SQLite needs none.
        pool: Count<1, 200>;
    },
    section! {
        /// One table for each app. `[apps.routing]`, `[apps.routing.numbers]`, … below it override keys of
        /// `[routing]` for this app.
        "apps", |app: AppSettings| app;
        /// Identifies the app in the HTTP API.
        id: Id, example "1001";
        /// Public key, part of the WebSocket URL.
        key: AppKey, example "portal-key";
        /// The first signs, all verify, so that a secret can be replaced without a pause. `secrets_file`
        /// reads them from a file, one a line.
        secrets: Secrets, example "${PORTAL_SECRET}";
        /// `false`: connections are closed with 4003, requests get 403.
        enabled: Switch;
        /// `true`: connections without TLS are closed with 4000.
        tls_only: Switch;
        /// Origins that may connect, as `scheme://host[:port]`; `*` stands for any characters; empty: any.
        allowed_origins: Origins;
        /// Who may send client events: nobody, or subscribers of private and presence channels.
        client_events: OneOf<ClientEvents>;
        /// Client events a second for each connection.
        client_event_rate: Limit<NonZeroU32>;
        /// Whether subscribers are told how many they are.
        subscription_count: Switch;
        /// Whether signed-in users are told which users of their watchlist are online.
        watchlist: Switch;
        /// Whether a connection must sign in or subscribe to a private or presence channel in time.
        authorized_connections: Switch;
        /// The time for that; beyond it 4009.
        authorization_timeout: Time<1, HOUR>;
        /// Size of one event's `data`; limits of requests and frames follow from it.
        event_size: Size<1, { 16 * MB }>;
        /// Most connections of this app.
        max_connections: Limit<NonZeroU32>;
        /// Beyond `max_connections`: `"stop"` closes with 4004 (clients give up, as with hosted Pusher),
        /// `"retry"` with 4100 (they come back).
        over_quota: OneOf<OverQuota>;
        /// Channels one event may be published to.
        max_channels_per_event: Count<1, 10_000>;
        /// Events one batch may hold.
        max_batch: Count<1, 10_000>;
        /// Members of one presence channel.
        presence_members: Count<1, 1_000_000>;
        /// Size of one member's `user_info`.
        presence_member_size: Size<1, MB>;
        /// How long a cache channel remembers its last event.
        cache_ttl: Time<1, { 30 * DAY }>;
        /// Events a second through the HTTP API.
        publish_rate: Limit<NonZeroU64>;
        /// How long a channel must be empty, or a user away, before webhooks say so; who is back in time was never
        /// gone. Members of presence channels are told at once.
        webhook_delay: Time<0, HOUR>;
    },
    section! {
        /// Who is told what happens on the app's channels: one table for each endpoint, below its `[[apps]]`. See
        /// [webhooks](webhooks.md).
        "apps.webhooks", |webhook: WebhookSettings| webhook;
        /// http or https. `url_file` reads it from a file; parameters are never shown.
        url: HookUrl, example "https://portal.example/hooks";
        /// What lists and metrics call it; `""`: eight digits made from the URL. What waits for an endpoint waits
        /// under this name.
        name: WebhookName;
        /// Which events; empty: all of Pusher's (the first seven).
        events: ListOf<WebhookEvent>;
        /// Patterns of the channels whose events are told; `*` stands for any characters; empty: all. Events without
        /// a channel are not affected.
        channels: ChannelPatterns;
        /// Headers sent with each request, as `{ X-Env = "prod" }`. `X-Pusher-…` and `Content-Type` can't be set.
        headers: Headers;
        /// Whether up to 100 events, or what comes within 50 ms, go into one request.
        batch: Switch;
        /// Time for an answer.
        timeout: Time<{ SECOND / 10 }, MINUTE>;
        /// How long an event is tried before it is given up; it can be sent again for 7 days.
        retry_for: Time<SECOND, DAY>;
        /// Whether the endpoint may have an address that is not part of the internet: loopback, private networks.
        allow_private_addresses: Switch;
        /// Authorities that are believed instead of the public ones.
        ca_file: CaFile;
    },
];
