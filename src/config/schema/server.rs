//! The server's own sections, and an app's.

use std::num::{NonZeroU32, NonZeroU64};

use super::{DAY, HOUR, KB, Key, MB, MINUTE, Root, SECOND, Section};
use crate::config::credential::{AppKey, Id, Secrets, Token};
use crate::config::kind::{
    Address, Count, Folder, Kind, Limit, ListOf, Memory, MostBytes, Networks, OneOf, Port, Shards, Size,
    Switch, Time, WholeSeconds,
};
use crate::config::shape::{CloseCode, LogLevel, Origins, PathPrefix};
use crate::config::url::{HookUrl, StoreUrl};
use crate::config::webhooks::{CaFile, ChannelPatterns, Headers, WebhookName};
use crate::config::{
    AppSettings, ClientEvents, ClientSettings, LogFormat, OverQuota, ReadyWhen, Settings, WebhookEvent,
    WebhookSettings,
};

/// In the order of the reference page.
pub(super) static SECTIONS: &[Section] = &[
    section! {
        /// The public listener, and the limits of every connection.
        "server", |settings: Settings| settings.server;
        /// Address and port of WebSockets, the HTTP API, `/live` and `/ready`. Port 0 takes a free port. In
        /// development mode the default is `127.0.0.1:6001`, and only a loopback address is accepted.
        bind: Address;
        /// Replaces the port of `bind`, for platforms that set a port only.
        port: Port, example "6001";
        /// Path that requests may have in front of `/app/…` and `/apps/…`, as in `/ws`. Requests without it are served, too.
        path_prefix: PathPrefix;
        /// Most WebSocket connections of this process; the server closes the next one with 4100. The process needs
        /// a limit of open files above this number (`switchboard check` compares the two).
        max_connections: Count<1, 16_000_000>;
        /// Memory for unfinished messages, for heads and bodies of requests, and for what waits for slow clients, of all clients
        /// together. Beyond it the server closes those that hold the most. `"auto"`: half of the machine's memory, or of the
        /// control group's if that has a limit. `switchboard check` shows it, and what the process needs besides.
        memory: Memory;
        /// Addresses of the proxies whose headers `X-Forwarded-Proto` and `X-Forwarded-For` the server believes. `tls_only`
        /// apps need the first to know that a client uses TLS, `[server.admission]` the second to know the client's address.
        trusted_proxies: Networks;
        /// Threads that serve connections. `"auto"`: one less than the processor has cores, at least one.
        shards: Shards;
        /// Folder of the database file and of the development app. A relative path begins at the current folder.
        data_dir: Folder;
        /// Silence after which clients are to ping; sent to them as `activity_timeout`.
        activity_timeout: WholeSeconds;
        /// Time without anything from a client after which the server pings it. Proxies cut connections on which
        /// nothing comes: nginx, lighttpd and Varnish after 60 s, HAProxy after 50 s with the usual settings.
        ping_interval: Time<{ SECOND / 10 }, HOUR>;
        /// Silence after the server's ping which closes the connection with 4201.
        pong_timeout: Time<1, HOUR>;
        /// Bytes that may wait for a slow client. Beyond it the server closes the connection with 4100.
        backlog_limit: Size<KB, { 1024 * MB }>;
        /// Longest time that an event may wait for a slow client. Beyond it the server closes the connection with 4100.
        backlog_max_age: Time<1, HOUR>;
        /// Most channels that one connection may subscribe to.
        max_channels_per_connection: Count<1, 1_000_000>;
        /// Time in which the header of an HTTP request must arrive, from its first byte on.
        header_timeout: Time<1, HOUR>;
        /// Time for which an HTTP connection without requests is kept, as said in `Keep-Alive: timeout=`. The server closes
        /// it 5 seconds later, so that no request meets a connection that closes.
        idle_timeout: Time<1, DAY>;
        /// When `/ready` answers 200, and 503 otherwise. `"broadcasting"`: while clients can connect and events be published,
        /// which needs no store. `"all"`: only while the store works, too, if an app needs one.
        ready: OneOf<ReadyWhen>;
    },
    section! {
        /// What SIGTERM does to live connections.
        "server.drain", |settings: Settings| settings.server.drain;
        /// Closes are spread evenly over this time. `"0s"`, all at once, suits a single server: clients are back about a
        /// second later. Several servers behind a load balancer: `"20s"`, so that the others get the reconnects bit by bit.
        window: Time<0, HOUR>;
        /// Close code for established connections: 4100 (clients reconnect after a second, when a single server is there
        /// again) or 4200 (at once, for several servers behind a load balancer).
        close_code: CloseCode;
    },
    section! {
        /// The budgets of each connection: so many a second, and a burst of as many at once. Beyond one the server closes the
        /// connection with 4100, after which clients come back a second later. No burst is smaller than
        /// `max_channels_per_connection`, as clients that come back subscribe to all their channels at once. `[apps.client]`
        /// replaces keys for one app.
        "server.client", |client: ClientSettings| client;
        /// Most messages of any kind in a second, pings among them. Client events within `client_event_rate` do not count.
        message_rate: Limit<NonZeroU32>;
        /// Most messages at once.
        message_burst: Count<1, 1_000_000>;
        /// Most requests to subscribe, unsubscribe and sign in, in a second.
        subscription_rate: Limit<NonZeroU32>;
        /// Most such requests at once.
        subscription_burst: Count<1, 1_000_000>;
        /// Most messages that the server answers with an error, in a second. A message that it can't read counts ten times,
        /// a client event beyond `client_event_rate` does not count.
        refusal_rate: Limit<NonZeroU32>;
        /// Most such messages at once.
        refusal_burst: Count<1, 1_000_000>;
    },
    section! {
        /// What of the server's room one address and one app may take. Beyond it the server closes new connections with 4100,
        /// after which clients come back a second later. An IPv6 address counts with all of its /64. Of a client behind
        /// `trusted_proxies` the last address in `X-Forwarded-For` counts that is not one of them; of a proxy that is not among
        /// them, its own. HTTP requests are not refused; an address that has many more sockets open than this is not
        /// accepted.
        "server.admission", |settings: Settings| settings.server.admission;
        /// Most connections of one address, and never more than half of `server.max_connections`. Many users may share one
        /// address: those of a company, or of a mobile network.
        address_connections: Limit<NonZeroU32>;
        /// Most connections that one address opens in a second.
        address_rate: Limit<NonZeroU32>;
        /// Most connections that one address opens at once: after a restart all users of an address come back at once.
        address_burst: Count<1, 1_000_000>;
        /// Networks whose addresses have no such limits. The default: loopback, private and shared addresses, as a proxy or
        /// backend has them. Where clients in a private network are strangers, `[]` limits them, too; then every proxy must be in
        /// `trusted_proxies`, as all its clients would count as one address.
        exempt: Networks;
        /// Percent of `server.max_connections` that are kept for the apps, the same number for each: the other apps can't take
        /// them. With 25 percent and 5 apps each may have 5 percent at any time, and any app up to 80 percent.
        app_reserve: Count<0, 100>;
    },
    section! {
        /// The operators' listener with `/metrics`, `/live`, `/ready`, `/ready/PART` and the calls of `switchboard webhooks`.
        "admin", |settings: Settings| settings.admin;
        /// Address and port. Port 0 takes a free port. Any address but loopback needs `token`.
        bind: Address;
        /// Bearer token that all requests but those for `/live` and `/ready` must carry. `token_file` reads it from a file.
        token: Token, example "${ADMIN_TOKEN}";
    },
    section! {
        /// The log, which goes to standard error.
        "log", |settings: Settings| settings.log;
        /// Lowest level that is logged: `error`, `warn`, `info`, `debug`, `trace`; or a filter such as
        /// `info,switchboard::traffic=debug`, which adds lines about connections and requests. In development mode
        /// these are on.
        level: LogLevel;
        /// `"text"`: lines for people. `"json"`: one JSON object in each line.
        format: OneOf<LogFormat>;
    },
    section! {
        /// The database of messages, phone numbers, and requests that wait to be sent. It is used if an app has a message
        /// router (`[routing]`) or webhooks.
        "store", |settings: Settings| settings.store;
        /// `sqlite:PATH`, a file whose relative path begins at `server.data_dir`; or `postgres://user:password@host/database`.
        /// `url_file` reads it from a file. `config show` masks the password.
        url: StoreUrl;
        /// Most connections to PostgreSQL. SQLite has no use for it.
        pool: Count<1, 200>;
        /// Largest size of the store: of the pages in use of SQLite's file, beside which its log has up to 64 MB; of the whole
        /// database of PostgreSQL. From nine tenths of it on the server refuses new messages, conversations, edits and files
        /// with 507 `store_full`. It still stores incoming messages, reports and whatever follows from accepted messages.
        max_size: MostBytes;
        /// Bytes that the disk of SQLite's file must have left. With fewer the server refuses as with `max_size`.
        min_free: MostBytes;
    },
    section! {
        /// One `[[apps]]` for each app. `[apps.routing]`, `[apps.routing.numbers]`, … below it replace keys of
        /// `[routing]` for this app.
        "apps", |app: AppSettings| app;
        /// Id of the app in the paths of the HTTP API. Digits suit every SDK.
        id: Id, example "1001";
        /// Public key of the app, part of the WebSocket URL and of the page.
        key: AppKey, example "portal-key";
        /// Secrets of the app. The server signs with the first and accepts signatures of all, so that a secret can be
        /// replaced without a pause. `secrets_file` reads them from a file, one in each line.
        secrets: Secrets, example "${PORTAL_SECRET}";
        /// `false`: the server answers requests with 403 and closes connections with 4003, after which clients stay away; or
        /// with 4100 if a reload disabled the app: its pages come back when it is enabled again.
        enabled: Switch;
        /// `true`: the server closes connections without TLS with 4000.
        tls_only: Switch;
        /// Origins of the pages that may connect, as `scheme://host[:port]`; `*` stands for any characters; `null` for pages
        /// without an origin. Empty: all origins. With a list, the server refuses clients that send no origin.
        allowed_origins: Origins;
        /// `"off"`: the server refuses client events (whispers). `"members"`: subscribers of private and presence
        /// channels may send them.
        client_events: OneOf<ClientEvents>;
        /// Most client events that a connection may send in a second.
        client_event_rate: Limit<NonZeroU32>;
        /// Whether subscribers receive the number of subscribers of their channel.
        subscription_count: Switch;
        /// Whether signed-in users receive events about the users of their watchlist who come and go.
        watchlist: Switch;
        /// Whether a connection must sign in, or subscribe to a private or presence channel, within
        /// `authorization_timeout`.
        authorized_connections: Switch;
        /// Time of `authorized_connections`. Beyond it the server closes the connection with 4100: clients come back and try
        /// again.
        authorization_timeout: Time<1, HOUR>;
        /// Largest `data` of an event. The limits of requests and WebSocket messages follow from it.
        event_size: Size<1, { 16 * MB }>;
        /// Most connections of this app.
        max_connections: Limit<NonZeroU32>;
        /// Close code of a connection beyond `max_connections`. `"stop"`: 4004, as with hosted Pusher; a page that met a full
        /// app stays offline until it is loaded again. `"retry"`: 4100; it comes back every second until there is room.
        over_quota: OneOf<OverQuota>;
        /// Most channels that one request may publish an event to.
        max_channels_per_event: Count<1, 10_000>;
        /// Most events in one batch request.
        max_batch: Count<1, 10_000>;
        /// Most members of a presence channel.
        presence_members: Count<1, 1_000_000>;
        /// Largest `user_info` of a member.
        presence_member_size: Size<1, MB>;
        /// Time for which a cache channel keeps its last event.
        cache_ttl: Time<1, { 30 * DAY }>;
        /// Memory for the last events of all cache channels of the app. Beyond it the oldest event is forgotten, as if its time
        /// were over. An event counts twice, as it is sent and as the HTTP API shows it.
        cache_size: Size<{ 64 * KB }, { 16 * 1024 * MB }>;
        /// Most events that may be published through the HTTP API in a second.
        publish_rate: Limit<NonZeroU64>;
        /// Time that a channel must be empty, or a user offline, before `channel_vacated` or `user_offline` is sent. If
        /// the channel or user comes back in this time, no webhook is sent. `member_removed` is sent at once.
        webhook_delay: Time<0, HOUR>;
    },
    section! {
        /// One `[[apps.webhooks]]` for each endpoint that receives the events of the app's channels, below its `[[apps]]`.
        /// See [webhooks](webhooks.md).
        "apps.webhooks", |webhook: WebhookSettings| webhook;
        /// Address of the endpoint, http or https. `url_file` reads it from a file. `config show` masks its parameters.
        url: HookUrl, example "https://portal.example/hooks";
        /// Name in lists and metrics; `""`: eight digits made from the URL. Waiting requests belong to the name: with
        /// another name they are not sent.
        name: WebhookName;
        /// Events that are sent. Empty: the first seven, which are Pusher's.
        events: ListOf<WebhookEvent>;
        /// Patterns of the channels whose events are sent; `*` stands for any characters. Empty: all channels. Events
        /// without a channel are sent in any case.
        channels: ChannelPatterns;
        /// Headers sent with each request, as `{ X-Env = "prod" }`. The server sets `X-Pusher-…` and `Content-Type` itself.
        headers: Headers;
        /// Whether one request carries all events of 50 ms, up to 100.
        batch: Switch;
        /// Time in which the endpoint must answer.
        timeout: Time<{ SECOND / 10 }, MINUTE>;
        /// Time for which the server repeats a failed request. For 7 days more `switchboard webhooks retry` can send it.
        retry_for: Time<SECOND, DAY>;
        /// Most requests that may wait for the endpoint. Events of public channels and of connections may have half of it, a
        /// channel a tenth, and a user, or a connection without a user, a hundredth. What finds no room is counted.
        max_waiting: Count<100, 10_000_000>;
        /// Whether the endpoint may have a loopback or private address.
        allow_private_addresses: Switch;
        /// PEM file of the certificate authorities to trust instead of the public ones.
        ca_file: CaFile;
    },
];
