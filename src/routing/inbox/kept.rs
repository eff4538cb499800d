//! Webhooks that had no effect, for those who look after the server: set aside, or of a kind that does nothing
//! here.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::apps::App;
use crate::routing::Router;
use crate::routing::error::RoutingError;
use crate::routing::json::carbon;
use crate::storage::{self, Row, StorageError, Transaction};

/// Bytes of a body that a list shows.
const SHOWN: usize = 4_096;

/// Why a webhook is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum KeptState {
    /// It can't be read, or could not be processed.
    SetAside,
    /// It is of a kind that does nothing here.
    Noted,
}

/// A webhook of the carrier that had no effect.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct CarrierEventJson {
    /// Identifies it.
    pub id: i64,
    /// The carrier's `data.id`; of one that can't be read, a digest of its bytes.
    pub event_id: String,
    /// The carrier's `data.event_type`; empty if it can't be read.
    pub event_type: String,
    /// Why it is kept.
    pub state: KeptState,
    /// What is wrong with it.
    pub reason: Option<String>,
    /// When it came.
    pub received_at: String,
    /// Bytes of its body.
    pub size: usize,
    /// Its body; bytes that are not UTF-8 are shown as U+FFFD. A list shows the first 4096 bytes.
    pub body: String,
    /// Whether the body is longer than shown.
    pub truncated: bool,
}

/// Which ones to list.
#[derive(Clone, Debug, Default)]
pub struct CarrierEventQuery {
    /// Kept for this reason.
    pub state: Option<KeptState>,
    /// Of this kind.
    pub event_type: Option<String>,
    /// At most so many.
    pub limit: i64,
    /// Behind the one with this id.
    pub after: Option<i64>,
}

impl KeptState {
    fn as_str(self) -> &'static str {
        match self {
            Self::SetAside => "set_aside",
            Self::Noted => "noted",
        }
    }
}

impl CarrierEventJson {
    fn read(row: &Row, shown: usize) -> Result<Self, StorageError> {
        let body = row.bytes(6)?;
        let cut = &body[..body.len().min(shown)];
        Ok(Self {
            id: row.int(0)?,
            event_id: row.text(1)?,
            event_type: row.optional_text(2)?.unwrap_or_default(),
            state: if row.text(3)? == KeptState::Noted.as_str() {
                KeptState::Noted
            } else {
                KeptState::SetAside
            },
            reason: row.optional_text(4)?,
            received_at: carbon(row.int(5)?),
            size: body.len(),
            body: String::from_utf8_lossy(cut).into_owned(),
            truncated: cut.len() < body.len(),
        })
    }
}

fn list(
    tx: &mut Transaction<'_>,
    app_id: &str,
    query: &CarrierEventQuery,
) -> Result<Vec<CarrierEventJson>, StorageError> {
    let rows = tx.query(
        "SELECT id, event_id, kind, state, reason, received_at, body FROM inbox WHERE app_id = ?1 \
         AND state IN ('set_aside', 'noted') AND (?2 = '' OR state = ?2) AND (?3 = '' OR kind = ?3) AND id > ?4 \
         ORDER BY id LIMIT ?5",
        &[
            app_id.into(),
            query.state.map_or("", KeptState::as_str).into(),
            query.event_type.as_deref().unwrap_or_default().into(),
            query.after.unwrap_or(0).into(),
            query.limit.into(),
        ],
    )?;
    rows.iter().map(|row| CarrierEventJson::read(row, SHOWN)).collect()
}

impl Router {
    /// A page of the webhooks that had no effect, in the order in which they came; whether there are more.
    ///
    /// # Errors
    /// Of the store.
    pub async fn carrier_events(
        &self,
        app: Arc<App>,
        query: CarrierEventQuery,
    ) -> Result<(Vec<CarrierEventJson>, bool), RoutingError> {
        let limit = usize::try_from(query.limit).unwrap_or(0);
        let query = CarrierEventQuery { limit: query.limit + 1, ..query };
        let mut found = self.database().read(move |tx| list(tx, &app.settings.id, &query)).await?;
        let has_more = found.len() > limit;
        found.truncate(limit);
        Ok((found, has_more))
    }

    /// One of them with its whole body.
    ///
    /// # Errors
    /// `not_found`, or the store's.
    pub async fn carrier_event(&self, app: Arc<App>, id: i64) -> Result<CarrierEventJson, RoutingError> {
        let found = self.database().read(move |tx| {
            let row = tx.query_one(
                "SELECT id, event_id, kind, state, reason, received_at, body FROM inbox WHERE app_id = ?1 AND id = ?2 \
                 AND state IN ('set_aside', 'noted')",
                &[(&app.settings.id).into(), id.into()],
            )?;
            row.map(|row| CarrierEventJson::read(&row, usize::MAX)).transpose()
        });
        found.await?.ok_or_else(|| RoutingError::not_found("carrier event"))
    }

    /// Has one that was set aside processed again. What came after it in its threads does not wait for it.
    ///
    /// # Errors
    /// `not_found`, or the store's.
    pub async fn retry_carrier_event(&self, app: Arc<App>, id: i64) -> Result<(), RoutingError> {
        let router = self.clone();
        let is_there = self.database().write(move |tx| {
            let found = tx.execute(
                "UPDATE inbox SET state = 'pending', reason = NULL, attempts = 0, not_before = ?3 \
                 WHERE app_id = ?1 AND id = ?2 AND state = 'set_aside'",
                &[(&app.settings.id).into(), id.into(), storage::now().into()],
            )?;
            let router = router.clone();
            tx.on_commit("", move || router.inner.inbox.wake.notify_one());
            Ok::<_, StorageError>(found > 0)
        });
        if is_there.await? { Ok(()) } else { Err(RoutingError::not_found("carrier event")) }
    }
}
