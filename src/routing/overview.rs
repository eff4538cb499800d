//! How the router is: for the status call and for metrics.

use std::collections::HashMap;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::Serialize;

use super::Router;
use super::error::RoutingError;
use super::json::carbon;
use crate::apps::App;
use crate::config::DirectoryMode;
use crate::storage::{self, Row, StorageError, Transaction};

/// `GET /status`: one app's router.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Overview {
    /// `own` or `sql`.
    pub directory: String,
    /// The line to the carrier.
    pub carrier: CarrierOverview,
    /// Broadcasts that are not out yet.
    pub broadcasts: Depth,
    /// Callbacks that were not taken yet.
    pub callbacks: Depth,
    /// Carrier webhooks not processed yet.
    pub inbox: Depth,
}

/// The line to the carrier.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct CarrierOverview {
    /// Whether external messages can be sent.
    pub configured: bool,
    /// `closed`: calls go out; `open`, `probing`: it does not answer; `paused`: its account refuses.
    pub breaker: String,
    /// When calls are tried again.
    pub paused_until: Option<String>,
    /// Messages that wait for a call.
    pub waiting: Depth,
    /// Messages of which nobody knows whether the carrier has them.
    pub unconfirmed: i64,
}

/// A queue.
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct Depth {
    /// How many wait.
    pub count: i64,
    /// Seconds since the oldest of them came.
    pub oldest_seconds: f64,
}

impl Router {
    /// How one app's router is.
    ///
    /// # Errors
    /// The store can't be read.
    pub async fn overview(&self, app: Arc<App>) -> Result<Overview, RoutingError> {
        let id = app.settings.id.clone();
        let queues = self.database().read(move |tx| Queues::read(tx, Some(&id))).await?;
        let line = self.inner.jobs.line(&app.settings.id);
        let directory = match app.settings.routing.directory.mode {
            DirectoryMode::Own => "own",
            DirectoryMode::Sql => "sql",
        };
        Ok(Overview {
            directory: directory.to_owned(),
            carrier: CarrierOverview {
                configured: app.settings.routing.telnyx.api_key.is_some(),
                breaker: line.breaker.to_owned(),
                paused_until: line.paused_until.map(carbon),
                waiting: queues.jobs,
                unconfirmed: queues.held,
            },
            broadcasts: queues.broadcasts,
            callbacks: queues.callbacks,
            inbox: queues.inbox,
        })
    }

    /// The lanes in which messages wait for the carrier, by app; apps without any are left out.
    ///
    /// # Errors
    /// The store can't be read.
    pub async fn lanes(&self) -> Result<HashMap<String, Lanes>, StorageError> {
        self.database().read(Lanes::read).await
    }

    /// What waits, over all apps.
    ///
    /// # Errors
    /// The store can't be read.
    pub async fn queues(&self) -> Result<Queues, StorageError> {
        self.database().read(|tx| Queues::read(tx, None)).await
    }
}

/// Lanes of one app: the pairs of numbers whose messages go one after the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lanes {
    /// Those with waiting messages.
    pub waiting: i64,
    /// Messages in the one that has most.
    pub deepest: i64,
}

impl Lanes {
    fn read(tx: &mut Transaction<'_>) -> Result<HashMap<String, Self>, StorageError> {
        let rows = tx.query(
            "SELECT app_id, COUNT(*), MAX(depth) FROM (SELECT app_id, COUNT(*) AS depth FROM carrier_jobs \
             WHERE state = 'waiting' GROUP BY app_id, lane) AS lanes GROUP BY app_id",
            &[],
        )?;
        let lanes = |row: &Row| Ok((row.text(0)?, Self { waiting: row.int(1)?, deepest: row.int(2)? }));
        rows.iter().map(lanes).collect()
    }
}

/// What waits.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Queues {
    /// For a call to the carrier.
    pub jobs: Depth,
    /// For news of a call.
    pub held: i64,
    /// Broadcasts.
    pub broadcasts: Depth,
    /// Callbacks.
    pub callbacks: Depth,
    /// Carrier webhooks.
    pub inbox: Depth,
}

impl Queues {
    fn read(tx: &mut Transaction<'_>, app: Option<&str>) -> Result<Self, StorageError> {
        let mut found = Self::default();
        let now = storage::now();
        let rows = tx.query(
            "SELECT kind, COUNT(*), MIN(created_at) FROM (\
             SELECT kind, created_at, app_id FROM outbox WHERE kind IN ('broadcast', 'callback') \
             AND state IN ('pending', 'queued') \
             UNION ALL SELECT 'job', created_at, app_id FROM carrier_jobs WHERE state = 'waiting' \
             UNION ALL SELECT 'held', created_at, app_id FROM carrier_jobs WHERE state = 'held' \
             UNION ALL SELECT 'inbox', received_at, app_id FROM inbox WHERE state IN ('pending', 'queued')) AS waiting \
             WHERE ?1 = '' OR app_id = ?1 GROUP BY kind",
            &[app.unwrap_or_default().into()],
        )?;
        for row in rows {
            let oldest_seconds = (now - row.int(2)?).max(0) as f64 / 1e6;
            let depth = Depth { count: row.int(1)?, oldest_seconds };
            match row.text(0)?.as_str() {
                "broadcast" => found.broadcasts = depth,
                "callback" => found.callbacks = depth,
                "inbox" => found.inbox = depth,
                "held" => found.held = depth.count,
                _ => found.jobs = depth,
            }
        }
        Ok(found)
    }
}
