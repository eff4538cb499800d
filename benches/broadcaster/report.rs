//! What is made of the samples: medians, ratios, and the comparison with the budget.

use std::fmt::Write as _;

use serde::Serialize;

use crate::scenario::{Outcome, Scenario};

/// One run of the load generator.
#[derive(Debug, Serialize)]
pub struct Sample {
    pub scenario: Scenario,
    pub round: u32,
    pub server: String,
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// What a row's budget limits.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Basis {
    /// The value divided by that of `raw-each` in the same round.
    Ratio,
    /// The value itself.
    Value,
}

/// One line of the report.
struct Row {
    scenario: Scenario,
    metric: &'static str,
    label: &'static str,
    unit: &'static str,
    basis: Basis,
    must: Option<f64>,
    aim: Option<f64>,
}

const fn ratio(scenario: Scenario, metric: &'static str, label: &'static str, budget: [f64; 2]) -> Row {
    Row {
        scenario,
        metric,
        label,
        unit: "µs",
        basis: Basis::Ratio,
        must: Some(budget[0]),
        aim: Some(budget[1]),
    }
}

const fn value(
    scenario: Scenario,
    metric: &'static str,
    label: &'static str,
    unit: &'static str,
    must: f64,
    aim: Option<f64>,
) -> Row {
    Row { scenario, metric, label, unit, basis: Basis::Value, must: Some(must), aim }
}

const fn plain(scenario: Scenario, metric: &'static str, label: &'static str, unit: &'static str) -> Row {
    Row { scenario, metric, label, unit, basis: Basis::Ratio, must: None, aim: None }
}

/// The budget. Upper limits: `must` first, then what is aimed at.
const ROWS: &[Row] = &[
    ratio(
        Scenario::Saturated,
        "us_per_delivery_32",
        "saturated, 32 outstanding: CPU per delivery",
        [0.15, 0.07],
    ),
    plain(Scenario::Saturated, "us_per_delivery_8", "saturated, 8 outstanding: CPU per delivery", "µs"),
    ratio(Scenario::Paced, "us_per_delivery", "paced 25/s: CPU per delivery", [1.10, 0.86]),
    plain(Scenario::Paced, "p50_us", "paced 25/s: median publish to receive", "µs"),
    ratio(Scenario::Bursts, "us_per_delivery", "bursts of 32, all sizes: CPU per delivery", [0.25, 0.12]),
    plain(Scenario::Bursts, "us_per_delivery_10", "bursts of 32 to 10: CPU per delivery", "µs"),
    plain(Scenario::Bursts, "us_per_delivery_1000", "bursts of 32 to 1,000: CPU per delivery", "µs"),
    ratio(Scenario::Narrow, "us_per_publish", "narrow, 2 subscribers each: CPU per publish", [2.0, 1.3]),
    ratio(Scenario::Batch, "us_per_event", "batch of 10: CPU per event", [1.5, 1.1]),
    value(Scenario::Presence, "server_cpu_s", "500 join a presence channel: CPU", "s", 1.2, Some(0.5)),
    ratio(Scenario::ClientEvents, "us_per_event", "client events: CPU per event", [2.0, 1.3]),
    ratio(Scenario::Latency, "p50_us", "light load: median publish to receive", [1.5, 1.1]),
    plain(Scenario::Latency, "p99_us", "light load: 99 % publish to receive", "µs"),
    value(Scenario::Idle, "pss_kib_subscribed", "idle connection: memory", "KiB", 3.5, Some(2.5)),
    value(
        Scenario::Idle,
        "pss_kib_after_broadcast",
        "idle connection after a broadcast: memory",
        "KiB",
        3.5,
        Some(2.5),
    ),
    ratio(Scenario::Connect, "us_per_connection", "connect, subscribe, close: CPU", [3.0, 2.0]),
    value(Scenario::Churn, "left_mib", "memory left after storms", "MiB", 4.0, Some(1.0)),
    value(Scenario::Churn, "growth_mib", "growth from first storm to last", "MiB", 1.0, None),
    value(Scenario::Churn, "descriptors_leaked", "descriptors left after storms", "", 0.0, None),
    value(Scenario::StalledReader, "memory_growth_mib", "stalled reader: memory growth", "MiB", 4.0, None),
    value(
        Scenario::StalledReader,
        "p50_ratio",
        "stalled reader: others' median, during / before",
        "×",
        1.25,
        None,
    ),
    plain(Scenario::StalledReader, "p99_ratio", "stalled reader: others' 99 %, during / before", "×"),
    value(
        Scenario::Webhooks,
        "shard_ratio_reloads",
        "webhooks on / off, nothing told: CPU per delivery",
        "×",
        1.05,
        None,
    ),
    plain(Scenario::Webhooks, "extra_us_per_step", "the same: more for each (un)subscribe", "µs"),
    plain(Scenario::Webhooks, "process_ratio_reloads", "the same: CPU of the whole process", "×"),
    plain(Scenario::Webhooks, "p50_ratio_reloads", "the same: median publish to receive", "×"),
    plain(Scenario::Webhooks, "p99_ratio_reloads", "the same: 99 % publish to receive", "×"),
    value(
        Scenario::Webhooks,
        "shard_ratio",
        "webhooks on / off, some told: CPU per delivery",
        "×",
        1.05,
        None,
    ),
    plain(Scenario::Webhooks, "process_ratio", "the same: CPU of the whole process", "×"),
    plain(Scenario::Webhooks, "p50_ratio", "the same: median publish to receive", "×"),
    plain(Scenario::Webhooks, "p99_ratio", "the same: 99 % publish to receive", "×"),
    plain(Scenario::Webhooks, "told_per_second", "the same: requests to the endpoint, each second", ""),
    plain(Scenario::Webhooks, "growth_mib_on", "the same: memory growth with webhooks", "MiB"),
    value(Scenario::Webhooks, "lost", "webhooks: not followed because the queue was full", "", 0.0, None),
];

/// A row with its figures, as written to the JSON file.
#[derive(Debug, Serialize)]
pub struct Line {
    scenario: Scenario,
    metric: &'static str,
    label: &'static str,
    unit: &'static str,
    must: Option<f64>,
    aims_at: Option<f64>,
    cells: Vec<Option<Cell>>,
    /// Of the subject: `None` without figures or without a budget.
    pub must_met: Option<bool>,
    aim_met: Option<bool>,
}

#[derive(Clone, Copy, Debug, Serialize)]
struct Cell {
    median: f64,
    /// To `raw-each`, the median of the rounds' ratios.
    ratio: Option<f64>,
}

/// The rows of one scenario. `subject` is the server that the budget is for.
pub fn lines(scenario: Scenario, samples: &[Sample], servers: &[String], subject: &str) -> Vec<Line> {
    let rows = ROWS.iter().filter(|row| row.scenario == scenario);
    rows.map(|row| {
        let cells: Vec<_> = servers.iter().map(|server| cell(row, samples, server)).collect();
        let place = servers.iter().position(|server| server == subject);
        let judged = place.map(|place| match (cells[place], row.basis) {
            (Some(cell), Basis::Ratio) => cell.ratio,
            (Some(cell), Basis::Value) => Some(cell.median),
            (None, _) => None,
        });
        // A run that broke off has no figure: that is not within any limit. Without `raw-each` beside it a
        // ratio cannot be judged.
        let can_judge = row.basis == Basis::Value || servers.iter().any(|server| server == "raw-each");
        let meets = |limit: Option<f64>| {
            let (figure, limit) = (judged.filter(|_| can_judge)?, limit?);
            Some(figure.is_some_and(|figure| figure <= limit))
        };
        Line {
            scenario,
            metric: row.metric,
            label: row.label,
            unit: row.unit,
            must: row.must,
            aims_at: row.aim,
            must_met: meets(row.must),
            aim_met: meets(row.aim),
            cells,
        }
    })
    .collect()
}

fn cell(row: &Row, samples: &[Sample], server: &str) -> Option<Cell> {
    let of = |server: &str, round: u32| {
        let mut found =
            samples.iter().filter(|s| s.scenario == row.scenario && s.server == server && s.round == round);
        found.next().and_then(|sample| sample.outcome.metrics.get(row.metric)).copied()
    };
    let rounds = samples.iter().map(|sample| sample.round).max()?;
    let values: Vec<_> = (0..=rounds).filter_map(|round| of(server, round)).collect();
    let ratios = (0..=rounds).filter_map(|round| Some(of(server, round)? / of("raw-each", round)?)).collect();
    let ratio = if row.basis == Basis::Ratio { median(ratios) } else { None };
    Some(Cell { median: median(values)?, ratio })
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(values[middle]),
        _ => Some((values[middle - 1] + values[middle]) / 2.0),
    }
}

/// A Markdown table.
pub fn table(lines: &[Line], servers: &[String]) -> String {
    let mut rows = vec![vec!["work".to_owned()]];
    rows[0].extend(servers.iter().cloned());
    rows[0].extend(["must", "aims at", "verdict"].map(str::to_owned));
    rows.extend(lines.iter().map(|line| {
        let mut row = vec![line.label.to_owned()];
        row.extend(line.cells.iter().map(|cell| cell.map_or("–".to_owned(), |cell| figure(cell, line.unit))));
        row.extend([limit(line.must), limit(line.aims_at), verdict(line).to_owned()]);
        row
    }));
    layout(&rows)
}

fn layout(rows: &[Vec<String>]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<_> = (0..rows[0].len()).map(width).collect();
    let mut text = String::new();
    for (place, row) in rows.iter().enumerate() {
        for (cell, width) in row.iter().zip(&widths) {
            let _ = write!(text, "| {cell:<width$} ");
        }
        text.push_str("|\n");
        if place == 0 {
            widths.iter().for_each(|width| text.extend(["|", &"-".repeat(width + 2)]));
            text.push_str("|\n");
        }
    }
    text
}

fn figure(cell: Cell, unit: &str) -> String {
    let value = format!("{} {unit}", digits(cell.median));
    match cell.ratio {
        Some(ratio) => format!("{} ({ratio:.2})", value.trim_end()),
        None => value.trim_end().to_owned(),
    }
}

/// Three significant digits, or two decimals near zero.
fn digits(value: f64) -> String {
    match value.abs() {
        large if large >= 100.0 => format!("{value:.0}"),
        middle if middle >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

fn limit(limit: Option<f64>) -> String {
    limit.map_or("–".to_owned(), |limit| format!("≤ {limit}"))
}

fn verdict(line: &Line) -> &'static str {
    match (line.must_met, line.aim_met) {
        (Some(false), _) => "MISSED",
        (Some(true), Some(true)) => "met, aim too",
        (Some(true), _) => "met",
        (None, _) => "",
    }
}
