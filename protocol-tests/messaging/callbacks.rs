//! What the portal's backend gets, in the form that Pusher's server libraries read.

use serde_json::{Map, Value, json};

use crate::clients::{Driver, credentials};
use crate::harness::messaging::{ANN, BOB, OUTSIDE, Router, plain, text};
use crate::harness::portal::Received;

/// Callbacks of each kind, each in its request.
const KINDS: [&str; 8] = [
    "message_sent",
    "message_received",
    "message_status",
    "message_read",
    "message_updated",
    "message_deleted",
    "message_unrouted",
    "opt_out",
];

/// Causes callbacks of all kinds; answers one request of each.
async fn of_all_kinds(router: &mut Router) -> Vec<Received> {
    let send = json!({"user_id": 1, "to": BOB, "text": "Grüße \"A\" 😀\n\\", "reference": "r-1"});
    let sent = router.ok("/messages", send).await;
    let conversation = router.conversations(2).await[0]["id"].clone();
    router.ok(&format!("/conversations/{}/read", plain(&conversation)), json!({"user_id": 2})).await;
    let message = format!("/messages/{}", plain(&sent["message"]["id"]));
    router.ok(&format!("{message}/edit"), json!({"user_id": 1, "text": "Hello"})).await;
    router.ok(&format!("{message}/delete"), json!({"user_id": 1, "scope": "everyone"})).await;
    router.send_on(1, OUTSIDE, "out").await;
    router.carrier.inbound(json!({"from": OUTSIDE, "to": ANN, "text": "STOP"})).await;
    router.carrier.inbound(json!({"from": OUTSIDE, "to": "+13125550166", "text": "anyone?"})).await;
    let mut missing = KINDS.to_vec();
    let mut found = Vec::new();
    while !missing.is_empty() {
        let request = router.portal().next().await;
        let name = text(&request.events()[0]["name"]);
        if let Some(at) = missing.iter().position(|kind| *kind == name) {
            missing.remove(at);
            found.push(request);
        }
    }
    found
}

/// What the strictest libraries want of an event: Go's struct has strings for the fields that it knows (and ignores
/// others), .NET reads a dictionary of strings, into which a number but no object and no list turns, and PHP fails
/// without a `channel`.
#[track_caller]
fn is_read_by_strict_libraries(event: &Value) {
    let fields: &Map<String, Value> = event.as_object().expect("an object");
    for name in ["name", "channel", "event", "data", "socket_id", "user_id"] {
        assert!(fields.get(name).is_none_or(Value::is_string), "Go: {name} is no string in {event}");
    }
    for (name, value) in fields {
        assert!(value.is_string() || value.is_number(), "NET: {name} is no scalar in {event}");
    }
    assert!(event["channel"].is_string(), "PHP: {event} has no channel");
}

#[tokio::test]
async fn the_data_of_each_callback_is_a_string_as_in_every_webhook_of_pushers() {
    let mut router = Router::setup().portal().start().await;
    let app = router.app.clone();
    for request in of_all_kinds(&mut router).await {
        request.expect_signed(&app);
        let body = request.json();
        assert!(body["time_ms"].is_i64(), "{body}");
        let event = &body["events"][0];
        is_read_by_strict_libraries(event);
        let data: Value = serde_json::from_str(&text(&event["data"])).expect("JSON in the string");
        match event["name"].as_str().expect("a name") {
            "message_unrouted" => assert_eq!(data["text"], "anyone?", "{data}"),
            "opt_out" => assert_eq!(data["number"], OUTSIDE, "{data}"),
            "message_sent" => assert_eq!(data["message"]["text"], "Grüße \"A\" 😀\n\\", "{data}"),
            _ => assert!(data["message"]["id"].is_i64() && data["conversation"].is_object(), "{data}"),
        }
    }
}

/// The libraries themselves, as they are published.
#[tokio::test]
async fn pushers_libraries_verify_a_callback_and_give_its_data() {
    let mut router = Router::setup().portal().start().await;
    router.send(1, BOB, "Hello").await;
    let request = router.portal().next().await;
    let headers = request.headers.iter().map(|(name, value)| (name.to_lowercase(), json!(value)));
    let headers: Value = headers.collect::<Map<_, _>>().into();
    let body = String::from_utf8(request.body).expect("UTF-8");
    let ask = json!({"app": credentials(&router.app), "headers": headers, "body": body});
    for mut driver in [Driver::node("sdk-node.mjs", &[]), Driver::python("sdk_python.py")] {
        let answer = driver.ask("webhook", ask.clone()).await;
        assert_eq!(answer["valid"], true, "{answer}");
        let data: Value = serde_json::from_str(&text(&answer["events"][0]["data"])).expect("JSON");
        assert_eq!(data["message"]["text"], "Hello");
    }
}

#[tokio::test]
async fn a_backend_that_expects_an_object_can_have_one() {
    let mut router = Router::setup().portal().routing("callbacks.data", "object").start().await;
    let app = router.app.clone();
    for request in of_all_kinds(&mut router).await {
        request.expect_signed(&app);
        assert!(request.events()[0]["data"].is_object(), "{}", request.json());
    }
}
