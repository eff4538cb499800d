//! W3: the SDKs' own validators accept what arrives, and nothing that was changed.

use serde_json::{Value, json};

use super::{Hooks, occupied};
use crate::clients::{Driver, credentials};
use crate::harness::ws::WsClient;

async fn request(webhook: &str) -> (Hooks, Value, String) {
    let mut hooks = Hooks::start("", webhook).await;
    let mut client = WsClient::connect(hooks.server()).await;
    client.subscribe("news").await;
    let request = hooks.portal.next().await;
    let headers: Value = request
        .headers
        .iter()
        .map(|(name, value)| (name.to_lowercase(), json!(value)))
        .collect::<serde_json::Map<_, _>>()
        .into();
    let body = String::from_utf8(request.body).expect("UTF-8");
    (hooks, headers, body)
}

async fn accepts(mut driver: Driver) {
    for webhook in ["", "batch = true"] {
        let (hooks, headers, body) = request(webhook).await;
        let app = credentials(hooks.server().app());
        let ask = json!({"app": app, "headers": headers, "body": body});
        let answer = driver.ask("webhook", ask.clone()).await;
        assert_eq!(answer, json!({"valid": true, "events": [occupied("news")]}));
        let mut changed = ask.clone();
        changed["body"] = body.replace("news", "newt").into();
        assert_eq!(driver.ask("webhook", changed).await["valid"], false);
    }
}

#[tokio::test]
async fn w3_the_node_library_validates_webhooks() {
    accepts(Driver::node("sdk-node.mjs", &[])).await;
}

#[tokio::test]
async fn w3_the_python_library_validates_webhooks() {
    accepts(Driver::python("sdk_python.py")).await;
}
