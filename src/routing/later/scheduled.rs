//! Messages to be sent later: kept with us until their time, so that they can be cancelled.
//!
//! Each app's are sent in a task of their own, so that a portal's slow database delays no other app. One that can't be
//! sent is tried again later and later, and becomes `failed` after a bounded number of tries, or a day of trouble that
//! is not its own.

use std::collections::{HashMap, HashSet};
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use serde_json::json;
use tokio::task::{Id, JoinSet};
use tokio::time::Instant;

use super::departure::Departure;
use crate::apps::App;
use crate::config::DirectoryMode;
use crate::routing::Router;
use crate::routing::carrier::backoff;
use crate::routing::directory::Owner;
use crate::routing::error::{Code, RoutingError};
use crate::routing::records::Message;
use crate::routing::routed::Occasion;
use crate::routing::status::{Cause, Status};
use crate::storage::{self, StorageError, Transaction};

/// How often it is looked for messages whose time has come.
const POLL: Duration = Duration::from_secs(1);
/// Messages read at once, and sent in one round of an app.
const PAGE: usize = 256;
/// Failures for no reason outside of a message after which it fails: two minutes.
const MAX_FAILURES: u32 = 8;
/// How long a message waits for a portal's directory or a store that is away.
const PATIENCE: Duration = Duration::from_hours(24);

/// Sends what is due until the process ends.
pub async fn run(router: &Router) {
    let resting = Arc::new(Resting::default());
    let (mut rounds, mut busy) = (JoinSet::new(), HashMap::<Id, String>::new());
    let mut each = tokio::time::interval(POLL);
    loop {
        each.tick().await;
        while let Some(ended) = rounds.try_join_next_with_id() {
            busy.remove(&ended.map_or_else(|error| error.id(), |(id, ())| id));
        }
        let due = match find_due(router, &resting).await {
            Ok(due) => due,
            Err(error) => {
                tracing::error!(%error, "the router can't read which scheduled messages are due");
                continue;
            }
        };
        for (app_id, messages) in due {
            let Some(app) = router.inner.hub.app_by_id(&app_id).map(|app| app.app()) else { continue };
            if busy.values().any(|other| *other == app_id) {
                continue;
            }
            let (router, resting) = (router.clone(), Arc::clone(&resting));
            let round = rounds.spawn(async move {
                for message in messages {
                    try_to_send(&router, &app, message, &resting).await;
                }
            });
            busy.insert(round.id(), app_id);
        }
    }
}

/// Messages that are due and do not rest, by app.
async fn find_due(
    router: &Router,
    resting: &Arc<Resting>,
) -> Result<HashMap<String, Vec<i64>>, StorageError> {
    let (mut due, mut last) = (HashMap::<String, Vec<i64>>::new(), (0, 0));
    let (mut seen, rest) = (HashSet::new(), resting.now());
    loop {
        let read = move |tx: &mut Transaction<'_>| {
            tx.query(
                "SELECT id, app_id, send_at FROM messages WHERE status = 'scheduled' AND send_at <= ?1 \
                 AND (send_at > ?2 OR (send_at = ?2 AND id > ?3)) ORDER BY send_at, id LIMIT ?4",
                &[storage::now().into(), last.0.into(), last.1.into(), (PAGE as i64).into()],
            )
        };
        let rows = router.database().read(read).await?;
        for row in &rows {
            let (id, app_id) = (row.int(0)?, row.text(1)?);
            last = (row.int(2)?, id);
            seen.insert(id);
            let messages = due.entry(app_id).or_default();
            if messages.len() < PAGE && !rest.contains(&id) {
                messages.push(id);
            }
        }
        if rows.len() < PAGE {
            resting.keep(&seen);
            return Ok(due);
        }
    }
}

/// Messages that could not be sent when they were due.
#[derive(Default)]
struct Resting(Mutex<HashMap<i64, Trouble>>);

struct Trouble {
    since: Instant,
    /// Failures for no reason outside of the message, and all.
    failures: [u32; 2],
    until: Instant,
}

impl Resting {
    fn lock(&self) -> MutexGuard<'_, HashMap<i64, Trouble>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Those that rest now.
    fn now(&self) -> HashSet<i64> {
        let now = Instant::now();
        self.lock().iter().filter(|(_, trouble)| trouble.until > now).map(|(id, _)| *id).collect()
    }

    /// Forgets all but these.
    fn keep(&self, messages: &HashSet<i64>) {
        self.lock().retain(|id, _| messages.contains(id));
    }

    /// Notes a failure; answers whether it was the last one.
    fn failed(&self, message: i64, is_its_own: bool) -> bool {
        let (mut all, now) = (self.lock(), Instant::now());
        let trouble = all.entry(message).or_insert(Trouble { since: now, failures: [0, 0], until: now });
        trouble.failures[0] += u32::from(is_its_own);
        trouble.failures[1] += 1;
        trouble.until = now + backoff::pause(trouble.failures[1], None);
        trouble.failures[0] >= MAX_FAILURES || now.duration_since(trouble.since) > PATIENCE
    }
}

/// Why a message was not sent.
enum Undone {
    Store(StorageError),
    Refused(RoutingError),
}

impl From<StorageError> for Undone {
    fn from(error: StorageError) -> Self {
        Self::Store(error)
    }
}

impl Undone {
    /// Whether the message fails by itself, and not a store or a directory that is away.
    fn is_its_own(&self) -> bool {
        match self {
            Self::Store(error) => matches!(error, StorageError::Fault(_) | StorageError::Conflict),
            Self::Refused(error) => error.code == Code::DirectoryAmbiguous,
        }
    }

    /// As the message's error has it.
    fn reason(&self) -> (&'static str, &str) {
        match self {
            Self::Store(_) => ("internal_error", "The message could not be processed"),
            Self::Refused(error) => (error.code.as_str(), &error.message),
        }
    }
}

/// Sends a message, or notes that it can't be sent; one that can't be keeps back no other.
async fn try_to_send(router: &Router, app: &Arc<App>, message: i64, resting: &Resting) {
    let sent = AssertUnwindSafe(send(router, app, message)).catch_unwind().await;
    let bug = |_| Err(Undone::Store(StorageError::Fault("bug: the router failed under it".to_owned())));
    let Err(undone) = sent.unwrap_or_else(bug) else { return };
    let (app_id, (code, _)) = (&app.settings.id, undone.reason());
    let cause = match &undone {
        Undone::Store(error) => error.to_string(),
        Undone::Refused(error) => error.message.clone(),
    };
    tracing::error!(app = app_id, message, code, cause, "the router can't send a scheduled message");
    if resting.failed(message, undone.is_its_own()) {
        set_aside(router, app, message, undone).await;
    }
}

/// Has a message fail that can't be sent.
async fn set_aside(router: &Router, app: &Arc<App>, id: i64, undone: Undone) {
    let (code, title) = undone.reason();
    let reason = Arc::new(json!({"code": code, "title": title, "carrier": null}).to_string());
    let (of_job, of_app, text) = (router.clone(), Arc::clone(app), Arc::clone(&reason));
    let failed = router.database().write(move |tx| {
        let message = Message::by_row_to_change(tx, id)?;
        match message.filter(|message| message.status == Status::Scheduled) {
            Some(mut message) => fail(&of_job, tx, &of_app, &mut message, text.to_string(), storage::now()),
            None => Ok(()),
        }
    });
    let failed = match failed.await {
        // It can't be announced either: then nothing is written but that.
        Err(StorageError::Fault(_)) => {
            let write = move |tx: &mut Transaction<'_>| {
                tx.execute(
                    "UPDATE messages SET status = 'failed', error = ?2, status_at = ?3, updated_at = ?3 \
                     WHERE id = ?1 AND status = 'scheduled'",
                    &[id.into(), reason.as_str().into(), storage::now().into()],
                )
            };
            router.database().write(write).await.map(drop)
        }
        failed => failed,
    };
    let app = &app.settings.id;
    match failed {
        Ok(()) => {
            tracing::error!(app, message = id, code, "the router gave up a scheduled message: it failed")
        }
        Err(error) => {
            tracing::error!(app, message = id, %error, "the router can't give up a scheduled message")
        }
    }
}

async fn send(router: &Router, app: &Arc<App>, id: i64) -> Result<(), Undone> {
    let owner = portal_owner(router, app, id).await?;
    let (router_in_job, app) = (router.clone(), Arc::clone(app));
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
                Err(error) if error.code == Code::StorageUnavailable => Err(Undone::Refused(error)),
                Err(refusal) => {
                    let reason =
                        json!({"code": refusal.code.as_str(), "title": refusal.message, "carrier": null});
                    Ok(fail(&router_in_job, tx, &app, &mut message, reason.to_string(), now)?)
                }
            }
        })
        .await
}

fn fail(
    router: &Router,
    tx: &mut Transaction<'_>,
    app: &App,
    message: &mut Message,
    reason: String,
    now: i64,
) -> Result<(), StorageError> {
    message.error = Some(reason);
    message.save_carrier_facts(tx)?;
    router.advance(tx, app, message, (Status::Failed, Cause::Event), now, now)?;
    Ok(())
}

/// Who has the number now, when the portal's tables say it.
async fn portal_owner(router: &Router, app: &Arc<App>, id: i64) -> Result<Option<Owner>, Undone> {
    if app.settings.routing.directory.mode == DirectoryMode::Own {
        return Ok(None);
    }
    let message = router.database().read(move |tx| Message::by_row(tx, id)).await?;
    match message {
        Some(message) => router.portal_owner(app, &message.to_number).await.map_err(Undone::Refused),
        None => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::test_support::Lab;

    const SOMEBODY: &str = "+13125559999";

    async fn round(lab: &Lab, resting: &Arc<Resting>) {
        let due = find_due(&lab.router, resting).await.expect("readable");
        for message in due.into_values().flatten() {
            try_to_send(&lab.router, &lab.app, message, resting).await;
        }
    }

    /// Neither sent nor failed by way of its events.
    const POISON: &str = "CREATE TRIGGER poison BEFORE UPDATE OF carrier_status ON messages WHEN NEW.body = 'poison' \
         BEGIN SELECT RAISE(ABORT, 'never'); END";

    #[tokio::test]
    async fn a_scheduled_message_that_fails_each_time_becomes_failed_and_keeps_back_no_other() {
        let lab = Lab::new().await;
        let poison = lab.schedule("7", SOMEBODY, "poison").await;
        let good = lab.schedule("7", SOMEBODY, "good").await;
        lab.sql(POISON).await;
        lab.sql("UPDATE messages SET send_at = 1").await;
        let resting = Arc::new(Resting::default());
        round(&lab, &resting).await;
        assert_eq!(lab.message(good.id).await.status, Status::Sending);
        assert_eq!(resting.now(), HashSet::from([poison.id]), "not tried again at once");
        for _ in 1..MAX_FAILURES {
            assert_eq!(lab.message(poison.id).await.status, Status::Scheduled);
            resting.lock().values_mut().for_each(|trouble| trouble.until = Instant::now());
            round(&lab, &resting).await;
        }
        let end = lab.message(poison.id).await;
        assert_eq!(end.status, Status::Failed);
        assert!(end.error.as_ref().is_some_and(|error| error.contains("internal_error")), "{:?}", end.error);
        round(&lab, &resting).await;
        assert!(resting.lock().is_empty());
    }

    #[test]
    fn trouble_of_others_is_waited_out_for_a_day() {
        let resting = Resting::default();
        assert!((0..100).all(|_| !resting.failed(1, false)));
        resting.lock().values_mut().for_each(|trouble| trouble.since -= PATIENCE);
        assert!(resting.failed(1, false));
    }
}
