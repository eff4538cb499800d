//! `switchboard config show|init|reference|docs`.

use std::io;

use serde_json::{Value, json};

use super::table::{WIDTH, wrap};
use super::terminal::Terminal;
use super::{Exit, refuse};
use crate::config::{self, Origin, Row, Sources};

/// Column of the sources, unless every setting is shorter.
const SOURCE_COLUMN: usize = 60;
/// In front of what goes on from the line before.
const INDENT: usize = 4;

/// Prints each effective value and its source, secrets as fingerprints; or only those that are no defaults.
pub(super) fn show(sources: &Sources, changed: bool, terminal: &mut Terminal) -> io::Result<Exit> {
    let loaded = match config::load(sources) {
        Ok(loaded) => loaded,
        Err(problems) => return refuse(&problems, terminal),
    };
    let mut rows = config::rows(&loaded);
    rows.retain(|row| !changed || row.origin != Origin::Default);
    if terminal.json() {
        let settings: Vec<_> = rows.iter().map(to_json).collect();
        terminal.object(&json!({ "development": loaded.settings.development, "settings": settings }))?;
    } else if rows.is_empty() {
        terminal.text("Every setting has its default: switchboard config show\n")?;
    } else {
        terminal.text(&table(&rows))?;
    }
    Ok(Exit::Fine)
}

fn to_json(row: &Row) -> Value {
    json!({ "key": row.key, "value": row.value, "source": row.origin.to_string() })
}

fn table(rows: &[Row]) -> String {
    let settings: Vec<String> = rows.iter().map(setting).collect();
    let lengths = settings.iter().map(|setting| setting.chars().count());
    let column = lengths.filter(|length| *length <= SOURCE_COLUMN).max().unwrap_or(0);
    settings.iter().zip(rows).map(|(setting, row)| lines(setting, &row.origin, column)).collect()
}

fn setting(row: &Row) -> String {
    match &row.value {
        Value::Null => format!("{} is not set", row.key),
        Value::Array(items) => {
            let items: Vec<_> = items.iter().map(Value::to_string).collect();
            format!("{} = [{}]", row.key, items.join(", "))
        }
        value => format!("{} = {value}", row.key),
    }
}

/// A setting and its source: beside each other where both fit, at the right end if need be; else the source on a
/// line of its own.
fn lines(setting: &str, origin: &Origin, column: usize) -> String {
    let source = format!("# {origin}");
    let beside = format!("{setting:column$}  {source}");
    if beside.chars().count() <= WIDTH {
        return format!("{beside}\n");
    }
    let rest = WIDTH.saturating_sub(setting.chars().count());
    if source.chars().count() + 2 <= rest {
        return format!("{setting}{source:>rest$}\n");
    }
    let mut parts = wrap(setting, WIDTH - INDENT);
    parts.extend(wrap(&source, WIDTH - INDENT));
    parts.join(&format!("\n{:INDENT$}", "")) + "\n"
}

/// Prints a short file to start from.
pub(super) fn init(terminal: &mut Terminal) -> io::Result<Exit> {
    let text = config::starter()?;
    terminal.answer(&json!({ "file": "switchboard.toml", "content": text }), || text.clone())?;
    Ok(Exit::Fine)
}

/// Prints a file with every key, its meaning and its default.
pub(super) fn reference(terminal: &mut Terminal) -> io::Result<Exit> {
    terminal.answer(&json!({ "keys": config::reference_json() }), config::commented_file)?;
    Ok(Exit::Fine)
}

/// Prints the reference page; with `--json` the keys it is made of.
pub(super) fn docs(terminal: &mut Terminal) -> io::Result<Exit> {
    terminal.answer(&json!({ "keys": config::reference_json() }), config::reference)?;
    Ok(Exit::Fine)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(key: &str, value: impl Into<Value>, origin: Origin) -> Row {
        Row { key: key.to_owned(), value: value.into(), origin }
    }

    #[test]
    fn no_line_is_longer_than_a_hundred_columns() {
        let name = "SWITCHBOARD__ROUTING__CARRIER__TELNYX__MESSAGING_PROFILE_ID";
        let types: Vec<_> = (0..20).map(|n| format!("application/type-{n}")).collect();
        let text = table(&[
            row("log.level", "info", Origin::Default),
            row("server.port", Value::Null, Origin::Flag("--bind")),
            row("routing.attachments.types", types, Origin::Default),
            row(
                "routing.carrier.telnyx.messaging_profile_id",
                "4".repeat(36),
                Origin::Environment {
                    name: name.into(),
                    file: Some(("a/long/path/to/the/project/.env".into(), 12)),
                },
            ),
            row("routing.events.namespace", "x".repeat(300), Origin::Default),
        ]);
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
        let columns: Vec<_> = text.lines().take(2).map(|line| line.find('#')).collect();
        assert_eq!(columns[0], columns[1], "{text}");
        assert!(text.contains(&format!(".env:12 {name}")), "{text}");
    }
}
