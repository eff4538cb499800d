//! Counters and gauges in Prometheus' text format.

use std::collections::HashMap;
use std::fmt::Write;

use super::Admin;
use crate::hub::{Hub, OVER_BUDGET, REFUSED};
use crate::outbox::OutboxStats;
use crate::routing::{Counter, Depth, Lanes, LatencyHistogram, Router, ThrottledBy};
use crate::storage::StoreSize;
use crate::webhooks::{Standing, Webhooks};

/// States of an app's line to the carrier.
const BREAKER_STATES: [&str; 4] = ["closed", "open", "probing", "paused"];

/// All metrics, as of now; counters of the fan-out are at most a second old.
pub(super) async fn render(admin: &Admin) -> String {
    let mut out = broadcaster(&admin.hub);
    let mut depths = Vec::new();
    if let Some(router) = &admin.router {
        messages(&mut out, &admin.hub, router, &mut depths).await;
    }
    if let Some(outbox) = &admin.outbox {
        store_size(&mut out, outbox.database().size());
        outbox_counters(&mut out, &outbox.stats());
    }
    if let Some(webhooks) = &admin.webhooks {
        webhook_figures(&mut out, webhooks, &mut depths).await;
    }
    if !depths.is_empty() {
        queue_depths(&mut out, &depths);
    }
    out
}

fn store_size(out: &mut String, size: StoreSize) {
    metric(out, "switchboard_store_bytes", "gauge", "Bytes of the message store in use", size.used);
    if let Some(max) = size.max {
        metric(out, "switchboard_store_max_bytes", "gauge", "Bytes that it may have (store.max_size)", max);
    }
    let help = "1 while new messages and files are refused because the store or its disk is full";
    metric(out, "switchboard_store_full", "gauge", help, u8::from(size.is_full));
}

fn outbox_counters(out: &mut String, stats: &OutboxStats) {
    for (name, help, value) in [
        ("switchboard_broadcasts_total", "Events of the message router that were published", stats.published),
        (
            "switchboard_broadcasts_expired_total",
            "Broadcasts that were left over from a crash and too old to be sent",
            stats.expired,
        ),
        ("switchboard_outbox_delivered_total", "Callbacks and webhooks that were taken", stats.delivered),
        (
            "switchboard_outbox_failed_tries_total",
            "Tries of callbacks and webhooks that failed",
            stats.failed_tries,
        ),
        (
            "switchboard_outbox_given_up_total",
            "Callbacks and webhooks given up after their time",
            stats.given_up,
        ),
        (
            "switchboard_outbox_dropped_total",
            "Callbacks and webhooks deleted because too many waited",
            stats.dropped,
        ),
    ] {
        metric(out, name, "counter", help, value);
    }
}

async fn webhook_figures(out: &mut String, webhooks: &Webhooks, depths: &mut Vec<(&'static str, Depth)>) {
    let help = "What happened and could not be followed for webhooks, because too much happened at once";
    metric(out, "switchboard_webhook_lost_total", "counter", help, webhooks.lost());
    let help = "Channels, members and users that webhooks follow";
    metric(out, "switchboard_webhook_tracked", "gauge", help, webhooks.tracked());
    let standings = match webhooks.standings().await {
        Ok(standings) => standings,
        Err(error) => return tracing::warn!(%error, "the metrics lack the webhooks: the store can't be read"),
    };
    type Figure = fn(&Standing) -> i64;
    let figures: [(&str, &str, &str, Figure); 4] = [
        ("switchboard_webhook_waiting", "gauge", "Requests to a webhook that wait", |it| it.waiting),
        (
            "switchboard_webhook_failed",
            "gauge",
            "Requests to a webhook that were given up and can be sent again",
            |it| it.failed,
        ),
        (
            "switchboard_webhook_held_back",
            "gauge",
            "Channels, members, users and connections that a webhook is told of when there is room",
            |it| it.held_back,
        ),
        (
            "switchboard_webhook_dropped_total",
            "counter",
            "Events that found no room among those that wait for a webhook",
            |it| it.dropped,
        ),
    ];
    for (name, kind, help, figure) in figures {
        header(out, name, kind, help);
        for webhook in &standings {
            let value = figure(webhook);
            let (app, webhook) = (&webhook.target.app_id, &webhook.name);
            let _ = writeln!(out, "{name}{{app=\"{app}\",webhook=\"{webhook}\"}} {value}");
        }
    }
    let count = standings.iter().map(|webhook| webhook.waiting).sum();
    let oldest_seconds = standings.iter().map(|webhook| webhook.oldest_seconds).fold(0.0, f64::max);
    depths.push(("webhooks", Depth { count, oldest_seconds }));
}

fn broadcaster(hub: &Hub) -> String {
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
    let name = "switchboard_over_budget_total";
    header(&mut out, name, "counter", "Connections closed because they used up a budget of [server.client]");
    for (reason, value) in OVER_BUDGET.into_iter().zip(total.over_budget) {
        let _ = writeln!(out, "{name}{{reason=\"{reason}\"}} {value}");
    }
    let name = "switchboard_connections_refused_total";
    header(
        &mut out,
        name,
        "counter",
        "Connections closed with 4100 or 4004 because a limit of connections was reached",
    );
    for (limit, value) in REFUSED.into_iter().zip(hub.refused()) {
        let _ = writeln!(out, "{name}{{limit=\"{limit}\"}} {value}");
    }
    let help = "Memory of unfinished messages, requests and what waits for slow clients, as [server] memory limits it";
    metric(&mut out, "switchboard_memory_used_bytes", "gauge", help, hub.memory().used());
    let help = "Connections and requests closed because the memory was used up and they held the most of it";
    metric(&mut out, "switchboard_memory_closed_total", "counter", help, hub.memory().closed());
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
    header(
        &mut out,
        "switchboard_app_cached_bytes",
        "gauge",
        "Memory of the events that cache channels remember",
    );
    for app in &apps {
        let _ = writeln!(out, "switchboard_app_cached_bytes{{app=\"{}\"}} {}", app.id(), app.cached().0);
    }
    let name = "switchboard_app_cache_forgotten_total";
    header(
        &mut out,
        name,
        "counter",
        "Events of cache channels that were forgotten because cache_size was reached",
    );
    for app in &apps {
        let _ = writeln!(out, "{name}{{app=\"{}\"}} {}", app.id(), app.cached().1);
    }
    out
}

async fn messages(out: &mut String, hub: &Hub, router: &Router, depths: &mut Vec<(&'static str, Depth)>) {
    let mut described = "";
    for counter in Counter::ALL {
        let (name, labels, help) = counter.describe();
        if name != described {
            header(out, name, "counter", help);
            described = name;
        }
        let braces = if labels.is_empty() { String::new() } else { format!("{{{labels}}}") };
        let _ = writeln!(out, "{name}{braces} {}", router.counters().get(*counter));
    }
    times_to_broadcast(out, router);
    let apps = apps_with_carrier(hub);
    carrier(out, router, &apps);
    match router.lanes().await {
        Ok(lanes) => lane_depths(out, &apps, &lanes),
        Err(error) => {
            tracing::warn!(%error, "the metrics lack the carrier's queues: the store can't be read")
        }
    }
    match router.queues().await {
        Ok(queues) => {
            depths.extend([
                ("carrier", queues.jobs),
                ("broadcasts", queues.broadcasts),
                ("callbacks", queues.callbacks),
                ("carrier_webhooks", queues.inbox),
            ]);
            let help = "Messages of which nobody knows whether the carrier has them";
            metric(out, "switchboard_messages_unconfirmed", "gauge", help, queues.held);
        }
        // Told by /ready; the other figures are still worth having.
        Err(error) => {
            tracing::warn!(%error, "the metrics lack the depths of the queues: the store can't be read")
        }
    }
}

/// The ids of apps that can send to external numbers.
fn apps_with_carrier(hub: &Hub) -> Vec<String> {
    let apps = hub.apps();
    let has_carrier = apps.iter().filter(|app| app.app().settings.routing.telnyx.api_key.is_some());
    let mut ids: Vec<String> = has_carrier.map(|app| app.id().to_owned()).collect();
    ids.sort();
    ids
}

fn carrier(out: &mut String, router: &Router, apps: &[String]) {
    header(out, "switchboard_carrier_breaker", "gauge", "1 for the state an app's line to the carrier is in");
    for app in apps {
        let line = router.line(app);
        for state in BREAKER_STATES {
            let is_it = u8::from(line.breaker == state);
            let _ = writeln!(out, "switchboard_carrier_breaker{{app=\"{app}\",state=\"{state}\"}} {is_it}");
        }
    }
    let name = "switchboard_throttle_waits_total";
    header(
        out,
        name,
        "counter",
        "Messages that had to wait for their number's rate or a pause of the carrier",
    );
    for app in apps {
        for (by, word) in ThrottledBy::ALL {
            let count = router.counters().throttle_waits(app, by);
            let _ = writeln!(out, "{name}{{app=\"{app}\",by=\"{word}\"}} {count}");
        }
    }
}

fn lane_depths(out: &mut String, apps: &[String], lanes: &HashMap<String, Lanes>) {
    let of = |app: &String| lanes.get(app).copied().unwrap_or_default();
    header(
        out,
        "switchboard_lanes_waiting",
        "gauge",
        "Pairs of numbers with messages that wait for the carrier",
    );
    for app in apps {
        let _ = writeln!(out, "switchboard_lanes_waiting{{app=\"{app}\"}} {}", of(app).waiting);
    }
    header(out, "switchboard_deepest_lane", "gauge", "Messages that wait in the longest of these lanes");
    for app in apps {
        let _ = writeln!(out, "switchboard_deepest_lane{{app=\"{app}\"}} {}", of(app).deepest);
    }
}

/// A histogram, by app.
fn times_to_broadcast(out: &mut String, router: &Router) {
    let name = "switchboard_send_to_broadcast_seconds";
    header(out, name, "histogram", "Time from the call to send a message to its broadcast");
    for LatencyHistogram { app_id, buckets, count, sum } in router.latencies() {
        for (bound, count) in buckets {
            let _ = writeln!(out, "{name}_bucket{{app=\"{app_id}\",le=\"{bound}\"}} {count}");
        }
        let _ = writeln!(out, "{name}_bucket{{app=\"{app_id}\",le=\"+Inf\"}} {count}");
        let _ = writeln!(out, "{name}_sum{{app=\"{app_id}\"}} {sum}");
        let _ = writeln!(out, "{name}_count{{app=\"{app_id}\"}} {count}");
    }
}

fn queue_depths(out: &mut String, depths: &[(&str, Depth)]) {
    header(out, "switchboard_queue_depth", "gauge", "What waits to be done");
    for (queue, depth) in depths {
        let _ = writeln!(out, "switchboard_queue_depth{{queue=\"{queue}\"}} {}", depth.count);
    }
    header(out, "switchboard_queue_oldest_seconds", "gauge", "Age of the oldest that waits");
    for (queue, depth) in depths {
        let seconds = depth.oldest_seconds;
        let _ = writeln!(out, "switchboard_queue_oldest_seconds{{queue=\"{queue}\"}} {seconds}");
    }
}

fn metric(out: &mut String, name: &str, kind: &str, help: &str, value: impl std::fmt::Display) {
    header(out, name, kind, help);
    let _ = writeln!(out, "{name} {value}");
}

fn header(out: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
}
