//! One try of one event: posts it and stores what came of it.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use tokio::time::Instant;

use super::claim::Task;
use super::queue::{self, Attempt};
use super::{Amended, Endpoint, Event, Outbox, Target, backoff, micros, request};
use crate::http_client::{self, HttpAnswer, HttpFailure};
use crate::storage::{self, StorageError, Transaction};

/// Bytes read of an answer.
const MAX_ANSWER: usize = 4 * 1024;
/// How long an answer's body is waited for where nobody but the log wants it.
const BODY_TIME: Duration = Duration::from_secs(1);
/// Faults in storing a result after which it is stored without the endpoint's answer: that may be what can't be
/// stored.
const MAX_FAULTS: u32 = 5;
/// Why an event counts as not taken that the program could not post.
const BUG: &str = "bug: the outbox failed while it posted the event";

/// One try of one event.
pub(super) struct Try {
    pub outbox: Outbox,
    pub target: Target,
    pub task: Task,
}

impl Try {
    /// Posts it and stores what came of it. A panic on the way counts as a try that failed: the event comes again
    /// later and later, is given up after its time, and its lane goes on.
    pub(super) async fn run(mut self, endpoint: Endpoint) {
        match self.look_once_more().await {
            Ok(Amended::Away) => return,
            Ok(_) => {}
            Err(error) => {
                let outcome = self.after_failure(&endpoint, error.to_string());
                return self.settle(outcome, None, &endpoint).await;
            }
        }
        let made = AssertUnwindSafe(self.make(&endpoint)).catch_unwind().await;
        let (outcome, attempt) = made.unwrap_or_else(|_| {
            tracing::error!(app = self.target.app_id, id = self.task.id, BUG);
            (self.after_failure(&endpoint, BUG.to_owned()), None)
        });
        self.settle(outcome, attempt, &endpoint).await;
    }

    /// Before the first try: what the event says may make no sense any more, because others were given up.
    async fn look_once_more(&mut self) -> Result<Amended, StorageError> {
        let Some(receivers) = self.outbox.receivers_of(&self.target).filter(|_| self.task.attempts == 0)
        else {
            return Ok(Amended::Not);
        };
        let (of, asked, database) = (self.target.clone(), Arc::clone(&receivers), &self.outbox.database);
        if !database.read(move |tx| asked.amends(tx, &of)).await? {
            return Ok(Amended::Not);
        }
        let (target, task) = (self.target.clone(), self.task.clone());
        let amend = move |tx: &mut Transaction<'_>| {
            // One that can't be read is given up by the try.
            let Ok(mut event) = serde_json::from_str::<Event>(&task.payload) else {
                return Ok((Amended::Not, String::new()));
            };
            let amended = receivers.amend_event(tx, &target, &mut event)?;
            let payload = serde_json::to_string(&event)
                .map_err(|error| StorageError::Fault(format!("an event can't be written: {error}")))?;
            match amended {
                Amended::Not => {}
                Amended::Changed => queue::change(tx, task.id, &payload)?,
                Amended::Away => {
                    queue::finish(tx, &target, &task, false)?;
                    receivers.settled(tx, &target, task.id)?;
                }
            }
            Ok::<_, StorageError>((amended, payload))
        };
        let (amended, payload) = database.write(amend).await?;
        if amended == Amended::Changed {
            self.task.payload = payload;
        }
        Ok(amended)
    }

    async fn make(&self, endpoint: &Endpoint) -> (Outcome, Option<Attempt>) {
        let event: Event = match serde_json::from_str(&self.task.payload) {
            Ok(event) => event,
            Err(error) => {
                tracing::error!(app = self.target.app_id, id = self.task.id, %error, "bug: the outbox gave up an event: its row can't be read");
                return (Outcome::GivenUp("it can't be read".to_owned()), None);
            }
        };
        let (started_at, started) = (storage::now(), Instant::now());
        let answer = self.post(endpoint, &event).await;
        let latency_ms = i64::try_from(started.elapsed().as_millis()).unwrap_or(i64::MAX);
        let (status, body, error) = match &answer {
            Ok(answer) if answer.status.is_success() => (Some(answer.status), &answer.body[..], None),
            Ok(answer) => {
                (Some(answer.status), &answer.body[..], Some(format!("HTTP {}", answer.status.as_u16())))
            }
            Err(failure) => (None, &b""[..], Some(failure.to_string())),
        };
        let attempt = Attempt {
            started_at,
            latency_ms,
            status: status.map(|status| status.as_u16()),
            answer: Attempt::cut(body),
            error: error.clone(),
        };
        let outcome = match error {
            None => Outcome::Taken(event.about.map(|about| (about, Bytes::copy_from_slice(body)))),
            Some(error) => self.after_failure(endpoint, error),
        };
        (outcome, Some(attempt))
    }

    async fn post(&self, endpoint: &Endpoint, event: &Event) -> Result<HttpAnswer, HttpFailure> {
        let body = request::body(&self.target, &self.task, event, endpoint.data)
            .map_err(|error| HttpFailure::NotSent(format!("bug: the event can't be written: {error}")))?;
        let headers = request::headers(endpoint, &body);
        let client = self.outbox.couriers.client(&endpoint.reach)?;
        let patience = if event.about.is_some() { endpoint.timeout } else { BODY_TIME };
        client.notify(&endpoint.url, headers, body, endpoint.timeout, MAX_ANSWER, patience).await
    }

    fn after_failure(&self, endpoint: &Endpoint, error: String) -> Outcome {
        let failures = u32::try_from(self.task.attempts + 1).unwrap_or(u32::MAX);
        let pause = backoff::pause(self.outbox.pace.backoff, failures);
        let next = storage::now() + micros(pause);
        let limit = self.task.queued_at.saturating_add(micros(endpoint.give_up_after));
        if next < limit { Outcome::Again(next, error) } else { Outcome::GivenUp(error) }
    }

    /// Stores what the try came to. It goes on until that is done: otherwise the event would be posted again
    /// at once.
    async fn settle(&self, outcome: Outcome, attempt: Option<Attempt>, endpoint: &Endpoint) {
        let (app, id, couriers) = (self.target.app_id.as_str(), self.task.id, &self.outbox.couriers);
        let outcome = self.store_at_last(outcome, attempt, endpoint.keeps_log).await;
        match &outcome {
            Outcome::Taken(_) => {
                couriers.took();
                self.log_recovery(endpoint).await;
            }
            Outcome::Again(next, error) => {
                couriers.failed_to_take();
                self.log_failure(endpoint, error, Some(*next));
                let name = &endpoint.name;
                tracing::debug!(
                    app,
                    endpoint = name,
                    id,
                    error,
                    "an endpoint did not take an event; it is posted again"
                );
            }
            Outcome::GivenUp(error) => {
                couriers.failed_to_take();
                couriers.gave_up(1);
                self.log_failure(endpoint, error, None);
                let name = &endpoint.name;
                tracing::warn!(
                    app,
                    endpoint = name,
                    id,
                    error,
                    "the outbox gave up an event; it can be sent again"
                );
            }
        }
        self.outbox.broadcasts.held().tried(id);
    }

    /// Once an outage.
    fn log_failure(&self, endpoint: &Endpoint, cause: &str, next: Option<i64>) {
        let is_first_try = self.task.attempts == 0;
        if !self.outbox.couriers.outages().failed(&self.target, is_first_try, Instant::now()) {
            return;
        }
        let wait = next.map(|next| Duration::from_micros(u64::try_from(next - storage::now()).unwrap_or(0)));
        tracing::warn!(
            app = self.target.app_id,
            endpoint = endpoint.name,
            address = http_client::address(&endpoint.url),
            cause,
            next_try_in = wait.map(|wait| tracing::field::debug(Duration::from_millis(wait.as_millis() as u64))),
            give_up_after = ?endpoint.give_up_after,
            "an endpoint fails; its events wait and are posted again"
        );
    }

    async fn log_recovery(&self, endpoint: &Endpoint) {
        let Some(ended) = self.outbox.couriers.outages().worked(&self.target, Instant::now()) else { return };
        let target = self.target.clone();
        let waiting = self.outbox.database.read(move |tx| queue::waiting(tx, &target)).await.ok();
        tracing::info!(
            app = self.target.app_id,
            endpoint = endpoint.name,
            address = http_client::address(&endpoint.url),
            failed_for = ?Duration::from_millis(ended.lasted.as_millis() as u64),
            failed_tries = ended.failures,
            waiting,
            "an endpoint takes events again"
        );
    }

    /// Stores a result, with growing pauses until that is done; answers what was stored.
    async fn store_at_last(&self, mut outcome: Outcome, attempt: Option<Attempt>, is_kept: bool) -> Outcome {
        let (mut tries, mut faults) = (0_u32, 0);
        while let Err(error) = self.store(outcome.clone(), attempt.clone(), is_kept).await {
            let (app, id) = (self.target.app_id.as_str(), self.task.id);
            tracing::error!(app, id, %error, "the outbox can't store the result of posting an event; it tries again");
            (tries, faults) = (tries + 1, faults + u32::from(matches!(error, StorageError::Fault(_))));
            if faults >= MAX_FAULTS
                && let Outcome::Taken(answer @ Some(_)) = &mut outcome
            {
                tracing::error!(app, id, "the outbox leaves out an endpoint's answer: it can't be stored");
                *answer = None;
            }
            tokio::time::sleep(backoff::pause(self.outbox.pace.backoff, tries)).await;
        }
        outcome
    }

    async fn store(
        &self,
        outcome: Outcome,
        attempt: Option<Attempt>,
        is_kept: bool,
    ) -> Result<(), StorageError> {
        let (target, task) = (self.target.clone(), self.task.clone());
        let receivers = self.outbox.receivers_of(&target);
        self.outbox
            .database
            .write(move |tx| {
                match &outcome {
                    Outcome::Taken(answer) => {
                        queue::finish(tx, &target, &task, is_kept)?;
                        receivers.iter().try_for_each(|them| them.settled(tx, &target, task.id))?;
                        if let (Some((about, body)), Some(receivers)) = (answer, &receivers) {
                            receivers.answered(tx, *about, body)?;
                        }
                    }
                    Outcome::Again(next, error) => {
                        queue::retry(tx, &target, &task, Some(*next), error)?;
                    }
                    Outcome::GivenUp(error) => {
                        if queue::retry(tx, &target, &task, None, error)?
                            && let Some(receivers) = &receivers
                        {
                            receivers.settled(tx, &target, task.id)?;
                            if let Ok(event) = serde_json::from_str::<Event>(&task.payload) {
                                receivers.gave_up(tx, &target, &event)?;
                            }
                        }
                    }
                }
                match &attempt {
                    // Without a log, what was taken at once has no history worth a row.
                    Some(attempt) if is_kept || attempt.error.is_some() || task.attempts > 0 => {
                        queue::record(tx, &target, task.id, attempt)
                    }
                    _ => Ok(()),
                }
            })
            .await
    }
}

/// What a try came to.
#[derive(Clone, Debug)]
enum Outcome {
    /// With what the answer is about and says, where that is wanted.
    Taken(Option<(super::About, Bytes)>),
    /// Failed; the next try is not before this time.
    Again(i64, String),
    /// Failed for good.
    GivenUp(String),
}
