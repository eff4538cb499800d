//! Why the portal's database did not tell what was asked. Never holds a password, a phone number or what
//! stands in a row.

use sqlx::error::{DatabaseError, Error};
use sqlx::mysql::MySqlDatabaseError;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Fault {
    /// It can't be reached, or it is too slow.
    #[error("{0}")]
    Unavailable(String),
    /// It answered, but a query or what it gives is not what it must be.
    #[error("{0}")]
    Wrong(String),
    /// Several users have the number.
    #[error("several users have one phone number")]
    Ambiguous,
}

/// SQLSTATE classes whose messages speak of names and rights, not of values: connections, states of
/// transactions, credentials, databases, names and grammar, resources, the operator's interventions.
const NAMES_ONLY: [&str; 7] = ["08", "25", "28", "3D", "42", "53", "57"];

/// SQLSTATE classes that a query or its values are at fault for: cardinality, data, states of
/// transactions (writing in a read-only one), names and grammar.
const QUERY: [&str; 4] = ["21", "22", "25", "42"];

/// MySQL's and MariaDB's refusals of a login that have no SQLSTATE of their own. Their texts name accounts and
/// hosts, no values: too many connections, host blocked or not allowed, too many connections of an account,
/// unknown plugin, password expired, account locked.
/// <https://dev.mysql.com/doc/mysql-errors/8.4/en/server-error-reference.html>
/// <https://mariadb.com/kb/en/mariadb-error-codes/>
const LOGIN: [u16; 10] = [1040, 1129, 1130, 1203, 1226, 1524, 1820, 1862, 3118, 4151];

/// What the driver says of an authentication plugin it does not speak.
const UNKNOWN_PLUGIN: &str = "unknown authentication plugin: ";

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        match error {
            Error::Database(error) => of_database(&*error),
            Error::Io(error) => Self::Unavailable(format!("no connection: {error}")),
            Error::Tls(error) => Self::Unavailable(format!("no connection: TLS: {error}")),
            Error::PoolTimedOut => Self::Unavailable("no connection in time".to_owned()),
            Error::PoolClosed | Error::WorkerCrashed => {
                Self::Unavailable("the connections are being closed".to_owned())
            }
            // It comes after the connection was made, and only while the server has not cached the password.
            Error::Configuration(error) if error.to_string().starts_with("RSA") => {
                let text = "the account's password can only be given to this server over TLS \
                            (caching_sha2_password or sha256_password): turn TLS on in the server and write \
                            ?ssl-mode=REQUIRED at the end of routing.directory.url";
                Self::Wrong(text.to_owned())
            }
            // Texts that may quote what was received, or the URL.
            Error::Configuration(_) => {
                Self::Wrong("routing.directory.url: a parameter of the URL is wrong".to_owned())
            }
            Error::Protocol(text) => of_protocol(&text),
            _ => Self::Unavailable("the connection failed".to_owned()),
        }
    }
}

fn of_protocol(text: &str) -> Fault {
    let plugin: String = text.split_once(UNKNOWN_PLUGIN).map_or_else(String::new, |(_, name)| {
        name.chars().take_while(|letter| letter.is_ascii_alphanumeric() || *letter == '_').take(64).collect()
    });
    if plugin.is_empty() {
        return Fault::Unavailable("the connection broke: protocol error".to_owned());
    }
    Fault::Wrong(format!(
        "the account logs in with the plugin {plugin}, which is not supported: give the account of \
         routing.directory.url the plugin mysql_native_password, or caching_sha2_password with TLS"
    ))
}

fn of_database(error: &dyn DatabaseError) -> Fault {
    let state = error.code().unwrap_or_default();
    let class = state.get(..2).unwrap_or_default();
    if state == "08P01" && error.message().contains("startup parameter") {
        // It would be refused at each try.
        return Fault::Wrong(format!(
            "{}: take it out of routing.directory.url, or name it in PgBouncer's ignore_startup_parameters",
            error.message()
        ));
    }
    let number = error.try_downcast_ref::<MySqlDatabaseError>().map(MySqlDatabaseError::number);
    if let Some(number) = number.filter(|number| LOGIN.contains(number)) {
        return Fault::Unavailable(format!("{} (error {number})", error.message()));
    }
    let text = if NAMES_ONLY.contains(&class) {
        format!("{} (SQLSTATE {state})", error.message())
    } else {
        format!("the query failed with SQLSTATE {state}")
    };
    if QUERY.contains(&class) { Fault::Wrong(text) } else { Fault::Unavailable(text) }
}
