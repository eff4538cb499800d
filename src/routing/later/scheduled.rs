//! Messages to be sent later: kept with us until their time, so that they can be cancelled.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use super::departure::Departure;
use crate::apps::App;
use crate::config::DirectoryMode;
use crate::routing::Router;
use crate::routing::directory::Owner;
use crate::routing::error::{Code, RoutingError};
use crate::routing::records::Message;
use crate::routing::routed::Occasion;
use crate::routing::status::{Cause, Status};
use crate::storage::{self, StorageError, Transaction};

/// How often it is looked for messages whose time has come.
const POLL: Duration = Duration::from_secs(1);
/// Messages of one round.
const PAGE: i64 = 256;

/// Sends what is due until the process ends.
pub async fn run(router: &Router) {
    let mut each = tokio::time::interval(POLL);
    loop {
        each.tick().await;
        if let Err(error) = send_due(router).await {
            tracing::error!(
                code = error.code.as_str(),
                "the router can't read which scheduled messages are due"
            );
        }
    }
}

async fn send_due(router: &Router) -> Result<(), RoutingError> {
    let mut last = (0, 0);
    loop {
        let rows = router
            .database()
            .read(move |tx| {
                tx.query(
                    "SELECT id, app_id, send_at FROM messages WHERE status = 'scheduled' AND send_at <= ?1 \
                     AND (send_at > ?2 OR (send_at = ?2 AND id > ?3)) ORDER BY send_at, id LIMIT ?4",
                    &[storage::now().into(), last.0.into(), last.1.into(), PAGE.into()],
                )
            })
            .await?;
        for row in &rows {
            let (id, app_id) = (row.int(0)?, row.text(1)?);
            last = (row.int(2)?, id);
            let Some(app) = router.inner.hub.app_by_id(&app_id) else { continue };
            // One that can't be sent now keeps back no other.
            if let Err(error) = send(router, app.app(), id).await {
                tracing::error!(
                    app = app_id,
                    code = error.code.as_str(),
                    "the router can't send a scheduled message"
                );
            }
        }
        if rows.len() < PAGE as usize {
            return Ok(());
        }
    }
}

async fn send(router: &Router, app: Arc<App>, id: i64) -> Result<(), RoutingError> {
    let owner = portal_owner(router, &app, id).await?;
    let router_in_job = router.clone();
    router
        .database()
        .write(move |tx| {
            let now = storage::now();
            let message = Message::by_row_to_change(tx, id)?;
            // Cancelled meanwhile, or another node's.
            let Some(mut message) = message.filter(|message| message.status == Status::Scheduled) else {
                return Ok(());
            };
            let departure = Departure {
                router: &router_in_job,
                app: &app,
                portal_owner: owner.as_ref(),
                occasion: Occasion::Due,
            };
            match departure.decide(tx, &message) {
                Ok(decided) => Ok(departure.go(tx, &mut message, &decided, now)?),
                Err(error) if error.code == Code::StorageUnavailable => Err(error),
                Err(refusal) => Ok(fail(&router_in_job, tx, &app, &mut message, &refusal, now)?),
            }
        })
        .await
}

fn fail(
    router: &Router,
    tx: &mut Transaction<'_>,
    app: &App,
    message: &mut Message,
    refusal: &RoutingError,
    now: i64,
) -> Result<(), StorageError> {
    let reason = json!({"code": refusal.code.as_str(), "title": refusal.message, "carrier": null});
    message.error = Some(reason.to_string());
    message.save_carrier_facts(tx)?;
    router.advance(tx, app, message, (Status::Failed, Cause::Event), now, now)?;
    Ok(())
}

/// Who has the number now, when the portal's tables say it.
async fn portal_owner(router: &Router, app: &Arc<App>, id: i64) -> Result<Option<Owner>, RoutingError> {
    if app.settings.routing.directory.mode == DirectoryMode::Own {
        return Ok(None);
    }
    let message = router.database().read(move |tx| Message::by_row(tx, id)).await?;
    match message {
        Some(message) => router.portal_owner(app, &message.to_number).await,
        None => Ok(None),
    }
}
