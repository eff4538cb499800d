//! Thousands of random but validly signed requests and random client frames: never a 5xx, the process
//! lives, and nobody else notices. The seed is printed when a test fails.

use fastrand::Rng;
use serde_json::{Value, json};

use crate::harness::http::{HttpConnection, Request};
use crate::harness::names::unique;
use crate::harness::raw_ws::{self, RawWs};
use crate::harness::server::{Config, TestServer};
use crate::harness::watcher::Watcher;
use crate::harness::{DEADLINE, within};

const REQUESTS: usize = 10_000;
const FRAMES: usize = 10_000;
const UNSIGNED: usize = 3_000;
/// Requests that are on their way at once.
const BURST: usize = 50;

/// Words that mean something somewhere.
const WORDS: [&str; 40] = [
    "",
    "e",
    "c",
    "name",
    "data",
    "channel",
    "channels",
    "batch",
    "socket_id",
    "info",
    "idempotency_key",
    "user_count",
    "subscription_count",
    "cache",
    "user_count,cache",
    "1.1",
    "undefined",
    "pusher:x",
    "pusher_internal:x",
    "client-x",
    "private-a",
    "presence-a",
    "private-encrypted-a",
    "cache-a",
    "presence-cache-a",
    "#server-to-user-1",
    "#server-to-user-",
    "bad name!",
    "a:b",
    "é€😀",
    "\u{0}",
    "{}",
    "{\"user_id\":\"1\"}",
    "{\"id\":\"1\"}",
    "\"",
    "\\",
    "sb-key-1001:",
    "pusher:subscribe",
    "pusher:signin",
    "[[[[",
];

/// Bits of JSON, whole and broken.
const BITS: [&str; 24] = [
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\"",
    "\\u",
    "\\ud800",
    "\\udc00",
    "\\u0000",
    "\\",
    "null",
    "true",
    "0",
    "-",
    "1e999",
    "9223372036854775808",
    "1.0",
    "\u{feff}",
    "/*",
    "NaN",
    "\n",
    "\u{7f}",
];

fn word(rng: &mut Rng) -> String {
    match rng.u8(..20) {
        0 => "x".repeat(rng.usize(190..210)),
        1 => (0..rng.usize(..20)).map(|_| rng.char(..)).collect(),
        2 => format!("{}{}", rng.choice(WORDS).expect("some"), rng.u32(..)),
        3 => "y".repeat(rng.usize(10_000..11_000)),
        _ => rng.choice(WORDS).expect("some").to_owned(),
    }
}

fn value(rng: &mut Rng, depth: usize) -> Value {
    match rng.u8(..if depth == 0 { 8 } else { 12 }) {
        0 => Value::Null,
        1 => json!(rng.bool()),
        2 => json!(rng.i64(..)),
        3 => json!(rng.f64() * 1e10),
        4..=7 => json!(word(rng)),
        8 | 9 => (0..rng.usize(..5)).map(|_| value(rng, depth - 1)).collect(),
        _ => {
            let members = (0..rng.usize(..5)).map(|_| (word(rng), value(rng, depth - 1)));
            Value::Object(members.collect())
        }
    }
}

/// Usually what belongs there, sometimes anything.
fn field(rng: &mut Rng, right: Value) -> Value {
    if rng.u8(..5) == 0 { value(rng, 2) } else { right }
}

fn event(rng: &mut Rng) -> Value {
    let mut event = json!({});
    for name in ["name", "data", "channel", "channels", "socket_id", "info", "idempotency_key"] {
        let is_usual = ["name", "data", "channel"].contains(&name);
        if rng.u8(..10) < if is_usual { 9 } else { 2 } {
            let right = if name == "channels" {
                (0..rng.usize(..4)).map(|_| word(rng)).collect()
            } else {
                json!(word(rng))
            };
            event[name] = field(rng, right);
        }
    }
    event
}

fn batch(rng: &mut Rng) -> Value {
    let events: Vec<_> = (0..rng.usize(..12)).map(|_| event(rng)).collect();
    let events = events.into_iter().map(|event| field(rng, event)).collect();
    json!({"batch": field(rng, events)})
}

/// Text with bytes changed, removed, doubled or put in.
fn damaged(rng: &mut Rng, text: &str) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    for _ in 0..rng.usize(1..5) {
        let at = rng.usize(..=bytes.len());
        match rng.u8(..5) {
            0 => bytes.truncate(at),
            1 if at < bytes.len() => bytes[at] = rng.u8(..),
            2 if at < bytes.len() => drop(bytes.remove(at)),
            3 => drop(bytes.splice(at..at, rng.choice(BITS).expect("some").bytes())),
            _ => {
                let end = rng.usize(at..=bytes.len());
                let part = bytes[at..end].to_vec();
                bytes.splice(at..at, part);
            }
        }
    }
    bytes
}

fn body(rng: &mut Rng) -> Vec<u8> {
    let text = match rng.u8(..10) {
        0 => return (0..rng.usize(..60)).map(|_| rng.u8(..)).collect(),
        1 => value(rng, 4),
        2..=6 => event(rng),
        _ => batch(rng),
    };
    let text = text.to_string();
    if rng.bool() { text.into_bytes() } else { damaged(rng, &text) }
}

/// A segment of a path, encoded so that it stays one.
fn segment(rng: &mut Rng) -> String {
    let encode = |byte: u8| match byte {
        b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    };
    word(rng).bytes().take(300).map(encode).collect()
}

fn request(rng: &mut Rng, server: &TestServer) -> Request {
    let app = server.app();
    match rng.u8(..10) {
        0..=3 => Request::post(app, &app.path("events"), body(rng)),
        4..=6 => Request::post(app, &app.path("batch_events"), body(rng)),
        7 => {
            let path = app.path(&format!("users/{}/terminate_connections", segment(rng)));
            let body = if rng.u8(..4) > 0 { b"{}".to_vec() } else { body(rng) };
            Request::post(app, &path, body)
        }
        8 => Request::get(app, &app.path("channels"))
            .param("info", &word(rng))
            .param("filter_by_prefix", &word(rng)),
        _ => {
            let end = if rng.bool() { "/users" } else { "" };
            Request::get(app, &app.path(&format!("channels/{}{end}", segment(rng)))).param("info", &word(rng))
        }
    }
}

fn client_frame(rng: &mut Rng) -> Vec<u8> {
    let event = match rng.u8(..8) {
        0 => value(rng, 3),
        1 => json!({"event": word(rng), "data": value(rng, 2)}),
        2 => json!({"event": "pusher:ping", "data": value(rng, 1)}),
        3 => json!({"event": word(rng), "channel": word(rng), "data": value(rng, 2)}),
        4 => json!({"event": "pusher:unsubscribe", "data": {"channel": field(rng, json!("c"))}}),
        5 => json!({"event": "pusher:signin", "data": {"auth": word(rng), "user_data": word(rng)}}),
        _ => {
            let data = json!({"channel": word(rng), "auth": word(rng), "channel_data": word(rng)});
            json!({"event": "pusher:subscribe", "data": field(rng, data)})
        }
    };
    let text = event.to_string();
    let payload = match rng.u8(..10) {
        0 => (0..rng.usize(..60)).map(|_| rng.u8(..)).collect(),
        1..=4 => damaged(rng, &text),
        _ => text.into_bytes(),
    };
    match rng.u8(..100) {
        0 => raw_ws::frame(raw_ws::BINARY, true, &payload),
        1 => raw_ws::frame(rng.u8(..16), rng.bool(), &payload),
        2 => raw_ws::frame_with_first_byte(rng.u8(..), &payload),
        3 => raw_ws::unmasked(raw_ws::TEXT, &payload),
        4 => raw_ws::head_claiming(raw_ws::TEXT, rng.u64(..)),
        5 => (0..rng.usize(..40)).map(|_| rng.u8(..)).collect(),
        6..=15 => raw_ws::frame(raw_ws::PING, true, &payload[..payload.len().min(125)]),
        _ => raw_ws::frame(raw_ws::TEXT, true, &payload),
    }
}

/// Tells the seed when the test fails, so that it can be repeated.
struct Seed(u64);

impl Seed {
    fn new() -> (Self, Rng) {
        let seed = fastrand::u64(..);
        (Self(seed), Rng::with_seed(seed))
    }
}

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("seed {}", self.0);
        }
    }
}

#[tokio::test]
async fn signed_requests_with_any_content_are_answered_and_disturb_nobody() {
    let (_seed, mut rng) = Seed::new();
    let server = Config::new().app("1001", "event_size = \"10KB\"\nsubscription_count = true").start();
    let mut bystander = Watcher::on(&server, &unique("private-bystander")).await;
    bystander.client.drain().await;
    let mut statuses = std::collections::BTreeMap::new();
    let mut connection = HttpConnection::connect(server.public).await;
    for _ in 0..REQUESTS / BURST {
        let requests: Vec<_> = (0..BURST).map(|_| request(&mut rng, &server)).collect();
        let bytes = requests.iter().flat_map(Request::bytes).collect::<Vec<_>>();
        connection.write(bytes).await;
        for request in &requests {
            let answer = connection.response().await;
            let shown = || String::from_utf8_lossy(&request.bytes()).into_owned();
            assert!([200, 400, 404, 409, 413].contains(&answer.status), "{answer:?} to {}", shown());
            assert_eq!(answer.header("content-type"), Some("application/json"), "{}", shown());
            assert!(answer.json().is_object(), "{answer:?} to {}", shown());
            if answer.status != 200 {
                answer.error();
            }
            *statuses.entry(answer.status).or_insert(0) += 1;
        }
    }
    // Otherwise the generator tests nothing but refusals.
    assert!(statuses[&200] > REQUESTS / 20 && statuses[&400] > REQUESTS / 20, "{statuses:?}");
    server.expect_alive();
    bystander.expect_nothing(&server).await;
}

#[tokio::test]
async fn unsigned_requests_with_any_path_and_query_are_refused() {
    let (_seed, mut rng) = Seed::new();
    let server = Config::new().start();
    let parts = ["apps", "1001", "events", "batch_events", "channels", "users", "terminate_connections"];
    let names =
        ["auth_key", "auth_timestamp", "auth_version", "auth_signature", "body_md5", "info[]", "info[0]"];
    let mut connection = HttpConnection::connect(server.public).await;
    for _ in 0..UNSIGNED / BURST {
        let mut bytes = Vec::new();
        for _ in 0..BURST {
            let mut target = String::from("/apps");
            for _ in 0..rng.usize(..5) {
                let part = *rng.choice(&parts).expect("some");
                target.push_str(&format!(
                    "/{}",
                    if rng.u8(..4) == 0 { segment(&mut rng) } else { part.to_owned() }
                ));
            }
            target.push('?');
            for _ in 0..rng.usize(..8) {
                let name = *rng.choice(&names).expect("some");
                let key = if rng.bool() { "sb-key-1001".to_owned() } else { segment(&mut rng) };
                target.push_str(&format!("{name}={key}&"));
            }
            let method = *rng.choice(&["GET", "POST", "DELETE"]).expect("some");
            let body = if rng.bool() { "{}" } else { "" };
            let length = body.len();
            bytes.extend(
                format!("{method} {target} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n{body}")
                    .bytes(),
            );
        }
        connection.write(&bytes).await;
        for _ in 0..BURST {
            let answer = connection.response().await;
            assert!(
                [401, 404, 405].contains(&answer.status),
                "{answer:?} in {}",
                String::from_utf8_lossy(&bytes)
            );
            answer.error();
        }
    }
    server.expect_alive();
}

#[tokio::test]
async fn client_frames_with_any_content_disturb_nobody() {
    let (_seed, mut rng) = Seed::new();
    let server = Config::new().app("1001", "client_events = \"members\"").start();
    let mut bystander = Watcher::on(&server, &unique("private-bystander")).await;
    let mut sent = 0;
    while sent < FRAMES {
        let mut client = RawWs::connect(server.public, server.app()).await;
        for _ in 0..rng.usize(1..100) {
            sent += 1;
            if !client.try_write(&client_frame(&mut rng)).await {
                break;
            }
        }
        // Most of them the server has closed by now; the others take their leave.
        client.try_write(&raw_ws::frame(raw_ws::CLOSE, true, &1000_u16.to_be_bytes())).await;
        client.finish_writing().await;
        within(DEADLINE, "the end", client.wait_for_end(DEADLINE)).await;
    }
    server.expect_alive();
    bystander.client.expect_nothing().await;
    bystander.expect_nothing(&server).await;
}
