//! Why the portal's database did not tell what was asked. Never holds a password, a phone number or what
//! stands in a row.

use sqlx::error::{DatabaseError, Error};

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
            // Texts that may quote what was received, or the URL.
            Error::Configuration(_) => {
                Self::Wrong("routing.directory.url: a parameter of the URL is wrong".to_owned())
            }
            Error::Protocol(_) => Self::Unavailable("the connection broke: protocol error".to_owned()),
            _ => Self::Unavailable("the connection failed".to_owned()),
        }
    }
}

fn of_database(error: &dyn DatabaseError) -> Fault {
    let state = error.code().unwrap_or_default();
    let class = state.get(..2).unwrap_or_default();
    let text = if NAMES_ONLY.contains(&class) {
        format!("{} (SQLSTATE {state})", error.message())
    } else {
        format!("the query failed with SQLSTATE {state}")
    };
    if QUERY.contains(&class) { Fault::Wrong(text) } else { Fault::Unavailable(text) }
}
