//! Counters and gauges in Prometheus' text format.

use std::fmt::Write;

use crate::hub::Hub;

/// All metrics, as of now; counters of the fan-out are at most a second old.
pub fn render(hub: &Hub) -> String {
    let mut out = String::new();
    let total = hub.stats().total();
    metric(&mut out, "switchboard_connections", "gauge", "Open WebSocket connections", hub.connections());
    for (name, help, value) in [
        ("switchboard_connections_opened_total", "WebSocket connections established", total.opened),
        ("switchboard_deliveries_total", "Events handed to connections", total.delivered),
        ("switchboard_client_messages_total", "Messages received from clients", total.received),
        ("switchboard_client_faults_total", "Client messages answered with an error", total.faults),
        (
            "switchboard_slow_consumers_total",
            "Connections closed because they did not read",
            total.slow_consumers,
        ),
        (
            "switchboard_ping_timeouts_total",
            "Connections closed because they did not answer a ping",
            total.timed_out,
        ),
    ] {
        metric(&mut out, name, "counter", help, value);
    }
    header(&mut out, "switchboard_shard_sockets", "gauge", "Open sockets of a shard, HTTP included");
    for (shard, sockets) in hub.shard_loads().into_iter().enumerate() {
        let _ = writeln!(out, "switchboard_shard_sockets{{shard=\"{shard}\"}} {sockets}");
    }
    let mut apps = hub.apps();
    apps.sort_by(|a, b| a.id().cmp(b.id()));
    header(&mut out, "switchboard_app_connections", "gauge", "Open WebSocket connections of an app");
    for app in &apps {
        let _ = writeln!(out, "switchboard_app_connections{{app=\"{}\"}} {}", app.id(), app.connections());
    }
    header(&mut out, "switchboard_app_channels", "gauge", "Occupied channels of an app");
    for app in &apps {
        let _ = writeln!(out, "switchboard_app_channels{{app=\"{}\"}} {}", app.id(), app.occupied_channels());
    }
    out
}

fn metric(out: &mut String, name: &str, kind: &str, help: &str, value: impl std::fmt::Display) {
    header(out, name, kind, help);
    let _ = writeln!(out, "{name} {value}");
}

fn header(out: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
}
