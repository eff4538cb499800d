//! Cache channels: the last event is kept for those who come later.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::DEADLINE;
use crate::harness::http::Request;
use crate::harness::names::unique;
use crate::harness::server::{Config, TestServer, UNLIMITED};
use crate::harness::shared::{DEFAULTS, SharedServer, shared};
use crate::harness::ws::WsClient;

/// Every kind of cache channel that one signature of a private channel opens.
const KINDS: [&str; 3] = ["cache-", "private-cache-", "private-encrypted-cache-"];

/// Forgets after a second.
static FORGETFUL: SharedServer = SharedServer::new(|| {
    Config::new().server("shards = 2").app("1001", "cache_ttl = \"1s\"").tables(UNLIMITED)
});

/// A new subscriber; the frame that follows the success is returned.
async fn newcomer(server: &TestServer, channel: &str) -> (WsClient, String) {
    let mut client = WsClient::connect(server).await;
    client.subscribe(channel).await;
    let text = client.next().await.text;
    (client, text)
}

fn miss(channel: &str) -> String {
    format!(r#"{{"event":"pusher:cache_miss","channel":"{channel}","data":"{{}}"}}"#)
}

fn event(name: &str, channel: &str, data: &str) -> String {
    format!(r#"{{"event":"{name}","channel":"{channel}","data":{}}}"#, json!(data))
}

#[tokio::test]
async fn a_channel_that_holds_nothing_says_so_after_the_success() {
    let server = shared();
    for kind in KINDS {
        let channel = unique(kind);
        let (mut client, next) = newcomer(&server, &channel).await;
        assert_eq!(next, miss(&channel));
        client.expect_nothing().await;
    }
}

#[tokio::test]
async fn an_event_is_kept_with_and_without_subscribers() {
    let server = shared();
    for kind in KINDS {
        let channel = unique(kind);
        server.publish(&channel, "MessageReceived", r#"{"v":1.0}"#).await;
        let expected = event("MessageReceived", &channel, r#"{"v":1.0}"#);
        let (mut first, next) = newcomer(&server, &channel).await;
        assert_eq!(next, expected);
        first.unsubscribe(&channel).await;
        first.subscribe(&channel).await;
        first.expect_text(&expected).await;
        first.close().await;
        let (mut second, next) = newcomer(&server, &channel).await;
        assert_eq!(next, expected);
        second.expect_nothing_published(&server).await;
        server.publish(&channel, "Other", "2").await;
        second.expect_text(&event("Other", &channel, "2")).await;
        let (mut third, next) = newcomer(&server, &channel).await;
        assert_eq!(next, event("Other", &channel, "2"), "the last one alone");
        third.expect_nothing_published(&server).await;
        second.expect_nothing_published(&server).await;
    }
}

#[tokio::test]
async fn a_presence_channel_sends_roster_then_event_then_members() {
    let server = shared();
    let channel = unique("presence-cache-");
    let mut ann = WsClient::connect(&server).await;
    ann.join_as(&channel, "ann").await;
    ann.expect_text(&miss(&channel)).await;
    server.publish(&channel, "x", "1").await;
    ann.expect("x").await;
    let mut bob = WsClient::connect(&server).await;
    assert_eq!(bob.join_as(&channel, "bob").await["count"], 2);
    bob.expect_text(&event("x", &channel, "1")).await;
    bob.expect_nothing_published(&server).await;
    ann.expect("pusher_internal:member_added").await;
    ann.expect_nothing_published(&server).await;
}

#[tokio::test]
async fn subscribing_again_sends_no_cached_event() {
    let server = shared();
    let channel = unique("cache-");
    server.publish(&channel, "x", "1").await;
    let (mut client, _) = newcomer(&server, &channel).await;
    client.subscribe(&channel).await;
    client.expect_nothing_published(&server).await;
}

#[tokio::test]
async fn leaving_out_a_socket_has_no_bearing_on_what_is_kept() {
    let server = shared();
    let channel = unique("cache-");
    let (mut client, _) = newcomer(&server, &channel).await;
    let body = json!({"name": "x", "channel": channel, "data": "1", "socket_id": client.socket_id});
    Request::trigger(server.app(), &body).send(server.public).await.expect_ok("{}");
    client.expect_nothing_published(&server).await;
    let (_late, next) = newcomer(&server, &channel).await;
    assert_eq!(next, event("x", &channel, "1"));
    // The same connection is a newcomer once it has left.
    client.unsubscribe(&channel).await;
    client.subscribe(&channel).await;
    client.expect_text(&event("x", &channel, "1")).await;
}

#[tokio::test]
async fn every_channel_of_a_publish_keeps_the_event() {
    let server = shared();
    let channels = [unique("cache-"), unique("news-"), unique("private-cache-")];
    let body = json!({"name": "x", "channels": channels, "data": "1"});
    Request::trigger(server.app(), &body).send(server.public).await.expect_ok("{}");
    for channel in [&channels[0], &channels[2]] {
        assert_eq!(newcomer(&server, channel).await.1, event("x", channel, "1"));
    }
    let mut client = WsClient::connect(&server).await;
    client.subscribe(&channels[1]).await;
    client.expect_nothing_published(&server).await;
}

#[tokio::test]
async fn a_batch_leaves_its_last_event_of_each_channel() {
    let server = shared();
    let (first, second) = (unique("cache-"), unique("cache-"));
    let batch: Vec<_> = [(&first, "1"), (&second, "2"), (&first, "3")]
        .iter()
        .map(|(channel, data)| json!({"name": "x", "channel": channel, "data": data}))
        .collect();
    let body = json!({"batch": batch}).to_string();
    let path = server.app().path("batch_events");
    Request::post(server.app(), &path, body).send(server.public).await.expect_status(200);
    assert_eq!(newcomer(&server, &first).await.1, event("x", &first, "3"));
    assert_eq!(newcomer(&server, &second).await.1, event("x", &second, "2"));
}

#[tokio::test]
async fn apps_keep_apart_what_they_remember() {
    let server = shared();
    let channel = unique("cache-");
    server.publish(&channel, "x", "1").await;
    let mut client = WsClient::connect_to(&server, server.app_with_id(DEFAULTS)).await;
    client.subscribe(&channel).await;
    client.expect_text(&miss(&channel)).await;
}

#[tokio::test]
async fn payloads_are_kept_to_the_character() {
    let server = shared();
    let channel = unique("cache-");
    let data = r#""{\"v\":1.0,\"n\":1152921504606846976,\"s\":\"\\u00e9\\\/\u00e9é\"}""#;
    let body = format!(r#"{{"name":"x","channel":"{channel}","data":{data}}}"#);
    Request::post(server.app(), &server.app().path("events"), body).send(server.public).await.expect_ok("{}");
    assert_eq!(
        newcomer(&server, &channel).await.1,
        format!(r#"{{"event":"x","channel":"{channel}","data":{data}}}"#)
    );
}

#[tokio::test]
async fn an_event_is_forgotten_after_its_time() {
    let server = FORGETFUL.get();
    let channel = unique("cache-");
    server.publish(&channel, "x", "1").await;
    let published = Instant::now();
    let mut client = WsClient::connect(&server).await;
    let mut was_kept = false;
    loop {
        client.subscribe(&channel).await;
        let next = client.next().await;
        if next.event == "pusher:cache_miss" {
            break;
        }
        assert_eq!(next.text, event("x", &channel, "1"));
        was_kept = true;
        client.unsubscribe(&channel).await;
        assert!(published.elapsed() < DEADLINE, "never forgotten");
    }
    assert!(was_kept);
    assert!(published.elapsed() > Duration::from_millis(900), "forgotten after {:?}", published.elapsed());
    server.publish(&channel, "y", "2").await;
    client.expect("y").await;
    assert_eq!(newcomer(&server, &channel).await.1, event("y", &channel, "2"));
}

#[tokio::test]
async fn an_app_remembers_so_much_and_forgets_its_oldest_event_first() {
    let server = Config::new().app("1001", "cache_size = \"64KB\"").app("1002", "").start();
    let other = server.app_with_id("1002");
    server.publish_to(other, "cache-of-another", "e", "kept").await;
    let data = "x".repeat(5_000);
    for number in 0..40 {
        server.publish(&format!("cache-{number}"), "e", &data).await;
    }
    let (_, next) = newcomer(&server, "cache-0").await;
    assert_eq!(next, miss("cache-0"));
    let (_, next) = newcomer(&server, "cache-39").await;
    assert_eq!(next, event("e", "cache-39", &data));
    let mut client = WsClient::connect_to(&server, other).await;
    client.subscribe("cache-of-another").await;
    client.expect_text(&event("e", "cache-of-another", "kept")).await;
}
