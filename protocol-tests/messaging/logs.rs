//! What the log tells of messages, and what it never does.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::own::includes;
use crate::harness::DEADLINE;
use crate::harness::messaging::{ANN, BOB, OUTSIDE, RECEIVED, Router, Setup};
use crate::harness::names::free_port;

/// [`ANN`] and [`OUTSIDE`] as logs show them.
const ANN_MASKED: &str = "+1312***0100";
const OUTSIDE_MASKED: &str = "+1312***0199";

/// With a log that has everything of the server's own, an object a line.
fn verbose() -> Setup {
    Router::setup().tables("[log]\nformat = \"json\"\nlevel = \"info,switchboard=trace\"")
}

/// The fields of the log's lines with this text, once there are `count` of them.
fn lines(router: &Router, text: &str, count: usize) -> Vec<Value> {
    let start = Instant::now();
    loop {
        let output = router.server().output();
        let lines = output.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let found: Vec<Value> = lines
            .filter(|line| line["fields"]["message"] == text)
            .map(|line| line["fields"].clone())
            .collect();
        if found.len() >= count {
            return found;
        }
        assert!(start.elapsed() < DEADLINE, "no {text:?} {count} times in\n{output}");
        std::thread::yield_now();
    }
}

/// What the lines of user 1's message to somebody outside have in common.
fn about(answer: &Value) -> Value {
    let id = answer["message"]["id"].to_string();
    json!({"app": "1001", "user": "1", "message_id": id, "from": ANN_MASKED, "to": OUTSIDE_MASKED})
}

/// A carrier's answer whose every word repeats the numbers and the text.
fn talkative(status: u16, code: &str, text: &str) -> Value {
    let words = format!("from {ANN} to {OUTSIDE}: {text}");
    let body = json!({"errors": [{"code": code, "title": words, "detail": words, "meta": {"x": words}}]});
    json!({"status": status, "raw_body": body.to_string(), "times": 1, "match": {"text": text}})
}

/// Fails when the log has any of the numbers, in whole, or what was written.
#[track_caller]
fn tells_nothing(router: &Router, texts: &[&str]) {
    let output = router.server().output();
    for number in [ANN, BOB, OUTSIDE, "+13125550177"] {
        let digits = &number[2..];
        assert!(!output.contains(digits), "{number} in\n{output}");
    }
    for text in texts {
        assert!(!output.contains(text), "{text:?} in\n{output}");
    }
}

#[tokio::test]
async fn lines_of_messages_inside_and_inbound_name_everything_but_numbers_and_text() {
    let router = verbose().start().await;
    let mut ann = router.listen("user.1").await;
    let mut bob = router.listen("user.2").await;
    let sent = router.send(1, BOB, "confidential").await;
    let received = bob.wait_for(RECEIVED).await.json();
    let (from, to) = (ANN_MASKED, "+1312***0101");
    let checking = &lines(&router, "Checking if recipient is internal user", 1)[0];
    includes(checking, &json!({"app": "1001", "user": "1", "from": from, "to": to}));
    let skipping = &lines(&router, "Internal message detected - skipping Telnyx API", 1)[0];
    let id = sent["message"]["id"].to_string();
    includes(skipping, &json!({"app": "1001", "user": "1", "message_id": id, "from": from, "to": to}));
    let reciprocal = &lines(&router, "Reciprocal conversation created for internal message", 1)[0];
    let id = received["message"]["id"].to_string();
    let expected =
        json!({"app": "1001", "user": "2", "message_id": id, "from": from, "to": to, "created": true});
    includes(reciprocal, &expected);

    router.carrier.inbound(json!({"from": OUTSIDE, "to": ANN, "text": "from outside"})).await;
    let received = ann.wait_for(RECEIVED).await.json();
    let inbound = &lines(&router, "Inbound message received", 1)[0];
    let id = received["message"]["id"].to_string();
    let expected =
        json!({"app": "1001", "user": "1", "message_id": id, "from": OUTSIDE_MASKED, "to": ANN_MASKED});
    includes(inbound, &expected);
    router.carrier.inbound(json!({"from": OUTSIDE, "to": "+13125550177", "text": "for nobody"})).await;
    let nobody = &lines(&router, "Inbound message has no assigned user", 1)[0];
    includes(nobody, &json!({"app": "1001", "from": OUTSIDE_MASKED, "to": "+1312***0177"}));
    assert!(nobody["telnyx_message_id"].is_string(), "{nobody}");
    tells_nothing(&router, &["confidential", "from outside", "for nobody"]);
}

#[tokio::test]
async fn lines_of_the_carrier_name_app_user_message_and_masked_numbers() {
    let router = verbose().routing("carrier.telnyx.max_attempts", 1).start().await;
    let accepted = router.send(1, OUTSIDE, "accepted text").await;
    includes(&lines(&router, "Sending message via Telnyx API", 1)[0], &about(&accepted));
    let line = &lines(&router, "Telnyx accepted message", 1)[0];
    includes(line, &about(&accepted));
    assert_eq!(line["telnyx_message_id"], accepted["message"]["telnyx_message_id"]);

    router.carrier.fault_with(talkative(400, "40310", "refused text")).await;
    let refused = router.send(1, OUTSIDE, "refused text").await;
    let line = &lines(&router, "Telnyx refused message", 1)[0];
    includes(line, &about(&refused));
    assert_eq!(line["code"], "40310");

    router.carrier.fault_with(talkative(500, "10007", "unclear text")).await;
    let unclear = router.send(1, OUTSIDE, "unclear text").await;
    includes(&lines(&router, "Carrier outcome unclear", 1)[0], &about(&unclear));

    router.carrier.fault_with(talkative(429, "10011", "throttled text")).await;
    let throttled = router.send_on(1, OUTSIDE, "throttled text").await;
    let line = &lines(&router, "the carrier asks for a pause", 1)[0];
    includes(line, &about(&throttled));
    assert_eq!(line["code"], "10011");
    lines(&router, "Telnyx accepted message", 2);

    router.carrier.fault_with(talkative(403, "40312", "paused text")).await;
    let paused = router.send_on(1, OUTSIDE, "paused text").await;
    let line = &lines(&router, "the carrier refuses messages until its account or settings change", 1)[0];
    includes(line, &about(&paused));
    assert_eq!(line["code"], "40312");
    assert_eq!(lines(&router, "Sending message via Telnyx API", 5).len(), 6);
    let texts = ["accepted text", "refused text", "unclear text", "throttled text", "paused text"];
    tells_nothing(&router, &texts);
}

#[tokio::test]
async fn a_carrier_that_is_not_there_is_logged_with_the_message() {
    let nobody = format!("http://127.0.0.1:{}/v2", free_port());
    let router = verbose().routing("carrier.telnyx.base_url", nobody).start().await;
    let sent = router.send_on(1, OUTSIDE, "unreachable text").await;
    includes(&lines(&router, "the carrier can't be reached", 1)[0], &about(&sent));
    tells_nothing(&router, &["unreachable text"]);
}

#[tokio::test]
async fn a_call_that_a_crash_cut_off_is_logged_with_its_message() {
    let mut router = verbose().start().await;
    // No report, which would settle the message before the next start looks at it.
    let silent = json!({"drop": ["message.sent", "message.finalized"]});
    router.carrier.fault_with(json!({"preset": "timeout_after", "times": 1, "webhooks": silent})).await;
    let sent = router.send_on(1, OUTSIDE, "cut off").await;
    router.carrier.wait("sends=1").await;
    router.revive();
    includes(&lines(&router, "Carrier outcome unclear", 1)[0], &about(&sent));
    tells_nothing(&router, &["cut off"]);
}

#[tokio::test]
async fn refusals_failed_callbacks_and_forged_webhooks_leave_no_number_in_the_log() {
    let mut router = verbose().portal().start().await;
    // A portal that repeats what it got.
    let words = json!({"error": format!("{ANN} to {OUTSIDE}: secret text")}).to_string();
    router.portal().answers(500, &words);
    for (to, from) in [("+1312555019", ANN), (ANN, ANN), (OUTSIDE, BOB), ("tel:+13125550177", ANN)] {
        let send = json!({"user_id": 1, "to": to, "from": from, "text": "secret text"});
        assert_ne!(router.post("/messages", &send).await.status, 200, "{to}");
    }
    router.ok("/opt_outs", json!({"number": OUTSIDE})).await;
    let send = json!({"user_id": 1, "to": OUTSIDE, "text": "secret text"});
    router.post("/messages", &send).await.refused(403, "opted_out");
    router.ok("/opt_outs/remove", json!({"number": OUTSIDE})).await;
    router.carrier.fault_with(json!({"preset": "tampered_webhooks", "times": -1})).await;
    router.send(1, OUTSIDE, "secret text").await;
    router.send(1, BOB, "secret text").await;
    lines(&router, "carrier webhook refused", 1);
    lines(&router, "an endpoint did not take an event; it is posted again", 1);
    tells_nothing(&router, &["secret text"]);
}

/// Waits for this text in the log while this process's own servers go on.
async fn written(router: &Router, text: &str) {
    let start = Instant::now();
    while !router.server().output().contains(text) {
        assert!(start.elapsed() < DEADLINE, "no {text:?} in\n{}", router.server().output());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The lines at `info` or worse that a step caused, without those of the start.
fn at_info(router: &Router, start: usize) -> Vec<Value> {
    let output = router.server().output();
    let lines = output.lines().skip(start).filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter(|line| ["INFO", "WARN", "ERROR"].iter().any(|level| line["level"] == *level)).collect()
}

#[tokio::test]
async fn at_info_a_message_is_one_line_with_the_texts_that_portals_look_for() {
    let router = Router::setup().tables("[log]\nformat = \"json\"").start().await;
    let mut bob = router.listen("user.2").await;
    router.logged("listening", 1);
    let start = router.server().output().lines().count();
    let sent = router.send(1, BOB, "confidential").await;
    bob.wait_for(RECEIVED).await;
    router.logged("Internal message detected - skipping Telnyx API", 1);
    let lines = at_info(&router, start);
    assert_eq!(lines.len(), 1, "{lines:?}");
    let text = lines[0]["fields"]["message"].as_str().expect("a text");
    for step in [
        "Checking if recipient is internal user",
        "Internal message detected - skipping Telnyx API",
        "Reciprocal conversation created for internal message",
    ] {
        assert!(text.contains(step), "{text}");
    }
    let id = sent["message"]["id"].to_string();
    includes(
        &lines[0]["fields"],
        &json!({"app": "1001", "user": "1", "message_id": id, "from": ANN_MASKED, "route": "internal",
            "reason": "assigned", "directory": "own", "created": true}),
    );

    let start = router.server().output().lines().count();
    router.send(1, OUTSIDE, "confidential").await;
    router.logged("Sending message via Telnyx API", 1);
    router.carrier.wait("sends=1").await;
    let lines = at_info(&router, start);
    assert_eq!(lines.len(), 1, "{lines:?}");
    let text = &lines[0]["fields"]["message"];
    assert_eq!(text, "Checking if recipient is internal user; Sending message via Telnyx API");
    includes(&lines[0]["fields"], &json!({"route": "external", "to": OUTSIDE_MASKED}));
    tells_nothing(&router, &["confidential"]);
}

#[tokio::test]
async fn a_callback_endpoint_that_fails_and_works_again_is_two_lines() {
    let mut router = Router::setup().portal().start().await;
    router.portal().answers(500, "secret-answer");
    router.send(1, BOB, "confidential").await;
    written(&router, "an endpoint fails").await;
    router.portal().answers(200, "{}");
    written(&router, "an endpoint takes events again").await;
    let log = router.server().output();
    assert_eq!(log.matches("an endpoint fails").count(), 1, "{log}");
    assert!(log.contains("endpoint=\"callbacks\"") && log.contains("HTTP 500"), "{log}");
    tells_nothing(&router, &["confidential", "secret-answer"]);
}

#[tokio::test]
async fn forged_carrier_webhooks_are_a_warning_once_a_minute() {
    let router = verbose().start().await;
    router.carrier.fault_with(json!({"preset": "tampered_webhooks", "times": -1})).await;
    for _ in 0..3 {
        router.send(1, OUTSIDE, "x").await;
    }
    lines(&router, "carrier webhook refused", 3);
    let output = router.server().output();
    let refused = output.lines().filter(|line| line.contains("carrier webhook refused"));
    let (warnings, others): (Vec<_>, Vec<_>) = refused.partition(|line| line.contains("\"WARN\""));
    assert_eq!(warnings.len(), 1, "{output}");
    assert!(others.iter().all(|line| line.contains("\"DEBUG\"")), "{output}");
}

#[tokio::test]
async fn public_channels_are_warned_of_when_the_first_number_comes() {
    let plain = "[apps.routing]\nenabled = true\n";
    let server = crate::harness::server::Config::new().app("1001", plain).start();
    let warning = "anyone with the app key";
    assert!(!server.output().contains(warning), "{}", server.output());
    let body = json!({"number": ANN, "user_id": 1, "status": "assigned"});
    let request = crate::harness::http::Request::post(
        server.app(),
        "/apps/1001/messaging/phone_numbers",
        body.to_string(),
    );
    for _ in 0..2 {
        request.send(server.public).await.expect_status(200);
    }
    let start = Instant::now();
    while !server.output().contains(warning) {
        assert!(start.elapsed() < DEADLINE, "{}", server.output());
        tokio::task::yield_now().await;
    }
    assert_eq!(server.output().matches(warning).count(), 1, "{}", server.output());
}
