//! Keys of `[routing.carrier.telnyx]` and `send.wait`: what is sent to the carrier, when, and how often.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use super::own::includes;
use crate::harness::http::get;
use crate::harness::messaging::{BOB, OUTSIDE, Router, SENT};

#[tokio::test]
async fn without_a_key_of_the_carrier_only_users_can_be_texted() {
    let router = Router::setup().routing("carrier.telnyx.api_key", "").start().await;
    let send = json!({"user_id": 1, "to": OUTSIDE, "text": "x"});
    router.post("/messages", &send).await.refused(403, "messaging_disabled");
    assert_eq!(router.send(1, BOB, "inside").await["internal"], true);
}

#[tokio::test]
async fn the_profile_of_a_number_goes_before_the_apps() {
    let router = Router::setup().routing("carrier.telnyx.messaging_profile_id", "app-profile").start().await;
    router.send(1, OUTSIDE, "one").await;
    let number = json!({"number": BOB, "messaging_profile_id": "own-profile"});
    router.ok("/phone_numbers", number).await;
    router.send(2, OUTSIDE, "two").await;
    let sends = router.carrier.sends().await;
    let profiles: Vec<&Value> = sends.iter().map(|send| &send["body"]["messaging_profile_id"]).collect();
    assert_eq!(profiles, ["app-profile", "own-profile"]);
}

#[tokio::test]
async fn an_answer_waits_for_the_carrier_as_long_as_configured() {
    let router = Router::setup().routing("send.wait", "0s").start().await;
    router.carrier.fault_with(json!({"preset": "latency", "delay_ms": 3_000, "times": -1})).await;
    let start = Instant::now();
    let answer = router.send(1, OUTSIDE, "at once").await;
    includes(&answer["message"], &json!({"status": "sending", "sent_at": null, "telnyx_message_id": null}));
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    let mut thread = router.thread(1, OUTSIDE).await;
    thread.reaches(&answer["message"]["id"], "sent").await;
}

#[tokio::test]
async fn what_is_unclear_can_be_held() {
    let router = Router::setup().routing("carrier.telnyx.on_unclear", "hold").start().await;
    router.carrier.fault("reset_before", -1, json!({})).await;
    let mut thread = router.thread(1, OUTSIDE).await;
    let sent = router.send_on(1, OUTSIDE, "who knows").await;
    thread.reaches(&sent["message"]["id"], "unconfirmed").await;
    router.carrier.stays_at(1, Duration::from_millis(1_500)).await;
}

#[tokio::test]
async fn what_is_unclear_can_be_sent_again_at_ones_risk() {
    let router = Router::setup()
        .routing("carrier.telnyx.on_unclear", "resend")
        .routing("carrier.telnyx.idempotency", "off")
        .start()
        .await;
    router.carrier.fault("reset_before", 1, json!({})).await;
    let mut thread = router.thread(1, OUTSIDE).await;
    let sent = router.send_on(1, OUTSIDE, "again, then").await;
    thread.reaches(&sent["message"]["id"], "sent").await;
    let sends = router.carrier.sends().await;
    assert_eq!(sends.len(), 2);
    assert!(sends.iter().all(|send| send["idempotency_key"].is_null()), "{sends:?}");
}

#[tokio::test]
async fn a_message_that_the_carrier_has_twice_is_counted_once() {
    let router = Router::setup()
        .routing("carrier.telnyx.on_unclear", "resend")
        .routing("carrier.telnyx.idempotency", "off")
        // It tells of the first one after the second was sent.
        .carrier(&["--sent-delay-ms", "3000", "--final-delay-ms", "3000"])
        .start()
        .await;
    router.carrier.fault("reset_after", 1, json!({})).await;
    router.send_on(1, OUTSIDE, "twice").await;
    // Each of the two was reported on twice.
    router.carrier.wait("accepted=2&events_delivered=4&idle=1").await;
    router.measures("switchboard_carrier_duplicates_total 1").await;
    router.logged("the carrier accepted this message twice", 1);
    assert_eq!(router.server().output().matches("the carrier accepted this message twice").count(), 1);
}

#[tokio::test]
async fn attempts_end_with_their_number_and_messages_with_their_age() {
    // A pause that the carrier asks for is no attempt, but it takes time.
    let rate_limited = ("valid_for", json!("1s"), "rate_limited", None);
    for (key, value, fault, attempts) in [rate_limited, ("max_attempts", json!(2), "unavailable", Some(2))] {
        let router = Router::setup().routing(&format!("carrier.telnyx.{key}"), value).start().await;
        router.carrier.fault(fault, -1, json!({})).await;
        let mut thread = router.thread(1, OUTSIDE).await;
        let sent = router.send_on(1, OUTSIDE, "too late").await;
        // After a 503 the carrier may have it, so it is not said to have failed.
        let end = if fault == "unavailable" { "unconfirmed" } else { "failed" };
        thread.reaches(&sent["message"]["id"], end).await;
        let message = router.message(1, &sent["message"]["id"]).await;
        if end == "failed" {
            assert_eq!(message["error"]["code"], "expired", "{key}: {message}");
            assert!(message["error"]["title"].is_string(), "{message}");
        }
        if let Some(attempts) = attempts {
            assert_eq!(router.carrier.sends().await.len(), attempts, "{key}");
        }
    }
}

#[tokio::test]
async fn what_waits_behind_a_pause_ends_with_its_age() {
    let router = Router::setup().routing("carrier.telnyx.valid_for", "2s").start().await;
    // No call until midnight.
    router.carrier.fault("spend_limit", -1, json!({})).await;
    let mut asked = router.thread(1, OUTSIDE).await;
    let first = router.send(1, OUTSIDE, "meets it").await;
    let mut not_asked = router.thread(2, OUTSIDE).await;
    let second = router.send_on(2, OUTSIDE, "waits behind it").await;
    asked.reaches(&first["message"]["id"], "failed").await;
    not_asked.reaches(&second["message"]["id"], "failed").await;
    let message = router.message(2, &second["message"]["id"]).await;
    assert_eq!(message["error"]["code"], "expired", "{message}");
    assert_eq!(router.carrier.sends().await.len(), 1);
}

#[tokio::test]
async fn a_number_sends_no_faster_than_its_rate() {
    let router = Router::setup().routing("carrier.telnyx.number_rate", 1).start().await;
    let start = Instant::now();
    for n in 0..3 {
        router.send_on(1, &format!("+1312555016{n}"), &n.to_string()).await;
    }
    router.carrier.wait("accepted=3").await;
    assert!(start.elapsed() > Duration::from_millis(1_500), "{:?}", start.elapsed());
    // Counted once each, however often they were looked at.
    let metrics = get(router.server().admin, "/metrics").await.text();
    let line = r#"switchboard_throttle_waits_total{app="1001",by="number_rate"}"#;
    let waits = metrics.lines().find_map(|other| other.strip_prefix(line)).map(str::trim);
    assert!(matches!(waits, Some("1" | "2")), "{waits:?} in\n{metrics}");
}

#[tokio::test]
async fn calls_go_out_at_once_up_to_the_concurrency_and_out_of_order_if_relaxed() {
    let slow = json!({"preset": "latency", "delay_ms": 2_000, "times": -1, "match": {"text": "slow"}});
    // (key, value, destinations of the slow one and the quick one, whether the quick one overtakes)
    let other = "+13125550198";
    for (key, value, quick_to, overtakes) in [
        ("ordering", json!("strict"), OUTSIDE, false),
        ("ordering", json!("relaxed"), OUTSIDE, true),
        ("concurrency", json!(1), other, false),
        ("concurrency", json!(2), other, true),
    ] {
        let router = Router::setup().routing(&format!("carrier.telnyx.{key}"), value.clone()).start().await;
        router.carrier.fault_with(slow.clone()).await;
        let slow = router.send_on(1, OUTSIDE, "slow").await;
        router.carrier.wait("sends=1").await;
        let quick = router.send_on(1, quick_to, "quick").await;
        let mut thread = router.thread(1, quick_to).await;
        let status = router.message(1, &quick["message"]["id"]).await["status"].clone();
        if status == "sending" {
            thread.reaches(&quick["message"]["id"], "sent").await;
        }
        let is_first = router.message(1, &slow["message"]["id"]).await["status"] == "sending";
        assert_eq!(is_first, overtakes, "{key} = {value}");
    }
}

#[tokio::test]
async fn a_call_takes_no_longer_than_its_timeout() {
    let router = Router::setup()
        .routing("carrier.telnyx.timeout", "200ms")
        .routing("carrier.telnyx.on_unclear", "hold")
        .start()
        .await;
    router.carrier.fault("timeout_before", 1, json!({})).await;
    let start = Instant::now();
    let sent = router.send(1, OUTSIDE, "too slow").await;
    assert_eq!(sent["message"]["status"], "unconfirmed", "{sent}");
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_message_for_later_goes_when_its_time_has_come() {
    let router = Router::start().await;
    let at = |seconds: i64| {
        let time = time::OffsetDateTime::now_utc() + time::Duration::seconds(seconds);
        time.format(&time::format_description::well_known::Rfc3339).expect("a time")
    };
    for to in [BOB, OUTSIDE] {
        let mut thread = router.thread(1, to).await;
        let later = json!({"user_id": 1, "to": to, "text": to, "send_at": at(3)});
        let sent = router.ok("/messages", later).await;
        includes(&sent["message"], &json!({"status": "scheduled", "sent_at": null, "delivered_at": null}));
        thread.hear(SENT).await;
        assert_eq!(router.carrier.sends().await.len(), 0, "{to}");
        thread.reaches(&sent["message"]["id"], "delivered").await;
    }
    let never = json!({"user_id": 1, "to": OUTSIDE, "text": "never", "send_at": at(3)});
    let sent = router.ok("/messages", never).await;
    let cancel = format!("/messages/{}/cancel", sent["message"]["id"]);
    assert_eq!(router.ok(&cancel, json!({"user_id": 1})).await["message"]["status"], "cancelled");
    router.post(&cancel, &json!({"user_id": 1})).await.refused(409, "not_cancellable");
    router.carrier.stays_at(1, Duration::from_secs(4)).await;
    for (send_at, why) in [("tomorrow", "no time"), (at(6 * 86_400).as_str(), "too far ahead")] {
        let later = json!({"user_id": 1, "to": OUTSIDE, "text": "x", "send_at": send_at});
        let error = router.post("/messages", &later).await.refused(422, "invalid_field");
        assert_eq!(error["field"], "send_at", "{why}");
    }
}

#[tokio::test]
async fn a_connection_takes_no_longer_than_its_timeout() {
    // One that never comes about: the queue of connections is full, and nobody takes any out.
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind("127.0.0.1:0".parse().expect("an address")).expect("a free port");
    let listener = socket.listen(0).expect("listens");
    let address = listener.local_addr().expect("bound");
    let mut queued = Vec::new();
    while let Ok(connected) = timeout(Duration::from_millis(300), TcpStream::connect(address)).await {
        queued.push(connected.expect("the queue has room"));
    }
    let router = Router::setup()
        .routing("carrier.telnyx.base_url", format!("http://{address}/v2"))
        .routing("carrier.telnyx.connect_timeout", "200ms")
        .routing("carrier.telnyx.max_attempts", 1)
        .start()
        .await;
    // Within the two seconds that the answer waits: the usual three would be too long.
    let sent = router.send(1, OUTSIDE, "nobody there").await;
    includes(&sent["message"], &json!({"status": "failed"}));
    assert_eq!(sent["message"]["error"]["code"], "expired");
    router.measures(r#"switchboard_carrier_attempts_total{class="not_sent"} 1"#).await;
}

#[tokio::test]
async fn the_carrier_is_told_where_to_report_if_that_is_known() {
    for has_url in [true, false] {
        let mut setup = Router::setup();
        if !has_url {
            setup = setup.routing("carrier.telnyx.public_url", "");
        }
        let router = setup.start().await;
        router.send(1, OUTSIDE, "reported on").await;
        let body = router.carrier.sends().await[0]["body"].clone();
        let url = body["webhook_url"].as_str();
        assert_eq!(url.is_some_and(|url| url.contains("/carriers/telnyx/1001/")), has_url, "{body}");
        // The messaging profile's address serves as well.
        let mut thread = router.thread(1, OUTSIDE).await;
        let next = router.send_on(1, OUTSIDE, "and delivered").await;
        thread.reaches(&next["message"]["id"], "delivered").await;
    }
}
