//! `switchboard health`: asks the running server's admin port whether it is ready; for containers, whose
//! image has no HTTP client.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::{Value, json};

use super::admin_client::reachable;
use super::terminal::Terminal;
use super::{Exit, refuse};
use crate::config::{self, Sources};

/// Time for the answer.
const TIMEOUT: Duration = Duration::from_secs(2);
/// Most bytes of it that are read.
const LONGEST: u64 = 64 * 1024;

pub(super) fn run(sources: &Sources, terminal: &mut Terminal) -> io::Result<Exit> {
    let settings = match config::load(sources) {
        Ok(loaded) => loaded.settings,
        Err(problems) => return refuse(&problems, terminal),
    };
    let address = reachable(settings.admin.bind);
    let (exit, state) = match ready(address) {
        Ok((true, away)) => (Exit::Fine, format!("ready{away}")),
        Ok((false, away)) => (Exit::Failed, format!("not ready{away}")),
        Err(error) => (Exit::Failed, format!("no answer from {address} (admin.bind): {error}")),
    };
    terminal.answer(&json!({ "ready": exit == Exit::Fine, "state": state }), || format!("{state}\n"))?;
    Ok(exit)
}

/// Whether the server is ready, and which of its parts are not.
fn ready(address: SocketAddr) -> io::Result<(bool, String)> {
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.write_all(b"GET /ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.take(LONGEST).read_to_string(&mut answer)?;
    Ok((answer.starts_with("HTTP/1.1 200"), away(&answer)))
}

/// The parts that are not ready, as the answer's body names them.
fn away(answer: &str) -> String {
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    let body: Value = serde_json::from_str(body).unwrap_or_default();
    let parts = body["parts"].as_object().into_iter().flatten();
    let away: Vec<_> = parts.filter(|(_, state)| *state != "ready").map(|(name, _)| name.as_str()).collect();
    if away.is_empty() { String::new() } else { format!(", without: {}", away.join(", ")) }
}
