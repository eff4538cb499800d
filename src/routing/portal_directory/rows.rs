//! Rows of either database as texts, by the names of their columns.

use super::fault::Fault;
use super::query::Query;

/// The texts of a query's columns, in the order in which the query names them; `None` for NULL and for an
/// optional column that is not there.
pub(super) type Row = Vec<Option<String>>;

/// A column of a prepared query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub name: String,
    /// Its type, as the database calls it.
    pub kind: String,
    /// Whether values of that type can be read as text.
    pub is_readable: bool,
}

/// Reads what the query's columns ask for, and nothing else, from rows with columns of these names.
/// `text` reads a cell, or tells its type.
pub(super) fn read<R>(
    query: &Query,
    rows: &[R],
    names: &[&str],
    text: impl Fn(&R, usize) -> Result<Option<String>, String>,
) -> Result<Vec<Row>, Fault> {
    let mut places = Vec::with_capacity(query.columns.len());
    for column in query.columns {
        let place = names.iter().position(|name| name.eq_ignore_ascii_case(column.name));
        if place.is_none() && column.is_required {
            return Err(Fault::Wrong(missing(query, column.name)));
        }
        places.push(place.map(|place| (place, column.name)));
    }
    let cell = |row: &R, place: &Option<(usize, &str)>| {
        let Some((index, name)) = place else { return Ok(None) };
        text(row, *index).map_err(|kind| Fault::Wrong(unreadable(query, name, &kind)))
    };
    rows.iter().map(|row| places.iter().map(|place| cell(row, place)).collect()).collect()
}

/// What is wrong with the columns of a prepared query.
pub(super) fn problems(query: &Query, found: &[Found]) -> Vec<String> {
    let problem = |column: &super::query::Column| match found
        .iter()
        .find(|found| found.name.eq_ignore_ascii_case(column.name))
    {
        None if column.is_required => Some(missing(query, column.name)),
        Some(found) if !found.is_readable => Some(unreadable(query, column.name, &found.kind)),
        _ => None,
    };
    query.columns.iter().filter_map(problem).collect()
}

fn missing(query: &Query, column: &str) -> String {
    let columns = query.columns.iter().filter(|column| column.is_required).map(|column| column.name);
    let all: Vec<_> = columns.collect();
    let name = query.name;
    format!("routing.directory.{name} gives no column {column}: it must give {} (use AS)", all.join(", "))
}

fn unreadable(query: &Query, column: &str, kind: &str) -> String {
    format!(
        "routing.directory.{}: column {column} is {kind} and can't be read as text: write \
         CAST({column} AS {}) AS {column}",
        query.name,
        query.text_type()
    )
}

#[cfg(test)]
mod tests {
    use super::super::query::{Dialect, Queries};
    use super::*;
    use crate::config::RoutingSettings;

    fn found(name: &str, is_readable: bool) -> Found {
        Found { name: name.to_owned(), kind: "NUMERIC".to_owned(), is_readable }
    }

    #[test]
    fn problems_say_what_to_write() {
        let directory = RoutingSettings::default().directory;
        let postgres = Queries::new(&directory, Dialect::Postgres);
        let mysql = Queries::new(&directory, Dialect::MySql);
        let fine = [found("USER_ID", true), found("number", true), found("status", true), found("at", false)];
        assert_eq!(problems(&postgres.find_number, &fine), [""; 0]);
        assert_eq!(problems(&postgres.own_numbers, &[found("number", true)]), [""; 0]);
        assert_eq!(
            problems(&postgres.find_number, &[found("user_id", false), found("number", true)]),
            [
                "routing.directory.find_number: column user_id is NUMERIC and can't be read as text: write \
                 CAST(user_id AS TEXT) AS user_id",
                "routing.directory.find_number gives no column status: it must give user_id, number, status (use AS)",
            ]
        );
        let problems = problems(&mysql.own_numbers, &[found("number", false)]);
        assert!(problems[0].ends_with("CAST(number AS CHAR) AS number"), "{problems:?}");
    }

    #[test]
    fn rows_are_read_by_name_and_only_where_asked() {
        let queries = Queries::new(&RoutingSettings::default().directory, Dialect::MySql);
        let rows = [["x", "t", "+1"], ["y", "f", "+2"]];
        let text = |row: &[&str; 3], index: usize| match index {
            0 => Err("DATETIME".to_owned()),
            _ => Ok(Some(row[index].to_owned())),
        };
        let names = &["created_at", "Is_Default", "number"];
        let own = read(&queries.own_numbers, &rows, names, text).expect("readable");
        let cells: Vec<Vec<_>> =
            own.iter().map(|row| row.iter().map(|cell| cell.as_deref()).collect()).collect();
        assert_eq!(cells, [[Some("+1"), Some("t"), None, None], [Some("+2"), Some("f"), None, None]]);
        assert!(matches!(read(&queries.find_number, &rows, names, text), Err(Fault::Wrong(_))));
        let unreadable = &["number", "b", "c"];
        assert!(matches!(read(&queries.own_numbers, &rows, unreadable, text), Err(Fault::Wrong(_))));
    }
}
