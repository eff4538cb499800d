use std::time::Instant as Moment;

use super::*;
use crate::routing::carrier::{BreakerState, Health};
use crate::routing::test_support::Lab;

const SOMEBODY: &str = "+13125559999";

/// A lab whose carrier is nowhere, with one message for it; the line's next call is the breaker's probe.
async fn before_a_probe() -> (Lab, Arc<Line>) {
    let lab = Lab::with(|settings| settings.telnyx.base_url = "http://127.0.0.1:1".to_owned()).await;
    lab.send("7", SOMEBODY, "hello").await;
    let line = lab.router.inner.jobs.lines.get(&lab.app).expect("a line");
    let past = storage::now() - 60_000_000;
    for _ in 0..5 {
        let permit = line.state().breaker.may_call(past).expect("closed");
        line.state().breaker.report(permit, Health::Failing, past);
    }
    (lab, line)
}

async fn choose_one(lab: &Lab, line: &Line) -> Vec<(Due, Permit)> {
    let due = due::find(&lab.router, &lab.app, line).await.expect("readable");
    let chosen = choose(line, &lab.app, due);
    let state = line.state();
    assert_eq!((chosen.len(), state.calls, state.lanes.len()), (1, 1, 1));
    assert_eq!(state.breaker.state(), BreakerState::Probing);
    chosen
}

fn is_free(line: &Line) -> bool {
    let state = line.state();
    state.calls == 0 && state.lanes.is_empty()
}

/// Cancelled, or taken by another node, between the look and the claim.
#[tokio::test]
async fn a_job_that_is_gone_blocks_neither_its_lane_nor_the_breaker() {
    let (lab, line) = before_a_probe().await;
    let chosen = choose_one(&lab, &line).await;
    lab.sql("UPDATE carrier_jobs SET state = 'done'").await;
    claim_and_call(&lab.router, &lab.app, &line, chosen).await.expect("nothing to do");
    assert!(is_free(&line));
    assert!(line.state().breaker.may_call(storage::now()).is_ok(), "another may be the probe");
}

#[tokio::test]
async fn a_store_that_fails_blocks_neither_the_lane_nor_the_breaker() {
    let (lab, line) = before_a_probe().await;
    let chosen = choose_one(&lab, &line).await;
    lab.sql("ALTER TABLE carrier_attempts RENAME TO away").await;
    claim_and_call(&lab.router, &lab.app, &line, chosen).await.expect_err("no attempt can be noted");
    assert!(is_free(&line));
    assert!(line.state().breaker.may_call(storage::now()).is_ok(), "another may be the probe");
}

#[tokio::test]
async fn a_probe_that_fails_frees_its_lane_and_opens_the_breaker_again() {
    let (lab, line) = before_a_probe().await;
    let chosen = choose_one(&lab, &line).await;
    claim_and_call(&lab.router, &lab.app, &line, chosen).await.expect("called");
    let start = Moment::now();
    while !is_free(&line) {
        assert!(start.elapsed() < Duration::from_secs(15), "the lane stays blocked");
        tokio::task::yield_now().await;
    }
    assert_eq!(line.state().breaker.state(), BreakerState::Open);
    assert_eq!(lab.router.inner.jobs.flights.len(), 0);
}

async fn claimed(lab: &Lab) -> (Claimed, i64) {
    let job = lab.write(|tx| tx.query_one("SELECT id FROM carrier_jobs", &[])).await.expect("a job");
    let job = job.int(0).expect("a number");
    (lab.write(move |tx| claim(tx, "node", job, storage::now())).await.expect("it waits"), job)
}

/// What a panic anywhere in a call leaves behind.
#[tokio::test]
async fn a_call_that_panics_frees_its_lane_and_is_made_again_with_its_key() {
    let (lab, line) = before_a_probe().await;
    let (due, permit) = choose_one(&lab, &line).await.remove(0);
    let (claimed, job) = claimed(&lab).await;
    let flight = Flight::begin(&lab.router, &line, due, permit);
    let panicking = tokio::spawn(async move {
        let _flight = flight;
        panic!("a fault of ours");
    });
    panicking.await.expect_err("it panicked");
    assert!(is_free(&line));
    assert!(line.state().breaker.may_call(storage::now()).is_ok(), "another may be the probe");
    assert!(lab.router.inner.jobs.flights.may_have_orphans());
    settle::recover_orphans(&lab.router).await.expect("settled");
    assert!(!lab.router.inner.jobs.flights.may_have_orphans());
    let sql = "SELECT COALESCE(locked_by, '-') || state || attempts FROM carrier_jobs";
    assert_eq!(lab.texts(sql).await, ["-waiting1"]);
    assert_eq!(lab.texts("SELECT outcome FROM carrier_attempts").await, ["unclear"]);
    let (again, _) = (self::claimed(&lab).await.0, job);
    assert_eq!(again.idempotency_key, claimed.idempotency_key);
}

/// The store wrote the attempt and could not say so.
#[tokio::test]
async fn a_job_whose_attempt_was_written_unbeknown_waits_again_at_once() {
    let (lab, line) = before_a_probe().await;
    let chosen = choose_one(&lab, &line).await;
    let (_, job) = claimed(&lab).await;
    lab.router.inner.jobs.flights.doubt([job]);
    drop(chosen);
    let sql = "SELECT COALESCE(locked_by, '-') || state || attempts FROM carrier_jobs";
    assert_eq!(lab.texts(sql).await, ["nodewaiting1"]);
    settle::recover_orphans(&lab.router).await.expect("released");
    assert_eq!(lab.texts(sql).await, ["-waiting0"]);
    assert_eq!(lab.texts("SELECT outcome FROM carrier_attempts").await, ["not_sent"]);
    assert!(!lab.router.inner.jobs.flights.may_have_orphans());
}

#[tokio::test]
async fn no_job_in_flight_is_taken_for_one_that_was_cut_off() {
    let (lab, line) = before_a_probe().await;
    let (due, permit) = choose_one(&lab, &line).await.remove(0);
    let (_, job) = claimed(&lab).await;
    let flight = Flight::begin(&lab.router, &line, due, permit);
    settle::recover(&lab.router, i64::MAX).await.expect("nothing to do");
    lab.router.inner.jobs.flights.doubt([job]);
    settle::recover_orphans(&lab.router).await.expect("nothing to do");
    assert_eq!(lab.texts("SELECT locked_by FROM carrier_jobs").await, ["node"]);
    drop(flight);
}

/// A row that can't be written as it should holds no lane for ever.
#[tokio::test]
async fn an_outcome_that_can_not_be_stored_is_set_aside() {
    let (lab, line) = before_a_probe().await;
    drop(choose_one(&lab, &line).await);
    let (claimed, job) = claimed(&lab).await;
    lab.sql("CREATE TRIGGER broken BEFORE UPDATE OF telnyx_message_id ON messages BEGIN SELECT RAISE(FAIL, 'no'); END")
        .await;
    lab.sql("CREATE TRIGGER full BEFORE INSERT ON outbox BEGIN SELECT RAISE(FAIL, 'no'); END").await;
    let outcome = Outcome::Unclear { reason: String::new(), error: Some(error()), alert: true };
    store_at_last(&lab.router, &lab.app, (job, claimed.attempt), &outcome).await;
    assert_eq!(lab.texts("SELECT state FROM carrier_jobs").await, ["held"]);
    assert_eq!(lab.texts("SELECT status FROM messages").await, ["unconfirmed"]);
}

fn error() -> crate::routing::carrier::CarrierError {
    crate::routing::carrier::CarrierError { code: "1".to_owned(), title: String::new(), detail: None }
}
