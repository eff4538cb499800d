//! Starts the message router, where an app has one.

use crate::config::{AppSettings, ChannelMode, Payload, Settings};
use crate::hub::Hub;
use crate::routing::Router;
use crate::storage::{Database, StorageError};

use super::RunError;

/// Opens the store and builds the router. Without an app that has one there is neither.
pub async fn open(settings: &Settings, hub: &Hub) -> Result<Option<Router>, RunError> {
    if !settings.apps.iter().any(|app| app.routing.enabled) {
        return Ok(None);
    }
    let database = Database::open(&settings.store, &settings.server.data_dir).map_err(RunError::Store)?;
    let router = Router::new(database, hub.clone()).await.map_err(RunError::Store)?;
    settings.apps.iter().filter(|app| is_exposed(app)).for_each(warn_of_public_channels);
    router.report_shared_numbers().await.map_err(RunError::Store)?;
    Ok(Some(router))
}

/// Whether strangers can read an app's messages, and nobody said that this is known.
pub fn is_exposed(app: &AppSettings) -> bool {
    let routing = &app.routing;
    routing.enabled
        && routing.channels.mode != ChannelMode::Private
        && routing.payload == Payload::Full
        && !routing.channels.public_acknowledged
        && !routing.channels.authenticated_public
}

fn warn_of_public_channels(app: &AppSettings) {
    tracing::warn!(
        app = app.id,
        "messages go to public channels: anyone with the app key, which is in the page's source, can subscribe to \
         user.1, user.2, … and read every message. Set routing.payload = \"ids\" (events carry ids only, pages \
         reload them) or routing.channels.mode = \"private\", or routing.channels.public_acknowledged = true to \
         end this warning"
    );
}

impl RunError {
    /// What to do about a store that can't be opened.
    pub(super) fn store_advice(error: &StorageError) -> &'static str {
        match error {
            StorageError::Unavailable(_) => {
                "check store.url and server.data_dir, or set routing.enabled = false to run without message router"
            }
            _ => "set store.url to another store, or routing.enabled = false to run without message router",
        }
    }
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

    #[test]
    fn without_an_app_that_routes_there_is_no_store() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut app = AppSettings::new("1001", "key", "secret");
        app.routing.enabled = false;
        let mut settings = settings(vec![app]);
        settings.server.data_dir = folder.path().join("data");
        let hub = hub(&settings);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        assert!(runtime.block_on(open(&settings, &hub)).expect("nothing to fail").is_none());
        assert!(!settings.server.data_dir.exists());
        settings.apps[0].routing.enabled = true;
        assert!(runtime.block_on(open(&settings, &hub)).expect("opened").is_some());
        // A folder where a file is.
        settings.server.data_dir = settings.server.data_dir.join("switchboard.db");
        let error = runtime.block_on(open(&settings, &hub)).err().expect("no folder");
        assert!(error.to_string().contains("routing.enabled = false"), "{error}");
    }

    fn hub(settings: &Settings) -> Hub {
        use crate::hub::{Alone, ConnectionLimits};
        Hub::new(1, ConnectionLimits::new(&settings.server), std::sync::Arc::new(Alone))
    }

    fn settings(apps: Vec<AppSettings>) -> Settings {
        use crate::config::{AdminSettings, LogSettings, RoutingSettings, ServerSettings, StoreSettings};
        Settings {
            server: ServerSettings::default(),
            admin: AdminSettings::default(),
            log: LogSettings::default(),
            store: StoreSettings::default(),
            routing: RoutingSettings::default(),
            apps,
            development: false,
        }
    }
}
