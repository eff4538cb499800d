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
    let due = find_due(&lab.router, &lab.app).await.expect("readable");
    let chosen = choose(&lab.router, line, &lab.app, due).chosen;
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
    assert_eq!(lab.router.inner.jobs.in_flight.load(Atomic::Acquire), 0);
}
