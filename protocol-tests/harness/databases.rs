//! Real PostgreSQL and MariaDB servers, one of each for the whole run, with a fresh database for each
//! test that asks.
//!
//! A server is the child of a shell that ends it, and removes its files, as soon as the shell's stdin
//! closes: with this process, however that ends. Both programs refuse to run as root; then they run as
//! `nobody`.

use std::net::Ipv4Addr;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{OnceLock, mpsc};
use std::time::Duration;

use sqlx::{Connection, MySqlConnection, PgConnection};
use tempfile::TempDir;

use super::names::{free_port, unique};
use super::server::Output;

pub mod poolers;

/// An empty database of its own.
#[derive(Clone, Debug)]
pub struct Database {
    /// `postgres://…` or `mysql://…`, with all rights.
    pub url: String,
}

/// An empty PostgreSQL database.
pub async fn postgres() -> Database {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(start_postgres).create("postgres").await
}

/// An empty MariaDB database.
pub async fn mariadb() -> Database {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(start_mariadb).create("").await
}

impl Database {
    /// Runs statements separated by semicolons.
    pub async fn run(&self, sql: &str) {
        // On the heap: the drivers' futures are too large for each test's stack to have room for them.
        Box::pin(self.execute(sql)).await;
    }

    async fn execute(&self, sql: &str) {
        let sql = sqlx::raw_sql(sqlx::AssertSqlSafe(sql.to_owned()));
        if self.url.starts_with("postgres:") {
            let mut connection = PgConnection::connect(&self.url).await.expect("a connection");
            sql.execute(&mut connection).await.expect("the statements work");
        } else {
            let mut connection = MySqlConnection::connect(&self.url).await.expect("a connection");
            sql.execute(&mut connection).await.expect("the statements work");
        }
    }
}

impl Database {
    /// How many connections to it there are, besides our own.
    pub async fn connections(&self) -> i64 {
        if self.url.starts_with("postgres:") {
            let mut connection = PgConnection::connect(&self.url).await.expect("a connection");
            let sql = "SELECT count(*) FROM pg_stat_activity \
                       WHERE datname = current_database() AND pid <> pg_backend_pid()";
            sqlx::query_scalar(sql).fetch_one(&mut connection).await.expect("a count")
        } else {
            let mut connection = MySqlConnection::connect(&self.url).await.expect("a connection");
            let sql = "SELECT COUNT(*) FROM information_schema.processlist \
                       WHERE db = DATABASE() AND id <> CONNECTION_ID()";
            sqlx::query_scalar(sql).fetch_one(&mut connection).await.expect("a count")
        }
    }
}

#[derive(Debug)]
struct Server {
    /// Ends the server when this process does; see the module's text.
    _guard: Child,
    /// Without a database's name.
    url: String,
}

impl Server {
    async fn create(&self, existing: &str) -> Database {
        let name = unique("test_").replace('-', "_");
        let server = Database { url: format!("{}/{existing}", self.url) };
        server.run(&format!("CREATE DATABASE {name}")).await;
        Database { url: format!("{}/{name}", self.url) }
    }
}

fn start_postgres() -> Server {
    let folder = Folder::new();
    let data = folder.path("data");
    folder.run(
        &program("initdb"),
        &["-D", &data, "-U", "test", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"],
    );
    serve_postgres(folder, &[])
}

/// Serves the cluster in a folder's `data`.
fn serve_postgres(folder: Folder, settings: &[&str]) -> Server {
    let (data, sockets, port) = (folder.path("data"), folder.path(""), free_port());
    let port_text = port.to_string();
    let mut args = vec!["-D", &data, "-p", &port_text, "-h", "127.0.0.1", "-k", &sockets];
    // Nothing here cuts the power, and all tests at once need many connections.
    for setting in ["fsync=off", "max_connections=300"].iter().chain(settings) {
        args.extend(["-c", setting]);
    }
    let guard = folder.serve(&program("postgres"), &args, "ready to accept");
    Server { _guard: guard, url: format!("postgres://test@{}:{port}", Ipv4Addr::LOCALHOST) }
}

fn start_mariadb() -> Server {
    let folder = Folder::new();
    let data = folder.path("data");
    let data_argument = format!("--datadir={data}");
    folder.run(
        &program("mariadb-install-db"),
        &["--no-defaults", &data_argument, "--auth-root-authentication-method=normal", "--skip-test-db"],
    );
    let port = free_port();
    let socket = folder.path("socket");
    let args = [
        "--no-defaults",
        &data_argument,
        &format!("--port={port}"),
        &format!("--socket={socket}"),
        "--bind-address=127.0.0.1",
        "--skip-name-resolve",
        "--innodb-flush-log-at-trx-commit=0",
        "--innodb-buffer-pool-size=16M",
        "--max-connections=300",
    ];
    let guard = folder.serve(&program("mariadbd"), &args, "ready for connections");
    Server { _guard: guard, url: format!("mysql://root@{}:{port}", Ipv4Addr::LOCALHOST) }
}

/// The path of a program, which Debian keeps outside of `PATH` for some.
fn program(name: &str) -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    let mut folders: Vec<PathBuf> = versions.flatten().map(|version| version.path().join("bin")).collect();
    folders.sort();
    folders.reverse();
    folders.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
    folders.push("/usr/sbin".into());
    let found = folders.iter().map(|folder| folder.join(name)).find(|path| path.exists());
    found.unwrap_or_else(|| panic!("{name} is missing: run `make test` once, which installs it"))
}

/// Where a server keeps its files, and whom it runs as.
#[derive(Debug)]
struct Folder {
    path: TempDir,
    is_root: bool,
}

impl Folder {
    fn new() -> Self {
        let path = TempDir::new().expect("a temporary folder");
        let is_root = rustix::process::geteuid().is_root();
        if is_root {
            let (user, group) = ids("nobody");
            chown(path.path(), Some(user), Some(group)).expect("root may");
        }
        Self { path, is_root }
    }

    fn path(&self, name: &str) -> String {
        self.path.path().join(name).to_str().expect("UTF-8").to_owned()
    }

    /// Arguments that run `program` as somebody who is not root.
    fn arguments(&self, program: &Path) -> Vec<String> {
        let program = program.to_str().expect("UTF-8").to_owned();
        if !self.is_root {
            return vec![program];
        }
        let (user, group) = ids("nobody");
        let user = format!("--reuid={user}");
        let group = format!("--regid={group}");
        vec!["setpriv".to_owned(), user, group, "--clear-groups".to_owned(), program]
    }

    fn run(&self, program: &Path, args: &[&str]) {
        let words = self.arguments(program);
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).args(args).current_dir(self.path.path()).env("HOME", self.path.path());
        let output = command.output().expect("it starts");
        assert!(
            output.status.success(),
            "{command:?}: {}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }

    /// Starts a server behind its guard and waits for `ready` on its stderr.
    fn serve(self, program: &Path, args: &[&str], ready: &'static str) -> Child {
        // PostgreSQL's "immediate shutdown" leaves no shared memory behind.
        let end = if program.ends_with("postgres") { "QUIT" } else { "KILL" };
        let script = r#"end=$1; folder=$2; shift 2; "$@" & read -r _; kill -$end $!; wait; rm -rf "$folder""#;
        let mut guard = Command::new("sh")
            .args(["-c", script, "guard", end])
            .arg(self.path.path())
            .args(self.arguments(program))
            .args(args)
            .current_dir("/")
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("a shell");
        let (sender, is_ready) = mpsc::channel();
        let output = Output::default();
        output.follow(guard.stderr.take().expect("piped"), move |line| {
            if line.contains(ready) {
                // Only waited for once.
                let _ = sender.send(());
            }
        });
        let started = is_ready.recv_timeout(Duration::from_secs(60));
        assert!(started.is_ok(), "{program:?} did not start\n{}", output.text());
        // The guard removes it, which ends after us.
        let _ = self.path.keep();
        guard
    }
}

/// User and group number of a user of this machine.
fn ids(user: &str) -> (u32, u32) {
    let users = std::fs::read_to_string("/etc/passwd").expect("readable");
    let fields: Vec<&str> = users
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>())
        .find(|fields| fields[0] == user)
        .expect("the user is there");
    let number = |index: usize| fields[index].parse().expect("a number");
    (number(2), number(3))
}

#[tokio::test]
async fn harness_databases_are_empty_and_apart() {
    for (first, second) in [(postgres().await, postgres().await), (mariadb().await, mariadb().await)] {
        first.run("CREATE TABLE t (a INT); INSERT INTO t VALUES (1)").await;
        second.run("CREATE TABLE t (a INT)").await;
    }
}
