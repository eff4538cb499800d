//! A pool of either database, and one connection of it.

use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::{MySql, MySqlPool, PgPool, Postgres};

use super::fault::Fault;
use super::query::{Dialect, Query, Values};
use super::rows::Row;
use super::{CONNECT, mysql, postgres};
use crate::config::DirectorySettings;

pub(super) enum Database {
    MySql(MySqlPool),
    Postgres(PgPool),
}

pub(super) enum Connection {
    MySql(PoolConnection<MySql>),
    Postgres(PoolConnection<Postgres>),
}

/// Which database a URL means; the configuration has given its scheme one name.
pub(super) fn dialect(url: &str) -> Dialect {
    if url.starts_with("mysql:") { Dialect::MySql } else { Dialect::Postgres }
}

/// The time for a look-up.
pub(super) fn timeout(settings: &DirectorySettings) -> Duration {
    Duration::from_millis(settings.timeout_ms as u64)
}

pub(super) fn url(settings: &DirectorySettings) -> Result<&str, Fault> {
    let url = settings.url.as_ref().map(|url| url.expose());
    url.ok_or_else(|| Fault::Wrong("routing.directory.url is not set".to_owned()))
}

impl Database {
    /// Connects when it is used first. Needs the runtime that it will be used on.
    pub(super) fn new(settings: &DirectorySettings) -> Result<Self, Fault> {
        let (url, size) = (url(settings)?, u32::try_from(settings.pool).unwrap_or(u32::MAX));
        let timeout = timeout(settings);
        Ok(match dialect(url) {
            Dialect::MySql => Self::MySql(mysql::pool(mysql::options(url)?, size, CONNECT, timeout)),
            Dialect::Postgres => Self::Postgres(postgres::pool(postgres::options(url)?, size, CONNECT)),
        })
    }

    pub(super) fn dialect(&self) -> Dialect {
        match self {
            Self::MySql(_) => Dialect::MySql,
            Self::Postgres(_) => Dialect::Postgres,
        }
    }

    pub(super) async fn acquire(&self) -> Result<Connection, Fault> {
        Ok(match self {
            Self::MySql(pool) => Connection::MySql(pool.acquire().await?),
            Self::Postgres(pool) => Connection::Postgres(pool.acquire().await?),
        })
    }
}

impl Connection {
    /// Begins a look-up: a transaction that can't write.
    pub(super) async fn begin(&mut self, timeout: Duration) -> Result<(), Fault> {
        match self {
            Self::MySql(connection) => mysql::begin(connection).await,
            Self::Postgres(connection) => postgres::begin(connection, timeout).await,
        }
    }

    /// Ends a look-up. A connection on which that fails is cut off.
    pub(super) async fn end(mut self) {
        let ended = match &mut self {
            Self::MySql(connection) => sqlx::raw_sql("ROLLBACK").execute(&mut **connection).await.map(drop),
            Self::Postgres(connection) => {
                sqlx::raw_sql("ROLLBACK").execute(&mut **connection).await.map(drop)
            }
        };
        if ended.is_err() {
            self.discard();
        }
    }

    pub(super) async fn run(&mut self, query: &Query, values: Values<'_>) -> Result<Vec<Row>, Fault> {
        let statement = query.statement(values);
        match self {
            Self::MySql(connection) => mysql::run(connection, query, statement).await,
            Self::Postgres(connection) => postgres::run(connection, query, statement).await,
        }
    }

    /// Cuts it off.
    pub(super) fn discard(self) {
        match self {
            Self::MySql(connection) => drop(connection.detach()),
            Self::Postgres(connection) => drop(connection.detach()),
        }
    }
}
