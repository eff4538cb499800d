//! What is told, in which form.

use serde_json::{Value, json};

use super::{Hooks, PUSHERS, added, occupied, removed, vacated};
use crate::harness::http::Request;
use crate::harness::ws::WsClient;

const QUICK: &str = "webhook_delay = \"50ms\"";

#[tokio::test]
async fn w2_the_request_is_what_libraries_compare_letter_by_letter() {
    let mut hooks = Hooks::start("", "headers = { X-Env = \"prod\", Authorization = \"Bearer own\" }").await;
    let mut client = WsClient::connect(hooks.server()).await;
    client.subscribe("news").await;
    let request = hooks.portal.next().await;
    request.expect_signed(hooks.server().app());
    for (name, value) in [
        ("X-Env", Some("prod")),
        ("Authorization", Some("Bearer own")),
        ("Content-Type", Some("application/json")),
    ] {
        assert_eq!(request.header(name), value);
    }
    let names: Vec<_> = request.headers.iter().map(|(name, _)| name.as_str()).collect();
    for name in ["X-Pusher-Key", "X-Pusher-Signature", "Content-Type", "X-Env", "User-Agent"] {
        assert!(names.contains(&name), "{name} in {names:?}");
    }
    assert!(request.header("User-Agent").is_some_and(|agent| agent.starts_with("switchboard/")));
    assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", "/switchboard"));
    let body = request.json();
    assert!(body["time_ms"].as_u64().is_some_and(|time| time > 1_700_000_000_000), "{body}");
    assert_eq!(body["events"], json!([occupied("news")]));
    assert_eq!(body.as_object().expect("an object").len(), 2);
}

#[tokio::test]
async fn w4_each_event_has_its_keys_and_types() {
    let app = format!("{QUICK}\nsubscription_count = true");
    let mut hooks = Hooks::start(&app, &format!("events = {PUSHERS}")).await;
    let count =
        |count: u64| json!({"name": "subscription_count", "channel": "cache-a", "subscription_count": count});
    let mut client = WsClient::connect(hooks.server()).await;
    client.send_subscribe("cache-a").await;
    let miss = json!({"name": "cache_miss", "channel": "cache-a"});
    hooks.expect(&[occupied("cache-a")]).await;
    let mut rest = [hooks.next().await, hooks.next().await];
    rest.sort_by_key(Value::to_string);
    assert_eq!(rest, [miss, count(1)]);
    client.unsubscribe("cache-a").await;
    hooks.expect(&[count(0), vacated("cache-a")]).await;

    let mut other = WsClient::connect(hooks.server()).await;
    other.join_as("presence-room", "7").await;
    hooks.expect(&[occupied("presence-room"), added("presence-room", "7")]).await;
    // W5: a number in the signed data is a string all the same.
    let data = r#"{"user_id":42}"#;
    client.send_subscribe_presence("presence-room", data).await;
    client.wait_for("pusher_internal:subscription_succeeded").await;
    hooks.expect(&[added("presence-room", "42")]).await;
    client.send_client_event("presence-room", "client-typing", &json!({"n": 1})).await;
    let event = hooks.next().await;
    let expected = json!({"name": "client_event", "channel": "presence-room", "event": "client-typing",
        "data": "{\"n\":1}", "socket_id": client.socket_id, "user_id": "42"});
    assert_eq!(event, expected);
    client.unsubscribe("presence-room").await;
    hooks.expect(&[removed("presence-room", "42")]).await;
    // W9: the member goes before the channel.
    other.close().await;
    hooks.expect(&[removed("presence-room", "7"), vacated("presence-room")]).await;
}

#[tokio::test]
async fn w4_a_client_event_on_a_private_channel_has_no_user() {
    let mut hooks = Hooks::start("", "events = [\"client_event\"]").await;
    let mut client = WsClient::connect(hooks.server()).await;
    client.send_subscribe_private("private-room").await;
    client.expect_subscribed("private-room").await;
    // W17: what is refused is not told.
    client.subscribe("news").await;
    client.send_client_event("news", "client-refused", &json!({})).await;
    client.send_client_event("private-room", "client-text", &json!("text")).await;
    let event = hooks.next().await;
    assert_eq!(event["event"], "client-text");
    assert!(event["data"].is_string() && event.get("user_id").is_none(), "{event}");
}

#[tokio::test]
async fn only_the_first_and_the_last_subscription_are_told() {
    let mut hooks = Hooks::start(QUICK, "").await;
    let mut one = WsClient::connect(hooks.server()).await;
    let mut two = WsClient::connect(hooks.server()).await;
    for client in [&mut one, &mut two] {
        client.subscribe("news").await;
        client.subscribe("news").await;
    }
    one.unsubscribe("news").await;
    one.subscribe("marker").await;
    hooks.expect(&[occupied("news"), occupied("marker")]).await;
    two.close().await;
    hooks.expect(&[vacated("news")]).await;
}

#[tokio::test]
async fn server_to_user_channels_are_never_told() {
    let mut hooks = Hooks::start(QUICK, "").await;
    let mut client = WsClient::connect(hooks.server()).await;
    client.sign_in(r#"{"id":"7"}"#).await;
    client.subscribe("#server-to-user-7").await;
    client.subscribe("marker").await;
    hooks.expect(&[occupied("marker")]).await;
}

#[tokio::test]
async fn w15_many_subscribers_of_an_empty_cache_channel_are_one_miss() {
    let mut hooks = Hooks::start("", "events = [\"cache_miss\"]").await;
    let mut clients = Vec::new();
    for _ in 0..50 {
        clients.push(WsClient::connect(hooks.server()).await);
    }
    for client in &mut clients {
        client.send_subscribe("cache-prices").await;
    }
    for client in &mut clients {
        client.wait_for("pusher:cache_miss").await;
    }
    clients[0].send_subscribe("cache-marker").await;
    hooks.expect(&[json!({"name": "cache_miss", "channel": "cache-prices"})]).await;
    hooks.expect(&[json!({"name": "cache_miss", "channel": "cache-marker"})]).await;
}

#[tokio::test]
async fn w16_counts_of_busy_channels_are_told_seldom_and_the_last_one_is_right() {
    let mut hooks = Hooks::start("subscription_count = true", "events = [\"subscription_count\"]").await;
    let mut clients = Vec::new();
    for _ in 0..130 {
        let mut client = WsClient::connect(hooks.server()).await;
        client.send_subscribe("busy").await;
        clients.push(client);
    }
    for client in &mut clients {
        client.wait_for("pusher_internal:subscription_succeeded").await;
    }
    let mut counts = Vec::new();
    while counts.last() != Some(&130) {
        counts.push(hooks.next().await["subscription_count"].as_u64().expect("a number"));
    }
    assert!(counts.is_sorted(), "{counts:?}");
    assert!(counts.iter().filter(|count| **count > 100).count() <= 3, "{counts:?}");
    // Signed reads agree.
    let path = hooks.server().app().path("channels/busy");
    let request = Request::get(hooks.server().app(), &path).param("info", "subscription_count");
    let answer = request.send(hooks.server().public).await.expect_status(200).json();
    assert_eq!(answer["subscription_count"], 130);
}

#[tokio::test]
async fn connections_are_told_on_request_with_how_they_ended() {
    let events = "events = [\"connection_opened\", \"connection_closed\"]";
    let mut hooks = Hooks::start("", events).await;
    let mut client = WsClient::connect(hooks.server()).await;
    let id = client.socket_id.clone();
    let opened = json!({"name": "connection_opened", "channel": "", "socket_id": id});
    hooks.expect(&[opened]).await;
    client.sign_in(r#"{"id":"7"}"#).await;
    client.close().await;
    let closed = hooks.next().await;
    assert_eq!((&closed["name"], &closed["socket_id"]), (&json!("connection_closed"), &json!(id)));
    assert_eq!((&closed["user_id"], &closed["code"]), (&json!("7"), &json!(1005)));
    assert!(closed["duration_ms"].is_u64() && closed["reason"].is_string(), "{closed}");

    let client = WsClient::connect(hooks.server()).await;
    assert_eq!(hooks.next().await["name"], "connection_opened");
    client.reset();
    let closed = hooks.next().await;
    assert_eq!((&closed["code"], closed.get("user_id")), (&json!(1006), None));
}

#[tokio::test]
async fn a_server_that_sends_clients_away_says_why() {
    let events = "events = [\"connection_closed\"]";
    let mut hooks = Hooks::start("", events).await;
    let mut client = WsClient::connect(hooks.server()).await;
    client.sign_in(r#"{"id":"7"}"#).await;
    let path = hooks.server().app().path("users/7/terminate_connections");
    Request::post(hooks.server().app(), &path, "{}").send(hooks.server().public).await.expect_status(200);
    client.wait_for_close(crate::harness::DEADLINE).await;
    let closed = hooks.next().await;
    assert_eq!((&closed["user_id"], &closed["code"]), (&json!("7"), &json!(4009)));
    assert!(closed["reason"].as_str().is_some_and(|reason| reason.contains("disconnected")), "{closed}");
}

#[tokio::test]
async fn users_are_online_from_their_first_to_their_last_sign_in() {
    let events = "events = [\"user_online\", \"user_offline\"]";
    let mut hooks = Hooks::start(QUICK, events).await;
    let told = |name: &str| json!({"name": name, "channel": "", "user_id": "7"});
    let mut one = WsClient::connect(hooks.server()).await;
    one.sign_in(r#"{"id":"7"}"#).await;
    hooks.expect(&[told("user_online")]).await;
    let mut two = WsClient::connect(hooks.server()).await;
    two.sign_in(r#"{"id":"7"}"#).await;
    one.close().await;
    two.sign_in(r#"{"id":"7"}"#).await;
    two.close().await;
    hooks.expect(&[told("user_offline")]).await;
}
