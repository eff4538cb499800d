//! Puts one steady value in the place of each that differs from run to run.

use serde_json::{Value, json};
use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime};

use super::Example;

/// Names of fields with random texts.
const RANDOM: &[&str] = &["event_id", "next", "telnyx_message_id", "thread_id"];

/// The address that examples show for the server's.
const ADDRESS: &str = "https://ws.portal.example";

/// Settles what is random or depends on the clock.
pub fn settle(example: &mut Example) {
    settle_value("", &mut example.answer);
    if let Some(body) = &mut example.body {
        settle_value("", body);
    }
}

fn settle_value(name: &str, value: &mut Value) {
    match value {
        Value::Object(members) => members.iter_mut().for_each(|(name, value)| settle_value(name, value)),
        Value::Array(items) => items.iter_mut().for_each(|item| settle_value(name, item)),
        Value::String(text) => settle_text(name, text),
        // How often something was tried, and how much waits how long, depends on the pace of the machine.
        Value::Number(_) if name == "attempts" => *value = json!(9),
        Value::Number(_) if name == "count" => *value = json!(0),
        Value::Number(_) if name.ends_with("_seconds") || name.ends_with("_ms") => *value = json!(0),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn settle_text(name: &str, text: &mut String) {
    if let Ok(at) = OffsetDateTime::parse(text, &Rfc3339) {
        *text = steady_time(at).to_owned();
    } else if name == "token" {
        *text = "eyJ…".to_owned();
    } else if let Some(path) = own_path(text) {
        *text = format!("{ADDRESS}{path}");
    } else if RANDOM.contains(&name) || text.parse::<ulid::Ulid>().is_ok() {
        *text = "…".to_owned();
    }
}

/// Now, in an hour, or in some days.
fn steady_time(at: OffsetDateTime) -> &'static str {
    let ahead = at - OffsetDateTime::now_utc();
    if ahead > Duration::hours(24) {
        "2026-04-01T09:00:00.000000Z"
    } else if ahead > Duration::minutes(5) {
        "2026-01-01T10:00:00.000000Z"
    } else {
        "2026-01-01T09:00:00.000000Z"
    }
}

/// What follows the server's address in a link; a signature in it is left out.
fn own_path(text: &str) -> Option<String> {
    let rest = text.strip_prefix("http://127.0.0.1:")?;
    let path = &rest[rest.find('/')?..];
    let settled = path.split('/').map(|part| if part.len() > 24 { "…" } else { part });
    Some(settled.collect::<Vec<_>>().join("/"))
}
