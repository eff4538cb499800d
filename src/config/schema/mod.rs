//! The one description of every section and key.
//!
//! The parser, the nearest-key search, `config show`, `config init` and the reference page all read
//! [`sections`]; defaults come from the settings' own `Default`, shown by the key's kind.

use std::borrow::Cow;

use serde_json::Value;

use super::foreign::Advice;
use super::raw::Raw;
use super::{
    AdminSettings, AppSettings, ClientSettings, LogSettings, RoutingSettings, ServerSettings, Settings,
    StoreSettings, WebhookSettings,
};

/// A table of the file.
pub(super) struct Section {
    /// Dotted name; the index of an app is left out.
    pub name: &'static str,
    pub doc: &'static str,
    pub keys: &'static [Key],
}

/// One key. The functions take the place it is set for.
pub(super) struct Key {
    pub name: &'static str,
    pub doc: &'static str,
    pub secret: bool,
    /// An example for a key without a default.
    pub example: &'static [&'static str],
    pub describe: fn() -> String,
    pub set: fn(&mut Settings, Place, &Raw) -> Result<(), String>,
    pub show: fn(&Settings, Place) -> Value,
}

/// Which table of a list a key belongs to: an app, one of its webhooks, neither.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub app: Option<usize>,
    pub webhook: Option<usize>,
}

impl Place {
    pub fn app(app: usize) -> Self {
        Self { app: Some(app), webhook: None }
    }

    /// The first of everything, as the reference page shows it.
    pub fn first() -> Self {
        Self { app: Some(0), webhook: Some(0) }
    }

    /// Whether a name (without indices) is one that needs exactly these indices.
    pub fn fits(self, name: &str) -> bool {
        let is_webhooks = is_within(name, "apps.webhooks");
        self.app.is_some() == name.starts_with("apps.") && self.webhook.is_some() == is_webhooks
    }

    /// Whether the settings have it.
    pub fn exists(self, settings: &Settings) -> bool {
        let Some(app) = self.app else { return true };
        let app = settings.apps.get(app);
        app.is_some_and(|app| self.webhook.is_none_or(|webhook| webhook < app.webhooks.len()))
    }
}

/// What the keys of a section are fields of.
trait Root {
    fn of(settings: &Settings, place: Place) -> &Self;
    fn of_mut(settings: &mut Settings, place: Place) -> &mut Self;
}

impl Root for Settings {
    fn of(settings: &Settings, _: Place) -> &Self {
        settings
    }

    fn of_mut(settings: &mut Settings, _: Place) -> &mut Self {
        settings
    }
}

impl Root for AppSettings {
    fn of(settings: &Settings, place: Place) -> &Self {
        &settings.apps[place.app.expect("bug: an app's key without an app")]
    }

    fn of_mut(settings: &mut Settings, place: Place) -> &mut Self {
        &mut settings.apps[place.app.expect("bug: an app's key without an app")]
    }
}

impl Root for WebhookSettings {
    fn of(settings: &Settings, place: Place) -> &Self {
        let webhook = place.webhook.expect("bug: a webhook's key without a webhook");
        &AppSettings::of(settings, place).webhooks[webhook]
    }

    fn of_mut(settings: &mut Settings, place: Place) -> &mut Self {
        let webhook = place.webhook.expect("bug: a webhook's key without a webhook");
        &mut AppSettings::of_mut(settings, place).webhooks[webhook]
    }
}

/// `[routing]`, or that of one app.
impl Root for RoutingSettings {
    fn of(settings: &Settings, place: Place) -> &Self {
        place.app.map_or(&settings.routing, |app| &settings.apps[app].routing)
    }

    fn of_mut(settings: &mut Settings, place: Place) -> &mut Self {
        match place.app {
            Some(app) => &mut settings.apps[app].routing,
            None => &mut settings.routing,
        }
    }
}

/// `[server.client]`, or that of one app.
impl Root for ClientSettings {
    fn of(settings: &Settings, place: Place) -> &Self {
        place.app.map_or(&settings.server.client, |app| &settings.apps[app].client)
    }

    fn of_mut(settings: &mut Settings, place: Place) -> &mut Self {
        match place.app {
            Some(app) => &mut settings.apps[app].client,
            None => &mut settings.server.client,
        }
    }
}

/// Describes a section: each line is the documentation, the settings field (which is the key's name) and
/// its [`Kind`](super::kind::Kind).
macro_rules! section {
    (
        $(#[doc = $section_doc:literal])+
        $name:literal, |$root:ident: $Root:ty| $place:expr;
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
                set: |settings, place, raw| {
                    let $root = <$Root as Root>::of_mut(settings, place);
                    $place.$field = <$kind>::parse(raw)?;
                    Ok(())
                },
                show: |settings, place| {
                    let $root = <$Root as Root>::of(settings, place);
                    <$kind>::show(&$place.$field)
                },
            }),+],
        }
    };
}

mod routing;
mod server;

const KB: u64 = 1 << 10;
const MB: u64 = 1 << 20;
const SECOND: u64 = 1_000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// Every section, in the order of the reference page.
pub(super) fn sections() -> impl Iterator<Item = &'static Section> {
    server::SECTIONS.iter().chain(routing::SECTIONS)
}

/// Sections that are designed but not built, and what to do without them.
pub(super) const UNAVAILABLE: &[(&str, &str)] = &[
    ("admin.tls", TLS_BY_PROXY),
    ("cluster", "remove the section; one process serves all connections"),
    ("replay", "remove the section"),
    ("server.tls", TLS_BY_PROXY),
    ("tls", TLS_BY_PROXY),
];

const TLS_BY_PROXY: &str = "let a proxy such as nginx, Caddy or HAProxy end TLS (docs/deployment.md)";

/// Settings before any layer, with this many apps to fill in.
pub(super) fn defaults(apps: usize) -> Settings {
    let blank = AppSettings { secrets: Vec::new(), ..AppSettings::new("", "", "") };
    Settings {
        server: ServerSettings { bind: ([0, 0, 0, 0], 6001).into(), ..ServerSettings::default() },
        admin: AdminSettings::default(),
        log: LogSettings::default(),
        store: StoreSettings::default(),
        routing: RoutingSettings::default(),
        apps: vec![blank; apps],
        development: false,
    }
}

/// Defaults with one of everything, as the reference page shows them.
pub(super) fn shown_defaults() -> Settings {
    let mut settings = defaults(1);
    settings.apps[0].webhooks.push(WebhookSettings::default());
    settings
}

/// A dotted path taken apart: the name without the indices of an app and its webhook, and these.
pub(super) fn without_index(path: &str) -> (String, Place) {
    let Some((app, rest)) = indexed(path, "apps") else { return (path.to_owned(), Place::default()) };
    match indexed(rest.trim_start_matches('.'), "webhooks") {
        Some((webhook, rest)) => {
            (format!("apps.webhooks{rest}"), Place { app: Some(app), webhook: Some(webhook) })
        }
        None => (format!("apps{rest}"), Place::app(app)),
    }
}

/// The index behind a list's name, and what follows it.
fn indexed<'a>(path: &'a str, list: &str) -> Option<(usize, &'a str)> {
    let rest = path.strip_prefix(list)?.strip_prefix('.')?;
    let text = rest.split('.').next().unwrap_or(rest);
    Some((text.parse().ok()?, &rest[text.len()..]))
}

/// Whether a dotted path is a list of tables.
pub(super) fn is_list(path: &str) -> bool {
    let (name, place) = without_index(path);
    match name.as_str() {
        "apps" => place.app.is_none(),
        "apps.webhooks" => place.app.is_some() && place.webhook.is_none(),
        _ => false,
    }
}

/// Whether a dotted name is another one or below it.
pub(super) fn is_within(name: &str, outer: &str) -> bool {
    name.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// Tables that every app starts from, and the app's own that covers it.
const OVERRIDES: [(&str, &str); 2] = [("routing", "apps.routing"), ("server.client", "apps.client")];

/// Whether a name (without an app's index) is in a table that covers one of all apps.
pub(super) fn is_override(name: &str) -> bool {
    OVERRIDES.iter().any(|(_, own)| is_within(name, own))
}

/// The name under which a key or section is described: `apps.routing` has what `routing` has.
fn described(name: &str) -> Cow<'_, str> {
    let found = OVERRIDES.iter().find(|(_, own)| is_within(name, own));
    found.map_or(Cow::Borrowed(name), |(of_all, own)| format!("{of_all}{}", &name[own.len()..]).into())
}

/// The name (without an app's index) by which an app covers a key or section, if it can.
pub(super) fn own_name(described: &str) -> Option<String> {
    let (of_all, own) = OVERRIDES.iter().find(|(of_all, _)| is_within(described, of_all))?;
    Some(format!("{own}{}", &described[of_all.len()..]))
}

/// The header of the section of this name, or of the first below it, as the file writes it.
pub(super) fn header(name: &str) -> Option<String> {
    let section = sections().find(|section| is_within(section.name, &described(name)))?;
    Some(match name {
        "apps" | "apps.webhooks" => format!("[[{name}]]"),
        _ if is_override(name) => format!("[{}]", own_name(section.name)?),
        _ => format!("[{}]", section.name),
    })
}

/// The key of this name (without an app's index).
pub(super) fn key(name: &str) -> Option<&'static Key> {
    let described = described(name);
    let (parent, leaf) = described.rsplit_once('.')?;
    sections().find(|section| section.name == parent)?.keys.iter().find(|key| key.name == leaf)
}

/// The first key of the section of this name, or of the first section below it.
pub(super) fn first_key(name: &str) -> Option<String> {
    let section = sections().find(|section| is_within(section.name, &described(name)))?;
    Some(format!("{}.{}", section.name, section.keys.first()?.name))
}

/// Whether a key has exactly this name in another section, and the advice is about a key of another name.
pub(super) fn knows_better(name: &str, advice: &Advice) -> bool {
    let leaf = |name: &str| name.rsplit('.').next().unwrap_or_default().to_owned();
    let Advice::Use(advised, _) = advice else { return false };
    let name = leaf(name);
    name != leaf(advised) && sections().any(|section| section.keys.iter().any(|key| key.name == name))
}

/// The known name nearest to an unknown one.
pub(super) fn nearest(name: &str) -> Option<String> {
    let described = described(name);
    let (parent, leaf) = described.rsplit_once('.').unwrap_or(("", name));
    // What other servers call the two halves of an address.
    if matches!((parent, leaf), ("" | "server", "host") | ("admin", "port" | "host")) {
        let section = if parent.is_empty() { "server" } else { parent };
        return Some(format!("{section}.bind"));
    }
    let keys = sections().flat_map(|section| section.keys.iter().map(move |key| (section.name, key.name)));
    let names = sections().map(|section| section.name.rsplit_once('.').unwrap_or(("", section.name)));
    let (_, _, parent, leaf) = keys
        .chain(names)
        .chain(OVERRIDES.map(|(_, own)| own.rsplit_once('.').unwrap_or(("", own))))
        .map(|(known_parent, known)| {
            let likeness = strsim::normalized_damerau_levenshtein(leaf, known);
            // The same leaf in the right section comes before one elsewhere.
            let bonus = if known_parent == parent { 0.1 } else { 0.0 };
            (likeness, likeness + bonus, known_parent, known)
        })
        .filter(|(likeness, ..)| *likeness >= 0.6)
        .max_by(|a, b| a.1.total_cmp(&b.1))?;
    let nearest = if parent.is_empty() { leaf.to_owned() } else { format!("{parent}.{leaf}") };
    // An app may hold what all apps start from, in its own table.
    let own = own_name(&nearest).filter(|_| is_within(name, "apps"));
    Some(own.unwrap_or(nearest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_index_of_an_app_is_taken_out() {
        for (path, name, index) in [
            ("apps.0.key", "apps.key", (Some(0), None)),
            ("apps.12", "apps", (Some(12), None)),
            ("apps.0.webhooks.url", "apps.webhooks.url", (Some(0), None)),
            ("apps.0.webhooks.3.url", "apps.webhooks.url", (Some(0), Some(3))),
            ("apps.0.webhooks", "apps.webhooks", (Some(0), None)),
            ("apps.x.key", "apps.x.key", (None, None)),
            ("apps", "apps", (None, None)),
            ("server.bind", "server.bind", (None, None)),
        ] {
            let place = Place { app: index.0, webhook: index.1 };
            assert_eq!(without_index(path), (name.to_owned(), place), "{path}");
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
        let mut settings = shown_defaults();
        let before = settings.clone();
        let first = Place::first();
        for section in sections() {
            for key in section.keys.iter().filter(|key| key.example.is_empty()) {
                let raw = match (key.show)(&settings, first) {
                    Value::Array(items) => {
                        let text = |item: &Value| Raw::Text(item.as_str().expect("text").to_owned());
                        Raw::List(items.iter().map(text).collect())
                    }
                    Value::String(text) => Raw::Text(text),
                    Value::Null => Raw::Text(String::new()),
                    other => Raw::Untyped(other.to_string(), ','),
                };
                assert_eq!((key.set)(&mut settings, first, &raw), Ok(()), "{}.{}", section.name, key.name);
            }
        }
        assert_eq!(settings, before);
    }
}
