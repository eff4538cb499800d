//! HTTP/1.1 at its edges: connections, bodies, methods, paths, and what is no HTTP at all.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio::time::{MissedTickBehavior, interval};

use crate::harness::DEADLINE;
use crate::harness::http::{HttpConnection, Request, Response, exchange, get};
use crate::harness::names::unique;
use crate::harness::server::{Config, TestServer};
use crate::harness::shared::shared;
use crate::harness::watcher::Watcher;
use crate::harness::ws::WsClient;

fn publish(server: &TestServer, channel: &str, data: &str) -> Request {
    Request::trigger(server.app(), &json!({"name": "e", "channel": channel, "data": data}))
}

/// `request` as bytes, with `old` exchanged for `new` in its head.
fn altered(request: &Request, old: &str, new: &str) -> Vec<u8> {
    let text = String::from_utf8(request.bytes()).expect("text");
    assert!(text.contains(old), "{old:?} is not in {text:?}");
    text.replacen(old, new, 1).into_bytes()
}

fn allowed_methods(answer: &Response) -> Vec<String> {
    let allow = answer.header("allow").expect("Allow");
    allow.split(',').map(|method| method.trim().to_owned()).collect()
}

#[tokio::test]
async fn a_connection_serves_request_after_request() {
    let server = shared();
    let channel = unique("c");
    let mut watcher = Watcher::on(&server, &channel).await;
    let mut connection = HttpConnection::connect(server.public).await;
    for i in 0..5 {
        publish(&server, &channel, &i.to_string()).send_over(&mut connection).await.expect_ok("{}");
        watcher.expect("e", &i.to_string()).await;
    }
    // Also after errors that left the request readable.
    let bad = Request::trigger(server.app(), &json!({}));
    bad.send_over(&mut connection).await.expect_error(400, "");
    connection.write("GET /nope HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    connection.response().await.expect_error(404, "");
    publish(&server, &channel, "5").timestamp(0).send_over(&mut connection).await.expect_error(401, "");
    publish(&server, &channel, "6").send_over(&mut connection).await.expect_ok("{}");
    watcher.expect("e", "6").await;
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let server = shared();
    let channel = unique("c");
    let mut watcher = Watcher::on(&server, &channel).await;
    let mut bytes = Vec::new();
    for i in 0..100 {
        bytes.extend(publish(&server, &channel, &i.to_string()).bytes());
        bytes.extend(format!("GET /nope{i} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes());
        bytes.extend(Request::trigger(server.app(), &json!({})).bytes());
        bytes.extend(b"GET /live HTTP/1.1\r\nHost: localhost\r\n\r\n");
    }
    let mut connection = HttpConnection::connect(server.public).await;
    connection.write(bytes).await;
    for i in 0..100 {
        connection.response().await.expect_ok("{}");
        connection.response().await.expect_error(404, "");
        connection.response().await.expect_error(400, "");
        assert_eq!(connection.response().await.expect_status(200).text(), "OK");
        watcher.expect("e", &i.to_string()).await;
    }
}

#[tokio::test]
async fn a_request_may_arrive_in_pieces() {
    let server = shared();
    let channel = unique("c");
    let mut watcher = Watcher::on(&server, &channel).await;
    let mut connection = HttpConnection::connect(server.public).await;
    for chunk in publish(&server, &channel, "1").bytes().chunks(7) {
        connection.write(chunk).await;
        tokio::task::yield_now().await;
    }
    connection.response().await.expect_ok("{}");
    watcher.expect("e", "1").await;
}

#[tokio::test]
async fn connection_close_is_honoured() {
    let server = shared();
    let mut connection = HttpConnection::connect(server.public).await;
    let request = publish(&server, &unique("c"), "1").header("Connection", "close");
    request.send_over(&mut connection).await.expect_ok("{}");
    connection.expect_end().await;
}

#[tokio::test]
async fn http_1_0_is_answered_and_closed() {
    let server = shared();
    let request = publish(&server, &unique("c"), "1");
    let mut connection = HttpConnection::connect(server.public).await;
    connection.write(altered(&request, " HTTP/1.1\r\nHost: localhost\r\n", " HTTP/1.0\r\n")).await;
    connection.response().await.expect_ok("{}");
    connection.expect_end().await;

    let mut kept = HttpConnection::connect(server.public).await;
    for _ in 0..2 {
        kept.write("GET /live HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").await;
        let answer = kept.response().await.expect_status(200);
        assert!(answer.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("keep-alive")));
    }
}

#[tokio::test]
async fn a_client_that_has_finished_sending_still_gets_its_answer() {
    let server = shared();
    let mut connection = HttpConnection::connect(server.public).await;
    connection.write(publish(&server, &unique("c"), "1").bytes()).await;
    connection.finish_writing().await;
    connection.response().await.expect_ok("{}");
    connection.expect_end().await;
}

#[tokio::test]
async fn a_target_may_be_an_absolute_url() {
    let server = shared();
    let request = publish(&server, &unique("c"), "1");
    let target = format!("http://localhost{}", request.target());
    request.send_with_target(server.public, &target).await.expect_ok("{}");
}

#[tokio::test]
async fn a_chunked_body_is_signed_without_its_chunks() {
    let server = shared();
    let channel = unique("c");
    let mut watcher = Watcher::on(&server, &channel).await;
    let body = json!({"name": "e", "channel": channel, "data": "1"}).to_string();
    let head = format!(
        "POST {} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n",
        Request::post(server.app(), &server.app().path("events"), body.clone()).target()
    );
    let chunks: String = body.as_bytes().chunks(10).fold(String::new(), |text, chunk| {
        text + &format!("{:x};ext=1\r\n{}\r\n", chunk.len(), std::str::from_utf8(chunk).expect("ASCII"))
    });
    let mut connection = HttpConnection::connect(server.public).await;
    for _ in 0..2 {
        connection.write(format!("{head}{chunks}0\r\n\r\n")).await;
        connection.response().await.expect_ok("{}");
        watcher.expect("e", "1").await;
    }
}

#[tokio::test]
async fn a_body_is_asked_for_when_the_client_waits() {
    let server = shared();
    let channel = unique("c");
    let mut watcher = Watcher::on(&server, &channel).await;
    let bytes = publish(&server, &channel, "1").header("Expect", "100-continue").bytes();
    let head_end = bytes.windows(4).position(|four| four == b"\r\n\r\n").expect("a head") + 4;
    let (head, body) = bytes.split_at(head_end);
    let mut connection = HttpConnection::connect(server.public).await;
    connection.write(head).await;
    connection.response().await.expect_status(100);
    connection.write(body).await;
    connection.response().await.expect_ok("{}");
    watcher.expect("e", "1").await;
}

#[tokio::test]
async fn the_content_type_does_not_matter() {
    let server = shared();
    let channel = unique("c");
    let mut watcher = Watcher::on(&server, &channel).await;
    for kind in [
        "application/json; charset=utf-8",
        "APPLICATION/JSON",
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data",
        "nonsense",
        "",
    ] {
        let request = publish(&server, &channel, "1").header("Content-Type", kind);
        request.send(server.public).await.expect_ok("{}");
        watcher.expect("e", "1").await;
    }
    let without = altered(&publish(&server, &channel, "1"), "Content-Type: application/json\r\n", "");
    exchange(server.public, without).await.expect_ok("{}");
    watcher.expect("e", "1").await;
    let app = server.app();
    let php = Request::get(app, &app.path("connections"))
        .header("Content-Type", "application/json")
        .header("X-Pusher-Library", "pusher-http-php 7.2.6");
    php.send(server.public).await.expect_status(200);
}

/// The longest body of an app with `event_size = "10KB"`.
const BODY_LIMIT: usize = 1024 * 1024;

fn expect_body_refused(answer: Response, size: usize) {
    let text = answer.expect_status(413).error();
    assert!(text.contains("event_size") && text.contains(&size.to_string()), "{text}");
}

#[tokio::test]
async fn an_oversized_body_is_refused_with_its_size_and_the_setting() {
    let server = shared();
    let app = server.app();
    for size in [BODY_LIMIT + 1, 4 * BODY_LIMIT] {
        let body = vec![b' '; size];
        let answer = Request::post(app, &app.path("events"), body).send(server.public).await;
        expect_body_refused(answer, size);
    }
    let fitting = vec![b' '; BODY_LIMIT];
    let answer = Request::post(app, &app.path("events"), fitting).send(server.public).await;
    answer.expect_error(400, "");
}

#[tokio::test]
async fn an_oversized_chunked_body_is_refused_too() {
    let server = shared();
    let app = server.app();
    let size = BODY_LIMIT + 64 * 1024;
    let target = Request::post(app, &app.path("events"), vec![b' '; size]).target();
    let chunk = format!("10000\r\n{}\r\n", " ".repeat(64 * 1024));
    let body = format!("{}0\r\n\r\n", chunk.repeat(size / (64 * 1024)));
    let head = format!("POST {target} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n");
    expect_body_refused(exchange(server.public, head + &body).await, size);
}

#[tokio::test]
async fn an_oversized_body_is_refused_before_a_waiting_client_sends_it() {
    let server = shared();
    let app = server.app();
    let size = 10 * BODY_LIMIT;
    let target = Request::post(app, &app.path("events"), "").target();
    let head = format!(
        "POST {target} HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: {size}\r\n\r\n"
    );
    let mut connection = HttpConnection::connect(server.public).await;
    connection.write(head).await;
    expect_body_refused(connection.response().await, size);
}

#[tokio::test]
async fn a_refused_request_with_a_large_body_gets_its_answer_all_the_same() {
    let server = shared();
    let body = " ".repeat(900 * 1024);
    for (path, status) in [
        ("/apps/999999/events?auth_key=x", 401),
        ("/apps/1001/events", 401),
        ("/nope", 404),
        ("/apps/1001/channels", 405),
        ("/app/sb-key-1001", 405),
    ] {
        let mut connection = HttpConnection::connect(server.public).await;
        let length = body.len();
        let head = format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n");
        // A client that writes everything before it reads must not find the connection gone.
        assert!(connection.try_write(head + &body).await, "{path}: closed while the body was sent");
        let answer = connection.response().await.expect_status(status);
        answer.error();
    }
}

#[tokio::test]
async fn larger_events_allow_larger_bodies() {
    let server = Config::new().app("1001", "event_size = \"1MB\"").start();
    let mut watcher = Watcher::on(&server, "a").await;
    let data = "x".repeat(1024 * 1024);
    publish(&server, "a", &data).send(server.public).await.expect_ok("{}");
    watcher.expect("e", &data).await;
    let answer = publish(&server, "a", &format!("{data}x")).send(server.public).await;
    let text = answer.expect_status(413).error();
    assert!(text.contains("event_size") && text.contains("1048577"), "{text}");
}

#[tokio::test]
async fn unknown_paths_are_not_found() {
    let server = shared();
    for path in [
        "/nope",
        "/apps",
        "/apps/",
        "/apps/1001",
        "/apps/1001/nope",
        "/apps/1001/channels/a/b/c",
        "/apps/1001/users/42",
        "/apps/1001/users/42/force_reconnect",
        "/app",
        "/app/",
        "/app/sb-key-1001/more",
        "/users",
        "/%",
        "/../etc/passwd",
        "/metrics",
    ] {
        let answer = get(server.public, path).await;
        assert_eq!(answer.status, 404, "{path}: {}", answer.text());
        answer.error();
    }
}

#[tokio::test]
async fn sockjs_is_not_found_so_that_pusher_js_stays_with_websockets() {
    let server = shared();
    let key = &server.app().key;
    for transport in ["xhr_streaming", "xhr", "xhr_send"] {
        for prefix in ["/pusher", ""] {
            let path = format!(
                "{prefix}/app/{key}/123/abcdefgh/{transport}?protocol=7&client=js&version=8.6.0&t=1&n=1"
            );
            let request = format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n");
            exchange(server.public, request).await.expect_error(404, "");
            get(server.public, &path).await.expect_error(404, "");
        }
    }
}

#[tokio::test]
async fn a_known_path_with_another_method_says_which_to_use() {
    let server = shared();
    for (path, wrong, right) in [
        ("/apps/1001/events", "GET", "POST"),
        ("/apps/1001/batch_events", "PUT", "POST"),
        ("/apps/1001/users/42/terminate_connections", "GET", "POST"),
        ("/users/42/terminate_connections", "DELETE", "POST"),
        ("/apps/1001/channels", "POST", "GET"),
        ("/apps/1001/channels/a", "DELETE", "GET"),
        ("/apps/1001/channels/presence-a/users", "PATCH", "GET"),
        ("/apps/1001/connections", "POST", "GET"),
        ("/app/sb-key-1001", "POST", "GET"),
        ("/live", "POST", "GET"),
        ("/apps/1001/events", "BREW", "POST"),
    ] {
        let request = format!("{wrong} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n");
        let answer = exchange(server.public, request).await.expect_error(405, right);
        let allowed = allowed_methods(&answer);
        assert!(allowed.iter().any(|method| method == right), "{path}: {allowed:?}");
        assert!(!allowed.iter().any(|method| method == wrong), "{path}: {allowed:?}");
    }
}

#[tokio::test]
async fn options_gives_browsers_no_permission() {
    let server = shared();
    for path in ["/apps/1001/events", "/apps/1001/channels"] {
        let request = format!(
            "OPTIONS {path} HTTP/1.1\r\nHost: localhost\r\nOrigin: https://portal.example\r\n\
             Access-Control-Request-Method: POST\r\n\r\n"
        );
        let answer = exchange(server.public, request).await.expect_status(405);
        assert!(!allowed_methods(&answer).is_empty());
        assert!(!answer.headers.iter().any(|(name, _)| name.to_lowercase().starts_with("access-control-")));
    }
}

#[tokio::test]
async fn health_checks_may_ask_with_options() {
    let server = shared();
    for path in ["/", "/live", "/ready"] {
        // As HAProxy's `option httpchk` asks.
        exchange(server.public, format!("OPTIONS {path} HTTP/1.0\r\n\r\n")).await.expect_status(200);
    }
}

#[tokio::test]
async fn head_is_answered_without_a_body() {
    let server = shared();
    let mut connection = HttpConnection::connect(server.public).await;
    for (path, status) in
        [("/", 200), ("/live", 200), ("/ready", 200), ("/nope", 404), ("/apps/1001/events", 405)]
    {
        connection.write(format!("HEAD {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")).await;
        connection.response_to_head().await.expect_status(status);
        // A body would be taken for the start of the next answer.
        connection.write("GET /live HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
        assert_eq!(connection.response().await.expect_status(200).text(), "OK");
    }
}

#[tokio::test]
async fn a_websocket_path_without_an_upgrade_says_what_it_is_for() {
    let server = shared();
    for path in ["/app/sb-key-1001", "/app/nokey", "/app/sb-key-1001?protocol=7"] {
        let answer = get(server.public, path).await.expect_status(426);
        assert!(answer.error().contains("WebSocket"));
        assert_eq!(answer.header("upgrade"), Some("websocket"));
    }
}

#[tokio::test]
async fn an_upgrade_to_something_else_is_answered_as_plain_http() {
    let server = shared();
    let request = "GET /live HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade, HTTP2-Settings\r\n\
                   Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n";
    assert_eq!(exchange(server.public, request).await.expect_status(200).text(), "OK");
}

#[tokio::test]
async fn what_is_no_http_ends_its_own_connection_only() {
    let server = shared();
    let mut bystander = WsClient::connect(&server).await;
    let long_name = format!("GET / HTTP/1.1\r\n{}: 1\r\n\r\n", "x".repeat(200_000));
    let long_target = format!("GET /{} HTTP/1.1\r\nHost: localhost\r\n\r\n", "x".repeat(200_000));
    let many_headers = format!("GET / HTTP/1.1\r\n{}\r\n", "X: 1\r\n".repeat(1_000));
    let conflicting = "POST /apps/1001/events HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\
                       Content-Length: 3\r\n\r\n{}x";
    let requests: [&[u8]; 14] = [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\r\n\r\n\r\nhello\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / FTP/1.0\r\n\r\n",
        b"GET /\x00 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: a\x00b\r\n\r\n",
        b"POST /apps/1001/events HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        conflicting.as_bytes(),
        long_name.as_bytes(),
        long_target.as_bytes(),
        many_headers.as_bytes(),
    ];
    for request in requests {
        let shown = String::from_utf8_lossy(&request[..request.len().min(60)]).into_owned();
        let mut connection = HttpConnection::connect(server.public).await;
        connection.try_write(request).await;
        // Some clients say no more and wait.
        if let Some(answer) = connection.response_or_end(false).await {
            assert!((400..=499).contains(&answer.status) || answer.status == 505, "{shown}: {answer:?}");
        }
    }
    bystander.expect_nothing().await;
    server.expect_alive();
}

#[tokio::test]
async fn a_broken_chunk_publishes_nothing() {
    let server = shared();
    let channel = unique("c");
    let mut watcher = Watcher::on(&server, &channel).await;
    let body = json!({"name": "e", "channel": channel, "data": "1"}).to_string();
    let target = Request::post(server.app(), &server.app().path("events"), body.clone()).target();
    let head = format!("POST {target} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n");
    let mut connection = HttpConnection::connect(server.public).await;
    connection.write(format!("{head}{:x}\r\n{body}\r\nzz\r\n\r\n", body.len())).await;
    if let Some(answer) = connection.response_or_end(false).await {
        assert_eq!(answer.status, 400, "{answer:?}");
    }
    // A body that ends before its announced length.
    let mut connection = HttpConnection::connect(server.public).await;
    let bytes = publish(&server, &channel, "1").bytes();
    connection.write(&bytes[..bytes.len() - 1]).await;
    connection.finish_writing().await;
    if let Some(answer) = connection.response_or_end(false).await {
        assert_eq!(answer.status, 400, "{answer:?}");
    }
    watcher.expect_nothing(&server).await;
}

#[tokio::test]
async fn a_request_head_has_to_come_in_time() {
    let server = Config::new().server("header_timeout = \"300ms\"\nidle_timeout = \"10m\"").start();
    let mut connection = HttpConnection::connect(server.public).await;
    connection.write("GET /live HTTP/1.1\r\nHost:").await;
    if let Some(answer) = connection.response_or_end(false).await {
        assert_eq!(answer.status, 408, "{answer:?}");
    }
    // Also the second request's, and also when it trickles.
    let mut connection = HttpConnection::connect(server.public).await;
    connection.write("GET /live HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    connection.response().await.expect_status(200);
    let start = Instant::now();
    let mut ticks = interval(Duration::from_millis(20));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for byte in b"GET /live HTTP/1.1\r\nX-Slow: ".iter().chain(std::iter::repeat(&b'x')) {
        ticks.tick().await;
        if !connection.try_write([*byte]).await {
            break;
        }
        assert!(start.elapsed() < DEADLINE, "a trickling head is waited for");
    }
}

#[tokio::test]
async fn a_quiet_http_connection_is_closed_and_a_websocket_is_not() {
    let server = Config::new().server("header_timeout = \"10m\"\nidle_timeout = \"300ms\"").start();
    let mut websocket = WsClient::connect(&server).await;
    let mut used = HttpConnection::connect(server.public).await;
    used.write("GET /live HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    used.response().await.expect_status(200);
    used.expect_end().await;
    let mut unused = HttpConnection::connect(server.public).await;
    unused.expect_end().await;
    websocket.expect_nothing().await;
}

#[tokio::test]
async fn slow_clients_do_not_keep_others_waiting() {
    let server = shared();
    let mut slow = Vec::new();
    for _ in 0..100 {
        let mut connection = HttpConnection::connect(server.public).await;
        connection.write("POST /apps/1001/events HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n").await;
        slow.push(connection);
    }
    publish(&server, &unique("c"), "1").send(server.public).await.expect_ok("{}");
    for mut connection in slow {
        connection.write("\r\nhello").await;
        connection.response().await.expect_error(401, "auth_key");
    }
}
