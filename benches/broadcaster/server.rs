//! The servers under test: started here, one fresh process per run, or already running.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use serde::Deserialize;
use tempfile::TempDir;

use crate::process::{Cores, spawn_pinned};
use crate::scenario::{Scenario, Target};
use crate::wire::Credentials;

/// Everything a stock installation limits below what the scenarios need is raised; nothing else is tuned.
const CONFIG: &str = r#"
[server]
bind = "127.0.0.1:0"
data_dir = "DATA"
[admin]
bind = "127.0.0.1:0"
[log]
level = "warn"
[[apps]]
id = "1001"
key = "bench-key"
secrets = ["bench-secret"]
client_events = "members"
client_event_rate = 0
presence_members = 1000
"#;

/// An endpoint that wants every event there is, each in a request of its own.
const WEBHOOK: &str = r#"
[[apps.webhooks]]
url = "http://ADDRESS/"
allow_private_addresses = true
events = [
    "channel_occupied", "channel_vacated", "member_added", "member_removed", "client_event", "cache_miss",
    "subscription_count", "connection_opened", "connection_closed", "user_online", "user_offline",
]
"#;

/// One server to be measured.
#[derive(Clone, Debug)]
pub enum Candidate {
    /// The raw sender of this program, one `send` per delivery.
    RawEach,
    /// The raw sender of this program, one write per connection and turn.
    RawJoin,
    /// The raw sender of this program with a fault, for the self-test: a role's name.
    Faulty(&'static str),
    /// A switchboard binary.
    Binary { name: String, path: PathBuf },
    /// A server somebody else has started.
    Running(Target),
    /// A server that a shell command starts.
    Peer { name: String, address: SocketAddr, credentials: Credentials, command: String },
}

impl Candidate {
    /// The name in the report.
    pub fn name(&self) -> &str {
        match self {
            Self::RawEach => "raw-each",
            Self::RawJoin => "raw-join",
            Self::Faulty(role) => role,
            Self::Binary { name, .. } | Self::Peer { name, .. } => name,
            Self::Running(target) => &target.name,
        }
    }

    /// Whether a scenario says anything about this candidate: the raw sender has neither rosters nor a policy for
    /// slow readers, and joining changes nothing where nothing waits.
    pub fn suits(&self, scenario: Scenario) -> bool {
        use Scenario::{Batch, Churn, ClientEvents, Connect, Idle, Presence, StalledReader, Webhooks};
        match self {
            Self::RawEach => !matches!(scenario, Presence | StalledReader | Webhooks),
            Self::RawJoin => !matches!(
                scenario,
                Presence | StalledReader | Webhooks | Batch | ClientEvents | Idle | Connect | Churn
            ),
            // Webhooks are switched on and off by the configuration, which is ours only for what is started here.
            Self::Running(_) | Self::Peer { .. } => scenario != Webhooks,
            Self::Faulty(_) | Self::Binary { .. } => true,
        }
    }

    /// Starts it on its core and waits until it listens. A binary's app has the webhook beside its other settings.
    pub fn start(&self, cores: Cores, webhook: Option<SocketAddr>) -> io::Result<Server> {
        match self {
            Self::RawEach | Self::RawJoin | Self::Faulty(_) => {
                let mut command = Command::new(std::env::current_exe()?);
                Server::spawn(self.name(), command.arg(self.name()), cores.server, tempfile::tempdir()?)
            }
            Self::Binary { name, path } => {
                let folder = tempfile::tempdir()?;
                let config = folder.path().join("switchboard.toml");
                let data = folder.path().join("data");
                let app = CONFIG.replace("DATA", &data.to_string_lossy());
                let webhook = webhook.map(|address| WEBHOOK.replace("ADDRESS", &address.to_string()));
                std::fs::write(&config, app + &webhook.unwrap_or_default())?;
                let mut command = Command::new(path);
                command.args(["serve", "--json", "--config"]).arg(&config);
                for (variable, _) in std::env::vars_os() {
                    if variable.to_string_lossy().starts_with("SWITCHBOARD__") {
                        command.env_remove(variable);
                    }
                }
                Server::spawn(name, &mut command, cores.server, folder)
            }
            Self::Running(target) => Ok(Server { target: target.clone(), process: None }),
            Self::Peer { name, address, credentials, command } => {
                let mut shell = Command::new("sh");
                // The shell becomes the server, whose process is measured.
                shell.args(["-c", &format!("exec {command}")]);
                Server::of_peer(name, *address, credentials.clone(), &mut shell, cores.server)
            }
        }
    }
}

/// Parses `PATH=NAME`.
pub fn parse_binary(text: &str) -> Result<Candidate, String> {
    let (path, name) = text.rsplit_once('=').ok_or("expected PATH=NAME")?;
    Ok(Candidate::Binary { name: name.to_owned(), path: path.into() })
}

/// Parses `NAME=HOST:PORT,PID,APP_ID,KEY,SECRET`.
pub fn parse_running(text: &str) -> Result<Candidate, String> {
    const FORM: &str = "expected NAME=HOST:PORT,PID,APP_ID,KEY,SECRET";
    let (name, rest) = text.split_once('=').ok_or(FORM)?;
    let parts: Vec<&str> = rest.splitn(5, ',').collect();
    let [address, pid, app_id, key, secret] = parts[..] else { return Err(FORM.to_owned()) };
    let address =
        address.to_socket_addrs().map_err(|error| format!("{address}: {error}"))?.next().ok_or(FORM)?;
    Ok(Candidate::Running(Target {
        name: name.to_owned(),
        address,
        admin: None,
        pid: pid.parse().map_err(|_| FORM)?,
        credentials: Credentials {
            app_id: app_id.to_owned(),
            key: key.to_owned(),
            secret: secret.to_owned(),
        },
    }))
}

/// Parses `NAME=HOST:PORT,APP_ID,KEY,SECRET,COMMAND`.
pub fn parse_peer(text: &str) -> Result<Candidate, String> {
    const FORM: &str = "expected NAME=HOST:PORT,APP_ID,KEY,SECRET,COMMAND";
    let (name, rest) = text.split_once('=').ok_or(FORM)?;
    let parts: Vec<&str> = rest.splitn(5, ',').collect();
    let [address, app_id, key, secret, command] = parts[..] else { return Err(FORM.to_owned()) };
    let address =
        address.to_socket_addrs().map_err(|error| format!("{address}: {error}"))?.next().ok_or(FORM)?;
    let [app_id, key, secret] = [app_id, key, secret].map(str::to_owned);
    let credentials = Credentials { app_id, key, secret };
    Ok(Candidate::Peer { name: name.to_owned(), address, credentials, command: command.to_owned() })
}

/// A server that listens. Killed when dropped, if it was started here.
pub struct Server {
    pub target: Target,
    process: Option<Process>,
}

struct Process {
    child: Child,
    folder: TempDir,
}

impl Server {
    /// Starts a program that tells its address in its first line, and waits for that.
    pub fn spawn(name: &str, command: &mut Command, core: usize, folder: TempDir) -> io::Result<Self> {
        let log = File::create(folder.path().join("stderr"))?;
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
        let mut child = spawn_pinned(core, command)?;
        let stdout = child.stdout.take().expect("stdout is piped");
        let mut process = Process { child, folder };
        let Some(ready) = first_line(stdout, Duration::from_secs(10)) else {
            let state = process.child.try_wait()?;
            return Err(io::Error::other(format!("{name} did not start ({state:?}): {}", process.log())));
        };
        let ready: Ready = serde_json::from_str(&ready)
            .map_err(|error| io::Error::other(format!("{name}: first line {ready:?}: {error}")))?;
        let credentials = Credentials {
            app_id: "1001".to_owned(),
            key: "bench-key".to_owned(),
            secret: "bench-secret".to_owned(),
        };
        let (address, admin) = (ready.public, ready.admin);
        let target = Target { name: name.to_owned(), address, admin, pid: ready.pid, credentials };
        Ok(Self { target, process: Some(process) })
    }

    /// Starts a program that says nothing of itself, and waits until something listens at its address.
    fn of_peer(
        name: &str,
        address: SocketAddr,
        credentials: Credentials,
        command: &mut Command,
        core: usize,
    ) -> io::Result<Self> {
        if TcpStream::connect(address).is_ok() {
            return Err(io::Error::other(format!("something else listens at {address}: stop it first")));
        }
        let folder = tempfile::tempdir()?;
        let log = File::create(folder.path().join("stderr"))?;
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let mut process = Process { child: spawn_pinned(core, command)?, folder };
        let end = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(address).is_err() {
            let state = process.child.try_wait()?;
            if state.is_some() || Instant::now() > end {
                return Err(io::Error::other(format!("{name} did not start ({state:?}): {}", process.log())));
            }
            thread::sleep(Duration::from_millis(50));
        }
        let pid = process.child.id();
        let target = Target { name: name.to_owned(), address, admin: None, pid, credentials };
        Ok(Self { target, process: Some(process) })
    }

    /// What went wrong with the process itself: it ended, or it had something to say.
    pub fn complaints(&mut self) -> io::Result<Vec<String>> {
        let Some(process) = &mut self.process else { return Ok(Vec::new()) };
        Ok(match process.child.try_wait()? {
            Some(status) => vec![format!("the server ended with {status}: {}", process.log())],
            None => Vec::new(),
        })
    }

    /// The end of what the server wrote to stderr.
    pub fn log(&self) -> String {
        self.process.as_ref().map(Process::log).unwrap_or_default()
    }
}

impl Process {
    fn log(&self) -> String {
        let text = std::fs::read(self.folder.path().join("stderr")).unwrap_or_default();
        String::from_utf8_lossy(&text[text.len().saturating_sub(2_000)..]).into_owned()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Nothing is left to do for a server whose run is over; a drain would only cost time.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[derive(Deserialize)]
struct Ready {
    public: SocketAddr,
    admin: Option<SocketAddr>,
    pid: u32,
}

/// The first line of `stdout`; the rest is read and dropped, so that the server never blocks on it.
fn first_line(stdout: ChildStdout, limit: Duration) -> Option<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut lines = BufReader::new(stdout).lines();
        if let Some(Ok(line)) = lines.next() {
            // The receiver may have given up.
            let _ = sender.send(line);
        }
        lines.map_while(Result::ok).for_each(drop);
    });
    receiver.recv_timeout(limit).ok()
}
