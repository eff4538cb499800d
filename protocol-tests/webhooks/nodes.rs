//! Several processes with one store (PostgreSQL).

use std::collections::HashSet;

use rustix::process::Signal;

use super::{occupied, removed, table, vacated};
use crate::harness::DEADLINE;
use crate::harness::databases::postgres;
use crate::harness::portal::Portal;
use crate::harness::server::{Config, TestServer};
use crate::harness::ws::WsClient;

fn node(portal: &Portal, store: &str) -> TestServer {
    let lines = format!("webhook_delay = \"100ms\"\n{}", table(portal, ""));
    let store = format!("[store]\nurl = \"{store}\"");
    Config::new().server("drain.window = \"0s\"").app("1001", &lines).tables(&store).start()
}

#[tokio::test]
async fn w8_what_a_killed_node_leaves_is_gone_once() {
    let database = postgres().await;
    let mut portal = Portal::start().await;
    let (one, two) = (node(&portal, &database.url), node(&portal, &database.url));
    let mut lost = WsClient::connect(&one).await;
    lost.join_as("presence-room", "7").await;
    let mut other = WsClient::connect(&two).await;
    other.subscribe("stays").await;
    let mut seen = HashSet::new();
    for _ in 0..3 {
        seen.insert(portal.next().await.body);
    }
    // SIGKILL: nobody says goodbye.
    drop(one);
    let mut told = Vec::new();
    while told.len() < 2 {
        let request = portal.next_within(DEADLINE * 4).await;
        // What had just arrived may be sent again, with the same bytes.
        if seen.insert(request.body.clone()) {
            told.push(super::only(&request));
        }
    }
    assert_eq!(told, [removed("presence-room", "7"), vacated("presence-room")]);
    other.unsubscribe("stays").await;
    assert_eq!(super::only(&portal.next().await), vacated("stays"));
}

#[tokio::test]
async fn w8_a_client_that_moves_to_another_node_was_never_gone() {
    let database = postgres().await;
    let mut portal = Portal::start().await;
    let (one, two) = (node(&portal, &database.url), node(&portal, &database.url));
    let mut client = WsClient::connect(&one).await;
    client.subscribe("moves").await;
    client.subscribe("stays-away").await;
    let mut told = Vec::new();
    for _ in 0..2 {
        told.push(super::only(&portal.next().await));
    }
    told.sort_by_key(ToString::to_string);
    assert_eq!(told, [occupied("moves"), occupied("stays-away")]);
    // Subscribed on both, it is told once; left on one, it is still there.
    let mut other = WsClient::connect(&two).await;
    other.subscribe("moves").await;
    client.unsubscribe("moves").await;
    client.subscribe("marker").await;
    client.unsubscribe("marker").await;
    assert_eq!(super::only(&portal.next().await), occupied("marker"));
    assert_eq!(super::only(&portal.next().await), vacated("marker"));
    // What a node leaves behind is taken over by another, and gone when nobody brings it back.
    one.signal(Signal::TERM);
    one.exit_status(DEADLINE).await;
    let last = portal.next_within(DEADLINE * 3).await;
    assert_eq!(super::only(&last), vacated("stays-away"));
    other.close().await;
    assert_eq!(super::only(&portal.next().await), vacated("moves"));
}
