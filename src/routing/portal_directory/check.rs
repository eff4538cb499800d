//! Tries the operator's queries before anything depends on them.

use std::time::Duration;

use sqlx::{ConnectOptions, Connection};

use super::database::{dialect, timeout, url};
use super::fault::Fault;
use super::query::{Dialect, Queries};
use super::{CONNECT, mysql, postgres, rows};
use crate::config::{DirectoryMode, DirectorySettings};

/// Time for all of it, beside the connection's.
const LIMIT: Duration = Duration::from_secs(10);

/// Something that keeps a portal's tables from being the directory, in a sentence without passwords.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// What it is.
    pub text: String,
    /// Whether it goes away by itself: the database can't be reached now.
    pub may_pass: bool,
}

impl Problem {
    fn lasting(text: String) -> Self {
        Self { text, may_pass: false }
    }
}

impl From<Fault> for Problem {
    fn from(fault: Fault) -> Self {
        Self { text: fault.to_string(), may_pass: matches!(fault, Fault::Unavailable(_)) }
    }
}

/// Connects, prepares each query and looks at its columns, without running it. Nothing when all is well or
/// the directory is the server's own.
pub async fn check(settings: &DirectorySettings) -> Vec<Problem> {
    if settings.mode == DirectoryMode::Own {
        return Vec::new();
    }
    match tokio::time::timeout(CONNECT + LIMIT, problems(settings)).await {
        Ok(Ok(problems)) => problems,
        Ok(Err(fault)) => vec![fault.into()],
        Err(_) => {
            let text = "the database of routing.directory.url does not answer".to_owned();
            vec![Problem { text, may_pass: true }]
        }
    }
}

async fn problems(settings: &DirectorySettings) -> Result<Vec<Problem>, Fault> {
    let url = url(settings)?;
    let queries = Queries::new(settings, dialect(url));
    let mut problems = Vec::new();
    match dialect(url) {
        Dialect::MySql => {
            let options = mysql::options(url)?;
            let mut connection = in_time(options.connect()).await?;
            mysql::prepare_session(&mut connection, timeout(settings)).await?;
            for query in queries.all() {
                match mysql::columns(&mut connection, query.sample()).await {
                    Ok(found) => {
                        problems.extend(rows::problems(query, &found).into_iter().map(Problem::lasting));
                    }
                    Err(fault) => problems.push(of_query(query.name, fault)),
                }
            }
            // Nothing depends on a polite end.
            let _ = connection.close().await;
        }
        Dialect::Postgres => {
            let options = postgres::options(url)?;
            let mut connection = in_time(options.connect()).await?;
            for query in queries.all() {
                // One transaction each: after an error nothing more can be asked in it.
                postgres::begin(&mut connection, timeout(settings)).await?;
                match postgres::columns(&mut connection, query.sample()).await {
                    Ok(found) => {
                        problems.extend(rows::problems(query, &found).into_iter().map(Problem::lasting));
                    }
                    Err(fault) => problems.push(of_query(query.name, fault)),
                }
                sqlx::raw_sql("ROLLBACK").execute(&mut connection).await.map_err(Fault::from)?;
            }
            let _ = connection.close().await;
        }
    }
    Ok(problems)
}

fn of_query(name: &str, fault: Fault) -> Problem {
    let Problem { text, may_pass } = fault.into();
    Problem { text: format!("routing.directory.{name}: {text}"), may_pass }
}

async fn in_time<T>(connecting: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, Fault> {
    match tokio::time::timeout(CONNECT, connecting).await {
        Ok(connection) => Ok(connection?),
        Err(_) => {
            let seconds = CONNECT.as_secs();
            Err(Fault::Unavailable(format!("no connection to the database within {seconds} s")))
        }
    }
}
