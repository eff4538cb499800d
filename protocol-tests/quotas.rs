//! How many connections an app and a server take, and how many channels a connection.

use std::time::Instant;

use crate::harness::DEADLINE;
use crate::harness::names::unique;
use crate::harness::server::{Config, TestServer};
use crate::harness::sign::App;
use crate::harness::ws::WsClient;

async fn open(server: &TestServer, app: &App) -> WsClient {
    WsClient::open(server.public, app, &format!("/app/{}?protocol=7", app.key), &[]).await
}

/// Connects as soon as a place that was given up is free.
async fn connect_soon(server: &TestServer, app: &App) -> WsClient {
    let start = Instant::now();
    loop {
        let mut client = open(server, app).await;
        let first = client.next().await;
        if first.event == "pusher:connection_established" {
            client.expect_nothing().await;
            return client;
        }
        assert!(start.elapsed() < DEADLINE, "still refused: {}", first.text);
    }
}

#[tokio::test]
async fn beyond_the_quota_of_an_app_clients_stop_with_4004_or_retry_with_4100() {
    let server = Config::new()
        .server("shards = 2")
        .app("1001", "max_connections = 2")
        .app("1002", "max_connections = 2\nover_quota = \"retry\"")
        .app("1003", "")
        .start();
    for (id, code) in [("1001", 4004), ("1002", 4100)] {
        let app = server.app_with_id(id);
        let mut first = WsClient::connect_to(&server, app).await;
        let second = WsClient::connect_to(&server, app).await;
        // Those who were turned away take nobody's place.
        for _ in 0..5 {
            open(&server, app).await.expect_refusal(code, "").await;
        }
        second.close().await;
        let mut third = connect_soon(&server, app).await;
        open(&server, app).await.expect_refusal(code, "").await;
        third.expect_nothing().await;
        third.reset();
        connect_soon(&server, app).await;
        first.expect_nothing().await;
    }
    let mut others = Vec::new();
    for _ in 0..5 {
        others.push(WsClient::connect_to(&server, server.app_with_id("1003")).await);
    }
}

#[tokio::test]
async fn beyond_the_limit_of_the_server_clients_retry_with_4100() {
    let server =
        Config::new().server("shards = 2\nmax_connections = 3").app("1001", "").app("1002", "").start();
    let mut clients = Vec::new();
    for id in ["1001", "1002", "1001"] {
        clients.push(WsClient::connect_to(&server, server.app_with_id(id)).await);
    }
    for id in ["1001", "1002"] {
        open(&server, server.app_with_id(id)).await.expect_refusal(4100, "").await;
    }
    // The HTTP API still answers.
    server.publish("news", "x", "{}").await;
    clients.remove(0).close().await;
    connect_soon(&server, server.app_with_id("1002")).await;
}

#[tokio::test]
async fn a_connection_may_be_subscribed_to_so_many_channels() {
    let server = Config::new().server("max_channels_per_connection = 3").start();
    let mut client = WsClient::connect(&server).await;
    let channels: Vec<String> = (0..3).map(|_| unique("news-")).collect();
    for channel in &channels {
        client.subscribe(channel).await;
    }
    for refused in [unique("news-"), unique("cache-")] {
        client.send_subscribe(&refused).await;
        client.expect_not_subscribed(&refused, "LimitReached", 4100, "3").await;
    }
    // A channel that is subscribed already is none too many.
    client.subscribe(&channels[1]).await;
    client.unsubscribe(&channels[0]).await;
    client.subscribe(&unique("news-")).await;
    server.publish(&channels[2], "x", "{}").await;
    client.expect("x").await;
}
