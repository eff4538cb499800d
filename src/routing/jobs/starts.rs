//! The apps whose jobs are being started, each in a task of its own: a portal's database that has to be asked about
//! one app's messages, and is slow, keeps back no other app.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use tokio::task::{Id, JoinSet};

use super::worker::start_due;
use crate::apps::App;
use crate::routing::Router;

#[derive(Default)]
pub(super) struct Starts {
    tasks: JoinSet<()>,
    by_task: HashMap<Id, String>,
    busy: HashSet<String>,
    /// Those that are to be looked at once more: what is due may have come behind their last look.
    again: HashSet<String>,
}

impl Starts {
    /// Starts what is due of an app, now or when it is no longer busy.
    pub fn start(&mut self, router: &Router, app: Arc<App>) {
        let id = app.settings.id.clone();
        if !self.busy.insert(id.clone()) {
            self.again.insert(id);
            return;
        }
        let router = router.clone();
        let task = self.tasks.spawn(async move {
            if let Err(error) = start_due(&router, &app).await {
                tracing::error!(app = app.settings.id, %error, "the router can't read the messages for the carrier");
            }
        });
        self.by_task.insert(task.id(), id);
    }

    /// Waits for the next app that has ended and is to be looked at once more. Nothing is lost if that is given up.
    pub async fn wanted(&mut self) -> String {
        while let Some(ended) = self.tasks.join_next_with_id().await {
            let task = ended.map_or_else(|error| error.id(), |(task, ())| task);
            let Some(app) = self.by_task.remove(&task) else { continue };
            self.busy.remove(&app);
            if self.again.remove(&app) {
                return app;
            }
        }
        std::future::pending().await
    }
}
