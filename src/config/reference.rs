//! What the schema says to people: effective values, the reference page, a file with every key.

use std::fmt::Write;

use serde_json::{Value, json};

use super::problem::Origin;
use super::schema::{self, Key, Place, Section, sections};
use super::{Loaded, Settings};

/// One effective value.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Dotted, with the index of an app.
    pub key: String,
    /// As the file would hold it; null when not set, fingerprints instead of secrets.
    pub value: Value,
    /// Where it comes from.
    pub origin: Origin,
}

/// Every effective value, in the order of the reference page. Of tables that an app covers only what it covers.
pub fn rows(loaded: &Loaded) -> Vec<Row> {
    let mut rows = Vec::new();
    for section in sections() {
        if section.name == "apps.webhooks" {
            continue; // With their app.
        }
        if section.name != "apps" {
            let place = Place::default();
            rows.extend(section.keys.iter().map(|key| row(loaded, key, place, path(section, key))));
            continue;
        }
        for app in 0..loaded.settings.apps.len() {
            let prefix = format!("apps.{app}");
            let name = |key: &Key| format!("{prefix}.{}", key.name);
            let place = Place::app(app);
            rows.extend(section.keys.iter().map(|key| row(loaded, key, place, name(key))));
            rows.extend(webhooks(loaded, app));
            let keys = sections().flat_map(|section| section.keys.iter().map(move |key| (section, key)));
            let own = |(section, key)| Some((schema::own_name(&path(section, key))?, key));
            let overrides = keys.filter_map(own).map(|(name, key)| (name.replacen("apps", &prefix, 1), key));
            let overrides = overrides.filter(|(path, _)| loaded.origins.contains_key(path));
            rows.extend(overrides.map(|(path, key)| row(loaded, key, place, path)));
        }
    }
    rows
}

fn webhooks(loaded: &Loaded, app: usize) -> Vec<Row> {
    let keys = || sections().filter(|section| section.name == "apps.webhooks").flat_map(|it| it.keys);
    let of_webhook = |webhook| {
        let place = Place { app: Some(app), webhook: Some(webhook) };
        let path = move |key: &Key| format!("apps.{app}.webhooks.{webhook}.{}", key.name);
        keys().map(move |key| row(loaded, key, place, path(key)))
    };
    (0..loaded.settings.apps[app].webhooks.len()).flat_map(of_webhook).collect()
}

fn path(section: &Section, key: &Key) -> String {
    format!("{}.{}", section.name, key.name)
}

fn row(loaded: &Loaded, key: &Key, place: Place, path: String) -> Row {
    let origin = loaded.origins.get(&path).cloned().unwrap_or_default();
    Row { key: path, value: (key.show)(&loaded.settings, place), origin }
}

fn header(section: &Section) -> String {
    schema::header(section.name).expect("bug: a section has a header")
}

/// A documentation comment as one line.
fn prose(doc: &str) -> &str {
    doc.trim()
}

/// The text of `docs/configuration.md`.
pub fn reference() -> String {
    let defaults = schema::shown_defaults();
    let mut page = include_str!("reference.md").to_owned();
    for section in sections() {
        // Writing to a String cannot fail.
        let _ = write!(page, "\n### `{}`\n\n{}\n\n", header(section), prose(section.doc));
        page.push_str("| Key | Value | Default | Meaning |\n|---|---|---|---|\n");
        for key in section.keys {
            let default = default_text(&defaults, section, key);
            let _ =
                writeln!(page, "| `{}` | {} | {default} | {} |", key.name, (key.describe)(), prose(key.doc));
        }
    }
    page
}

/// The keys of the reference page: `section`, `key`, `value`, `default`, `meaning`.
pub fn reference_json() -> Value {
    let defaults = schema::shown_defaults();
    let keys = sections().flat_map(|section| section.keys.iter().map(move |key| (section, key)));
    keys.map(|(section, key)| {
        json!({
            "section": section.name,
            "key": path(section, key),
            "value": (key.describe)(),
            "default": Some((key.show)(&defaults, Place::first())).filter(|_| key.example.is_empty()),
            "meaning": prose(key.doc),
        })
    })
    .collect()
}

fn default_text(defaults: &Settings, section: &Section, key: &Key) -> String {
    match (key.show)(defaults, Place::first()) {
        _ if section.name.starts_with("apps") && !key.example.is_empty() => "required".to_owned(),
        Value::Null => "not set".to_owned(),
        value => format!("`{}`", toml(&value)),
    }
}

/// JSON and TOML write strings, numbers, booleans and lists of them alike, but for the space after commas.
fn toml(value: &Value) -> String {
    match value {
        Value::Array(items) => format!("[{}]", items.iter().map(toml).collect::<Vec<_>>().join(", ")),
        other => other.to_string(),
    }
}

/// A file with every key, its meaning and its default, all as comments.
pub fn commented_file() -> String {
    let defaults = schema::shown_defaults();
    let mut text = "# switchboard.toml: every key with its default. Remove the # before what you change.\n\
                    # Values may hold ${NAME} and ${NAME:-default} from the environment.\n"
        .to_owned();
    for section in sections() {
        text.push('\n');
        for line in wrap(&prose(section.doc).replace('`', "")) {
            let _ = writeln!(text, "# {line}");
        }
        let _ = writeln!(text, "#{}", header(section));
        for key in section.keys {
            let value = match key.example.first() {
                Some(example) if key.name == "secrets" => format!("[{example:?}]"),
                Some(example) if key.name == "port" => (*example).to_owned(),
                Some(example) => format!("{example:?}"),
                None => match (key.show)(&defaults, Place::first()) {
                    Value::Null => "\"\"".to_owned(),
                    value => toml(&value),
                },
            };
            let _ = writeln!(text, "\n#{} = {value}", key.name);
            for line in wrap(&prose(key.doc).replace('`', "")) {
                let _ = writeln!(text, "#   {line}");
            }
        }
    }
    text
}

fn wrap(text: &str) -> Vec<String> {
    let options = textwrap::Options::new(96)
        .break_words(false)
        .word_splitter(textwrap::WordSplitter::NoHyphenation)
        .word_separator(textwrap::WordSeparator::AsciiSpace);
    textwrap::wrap(text, options).into_iter().map(|line| line.into_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `UPDATE_DOCS=1 cargo test --lib config` writes the page; so does `switchboard config docs`.
    #[test]
    fn the_reference_page_is_up_to_date() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/configuration.md");
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(path, reference()).expect("written");
        }
        let page = std::fs::read_to_string(path).unwrap_or_default();
        assert!(page == reference(), "stale: cargo run -- config docs > docs/configuration.md");
    }

    #[test]
    fn every_key_is_documented_and_fits_a_table() {
        for section in sections() {
            for key in section.keys {
                assert!(prose(key.doc).ends_with('.'), "{}", key.name);
                assert!(![key.doc, (key.describe)().as_str()].concat().contains('|'), "{}", key.name);
            }
        }
    }
}
