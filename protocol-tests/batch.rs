//! `POST /apps/{id}/batch_events`: all or nothing, in order.

use serde_json::{Value, json};

use crate::harness::http::{Request, Response};
use crate::harness::names::unique;
use crate::harness::server::TestServer;
use crate::harness::shared::{COUNTING, shared};
use crate::harness::sign::App;
use crate::harness::watcher::Watcher;
use crate::harness::ws::WsClient;

async fn send(server: &TestServer, app: &App, body: &Value) -> Response {
    Request::post(app, &app.path("batch_events"), body.to_string()).send(server.public).await
}

async fn batch(server: &TestServer, body: &Value) -> Response {
    send(server, server.app(), body).await
}

fn event(channel: &str, data: &str) -> Value {
    json!({"name": "e", "channel": channel, "data": data})
}

#[tokio::test]
async fn ten_events_arrive_in_the_order_of_the_array() {
    let server = shared();
    let channel = unique("c");
    let mut watcher = Watcher::on(&server, &channel).await;
    let events: Vec<_> = (0..10).map(|i| event(&channel, &i.to_string())).collect();
    batch(&server, &json!({"batch": events})).await.expect_ok("{}");
    for i in 0..10 {
        watcher.expect("e", &i.to_string()).await;
    }
    watcher.expect_nothing(&server).await;
}

#[tokio::test]
async fn events_go_each_to_its_own_channel() {
    let server = shared();
    let (first, second) = (unique("a"), unique("b"));
    let mut one = Watcher::on(&server, &first).await;
    let mut other = Watcher::on(&server, &second).await;
    let body = json!({"batch": [event(&first, "1"), event(&second, "2"), event(&first, "3")]});
    batch(&server, &body).await.expect_ok("{}");
    one.expect("e", "1").await;
    one.expect("e", "3").await;
    other.expect("e", "2").await;
    one.expect_nothing(&server).await;
    other.expect_nothing(&server).await;
}

#[tokio::test]
async fn an_empty_batch_is_a_success() {
    let server = shared();
    batch(&server, &json!({"batch": []})).await.expect_ok("{}");
}

#[tokio::test]
async fn eleven_events_are_refused() {
    let server = shared();
    let channel = unique("c");
    let mut watcher = Watcher::on(&server, &channel).await;
    let events: Vec<_> = (0..11).map(|i| event(&channel, &i.to_string())).collect();
    batch(&server, &json!({"batch": events})).await.expect_error(400, "10");
    watcher.expect_nothing(&server).await;
}

#[tokio::test]
async fn a_batch_that_is_no_array_of_events_is_refused() {
    let server = shared();
    for body in [
        json!({}),
        json!({"batch": {}}),
        json!({"batch": null}),
        json!({"batch": "[]"}),
        json!({"batch": 7}),
        json!({"batch": [1]}),
        json!({"batch": [null]}),
        json!({"batch": [[]]}),
        json!({"batch": [{}]}),
        json!([]),
        json!([event("c", "1")]),
        json!(null),
        event("c", "1"),
    ] {
        let answer = batch(&server, &body).await;
        assert_eq!(answer.status, 400, "{body}: {}", answer.text());
        answer.error();
    }
    for text in ["", "{", "\u{feff}{}"] {
        let path = server.app().path("batch_events");
        Request::post(server.app(), &path, text).send(server.public).await.expect_error(400, "");
    }
    server.expect_alive();
}

#[tokio::test]
async fn one_bad_event_and_none_is_published() {
    let server = shared();
    let channel = unique("c");
    let mut watcher = Watcher::on(&server, &channel).await;
    for bad in [
        json!({"channel": channel, "data": "2"}),
        json!({"name": "e", "data": "2"}),
        json!({"name": "e", "channel": channel}),
        json!({"name": "e", "channels": [channel], "data": "2"}),
        json!({"name": "e", "channel": [channel], "data": "2"}),
        json!({"name": "e", "channel": "bad name!", "data": "2"}),
        json!({"name": "e", "channel": channel, "data": {"id": 2}}),
        json!({"name": "pusher:e", "channel": channel, "data": "2"}),
        json!({"name": "pusher_internal:e", "channel": channel, "data": "2"}),
        json!({"name": "x".repeat(201), "channel": channel, "data": "2"}),
        json!({"name": "", "channel": channel, "data": "2"}),
        json!({"name": "e", "channel": channel, "data": "2", "socket_id": "undefined"}),
        json!({"name": "e", "channel": channel, "data": "2", "info": "colour"}),
        json!(1),
    ] {
        let answer =
            batch(&server, &json!({"batch": [event(&channel, "1"), bad, event(&channel, "3")]})).await;
        assert_eq!(answer.status, 400, "{bad}: {}", answer.text());
        answer.error();
        watcher.expect_nothing(&server).await;
    }
}

#[tokio::test]
async fn one_oversized_event_and_none_is_published() {
    let server = shared();
    let channel = unique("c");
    let mut watcher = Watcher::on(&server, &channel).await;
    let body = json!({"batch": [event(&channel, "1"), event(&channel, &"x".repeat(10_241))]});
    let text = batch(&server, &body).await.expect_status(413).error();
    assert!(text.contains("exceeds the allowed maximum (10240 bytes)"), "{text}");
    assert!(text.contains("event_size") && text.contains("10241"), "{text}");
    watcher.expect_nothing(&server).await;
}

#[tokio::test]
async fn info_of_some_events_makes_an_array_with_a_place_for_each() {
    let server = shared();
    let app = server.app_with_id(COUNTING);
    let (room, user) = (unique("presence-room"), unique("user."));
    let mut tabs = Vec::new();
    for id in ["1", "1", "2"] {
        let mut client = WsClient::connect_to(&server, app).await;
        client.join_as(&room, id).await;
        tabs.push(client);
    }
    let mut asking = event(&room, "{}");
    asking["info"] = json!("user_count,subscription_count");
    let body = json!({"batch": [event(&user, "{}"), asking]});
    let answer = send(&server, app, &body).await.expect_status(200);
    assert_eq!(answer.json(), json!({"batch": [{}, {"user_count": 2, "subscription_count": 3}]}));

    let mut asking = event(&user, "{}");
    asking["info"] = json!("user_count");
    let answer = send(&server, app, &json!({"batch": [asking, event(&room, "{}")]})).await;
    answer.expect_ok(r#"{"batch":[{},{}]}"#);

    // Nobody is there: zeros, as a query gives them.
    let (empty_room, nobody) = (unique("presence-room"), unique("c"));
    let batch: Vec<Value> = [&empty_room, &nobody]
        .map(|channel| {
            let mut asking = event(channel, "{}");
            asking["info"] = json!("user_count,subscription_count");
            asking
        })
        .to_vec();
    let answer = send(&server, app, &json!({"batch": batch})).await;
    answer.expect_ok(r#"{"batch":[{"user_count":0,"subscription_count":0},{"subscription_count":0}]}"#);
}

#[tokio::test]
async fn each_event_excludes_its_own_socket() {
    let server = shared();
    let channel = unique("c");
    let mut one = Watcher::on(&server, &channel).await;
    let mut other = Watcher::on(&server, &channel).await;
    let mut first = event(&channel, "1");
    first["socket_id"] = json!(one.socket_id());
    let mut second = event(&channel, "2");
    second["socket_id"] = json!(other.socket_id());
    let mut third = event(&channel, "3");
    third["socket_id"] = json!("");
    batch(&server, &json!({"batch": [first, second, third, event(&channel, "4")]})).await.expect_ok("{}");
    for data in ["2", "3", "4"] {
        one.expect("e", data).await;
    }
    for data in ["1", "3", "4"] {
        other.expect("e", data).await;
    }
}

#[tokio::test]
async fn encrypted_channels_may_stand_beside_others_as_each_event_is_for_one() {
    let server = shared();
    let encrypted = unique("private-encrypted-c");
    let mut watcher = Watcher::on(&server, &encrypted).await;
    let body = json!({"batch": [event(&unique("c"), "1"), event(&encrypted, "2")]});
    batch(&server, &body).await.expect_ok("{}");
    watcher.expect("e", "2").await;
}

#[tokio::test]
async fn a_cache_channel_remembers_the_last_event_of_the_batch() {
    let server = shared();
    let channel = unique("cache-c");
    let body = json!({"batch": [event(&channel, "1"), event(&channel, "2"), event(&unique("c"), "3")]});
    batch(&server, &body).await.expect_ok("{}");
    let mut late = Watcher::on(&server, &channel).await;
    late.expect("e", "2").await;
    late.expect_nothing(&server).await;
}

#[tokio::test]
async fn a_user_can_be_addressed_in_a_batch() {
    let server = shared();
    let user = unique("u");
    let mut client = WsClient::connect(&server).await;
    client.sign_in(&json!({"id": user}).to_string()).await;
    let channel = format!("#server-to-user-{user}");
    client.subscribe(&channel).await;
    batch(&server, &json!({"batch": [event(&channel, "1")]})).await.expect_ok("{}");
    let frame = client.expect("e").await;
    assert_eq!((frame.channel(), frame.data()), (channel.as_str(), "1"));
}
