//! The examples of the README do what it says: the page in a real browser, and a backend in each language.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{self, UnboundedReceiver};

use crate::clients::{Driver, RECONNECT_LIMIT, chromium, example, installed, screenshot};
use crate::harness::http::exchange;
use crate::harness::messaging::RECEIVED;
use crate::harness::names::free_port;
use crate::harness::server::{BINARY, Config, Output, TestServer, end_with_us, run};
use crate::harness::ws::WsClient;
use crate::harness::{DEADLINE, within};

const GREETING: &str = r"App\Events\Greeting";
/// What a program must get right to send it unharmed.
const TEXT: &str = "Gr\u{fc}\u{df}e, \"quoted\" & \\ 100 %";

/// `program examples/backend/{file} text`, with the variables of a Laravel `.env`.
fn backend(server: &TestServer, program: impl Into<PathBuf>, file: &str, text: &str) -> Command {
    let app = server.app();
    let mut command = Command::new(program.into());
    command.arg(example("backend").join(file)).arg(text).envs([
        ("PUSHER_APP_ID", app.id.clone()),
        ("PUSHER_APP_KEY", app.key.clone()),
        ("PUSHER_APP_SECRET", app.secret.clone()),
        ("PUSHER_HOST", server.public.ip().to_string()),
        ("PUSHER_PORT", server.public.port().to_string()),
        ("PUSHER_SCHEME", "http".to_owned()),
    ]);
    command.env("NODE_PATH", installed("node_modules"));
    command
}

/// Runs a backend, which must succeed; returns what it prints.
async fn send(server: &TestServer, program: impl Into<PathBuf>, file: &str, text: &str) -> String {
    let command = backend(server, program, file, text);
    let done = tokio::task::spawn_blocking(move || run(command, "")).await.expect("no panic");
    assert_eq!(done.code, Some(0), "{file}: {}{}", done.stdout, done.stderr);
    done.stdout
}

/// A program on the path, which `make test` installs.
fn found(program: &str) -> PathBuf {
    let is_there =
        Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    assert!(is_there.is_ok(), "{program} is missing: run `make test` once, which installs it");
    program.into()
}

async fn sends_an_event_and_a_message(program: PathBuf, file: &str) {
    let server = Config::new().start();
    let mut ben = WsClient::connect(&server).await;
    ben.subscribe("user.2").await;
    let printed = send(&server, program, file, TEXT).await;
    assert!(printed.contains("delivered"), "{printed}");
    assert_eq!(ben.wait_for(GREETING).await.json(), json!({"text": TEXT}));
    let received = ben.wait_for(RECEIVED).await.json();
    assert_eq!(received["message"]["text"], TEXT);
    assert_eq!(received["message"]["from_number"], "+13125550100");
}

#[tokio::test]
async fn a_backend_with_curl() {
    sends_an_event_and_a_message(found("bash"), "send.sh").await;
}

#[tokio::test]
async fn a_backend_in_php() {
    sends_an_event_and_a_message(found("php"), "send.php").await;
}

#[tokio::test]
async fn a_backend_in_node() {
    sends_an_event_and_a_message(found("node"), "send.js").await;
}

#[tokio::test]
async fn a_backend_in_python() {
    sends_an_event_and_a_message(installed(".venv/bin/python"), "send.py").await;
}

#[tokio::test]
async fn a_backend_in_ruby() {
    sends_an_event_and_a_message(found("ruby"), "send.rb").await;
}

#[tokio::test]
async fn a_backend_says_what_is_missing_and_prints_no_signed_address() {
    let server = Config::new().start();
    let closed = free_port().to_string();
    for (program, file) in [
        (found("bash"), "send.sh"),
        (found("php"), "send.php"),
        (found("node"), "send.js"),
        (installed(".venv/bin/python"), "send.py"),
        (found("ruby"), "send.rb"),
    ] {
        for (variable, value, said) in [
            ("PUSHER_PORT", closed.as_str(), closed.as_str()),
            (
                "PUSHER_APP_KEY",
                "",
                "PUSHER_APP_KEY is not set. Save the block that begins with BROADCAST_CONNECTION=pusher",
            ),
            ("PUSHER_APP_KEY", "no-such-key", "Unknown auth_key"),
        ] {
            let mut command = backend(&server, &program, file, TEXT);
            command.env(variable, value);
            let done = tokio::task::spawn_blocking(move || run(command, "")).await.expect("no panic");
            let printed = done.stdout + &done.stderr;
            assert_ne!(done.code, Some(0), "{file} with {variable}={value}: {printed}");
            assert!(printed.contains(said), "{file} with {variable}={value}: {printed}");
            assert!(!printed.contains("auth_signature"), "{file} with {variable}={value}: {printed}");
        }
    }
}

#[tokio::test]
async fn the_echo_page_in_chromium_shows_what_a_backend_sends() {
    let server = Config::new().start();
    let mut browser = Driver::node("echo-page.mjs", &[]);
    let page = format!("file://{}", example("echo.html").display());
    browser.ask_within(RECONNECT_LIMIT, "open", json!({"url": page, "executable": chromium()})).await;
    let form =
        json!({"key": server.app().key, "server": server.public.to_string(), "until": "listening to user.2"});
    browser.ask("listen", form).await;
    send(&server, found("node"), "send.js", TEXT).await;
    let events = browser.ask("events", json!({"count": 2})).await;
    browser.ask("screenshot", json!({"path": screenshot("echo.png")})).await;
    browser.ask("close", json!({})).await;
    assert_eq!(events, json!([format!("Greeting: {TEXT}"), format!("MessageReceived: {TEXT}")]));
}

#[tokio::test]
async fn the_echo_page_says_why_it_is_not_connected_and_lets_one_try_again() {
    let server = Config::new().start();
    let (key, address) = (server.app().key.clone(), server.public.to_string());
    let closed = format!("127.0.0.1:{}", free_port());
    let mut browser = Driver::node("echo-page.mjs", &[]);
    let page = format!("file://{}", example("echo.html").display());
    browser.ask("network", json!({"isThere": false})).await;
    browser.ask_within(RECONNECT_LIMIT, "open", json!({"url": page, "executable": chromium()})).await;
    let blocked = json!({"key": key, "server": address, "until": "could not be loaded from cdn.jsdelivr.net. Is there"});
    browser.ask("listen", blocked).await;
    browser.ask("network", json!({"isThere": true})).await;
    // The page is never loaded again.
    for (key, server, until) in [
        (key.as_str(), "127.0.0.1", "The port is missing. Write 127.0.0.1:6001"),
        (&key, "http://localhost", "The port is missing. Write localhost:6001"),
        (&key, &format!("{address}/app/x"), &format!("host and port only, as in {address}")),
        (&key, "ftp://127.0.0.1:6001", "as in 127.0.0.1:6001"),
        (&key, "127.0.0.1:60010000", "ports go from 1 to 65535"),
        (&key, &closed, &format!("No switchboard answers at ws://{closed}. Is the server running")),
        ("no-such-key", &address, "(4001). Correct that and press Listen again."),
        (&key, &format!("http://{address}"), "listening to user.2"),
    ] {
        let form = json!({"key": key, "server": server, "until": until});
        let said = browser.ask("listen", form).await;
        browser.ask("screenshot", json!({"path": screenshot("echo-refused.png")})).await;
        assert!(said.as_str().is_some_and(|said| said.contains(until)), "{said}");
        if key == "no-such-key" {
            assert!(said.as_str().is_some_and(|said| said.contains("The server says: ")), "{said}");
        }
    }
    browser.ask("close", json!({})).await;
}

/// The demonstration of `make demo`, which ends when this is dropped.
struct Demo {
    child: Child,
    _guard: Child,
    lines: Vec<String>,
    printed: UnboundedReceiver<String>,
    _folder: TempDir,
}

/// The demonstration, not started yet, with its data in this folder.
fn demo(folder: &TempDir) -> Command {
    example("portal/dist/index.html");
    let mut command = Command::new(found("node"));
    command.arg(example("portal/demo.mjs")).env("SWITCHBOARD", BINARY).env("DATA_DIR", folder.path());
    command.env_remove("TELNYX_API_KEY").env_remove("CHANNELS").env_remove("PUBLIC_URL");
    command.env("PUSHER_PORT", "0").env("PORT", "0");
    command
}

impl Demo {
    /// Starts it and waits until it has said all.
    async fn start() -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        let mut command = demo(&folder);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("Node starts");
        let guard = end_with_us(child.id());
        let (sender, printed) = mpsc::unbounded_channel();
        Output::default().follow(child.stdout.take().expect("stdout is piped"), move |line| {
            // A closed receiver means that all was read.
            let _ = sender.send(line.to_owned());
        });
        let mut demo = Self { child, _guard: guard, lines: Vec::new(), printed, _folder: folder };
        demo.prints("Ctrl-C ends it.").await;
        demo
    }

    /// Waits for a line with this text.
    async fn prints(&mut self, text: &str) {
        loop {
            let line = within(RECONNECT_LIMIT, text, self.printed.recv()).await;
            let line = line.unwrap_or_else(|| panic!("it ended: {:?}", self.lines));
            self.lines.push(line);
            if self.lines.last().is_some_and(|line| line.contains(text)) {
                return;
            }
        }
    }

    /// The process that it last said the server is.
    fn server(&self) -> Pid {
        let id = self.lines.iter().rev().find_map(|line| line.split_once("kill -9 ")?.1.trim().parse().ok());
        id.and_then(Pid::from_raw).expect("the id of a process")
    }

    /// Addresses in what it printed that are followed by this.
    fn addresses(&self, path: &str) -> Vec<SocketAddr> {
        let address = |line: &String| line.split_once(path)?.0.split_once("http://")?.1.parse().ok();
        self.lines.iter().filter_map(address).collect()
    }

    /// Presses Ctrl-C.
    fn interrupt(&self) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("a pid");
        kill_process(pid, Signal::INT).expect("it runs");
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn the_demo_prints_two_links_and_ends_all_it_started() {
    let mut demo = Demo::start().await;
    let portal = demo.addresses("/?user=");
    assert_eq!(portal.len(), 2, "{:?}", demo.lines);
    for (user, contact) in [(1, "Ben Ortiz"), (2, "Ann Lee")] {
        let request = |path: &str, cookie: &str| {
            let head = format!("GET {path} HTTP/1.1\r\nHost: portal\r\nConnection: close\r\n");
            exchange(portal[0], format!("{head}Cookie: {cookie}\r\n\r\n"))
        };
        let signed_in = request(&format!("/?user={user}"), "").await;
        assert_eq!(
            (signed_in.status, signed_in.header("location")),
            (303, Some(format!("/{user}/").as_str()))
        );
        let cookie = signed_in.header("set-cookie").expect("a session").split(';').next().expect("a cookie");
        let conversations = request(&format!("/{user}/api/conversations"), cookie).await.text();
        assert!(conversations.contains(contact) && conversations.contains("Carla Diaz"), "{conversations}");
    }
    let carrier = demo.addresses("/_inbound");
    assert_eq!(carrier.len(), 1, "{:?}", demo.lines);

    demo.interrupt();
    let ended = Instant::now();
    while TcpStream::connect(portal[0]).await.is_ok() || TcpStream::connect(carrier[0]).await.is_ok() {
        assert!(ended.elapsed() < DEADLINE, "something still runs");
        tokio::task::yield_now().await;
    }
    assert!(demo.child.wait().expect("our own child").success());
}

#[tokio::test]
async fn a_killed_server_comes_back_in_the_demo_and_its_pages_recover() {
    let mut demo = Demo::start().await;
    let mut browser = Driver::node("messenger.mjs", &[]);
    browser.ask("visit", json!({"portal": format!("http://{}", demo.addresses("/?user=")[0])})).await;
    let command = json!({"on": "Ann", "user": 1, "executable": chromium(), "options": {}});
    browser.ask_within(RECONNECT_LIMIT, "open", command).await;
    browser.ask("pick", json!({"on": "Ann", "name": "Ben Ortiz"})).await;
    browser.ask("pictures", json!({"on": "Ann", "name": "Attachment: floor-plan.png"})).await;
    kill_process(demo.server(), Signal::KILL).expect("it runs");
    demo.prints("switchboard ended (SIGKILL).").await;
    browser.ask("shows", json!({"on": "Ann", "text": "Try now"})).await;
    browser.ask("write", json!({"on": "Ann", "text": "Written meanwhile"})).await;
    browser.ask("screenshot", json!({"on": "Ann", "path": screenshot("demo-killed.png")})).await;
    demo.prints("switchboard runs again").await;
    let sent = json!({"on": "Ann", "text": "Written meanwhile", "status": "delivered"});
    browser.ask_within(RECONNECT_LIMIT, "sees", sent).await;
    let gone = json!({"on": "Ann", "text": "Try now", "gone": true});
    browser.ask_within(RECONNECT_LIMIT, "shows", gone).await;
    assert!(demo.child.try_wait().expect("our own child").is_none(), "the demonstration ended");
    browser.ask("close", json!({})).await;
    demo.interrupt();
    assert!(demo.child.wait().expect("our own child").success());
}

#[tokio::test]
async fn the_demo_says_which_port_is_taken_and_how_to_choose_another() {
    let taken = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = taken.local_addr().expect("an address").port();
    for (variable, value, said) in [
        ("PUSHER_PORT", port.to_string(), format!("another program listens on port {port} of this machine")),
        ("PORT", port.to_string(), format!("another program listens on port {port} of this machine")),
        ("PORT", "http".to_owned(), "PORT=http is no port: write a number from 1 to 65535".to_owned()),
    ] {
        let folder = TempDir::new().expect("a temporary folder");
        let mut command = demo(&folder);
        command.env(variable, &value);
        let done = tokio::task::spawn_blocking(move || run(command, "")).await.expect("no panic");
        assert_eq!(done.code, Some(1), "{}{}", done.stdout, done.stderr);
        assert!(done.stderr.contains(&said), "{}", done.stderr);
        assert!(done.stderr.contains(&format!("{variable}=")), "{}", done.stderr);
        assert_eq!(done.stdout, "", "nothing was started");
    }
}
