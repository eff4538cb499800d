//! Opening a connection: the URL, the first frame, and how a connection is turned away.

use std::collections::HashSet;
use std::time::Duration;

use crate::harness::http::{HttpConnection, exchange, get};
use crate::harness::names::unique;
use crate::harness::raw_ws::{self, RawWs, frame, upgrade_request};
use crate::harness::server::{Config, TestServer};
use crate::harness::shared::{DISABLED, SharedServer, shared};
use crate::harness::ws::WsClient;
use crate::harness::{DEADLINE, within};

/// Listens behind a path prefix and tells an activity timeout of its own.
static PREFIXED: SharedServer =
    SharedServer::new(|| Config::new().server("path_prefix = \"/ws\"\nactivity_timeout = \"7s\""));

async fn open(server: &TestServer, path: &str) -> WsClient {
    WsClient::open(server.public, server.app(), path, &[]).await
}

async fn open_with_query(server: &TestServer, query: &str) -> WsClient {
    open(server, &format!("/app/{}{query}", server.app().key)).await
}

fn is_decimal(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_digit())
        && (text == "0" || !text.starts_with('0'))
}

#[tokio::test]
async fn the_first_frame_is_connection_established() {
    let server = shared();
    let mut client = open_with_query(&server, "?protocol=7&client=js&version=8.6.0&flash=false").await;
    let first = client.next().await;
    let socket_id = first.json()["socket_id"].as_str().unwrap().to_owned();
    assert_eq!(
        first.text,
        format!(
            r#"{{"event":"pusher:connection_established","data":"{{\"socket_id\":\"{socket_id}\",\"activity_timeout\":120}}"}}"#
        )
    );
    client.expect_nothing().await;
}

#[tokio::test]
async fn socket_ids_are_two_decimal_numbers_and_never_alike() {
    let server = shared();
    let mut seen = HashSet::new();
    let mut clients = Vec::new();
    for _ in 0..100 {
        let client = WsClient::connect(&server).await;
        let (high, low) = client.socket_id.split_once('.').expect("a dot");
        assert!(is_decimal(high) && is_decimal(low), "{}", client.socket_id);
        assert!(seen.insert(client.socket_id.clone()), "{} came twice", client.socket_id);
        clients.push(client);
    }
}

#[tokio::test]
async fn the_configured_activity_timeout_is_told_in_seconds() {
    let server = PREFIXED.get();
    assert_eq!(WsClient::connect(&server).await.activity_timeout, 7);
}

#[tokio::test]
async fn every_protocol_version_from_4_to_7_and_none_at_all_are_accepted() {
    let server = shared();
    for query in [
        "?protocol=4",
        "?protocol=5&client=java-client&version=2.4.4",
        "?protocol=5&client=pusher-dotnet-client&version=2.1.0",
        "?protocol=6",
        "?protocol=7&client=pusher-websocket-swift&version=10.1.10",
        "?protocol=7&client=js&version=not-a-version&flash=true&unknown=1&empty=&flag",
        "?client=js&version=8.6.0",
        "?Protocol=99&PROTOCOL=99",
        "?Protocol=99&protocol=7",
        "?",
        "",
    ] {
        let mut client = open_with_query(&server, query).await.established().await;
        client.expect_nothing().await;
    }
}

#[tokio::test]
async fn other_protocol_versions_are_refused_with_4007() {
    let server = shared();
    for protocol in ["99", "8", "3", "0", "-7", "7.0", "seven", "", "7%20", "18446744073709551623"] {
        let mut client = open_with_query(&server, &format!("?protocol={protocol}")).await;
        client.expect_refusal(4007, "rotocol").await;
    }
}

#[tokio::test]
async fn an_unknown_key_is_upgraded_and_refused_with_4001() {
    let server = shared();
    let mut client = open(&server, "/app/nokey?protocol=7").await;
    client
        .expect_text(
            r#"{"event":"pusher:error","data":{"code":4001,"message":"App key nokey does not exist."}}"#,
        )
        .await;
    let close = client.expect_close(4001).await;
    assert_eq!(close.reason.as_str(), "App key nokey does not exist.");
}

#[tokio::test]
async fn an_unknown_key_is_told_whole() {
    let server = shared();
    let key = unique(&"x".repeat(500));
    open(&server, &format!("/app/{key}")).await.expect_refusal(4001, &key).await;
}

#[tokio::test]
async fn a_close_reason_never_exceeds_what_a_control_frame_holds() {
    let server = shared();
    for key in ["x".repeat(2000), "%C3%A9".repeat(300), "%F0%9F%90%98".repeat(200), "%FF".repeat(300)] {
        open(&server, &format!("/app/{key}")).await.expect_refusal(4001, "App key ").await;
    }
}

#[tokio::test]
async fn a_disabled_app_is_refused_with_4003() {
    let server = shared();
    let key = &server.app_with_id(DISABLED).key;
    open(&server, &format!("/app/{key}?protocol=7")).await.expect_refusal(4003, "disabled").await;
}

#[tokio::test]
async fn an_upgrade_anywhere_but_at_an_app_is_refused_with_4005() {
    let server = shared();
    let key = &server.app().key;
    for path in ["/", "/app", "/nowhere", &format!("/application/{key}"), &format!("/app/{key}/more")] {
        open(&server, path).await.expect_refusal(4005, "ath").await;
    }
}

#[tokio::test]
async fn a_refused_client_that_never_answers_the_close_is_cut_off() {
    let server = shared();
    let mut client = RawWs::open(server.public, upgrade_request("nokey")).await;
    client.write_text(r#"{"event":"pusher:subscribe","data":{"channel":"news"}}"#).await;
    assert!(client.expect_text().await.starts_with(r#"{"event":"pusher:error""#));
    assert_eq!(client.next(DEADLINE).await.and_then(|frame| frame.close_code()), Some(4001));
    client.wait_for_end(DEADLINE).await;
}

#[tokio::test]
async fn only_the_subprotocol_of_the_protocol_is_picked() {
    let server = shared();
    let path = format!("/app/{}?protocol=7", server.app().key);
    let offer = |value: &'static str| {
        let (path, server) = (path.clone(), &server);
        async move {
            let request = upgrade_request("").replacen("/app/?", &format!("{path}&"), 1);
            let request =
                request.replacen("\r\n\r\n", &format!("\r\nSec-WebSocket-Protocol: {value}\r\n\r\n"), 1);
            let mut connection = HttpConnection::connect(server.public).await;
            connection.write(request).await;
            let answer = connection.response().await.expect_status(101);
            answer.header("sec-websocket-protocol").map(str::to_owned)
        }
    };
    let ours = Some("pusher-channels-protocol-7".to_owned());
    assert_eq!(offer("pusher-channels-protocol-7").await, ours);
    assert_eq!(offer("chat, pusher-channels-protocol-7").await, ours);
    assert_eq!(offer("chat").await, None);
    assert_eq!(offer("PUSHER-channels-protocol-7").await, None);
    assert_eq!(offer("pusher-channels-protocol-8, graphql-ws").await, None);
}

#[tokio::test]
async fn compression_is_declined() {
    let server = shared();
    let path = format!("/app/{}?protocol=7", server.app().key);
    let offer = ("Sec-WebSocket-Extensions", "permessage-deflate; client_max_window_bits");
    let mut client = WsClient::open(server.public, server.app(), &path, &[offer]).await.established().await;
    assert_eq!(client.upgrade.headers().get("sec-websocket-extensions"), None);
    client.expect_nothing().await;
}

#[tokio::test]
async fn the_path_prefix_is_accepted_but_not_required() {
    let server = PREFIXED.get();
    let key = &server.app().key;
    for path in [format!("/ws/app/{key}"), format!("/app/{key}")] {
        open(&server, &path).await.established().await.expect_nothing().await;
    }
    for path in [format!("/wsx/app/{key}"), format!("/other/app/{key}"), format!("/ws/ws/app/{key}")] {
        open(&server, &path).await.expect_refusal(4005, "ath").await;
    }
}

#[tokio::test]
async fn several_slashes_count_as_one() {
    let server = PREFIXED.get();
    let key = &server.app().key;
    for path in [
        format!("//app/{key}"),
        format!("/app//{key}"),
        format!("/app/{key}//"),
        format!("///app///{key}"),
        format!("/ws//app/{key}"),
        format!("//ws/app//{key}"),
    ] {
        open(&server, &path).await.established().await.expect_nothing().await;
    }
    for path in ["//live", "//ready//", "/ws//live"] {
        get(server.public, path).await.expect_status(200);
    }
    open(&server, &format!("//other//app/{key}")).await.expect_refusal(4005, "ath").await;
    open(&server, &format!("//app/{key}/x")).await.expect_refusal(4005, "ath").await;
}

#[tokio::test]
async fn headers_are_read_as_proxies_and_browsers_write_them() {
    let server = shared();
    let good = upgrade_request(&server.app().key);
    for request in [
        good.replace("Upgrade: websocket", "upgrade: WebSocket"),
        good.replace("Connection: Upgrade", "connection: keep-alive, Upgrade"),
        good.replace("Connection: Upgrade", "Connection: keep-alive\r\nConnection: upgrade"),
        good.replace(
            "\r\n\r\n",
            "\r\nPragma: no-cache\r\nCache-Control: no-cache\r\nX-Forwarded-For: 10.1.2.3\r\n\r\n",
        ),
    ] {
        RawWs::open(server.public, &request).await.established().await;
    }
}

#[tokio::test]
async fn frames_sent_along_with_the_request_are_answered() {
    let server = shared();
    let mut bytes = upgrade_request(&server.app().key).into_bytes();
    bytes.extend(frame(raw_ws::TEXT, true, br#"{"event":"pusher:ping","data":{}}"#));
    bytes.extend(frame(raw_ws::PING, true, b"early"));
    let mut client = RawWs::open(server.public, &bytes).await;
    client.established().await;
    client.expect_frame(raw_ws::TEXT, br#"{"event":"pusher:pong","data":"{}"}"#).await;
    client.expect_frame(raw_ws::PONG, b"early").await;
}

#[tokio::test]
async fn a_kept_alive_http_connection_can_be_upgraded() {
    let server = shared();
    let mut connection = HttpConnection::connect(server.public).await;
    connection.write("GET /up HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    connection.response().await.expect_status(200);
    connection.write(upgrade_request(&server.app().key)).await;
    let answer = connection.response().await.expect_status(101);
    // The example of RFC 6455, section 1.3.
    assert_eq!(answer.header("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
}

#[tokio::test]
async fn requests_that_are_no_proper_upgrade_get_an_http_error() {
    let server = shared();
    let good = upgrade_request(&server.app().key);
    let answer = exchange(
        server.public,
        good.replace("Sec-WebSocket-Version: 13\r\n", "Sec-WebSocket-Version: 8\r\n"),
    )
    .await;
    assert_eq!((answer.status, answer.header("sec-websocket-version")), (426, Some("13")));
    let without_key = good.replace("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", "");
    assert_eq!(exchange(server.public, without_key).await.status, 400);
    let plain = get(server.public, &format!("/app/{}?protocol=7", server.app().key)).await;
    assert_eq!((plain.status, plain.header("upgrade")), (426, Some("websocket")));
}

#[tokio::test]
async fn the_fallback_transport_is_answered_404() {
    let server = shared();
    let path = "/pusher/app/KEY/1/abcdefgh/xhr_streaming?protocol=7&client=js&version=8.6.0&t=1&n=1";
    let request = format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(exchange(server.public, request).await.status, 404);
}

#[tokio::test]
async fn a_client_that_upgrades_and_vanishes_disturbs_nobody() {
    let server = shared();
    let mut witness = WsClient::connect(&server).await;
    for _ in 0..50 {
        WsClient::connect(&server).await.reset();
    }
    within(Duration::from_secs(5), "an answer", witness.expect_nothing()).await;
    server.expect_alive();
}
