//! `GET /apps/{id}/channels`, `/channels/{name}`, `/channels/{name}/users`, `/connections`.

use std::time::Instant;

use serde_json::{Value, json};

use crate::harness::DEADLINE;
use crate::harness::http::{Request, Response};
use crate::harness::names::unique;
use crate::harness::server::{Config, TestServer};
use crate::harness::shared::{COUNTING, EMPTY, shared};
use crate::harness::sign::App;
use crate::harness::watcher::Watcher;
use crate::harness::ws::WsClient;

async fn get(server: &TestServer, app: &App, rest: &str, params: &[(&str, &str)]) -> Response {
    let request = Request::get(app, &app.path(rest));
    let request = params.iter().fold(request, |request, (name, value)| request.param(name, value));
    request.send(server.public).await
}

async fn value(server: &TestServer, app: &App, rest: &str, params: &[(&str, &str)]) -> Value {
    let answer = get(server, app, rest, params).await.expect_status(200);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    answer.json()
}

/// `GET /channels/{name}`, with `info` when it is not empty.
async fn channel(server: &TestServer, app: &App, name: &str, info: &str) -> Response {
    let params = [("info", info)];
    let params = if info.is_empty() { &params[..0] } else { &params[..] };
    get(server, app, &format!("channels/{name}"), params).await
}

async fn tabs(server: &TestServer, app: &App, room: &str, users: &[&str]) -> Vec<WsClient> {
    let mut tabs = Vec::new();
    for user in users {
        let mut client = WsClient::connect_to(server, app).await;
        client.join_as(room, user).await;
        tabs.push(client);
    }
    tabs
}

#[tokio::test]
async fn an_app_without_occupied_channels_has_an_empty_object_of_them() {
    let server = shared();
    let app = server.app_with_id(EMPTY);
    let presence = ("filter_by_prefix", "presence-");
    for params in [&[][..], &[presence][..], &[presence, ("info", "user_count")][..]] {
        get(&server, app, "channels", params).await.expect_ok(r#"{"channels":{}}"#);
    }
}

#[tokio::test]
async fn occupied_channels_are_listed_and_nothing_else() {
    let server = Config::new().start();
    let app = server.app();
    let mut client = WsClient::connect(&server).await;
    client.subscribe("news").await;
    client.subscribe("private-news").await;
    client.join_as("presence-news", "1").await;
    client.subscribe("cache-news").await;
    client.expect("pusher:cache_miss").await;
    client.sign_in(r#"{"id":"42"}"#).await;
    client.subscribe("#server-to-user-42").await;
    server.publish("cache-unoccupied", "e", "1").await;
    server.publish("unoccupied", "e", "1").await;
    let expected = json!({"channels": {
        "news": {}, "private-news": {}, "presence-news": {}, "cache-news": {},
    }});
    assert_eq!(value(&server, app, "channels", &[]).await, expected);

    client.unsubscribe("news").await;
    client.drain().await;
    let names = value(&server, app, "channels", &[]).await;
    assert_eq!(names["channels"].get("news"), None);
    client.close().await;
    let start = Instant::now();
    while get(&server, app, "channels", &[]).await.expect_status(200).text() != r#"{"channels":{}}"# {
        assert!(start.elapsed() < DEADLINE, "the closed connection's channels stay");
    }
}

#[tokio::test]
async fn channels_are_filtered_by_prefix() {
    let server = shared();
    let app = server.app();
    let prefix = unique("list-");
    let names = [format!("{prefix}-a"), format!("{prefix}-b"), format!("x-{prefix}")];
    let mut client = WsClient::connect(&server).await;
    for name in &names {
        client.subscribe(name).await;
    }
    let expected = json!({"channels": {names[0].as_str(): {}, names[1].as_str(): {}}});
    assert_eq!(value(&server, app, "channels", &[("filter_by_prefix", &prefix)]).await, expected);
    for nothing in ["no such prefix+%&=#", "é€😀", &"x".repeat(200)] {
        let params = [("filter_by_prefix", nothing)];
        get(&server, app, "channels", &params).await.expect_ok(r#"{"channels":{}}"#);
    }
}

#[tokio::test]
async fn user_count_of_channels_needs_a_presence_prefix() {
    let server = shared();
    let app = server.app();
    let room = unique("presence-room");
    let _tabs = tabs(&server, app, &room, &["1", "1", "2"]).await;
    let params = [("filter_by_prefix", room.as_str()), ("info", "user_count")];
    let expected = json!({"channels": {room.as_str(): {"user_count": 2}}});
    assert_eq!(value(&server, app, "channels", &params).await, expected);
    let without_info = value(&server, app, "channels", &params[..1]).await;
    assert_eq!(without_info, json!({"channels": {room.as_str(): {}}}));

    let count = ("info", "user_count");
    for prefix in ["presence", "private-", "x", ""] {
        let answer = get(&server, app, "channels", &[("filter_by_prefix", prefix), count]).await;
        answer.expect_error(400, "presence-");
    }
    get(&server, app, "channels", &[count]).await.expect_error(400, "presence-");
    let unknown = [("filter_by_prefix", "presence-"), ("info", "user_count,colour")];
    get(&server, app, "channels", &unknown).await.expect_error(400, "colour");
}

#[tokio::test]
async fn subscription_count_of_channels_is_given_where_it_is_on() {
    let server = shared();
    let app = server.app_with_id(COUNTING);
    let name = unique("counted");
    let _one = Watcher::on_app(&server, app, &name).await;
    let _other = Watcher::on_app(&server, app, &name).await;
    let params = [("filter_by_prefix", name.as_str()), ("info", "subscription_count")];
    let expected = json!({"channels": {name.as_str(): {"subscription_count": 2}}});
    assert_eq!(value(&server, app, "channels", &params).await, expected);
}

#[tokio::test]
async fn a_channel_says_whether_it_is_occupied() {
    let server = shared();
    let app = server.app();
    let name = unique("c");
    channel(&server, app, &name, "").await.expect_ok(r#"{"occupied":false}"#);
    let mut watcher = Watcher::on(&server, &name).await;
    channel(&server, app, &name, "").await.expect_ok(r#"{"occupied":true}"#);
    watcher.client.unsubscribe(&name).await;
    watcher.client.drain().await;
    channel(&server, app, &name, "").await.expect_ok(r#"{"occupied":false}"#);
}

#[tokio::test]
async fn a_presence_channel_counts_users_and_connections() {
    let server = shared();
    let app = server.app_with_id(COUNTING);
    let room = unique("presence-room");
    let both = "user_count,subscription_count";
    let empty = channel(&server, app, &room, both).await.expect_status(200).json();
    assert_eq!(empty, json!({"occupied": false, "user_count": 0, "subscription_count": 0}));
    let _tabs = tabs(&server, app, &room, &["1", "1", "2"]).await;
    let full = channel(&server, app, &room, both).await.expect_status(200).json();
    assert_eq!(full, json!({"occupied": true, "user_count": 2, "subscription_count": 3}));
    let users = channel(&server, app, &room, "user_count").await.expect_status(200).json();
    assert_eq!(users, json!({"occupied": true, "user_count": 2}));
}

#[tokio::test]
async fn a_public_channel_counts_connections_where_that_is_on() {
    let server = shared();
    let app = server.app_with_id(COUNTING);
    let name = unique("c");
    let empty = channel(&server, app, &name, "subscription_count").await.expect_status(200).json();
    assert_eq!(empty, json!({"occupied": false, "subscription_count": 0}));
    let _watcher = Watcher::on_app(&server, app, &name).await;
    let one = channel(&server, app, &name, "subscription_count").await.expect_status(200).json();
    assert_eq!(one, json!({"occupied": true, "subscription_count": 1}));
}

#[tokio::test]
async fn a_cache_channel_shows_its_event_and_the_seconds_left() {
    let server = shared();
    let app = server.app();
    for prefix in ["cache-", "private-cache-", "private-encrypted-cache-", "presence-cache-"] {
        let name = unique(prefix);
        let empty = channel(&server, app, &name, "cache").await.expect_status(200).json();
        assert_eq!(empty, json!({"occupied": false, "cache": null}));
        server.publish(&name, "e", r#"{"v": 1.0}"#).await;
        let full = channel(&server, app, &name, "cache").await.expect_status(200).json();
        let ttl = full["cache"]["ttl"].as_u64().expect("whole seconds");
        assert!((1_785..=1_800).contains(&ttl), "{full}");
        assert_eq!(full, json!({"occupied": false, "cache": {"data": r#"{"v": 1.0}"#, "ttl": ttl}}));
    }
    let name = unique("cache-c");
    let _watcher = Watcher::on(&server, &name).await;
    let occupied = channel(&server, app, &name, "cache").await.expect_status(200).json();
    assert_eq!(occupied, json!({"occupied": true, "cache": null}));
}

#[tokio::test]
async fn a_cached_event_expires() {
    let server = Config::new().app("1001", "cache_ttl = \"400ms\"").start();
    let app = server.app();
    server.publish("cache-c", "e", "1").await;
    let start = Instant::now();
    loop {
        let answer = channel(&server, app, "cache-c", "cache").await.expect_status(200).json();
        if answer == json!({"occupied": false, "cache": null}) {
            break;
        }
        assert_eq!(answer["cache"]["data"], "1");
        assert!(start.elapsed() < DEADLINE, "still cached: {answer}");
    }
    let mut late = WsClient::connect(&server).await;
    late.subscribe("cache-c").await;
    late.expect_text(r#"{"event":"pusher:cache_miss","channel":"cache-c","data":"{}"}"#).await;
}

#[tokio::test]
async fn an_attribute_the_channel_does_not_have_is_an_error() {
    let server = shared();
    let app = server.app();
    let (public, private) = (unique("c"), unique("private-c"));
    for name in [&public, &private] {
        channel(&server, app, name, "user_count").await.expect_error(400, "user_count");
        channel(&server, app, name, "cache").await.expect_error(400, "cache");
    }
    channel(&server, app, &unique("presence-c"), "cache").await.expect_error(400, "cache");
    channel(&server, app, &unique("cache-c"), "cache,user_count").await.expect_error(400, "user_count");
    channel(&server, app, &public, "subscription_count").await.expect_error(400, "subscription_count");
    channel(&server, app, &unique("presence-c"), "user_count,colour").await.expect_error(400, "colour");
}

#[tokio::test]
async fn a_channel_name_that_cannot_be_is_an_error() {
    let server = shared();
    let app = server.app();
    let long = "c".repeat(201);
    for name in ["a:b", "bad%20name", "%C3%A9", "%23x", "%00", "%ff", &long] {
        for rest in [format!("channels/{name}"), format!("channels/{name}/users")] {
            let answer = get(&server, app, &rest, &[]).await;
            assert_eq!(answer.status, 400, "{rest}: {}", answer.text());
            answer.error();
        }
    }
    channel(&server, app, &"c".repeat(200), "").await.expect_ok(r#"{"occupied":false}"#);
}

#[tokio::test]
async fn a_channel_may_be_named_bare_or_percent_encoded() {
    let server = shared();
    let app = server.app();
    let name = unique("presence-=@,.;_");
    let _tab = tabs(&server, app, &name, &["1"]).await;
    channel(&server, app, &name, "").await.expect_ok(r#"{"occupied":true}"#);
    let encoded: String = name
        .chars()
        .map(|c| if "=@,;".contains(c) { format!("%{:02X}", c as u32) } else { c.to_string() })
        .collect();
    channel(&server, app, &encoded, "").await.expect_ok(r#"{"occupied":true}"#);
    // Signed over the decoded path, as an HTTP library that encodes late does.
    let request = Request::get(app, &app.path(&format!("channels/{name}/users")));
    let target = request.target().replace(&name, &encoded);
    let answer = request.send_with_target(server.public, &target).await;
    answer.expect_ok(r#"{"users":[{"id":"1"}]}"#);
}

#[tokio::test]
async fn users_are_distinct_strings() {
    let server = shared();
    let app = server.app();
    for prefix in ["presence-room", "presence-cache-room"] {
        let room = unique(prefix);
        let mut tabs = tabs(&server, app, &room, &["42", "42", "b"]).await;
        let mut numeric = WsClient::connect(&server).await;
        numeric.send_subscribe_presence(&room, r#"{"user_id":10}"#).await;
        numeric.expect("pusher_internal:subscription_succeeded").await;
        let answer = value(&server, app, &format!("channels/{room}/users"), &[]).await;
        let mut users = answer["users"].as_array().expect("an array").clone();
        users.sort_by_key(Value::to_string);
        assert_eq!(json!({"users": users}), answer_of(&["10", "42", "b"]));
        assert_eq!(answer.as_object().map(serde_json::Map::len), Some(1));
        tabs.truncate(1);
    }
}

fn answer_of(ids: &[&str]) -> Value {
    let users: Vec<_> = ids.iter().map(|id| json!({"id": id})).collect();
    json!({"users": users})
}

#[tokio::test]
async fn an_unoccupied_presence_channel_has_no_users() {
    let server = shared();
    let room = format!("channels/{}/users", unique("presence-room"));
    get(&server, server.app(), &room, &[]).await.expect_ok(r#"{"users":[]}"#);
}

#[tokio::test]
async fn only_presence_channels_have_users() {
    let server = shared();
    for prefix in ["c", "private-c", "cache-c", "presences"] {
        let name = unique(prefix);
        let answer = get(&server, server.app(), &format!("channels/{name}/users"), &[]).await;
        answer.expect_error(400, "presence");
    }
}

#[tokio::test]
async fn connections_are_counted() {
    let server = Config::new().app("1001", "").app("1002", "").start();
    let app = server.app();
    get(&server, app, "connections", &[]).await.expect_ok(r#"{"connections":0}"#);
    let _one = WsClient::connect(&server).await;
    let _two = WsClient::connect(&server).await;
    let _elsewhere = WsClient::connect_to(&server, server.app_with_id("1002")).await;
    get(&server, app, "connections", &[]).await.expect_ok(r#"{"connections":2}"#);
}
