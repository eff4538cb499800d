//! How the server ends: SIGTERM spreads the closes, a second signal or SIGINT stops at once.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::harness::http::{HttpConnection, Request, get};
use crate::harness::raw_ws::RawWs;
use crate::harness::server::{Config, TestServer};
use crate::harness::ws::WsClient;
use crate::harness::{DEADLINE, within};

/// Waits until the server says that it is not ready.
async fn not_ready(server: &TestServer) {
    let start = Instant::now();
    while get(server.public, "/ready").await.status != 503 {
        assert!(start.elapsed() < DEADLINE, "still ready");
    }
}

async fn open(server: &TestServer) -> WsClient {
    let path = format!("/app/{}?protocol=7", server.app().key);
    WsClient::open(server.public, server.app(), &path, &[]).await
}

#[tokio::test]
async fn established_connections_are_closed_evenly_over_the_window() {
    const CLIENTS: usize = 300;
    const WINDOW: Duration = Duration::from_secs(2);
    let server = Config::new().drain("window = \"2s\"").start();
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        clients.push(WsClient::connect(&server).await);
    }
    let start = Instant::now();
    let waiting: Vec<_> = clients
        .into_iter()
        .map(|mut client| {
            tokio::spawn(async move {
                let close = client.wait_for_close(DEADLINE).await;
                (start.elapsed(), u16::from(close.code))
            })
        })
        .collect();
    server.signal(Signal::TERM);
    let mut times = Vec::new();
    for waiting in waiting {
        let (time, code) = waiting.await.expect("a Close");
        assert_eq!(code, 4100);
        times.push(time);
    }
    assert_eq!(server.exit_status(DEADLINE).await.code(), Some(0));

    let in_quarter = |quarter: u32| {
        let (from, to) = (WINDOW / 4 * quarter, WINDOW / 4 * (quarter + 1));
        times.iter().filter(|time| (from..to).contains(*time)).count()
    };
    let quarters = [0, 1, 2, 3].map(in_quarter);
    // Even would be 75 each; a loaded machine is late.
    assert!(quarters.iter().all(|count| (25..=150).contains(count)), "{quarters:?}");
    let last = times.iter().max().expect("some");
    assert!(*last < WINDOW + Duration::from_secs(2), "{last:?}");
}

#[tokio::test]
async fn while_draining_the_server_is_live_and_not_ready_and_turns_newcomers_away() {
    let server = Config::new().drain("window = \"10m\"").start();
    for addr in [server.public, server.admin] {
        get(addr, "/ready").await.expect_status(200);
    }
    let mut kept = HttpConnection::connect(server.public).await;
    kept.write("GET /live HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    kept.response().await.expect_status(200);
    let mut clients = Vec::new();
    for _ in 0..20 {
        clients.push(WsClient::connect(&server).await);
    }
    server.signal(Signal::TERM);
    not_ready(&server).await;
    for addr in [server.public, server.admin] {
        get(addr, "/ready").await.expect_status(503);
        assert_eq!(get(addr, "/live").await.expect_status(200).text(), "OK");
    }
    let mut newcomer = open(&server).await;
    newcomer.expect_error(4100, "").await;
    newcomer.expect_close(4100).await;
    server.expect_alive();

    // A kept-alive connection is led elsewhere.
    kept.write("GET /live HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert_eq!(kept.response().await.expect_status(200).header("connection"), Some("close"));
    kept.expect_end().await;

    // The established ones work until it is their turn.
    let mut last = clients.pop().expect("one");
    last.send_subscribe("news").await;
    last.expect_subscribed("news").await;
    server.publish("news", "e", "1").await;
    assert_eq!(last.expect("e").await.data(), "1");

    server.signal(Signal::TERM);
    server.exit_status(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn the_close_code_is_a_setting() {
    let server = Config::new().drain("window = \"100ms\"\nclose_code = 4200").start();
    let mut client = WsClient::connect(&server).await;
    server.signal(Signal::TERM);
    assert_eq!(u16::from(client.wait_for_close(DEADLINE).await.code), 4200);
    assert_eq!(server.exit_status(DEADLINE).await.code(), Some(0));
}

#[tokio::test]
async fn by_default_all_are_closed_at_once_with_4100() {
    let server = Config::new().start();
    let mut client = WsClient::connect(&server).await;
    server.signal(Signal::TERM);
    assert_eq!(u16::from(client.wait_for_close(DEADLINE).await.code), 4100);
    assert_eq!(server.exit_status(DEADLINE).await.code(), Some(0));
}

#[tokio::test]
async fn without_connections_there_is_nothing_to_wait_for() {
    let server = Config::new().drain("window = \"10m\"").start();
    server.signal(Signal::TERM);
    assert_eq!(server.exit_status(DEADLINE).await.code(), Some(0));
}

#[tokio::test]
async fn the_server_ends_when_the_last_client_has_left_by_itself() {
    let server = Config::new().drain("window = \"10m\"").start();
    let client = WsClient::connect(&server).await;
    let mut idle = HttpConnection::connect(server.public).await;
    idle.write("GET /live HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    idle.response().await.expect_status(200);
    server.signal(Signal::TERM);
    not_ready(&server).await;
    client.close().await;
    assert_eq!(server.exit_status(DEADLINE).await.code(), Some(0));
}

#[tokio::test]
async fn a_request_under_way_is_answered_before_the_server_ends() {
    let server = Config::new().drain("window = \"10m\"").start();
    let body = r#"{"name":"e","channel":"news","data":"1"}"#;
    let bytes =
        Request::post(server.app(), "/apps/1001/events", body).header("Expect", "100-continue").bytes();
    let (head, body) = bytes.split_at(bytes.len() - body.len());
    let mut publisher = HttpConnection::connect(server.public).await;
    publisher.write(head).await;
    publisher.response().await.expect_status(100);
    server.signal(Signal::TERM);
    not_ready(&server).await;
    publisher.write(body).await;
    publisher.response().await.expect_ok("{}");
    assert_eq!(server.exit_status(DEADLINE).await.code(), Some(0));
}

#[tokio::test]
async fn a_client_that_does_not_answer_its_close_does_not_keep_the_server() {
    let server = Config::new().drain("window = \"100ms\"").start();
    let mut silent = RawWs::connect(server.public, server.app()).await;
    silent.expect_text().await;
    server.signal(Signal::TERM);
    assert_eq!(silent.wait_for_close(DEADLINE).await, 4100);
    assert_eq!(server.exit_status(DEADLINE).await.code(), Some(0));
    assert!(server.output().contains("drained"), "{}", server.output());
}

#[tokio::test]
async fn a_second_signal_stops_at_once() {
    for second in [Signal::TERM, Signal::INT] {
        let server = Config::new().drain("window = \"10m\"").start();
        let mut clients = Vec::new();
        for _ in 0..10 {
            clients.push(WsClient::connect(&server).await);
        }
        server.signal(Signal::TERM);
        not_ready(&server).await;
        server.expect_alive();
        server.signal(second);
        server.exit_status(Duration::from_secs(5)).await;
    }
}

#[tokio::test]
async fn an_interrupt_stops_without_draining() {
    let server = Config::new().drain("window = \"10m\"").start();
    let mut client = WsClient::connect(&server).await;
    server.signal(Signal::INT);
    assert_eq!(server.exit_status(Duration::from_secs(5)).await.code(), Some(0));
    // The client is told, so that its library reconnects as after any passing condition.
    let close = within(DEADLINE, "a Close", client.wait_for_close(DEADLINE)).await;
    assert_eq!(u16::from(close.code), 4100);
}

#[tokio::test]
async fn signals_that_nobody_means_for_the_server_do_nothing() {
    let server = Config::new().start();
    let mut client = WsClient::connect(&server).await;
    for signal in [Signal::USR1, Signal::USR2, Signal::ALARM, Signal::VTALARM, Signal::PROF, Signal::IO] {
        server.signal(signal);
        client.expect_nothing().await;
        assert_eq!(get(server.public, "/live").await.status, 200, "{signal:?}");
    }
}
