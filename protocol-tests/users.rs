//! Users that sign in: the sign-in itself, events for one user, watchlists, termination, and apps that
//! demand it.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::DEADLINE;
use crate::harness::http::Request;
use crate::harness::names::unique;
use crate::harness::raw_ws::{CLOSE, RawWs, frame};
use crate::harness::server::{Config, TestServer};
use crate::harness::shared::{DEFAULTS, SharedServer, shared};
use crate::harness::ws::WsClient;

/// An app that demands authorisation within a second, and one without watchlists.
static STRICT: SharedServer = SharedServer::new(|| {
    Config::new()
        .server("shards = 2")
        .app("1001", "authorized_connections = true\nauthorization_timeout = \"1s\"")
        .app("1002", "watchlist = false")
});

async fn signed_in(server: &TestServer, user: &str) -> WsClient {
    let mut client = WsClient::connect(server).await;
    client.sign_in(&json!({"id": user}).to_string()).await;
    client
}

/// Signs in with this watchlist; reads the success only.
async fn watching(server: &TestServer, watchlist: &[&str]) -> WsClient {
    let mut client = WsClient::connect(server).await;
    let user_data = json!({"id": unique("watcher-"), "watchlist": watchlist}).to_string();
    client.sign_in(&user_data).await;
    client
}

fn watchlist_events(events: &Value) -> String {
    let data = json!({"events": events}).to_string();
    json!({"event": "pusher_internal:watchlist_events", "data": data}).to_string()
}

async fn expect_watchlist(client: &mut WsClient, events: Value) {
    let event = client.expect("pusher_internal:watchlist_events").await;
    assert_eq!(event.json(), json!({"events": events}));
}

fn came(user: &str) -> Value {
    json!([{"name": "online", "user_ids": [user]}])
}

fn went(user: &str) -> Value {
    json!([{"name": "offline", "user_ids": [user]}])
}

async fn terminate(server: &TestServer, user: &str) {
    let path = server.app().path(&format!("users/{user}/terminate_connections"));
    Request::post(server.app(), &path, "{}").send(server.public).await.expect_ok("{}");
}

#[tokio::test]
async fn signing_in_returns_the_same_user_data() {
    let server = shared();
    let mut client = WsClient::connect(&server).await;
    client.send_signin(r#"{"id": "42"}"#).await;
    assert_eq!(
        client.next().await.text,
        r#"{"event":"pusher:signin_success","data":"{\"user_data\":\"{\\\"id\\\": \\\"42\\\"}\"}"}"#
    );
    for user_data in [
        r#"{"id":"42"}"#.to_owned(),
        r#"{ "name":"J\u00f6rg é 🐘", "id" : "42", "user_info":{"n":1.0}, "more":[1,null] }"#.to_owned(),
        r#"{"id":"@_-=,.;aZ09","watchlist":null}"#.to_owned(),
        format!(r#"{{"id":"{}"}}"#, "x".repeat(128)),
    ] {
        let mut client = WsClient::connect(&server).await;
        client.sign_in(&user_data).await;
        client.expect_nothing_published(&server).await;
    }
}

#[tokio::test]
async fn a_failed_sign_in_is_told_with_4009_and_the_connection_stays() {
    let server = shared();
    let app = server.app();
    let mut other = WsClient::connect(&server).await;
    let mut client = WsClient::connect(&server).await;
    let good = r#"{"id":"42"}"#;
    let right = app.user_auth(&client.socket_id, good);
    let foreign = server.app_with_id(DEFAULTS);
    for auth in [
        format!("{}:{}", app.key, "0".repeat(64)),
        right.to_uppercase(),
        right.replacen(&app.key, &foreign.key, 1),
        foreign.user_auth(&client.socket_id, good),
        app.user_auth(&other.socket_id, good),
        app.user_auth(&client.socket_id, r#"{"id": "42"}"#),
        app.channel_auth(&client.socket_id, good),
        // The form that the documentation of the protocol shows, which no SDK sends.
        right.replacen(':', "::user::", 1),
        String::new(),
    ] {
        let data = json!({"auth": auth, "user_data": good});
        client.send_json(&json!({"event": "pusher:signin", "data": data})).await;
        client.expect_error(4009, "").await;
    }
    client.send_json(&json!({"event": "pusher:signin", "data": {"user_data": good}})).await;
    client.expect_error(4009, "").await;
    for user_data in [
        "",
        "nonsense",
        "[]",
        "\"42\"",
        "{}",
        r#"{"user_id":"42"}"#,
        r#"{"id":42}"#,
        r#"{"id":null}"#,
        r#"{"id":""}"#,
        r#"{"id":["42"]}"#,
        r#"{"id":"a b"}"#,
        r#"{"id":"a:b"}"#,
        r##"{"id":"a#b"}"##,
        r#"{"id":"é"}"#,
        r#"{"id":"42","watchlist":"7"}"#,
        r#"{"id":"42","watchlist":[7]}"#,
        &json!({"id": "x".repeat(129)}).to_string(),
    ] {
        client.send_signin(user_data).await;
        client.expect_error(4009, "").await;
    }
    client.send_subscribe("#server-to-user-42").await;
    client.expect_not_subscribed("#server-to-user-42", "AuthError", 401, "").await;
    client.sign_in(good).await;
    other.expect_nothing().await;
}

#[tokio::test]
async fn the_refusal_prints_what_should_have_been_signed_and_no_digest() {
    let server = shared();
    let mut client = WsClient::connect(&server).await;
    let user_data = r#"{"id":"42"}"#;
    let wrong = "0".repeat(64);
    let data = json!({"auth": format!("{}:{wrong}", server.app().key), "user_data": user_data});
    client.send_json(&json!({"event": "pusher:signin", "data": data})).await;
    let expected = format!(
        "Invalid signature: Expected HMAC SHA256 hex digest of {}::user::{user_data}, but got {wrong}",
        client.socket_id
    );
    assert_eq!(client.expect_error(4009, "Invalid signature").await.data["message"], expected);
}

#[tokio::test]
async fn a_sign_in_that_cannot_be_read_fails_like_any_other() {
    let server = shared();
    let mut client = WsClient::connect(&server).await;
    for (message, part) in [
        (json!({"event": "pusher:signin"}), "Missing parameter: data"),
        (json!({"event": "pusher:signin", "data": []}), "data must be an object"),
        (json!({"event": "pusher:signin", "data": {}}), "Missing parameter: user_data"),
        (json!({"event": "pusher:signin", "data": {"auth": "x:y", "user_data": null}}), "user_data"),
        (json!({"event": "pusher:signin", "data": {"auth": "x:y", "user_data": {"id": "42"}}}), "a string"),
        (json!({"event": "pusher:signin", "data": {"auth": "x:y", "user_data": 42}}), "a string"),
        (json!({"event": "pusher:signin", "data": {"auth": 1, "user_data": "{\"id\":\"42\"}"}}), "a string"),
    ] {
        client.send_json(&message).await;
        client.expect_error(4009, part).await;
    }
    client.expect_nothing().await;
}

#[tokio::test]
async fn a_connection_belongs_to_one_user() {
    let server = shared();
    let (first, second) = (unique("user-"), unique("user-"));
    let mut client = signed_in(&server, &first).await;
    client.send_signin(&json!({"id": second}).to_string()).await;
    client.expect_error(4009, "").await;
    client.sign_in(&json!({"id": first, "name": "Ann"}).to_string()).await;
    client.subscribe(&format!("#server-to-user-{first}")).await;
    let foreign = format!("#server-to-user-{second}");
    client.send_subscribe(&foreign).await;
    client.expect_not_subscribed(&foreign, "AuthError", 401, "").await;
}

#[tokio::test]
async fn events_for_a_user_reach_that_users_connections_alone() {
    let server = shared();
    let (ann, bob) = (unique("ann-"), unique("bob-"));
    let own = format!("#server-to-user-{ann}");
    let mut tabs = [signed_in(&server, &ann).await, signed_in(&server, &ann).await];
    let mut other = signed_in(&server, &bob).await;
    let mut nobody = WsClient::connect(&server).await;
    for tab in &mut tabs {
        tab.send_subscribe(&own).await;
        let frame = tab.expect_subscribed(&own).await;
        assert_eq!(frame.data(), "{}");
    }
    for stranger in [&mut other, &mut nobody] {
        let auths = ["", &server.app().channel_auth(&stranger.socket_id, &own)].map(str::to_owned);
        for auth in auths {
            stranger.send_subscribe_with_auth(&own, &auth).await;
            stranger.expect_not_subscribed(&own, "AuthError", 401, "").await;
        }
        let channel_data = json!({"user_id": ann}).to_string();
        stranger.send_subscribe_presence(&own, &channel_data).await;
        stranger.expect_not_subscribed(&own, "AuthError", 401, "").await;
    }
    server.publish(&own, "MessageReceived", r#"{"n":1}"#).await;
    let expected = json!({"event": "MessageReceived", "channel": own, "data": "{\"n\":1}"}).to_string();
    for tab in &mut tabs {
        tab.expect_text(&expected).await;
        tab.expect_nothing_published(&server).await;
    }
    other.expect_nothing_published(&server).await;
    nobody.expect_nothing_published(&server).await;
    let [mut first, second] = tabs;
    first.unsubscribe(&own).await;
    server.publish(&own, "again", "{}").await;
    first.expect_nothing_published(&server).await;
    drop(second);
}

#[tokio::test]
async fn a_prefix_of_ones_own_id_is_somebody_else() {
    let server = shared();
    let user = unique("user-");
    let mut client = signed_in(&server, &user).await;
    for foreign in [&user[..user.len() - 1], &format!("{user}x"), &user.to_uppercase()] {
        let channel = format!("#server-to-user-{foreign}");
        client.send_subscribe(&channel).await;
        client.expect_not_subscribed(&channel, "AuthError", 401, "").await;
    }
}

#[tokio::test]
async fn the_channel_of_a_user_takes_no_client_events_and_is_not_listed() {
    let server = shared();
    let user = unique("user-");
    let own = format!("#server-to-user-{user}");
    let mut first = signed_in(&server, &user).await;
    let mut second = signed_in(&server, &user).await;
    first.subscribe(&own).await;
    second.subscribe(&own).await;
    first.send_client_event(&own, "client-typing", &json!({})).await;
    first.expect_error(None, "only supported on private and presence channels").await;
    second.expect_nothing_published(&server).await;
    let list = Request::get(server.app(), &server.app().path("channels")).send(server.public).await;
    let list = list.expect_status(200).json();
    let channels = list["channels"].as_object().expect("an object");
    assert!(!channels.keys().any(|name| name.contains(&user)), "{list}");
}

#[tokio::test]
async fn the_channel_of_a_user_remembers_nothing() {
    let server = shared();
    let user = unique("cache-");
    let own = format!("#server-to-user-{user}");
    let mut client = signed_in(&server, &user).await;
    server.publish(&own, "early", "{}").await;
    client.subscribe(&own).await;
    client.expect_nothing_published(&server).await;
}

#[tokio::test]
async fn a_watchlist_is_told_after_the_success_and_then_each_change() {
    let server = shared();
    let (ann, bob) = (unique("ann-"), unique("bob-"));
    let first = signed_in(&server, &ann).await;
    let mut watcher = watching(&server, &[&ann, &bob]).await;
    let state = json!([{"name": "online", "user_ids": [ann]}, {"name": "offline", "user_ids": [bob]}]);
    watcher.expect_text(&watchlist_events(&state)).await;
    let bobs = signed_in(&server, &bob).await;
    expect_watchlist(&mut watcher, came(&bob)).await;
    // Another connection of somebody who is online is no news, and neither is its end.
    let second = signed_in(&server, &ann).await;
    drop(first);
    bobs.close().await;
    let left = Instant::now();
    expect_watchlist(&mut watcher, went(&bob)).await;
    assert!(left.elapsed() > Duration::from_secs(2), "a change of page must not flicker");
    second.reset();
    expect_watchlist(&mut watcher, went(&ann)).await;
    let _again = signed_in(&server, &ann).await;
    expect_watchlist(&mut watcher, came(&ann)).await;
}

#[tokio::test]
async fn signing_in_again_replaces_info_and_watchlist() {
    let server = shared();
    let (me, ann, bob) = (unique("me-"), unique("ann-"), unique("bob-"));
    let _ann = signed_in(&server, &ann).await;
    let mut client = WsClient::connect(&server).await;
    client.sign_in(&json!({"id": me, "user_info": {"n": 1}, "watchlist": [ann]}).to_string()).await;
    expect_watchlist(&mut client, came(&ann)).await;
    client.sign_in(&json!({"id": me, "user_info": {"n": 2}, "watchlist": [bob]}).to_string()).await;
    expect_watchlist(&mut client, went(&bob)).await;
    let channel = unique("presence-");
    client.send_subscribe_private(&channel).await;
    let roster = client.expect_subscribed(&channel).await.json();
    assert_eq!(roster["presence"]["hash"][&me], json!({"n": 2}));
    client.sign_in(&json!({"id": me}).to_string()).await;
    let _bob = signed_in(&server, &bob).await;
    client.expect_nothing_published(&server).await;
}

#[tokio::test]
async fn a_watchlist_of_the_second_sign_in_is_kept_up_to_date() {
    let server = shared();
    let (me, ann, bob) = (unique("me-"), unique("ann-"), unique("bob-"));
    let mut client = WsClient::connect(&server).await;
    for watched in [[&ann], [&bob]] {
        client.sign_in(&json!({"id": me, "watchlist": watched}).to_string()).await;
        expect_watchlist(&mut client, went(watched[0])).await;
    }
    let _ann = signed_in(&server, &ann).await;
    let _bob = signed_in(&server, &bob).await;
    expect_watchlist(&mut client, came(&bob)).await;
}

#[tokio::test]
async fn who_comes_back_at_once_was_never_away() {
    let server = shared();
    let (ann, bob) = (unique("ann-"), unique("bob-"));
    let anns = signed_in(&server, &ann).await;
    let bobs = signed_in(&server, &bob).await;
    let mut watcher = watching(&server, &[&ann, &bob]).await;
    watcher.expect("pusher_internal:watchlist_events").await;
    anns.close().await;
    bobs.close().await;
    let _back = signed_in(&server, &ann).await;
    // Bob left at the same time; once he is announced, Ann would have been, too.
    expect_watchlist(&mut watcher, went(&bob)).await;
    watcher.expect_nothing_published(&server).await;
}

#[tokio::test]
async fn empty_lists_are_left_out() {
    let server = shared();
    let (ann, bob) = (unique("ann-"), unique("bob-"));
    let mut nobody_there = watching(&server, &[&ann, &bob]).await;
    let event = nobody_there.expect("pusher_internal:watchlist_events").await.json();
    assert_eq!(event["events"].as_array().map(Vec::len), Some(1));
    assert_eq!(event["events"][0]["name"], "offline");
    let _anns = signed_in(&server, &ann).await;
    let mut all_there = watching(&server, &[&ann]).await;
    expect_watchlist(&mut all_there, came(&ann)).await;
    let mut empty = watching(&server, &[]).await;
    empty.expect_nothing_published(&server).await;
}

#[tokio::test]
async fn every_connection_of_a_watcher_is_told() {
    let server = shared();
    let (ann, watcher) = (unique("ann-"), unique("watcher-"));
    let user_data = json!({"id": watcher, "watchlist": [ann, ann]}).to_string();
    let mut tabs = [WsClient::connect(&server).await, WsClient::connect(&server).await];
    for tab in &mut tabs {
        tab.sign_in(&user_data).await;
        expect_watchlist(tab, went(&ann)).await;
    }
    let _anns = signed_in(&server, &ann).await;
    for tab in &mut tabs {
        expect_watchlist(tab, came(&ann)).await;
        tab.expect_nothing_published(&server).await;
    }
}

#[tokio::test]
async fn the_first_100_of_a_watchlist_are_watched_and_4302_is_told() {
    let server = shared();
    let users: Vec<String> = (0..101).map(|_| unique("user-")).collect();
    let mut watcher = WsClient::connect(&server).await;
    let user_data = json!({"id": unique("watcher-"), "watchlist": users}).to_string();
    watcher.sign_in(&user_data).await;
    let told = watcher.drain().await;
    let (errors, states): (Vec<_>, Vec<_>) =
        told.into_iter().partition(|event| event.event == "pusher:error");
    assert_eq!(errors.iter().map(|error| error.code()).collect::<Vec<_>>(), [Some(4302)]);
    assert_eq!(states.len(), 1, "{states:?}");
    assert_eq!(states[0].json()["events"][0]["user_ids"], json!(users[..100]));
    let _beyond = signed_in(&server, &users[100]).await;
    let _last = signed_in(&server, &users[99]).await;
    expect_watchlist(&mut watcher, came(&users[99])).await;
    watcher.expect_nothing_published(&server).await;
}

#[tokio::test]
async fn exactly_100_watched_ids_are_no_error() {
    let server = shared();
    let users: Vec<String> = (0..100).map(|_| unique("user-")).collect();
    let users: Vec<&str> = users.iter().map(String::as_str).collect();
    let mut watcher = watching(&server, &users).await;
    watcher.expect("pusher_internal:watchlist_events").await;
    watcher.expect_nothing_published(&server).await;
}

#[tokio::test]
async fn watchlists_can_be_switched_off() {
    let server = STRICT.get();
    let app = server.app_with_id("1002");
    let ann = unique("ann-");
    let mut watcher = WsClient::connect_to(&server, app).await;
    watcher.sign_in(&json!({"id": "w", "watchlist": [ann]}).to_string()).await;
    let mut anns = WsClient::connect_to(&server, app).await;
    anns.sign_in(&json!({"id": ann}).to_string()).await;
    watcher.expect_nothing_published(&server).await;
}

#[tokio::test]
async fn terminating_a_user_closes_all_connections_of_that_user_with_4009() {
    let server = shared();
    let (ann, bob) = (unique("ann-"), unique("bob-"));
    let channel = unique("presence-");
    let mut witness = WsClient::connect(&server).await;
    // A member of that name who never signed in is another person.
    witness.join_as(&channel, &ann).await;
    let mut tabs = Vec::new();
    for _ in 0..6 {
        tabs.push(signed_in(&server, &ann).await);
    }
    tabs[0].join_as(&channel, "tab").await;
    witness.expect("pusher_internal:member_added").await;
    let mut other = signed_in(&server, &bob).await;
    terminate(&server, &ann).await;
    for tab in &mut tabs {
        tab.expect_refusal(4009, "").await;
    }
    witness.expect("pusher_internal:member_removed").await;
    witness.expect_nothing_published(&server).await;
    other.expect_nothing_published(&server).await;
    let mut back = signed_in(&server, &ann).await;
    back.expect_nothing().await;
}

#[tokio::test]
async fn a_terminated_connection_is_heard_no_more() {
    let server = shared();
    let (ann, channel) = (unique("ann-"), unique("private-"));
    let mut witness = WsClient::connect(&server).await;
    witness.subscribe(&channel).await;
    let mut client = RawWs::connect(server.public, server.app()).await;
    let socket_id = client.established().await;
    let user_data = json!({"id": ann}).to_string();
    let data = json!({"auth": server.app().user_auth(&socket_id, &user_data), "user_data": user_data});
    client.write_text(&json!({"event": "pusher:signin", "data": data}).to_string()).await;
    client.expect_text().await;
    let data = json!({"auth": server.app().channel_auth(&socket_id, &channel), "channel": channel});
    client.write_text(&json!({"event": "pusher:subscribe", "data": data}).to_string()).await;
    client.expect_text().await;
    terminate(&server, &ann).await;
    assert_eq!(client.wait_for_close(DEADLINE).await, 4009);
    server.publish(&channel, "published", "{}").await;
    witness.expect("published").await;
    let event = json!({"event": "client-last-words", "channel": channel, "data": {}}).to_string();
    client.write_text(&event).await;
    client.write(&frame(CLOSE, true, &4009_u16.to_be_bytes())).await;
    assert_eq!(client.next(DEADLINE).await, None, "nothing follows a Close");
    witness.expect_nothing_published(&server).await;
}

#[tokio::test]
async fn terminating_somebody_unknown_is_fine() {
    let server = shared();
    terminate(&server, "nobody-of-this-name").await;
}

#[tokio::test]
async fn a_terminated_user_goes_offline() {
    let server = shared();
    let ann = unique("ann-");
    let mut anns = signed_in(&server, &ann).await;
    let mut watcher = watching(&server, &[&ann]).await;
    expect_watchlist(&mut watcher, came(&ann)).await;
    terminate(&server, &ann).await;
    anns.expect_refusal(4009, "").await;
    expect_watchlist(&mut watcher, went(&ann)).await;
}

#[tokio::test]
async fn an_app_that_demands_authorisation_closes_those_who_do_not() {
    let server = STRICT.get();
    let mut user = WsClient::connect(&server).await;
    user.sign_in(r#"{"id":"1"}"#).await;
    let mut private = WsClient::connect(&server).await;
    private.subscribe(&unique("private-")).await;
    let mut presence = WsClient::connect(&server).await;
    presence.join_as(&unique("presence-"), "1").await;
    let mut public = WsClient::connect(&server).await;
    public.subscribe(&unique("news-")).await;
    let mut forger = WsClient::connect(&server).await;
    forger.send_subscribe_with_auth("private-x", "x:y").await;
    forger.expect_not_subscribed("private-x", "AuthError", 401, "").await;
    let mut idle = WsClient::connect(&server).await;
    for client in [&mut public, &mut forger, &mut idle] {
        client.expect_refusal(4100, "Connection not authorized within timeout").await;
    }
    // These are older than the last one closed, so their time is over as well.
    for client in [&mut user, &mut private, &mut presence] {
        client.expect_nothing().await;
    }
}
