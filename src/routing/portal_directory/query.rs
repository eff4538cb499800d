//! The operator's queries: named parameters become the database's own, values are always bound.

use std::fmt::Write;

use crate::config::{DirectorySettings, parameters};

/// How parameters are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    /// `?`, one value for each.
    MySql,
    /// `$1`, which may be used again.
    Postgres,
}

/// A column that is read.
#[derive(Debug)]
pub(super) struct Column {
    pub name: &'static str,
    pub is_required: bool,
}

const fn required(name: &'static str) -> Column {
    Column { name, is_required: true }
}

const fn optional(name: &'static str) -> Column {
    Column { name, is_required: false }
}

const FIND_NUMBER: &[Column] = &[required("user_id"), required("number"), required("status")];
const OWN_NUMBERS: &[Column] = &[
    required("number"),
    optional("is_default"),
    // Compared once more when it is there: MySQL takes '7x' for 7.
    optional("user_id"),
    optional("messaging_profile_id"),
];
const FIND_CONVERSATION: &[Column] = &[required("id")];

/// One query of the settings.
#[derive(Debug)]
pub(super) struct Query {
    /// Its key in `[routing.directory]`.
    pub name: &'static str,
    pub columns: &'static [Column],
    text: String,
    dialect: Dialect,
}

/// What the parameters stand for: name and values; several values make a list (`IN (:candidates)`).
pub(super) type Values<'a> = &'a [(&'a str, &'a [String])];

/// A query as the database gets it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Statement {
    pub sql: String,
    pub values: Vec<String>,
}

/// The queries of an app's directory.
#[derive(Debug)]
pub(super) struct Queries {
    pub find_number: Query,
    pub own_numbers: Query,
    pub find_conversation: Option<Query>,
}

impl Queries {
    pub(super) fn new(settings: &DirectorySettings, dialect: Dialect) -> Self {
        let query = |name, columns, text: &String| Query { name, columns, text: text.clone(), dialect };
        let find_conversation = query("find_conversation", FIND_CONVERSATION, &settings.find_conversation);
        Self {
            find_number: query("find_number", FIND_NUMBER, &settings.find_number),
            own_numbers: query("own_numbers", OWN_NUMBERS, &settings.own_numbers),
            find_conversation: (!settings.find_conversation.is_empty()).then_some(find_conversation),
        }
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Query> {
        [&self.find_number, &self.own_numbers].into_iter().chain(&self.find_conversation)
    }
}

impl Query {
    /// The query with the database's own parameters, and what to bind to them. A parameter that `values`
    /// does not have becomes NULL; the configuration has refused those.
    pub(super) fn statement(&self, values: Values<'_>) -> Statement {
        let (mut sql, mut bound, mut end) = (String::with_capacity(self.text.len()), Vec::new(), 0);
        // PostgreSQL: where the values of a parameter begin.
        let mut places: Vec<(&str, usize)> = Vec::new();
        for parameter in parameters(&self.text) {
            sql.push_str(&self.text[end..parameter.range.start]);
            end = parameter.range.end;
            let found = values.iter().find(|(name, _)| *name == parameter.name);
            let Some((name, values)) = found.filter(|(_, values)| !values.is_empty()) else {
                sql.push_str("NULL");
                continue;
            };
            let first = match places.iter().find(|(known, _)| known == name) {
                Some((_, first)) if self.dialect == Dialect::Postgres => *first,
                _ => {
                    places.push((name, bound.len() + 1));
                    bound.extend_from_slice(values);
                    bound.len() + 1 - values.len()
                }
            };
            for index in 0..values.len() {
                let comma = if index == 0 { "" } else { ", " };
                // Writing to a String cannot fail.
                let _ = match self.dialect {
                    Dialect::MySql => write!(sql, "{comma}?"),
                    Dialect::Postgres => write!(sql, "{comma}${}", first + index),
                };
            }
        }
        sql.push_str(&self.text[end..]);
        Statement { sql, values: bound }
    }

    /// What a column is cast to in order to be text.
    pub(super) fn text_type(&self) -> &'static str {
        match self.dialect {
            Dialect::MySql => "CHAR",
            Dialect::Postgres => "TEXT",
        }
    }

    /// The query with one value for each parameter, for looking at its columns.
    pub(super) fn sample(&self) -> Statement {
        let one = [String::new()];
        let names = parameters(&self.text);
        let values: Vec<(&str, &[String])> =
            names.iter().map(|parameter| (parameter.name, &one[..])).collect();
        self.statement(&values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statement(dialect: Dialect, text: &str) -> (String, Vec<String>) {
        let query = Query { name: "find_number", columns: FIND_NUMBER, text: text.to_owned(), dialect };
        let of = |values: &[&str]| values.iter().map(|value| (*value).to_owned()).collect::<Vec<_>>();
        let (number, candidates) = (of(&["+1"]), of(&["+1", "1", "01"]));
        let Statement { sql, values } = query.statement(&[
            ("number", &number),
            ("candidates", &candidates),
            ("user_id", &of(&["7'; DROP"])),
        ]);
        (sql, values)
    }

    #[test]
    fn parameters_become_the_databases_own() {
        for (text, mysql, postgres, mysql_values, postgres_values) in [
            (
                "SELECT a FROM t WHERE n = :number",
                "SELECT a FROM t WHERE n = ?",
                "SELECT a FROM t WHERE n = $1",
                &["+1"][..],
                &["+1"][..],
            ),
            ("u = :user_id::bigint", "u = ?::bigint", "u = $1::bigint", &["7'; DROP"], &["7'; DROP"]),
            (
                "n = :number OR m = :number AND u = :user_id OR :number",
                "n = ? OR m = ? AND u = ? OR ?",
                "n = $1 OR m = $1 AND u = $2 OR $1",
                &["+1", "+1", "7'; DROP", "+1"],
                &["+1", "7'; DROP"],
            ),
            (
                "n = :number OR n IN (:candidates) OR m IN (:candidates)",
                "n = ? OR n IN (?, ?, ?) OR m IN (?, ?, ?)",
                "n = $1 OR n IN ($2, $3, $4) OR m IN ($2, $3, $4)",
                &["+1", "+1", "1", "01", "+1", "1", "01"],
                &["+1", "+1", "1", "01"],
            ),
            (
                "SELECT ':number' /* :number */ , :number",
                "SELECT ':number' /* :number */ , ?",
                "SELECT ':number' /* :number */ , $1",
                &["+1"],
                &["+1"],
            ),
        ] {
            let owned = |values: &[&str]| values.iter().map(|value| (*value).to_owned()).collect::<Vec<_>>();
            let expected = (mysql.to_owned(), owned(mysql_values));
            assert_eq!(statement(Dialect::MySql, text), expected);
            assert_eq!(statement(Dialect::Postgres, text), (postgres.to_owned(), owned(postgres_values)));
        }
    }

    #[test]
    fn a_sample_has_one_value_for_each_parameter() {
        let text = "n IN (:candidates) OR n = :number".to_owned();
        let query = Query { name: "find_number", columns: FIND_NUMBER, text, dialect: Dialect::Postgres };
        assert_eq!(query.sample().sql, "n IN ($1) OR n = $2");
    }
}
