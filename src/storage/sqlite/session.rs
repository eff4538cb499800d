//! A connection and its statements.

use std::cell::Cell;
use std::collections::HashMap;
use std::collections::hash_map::Entry;

use rusqlite::types::ValueRef;
use rusqlite::{Connection as Sqlite3, ErrorCode, Statement, ToSql};

use super::super::value::first_int;
use super::super::{Connection, Row, StorageError, Value};
use super::failure;
use super::flusher::Remedy;

thread_local! {
    /// Pages in the log after the last commit of this thread: SQLite's hook knows no connection of ours.
    static COMMITTED: Cell<i64> = const { Cell::new(0) };
}

/// What came of copying the log.
#[derive(Debug)]
pub(super) enum Copied {
    /// What others did not need is in the file.
    Yes,
    /// The disk is full, or the like.
    NotNow(String),
    /// Reading, writing or flushing failed, after which nobody knows what is on disk; and what helps.
    Broken(String, Remedy),
}

/// A connection that keeps every statement prepared. They are all written in the program, so that there is
/// an end of them, and an address tells one from another.
pub(super) struct Session<'c> {
    connection: &'c Sqlite3,
    statements: HashMap<(*const u8, usize), Statement<'c>>,
    has_written: bool,
}

impl<'c> Session<'c> {
    pub(super) fn new(connection: &'c Sqlite3) -> Self {
        Self { connection, statements: HashMap::new(), has_written: false }
    }

    /// Runs a statement without parameters that answers nothing.
    pub(super) fn run(&mut self, sql: &'static str) -> Result<(), StorageError> {
        self.prepared(sql, &[])?.raw_execute().map(drop).map_err(failure)
    }

    /// Whether a transaction is open. A full disk or a broken file ends it by itself.
    pub(super) fn is_in_transaction(&self) -> bool {
        !self.connection.is_autocommit()
    }

    /// Whether a statement was run since the last call that may have changed something.
    pub(super) fn take_has_written(&mut self) -> bool {
        std::mem::take(&mut self.has_written)
    }

    /// Copies what can be copied from the log into the file.
    pub(super) fn checkpoint(&mut self) -> Copied {
        match self.connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())) {
            Ok(()) => Copied::Yes,
            Err(error) => match error.sqlite_error_code() {
                Some(ErrorCode::SystemIoFailure) => Copied::Broken(error.to_string(), Remedy::Restart),
                Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                    Copied::Broken(error.to_string(), Remedy::Operator)
                }
                _ => Copied::NotNow(error.to_string()),
            },
        }
    }

    /// Has [`Self::committed_pages`] count; for one connection of a thread.
    pub(super) fn count_pages(&self) {
        self.connection.wal_hook(Some(|_, pages| {
            COMMITTED.set(i64::from(pages));
            Ok(())
        }));
    }

    /// Pages that were in the log after the last commit.
    pub(super) fn committed_pages(&self) -> i64 {
        COMMITTED.get()
    }

    /// Pages in the log, and how many of them are in the file as well.
    pub(super) fn log_pages(&mut self) -> Result<(i64, i64), StorageError> {
        let rows = self.query("PRAGMA wal_checkpoint(NOOP)", &[])?;
        rows.first().map_or(Ok((0, 0)), |row| Ok((row.int(1)?, row.int(2)?)))
    }

    fn prepared(&mut self, sql: &'static str, values: &[Value]) -> Result<&mut Statement<'c>, StorageError> {
        let statement = match self.statements.entry((sql.as_ptr(), sql.len())) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => new.insert(self.connection.prepare(sql).map_err(failure)?),
        };
        self.has_written |= !statement.readonly();
        // Too few would leave the last call's values in place.
        if statement.parameter_count() != values.len() {
            return Err(StorageError::Fault("bug: a statement with another number of values".to_owned()));
        }
        for (index, value) in values.iter().enumerate() {
            statement.raw_bind_parameter(index + 1, parameter(value)).map_err(failure)?;
        }
        Ok(statement)
    }
}

impl Connection for Session<'_> {
    fn query(&mut self, sql: &'static str, values: &[Value]) -> Result<Vec<Row>, StorageError> {
        let statement = self.prepared(sql, values)?;
        let columns = statement.column_count();
        let mut rows = statement.raw_query();
        let mut found = Vec::new();
        while let Some(row) = rows.next().map_err(failure)? {
            let values = (0..columns).map(|column| row.get_ref(column).map(value).map_err(failure));
            found.push(Row(values.collect::<Result<_, _>>()?));
        }
        Ok(found)
    }

    fn execute(&mut self, sql: &'static str, values: &[Value]) -> Result<u64, StorageError> {
        self.prepared(sql, values)?.raw_execute().map(|count| count as u64).map_err(failure)
    }

    fn insert(&mut self, sql: &'static str, values: &[Value]) -> Result<Option<i64>, StorageError> {
        // RETURNING takes SQLite longer than the rest of a small INSERT.
        Ok((self.execute(sql, values)? > 0).then(|| self.connection.last_insert_rowid()))
    }

    fn lock(&mut self, _: &'static str, _: &[Value]) -> Result<bool, StorageError> {
        // There is one writer.
        Ok(false)
    }

    fn next_id(&mut self, table: &'static str) -> Result<i64, StorageError> {
        let sql = "UPDATE sqlite_sequence SET seq = seq + 1 WHERE name = ?1 RETURNING seq";
        first_int(&self.query(sql, &[table.into()])?)
    }
}

fn parameter(value: &Value) -> &dyn ToSql {
    match value {
        Value::Int(value) => value,
        Value::Text(value) => value,
        Value::Bytes(value) => value,
    }
}

fn value(value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Null => Value::Text(None),
        ValueRef::Integer(value) => Value::Int(Some(value)),
        ValueRef::Real(value) => Value::Text(Some(value.to_string())),
        ValueRef::Text(text) => Value::Text(Some(String::from_utf8_lossy(text).into_owned())),
        ValueRef::Blob(bytes) => Value::Bytes(Some(bytes.to_vec())),
    }
}
