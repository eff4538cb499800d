//! What the outcome of a call means for the job and its message.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use super::Request;
use super::report::Subject;
use crate::apps::App;
use crate::config::{Idempotency, OnUnclear, TelnyxSettings};
use crate::routing::carrier::{Accepted, CarrierError, ConfigScope, Outcome, backoff, message_status};
use crate::routing::counters::Counter;
use crate::routing::events::micros;
use crate::routing::phone_number::contact_identity;
use crate::routing::records::Message;
use crate::routing::status::{Cause, Status};
use crate::routing::{Router, directory, opt_outs};
use crate::storage::{self, Row, StorageError, Transaction};

/// How long the carrier remembers an idempotency key, less an hour, in microseconds.
const KEY_LIFE: i64 = 23 * 3_600 * 1_000_000;

/// Faults in storing an outcome after which the job is held: what it is about can't be stored, and its lane goes on.
pub(super) const MAX_FAULTS: u32 = 6;
/// Jobs whose time is over of one look.
const EXPIRED: i64 = 500;

/// A job as the store has it.
struct Job {
    id: i64,
    message_id: i64,
    state: String,
    attempts: i64,
    valid_until: i64,
    first_attempt_at: Option<i64>,
    idempotency_key: String,
    is_locked: bool,
}

/// What becomes of a job.
enum Verdict {
    /// The carrier has it.
    Done(Accepted),
    /// It will not be sent.
    Failed { code: String, title: String },
    /// Another call, then.
    Again { at: i64, counts: bool },
    /// Nobody knows; a webhook or a person will.
    Held,
}

/// Stores the outcome of an attempt and what follows.
pub async fn settle(
    router: &Router,
    app: &Arc<App>,
    job: i64,
    attempt: i64,
    outcome: &Outcome,
) -> Result<(), StorageError> {
    let (job_router, app, outcome) = (router.clone(), Arc::clone(app), outcome.clone());
    let message = router
        .database()
        .write(move |tx| apply(&job_router, tx, &app, job, attempt, &outcome, storage::now()))
        .await?;
    if let Some(message) = message {
        router.inner.jobs.attempted(message);
    }
    Ok(())
}

/// The outcome of a call that ended before its answer: the carrier may have the message.
pub fn broken_off(reason: &str) -> Outcome {
    Outcome::Unclear { reason: reason.to_owned(), error: None, alert: false }
}

/// A locked job whose call nobody makes.
struct CutOff {
    job: i64,
    app_id: String,
    /// 0: it has none.
    attempt: i64,
    subject: Subject,
}

impl CutOff {
    fn read(tx: &mut Transaction<'_>, row: &Row) -> Result<Self, StorageError> {
        let subject = Subject::read(tx, row.int(3)?)?;
        Ok(Self { job: row.int(0)?, app_id: row.text(1)?, attempt: row.int(2)?, subject })
    }

    /// One that can't be settled keeps back no other. It is looked for again, and after a bounded number of faults set
    /// aside, so that its lane goes on.
    async fn settle(self, router: &Router, outcome: &Outcome) {
        let Some(app) = router.inner.hub.app_by_id(&self.app_id) else { return };
        let (app_id, job) = (self.app_id, self.job);
        self.subject.report(outcome);
        let flights = &router.inner.jobs.flights;
        let error = match settle(router, &app.app(), job, self.attempt, outcome).await {
            Ok(()) => return flights.is_known(job),
            Err(error) => error,
        };
        tracing::error!(%error, app = app_id, job, "the router can't settle an interrupted call to the carrier");
        flights.note_orphan();
        if !matches!(error, StorageError::Fault(_)) || flights.fault(job) < MAX_FAULTS {
            return;
        }
        match set_aside(router, job, self.attempt, outcome).await {
            Ok(()) => flights.is_known(job),
            Err(error) => {
                tracing::error!(%error, app = app_id, job, "the router can't set a call to the carrier aside");
            }
        }
    }
}

/// Settles attempts that have no outcome although their lease ended before `lapsed`: their process was
/// killed during the call, so the carrier may have the message.
pub async fn recover(router: &Router, lapsed: i64) -> Result<(), StorageError> {
    let flying = router.inner.jobs.flights.all();
    let cut_off = router.database().read(move |tx| {
        let rows = tx.query(
            "SELECT j.id, j.app_id, COALESCE(MAX(a.id), 0), j.message_id FROM carrier_jobs j \
             LEFT JOIN carrier_attempts a ON a.job_id = j.id AND a.finished_at IS NULL \
             WHERE j.state = 'waiting' AND j.locked_by IS NOT NULL AND j.locked_until < ?1 \
             GROUP BY j.id, j.app_id, j.message_id ORDER BY j.id",
            &[lapsed.into()],
        )?;
        rows.iter().map(|row| CutOff::read(tx, row)).collect::<Result<Vec<_>, StorageError>>()
    });
    for cut_off in cut_off.await?.into_iter().filter(|cut_off| !flying.contains(&cut_off.job)) {
        cut_off.settle(router, &broken_off("the server was stopped during the call")).await;
    }
    Ok(())
}

/// Settles jobs that are locked in this process's name and not in flight. Those that were never called wait again; of
/// others the carrier may have the message.
pub async fn recover_orphans(router: &Router) -> Result<(), StorageError> {
    let (flights, node) = (&router.inner.jobs.flights, Arc::clone(&router.inner.node));
    let flying = flights.all();
    // Before the look: what is noted from here on is for the next one.
    flights.forget_orphans();
    let found = router.database().read(move |tx| {
        let rows = tx.query(
            "SELECT j.id, j.app_id, COALESCE(MAX(a.id), 0), j.message_id FROM carrier_jobs j \
             LEFT JOIN carrier_attempts a ON a.job_id = j.id AND a.finished_at IS NULL \
             WHERE j.state = 'waiting' AND j.locked_by IS NOT NULL AND j.locked_by = ?1 \
             GROUP BY j.id, j.app_id, j.message_id ORDER BY j.id",
            &[(&*node).into()],
        )?;
        rows.iter().map(|row| CutOff::read(tx, row)).collect::<Result<Vec<_>, StorageError>>()
    });
    let found = found.await.inspect_err(|_| flights.note_orphan())?;
    // In flight before the look, or by now.
    let flying: std::collections::HashSet<_> = flying.union(&flights.all()).copied().collect();
    for orphan in found.into_iter().filter(|orphan| !flying.contains(&orphan.job)) {
        if !flights.is_doubtful(orphan.job) {
            orphan.settle(router, &broken_off("bug: the call failed in the router")).await;
            continue;
        }
        tracing::warn!(
            app = orphan.app_id,
            job = orphan.job,
            "a call to the carrier was noted although the store could not say so; it is made now"
        );
        release(router, orphan.job, orphan.attempt).await?;
        flights.is_known(orphan.job);
    }
    router.inner.jobs.wake();
    Ok(())
}

/// Has a job wait again whose attempt was written and whose call was not made.
async fn release(router: &Router, job: i64, attempt: i64) -> Result<(), StorageError> {
    let node = Arc::clone(&router.inner.node);
    let release = move |tx: &mut Transaction<'_>| {
        tx.execute(
            "UPDATE carrier_jobs SET locked_by = NULL, locked_until = 0, attempts = attempts - 1 \
             WHERE id = ?1 AND state = 'waiting' AND locked_by = ?2",
            &[job.into(), (&*node).into()],
        )?;
        tx.execute(
            "UPDATE carrier_attempts SET finished_at = ?2, outcome = 'not_sent', detail = ?3 \
             WHERE id = ?1 AND finished_at IS NULL",
            &[attempt.into(), storage::now().into(), "the call was not made: the store was lost".into()],
        )?;
        Ok(())
    };
    router.database().write(release).await
}

/// Sets a job aside whose outcome can't be stored as it should: nothing is written but what its lane needs to go on,
/// and what tells a person where it stands.
pub async fn set_aside(
    router: &Router,
    job: i64,
    attempt: i64,
    outcome: &Outcome,
) -> Result<(), StorageError> {
    let outcome = outcome.clone();
    let set_aside = move |tx: &mut Transaction<'_>| {
        let Some(job) = find(tx, job)? else { return Ok(()) };
        let now = storage::now();
        finish_attempt(tx, &job, attempt, &outcome, now)?;
        close(tx, job.id, if matches!(outcome, Outcome::Accepted(_)) { "done" } else { "held" })?;
        tx.execute(
            "UPDATE messages SET status = ?2, status_at = ?3, updated_at = ?3 WHERE id = ?1 AND status = ?4",
            &[
                job.message_id.into(),
                Status::Unconfirmed.as_str().into(),
                now.into(),
                Status::Sending.as_str().into(),
            ],
        )?;
        Ok(())
    };
    router.database().write(set_aside).await?;
    tracing::error!(job, "the router set a message aside: the outcome of its call can't be stored");
    Ok(())
}

/// Gives up jobs whose time is over while they waited for a call: behind a breaker, a pause, or an app
/// that can't send any more.
pub async fn expire(router: &Router) -> Result<(), StorageError> {
    let mut last = 0;
    loop {
        let rows = router.database().read(move |tx| {
            tx.query(
                "SELECT id, app_id FROM carrier_jobs WHERE state = 'waiting' AND locked_by IS NULL \
                 AND valid_until <= ?1 AND id > ?2 ORDER BY id LIMIT ?3",
                &[storage::now().into(), last.into(), EXPIRED.into()],
            )
        });
        let rows = rows.await?;
        for row in &rows {
            let (id, app_id) = (row.int(0)?, row.text(1)?);
            last = id;
            let Some(app) = router.inner.hub.app_by_id(&app_id) else { continue };
            // One that can't be given up keeps back no other.
            match give_up(router, app.app(), id).await {
                Ok(Some(message)) => router.inner.jobs.attempted(message),
                Ok(None) => {}
                Err(error) => {
                    tracing::error!(%error, app = app_id, job = id, "the router can't give up a message whose time is over");
                }
            }
        }
        if rows.len() < EXPIRED as usize {
            return Ok(());
        }
    }
}

/// Gives up a job that still waits for a call; answers its message.
async fn give_up(router: &Router, app: Arc<App>, job: i64) -> Result<Option<i64>, StorageError> {
    let router_in_job = router.clone();
    let given_up = router.database().write(move |tx| {
        let (job, now) = (find(tx, job)?, storage::now());
        let Some(job) = job.filter(|job| job.state == "waiting" && !job.is_locked) else { return Ok(None) };
        let Some(mut message) = Message::by_row_to_change(tx, job.message_id)? else { return Ok(None) };
        let verdict = if may_be_with_carrier(tx, job.id)? { Verdict::Held } else { expired() };
        carry_out(&router_in_job, tx, &app, &job, &mut message, verdict, now)?;
        Ok(Some(message.id))
    });
    given_up.await
}

fn apply(
    router: &Router,
    tx: &mut Transaction<'_>,
    app: &App,
    job: i64,
    attempt: i64,
    outcome: &Outcome,
    now: i64,
) -> Result<Option<i64>, StorageError> {
    let Some(job) = find(tx, job)? else { return Ok(None) };
    let Some(mut message) = Message::by_row_to_change(tx, job.message_id)? else { return Ok(None) };
    let is_current = finish_attempt(tx, &job, attempt, outcome, now)?;
    if job.state != "waiting" || !is_current {
        // A webhook was faster, or a person asked for another send meanwhile. If this is another message
        // than the one that is known, there are two.
        match outcome {
            Outcome::Accepted(accepted) if is_current => {
                note_accepted(router, tx, app, &mut message, accepted, now)?;
            }
            Outcome::Accepted(accepted)
                if message.telnyx_message_id.as_ref() != Some(&accepted.carrier_id) =>
            {
                report_duplicate(router, tx, app, &message, "another send", &accepted.carrier_id);
            }
            _ => {}
        }
        return Ok(Some(message.id));
    }
    // Which member of a group opted out, the carrier does not say in a way that could be relied on.
    if let Outcome::Refused(error) = outcome
        && error.is_opt_out()
        && !message.is_to_group()
    {
        let profile = directory::profile(tx, &app.settings.id, &message.from_number)?;
        let profile = profile.as_deref().unwrap_or(&app.settings.routing.telnyx.messaging_profile_id);
        let recipient = contact_identity(&message.to_number);
        opt_outs::note(tx, router, app, profile, &recipient, "carrier_40300", now)?;
    }
    let may_have_it = may_be_with_carrier(tx, job.id)?;
    let calls = calls(tx, job.id)?;
    let verdict = verdict(&app.settings.routing.telnyx, &job, outcome, (may_have_it, calls), now);
    carry_out(router, tx, app, &job, &mut message, verdict, now)?;
    Ok(Some(message.id))
}

fn carry_out(
    router: &Router,
    tx: &mut Transaction<'_>,
    app: &App,
    job: &Job,
    message: &mut Message,
    verdict: Verdict,
    now: i64,
) -> Result<(), StorageError> {
    match verdict {
        Verdict::Done(accepted) => {
            close(tx, job.id, "done")?;
            note_accepted(router, tx, app, message, &accepted, now)?;
        }
        Verdict::Failed { code, title } => {
            close(tx, job.id, "done")?;
            fail(router, tx, app, message, &code, &title, now)?;
        }
        Verdict::Again { at, counts } => {
            tx.execute(
                "UPDATE carrier_jobs SET locked_by = NULL, locked_until = 0, not_before = ?2, attempts = attempts - ?3 \
                 WHERE id = ?1",
                &[job.id.into(), at.into(), (!counts).into()],
            )?;
        }
        Verdict::Held => {
            close(tx, job.id, "held")?;
            router.advance(tx, app, message, (Status::Unconfirmed, Cause::Event), now, now)?;
        }
    }
    let router = router.clone();
    tx.on_commit(message.id.to_string(), move || router.inner.jobs.wake());
    Ok(())
}

/// Whether the job waits, nobody has it, and the carrier has its message for certain not.
pub(super) fn is_not_with_carrier(tx: &mut Transaction<'_>, job: i64) -> Result<bool, StorageError> {
    let job = find(tx, job)?;
    let Some(job) = job.filter(|job| job.state == "waiting" && !job.is_locked) else { return Ok(false) };
    Ok(!may_be_with_carrier(tx, job.id)?)
}

/// Whether any call with the job's present key may have reached the carrier.
fn may_be_with_carrier(tx: &mut Transaction<'_>, job: i64) -> Result<bool, StorageError> {
    let row = tx.query_one(
        "SELECT 1 FROM carrier_attempts a JOIN carrier_jobs j ON j.id = a.job_id \
         AND j.idempotency_key = a.idempotency_key WHERE j.id = ?1 AND a.outcome IN ('unclear', 'in_progress') LIMIT 1",
        &[job.into()],
    )?;
    Ok(row.is_some())
}

/// How often the carrier was called with the job's present key, also where that did not count.
fn calls(tx: &mut Transaction<'_>, job: i64) -> Result<u32, StorageError> {
    let row = tx.query_one(
        "SELECT COUNT(*) FROM carrier_attempts a JOIN carrier_jobs j ON j.id = a.job_id \
         AND j.idempotency_key = a.idempotency_key WHERE j.id = ?1",
        &[job.into()],
    )?;
    Ok(row.map_or(Ok(0), |row| row.int(0))?.try_into().unwrap_or(u32::MAX))
}

/// `calls`: so often the carrier was called, by which the pauses grow that do not count.
fn verdict(
    settings: &TelnyxSettings,
    job: &Job,
    outcome: &Outcome,
    (may_have_it, calls): (bool, u32),
    now: i64,
) -> Verdict {
    let is_over = now >= job.valid_until;
    let failures = u32::try_from(job.attempts).unwrap_or(u32::MAX);
    let again = |pause: Duration, counts: bool| {
        let is_spent = counts && job.attempts >= i64::try_from(settings.max_attempts).unwrap_or(i64::MAX);
        match (is_over || is_spent, may_have_it) {
            (true, true) => Verdict::Held,
            (true, false) => expired(),
            (false, _) => Verdict::Again { at: now.saturating_add(micros(pause)), counts },
        }
    };
    match outcome {
        Outcome::Accepted(accepted) => Verdict::Done(accepted.clone()),
        // Without a key a refusal tells nothing of an earlier call whose outcome is unclear.
        Outcome::Refused(_) if may_have_it && settings.idempotency == Idempotency::Off => Verdict::Held,
        Outcome::Refused(error) => refused(error),
        Outcome::Throttled { wait, .. } => again(backoff::pause(calls, *wait), false),
        Outcome::NotSent { .. } => again(backoff::pause(failures, None), true),
        Outcome::InProgress { wait } => again(backoff::pause(calls, None).max(*wait), false),
        // The breaker holds the app back; a number or a lane waits by itself.
        Outcome::Config { scope: ConfigScope::App, .. } => again(Duration::ZERO, false),
        Outcome::Config { until, .. } => match until.end_after_us(calls, now) {
            end if (is_over || end > job.valid_until) && may_have_it => {
                let _ = end;
                Verdict::Held
            }
            end if is_over || end > job.valid_until => refused_by_settings(outcome),
            end => Verdict::Again { at: end, counts: false },
        },
        Outcome::Unclear { alert: true, error: Some(_), .. } => Verdict::Held,
        Outcome::Unclear { .. } => match (settings.on_unclear, settings.idempotency) {
            (OnUnclear::RetryWithKey, Idempotency::Header)
                if job.first_attempt_at.is_none_or(|first| now - first < KEY_LIFE) =>
            {
                again(backoff::pause(failures, None), true)
            }
            (OnUnclear::Resend, _) => again(backoff::pause(failures, None), true),
            _ => Verdict::Held,
        },
    }
}

fn refused(error: &CarrierError) -> Verdict {
    Verdict::Failed { code: error.code.clone(), title: error.title.clone() }
}

fn refused_by_settings(outcome: &Outcome) -> Verdict {
    match outcome {
        Outcome::Config { error, .. } => refused(error),
        _ => expired(),
    }
}

fn expired() -> Verdict {
    Verdict::Failed {
        code: "expired".to_owned(),
        title: "The message could not be handed to the carrier in time".to_owned(),
    }
}

fn find(tx: &mut Transaction<'_>, id: i64) -> Result<Option<Job>, StorageError> {
    let row = tx.query_one(
        "SELECT id, message_id, state, attempts, valid_until, first_attempt_at, idempotency_key, locked_by \
         FROM carrier_jobs WHERE id = ?1 /* FOR UPDATE */",
        &[id.into()],
    )?;
    row.map(|row| {
        Ok(Job {
            id: row.int(0)?,
            message_id: row.int(1)?,
            state: row.text(2)?,
            attempts: row.int(3)?,
            valid_until: row.int(4)?,
            first_attempt_at: row.optional_int(5)?,
            idempotency_key: row.text(6)?,
            is_locked: row.optional_text(7)?.is_some(),
        })
    })
    .transpose()
}

fn close(tx: &mut Transaction<'_>, id: i64, state: &'static str) -> Result<(), StorageError> {
    tx.execute(
        "UPDATE carrier_jobs SET state = ?2, locked_by = NULL, locked_until = 0 WHERE id = ?1",
        &[id.into(), state.into()],
    )?;
    Ok(())
}

/// Notes an attempt's outcome; answers whether it is the present one of the job: its last, with its key,
/// and without an outcome so far.
fn finish_attempt(
    tx: &mut Transaction<'_>,
    job: &Job,
    attempt: i64,
    outcome: &Outcome,
    now: i64,
) -> Result<bool, StorageError> {
    let (carrier_id, detail) = match outcome {
        Outcome::Accepted(accepted) => (Some(accepted.carrier_id.clone()), None),
        Outcome::Refused(error) | Outcome::Throttled { error, .. } | Outcome::Config { error, .. } => {
            (None, Some(error.to_string()))
        }
        Outcome::NotSent { reason } | Outcome::Unclear { reason, .. } => (None, Some(reason.clone())),
        Outcome::InProgress { .. } => (None, None),
    };
    let rows = tx.query(
        "UPDATE carrier_attempts SET finished_at = ?2, outcome = ?3, detail = ?4, \
         carrier_id = COALESCE(?5, carrier_id) WHERE id = ?1 AND finished_at IS NULL RETURNING idempotency_key",
        &[attempt.into(), now.into(), outcome.class().into(), detail.into(), carrier_id.into()],
    )?;
    let Some(row) = rows.first() else { return Ok(attempt == 0) };
    let key = row.text(0)?;
    let last = tx.query_one("SELECT MAX(id) FROM carrier_attempts WHERE job_id = ?1", &[job.id.into()])?;
    let last = last.map_or(Ok(None), |row| row.optional_int(0))?;
    Ok(key == job.idempotency_key && last == Some(attempt))
}

/// Notes the carrier's id and facts. Another id than the one known: two messages went out.
fn note_accepted(
    router: &Router,
    tx: &mut Transaction<'_>,
    app: &App,
    message: &mut Message,
    accepted: &Accepted,
    now: i64,
) -> Result<(), StorageError> {
    match &message.telnyx_message_id {
        // A report of one recipient came first, with an id of its own.
        Some(_) if message.is_to_group() => message.telnyx_message_id = Some(accepted.carrier_id.clone()),
        Some(known) if *known != accepted.carrier_id => {
            report_duplicate(router, tx, app, message, known, &accepted.carrier_id);
            return Ok(());
        }
        Some(_) => {}
        None => message.telnyx_message_id = Some(accepted.carrier_id.clone()),
    }
    if let Some(parts) = accepted.parts {
        message.parts = Some(i64::from(parts));
    }
    if accepted.encoding.is_some() {
        message.encoding.clone_from(&accepted.encoding);
    }
    if let Some(cost) = &accepted.cost {
        message.cost = Some(json!({"amount": cost.amount, "currency": cost.currency}).to_string());
    }
    // What its webhooks said already is newer.
    let is_first = message.carrier_status.is_none() && !message.awaited.is_settled;
    message.awaited.await_report(now, app.settings.routing.telnyx.ask_after);
    if !is_first {
        return message.save_carrier_facts(tx);
    }
    // Of a group the answer's word is that of one recipient; the reports say what became of all.
    let word = if message.is_to_group() { "queued" } else { accepted.status.as_str() };
    let mapped = message_status(word);
    message.carrier_status = Some(word.to_owned());
    if mapped.is_final {
        message.is_unconfirmed = mapped.unconfirmed;
        message.awaited.settle();
    }
    message.save_carrier_facts(tx)?;
    if let Some(status) = Status::parse(mapped.status.as_str()) {
        router.advance(tx, app, message, (status, Cause::Event), now, now)?;
    }
    Ok(())
}

fn report_duplicate(
    router: &Router,
    tx: &mut Transaction<'_>,
    app: &App,
    message: &Message,
    known: &str,
    other: &str,
) {
    router.count_on_commit(tx, Counter::CarrierDuplicate);
    tracing::error!(
        app = app.settings.id,
        message_id = %message.public_id(),
        known,
        other,
        "the carrier accepted this message twice"
    );
}

fn fail(
    router: &Router,
    tx: &mut Transaction<'_>,
    app: &App,
    message: &mut Message,
    code: &str,
    title: &str,
    now: i64,
) -> Result<(), StorageError> {
    message.error = Some(json!({"code": code, "title": title, "carrier": "telnyx"}).to_string());
    message.save_carrier_facts(tx)?;
    // As of when it was made: whatever the carrier reports of it later is the truth.
    let at = message.created_at;
    router.advance(tx, app, message, (Status::Failed, Cause::Event), at, now)?;
    Ok(())
}

/// A webhook told that the carrier has the message with this token: its job needs no (further) call, and
/// the message gets the carrier's id. Answers the message.
///
/// # Errors
/// Of the store.
pub fn resolve_by_webhook(
    router: &Router,
    tx: &mut Transaction<'_>,
    app: &App,
    token: &str,
    carrier_id: &str,
) -> Result<Option<Message>, StorageError> {
    let row = tx.query_one(
        "SELECT j.id, j.message_id, j.token FROM carrier_attempts a JOIN carrier_jobs j ON j.id = a.job_id \
         WHERE a.token = ?1 AND j.app_id = ?2 ORDER BY a.id DESC LIMIT 1",
        &[token.into(), (&app.settings.id).into()],
    )?;
    let Some(row) = row else { return Ok(None) };
    let Some(mut message) = Message::by_row_to_change(tx, row.int(1)?)? else { return Ok(None) };
    tx.execute(
        "UPDATE carrier_jobs SET state = 'done', locked_by = NULL, locked_until = 0 \
         WHERE id = ?1 AND token = ?2 AND state <> 'done'",
        &[row.int(0)?.into(), token.into()],
    )?;
    let is_news = tx.execute(
        "UPDATE carrier_attempts SET carrier_id = ?2 WHERE token = ?1 AND (carrier_id IS NULL OR carrier_id <> ?2)",
        &[token.into(), carrier_id.into()],
    )? > 0;
    match &message.telnyx_message_id {
        // Told once, however much the carrier reports of it.
        // Each recipient of a group may have an id of its own.
        Some(_) if message.is_to_group() => {}
        Some(known) if known != carrier_id => {
            if is_news {
                report_duplicate(router, tx, app, &message, known, carrier_id);
            }
        }
        Some(_) => {}
        // Of an earlier send, while another one is under way.
        None if row.text(2)? != token => {}
        None => {
            message.telnyx_message_id = Some(carrier_id.to_owned());
            message.save_carrier_facts(tx)?;
        }
    }
    let waiter = (router.clone(), message.id);
    tx.on_commit(message.id.to_string(), move || {
        waiter.0.inner.jobs.attempted(waiter.1);
        waiter.0.inner.jobs.wake();
    });
    Ok(Some(message))
}

/// Closes what is to be done of a message that goes another way.
///
/// # Errors
/// Of the store.
pub fn close_all(tx: &mut Transaction<'_>, message: i64) -> Result<(), StorageError> {
    tx.execute(
        "UPDATE carrier_jobs SET state = 'done', locked_by = NULL, locked_until = 0 WHERE message_id = ?1",
        &[message.into()],
    )?;
    Ok(())
}

/// A message that was accepted earlier is to be sent: for the first time, or again because a person wants it.
/// While the carrier still knows the key of an unclear attempt, it is the same request; otherwise a new one, at the
/// risk of a second message.
///
/// # Errors
/// Of the store.
pub fn send_again(
    router: &Router,
    tx: &mut Transaction<'_>,
    app: &App,
    message: &Message,
    lane: &str,
    now: i64,
) -> Result<(), StorageError> {
    let row = tx.query_one(
        "SELECT id, first_attempt_at FROM carrier_jobs WHERE message_id = ?1 AND state <> 'waiting' /* FOR UPDATE */",
        &[message.id.into()],
    )?;
    let Some(row) = row else {
        let profile = directory::profile(tx, &app.settings.id, &message.from_number)?;
        return super::create(router, tx, app, message, profile.as_deref(), lane, now).map(drop);
    };
    let (job, settings) = (row.int(0)?, &app.settings.routing.telnyx);
    let is_known = row.optional_int(1)?.is_some_and(|first| now - first < KEY_LIFE);
    let valid_until = now.saturating_add(micros(settings.valid_for));
    if message.status == Status::Unconfirmed && settings.idempotency == Idempotency::Header && is_known {
        tx.execute(
            "UPDATE carrier_jobs SET state = 'waiting', attempts = 0, not_before = ?2, valid_until = ?3 WHERE id = ?1",
            &[job.into(), now.into(), valid_until.into()],
        )?;
    } else {
        let profile = directory::profile(tx, &app.settings.id, &message.from_number)?;
        let request = Request::new(app, message, profile.as_deref())?;
        tx.execute(
            "UPDATE carrier_jobs SET state = 'waiting', attempts = 0, not_before = ?2, valid_until = ?3, \
             first_attempt_at = NULL, body = ?4, idempotency_key = ?5, token = ?6 WHERE id = ?1",
            &[
                job.into(),
                now.into(),
                valid_until.into(),
                request.body.into(),
                request.idempotency_key.into(),
                request.token.into(),
            ],
        )?;
    }
    let router = router.clone();
    tx.on_commit(message.id.to_string(), move || router.inner.jobs.wake());
    Ok(())
}

#[cfg(test)]
mod tests;
