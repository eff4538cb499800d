//! Publishers that keep their connections never meet one that closes under a request: they are told for how long
//! it is kept, and it is kept longer.

use std::time::Duration;

use serde_json::json;

use crate::clients::Driver;
use crate::harness::http::{HttpConnection, Request};
use crate::harness::server::{Config, TestServer};
use crate::harness::shared::shared;

fn impatient(idle_timeout: &str) -> TestServer {
    Config::new().server(&format!("idle_timeout = \"{idle_timeout}\"")).start()
}

fn live(server: &TestServer) -> String {
    format!("http://{}/live", server.public)
}

fn publish(server: &TestServer) -> Request {
    Request::trigger(server.app(), &json!({"name": "e", "channel": "c", "data": "1"}))
}

#[tokio::test]
async fn every_answer_says_how_long_the_connection_is_kept() {
    let server = shared();
    let mut connection = HttpConnection::connect(server.public).await;
    let stranger = Request::post(&server.app().clone(), "/apps/unknown/events", "{}");
    for request in [publish(&server), stranger, Request::get(server.app(), "/nowhere")] {
        let answer = request.send_over(&mut connection).await;
        assert_eq!(answer.header("keep-alive"), Some("timeout=120"), "{answer:?}");
        assert_eq!(answer.header("connection"), Some("keep-alive"), "{answer:?}");
    }
    let last = publish(&server).header("Connection", "close").send_over(&mut connection).await;
    assert_eq!((last.header("keep-alive"), last.header("connection")), (None, Some("close")), "{last:?}");
    connection.expect_end().await;
}

#[tokio::test]
async fn a_request_in_the_grace_is_served_and_the_connection_goes_on() {
    let server = impatient("1s");
    let mut connection = HttpConnection::connect(server.public).await;
    let first = publish(&server).send_over(&mut connection).await.expect_ok("{}");
    assert_eq!(first.header("keep-alive"), Some("timeout=1"));
    // Idle for longer than was said, again and again.
    for _ in 0..2 {
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        publish(&server).send_over(&mut connection).await.expect_ok("{}");
    }
    connection.expect_end().await;
}

#[tokio::test]
async fn nodes_agent_closes_before_the_server_does() {
    let server = impatient("2s");
    let mut node = Driver::node("keep-alive.mjs", &[]);
    let end = node.ask("end_of_agent", json!({"url": live(&server)})).await;
    assert_eq!((&end["header"], &end["by"]), (&json!("timeout=2"), &json!("client")), "{end}");
    assert!(end["seconds"].as_f64().is_some_and(|seconds| seconds < 7.0), "{end}");
}

#[tokio::test]
async fn nodes_fetch_and_pythons_requests_are_answered_whenever_they_come() {
    let server = impatient("1s");
    let mut node = Driver::node("keep-alive.mjs", &[]);
    let fetches = json!({"url": live(&server), "pauses": [0, 900, 1_000, 1_100, 1_500]});
    assert_eq!(node.ask("fetches", fetches).await, json!([200, 200, 200, 200, 200]));
    let mut python = Driver::python("keep_alive.py");
    let asked = python.ask("requests", json!({"url": live(&server), "pauses": [0, 0.9, 1.1, 1.6]})).await;
    assert_eq!(asked, json!({"statuses": [200, 200, 200, 200], "connections": 1}));
}
