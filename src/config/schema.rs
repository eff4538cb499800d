//! The one description of every section and key.
//!
//! The parser, the nearest-key search, `config show`, `config init` and the reference page all read
//! [`SECTIONS`]; defaults come from the settings' own `Default`, shown by the key's kind.

use std::num::{NonZeroU32, NonZeroU64};

use serde_json::Value;

use super::credential::{AppKey, Id, Secrets, Token};
use super::kind::{
    Address, Count, Folder, Kind, Limit, Networks, OneOf, Port, Shards, Size, Switch, Time, WholeSeconds,
};
use super::raw::Raw;
use super::shape::{CloseCode, LogLevel, Origins, PathPrefix};
use super::{
    AdminSettings, AppSettings, ClientEvents, LogFormat, LogSettings, OverQuota, ServerSettings, Settings,
};

/// A table of the file.
pub(super) struct Section {
    /// Dotted name; the index of an app is left out.
    pub name: &'static str,
    pub doc: &'static str,
    pub keys: &'static [Key],
}

/// One key. The functions take the index of the app, which sections other than `apps` ignore.
pub(super) struct Key {
    pub name: &'static str,
    pub doc: &'static str,
    pub secret: bool,
    /// An example for a key without a default.
    pub example: &'static [&'static str],
    pub describe: fn() -> String,
    pub set: fn(&mut Settings, usize, &Raw) -> Result<(), String>,
    pub show: fn(&Settings, usize) -> Value,
}

/// Describes a section: each line is the documentation, the settings field (which is the key's name) and
/// its [`Kind`].
macro_rules! section {
    (
        $(#[doc = $section_doc:literal])+
        $name:literal, |$settings:ident, $app:pat_param| $place:expr;
        $($(#[doc = $doc:literal])+ $field:ident: $kind:ty $(, example $example:literal)?;)+
    ) => {
        Section {
            name: $name,
            doc: concat!($($section_doc),+),
            keys: &[$(Key {
                name: stringify!($field),
                doc: concat!($($doc),+),
                secret: <$kind>::SECRET,
                example: &[$($example)?],
                describe: <$kind>::describe,
                set: |$settings, $app, raw| {
                    $place.$field = <$kind>::parse(raw)?;
                    Ok(())
                },
                show: |$settings, $app| <$kind>::show(&$place.$field),
            }),+],
        }
    };
}

const KB: u64 = 1 << 10;
const MB: u64 = 1 << 20;
const MINUTE: u64 = 60_000;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// Every section, in the order of the reference page.
pub(super) static SECTIONS: &[Section] = &[
    section! {
        /// The public listener, and what holds for every connection.
        "server", |settings, _| settings.server;
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
        /// Folder for what the server keeps by itself (the development app). Relative to the current folder.
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
        "server.drain", |settings, _| settings.server.drain;
        /// Closes are spread evenly over this time.
        window: Time<0, HOUR>;
        /// Close code for established connections: 4200 (clients reconnect at once, right behind a load
        /// balancer) or 4100 (after a second, right for a single server that restarts).
        close_code: CloseCode;
    },
    section! {
        /// The operators' listener: `/metrics`, `/live`, `/ready`.
        "admin", |settings, _| settings.admin;
        /// Its address. Port 0 takes a free one.
        bind: Address;
        /// Bearer token; required when `bind` is not a loopback address. `token_file` reads it from a file.
        token: Token, example "${ADMIN_TOKEN}";
    },
    section! {
        /// Logs go to standard error.
        "log", |settings, _| settings.log;
        /// `error`, `warn`, `info`, `debug`, `trace`, or a filter such as `info,switchboard::api=debug`.
        level: LogLevel;
        /// Lines for people or one JSON object a line.
        format: OneOf<LogFormat>;
    },
    section! {
        /// One table for each app.
        "apps", |settings, app| settings.apps[app];
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
    },
];

/// Sections and keys that are designed but not built: said so instead of "unknown key".
pub(super) const UNAVAILABLE: &[&str] = &[
    "apps.routing",
    "apps.webhooks",
    "admin.tls",
    "cluster",
    "replay",
    "routing",
    "server.tls",
    "store",
    "tls",
];

/// Settings before any layer, with this many apps to fill in.
pub(super) fn defaults(apps: usize) -> Settings {
    let blank = AppSettings { secrets: Vec::new(), ..AppSettings::new("", "", "") };
    Settings {
        server: ServerSettings { bind: ([0, 0, 0, 0], 6001).into(), ..ServerSettings::default() },
        admin: AdminSettings::default(),
        log: LogSettings::default(),
        apps: vec![blank; apps],
        development: false,
    }
}

/// A dotted path taken apart: the name without the index of an app, and that index.
pub(super) fn without_index(path: &str) -> (String, Option<usize>) {
    let index = path.strip_prefix("apps.").map(|rest| rest.split('.').next().unwrap_or(rest));
    match index.and_then(|text| Some((text, text.parse().ok()?))) {
        Some((text, index)) => (format!("apps{}", &path["apps.".len() + text.len()..]), Some(index)),
        None => (path.to_owned(), None),
    }
}

/// The section of this name (without an app's index).
pub(super) fn section(name: &str) -> Option<&'static Section> {
    SECTIONS.iter().find(|section| section.name == name)
}

/// The key of this name (without an app's index).
pub(super) fn key(name: &str) -> Option<&'static Key> {
    let (parent, leaf) = name.rsplit_once('.')?;
    section(parent)?.keys.iter().find(|key| key.name == leaf)
}

/// The known name nearest to an unknown one.
pub(super) fn nearest(name: &str) -> Option<String> {
    let (parent, leaf) = name.rsplit_once('.').unwrap_or(("", name));
    // What other servers call the two halves of an address.
    if matches!((parent, leaf), ("" | "server", "host") | ("admin", "port" | "host")) {
        let section = if parent.is_empty() { "server" } else { parent };
        return Some(format!("{section}.bind"));
    }
    let keys =
        SECTIONS.iter().flat_map(|section| section.keys.iter().map(move |key| (section.name, key.name)));
    let sections = SECTIONS.iter().map(|section| section.name.rsplit_once('.').unwrap_or(("", section.name)));
    keys.chain(sections)
        .map(|(known_parent, known)| {
            let likeness = strsim::normalized_damerau_levenshtein(leaf, known);
            // The same leaf in the right section comes before one elsewhere.
            let bonus = if known_parent == parent { 0.1 } else { 0.0 };
            (likeness, likeness + bonus, known_parent, known)
        })
        .filter(|(likeness, ..)| *likeness >= 0.6)
        .max_by(|a, b| a.1.total_cmp(&b.1))
        .map(
            |(_, _, parent, leaf)| {
                if parent.is_empty() { leaf.to_owned() } else { format!("{parent}.{leaf}") }
            },
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_index_of_an_app_is_taken_out() {
        for (path, name, index) in [
            ("apps.0.key", "apps.key", Some(0)),
            ("apps.12", "apps", Some(12)),
            ("apps.0.webhooks.url", "apps.webhooks.url", Some(0)),
            ("apps.x.key", "apps.x.key", None),
            ("apps", "apps", None),
            ("server.bind", "server.bind", None),
        ] {
            assert_eq!(without_index(path), (name.to_owned(), index), "{path}");
        }
    }

    #[test]
    fn the_nearest_known_name() {
        for (unknown, known) in [
            ("server.bnid", Some("server.bind")),
            ("admin.bnid", Some("admin.bind")),
            ("serer", Some("server")),
            ("app", Some("apps")),
            ("server.dran", Some("server.drain")),
            ("apps.secret", Some("apps.secrets")),
            ("apps.allowed_orgins", Some("apps.allowed_origins")),
            ("server.client_events", Some("apps.client_events")),
            ("event_size", Some("apps.event_size")),
            ("admin.port", Some("admin.bind")),
            ("port", Some("server.port")),
            ("server.zzzzzz", None),
        ] {
            assert_eq!(nearest(unknown).as_deref(), known, "{unknown}");
        }
    }

    #[test]
    fn every_default_is_accepted_by_its_own_key() {
        let mut settings = defaults(1);
        let before = settings.clone();
        for section in SECTIONS {
            for key in section.keys.iter().filter(|key| key.example.is_empty()) {
                let raw = match (key.show)(&settings, 0) {
                    Value::Array(items) => {
                        let text = |item: &Value| Raw::Text(item.as_str().expect("text").to_owned());
                        Raw::List(items.iter().map(text).collect())
                    }
                    Value::String(text) => Raw::Text(text),
                    other => Raw::Untyped(other.to_string(), ','),
                };
                assert_eq!((key.set)(&mut settings, 0, &raw), Ok(()), "{}.{}", section.name, key.name);
            }
        }
        assert_eq!(settings, before);
    }
}
