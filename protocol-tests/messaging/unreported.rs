//! Messages that the carrier has and whose last report does not come: it is asked, slowly, and in the end they stay
//! `sent` with a doubt.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::own::includes;
use crate::harness::databases::postgres;
use crate::harness::messaging::{OUTSIDE, Router, Setup, Thread, text};

each_store! {
    Router::setup().routing("carrier.telnyx.ask_after", "1s") =>
    a_report_that_does_not_come_is_asked_for;
    what_the_carrier_never_says_ends_with_a_doubt;
    what_the_carrier_knows_no_more_ends_with_a_doubt;
    what_is_to_be_asked_outlives_a_restart;
}

/// Sends a text and listens.
async fn send(router: &Router, to: &str) -> (Thread, Value) {
    let thread = router.thread(1, to).await;
    let id = router.send_on(1, to, to).await["message"]["id"].clone();
    (thread, id)
}

async fn asks(router: &Router) -> usize {
    let asked = router.carrier.requests("method=GET").await;
    asked.iter().filter(|request| text(&request["path"]).starts_with("/v2/messages/")).count()
}

async fn a_report_that_does_not_come_is_asked_for(setup: Setup) {
    let router = setup.start().await;
    // No report at all, none of the last state, and one of a failure.
    for (n, (fault, end)) in [
        (json!({"preset": "no_webhooks"}), "delivered"),
        (json!({"preset": "no_final_webhook"}), "delivered"),
        (json!({"preset": "no_webhooks", "final": {"status": "Undelivered", "errors": ["40008"]}}), "failed"),
    ]
    .into_iter()
    .enumerate()
    {
        router.carrier.fault_with(fault).await;
        let (mut thread, id) = send(&router, &format!("+1312555016{n}")).await;
        thread.reaches(&id, end).await;
        let message = router.message(1, &id).await;
        assert_eq!(message["error"]["code"], if end == "failed" { json!("40008") } else { Value::Null });
        assert_eq!(asks(&router).await, n + 1, "once");
    }
    router.measures(r#"switchboard_carrier_questions_total{answer="final"} 3"#).await;
    router.measures("switchboard_messages_unreported_total 0").await;
    // One whose report comes is not asked about: a later one, whose report does not come, is the next.
    let (mut thread, id) = send(&router, OUTSIDE).await;
    thread.reaches(&id, "delivered").await;
    router.carrier.fault_with(json!({"preset": "no_webhooks"})).await;
    let (mut thread, id) = send(&router, "+13125550169").await;
    thread.reaches(&id, "delivered").await;
    assert_eq!(asks(&router).await, 4);
}

async fn what_the_carrier_never_says_ends_with_a_doubt(setup: Setup) {
    // It has the message in its queue, for longer than anybody waits.
    let setup = setup.routing("carrier.telnyx.ask_times", 2);
    let router = setup.carrier(&["--sent-delay-ms", "3600000", "--manual-finalize"]).start().await;
    let (mut thread, id) = send(&router, OUTSIDE).await;
    assert_eq!(thread.reaches(&id, "sent").await, ["sent"]);
    includes(&router.message(1, &id).await, &json!({"delivery_unconfirmed": true, "error": null}));
    assert_eq!(asks(&router).await, 2);
    router.measures("switchboard_messages_unreported_total 1").await;
    router.measures(r#"switchboard_carrier_questions_total{answer="open"} 2"#).await;
    router.logged("the carrier's last report of a message did not come", 1);
    // What it says all the same counts.
    let carrier_id = text(&router.carrier.messages().await[0]["id"]);
    router.carrier.finalize(&carrier_id, "delivered", &[]).await;
    thread.reaches(&id, "delivered").await;
    includes(&router.message(1, &id).await, &json!({"delivery_unconfirmed": false}));
}

async fn what_the_carrier_knows_no_more_ends_with_a_doubt(setup: Setup) {
    let router = setup.start().await;
    let of_look_ups = json!({"path": "/messages/{id}"});
    // Not the carrier's word: it is asked again.
    for answer in [json!({"status": 404, "raw_body": "<html>not found</html>"}), json!({"error": "40303"})] {
        let mut fault = json!({"match": of_look_ups, "times": 1});
        fault.as_object_mut().expect("an object").extend(answer.as_object().expect("an object").clone());
        router.carrier.fault_with(fault).await;
    }
    router.carrier.fault("no_webhooks", 1, json!({"to": OUTSIDE})).await;
    let (mut thread, id) = send(&router, OUTSIDE).await;
    assert_eq!(thread.reaches(&id, "sent").await, ["sent"]);
    includes(&router.message(1, &id).await, &json!({"delivery_unconfirmed": true, "error": null}));
    assert_eq!(asks(&router).await, 2);
    router.measures(r#"switchboard_carrier_questions_total{answer="none"} 1"#).await;
    router.measures(r#"switchboard_carrier_questions_total{answer="unknown"} 1"#).await;
}

async fn what_is_to_be_asked_outlives_a_restart(setup: Setup) {
    let mut router = setup.start().await;
    router.carrier.fault("no_webhooks", -1, json!({})).await;
    let sent = router.send(1, OUTSIDE, "hello").await;
    assert!(sent["message"]["telnyx_message_id"].is_string(), "{sent}");
    router.kill();
    router.revive();
    let id = &sent["message"]["id"];
    router.message_that(1, id, |message| message["status"] == "delivered").await;
}

#[tokio::test]
async fn of_nodes_that_share_a_store_one_asks() {
    let database = postgres().await;
    let setup = || {
        Router::setup()
            .store(&database.url)
            .routing("carrier.telnyx.ask_after", "1s")
            .routing("carrier.telnyx.ask_rate", 0)
    };
    let first = setup().start().await;
    let _second = setup().routing("carrier.telnyx.base_url", first.carrier.api_base.clone()).start().await;
    first.carrier.fault("no_webhooks", -1, json!({})).await;
    let mut ids = Vec::new();
    for n in 0..20 {
        ids.push(
            first.send_on(1, &format!("+131255502{n:02}"), &n.to_string()).await["message"]["id"].clone(),
        );
    }
    for id in &ids {
        first.message_that(1, id, |message| message["status"] == "delivered").await;
    }
    assert_eq!(asks(&first).await, 20);
}

#[tokio::test]
async fn the_carrier_is_asked_no_faster_than_the_rate() {
    let setup = Router::setup().routing("carrier.telnyx.ask_after", "1s");
    let router = setup.routing("carrier.telnyx.ask_rate", 30).start().await;
    router.carrier.fault("no_webhooks", -1, json!({})).await;
    let start = Instant::now();
    for n in 0..3 {
        router.send(1, &format!("+1312555016{n}"), &n.to_string()).await;
    }
    router.carrier.wait("asks=3").await;
    // One when the time has come, and the others two seconds apart.
    assert!(start.elapsed() > Duration::from_millis(4_500), "{:?}", start.elapsed());
}

#[tokio::test]
async fn the_carrier_need_not_be_asked_at_all() {
    let setup =
        Router::setup().routing("carrier.telnyx.ask_after", "1s").routing("carrier.telnyx.ask_times", 0);
    let router = setup.start().await;
    router.carrier.fault("no_webhooks", -1, json!({})).await;
    let (mut thread, id) = send(&router, OUTSIDE).await;
    thread.reaches(&id, "sent").await;
    includes(&router.message(1, &id).await, &json!({"delivery_unconfirmed": true}));
    assert_eq!(asks(&router).await, 0);
}
