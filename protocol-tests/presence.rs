//! Presence channels: who is told of whom, once, and with what.

use serde_json::{Value, json};

use crate::harness::names::unique;
use crate::harness::server::TestServer;
use crate::harness::shared::{DEFAULTS, MAIN, SMALL, shared};
use crate::harness::ws::WsClient;

fn member(user_id: &str, user_info: &str) -> String {
    format!(r#"{{"user_id":"{user_id}","user_info":{user_info}}}"#)
}

fn added(channel: &str, user_id: &str, user_info: &str) -> String {
    let event = "pusher_internal:member_added";
    json!({"event": event, "channel": channel, "data": member(user_id, user_info)}).to_string()
}

fn removed(channel: &str, user_id: &str) -> String {
    let data = json!({"user_id": user_id}).to_string();
    json!({"event": "pusher_internal:member_removed", "channel": channel, "data": data}).to_string()
}

fn sorted(ids: &Value) -> Vec<String> {
    let mut ids: Vec<String> = serde_json::from_value(ids.clone()).expect("an array of strings");
    ids.sort();
    ids
}

/// A client that is in `channel` as `user`.
async fn member_of(server: &TestServer, channel: &str, user: &str) -> WsClient {
    let mut client = WsClient::connect(server).await;
    client.join_as(channel, user).await;
    client
}

#[tokio::test]
async fn members_learn_who_is_there_and_who_comes_and_goes() {
    let server = shared();
    let channel = unique("presence-");
    let mut ann = WsClient::connect(&server).await;
    ann.send_subscribe_presence(&channel, r#"{"user_id": "42", "user_info": {"name": "Ann"}}"#).await;
    assert_eq!(
        ann.next().await.text,
        format!(
            r#"{{"event":"pusher_internal:subscription_succeeded","channel":"{channel}","data":"{{\"presence\":{{\"ids\":[\"42\"],\"hash\":{{\"42\":{{\"name\": \"Ann\"}}}},\"count\":1}}}}"}}"#
        )
    );
    let mut bob = WsClient::connect(&server).await;
    let roster = bob.join(&channel, r#"{"user_id":"7"}"#).await;
    assert_eq!(sorted(&roster["ids"]), ["42", "7"]);
    assert_eq!(roster["hash"], json!({"42": {"name": "Ann"}, "7": {}}));
    assert_eq!(roster["count"], 2);
    assert_eq!(
        ann.next().await.text,
        format!(
            r#"{{"event":"pusher_internal:member_added","channel":"{channel}","data":"{{\"user_id\":\"7\",\"user_info\":{{}}}}"}}"#
        )
    );
    bob.unsubscribe(&channel).await;
    assert_eq!(
        ann.next().await.text,
        format!(
            r#"{{"event":"pusher_internal:member_removed","channel":"{channel}","data":"{{\"user_id\":\"7\"}}"}}"#
        )
    );
    bob.expect_nothing_published(&server).await;
    ann.expect_nothing_published(&server).await;
}

#[tokio::test]
async fn a_number_and_its_text_are_one_user() {
    let server = shared();
    let channel = unique("presence-");
    let mut witness = member_of(&server, &channel, "witness").await;
    let mut number = WsClient::connect(&server).await;
    let roster = number.join(&channel, r#"{"user_id":10,"user_info":{"name":"Mr. Channels"}}"#).await;
    assert_eq!(sorted(&roster["ids"]), ["10", "witness"]);
    assert_eq!(roster["hash"]["10"], json!({"name": "Mr. Channels"}));
    witness.expect_text(&added(&channel, "10", r#"{"name":"Mr. Channels"}"#)).await;
    let mut text = WsClient::connect(&server).await;
    let roster = text.join(&channel, r#"{"user_id":"10","user_info":{"name":"Other"}}"#).await;
    assert_eq!(
        (sorted(&roster["ids"]), &roster["count"]),
        (vec!["10".to_owned(), "witness".to_owned()], &json!(2))
    );
    witness.expect_nothing_published(&server).await;
    number.expect_nothing_published(&server).await;
}

#[tokio::test]
async fn numbers_keep_all_their_digits() {
    let server = shared();
    let channel = unique("presence-");
    let mut client = WsClient::connect(&server).await;
    for (id, text) in [
        ("9007199254740993", "9007199254740993"),
        ("18446744073709551617", "18446744073709551617"),
        ("0", "0"),
        ("-1", "-1"),
    ] {
        let roster = client.join(&channel, &format!(r#"{{"user_id":{id}}}"#)).await;
        assert_eq!(roster["ids"], json!([text]));
        client.unsubscribe(&channel).await;
    }
}

#[tokio::test]
async fn user_info_is_any_json_and_kept_to_the_character() {
    let server = shared();
    let channel = unique("presence-");
    let mut witness = member_of(&server, &channel, "a-witness").await;
    for (user_info, kept) in [
        (None, "{}"),
        (Some("{}"), "{}"),
        (Some("[]"), "[]"),
        (Some("true"), "true"),
        (Some(r#""x""#), r#""x""#),
        (Some("0"), "0"),
        (
            Some(r#"{"n": 1.0, "big":1152921504606846976, "s":"\u00e9\/é🐘", "deep":{"a":[1,{"b":null}]}}"#),
            r#"{"n": 1.0, "big":1152921504606846976, "s":"\u00e9\/é🐘", "deep":{"a":[1,{"b":null}]}}"#,
        ),
    ] {
        let mut client = WsClient::connect(&server).await;
        let channel_data = match user_info {
            Some(info) => member("x", info),
            None => r#"{"user_id":"x"}"#.to_owned(),
        };
        client.send_subscribe_presence(&channel, &channel_data).await;
        let roster = client.expect_subscribed(&channel).await;
        assert_eq!(sorted(&roster.json()["presence"]["ids"]), ["a-witness", "x"]);
        assert!(roster.data().contains(&format!(r#""x":{kept}"#)), "{}", roster.data());
        let told = witness.expect("pusher_internal:member_added").await;
        assert_eq!(told.data(), member("x", kept));
        client.unsubscribe(&channel).await;
        witness.expect_text(&removed(&channel, "x")).await;
    }
}

#[tokio::test]
async fn ids_with_special_characters_survive() {
    let server = shared();
    for id in [
        "a \"quoted\" \\ id",
        "Jörg Müller",
        "🐘",
        "a:b",
        "<script>",
        "\u{2028}",
        "id,with,commas",
        &"é".repeat(128),
    ] {
        let channel = unique("presence-");
        let mut witness = member_of(&server, &channel, "witness").await;
        let mut client = WsClient::connect(&server).await;
        let roster = client.join_as(&channel, id).await;
        assert!(sorted(&roster["ids"]).contains(&id.to_owned()), "{roster}");
        assert_eq!(roster["hash"][id], json!({}));
        assert_eq!(witness.expect("pusher_internal:member_added").await.json()["user_id"], id);
        client.close().await;
        assert_eq!(witness.expect("pusher_internal:member_removed").await.json(), json!({"user_id": id}));
    }
}

#[tokio::test]
async fn what_can_be_no_member_is_refused_and_the_connection_stays() {
    let server = shared();
    let channel = unique("presence-");
    let mut witness = member_of(&server, &channel, "witness").await;
    let mut client = WsClient::connect(&server).await;
    let too_long = json!({"user_id": "x".repeat(129)}).to_string();
    for channel_data in [
        "",
        "nonsense",
        "[]",
        "null",
        "\"42\"",
        "42",
        "{}",
        r#"{"id":"42"}"#,
        r#"{"user_info":{"name":"Ann"}}"#,
        r#"{"user_id":null}"#,
        r#"{"user_id":true}"#,
        r#"{"user_id":1.5}"#,
        r#"{"user_id":1e3}"#,
        r#"{"user_id":{}}"#,
        r#"{"user_id":["42"]}"#,
        r#"{"user_id":""}"#,
        &too_long,
    ] {
        client.send_subscribe_presence(&channel, channel_data).await;
        client.expect_not_subscribed(&channel, "AuthError", 401, "").await;
    }
    witness.expect_nothing_published(&server).await;
    client.join_as(&channel, "x").await;
    witness.expect("pusher_internal:member_added").await;
}

#[tokio::test]
async fn channel_data_must_be_what_was_signed() {
    let server = shared();
    let channel = unique("presence-");
    let mut client = WsClient::connect(&server).await;
    let signed = r#"{"user_id":"42"}"#;
    let auth = server.app().presence_auth(&client.socket_id, &channel, signed);
    for forged in
        [r#"{"user_id":"43"}"#, r#"{"user_id": "42"}"#, r#"{"user_id":"42","user_info":{"admin":true}}"#]
    {
        let data = json!({"auth": auth, "channel": channel, "channel_data": forged});
        client.send_json(&json!({"event": "pusher:subscribe", "data": data})).await;
        let part =
            format!("Expected HMAC SHA256 hex digest of {}:{channel}:{forged}, but got", client.socket_id);
        client.expect_not_subscribed(&channel, "AuthError", 401, &part).await;
    }
    let without = server.app().channel_auth(&client.socket_id, &channel);
    let data = json!({"auth": without, "channel": channel, "channel_data": signed});
    client.send_json(&json!({"event": "pusher:subscribe", "data": data})).await;
    client.expect_not_subscribed(&channel, "AuthError", 401, "Invalid signature").await;
}

/// How a tab may leave.
#[derive(Clone, Copy, Debug)]
enum Leave {
    Unsubscribe,
    Close,
    Drop,
    Reset,
}

async fn leave(how: Leave, mut tab: WsClient, channel: &str) -> Option<WsClient> {
    match how {
        Leave::Unsubscribe => {
            tab.unsubscribe(channel).await;
            return Some(tab);
        }
        Leave::Close => tab.close().await,
        Leave::Drop => drop(tab),
        Leave::Reset => tab.reset(),
    }
    None
}

#[tokio::test]
async fn a_user_joins_with_the_first_tab_and_leaves_with_the_last() {
    let server = shared();
    for how in [Leave::Unsubscribe, Leave::Close, Leave::Drop, Leave::Reset] {
        for first_leaves_first in [true, false] {
            let channel = unique("presence-");
            let mut witness = member_of(&server, &channel, "witness").await;
            let mut first = member_of(&server, &channel, "ann").await;
            witness.expect_text(&added(&channel, "ann", "{}")).await;
            let mut second = member_of(&server, &channel, "ann").await;
            first.expect_nothing_published(&server).await;
            second.expect_nothing_published(&server).await;
            witness.expect_nothing_published(&server).await;
            let (one, other) = if first_leaves_first { (first, second) } else { (second, first) };
            let _open = leave(how, one, &channel).await;
            // The tab that is left answers after the server has seen the other one leave, or before;
            // either way the witness may hear of nothing but the last.
            let _open = leave(how, other, &channel).await;
            witness.expect_text(&removed(&channel, "ann")).await;
            witness.expect_nothing_published(&server).await;
        }
    }
}

#[tokio::test]
async fn a_tab_that_leaves_early_takes_nobody_away() {
    let server = shared();
    let channel = unique("presence-");
    let mut witness = member_of(&server, &channel, "witness").await;
    let mut first = member_of(&server, &channel, "ann").await;
    let mut second = member_of(&server, &channel, "ann").await;
    witness.expect("pusher_internal:member_added").await;
    first.unsubscribe(&channel).await;
    first.expect_nothing().await;
    witness.expect_nothing_published(&server).await;
    second.expect_nothing_published(&server).await;
    let mut late = WsClient::connect(&server).await;
    assert_eq!(sorted(&late.join_as(&channel, "late").await["ids"]), ["ann", "late", "witness"]);
}

#[tokio::test]
async fn a_connection_that_ends_leaves_all_its_channels() {
    let server = shared();
    let channels = [unique("presence-"), unique("presence-cache-"), unique("presence-")];
    let mut witness = WsClient::connect(&server).await;
    let mut client = WsClient::connect(&server).await;
    for channel in &channels {
        witness.join_as(channel, "witness").await;
        witness.drain().await;
        client.join_as(channel, "ann").await;
        client.drain().await;
        witness.expect("pusher_internal:member_added").await;
    }
    client.reset();
    let mut left = Vec::new();
    for _ in &channels {
        left.push(witness.expect("pusher_internal:member_removed").await.channel().to_owned());
    }
    left.sort();
    let mut expected = channels.to_vec();
    expected.sort();
    assert_eq!(left, expected);
}

#[tokio::test]
async fn user_info_is_that_of_the_first_tab_until_all_have_left() {
    let server = shared();
    let channel = unique("presence-");
    let mut witness = member_of(&server, &channel, "witness").await;
    let mut first = WsClient::connect(&server).await;
    first.join(&channel, &member("ann", r#"{"tab":1}"#)).await;
    witness.expect_text(&added(&channel, "ann", r#"{"tab":1}"#)).await;
    let mut second = WsClient::connect(&server).await;
    let roster = second.join(&channel, &member("ann", r#"{"tab":2}"#)).await;
    assert_eq!(roster["hash"]["ann"], json!({"tab": 1}));
    first.unsubscribe(&channel).await;
    first.expect_nothing().await;
    let mut late = WsClient::connect(&server).await;
    let roster = late.join_as(&channel, "late").await;
    assert_eq!(roster["hash"]["ann"], json!({"tab": 1}));
    witness.expect_text(&added(&channel, "late", "{}")).await;
    second.unsubscribe(&channel).await;
    witness.expect_text(&removed(&channel, "ann")).await;
    first.join(&channel, &member("ann", r#"{"tab":3}"#)).await;
    witness.expect_text(&added(&channel, "ann", r#"{"tab":3}"#)).await;
}

#[tokio::test]
async fn joining_twice_shows_the_roster_again_and_announces_nobody() {
    let server = shared();
    let channel = unique("presence-");
    let mut witness = member_of(&server, &channel, "witness").await;
    let mut client = member_of(&server, &channel, "ann").await;
    witness.expect("pusher_internal:member_added").await;
    let roster = client.join_as(&channel, "ann").await;
    assert_eq!(
        (sorted(&roster["ids"]), &roster["count"]),
        (vec!["ann".to_owned(), "witness".to_owned()], &json!(2))
    );
    witness.expect_nothing_published(&server).await;
    client.unsubscribe(&channel).await;
    witness.expect_text(&removed(&channel, "ann")).await;
    witness.expect_nothing_published(&server).await;
}

#[tokio::test]
async fn joining_again_as_somebody_else_leaves_no_ghost() {
    let server = shared();
    let channel = unique("presence-");
    let mut witness = member_of(&server, &channel, "witness").await;
    let mut client = member_of(&server, &channel, "ann").await;
    witness.expect("pusher_internal:member_added").await;
    client.send_subscribe_presence(&channel, r#"{"user_id":"bob"}"#).await;
    client.drain().await;
    client.close().await;
    let mut present = std::collections::BTreeSet::from(["ann".to_owned(), "witness".to_owned()]);
    while present.len() > 1 {
        let event = witness.next().await;
        let user = event.json()["user_id"].as_str().unwrap().to_owned();
        match event.event.as_str() {
            "pusher_internal:member_added" => assert!(present.insert(user), "{}", event.text),
            _ => assert!(present.remove(&user), "{}", event.text),
        }
    }
    let mut late = WsClient::connect(&server).await;
    assert_eq!(sorted(&late.join_as(&channel, "late").await["ids"]), ["late", "witness"]);
}

/// Pusher docs, "Presence channels": a signed-in user needs no `channel_data`.
#[tokio::test]
async fn a_signed_in_user_joins_without_channel_data() {
    let server = shared();
    let channel = unique("presence-");
    let mut witness = member_of(&server, &channel, "witness").await;
    let mut client = WsClient::connect(&server).await;
    let user = unique("user-");
    client.sign_in(&format!(r#"{{"id":"{user}","user_info":{{"name": "Ann"}},"watchlist":[]}}"#)).await;
    client.send_subscribe_private(&channel).await;
    let roster = client.expect_subscribed(&channel).await.json()["presence"].clone();
    assert_eq!(roster["hash"][&user], json!({"name": "Ann"}));
    assert_eq!(witness.next().await.data(), member(&user, r#"{"name": "Ann"}"#));
}

#[tokio::test]
async fn a_signed_in_user_without_info_joins_with_an_empty_object() {
    let server = shared();
    let channel = unique("presence-");
    let mut client = WsClient::connect(&server).await;
    client.sign_in(r#"{"id":"plain"}"#).await;
    client.send_subscribe_private(&channel).await;
    let roster = client.expect_subscribed(&channel).await.json();
    assert_eq!(roster, json!({"presence": {"ids": ["plain"], "hash": {"plain": {}}, "count": 1}}));
}

#[tokio::test]
async fn without_channel_data_and_sign_in_nobody_joins() {
    let server = shared();
    let channel = unique("presence-");
    let mut witness = member_of(&server, &channel, "witness").await;
    let mut client = WsClient::connect(&server).await;
    client.send_subscribe_private(&channel).await;
    client.expect_not_subscribed(&channel, "AuthError", 401, "channel_data").await;
    client.send_subscribe(&channel).await;
    client.expect_not_subscribed(&channel, "AuthError", 401, "").await;
    witness.expect_nothing_published(&server).await;
    client.join_as(&channel, "ann").await;
}

#[tokio::test]
async fn a_full_channel_refuses_new_users_but_not_new_tabs() {
    let server = shared();
    let app = server.app_with_id(SMALL);
    let channel = unique("presence-");
    let mut members = Vec::new();
    for user in ["1", "2", "3"] {
        let mut client = WsClient::connect_to(&server, app).await;
        client.join_as(&channel, user).await;
        members.push(client);
    }
    let mut fourth = WsClient::connect_to(&server, app).await;
    fourth.send_subscribe_presence(&channel, r#"{"user_id":"4"}"#).await;
    fourth.expect_not_subscribed(&channel, "LimitReached", 4100, "").await;
    let mut tab = WsClient::connect_to(&server, app).await;
    assert_eq!(tab.join_as(&channel, "3").await["count"], 3);
    members[0].unsubscribe(&channel).await;
    members[1].wait_for("pusher_internal:member_removed").await;
    assert_eq!(sorted(&fourth.join_as(&channel, "4").await["ids"]), ["2", "3", "4"]);
    let told = members[1].expect("pusher_internal:member_added").await;
    assert_eq!(told.json()["user_id"], "4");
    // The other tab of "3" and the refused attempt were never announced.
    members[1].expect_nothing_published(&server).await;
}

#[tokio::test]
async fn by_default_member_101_is_refused() {
    let server = shared();
    let app = server.app_with_id(DEFAULTS);
    let channel = unique("presence-");
    let mut members = Vec::new();
    for user in 1..=100 {
        let mut client = WsClient::connect_to(&server, app).await;
        let roster = client.join(&channel, &format!(r#"{{"user_id":{user}}}"#)).await;
        assert_eq!(roster["count"], user);
        members.push(client);
    }
    let mut client = WsClient::connect_to(&server, app).await;
    client.send_subscribe_presence(&channel, r#"{"user_id":101}"#).await;
    client.expect_not_subscribed(&channel, "LimitReached", 4100, "100").await;
    let roster = client.join(&channel, r#"{"user_id":100}"#).await;
    assert_eq!(roster["ids"].as_array().map(Vec::len), Some(100));
    assert_eq!(roster["hash"].as_object().map(serde_json::Map::len), Some(100));
}

#[tokio::test]
async fn user_info_is_limited_in_bytes() {
    let server = shared();
    let app = server.app_with_id(SMALL);
    let channel = unique("presence-");
    let mut client = WsClient::connect_to(&server, app).await;
    // Quotes count: 62 and 63 bytes between them, in letters of two bytes.
    let fits = format!("\"{}\"", "é".repeat(31));
    let too_big = format!("\"{}x\"", "é".repeat(31));
    client.send_subscribe_presence(&channel, &member("1", &too_big)).await;
    client.expect_not_subscribed(&channel, "LimitReached", 4100, "64").await;
    client.join(&channel, &member("1", &fits)).await;
}

#[tokio::test]
async fn the_same_channel_in_two_apps_has_two_rosters() {
    let server = shared();
    let channel = unique("presence-");
    let mut here = WsClient::connect_to(&server, server.app_with_id(MAIN)).await;
    let mut there = WsClient::connect_to(&server, server.app_with_id(DEFAULTS)).await;
    here.join_as(&channel, "1").await;
    assert_eq!(there.join_as(&channel, "2").await["ids"], json!(["2"]));
    here.expect_nothing_published(&server).await;
}

/// First and last must be decided for all threads at once, however tabs come and go.
#[tokio::test]
async fn tabs_that_come_and_go_at_once_are_announced_in_turns() {
    let server = shared();
    let channel = unique("presence-");
    let mut witness = member_of(&server, &channel, "witness").await;
    let mut tabs = Vec::new();
    for _ in 0..6 {
        tabs.push(WsClient::connect(&server).await);
    }
    let coming_and_going = tabs.into_iter().map(|mut tab| {
        let channel = channel.clone();
        async move {
            for _ in 0..60 {
                let roster = tab.join_as(&channel, "ann").await;
                assert_eq!(sorted(&roster["ids"]), ["ann", "witness"], "oneself is always in it");
                tab.unsubscribe(&channel).await;
                tab.expect_nothing().await;
            }
        }
    });
    join_all(coming_and_going).await;
    let mut is_there = false;
    for event in witness.published_so_far(&server).await {
        let expected = if is_there { removed(&channel, "ann") } else { added(&channel, "ann", "{}") };
        let (got, expected): (Value, Value) =
            (serde_json::from_str(&event.text).unwrap(), serde_json::from_str(&expected).unwrap());
        assert_eq!(got, expected);
        is_there = !is_there;
    }
    assert!(!is_there, "all tabs have left");
    let mut late = WsClient::connect(&server).await;
    assert_eq!(sorted(&late.join_as(&channel, "late").await["ids"]), ["late", "witness"]);
}

async fn join_all(futures: impl Iterator<Item = impl Future<Output = ()> + Send + 'static>) {
    let tasks: Vec<_> = futures.map(tokio::spawn).collect();
    for task in tasks {
        task.await.expect("no panic");
    }
}
