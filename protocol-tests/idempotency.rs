//! A publish that carries a key is done once, however often it is sent within five minutes.

use serde_json::{Value, json};

use crate::harness::http::{Request, Response};
use crate::harness::names::unique;
use crate::harness::server::{Config, TestServer};
use crate::harness::shared::{COUNTING, shared};
use crate::harness::sign::now;
use crate::harness::watcher::Watcher;

/// The three places for a key.
#[derive(Clone, Copy, Debug)]
enum Place {
    Header(&'static str),
    Field,
}

const PLACES: [Place; 3] =
    [Place::Header("Idempotency-Key"), Place::Header("X-Idempotency-Key"), Place::Field];

/// A request to `endpoint` of the first app with `key` in its place.
fn keyed(server: &TestServer, endpoint: &str, place: Place, key: &str, mut body: Value) -> Request {
    let app = server.app();
    if matches!(place, Place::Field) {
        body["idempotency_key"] = json!(key);
    }
    let request = Request::post(app, &app.path(endpoint), body.to_string());
    match place {
        Place::Header(name) => request.header(name, key),
        Place::Field => request,
    }
}

async fn trigger(server: &TestServer, place: Place, key: &str, body: &Value) -> Response {
    keyed(server, "events", place, key, body.clone()).send(server.public).await
}

fn event(channel: &str, data: &str) -> Value {
    json!({"name": "e", "channel": channel, "data": data})
}

#[tokio::test]
async fn a_repeated_request_is_answered_again_and_published_once() {
    let server = shared();
    for place in PLACES {
        let channel = unique("c");
        let key = unique("key");
        let mut watcher = Watcher::on(&server, &channel).await;
        for _ in 0..3 {
            trigger(&server, place, &key, &event(&channel, "1")).await.expect_ok("{}");
        }
        // Signed at another time it is the same request still.
        let later = keyed(&server, "events", place, &key, event(&channel, "1")).timestamp(now() - 5);
        later.send(server.public).await.expect_ok("{}");
        watcher.expect("e", "1").await;
        watcher.expect_nothing(&server).await;
    }
}

#[tokio::test]
async fn without_a_key_a_repeated_request_is_published_again() {
    let server = shared();
    let channel = unique("c");
    let mut watcher = Watcher::on(&server, &channel).await;
    for _ in 0..2 {
        server.publish(&channel, "e", "1").await;
    }
    watcher.expect("e", "1").await;
    watcher.expect("e", "1").await;
}

#[tokio::test]
async fn the_first_answer_is_repeated_though_the_counts_have_changed() {
    let server = shared();
    let app = server.app_with_id(COUNTING);
    let channel = unique("c");
    let mut body = event(&channel, "1");
    body["info"] = json!("subscription_count");
    let request = Request::trigger(app, &body).header("Idempotency-Key", &unique("key"));
    let _first = Watcher::on_app(&server, app, &channel).await;
    let answer = request.send(server.public).await.expect_status(200);
    assert_eq!(answer.json(), json!({"channels": {channel.as_str(): {"subscription_count": 1}}}));
    let _second = Watcher::on_app(&server, app, &channel).await;
    assert_eq!(request.send(server.public).await.expect_status(200).text(), answer.text());
}

#[tokio::test]
async fn a_key_used_for_another_request_is_a_conflict() {
    let server = shared();
    for place in PLACES {
        let channel = unique("c");
        let key = unique("key");
        let mut watcher = Watcher::on(&server, &channel).await;
        trigger(&server, place, &key, &event(&channel, "1")).await.expect_ok("{}");
        trigger(&server, place, &key, &event(&channel, "2")).await.expect_error(409, "idempotency key");
        watcher.expect("e", "1").await;
        watcher.expect_nothing(&server).await;
        trigger(&server, place, &key, &event(&channel, "1")).await.expect_ok("{}");
        trigger(&server, place, &unique("key"), &event(&channel, "2")).await.expect_ok("{}");
        watcher.expect("e", "2").await;
    }
}

#[tokio::test]
async fn duplicates_at_the_same_time_are_published_once() {
    let server = shared();
    for place in PLACES {
        let channel = unique("c");
        let mut watcher = Watcher::on(&server, &channel).await;
        let request = keyed(&server, "events", place, &unique("key"), event(&channel, "1"));
        let (bytes, addr) = (request.bytes(), server.public);
        let tasks: Vec<_> =
            (0..20).map(|_| tokio::spawn(crate::harness::http::exchange(addr, bytes.clone()))).collect();
        for task in tasks {
            task.await.expect("answered").expect_ok("{}");
        }
        watcher.expect("e", "1").await;
        watcher.expect_nothing(&server).await;
    }
}

#[tokio::test]
async fn duplicates_on_several_shards_are_published_once() {
    let server = Config::new().server("shards = 4").start();
    let mut watchers = Vec::new();
    for _ in 0..4 {
        watchers.push(Watcher::on(&server, "a").await);
    }
    for round in 0..20 {
        let data = round.to_string();
        let request = keyed(&server, "events", PLACES[0], &unique("key"), event("a", &data));
        let (bytes, addr) = (request.bytes(), server.public);
        let tasks: Vec<_> =
            (0..8).map(|_| tokio::spawn(crate::harness::http::exchange(addr, bytes.clone()))).collect();
        for task in tasks {
            task.await.expect("answered").expect_ok("{}");
        }
    }
    for watcher in &mut watchers {
        for round in 0..20 {
            watcher.expect("e", &round.to_string()).await;
        }
        watcher.client.expect_nothing().await;
    }
}

#[tokio::test]
async fn a_failed_request_leaves_its_key_free() {
    let server = shared();
    for place in PLACES {
        let channel = unique("c");
        let key = unique("key");
        let mut watcher = Watcher::on(&server, &channel).await;
        trigger(&server, place, &key, &event("bad name", "1")).await.expect_error(400, "");
        trigger(&server, place, &key, &event(&channel, &"x".repeat(10_241))).await.expect_error(413, "");
        let stale = keyed(&server, "events", place, &key, event(&channel, "0")).timestamp(now() - 1_000);
        stale.send(server.public).await.expect_error(401, "");
        watcher.expect_nothing(&server).await;
        trigger(&server, place, &key, &event(&channel, "1")).await.expect_ok("{}");
        watcher.expect("e", "1").await;
    }
}

#[tokio::test]
async fn a_request_over_the_rate_leaves_its_key_free_and_a_repetition_costs_nothing() {
    let server = Config::new().app("1001", "publish_rate = 1").start();
    let mut watcher = Watcher::on(&server, "a").await;
    let place = PLACES[0];
    trigger(&server, place, "first", &event("a", "1")).await.expect_ok("{}");
    for _ in 0..5 {
        trigger(&server, place, "first", &event("a", "1")).await.expect_ok("{}");
    }
    let start = std::time::Instant::now();
    while trigger(&server, place, "second", &event("a", "2")).await.status == 429 {
        assert!(start.elapsed() < crate::harness::DEADLINE, "never allowed again");
    }
    watcher.expect("e", "1").await;
    watcher.expect("e", "2").await;
    watcher.client.expect_nothing().await;
}

#[tokio::test]
async fn a_batch_is_published_once_as_a_whole() {
    let server = shared();
    for place in PLACES {
        let channel = unique("c");
        let key = unique("key");
        let mut watcher = Watcher::on(&server, &channel).await;
        let body = json!({"batch": [event(&channel, "1"), event(&channel, "2")]});
        for _ in 0..2 {
            let request = keyed(&server, "batch_events", place, &key, body.clone());
            request.send(server.public).await.expect_ok("{}");
        }
        let other = json!({"batch": [event(&channel, "3")]});
        let conflict = keyed(&server, "batch_events", place, &key, other).send(server.public).await;
        conflict.expect_error(409, "idempotency key");
        watcher.expect("e", "1").await;
        watcher.expect("e", "2").await;
        watcher.expect_nothing(&server).await;
    }
}

#[tokio::test]
async fn a_failed_batch_leaves_its_key_free() {
    let server = shared();
    let channel = unique("c");
    let key = unique("key");
    let mut watcher = Watcher::on(&server, &channel).await;
    let bad = json!({"batch": [event(&channel, "1"), event("bad name", "2")]});
    keyed(&server, "batch_events", PLACES[0], &key, bad).send(server.public).await.expect_error(400, "");
    watcher.expect_nothing(&server).await;
    let good = json!({"batch": [event(&channel, "1"), event(&channel, "2")]});
    keyed(&server, "batch_events", PLACES[0], &key, good).send(server.public).await.expect_ok("{}");
    watcher.expect("e", "1").await;
    watcher.expect("e", "2").await;
}

#[tokio::test]
async fn apps_have_keys_of_their_own() {
    let server = shared();
    let (channel, key) = (unique("c"), unique("key"));
    for app in [server.app(), server.app_with_id(COUNTING)] {
        for _ in 0..2 {
            let request = Request::trigger(app, &event(&channel, &app.id)).header("Idempotency-Key", &key);
            request.send(server.public).await.expect_ok("{}");
        }
    }
}

#[tokio::test]
async fn a_key_that_is_no_string_of_sensible_length_is_refused() {
    let server = shared();
    let channel = unique("c");
    let mut watcher = Watcher::on(&server, &channel).await;
    for bad in [json!(7), json!(""), json!({}), json!("x".repeat(10_000))] {
        let mut body = event(&channel, "1");
        body["idempotency_key"] = bad;
        Request::trigger(server.app(), &body).send(server.public).await.expect_error(400, "idempotency");
    }
    watcher.expect_nothing(&server).await;
}
