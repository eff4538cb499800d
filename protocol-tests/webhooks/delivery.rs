//! How it arrives: tries, order, batches, filters, keys.

use std::collections::HashSet;

use serde_json::{Value, json};

use super::{Hooks, occupied, table, vacated};
use crate::harness::portal::{Portal, Reply};
use crate::harness::server::Config;
use crate::harness::sign::App;
use crate::harness::ws::WsClient;

#[tokio::test]
async fn w10_whatever_fails_is_tried_again_with_the_same_bytes() {
    let mut hooks = Hooks::start("", "timeout = \"300ms\"").await;
    let mut client = WsClient::connect(hooks.server()).await;
    for reply in [
        Reply::Status(500, String::new()),
        Reply::Status(404, String::new()),
        Reply::Status(302, String::new()),
        Reply::Hang,
        Reply::Close,
    ] {
        hooks.portal.answers_next(reply);
    }
    client.subscribe("news").await;
    let first = hooks.portal.next().await;
    for _ in 0..5 {
        let next = hooks.portal.next_within(crate::clients::RECONNECT_LIMIT).await;
        assert_eq!(
            (&next.body, next.header("X-Pusher-Signature")),
            (&first.body, first.header("X-Pusher-Signature"))
        );
    }
    client.subscribe("marker").await;
    hooks.expect(&[occupied("marker")]).await;
}

#[tokio::test]
async fn w10_a_2xx_settles_it_whatever_becomes_of_its_body() {
    let mut hooks = Hooks::start("webhook_delay = \"50ms\"", "").await;
    let mut client = WsClient::connect(hooks.server()).await;
    let never_ends = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n";
    hooks.portal.answers_next(Reply::Raw(never_ends.into()));
    client.subscribe("news").await;
    client.unsubscribe("news").await;
    // Nothing of `Hooks` that leaves out repeats: there are none.
    for expected in [occupied("news"), vacated("news")] {
        assert_eq!(super::only(&hooks.portal.next().await), expected);
    }
}

#[tokio::test]
async fn w10_a_receiver_that_is_away_gets_it_when_it_is_back() {
    let mut hooks = Hooks::start("", "").await;
    hooks.portal.refuse().await;
    let mut client = WsClient::connect(hooks.server()).await;
    client.subscribe("a").await;
    client.subscribe("b").await;
    hooks.portal.accept().await;
    let channels: HashSet<_> =
        [hooks.next().await, hooks.next().await].map(|event| event["channel"].to_string()).into();
    assert_eq!(channels.len(), 2);
}

#[tokio::test]
async fn w10_a_receiver_that_refuses_everything_is_asked_for_each_channel_at_once() {
    let mut hooks = Hooks::start("", "").await;
    hooks.portal.answers(500, "");
    let mut client = WsClient::connect(hooks.server()).await;
    for n in 0..40 {
        client.subscribe(&format!("c{n}")).await;
    }
    // Repeats are left out.
    let mut told = HashSet::new();
    while told.len() < 40 {
        told.insert(hooks.next().await["channel"].to_string());
    }
    hooks.portal.answers(200, "{}");
    client.subscribe("new").await;
    hooks.expect(&[occupied("new")]).await;
}

#[tokio::test]
async fn a_channel_that_fails_delays_no_other_and_keeps_its_order() {
    let mut hooks = Hooks::start("webhook_delay = \"50ms\"", "").await;
    let mut client = WsClient::connect(hooks.server()).await;
    let (release, held) = Reply::held();
    hooks.portal.answers_next(held);
    client.subscribe("slow").await;
    assert_eq!(hooks.next().await, occupied("slow"));
    client.unsubscribe("slow").await;
    client.subscribe("other").await;
    hooks.expect(&[occupied("other")]).await;
    client.unsubscribe("other").await;
    hooks.expect(&[vacated("other")]).await;
    release.send(()).expect("held");
    hooks.expect(&[vacated("slow")]).await;
}

#[tokio::test]
async fn a_receiver_that_hangs_delays_neither_another_nor_publishing() {
    let other = Portal::start().await;
    let second = table(&other, "name = \"other\"");
    let hooks = Hooks::start("", &second).await;
    let mut other = other;
    let mut client = WsClient::connect(hooks.server()).await;
    for n in 0..40 {
        hooks.portal.answers_next(Reply::Hang);
        client.subscribe(&format!("c{n}")).await;
    }
    let told: HashSet<String> = {
        let mut told = HashSet::new();
        while told.len() < 40 {
            told.insert(super::only(&other.next().await)["channel"].to_string());
        }
        told
    };
    assert_eq!(told.len(), 40);
    hooks.server().publish("c1", "e", "1").await;
    assert_eq!(client.wait_for("e").await.data(), "1");
}

#[tokio::test]
async fn w12_batches_are_of_one_app_in_order_and_within_their_limits() {
    let portal = Portal::start().await;
    let lines = table(&portal, "batch = true");
    let server = Config::new().app("1001", &lines).app("1002", &lines).start();
    let mut portal = portal;
    let apps: Vec<App> = ["1001", "1002"].map(|id| server.app_with_id(id).clone()).into();
    let mut clients = Vec::new();
    for app in &apps {
        clients.push(WsClient::connect_to(&server, app).await);
    }
    const COUNT: usize = 150;
    for n in 0..COUNT {
        for client in &mut clients {
            client.send_subscribe(&format!("app-{}-{n}", client.app().id)).await;
        }
    }
    let mut told = vec![Vec::new(); apps.len()];
    let mut requests = 0;
    while told.iter().any(|events| events.len() < COUNT) {
        let request = portal.next().await;
        let index =
            apps.iter().position(|app| request.header("X-Pusher-Key") == Some(&app.key)).expect("an app");
        request.expect_signed(&apps[index]);
        let events = request.events();
        assert!(events.len() <= 100);
        told[index].extend(events);
        requests += 1;
    }
    assert!(requests < COUNT, "{requests} requests");
    for (app, events) in apps.iter().zip(&told) {
        let expected: Vec<Value> = (0..COUNT).map(|n| occupied(&format!("app-{}-{n}", app.id))).collect();
        assert_eq!(events, &expected);
    }
}

#[tokio::test]
async fn w13_filters_leave_out_events_and_channels_before_signing() {
    let webhook =
        "events = [\"channel_occupied\", \"cache_miss\"]\nchannels = [\"cache-*\", \"news\"]\nbatch = true";
    let mut hooks = Hooks::start("", webhook).await;
    let mut client = WsClient::connect(hooks.server()).await;
    for channel in ["other", "newsletter", "news", "cache-a"] {
        client.subscribe(channel).await;
    }
    let mut events = Vec::new();
    while events.len() < 3 {
        let request = hooks.portal.next().await;
        request.expect_signed(hooks.server().app());
        assert!(!request.events().is_empty());
        events.extend(request.events());
    }
    let miss = json!({"name": "cache_miss", "channel": "cache-a"});
    assert_eq!(events, [occupied("news"), occupied("cache-a"), miss]);
}

#[tokio::test]
async fn w14_a_rotated_secret_signs_once_it_is_the_first() {
    let mut hooks = Hooks::start("", "").await;
    let app = hooks.server().app().clone();
    let mut client = WsClient::connect(hooks.server()).await;
    let both = format!("secrets = [\"{}\", \"next\"]", app.secret);
    let one = format!("secrets = [\"{}\"]", app.secret);
    hooks.server().reload(|text| text.replace(&one, &both), "configuration reloaded").await;
    client.subscribe("a").await;
    hooks.expect(&[occupied("a")]).await;
    hooks.server().reload(|text| text.replace(&both, "secrets = [\"next\"]"), "configuration reloaded").await;
    client.subscribe("b").await;
    hooks.portal.next().await.expect_signed(&App::new(&app.id, &app.key, "next"));
}

#[tokio::test]
async fn a_reload_changes_webhooks() {
    let mut hooks = Hooks::start("webhook_delay = \"50ms\"", "events = [\"channel_occupied\"]").await;
    let mut client = WsClient::connect(hooks.server()).await;
    client.subscribe("a").await;
    hooks.expect(&[occupied("a")]).await;
    let change =
        |text: String| text.replace("events = [\"channel_occupied\"]", "events = [\"channel_vacated\"]");
    hooks.server().reload(change, "configuration reloaded").await;
    client.subscribe("b").await;
    client.unsubscribe("a").await;
    hooks.expect(&[vacated("a")]).await;
}

#[tokio::test]
async fn private_addresses_are_refused_unless_they_are_allowed() {
    let mut hooks = Hooks::start("", "").await;
    let url = format!("url = \"{}\"", hooks.portal.url());
    let by_name = url.replace("127.0.0.1", "localhost");
    for (channel, url) in [("by-address", &url), ("by-name", &by_name)] {
        let change = |text: String| {
            let start = text.find("[[apps.webhooks]]").expect("there");
            format!("{}[[apps.webhooks]]\n{url}\nretry_for = \"1s\"\n", &text[..start])
        };
        hooks.server().reload(change, "configuration reloaded").await;
        let count = hooks.server().output().matches("allow_private_addresses").count();
        let mut client = WsClient::connect(hooks.server()).await;
        client.subscribe(channel).await;
        let start = std::time::Instant::now();
        while hooks.server().output().matches("allow_private_addresses").count() == count {
            assert!(start.elapsed() < crate::harness::DEADLINE, "{}", hooks.server().output());
            tokio::task::yield_now().await;
        }
    }
    assert_eq!(hooks.portal.passed(), Vec::<Value>::new());
}
