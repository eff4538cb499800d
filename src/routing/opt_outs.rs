//! Numbers that want no messages, per app and carrier profile.

use super::directory::OwnNumber;
use super::error::{Code, RoutingError};
use crate::apps::App;
use crate::storage::Transaction;

/// Refuses a recipient who opted out. What was noted without a profile holds for all.
///
/// # Errors
/// `opted_out`.
pub fn check(tx: &mut Transaction<'_>, app: &App, own: &OwnNumber, to: &str) -> Result<(), RoutingError> {
    let profile = profile(app, own);
    let row = tx.query_one(
        "SELECT 1 FROM opt_outs WHERE app_id = ?1 AND number = ?2 AND profile_id IN ('', ?3)",
        &[(&app.settings.id).into(), to.into(), profile.into()],
    )?;
    match row {
        None => Ok(()),
        Some(_) => {
            let message = "the recipient opted out of messages; only a START from their phone lifts that";
            Err(RoutingError::new(Code::OptedOut, message).at("to"))
        }
    }
}

/// The carrier's profile of a number.
pub fn profile<'a>(app: &'a App, own: &'a OwnNumber) -> &'a str {
    own.messaging_profile_id.as_deref().unwrap_or(&app.settings.routing.telnyx.messaging_profile_id)
}

/// tmp
pub fn note(
    _tx: &mut Transaction<'_>,
    _router: &super::Router,
    _app: &App,
    _profile: &str,
    _number: &str,
    _source: &str,
    _now: i64,
) -> Result<(), crate::storage::StorageError> {
    Ok(())
}

/// tmp
pub fn lift(
    _tx: &mut Transaction<'_>,
    _router: &super::Router,
    _app: &App,
    _profile: &str,
    _number: &str,
    _source: &str,
    _now: i64,
) -> Result<(), crate::storage::StorageError> {
    Ok(())
}
