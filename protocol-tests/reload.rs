//! SIGHUP reads the configuration again: apps change at once, a faulty file changes nothing.

use serde_json::json;

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
    let change = |text: String| text.replace("[server]", "[server]\nmax_connections = 77");
    server.reload(change, "configuration reloaded").await;
    assert!(server.output().contains(r#"needs_restart=["server"]"#), "{}", server.output());
}
