//! The example of the README in a real browser: a Laravel Echo page in Chromium, and two stock SDKs
//! which publish from processes of their own.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::clients::{Driver, installed};
use crate::harness::server::{Config, TestServer};

/// The variables of a Laravel `.env` that point at `server`.
fn env(server: &TestServer) -> [(&'static str, String); 6] {
    let app = server.app();
    [
        ("PUSHER_APP_ID", app.id.clone()),
        ("PUSHER_APP_KEY", app.key.clone()),
        ("PUSHER_APP_SECRET", app.secret.clone()),
        ("PUSHER_HOST", server.public.ip().to_string()),
        ("PUSHER_PORT", server.public.port().to_string()),
        ("PUSHER_SCHEME", "http".to_owned()),
    ]
}

pub fn chromium() -> &'static str {
    ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"]
        .into_iter()
        .find(|path| Path::new(path).exists())
        .expect("Chromium is missing: run `make test` once, which installs it")
}

/// Runs one of the publishers of `examples/` to its end.
async fn publish(server: &TestServer, program: impl AsRef<Path>, file: &str, body: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(file);
    let mut command = Command::new(program.as_ref());
    command.arg(file).arg(body).envs(env(server));
    let output = tokio::task::spawn_blocking(move || command.output()).await.expect("no panic");
    let output = output.expect("the publisher starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test]
async fn an_echo_page_in_chromium_shows_what_stock_sdks_publish() {
    let server = Config::new().start();
    let mut browser = Driver::node("browser.mjs", &[]);
    let variables: Value =
        env(&server).into_iter().map(|(name, value)| (name.to_owned(), json!(value))).collect();
    let url = browser.ask("start", json!({"env": variables})).await;
    browser.ask("open", json!({"url": url, "executable": chromium()})).await;
    let mut channels = browser.ask("items", json!({"list": "channels", "count": 2})).await;
    channels.as_array_mut().expect("a list").sort_by_key(Value::to_string);
    assert_eq!(channels, json!(["private-user.7", "user.7"]));

    publish(&server, "node", "echo/publish.mjs", "from Node").await;
    publish(&server, installed(".venv/bin/python"), "publish.py", "from Python, h\u{e9}").await;
    let mut messages = browser.ask("items", json!({"list": "messages", "count": 4})).await;
    let screenshot = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/screenshots/echo.png");
    browser.ask("screenshot", json!({"path": screenshot})).await;
    browser.ask("close", json!({})).await;
    // One publish reaches its channels in either order.
    messages.as_array_mut().expect("a list").sort_by_key(Value::to_string);
    assert_eq!(
        messages,
        json!([
            "private-user.7: from Node",
            "private-user.7: from Python, h\u{e9}",
            "user.7: from Node",
            "user.7: from Python, h\u{e9}",
        ])
    );
}
