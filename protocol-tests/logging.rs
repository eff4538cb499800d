//! What the log says of connections and requests, to operators and to a developer at a terminal.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::DEADLINE;
use crate::harness::http::{HttpConnection, Request, get};
use crate::harness::server::{Config, Output, TestServer, binary, end_with_us, run};
use crate::harness::sign::{App, now};
use crate::harness::ws::WsClient;

const DEBUG: &str = "[log]\nformat = \"json\"\nlevel = \"info,switchboard=debug\"";

/// The fields of the lines with this message.
fn lines(server: &TestServer, message: &str) -> Vec<Value> {
    let output = server.output();
    let lines = output.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter(|line| line["fields"]["message"] == message).map(|line| line["fields"].clone()).collect()
}

/// Waits until a line with this message has these fields, and answers it.
#[track_caller]
fn logged(server: &TestServer, message: &str, fields: &Value) -> Value {
    let start = Instant::now();
    loop {
        let found = lines(server, message).into_iter().find(|line| {
            fields.as_object().expect("fields").iter().all(|(name, value)| line[name] == *value)
        });
        if let Some(line) = found {
            return line;
        }
        assert!(start.elapsed() < DEADLINE, "no {message:?} with {fields} in\n{}", server.output());
        std::thread::yield_now();
    }
}

/// Waits for a line whose `why` contains this.
#[track_caller]
fn refused(server: &TestServer, message: &str, fields: &Value, why: &str) {
    let start = Instant::now();
    loop {
        let found = lines(server, message).into_iter().any(|line| {
            line["why"].as_str().is_some_and(|text| text.contains(why))
                && fields.as_object().expect("fields").iter().all(|(name, value)| line[name] == *value)
        });
        if found {
            return;
        }
        assert!(start.elapsed() < DEADLINE, "no {message:?} with {why:?} in\n{}", server.output());
        std::thread::yield_now();
    }
}

fn debugging(app: &str) -> TestServer {
    Config::new().tables(DEBUG).app("1001", app).start()
}

#[tokio::test]
async fn at_debug_each_step_of_a_connection_is_a_line() {
    let server = debugging("client_events = \"members\"");
    let app = server.app().clone();
    let path = format!("/app/{}?protocol=7&client=js&version=8.6.0", app.key);
    let headers = [("Origin", "http://localhost:5173")];
    let mut client = WsClient::open(server.public, &app, &path, &headers).await.established().await;
    let socket = client.socket_id.clone();
    let expected = json!({"app": "1001", "socket": socket, "address": "127.0.0.1",
        "client": "pusher-js 8.6.0", "origin": "http://localhost:5173"});
    logged(&server, "connect", &expected);

    let mut other = WsClient::connect(&server).await;
    for subscriber in [&mut client, &mut other] {
        subscriber.subscribe("news").await;
        subscriber.subscribe("private-orders").await;
    }
    let expected = |channel: &str, why: &str| json!({"socket": socket, "channel": channel, "verdict": "accepted", "why": why});
    logged(&server, "subscribe", &expected("news", "the channel is public"));
    logged(&server, "subscribe", &expected("private-orders", "the signature is valid"));
    client.send_subscribe_with_auth("private-other", &format!("{}:{}", app.key, "0".repeat(64))).await;
    client.expect_not_subscribed("private-other", "AuthError", 401, "Invalid signature").await;
    let why = "the signature is not valid: the backend has another secret";
    refused(&server, "subscribe", &json!({"channel": "private-other", "verdict": "refused"}), why);

    let body = json!({"name": "Ordered", "channels": ["news", "private-orders"], "data": "secret-payload"});
    Request::trigger(&app, &body).send(server.public).await.expect_ok("{}");
    let expected = json!({"channel": "news,private-orders", "event": "Ordered", "receivers": 4});
    logged(&server, "publish", &expected);
    client.send_client_event("private-orders", "client-typing", &json!("secret-payload")).await;
    let expected =
        json!({"socket": socket, "channel": "private-orders", "event": "client-typing", "receivers": 1});
    logged(&server, "client event", &expected);
    client.send_client_event("news", "client-typing", &json!("x")).await;
    refused(&server, "client event refused", &json!({"channel": "news"}), "only supported on private");

    client.drain().await;
    client.sign_in(r#"{"id":"42","secret":"secret-payload"}"#).await;
    logged(&server, "sign-in", &json!({"socket": socket, "user": "42"}));
    client.unsubscribe("news").await;
    logged(&server, "unsubscribe", &json!({"socket": socket, "channel": "news"}));
    client.close().await;
    let line = logged(&server, "disconnect", &json!({"socket": socket, "by": "client"}));
    assert!(line["code"].is_number() && line["after"].is_string(), "{line}");
    let socket = other.socket_id.clone();
    other.reset();
    logged(&server, "disconnect", &json!({"socket": socket, "by": "network", "code": 1006}));
    for secret in ["secret-payload", app.secret.as_str()] {
        assert!(!server.output().contains(secret), "{secret} in\n{}", server.output());
    }
}

#[tokio::test]
async fn at_debug_a_refused_connection_is_a_line_with_its_reason() {
    let server = Config::new()
        .tables(DEBUG)
        .app("1", "allowed_origins = [\"http://good.example\"]")
        .app("2", "tls_only = true")
        .app("3", "max_connections = 1")
        .start();
    let app = |id: &str| server.app_with_id(id).clone();
    let attempt = async |app: &App, path: &str, code: u16| {
        let headers = [("Origin", "http://evil.example"), ("X-Forwarded-Proto", "http")];
        WsClient::open(server.public, app, path, &headers).await.expect_refusal(code, "").await;
    };
    attempt(&app("1"), "/app/no-such-key?protocol=7", 4001).await;
    refused(&server, "connect refused", &json!({"code": 4001}), "no-such-key");
    attempt(&app("1"), &format!("/app/{}?protocol=3", app("1").key), 4007).await;
    refused(&server, "connect refused", &json!({"code": 4007}), "protocol version");
    attempt(&app("1"), &format!("/app/{}?protocol=7", app("1").key), 4009).await;
    refused(&server, "connect refused", &json!({"code": 4009, "origin": "http://evil.example"}), "Origin");
    attempt(&app("2"), &format!("/app/{}?protocol=7", app("2").key), 4000).await;
    refused(&server, "connect refused", &json!({"code": 4000}), "TLS");
    let _first = WsClient::connect_to(&server, &app("3")).await;
    attempt(&app("3"), &format!("/app/{}?protocol=7", app("3").key), 4004).await;
    refused(&server, "connect refused", &json!({"code": 4004}), "quota");
    // A mix-up that must not put the secret into the log.
    attempt(&app("1"), &format!("/app/{}?protocol=7", app("1").secret), 4001).await;
    refused(&server, "connect refused", &json!({"code": 4001}), "the app's secret in place of its key");
    get(server.public, &format!("/app/{}", app("1").secret)).await.expect_status(426);
    refused(&server, "request refused", &json!({"status": 426, "request": "GET /app/…"}), "WebSocket");
    assert!(!server.output().contains(&app("1").secret), "{}", server.output());
}

#[tokio::test]
async fn at_debug_a_refused_request_is_a_line_with_the_likely_cause() {
    let server = debugging("publish_rate = 1\nevent_size = \"1KB\"");
    let app = server.app().clone();
    let body = |data: &str| json!({"name": "e", "channel": "c", "data": data});
    let event = body("secret-payload");
    let cases = [
        (Request::trigger(&App::new(&app.id, &app.key, "wrong"), &event), 401, "wrong secret"),
        (Request::trigger(&App::new(&app.id, "wrong", &app.secret), &event), 401, "wrong key"),
        (Request::trigger(&App::new("9", &app.key, &app.secret), &event), 401, "wrong app"),
        (Request::trigger(&app, &event).timestamp(now() - 700), 401, "clock is 70"),
        (Request::trigger(&app, &json!({"name": "e", "data": "x"})), 400, "channel"),
        (Request::trigger(&app, &body(&"x".repeat(1025))), 413, "1024 bytes"),
    ];
    for (request, status, why) in cases {
        request.send(server.public).await.expect_status(status);
        refused(&server, "request refused", &json!({"status": status, "address": "127.0.0.1"}), why);
    }
    // A proxy changed what was signed.
    let request = Request::trigger(&app, &event);
    let signed = request.target();
    let slashed = signed.replacen("/events?", "/events/?", 1);
    request.send_with_target(server.public, &slashed).await.expect_status(401);
    refused(&server, "request refused", &json!({"request": "POST /apps/1001/events/"}), "wrong path");
    let text = String::from_utf8(request.bytes()).expect("text").replace("secret-payload", "changed-payload");
    let length = event.to_string().len();
    let text = text.replace(&format!("Content-Length: {length}"), &format!("Content-Length: {}", length + 1));
    let mut connection = HttpConnection::connect(server.public).await;
    connection.write(text).await;
    connection.response().await.expect_status(401);
    refused(&server, "request refused", &json!({"status": 401}), "body changed");
    for _ in 0..3 {
        Request::trigger(&app, &event).send(server.public).await;
    }
    refused(&server, "request refused", &json!({"status": 429}), "publish rate");
    for secret in ["payload", app.secret.as_str(), "auth_signature", "xxxxx"] {
        assert!(!server.output().contains(secret), "{secret} in\n{}", server.output());
    }
}

#[tokio::test]
async fn requests_of_a_disabled_app_are_lines_too() {
    let server = debugging("enabled = false");
    let event = json!({"name": "e", "channel": "c", "data": "x"});
    Request::trigger(server.app(), &event).send(server.public).await.expect_status(403);
    refused(&server, "request refused", &json!({"status": 403}), "disabled");
}

#[tokio::test]
async fn at_info_clients_cause_no_line_at_all() {
    let server = Config::new().tables("[log]\nformat = \"json\"").start();
    // The start's last line; the ready line, which is none of the log's, may still be on its way.
    logged(&server, "listening", &json!({}));
    let log = || server.output().lines().filter(|line| line.contains("timestamp")).count();
    let before = log();
    let mut client = WsClient::connect(&server).await;
    client.subscribe("news").await;
    client.send_text("nonsense").await;
    client.expect_error(None, "").await;
    server.publish("news", "e", "1").await;
    let stranger = App::new("1001", "k", "wrong");
    Request::get(&stranger, "/apps/1001/channels").send(server.public).await.expect_status(401);
    WsClient::open(server.public, &stranger, "/app/k", &[]).await.expect_refusal(4001, "").await;
    client.close().await;
    server.publish("news", "e", "1").await;
    assert_eq!(log(), before, "{}", server.output());
}

#[tokio::test]
async fn names_from_outside_are_cut_and_escaped() {
    let folder = TempDir::new().expect("a temporary folder");
    let server = Config::new().tables("[log]\nlevel = \"info,switchboard=debug\"").start_in(folder.path());
    let mut client = WsClient::connect(&server).await;
    let evil = format!("a\n\u{1b}[31mINFO all is well\u{202e}{}", "z".repeat(500));
    client.send_json(&json!({"event": "pusher:subscribe", "data": {"channel": evil}})).await;
    let start = Instant::now();
    let line = loop {
        let output = server.output();
        if let Some(line) =
            output.lines().find(|line| line.contains("refused") && line.contains("all is well"))
        {
            break line.to_owned();
        }
        assert!(start.elapsed() < DEADLINE, "no line in\n{output}");
        tokio::task::yield_now().await;
    };
    assert!(line.contains(r"a\n\u{1b}[31mINFO all is well\u{202e}"), "{line}");
    assert!(!line.contains(['\x1b', '\u{202e}']) && line.len() < 1_000, "{line}");
}

/// `switchboard` as a newcomer starts it: in an empty folder, with nothing set but free ports.
struct Newcomer {
    child: Child,
    guard: Child,
    log: Output,
    folder: TempDir,
}

impl Newcomer {
    /// With arguments, and fewer descriptors than the default of `server.max_connections` needs.
    fn start(arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        let program = binary();
        let mut command = Command::new("sh");
        command.args(["-c", "ulimit -n 600; exec \"$0\" \"$@\""]).arg(program.get_program()).args(arguments);
        command.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
        for (name, value) in program.get_envs() {
            if value.is_none() {
                command.env_remove(name);
            }
        }
        command.envs([
            ("SWITCHBOARD__SERVER__BIND", "127.0.0.1:0"),
            ("SWITCHBOARD__ADMIN__BIND", "127.0.0.1:0"),
        ]);
        command.envs(environment.iter().copied()).current_dir(folder.path());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the binary starts");
        let guard = end_with_us(child.id());
        let log = Output::default();
        log.follow(child.stderr.take().expect("piped"), |_| {});
        Self { child, guard, log, folder }
    }

    /// The first line with this text.
    fn line(&self, text: &str) -> String {
        let start = Instant::now();
        loop {
            let log = self.log.text();
            if let Some(line) = log.lines().find(|line| line.contains(text)) {
                return line.to_owned();
            }
            assert!(start.elapsed() < DEADLINE, "no {text:?} in\n{log}");
            std::thread::yield_now();
        }
    }

    fn public(&self) -> std::net::SocketAddr {
        let line = self.line("listening");
        let address = line.split("public=").nth(1).and_then(|rest| rest.split(' ').next());
        address.and_then(|address| address.parse().ok()).unwrap_or_else(|| panic!("no address in {line}"))
    }

    fn app(&self) -> App {
        let file = self.folder.path().join("switchboard-data/development-app.toml");
        let text = fs::read_to_string(file).expect("the development app");
        let value = |name: &str| {
            let line = text.lines().find(|line| line.starts_with(name)).expect("a line");
            line.split('"').nth(1).expect("a value").to_owned()
        };
        App::new(&value("id"), &value("key"), &value("secret"))
    }
}

impl Drop for Newcomer {
    fn drop(&mut self) {
        for child in [&mut self.guard, &mut self.child] {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[tokio::test]
async fn a_developer_sees_short_lines_and_no_warning_at_a_plain_start() {
    let started = Newcomer::start(&[], &[]);
    let (public, app) = (started.public(), started.app());
    let path = format!("/app/{}?protocol=7&client=js&version=8.6.0", app.key);
    let mut client = WsClient::open(public, &app, &path, &[]).await.established().await;
    client.subscribe("news").await;
    let body = json!({"name": "Ordered", "channel": "news", "data": "secret-payload"});
    Request::trigger(&app, &body).send(public).await.expect_ok("{}");
    let socket = &client.socket_id;
    for (text, expected) in [
        ("connect ", format!("connect         127.0.0.1 {socket} pusher-js 8.6.0")),
        (
            "subscribe ",
            format!("subscribe       {socket} news verdict=accepted why=\"the channel is public\""),
        ),
        ("publish ", "publish         news Ordered receivers=1".to_owned()),
    ] {
        let line = started.line(text);
        let (time, rest) = line.split_once(' ').expect("a time");
        assert_eq!(time.split(':').map(str::len).collect::<Vec<_>>(), [2, 2, 2], "{line}");
        assert_eq!(rest, expected);
    }
    let log = started.log.text();
    for absent in ["WARN", "ERROR", "\x1b", "secret-payload", app.secret.as_str()] {
        assert!(!log.contains(absent), "{absent} in\n{log}");
    }
}

#[tokio::test]
async fn a_level_that_was_chosen_holds_in_development_mode_too() {
    let started = Newcomer::start(&[], &[("SWITCHBOARD__LOG__LEVEL", "info")]);
    let (public, app) = (started.public(), started.app());
    let client = WsClient::open(public, &app, &format!("/app/{}", app.key), &[]).await.established().await;
    client.close().await;
    get(public, "/nowhere").await.expect_status(404);
    assert!(!started.log.text().contains("connect"), "{}", started.log.text());
}

#[test]
fn programs_get_complete_lines_in_development_mode_too() {
    let started = Newcomer::start(&["--json"], &[]);
    let line = started.line("listening");
    assert!(line.contains("INFO switchboard::server: listening"), "{line}");
}

#[test]
fn webhooks_to_private_addresses_are_warned_of_at_the_start_and_by_check() {
    let webhook = "[[apps.webhooks]]\nname = \"orders\"\nurl = \"http://127.0.0.1:9/hook?token=hidden\"\n\
                   [[apps.webhooks]]\nurl = \"http://localhost:9/other\"\n\
                   [[apps.webhooks]]\nname = \"fine\"\nurl = \"http://127.0.0.1:9/\"\nallow_private_addresses = true";
    let folder = TempDir::new().expect("a temporary folder");
    let server = Config::new().app("1001", webhook).start_in(folder.path());
    let start = Instant::now();
    while server.output().matches("will be refused").count() < 2 {
        assert!(start.elapsed() < DEADLINE, "{}", server.output());
        std::thread::yield_now();
    }
    let log = server.output();
    assert!(log.contains("webhook orders of app 1001 to http://127.0.0.1:9 will be refused"), "{log}");
    assert!(log.contains("to http://localhost:9 will be refused"), "{log}");
    assert!(log.contains("allow_private_addresses = true"), "{log}");
    drop(server);
    let mut check = binary();
    check.args(["check", "--config"]).arg(folder.path().join("switchboard.toml")).current_dir(folder.path());
    let ended = run(check, "");
    // Without the breaks of its lines.
    let found = ended.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(found.matches("will be refused").count(), 2, "{found}");
    assert_eq!(ended.code, Some(0), "{found}");
    for text in [log, found] {
        assert!(!text.contains("hidden") && !text.contains("webhook fine"), "{text}");
    }
}
