//! `switchboard health`: asks the running server's admin port whether it is ready; for containers, whose
//! image has no HTTP client.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::json;

use super::admin_client::reachable;
use super::terminal::Terminal;
use super::{Exit, refuse};
use crate::config::{self, Sources};

/// Time for the answer.
const TIMEOUT: Duration = Duration::from_secs(2);

pub(super) fn run(sources: &Sources, terminal: &mut Terminal) -> io::Result<Exit> {
    let settings = match config::load(sources) {
        Ok(loaded) => loaded.settings,
        Err(problems) => return refuse(&problems, terminal),
    };
    let address = reachable(settings.admin.bind);
    let (exit, state) = match ready(address) {
        Ok(true) => (Exit::Fine, "ready".to_owned()),
        Ok(false) => (Exit::Failed, "not ready".to_owned()),
        Err(error) => (Exit::Failed, format!("no answer from {address} (admin.bind): {error}")),
    };
    terminal.answer(&json!({ "ready": exit == Exit::Fine, "state": state }), || format!("{state}\n"))?;
    Ok(exit)
}

fn ready(address: SocketAddr) -> io::Result<bool> {
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.write_all(b"GET /ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut status = [0_u8; 12];
    stream.read_exact(&mut status)?;
    Ok(&status == b"HTTP/1.1 200")
}
