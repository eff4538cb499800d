//! A connection and what its errors mean.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use sqlx::postgres::{PgArguments, PgConnectOptions, PgDatabaseError, PgRow, PgSeverity};
use sqlx::{Arguments, AssertSqlSafe, Column, ConnectOptions, PgConnection, Row as _, TypeInfo};
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;

use super::super::value::first_int;
use super::super::{Connection, Purpose, Row, StorageError, Value};
use super::translate::Statements;

/// How long a connection may take, its settings included.
const CONNECT: Duration = Duration::from_secs(2);
/// How long an answer may take before the connection counts as lost; longer than `statement_timeout`, so
/// that a slow server (as opposed to a lost one) says so itself.
const ANSWER: Duration = Duration::from_secs(7);
/// As above, for migrations.
const PATIENT_ANSWER: Duration = Duration::from_secs(660);
/// A connection that was not used for so long may have been forgotten by a firewall on the way, which says
/// nothing to either side…
const IDLE: Duration = Duration::from_secs(10);
/// … so its first answer, which needs no work, is awaited for less than [`super::queue::PATIENCE`].
const IDLE_ANSWER: Duration = Duration::from_secs(1);
/// How long the search for a pooler waits for one answer.
const PROBE_ANSWER: Duration = Duration::from_secs(2);
/// Statements kept prepared.
const STATEMENTS: usize = 512;
/// Settings of each transaction, given with its first words. None is given to the session: behind a pooler that
/// hands each transaction to another server process, others would get them.
///
/// A message whose record vanished after the carrier took it would be sent twice: a commit is on disk before
/// it is answered for, whatever the server's default is (the stricter one stays). The last answer is the process.
macro_rules! begin {
    ($mode:literal, $more:literal) => {
        concat!(
            "BEGIN ISOLATION LEVEL ",
            $mode,
            "; SET LOCAL statement_timeout = '5s'; SET LOCAL idle_in_transaction_session_timeout = '10s'; ",
            $more,
            "SELECT pg_backend_pid()"
        )
    };
}
const BEGIN_WRITE: &str = begin!(
    "READ COMMITTED",
    "SELECT set_config('synchronous_commit', 'on', true) \
     WHERE current_setting('synchronous_commit') <> 'remote_apply'; "
);
const BEGIN_LAZY_WRITE: &str = begin!("READ COMMITTED", "SET LOCAL synchronous_commit = off; ");
const BEGIN_READ: &str = begin!("REPEATABLE READ READ ONLY", "");

/// Where PostgreSQL is.
#[derive(Clone)]
pub(super) struct Server {
    options: PgConnectOptions,
    /// Whether a connection keeps its server process: only then statements stay prepared. Behind a pooler
    /// (PgBouncer, `pool_mode = transaction`) a name may mean another client's statement in the next transaction.
    keeps_process: Arc<AtomicBool>,
}

impl Server {
    /// Reads `postgres://user:password@host:port/database?…`. No error names any part of it: what is wrong
    /// may have made the password look like one.
    pub(super) fn parse(url: &str) -> Result<Self, StorageError> {
        let unusable = |why: &str| StorageError::Unavailable(format!("its URL can't be used: {why}"));
        let rest = url.strip_prefix("postgres://").or_else(|| url.strip_prefix("postgresql://"));
        let rest = rest.ok_or_else(|| unusable("it begins with neither sqlite: nor postgres://"))?;
        // Such a password would be taken for a host, a port or a database, and be named in errors.
        if rest.rsplit_once('@').is_some_and(|(user, _)| user.contains(['/', '?', '#', '@'])) {
            return Err(unusable("/ ? # @ in its user or password are written as %2F %3F %23 %40"));
        }
        let options: PgConnectOptions = url
            .parse()
            .map_err(|_| unusable("it is not like postgres://user:password@host:port/database"))?;
        // PgBouncer refuses a connection that sets extra_float_digits, and no number here is a fraction.
        let options = options.extra_float_digits(None);
        let options = options.disable_statement_logging().statement_cache_capacity(STATEMENTS);
        let options = match options.get_application_name() {
            Some(_) => options,
            None => options.application_name("switchboard"),
        };
        Ok(Self { options, keeps_process: Arc::default() })
    }

    /// Finds out whether connections keep their server process, so that statements may stay prepared: while a
    /// second connection is in a transaction, the first begins another one.
    ///
    /// # Errors
    /// No connection can be made.
    pub(super) fn probe(&self) -> Result<bool, StorageError> {
        let (mut first, mut second) = (Session::open(self)?, Session::open(self)?);
        first.begin(Purpose::Read)?;
        let process = first.process;
        first.roll_back();
        // A pooler with one process to give lets the first wait: then it has none of its own.
        second.answer = PROBE_ANSWER;
        first.answer = PROBE_ANSWER;
        second.begin(Purpose::Read)?;
        let keeps = first.begin(Purpose::Read).is_ok() && first.process == process;
        self.keeps_process.store(keeps, Ordering::Relaxed);
        Ok(keeps)
    }
}

/// One connection, on a runtime of its own.
pub(super) struct Session {
    connection: PgConnection,
    runtime: Runtime,
    statements: Statements,
    server: Server,
    /// Whether statements stay prepared.
    keeps_statements: bool,
    /// The server's process of the first transaction.
    process: Option<i32>,
    answer: Duration,
    used_at: Instant,
    is_lost: bool,
    /// What the last conflict was about.
    conflict: Option<String>,
}

/// Why a commit failed.
pub(super) enum CommitError {
    /// Nothing was committed.
    Refused(StorageError),
    /// The connection was lost in it.
    Unknown(StorageError),
}

impl Session {
    pub(super) fn open(server: &Server) -> Result<Self, StorageError> {
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| StorageError::Unavailable(error.to_string()))?;
        let connection = runtime
            .block_on(async { timeout(CONNECT, server.options.connect()).await })
            .map_err(|_| StorageError::Unavailable("PostgreSQL does not answer".to_owned()))?
            .map_err(|error| StorageError::Unavailable(refusal(&error)))?;
        Ok(Self {
            connection,
            runtime,
            statements: Statements::default(),
            server: server.clone(),
            keeps_statements: server.keeps_process.load(Ordering::Relaxed),
            process: None,
            answer: ANSWER,
            used_at: Instant::now(),
            is_lost: false,
            conflict: None,
        })
    }

    /// Whether the connection must not be used any more.
    pub(super) fn is_lost(&self) -> bool {
        self.is_lost
    }

    /// Waits longer for answers.
    pub(super) fn be_patient(&mut self) {
        self.answer = PATIENT_ANSWER;
    }

    pub(super) fn begin(&mut self, purpose: Purpose) -> Result<(), StorageError> {
        let answer = self.answer;
        if self.used_at.elapsed() > IDLE {
            self.answer = IDLE_ANSWER;
        }
        let sql = match purpose {
            Purpose::Write => BEGIN_WRITE,
            Purpose::WriteLazily => BEGIN_LAZY_WRITE,
            Purpose::Read | Purpose::ReadAside => BEGIN_READ,
        };
        let begun = self.wait(async |connection| {
            let rows = sqlx::raw_sql(sql).fetch_all(connection).await?;
            rows.last().ok_or(sqlx::Error::RowNotFound)?.try_get(0)
        });
        self.answer = answer;
        self.used_at = Instant::now();
        begun.and_then(|process| self.check_process(process))
    }

    /// A connection whose server process changes can't go on with prepared statements: the next one does without.
    fn check_process(&mut self, process: i32) -> Result<(), StorageError> {
        let before = self.process.replace(process);
        if before.is_none_or(|before| before == process) {
            return Ok(());
        }
        self.server.keeps_process.store(false, Ordering::Relaxed);
        if !self.keeps_statements {
            return Ok(());
        }
        self.is_lost = true;
        let message = "a pooler gave the connection another process of PostgreSQL";
        Err(StorageError::Unavailable(message.to_owned()))
    }

    pub(super) fn commit(&mut self) -> Result<(), CommitError> {
        self.command("COMMIT").map_err(|error| match error {
            error if !self.is_lost => CommitError::Refused(error),
            StorageError::Unavailable(why) | StorageError::Fault(why) => {
                let message = format!("it is not known whether a commit took place: {why}");
                CommitError::Unknown(StorageError::Unavailable(message))
            }
            error => CommitError::Unknown(error),
        })
    }

    /// Ends a transaction without keeping anything of it.
    pub(super) fn roll_back(&mut self) {
        // Where it fails the connection is lost, and the transaction with it.
        if !self.is_lost && self.command("ROLLBACK").is_err() {
            self.is_lost = true;
        }
    }

    /// Runs statements that have no parameters.
    pub(super) fn command(&mut self, sql: impl Into<Cow<'static, str>>) -> Result<(), StorageError> {
        let sql = AssertSqlSafe(sql.into());
        self.wait(async |connection| sqlx::raw_sql(sql).execute(connection).await).map(drop)
    }

    /// The number that a statement answers.
    pub(super) fn number(&mut self, sql: &'static str) -> Result<i64, StorageError> {
        let rows = self.query(sql, &[])?;
        rows.first().ok_or_else(|| StorageError::Fault("no row".to_owned()))?.int(0)
    }

    /// Forgets what the last job's conflicts were about.
    pub(super) fn forget_conflict(&mut self) {
        self.conflict = None;
    }

    /// What a job that only met conflicts is told: a row that is always there twice is a fault of ours.
    pub(super) fn conflict(&mut self) -> StorageError {
        self.conflict.take().map_or(StorageError::Conflict, StorageError::Fault)
    }

    fn wait<T>(
        &mut self,
        work: impl AsyncFnOnce(&mut PgConnection) -> Result<T, sqlx::Error>,
    ) -> Result<T, StorageError> {
        if self.is_lost {
            return Err(StorageError::Unavailable("the connection to PostgreSQL is lost".to_owned()));
        }
        let (connection, answer) = (&mut self.connection, self.answer);
        match self.runtime.block_on(async { timeout(answer, work(connection)).await }) {
            Ok(Ok(result)) => Ok(result),
            Ok(Err(error)) => {
                if is_foreign_statement(&error) {
                    self.server.keeps_process.store(false, Ordering::Relaxed);
                }
                let Meaning { error, is_lost } = meaning(&error, &mut self.conflict);
                self.is_lost |= is_lost;
                Err(error)
            }
            // Its answer may still come, and would be taken for the next statement's.
            Err(_) => {
                self.is_lost = true;
                Err(StorageError::Unavailable("PostgreSQL does not answer".to_owned()))
            }
        }
    }
}

impl Connection for Session {
    fn query(&mut self, sql: &'static str, values: &[Value]) -> Result<Vec<Row>, StorageError> {
        let sql = AssertSqlSafe(self.statements.get(sql));
        let values = bound(values)?;
        let keeps = self.keeps_statements;
        let rows = self.wait(async |connection| {
            sqlx::query_with(sql, values).persistent(keeps).fetch_all(connection).await
        })?;
        rows.iter().map(row).collect()
    }

    fn execute(&mut self, sql: &'static str, values: &[Value]) -> Result<u64, StorageError> {
        let sql = AssertSqlSafe(self.statements.get(sql));
        let values = bound(values)?;
        let keeps = self.keeps_statements;
        let done = self.wait(async |connection| {
            sqlx::query_with(sql, values).persistent(keeps).execute(connection).await
        })?;
        Ok(done.rows_affected())
    }

    fn insert(&mut self, sql: &'static str, values: &[Value]) -> Result<Option<i64>, StorageError> {
        let sql = AssertSqlSafe(self.statements.get_insert(sql));
        let values = bound(values)?;
        let keeps = self.keeps_statements;
        let new = self.wait(async |connection| {
            sqlx::query_with(sql, values).persistent(keeps).fetch_optional(connection).await
        })?;
        new.as_ref().map(|new| row(new)?.int(0)).transpose()
    }

    fn lock(&mut self, sql: &'static str, values: &[Value]) -> Result<bool, StorageError> {
        self.execute(sql, values).map(|_| true)
    }

    fn next_id(&mut self, table: &'static str) -> Result<i64, StorageError> {
        first_int(&self.query("SELECT nextval(pg_get_serial_sequence(?1, 'id'))", &[table.into()])?)
    }
}

fn bound(values: &[Value]) -> Result<PgArguments, StorageError> {
    let mut arguments = PgArguments::default();
    for value in values {
        let added = match value {
            Value::Int(value) => arguments.add(*value),
            // PostgreSQL's text has no U+0000, and one such message must not stop all after it.
            Value::Text(Some(text)) if text.contains('\0') => arguments.add(text.replace('\0', "\u{fffd}")),
            Value::Text(value) => arguments.add(value.as_deref()),
            Value::Bytes(value) => arguments.add(value.as_deref()),
        };
        added.map_err(|error| StorageError::Fault(error.to_string()))?;
    }
    Ok(arguments)
}

fn row(row: &PgRow) -> Result<Row, StorageError> {
    let columns = row.columns().iter().enumerate();
    let values = columns.map(|(at, column)| {
        let value = match column.type_info().name() {
            "INT8" => row.try_get(at).map(Value::Int),
            "INT4" => row.try_get::<Option<i32>, _>(at).map(|value| Value::Int(value.map(i64::from))),
            "INT2" => row.try_get::<Option<i16>, _>(at).map(|value| Value::Int(value.map(i64::from))),
            "BOOL" => row.try_get::<Option<bool>, _>(at).map(|value| Value::Int(value.map(i64::from))),
            "BYTEA" => row.try_get(at).map(Value::Bytes),
            _ => row.try_get(at).map(Value::Text),
        };
        value.map_err(|error| StorageError::Fault(error.to_string()))
    });
    values.collect::<Result<_, _>>().map(Row)
}

/// An error of the driver for the callers and for the connection.
struct Meaning {
    error: StorageError,
    is_lost: bool,
}

/// <https://www.postgresql.org/docs/current/errcodes-appendix.html>
fn meaning(error: &sqlx::Error, conflict: &mut Option<String>) -> Meaning {
    let of = |error, is_lost| Meaning { error, is_lost };
    let message = text(error);
    let Some(told) = error.as_database_error() else {
        let is_lost = matches!(error, sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::Protocol(_));
        return match is_lost {
            true => of(StorageError::Unavailable(message), true),
            false => of(StorageError::Fault(message), false),
        };
    };
    let told = told.downcast_ref::<PgDatabaseError>();
    if matches!(told.severity(), PgSeverity::Fatal | PgSeverity::Panic) {
        return of(StorageError::Unavailable(message), true);
    }
    match told.code() {
        // serialization_failure, deadlock_detected, and the row of a transaction that was faster: run again,
        // the job finds it.
        "40001" | "40P01" => {
            *conflict = None;
            of(StorageError::Conflict, false)
        }
        "23505" => {
            *conflict = Some(message);
            of(StorageError::Conflict, false)
        }
        // query_canceled: it took longer than statement_timeout. lock_not_available.
        "57014" | "55P03" => of(StorageError::Unavailable(message), false),
        // read_only_sql_transaction: after a failover this is the old server, and a new connection finds the
        // other.
        "25006" => of(StorageError::Unavailable(message), true),
        // What was prepared does not fit any more: another node migrated, or a pooler between us and the
        // server took another connection. Nothing was done, and the job is run again.
        "0A000" | "26000" | "42P05" => of(StorageError::Unavailable(message), true),
        // Connections, resources, the operator, the system.
        code if ["08", "53", "57", "58"].iter().any(|class| code.starts_with(class)) => {
            of(StorageError::Unavailable(message), code.starts_with("08") || code.starts_with("57"))
        }
        _ => of(StorageError::Fault(message), false),
    }
}

/// invalid_sql_statement_name, duplicate_prepared_statement: it is another client's, by way of a pooler.
fn is_foreign_statement(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|told| told.code());
    code.is_some_and(|code| code == "26000" || code == "42P05")
}

/// Why there is no connection.
fn refusal(error: &sqlx::Error) -> String {
    let text = text(error);
    if text.contains("startup parameter") {
        // By PgBouncer, and at each try.
        return format!("{text}: take it out of store.url, or name it in ignore_startup_parameters");
    }
    text
}

/// What is said of an error: the server's main message, which holds no row's values (its detail does).
fn text(error: &sqlx::Error) -> String {
    match error.as_database_error() {
        Some(told) => format!("PostgreSQL: {}", told.message()),
        None => format!("PostgreSQL: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_that_cannot_be_used_is_not_told() {
        for url in [
            "mysql://user:hunter2@host/db",
            "postgres://user:hun/ter2@host/db",
            "postgres://user:hun@ter2@host/db",
            "postgres://user:hun?ter2@host/db",
            "postgres://user:hunter2@host:port/db",
            "postgres://user:hunter2@host/db?sslmode=hunter2",
        ] {
            let error = Server::parse(url).map(drop).expect_err(url).to_string();
            assert!(error.contains("URL") && !error.contains("ter2"), "{error}");
        }
        assert!(Server::parse("postgres://user:hun%2Fter2@host:5433/db?sslmode=require").is_ok());
    }

    #[test]
    fn a_server_that_does_not_answer_is_given_up() {
        let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = silent.local_addr().expect("bound").port();
        let server = Server::parse(&format!("postgres://u:hunter2@127.0.0.1:{port}/db")).expect("a URL");
        let started = Instant::now();
        let error = Session::open(&server).map(drop).expect_err("silent");
        assert_eq!(error, StorageError::Unavailable("PostgreSQL does not answer".to_owned()));
        assert!(started.elapsed() < CONNECT * 2);
    }
}
