//! Rules that concern more than one key, checked when every layer is on.

use std::net::SocketAddr;

use super::layers::Layers;
use super::problem::{Origin, Problem};

/// Keys without which an app is none.
const REQUIRED: [&str; 3] = ["id", "key", "secrets"];

/// Adds a problem for each rule that is broken. `apps` are the places where the apps begin.
pub(super) fn check(layers: &mut Layers, apps: &[Origin]) {
    let mut found = missing_credentials(layers, apps);
    found.extend(duplicates(layers, "id", |app| &app.id));
    found.extend(duplicates(layers, "key", |app| &app.key));
    found.extend(listeners(layers));
    layers.problems.extend(found);
}

fn missing_credentials(layers: &Layers, apps: &[Origin]) -> Vec<Problem> {
    let mut found = Vec::new();
    for (index, origin) in apps.iter().enumerate().take(layers.settings.apps.len()) {
        let app = format!("apps.{index}");
        // A value that was refused, or a partial app, was reported where it stands.
        let is_reported =
            |path: &str| layers.problems.iter().any(|p| p.key == app || p.key.starts_with(path));
        for name in REQUIRED {
            let path = format!("{app}.{name}");
            if !layers.origins.contains_key(&path) && !is_reported(&path) {
                found.push(Problem::new(
                    origin.clone(),
                    &app,
                    format!("{name} is missing; an app needs id, key and secrets"),
                ));
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
            let message = format!("{this:?} is already the {name} of another app ({place})");
            found.push(Problem::new(layers.origins.get(&path).cloned().unwrap_or_default(), path, message));
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
    if settings.development && !public.ip().is_loopback() {
        let message = format!(
            "{public} is not a loopback address, and no app is configured: set PUSHER_APP_ID, PUSHER_APP_KEY and \
             PUSHER_APP_SECRET, or write [[apps]] with id, key and secrets into switchboard.toml"
        );
        found.push(problem("server.bind", message));
    }
    let token_is_reported = layers.problems.iter().any(|p| p.key.starts_with("admin.token"));
    if !admin.ip().is_loopback() && settings.admin.token.is_none() && !token_is_reported {
        let message = format!("{admin} is not a loopback address: set admin.token or admin.token_file");
        found.push(problem("admin.bind", message));
    }
    if public.port() != 0 && overlap(public, admin) {
        found.push(problem("admin.bind", format!("{admin} is taken by server.bind ({public})")));
    }
    found
}

fn overlap(a: SocketAddr, b: SocketAddr) -> bool {
    a.port() == b.port() && (a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified())
}
