//! The real binary, started with a configuration of its own on free ports.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use serde_json::Value;
use tempfile::TempDir;

use super::DEADLINE;
use super::http::{Request, Response};
use super::sign::App;

/// Path of the program under test.
pub const BINARY: &str = env!("CARGO_BIN_EXE_switchboard");

/// A command that runs the binary with an environment free of our own settings.
pub fn binary() -> Command {
    let mut command = Command::new(BINARY);
    for (name, _) in std::env::vars() {
        let ours = ["SWITCHBOARD", "PUSHER_", "REVERB_", "SOKETI_"];
        if ours.iter().any(|prefix| name.starts_with(prefix)) {
            command.env_remove(name);
        }
    }
    command
}

/// Builds the configuration file; each method takes lines of TOML for one table.
#[derive(Clone, Debug, Default)]
pub struct Config {
    server: String,
    drain: String,
    apps: Vec<(App, String)>,
    tables: String,
    port: u16,
    env: BTreeMap<String, String>,
}

/// Tables for a client that comes and goes more often than any other.
pub const UNLIMITED: &str = "[server.client]\nmessage_rate = 0\nsubscription_rate = 0";

impl Config {
    pub fn new() -> Self {
        Self::default()
    }

    /// Lines under `[server]`.
    pub fn server(mut self, lines: &str) -> Self {
        self.server.push_str(lines);
        self.server.push('\n');
        self
    }

    /// Lines under `[server.drain]`.
    pub fn drain(mut self, lines: &str) -> Self {
        self.drain.push_str(lines);
        self.drain.push('\n');
        self
    }

    /// An app with the credentials `{id}`, `sb-key-{id}`, `sb-secret-{id}`, and lines under its table.
    pub fn app(mut self, id: &str, lines: &str) -> Self {
        let app = App::new(id, &format!("sb-key-{id}"), &format!("sb-secret-{id}"));
        self.apps.push((app, lines.to_owned()));
        self
    }

    /// Further tables, headers and all.
    pub fn tables(mut self, toml: &str) -> Self {
        self.tables.push_str(toml);
        self.tables.push('\n');
        self
    }

    /// The public port, where it must be known before the start; any free one otherwise.
    pub fn port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// A variable of the server's environment.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.insert(name.to_owned(), value.to_owned());
        self
    }

    fn toml(&self, folder: &Path) -> String {
        let mut text = format!(
            "[server]\nbind = \"127.0.0.1:{}\"\ndata_dir = \"{}\"\n{}\n",
            self.port,
            folder.join("data").display(),
            self.server
        );
        // On a busy machine a test may not read from a client for a minute.
        if !self.server.contains("ping_interval") && !self.server.contains("activity_timeout") {
            text.push_str("ping_interval = \"1h\"\n");
        }
        if !self.drain.is_empty() {
            text.push_str(&format!("[server.drain]\n{}\n", self.drain));
        }
        text.push_str("[admin]\nbind = \"127.0.0.1:0\"\n");
        text.push_str(&self.tables);
        for (app, lines) in &self.apps {
            text.push_str(&format!(
                "\n[[apps]]\nid = \"{}\"\nkey = \"{}\"\nsecrets = [\"{}\"]\n{lines}\n",
                app.id, app.key, app.secret
            ));
        }
        text
    }

    /// Starts the server and waits until it listens. Without any app of its own it gets app `1001`.
    pub fn start(self) -> TestServer {
        let folder = TempDir::new().expect("a temporary folder");
        let mut server = self.start_in(folder.path());
        server.folder = Some(folder);
        server
    }

    /// What a server says that ends instead of starting.
    pub fn refusal(self) -> Finished {
        self.command(&["serve"])
    }

    /// What a command says that ends by itself.
    pub fn command(self, arguments: &[&str]) -> Finished {
        let folder = TempDir::new().expect("a temporary folder");
        let file = folder.path().join("switchboard.toml");
        std::fs::write(&file, self.toml(folder.path())).expect("the configuration is written");
        let mut command = binary();
        command.args(arguments).arg("--config").arg(&file).current_dir(folder.path());
        run(command, "")
    }

    /// As [`Self::start`], in a folder that outlives the server, so that another can take over its data.
    pub fn start_in(mut self, home: &Path) -> TestServer {
        if self.apps.is_empty() {
            self = self.app("1001", "");
        }
        let file = home.join("switchboard.toml");
        std::fs::write(&file, self.toml(home)).expect("the configuration is written");
        let mut command = binary();
        command.args(["serve", "--json", "--config"]).arg(&file).current_dir(home);
        command.envs(&self.env);
        let apps = self.apps.into_iter().map(|(app, _)| app).collect();
        let mut server = TestServer::launch(command, apps, None);
        server.home = Some(home.to_owned());
        server
    }
}

/// A running server. Dropping it kills the process.
#[derive(Debug)]
pub struct TestServer {
    child: Mutex<Child>,
    guard: Mutex<Child>,
    output: Output,
    pub public: SocketAddr,
    pub admin: SocketAddr,
    pub pid: u32,
    apps: Vec<App>,
    home: Option<PathBuf>,
    folder: Option<TempDir>,
}

impl TestServer {
    /// Runs `command`, which must be `switchboard serve --json …`, and waits for its ready line.
    pub fn launch(mut command: Command, apps: Vec<App>, folder: Option<TempDir>) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the binary starts");
        let pid = child.id();
        let guard = end_with_us(pid);
        let (ready_sender, ready) = mpsc::channel();
        let output = Output::default();
        let stdout = child.stdout.take().expect("stdout is piped");
        output.follow(stdout, move |line| {
            // Only the first line matters; a closed receiver means it has been read.
            let _ = ready_sender.send(line.to_owned());
        });
        output.follow(child.stderr.take().expect("stderr is piped"), |_| {});
        let ready: Result<Value, String> = ready
            .recv_timeout(DEADLINE)
            .map_err(|e| e.to_string())
            .and_then(|line| serde_json::from_str(&line).map_err(|e| format!("{e}: {line}")));
        let ready = match ready {
            Ok(ready) => ready,
            Err(problem) => {
                let _ = child.kill();
                let status = child.wait();
                panic!("no ready line ({problem}), {status:?}\n{}", output.text());
            }
        };
        assert_eq!(ready["event"], "ready", "{ready}");
        assert_eq!(ready["pid"], pid, "{ready}");
        let address = |field: &str| -> SocketAddr {
            ready[field].as_str().and_then(|text| text.parse().ok()).expect("an address in the ready line")
        };
        Self {
            public: address("public"),
            admin: address("admin"),
            child: Mutex::new(child),
            guard: Mutex::new(guard),
            output,
            pid,
            apps,
            home: folder.as_ref().map(|folder| folder.path().to_owned()),
            folder,
        }
    }

    /// The first app.
    pub fn app(&self) -> &App {
        &self.apps[0]
    }

    /// The app with this id.
    pub fn app_with_id(&self, id: &str) -> &App {
        self.apps.iter().find(|app| app.id == id).expect("a configured app")
    }

    /// The folder the server runs in.
    pub fn folder(&self) -> PathBuf {
        self.home.clone().expect("started from a file")
    }

    /// What the server wrote so far, both streams.
    pub fn output(&self) -> String {
        self.output.text()
    }

    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.pid).expect("a pid")).expect("not zero");
        kill_process(pid, signal).expect("the process is there");
    }

    /// Waits for the process to end by itself.
    pub async fn exit_status(&self, limit: Duration) -> ExitStatus {
        if let Some(status) = self.try_exit_status() {
            return status;
        }
        // Not reaped yet, so the number is this process's; its descriptor is readable once it has ended.
        let pid = Pid::from_raw(self.pid as i32).expect("a process number");
        let process = pidfd_open(pid, PidfdFlags::empty()).expect("our own child");
        let limit_spec = limit.try_into().expect("a short time");
        let wait = move || poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&limit_spec));
        let ended =
            tokio::task::spawn_blocking(wait).await.expect("no panic").expect("can be waited for") == 1;
        assert!(ended, "still running after {limit:?}\n{}", self.output());
        self.try_exit_status().expect("it has ended")
    }

    /// The exit status, when the process has ended.
    pub fn try_exit_status(&self) -> Option<ExitStatus> {
        self.child.lock().expect("not poisoned").try_wait().expect("our own child")
    }

    /// Fails when the process has ended.
    pub fn expect_alive(&self) {
        assert_eq!(self.try_exit_status(), None, "the server ended\n{}", self.output());
    }

    /// Changes the configuration file and has the server read it; waits for one more `line` in the log.
    pub async fn reload(&self, change: impl FnOnce(String) -> String, line: &str) {
        let file = self.folder().join("switchboard.toml");
        let text = std::fs::read_to_string(&file).expect("readable");
        let seen = self.output().matches(line).count();
        std::fs::write(&file, change(text)).expect("writable");
        self.signal(Signal::HUP);
        let start = Instant::now();
        while self.output().matches(line).count() == seen {
            assert!(start.elapsed() < DEADLINE, "no {line:?} in {}", self.output());
            tokio::task::yield_now().await;
        }
    }

    /// Publishes one event to one channel of the first app.
    pub async fn publish(&self, channel: &str, name: &str, data: &str) -> Response {
        self.publish_to(self.app(), channel, name, data).await
    }

    /// Publishes one event to one channel of `app`.
    pub async fn publish_to(&self, app: &App, channel: &str, name: &str, data: &str) -> Response {
        let body = serde_json::json!({"name": name, "channel": channel, "data": data});
        Request::trigger(app, &body).send(self.public).await.expect_ok("{}")
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("--- server {} wrote ---\n{}---", self.pid, self.output.tail(60));
        }
        // The guard first: once the server is reaped, its number could be another process's.
        for child in [&self.guard, &self.child] {
            if let Ok(mut child) = child.lock() {
                let _ = child.kill();
                let _ = child.wait();
            }
        }
    }
}

/// A shell that kills the server when this test process ends without dropping anything (a signal, an
/// abort): its stdin closes then.
pub fn end_with_us(pid: u32) -> Child {
    Command::new("sh")
        .args(["-c", "read -r _; kill -KILL \"$1\"", "guard", &pid.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("a shell")
}

/// The lines a process has written.
#[derive(Clone, Debug, Default)]
pub struct Output(Arc<Mutex<Vec<String>>>);

impl Output {
    /// Collects the lines of `stream` in a thread of its own and shows each to `seen`.
    pub fn follow(
        &self,
        stream: impl std::io::Read + Send + 'static,
        mut seen: impl FnMut(&str) + Send + 'static,
    ) {
        let lines = Arc::clone(&self.0);
        thread::spawn(move || {
            for line in BufReader::new(stream).lines().map_while(Result::ok) {
                seen(&line);
                lines.lock().expect("not poisoned").push(line);
            }
        });
    }

    pub fn text(&self) -> String {
        self.tail(usize::MAX)
    }

    /// The last `count` lines.
    pub fn tail(&self, count: usize) -> String {
        let lines = self.0.lock().expect("not poisoned");
        let start = lines.len().saturating_sub(count);
        lines[start..].iter().fold(String::new(), |text, line| text + line + "\n")
    }
}

/// The result of a command that ends by itself.
#[derive(Debug)]
pub struct Finished {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// Runs `command` to its end, feeding it `stdin`; kills it and fails when it takes too long.
pub fn run(mut command: Command, stdin: &str) -> Finished {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the binary starts");
    let mut input = child.stdin.take().expect("stdin is piped");
    // A program that does not read its input may close it first.
    let _ = input.write_all(stdin.as_bytes());
    drop(input);
    let (stdout, stderr) = (Output::default(), Output::default());
    let (done_sender, done) = mpsc::channel::<()>();
    let second_sender = done_sender.clone();
    // The senders live in the reading threads; both gone means both streams ended.
    stdout.follow(child.stdout.take().expect("stdout is piped"), move |_| {
        let _ = &done_sender;
    });
    stderr.follow(child.stderr.take().expect("stderr is piped"), move |_| {
        let _ = &second_sender;
    });
    if done.recv_timeout(DEADLINE) == Err(mpsc::RecvTimeoutError::Timeout) {
        let _ = child.kill();
        let _ = child.wait();
        panic!("{command:?} did not end\n{}{}", stdout.text(), stderr.text());
    }
    let status = child.wait().expect("our own child");
    Finished { code: status.code(), stdout: stdout.text(), stderr: stderr.text() }
}
