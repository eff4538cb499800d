//! What of the server's room one address and one app may take.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpStream;

use crate::harness::http::{exchange, get};
use crate::harness::server::{Config, TestServer};
use crate::harness::sign::App;
use crate::harness::ws::WsClient;
use crate::harness::{DEADLINE, within};

/// Opens a connection as a client of this address does, through a trusted proxy.
async fn open_from(server: &TestServer, app: &App, address: &str) -> WsClient {
    let path = format!("/app/{}?protocol=7", app.key);
    WsClient::open(server.public, app, &path, &[("X-Forwarded-For", address)]).await
}

async fn connect_from(server: &TestServer, address: &str) -> WsClient {
    open_from(server, server.app(), address).await.established().await
}

async fn refused_from(server: &TestServer, address: &str, why: &str) {
    open_from(server, server.app(), address).await.expect_refusal(4100, why).await;
}

#[tokio::test]
async fn an_address_has_so_many_connections_and_a_bystander_gets_in() {
    let server = Config::new().tables("[server.admission]\naddress_connections = 3").start();
    let mut mine = Vec::new();
    for _ in 0..3 {
        mine.push(connect_from(&server, "203.0.113.7").await);
    }
    for _ in 0..5 {
        refused_from(&server, "203.0.113.7", "Too many connections from this address").await;
    }
    // What stands before the proxy's own entry comes from the client.
    refused_from(&server, "198.51.100.1, 203.0.113.7", "address").await;
    connect_from(&server, "203.0.113.8").await;
    // Backends and the operator's own machines have loopback and private addresses.
    for _ in 0..10 {
        mine.push(WsClient::connect(&server).await);
        mine.push(connect_from(&server, "10.1.2.3").await);
    }
    mine.remove(0).close().await;
    let start = std::time::Instant::now();
    loop {
        let mut client = open_from(&server, server.app(), "203.0.113.7").await;
        if client.next().await.event == "pusher:connection_established" {
            break;
        }
        assert!(start.elapsed() < DEADLINE, "a place that was given up is never free");
    }
    let metrics = get(server.admin, "/metrics").await.text();
    assert!(!metrics.contains("switchboard_connections_refused_total{limit=\"address_connections\"} 0"));
}

#[tokio::test]
async fn an_ipv6_network_of_one_subscriber_counts_as_one_address() {
    let server = Config::new().tables("[server.admission]\naddress_connections = 2").start();
    let _one = connect_from(&server, "2001:db8:1:2::1").await;
    let _two = connect_from(&server, "2001:db8:1:2:a:b:c:d").await;
    refused_from(&server, "2001:db8:1:2:ffff::1", "address").await;
    connect_from(&server, "2001:db8:1:3::1").await;
}

#[tokio::test]
async fn an_address_opens_so_many_connections_in_a_second() {
    let server = Config::new().tables("[server.admission]\naddress_rate = 1\naddress_burst = 3").start();
    let mut refused = 0;
    for _ in 0..20 {
        let mut client = open_from(&server, server.app(), "203.0.113.7").await;
        if client.next().await.event == "pusher:error" {
            refused += 1;
        }
    }
    assert!(refused >= 10, "{refused} of 20 were refused");
    connect_from(&server, "203.0.113.8").await;
}

#[tokio::test]
async fn sockets_of_one_address_that_say_nothing_take_no_ones_place() {
    let lines = "address_connections = 5\nexempt = []";
    let server = Config::new()
        .server("trusted_proxies = [\"10.0.0.0/8\"]\nshards = 2")
        .tables(&format!("[server.admission]\n{lines}"))
        .start();
    let bystander: SocketAddr = ([127, 0, 0, 9], 0).into();
    let mut silent = Vec::new();
    for _ in 0..500 {
        silent.push(TcpStream::connect(server.public).await.expect("the system accepts"));
    }
    let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
    socket.bind(bystander).expect("every 127.x is ours");
    let stream = within(DEADLINE, "a connection", socket.connect(server.public)).await.expect("accepted");
    let request = format!("ws://{}/app/{}?protocol=7", server.public, server.app().key);
    let opened = within(DEADLINE, "an upgrade", tokio_tungstenite::client_async(request, stream)).await;
    opened.expect("a bystander is served");
    // 5 and 256 more are open, the others were closed at once.
    let mut closed = 0;
    for stream in &silent {
        let mut byte = [0];
        let outcome = tokio::time::timeout(Duration::from_millis(1), stream.peek(&mut byte)).await;
        closed += usize::from(matches!(outcome, Ok(Ok(0) | Err(_))));
    }
    assert!(closed >= 200, "{closed} of 500 were closed");
}

#[tokio::test]
async fn a_flooded_app_leaves_the_others_their_part() {
    let server =
        Config::new().server("max_connections = 20\nshards = 2").app("1001", "").app("1002", "").start();
    let (flooded, other) = (server.app_with_id("1001"), server.app_with_id("1002"));
    let path = format!("/app/{}?protocol=7", flooded.key);
    let mut flood = Vec::new();
    for _ in 0..18 {
        flood.push(WsClient::open(server.public, flooded, &path, &[]).await.established().await);
    }
    WsClient::open(server.public, flooded, &path, &[]).await.expect_refusal(4100, "no more room").await;
    let mut others = Vec::new();
    for _ in 0..2 {
        others.push(WsClient::connect_to(&server, other).await);
    }
}

#[tokio::test]
async fn health_checks_are_answered_however_many_sockets_say_nothing() {
    let server = Config::new().server("max_connections = 10\nshards = 2").start();
    let mut clients = Vec::new();
    for _ in 0..10 {
        clients.push(WsClient::connect(&server).await);
    }
    let mut silent = Vec::new();
    for number in 0..1_500 {
        let mut stream = TcpStream::connect(server.public).await.expect("the system accepts");
        if number % 2 == 0 {
            let _ = tokio::io::AsyncWriteExt::write_all(&mut stream, b"GET /live HTTP/1.1\r\nX: ").await;
        }
        silent.push(stream);
        if number % 100 == 0 {
            for path in ["/live", "/ready"] {
                get(server.public, path).await.expect_status(200);
                get(server.admin, path).await.expect_status(200);
            }
        }
    }
    server.publish("news", "x", "{}").await;
    for client in &mut clients {
        client.expect_nothing().await;
    }
}

#[tokio::test]
async fn the_operators_port_is_answered_however_many_sockets_say_nothing_there() {
    let server = Config::new().start();
    let mut silent = Vec::new();
    for _ in 0..400 {
        silent.push(TcpStream::connect(server.admin).await.expect("the system accepts"));
    }
    get(server.admin, "/live").await.expect_status(200);
    exchange(server.admin, "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .await
        .expect_status(200);
}

#[test]
fn the_keys_of_admission_are_checked() {
    let wrong =
        "[server.admission]\naddress_burst = 0\napp_reserve = 101\nexempt = [\"here\"]\naddress_rat = 1";
    let refusal = Config::new().app("1001", "").tables(wrong).refusal();
    assert_eq!(refusal.code, Some(2), "{}", refusal.stderr);
    for part in ["address_burst", "app_reserve", "exempt", "did you mean server.admission.address_rate?"] {
        assert!(refusal.stderr.contains(part), "{part}: {}", refusal.stderr);
    }
}
