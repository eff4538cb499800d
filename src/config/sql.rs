//! The operator's SQL: one statement, with named parameters such as `:user_id`.

use std::ops::Range;

/// A named parameter inside a query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter<'a> {
    /// Without its colon.
    pub name: &'a str,
    /// Its bytes in the query, colon included.
    pub range: Range<usize>,
}

/// The named parameters of a query, in order, each as often as it is written. What stands in quotes or
/// comments is none, nor is a cast (`::text`).
pub fn parameters(query: &str) -> Vec<Parameter<'_>> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(token) = next(query, at) {
        if let Token::Parameter(name) = token.kind {
            found.push(Parameter { name, range: token.range.clone() });
        }
        at = token.range.end;
    }
    found
}

/// A single statement, without white space around it and without the semicolon at its end.
///
/// # Errors
/// What stands in the way, without quoting the query.
pub(super) fn statement(query: &str) -> Result<String, String> {
    let query = query.trim();
    let (mut at, mut end) = (0, None);
    while let Some(token) = next(query, at) {
        match token.kind {
            Token::Open(what) => return Err(format!("has {what} that is not closed: close it")),
            Token::Semicolon => end = end.or(Some(token.range.start)),
            Token::Skipped => {}
            _ if end.is_some() => return Err("holds more than one statement: write one SELECT".to_owned()),
            _ => {}
        }
        at = token.range.end;
    }
    Ok(query[..end.unwrap_or(query.len())].trim_end().to_owned())
}

enum Token<'a> {
    Parameter(&'a str),
    Semicolon,
    /// White space and comments.
    Skipped,
    /// A quote or comment without an end.
    Open(&'static str),
    Other,
}

struct Found<'a> {
    kind: Token<'a>,
    range: Range<usize>,
}

fn next(query: &str, at: usize) -> Option<Found<'_>> {
    let rest = &query[at..];
    let first = rest.chars().next()?;
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let (kind, length) = match first {
        // A doubled quote is two strings side by side here, which comes to the same.
        '\'' | '"' | '`' => match rest[1..].find(first) {
            Some(inner) => (Token::Other, inner + 2),
            None => (Token::Open("a quote"), rest.len()),
        },
        _ if rest.starts_with("--") => (Token::Skipped, rest.find('\n').unwrap_or(rest.len())),
        _ if rest.starts_with("/*") => match rest[2..].find("*/") {
            Some(inner) => (Token::Skipped, inner + 4),
            None => (Token::Open("a comment"), rest.len()),
        },
        _ if rest.starts_with("::") => (Token::Other, 2),
        ':' if rest[1..].starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') => {
            let end = rest[1..].find(|c| !is_name(c)).map_or(rest.len(), |inner| inner + 1);
            (Token::Parameter(&rest[1..end]), end)
        }
        ';' => (Token::Semicolon, 1),
        _ if first.is_whitespace() => (Token::Skipped, first.len_utf8()),
        _ => (Token::Other, first.len_utf8()),
    };
    Some(Found { kind, range: at..at + length })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn parameters_outside_of_quotes_comments_and_casts() {
        for (query, names) in [
            ("SELECT 1", &[][..]),
            ("SELECT a FROM t WHERE n = :number AND m IN (:candidates)", &["number", "candidates"]),
            ("SELECT id::text FROM t WHERE u = :user_id::bigint", &["user_id"]),
            ("SELECT ':a', \":b\", `:c`, 'it''s :d' -- :e\n, /* :f */ :g", &["g"]),
            ("SELECT a[1:2], b := 1, :x", &["x"]),
            (":ä :1 : :_a1", &["_a1"]),
        ] {
            let found: Vec<_> = parameters(query).iter().map(|parameter| parameter.name).collect();
            assert_eq!(found, names, "{query}");
            for Parameter { name, range } in parameters(query) {
                assert_eq!(query[range], format!(":{name}"));
            }
        }
    }

    #[test]
    fn one_statement() {
        for (query, kept) in [
            (" SELECT 1 ; ", Ok("SELECT 1")),
            ("SELECT ';' -- ;\n", Ok("SELECT ';' -- ;")),
            ("SELECT 1; -- done", Ok("SELECT 1")),
            ("SELECT 1; DELETE FROM t", Err("holds more than one statement: write one SELECT")),
            ("SELECT 'open", Err("has a quote that is not closed: close it")),
            ("SELECT 1 /* open", Err("has a comment that is not closed: close it")),
            ("", Ok("")),
        ] {
            assert_eq!(statement(query), kept.map(str::to_owned).map_err(str::to_owned), "{query}");
        }
    }

    proptest! {
        #[test]
        fn no_query_makes_it_panic(query in "[-:;'\"`/*a-z\u{e4}\n ]{0,60}") {
            parameters(&query);
            let _ = statement(&query);
        }
    }
}
