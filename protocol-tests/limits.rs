//! Limits of the HTTP API, each a setting of the app.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::DEADLINE;
use crate::harness::http::{HttpConnection, Request, Response};
use crate::harness::names::unique;
use crate::harness::server::{Config, TestServer};
use crate::harness::shared::{DEFAULTS, MAIN, shared};
use crate::harness::sign::App;
use crate::harness::watcher::Watcher;

async fn trigger(server: &TestServer, app: &App, body: &Value) -> Response {
    Request::trigger(app, body).send(server.public).await
}

async fn batch(server: &TestServer, app: &App, events: &[Value]) -> Response {
    let body = json!({"batch": events}).to_string();
    Request::post(app, &app.path("batch_events"), body).send(server.public).await
}

fn event(channel: &str, data: &str) -> Value {
    json!({"name": "e", "channel": channel, "data": data})
}

fn expect_too_large(answer: Response, limit: usize, size: usize) {
    let text = answer.expect_status(413).error();
    let start = format!("The data content of this event exceeds the allowed maximum ({limit} bytes)");
    assert!(text.contains(&start), "{text}");
    assert!(text.contains("event_size") && text.contains(&size.to_string()), "{text}");
}

#[tokio::test]
async fn event_size_counts_bytes_of_the_decoded_data() {
    let server = shared();
    let app = server.app_with_id(MAIN);
    let channel = unique("c");
    let mut watcher = Watcher::on(&server, &channel).await;
    for data in [
        "x".repeat(10_240),
        "€".repeat(3_413) + "x",
        "é".repeat(5_120),
        "😀".repeat(2_560),
        "\"".repeat(10_240),
        "\n".repeat(10_240),
    ] {
        assert_eq!(data.len(), 10_240);
        trigger(&server, app, &event(&channel, &data)).await.expect_ok("{}");
        watcher.expect("e", &data).await;
        let longer = format!("{data}x");
        expect_too_large(trigger(&server, app, &event(&channel, &longer)).await, 10_240, 10_241);
    }
    expect_too_large(trigger(&server, app, &event(&channel, &"€".repeat(3_414))).await, 10_240, 10_242);
    watcher.expect_nothing(&server).await;
}

#[tokio::test]
async fn event_size_does_not_count_the_escapes_of_the_body() {
    let server = shared();
    let app = server.app_with_id(MAIN);
    let channel = unique("c");
    let mut watcher = Watcher::on(&server, &channel).await;
    let send = async |escaped: &str| {
        let body = format!(r#"{{"name":"e","channel":"{channel}","data":"{escaped}"}}"#);
        Request::post(app, &app.path("events"), body).send(server.public).await
    };
    for (escape, character) in [(r"\u0041", "A"), (r"\u00e9", "é"), (r"\u20AC", "€"), (r"\ud83d\ude00", "😀")]
    {
        let fitting = 10_240 / character.len();
        send(&escape.repeat(fitting)).await.expect_ok("{}");
        watcher.expect("e", &character.repeat(fitting)).await;
        let size = (fitting + 1) * character.len();
        expect_too_large(send(&escape.repeat(fitting + 1)).await, 10_240, size);
    }
    watcher.expect_nothing(&server).await;
}

#[tokio::test]
async fn event_size_is_100_kb_by_default() {
    let server = shared();
    let app = server.app_with_id(DEFAULTS);
    let channel = unique("c");
    let mut watcher = Watcher::on_app(&server, app, &channel).await;
    let data = "x".repeat(102_400);
    trigger(&server, app, &event(&channel, &data)).await.expect_ok("{}");
    watcher.expect("e", &data).await;
    expect_too_large(trigger(&server, app, &event(&channel, &format!("{data}x"))).await, 102_400, 102_401);
    watcher.expect_nothing(&server).await;
}

#[tokio::test]
async fn an_event_of_any_size_arrives_whole() {
    let server = shared();
    let app = server.app_with_id(DEFAULTS);
    let channel = unique("c");
    let mut watcher = Watcher::on_app(&server, app, &channel).await;
    // Around the lengths at which a WebSocket frame's head grows.
    let around = |edge: usize| edge.saturating_sub(80)..edge + 4;
    let mut connection = HttpConnection::connect(server.public).await;
    for size in around(126).chain(around(65_536).step_by(7)) {
        let data = "x".repeat(size);
        let request = Request::trigger(app, &event(&channel, &data));
        request.send_over(&mut connection).await.expect_ok("{}");
        watcher.expect("e", &data).await;
    }
}

#[tokio::test]
async fn a_full_batch_of_escaped_events_is_not_too_large() {
    let server = shared();
    let app = server.app_with_id(MAIN);
    let channel = unique("c");
    let mut watcher = Watcher::on(&server, &channel).await;
    let item = format!(r#"{{"name":"e","channel":"{channel}","data":"{}"}}"#, r"\u0041".repeat(10_240));
    let body = format!(r#"{{"batch":[{}]}}"#, vec![item; 10].join(","));
    let answer = Request::post(app, &app.path("batch_events"), body).send(server.public).await;
    answer.expect_ok("{}");
    let data = "A".repeat(10_240);
    for _ in 0..10 {
        watcher.expect("e", &data).await;
    }
}

#[tokio::test]
async fn max_channels_per_event_is_a_setting() {
    let server = Config::new().app("1001", "max_channels_per_event = 2").start();
    let app = server.app();
    let mut watcher = Watcher::on(&server, "a").await;
    let body = |channels: &[&str]| json!({"name": "e", "channels": channels, "data": "1"});
    trigger(&server, app, &body(&["a", "b"])).await.expect_ok("{}");
    watcher.expect("e", "1").await;
    trigger(&server, app, &body(&["a", "b", "c"])).await.expect_error(400, "max_channels_per_event");
    let three = json!({"name": "e", "channel": "c", "channels": ["a", "b"], "data": "1"});
    trigger(&server, app, &three).await.expect_error(400, "max_channels_per_event");
    watcher.expect_nothing(&server).await;
}

#[tokio::test]
async fn max_batch_is_a_setting() {
    let server = Config::new().app("1001", "max_batch = 12").start();
    let app = server.app();
    let mut watcher = Watcher::on(&server, "a").await;
    batch(&server, app, &vec![event("a", "1"); 12]).await.expect_ok("{}");
    for _ in 0..12 {
        watcher.expect("e", "1").await;
    }
    batch(&server, app, &vec![event("a", "1"); 13]).await.expect_error(400, "max_batch");
    watcher.expect_nothing(&server).await;
}

/// The time a 429 says to wait.
fn retry_after(answer: &Response) -> u64 {
    let text = answer.error();
    assert!(text.contains("publish_rate"), "{text}");
    let seconds = answer.header("retry-after").expect("Retry-After").parse().expect("whole seconds");
    assert!(seconds >= 1);
    seconds
}

#[tokio::test]
async fn publish_rate_refuses_with_the_time_to_wait_and_publishes_nothing() {
    let server = Config::new().app("1001", "publish_rate = 2").start();
    let app = server.app();
    let mut watcher = Watcher::on(&server, "a").await;
    let mut connection = HttpConnection::connect(server.public).await;
    let mut published = 0;
    let wait = loop {
        let request = Request::trigger(app, &event("a", &published.to_string()));
        let answer = request.send_over(&mut connection).await;
        if answer.status == 429 {
            break retry_after(&answer);
        }
        answer.expect_ok("{}");
        published += 1;
        assert!(published < 1_000, "no limit");
    };
    assert!(published >= 2, "two at once are within the rate");
    assert_eq!(wait, 1, "the next of two a second is there within one");
    // Reading costs nothing.
    Request::get(app, &app.path("channels")).send_over(&mut connection).await.expect_status(200);
    let start = Instant::now();
    loop {
        let request = Request::trigger(app, &event("a", "late"));
        match request.send_over(&mut connection).await {
            answer if answer.status == 429 => retry_after(&answer),
            answer => {
                answer.expect_ok("{}");
                break;
            }
        };
        assert!(start.elapsed() < DEADLINE, "never allowed again");
    }
    assert!(start.elapsed() < Duration::from_secs(wait) + Duration::from_secs(2));
    for i in 0..published {
        watcher.expect("e", &i.to_string()).await;
    }
    watcher.expect("e", "late").await;
    watcher.client.expect_nothing().await;
}

#[tokio::test]
async fn publish_rate_counts_each_event_of_a_batch() {
    let server = Config::new().app("1001", "publish_rate = 10").app("1002", "").start();
    let app = server.app();
    let mut watcher = Watcher::on(&server, "a").await;
    batch(&server, app, &vec![event("a", "1"); 10]).await.expect_ok("{}");
    let answer = batch(&server, app, &vec![event("a", "2"); 10]).await.expect_status(429);
    assert_eq!(retry_after(&answer), 1);
    for _ in 0..10 {
        watcher.expect("e", "1").await;
    }
    watcher.client.expect_nothing().await;
    let other = server.app_with_id("1002");
    batch(&server, other, &vec![event("a", "3"); 10]).await.expect_ok("{}");
}

#[tokio::test]
async fn a_refused_request_does_not_use_up_the_rate() {
    let server = Config::new().app("1001", "publish_rate = 2").start();
    let app = server.app();
    for _ in 0..10 {
        trigger(&server, app, &event("bad name", "1")).await.expect_error(400, "");
    }
    batch(&server, app, &[event("a", "1"), event("a", "2")]).await.expect_ok("{}");
}
