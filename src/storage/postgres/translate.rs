//! Statements as PostgreSQL writes them.

use std::collections::HashMap;
use std::sync::Arc;

/// Keeps pgpool-II from sending a statement to a standby, which may lag: what was just written would not be
/// there. PostgreSQL itself reads over it.
/// <https://www.pgpool.net/docs/latest/en/html/runtime-config-load-balancing.html>
const TO_PRIMARY: &str = "/*NO LOAD BALANCE*/ ";

/// The statements a connection has seen, with their translations.
#[derive(Default)]
pub(super) struct Statements(HashMap<&'static str, Arc<str>>);

impl Statements {
    pub(super) fn get(&mut self, sql: &'static str) -> Arc<str> {
        self.0.entry(sql).or_insert_with(|| (TO_PRIMARY.to_owned() + &translate(sql)).into()).clone()
    }

    /// An INSERT that answers the new row's id.
    pub(super) fn get_insert(&mut self, sql: &'static str) -> Arc<str> {
        let insert = || (TO_PRIMARY.to_owned() + &translate(sql) + " RETURNING id").into();
        self.0.entry(sql).or_insert_with(insert).clone()
    }
}

/// `?1` becomes `$1`, and what stands in comments (`/* FOR UPDATE */`, `/* RETURNING … */`) becomes a clause.
/// Text in quotes stays.
fn translate(sql: &str) -> String {
    let mut out = String::with_capacity(sql.len());
    let mut is_quoted = false;
    let mut rest = sql;
    while let Some(next) = rest.chars().next() {
        if let Some((clause, after)) = clause(rest).filter(|_| !is_quoted) {
            out.push_str(clause);
            rest = after;
            continue;
        }
        is_quoted ^= next == '\'';
        out.push(if next == '?' && !is_quoted { '$' } else { next });
        rest = &rest[next.len_utf8()..];
    }
    out
}

fn clause(text: &str) -> Option<(&str, &str)> {
    let (comment, after) = text.strip_prefix("/*")?.split_once("*/")?;
    let clause = comment.trim();
    ["FOR ", "RETURNING "].iter().any(|word| clause.starts_with(word)).then_some((clause, after))
}

#[cfg(test)]
mod tests {
    use super::translate;

    #[test]
    fn parameters_and_clauses_are_translated() {
        for (ours, theirs) in [
            ("SELECT 1", "SELECT 1"),
            ("SELECT a FROM t WHERE b = ?1 AND c = ?12", "SELECT a FROM t WHERE b = $1 AND c = $12"),
            ("SELECT '?1', 'it''s ?2', ?3", "SELECT '?1', 'it''s ?2', $3"),
            ("SELECT a FROM t /* FOR SHARE */", "SELECT a FROM t FOR SHARE"),
            (
                "SELECT a FROM t WHERE b = ?1 /* FOR UPDATE SKIP LOCKED */",
                "SELECT a FROM t WHERE b = $1 FOR UPDATE SKIP LOCKED",
            ),
            ("UPDATE t SET a = ?1 /* RETURNING b */", "UPDATE t SET a = $1 RETURNING b"),
            ("SELECT '/* FOR SHARE */' /* why */", "SELECT '/* FOR SHARE */' /* why */"),
            ("SELECT 'ü', ?1", "SELECT 'ü', $1"),
        ] {
            assert_eq!(translate(ours), theirs);
        }
    }
}
