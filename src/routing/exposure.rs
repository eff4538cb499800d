//! Warns of messages that strangers can read: those of apps whose messages go to public channels.
//!
//! Once an app and process, and only when the app has a use for the router: a phone number, a directory in the
//! portal's tables, or a carrier.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use super::Router;
use crate::config::{AppSettings, ChannelMode, DirectoryMode, Payload};
use crate::storage::{StorageError, Transaction};

/// Counts an app's numbers.
pub const COUNT_NUMBERS: &str = "SELECT COUNT(*) FROM phone_numbers WHERE app_id = ?1";

/// The apps that were warned of.
#[derive(Default)]
pub(super) struct Exposure(Mutex<HashSet<String>>);

/// Whether strangers could read an app's messages, and nobody said that this is known.
pub fn is_exposed(app: &AppSettings) -> bool {
    let routing = &app.routing;
    routing.enabled
        && routing.channels.mode != ChannelMode::Private
        && routing.payload == Payload::Full
        && !routing.channels.public_acknowledged
        && !routing.channels.authenticated_public
}

/// Whether an app's settings alone tell that it sends messages.
pub fn is_set_up(app: &AppSettings) -> bool {
    app.routing.directory.mode == DirectoryMode::Sql || app.routing.telnyx.api_key.is_some()
}

impl Router {
    /// Warns of those of these apps that are exposed and have a use for the router.
    ///
    /// # Errors
    /// Of the store.
    pub async fn report_exposed(&self, apps: &[AppSettings]) -> Result<(), StorageError> {
        for app in apps.iter().filter(|app| is_exposed(app)) {
            let id = app.id.clone();
            if is_set_up(app) || self.database().read(move |tx| has_numbers(tx, &id)).await? {
                self.warn_if_exposed(app);
            }
        }
        Ok(())
    }

    /// Warns of an app that has a number now, or sent a message.
    pub(super) fn warn_if_exposed(&self, app: &AppSettings) {
        if !is_exposed(app) {
            return;
        }
        let mut warned = self.inner.exposure.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !warned.insert(app.id.clone()) {
            return;
        }
        tracing::warn!(
            app = app.id,
            "messages go to public channels: anyone with the app key, which is in the page's source, can subscribe \
             to user.1, user.2, … and read every message. Set routing.payload = \"ids\" (events carry ids only, \
             pages reload them) or routing.channels.mode = \"private\", or routing.channels.public_acknowledged = \
             true to end this warning"
        );
    }
}

fn has_numbers(tx: &mut Transaction<'_>, app_id: &str) -> Result<bool, StorageError> {
    let row = tx.query_one(COUNT_NUMBERS, &[app_id.into()])?;
    row.map_or(Ok(false), |row| Ok(row.int(0)? > 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn apps_whose_messages_anyone_can_read_are_warned_of() {
        let exposed = |change: fn(&mut AppSettings)| {
            let mut app = AppSettings::new("1001", "key", "secret");
            app.routing.enabled = true;
            change(&mut app);
            is_exposed(&app)
        };
        assert!(exposed(|_| {}));
        assert!(exposed(|app| app.routing.channels.mode = ChannelMode::Both));
        for change in [
            (|app| app.routing.enabled = false) as fn(&mut AppSettings),
            |app| app.routing.channels.mode = ChannelMode::Private,
            |app| app.routing.payload = Payload::Ids,
            |app| app.routing.channels.public_acknowledged = true,
            |app| app.routing.channels.authenticated_public = true,
        ] {
            assert!(!exposed(change));
        }
    }
}
