//! The log: how it is started and how its lines look.
//!
//! [`traffic`] names the lines about connections and requests, [`short`] is the format of development mode,
//! [`seldom`] limits lines that strangers can cause. `docs/logging.md` explains all of it to operators.
//!
//! May import `config`.

pub mod seldom;
mod short;
pub mod traffic;

use std::io::{self, IsTerminal};

use time::UtcOffset;
use tracing_subscriber::EnvFilter;

use crate::config::{LogFormat, LogSettings};
use short::Short;

/// For whom the lines are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reader {
    /// An operator, or a collector of logs: complete lines.
    Operator,
    /// A developer in front of a terminal: short lines.
    Developer,
}

/// Starts the log on standard error. Call before other threads exist: the local time zone can be read only then.
pub fn start(log: &LogSettings, reader: Reader) {
    // The configuration has checked the filter.
    let filter = EnvFilter::try_new(&log.level).unwrap_or_default();
    let is_coloured = io::stderr().is_terminal() && !is_set("NO_COLOR");
    let builder =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_ansi(is_coloured);
    // Only a second start in one process (tests) finds a logger in place, and keeps it.
    let _ = match (log.format, reader) {
        (LogFormat::Json, _) => builder.json().try_init(),
        (LogFormat::Text, Reader::Operator) => builder.try_init(),
        (LogFormat::Text, Reader::Developer) => {
            let offset = UtcOffset::current_local_offset().unwrap_or(UtcOffset::UTC);
            builder.event_format(Short::new(offset)).try_init()
        }
    };
}

/// Whether an environment variable is there and not empty (the rule of no-color.org).
fn is_set(name: &str) -> bool {
    std::env::var_os(name).is_some_and(|value| !value.is_empty())
}
