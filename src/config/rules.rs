//! Rules that concern more than one key, checked when every layer is on.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::layers::Layers;
use super::problem::{Origin, Problem};
use super::schema::Place;
use super::{DirectoryMode, DirectorySettings, sql};

/// Keys without which an app is none.
const REQUIRED: [&str; 3] = ["id", "key", "secrets"];

/// A query of `[routing.directory]`.
struct QueryRule {
    name: &'static str,
    query: fn(&DirectorySettings) -> &str,
    /// Whether `mode = "sql"` needs it.
    is_needed: bool,
    /// Every parameter it may have.
    known: &'static [&'static str],
    /// Of each group it must have one.
    must_have: &'static [&'static [&'static str]],
}

const QUERIES: [QueryRule; 3] = [
    QueryRule {
        name: "find_number",
        query: |directory| &directory.find_number,
        is_needed: true,
        known: &["number", "candidates"],
        must_have: &[&["number", "candidates"]],
    },
    QueryRule {
        name: "own_numbers",
        query: |directory| &directory.own_numbers,
        is_needed: true,
        known: &["user_id"],
        must_have: &[&["user_id"]],
    },
    QueryRule {
        name: "find_conversation",
        query: |directory| &directory.find_conversation,
        is_needed: false,
        known: &["user_id", "contact"],
        must_have: &[&["user_id"], &["contact"]],
    },
];

/// Adds a problem for each rule that is broken. `tables` are the places where apps and webhooks begin.
pub(super) fn check(layers: &mut Layers, tables: &BTreeMap<Place, Origin>) {
    let mut found = missing_keys(layers, tables);
    found.extend(duplicates(layers, "id", |app| &app.id));
    found.extend(duplicates(layers, "key", |app| &app.key));
    found.extend(webhook_names(layers));
    found.extend(listeners(layers));
    found.extend(directories(layers));
    layers.problems.extend(found);
}

fn missing_keys(layers: &Layers, tables: &BTreeMap<Place, Origin>) -> Vec<Problem> {
    let mut found = Vec::new();
    for (place, origin) in tables.iter().filter(|(place, _)| place.exists(&layers.settings)) {
        let (table, required, need) = match (place.app, place.webhook) {
            (Some(app), Some(webhook)) => {
                (format!("apps.{app}.webhooks.{webhook}"), &["url"][..], "a webhook needs a url")
            }
            (Some(app), None) => (format!("apps.{app}"), &REQUIRED[..], "an app needs id, key and secrets"),
            _ => continue,
        };
        // A value that was refused, or a partial app, was reported where it stands.
        let is_reported =
            |path: &str| layers.problems.iter().any(|p| *p.key == *table || p.key.starts_with(path));
        for name in required {
            let path = format!("{table}.{name}");
            if !layers.origins.contains_key(&path) && !is_reported(&path) {
                found.push(Problem::new(origin.clone(), &table, format!("{name} is missing; {need}")));
            }
        }
    }
    found
}

fn duplicates(layers: &Layers, name: &str, value: impl Fn(&super::AppSettings) -> &String) -> Vec<Problem> {
    let values: Vec<_> = layers.settings.apps.iter().map(value).collect();
    let mut found = Vec::new();
    for (index, this) in values.iter().enumerate().filter(|(_, this)| !this.is_empty()) {
        if let Some(first) = values[..index].iter().position(|other| other == this) {
            let path = format!("apps.{index}.{name}");
            let place = layers.origins.get(&format!("apps.{first}.{name}")).cloned().unwrap_or_default();
            let message =
                format!("{this:?} is already the {name} of another app ({place}): give each app its own");
            found.push(Problem::new(layers.origins.get(&path).cloned().unwrap_or_default(), path, message));
        }
    }
    found
}

/// What waits for a webhook waits under its name.
fn webhook_names(layers: &Layers) -> Vec<Problem> {
    let mut found = Vec::new();
    for (app, settings) in layers.settings.apps.iter().enumerate() {
        let names: Vec<&str> = settings.webhooks.iter().map(|webhook| webhook.name.as_str()).collect();
        for (at, name) in names.iter().enumerate().filter(|(_, name)| !name.is_empty()) {
            if names[..at].contains(name) {
                let path = format!("apps.{app}.webhooks.{at}.name");
                let origin = layers.origins.get(&path).cloned().unwrap_or_default();
                let message =
                    format!("{name:?} is already the name of another webhook of this app: give each its own");
                found.push(Problem::new(origin, path, message));
            }
        }
    }
    found
}

fn listeners(layers: &Layers) -> Vec<Problem> {
    let settings = &layers.settings;
    let problem = |key: &str, message: String| {
        Problem::new(layers.origins.get(key).cloned().unwrap_or_default(), key, message)
    };
    let mut found = Vec::new();
    let (public, admin) = (settings.server.bind, settings.admin.bind);
    // An address that was refused was reported where it stands; the default in its place is nobody's choice.
    let is_reported = |key: &str| layers.problems.iter().any(|problem| problem.key.starts_with(key));
    let is_public_known = !is_reported("server.bind");
    if settings.development && is_public_known && !public.ip().is_loopback() {
        let message = format!(
            "{public} is not a loopback address, and no app is configured: set PUSHER_APP_ID, PUSHER_APP_KEY and \
             PUSHER_APP_SECRET, or write [[apps]] with id, key and secrets into switchboard.toml"
        );
        found.push(problem("server.bind", message));
    }
    if !admin.ip().is_loopback() && settings.admin.token.is_none() && !is_reported("admin.token") {
        let message = format!("{admin} is not a loopback address: set admin.token or admin.token_file");
        found.push(problem("admin.bind", message));
    }
    if is_public_known && !is_reported("admin.bind") && public.port() != 0 && overlap(public, admin) {
        found.push(problem(
            "admin.bind",
            format!("{admin} is taken by server.bind ({public}): choose another port"),
        ));
    }
    found
}

/// The rules of `mode = "sql"` for the directory of each app; without apps for the one they would get.
fn directories(layers: &Layers) -> Vec<Problem> {
    let settings = &layers.settings;
    let apps = settings.apps.iter().enumerate();
    let mut directories: Vec<_> =
        apps.map(|(app, settings)| (Some(app), &settings.routing.directory)).collect();
    if directories.is_empty() {
        directories.push((None, &settings.routing.directory));
    }
    let mut found: Vec<Problem> = Vec::new();
    for (app, directory) in directories {
        if directory.mode == DirectoryMode::Sql {
            // What stands in [routing.directory] is wrong for several apps, and reported once.
            let new: Vec<_> = sql_directory(layers, app, directory)
                .into_iter()
                .filter(|problem| !found.contains(problem))
                .collect();
            found.extend(new);
        }
    }
    found
}

fn sql_directory(layers: &Layers, app: Option<usize>, directory: &DirectorySettings) -> Vec<Problem> {
    // An app's own key, or else the common one.
    let key = |name: &str| {
        let common = format!("routing.directory.{name}");
        let own = app.map(|app| format!("apps.{app}.{common}"));
        own.filter(|own| layers.origins.contains_key(own)).unwrap_or(common)
    };
    let origin = |key: &str| layers.origins.get(key).cloned().unwrap_or_default();
    // A value that was refused was reported where it stands.
    let is_reported = |name: &str| {
        let key = key(name);
        layers.problems.iter().any(|problem| problem.key.strip_suffix("_file").unwrap_or(&problem.key) == key)
    };
    let mode = key("mode");
    let missing = |name: &str| {
        let message = format!("\"sql\" needs {}", key(name));
        (!is_reported(name)).then(|| Problem::new(origin(&mode), mode.as_str(), message))
    };

    let mut found = Vec::new();
    if directory.url.is_none() {
        found.extend(missing("url"));
    }
    for rule in &QUERIES {
        let query = (rule.query)(directory);
        if query.is_empty() {
            found.extend(missing(rule.name).filter(|_| rule.is_needed));
            continue;
        }
        let path = key(rule.name);
        for message in parameter_faults(rule, query) {
            found.push(Problem::new(origin(&path), path.as_str(), message));
        }
    }
    found
}

fn parameter_faults(rule: &QueryRule, query: &str) -> Vec<String> {
    let with_colons = |names: &[&str], word: &str| {
        names.iter().map(|name| format!(":{name}")).collect::<Vec<_>>().join(word)
    };
    let mut used: Vec<_> = sql::parameters(query).into_iter().map(|parameter| parameter.name).collect();
    used.sort_unstable();
    used.dedup();
    let unknown = used.iter().filter(|name| !rule.known.contains(*name));
    let mut faults: Vec<_> = unknown
        .map(|name| format!("has no parameter :{name}; it may use {}", with_colons(rule.known, " and ")))
        .collect();
    let missing = rule.must_have.iter().filter(|group| !group.iter().any(|name| used.contains(name)));
    faults.extend(missing.map(|group| format!("must use {}", with_colons(group, " or "))));
    faults
}

fn overlap(a: SocketAddr, b: SocketAddr) -> bool {
    a.port() == b.port() && (a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified())
}
