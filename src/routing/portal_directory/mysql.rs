//! MySQL and MariaDB.

use std::str::FromStr;
use std::time::Duration;

use sqlx::mysql::{
    MySqlConnectOptions, MySqlConnection, MySqlPool, MySqlPoolOptions, MySqlRow, MySqlTypeInfo,
};
use sqlx::{
    AssertSqlSafe, Column as _, ConnectOptions, Decode, Executor, MySql, Row as _, SqlSafeStr as _,
    Statement as _, TypeInfo, ValueRef,
};

use super::fault::Fault;
use super::query::{Query, Statement};
use super::rows::{self, Row};

/// How a column's value becomes text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Signed,
    Unsigned,
    Bits,
    Bytes,
}

/// Connections with these settings. Nothing of the session is changed but what is said here: the
/// operator's queries mean what they mean in a client of the database.
pub(super) fn options(url: &str) -> Result<MySqlConnectOptions, Fault> {
    let options = MySqlConnectOptions::from_str(url)?;
    let options = options.pipes_as_concat(false).no_engine_substitution(false).timezone(None);
    Ok(options.disable_statement_logging())
}

pub(super) fn pool(
    options: MySqlConnectOptions,
    size: u32,
    connect: Duration,
    timeout: Duration,
) -> MySqlPool {
    MySqlPoolOptions::new()
        .max_connections(size)
        .acquire_timeout(connect)
        .after_connect(move |connection, _| Box::pin(prepare_session(connection, timeout)))
        .connect_lazy_with(options)
}

/// Begins a transaction that can't write.
pub(super) async fn begin(connection: &mut MySqlConnection) -> Result<(), Fault> {
    sqlx::raw_sql("START TRANSACTION READ ONLY").execute(connection).await?;
    Ok(())
}

/// Has the server itself end what takes too long. The setting's name and unit differ between MySQL (since
/// 5.7.8) and MariaDB, and either skips the other's comment. Both have it for a session only; poolers for
/// MySQL keep a session with settings of its own apart.
pub(super) async fn prepare_session(
    connection: &mut MySqlConnection,
    timeout: Duration,
) -> Result<(), sqlx::Error> {
    let limit = format!(
        "SET @switchboard = 1 /*!50708 , SESSION max_execution_time = {} */ \
         /*M!100101 , SESSION max_statement_time = {} */",
        timeout.as_millis(),
        timeout.as_secs_f64()
    );
    connection.execute(sqlx::raw_sql(AssertSqlSafe(limit))).await?;
    Ok(())
}

/// Names and types of a query's columns, and how each is read.
pub(super) async fn columns(
    connection: &mut MySqlConnection,
    statement: Statement,
) -> Result<Vec<rows::Found>, Fault> {
    let prepared = connection.prepare(AssertSqlSafe(statement.sql).into_sql_str()).await?;
    let found = |column: &sqlx::mysql::MySqlColumn| rows::Found {
        name: column.name().to_owned(),
        kind: column.type_info().name().to_owned(),
        is_readable: kind(column.type_info()).is_some(),
    };
    Ok(prepared.columns().iter().map(found).collect())
}

pub(super) async fn run(
    connection: &mut MySqlConnection,
    query: &Query,
    statement: Statement,
) -> Result<Vec<Row>, Fault> {
    let mut prepared = sqlx::query(AssertSqlSafe(statement.sql));
    for value in statement.values {
        prepared = prepared.bind(value);
    }
    let found = prepared.fetch_all(connection).await?;
    let Some(first) = found.first() else { return Ok(Vec::new()) };
    let names: Vec<_> = first.columns().iter().map(|column| column.name()).collect();
    rows::read(query, &found, &names, text)
}

/// A value as text; `Err` with its type when it can't be.
fn text(row: &MySqlRow, index: usize) -> Result<Option<String>, String> {
    let value = row.try_get_raw(index).map_err(|_| "unknown".to_owned())?;
    if value.is_null() {
        return Ok(None);
    }
    let info = value.type_info().into_owned();
    let text = match kind(&info) {
        Some(Kind::Signed) => <i64 as Decode<MySql>>::decode(value).ok().map(|number| number.to_string()),
        Some(Kind::Unsigned) => <u64 as Decode<MySql>>::decode(value).ok().map(|number| number.to_string()),
        Some(Kind::Bits) => <&[u8] as Decode<MySql>>::decode(value).ok().and_then(bits),
        Some(Kind::Bytes) => {
            let bytes = <&[u8] as Decode<MySql>>::decode(value).ok();
            bytes.and_then(|bytes| str::from_utf8(bytes).ok()).map(str::to_owned)
        }
        None => None,
    };
    text.map(Some).ok_or_else(|| info.name().to_owned())
}

fn kind(info: &MySqlTypeInfo) -> Option<Kind> {
    match info.name() {
        "BOOLEAN" | "TINYINT" | "SMALLINT" | "MEDIUMINT" | "INT" | "BIGINT" => Some(Kind::Signed),
        "TINYINT UNSIGNED" | "SMALLINT UNSIGNED" | "MEDIUMINT UNSIGNED" | "INT UNSIGNED"
        | "BIGINT UNSIGNED" | "YEAR" => Some(Kind::Unsigned),
        "BIT" => Some(Kind::Bits),
        // What has a binary collation is told as binary, too; it is read if it is UTF-8.
        "CHAR" | "VARCHAR" | "TINYTEXT" | "TEXT" | "MEDIUMTEXT" | "LONGTEXT" | "BINARY" | "VARBINARY"
        | "TINYBLOB" | "BLOB" | "MEDIUMBLOB" | "LONGBLOB" | "ENUM" | "SET" | "DECIMAL" | "NULL" => {
            Some(Kind::Bytes)
        }
        _ => None,
    }
}

fn bits(bytes: &[u8]) -> Option<String> {
    let fits = bytes.len() <= 8;
    fits.then(|| bytes.iter().fold(0_u64, |bits, byte| bits << 8 | u64::from(*byte)).to_string())
}
