//! The server SDKs of npm and PyPI, and requests that PHP makes as the SDK does which Laravel uses.

use serde_json::{Value, json};

use crate::clients::Sdk;
use crate::harness::names::unique;
use crate::harness::server::Config;
use crate::harness::shared::{COUNTING, DISABLED, EMPTY, shared};
use crate::harness::sign::App;
use crate::harness::ws::WsClient;

/// Makes each test once for either SDK. Both spell their methods differently.
macro_rules! each_sdk {
    ($($test:ident;)+) => {$(
        mod $test {
            use super::{NODE, PYTHON, Sdk};

            #[tokio::test]
            async fn node() {
                super::$test(Sdk::node(), NODE).await;
            }

            #[tokio::test]
            async fn python() {
                super::$test(Sdk::python(), PYTHON).await;
            }
        }
    )+};
}

each_sdk! {
    trigger_reaches_one_many_and_a_hundred_channels;
    trigger_leaves_out_the_excluded_connection;
    a_batch_arrives_in_order;
    encrypted_events_arrive_sealed;
    an_event_for_a_user_reaches_that_user;
    terminating_a_user_closes_their_connections;
    queries_tell_channels_counts_and_users;
    queries_of_an_empty_app_are_empty_objects;
    refusals_show_their_text;
}

/// What the tests call, by the names of one SDK.
#[derive(Clone, Copy, Debug)]
struct Names {
    batch: &'static str,
    send_to_user: &'static str,
    terminate: &'static str,
}

const NODE: Names =
    Names { batch: "triggerBatch", send_to_user: "sendToUser", terminate: "terminateUserConnections" };
const PYTHON: Names =
    Names { batch: "trigger_batch", send_to_user: "send_to_user", terminate: "terminate_user_connections" };

impl Names {
    /// The method and arguments that ask for this resource below `/apps/{id}`.
    fn query(self, resource: &str, params: &Value) -> (&'static str, Value) {
        let is_python = self.batch == PYTHON.batch;
        let info: Vec<&str> =
            params["info"].as_str().map(|info| info.split(',').collect()).unwrap_or_default();
        match resource.split('/').skip(1).collect::<Vec<_>>()[..] {
            _ if !is_python => ("get", json!([{"path": resource, "params": params}])),
            ["channels"] => ("channels_info", json!([params["filter_by_prefix"], info])),
            ["channels", channel] => ("channel_info", json!([channel, info])),
            ["channels", channel, "users"] => ("users_info", json!([channel])),
            _ => panic!("{resource} is no resource"),
        }
    }
}

async fn trigger_reaches_one_many_and_a_hundred_channels(mut sdk: Sdk, _: Names) {
    let server = shared();
    let app = server.app();
    let mut client = WsClient::connect(&server).await;
    let channels: Vec<_> = (0..100).map(|_| unique("room")).collect();
    for channel in &channels {
        client.subscribe(channel).await;
    }
    let args = json!([channels[0], r"App\Events\Posted", {"n": 1}]);
    assert_eq!(sdk.call(&server, app, "trigger", args).await, json!({}));
    let event = client.expect(r"App\Events\Posted").await;
    assert_eq!((event.channel(), event.json()), (channels[0].as_str(), json!({"n": 1})));
    for count in [3, 100] {
        let args = json!([channels[..count], "Posted", {"text": "hé/"}]);
        assert_eq!(sdk.call(&server, app, "trigger", args).await, json!({}));
        for channel in &channels[..count] {
            let event = client.expect("Posted").await;
            assert_eq!((event.channel(), event.json()), (channel.as_str(), json!({"text": "hé/"})));
        }
    }
}

async fn trigger_leaves_out_the_excluded_connection(mut sdk: Sdk, names: Names) {
    let server = shared();
    let (mut ann, mut bob) = (WsClient::connect(&server).await, WsClient::connect(&server).await);
    let room = unique("room");
    ann.subscribe(&room).await;
    bob.subscribe(&room).await;
    let exclusion = match names.batch == PYTHON.batch {
        true => json!(ann.socket_id),
        false => json!({"socket_id": ann.socket_id}),
    };
    for (name, last) in [("first", exclusion), ("second", Value::Null)] {
        let mut args = vec![json!(room), json!(name), json!({})];
        args.extend((!last.is_null()).then_some(last));
        sdk.call(&server, server.app(), "trigger", json!(args)).await;
    }
    bob.expect("first").await;
    bob.expect("second").await;
    ann.expect("second").await;
}

async fn a_batch_arrives_in_order(mut sdk: Sdk, names: Names) {
    let server = shared();
    let mut client = WsClient::connect(&server).await;
    let (one, other) = (unique("room"), unique("private-room"));
    client.subscribe(&one).await;
    client.subscribe(&other).await;
    let batch: Vec<_> = (0..10)
        .map(|n| json!({"channel": if n % 2 == 0 { &one } else { &other }, "name": format!("e{n}"), "data": {"n": n}}))
        .collect();
    assert_eq!(sdk.call(&server, server.app(), names.batch, json!([batch])).await, json!({}));
    for n in 0..10 {
        assert_eq!(client.expect(&format!("e{n}")).await.json(), json!({"n": n}));
    }
}

async fn encrypted_events_arrive_sealed(mut sdk: Sdk, _: Names) {
    let server = shared();
    let mut client = WsClient::connect(&server).await;
    let room = unique("private-encrypted-room");
    client.subscribe(&room).await;
    sdk.call(&server, server.app(), "trigger", json!([room, "Posted", {"secret": 1}])).await;
    let sealed = client.expect("Posted").await.json();
    assert!(sealed["nonce"].is_string() && sealed["ciphertext"].is_string(), "{sealed}");
    assert_eq!(sealed.as_object().map(serde_json::Map::len), Some(2), "{sealed}");
}

async fn an_event_for_a_user_reaches_that_user(mut sdk: Sdk, names: Names) {
    let server = shared();
    let (mut ann, mut bob) = (WsClient::connect(&server).await, WsClient::connect(&server).await);
    let (ann_id, bob_id) = (unique("ann"), unique("bob"));
    for (client, id) in [(&mut ann, &ann_id), (&mut bob, &bob_id)] {
        client.sign_in(&json!({"id": id}).to_string()).await;
        client.subscribe(&format!("#server-to-user-{id}")).await;
    }
    let args = json!([ann_id, "Notified", {"n": 1}]);
    assert_eq!(sdk.call(&server, server.app(), names.send_to_user, args).await, json!({}));
    assert_eq!(ann.expect("Notified").await.json(), json!({"n": 1}));
    bob.expect_nothing().await;
}

async fn terminating_a_user_closes_their_connections(mut sdk: Sdk, names: Names) {
    let server = shared();
    let ann = unique("ann");
    let mut tabs = [WsClient::connect(&server).await, WsClient::connect(&server).await];
    let mut bob = WsClient::connect(&server).await;
    for tab in &mut tabs {
        tab.sign_in(&json!({"id": ann}).to_string()).await;
    }
    bob.sign_in(&json!({"id": unique("bob")}).to_string()).await;
    for _ in 0..2 {
        // The second call finds nobody and is a success all the same.
        assert_eq!(sdk.call(&server, server.app(), names.terminate, json!([ann])).await, json!({}));
    }
    for mut tab in tabs {
        tab.expect_error(4009, "").await;
        tab.expect_close(4009).await;
    }
    bob.expect_nothing().await;
}

async fn queries_tell_channels_counts_and_users(mut sdk: Sdk, names: Names) {
    let server = shared();
    let app = server.app_with_id(COUNTING);
    let name = unique("room");
    let (presence, public) = (format!("presence-{name}"), name.clone());
    let mut clients = Vec::new();
    for id in ["ann", "bob", "bob"] {
        let mut client = WsClient::connect_to(&server, app).await;
        client.join_as(&presence, id).await;
        client.send_subscribe(&public).await;
        client.wait_for("pusher_internal:subscription_succeeded").await;
        clients.push(client);
    }
    let prefix = json!({"filter_by_prefix": format!("presence-{name}"), "info": "user_count"});
    let users = format!("/channels/{presence}/users");
    let counts = json!({"info": "user_count,subscription_count"});
    for (resource, params, expected) in [
        ("/channels", prefix, json!({"channels": {presence.as_str(): {"user_count": 2}}})),
        (
            &format!("/channels/{presence}"),
            counts,
            json!({"occupied": true, "user_count": 2, "subscription_count": 3}),
        ),
        (
            &format!("/channels/{public}"),
            json!({"info": "subscription_count"}),
            json!({"occupied": true, "subscription_count": 3}),
        ),
        (&format!("/channels/{}", unique("nobody")), json!({}), json!({"occupied": false})),
    ] {
        let (method, args) = names.query(resource, &params);
        assert_eq!(sdk.call(&server, app, method, args).await, expected, "{resource}");
    }
    let (method, args) = names.query(&users, &json!({}));
    let mut found = sdk.call(&server, app, method, args).await;
    let found = found["users"].as_array_mut().expect("a list");
    found.sort_by_key(Value::to_string);
    assert_eq!(*found, [json!({"id": "ann"}), json!({"id": "bob"})]);
}

async fn queries_of_an_empty_app_are_empty_objects(mut sdk: Sdk, names: Names) {
    let server = shared();
    let app = server.app_with_id(EMPTY);
    for (resource, expected) in
        [("/channels", json!({"channels": {}})), ("/channels/presence-room/users", json!({"users": []}))]
    {
        let (method, args) = names.query(resource, &json!({}));
        assert_eq!(sdk.call(&server, app, method, args).await, expected);
    }
}

async fn refusals_show_their_text(mut sdk: Sdk, _: Names) {
    let server = shared();
    let forged = App { secret: "wrong".to_owned(), ..server.app().clone() };
    let unknown = App::new("999999", "nokey", "secret");
    let disabled = server.app_with_id(DISABLED);
    let too_big = "x".repeat(10_241);
    for (app, data, status, text) in [
        (&forged, "", 401, "HmacSHA256Hex"),
        (&unknown, "", 401, "auth_key"),
        (disabled, "", 403, "disabled"),
        (server.app(), too_big.as_str(), 413, "10240"),
    ] {
        let args = json!([unique("room"), "Posted", data]);
        let refusal = sdk.try_call(&server, app, "trigger", args).await.expect_err("refused").to_string();
        // Python names 401 and 403 by a class of their own and prints only the text.
        let class = match status {
            401 => "PusherBadAuth",
            403 => "PusherForbidden",
            _ => "PusherBadStatus: 413",
        };
        assert!(refusal.contains(&format!("\"status\":{status}")) || refusal.contains(class), "{refusal}");
        assert!(refusal.contains(text), "{text:?} is not in {refusal}");
    }
}

#[tokio::test]
async fn node_shows_the_text_of_a_bad_request() {
    let (server, mut sdk) = (shared(), Sdk::node());
    let args = json!([unique("room"), "pusher:forbidden", {}]);
    let refusal = sdk.try_call(&server, server.app(), "trigger", args).await.expect_err("refused");
    assert_eq!(refusal["status"], 400);
    assert!(refusal["body"].as_str().is_some_and(|body| body.contains("pusher:")), "{refusal}");
}

#[tokio::test]
async fn python_raises_bad_request() {
    let (server, mut sdk) = (shared(), Sdk::python());
    let args = json!([unique("room"), "pusher:forbidden", {}]);
    let refusal = sdk.try_call(&server, server.app(), "trigger", args).await.expect_err("refused");
    assert!(
        refusal["error"].as_str().is_some_and(|text| text.starts_with("PusherBadRequest: ")),
        "{refusal}"
    );
}

#[tokio::test]
async fn node_is_told_the_counts_it_asks_for_when_it_publishes() {
    let (server, mut sdk) = (shared(), Sdk::node());
    let app = server.app_with_id(COUNTING);
    let mut client = WsClient::connect_to(&server, app).await;
    let (presence, public) = (unique("presence-room"), unique("room"));
    client.join_as(&presence, "ann").await;
    client.subscribe(&public).await;
    let info = json!({"info": "user_count,subscription_count"});
    let answer = sdk.call(&server, app, "trigger", json!([[presence, public], "Posted", {}, info])).await;
    let (of_presence, of_public) = (&answer["channels"][&presence], &answer["channels"][&public]);
    assert_eq!(of_presence["user_count"], 1, "{answer}");
    assert_eq!(*of_public, json!({"subscription_count": 1}), "{answer}");
    let batch = json!([[
        {"channel": public, "name": "Posted", "data": {}},
        {"channel": presence, "name": "Posted", "data": {}, "info": "user_count"},
    ]]);
    let answer = sdk.call(&server, app, "triggerBatch", batch).await;
    assert_eq!(answer, json!({"batch": [{}, {"user_count": 1}]}));
}

/// PHP's acceptance tests compare whole answers.
#[tokio::test]
async fn php_and_ruby_are_told_the_counts_of_occupied_and_empty_channels() {
    let server = shared();
    let app = server.app_with_id(COUNTING);
    let mut client = WsClient::connect_to(&server, app).await;
    let (public, quiet, presence) = (unique("my-channel"), unique("my-channel-2"), unique("presence-my"));
    client.subscribe(&public).await;
    let info = json!({"info": "user_count,subscription_count"});
    let zeros = json!({"user_count": 0, "subscription_count": 0});
    for (mut sdk, batch) in [(Sdk::php(), "triggerBatch"), (Sdk::ruby_itself(), "trigger_batch")] {
        let args = json!([[public, presence], "Posted", {"n": 1}, info]);
        let answer = sdk.call(&server, app, "trigger", args).await;
        let expected =
            json!({"channels": {public.as_str(): {"subscription_count": 1}, presence.as_str(): zeros}});
        assert_eq!(answer, expected);
        let events = json!([[
            {"channel": public, "name": "Posted", "data": {"n": 2}, "info": "subscription_count"},
            {"channel": quiet, "name": "Posted", "data": "text"},
            {"channel": presence, "name": "Posted", "data": [], "info": "user_count,subscription_count"},
        ]]);
        let answer = sdk.call(&server, app, batch, events).await;
        assert_eq!(answer, json!({"batch": [{"subscription_count": 1}, {}, zeros]}));
        for data in [json!({"n": 1}), json!({"n": 2})] {
            assert_eq!(client.wait_for("Posted").await.json(), data);
        }
    }
}

#[tokio::test]
async fn php_reads_an_empty_list_of_channels_and_ends_the_connections_of_a_user() {
    let (server, mut sdk) = (shared(), Sdk::php());
    let none = sdk.call(&server, server.app_with_id(EMPTY), "getChannels", json!([])).await;
    // PHP's own array: its JSON does not tell a list from a map.
    assert_eq!(none, json!({"channels": []}));
    let user = unique("user");
    let mut client = WsClient::connect(&server).await;
    client.sign_in(&json!({"id": user}).to_string()).await;
    let args = json!([user]);
    assert_eq!(sdk.call(&server, server.app(), "terminateUserConnections", args).await, json!({}));
    client.expect_refusal(4009, "disconnected by the app").await;
}

#[tokio::test]
async fn php_publishes_its_own_escapes_to_one_or_many_channels() {
    let (server, mut sdk) = (shared(), Sdk::php());
    let mut client = WsClient::connect(&server).await;
    let (one, other) = (unique("private-user"), unique("private-user"));
    client.subscribe(&one).await;
    client.subscribe(&other).await;
    // PHP encodes the payload.
    let payload = json!({"body": "h\u{e9} \u{1f600}", "none": [], "sum": 0.1 + 0.2, "url": "a/b"});
    let data = r#"{"body":"h\u00e9 \ud83d\ude00","none":[],"sum":0.30000000000000004,"url":"a\/b"}"#;
    let name = r"App\Events\MessageReceived";
    for body in [
        json!({"name": name, "data": payload, "channel": one}),
        json!({"name": name, "data": payload, "channels": [one, other]}),
        json!({"name": name, "data": "[]", "channels": [one]}),
    ] {
        let request = json!({"method": "POST", "resource": "/events", "body": body});
        let answer = sdk.send(&server, server.app(), request).await;
        assert_eq!(answer, json!({"status": 200, "body": {}}));
    }
    for (channel, text) in [(&one, data), (&one, data), (&other, data), (&one, "[]")] {
        let event = client.expect(name).await;
        assert_eq!((event.channel(), event.data()), (channel.as_str(), text));
    }
}

#[tokio::test]
async fn php_asks_with_array_parameters() {
    let (server, mut sdk) = (shared(), Sdk::php());
    let app = server.app_with_id(COUNTING);
    let mut client = WsClient::connect_to(&server, app).await;
    let room = unique("presence-room");
    client.join_as(&room, "ann").await;
    for info in [json!(["user_count", "subscription_count"]), json!("user_count,subscription_count")] {
        let request =
            json!({"method": "GET", "resource": format!("/channels/{room}"), "params": {"info": info}});
        let answer = sdk.send(&server, app, request).await;
        let body = json!({"occupied": true, "user_count": 1, "subscription_count": 1});
        assert_eq!(answer, json!({"status": 200, "body": body}));
    }
}

#[tokio::test]
async fn php_does_not_sign_its_path_option() {
    let server = Config::new().server("path_prefix = \"/realtime\"").start();
    let mut sdk = Sdk::php();
    for (method, resource, body) in [
        ("POST", "/events", json!({"name": "E", "data": "{}", "channel": "room"})),
        ("GET", "/channels", Value::Null),
        ("POST", "/users/42/terminate_connections", json!({})),
    ] {
        let mut request = json!({"method": method, "resource": resource, "path": "/realtime"});
        if !body.is_null() {
            request["body"] = body;
        }
        let answer = sdk.send(&server, server.app(), request).await;
        assert_eq!(answer["status"], 200, "{answer}");
    }
}
