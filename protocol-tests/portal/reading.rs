//! What the reader has in sight: the end of a thread, the list, and links in texts.

use serde_json::{Value, json};

use super::{INVALID, Portal};
use crate::clients::example;
use crate::harness::messaging::{ANN, OUTSIDE};

/// A thread of Ann's that is longer than her window and ends with a picture. Ben has written it.
async fn long_thread_with_a_picture() -> Portal {
    let mut portal = Portal::start().await;
    for number in 1..=20 {
        portal.router.send(2, ANN, &format!("Message {number}")).await;
    }
    portal.open("Ben", 2, json!({})).await;
    portal.on("Ben", "pick", json!({"name": "Ann Lee"})).await;
    let plan = example("portal/demo/floor-plan.png");
    portal.on("Ben", "upload", json!({"name": "plan.png", "type": "image/png", "path": plan})).await;
    portal.write("Ben", "The plan").await;
    portal.sees("Ben", "The plan", "delivered").await;
    portal.open("Ann", 1, json!({})).await;
    portal.on("Ann", "hold_pictures", json!({})).await;
    portal
}

#[tokio::test]
async fn a_thread_ends_at_its_last_message_however_late_its_pictures_come() {
    let mut portal = long_thread_with_a_picture().await;
    portal.on("Ann", "pick", json!({"name": "Ben Ortiz"})).await;
    portal.gets("Ann", "The plan").await;
    let before = portal.on("Ann", "scrolled", json!({})).await;
    assert_eq!(before["below"], 0, "{before}");
    let grown = portal.on("Ann", "release_pictures", json!({"name": "Attachment: plan.png"})).await;
    assert!(grown.as_i64() > Some(80), "the picture takes no room: {grown}");
    let after = portal.on("Ann", "scrolled", json!({})).await;
    assert_eq!(after["below"], 0, "{after}");
    portal.screenshot("Ann", "portal-late-picture.png").await;
    portal.close(&["Ann", "Ben"]).await;
}

#[tokio::test]
async fn a_reader_further_up_stays_there_and_is_shown_the_way_to_what_is_new() {
    let mut portal = long_thread_with_a_picture().await;
    portal.on("Ann", "pick", json!({"name": "Ben Ortiz"})).await;
    portal.gets("Ann", "The plan").await;
    portal.on("Ann", "scroll_up", json!({})).await;
    portal.on("Ann", "release_pictures", json!({"name": "Attachment: plan.png"})).await;
    portal.write("Ben", "One more").await;
    portal.shows("Ann", "New messages").await;
    let up = portal.on("Ann", "scrolled", json!({})).await;
    assert_eq!(up["above"], 0, "{up}");
    portal.screenshot("Ann", "portal-reading-up.png").await;
    portal.is_accessible("Ann").await;
    portal.on("Ann", "click", json!({"name": "New messages"})).await;
    portal.shows("Ann", "One more").await;
    let down = portal.on("Ann", "scrolled", json!({})).await;
    assert_eq!(down["below"], 0, "{down}");
    portal.close(&["Ann", "Ben"]).await;
}

#[tokio::test]
async fn conversations_with_unread_messages_come_first() {
    let mut portal = Portal::start().await;
    let sms = json!({"from": OUTSIDE, "to": ANN, "text": "Anybody there?"});
    portal.router.carrier.inbound(sms).await;
    portal.open("Ann", 1, json!({})).await;
    portal.on("Ann", "lists", json!({"name": "Carla Diaz", "text": "1 unread"})).await;
    // What Ann has written last is hers, so it can wait.
    portal.on("Ann", "pick", json!({"name": "Ben Ortiz"})).await;
    portal.write("Ann", "Lunch?").await;
    portal.sees("Ann", "Lunch?", "delivered").await;
    portal.on("Ann", "ordered", json!({"names": ["Carla Diaz", "Ben Ortiz"]})).await;
    portal.on("Ann", "pick", json!({"name": "Carla Diaz"})).await;
    portal.on("Ann", "ordered", json!({"names": ["Ben Ortiz", "Carla Diaz"]})).await;
    portal.close(&["Ann"]).await;
}

#[tokio::test]
async fn the_list_says_which_message_failed_and_why_without_opening_it() {
    let mut portal = Portal::start().await;
    let begun = json!({"user_id": 1, "to": INVALID, "contact": {"name": "Typo"}, "text": "Hello?"});
    portal.router.ok("/conversations", begun).await;
    portal.open("Ann", 1, json!({})).await;
    let row =
        json!({"name": "Typo", "text": "Not sent: The number is wrong or cannot receive text messages"});
    portal.on("Ann", "lists", row.clone()).await;
    portal.is_accessible("Ann").await;

    // And at once when it happens while she looks elsewhere.
    portal.router.carrier.fault("opted_out", 1, json!({})).await;
    portal.on("Ann", "pick", json!({"name": "Ben Ortiz"})).await;
    portal.router.send(1, OUTSIDE, "Are you coming?").await;
    let row = json!({"name": "Carla Diaz", "text": "Not sent: The recipient does not want text messages"});
    portal.on("Ann", "lists", row).await;
    portal.screenshot("Ann", "portal-failed-list.png").await;
    portal.close(&["Ann"]).await;
}

#[tokio::test]
async fn links_in_messages_can_be_followed_and_nothing_else_becomes_one() {
    let mut portal = Portal::start().await.talking().await;
    let text = "See (https://portal.example/a_(b)?x=1&y=2). Or HTTP://portal.example! \
        Not javascript:alert(1), data:text/html,x nor <img src=x onerror=alert(1)> <a href=//evil.example>this</a>";
    portal.write("Ann", text).await;
    portal.gets("Ben", "See").await;
    let rel = "noopener noreferrer nofollow";
    let links = portal.on("Ben", "links", json!({"text": "See"})).await;
    assert_eq!(
        links,
        json!([
            {"textContent": "https://portal.example/a_(b)?x=1&y=2", "href": "https://portal.example/a_(b)?x=1&y=2",
                "rel": rel, "target": "_blank"},
            {"textContent": "HTTP://portal.example", "href": "http://portal.example/", "rel": rel, "target": "_blank"},
        ])
    );
    assert_eq!(portal.on("Ben", "elements", json!({"text": "See"})).await, json!(["a", "a"]));
    let texts: Vec<Value> = vec![text.into()];
    assert_eq!(portal.on("Ben", "texts", json!({})).await, Value::Array(texts));
    portal.screenshot("Ben", "portal-links.png").await;
    portal.is_accessible("Ben").await;
    portal.close(&["Ann", "Ben"]).await;
}
