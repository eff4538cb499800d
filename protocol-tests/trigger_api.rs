//! `POST /apps/{id}/events`: what a publish must look like, who gets it, what is answered.

use serde_json::{Value, json};

use crate::harness::http::{HttpConnection, Request, Response};
use crate::harness::names::unique;
use crate::harness::server::TestServer;
use crate::harness::shared::{COUNTING, shared};
use crate::harness::watcher::Watcher;
use crate::harness::ws::WsClient;

async fn trigger(server: &TestServer, body: &Value) -> Response {
    Request::trigger(server.app(), body).send(server.public).await
}

/// Publishes a body that must be refused with 400, and checks that nobody received anything.
async fn expect_refused(server: &TestServer, watcher: &mut Watcher, body: &Value, part: &str) {
    let answer = trigger(server, body).await;
    assert_eq!(answer.status, 400, "{body}: {}", answer.text());
    let text = answer.error();
    assert!(text.contains(part), "{part:?} is not in {text:?} for {body}");
    watcher.expect_nothing(server).await;
}

#[tokio::test]
async fn a_success_without_anything_to_report_is_an_empty_object() {
    let server = shared();
    let answer = trigger(&server, &json!({"name": "e", "channel": unique("c"), "data": "{}"})).await;
    let answer = answer.expect_ok("{}");
    assert_eq!(answer.header("content-length"), Some("2"));
    assert!(!answer.headers.iter().any(|(name, _)| name.to_lowercase().starts_with("access-control-")));
}

#[tokio::test]
async fn an_event_reaches_every_subscriber_of_every_channel_named() {
    let server = shared();
    let (first, second) = (unique("a"), unique("b"));
    let mut one = Watcher::on(&server, &first).await;
    let mut other = Watcher::on(&server, &first).await;
    let mut third = Watcher::on(&server, &second).await;
    let body =
        json!({"name": "App\\Events\\MessageReceived", "channels": [first, second], "data": "{\"id\":7}"});
    trigger(&server, &body).await.expect_ok("{}");
    for watcher in [&mut one, &mut other, &mut third] {
        watcher.expect("App\\Events\\MessageReceived", "{\"id\":7}").await;
    }
    third.expect_nothing(&server).await;
}

#[tokio::test]
async fn data_is_delivered_character_by_character() {
    let server = shared();
    let channel = unique("c");
    let mut watcher = Watcher::on(&server, &channel).await;
    for data in [
        r#"{"v":1.0,"n":1152921504606846976,"s":"\u00e9\/"}"#,
        "not json at all",
        "",
        " \t\r\n\u{0}\u{1f} é € 😀 \u{2028} \" \\ / </script>",
        "null",
        "{}",
    ] {
        server.publish(&channel, "e", data).await;
        watcher.expect("e", data).await;
    }
}

#[tokio::test]
async fn escapes_in_the_body_do_not_change_what_is_delivered() {
    let server = shared();
    let channel = unique("c");
    let mut watcher = Watcher::on(&server, &channel).await;
    // As Python prints it: everything beyond ASCII escaped, spaces after separators.
    let body = format!(
        r#"{{"name": "caf\u00e9\u002ex", "channels": ["{channel}"], "data": "{{\"body\": \"h\u00e9 \ud83d\ude00 \/\"}}"}}"#
    );
    Request::post(server.app(), &server.app().path("events"), body).send(server.public).await.expect_ok("{}");
    watcher.expect("café.x", r#"{"body": "hé 😀 /"}"#).await;
}

#[tokio::test]
async fn names_are_strings_of_one_to_200_characters_and_not_reserved() {
    let server = shared();
    let channel = unique("c");
    let mut watcher = Watcher::on(&server, &channel).await;
    for name in ["x", "App\\Events\\X", ".X", "client-x", "pusher", "pusher.x", "é"] {
        server.publish(&channel, name, "1").await;
        watcher.expect(name, "1").await;
    }
    for name in ["x".repeat(200), "é".repeat(200), "😀".repeat(200)] {
        server.publish(&channel, &name, "1").await;
        watcher.expect(&name, "1").await;
    }
    let body = json!({"channel": channel, "data": "1"});
    expect_refused(&server, &mut watcher, &body, "Expected name parameter to be a string").await;
    for (name, part) in [
        (json!(7), "Expected name parameter to be a string"),
        (json!(null), "Expected name parameter to be a string"),
        (json!(["e"]), "Expected name parameter to be a string"),
        (json!({}), "Expected name parameter to be a string"),
        (json!(""), "name"),
        (json!("x".repeat(201)), "200"),
        (json!("é".repeat(201)), "200"),
        (json!("pusher:x"), "pusher:"),
        (json!("pusher:"), "pusher:"),
        (json!("pusher_internal:x"), "pusher_internal:"),
    ] {
        let body = json!({"name": name, "channel": channel, "data": "1"});
        expect_refused(&server, &mut watcher, &body, part).await;
    }
}

#[tokio::test]
async fn data_must_be_a_string() {
    let server = shared();
    let channel = unique("c");
    let mut watcher = Watcher::on(&server, &channel).await;
    for data in [json!({"id": 7}), json!([]), json!(7), json!(1.5), json!(true), json!(null)] {
        let body = json!({"name": "e", "channel": channel, "data": data});
        expect_refused(&server, &mut watcher, &body, "data").await;
    }
    expect_refused(&server, &mut watcher, &json!({"name": "e", "channel": channel}), "data").await;
}

#[tokio::test]
async fn half_a_surrogate_pair_is_refused_as_not_every_client_can_read_it() {
    let server = shared();
    let channel = unique("c");
    let mut watcher = Watcher::on(&server, &channel).await;
    for half in [r"\ud800", r"a\udfffb", r"\ud83d\u0041", r"\ud83d\ud83d\ude00", r"\ude00\ud83d"] {
        for body in [
            format!(r#"{{"name":"e","channel":"{channel}","data":"{half}"}}"#),
            format!(r#"{{"name":"{half}","channel":"{channel}","data":"1"}}"#),
        ] {
            let answer = Request::post(server.app(), &server.app().path("events"), body.clone());
            let answer = answer.send(server.public).await;
            assert_eq!(answer.status, 400, "{body}: {}", answer.text());
            answer.error();
            watcher.expect_nothing(&server).await;
        }
    }
}

#[tokio::test]
async fn channels_are_one_to_a_hundred() {
    let server = shared();
    let watched = unique("c");
    let mut watcher = Watcher::on(&server, &watched).await;
    let names = |count: usize| -> Vec<String> {
        let others = (1..count).map(|i| format!("{watched}-{i}"));
        [watched.clone()].into_iter().chain(others).collect()
    };
    for count in [1, 100] {
        let body = json!({"name": "e", "channels": names(count), "data": "1"});
        trigger(&server, &body).await.expect_ok("{}");
        watcher.expect("e", "1").await;
    }
    let body = json!({"name": "e", "channels": names(101), "data": "1"});
    expect_refused(&server, &mut watcher, &body, "100").await;
    let body = json!({"name": "e", "channels": [], "data": "1"});
    expect_refused(&server, &mut watcher, &body, "channel").await;
    expect_refused(&server, &mut watcher, &json!({"name": "e", "data": "1"}), "channel").await;
}

#[tokio::test]
async fn a_channel_named_twice_gets_the_event_once() {
    let server = shared();
    let channel = unique("c");
    let mut watcher = Watcher::on(&server, &channel).await;
    for body in [
        json!({"name": "e", "channels": [channel, channel], "data": "1"}),
        json!({"name": "e", "channel": channel, "channels": [channel], "data": "1"}),
    ] {
        trigger(&server, &body).await.expect_ok("{}");
        watcher.expect("e", "1").await;
        watcher.expect_nothing(&server).await;
    }
}

#[tokio::test]
async fn channel_and_channels_together_are_both_served() {
    let server = shared();
    let (first, second) = (unique("a"), unique("b"));
    let mut one = Watcher::on(&server, &first).await;
    let mut other = Watcher::on(&server, &second).await;
    let body = json!({"name": "e", "channel": first, "channels": [second], "data": "1"});
    trigger(&server, &body).await.expect_ok("{}");
    one.expect("e", "1").await;
    other.expect("e", "1").await;
}

#[tokio::test]
async fn one_bad_channel_name_and_nothing_is_published() {
    let server = shared();
    let channel = unique("c");
    let mut watcher = Watcher::on(&server, &channel).await;
    let long = "c".repeat(201);
    for bad in ["bad name!", "a:b", "", "#x", "#server-to-user-", "é", "a/b", "a#b", "a\n", "a%20b", &long] {
        let body = json!({"name": "e", "channels": [channel, bad], "data": "1"});
        expect_refused(&server, &mut watcher, &body, "").await;
        let body = json!({"name": "e", "channel": bad, "data": "1"});
        trigger(&server, &body).await.expect_error(400, "");
    }
    for bad in [json!(7), json!(null), json!({}), json!([channel])] {
        let body = json!({"name": "e", "channels": [channel, bad], "data": "1"});
        expect_refused(&server, &mut watcher, &body, "Expected channel name to be a string").await;
    }
    for body in [
        json!({"name": "e", "data": "1"}),
        json!({"name": "e", "channel": null, "data": "1"}),
        json!({"name": "e", "channels": null, "data": "1"}),
    ] {
        expect_refused(&server, &mut watcher, &body, "Expected channel name to be a string").await;
    }
    for bad in [json!("x"), json!(7), json!({"0": channel})] {
        let body = json!({"name": "e", "channels": bad, "data": "1"});
        expect_refused(&server, &mut watcher, &body, "channels").await;
    }
}

#[tokio::test]
async fn a_channel_name_may_have_200_of_the_documented_characters() {
    let server = shared();
    let start = unique("AZaz09_-=@,.;");
    let channel = format!("{start}{}", "x".repeat(200 - start.len()));
    assert_eq!(channel.len(), 200);
    let mut watcher = Watcher::on(&server, &channel).await;
    server.publish(&channel, "e", "1").await;
    watcher.expect("e", "1").await;
}

#[tokio::test]
async fn the_socket_named_does_not_get_the_event() {
    let server = shared();
    let (first, second) = (unique("a"), unique("b"));
    let mut sender = Watcher::on(&server, &first).await;
    sender.client.subscribe(&second).await;
    let mut other = Watcher::on(&server, &first).await;
    let mut third = Watcher::on(&server, &second).await;
    let body =
        json!({"name": "e", "channels": [first, second], "data": "1", "socket_id": sender.socket_id()});
    trigger(&server, &body).await.expect_ok("{}");
    other.expect("e", "1").await;
    third.expect("e", "1").await;
    sender.expect_nothing(&server).await;
}

#[tokio::test]
async fn exclusion_is_by_connection_and_not_by_user() {
    let server = shared();
    let channel = unique("presence-room");
    let mut sender = Watcher::on(&server, &channel).await;
    let mut other_tab = Watcher::on(&server, &channel).await;
    let body = json!({"name": "e", "channel": channel, "data": "1", "socket_id": sender.socket_id()});
    trigger(&server, &body).await.expect_ok("{}");
    other_tab.expect("e", "1").await;
    sender.expect_nothing(&server).await;
}

#[tokio::test]
async fn a_socket_that_is_unknown_empty_or_null_excludes_nobody() {
    let server = shared();
    let channel = unique("c");
    let mut watcher = Watcher::on(&server, &channel).await;
    let gone = WsClient::connect(&server).await;
    let gone_id = gone.socket_id.clone();
    gone.close().await;
    let long = json!("123456789012345678901234567890.98765432109876543210");
    for socket_id in
        [json!(""), json!("1.1"), json!(null), json!(gone_id), json!("0.0"), json!("007.1"), long]
    {
        let body = json!({"name": "e", "channel": channel, "data": "1", "socket_id": socket_id});
        trigger(&server, &body).await.expect_ok("{}");
        watcher.expect("e", "1").await;
    }
}

#[tokio::test]
async fn a_socket_id_of_another_form_is_refused() {
    let server = shared();
    let channel = unique("c");
    let mut watcher = Watcher::on(&server, &channel).await;
    for bad in [
        json!("undefined"),
        json!(" "),
        json!("1"),
        json!("1."),
        json!(".1"),
        json!("1.2.3"),
        json!("-1.2"),
        json!("1.2 "),
        json!("1.2\n"),
        json!("١.٢"),
        json!(1.2),
        json!({}),
    ] {
        let body = json!({"name": "e", "channel": channel, "data": "1", "socket_id": bad});
        expect_refused(&server, &mut watcher, &body, "socket_id").await;
    }
}

#[tokio::test]
async fn an_encrypted_channel_is_published_to_alone() {
    let server = shared();
    for prefix in ["private-encrypted-", "private-encrypted-cache-"] {
        let (encrypted, other) = (unique(prefix), unique("c"));
        let mut watcher = Watcher::on(&server, &other).await;
        for body in [
            json!({"name": "e", "channels": [other, encrypted], "data": "1"}),
            json!({"name": "e", "channel": encrypted, "channels": [other], "data": "1"}),
            json!({"name": "e", "channels": [encrypted, unique(prefix)], "data": "1"}),
        ] {
            expect_refused(&server, &mut watcher, &body, "encrypted").await;
        }
        let cipher_text = r#"{"nonce":"AAAA","ciphertext":"BBBB"}"#;
        for body in [
            json!({"name": "e", "channels": [encrypted], "data": cipher_text}),
            json!({"name": "e", "channel": encrypted, "data": cipher_text}),
            json!({"name": "e", "channels": [encrypted, encrypted], "data": cipher_text}),
        ] {
            trigger(&server, &body).await.expect_ok("{}");
        }
    }
}

#[tokio::test]
async fn info_reports_each_channel_once_with_what_applies_to_it() {
    let server = shared();
    let app = server.app_with_id(COUNTING);
    let (room, user, nobody) = (unique("presence-room"), unique("user."), unique("nobody"));
    let empty_room = unique("presence-room");
    let mut tabs = Vec::new();
    for id in ["1", "1", "2"] {
        let mut client = WsClient::connect_to(&server, app).await;
        client.join_as(&room, id).await;
        tabs.push(client);
    }
    let _subscriber = Watcher::on_app(&server, app, &user).await;
    let body = json!({
        "name": "e", "channels": [room, user, nobody, user, empty_room], "data": "1",
        "info": "user_count,subscription_count",
    });
    let answer = Request::trigger(app, &body).send(server.public).await.expect_status(200);
    let expected = json!({"channels": {
        room.as_str(): {"user_count": 2, "subscription_count": 3},
        user.as_str(): {"subscription_count": 1},
        nobody.as_str(): {"subscription_count": 0},
        empty_room.as_str(): {"user_count": 0, "subscription_count": 0},
    }});
    assert_eq!(answer.json(), expected);
    assert_eq!(answer.header("content-type"), Some("application/json"));

    let body = json!({"name": "e", "channel": room, "data": "1", "info": "user_count"});
    let answer = Request::trigger(app, &body).send(server.public).await;
    assert_eq!(answer.expect_status(200).json(), json!({"channels": {room.as_str(): {"user_count": 2}}}));
}

#[tokio::test]
async fn info_leaves_out_subscription_count_where_it_is_off() {
    let server = shared();
    let channel = unique("c");
    let _subscriber = Watcher::on(&server, &channel).await;
    let body = json!({"name": "e", "channel": channel, "data": "1", "info": "subscription_count"});
    let answer = trigger(&server, &body).await.expect_status(200);
    assert_eq!(answer.json(), json!({"channels": {channel.as_str(): {}}}));
    // Without the switch an empty presence channel still has its users counted.
    let room = unique("presence-room");
    let info = "user_count,subscription_count";
    let body = json!({"name": "e", "channels": [room, channel], "data": "1", "info": info});
    let expected = json!({"channels": {room.as_str(): {"user_count": 0}, channel.as_str(): {}}});
    assert_eq!(trigger(&server, &body).await.expect_status(200).json(), expected);
    let body = json!({"name": "e", "channel": channel, "data": "1", "info": ""});
    trigger(&server, &body).await.expect_ok("{}");
}

#[tokio::test]
async fn an_unknown_info_attribute_is_named_and_nothing_is_published() {
    let server = shared();
    let channel = unique("c");
    let mut watcher = Watcher::on(&server, &channel).await;
    let body = json!({"name": "e", "channel": channel, "data": "1", "info": "user_count,colour"});
    expect_refused(&server, &mut watcher, &body, "colour").await;
    let body = json!({"name": "e", "channel": channel, "data": "1", "info": 7});
    expect_refused(&server, &mut watcher, &body, "info").await;
}

#[tokio::test]
async fn a_body_that_is_no_json_object_is_refused() {
    let server = shared();
    let path = server.app().path("events");
    let deep = "[".repeat(100_000);
    let deeper = format!("{}1{}", r#"{"a":"#.repeat(5_000), "}".repeat(5_000));
    let texts: [&[u8]; 12] = [
        b"",
        b" ",
        b"[]",
        b"null",
        b"7",
        b"\"x\"",
        b"{",
        b"name=e&channel=c&data=1",
        b"{\"name\":\"e\",\"channel\":\"c\",\"data\":\"1\"} x",
        b"{\"name\":\"e\",\"channel\":\"c\",\"data\":\"\xff\"}",
        deep.as_bytes(),
        deeper.as_bytes(),
    ];
    for text in texts {
        let answer = Request::post(server.app(), &path, text).send(server.public).await;
        let shown = String::from_utf8_lossy(&text[..text.len().min(60)]);
        assert_eq!(answer.status, 400, "{shown}: {}", answer.text());
        answer.error();
    }
    server.expect_alive();
}

#[tokio::test]
async fn unknown_fields_are_ignored() {
    let server = shared();
    let channel = unique("c");
    let mut watcher = Watcher::on(&server, &channel).await;
    let body = json!({"name": "e", "channel": channel, "data": "1", "tags": {"a": [1]}, "auth_key": "x"});
    trigger(&server, &body).await.expect_ok("{}");
    watcher.expect("e", "1").await;
}

#[tokio::test]
async fn a_thousand_triggers_in_a_row_arrive_in_order() {
    let server = shared();
    let channel = unique("c");
    let mut watcher = Watcher::on(&server, &channel).await;
    let addr = server.public;
    let (app, name) = (server.app().clone(), channel.clone());
    let publishing = tokio::spawn(async move {
        let mut connection = HttpConnection::connect(addr).await;
        for i in 0..1_000 {
            let body = json!({"name": "e", "channel": name, "data": i.to_string()});
            Request::trigger(&app, &body).send_over(&mut connection).await.expect_ok("{}");
        }
    });
    for i in 0..1_000 {
        watcher.expect("e", &i.to_string()).await;
    }
    publishing.await.expect("every trigger was answered");
}

#[tokio::test]
async fn an_event_answered_first_is_delivered_first_also_from_another_connection() {
    let server = shared();
    let channel = unique("c");
    let mut watcher = Watcher::on(&server, &channel).await;
    for i in 0..50 {
        server.publish(&channel, "e", &i.to_string()).await;
    }
    for i in 0..50 {
        watcher.expect("e", &i.to_string()).await;
    }
}

#[tokio::test]
async fn a_cached_event_is_there_as_soon_as_the_answer_is() {
    let server = shared();
    for i in 0..20 {
        let channel = unique("cache-c");
        server.publish(&channel, "e", &i.to_string()).await;
        let mut late = Watcher::on(&server, &channel).await;
        late.expect("e", &i.to_string()).await;
    }
}

#[tokio::test]
async fn an_excluded_socket_still_gets_the_cached_event_later() {
    let server = shared();
    let channel = unique("cache-c");
    let mut client = WsClient::connect(&server).await;
    let body = json!({"name": "e", "channel": channel, "data": "1", "socket_id": client.socket_id});
    trigger(&server, &body).await.expect_ok("{}");
    client.subscribe(&channel).await;
    let frame = client.expect("e").await;
    assert_eq!((frame.channel(), frame.data()), (channel.as_str(), "1"));
}

#[tokio::test]
async fn apps_do_not_hear_each_other() {
    let server = shared();
    let channel = unique("c");
    let mut here = Watcher::on(&server, &channel).await;
    let mut there = Watcher::on_app(&server, server.app_with_id(COUNTING), &channel).await;
    there.client.drain().await;
    server.publish(&channel, "e", "1").await;
    here.expect("e", "1").await;
    there.expect_nothing(&server).await;
}

#[tokio::test]
async fn deprecated_endpoints_are_not_found() {
    let server = shared();
    let app = server.app();
    let channel = unique("c");
    let publish = app.path(&format!("channels/{channel}/events"));
    Request::post(app, &publish, "1").param("name", "e").send(server.public).await.expect_error(404, "");
    let stats = app.path(&format!("channels/{channel}/stats"));
    Request::get(app, &stats).send(server.public).await.expect_error(404, "");
}
