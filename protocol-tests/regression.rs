//! Faults that were found once and must not come back.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::DEADLINE;
use crate::harness::http::{HttpConnection, Request, get};
use crate::harness::names::unique;
use crate::harness::raw_ws::{RawWs, frame};
use crate::harness::server::Config;
use crate::harness::shared::shared;
use crate::harness::ws::WsClient;

/// One client that comes and goes in a crowded channel caused more announcements than could be sent, without
/// a bound, until publishing was refused for everybody.
#[tokio::test]
async fn a_client_that_comes_and_goes_does_not_keep_others_from_publishing() {
    const CROWD: usize = 300;
    let server = Config::new().app("1001", "subscription_count = true").start();
    let channel = unique("crowded");
    let mut crowd = Vec::new();
    for _ in 0..CROWD {
        let mut client = WsClient::connect(&server).await;
        client.send_subscribe(&channel).await;
        crowd.push(client);
    }
    let readers: Vec<_> = crowd
        .into_iter()
        .map(|mut client| {
            tokio::spawn(async move {
                loop {
                    client.next_message(DEADLINE).await;
                }
            })
        })
        .collect();

    let mut flood = RawWs::connect(server.public, server.app()).await;
    let subscribe = json!({"event": "pusher:subscribe", "data": {"channel": channel}}).to_string();
    let unsubscribe = json!({"event": "pusher:unsubscribe", "data": {"channel": channel}}).to_string();
    let turn = [frame(1, true, subscribe.as_bytes()), frame(1, true, unsubscribe.as_bytes())].concat();
    let flooding = tokio::spawn(async move { while flood.try_write(&turn.repeat(400)).await {} });

    // Long enough for the flood to pile up where nothing bounds it; each answer has to come.
    let start = Instant::now();
    let mut published = 0;
    while published < 6 || start.elapsed() < Duration::from_secs(2) {
        let body = json!({"name": "e", "channel": "elsewhere", "data": "{}"});
        Request::trigger(server.app(), &body).send(server.public).await.expect_ok("{}");
        published += 1;
    }
    flooding.abort();
    readers.iter().for_each(tokio::task::JoinHandle::abort);
    server.expect_alive();
}

/// The load of a shard was counted when a WebSocket was attached, so a burst of connections went to one shard.
#[tokio::test]
async fn a_burst_of_connections_is_spread_over_the_shards() {
    let server = Config::new().server("shards = 4").start();
    let mut connections = Vec::new();
    for _ in 0..100 {
        connections.push(HttpConnection::connect(server.public).await);
    }
    let start = Instant::now();
    loop {
        let metrics = get(server.admin, "/metrics").await.text();
        let sockets: Vec<usize> = metrics
            .lines()
            .filter_map(|line| line.strip_prefix("switchboard_shard_sockets{"))
            .filter_map(|line| line.rsplit_once(' ')?.1.parse().ok())
            .collect();
        if sockets.iter().sum::<usize>() == 100 {
            assert_eq!(sockets, [25; 4]);
            return;
        }
        assert!(start.elapsed() < DEADLINE, "{metrics}");
    }
}

/// Bodies of unsigned requests were kept in memory until the signature was looked at.
#[tokio::test]
async fn a_strangers_body_is_not_waited_for() {
    let server = shared();
    let mut connection = HttpConnection::connect(server.public).await;
    connection
        .write("POST /apps/1001/events?auth_key=x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5000000\r\n\r\n")
        .await;
    connection.response().await.expect_error(401, "auth_key");
}

/// Parameters were compared each with each.
#[tokio::test]
async fn a_query_of_very_many_parameters_is_refused() {
    let server = shared();
    let query = (0..2_000).map(|n| format!("{n}[]=")).collect::<Vec<_>>().join("&");
    get(server.public, &format!("/apps/1001/channels?{query}")).await.expect_error(400, "at most 100");
}

/// Any text passed as the key of a WebSocket handshake.
#[tokio::test]
async fn a_handshake_with_a_broken_key_is_refused() {
    let server = shared();
    let mut connection = HttpConnection::connect(server.public).await;
    connection
        .write(
            "GET /app/x HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: short\r\n\r\n",
        )
        .await;
    connection.response().await.expect_error(400, "Sec-WebSocket-Key");
}

/// Half a surrogate pair in one member's `user_info` made the member list unreadable for strict clients.
#[tokio::test]
async fn user_info_with_half_a_surrogate_pair_is_refused() {
    let server = shared();
    let mut client = WsClient::connect(&server).await;
    let channel = unique("presence-room");
    client.send_subscribe_presence(&channel, r#"{"user_id":"1","user_info":{"name":"\ud800"}}"#).await;
    client.expect("pusher:subscription_error").await;
    client.expect_error(None, "half a surrogate pair").await;
}

/// The digest of a request left out which endpoint it was for.
#[tokio::test]
async fn an_idempotency_key_of_a_batch_is_not_one_of_an_event() {
    let server = shared();
    let key = unique("key");
    let body = json!({"batch": [], "name": "e", "channel": "news", "data": "{}", "idempotency_key": key})
        .to_string();
    let app = server.app();
    Request::post(app, &app.path("batch_events"), body.clone()).send(server.public).await.expect_ok("{}");
    Request::post(app, &app.path("events"), body)
        .send(server.public)
        .await
        .expect_error(409, "idempotency key");
}
