//! Pages as documented: Vite builds them with the printed blocks, unmodified, and Chromium opens them.

use std::time::Duration;

use serde_json::json;
use tempfile::TempDir;

use super::{documented_file, printed_for, write};
use crate::clients::{Driver, Sdk, chromium, credentials, installed};
use crate::harness::server::{Config, TestServer};

/// Vite takes seconds of a core, and tests run side by side.
const BUILD_LIMIT: Duration = Duration::from_secs(120);

/// Below the block of the project's own `app` file: what a starter kit has there.
const VUE: &str = "import { createApp } from 'vue';
import Lobby from './resources/js/pages/Lobby.vue';

createApp(Lobby, { userId: 1 }).mount('#app');
";
const REACT: &str = "import { createElement } from 'react';
import { createRoot } from 'react-dom/client';
import Lobby from './resources/js/pages/Lobby.jsx';

createRoot(document.getElementById('app')).render(createElement(Lobby, { userId: 1 }));
";
/// The same page on Echo alone.
const ECHO: &str = "import './echo';

const page = document.getElementById('app');
page.innerHTML = '<p id=\"state\"></p><ul></ul><p id=\"here\"></p>';
const show = (line) => page.querySelector('ul').append(Object.assign(document.createElement('li'), { textContent: line }));
const here = (members) => (page.querySelector('#here').textContent = `Here: ${members.join(', ')}`);
let members = [];

const { connection } = window.Echo.connector.pusher;
connection.bind('state_change', ({ current }) => (page.querySelector('#state').textContent = current));
window.Echo.channel('greetings').listen('.Greeting', ({ text }) => show(text));
window.Echo.private('orders.1').listen('OrderShipped', ({ order }) => show(`order ${order} shipped`));
window.Echo.join('lobby')
  .here((all) => here(members = all.map(({ name }) => name)))
  .joining(({ name }) => here(members = [...members, name]))
  .leaving(({ name }) => here(members = members.filter((other) => other !== name)));
";

/// The sources of a page; the block comes from the command.
fn project(server: &TestServer, kind: &str, form: &str) -> TempDir {
    let folder = TempDir::new().expect("a temporary folder");
    let block = printed_for(server, kind, form);
    let (app, text) = match kind {
        "vue" => ("app.js", block + VUE),
        "react" => ("app.jsx", block + REACT),
        _ => {
            write(folder.path(), "echo.js", &block);
            ("app.js", ECHO.to_owned())
        }
    };
    let html =
        format!("<!doctype html><div id=\"app\"></div><script type=\"module\" src=\"/{app}\"></script>");
    write(folder.path(), "index.html", &html);
    write(folder.path(), app, &text);
    write(folder.path(), ".env", &printed_for(server, "env", form));
    for path in ["resources/js/pages/Lobby.vue", "resources/js/pages/Lobby.jsx"] {
        write(folder.path(), path, &documented_file(path));
    }
    std::os::unix::fs::symlink(installed("node_modules"), folder.path().join("node_modules"))
        .expect("a link");
    folder
}

async fn a_page_works_as_documented(kind: &str, form: &str) {
    let server = Config::new().start();
    let mut sdk = Sdk::node();
    let folder = project(&server, kind, form);
    let mut browser = Driver::node("laravel-page.mjs", &[]);
    let build = json!({"folder": folder.path(), "executable": chromium()});
    browser.ask_within(BUILD_LIMIT, "build", build).await;

    let visitor = |on: &str, id: u32, name: &str| {
        let who = json!({"id": id.to_string(), "user_info": {"id": id, "name": name}});
        json!({"on": on, "app": credentials(server.app()), "who": who})
    };
    let sees = |on: &str, text: &str| json!({"on": on, "text": text});
    browser.ask("open", visitor("ann", 1, "Ann")).await;
    browser.ask("sees", sees("ann", "connected")).await;
    browser.ask("sees", sees("ann", "Here: Ann")).await;
    browser.ask("open", visitor("ben", 2, "Ben")).await;
    browser.ask("sees", sees("ben", "Here: Ann, Ben")).await;
    browser.ask("sees", sees("ann", "Here: Ann, Ben")).await;

    // The presence channel is the last that the page subscribes to.
    for (channel, event, data) in [
        ("greetings", "Greeting", json!({"text": "Hello"})),
        ("private-orders.1", r"App\Events\OrderShipped", json!({"order": 7})),
    ] {
        sdk.call(&server, server.app(), "trigger", json!([channel, event, data])).await;
    }
    for text in ["Hello", "order 7 shipped"] {
        browser.ask("sees", sees("ann", text)).await;
    }
    browser.ask("close", json!({"on": "ben"})).await;
    browser.ask("sees", sees("ann", "Here: Ann")).await;
    browser.ask("end", json!({})).await;
}

#[tokio::test]
async fn vue_hooks_with_reverb() {
    a_page_works_as_documented("vue", "reverb").await;
}

#[tokio::test]
async fn vue_hooks_with_pusher() {
    a_page_works_as_documented("vue", "pusher").await;
}

#[tokio::test]
async fn react_hooks_with_reverb() {
    a_page_works_as_documented("react", "reverb").await;
}

#[tokio::test]
async fn react_hooks_with_pusher() {
    a_page_works_as_documented("react", "pusher").await;
}

#[tokio::test]
async fn echo_with_reverb() {
    a_page_works_as_documented("echo", "reverb").await;
}

#[tokio::test]
async fn echo_with_pusher() {
    a_page_works_as_documented("echo", "pusher").await;
}
