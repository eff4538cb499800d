//! Values as both databases know them.

use super::StorageError;

/// A parameter or a column. Each kind knows its NULL, because PostgreSQL wants to know its type.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// 64 bits, signed.
    Int(Option<i64>),
    /// UTF-8.
    Text(Option<String>),
    /// Bytes.
    Bytes(Option<Vec<u8>>),
}

/// One row of an answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Row(pub(super) Vec<Value>);

impl Row {
    /// A column that is an integer.
    ///
    /// # Errors
    /// It is something else, or NULL.
    pub fn int(&self, column: usize) -> Result<i64, StorageError> {
        self.optional_int(column)?.ok_or_else(|| fault(column, "NULL"))
    }

    /// A column that is an integer or NULL.
    ///
    /// # Errors
    /// It is something else.
    pub fn optional_int(&self, column: usize) -> Result<Option<i64>, StorageError> {
        match self.0.get(column) {
            Some(Value::Int(value)) => Ok(*value),
            other => null(other).ok_or_else(|| fault(column, "not an integer")),
        }
    }

    /// A column that is 0 or 1.
    ///
    /// # Errors
    /// It is something else.
    pub fn flag(&self, column: usize) -> Result<bool, StorageError> {
        Ok(self.int(column)? != 0)
    }

    /// A column that is text.
    ///
    /// # Errors
    /// It is something else, or NULL.
    pub fn text(&self, column: usize) -> Result<String, StorageError> {
        self.optional_text(column)?.ok_or_else(|| fault(column, "NULL"))
    }

    /// A column that is text or NULL.
    ///
    /// # Errors
    /// It is something else.
    pub fn optional_text(&self, column: usize) -> Result<Option<String>, StorageError> {
        match self.0.get(column) {
            Some(Value::Text(value)) => Ok(value.clone()),
            other => null(other).ok_or_else(|| fault(column, "not text")),
        }
    }

    /// A column of bytes.
    ///
    /// # Errors
    /// It is something else, or NULL.
    pub fn bytes(&self, column: usize) -> Result<Vec<u8>, StorageError> {
        match self.0.get(column) {
            Some(Value::Bytes(Some(value))) => Ok(value.clone()),
            _ => Err(fault(column, "not bytes")),
        }
    }
}

/// The first column of the only row.
pub(super) fn first_int(rows: &[Row]) -> Result<i64, StorageError> {
    rows.first().map_or_else(|| Err(StorageError::Fault("no row".to_owned())), |row| row.int(0))
}

fn null<T>(value: Option<&Value>) -> Option<Option<T>> {
    match value {
        Some(Value::Int(None) | Value::Text(None) | Value::Bytes(None)) => Some(None),
        _ => None,
    }
}

fn fault(column: usize, what: &str) -> StorageError {
    StorageError::Fault(format!("column {column} is {what}"))
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Int(Some(value))
    }
}

impl From<Option<i64>> for Value {
    fn from(value: Option<i64>) -> Self {
        Self::Int(value)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Int(Some(i64::from(value)))
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::Text(Some(value.to_owned()))
    }
}

impl From<String> for Value {
    fn from(value: String) -> Self {
        Self::Text(Some(value))
    }
}

impl From<&String> for Value {
    fn from(value: &String) -> Self {
        Self::Text(Some(value.clone()))
    }
}

impl From<Option<String>> for Value {
    fn from(value: Option<String>) -> Self {
        Self::Text(value)
    }
}

impl From<Option<&str>> for Value {
    fn from(value: Option<&str>) -> Self {
        Self::Text(value.map(str::to_owned))
    }
}

impl From<Vec<u8>> for Value {
    fn from(value: Vec<u8>) -> Self {
        Self::Bytes(Some(value))
    }
}
