//! The server started with the `.env` file into which a block was pasted.

use serde_json::json;
use tempfile::TempDir;

use super::{printed, write};
use crate::harness::server::{TestServer, binary};
use crate::harness::sign::App;
use crate::harness::ws::WsClient;

/// `switchboard serve --env-file .env`, with lines below the block.
fn started_with(form: &str, more: &str) -> TestServer {
    let folder = TempDir::new().expect("a temporary folder");
    let block = printed(&["env", "--form", form, "--example"]);
    write(folder.path(), ".env", &format!("APP_NAME=Laravel\n\n{block}\n{more}\n"));
    let mut command = binary();
    command
        .args(["serve", "--json", "--env-file", ".env", "--bind", "127.0.0.1:0"])
        .current_dir(folder.path());
    command.env("SWITCHBOARD__ADMIN__BIND", "127.0.0.1:0");
    TestServer::launch(command, vec![App::new("1001", "portal-key", "portal-secret")], Some(folder))
}

async fn whisper(server: &TestServer) -> WsClient {
    let mut client = WsClient::connect(server).await;
    client.subscribe("private-orders.1").await;
    client.send_client_event("private-orders.1", "client-typing", &json!({})).await;
    client
}

#[tokio::test]
async fn takes_the_app_of_each_block_and_refuses_client_events() {
    for form in ["reverb", "pusher", "mix"] {
        let server = started_with(form, "");
        let mut client = whisper(&server).await;
        client.expect_error(None, "you must enable this feature for the app: client_events").await;
        server.publish("private-orders.1", "e", "1").await;
        assert_eq!(client.expect("e").await.data(), "1");
    }
}

#[tokio::test]
async fn allows_client_events_with_the_documented_line() {
    let line = "SWITCHBOARD__APPS__0__CLIENT_EVENTS=members";
    let page = crate::documentation::read("docs/laravel.md").expect("the page");
    assert!(page.contains(&format!("`{line}`")), "docs/laravel.md names another line");
    let server = started_with("reverb", line);
    let mut other = WsClient::connect(&server).await;
    other.subscribe("private-orders.1").await;
    let _sender = whisper(&server).await;
    other.expect("client-typing").await;
}
