//! SIGHUP reads the configuration again: apps change at once, a faulty file changes nothing.

use serde_json::json;

use crate::harness::DEADLINE;
use crate::harness::http::Request;
use crate::harness::server::{Config, TestServer};
use crate::harness::ws::WsClient;

async fn open(server: &TestServer, key: &str) -> WsClient {
    let path = format!("/app/{key}?protocol=7");
    WsClient::open(server.public, server.app(), &path, &[]).await
}

/// A publish that must fail.
async fn refused(server: &TestServer, data: &str, status: u16) {
    let body = json!({"name": "e", "channel": "news", "data": data});
    Request::trigger(server.app(), &body).send(server.public).await.expect_status(status);
}

#[tokio::test]
async fn an_app_that_is_disabled_loses_its_connections_and_comes_back() {
    let server = Config::new().start();
    let key = server.app().key.clone();
    let mut client = WsClient::connect(&server).await;
    server
        .reload(|text| text.replace("[[apps]]", "[[apps]]\nenabled = false"), "configuration reloaded")
        .await;
    client.expect_refusal(4100, "disabled").await;
    open(&server, &key).await.expect_refusal(4100, "disabled").await;
    refused(&server, "{}", 403).await;

    // Another change does not end the pause, a restart does.
    let change = |text: String| text.replace("[[apps]]", "[[apps]]\nclient_events = \"members\"");
    server.reload(change, "configuration reloaded").await;
    open(&server, &key).await.expect_refusal(4100, "disabled").await;
    server.reload(|text| text.replace("enabled = false", ""), "configuration reloaded").await;
    let mut back = WsClient::connect(&server).await;
    back.subscribe("news").await;
    server.publish("news", "e", "{}").await;
    back.expect("e").await;
}

#[tokio::test]
async fn an_app_that_is_disabled_from_the_start_sends_clients_away_until_it_is_enabled() {
    let server = Config::new().app("1001", "enabled = false").start();
    let key = server.app().key.clone();
    open(&server, &key).await.expect_refusal(4003, "disabled").await;
    let change =
        |text: String| text.replace("enabled = false", "enabled = false\nclient_events = \"members\"");
    server.reload(change, "configuration reloaded").await;
    open(&server, &key).await.expect_refusal(4003, "disabled").await;
    server.reload(|text| text.replace("enabled = false", ""), "configuration reloaded").await;
    WsClient::connect(&server).await;
}

#[tokio::test]
async fn a_changed_app_keeps_its_connections() {
    let server = Config::new().start();
    let mut client = WsClient::connect(&server).await;
    client.subscribe("news").await;
    server
        .reload(|text| text.replace("[[apps]]", "[[apps]]\nevent_size = \"1KB\""), "configuration reloaded")
        .await;
    refused(&server, &"x".repeat(1025), 413).await;
    server.publish("news", "e", "{}").await;
    client.expect("e").await;
}

#[tokio::test]
async fn a_faulty_file_changes_nothing_and_every_problem_is_logged() {
    let server = Config::new().start();
    let mut client = WsClient::connect(&server).await;
    client.subscribe("news").await;
    server
        .reload(|text| text.replace("[[apps]]", "[[apps]]\nenabled = false\nnonsense = 1"), "nonsense")
        .await;
    assert!(server.output().contains("configuration not reloaded"), "{}", server.output());
    server.publish("news", "e", "{}").await;
    client.expect("e").await;
}

#[tokio::test]
async fn what_needs_a_restart_is_named() {
    let server = Config::new().start();
    let change = |text: String| text.replace("[[apps]]", "[[apps]]\nevent_size = \"1KB\"");
    server.reload(change, "configuration reloaded").await;
    assert!(server.output().contains("needs_restart=[]"), "{}", server.output());
    let change = |text: String| text.replace("[server]", "[server]\nmax_connections = 77");
    server.reload(change, "configuration reloaded").await;
    assert!(server.output().contains(r#"needs_restart=["server"]"#), "{}", server.output());
}

/// What the last review of connections says that it closed.
fn closed(server: &TestServer) -> String {
    let output = server.output();
    let line = output.lines().rfind(|line| line.contains("new settings would refuse")).unwrap_or_default();
    line.to_owned()
}

const REVIEWED: &str = "new settings would refuse";

#[tokio::test]
async fn a_secret_that_is_gone_ends_what_it_authorized() {
    let server = Config::new().start();
    let secret = server.app().secret.clone();
    let old = format!("secrets = [\"{secret}\"]");
    let mut clients = Vec::new();
    for _ in 0..4 {
        clients.push(WsClient::connect(&server).await);
    }
    let [public, private, presence, user] = &mut clients[..] else { unreachable!() };
    public.subscribe("news").await;
    private.subscribe("private-news").await;
    presence.join_as("presence-room", "1").await;
    user.sign_in(r#"{"id":"7"}"#).await;
    // A new secret in front of the old one ends nothing.
    let both = format!("secrets = [\"new\", \"{secret}\"]");
    server.reload(|text| text.replace(&old, &both), "configuration reloaded").await;
    for client in [&mut *public, &mut *private, &mut *presence, &mut *user] {
        client.expect_nothing().await;
    }
    server.reload(|text| text.replace(&both, "secrets = [\"new\"]"), REVIEWED).await;
    for client in [private, presence, user] {
        client.wait_for_close(DEADLINE).await;
    }
    public.expect_nothing().await;
    assert!(closed(&server).contains("connections=3"), "{}", server.output());
}

#[tokio::test]
async fn a_page_whose_origin_is_not_listed_any_more_is_closed() {
    let server = Config::new().start();
    let path = format!("/app/{}?protocol=7", server.app().key);
    let page = async |origin| {
        WsClient::open(server.public, server.app(), &path, &[("Origin", origin)]).await.established().await
    };
    let (mut listed, mut other) = (page("https://portal.example").await, page("https://evil.example").await);
    let mut without = WsClient::connect(&server).await;
    let change =
        |text: String| text.replace("[[apps]]", "[[apps]]\nallowed_origins = [\"https://portal.example\"]");
    server.reload(change, REVIEWED).await;
    other.expect_close(4200).await;
    without.wait_for_close(DEADLINE).await;
    listed.expect_nothing().await;
    assert!(closed(&server).contains("connections=2"), "{}", server.output());
}

#[tokio::test]
async fn who_came_without_tls_is_closed_when_the_app_requires_it() {
    let server = Config::new().server("trusted_proxies = [\"127.0.0.0/8\"]").start();
    let path = format!("/app/{}?protocol=7", server.app().key);
    let came = async |scheme| {
        let headers = [("X-Forwarded-Proto", scheme)];
        WsClient::open(server.public, server.app(), &path, &headers).await.established().await
    };
    let (mut secure, mut plain) = (came("https").await, came("http").await);
    server.reload(|text| text.replace("[[apps]]", "[[apps]]\ntls_only = true"), REVIEWED).await;
    plain.wait_for_close(DEADLINE).await;
    secure.expect_nothing().await;
}

#[tokio::test]
async fn another_rate_of_client_events_holds_for_living_connections() {
    let server = Config::new().app("1001", "client_events = \"members\"\nclient_event_rate = 1").start();
    let mut client = WsClient::connect(&server).await;
    client.subscribe("private-news").await;
    let event = json!({"event": "client-e", "channel": "private-news", "data": {}});
    client.send_json(&event).await;
    client.send_json(&event).await;
    client.expect_error(4301, "1 per second").await;
    let change = |text: String| text.replace("client_event_rate = 1", "client_event_rate = 1000");
    server.reload(change, "configuration reloaded").await;
    for _ in 0..500 {
        client.send_json(&event).await;
    }
    client.expect_nothing().await;
}
