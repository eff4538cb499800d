//! SIGHUP: the configuration is read again. Apps change at once; what needs a restart is named. A faulty
//! configuration changes nothing.

use crate::config::{ServerSettings, Settings};
use crate::hub::Hub;

use super::receivers;
use super::services::{self, Services};

/// Reads the configuration again; the error lists every problem, one a line.
pub type Load<'a> = dyn Fn() -> Result<Settings, String> + 'a;

/// Applies what can be applied to the running server.
pub fn reload(hub: &Hub, services: &Services, running: &mut Settings, load: &Load<'_>) {
    let settings = match load() {
        Ok(settings) => settings,
        Err(problems) => {
            for problem in problems.lines() {
                tracing::error!(problem, "configuration not reloaded");
            }
            return;
        }
    };
    let changes = hub.set_apps(settings.apps.clone());
    if let Some(webhooks) = &services.webhooks {
        webhooks.configure(&settings.apps);
    }
    receivers::warn_of_refused(settings.apps.clone());
    let needs_restart: Vec<&str> = [
        // Each app has its own copy of the budgets, which changed with it.
        (
            "server",
            running.server
                != ServerSettings { client: running.server.client.clone(), ..settings.server.clone() },
        ),
        ("admin", running.admin != settings.admin),
        ("log", running.log != settings.log),
        ("store", running.store != settings.store),
        ("apps.routing", services.router.is_none() && settings.apps.iter().any(|app| app.routing.enabled)),
        ("apps.webhooks", services.webhooks.is_none() && services::has_webhooks(&settings)),
    ]
    .into_iter()
    .filter_map(|(section, differs)| differs.then_some(section))
    .collect();
    tracing::info!(
        added = ?changes.added,
        changed = ?changes.changed,
        removed = ?changes.removed,
        ?needs_restart,
        "configuration reloaded"
    );
    running.apps = settings.apps;
}
