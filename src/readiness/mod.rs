//! Whether this process can do its work, part by part. A store that is away takes the message router and webhooks
//! along, but not the broadcaster: events are published without it.
//!
//! May import `hub`, `storage`, `config`.

use serde_json::{Map, Value, json};

use crate::config::ReadyWhen;
use crate::hub::Hub;
use crate::storage::Database;

/// The parts of the process. Cloning shares them.
#[derive(Clone)]
pub struct Readiness {
    /// Connections and events.
    hub: Hub,
    /// `None`: no app needs a store.
    database: Option<Database>,
    parts: Vec<Part>,
    ready: ReadyWhen,
}

/// A part of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Connections, channels and the HTTP API that publishes to them.
    Broadcasting,
    /// The message router.
    Router,
    /// Webhooks of channels.
    Webhooks,
    /// The database.
    Store,
}

/// What is said of one part, or of all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Whether the answer's status is 200, and not 503.
    pub is_ready: bool,
    /// The answer's body.
    pub body: String,
}

/// How a part is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Ready,
    Unavailable,
    /// The process ends.
    Ending,
}

impl Part {
    const ALL: [Self; 4] = [Self::Broadcasting, Self::Router, Self::Webhooks, Self::Store];

    fn name(self) -> &'static str {
        match self {
            Self::Broadcasting => "broadcasting",
            Self::Router => "router",
            Self::Webhooks => "webhooks",
            Self::Store => "store",
        }
    }
}

impl State {
    fn name(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Unavailable => "unavailable",
            Self::Ending => "ending",
        }
    }
}

impl Readiness {
    /// Of a process with these parts besides broadcasting and, with a `database`, the store.
    pub fn new(hub: Hub, database: Option<Database>, services: &[Part], ready: ReadyWhen) -> Self {
        let has = |part: &Part| match part {
            Part::Broadcasting => true,
            Part::Store => database.is_some(),
            other => services.contains(other),
        };
        let parts = Part::ALL.into_iter().filter(has).collect();
        Self { hub, database, parts, ready }
    }

    /// Of all parts: which one is degraded, and whether a load balancer shall send clients here.
    pub fn of_all(&self) -> Report {
        let states: Vec<_> = self.parts.iter().map(|part| (*part, self.state(*part))).collect();
        let status = match &states {
            states if states.iter().any(|(_, state)| *state == State::Ending) => "ending",
            states if states.iter().all(|(_, state)| *state == State::Ready) => "ready",
            _ => "degraded",
        };
        let is_ready = match self.ready {
            ReadyWhen::Broadcasting => self.state(Part::Broadcasting) == State::Ready,
            ReadyWhen::All => status == "ready",
        };
        let parts: Map<String, Value> =
            states.iter().map(|(part, state)| (part.name().to_owned(), state.name().into())).collect();
        Report { is_ready, body: json!({ "status": status, "parts": parts }).to_string() }
    }

    /// Of the part with this name; `None`: this process has no such part.
    pub fn of_part(&self, name: &str) -> Option<Report> {
        let state = self.state(*self.parts.iter().find(|part| part.name() == name)?);
        let body = json!({ "status": state.name() }).to_string();
        Some(Report { is_ready: state == State::Ready, body })
    }

    fn state(&self, part: Part) -> State {
        let has_store = || self.database.as_ref().is_none_or(Database::is_available);
        match part {
            _ if self.hub.is_ending() => State::Ending,
            Part::Broadcasting => State::Ready,
            Part::Router | Part::Webhooks | Part::Store if has_store() => State::Ready,
            Part::Router | Part::Webhooks | Part::Store => State::Unavailable,
        }
    }
}
