//! Reads a Laravel `.env` file the way Laravel does.
//!
//! The rules are those of vlucas/phpdotenv 5, because a secret must come out here as it does there:
//! only `${NAME}` is a reference (a bare `$` is text), single quotes take everything literally, double
//! quotes know `\n \r \t \f \v \\ \" \$`, unquoted values end at white space or `#`.

use std::iter::Peekable;
use std::str::Chars;

/// One `NAME=value` line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Assignment {
    pub name: String,
    pub value: String,
    /// Where it begins, counted from 1.
    pub line: usize,
    /// A `${NAME}` that no earlier line and not the environment sets. Laravel leaves it as it stands, so
    /// it is a fault only if this value is used.
    pub unresolved: Option<String>,
}

/// Parses a whole file. `environment` comes before earlier lines of the file, as in Laravel.
///
/// # Errors
/// Line and fault of every line that cannot be read; Laravel would not start with such a file.
pub(super) fn parse(
    text: &str,
    environment: impl Fn(&str) -> Option<String>,
) -> Result<Vec<Assignment>, Vec<(usize, String)>> {
    let mut assignments: Vec<Assignment> = Vec::new();
    let mut faults = Vec::new();
    let mut reader =
        Reader { chars: text.strip_prefix('\u{feff}').unwrap_or(text).chars().peekable(), line: 1 };
    while reader.chars.peek().is_some() {
        let line = reader.line;
        let lookup = |name: &str| {
            environment(name)
                .or_else(|| assignments.iter().rev().find(|a| a.name == name).map(|a| a.value.clone()))
        };
        match reader.assignment(&lookup) {
            Ok(Some(assignment)) => assignments.push(assignment),
            Ok(None) => {}
            Err(fault) => {
                faults.push((line, fault));
                reader.skip_line();
            }
        }
    }
    if faults.is_empty() { Ok(assignments) } else { Err(faults) }
}

/// Does not quote the line: it may be the rest of a secret.
const BAD_NAME: &str = "the line does not begin with a variable name";

struct Reader<'a> {
    chars: Peekable<Chars<'a>>,
    line: usize,
}

/// A value while it is read.
#[derive(Default)]
struct Value {
    text: String,
    unresolved: Option<String>,
}

impl Reader<'_> {
    /// Reads up to and including the end of a line, more lines if a quoted value spans them.
    fn assignment(&mut self, lookup: &dyn Fn(&str) -> Option<String>) -> Result<Option<Assignment>, String> {
        self.skip_blanks();
        let line = self.line;
        let mut name = String::new();
        while let Some(&c) = self.chars.peek().filter(|c| !matches!(c, '=' | '\n' | '#')) {
            name.push(c);
            self.chars.next();
        }
        let name = name.trim();
        let name = name.strip_prefix("export ").map_or(name, str::trim_start).to_owned();
        if self.chars.peek() != Some(&'=') {
            // A comment, an empty line, or a name alone, which sets nothing.
            let sets_nothing = is_name(&name) || name.is_empty();
            if sets_nothing {
                self.skip_line();
                return Ok(None);
            }
            return Err(BAD_NAME.to_owned());
        }
        self.chars.next();
        if !is_name(&name) {
            return Err(BAD_NAME.to_owned());
        }
        let value = self.value(lookup).map_err(|fault| format!("{name}: {fault}"))?;
        Ok(Some(Assignment { name, value: value.text, line, unresolved: value.unresolved }))
    }

    fn value(&mut self, lookup: &dyn Fn(&str) -> Option<String>) -> Result<Value, String> {
        self.skip_blanks();
        let mut value = Value::default();
        match self.chars.peek() {
            Some('\'') => self.single_quoted(&mut value)?,
            Some('"') => self.double_quoted(&mut value, lookup)?,
            _ => {
                while let Some(&c) = self.chars.peek().filter(|c| !c.is_whitespace() && **c != '#') {
                    self.chars.next();
                    self.plain(c, &mut value, lookup);
                }
            }
        }
        self.skip_blanks();
        match self.chars.peek() {
            None | Some('\n' | '#') => self.skip_line(),
            Some(_) => return Err("has text after its end; put quotes around a value with spaces".to_owned()),
        }
        Ok(value)
    }

    fn single_quoted(&mut self, value: &mut Value) -> Result<(), String> {
        self.chars.next();
        loop {
            match self.next_char() {
                Some('\'') => return Ok(()),
                Some(c) => value.text.push(c),
                None => return Err("has no closing '".to_owned()),
            }
        }
    }

    fn double_quoted(
        &mut self,
        value: &mut Value,
        lookup: &dyn Fn(&str) -> Option<String>,
    ) -> Result<(), String> {
        self.chars.next();
        loop {
            match self.next_char() {
                Some('"') => return Ok(()),
                Some('\\') => match self.next_char() {
                    Some(c @ ('"' | '\\' | '$')) => value.text.push(c),
                    Some('n') => value.text.push('\n'),
                    Some('r') => value.text.push('\r'),
                    Some('t') => value.text.push('\t'),
                    Some('f') => value.text.push('\u{c}'),
                    Some('v') => value.text.push('\u{b}'),
                    _ => {
                        return Err("has an unknown \\ sequence; use single quotes for plain text".to_owned());
                    }
                },
                Some(c) => self.plain(c, value, lookup),
                None => return Err("has no closing \"".to_owned()),
            }
        }
    }

    /// Takes a character, or the whole `${NAME}` that begins with it.
    fn plain(&mut self, c: char, value: &mut Value, lookup: &dyn Fn(&str) -> Option<String>) {
        let reference = (c == '$').then(|| self.reference()).flatten();
        let Some(name) = reference else {
            value.text.push(c);
            return;
        };
        for _ in 0..name.len() + 2 {
            self.chars.next();
        }
        match lookup(&name) {
            Some(found) => value.text.push_str(&found),
            None => {
                value.text.push_str(&format!("${{{name}}}"));
                value.unresolved.get_or_insert(name);
            }
        }
    }

    /// The name in `{NAME}` at this place.
    fn reference(&self) -> Option<String> {
        let mut ahead = self.chars.clone();
        if ahead.next() != Some('{') {
            return None;
        }
        let mut name = String::new();
        loop {
            match ahead.next()? {
                '}' => return is_name(&name).then_some(name),
                c => name.push(c),
            }
        }
    }

    fn next_char(&mut self) -> Option<char> {
        let c = self.chars.next();
        self.line += usize::from(c == Some('\n'));
        c
    }

    fn skip_blanks(&mut self) {
        while self.chars.peek().is_some_and(|c| c.is_whitespace() && *c != '\n') {
            self.chars.next();
        }
    }

    fn skip_line(&mut self) {
        while self.next_char().is_some_and(|c| c != '\n') {}
    }
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '.')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(text: &str) -> Vec<(String, String)> {
        let environment = |name: &str| (name == "OUTSIDE").then(|| "from outside".to_owned());
        let assignments = parse(text, environment).expect("readable");
        assignments.into_iter().map(|assignment| (assignment.name, assignment.value)).collect()
    }

    #[test]
    fn values_come_out_as_in_laravel() {
        for (line, expected) in [
            ("A=plain", "plain"),
            ("A = spaced ", "spaced"),
            ("export A=exported", "exported"),
            ("A=", ""),
            ("A=\"\"", ""),
            ("A=value # comment", "value"),
            ("A=value#comment", "value"),
            ("A=# comment", ""),
            ("A=\"a # b\"", "a # b"),
            ("A='a # ${OUTSIDE} \\n'", "a # ${OUTSIDE} \\n"),
            ("A=\"two words\" # comment", "two words"),
            ("A=\"line\\nbreak \\\"quoted\\\" \\\\ \\$x\"", "line\nbreak \"quoted\" \\ $x"),
            ("A=\"two\nlines\"", "two\nlines"),
            ("A=pa$$word", "pa$$word"),
            ("A=\"$OUTSIDE\"", "$OUTSIDE"),
            ("A=${OUTSIDE}", "from outside"),
            ("A=\"<${OUTSIDE}>\"", "<from outside>"),
            ("A=${UNKNOWN}", "${UNKNOWN}"),
            ("A=${not closed", "${not"),
            ("A=base64:ab+/=", "base64:ab+/="),
            ("A=it's", "it's"),
            ("\u{feff}A=marked", "marked"),
            ("A=carriage\r\n", "carriage"),
        ] {
            if line.contains("not closed") {
                assert!(parse(line, |_| None).is_err(), "{line}");
                continue;
            }
            assert_eq!(values(line), [("A".to_owned(), expected.to_owned())], "{line}");
        }
    }

    #[test]
    fn lines_are_counted_and_later_lines_see_earlier_ones() {
        let text = "# comment\n\nKEY=k\nLONG=\"a\nb\"\nNAME_ONLY\nCOPY=\"${KEY}-${LATER}\"\nLATER=x\n";
        let assignments = parse(text, |_| None).expect("readable");
        let lines: Vec<_> = assignments.iter().map(|a| (a.name.as_str(), a.line)).collect();
        assert_eq!(lines, [("KEY", 3), ("LONG", 4), ("COPY", 7), ("LATER", 8)]);
        assert_eq!(assignments[2].value, "k-${LATER}");
        assert_eq!(assignments[2].unresolved.as_deref(), Some("LATER"));
        assert_eq!(assignments[3].unresolved, None);
    }

    #[test]
    fn every_unreadable_line_is_reported() {
        let faults = parse("A=two words\nB=ok\nC D=x\nno sign\nE='open", |_| None).expect_err("unreadable");
        let lines: Vec<_> = faults.iter().map(|(line, _)| *line).collect();
        assert_eq!(lines, [1, 3, 4, 5]);
        assert!(faults[0].1.contains("put quotes"), "{}", faults[0].1);
        assert!(faults[1].1.contains("variable name"), "{}", faults[1].1);
        assert!(faults[3].1.contains("no closing '"), "{}", faults[3].1);
    }
}
