//! One budget for what clients and backends make the process keep.

use std::time::Instant;

use crate::harness::DEADLINE;
use crate::harness::http::{HttpConnection, Request, get};
use crate::harness::raw_ws::RawWs;
use crate::harness::server::{Config, TestServer};
use crate::harness::watcher::Watcher;

fn tight() -> TestServer {
    Config::new().server("memory = \"16MB\"\nshards = 2").start()
}

/// The head of a masked text frame, and the first bytes of its payload. The rest never comes.
fn unfinished_message(length: u64, sent: usize) -> Vec<u8> {
    let mut bytes = vec![0x81, 0x80 | 127];
    bytes.extend(length.to_be_bytes());
    bytes.extend([0; 4]);
    bytes.resize(14 + sent, b'x');
    bytes
}

async fn sample(server: &TestServer, name: &str) -> f64 {
    let text = get(server.admin, "/metrics").await.text();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no {name}"))
}

#[tokio::test]
async fn messages_that_never_end_cost_those_who_send_them_their_connection_and_nobody_else() {
    let server = tight();
    let mut watcher = Watcher::on(&server, "news").await;
    // A little is unfinished everywhere.
    let mut modest = RawWs::connect(server.public, server.app()).await;
    modest.established().await;
    modest.write(&unfinished_message(200_000, 1_000)).await;
    let mut greedy = Vec::new();
    for _ in 0..150 {
        let mut client = RawWs::connect(server.public, server.app()).await;
        client.established().await;
        client.try_write(&unfinished_message(200_000, 190_000)).await;
        greedy.push(client);
    }
    let start = Instant::now();
    while sample(&server, "switchboard_memory_closed_total").await < 60.0
        || sample(&server, "switchboard_memory_used_bytes").await > f64::from(16 << 20)
    {
        assert!(start.elapsed() < DEADLINE, "nobody is closed");
    }
    let closed = sample(&server, "switchboard_memory_closed_total").await;
    assert!(closed < 90.0, "only as many are closed as must be, not {closed}");
    server.publish("news", "e", "1").await;
    watcher.expect("e", "1").await;
    modest.write(&[b'x'; 199_000]).await;
    assert!(modest.expect_text().await.contains("pusher:error"), "it is read to its end and answered");
}

#[tokio::test]
async fn bodies_that_never_end_cost_those_who_send_them_their_connection_and_nobody_else() {
    let server = tight();
    let mut watcher = Watcher::on(&server, "news").await;
    let request = Request::post(server.app(), &server.app().path("events"), vec![b'x'; 6_000_000]).bytes();
    let mut greedy = Vec::new();
    for _ in 0..6 {
        let mut backend = HttpConnection::connect(server.public).await;
        backend.try_write(&request[..request.len() - 100]).await;
        greedy.push(backend);
    }
    let start = Instant::now();
    while sample(&server, "switchboard_memory_closed_total").await == 0.0 {
        assert!(start.elapsed() < DEADLINE, "nobody is closed");
    }
    server.publish("news", "e", "1").await;
    watcher.expect("e", "1").await;
    assert!(sample(&server, "switchboard_memory_used_bytes").await <= f64::from(16 << 20));
}

#[tokio::test]
async fn events_that_wait_for_those_who_do_not_read_are_within_the_budget() {
    let server =
        Config::new().server("memory = \"16MB\"\nbacklog_max_age = \"1h\"\nbacklog_limit = \"64MB\"").start();
    let mut watcher = Watcher::on(&server, "news").await;
    let mut sleepers = Vec::new();
    for _ in 0..20 {
        let mut client = RawWs::connect_with_small_buffer(server.public, server.app(), 16 * 1024).await;
        client.established().await;
        client.write_text(r#"{"event":"pusher:subscribe","data":{"channel":"news"}}"#).await;
        assert!(client.expect_text().await.contains("subscription_succeeded"));
        sleepers.push(client);
    }
    let data = "x".repeat(100_000);
    // 20 copies of this would be too much, one is not.
    for _ in 0..20 {
        server.publish("news", "e", &data).await;
        watcher.expect("e", &data).await;
    }
    let closed = sample(&server, "switchboard_memory_closed_total").await;
    assert_eq!(closed, 0.0, "one copy waits for all of them");
    for _ in 0..250 {
        server.publish("news", "e", &data).await;
        watcher.expect("e", &data).await;
    }
    let start = Instant::now();
    while sample(&server, "switchboard_memory_closed_total").await < 20.0 {
        assert!(start.elapsed() < DEADLINE, "nobody is closed");
    }
    server.publish("news", "e", "1").await;
    watcher.expect("e", "1").await;
}
