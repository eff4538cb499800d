//! The log's lines about endpoints that fail and work again.

use std::time::{Duration, Instant};

use super::Hooks;
use crate::harness::DEADLINE;
use crate::harness::portal::Reply;
use crate::harness::ws::WsClient;

const FAILS: &str = "an endpoint fails";
const WORKS: &str = "an endpoint takes events again";

/// Waits for a line with this text.
async fn line(hooks: &Hooks, text: &str) -> String {
    let start = Instant::now();
    loop {
        let output = hooks.server().output();
        if let Some(line) = output.lines().find(|line| line.contains(text)) {
            return line.to_owned();
        }
        assert!(start.elapsed() < DEADLINE, "no {text:?} in\n{output}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[track_caller]
fn has_one_of_each(hooks: &Hooks) {
    let output = hooks.server().output();
    assert_eq!([FAILS, WORKS].map(|text| output.matches(text).count()), [1, 1], "{output}");
}

#[tokio::test]
async fn a_receiver_that_refuses_is_a_warning_once_and_its_recovery_a_line() {
    let mut hooks = Hooks::start("", "name = \"orders\"").await;
    let mut client = WsClient::connect(hooks.server()).await;
    hooks.portal.answers(503, "secret-answer");
    for channel in ["a", "b", "c"] {
        client.subscribe(channel).await;
    }
    // Each channel is tried a second time.
    for _ in 0..6 {
        hooks.portal.next_within(DEADLINE).await;
    }
    let fails = line(&hooks, FAILS).await;
    let address = format!("http://{}", hooks.portal.addr());
    for part in [
        " WARN ",
        "app=\"1001\"",
        "endpoint=\"orders\"",
        &address,
        "HTTP 503",
        "next_try_in=",
        "posted again",
    ] {
        assert!(fails.contains(part), "{part} in {fails}");
    }
    hooks.portal.answers(200, "{}");
    let works = line(&hooks, WORKS).await;
    for part in [" INFO ", "endpoint=\"orders\"", "failed_for=", "failed_tries=", "waiting="] {
        assert!(works.contains(part), "{part} in {works}");
    }
    has_one_of_each(&hooks);
    let path = hooks.portal.url().rsplit('/').next().unwrap_or_default().to_owned();
    let log = hooks.server().output();
    assert!(
        !log.contains("secret-answer") && (path.is_empty() || !fails.contains(&format!("/{path}\""))),
        "{log}"
    );
}

#[tokio::test]
async fn a_receiver_that_hangs_is_named_with_the_time_that_it_took() {
    let hooks = Hooks::start("", "name = \"orders\"\ntimeout = \"200ms\"").await;
    let mut client = WsClient::connect(hooks.server()).await;
    hooks.portal.answers_next(Reply::Hang);
    client.subscribe("a").await;
    let fails = line(&hooks, FAILS).await;
    assert!(fails.contains("orders") && fails.contains("200"), "{fails}");
    line(&hooks, WORKS).await;
    has_one_of_each(&hooks);
}

#[tokio::test]
async fn a_receiver_that_is_away_is_a_warning_until_it_is_back() {
    let mut hooks = Hooks::start("", "name = \"orders\"").await;
    let mut client = WsClient::connect(hooks.server()).await;
    client.subscribe("before").await;
    hooks.next().await;
    hooks.portal.refuse().await;
    client.subscribe("a").await;
    let fails = line(&hooks, FAILS).await;
    assert!(fails.contains("not sent"), "{fails}");
    hooks.portal.accept().await;
    hooks.next().await;
    line(&hooks, WORKS).await;
    has_one_of_each(&hooks);
}

#[tokio::test]
async fn one_event_that_is_refused_while_others_are_taken_is_no_lasting_outage() {
    let mut hooks = Hooks::start("", "name = \"orders\"").await;
    let mut client = WsClient::connect(hooks.server()).await;
    hooks.portal.answers_next(Reply::Status(422, String::new()));
    client.subscribe("poison").await;
    hooks.portal.next().await;
    for n in 0..3 {
        // The poisoned event's next try is refused as well.
        let channel = format!("c{n}");
        client.subscribe(&channel).await;
        hooks.portal.next_within(DEADLINE).await;
    }
    line(&hooks, WORKS).await;
    has_one_of_each(&hooks);
}
