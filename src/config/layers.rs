//! Puts entries of the layers into the settings, one layer after the other.

use std::collections::{BTreeMap, HashSet};
use std::fs;

use super::environment::variable_name;
use super::foreign::{self, Advice};
use super::problem::{Origin, Origins, Problem};
use super::raw::Raw;
use super::schema::Place;
use super::{Settings, WebhookSettings, schema, stray};

/// One value of one layer.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Entry {
    /// Dotted, with the index of an app: `apps.0.key`.
    pub path: String,
    pub origin: Origin,
    pub raw: Raw,
}

/// The settings while layers are put on.
pub(super) struct Layers {
    pub settings: Settings,
    pub origins: Origins,
    pub problems: Vec<Problem>,
    overrides: Vec<Override>,
}

/// A value of an app's own table, as `[apps.routing]`, which covers the table of all apps in every layer.
struct Override {
    app: usize,
    key: &'static schema::Key,
    raw: Raw,
}

impl Layers {
    /// Defaults, with as many apps and webhooks as `tables` has (where each is first mentioned), and what is
    /// wrong so far.
    pub(super) fn new(tables: &BTreeMap<Place, Origin>, mut problems: Vec<Problem>) -> Self {
        let apps: BTreeMap<usize, &Origin> = tables
            .iter()
            .rev() // An app's own place comes before those of its webhooks, and is kept.
            .filter_map(|(place, origin)| Some((place.app?, origin)))
            .collect();
        let mut settings = schema::defaults(counted("apps", &apps, &mut problems));
        for (app, settings) in settings.apps.iter_mut().enumerate() {
            let webhooks: BTreeMap<usize, &Origin> = tables
                .iter()
                .filter(|(place, _)| place.app == Some(app))
                .filter_map(|(place, origin)| Some((place.webhook?, origin)))
                .collect();
            let count = counted(&format!("apps.{app}.webhooks"), &webhooks, &mut problems);
            settings.webhooks = vec![WebhookSettings::default(); count];
        }
        Self { settings, origins: Origins::new(), problems, overrides: Vec::new() }
    }

    /// Puts one layer over what is there.
    pub(super) fn put(&mut self, entries: &[Entry]) {
        let mut seen = HashSet::new();
        for entry in entries {
            if let Err(problem) = self.put_entry(entry, &mut seen) {
                self.problems.push(problem);
            }
        }
    }

    fn put_entry(&mut self, entry: &Entry, seen: &mut HashSet<String>) -> Result<(), Problem> {
        let (name, place) = schema::without_index(&entry.path);
        let (key, from_file) = find(entry, &name, place)?;
        if !place.exists(&self.settings) {
            return Ok(()); // The gap was reported.
        }
        let problem = |message: String| Problem::new(entry.origin.clone(), entry.path.as_str(), message);
        let path = entry.path.strip_suffix("_file").filter(|_| from_file).unwrap_or(&entry.path);
        if !seen.insert(path.to_owned()) {
            return Err(problem(format!(
                "is given twice, as {} and as {0}_file: keep one of them",
                key.name
            )));
        }
        self.origins.insert(path.to_owned(), entry.origin.clone());
        let raw = if from_file { &read_value(&entry.raw).map_err(problem)? } else { &entry.raw };
        (key.set)(&mut self.settings, place, raw).map_err(problem)?;
        if let Some(app) = place.app.filter(|_| schema::is_override(&name)) {
            self.overrides.push(Override { app, key, raw: raw.clone() });
        }
        Ok(())
    }

    /// Gives each app the tables of all apps with its own overrides, when every layer is on.
    pub(super) fn share_tables(&mut self) {
        let (routing, client) = (self.settings.routing.clone(), self.settings.server.client.clone());
        for app in &mut self.settings.apps {
            app.routing = routing.clone();
            app.client = client.clone();
        }
        for Override { app, key, raw } in &self.overrides {
            let accepted = (key.set)(&mut self.settings, Place::app(*app), raw);
            debug_assert_eq!(accepted, Ok(()), "it was accepted before");
        }
    }
}

/// The key an entry means, and whether its value is to be read from a file: any key in the environment
/// (container secrets), secrets in the file too.
fn find(entry: &Entry, name: &str, place: Place) -> Result<(&'static schema::Key, bool), Problem> {
    let problem = |message: &str| Problem::new(entry.origin.clone(), entry.path.as_str(), message);
    if let Some((_, instead)) = schema::UNAVAILABLE.iter().find(|(outer, _)| schema::is_within(name, outer)) {
        return Err(problem(&format!("is not available in this version: {instead}")));
    }
    let is_variable = matches!(entry.origin, Origin::Environment { .. });
    if let Some(header) = schema::header(name) {
        return Err(problem(&match schema::first_key(name).filter(|_| is_variable) {
            Some(key) => format!("is a section: set its keys, as in {}", as_variable(&key, place)),
            None => format!("is a section: write {header} and its keys below"),
        }));
    }
    let in_file = || {
        let key = schema::key(name.strip_suffix("_file")?)?;
        (key.secret || is_variable).then_some((key, true))
    };
    let found = schema::key(name).map(|key| (key, false)).or_else(in_file);
    found.filter(|_| place.fits(name)).ok_or_else(|| {
        let what = if matches!(entry.raw, Raw::Table(_)) { "unknown section" } else { "unknown key" };
        unknown(name, place, is_variable, &problem(what))
    })
}

/// The problem of an unknown name, with what to write instead.
fn unknown(name: &str, place: Place, is_variable: bool, problem: &Problem) -> Problem {
    let in_layer = |known: String| if is_variable { as_variable(&known, place) } else { known };
    match foreign::key(name).filter(|advice| !schema::knows_better(name, advice)) {
        Some(Advice::Use(key, text)) => Problem {
            nearest: Some(in_layer(key.to_owned()).into()),
            advice: Some(text).filter(|text| !text.is_empty()),
            ..problem.clone()
        },
        Some(Advice::Needless(why)) => {
            Problem { message: format!("{} and not needed: {why}", problem.message), ..problem.clone() }
        }
        None => {
            let variable = || stray::suggestion(&problem.key).filter(|_| is_variable);
            let nearest = variable().or_else(|| schema::nearest(name).map(in_layer));
            let advice = nearest.is_none().then_some("`switchboard config reference` lists all keys");
            let message =
                if nearest.is_none() { format!("{}.", problem.message) } else { problem.message.clone() };
            Problem { nearest: nearest.map(Into::into), advice, message, ..problem.clone() }
        }
    }
}

/// The variable that sets a known key.
pub(super) fn as_variable(name: &str, place: Place) -> String {
    let (app, webhook) = (place.app.unwrap_or(0), place.webhook.unwrap_or(0));
    let own = schema::own_name(name).filter(|_| place.app.is_some());
    let name = own.as_deref().unwrap_or(name);
    let name = match name.strip_prefix("apps.webhooks.") {
        Some(key) => format!("apps.{app}.webhooks.{webhook}.{key}"),
        None => name.strip_prefix("apps.").map_or(name.to_owned(), |key| format!("apps.{app}.{key}")),
    };
    variable_name(&name)
}

/// How many tables a list has; up to the first gap, which is a problem. Also keeps an absurd index from being
/// allocated.
fn counted(list: &str, tables: &BTreeMap<usize, &Origin>, problems: &mut Vec<Problem>) -> usize {
    let count = (0..tables.len()).find(|index| !tables.contains_key(index)).unwrap_or(tables.len());
    if let Some((index, origin)) = tables.iter().find(|(index, _)| **index >= tables.len()) {
        let what = list.rsplit('.').next().unwrap_or(list);
        let message = format!("{what} are counted from 0 without gaps; the next one is {count}");
        problems.push(Problem::new((*origin).clone(), format!("{list}.{index}"), message));
    }
    count
}

/// Reads a value from the file that `raw` names. Lists have one item a line: a secret may hold a comma.
fn read_value(raw: &Raw) -> Result<Raw, String> {
    let path = raw.text()?;
    let text = fs::read_to_string(path).map_err(|error| format!("cannot read the file {path:?}: {error}"))?;
    Ok(Raw::Untyped(text.trim_end_matches(['\r', '\n']).to_owned(), '\n'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(path: &str, text: &str) -> Entry {
        let origin = Origin::Environment { name: "X".into(), file: None };
        Entry { path: path.to_owned(), origin, raw: Raw::Untyped(text.to_owned(), ',') }
    }

    fn layers(apps: usize) -> Layers {
        Layers::new(&(0..apps).map(|index| (Place::app(index), Origin::Default)).collect(), Vec::new())
    }

    #[test]
    fn a_later_layer_covers_an_earlier_one() {
        let mut layers = layers(1);
        layers.put(&[entry("log.level", "warn"), entry("apps.0.max_batch", "5")]);
        layers.put(&[entry("log.level", "debug")]);
        assert_eq!(layers.problems, []);
        assert_eq!((layers.settings.log.level.as_str(), layers.settings.apps[0].max_batch), ("debug", 5));
        assert_eq!(layers.origins.keys().collect::<Vec<_>>(), ["apps.0.max_batch", "log.level"]);
    }

    #[test]
    fn each_fault_is_reported_and_the_rest_is_kept() {
        for (path, message, nearest) in [
            ("server.bnid", "unknown key", Some("SWITCHBOARD__SERVER__BIND")),
            ("apps.2.secret", "unknown key", Some("SWITCHBOARD__APPS__2__SECRETS")),
            ("apps.key", "unknown key", Some("SWITCHBOARD__APPS__0__KEY")),
            ("server.bind.port", "unknown key", Some("SWITCHBOARD__SERVER__PORT")),
            ("replay.keep", "is not available in this version: remove the section", None),
            ("apps.0.webhooks.0.urll", "unknown key", Some("SWITCHBOARD__APPS__0__WEBHOOKS__0__URL")),
            ("apps.0.webhooks.url", "unknown key", Some("SWITCHBOARD__APPS__0__WEBHOOKS__0__URL")),
            (
                "server.tls.certificate",
                "is not available in this version: let a proxy such as nginx, Caddy or HAProxy end TLS (docs/deployment.md)",
                None,
            ),
            ("server", "is a section: set its keys, as in SWITCHBOARD__SERVER__BIND", None),
            ("apps", "is a section: set its keys, as in SWITCHBOARD__APPS__0__ID", None),
        ] {
            let mut layers = layers(1);
            layers.put(&[entry(path, "x"), entry("log.level", "debug")]);
            let found: Vec<_> =
                layers.problems.iter().map(|p| (&*p.key, p.message.as_str(), p.nearest.as_deref())).collect();
            assert_eq!(found, [(path, message, nearest)]);
            assert_eq!(layers.settings.log.level, "debug");
        }
    }

    #[test]
    fn apps_are_counted_without_gaps() {
        let apps = [(Place::app(0), Origin::Default), (Place::app(4_000_000_000), Origin::Flag("x"))].into();
        let mut layers = Layers::new(&apps, Vec::new());
        layers.put(&[entry("apps.4000000000.id", "1")]);
        assert_eq!(layers.problems.len(), 1);
        assert_eq!(
            layers.problems[0].to_string(),
            "flag x: apps.4000000000: apps are counted from 0 without gaps; the next one is 1"
        );
        assert_eq!(layers.settings.apps.len(), 1);
    }

    #[test]
    fn values_are_read_from_files() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("secrets");
        fs::write(&path, "one,with comma\ntwo\n").expect("write");
        let path = path.to_str().expect("text");
        let mut layers = layers(1);
        layers.put(&[entry("apps.0.secrets_file", path), entry("admin.token_file", "/nonexistent")]);
        let secrets: Vec<_> = layers.settings.apps[0].secrets.iter().map(|secret| secret.expose()).collect();
        assert_eq!(secrets, ["one,with comma", "two"]);
        assert!(layers.origins.contains_key("apps.0.secrets"));
        assert_eq!(layers.problems.len(), 1);
        assert!(layers.problems[0].message.starts_with("cannot read the file \"/nonexistent\""));
    }

    #[test]
    fn a_value_and_its_file_exclude_each_other() {
        let mut layers = layers(0);
        layers.put(&[entry("admin.token", "a"), entry("admin.token_file", "/nonexistent")]);
        assert_eq!(
            layers.problems[0].message,
            "is given twice, as token and as token_file: keep one of them"
        );
    }
}
