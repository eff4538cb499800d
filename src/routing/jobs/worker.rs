//! Chooses the jobs that may go, commits their attempts, makes the calls.

use std::collections::HashSet;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering as Atomic;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use tokio::time::Instant;

use super::flight::Flight;
use super::lines::Line;
use super::report::Subject;
use super::starts::Starts;
use super::{due, settle};
use crate::apps::App;
use crate::config::{DirectoryMode, Idempotency, Ordering};
use crate::routing::carrier::{ConfigUntil, Health, Outcome, Permit};
use crate::routing::counters::{Counter, ThrottledBy};
use crate::routing::directory::Owner;
use crate::routing::records::Message;
use crate::routing::{Router, later};
use crate::storage::{self, StorageError, Transaction};

/// How often jobs are looked for that nobody woke us for: those of other nodes, those that waited.
const POLL: Duration = Duration::from_millis(500);
/// How long another node leaves a locked job alone, in microseconds. A process that lives renews it; one
/// that is taken for dead by mistake does no harm: the other asks with the same key, or not at all.
pub const LEASE: i64 = 10_000_000;
/// How often leases are renewed and lapsed ones looked for.
const LEASE_POLL: Duration = Duration::from_millis(2_500);

/// How often jobs are looked for that are locked in our name and not in flight, while there may be any.
const ORPHANS: Duration = Duration::from_secs(1);
/// Calls that are looked at for what the carrier said last.
const RECENT: i64 = 1_000;
/// How the note of a call begins whose app had used up its budget: the carrier's code 40333.
const SPENT: &str = "40333 ";

/// A job that may go.
pub(super) struct Due {
    pub id: i64,
    pub lane: String,
    pub own_number: String,
    /// Its message, if it waited so long that its recipient may have become a portal user.
    pub waited: Option<i64>,
    /// Of its own number, if this call tells whether that is held any longer.
    pub number_permit: Option<Permit>,
}

/// A job whose attempt is committed.
pub(super) struct Claimed {
    pub job: i64,
    pub attempt: i64,
    body: Vec<u8>,
    idempotency_key: String,
    subject: Subject,
}

/// Sends what is to be sent until the process ends.
pub async fn run(router: &Router) {
    // A store of our own: whatever is locked was being sent when the last process ended.
    let is_shared = router.database().is_shared();
    let mut lapsed = if is_shared { storage::now() } else { i64::MAX };
    let (mut is_recovered, mut starts) = (false, Starts::default());
    let [mut next_recovery, mut next_expiry, mut next_orphans] = [Instant::now(); 3];
    loop {
        if Instant::now() >= next_recovery
            && (is_shared || !is_recovered || router.inner.jobs.flights.has_faults())
        {
            if is_shared && let Err(error) = renew(router).await {
                tracing::error!(%error, "the router can't renew the leases of its calls to the carrier");
            }
            // The clock may have been set back since the last round.
            if is_shared {
                lapsed = lapsed.min(storage::now());
            }
            match settle::recover(router, lapsed).await {
                Ok(()) => {
                    if !is_recovered && let Err(error) = remember_budgets(router).await {
                        tracing::error!(%error, "the router can't read the carrier's last daily limits");
                    }
                    // One round behind, so that after a standstill of the store others renew theirs first.
                    lapsed = storage::now();
                    is_recovered = true;
                    next_recovery = Instant::now() + LEASE_POLL;
                }
                Err(error) => {
                    tracing::error!(%error, "the router can't settle interrupted calls to the carrier")
                }
            }
        }
        if is_recovered && Instant::now() >= next_orphans && router.inner.jobs.flights.may_have_orphans() {
            next_orphans = Instant::now() + ORPHANS;
            if let Err(error) = settle::recover_orphans(router).await {
                tracing::error!(%error, "the router can't settle calls to the carrier that nobody goes on with");
            }
        }
        if Instant::now() >= next_expiry {
            next_expiry = Instant::now() + POLL;
            if let Err(error) = settle::expire(router).await {
                tracing::error!(%error, "the router can't give up messages whose time is over");
            }
            router.inner.jobs.waiting.retain(|_, sender| !sender.is_closed());
        }
        // Before that, a call of ours could be taken for one of the process that ended.
        if is_recovered && !router.inner.jobs.is_stopping.load(Atomic::Acquire) {
            for app in router.inner.hub.apps() {
                starts.start(router, app.app());
            }
        }
        let next = Instant::now() + POLL;
        loop {
            tokio::select! {
                app = starts.wanted() => {
                    if let Some(app) = router.inner.hub.app_by_id(&app) {
                        starts.start(router, app.app());
                    }
                }
                () = router.inner.jobs.wake.notified() => break,
                () = tokio::time::sleep_until(next) => break,
            }
        }
    }
}

/// An app whose budget was used up today when the process ended asks for nothing until midnight.
async fn remember_budgets(router: &Router) -> Result<(), StorageError> {
    let now = storage::now();
    let last = router
        .database()
        .read(|tx| {
            tx.query(
                "SELECT j.app_id, a.detail, a.finished_at FROM \
                 (SELECT id, job_id, detail, finished_at FROM carrier_attempts ORDER BY id DESC LIMIT ?1) a \
                 JOIN carrier_jobs j ON j.id = a.job_id WHERE a.finished_at IS NOT NULL ORDER BY a.id DESC",
                &[RECENT.into()],
            )
        })
        .await?;
    let mut seen = HashSet::new();
    for row in last {
        let (app_id, detail) = (row.text(0)?, row.optional_text(1)?.unwrap_or_default());
        let is_over = ConfigUntil::NextUtcMidnight.end_us(row.int(2)?) <= now;
        // The last answer decides: the budget may have been raised.
        if !seen.insert(app_id.clone()) || is_over || !detail.starts_with(SPENT) {
            continue;
        }
        let Some(app) = router.inner.hub.app_by_id(&app_id).map(|app| app.app()) else { continue };
        if let Ok(line) = router.inner.jobs.lines.get(&app) {
            let mut state = line.state();
            if let Ok(permit) = state.breaker.may_call(now) {
                state.breaker.report(permit, Health::Paused(ConfigUntil::NextUtcMidnight), now);
            }
        }
    }
    Ok(())
}

/// Says to other nodes that this one still works on its calls: on those, and on nothing else that is in its name.
async fn renew(router: &Router) -> Result<(), StorageError> {
    let jobs = router.inner.jobs.flights.all();
    if jobs.is_empty() {
        return Ok(());
    }
    let node = Arc::clone(&router.inner.node);
    let renewed = router.database().write_lazily(move |tx| {
        for job in &jobs {
            tx.execute(
                "UPDATE carrier_jobs SET locked_until = ?3 WHERE id = ?1 AND state = 'waiting' AND locked_by = ?2",
                &[(*job).into(), (&*node).into(), (storage::now() + LEASE).into()],
            )?;
        }
        Ok::<_, StorageError>(())
    });
    renewed.await
}

/// Starts what may go now of one app.
pub(super) async fn start_due(router: &Router, app: &Arc<App>) -> Result<(), StorageError> {
    let settings = &app.settings.routing.telnyx;
    if !app.settings.routing.enabled || !app.settings.enabled || settings.api_key.is_none() {
        return Ok(());
    }
    let line = match router.inner.jobs.lines.get(app) {
        Ok(line) => line,
        Err(error) => {
            tracing::error!(app = app.settings.id, %error, "the router can't set up the carrier's client");
            return Ok(());
        }
    };
    loop {
        if router.inner.jobs.is_stopping.load(Atomic::Acquire) {
            return Ok(());
        }
        let due = due::find(router, app, &line).await?;
        let chosen = choose(&line, app, due);
        if chosen.is_empty() {
            return Ok(());
        }
        let is_full = chosen.len() >= settings.concurrency;
        claim_and_call(router, app, &line, chosen).await?;
        if is_full {
            return Ok(());
        }
    }
}

/// Those that the breaker, the state of their numbers, the rates and the limit of calls let go.
fn choose(line: &Line, app: &App, due: Vec<Due>) -> Vec<(Due, Permit)> {
    let (settings, now) = (&app.settings.routing.telnyx, storage::now());
    let mut state = line.state();
    let mut chosen: Vec<(Due, Permit)> = Vec::new();
    for mut job in due {
        if state.calls + chosen.len() >= settings.concurrency {
            break;
        }
        if settings.ordering == Ordering::Strict && state.lanes.contains(&job.lane) {
            continue;
        }
        job.number_permit = match state.held.may_call(&job.own_number, now) {
            Ok(permit) => permit,
            Err(_) => continue,
        };
        if !state.take_number_rate(&job.own_number, settings) {
            state.held.give_back(&job.own_number, job.number_permit, now);
            continue;
        }
        let Ok(permit) = state.breaker.may_call(now) else {
            state.held.give_back(&job.own_number, job.number_permit, now);
            break;
        };
        chosen.push((job, permit));
    }
    state.calls += chosen.len();
    state.lanes.extend(chosen.iter().map(|(job, _)| job.lane.clone()));
    chosen
}

async fn claim_and_call(
    router: &Router,
    app: &Arc<App>,
    line: &Arc<Line>,
    chosen: Vec<(Due, Permit)>,
) -> Result<(), StorageError> {
    let waiting: Vec<_> = chosen.iter().map(|(due, _)| (due.id, due.waited)).collect();
    let begin = |(due, permit)| Flight::begin(router, line, due, permit);
    let flights: Vec<Flight> = chosen.into_iter().map(begin).collect();
    let mut claims = Vec::with_capacity(flights.len());
    for (job, message) in waiting {
        claims.push(Claim { job, waited: waited(router, app, message).await });
    }
    let (router_in_job, app_in_job) = (router.clone(), Arc::clone(app));
    let claimed = router
        .database()
        .write(move |tx| {
            let claimed = claims.iter().map(|claim| claim.run(&router_in_job, tx, &app_in_job));
            claimed.collect::<Result<Vec<_>, StorageError>>()
        })
        .await;
    let known = &router.inner.jobs.flights;
    let claimed = claimed.inspect_err(|_| known.doubt(flights.iter().map(Flight::job)))?;
    for (claimed, flight) in claimed.into_iter().zip(flights) {
        // Without an attempt the flight ends here.
        if let Some(claimed) = claimed {
            known.is_known(flight.job());
            let (router, app) = (router.clone(), Arc::clone(app));
            tokio::spawn(async move { call(&router, &app, claimed, flight).await });
        }
    }
    Ok(())
}

/// A job that is to be tried now.
struct Claim {
    job: i64,
    waited: Option<Waited>,
}

/// A message that waited, and who has its recipient's number now, where the portal's tables say it.
struct Waited {
    message: i64,
    portal_owner: Option<Owner>,
}

/// `None` also while the portal's directory can't be read: the message then goes where it was to go.
async fn waited(router: &Router, app: &Arc<App>, message: Option<i64>) -> Option<Waited> {
    let message = message?;
    if app.settings.routing.directory.mode == DirectoryMode::Own {
        return Some(Waited { message, portal_owner: None });
    }
    let found = router.database().read(move |tx| Message::by_row(tx, message)).await.ok()??;
    let portal_owner = router.portal_owner(app, &found.to_number).await.ok()?;
    Some(Waited { message, portal_owner })
}

impl Claim {
    /// Commits an attempt; none where the message turned out to go to a portal user, or somebody else has the job.
    fn run(
        &self,
        router: &Router,
        tx: &mut Transaction<'_>,
        app: &App,
    ) -> Result<Option<Claimed>, StorageError> {
        let now = storage::now();
        if let Some(Waited { message, portal_owner }) = &self.waited
            && settle::is_not_with_carrier(tx, self.job)?
        {
            let turned = later::turn_internal(router, tx, app, *message, portal_owner.as_ref(), now)?;
            if turned {
                let (router, message) = (router.clone(), *message);
                tx.on_commit(message.to_string(), move || router.inner.jobs.attempted(message));
                return Ok(None);
            }
        }
        claim(tx, &router.inner.node, self.job, now)
    }
}

/// Commits an attempt of a job; none if somebody else has the job now.
pub(super) fn claim(
    tx: &mut Transaction<'_>,
    node: &str,
    id: i64,
    now: i64,
) -> Result<Option<Claimed>, StorageError> {
    let row = tx.query_one(
        "UPDATE carrier_jobs SET locked_by = ?2, locked_until = ?3, attempts = attempts + 1, \
         first_attempt_at = COALESCE(first_attempt_at, ?4) \
         WHERE id = ?1 AND state = 'waiting' AND locked_by IS NULL AND valid_until > ?4 \
         RETURNING attempts, body, idempotency_key, token, message_id",
        &[id.into(), node.into(), (now + LEASE).into(), now.into()],
    )?;
    let Some(row) = row else { return Ok(None) };
    let (body, idempotency_key) = (row.bytes(1)?, row.text(2)?);
    let attempt = tx.insert(
        "INSERT INTO carrier_attempts (job_id, number, token, idempotency_key, body, started_at) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        &[
            id.into(),
            row.int(0)?.into(),
            row.text(3)?.into(),
            (&idempotency_key).into(),
            body.clone().into(),
            now.into(),
        ],
    )?;
    let attempt = attempt.ok_or_else(|| tx.conflict())?;
    let subject = Subject::read(tx, row.int(4)?)?;
    Ok(Some(Claimed { job: id, attempt, body, idempotency_key, subject }))
}

async fn call(router: &Router, app: &Arc<App>, claimed: Claimed, mut flight: Flight) {
    let Claimed { job, attempt, body, idempotency_key, subject } = claimed;
    let uses_key = app.settings.routing.telnyx.idempotency == Idempotency::Header;
    let key = uses_key.then_some(idempotency_key.as_str());
    let made = async {
        subject.sending();
        flight.line().telnyx.send(subject.call(), Bytes::from(body), key).await
    };
    let made = AssertUnwindSafe(made).catch_unwind().await;
    let outcome = made.unwrap_or_else(|_| settle::broken_off("bug: the call failed in the router"));
    flight.report(&outcome);
    router.counters().count(counter(&outcome));
    if matches!(outcome, Outcome::Throttled { .. }) {
        router.counters().count_throttled(&app.settings.id, ThrottledBy::Carrier);
    }
    subject.report(&outcome);
    store_at_last(router, app, (job, attempt), &outcome).await;
    drop(flight);
    router.inner.jobs.wake();
}

/// The outcome must be stored: until it is, the lane stands still and the job stays locked.
async fn store_at_last(router: &Router, app: &Arc<App>, (job, attempt): (i64, i64), outcome: &Outcome) {
    let (mut pause, mut faults) = (Duration::from_millis(100), 0);
    while let Err(error) = settle::settle(router, app, job, attempt, outcome).await {
        tracing::error!(%error, job, "the router can't store the outcome of a call to the carrier; it tries again");
        faults += u32::from(matches!(error, StorageError::Fault(_)));
        if faults >= settle::MAX_FAULTS && settle::set_aside(router, job, attempt, outcome).await.is_ok() {
            return;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(10));
    }
}

fn counter(outcome: &Outcome) -> Counter {
    match outcome {
        Outcome::Accepted(_) => Counter::Accepted,
        Outcome::Refused(_) => Counter::Refused,
        Outcome::Throttled { .. } => Counter::Throttled,
        Outcome::NotSent { .. } => Counter::NotSent,
        Outcome::Config { .. } => Counter::Config,
        Outcome::InProgress { .. } => Counter::InProgress,
        Outcome::Unclear { .. } => Counter::Unclear,
    }
}

#[cfg(test)]
mod tests;
