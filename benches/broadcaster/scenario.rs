//! The names of what is measured, and the two messages between the orchestrator and the load generator.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::wire::Credentials;

/// One kind of work. The order is that of the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scenario {
    /// 1,000 subscribers, as fast as 8 and 32 outstanding publishes allow
    Saturated,
    /// 1,000 subscribers, 25 publishes a second
    Paced,
    /// 32 publishes at once to each of 10, 30, 100, 300 and 1,000 subscribers
    Bursts,
    /// 5,000 channels with two subscribers each
    Narrow,
    /// Batches of 10 events to 1,000 channels with two subscribers each
    Batch,
    /// 500 users join one presence channel, 64 at a time
    Presence,
    /// Client events between 100 pairs on private channels
    ClientEvents,
    /// 10 subscribers, 100 publishes a second: time from publish to receive
    Latency,
    /// Memory of 20,000 subscribed connections, before and after a broadcast to all
    Idle,
    /// Connect, subscribe and close, 32 at a time
    Connect,
    /// Repeated storms of connections: memory and descriptors afterwards
    Churn,
    /// One of 1,000 readers stops reading
    StalledReader,
    /// 10,000 subscribes and unsubscribes a second beside a fan-out, without and with webhooks
    Webhooks,
}

impl Scenario {
    /// The name on the command line.
    pub fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }
}

/// A running Pusher server.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Target {
    pub name: String,
    pub address: SocketAddr,
    /// Where switchboard has its metrics.
    pub admin: Option<SocketAddr>,
    pub pid: u32,
    pub credentials: Credentials,
}

/// What one run of the load generator has to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Job {
    pub target: Target,
    pub scenario: Scenario,
    /// A second server, of a scenario that compares two: the same with a webhook.
    pub beside: Option<Target>,
    pub round: u32,
    /// Shorter phases and fewer connections.
    pub quick: bool,
}

/// What one run of the load generator found.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Outcome {
    /// Measured values by name; the name carries the unit.
    pub metrics: BTreeMap<String, f64>,
    /// Lost, doubled, reordered or refused messages and other broken promises. Empty in a good run.
    pub violations: Vec<String>,
    /// What a reader of the figures should know.
    pub notes: Vec<String>,
}

impl Outcome {
    /// Records one value.
    pub fn set(&mut self, name: impl Into<String>, value: f64) {
        self.metrics.insert(name.into(), value);
    }
}
