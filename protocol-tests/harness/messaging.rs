//! A server with a router, the carrier's stand-in beside it and, where asked for, the portal's backend.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::DEADLINE;
use super::carrier::{API_KEY, Carrier};
use super::http::{Request, Response, get};
use super::names::free_port;
use super::portal::Portal;
use super::server::{Config, Finished, TestServer};
use super::sign::App;
use super::ws::{Event, WsClient};

/// Event names as Laravel Echo's `listen` binds them.
pub const SENT: &str = r"App\Events\MessageSent";
pub const RECEIVED: &str = r"App\Events\MessageReceived";
pub const STATUS: &str = r"App\Events\MessageStatusUpdated";

/// The number of user 1 in most tests, and of user 2.
pub const ANN: &str = "+13125550100";
pub const BOB: &str = "+13125550101";
/// Somebody who is no user.
pub const OUTSIDE: &str = "+13125550199";

/// Says what the server is to be like.
#[derive(Clone, Debug, Default)]
pub struct Setup {
    routing: BTreeMap<String, Value>,
    store: Option<String>,
    tables: String,
    server: String,
    apps: Vec<(String, String)>,
    carrier: Vec<String>,
    env: BTreeMap<String, String>,
    has_portal: bool,
}

impl Setup {
    /// A key below `[routing]`, dots and all, for all apps.
    pub fn routing(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.routing.insert(key.to_owned(), value.into());
        self
    }

    /// `store.url`; an SQLite file by default.
    pub fn store(mut self, url: &str) -> Self {
        self.store = Some(url.to_owned());
        self
    }

    /// Further tables of the configuration, headers and all; `[store]` only without [`Self::store`].
    pub fn tables(mut self, toml: &str) -> Self {
        self.tables.push_str(toml);
        self.tables.push('\n');
        self
    }

    /// Lines under `[server]`.
    pub fn server(mut self, lines: &str) -> Self {
        self.server.push_str(lines);
        self
    }

    /// One more app, with lines under its table. There is always `1001`, unless these lines are for it.
    pub fn app(mut self, id: &str, lines: &str) -> Self {
        self.apps.push((id.to_owned(), lines.to_owned()));
        self
    }

    /// Arguments of the stand-in.
    pub fn carrier(mut self, args: &[&str]) -> Self {
        self.carrier.extend(args.iter().map(|&arg| arg.to_owned()));
        self
    }

    /// A variable of the server's environment.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Callbacks go to a portal.
    pub fn portal(mut self) -> Self {
        self.has_portal = true;
        self
    }

    /// Starts everything. User 1 has [`ANN`], user 2 [`BOB`], unless the directory is the portal's.
    pub async fn start(self) -> Router {
        // On the heap: otherwise each test's own future has room for all of it, on a stack of 2 MiB.
        Box::pin(self.start_all()).await
    }

    async fn start_all(mut self) -> Router {
        let args: Vec<&str> = self.carrier.iter().map(String::as_str).collect();
        let carrier = Carrier::with(&args).await;
        let portal = if self.has_portal { Some(Portal::start().await) } else { None };
        let port = free_port();
        let address = format!("http://127.0.0.1:{port}");
        carrier.settings(json!({"webhook_url": format!("{address}/carriers/telnyx/1001")})).await;
        let mut defaults = vec![
            ("enabled", json!(true)),
            ("carrier.telnyx.api_key", json!(API_KEY)),
            ("carrier.telnyx.public_key", json!(carrier.public_key)),
            ("carrier.telnyx.base_url", json!(carrier.api_base)),
            ("carrier.telnyx.public_url", json!(address)),
        ];
        if let Some(portal) = &portal {
            defaults.push(("callbacks.url", json!(portal.url())));
        }
        for (key, value) in defaults {
            self.routing.entry(key.to_owned()).or_insert(value);
        }
        if !self.apps.iter().any(|(id, _)| id == "1001") {
            self.apps.insert(0, ("1001".to_owned(), String::new()));
        }
        let home = TempDir::new().expect("a temporary folder");
        let server = self.config(port).start_in(home.path());
        let app = server.app_with_id("1001").clone();
        let router = Router { server: Some(server), carrier, portal, app, port, setup: self, home };
        if router.setup.routing.get("directory.mode") != Some(&json!("sql")) {
            router.assign(ANN, 1).await;
            router.assign(BOB, 2).await;
        }
        router
    }

    /// What the server says when it does not start with this; without a carrier.
    pub fn refusal(mut self) -> Finished {
        self.apps.push(("1001".to_owned(), String::new()));
        self.config(0).refusal()
    }

    /// What `switchboard check` finds with this about one thing: status and detail.
    pub fn check(&self, about: &str) -> (String, String) {
        let mut setup = self.clone();
        setup.apps.push(("1001".to_owned(), String::new()));
        let ended = setup.config(0).command(&["check", "--json"]);
        let answer: Value = serde_json::from_str(&ended.stdout).expect("JSON");
        let checks = answer["checks"].as_array().expect("a list");
        let found = checks.iter().find(|check| check["check"] == about).expect("a finding");
        (text(&found["status"]), text(&found["detail"]))
    }

    fn config(&self, port: u16) -> Config {
        let mut tables = self.tables.clone();
        if let Some(url) = &self.store {
            tables.push_str(&format!("[store]\nurl = {}\n", json!(url)));
        }
        tables.push_str("[routing]\n");
        for (key, value) in &self.routing {
            // Strings, numbers, booleans and lists of them are written in TOML as in JSON.
            tables.push_str(&format!("{key} = {value}\n"));
        }
        let config = Config::new().port(port).server(&self.server).tables(&tables);
        let config = self.env.iter().fold(config, |config, (name, value)| config.env(name, value));
        self.apps.iter().fold(config, |config, (id, lines)| config.app(id, lines))
    }
}

/// The whole, running.
#[derive(Debug)]
pub struct Router {
    /// `None` only while it is started anew.
    server: Option<TestServer>,
    pub carrier: Carrier,
    portal: Option<Portal>,
    /// The app `1001`.
    pub app: App,
    port: u16,
    setup: Setup,
    home: TempDir,
}

impl Router {
    pub fn setup() -> Setup {
        Setup::default()
    }

    /// With all settings by default.
    pub async fn start() -> Self {
        Self::setup().start().await
    }

    pub fn server(&self) -> &TestServer {
        self.server.as_ref().expect("running")
    }

    pub fn portal(&mut self) -> &mut Portal {
        self.portal.as_mut().expect("`Setup::portal` was called")
    }

    /// Where the server listens while it runs.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where SQLite keeps the records.
    pub fn database_file(&self) -> PathBuf {
        self.home.path().join("data/switchboard.db")
    }

    /// Kills the server at once.
    pub fn kill(&mut self) {
        self.server = None;
    }

    /// Starts the server again, on the same port and the same data.
    pub fn revive(&mut self) {
        self.kill();
        self.server = Some(self.setup.config(self.port).start_in(self.home.path()));
    }

    /// The answer to a signed POST below `/messaging`.
    pub async fn post(&self, path: &str, body: &Value) -> Response {
        self.post_as(&self.app, path, body).await
    }

    /// As [`Self::post`], by another app.
    pub async fn post_as(&self, app: &App, path: &str, body: &Value) -> Response {
        let path = app.path(&format!("messaging{path}"));
        Request::post(app, &path, body.to_string()).send(self.server().public).await
    }

    /// The JSON of a POST that must succeed.
    #[track_caller]
    pub fn ok(&self, path: &str, body: Value) -> impl Future<Output = Value> {
        let at = std::panic::Location::caller();
        async move {
            let answer = self.post(path, &body).await;
            assert_eq!(answer.status, 200, "POST {path} {body} at {at}: {}", answer.text());
            answer.json()
        }
    }

    /// The answer to a signed GET below `/messaging`.
    pub async fn try_get(&self, path: &str, params: &[(&str, &str)]) -> Response {
        let path = self.app.path(&format!("messaging{path}"));
        let request =
            params.iter().fold(Request::get(&self.app, &path), |r, (name, value)| r.param(name, value));
        request.send(self.server().public).await
    }

    /// The JSON of a GET that must succeed.
    pub async fn get(&self, path: &str, params: &[(&str, &str)]) -> Value {
        self.try_get(path, params).await.expect_status(200).json()
    }

    /// Gives a number to a user of the own directory.
    pub async fn assign(&self, number: &str, user: u64) {
        self.ok("/phone_numbers", json!({"number": number, "user_id": user, "status": "assigned"})).await;
    }

    /// Sends a text, which must be taken; returns the whole answer.
    pub async fn send(&self, user: u64, to: &str, text: &str) -> Value {
        self.ok("/messages", json!({"user_id": user, "to": to, "text": text})).await
    }

    /// As [`Self::send`], without waiting for the carrier.
    pub async fn send_on(&self, user: u64, to: &str, text: &str) -> Value {
        self.ok("/messages", json!({"user_id": user, "to": to, "text": text, "wait": false})).await
    }

    /// The present state of a message.
    pub async fn message(&self, user: u64, id: &Value) -> Value {
        self.get(&format!("/messages/{}", plain(id)), &[("user_id", &user.to_string())]).await["message"]
            .take()
    }

    /// A message as soon as it is so.
    pub async fn message_that(&self, user: u64, id: &Value, is_so: impl Fn(&Value) -> bool) -> Value {
        let start = Instant::now();
        loop {
            let message = self.message(user, id).await;
            if is_so(&message) {
                return message;
            }
            assert!(start.elapsed() < DEADLINE, "{message}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// All conversations of a user.
    pub async fn conversations(&self, user: u64) -> Vec<Value> {
        let answer = self.get("/conversations", &[("user_id", &user.to_string())]).await;
        answer["conversations"].as_array().expect("a list").clone()
    }

    /// All messages of a conversation, the newest first.
    pub async fn messages(&self, user: u64, conversation: &Value) -> Vec<Value> {
        let path = format!("/conversations/{}/messages", plain(conversation));
        let answer = self.get(&path, &[("user_id", &user.to_string())]).await;
        answer["messages"].as_array().expect("a list").clone()
    }

    /// A connection subscribed to this channel.
    pub async fn listen(&self, channel: &str) -> WsClient {
        let mut client = WsClient::connect_to(self.server(), &self.app).await;
        client.subscribe(channel).await;
        client
    }

    /// The conversation of a user with a number, found or created, and a connection that hears it.
    pub async fn thread(&self, user: u64, contact: &str) -> Thread {
        let answer = self.ok("/conversations", json!({"user_id": user, "to": contact})).await;
        let id = answer["conversation"]["id"].clone();
        let client = self.listen(&format!("messenger.{}", plain(&id))).await;
        Thread { id, client }
    }

    /// Waits until the operators' port has this line among its metrics.
    pub async fn measures(&self, line: &str) {
        let start = Instant::now();
        loop {
            let metrics = get(self.server().admin, "/metrics").await.text();
            if metrics.lines().any(|other| other == line) {
                return;
            }
            assert!(start.elapsed() < DEADLINE, "no {line:?} in\n{metrics}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until the log has this text `count` times.
    pub fn logged(&self, text: &str, count: usize) {
        let start = Instant::now();
        while self.server().output().matches(text).count() < count {
            assert!(start.elapsed() < DEADLINE, "no {text:?} {count} times in\n{}", self.server().output());
            std::thread::yield_now();
        }
    }
}

/// A conversation and a connection that hears its channel.
#[derive(Debug)]
pub struct Thread {
    pub id: Value,
    pub client: WsClient,
}

impl Thread {
    /// Waits for the message to come into this state; returns the states it was told to come into, this
    /// one last.
    pub async fn reaches(&mut self, message: &Value, status: &str) -> Vec<String> {
        let mut seen = Vec::new();
        while seen.last().is_none_or(|last| last != status) {
            let event = self.client.wait_for(STATUS).await.json();
            if &event["message"]["id"] == message {
                seen.push(text(&event["message"]["status"]));
            }
        }
        seen
    }

    /// The next event of this name; others are skipped.
    pub async fn hear(&mut self, event: &str) -> Event {
        self.client.wait_for(event).await
    }

    /// Fails when an event of this name was published by now and not read yet.
    pub async fn never(&mut self, router: &Router, event: &str) {
        never(&mut self.client, router, event).await;
    }
}

/// Fails when an event of this name was published by now and not read yet.
pub async fn never(client: &mut WsClient, router: &Router, event: &str) {
    let events = client.published_so_far(router.server()).await;
    assert!(events.iter().all(|other| other.event != event), "{event} in {events:?}");
}

/// The string of a JSON string.
#[track_caller]
pub fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is no string")).to_owned()
}

/// An id as it stands in paths and channel names, whether it is a number or a string.
pub fn plain(id: &Value) -> String {
    id.as_str().map_or_else(|| id.to_string(), str::to_owned)
}

impl Response {
    /// Fails unless this is an error of the messaging API with this status and code.
    #[track_caller]
    pub fn refused(&self, status: u16, code: &str) -> Value {
        assert_eq!(self.status, status, "{}", self.text());
        let error = self.json()["error"].take();
        assert_eq!(error["code"], code, "{error}");
        assert!(error["message"].as_str().is_some_and(|text| !text.is_empty()), "{error}");
        error
    }
}
