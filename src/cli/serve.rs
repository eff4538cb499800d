//! `switchboard serve`.

use std::io;
use std::net::SocketAddr;

use serde::Serialize;
use serde_json::json;

use super::terminal::Terminal;
use super::{Exit, banner, refuse};
use crate::config::{self, Loaded, LogSettings, Origin, Sources};
use crate::logging::{self, Reader, traffic};
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
    let (log, reader) = log_for(&loaded, terminal.json());
    logging::start(&log, reader);
    for hint in &loaded.hints {
        tracing::warn!("{hint}");
    }
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
            let text = error.to_string();
            terminal.complain(&text);
            if terminal.json() {
                terminal.object(&json!({ "event": "failed", "error": text }))?;
            }
            Ok(Exit::Failed)
        }
    }
}

/// In development mode the log is for the developer in front of it, who wants to see what clients do; unless
/// programs read the output, or the settings say otherwise.
fn log_for(loaded: &Loaded, is_for_programs: bool) -> (LogSettings, Reader) {
    let mut log = loaded.settings.log.clone();
    if !loaded.settings.development || is_for_programs {
        return (log, Reader::Operator);
    }
    if matches!(loaded.origins.get("log.level"), None | Some(Origin::Default)) {
        log.level = format!("{},{}=debug", log.level, traffic::TARGET);
    }
    (log, Reader::Developer)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loaded(environment: &[(&str, &str)], development: bool) -> Loaded {
        let environment = environment.iter().map(|(name, value)| (name.into(), value.into())).collect();
        let mut loaded = config::load(&Sources { environment, ..Sources::default() }).expect("valid");
        loaded.settings.development = development;
        loaded
    }

    #[test]
    fn a_developer_sees_what_clients_do_unless_the_level_is_set() {
        let level = |loaded: &Loaded, json| log_for(loaded, json);
        let (log, reader) = level(&loaded(&[], true), false);
        assert_eq!((log.level.as_str(), reader), ("info,switchboard::traffic=debug", Reader::Developer));
        let chosen = loaded(&[("SWITCHBOARD__LOG__LEVEL", "warn")], true);
        let (log, reader) = level(&chosen, false);
        assert_eq!((log.level.as_str(), reader), ("warn", Reader::Developer));
        for (loaded, json) in [(loaded(&[], false), false), (loaded(&[], true), true)] {
            let (log, reader) = level(&loaded, json);
            assert_eq!((log.level.as_str(), reader), ("info", Reader::Operator));
        }
    }
}
