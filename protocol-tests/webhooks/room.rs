//! Strangers come and go while the receiver is away.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use serde_json::Value;

use super::Hooks;
use super::operating::{answer, webhooks};
use crate::harness::databases::postgres;
use crate::harness::http::get;
use crate::harness::ws::WsClient;

/// Room for one event of each user or connection, and ten of each channel.
const ROOM: &str = "name = \"main\"\nmax_waiting = 100\nretry_for = \"1h\"";
const STRANGERS: usize = 8;

#[tokio::test]
async fn strangers_silence_nobody_sqlite() {
    strangers_silence_nobody(Hooks::start("webhook_delay = \"0s\"", ROOM).await).await;
}

#[tokio::test]
async fn strangers_silence_nobody_postgresql() {
    let database = postgres().await;
    let store = format!("[store]\nurl = \"{}\"", database.url);
    let hooks = Hooks::with("webhook_delay = \"0s\"", ROOM, |config| config.tables(&store)).await;
    strangers_silence_nobody(hooks).await;
}

#[tokio::test]
async fn strangers_silence_no_receiver_of_batches() {
    let batching = format!("{ROOM}\nbatch = true");
    strangers_silence_nobody(Hooks::start("webhook_delay = \"0s\"", &batching).await).await;
}

/// A member comes before the strangers, one after them; a public channel of somebody else stays.
async fn strangers_silence_nobody(mut hooks: Hooks) {
    hooks.portal.refuse().await;
    let mut before = WsClient::connect(hooks.server()).await;
    before.join_as("presence-room", "before").await;
    for stranger in 0..STRANGERS {
        let mut client = WsClient::connect(hooks.server()).await;
        for number in 0..40 {
            let channel = format!("junk-{stranger}-{number}");
            client.subscribe(&channel).await;
            client.unsubscribe(&channel).await;
        }
        client.close().await;
    }
    let mut after = WsClient::connect(hooks.server()).await;
    after.join_as("presence-room", "after").await;
    after.subscribe("news").await;
    // Each connection has a share of one; what came and went unheard is counted.
    let full = stands(&hooks, |standing| standing["dropped"].as_u64() >= Some(STRANGERS as u64 * 60)).await;
    assert!(full["waiting"].as_u64() < Some(100), "{full}");
    let text = get(hooks.server().admin, "/metrics").await.expect_status(200).text();
    let dropped =
        format!("switchboard_webhook_dropped_total{{app=\"1001\",webhook=\"main\"}} {}\n", full["dropped"]);
    assert!(text.contains(&dropped), "{dropped} in\n{text}");

    hooks.portal.accept().await;
    let (mut there, mut seen) = (HashMap::new(), HashSet::new());
    let expected = ["presence-room null", "presence-room \"before\"", "presence-room \"after\"", "news null"];
    while !expected.iter().all(|subject| there.get(*subject) == Some(&true)) {
        let request = hooks.portal.next_within(Duration::from_secs(90)).await;
        request.expect_signed(hooks.server().app());
        if seen.insert(request.body.clone()) {
            request.events().iter().for_each(|event| note(&mut there, event));
        }
    }
    // Everybody leaves; the receiver ends with nothing.
    before.close().await;
    after.close().await;
    while there.values().any(|is_there| *is_there) {
        let request = hooks.portal.next_within(Duration::from_secs(90)).await;
        if seen.insert(request.body.clone()) {
            request.events().iter().for_each(|event| note(&mut there, event));
        }
    }
}

/// No end without its beginning, no member without its channel, nothing twice.
#[track_caller]
fn note(there: &mut HashMap<String, bool>, event: &Value) {
    let channel = event["channel"].as_str().expect("a channel");
    let subject = format!("{channel} {}", event["user_id"]);
    let comes = match event["name"].as_str().expect("a name") {
        "channel_occupied" | "member_added" => true,
        "channel_vacated" | "member_removed" => false,
        _ => return,
    };
    let before = there.insert(subject.clone(), comes).unwrap_or(false);
    assert_ne!(before, comes, "{event}");
    let of_channel = format!("{channel} null");
    assert!(subject == of_channel || there.get(&of_channel) == Some(&true), "{event} without its channel");
}

/// The webhook's standing once it fits.
async fn stands(hooks: &Hooks, fits: impl Fn(&Value) -> bool) -> Value {
    let start = std::time::Instant::now();
    loop {
        let standing = answer(webhooks(hooks, "list").await)["webhooks"][0].clone();
        if fits(&standing) {
            return standing;
        }
        assert!(start.elapsed() < crate::harness::DEADLINE, "{standing}");
    }
}
