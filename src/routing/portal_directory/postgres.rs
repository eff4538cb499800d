//! PostgreSQL.

use std::str::FromStr;
use std::time::Duration;

use sqlx::postgres::{
    PgConnectOptions, PgConnection, PgPool, PgPoolOptions, PgRow, PgTypeInfo, PgTypeKind, PgValueFormat,
};
use sqlx::{AssertSqlSafe, Column as _, ConnectOptions, Row as _, TypeInfo, ValueRef};

use super::fault::Fault;
use super::query::{Query, Statement};
use super::rows::{self, Row};

/// How a column's value becomes text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Integer,
    Bool,
    Uuid,
    /// Padded with blanks that are no content.
    Padded,
    Text,
}

/// PgBouncer refuses a connection that sets `extra_float_digits`, and no number here is a fraction.
pub(super) fn options(url: &str) -> Result<PgConnectOptions, Fault> {
    Ok(PgConnectOptions::from_str(url)?.extra_float_digits(None).disable_statement_logging())
}

pub(super) fn pool(options: PgConnectOptions, size: u32, connect: Duration) -> PgPool {
    PgPoolOptions::new().max_connections(size).acquire_timeout(connect).connect_lazy_with(options)
}

/// Begins a transaction that can't write and in which the server itself ends what takes too long. Both hold for
/// this transaction only: behind a pooler the session is somebody else's afterwards.
pub(super) async fn begin(connection: &mut PgConnection, timeout: Duration) -> Result<(), Fault> {
    let sql = format!("BEGIN READ ONLY; SET LOCAL statement_timeout = {}", timeout.as_millis());
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(connection).await?;
    Ok(())
}

/// Names and types of a query's columns, and whether each can be read. The query is planned and not run: a
/// join that nothing matches has its columns. (A named statement would show them too, and could meet another
/// client's of the same name behind a pooler.)
pub(super) async fn columns(
    connection: &mut PgConnection,
    statement: Statement,
) -> Result<Vec<rows::Found>, Fault> {
    let sql = format!(
        "SELECT query.* FROM (SELECT 1) AS one LEFT JOIN (\n{}\n) AS query ON false",
        statement.sql.trim_end().trim_end_matches(';')
    );
    let mut query = sqlx::query(AssertSqlSafe(sql)).persistent(false);
    for _ in statement.values {
        // All parameters are text, as when the query is run; '' may be no value of the type it is cast to.
        query = query.bind(None::<String>);
    }
    let row = query.fetch_one(connection).await?;
    let found = |column: &sqlx::postgres::PgColumn| rows::Found {
        name: column.name().to_owned(),
        kind: column.type_info().name().to_owned(),
        is_readable: kind(column.type_info()).is_some(),
    };
    Ok(row.columns().iter().map(found).collect())
}

pub(super) async fn run(
    connection: &mut PgConnection,
    query: &Query,
    statement: Statement,
) -> Result<Vec<Row>, Fault> {
    // Without a name the statement is nobody else's behind a pooler. The comment keeps pgpool from asking a
    // standby, which may not know yet that a number has moved.
    let sql = format!("/*NO LOAD BALANCE*/ {}", statement.sql);
    let mut bound = sqlx::query(AssertSqlSafe(sql)).persistent(false);
    for value in statement.values {
        bound = bound.bind(value);
    }
    let found = bound.fetch_all(connection).await?;
    let Some(first) = found.first() else { return Ok(Vec::new()) };
    let names: Vec<_> = first.columns().iter().map(|column| column.name()).collect();
    rows::read(query, &found, &names, text)
}

/// A value as text; `Err` with its type when it can't be.
fn text(row: &PgRow, index: usize) -> Result<Option<String>, String> {
    let value = row.try_get_raw(index).map_err(|_| "unknown".to_owned())?;
    if value.is_null() {
        return Ok(None);
    }
    let info = value.type_info().into_owned();
    let is_binary = value.format() == PgValueFormat::Binary;
    let bytes = value.as_bytes().ok();
    let text = bytes.and_then(|bytes| match kind(&info)? {
        Kind::Padded => str::from_utf8(bytes).ok().map(|text| text.trim_end_matches(' ').to_owned()),
        Kind::Integer if is_binary => integer(bytes),
        Kind::Bool if is_binary => Some((bytes != [0]).to_string()),
        Kind::Uuid if is_binary => uuid(bytes),
        _ => str::from_utf8(bytes).ok().map(str::to_owned),
    });
    text.map(Some).ok_or_else(|| info.name().to_owned())
}

fn kind(info: &PgTypeInfo) -> Option<Kind> {
    match (info.name(), info.kind()) {
        ("INT2" | "INT4" | "INT8", _) => Some(Kind::Integer),
        ("BOOL", _) => Some(Kind::Bool),
        ("UUID", _) => Some(Kind::Uuid),
        ("CHAR", _) => Some(Kind::Padded),
        ("TEXT" | "VARCHAR" | "NAME" | "\"CHAR\"" | "UNKNOWN", _) | (_, PgTypeKind::Enum(_)) => {
            Some(Kind::Text)
        }
        // An extension's text type.
        (name, PgTypeKind::Simple) if name.eq_ignore_ascii_case("citext") => Some(Kind::Text),
        _ => None,
    }
}

fn integer(bytes: &[u8]) -> Option<String> {
    match *bytes {
        [a, b] => Some(i16::from_be_bytes([a, b]).to_string()),
        [a, b, c, d] => Some(i32::from_be_bytes([a, b, c, d]).to_string()),
        _ => bytes.try_into().ok().map(|bytes| i64::from_be_bytes(bytes).to_string()),
    }
}

fn uuid(bytes: &[u8]) -> Option<String> {
    let digits = (bytes.len() == 16).then(|| hex::encode(bytes))?;
    Some([&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]].join("-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binary_values_read_as_the_database_shows_them() {
        let number = 7_u64.pow(20);
        assert_eq!(integer(&(-7_i16).to_be_bytes()).as_deref(), Some("-7"));
        assert_eq!(integer(&70_000_i32.to_be_bytes()).as_deref(), Some("70000"));
        assert_eq!(integer(&number.to_be_bytes()), Some(number.to_string()));
        assert_eq!(integer(&[1, 2, 3]), None);
        let bytes: Vec<u8> = (0..16).collect();
        assert_eq!(uuid(&bytes).as_deref(), Some("00010203-0405-0607-0809-0a0b0c0d0e0f"));
        assert_eq!(uuid(&bytes[1..]), None);
    }
}
