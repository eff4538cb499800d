//! Turns the TOML file into entries.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use toml_edit::{Document, Item, TableLike, Value};

use super::interpolate::interpolate;
use super::layers::Entry;
use super::problem::{Origin, Problem, shown};
use super::raw::Raw;
use super::schema::{self, Place};

/// What a file holds.
#[derive(Default)]
pub(super) struct File {
    pub entries: Vec<Entry>,
    /// Place of each `[[apps]]` and `[[apps.webhooks]]`.
    pub tables: Vec<(Place, Origin)>,
    pub problems: Vec<Problem>,
}

/// Parses a file's text and resolves references with `lookup`.
///
/// # Errors
/// The place where it stops being TOML. Faults of single values are in [`File::problems`].
pub(super) fn parse<'a>(
    path: &Path,
    text: &str,
    lookup: &dyn Fn(&str) -> Option<&'a str>,
) -> Result<File, Problem> {
    let path = shown(path);
    let document = Document::parse(text).map_err(|error| {
        // Only message and line: the error's own text would quote the line, which may hold a secret.
        let line = error.span().map(|span| line_of(text, span.start));
        let origin = Origin::File { path: path.clone(), line };
        Problem::new(origin, "", format!("is not TOML: {}", error.message()))
    })?;
    let mut reader = Reader { path, text, lookup, file: File::default() };
    reader.table(document.as_table(), "");
    Ok(reader.file)
}

fn line_of(text: &str, offset: usize) -> usize {
    text.as_bytes().iter().take(offset).filter(|byte| **byte == b'\n').count() + 1
}

struct Reader<'a, 'b> {
    path: Arc<str>,
    text: &'b str,
    lookup: &'b dyn Fn(&str) -> Option<&'a str>,
    file: File,
}

impl Reader<'_, '_> {
    /// Descends into known sections; everything else becomes an entry, which is judged with the others.
    fn table(&mut self, table: &dyn TableLike, prefix: &str) {
        for (name, item) in table.iter() {
            let span = table.get_key_value(name).and_then(|(key, _)| key.span()).or_else(|| item.span());
            // A quoted dot must not pass for a section's.
            let name = if name.contains('.') { format!("{name:?}") } else { name.to_owned() };
            let path = if prefix.is_empty() { name } else { format!("{prefix}.{name}") };
            let is_list = schema::is_list(&path);
            let listed = if is_list { tables(item) } else { None };
            match (listed, item.as_table_like()) {
                (Some(listed), _) => self.list(&path, &listed),
                (None, Some(inner)) if !is_list && is_section(&path) => self.table(inner, &path),
                _ => self.value(path, span, item),
            }
        }
    }

    fn list(&mut self, path: &str, tables: &[Listed]) {
        for (index, (table, span)) in tables.iter().enumerate() {
            let path = format!("{path}.{index}");
            let place = schema::without_index(&path).1;
            self.file.tables.push((place, self.origin(span.clone())));
            self.table(*table, &path);
        }
    }

    fn value(&mut self, path: String, span: Option<Range<usize>>, item: &Item) {
        let origin = self.origin(span);
        let raw = match item {
            Item::Value(value) => self.raw(value),
            Item::ArrayOfTables(_) => Ok(Raw::Other("a list of tables")),
            Item::Table(table) => self.raw_table(table),
            Item::None => Ok(Raw::Other("nothing")),
        };
        match raw {
            Ok(raw) => self.file.entries.push(Entry { path, origin, raw }),
            Err(message) => self.file.problems.push(Problem::new(origin, path, message)),
        }
    }

    fn raw(&self, value: &Value) -> Result<Raw, String> {
        Ok(match value {
            // Text with a reference takes the type its key asks for, like text from the environment.
            Value::String(text) => match interpolate(text.value(), self.lookup)? {
                Some(text) => Raw::Untyped(text, ','),
                None => Raw::Text(text.value().clone()),
            },
            Value::Integer(number) => Raw::Integer(*number.value()),
            Value::Boolean(flag) => Raw::Boolean(*flag.value()),
            Value::Array(items) => {
                Raw::List(items.iter().map(|item| self.raw(item)).collect::<Result<_, _>>()?)
            }
            Value::Float(_) => Raw::Other("a fraction"),
            Value::Datetime(_) => Raw::Other("a date"),
            Value::InlineTable(table) => self.raw_table(table)?,
        })
    }

    fn raw_table(&self, table: &dyn TableLike) -> Result<Raw, String> {
        let entry = |(name, item): (&str, &Item)| {
            let raw = match item {
                Item::Value(value) => self.raw(value)?,
                _ => Raw::Other("a table"),
            };
            Ok::<_, String>((name.to_owned(), raw))
        };
        table.iter().map(entry).collect::<Result<_, _>>().map(Raw::Table)
    }

    fn origin(&self, span: Option<Range<usize>>) -> Origin {
        let line = span.map(|span| line_of(self.text, span.start));
        Origin::File { path: self.path.clone(), line }
    }
}

fn is_section(path: &str) -> bool {
    schema::header(&schema::without_index(path).0).is_some()
}

/// A table of a list and where it stands.
type Listed<'a> = (&'a dyn TableLike, Option<Range<usize>>);

/// The tables of `[[apps]]`, also when written as `apps = [{…}]`.
fn tables(item: &Item) -> Option<Vec<Listed<'_>>> {
    match item {
        Item::ArrayOfTables(tables) => {
            Some(tables.iter().map(|table| (table as &dyn TableLike, table.span())).collect())
        }
        Item::Value(Value::Array(items)) => items
            .iter()
            .map(|item| item.as_inline_table().map(|table| (table as &dyn TableLike, table.span())))
            .collect(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_text(text: &str) -> Result<File, Problem> {
        parse(Path::new("t.toml"), text, &|name| (name == "HOST").then_some("portal.example"))
    }

    fn entries(text: &str) -> Vec<(String, String, Raw)> {
        let file = parse_text(text).expect("TOML");
        assert_eq!(file.problems, []);
        file.entries.into_iter().map(|entry| (entry.path, entry.origin.to_string(), entry.raw)).collect()
    }

    fn one(raw: Raw, name: &str) -> Raw {
        Raw::Table(vec![(name.to_owned(), raw)])
    }

    fn expect(text: &str, path: &str, place: &str, raw: Raw) {
        assert_eq!(entries(text), [(path.to_owned(), place.to_owned(), raw)], "{text}");
    }

    #[test]
    fn keys_become_paths_with_lines() {
        expect("\n[server]\n# ${IGNORED}\nshards = 2", "server.shards", "t.toml:4", Raw::Integer(2));
        expect("server.drain.close_code = 1", "server.drain.close_code", "t.toml:1", Raw::Integer(1));
        expect("server = { shards = 2 }", "server.shards", "t.toml:1", Raw::Integer(2));
        expect("[[apps]]\n[[apps]]\nid = \"7\"", "apps.1.id", "t.toml:3", Raw::Text("7".to_owned()));
        expect("apps = [\n {id = 7}]", "apps.0.id", "t.toml:2", Raw::Integer(7));
        expect("[apps.webhooks]\nx = 1", "apps", "t.toml:1", one(Raw::Other("a table"), "webhooks"));
        let url = "apps.0.webhooks.1.url";
        expect("[[apps]]\n[[apps.webhooks]]\n[[apps.webhooks]]\nurl = 1", url, "t.toml:4", Raw::Integer(1));
        expect("[[apps]]\nwebhooks = [{}, {url = 1}]", url, "t.toml:2", Raw::Integer(1));
        let headers = "apps.0.webhooks.0.headers";
        let table = one(Raw::Text("1".to_owned()), "X-A");
        expect("[[apps]]\n[[apps.webhooks]]\nheaders = {X-A = \"1\"}", headers, "t.toml:3", table.clone());
        expect(
            "[[apps]]\n[[apps.webhooks]]\n[apps.webhooks.headers]\nX-A = \"1\"",
            headers,
            "t.toml:3",
            table,
        );
        expect("[server.bind]\nx = 1", "server.bind", "t.toml:1", one(Raw::Integer(1), "x"));
        expect("server = 5", "server", "t.toml:1", Raw::Integer(5));
        expect("\"server.bind\" = 5", "\"server.bind\"", "t.toml:1", Raw::Integer(5));
        expect("[log]\nlevel = 1.5", "log.level", "t.toml:2", Raw::Other("a fraction"));
    }

    #[test]
    fn references_are_resolved_in_string_values_only() {
        let host = Raw::Untyped("portal.example".to_owned(), ',');
        expect("x = \"${HOST}\" # ${NOT_SET}", "x", "t.toml:1", host.clone());
        expect("x = [\"${HOST}\", true]", "x", "t.toml:1", Raw::List(vec![host, Raw::Boolean(true)]));
        let file = parse_text("[[apps]]\nid = \"1\"\nsecrets = [\n  \"${GONE}\"\n]").expect("TOML");
        assert_eq!(
            file.problems[0].to_string(),
            "t.toml:3: apps.0.secrets: ${GONE} is not set; set it or write ${GONE:-default}"
        );
        assert_eq!(file.entries.len(), 1);
    }

    #[test]
    fn what_is_not_toml_is_located_and_not_quoted() {
        let problem = parse_text("[[apps]]\nsecrets = [\"hidden\n").err().expect("not TOML");
        let text = problem.to_string();
        assert!(text.starts_with("t.toml:2: is not TOML: "), "{text}");
        assert!(!text.contains("hidden"), "{text}");
    }
}
