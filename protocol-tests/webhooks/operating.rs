//! What operators see and do: the command line, the admin port, metrics.

use serde_json::{Value, json};

use super::{Hooks, occupied};
use crate::harness::http::{exchange, get};
use crate::harness::server::{Finished, binary, run};
use crate::harness::ws::WsClient;

/// Runs `switchboard webhooks …` with the server's file.
pub(super) async fn webhooks(hooks: &Hooks, line: &str) -> Finished {
    let server = hooks.server();
    let mut command = binary();
    command.args(["--json", "webhooks"]).args(line.split(' '));
    command.arg("--config").arg(server.folder().join("switchboard.toml"));
    // The file asks for any free port.
    command.env("SWITCHBOARD__ADMIN__BIND", server.admin.to_string());
    tokio::task::spawn_blocking(move || run(command, "")).await.expect("no panic")
}

#[track_caller]
pub(super) fn answer(finished: Finished) -> Value {
    assert_eq!(finished.code, Some(0), "{}", finished.stderr);
    serde_json::from_str(&finished.stdout).expect("JSON")
}

/// Waits until requests are in this state; returns them.
async fn events(hooks: &Hooks, state: &str, count: usize) -> Vec<Value> {
    let start = std::time::Instant::now();
    loop {
        let found = answer(webhooks(hooks, &format!("events --state {state}")).await);
        let events = found["events"].as_array().expect("a list").clone();
        if events.len() == count {
            return events;
        }
        assert!(start.elapsed() < crate::harness::DEADLINE, "{state}: {events:?}");
    }
}

#[tokio::test]
async fn what_was_given_up_is_listed_with_its_tries_and_sent_again() {
    let mut hooks = Hooks::start("", "name = \"main\"\nretry_for = \"1s\"").await;
    hooks.portal.answers(503, "not now");
    let mut client = WsClient::connect(hooks.server()).await;
    client.subscribe("news").await;
    let failed = events(&hooks, "failed", 1).await;
    assert_eq!((&failed[0]["name"], &failed[0]["state"]), (&json!("channel_occupied"), &json!("failed")));
    assert_eq!(failed[0]["events"], json!([occupied("news")]));
    assert_eq!(failed[0]["error"], "HTTP 503");
    let standing = answer(webhooks(&hooks, "list").await);
    let expected = json!({"app": "1001", "webhook": "main", "address": format!("http://{}", hooks.portal.addr()),
        "waiting": 0, "failed": 1, "oldest_seconds": 0.0,
        "held_back": 0, "dropped": 0});
    assert_eq!(standing["webhooks"], json!([expected]));
    let id = &failed[0]["id"];
    let tries = answer(webhooks(&hooks, &format!("attempts {id}")).await);
    let tries = tries["attempts"].as_array().expect("a list");
    assert!(!tries.is_empty());
    for one in tries {
        assert_eq!((&one["status"], &one["answer"]), (&json!(503), &json!("not now")));
        assert!(one["latency_ms"].is_u64() && one["at_ms"].is_u64());
    }
    while hooks.portal.passed().len() < tries.len() {
        tokio::task::yield_now().await;
    }

    let text = get(hooks.server().admin, "/metrics").await.expect_status(200).text();
    assert!(text.contains("switchboard_outbox_given_up_total 1\n"), "{text}");

    hooks.portal.answers(200, "{}");
    assert_eq!(answer(webhooks(&hooks, "retry").await), json!({"resent": 1}));
    let delivered = events(&hooks, "delivered", 1).await;
    assert_eq!(&delivered[0]["id"], id);
    assert_eq!(events(&hooks, "failed", 0).await, Vec::<Value>::new());
}

#[tokio::test]
async fn what_was_delivered_can_be_replayed() {
    let mut hooks = Hooks::start("", "").await;
    let mut client = WsClient::connect(hooks.server()).await;
    client.subscribe("a").await;
    client.subscribe("b").await;
    let first = [hooks.next().await, hooks.next().await];
    let delivered = events(&hooks, "delivered", 2).await;
    let tries = answer(webhooks(&hooks, &format!("attempts {}", delivered[0]["id"])).await);
    assert_eq!(tries["attempts"][0]["status"], 200);
    assert_eq!(
        answer(webhooks(&hooks, &format!("replay {}", delivered[1]["id"])).await),
        json!({"resent": 1})
    );
    assert_eq!(json!([hooks.next().await]), delivered[1]["events"]);
    events(&hooks, "delivered", 2).await;
    assert_eq!(answer(webhooks(&hooks, "replay --since 1h").await), json!({"resent": 2}));
    let again = [hooks.next().await, hooks.next().await];
    assert!(first.iter().all(|event| again.contains(event)));
    assert_eq!(webhooks(&hooks, "replay").await.code, Some(2), "all or which ones must be said");
    let unknown = webhooks(&hooks, "events --webhook other").await;
    assert!(
        unknown.code == Some(1) && unknown.stderr.contains("no webhook has this app and name"),
        "{}",
        unknown.stderr
    );
}

#[tokio::test]
async fn metrics_tell_what_waits_and_what_came_of_it() {
    let mut hooks = Hooks::start("", "name = \"main\"").await;
    let mut client = WsClient::connect(hooks.server()).await;
    client.subscribe("a").await;
    hooks.next().await;
    events(&hooks, "delivered", 1).await;
    let text = get(hooks.server().admin, "/metrics").await.expect_status(200).text();
    for line in [
        "switchboard_outbox_delivered_total 1",
        "switchboard_outbox_given_up_total 0",
        "switchboard_webhook_waiting{app=\"1001\",webhook=\"main\"} 0",
        "switchboard_webhook_failed{app=\"1001\",webhook=\"main\"} 0",
        "switchboard_webhook_held_back{app=\"1001\",webhook=\"main\"} 0",
        "switchboard_webhook_dropped_total{app=\"1001\",webhook=\"main\"} 0",
        "switchboard_webhook_lost_total 0",
        "switchboard_webhook_tracked 1",
        "switchboard_queue_depth{queue=\"webhooks\"} 0",
    ] {
        assert!(text.lines().any(|other| other == line), "{line} in\n{text}");
    }
}

#[tokio::test]
async fn the_admin_port_tells_strangers_nothing_of_webhooks() {
    let with_token =
        |config: crate::harness::server::Config| config.env("SWITCHBOARD__ADMIN__TOKEN", "hidden");
    let hooks = Hooks::with("", "", with_token).await;
    get(hooks.server().admin, "/webhooks").await.expect_status(401);
    get(hooks.server().admin, "/webhooks/events").await.expect_status(401);
    get(hooks.server().admin, "/live").await.expect_status(200);
}

/// A page in the operator's browser may send a form anywhere, and let its own name point here.
#[tokio::test]
async fn the_admin_port_without_a_token_takes_nothing_from_web_pages() {
    let hooks = Hooks::start("", "name = \"main\"").await;
    let admin = hooks.server().admin;
    let body = r#"{"app":"1001","webhook":"main","state":"failed"}"#;
    for (host, kind, status) in [
        ("127.0.0.1", "application/json", 200),
        ("localhost:9601", "application/json", 200),
        ("127.0.0.1", "text/plain", 415),
        ("attacker.example", "application/json", 403),
    ] {
        let request = format!(
            "POST /webhooks/resend HTTP/1.1\r\nHost: {host}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        exchange(admin, request).await.expect_status(status);
    }
}
