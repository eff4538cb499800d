//! `switchboard serve`.

use std::error::Error;
use std::io::{self, IsTerminal};
use std::net::SocketAddr;

use serde::Serialize;
use serde_json::json;
use tracing_subscriber::EnvFilter;

use super::terminal::Terminal;
use super::{Exit, banner, refuse};
use crate::config::{self, LogFormat, LogSettings, Sources};
use crate::server::{self, Addresses};

/// The first line on standard output with `--json`, for whoever started the server.
#[derive(Serialize)]
struct Ready {
    event: &'static str,
    public: SocketAddr,
    admin: SocketAddr,
    pid: u32,
}

/// Loads the configuration, runs the server, says where it listens.
pub(super) fn run(sources: &Sources, terminal: &mut Terminal) -> io::Result<Exit> {
    let loaded = match config::load(sources) {
        Ok(loaded) => loaded,
        Err(problems) => return refuse(&problems, terminal),
    };
    start_logging(&loaded.settings.log);
    let settings = loaded.settings.clone();
    let announce = |addresses: &Addresses| {
        let Addresses { public, admin } = *addresses;
        let ready = Ready { event: "ready", public, admin, pid: std::process::id() };
        // A closed standard output is no reason to stop serving.
        let _ = terminal.answer(&ready, || banner::text(&loaded, addresses));
    };
    let load =
        || config::load(sources).map(|loaded| loaded.settings).map_err(|problems| problems.to_string());
    match server::run(settings, &load, announce) {
        Ok(()) => Ok(Exit::Fine),
        Err(error) => {
            let text = with_causes(&error);
            terminal.complain(&text);
            if terminal.json() {
                terminal.object(&json!({ "event": "failed", "error": text }))?;
            }
            Ok(Exit::Failed)
        }
    }
}

fn start_logging(log: &LogSettings) {
    // The configuration has checked the filter.
    let filter = EnvFilter::try_new(&log.level).unwrap_or_default();
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal());
    // Only a second start in one process (tests) finds a logger in place, and keeps it.
    let _ = match log.format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
}

fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
