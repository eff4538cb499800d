//! What runs beside the sockets and needs the store: the outbox, the message router, webhooks.

use std::sync::Arc;
use std::time::Duration;

use crate::config::{ReadyWhen, Settings};
use crate::hub::{Hub, vital};
use crate::outbox::Outbox;
use crate::readiness::{Part, Readiness};
use crate::routing::{Router, portal_directory};
use crate::storage::{ClockStep, Database, StorageError, follow_clock};
use crate::webhooks::Webhooks;

use super::RunError;

/// Pause before the store is told again that the clock was set.
const CLOCK_PAUSE: Duration = Duration::from_secs(1);
/// Time for what was seen last to be written for webhooks.
const LAST_WEBHOOKS: Duration = Duration::from_secs(3);

/// The services of this process. Without an app that needs one there is neither, nor a store.
#[derive(Clone, Default)]
pub struct Services {
    /// What must still happen.
    pub outbox: Option<Outbox>,
    /// The message router, if an app has one.
    pub router: Option<Router>,
    /// Webhooks, if an app has any.
    pub webhooks: Option<Webhooks>,
}

/// Opens the store and builds what the apps need.
pub async fn open(settings: &Settings, hub: &Hub) -> Result<Services, RunError> {
    let routes = settings.apps.iter().any(|app| app.routing.enabled);
    let tells = has_webhooks(settings);
    if !routes && !tells {
        return Ok(Services::default());
    }
    let database = Database::own(&settings.store, &settings.server.data_dir).map_err(RunError::Store)?;
    if let Err(error) = database.set_clock().await {
        // It follows the store's clock later.
        tracing::warn!(%error, "the store can't be asked for its time yet; the machine's counts");
    }
    let node: Arc<str> = ulid::Ulid::generate().to_string().into();
    let outbox = Outbox::new(database, hub.clone(), node);
    let mut services = Services { outbox: Some(outbox.clone()), ..Services::default() };
    if routes {
        portal_directory::check_all(&settings.apps).await.map_err(RunError::Directory)?;
        let router = Router::new(outbox.clone(), hub.clone()).await.map_err(RunError::Store)?;
        router.report_exposed(&settings.apps).await.map_err(RunError::Store)?;
        router.report_shared_numbers().await.map_err(RunError::Store)?;
        services.router = Some(router);
    }
    services.webhooks = tells.then(|| Webhooks::new(outbox, hub.clone(), &settings.apps));
    Ok(services)
}

/// Whether an app has webhooks.
pub fn has_webhooks(settings: &Settings) -> bool {
    settings.apps.iter().any(|app| !app.webhooks.is_empty())
}

impl Services {
    /// Starts them on this runtime.
    pub fn run(&self) {
        if let Some(webhooks) = self.webhooks.clone() {
            tokio::spawn(vital(webhooks.run()));
        }
        if let Some(router) = self.router.clone() {
            tokio::spawn(vital(router.run()));
        }
        if let Some(outbox) = self.outbox.clone() {
            tokio::spawn(vital(outbox.database().clone().watch()));
            tokio::spawn(vital(self.clone().keep_clock(outbox.clone())));
            tokio::spawn(vital(outbox.run()));
        }
    }

    /// Has the services follow when the clock is set by more than a minute. What waits in the store is told first; until
    /// then the clock goes on as before. Never ends.
    async fn keep_clock(self, outbox: Outbox) {
        loop {
            let step = outbox.database().clock_step().await;
            tracing::warn!(
                seconds = step.by / 1_000_000,
                "the clock was set: what was put off is due now, and nothing is deleted because of its age for a day"
            );
            while let Err(error) = self.stepped(&outbox, step).await {
                tracing::error!(%error, "the store can't be told that the clock was set; it is tried again");
                tokio::time::sleep(CLOCK_PAUSE).await;
            }
            follow_clock(step);
            outbox.wake();
            if let Some(router) = &self.router {
                router.follow_clock();
            }
        }
    }

    async fn stepped(&self, outbox: &Outbox, step: ClockStep) -> Result<(), StorageError> {
        outbox.clock_stepped(step).await?;
        match &self.router {
            Some(router) => router.clock_stepped(step).await,
            None => Ok(()),
        }
    }

    /// What `/ready` says of these services.
    pub fn readiness(&self, hub: &Hub, ready: ReadyWhen) -> Readiness {
        let router = self.router.as_ref().map(|_| Part::Router);
        let webhooks = self.webhooks.as_ref().map(|_| Part::Webhooks);
        let services: Vec<_> = router.into_iter().chain(webhooks).collect();
        let database = self.outbox.as_ref().map(|outbox| outbox.database().clone());
        Readiness::new(hub.clone(), database, &services, ready)
    }

    /// Waits until the store is of no use to this process any more; answers why.
    pub async fn store_breaks(&self) -> String {
        match &self.outbox {
            Some(outbox) => outbox.database().breaks().await,
            None => std::future::pending().await,
        }
    }

    /// The process is about to send its clients away; calls that are out may take so long.
    pub async fn begin_end(&self, calls: Duration) {
        if let Some(webhooks) = &self.webhooks {
            webhooks.freeze();
        }
        if let Some(outbox) = &self.outbox {
            outbox.end();
        }
        if let Some(router) = &self.router {
            router.stop(calls).await;
        }
    }

    /// The clients are gone, and so is the process in a moment.
    pub async fn end(&self) {
        if let Some(webhooks) = &self.webhooks {
            webhooks.stop(LAST_WEBHOOKS).await;
        }
    }
}

impl RunError {
    /// What to do about a store that can't be opened.
    pub(super) fn store_advice(error: &StorageError) -> &'static str {
        match error {
            StorageError::Owned(_) => {
                "stop that one, or give this one another server.data_dir (or store.url): one server owns a file"
            }
            StorageError::Unavailable(_) => {
                "check store.url and server.data_dir, or set routing.enabled = false and no webhooks to run without a store"
            }
            _ => {
                "set store.url to another store, or routing.enabled = false and no webhooks to run without one"
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::AppSettings;

    #[test]
    fn without_an_app_that_needs_one_there_is_no_store() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut app = AppSettings::new("1001", "key", "secret");
        app.routing.enabled = false;
        let mut settings = settings(vec![app]);
        settings.server.data_dir = folder.path().join("data");
        let hub = hub(&settings);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        assert!(runtime.block_on(open(&settings, &hub)).expect("nothing to fail").outbox.is_none());
        assert!(!settings.server.data_dir.exists());
        settings.apps[0].routing.enabled = true;
        assert!(runtime.block_on(open(&settings, &hub)).expect("opened").router.is_some());
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
