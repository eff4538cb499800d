//! Events that clients send to each other.

use std::time::Instant;

use serde_json::{Value, json};

use crate::harness::DEADLINE;
use crate::harness::names::unique;
use crate::harness::server::TestServer;
use crate::harness::shared::{DEFAULTS, MAIN, UNLIMITED, shared};
use crate::harness::ws::WsClient;

/// Two subscribers of a new channel of this kind, of the app with this id.
async fn pair(server: &TestServer, app_id: &str, prefix: &str) -> (WsClient, WsClient, String) {
    let app = server.app_with_id(app_id);
    let channel = unique(prefix);
    let mut clients = Vec::new();
    for user in ["ann", "bob"] {
        let mut client = WsClient::connect_to(server, app).await;
        if prefix.starts_with("presence-") {
            client.join_as(&channel, user).await;
        } else {
            client.subscribe(&channel).await;
        }
        if prefix.contains("cache-") {
            client.expect("pusher:cache_miss").await;
        }
        clients.push(client);
    }
    let second = clients.pop().expect("two");
    let mut first = clients.pop().expect("two");
    if prefix.starts_with("presence-") {
        first.expect("pusher_internal:member_added").await;
    }
    (first, second, channel)
}

#[tokio::test]
async fn a_client_event_reaches_the_other_subscribers_and_not_its_sender() {
    let server = shared();
    let (mut sender, mut receiver, channel) = pair(&server, MAIN, "private-").await;
    let mut third = WsClient::connect(&server).await;
    third.subscribe(&channel).await;
    sender.send_text(&format!(r#"{{"event":"client-typing","channel":"{channel}","data":{{"n":1}}}}"#)).await;
    let expected = format!(r#"{{"event":"client-typing","channel":"{channel}","data":"{{\"n\":1}}"}}"#);
    assert_eq!(receiver.next().await.text, expected);
    assert_eq!(third.next().await.text, expected);
    sender.expect_nothing_published(&server).await;
}

#[tokio::test]
async fn the_sender_is_a_connection_and_not_a_user() {
    let server = shared();
    let channel = unique("presence-");
    let mut tabs = [WsClient::connect(&server).await, WsClient::connect(&server).await];
    for tab in &mut tabs {
        tab.join_as(&channel, "42").await;
    }
    let [mut first, mut second] = tabs;
    first.send_client_event(&channel, "client-typing", &json!({"n": 1})).await;
    assert_eq!(
        second.next().await.text,
        format!(r#"{{"event":"client-typing","channel":"{channel}","data":"{{\"n\":1}}","user_id":"42"}}"#)
    );
    first.expect_nothing_published(&server).await;
}

#[tokio::test]
async fn every_kind_of_private_and_presence_channel_forwards_them() {
    let server = shared();
    for prefix in [
        "private-",
        "private-cache-",
        "private-encrypted-",
        "private-encrypted-cache-",
        "presence-",
        "presence-cache-",
    ] {
        let (mut sender, mut receiver, channel) = pair(&server, MAIN, prefix).await;
        sender.send_client_event(&channel, "client-x", &json!({})).await;
        let event = receiver.expect("client-x").await;
        assert_eq!(event.channel(), channel);
        assert_eq!(event.user_id.as_deref(), prefix.starts_with("presence-").then_some("ann"));
    }
}

#[tokio::test]
async fn client_events_are_not_remembered() {
    let server = shared();
    for prefix in ["private-cache-", "private-encrypted-cache-"] {
        let (mut sender, mut receiver, channel) = pair(&server, MAIN, prefix).await;
        sender.send_client_event(&channel, "client-x", &json!({})).await;
        receiver.expect("client-x").await;
        let mut late = WsClient::connect(&server).await;
        late.subscribe(&channel).await;
        late.expect("pusher:cache_miss").await;
        server.publish(&channel, "published", "{}").await;
        late.expect("published").await;
        sender.expect("published").await;
        sender.send_client_event(&channel, "client-y", &json!({})).await;
        late.expect("client-y").await;
        let mut later = WsClient::connect(&server).await;
        later.subscribe(&channel).await;
        later.expect("published").await;
    }
}

#[tokio::test]
async fn data_becomes_a_string_once() {
    let server = shared();
    let (mut sender, mut receiver, channel) = pair(&server, UNLIMITED, "private-").await;
    for (sent, received) in [
        (r#","data":{"n":1}"#, r#"{"n":1}"#),
        (
            r#","data":{ "n" : 1.0,"big":1152921504606846976, "s":"\u00e9\/" }"#,
            r#"{ "n" : 1.0,"big":1152921504606846976, "s":"\u00e9\/" }"#,
        ),
        (r#","data":"abc""#, "abc"),
        (r#","data":"{\"n\":1}""#, r#"{"n":1}"#),
        (r#","data":"\"quoted\"""#, r#""quoted""#),
        (r#","data":"""#, ""),
        (r#","data":7"#, "7"),
        (r#","data":-1.50e3"#, "-1.50e3"),
        (r#","data":true"#, "true"),
        (r#","data":null"#, "null"),
        (r#","data":[]"#, "[]"),
        (r#","data":[1,{"a":"é🐘"}]"#, r#"[1,{"a":"é🐘"}]"#),
        ("", "{}"),
    ] {
        sender.send_text(&format!(r#"{{"event":"client-x","channel":"{channel}"{sent}}}"#)).await;
        let event = receiver.expect("client-x").await;
        assert_eq!(event.data(), received, "{sent}");
    }
}

/// Valid JSON by its grammar, but strict decoders drop a frame that holds it, or fail.
#[tokio::test]
async fn half_a_surrogate_pair_is_refused_as_not_every_client_can_read_it() {
    let server = shared();
    let (mut sender, mut receiver, channel) = pair(&server, MAIN, "private-").await;
    for data in [r#""\ud800""#, r#""x\udc00\ud800x""#, r#""\ud83d \udc18""#] {
        sender.send_text(&format!(r#"{{"event":"client-x","channel":"{channel}","data":{data}}}"#)).await;
        sender.expect_error(None, "").await;
    }
    receiver.expect_nothing_published(&server).await;
    sender.send_text(&format!(r#"{{"event":"client-x","channel":"{channel}","data":"\ud83d\udc18"}}"#)).await;
    assert_eq!(receiver.expect("client-x").await.data(), "🐘");
}

#[tokio::test]
async fn user_id_comes_from_the_verified_subscription() {
    let server = shared();
    let (mut sender, mut receiver, channel) = pair(&server, MAIN, "presence-").await;
    for forged in [json!("bob"), json!(7), json!(null), json!({})] {
        sender
            .send_json(&json!({"event": "client-x", "channel": channel, "data": {"user_id": "bob"}, "user_id": forged}))
            .await;
        let event = receiver.expect("client-x").await;
        assert_eq!(event.user_id.as_deref(), Some("ann"));
        assert_eq!(event.data(), r#"{"user_id":"bob"}"#);
    }
    let (mut sender, mut receiver, channel) = pair(&server, MAIN, "private-").await;
    sender.sign_in(r#"{"id":"ann"}"#).await;
    sender.send_json(&json!({"event": "client-x", "channel": channel, "data": {}, "user_id": "bob"})).await;
    assert_eq!(receiver.expect("client-x").await.user_id, None);
}

#[tokio::test]
async fn a_number_as_user_id_is_sent_as_text() {
    let server = shared();
    let (_, mut receiver, channel) = pair(&server, MAIN, "presence-").await;
    let mut sender = WsClient::connect(&server).await;
    sender.join(&channel, r#"{"user_id":10}"#).await;
    receiver.wait_for("pusher_internal:member_added").await;
    sender.send_client_event(&channel, "client-x", &json!({})).await;
    assert_eq!(receiver.wait_for("client-x").await.user_id.as_deref(), Some("10"));
}

#[tokio::test]
async fn they_are_off_by_default() {
    let server = shared();
    let (mut sender, mut receiver, channel) = pair(&server, DEFAULTS, "private-").await;
    sender.send_client_event(&channel, "client-x", &json!({})).await;
    sender.expect_error(None, "To send client events, you must enable this feature").await;
    receiver.expect_nothing_published(&server).await;
}

#[tokio::test]
async fn public_channels_do_not_take_them() {
    let server = shared();
    for prefix in ["news-", "cache-", "privateer-", "presences-"] {
        let (mut sender, mut receiver, channel) = pair(&server, MAIN, prefix).await;
        sender.send_client_event(&channel, "client-x", &json!({})).await;
        sender.expect_error(None, "only supported on private and presence channels").await;
        receiver.expect_nothing_published(&server).await;
    }
}

#[tokio::test]
async fn only_subscribers_may_send() {
    let server = shared();
    for prefix in ["private-", "presence-"] {
        let (mut first, mut second, channel) = pair(&server, MAIN, prefix).await;
        let mut stranger = WsClient::connect(&server).await;
        stranger.send_client_event(&channel, "client-x", &json!({})).await;
        stranger.expect_error(None, "subscribed").await;
        stranger.subscribe(&unique("private-")).await;
        stranger.send_client_event(&channel, "client-x", &json!({})).await;
        stranger.expect_error(None, "subscribed").await;
        stranger.send_client_event(&unique("private-nobody-"), "client-x", &json!({})).await;
        stranger.expect_error(None, "subscribed").await;
        first.expect_nothing_published(&server).await;
        first.unsubscribe(&channel).await;
        first.send_client_event(&channel, "client-x", &json!({})).await;
        first.expect_error(None, "subscribed").await;
        if prefix == "presence-" {
            second.expect("pusher_internal:member_removed").await;
        }
        second.expect_nothing_published(&server).await;
    }
}

#[tokio::test]
async fn channels_of_other_apps_are_out_of_reach() {
    let server = shared();
    let (mut sender, _, channel) = pair(&server, MAIN, "private-").await;
    let mut foreign = WsClient::connect_to(&server, server.app_with_id(UNLIMITED)).await;
    foreign.subscribe(&channel).await;
    sender.send_client_event(&channel, "client-x", &json!({})).await;
    foreign.expect_nothing_published(&server).await;
}

#[tokio::test]
async fn the_prefix_is_required_at_the_start() {
    let server = shared();
    let (mut sender, mut receiver, channel) = pair(&server, MAIN, "private-").await;
    for name in
        ["xclient-foo", "typing", "client", "clientfoo", "Client-foo", "client_foo", "\u{feff}client-x"]
    {
        sender.send_client_event(&channel, name, &json!({})).await;
        sender.expect_error(None, "must be prefixed by 'client-'").await;
    }
    receiver.expect_nothing_published(&server).await;
    sender.send_client_event(&channel, "client-", &json!({})).await;
    sender.drain().await;
}

#[tokio::test]
async fn names_and_data_have_a_limit() {
    let server = shared();
    let (mut sender, mut receiver, channel) = pair(&server, MAIN, "private-").await;
    let longest = format!("client-{}", "é".repeat(193));
    sender.send_client_event(&channel, &longest, &json!({})).await;
    receiver.expect(&longest).await;
    sender.send_client_event(&channel, &format!("{longest}x"), &json!({})).await;
    sender.expect_error(None, "200").await;
    for (fits, too_big) in [
        (json!("x".repeat(10_240)), json!("x".repeat(10_241))),
        (json!("é".repeat(5_120)), json!(format!("{}x", "é".repeat(5_120)))),
        (json!("\n".repeat(10_240)), json!("\n".repeat(10_241))),
        (json!(["x".repeat(10_236)]), json!(["x".repeat(10_237)])),
    ] {
        sender.send_client_event(&channel, "client-x", &fits).await;
        let expected = fits.as_str().map_or_else(|| fits.to_string(), str::to_owned);
        assert_eq!(receiver.expect("client-x").await.data(), expected);
        sender.send_client_event(&channel, "client-x", &too_big).await;
        sender
            .expect_error(None, "The data content of this event exceeds the allowed maximum (10240 bytes)")
            .await;
    }
    receiver.expect_nothing_published(&server).await;
}

#[tokio::test]
async fn the_limit_follows_the_event_size_of_the_app() {
    let server = shared();
    let (mut sender, mut receiver, channel) = pair(&server, UNLIMITED, "private-").await;
    sender.send_client_event(&channel, "client-x", &json!("x".repeat(102_400))).await;
    assert_eq!(receiver.expect("client-x").await.data().len(), 102_400);
    // Twice as long on the wire.
    sender.send_client_event(&channel, "client-x", &json!("\n".repeat(102_400))).await;
    assert_eq!(receiver.expect("client-x").await.data().len(), 102_400);
    sender.send_client_event(&channel, "client-x", &json!("x".repeat(102_401))).await;
    sender.expect_error(None, "(102400 bytes)").await;
}

#[tokio::test]
async fn the_eleventh_in_a_second_is_rejected_with_4301_and_the_connection_stays() {
    let server = shared();
    let (mut sender, mut receiver, channel) = pair(&server, MAIN, "private-").await;
    let start = Instant::now();
    for n in 0..40 {
        sender.send_client_event(&channel, "client-x", &json!(n)).await;
    }
    let rejected = sender.drain().await;
    // The bucket refills ten a second while we write.
    let refilled = usize::try_from(start.elapsed().as_millis()).expect("short") / 100 + 1;
    for error in &rejected {
        assert_eq!(error.code(), Some(4301), "{}", error.text);
    }
    assert!((30 - refilled..=30).contains(&rejected.len()), "{} of 40 were rejected", rejected.len());
    let delivered: Vec<u64> = receiver
        .published_so_far(&server)
        .await
        .iter()
        .map(|event| event.json().as_u64().expect("a number"))
        .collect();
    assert_eq!(delivered.len() + rejected.len(), 40);
    assert_eq!(delivered[..10], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    // It works again as soon as the bucket has refilled.
    loop {
        sender.send_client_event(&channel, "client-again", &json!({})).await;
        if sender.drain().await.is_empty() {
            break;
        }
        assert!(start.elapsed() < DEADLINE, "the bucket never refills");
    }
    receiver.expect("client-again").await;
}

#[tokio::test]
async fn rejections_are_no_faults_that_add_up() {
    let server = shared();
    let (mut sender, _receiver, channel) = pair(&server, MAIN, "private-").await;
    for n in 0..400 {
        sender.send_client_event(&channel, "client-x", &json!(n)).await;
    }
    let rejected = sender.drain().await;
    assert!(rejected.len() > 300, "{}", rejected.len());
    assert!(rejected.iter().all(|error| error.code() == Some(4301)));
    sender.expect_nothing().await;
}

#[tokio::test]
async fn the_rate_is_counted_for_each_connection() {
    let server = shared();
    let (mut first, mut second, channel) = pair(&server, MAIN, "private-").await;
    for sender in [&mut first, &mut second] {
        for n in 0..10 {
            sender.send_client_event(&channel, "client-x", &json!(n)).await;
        }
    }
    let errors =
        |events: &[crate::harness::ws::Event]| events.iter().filter(|it| it.event == "pusher:error").count();
    assert_eq!(errors(&first.published_so_far(&server).await), 0);
    assert_eq!(errors(&second.published_so_far(&server).await), 0);
}

#[tokio::test]
async fn rate_0_is_no_limit_and_order_is_kept() {
    let server = shared();
    let (mut sender, mut receiver, channel) = pair(&server, UNLIMITED, "private-").await;
    for n in 0..1000 {
        sender.send_client_event(&channel, "client-x", &json!(n)).await;
    }
    sender.expect_nothing().await;
    let received: Vec<Value> =
        receiver.published_so_far(&server).await.iter().map(|event| event.json()).collect();
    assert_eq!(received, (0..1000).map(Value::from).collect::<Vec<_>>());
}
