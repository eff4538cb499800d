//! Configuration: one TOML file, the environment, flags; fails closed.
//!
//! [`load`] puts the layers over each other, low to high: defaults, file, the variables Laravel and other
//! servers use for an app, `SWITCHBOARD__SECTION__KEY`, flags. It returns finished [`Settings`] with the
//! [`Origin`] of each value, or every [`Problem`] at once; there is no partial result.
//!
//! `schema` is the one description of all keys. Each layer becomes `Entry`s (path, place, raw value), so
//! that unknown keys, types and ranges are judged in one place, `layers`. An app's router has the keys of
//! `[routing]` and then its own, whichever layer each comes from.
//!
//! May import nothing of ours.

mod credential;
mod development;
mod dotenv;
mod environment;
mod file;
mod foreign;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod interpolate;
mod kind;
mod layers;
pub mod media_type;
mod problem;
mod raw;
mod reference;
mod routing;
mod routing_kind;
mod rules;
mod schema;
mod secret;
mod settings;
mod shape;
mod sql;
mod starter;
mod stray;
mod units;
mod url;
mod webhooks;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

pub use environment::Endpoint;
pub use problem::{Origin, Origins, Problem, Problems};
pub use reference::{Row, commented_file, reference, reference_json, rows};
pub use routing::*;
pub use secret::Secret;
pub use settings::*;
pub use sql::{Parameter, parameters};
pub use starter::starter;
pub use units::parse_duration;
pub use webhooks::{WebhookEvent, WebhookSettings};

use environment::Environment;
use layers::{Entry, Layers};
use raw::Raw;
use schema::Place;

/// What [`load`] reads.
// No `Debug`: the environment holds secrets.
#[derive(Clone, Default)]
pub struct Sources {
    /// The TOML file; `None`: no file.
    pub file: Option<PathBuf>,
    /// A Laravel `.env` file, below the process environment.
    pub env_file: Option<PathBuf>,
    /// The process environment.
    pub environment: Vec<(OsString, OsString)>,
    /// Flags: name with dashes, dotted key, value.
    pub flags: Vec<(&'static str, &'static str, String)>,
    /// Whether a missing development app is made. Without it [`Settings::apps`] may be empty.
    pub create_development_app: bool,
}

/// What [`load`] found.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The effective settings.
    pub settings: Settings,
    /// Where those values come from that are not defaults.
    pub origins: Origins,
    /// Where clients reach the server, for printed snippets.
    pub endpoint: Endpoint,
    /// Variables without effect: those of other servers, and what to set instead. No reason not to start.
    pub hints: Vec<Problem>,
}

/// Reads all layers.
///
/// # Errors
/// Everything that is wrong.
pub fn load(sources: &Sources) -> Result<Loaded, Problems> {
    load_from(sources, |path| fs::read_to_string(path))
}

fn load_from(sources: &Sources, read: impl FnOnce(&Path) -> io::Result<String>) -> Result<Loaded, Problems> {
    let mut problems = Vec::new();
    let environment = Environment::read(&sources.environment, sources.env_file.as_deref(), &mut problems);
    let file = read_file(sources, &environment, read).unwrap_or_else(|problem| {
        problems.push(problem);
        file::File::default()
    });
    // What an unreadable file would have set is unknown, so rules between keys would mislead.
    let is_complete = problems.is_empty();
    problems.extend(file.problems);

    let mut stack = vec![file.entries];
    if is_complete && file.tables.is_empty() {
        stack.push(environment.app(&mut problems));
    }
    stack.push(environment.entries(&mut problems));
    let hints = stray::look(&environment, &mut problems);
    stack.push(flag_entries(sources));
    let tables = table_places(file.tables, &stack);

    let mut layers = Layers::new(&tables, problems);
    for layer in &stack {
        layers.put(layer);
    }
    if is_complete {
        let is_about_apps = |problem: &Problem| problem.key.starts_with("apps");
        if tables.is_empty() && !layers.problems.iter().any(is_about_apps) {
            enter_development_mode(&mut layers);
        }
        if let Some(port) = layers.settings.server.port.take() {
            layers.settings.server.bind.set_port(port);
        }
        layers.share_tables();
        rules::check(&mut layers, &tables);
        if layers.settings.development {
            // Nothing is written to disk for a configuration that is refused.
            let create = sources.create_development_app && layers.problems.is_empty();
            add_development_app(&mut layers, create);
        }
    }
    let Layers { settings, origins, problems, .. } = layers;
    if !problems.is_empty() {
        return Err(Problems(problems));
    }
    Ok(Loaded { settings, origins, endpoint: environment.endpoint(), hints })
}

fn read_file(
    sources: &Sources,
    environment: &Environment,
    read: impl FnOnce(&Path) -> io::Result<String>,
) -> Result<file::File, Problem> {
    let Some(path) = &sources.file else { return Ok(file::File::default()) };
    let text =
        read(path).map_err(|error| Problem::new(Origin::whole_file(path), "", unreadable_file(&error)))?;
    file::parse(path, &text, &|name| environment.refer_to(name))
}

fn unreadable_file(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => {
            format!(
                "cannot be read: {error}; `switchboard config init > switchboard.toml` writes a file to start from"
            )
        }
        _ => format!("cannot be read: {error}"),
    }
}

fn flag_entries(sources: &Sources) -> Vec<Entry> {
    let entry = |(flag, path, value): &(&'static str, &str, String)| Entry {
        path: (*path).to_owned(),
        origin: Origin::Flag(flag),
        raw: Raw::Untyped(value.clone(), ','),
    };
    sources.flags.iter().map(entry).collect()
}

/// The first place that mentions each app and each webhook.
fn table_places(file: Vec<(Place, Origin)>, layers: &[Vec<Entry>]) -> BTreeMap<Place, Origin> {
    let mut places: BTreeMap<_, _> = file.into_iter().collect();
    for entry in layers.iter().flatten() {
        let (_, place) = schema::without_index(&entry.path);
        if let Some(app) = place.app {
            places.entry(place).or_insert_with(|| entry.origin.clone());
            places.entry(Place::app(app)).or_insert_with(|| entry.origin.clone());
        }
    }
    places
}

fn enter_development_mode(layers: &mut Layers) {
    layers.settings.development = true;
    if !layers.origins.contains_key("server.bind") {
        layers.settings.server.bind = ServerSettings::default().bind;
    }
}

fn add_development_app(layers: &mut Layers, create: bool) {
    let data_dir = &layers.settings.server.data_dir;
    let app =
        if create { development::load_or_create(data_dir).map(Some) } else { development::load(data_dir) };
    match app {
        Ok(app) => {
            for name in ["id", "key", "secrets", "client_events"].iter().filter(|_| app.is_some()) {
                let origin = Origin::whole_file(&development::path(data_dir));
                layers.origins.insert(format!("apps.0.{name}"), origin);
            }
            let routing = layers.settings.routing.clone();
            layers.settings.apps.extend(app.map(|app| AppSettings { routing, ..app }));
        }
        Err(problem) => layers.problems.push(problem),
    }
}

#[cfg(test)]
mod tests;
