//! The tables of a PostgreSQL database.

use super::super::StorageError;
use super::super::migrations::{self, POSTGRES, STEPS};
use super::session::Session;

/// Lets one node migrate at a time: "switchbd" as a number.
const LOCK: &str = "SELECT pg_advisory_xact_lock(8319404380044026468)";
const IS_KNOWN: &str = "SELECT to_regclass('switchboard_schema') IS NOT NULL";

/// Brings the tables up to date.
pub(super) fn migrate(session: &mut Session) -> Result<(), StorageError> {
    // Steps may take long, and so may another node with the lock.
    session.command(
        "BEGIN; SET LOCAL statement_timeout = '10min'; SET LOCAL client_min_messages = 'warning';
        SELECT set_config('synchronous_commit', 'on', true)
        WHERE current_setting('synchronous_commit') <> 'remote_apply'",
    )?;
    session.be_patient();
    session.command(LOCK)?;
    let is_known = session.number(IS_KNOWN)? != 0;
    let done = if is_known {
        session.number("SELECT COALESCE(MAX(version), 0) FROM switchboard_schema")?
    } else {
        0
    };
    let missing = migrations::missing(done).map_err(|error| StorageError::Unavailable(error.to_string()))?;
    // Without a need nothing is written: the server's role need not own the tables.
    if !missing.is_empty() {
        if !is_known {
            session.command("CREATE TABLE switchboard_schema (version BIGINT NOT NULL)")?;
        }
        for step in missing {
            session.command(POSTGRES.render(step))?;
        }
        session.command("DELETE FROM switchboard_schema")?;
        session.command(format!("INSERT INTO switchboard_schema VALUES ({})", STEPS.len()))?;
    }
    session.command("COMMIT")?;
    if session.number("SELECT (current_setting('fsync') = 'off')")? != 0 {
        tracing::warn!("PostgreSQL runs with fsync = off: messages that were answered for may be lost");
    }
    Ok(())
}
