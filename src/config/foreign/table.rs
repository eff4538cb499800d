//! What other servers call their settings, and what takes their place here.
//!
//! Names are those of soketi 1.6 (`src/options.ts`, `src/app.ts`, `src/cli/cli.ts`), Laravel Reverb 1.x
//! (`config/reverb.php`), laravel-websockets 2.x (`config/websockets.php`) and hosted Pusher's dashboard.
//! `docs/migrating.md` shows the same names to people.

use super::Advice::{self, Needless, Use};

const SIZE: &str = "Write the size with its unit, as in \"100KB\"";
const TIME: &str = "It holds for all apps; write the time with its unit, as in \"30s\"";
const PRESENCE: &str = "apps.presence_members";
const METRICS_ON: &str = "/metrics is always on there";
const METRICS: &str = "the admin port (admin.bind) has figures at /metrics";
const TLS: &str = "let a proxy such as nginx, Caddy or HAProxy end TLS (docs/deployment.md)";
const ONE_PROCESS: &str = "one process serves all connections";
const APPS: &str = "apps stand in the file as [[apps]], not in a database";
const OPTIONS: &str = "it belongs to the application that publishes or to the page";
const QUEUE: &str = "events for webhooks wait in the store (store.url)";

/// Keys of a file. A name is the end of a path in lower case, without underscores and dashes, so that
/// `maxConnections` and `max_connections` are one name; behind `^` it is the whole path. The first that fits counts.
pub(super) static KEYS: &[(&[&str], Advice)] = &[
    (&["appid"], Use("apps.id", "")),
    (&["appkey"], Use("apps.key", "")),
    (&["secret", "appsecret"], Use("apps.secrets", "It is a list, as in secrets = [\"…\"]")),
    (&["apps.name"], Needless("an app has no name; write a comment with # instead")),
    (
        &["enableclientmessages", "enableclientevents", "clientmessages"],
        Use("apps.client_events", "Write \"members\" for true, \"off\" for false"),
    ),
    (
        &["acceptclienteventsfrom"],
        Use("apps.client_events", "Write \"members\", or \"off\" for \"none\"; \"all\" does not exist here"),
    ),
    (&["enablestatistics", "^statistics"], Needless(METRICS)),
    (&["capacity", "apps.maxconnections"], Use("apps.max_connections", "0 means no limit")),
    (&["maxmessagesize", "maxeventpayloadinkb", "maxpayloadinkb"], Use("apps.event_size", SIZE)),
    (
        &["maxrequestsize", "maxrequestsizeinkb", "requestlimitinmb"],
        Use("apps.event_size", "The limit of a request follows from it"),
    ),
    (&["pinginterval"], Use("server.ping_interval", TIME)),
    (&["activitytimeout"], Use("server.activity_timeout", TIME)),
    (
        &["ratelimiting.terminateonlimit"],
        Needless("an event beyond the limit is refused; the connection stays"),
    ),
    (
        &["ratelimiting", "ratelimiting.enabled", "ratelimiting.maxattempts", "ratelimiting.decayseconds"],
        Use("apps.client_event_rate", "It limits the client events of each connection in a second"),
    ),
    (&["maxclienteventspersecond"], Use("apps.client_event_rate", "0 means no limit")),
    (&["maxbackendeventspersecond"], Use("apps.publish_rate", "0 means no limit")),
    (&["maxreadrequestspersecond"], Needless("requests that only read have no limit")),
    (&["maxpresencemembersperchannel", "maxmembersperchannel"], Use(PRESENCE, "")),
    (&["maxpresencemembersizeinkb", "maxmembersizeinkb"], Use("apps.presence_member_size", SIZE)),
    (&["maxeventchannelsatonce", "maxchannelsatonce"], Use("apps.max_channels_per_event", "")),
    (&["maxeventbatchsize", "maxbatchsize"], Use("apps.max_batch", "")),
    (
        &["maxchannelnamelength", "maxeventnamelength", "maxnamelength"],
        Needless("names may have up to 200 characters, and no setting changes that"),
    ),
    (&["enableuserauthentication", "userauthentication"], Use("apps.authorized_connections", "")),
    (
        &["userauthenticationtimeout"],
        Use("apps.authorization_timeout", "Write the time with its unit, as in \"30s\""),
    ),
    (
        &["enablesubscriptioncounting", "enablesubscriptioncount", "subscriptioncounting"],
        Use("apps.subscription_count", ""),
    ),
    (&["enableauthorizedconnections"], Use("apps.authorized_connections", "")),
    (&["enablewatchlist", "enablewatchlistevents"], Use("apps.watchlist", "")),
    (
        &["forcetls", "apps.tls", "apps.usetls", "apps.encrypted"],
        Use("apps.tls_only", "Clients without TLS are refused then"),
    ),
    (&["encryptionmasterkey", "encryptionmasterkeybase64"], Needless(OPTIONS)),
    (&["apps.cluster", "apps.scheme", "apps.options", "apps.port"], Needless(OPTIONS)),
    (
        &["apps.host", "apps.hostname", "server.hostname", "^hostname"],
        Needless("clients may use any host name"),
    ),
    (
        &[
            "hasclienteventwebhooks",
            "haschanneloccupiedwebhooks",
            "haschannelvacatedwebhooks",
            "hasmemberaddedwebhooks",
            "hasmemberremovedwebhooks",
        ],
        Needless("apps.webhooks.events names the events"),
    ),
    // Webhooks.
    (&["eventtypes"], Use("apps.webhooks.events", "")),
    (
        &["channelnamestartswith"],
        Use("apps.webhooks.channels", "It is a list of patterns, as in [\"private-*\"]"),
    ),
    (&["channelnameendswith"], Use("apps.webhooks.channels", "It is a list of patterns, as in [\"*-chat\"]")),
    (&["webhooks.filter"], Use("apps.webhooks.channels", "It is a list of patterns, as in [\"private-*\"]")),
    (
        &["lambda", "lambdafunction"],
        Needless("webhooks go to http and https addresses only: write their url"),
    ),
    (&["webhooks.batching", "webhooks.batching.enabled"], Use("apps.webhooks.batch", "")),
    (&["webhooks.batching.duration"], Needless("a batch is sent after 50 ms at the latest")),
    // Addresses and logs. What is said of `port` must not be said of `database.mysql.port`.
    (&["^metrics", "metrics.host", "metrics.port", "metrics.enabled"], Use("admin.bind", METRICS_ON)),
    (&["prometheus", "prometheus.prefix", "metrics.driver"], Needless(METRICS)),
    (&["pathprefix", "apps.path", "server.path", "^path"], Use("server.path_prefix", "")),
    (&["^debug"], Use("log.level", "Write \"debug\"")),
    (
        &["memorythreshold", "accepttraffic", "^httpapi"],
        Needless("server.max_connections and the limits of [[apps]] bound the memory"),
    ),
    (&["shutdowngraceperiod"], Use("server.drain.window", "Write the time with its unit, as in \"5s\"")),
    (&["^cors"], Use("apps.allowed_origins", "It is for WebSockets; the HTTP API is for backends")),
    (&["^mode", "^instance"], Needless(ONE_PROCESS)),
    (&["^adapter", "^replication", "^scaling", "^servers", "^default"], Needless(ONE_PROCESS)),
    (&["ssl", "tls", "localcert", "localpk", "verifypeer", "allowselfsigned"], Needless(TLS)),
    (&["certpath", "keypath", "capath", "passphrase", "cert", "certificate", "privatekey"], Needless(TLS)),
    (&["^appmanager", "^managers", "apps.provider"], Needless(APPS)),
    (&["^database", "^databasepooling"], Needless(APPS)),
    (&["^queue"], Needless(QUEUE)),
    (&["^cache", "^ratelimiter"], Needless("it is kept in the memory of the process")),
    (&["^channellimits"], Use("apps.cache_ttl", "Write the time with its unit, as in \"30m\"")),
    (&["^eventlimits"], Use("apps.event_size", "Other limits of events are keys of [[apps]], too")),
    (&["^presence"], Use(PRESENCE, "The size of a member is presence_member_size")),
    (&["^dashboard"], Needless(METRICS)),
    (&["^handlers", "^promiseresolver"], Needless("it belongs to a server written in PHP")),
    (&["pulseingestinterval", "telescopeingestinterval"], Needless(METRICS)),
];

/// Variables; `*` stands for any characters. The first that fits counts. Variables that define the app are
/// understood and stand nowhere here, nor do those that are for clients (`REVERB_HOST`, `PUSHER_PORT`).
pub(super) static VARIABLES: &[(&[&str], Advice)] = &[
    (&["SOKETI_PORT", "REVERB_SERVER_PORT", "LARAVEL_WEBSOCKETS_PORT"], Use("server.port", "")),
    (
        &["SOKETI_HOST", "REVERB_SERVER_HOST"],
        Use("server.bind", "Write address and port, as in 0.0.0.0:6001"),
    ),
    (&["SOKETI_PATH_PREFIX", "REVERB_SERVER_PATH", "PUSHER_APP_PATH"], Use("server.path_prefix", "")),
    (&["LARAVEL_WEBSOCKETS_DOMAIN", "PUSHER_APP_HOST"], Needless("clients may use any host name")),
    (&["LARAVEL_WEBSOCKETS_PATH"], Needless(METRICS)),
    (&["SOKETI_SSL_*", "LARAVEL_WEBSOCKETS_SSL_*"], Needless(TLS)),
    (&["SOKETI_DEBUG"], Use("log.level", "Write debug")),
    (&["SOKETI_METRICS_SERVER_PORT", "SOKETI_METRICS_HOST"], Use("admin.bind", "Write address and port")),
    (&["SOKETI_METRICS_*"], Needless(METRICS)),
    (
        &["SOKETI_DEFAULT_APP_MAX_CONNS", "REVERB_APP_MAX_CONNECTIONS"],
        Use("apps.max_connections", "0 means no limit"),
    ),
    (
        &["SOKETI_DEFAULT_APP_ENABLE_CLIENT_MESSAGES", "REVERB_APP_ACCEPT_CLIENT_EVENTS_FROM"],
        Use("apps.client_events", "Write members or off"),
    ),
    (&["SOKETI_DEFAULT_APP_ENABLED"], Use("apps.enabled", "")),
    (&["SOKETI_DEFAULT_APP_MAX_BACKEND_EVENTS_PER_SEC"], Use("apps.publish_rate", "0 means no limit")),
    (&["SOKETI_DEFAULT_APP_MAX_CLIENT_EVENTS_PER_SEC"], Use("apps.client_event_rate", "0 means no limit")),
    (&["SOKETI_DEFAULT_APP_MAX_READ_REQ_PER_SEC"], Needless("requests that only read have no limit")),
    (&["SOKETI_DEFAULT_APP_USER_AUTHENTICATION"], Use("apps.authorized_connections", "")),
    (&["SOKETI_DEFAULT_APP_WEBHOOKS"], Use("apps.webhooks.url", "")),
    (&["SOKETI_USER_AUTHENTICATION_TIMEOUT"], Use("apps.authorization_timeout", "Write a unit, as in 30s")),
    (
        &["SOKETI_EVENT_MAX_SIZE_IN_KB", "REVERB_APP_MAX_MESSAGE_SIZE", "REVERB_MAX_REQUEST_SIZE"],
        Use("apps.event_size", "Write a unit, as in 100KB"),
    ),
    (&["SOKETI_EVENT_MAX_BATCH_SIZE"], Use("apps.max_batch", "")),
    (&["SOKETI_EVENT_MAX_CHANNELS_AT_ONCE"], Use("apps.max_channels_per_event", "")),
    (
        &["SOKETI_EVENT_MAX_NAME_LENGTH", "SOKETI_CHANNEL_LIMITS_MAX_NAME_LENGTH"],
        Needless("names may have up to 200 characters, and no setting changes that"),
    ),
    (&["SOKETI_CHANNEL_CACHE_TTL"], Use("apps.cache_ttl", "Write a unit, as in 30m")),
    (&["SOKETI_PRESENCE_MAX_MEMBERS"], Use(PRESENCE, "")),
    (&["SOKETI_PRESENCE_MAX_MEMBER_SIZE"], Use("apps.presence_member_size", "Write a unit, as in 2KB")),
    (&["SOKETI_SHUTDOWN_GRACE_PERIOD"], Use("server.drain.window", "Write a unit, as in 5s")),
    (&["SOKETI_WEBHOOKS_BATCHING"], Use("apps.webhooks.batch", "")),
    (&["SOKETI_WEBHOOKS_BATCHING_DURATION"], Needless("a batch is sent after 50 ms at the latest")),
    (
        &["SOKETI_HTTP_ACCEPT_TRAFFIC_*"],
        Needless("server.max_connections and the limits of [[apps]] bound the memory"),
    ),
    (
        &["SOKETI_APP_MANAGER_*", "SOKETI_DB_MYSQL_*", "SOKETI_DB_POSTGRES_*", "SOKETI_DB_POOLING_*"],
        Needless(APPS),
    ),
    (&["SOKETI_QUEUE_*"], Needless(QUEUE)),
    (&["SOKETI_CACHE_*", "SOKETI_RATE_LIMITER_*"], Needless("it is kept in the memory of the process")),
    (&["SOKETI_ADAPTER_*", "SOKETI_CLUSTER_*", "SOKETI_DB_REDIS_*", "SOKETI_MODE"], Needless(ONE_PROCESS)),
    (&["REVERB_SCALING_*", "WEBSOCKETS_*REPLICATION_*"], Needless(ONE_PROCESS)),
    (&["REVERB_APP_PING_INTERVAL"], Use("server.ping_interval", "Write a unit, as in 30s")),
    (&["REVERB_APP_ACTIVITY_TIMEOUT"], Use("server.activity_timeout", "Write a unit, as in 30s")),
    (&["REVERB_APP_RATE_LIMIT*"], Use("apps.client_event_rate", "0 means no limit")),
    (&["REVERB_PULSE_*", "REVERB_TELESCOPE_*"], Needless(METRICS)),
];
