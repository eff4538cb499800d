//! The published clients and SDKs, each driven by a small program beside this file.
//!
//! A [`Driver`] is a Node or Python process that obeys commands and reports what its client did. Where
//! a test wants to show that something did *not* happen, it first makes something happen that must come
//! later (a marker event on the same channel) and then looks at what was reported before.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::DEADLINE;
use crate::harness::script::Script;
use crate::harness::server::TestServer;
use crate::harness::sign::App;

/// pusher-js waits up to 15 s before it tries a port again that refused it.
pub const RECONNECT_LIMIT: Duration = Duration::from_secs(40);

/// 32 bytes in base64, from which SDKs derive the keys of encrypted channels.
const MASTER_KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

/// Makes `mod $test` with one test for each version, which runs `$test("…")`.
macro_rules! each_version {
    ($($test:ident: $($version:ident)+;)+) => {$(
        mod $test {
            $(#[tokio::test]
            async fn $version() {
                super::$test(stringify!($version)).await;
            })+
        }
    )+};
}
pub(crate) use each_version;

/// A process of this folder.
#[derive(Debug)]
pub struct Driver {
    script: Script,
    asked: u64,
}

impl Driver {
    /// `clients/{file}` in Node.
    pub fn node(file: &str, args: &[&str]) -> Self {
        installed("node_modules/pusher");
        let mut command = Command::new("node");
        command.arg(folder().join("clients").join(file)).args(args);
        Self { script: Script::spawn(command), asked: 0 }
    }

    /// Several pages of one kind in one process, with a WebSocket as browsers have it.
    pub fn fleet(kind: &str, count: usize) -> Self {
        installed("node_modules/pusher");
        let mut command = Command::new("node");
        command.args(["--no-warnings", "--experimental-websocket"]).arg(folder().join("clients/fleet.mjs"));
        command.arg(kind).arg(count.to_string());
        Self { script: Script::spawn(command), asked: 0 }
    }

    /// `clients/{file}` in Python.
    pub fn python(file: &str) -> Self {
        let mut command = Command::new(installed(".venv/bin/python"));
        command.arg(folder().join("clients").join(file));
        Self { script: Script::spawn(command), asked: 0 }
    }

    /// `clients/{file}` in PHP.
    pub fn php(file: &str, args: &[&str]) -> Self {
        let mut command = Command::new("php");
        command.arg(folder().join("clients").join(file)).args(args);
        Self { script: Script::spawn(command), asked: 0 }
    }

    /// The answer to one command, or the whole refusal.
    pub async fn try_ask(&mut self, action: &str, options: Value) -> Result<Value, Value> {
        self.try_ask_within(DEADLINE, action, options).await
    }

    async fn try_ask_within(
        &mut self,
        limit: Duration,
        action: &str,
        mut options: Value,
    ) -> Result<Value, Value> {
        self.asked += 1;
        let id = self.asked;
        options["id"] = id.into();
        options["do"] = action.into();
        self.script.send(&options);
        let answer = self.script.wait_until(action, limit, |line| line["id"] == id).await;
        if answer.get("error").is_some() { Err(answer) } else { Ok(answer["ok"].clone()) }
    }

    /// The answer to one command that must succeed.
    pub async fn ask(&mut self, action: &str, options: Value) -> Value {
        self.ask_within(DEADLINE, action, options).await
    }

    pub async fn ask_within(&mut self, limit: Duration, action: &str, options: Value) -> Value {
        match self.try_ask_within(limit, action, options.clone()).await {
            Ok(answer) => answer,
            Err(refusal) => panic!("{action} {options}: {refusal}"),
        }
    }

    /// The next report that has all of these fields.
    pub async fn report(&mut self, fields: Value) -> Value {
        self.report_within(DEADLINE, fields).await
    }

    pub async fn report_within(&mut self, limit: Duration, fields: Value) -> Value {
        let what = fields.to_string();
        self.script.wait_until(&what, limit, |line| includes(line, &fields)).await
    }

    /// Reports with all of these fields which nobody waited for, in their order.
    pub fn passed(&self, fields: Value) -> Vec<&Value> {
        self.script.passed().filter(|line| includes(line, &fields)).collect()
    }

    /// Fails when a report with all of these fields has come.
    #[track_caller]
    pub fn never(&self, fields: Value) {
        assert_eq!(self.passed(fields), Vec::<&Value>::new());
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("--- reported, and nobody waited for it ---");
            self.script.passed().for_each(|line| eprintln!("{line}"));
        }
    }
}

fn includes(line: &Value, fields: &Value) -> bool {
    let fields = fields.as_object().expect("fields are an object");
    fields.iter().all(|(name, value)| line.get(name) == Some(value))
}

/// Who the portal takes a visitor for.
pub fn user(id: &str) -> Value {
    json!({"id": id, "user_info": {"name": id}})
}

/// pusher-js on a page.
#[derive(Debug)]
pub struct PusherJs(pub Driver);

impl PusherJs {
    /// `v8` is the newest release of major version 8 that package.json names.
    pub fn start(version: &str) -> Self {
        Self(Driver::node("pusher-js.mjs", &[version.trim_start_matches('v')]))
    }

    /// As [`Self::start`], believing one more authority for `wss`, and with a WebSocket as browsers have it.
    pub fn trusting(version: &str, authority: &Path) -> Self {
        installed("node_modules/pusher");
        let mut command = Command::new("node");
        command
            .args(["--no-warnings", "--experimental-websocket"])
            .arg(folder().join("clients/pusher-js.mjs"));
        command
            .args([version.trim_start_matches('v'), "own-websocket"])
            .env("NODE_EXTRA_CA_CERTS", authority);
        Self(Driver { script: Script::spawn(command), asked: 0 })
    }

    /// Begins to connect as the visitor `on`.
    pub async fn open(&mut self, on: &str, server: &TestServer, app: &App, who: Value) {
        self.open_with(on, app, who, json!({"wsPort": server.public.port()})).await;
    }

    /// As [`Self::open`], with options for pusher-js itself.
    pub async fn open_with(&mut self, on: &str, app: &App, who: Value, options: Value) {
        let command = json!({"on": on, "app": credentials(app), "who": who, "options": options});
        self.0.ask("connect", command).await;
    }

    /// Connects to the first app.
    pub async fn connect(&mut self, on: &str, server: &TestServer, who: Value) {
        self.open(on, server, server.app(), who).await;
        self.reaches(on, "connected").await;
    }

    /// Waits for the connection to come into this state.
    pub async fn reaches(&mut self, on: &str, state: &str) {
        self.0.report_within(RECONNECT_LIMIT, json!({"on": on, "state": state})).await;
    }

    /// Waits for an error of the connection with this code, and returns its text.
    pub async fn fails(&mut self, on: &str, code: u16) -> String {
        loop {
            let failure = self.0.script.wait_until("failure", RECONNECT_LIMIT, |line| {
                line["on"] == on && line["failure"].is_object()
            });
            let failure = failure.await;
            if failure["failure"]["code"] == code {
                return failure["failure"]["message"].as_str().expect("a text").to_owned();
            }
        }
    }

    /// Subscribes and waits for the success; returns what its handler was given.
    pub async fn subscribe(&mut self, on: &str, channel: &str) -> Value {
        self.ask("subscribe", on, channel).await;
        self.event(on, channel, "pusher:subscription_succeeded").await
    }

    /// A command about one channel.
    pub async fn ask(&mut self, action: &str, on: &str, channel: &str) -> Value {
        self.0.ask(action, json!({"on": on, "channel": channel})).await
    }

    /// Sends a client event.
    pub async fn trigger(&mut self, on: &str, channel: &str, event: &str, data: Value) {
        let command = json!({"on": on, "channel": channel, "event": event, "data": data});
        assert_eq!(self.0.ask("trigger", command).await, true);
    }

    /// The data of the next such event on a channel.
    pub async fn event(&mut self, on: &str, channel: &str, event: &str) -> Value {
        let fields = json!({"on": on, "channel": channel, "event": event});
        self.0.report_within(RECONNECT_LIMIT, fields).await["data"].take()
    }
}

/// Laravel Echo on a page.
#[derive(Debug)]
pub struct Echo {
    pub driver: Driver,
    broadcaster: &'static str,
}

impl Echo {
    pub fn start(version: &str, pusher_js: &str, broadcaster: &'static str) -> Self {
        Self { driver: Driver::node("echo.mjs", &[version, pusher_js]), broadcaster }
    }

    /// Connects to the first app as the visitor `on`.
    pub async fn connect(&mut self, on: &str, server: &TestServer, who: Value) {
        self.connect_with(on, server, who, json!({})).await;
    }

    /// As [`Self::connect`], with more options for `new Echo`.
    pub async fn connect_with(&mut self, on: &str, server: &TestServer, who: Value, options: Value) {
        let command = json!({
            "on": on,
            "app": credentials(server.app()),
            "port": server.public.port(),
            "who": who,
            "broadcaster": self.broadcaster,
            "options": options,
        });
        self.driver.ask("connect", command).await;
        self.driver.report(json!({"on": on, "state": "connected"})).await;
    }

    /// `[["private", "x"], ["listen", "E"]]` is `Echo.private('x').listen('E', …)`; the callback's calls
    /// are reported.
    pub async fn chain(&mut self, on: &str, calls: Value) -> Value {
        self.driver.ask("chain", json!({"on": on, "calls": calls})).await
    }

    /// Several such expressions without anything happening in between.
    pub async fn at_once(&mut self, on: &str, chains: Value) {
        self.driver.ask("at_once", json!({"on": on, "chains": chains})).await;
    }

    /// What the callback given to `method` is next called with.
    pub async fn heard(&mut self, on: &str, method: &str) -> Value {
        self.driver.report(json!({"on": on, "heard": method})).await["got"].take()
    }

    /// Waits until the server has confirmed the subscription to this wire channel.
    pub async fn subscribed(&mut self, on: &str, channel: &str) {
        let frame = "pusher_internal:subscription_succeeded";
        self.driver.report(json!({"on": on, "frame": frame, "channel": channel})).await;
    }
}

/// A server SDK.
#[derive(Debug)]
pub struct Sdk(Driver);

impl Sdk {
    /// npm `pusher`.
    pub fn node() -> Self {
        Self(Driver::node("sdk-node.mjs", &[]))
    }

    /// PyPI `pusher`.
    pub fn python() -> Self {
        Self(Driver::python("sdk_python.py"))
    }

    /// Requests as Composer's `pusher/pusher-php-server` makes them, made by PHP.
    pub fn php() -> Self {
        Self(Driver::php("sdk.php", &[]))
    }

    /// The Laravel code of a page of documentation, which a stand-in of the framework runs.
    pub fn laravel(page: &Path) -> Self {
        let mut command = Command::new("php");
        command.arg(folder().join("clients/laravel.php")).arg(page);
        Self(Driver { script: Script::spawn(command), asked: 0 })
    }

    /// Requests as the gem `pusher` makes them, made by Ruby.
    pub fn ruby_itself() -> Self {
        let mut command = Command::new("ruby");
        command.arg(folder().join("clients/sdk.rb"));
        Self(Driver { script: Script::spawn(command), asked: 0 })
    }

    /// Calls a method of the SDK, which must succeed; returns the decoded answer.
    pub async fn call(&mut self, server: &TestServer, app: &App, method: &str, args: Value) -> Value {
        match self.try_call(server, app, method, args).await {
            Ok(answer) => answer,
            Err(refusal) => panic!("{method}: {refusal}"),
        }
    }

    pub async fn try_call(
        &mut self,
        server: &TestServer,
        app: &App,
        method: &str,
        args: Value,
    ) -> Result<Value, Value> {
        self.try_call_at(server.public.port(), app, method, args).await
    }

    /// As [`Self::try_call`], of whatever listens on this port, if anything does.
    pub async fn try_call_at(
        &mut self,
        port: u16,
        app: &App,
        method: &str,
        args: Value,
    ) -> Result<Value, Value> {
        let call = json!({"app": credentials(app), "port": port, "method": method, "args": args});
        self.0.try_ask("call", call).await
    }

    /// Sends a request in the form of the PHP SDK (PHP only); returns its status and body.
    pub async fn send(&mut self, server: &TestServer, app: &App, mut request: Value) -> Value {
        request["app"] = credentials(app);
        request["port"] = server.public.port().into();
        self.0.ask("send", request).await
    }
}

pub fn credentials(app: &App) -> Value {
    json!({"id": app.id, "key": app.key, "secret": app.secret, "masterKey": MASTER_KEY})
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("protocol-tests")
}

/// The path of something that `make test` installs.
pub fn installed(path: &str) -> PathBuf {
    let path = folder().join(path);
    assert!(path.exists(), "{} is missing: run `make test` once, which installs it", path.display());
    path
}

/// The path of something below `examples/` that `make test` builds.
pub fn example(path: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(path);
    assert!(path.exists(), "{} is missing: run `make test` once, which builds it", path.display());
    path
}

/// The browser's program.
pub fn chromium() -> &'static str {
    ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"]
        .into_iter()
        .find(|path| Path::new(path).exists())
        .expect("Chromium is missing: run `make test` once, which installs it")
}

/// Where a picture of a page goes, to be looked at.
pub fn screenshot(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/screenshots").join(file)
}
