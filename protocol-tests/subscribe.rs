//! Channel names, signatures, and what subscribing and unsubscribing do.

use serde_json::{Value, json};

use crate::harness::http::Request;
use crate::harness::names::unique;
use crate::harness::server::TestServer;
use crate::harness::shared::{COUNTING, DEFAULTS, MAIN, shared};
use crate::harness::sign::{App, hmac_hex};
use crate::harness::ws::WsClient;

fn succeeded(channel: &str) -> String {
    json!({"event": "pusher_internal:subscription_succeeded", "channel": channel, "data": "{}"}).to_string()
}

fn count(channel: &str, count: u64) -> String {
    let data = format!(r#"{{"subscription_count":{count}}}"#);
    json!({"event": "pusher_internal:subscription_count", "channel": channel, "data": data}).to_string()
}

/// What the HTTP API tells of a channel.
async fn channel_info(server: &TestServer, app: &App, channel: &str) -> Value {
    let request = Request::get(app, &app.path(&format!("channels/{channel}")));
    request.param("info", "subscription_count").send(server.public).await.expect_status(200).json()
}

#[tokio::test]
async fn every_legal_character_is_accepted() {
    let server = shared();
    let mut client = WsClient::connect(&server).await;
    let lower: String = ('a'..='z').collect();
    let upper: String = ('A'..='Z').collect();
    for name in [
        format!("{lower}{upper}0123456789_-=@,.;"),
        "-".to_owned(),
        "=".to_owned(),
        "@".to_owned(),
        ",".to_owned(),
        ".".to_owned(),
        ";".to_owned(),
        "_".to_owned(),
        "0".to_owned(),
        "App.Models.User.42".to_owned(),
        "x".repeat(200),
    ] {
        client.subscribe(&name).await;
    }
    client.subscribe(&format!("private-{}", "x".repeat(192))).await;
    client.expect_nothing().await;
}

#[tokio::test]
async fn other_names_are_refused_and_the_connection_stays() {
    let server = shared();
    let mut client = WsClient::connect(&server).await;
    for name in [
        "",
        " ",
        "a b",
        "a:b",
        "a/b",
        "a#b",
        "a*",
        "a?b",
        "a+b",
        "a%20b",
        "a\"b",
        "a\\b",
        "a\nb",
        "a\u{0}b",
        "é",
        "a\u{1F418}",
        "private-a b",
        "presence-a:b",
        "cache-é",
        "#x",
        "#",
        "##server-to-user-1",
        "#server-to-user-",
        "#server-to-user-a b",
        "#server-to-user-a:b",
        "private-#server-to-user-1",
        &"x".repeat(201),
        &format!("private-{}", "x".repeat(193)),
    ] {
        let auth = server.app().channel_auth(&client.socket_id, name);
        client.send_subscribe_with_auth(name, &auth).await;
        client.expect_not_subscribed(name, "InvalidChannel", 400, "").await;
    }
    client.subscribe(&unique("news-")).await;
    client.expect_nothing().await;
}

#[tokio::test]
async fn the_dash_belongs_to_the_prefix() {
    let server = shared();
    let mut client = WsClient::connect(&server).await;
    for stem in [
        "presences",
        "presence",
        "privateer",
        "private",
        "privateencrypted-x",
        "cachet",
        "cache",
        "cached-x",
        "Private-x",
        "PRESENCE-x",
        "Cache-x",
        "xprivate-x",
        "xcache-x",
        "server-to-user-1",
    ] {
        let channel = if stem == "private" || stem == "presence" || stem == "cache" {
            stem.to_owned()
        } else {
            unique(stem)
        };
        client.send_subscribe(&channel).await;
        client.expect_text(&succeeded(&channel)).await;
        server.publish(&channel, "first", "{}").await;
        assert_eq!(client.expect("first").await.channel(), channel);
        client.unsubscribe(&channel).await;
        // No cached event and no `cache_miss` follow.
        client.send_subscribe(&channel).await;
        client.expect_text(&succeeded(&channel)).await;
        client.expect_nothing().await;
    }
}

#[tokio::test]
async fn the_longest_prefix_decides() {
    let server = shared();
    for (prefix, needs_auth, is_cache) in [
        ("news-", false, false),
        ("cache-", false, true),
        ("cache-private-", false, true),
        ("private-", true, false),
        ("private-cache-", true, true),
        ("private-encrypted-", true, false),
        ("private-encrypted-cache-", true, true),
        ("private-cache-encrypted-", true, true),
        ("private-presence-", true, false),
        ("private-cached-", true, false),
        ("private-encryptedx-", true, false),
    ] {
        let mut client = WsClient::connect(&server).await;
        let channel = unique(prefix);
        client.send_subscribe(&channel).await;
        if needs_auth {
            client.expect_not_subscribed(&channel, "AuthError", 401, "auth").await;
            client.send_subscribe_private(&channel).await;
        }
        client.expect_text(&succeeded(&channel)).await;
        if is_cache {
            let miss = json!({"event": "pusher:cache_miss", "channel": channel, "data": "{}"}).to_string();
            client.expect_text(&miss).await;
        }
        client.expect_nothing().await;
    }
    for (prefix, is_cache) in [("presence-", false), ("presence-cache-", true), ("presence-cached-", false)] {
        let mut client = WsClient::connect(&server).await;
        let channel = unique(prefix);
        assert_eq!(client.join_as(&channel, "1").await["ids"], json!(["1"]));
        if is_cache {
            client.expect("pusher:cache_miss").await;
        }
        client.expect_nothing().await;
    }
}

#[tokio::test]
async fn auth_and_channel_data_do_not_matter_on_public_channels() {
    let server = shared();
    let mut client = WsClient::connect(&server).await;
    for data in [
        json!({}),
        json!({"auth": "", "channel_data": ""}),
        json!({"auth": null, "channel_data": null}),
        json!({"auth": "nonsense", "channel_data": "nonsense"}),
        json!({"auth": "other-key:0000", "channel_data": "{\"user_id\":1.5}"}),
        json!({"auth": 7, "channel_data": {"user_id": 1}}),
        json!({"auth": {}, "channel_data": [true]}),
    ] {
        let channel = unique("news-");
        let mut data = data;
        data["channel"] = json!(channel);
        client.send_json(&json!({"event": "pusher:subscribe", "data": data})).await;
        client.expect_text(&succeeded(&channel)).await;
    }
}

#[tokio::test]
async fn auth_and_channel_data_that_are_no_strings_are_refused_as_wrong_signatures_are() {
    let server = shared();
    let mut client = WsClient::connect(&server).await;
    for kind in ["private-", "presence-"] {
        let channel = unique(kind);
        let auth = server.app().channel_auth(&client.socket_id, &channel);
        for (wrong, part) in [
            (json!({"auth": 7}), "auth must be a string"),
            (json!({"auth": {}}), "auth must be a string"),
            (json!({"auth": [auth]}), "auth must be a string"),
            (json!({"auth": auth, "channel_data": {"user_id": "1"}}), "channel_data must be a string"),
            (json!({"auth": auth, "channel_data": 1}), "channel_data must be a string"),
        ] {
            let mut data = wrong;
            data["channel"] = json!(channel);
            client.send_json(&json!({"event": "pusher:subscribe", "data": data})).await;
            client.expect_not_subscribed(&channel, "AuthError", 401, part).await;
        }
    }
    client.expect_nothing().await;
}

#[tokio::test]
async fn a_wrong_signature_is_told_on_the_channel_and_on_the_connection() {
    let server = shared();
    let mut client = WsClient::connect(&server).await;
    let channel = unique("private-");
    let wrong = "0".repeat(64);
    client.send_subscribe_with_auth(&channel, &format!("{}:{wrong}", server.app().key)).await;
    let message = format!(
        "Invalid signature: Expected HMAC SHA256 hex digest of {}:{channel}, but got {wrong}",
        client.socket_id
    );
    let told = client.expect("pusher:subscription_error").await;
    assert_eq!(told.channel(), channel);
    assert_eq!(told.json(), json!({"type": "AuthError", "error": message, "status": 401}));
    client
        .expect_text(
            &json!({"event": "pusher:error", "data": {"code": null, "message": message}}).to_string(),
        )
        .await;
    client.subscribe(&channel).await;
    server.publish(&channel, "x", "{}").await;
    client.expect("x").await;
}

#[tokio::test]
async fn forged_auth_is_refused_and_nothing_is_received() {
    let server = shared();
    let app = server.app();
    let mut other_client = WsClient::connect(&server).await;
    let mut client = WsClient::connect(&server).await;
    let channel = unique("private-");
    let socket_id = client.socket_id.clone();
    let right = app.channel_auth(&socket_id, &channel);
    let digest = right.split_once(':').unwrap().1.to_owned();
    let changed = {
        let last = if digest.ends_with('0') { "1" } else { "0" };
        format!("{}:{}{last}", app.key, &digest[..63])
    };
    let defaults = server.app_with_id(DEFAULTS);
    let with_other_secret =
        format!("{}:{}", app.key, hmac_hex("other-secret", &format!("{socket_id}:{channel}")));
    for (what, auth) in [
        ("one digit changed", changed),
        ("upper case", format!("{}:{}", app.key, digest.to_uppercase())),
        ("too short", format!("{}:{}", app.key, &digest[..62])),
        ("too long", format!("{}:{digest}00", app.key)),
        ("a blank in front", format!("{}: {digest}", app.key)),
        ("not hex", format!("{}:{}", app.key, "z".repeat(64))),
        ("not ASCII", format!("{}:{}", app.key, "é".repeat(32))),
        ("empty", String::new()),
        ("no colon", digest.clone()),
        ("only a key", app.key.clone()),
        ("only a colon", ":".to_owned()),
        ("no key", format!(":{digest}")),
        ("another app's key", format!("{}:{digest}", defaults.key)),
        ("an unknown key", format!("nokey:{digest}")),
        ("another app", defaults.channel_auth(&socket_id, &channel)),
        ("another secret", with_other_secret),
        ("another socket", app.channel_auth(&other_client.socket_id, &channel)),
        ("another channel", app.channel_auth(&socket_id, &format!("{channel}x"))),
        ("a sign-in", app.user_auth(&socket_id, &channel)),
        ("channel_data that is not there", app.presence_auth(&socket_id, &channel, "")),
    ] {
        client.send_subscribe_with_auth(&channel, &auth).await;
        let message = client.expect_not_subscribed(&channel, "AuthError", 401, "").await;
        assert!(
            !message.contains(&digest) || auth.contains(&digest),
            "{what}: {message} gives the digest away"
        );
    }
    for data in [json!({"channel": channel}), json!({"channel": channel, "auth": null})] {
        client.send_json(&json!({"event": "pusher:subscribe", "data": data})).await;
        client.expect_not_subscribed(&channel, "AuthError", 401, "").await;
    }
    server.publish(&channel, "secret", "{}").await;
    client.expect_nothing_published(&server).await;
    // A signature stays bound to its own socket, also after that one has used it.
    other_client.subscribe(&channel).await;
    client.send_subscribe_with_auth(&channel, &app.channel_auth(&other_client.socket_id, &channel)).await;
    client.expect_not_subscribed(&channel, "AuthError", 401, "Expected HMAC SHA256 hex digest of").await;
}

#[tokio::test]
async fn a_wrong_key_is_named() {
    let server = shared();
    let mut client = WsClient::connect(&server).await;
    let channel = unique("private-");
    client.send_subscribe_with_auth(&channel, "nokey:00").await;
    let part = "Invalid key in subscription auth data: 'nokey'";
    client.expect_not_subscribed(&channel, "AuthError", 401, part).await;
}

#[tokio::test]
async fn a_private_channel_accepts_channel_data_signed_or_not() {
    let server = shared();
    let app = server.app();
    for channel_data in ["", "{}", r#"{"user_id":"1"}"#, "nonsense"] {
        for is_signed in [false, true] {
            let mut client = WsClient::connect(&server).await;
            let channel = unique("private-");
            let auth = if is_signed {
                app.presence_auth(&client.socket_id, &channel, channel_data)
            } else {
                app.channel_auth(&client.socket_id, &channel)
            };
            let data = json!({"auth": auth, "channel": channel, "channel_data": channel_data});
            client.send_json(&json!({"event": "pusher:subscribe", "data": data})).await;
            client.expect_text(&succeeded(&channel)).await;
        }
    }
}

#[tokio::test]
async fn subscribing_twice_answers_again_and_counts_once() {
    let server = shared();
    let app = server.app_with_id(COUNTING);
    let mut client = WsClient::connect_to(&server, app).await;
    let channel = unique("private-");
    client.send_subscribe_private(&channel).await;
    client.expect_text(&succeeded(&channel)).await;
    client.expect_text(&count(&channel, 1)).await;
    client.send_subscribe_private(&channel).await;
    client.expect_text(&succeeded(&channel)).await;
    client.expect_nothing_published(&server).await;
    assert_eq!(
        channel_info(&server, app, &channel).await,
        json!({"occupied": true, "subscription_count": 1})
    );
    server.publish_to(app, &channel, "once", "{}").await;
    client.expect("once").await;
    client.expect_nothing_published(&server).await;
    client.unsubscribe(&channel).await;
    client.expect_nothing().await;
    assert_eq!(channel_info(&server, app, &channel).await["occupied"], false);
    server.publish_to(app, &channel, "gone", "{}").await;
    client.expect_nothing_published(&server).await;
}

#[tokio::test]
async fn subscribing_twice_is_verified_again() {
    let server = shared();
    let mut client = WsClient::connect(&server).await;
    let channel = unique("private-");
    client.subscribe(&channel).await;
    client.send_subscribe_with_auth(&channel, &format!("{}:{}", server.app().key, "0".repeat(64))).await;
    client.expect_not_subscribed(&channel, "AuthError", 401, "Invalid signature").await;
}

#[tokio::test]
async fn unsubscribing_is_silent_and_final() {
    let server = shared();
    let mut client = WsClient::connect(&server).await;
    let (first, second) = (unique("news-"), unique("private-"));
    client.subscribe(&first).await;
    client.subscribe(&second).await;
    client.unsubscribe(&first).await;
    client.expect_nothing().await;
    server.publish(&first, "x", "{}").await;
    client.expect_nothing_published(&server).await;
    server.publish(&second, "y", "{}").await;
    assert_eq!(client.expect("y").await.channel(), second);
}

#[tokio::test]
async fn unsubscribing_from_what_is_not_subscribed_is_ignored() {
    let server = shared();
    let mut witness = WsClient::connect(&server).await;
    let channel = unique("news-");
    witness.subscribe(&channel).await;
    let mut client = WsClient::connect(&server).await;
    for name in [channel.as_str(), "never-seen", "", "a b", "#server-to-user-1", "private-x", "presence-x"] {
        client.unsubscribe(name).await;
    }
    client.subscribe(&channel).await;
    client.unsubscribe(&channel).await;
    client.unsubscribe(&channel).await;
    client.expect_nothing().await;
    server.publish(&channel, "x", "{}").await;
    witness.expect("x").await;
}

#[tokio::test]
async fn a_channel_can_be_subscribed_again_in_the_next_frame() {
    let server = shared();
    let mut client = WsClient::connect(&server).await;
    let channel = unique("private-");
    client.subscribe(&channel).await;
    for _ in 0..20 {
        client.unsubscribe(&channel).await;
        client.subscribe(&channel).await;
    }
    server.publish(&channel, "x", "{}").await;
    client.expect("x").await;
    client.expect_nothing_published(&server).await;
}

#[tokio::test]
async fn the_same_name_in_two_apps_is_two_channels() {
    let server = shared();
    let channel = unique("private-");
    let mut here = WsClient::connect_to(&server, server.app_with_id(MAIN)).await;
    let mut there = WsClient::connect_to(&server, server.app_with_id(DEFAULTS)).await;
    here.subscribe(&channel).await;
    there.subscribe(&channel).await;
    server.publish_to(server.app_with_id(DEFAULTS), &channel, "there", "{}").await;
    there.expect("there").await;
    here.expect_nothing_published(&server).await;
}

#[tokio::test]
async fn payloads_arrive_to_the_character() {
    let server = shared();
    let mut client = WsClient::connect(&server).await;
    let channel = unique("news-");
    client.subscribe(&channel).await;
    for data in [
        r#"{"v":1.0,"n":1152921504606846976,"s":"\u00e9\/"}"#,
        r#"{"b":1,"a":2,"a":3, "e" : 1E400,"z":-0.0}"#,
        "not JSON at all",
        "",
        "\"quoted\" \\ back/slash",
        "é 🐘 \u{2028}\u{2029} \u{7f} \u{0}\u{1}\t\r\n \u{fffd} \u{10ffff}",
        "[1,2,3]",
        "null",
    ] {
        server.publish(&channel, "App\\Events\\MessageReceived", data).await;
        let event = client.expect("App\\Events\\MessageReceived").await;
        assert_eq!(event.data(), data);
    }
}

/// The JSON string of a publish is spliced into the frame, so even its escapes survive.
#[tokio::test]
async fn escapes_of_a_payload_are_forwarded_as_published() {
    let server = shared();
    let mut client = WsClient::connect(&server).await;
    let channel = unique("news-");
    client.subscribe(&channel).await;
    let data = r#""{\"s\":\"\\u00e9\\\/\",\u0022t\u0022:\"\u00e9\/é\"}""#;
    let body = format!(r#"{{"name":"x","channel":"{channel}","data":{data}}}"#);
    Request::post(server.app(), &server.app().path("events"), body).send(server.public).await.expect_ok("{}");
    assert_eq!(client.next().await.text, format!(r#"{{"event":"x","channel":"{channel}","data":{data}}}"#));
}

#[tokio::test]
async fn subscription_counts_are_integers_for_everybody_after_the_success() {
    let server = shared();
    let app = server.app_with_id(COUNTING);
    let channel = unique("news-");
    let mut first = WsClient::connect_to(&server, app).await;
    let mut second = WsClient::connect_to(&server, app).await;
    first.send_subscribe(&channel).await;
    first.expect_text(&succeeded(&channel)).await;
    assert_eq!(
        first.next().await.text,
        format!(
            r#"{{"event":"pusher_internal:subscription_count","channel":"{channel}","data":"{{\"subscription_count\":1}}"}}"#
        )
    );
    second.send_subscribe(&channel).await;
    second.expect_text(&succeeded(&channel)).await;
    second.expect_text(&count(&channel, 2)).await;
    first.expect_text(&count(&channel, 2)).await;
    second.unsubscribe(&channel).await;
    first.expect_text(&count(&channel, 1)).await;
    second.expect_nothing_published(&server).await;
    let mut third = WsClient::connect_to(&server, app).await;
    third.subscribe(&channel).await;
    first.expect_text(&count(&channel, 2)).await;
    third.reset();
    first.expect_text(&count(&channel, 1)).await;
}

#[tokio::test]
async fn the_count_follows_what_a_cache_channel_remembers() {
    let server = shared();
    let app = server.app_with_id(COUNTING);
    let channel = unique("cache-");
    let mut first = WsClient::connect_to(&server, app).await;
    first.subscribe(&channel).await;
    first.expect("pusher:cache_miss").await;
    first.expect_text(&count(&channel, 1)).await;
    server.publish_to(app, &channel, "price", "1").await;
    first.expect("price").await;
    let mut second = WsClient::connect_to(&server, app).await;
    second.subscribe(&channel).await;
    second.expect("price").await;
    second.expect_text(&count(&channel, 2)).await;
}

#[tokio::test]
async fn presence_channels_and_apps_without_the_switch_get_no_counts() {
    let server = shared();
    let mut member = WsClient::connect_to(&server, server.app_with_id(COUNTING)).await;
    let channel = unique("presence-");
    member.join_as(&channel, "1").await;
    member.expect_nothing_published(&server).await;
    let mut client = WsClient::connect(&server).await;
    client.subscribe(&unique("news-")).await;
    client.expect_nothing_published(&server).await;
}

#[tokio::test]
async fn above_100_subscribers_counts_come_once_in_five_seconds() {
    let server = shared();
    let app = server.app_with_id(COUNTING);
    let channel = unique("busy-");
    let mut first = WsClient::connect_to(&server, app).await;
    first.subscribe(&channel).await;
    first.expect_text(&count(&channel, 1)).await;
    let mut others = Vec::new();
    for subscribers in 2..=115 {
        let mut client = WsClient::connect_to(&server, app).await;
        client.subscribe(&channel).await;
        others.push(client);
        if subscribers <= 100 {
            first.expect_text(&count(&channel, subscribers)).await;
        }
    }
    let mut told = Vec::new();
    while told.last() != Some(&115) {
        let event = first.expect("pusher_internal:subscription_count").await;
        told.push(event.json()["subscription_count"].as_u64().expect("an integer"));
    }
    assert!(told.len() <= 3, "{told:?}");
}
