//! The chart of README: cost per delivery and memory per connection, drawn from the benchmark's JSON.
//!
//! The same document gives the same bytes. Colours follow the reader's light or dark mode.

use std::fmt::Write as _;

use serde_json::Value;

/// Whose bars stand out.
const SUBJECT: &str = "switchboard";
/// Names of what is no server, for readers.
const BARE: &[(&str, &str)] = &[("raw-each", "bare sends, no server")];
/// Of the raw senders only the one that makes one send for each delivery is a measure for others.
const LEFT_OUT: &[&str] = &["raw-join"];

/// A group of bars: scenario and metric of the row, heading, unit.
const PANELS: &[[&str; 4]] = &[
    ["paced", "us_per_delivery", "CPU time per delivery, 25 events a second to 1,000 subscribers", "µs"],
    ["saturated", "us_per_delivery_32", "CPU time per delivery, as many events as the server takes", "µs"],
    ["idle", "pss_kib_subscribed", "Memory per idle connection", "KiB"],
];

const WIDTH: f64 = 720.0;
/// Where bars begin.
const LEFT: f64 = 170.0;
/// Room for the figure behind the longest bar.
const RIGHT: f64 = 90.0;
const HEADING: f64 = 34.0;
const BAR: f64 = 24.0;

const STYLE: &str = "\
text{font:14px system-ui,sans-serif;fill:#1f2328}\
.h{font-weight:600}.n{font-size:12px;fill:#59636e}\
.s{fill:#0969da}.o{fill:#8c959f}\
@media(prefers-color-scheme:dark){text{fill:#e6edf3}.n{fill:#9198a1}.s{fill:#4493f8}.o{fill:#6e7681}}";

struct Bar<'a> {
    name: &'a str,
    value: f64,
}

/// The chart of a document that `--json` wrote.
///
/// # Errors
/// The document has no figures for the chart.
pub fn svg(document: &Value) -> Result<String, String> {
    let (mut body, mut spoken, mut y) = (String::new(), Vec::new(), 0.0);
    for [scenario, metric, heading, unit] in PANELS {
        let bars = bars(document, scenario, metric);
        if bars.is_empty() {
            return Err(format!("there are no figures of {scenario}, {metric}"));
        }
        let _ = writeln!(body, r#"<text class="h" x="0" y="{}">{heading}</text>"#, y + 22.0);
        y += HEADING;
        let longest = bars.iter().map(|bar| bar.value).fold(0.0, f64::max);
        for bar in &bars {
            draw(&mut body, bar, unit, y, (WIDTH - LEFT - RIGHT) * bar.value / longest);
            y += BAR;
        }
        let figures: Vec<_> =
            bars.iter().map(|bar| format!("{} {}", escaped(bar.name), figure(bar.value, unit))).collect();
        spoken.push(format!("{heading}: {}.", figures.join(", ")));
        y += 8.0;
    }
    let _ = writeln!(body, r#"<text class="n" x="0" y="{}">{}</text>"#, y + 16.0, note(document));
    let height = y + 26.0;
    Ok(format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" \
         aria-labelledby=\"t d\">\n<title id=\"t\">Cost per delivery and memory per connection</title>\n\
         <desc id=\"d\">{} Shorter is better.</desc>\n<style>{STYLE}</style>\n{body}</svg>\n",
        spoken.join(" ")
    ))
}

fn draw(body: &mut String, bar: &Bar<'_>, unit: &str, y: f64, length: f64) {
    let class = if bar.name == SUBJECT { "s" } else { "o" };
    let middle = y + 15.0;
    let _ = writeln!(
        body,
        "<text x=\"{}\" y=\"{middle}\" text-anchor=\"end\">{}</text>\
         <rect class=\"{class}\" x=\"{LEFT}\" y=\"{}\" width=\"{:.1}\" height=\"{}\" rx=\"2\"/>\
         <text x=\"{:.1}\" y=\"{middle}\">{}</text>",
        LEFT - 10.0,
        escaped(bar.name),
        y + 2.0,
        length.max(1.0),
        BAR - 6.0,
        LEFT + length.max(1.0) + 8.0,
        figure(bar.value, unit)
    );
}

/// The servers that have a figure, in the order in which they were measured, the subject first.
fn bars<'a>(document: &'a Value, scenario: &str, metric: &str) -> Vec<Bar<'a>> {
    let mut rows = document["rows"].as_array().into_iter().flatten();
    let row = rows.find(|row| row["scenario"] == scenario && row["metric"] == metric);
    let cells = row.and_then(|row| row["cells"].as_array()).into_iter().flatten();
    let servers = document["servers"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let mut bars: Vec<_> = servers
        .zip(cells)
        .filter(|(server, _)| !LEFT_OUT.contains(server))
        // The memory of a sender that keeps nothing about its connections is no measure.
        .filter(|(server, _)| scenario != "idle" || !server.starts_with("raw-"))
        .filter_map(|(server, cell)| Some(Bar { name: readable(server), value: cell["median"].as_f64()? }))
        .collect();
    bars.sort_by_key(|bar| bar.name != SUBJECT);
    bars
}

fn readable(server: &str) -> &str {
    BARE.iter().find(|(name, _)| *name == server).map_or(server, |(_, name)| name)
}

fn figure(value: f64, unit: &str) -> String {
    match value {
        large if large >= 100.0 => format!("{large:.0} {unit}"),
        middle if middle >= 10.0 => format!("{middle:.1} {unit}"),
        small => format!("{small:.2} {unit}"),
    }
}

/// How it was measured.
fn note(document: &Value) -> String {
    let kernel = document["kernel"].as_str().unwrap_or("?");
    let rounds = document["rounds"].as_u64().unwrap_or(1);
    let rounds = if rounds == 1 { "one round".to_owned() } else { format!("median of {rounds} rounds") };
    let quick = if document["quick"] == true { ", quick: a check, not a measurement" } else { "" };
    format!("Shorter is better; {rounds}, one core for the server, Linux {}{quick}", escaped(kernel))
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;")
}
