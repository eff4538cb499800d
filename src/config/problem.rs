//! What is wrong with a configuration, and where.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};

/// Where an effective value, or a problem, comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Origin {
    /// Built in.
    #[default]
    Default,
    /// A file; `line` counts from 1 and is absent when the whole file is meant.
    File {
        /// As the operator named it; shared by all values of the file.
        path: Arc<str>,
        /// Line of the key.
        line: Option<usize>,
    },
    /// An environment variable.
    Environment {
        /// Its name.
        name: Arc<str>,
        /// File and line when it was read with `--env-file`.
        file: Option<(Arc<str>, usize)>,
    },
    /// A command-line flag, with its dashes.
    Flag(&'static str),
}

impl Origin {
    pub(crate) fn whole_file(path: &Path) -> Self {
        Self::File { path: shown(path), line: None }
    }

    pub(crate) fn line(path: &Path, line: usize) -> Self {
        Self::File { path: shown(path), line: Some(line) }
    }
}

/// A path as [`Origin`] holds it.
pub(crate) fn shown(path: &Path) -> Arc<str> {
    path.display().to_string().into()
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line: None } => f.write_str(path),
            Self::File { path, line: Some(line) } => write!(f, "{path}:{line}"),
            Self::Environment { name, file: None } => write!(f, "environment {name}"),
            Self::Environment { name, file: Some((path, line)) } => write!(f, "{path}:{line} {name}"),
            Self::Flag(name) => write!(f, "flag {name}"),
        }
    }
}

/// Origin of every value that is not a default, by dotted key (`server.bind`, `apps.0.key`).
pub type Origins = BTreeMap<String, Origin>;

/// One thing to correct. Never contains a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where to look.
    pub origin: Origin,
    /// Dotted key; empty when a whole file is meant.
    pub key: Box<str>,
    /// What is wrong and what to write instead.
    pub message: String,
    /// Nearest known key, for an unknown one.
    pub nearest: Option<Box<str>>,
    /// What to know about the nearest key, as a sentence without its full stop.
    pub advice: Option<&'static str>,
}

impl Problem {
    pub(crate) fn new(origin: Origin, key: impl Into<String>, message: impl Into<String>) -> Self {
        let key = key.into().into_boxed_str();
        Self { origin, key, message: message.into(), nearest: None, advice: None }
    }

    /// The problem as one JSON object: `where`, `key`, `message`, `nearest`, `advice`.
    pub fn to_json(&self) -> Value {
        json!({
            "where": self.origin.to_string(),
            "key": self.key,
            "message": self.message,
            "nearest": self.nearest,
            "advice": self.advice,
        })
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A value that is wrong by default has no place the operator wrote; the key says it all.
        if self.origin != Origin::Default {
            write!(f, "{}: ", self.origin)?;
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.message)?;
        if let Some(nearest) = &self.nearest {
            write!(f, "; did you mean {nearest}?")?;
        }
        match self.advice {
            Some(advice) => write!(f, " {advice}."),
            None => Ok(()),
        }
    }
}

/// Every problem of one configuration. Never empty.
#[derive(Debug, thiserror::Error)]
#[error("{}", lines(.0))]
pub struct Problems(pub Vec<Problem>);

fn lines(problems: &[Problem]) -> String {
    problems.iter().map(Problem::to_string).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_names_place_key_fault_and_nearest_key() {
        let origin = Origin::line(Path::new("switchboard.toml"), 3);
        let mut problem = Problem::new(origin, "server.bnid", "unknown key");
        assert_eq!(problem.to_string(), "switchboard.toml:3: server.bnid: unknown key");
        problem.nearest = Some("server.bind".into());
        assert_eq!(
            problem.to_string(),
            "switchboard.toml:3: server.bnid: unknown key; did you mean server.bind?"
        );
        problem.advice = Some("Write an address");
        assert!(problem.to_string().ends_with("did you mean server.bind? Write an address."), "{problem}");
    }

    #[test]
    fn origins_read_as_places() {
        let environment = |file| Origin::Environment { name: "PUSHER_APP_ID".into(), file };
        for (origin, text) in [
            (Origin::Default, "default"),
            (Origin::whole_file(Path::new("a.toml")), "a.toml"),
            (Origin::line(Path::new("a.toml"), 7), "a.toml:7"),
            (environment(None), "environment PUSHER_APP_ID"),
            (environment(Some((".env".into(), 2))), ".env:2 PUSHER_APP_ID"),
            (Origin::Flag("--bind"), "flag --bind"),
        ] {
            assert_eq!(origin.to_string(), text);
        }
    }
}
