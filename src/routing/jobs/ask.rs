//! Asks the carrier what became of messages whose last report does not come.
//!
//! Slowly: one question at a time for each app, no more than the app's rate, further apart from one to the next, and
//! none while the carrier is in trouble or takes nothing from the app. When a question is asked is stored with the
//! message, so a restart forgets none, and of several nodes one asks. After the last question the message is `sent`,
//! its delivery unconfirmed: no message is on its way for ever.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering as Atomic;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::lines::Line;
use crate::apps::App;
use crate::routing::Router;
use crate::routing::carrier::{Health, LookUp, backoff};
use crate::routing::counters::Counter;
use crate::routing::events::micros;
use crate::routing::inbox::{Report, take_report};
use crate::routing::records::{Due, Message};
use crate::routing::status::{Cause, Status};
use crate::storage::{self, StorageError, Transaction};

/// How often it is looked for messages whose time has come.
const POLL: Duration = Duration::from_secs(1);
/// Messages of one round of an app.
const PAGE: i64 = 100;
/// How long the carrier knows a message: one that could not be asked about for so long ends unasked.
const FORGOTTEN: Duration = Duration::from_hours(10 * 24);
/// How long no question is asked when the carrier asked for fewer calls: sends go first.
const THROTTLED: Duration = Duration::from_secs(60);

/// Asks until the process ends. A slow carrier keeps back no other app, and neither does an app whose round fails.
pub async fn run(router: &Router) {
    let (mut rounds, mut apps) = (JoinSet::<bool>::new(), HashMap::new());
    let mut failed: HashMap<String, (u32, Instant)> = HashMap::new();
    loop {
        while let Some(ended) = rounds.try_join_next_with_id() {
            let (round, has_failed) = ended.map_or_else(|error| (error.id(), true), |(id, ok)| (id, !ok));
            let Some(app) = apps.remove(&round) else { continue };
            if !has_failed {
                failed.remove(&app);
                continue;
            }
            let failures = failed.get(&app).map_or(0, |(failures, _)| *failures) + 1;
            tracing::error!(
                app,
                failures,
                "the router failed to ask the carrier about messages; it tries again later"
            );
            failed.insert(app, (failures, Instant::now() + backoff::pause(failures, None)));
        }
        if router.inner.jobs.is_stopping.load(Atomic::Acquire) {
            return;
        }
        failed.retain(|app, _| router.inner.hub.app_by_id(app).is_some());
        for app in router.inner.hub.apps() {
            let app = app.app();
            let id = app.settings.id.clone();
            let rests = failed.get(&id).is_some_and(|(_, until)| *until > Instant::now());
            if app.settings.routing.enabled && !rests && apps.values().all(|other| *other != id) {
                let router = router.clone();
                let round = rounds.spawn(async move {
                    let asked = round(&router, &app).await.inspect_err(|error| {
                        tracing::error!(app = app.settings.id, %error, "the router can't ask the carrier about messages");
                    });
                    asked.is_ok()
                });
                apps.insert(round.id(), id);
            }
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Ends and asks what is due of one app.
async fn round(router: &Router, app: &Arc<App>) -> Result<(), StorageError> {
    for due in find(router, app, true).await? {
        end(router, app, &due).await?;
    }
    for due in find(router, app, false).await? {
        let Some(line) = line(router, app) else { return Ok(()) };
        if !ask(router, app, &line, &due).await? {
            return Ok(());
        }
    }
    Ok(())
}

async fn find(router: &Router, app: &Arc<App>, is_over: bool) -> Result<Vec<Due>, StorageError> {
    let (app, now) = (Arc::clone(app), storage::now());
    let read = move |tx: &mut Transaction<'_>| {
        let which = (is_over, limit(&app), now - micros(FORGOTTEN));
        Due::of_app(tx, &app.settings.id, now, which, PAGE)
    };
    router.database().read(read).await
}

/// Questions about one message.
fn limit(app: &App) -> i64 {
    i64::try_from(app.settings.routing.telnyx.ask_times).unwrap_or(i64::MAX)
}

/// The app's line, if it may be used.
fn line(router: &Router, app: &App) -> Option<Arc<Line>> {
    let can_call = app.settings.enabled && app.settings.routing.telnyx.api_key.is_some();
    let is_stopping = router.inner.jobs.is_stopping.load(Atomic::Acquire);
    // What is wrong with its settings is said where messages are sent.
    router.inner.jobs.lines.get(app).ok().filter(|_| can_call && !is_stopping)
}

/// Asks about one message; answers whether another may be asked about now.
async fn ask(router: &Router, app: &Arc<App>, line: &Line, due: &Due) -> Result<bool, StorageError> {
    let Some(carrier_id) = due.carrier_id.clone() else { return Ok(true) };
    let Some(permit) = line.state().may_ask(&app.settings.routing.telnyx, storage::now()) else {
        return Ok(false);
    };
    let (taken, ask_after) = (due.clone(), app.settings.routing.telnyx.ask_after);
    let is_ours = router.database().write(move |tx| taken.take(tx, storage::now(), ask_after)).await;
    if !matches!(is_ours, Ok(true)) {
        line.state().gives_up_question(permit, storage::now());
        return is_ours.map(|_| true);
    }
    // The question counts, and the next one is further off: a panic is tried again with growth.
    let answer = AssertUnwindSafe(line.telnyx.look_up(&carrier_id)).catch_unwind().await;
    let answer = answer.unwrap_or_else(|_| LookUp::Failed {
        reason: "bug: the question failed in the router".to_owned(),
        is_throttled: false,
        health: Health::Answered,
    });
    let is_throttled = matches!(answer, LookUp::Failed { is_throttled: true, .. });
    line.state().asked(permit, answer.health(), is_throttled.then_some(THROTTLED), storage::now());
    note(router, app, due, carrier_id, answer).await?;
    Ok(!is_throttled)
}

/// Stores what the carrier answered.
async fn note(
    router: &Router,
    app: &Arc<App>,
    due: &Due,
    carrier_id: String,
    answer: LookUp,
) -> Result<(), StorageError> {
    let (job_router, app, id) = (router.clone(), Arc::clone(app), due.message);
    let write = move |tx: &mut Transaction<'_>| {
        let Some(mut message) = Message::by_row_to_change(tx, id)? else { return Ok(()) };
        if message.awaited.is_settled || message.telnyx_message_id.as_ref() != Some(&carrier_id) {
            // A webhook was faster, or a person had the message sent again.
            return Ok(());
        }
        let (now, before) = (storage::now(), message.status);
        let report = match &answer {
            LookUp::Found(shown) => Some(Report::answer(Some(shown))),
            LookUp::Unknown => Some(Report::answer(None)),
            LookUp::Failed { .. } => None,
        };
        if let Some(report) = report {
            take_report(&job_router, tx, &app, &mut message, report, now)?;
        }
        job_router.count_on_commit(tx, counter(&answer, message.awaited.is_settled));
        log(&app, &message, before, &answer);
        if message.awaited.ask_at.is_some() && message.awaited.asks >= limit(&app) {
            stop_waiting(&job_router, tx, &app, &mut message, now)?;
        }
        Ok(())
    };
    router.database().write(write).await
}

fn counter(answer: &LookUp, is_settled: bool) -> Counter {
    match answer {
        LookUp::Found(_) if is_settled => Counter::AskedFinal,
        LookUp::Found(_) => Counter::AskedOpen,
        LookUp::Unknown => Counter::AskedUnknown,
        LookUp::Failed { .. } => Counter::AskedInVain,
    }
}

fn log(app: &App, message: &Message, before: Status, answer: &LookUp) {
    let (app, message_id, asks) = (&app.settings.id, message.public_id(), message.awaited.asks);
    match answer {
        LookUp::Failed { reason, .. } => {
            tracing::warn!(app, message_id = %message_id, asks, reason, "the carrier does not say what became of a message");
        }
        _ => {
            let (previous, status) = (before.as_str(), message.status.as_str());
            let is_known = *answer != LookUp::Unknown;
            tracing::debug!(app, message_id = %message_id, asks, is_known, previous, status, "the carrier was asked about a message");
        }
    }
}

/// Ends a message about which nothing more is asked.
async fn end(router: &Router, app: &Arc<App>, due: &Due) -> Result<(), StorageError> {
    let (job_router, app, due) = (router.clone(), Arc::clone(app), due.clone());
    let write = move |tx: &mut Transaction<'_>| {
        let Some(mut message) = Message::by_row_to_change(tx, due.message)? else { return Ok(()) };
        // Another node may have ended it.
        if !due.is_still(&message) {
            return Ok(());
        }
        stop_waiting(&job_router, tx, &app, &mut message, storage::now())
    };
    router.database().write(write).await
}

/// The carrier's last word does not come. A report that comes all the same still counts.
fn stop_waiting(
    router: &Router,
    tx: &mut Transaction<'_>,
    app: &App,
    message: &mut Message,
    now: i64,
) -> Result<(), StorageError> {
    message.awaited.ask_at = None;
    let is_open = matches!(message.status, Status::Sending | Status::Sent | Status::Unconfirmed);
    message.is_unconfirmed |= is_open;
    message.save_carrier_facts(tx)?;
    if !is_open {
        return Ok(());
    }
    router.count_on_commit(tx, Counter::Unreported);
    let (id, asks) = (message.public_id(), message.awaited.asks);
    tracing::info!(app = app.settings.id, message_id = %id, asks, "the carrier's last report of a message did not come");
    router.advance(tx, app, message, (Status::Sent, Cause::Event), now, now)?;
    Ok(())
}

#[cfg(test)]
mod tests;
