//! Chooses the jobs that may go, commits their attempts, makes the calls.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering as Atomic;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::lines::Line;
use super::report::Subject;
use super::settle;
use crate::apps::App;
use crate::config::{DirectoryMode, Idempotency, Ordering};
use crate::routing::carrier::{ConfigUntil, Health, Outcome, Permit};
use crate::routing::counters::{Counter, ThrottledBy};
use crate::routing::directory::Owner;
use crate::routing::events::micros;
use crate::routing::records::Message;
use crate::routing::{Router, later};
use crate::storage::{self, StorageError, Transaction};

/// How often jobs are looked for that nobody woke us for: those of other nodes, those that waited.
const POLL: Duration = Duration::from_millis(500);
/// How long another node leaves a locked job alone, in microseconds. A process that lives renews it; one
/// that is taken for dead by mistake does no harm: the other asks with the same key, or not at all.
const LEASE: i64 = 10_000_000;
/// How often leases are renewed and lapsed ones looked for.
const LEASE_POLL: Duration = Duration::from_millis(2_500);
/// How long a job waits before the route of its message is decided anew, in microseconds.
const OLD: i64 = 2_000_000;
/// Jobs looked at in one round of an app: more than may go, as some must wait for their number's rate.
const LOOK_AHEAD: i64 = 256;

/// Calls that are looked at for what the carrier said last.
const RECENT: i64 = 1_000;
/// How the note of a call begins whose app had used up its budget: the carrier's code 40333.
const SPENT: &str = "40333 ";

/// A job that may go.
struct Due {
    id: i64,
    lane: String,
    own_number: String,
    /// Its message, if it waited so long that its recipient may have become a portal user.
    waited: Option<i64>,
    /// Of its own number, if this call tells whether that is held any longer.
    number_permit: Option<Permit>,
}

/// What becomes of the jobs that may go.
#[derive(Default)]
struct Choice {
    /// Those that go, with the breaker's permits.
    chosen: Vec<(Due, Permit)>,
    /// Those whose number is held, and until when.
    held: Vec<(i64, i64)>,
}

/// A job whose attempt is committed.
pub(super) struct Claimed {
    pub job: i64,
    pub attempt: i64,
    lane: String,
    body: Vec<u8>,
    idempotency_key: String,
    subject: Subject,
}

/// Sends what is to be sent until the process ends.
pub async fn run(router: &Router) {
    // A store of our own: whatever is locked was being sent when the last process ended.
    let is_shared = router.database().is_shared();
    let mut lapsed = if is_shared { storage::now() } else { i64::MAX };
    let mut is_recovered = false;
    let (mut next_recovery, mut next_expiry) = (Instant::now(), Instant::now());
    loop {
        if Instant::now() >= next_recovery && (is_shared || !is_recovered) {
            if is_shared && let Err(error) = renew(router).await {
                tracing::error!(%error, "the router can't renew the leases of its calls to the carrier");
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
                if let Err(error) = start_due(router, &app.app()).await {
                    tracing::error!(%error, "the router can't read the messages for the carrier");
                }
            }
        }
        let _ = tokio::time::timeout(POLL, router.inner.jobs.wake.notified()).await;
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

/// Says to other nodes that this one still works on its calls.
async fn renew(router: &Router) -> Result<(), StorageError> {
    if router.inner.jobs.in_flight.load(Atomic::Acquire) == 0 {
        return Ok(());
    }
    let node = Arc::clone(&router.inner.node);
    let renewed = router.database().write_lazily(move |tx| {
        tx.execute(
            "UPDATE carrier_jobs SET locked_until = ?2 WHERE state = 'waiting' AND locked_by = ?1",
            &[(&*node).into(), (storage::now() + LEASE).into()],
        )?;
        Ok::<_, StorageError>(())
    });
    renewed.await
}

/// Starts what may go now of one app.
async fn start_due(router: &Router, app: &Arc<App>) -> Result<(), StorageError> {
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
        let due = find_due(router, app).await?;
        let Choice { chosen, held } = choose(router, &line, app, due);
        if chosen.is_empty() && held.is_empty() {
            return Ok(());
        }
        put_off(router, held).await?;
        let is_full = chosen.len() >= settings.concurrency;
        claim_and_call(router, app, &line, chosen).await?;
        if is_full {
            return Ok(());
        }
    }
}

/// The first jobs of all lanes that wait for nothing but a call.
async fn find_due(router: &Router, app: &Arc<App>) -> Result<Vec<Due>, StorageError> {
    let id = app.settings.id.clone();
    let sql = match app.settings.routing.telnyx.ordering {
        Ordering::Strict => {
            "SELECT j.id, j.lane, j.own_number, j.created_at, j.message_id FROM carrier_jobs j WHERE j.app_id = ?1 AND j.state = 'waiting' \
             AND j.not_before <= ?2 AND j.locked_by IS NULL AND NOT EXISTS (SELECT 1 FROM carrier_jobs e \
             WHERE e.app_id = j.app_id AND e.lane = j.lane AND e.state = 'waiting' AND e.id < j.id) \
             ORDER BY j.not_before, j.id LIMIT ?3"
        }
        Ordering::Relaxed => {
            "SELECT j.id, j.lane, j.own_number, j.created_at, j.message_id FROM carrier_jobs j WHERE j.app_id = ?1 AND j.state = 'waiting' \
             AND j.not_before <= ?2 AND j.locked_by IS NULL ORDER BY j.not_before, j.id LIMIT ?3"
        }
    };
    let now = storage::now();
    let rows = router
        .database()
        .read(move |tx| tx.query(sql, &[(&id).into(), now.into(), LOOK_AHEAD.into()]))
        .await?;
    let due = |row: &storage::Row| {
        let is_old = now - row.int(3)? > OLD;
        let waited = is_old.then(|| row.int(4)).transpose()?;
        let (id, lane, own_number) = (row.int(0)?, row.text(1)?, row.text(2)?);
        Ok(Due { id, lane, own_number, waited, number_permit: None })
    };
    rows.iter().map(due).collect()
}

/// Those that the breaker, the state of their numbers, the rates and the limit of calls let go.
fn choose(router: &Router, line: &Line, app: &App, due: Vec<Due>) -> Choice {
    let (settings, now) = (&app.settings.routing.telnyx, storage::now());
    let mut state = line.state();
    let Choice { mut chosen, mut held } = Choice::default();
    let waited = std::mem::take(&mut state.rate_waits);
    for mut job in due {
        if state.calls + chosen.len() >= settings.concurrency {
            break;
        }
        if settings.ordering == Ordering::Strict && state.lanes.contains(&job.lane) {
            continue;
        }
        job.number_permit = match state.held.may_call(&job.own_number, now) {
            Ok(permit) => permit,
            Err(wait) => {
                held.push((job.id, now.saturating_add(micros(wait))));
                continue;
            }
        };
        if !state.take_number_rate(&job.own_number, settings) {
            if !waited.contains(&job.id) {
                router.counters().count_throttled(&app.settings.id, ThrottledBy::NumberRate);
            }
            state.rate_waits.insert(job.id);
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
    Choice { chosen, held }
}

/// Has jobs of held numbers looked at when that ends: they keep no other from being seen.
async fn put_off(router: &Router, held: Vec<(i64, i64)>) -> Result<(), StorageError> {
    if held.is_empty() {
        return Ok(());
    }
    let write = move |tx: &mut Transaction<'_>| {
        for (id, until) in &held {
            tx.execute(
                "UPDATE carrier_jobs SET not_before = ?2 WHERE id = ?1 AND state = 'waiting' AND locked_by IS NULL",
                &[(*id).into(), (*until).into()],
            )?;
        }
        Ok(())
    };
    router.database().write(write).await
}

async fn claim_and_call(
    router: &Router,
    app: &Arc<App>,
    line: &Arc<Line>,
    chosen: Vec<(Due, Permit)>,
) -> Result<(), StorageError> {
    let mut claims = Vec::with_capacity(chosen.len());
    for (job, _) in &chosen {
        claims.push(Claim { job: job.id, waited: waited(router, app, job.waited).await });
    }
    let (router_in_job, app_in_job) = (router.clone(), Arc::clone(app));
    let claimed = router
        .database()
        .write(move |tx| {
            let claimed = claims.iter().map(|claim| claim.run(&router_in_job, tx, &app_in_job));
            claimed.collect::<Result<Vec<_>, StorageError>>()
        })
        .await;
    let claimed = match claimed {
        Ok(claimed) => claimed,
        Err(error) => {
            let lanes: HashSet<_> = chosen.iter().map(|(job, _)| job.lane.clone()).collect();
            let mut state = line.state();
            for (job, permit) in &chosen {
                state.breaker.give_back(*permit, storage::now());
                state.held.give_back(&job.own_number, job.number_permit, storage::now());
            }
            state.calls -= chosen.len();
            state.lanes.retain(|lane| !lanes.contains(lane));
            return Err(error);
        }
    };
    for (claimed, (due, permit)) in claimed.into_iter().zip(chosen) {
        match claimed {
            Some(claimed) => {
                router.inner.jobs.in_flight.fetch_add(1, Atomic::AcqRel);
                let (router, app, line) = (router.clone(), Arc::clone(app), Arc::clone(line));
                tokio::spawn(async move {
                    call(&router, &app, &line, claimed, (due, permit)).await;
                    router.inner.jobs.in_flight.fetch_sub(1, Atomic::AcqRel);
                });
            }
            None => {
                let mut state = line.state();
                state.breaker.give_back(permit, storage::now());
                state.held.give_back(&due.own_number, due.number_permit, storage::now());
                drop(state);
                release(line, &due.lane);
            }
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
         RETURNING attempts, lane, body, idempotency_key, token, message_id",
        &[id.into(), node.into(), (now + LEASE).into(), now.into()],
    )?;
    let Some(row) = row else { return Ok(None) };
    let (body, idempotency_key) = (row.bytes(2)?, row.text(3)?);
    let attempt = tx.insert(
        "INSERT INTO carrier_attempts (job_id, number, token, idempotency_key, body, started_at) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        &[
            id.into(),
            row.int(0)?.into(),
            row.text(4)?.into(),
            (&idempotency_key).into(),
            body.clone().into(),
            now.into(),
        ],
    )?;
    let attempt = attempt.ok_or_else(|| tx.conflict())?;
    let subject = Subject::read(tx, row.int(5)?)?;
    Ok(Some(Claimed { job: id, attempt, lane: row.text(1)?, body, idempotency_key, subject }))
}

async fn call(router: &Router, app: &Arc<App>, line: &Line, claimed: Claimed, (due, permit): (Due, Permit)) {
    let uses_key = app.settings.routing.telnyx.idempotency == Idempotency::Header;
    let key = uses_key.then_some(claimed.idempotency_key.as_str());
    claimed.subject.sending();
    let outcome = line.telnyx.send(claimed.subject.call(), Bytes::from(claimed.body), key).await;
    {
        let (mut state, now) = (line.state(), storage::now());
        state.breaker.report(permit, outcome.health(), now);
        state.held.report(&due.own_number, due.number_permit, &outcome, now);
    }
    router.counters().count(counter(&outcome));
    if matches!(outcome, Outcome::Throttled { .. }) {
        router.counters().count_throttled(&app.settings.id, ThrottledBy::Carrier);
    }
    claimed.subject.report(&outcome);
    let mut pause = Duration::from_millis(100);
    // The outcome must be stored: until it is, the lane stands still and the job stays locked.
    while let Err(error) = settle::settle(router, app, claimed.job, claimed.attempt, &outcome).await {
        tracing::error!(%error, job = claimed.job, "the router can't store the outcome of a call to the carrier; it tries again");
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(10));
    }
    release(line, &claimed.lane);
    router.inner.jobs.wake();
}

/// Lets the lane go on.
fn release(line: &Line, lane: &str) {
    let mut state = line.state();
    state.calls = state.calls.saturating_sub(1);
    state.lanes.remove(lane);
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
