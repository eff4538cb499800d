//! Rules of docs/protocol.md that are too small for a file of their own.

use serde_json::json;

use crate::harness::http::Request;
use crate::harness::names::unique;
use crate::harness::server::Config;
use crate::harness::shared::{COUNTING, DEFAULTS, shared};
use crate::harness::sign::App;
use crate::harness::watcher::Watcher;
use crate::harness::ws::WsClient;

#[tokio::test]
async fn an_app_that_is_removed_loses_its_connections_with_4001_and_a_new_one_is_served() {
    let server = Config::new().server("shards = 2").app("1001", "").app("1002", "").start();
    let mut staying = WsClient::connect(&server).await;
    staying.subscribe("news").await;
    let gone = server.app_with_id("1002");
    let mut leaving = [WsClient::connect_to(&server, gone).await, WsClient::connect_to(&server, gone).await];
    let added = App::new("1003", "sb-key-1003", "sb-secret-1003");
    server.reload(|text| text.replace("1002", "1003"), "configuration reloaded").await;
    for client in &mut leaving {
        client.expect_refusal(4001, "does not exist").await;
    }
    let path = format!("/app/{}?protocol=7", gone.key);
    WsClient::open(server.public, gone, &path, &[]).await.expect_refusal(4001, "does not exist").await;
    let body = json!({"name": "e", "channel": "news", "data": "1"});
    Request::trigger(gone, &body).send(server.public).await.expect_error(401, "auth_key");

    let mut newcomer = Watcher::on_app(&server, &added, "news").await;
    server.publish_to(&added, "news", "e", "1").await;
    newcomer.expect("e", "1").await;
    server.publish("news", "e", "2").await;
    assert_eq!(staying.expect("e").await.data(), "2");
}

#[tokio::test]
async fn an_app_id_may_have_letters_underscores_and_dashes() {
    let server = Config::new().app("Portal_a-1", "").start();
    let mut watcher = Watcher::on(&server, "news").await;
    server.publish("news", "e", "1").await;
    watcher.expect("e", "1").await;
}

#[tokio::test]
async fn a_terminated_connection_is_told_that_the_app_did_it() {
    let server = shared();
    let user = unique("user-");
    let mut client = WsClient::connect(&server).await;
    client.sign_in(&json!({"id": user}).to_string()).await;
    let path = server.app().path(&format!("users/{user}/terminate_connections"));
    Request::post(server.app(), &path, "{}").send(server.public).await.expect_ok("{}");
    let text = "You got disconnected by the app.";
    client
        .expect_text(&json!({"event": "pusher:error", "data": {"code": 4009, "message": text}}).to_string())
        .await;
    assert_eq!(client.expect_close(4009).await.reason.as_str(), text);
}

#[tokio::test]
async fn only_an_id_that_can_sign_in_can_be_terminated() {
    let server = shared();
    let app = server.app();
    for user in ["a%20b", "a:b", "%C3%A9", &"x".repeat(129)] {
        let path = app.path(&format!("users/{user}/terminate_connections"));
        Request::post(app, &path, "{}").send(server.public).await.expect_error(400, "User id");
    }
}

#[tokio::test]
async fn subscription_counts_are_told_on_every_kind_but_presence() {
    let server = shared();
    let app = server.app_with_id(COUNTING);
    for prefix in ["private-", "private-encrypted-", "private-cache-", "private-encrypted-cache-"] {
        let channel = unique(prefix);
        let mut client = WsClient::connect_to(&server, app).await;
        client.subscribe(&channel).await;
        if prefix.contains("cache-") {
            client.expect("pusher:cache_miss").await;
        }
        let told = client.expect("pusher_internal:subscription_count").await;
        assert_eq!((told.channel(), told.data()), (channel.as_str(), r#"{"subscription_count":1}"#));
    }
}

#[tokio::test]
async fn channel_data_comes_before_the_user_who_signed_in() {
    let server = shared();
    let channel = unique("presence-");
    let mut client = WsClient::connect(&server).await;
    client.sign_in(r#"{"id":"ann","user_info":{"name":"Ann"}}"#).await;
    let roster = client.join(&channel, r#"{"user_id":"guest","user_info":{"name":"Guest"}}"#).await;
    assert_eq!(roster, json!({"ids": ["guest"], "hash": {"guest": {"name": "Guest"}}, "count": 1}));
}

#[tokio::test]
async fn refusals_are_no_faults_that_add_up() {
    let server = shared();
    let app = server.app_with_id(DEFAULTS);
    let mut client = WsClient::connect_to(&server, app).await;
    let sign_in = json!({"event": "pusher:signin", "data": {"auth": "x:y", "user_data": "{}"}});
    for _ in 0..150 {
        client.send_subscribe("private-x").await;
        client.expect_not_subscribed("private-x", "AuthError", 401, "").await;
        client.send_client_event("private-x", "client-typing", &json!({})).await;
        client.expect_error(None, "client_events").await;
        client.send_json(&sign_in).await;
        client.expect_error(4009, "").await;
    }
    client.subscribe(&unique("private-")).await;
}

#[tokio::test]
async fn an_idempotency_key_has_up_to_255_characters() {
    let server = shared();
    let event = json!({"name": "e", "channel": unique("c"), "data": "1"});
    let longest = format!("{:x<255}", unique("key-"));
    let send = |key: &str| Request::trigger(server.app(), &event).header("Idempotency-Key", key);
    send(&longest).send(server.public).await.expect_ok("{}");
    send(&format!("{longest}x")).send(server.public).await.expect_error(400, "255");
}

#[tokio::test]
async fn the_parameters_of_a_post_are_those_of_its_body() {
    let server = shared();
    let app = server.app();
    let channel = unique("c");
    let mut watcher = Watcher::on(&server, &channel).await;
    let request = Request::post(app, &app.path("events"), "{}");
    let request = request.param("name", "e").param("channel", &channel).param("data", "1");
    request.send(server.public).await.expect_error(400, "Expected name parameter to be a string");
    watcher.expect_nothing(&server).await;
}

#[tokio::test]
async fn cache_is_an_attribute_of_a_single_channel_alone() {
    let server = shared();
    let app = server.app();
    let list = Request::get(app, &app.path("channels")).param("info", "cache");
    list.send(server.public).await.expect_error(400, "single channel");
    let channel = unique("cache-");
    let _watcher = Watcher::on(&server, &channel).await;
    let event = json!({"name": "e", "channel": channel, "data": "1", "info": "cache"});
    let answer = Request::trigger(app, &event).send(server.public).await.expect_status(200);
    assert_eq!(answer.json(), json!({"channels": {channel: {}}}));
    let body = json!({"batch": [event]}).to_string();
    let batch = Request::post(app, &app.path("batch_events"), body).send(server.public).await;
    batch.expect_ok(r#"{"batch":[{}]}"#);
}

#[tokio::test]
async fn subscription_count_of_channels_is_refused_where_it_is_off() {
    let server = shared();
    let app = server.app();
    let list = Request::get(app, &app.path("channels")).param("info", "subscription_count");
    list.send(server.public).await.expect_error(400, "subscription_count is not enabled");
}
