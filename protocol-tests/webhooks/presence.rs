//! Who is there, and who only seemed to be gone.

use serde_json::json;

use super::{Hooks, added, occupied, removed, vacated};
use crate::harness::ws::WsClient;

/// Longer than it takes to come back, even on a loaded machine.
const DELAY: &str = "webhook_delay = \"2s\"";

/// Waits for the end of a channel that was left after all others, so that theirs would have been told.
async fn others_would_have_gone(hooks: &mut Hooks, marker: &mut WsClient) {
    marker.subscribe("marker").await;
    hooks.expect(&[occupied("marker")]).await;
    marker.unsubscribe("marker").await;
    hooks.expect(&[vacated("marker")]).await;
}

#[tokio::test]
async fn w6_who_is_back_in_time_was_never_gone() {
    let mut hooks = Hooks::start(DELAY, "").await;
    let mut marker = WsClient::connect(hooks.server()).await;
    let mut client = WsClient::connect(hooks.server()).await;
    client.join_as("presence-room", "7").await;
    hooks.expect(&[occupied("presence-room"), added("presence-room", "7")]).await;
    // A page is reloaded.
    client.close().await;
    let mut client = WsClient::connect(hooks.server()).await;
    client.join_as("presence-room", "7").await;
    others_would_have_gone(&mut hooks, &mut marker).await;
    // And left.
    client.unsubscribe("presence-room").await;
    hooks.expect(&[removed("presence-room", "7"), vacated("presence-room")]).await;
    client.join_as("presence-room", "7").await;
    hooks.expect(&[occupied("presence-room"), added("presence-room", "7")]).await;
}

#[tokio::test]
async fn w7_two_tabs_are_one_member() {
    let mut hooks =
        Hooks::start(DELAY, "events = [\"member_added\", \"member_removed\", \"channel_vacated\"]").await;
    let mut one = WsClient::connect(hooks.server()).await;
    let mut two = WsClient::connect(hooks.server()).await;
    one.join_as("presence-room", "7").await;
    two.join_as("presence-room", "7").await;
    hooks.expect(&[added("presence-room", "7")]).await;
    one.close().await;
    two.subscribe("marker").await;
    two.unsubscribe("marker").await;
    hooks.expect(&[vacated("marker")]).await;
    two.close().await;
    hooks.expect(&[removed("presence-room", "7"), vacated("presence-room")]).await;
}

#[tokio::test]
async fn clients_are_told_of_members_at_once() {
    let mut hooks = Hooks::start("webhook_delay = \"1h\"", "").await;
    let mut one = WsClient::connect(hooks.server()).await;
    let mut two = WsClient::connect(hooks.server()).await;
    one.join_as("presence-room", "1").await;
    two.join_as("presence-room", "2").await;
    one.wait_for("pusher_internal:member_added").await;
    two.close().await;
    assert_eq!(one.wait_for("pusher_internal:member_removed").await.json(), json!({"user_id": "2"}));
    hooks
        .expect(&[occupied("presence-room"), added("presence-room", "1"), added("presence-room", "2")])
        .await;
}

#[tokio::test]
async fn a_restart_tells_who_did_not_come_back_and_nothing_of_who_did() {
    let mut hooks = Hooks::start("webhook_delay = \"100ms\"", "").await;
    let mut stays = WsClient::connect(hooks.server()).await;
    stays.join_as("presence-room", "1").await;
    let mut goes = WsClient::connect(hooks.server()).await;
    goes.join_as("presence-room", "2").await;
    let came = [occupied("presence-room"), added("presence-room", "1"), added("presence-room", "2")];
    hooks.expect(&came).await;
    // Once in order, once by surprise.
    for signal in [Some(rustix::process::Signal::TERM), None] {
        if let Some(signal) = signal {
            hooks.server().signal(signal);
            hooks.server().exit_status(crate::harness::DEADLINE).await;
        }
        hooks.revive();
        stays = WsClient::connect(hooks.server()).await;
        stays.join_as("presence-room", "1").await;
        if signal.is_some() {
            hooks.expect(&[removed("presence-room", "2")]).await;
        }
    }
    // Nobody comes back: the member goes before the room.
    hooks.revive();
    hooks.expect(&[removed("presence-room", "1"), vacated("presence-room")]).await;
}
