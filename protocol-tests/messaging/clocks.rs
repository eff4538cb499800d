//! A machine's clock that is set while the server runs: what was put off goes, and nothing is forgotten.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::DEADLINE;
use crate::harness::clock::Clock;
use crate::harness::messaging::{BOB, OUTSIDE, Router};

/// Seconds; with more, the server would rightly refuse the tests' own signatures.
const AHEAD: i64 = 500;
const SET: &str = "the clock was set";

/// Waits for a line of the log while the portal, which shares this thread, answers.
async fn says(router: &Router, line: &str) {
    let start = Instant::now();
    while !router.server().output().contains(line) {
        assert!(start.elapsed() < DEADLINE, "no {line:?} in {}", router.server().output());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn what_was_put_off_goes_when_the_clock_is_set_back_or_forward() {
    for by in [-AHEAD, AHEAD] {
        let clock = Clock::new();
        let mut router = clock.under(Router::setup().portal()).start().await;
        // The carrier wants nothing until midnight, and a callback is tried again later.
        router.carrier.fault("spend_limit", -1, json!({})).await;
        router.portal().answers(500, "{}");
        let waits = router.send_on(1, OUTSIDE, "waits").await["message"]["id"].clone();
        router.measures(r#"switchboard_carrier_breaker{app="1001",state="paused"} 1"#).await;
        says(&router, "an endpoint fails; its events wait").await;

        clock.set(by);
        says(&router, SET).await;
        router.carrier.no_faults().await;
        router.portal().answers(200, "{}");
        says(&router, "an endpoint takes events again").await;
        // The carrier takes it; its reports are signed by another clock, and may be refused.
        let start = Instant::now();
        while !router.message(1, &waits).await["telnyx_message_id"].is_string() {
            assert!(start.elapsed() < DEADLINE, "{}", router.message(1, &waits).await);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(router.send(1, BOB, "and on").await["internal"], true);
        assert_eq!(router.server().output().matches(SET).count(), 1, "one line");
    }
}
