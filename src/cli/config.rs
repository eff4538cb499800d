//! `switchboard config show|init|docs`.

use std::fmt::Write;
use std::io;

use serde_json::{Value, json};

use super::terminal::Terminal;
use super::{Exit, refuse};
use crate::config::{self, Row, Sources};

/// Prints each effective value and its origin; secrets as fingerprints.
pub(super) fn show(sources: &Sources, terminal: &mut Terminal) -> io::Result<Exit> {
    let loaded = match config::load(sources) {
        Ok(loaded) => loaded,
        Err(problems) => return refuse(&problems, terminal),
    };
    let rows = config::rows(&loaded);
    if terminal.json() {
        let settings: Vec<_> = rows.iter().map(to_json).collect();
        terminal.object(&json!({ "development": loaded.settings.development, "settings": settings }))?;
    } else {
        terminal.text(&table(&rows))?;
    }
    Ok(Exit::Fine)
}

fn to_json(row: &Row) -> Value {
    json!({ "key": row.key, "value": row.value, "source": row.origin.to_string() })
}

fn table(rows: &[Row]) -> String {
    let setting = |row: &Row| match &row.value {
        Value::Null => format!("{} is not set", row.key),
        value => format!("{} = {value}", row.key),
    };
    let settings: Vec<_> = rows.iter().map(setting).collect();
    let width = settings.iter().map(|setting| setting.chars().count()).max().unwrap_or(0);
    let mut text = String::new();
    for (setting, row) in settings.iter().zip(rows) {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{setting:width$}  # {}", row.origin);
    }
    text
}

/// Prints a commented file to start from.
pub(super) fn init(terminal: &mut Terminal) -> io::Result<Exit> {
    let text = config::starter();
    terminal.answer(&json!({ "file": "switchboard.toml", "content": text }), || text.clone())?;
    Ok(Exit::Fine)
}

/// Prints the reference page; with `--json` the keys it is made of.
pub(super) fn docs(terminal: &mut Terminal) -> io::Result<Exit> {
    terminal.answer(&json!({ "keys": config::reference_json() }), config::reference)?;
    Ok(Exit::Fine)
}
