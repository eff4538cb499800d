//! The server under test.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::client;

/// A running server; ends when dropped.
pub struct Server {
    child: Child,
    pub address: SocketAddr,
}

impl Server {
    /// Starts a program with its store in this folder.
    /// `preload`: a library that comes before the system's.
    pub fn start(program: &Path, folder: &Path, store: Option<&str>, preload: Option<&Path>) -> Self {
        let store = store.unwrap_or("sqlite:bench.db");
        // Earlier builds do not know them.
        let documented = Command::new(program).args(["config", "docs"]).output().expect("started");
        let has_limits = String::from_utf8_lossy(&documented.stdout).contains("user_conversations");
        let limits = if has_limits { "limits.user_conversations = 0\n" } else { "" };
        let config = format!(
            "[server]\nbind = \"127.0.0.1:0\"\ndata_dir = {folder:?}\n[admin]\nbind = \"127.0.0.1:0\"\n\
             [log]\nlevel = \"warn,switchboard::server=info\"\nformat = \"json\"\n[store]\nurl = {store:?}\n\
             [routing]\nsend.user_rate = 0\n{limits}channels.public_acknowledged = true\n\
             carrier.telnyx.public_key = {:?}\n\
             [[apps]]\nid = \"1001\"\nkey = \"key\"\nsecrets = [\"secret\"]\n",
            client::public_key()
        );
        let path = folder.join("switchboard.toml");
        fs::write(&path, config).expect("written");
        let mut command = Command::new(program);
        if let Some(library) = preload {
            command.env("LD_PRELOAD", library);
        }
        let mut child = command
            .arg("serve")
            .arg("--config")
            .arg(path)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("started");
        let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines();
        let address = lines
            .by_ref()
            .map_while(Result::ok)
            .find_map(|line| {
                let line: serde_json::Value = serde_json::from_str(&line).ok()?;
                line["fields"]["public"].as_str()?.parse().ok()
            })
            .expect("the server says where it listens");
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(|line| eprintln!("{line}")));
        Self { child, address }
    }

    /// Processor time of all its threads.
    pub fn cpu(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).expect("running");
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks: u64 =
            fields[11].parse::<u64>().expect("a number") + fields[12].parse::<u64>().expect("a number");
        Duration::from_millis(ticks * 1000 / rustix::param::clock_ticks_per_second())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
