//! The chart of README is the one that the benchmark draws from the kept figures.

use crate::documentation::read;

#[path = "../../benches/broadcaster/chart.rs"]
mod drawing;

#[test]
fn the_chart_shows_the_kept_figures() {
    let figures = read("docs/pictures/cost.json").expect("the figures");
    let drawn = drawing::svg(&serde_json::from_str(&figures).expect("JSON")).expect("a chart");
    assert!(
        read("docs/pictures/cost.svg").as_ref() == Some(&drawn),
        "stale: cargo bench --bench broadcaster -- --from docs/pictures/cost.json --svg docs/pictures/cost.svg"
    );
}

#[test]
fn a_chart_has_a_text_for_those_who_cannot_see_it_and_both_colours() {
    let row = |scenario: &str, metric: &str| {
        serde_json::json!({"scenario": scenario, "metric": metric, "cells": [
            {"median": 4.0}, {"median": 1.0}, null, {"median": 2.5}]})
    };
    let document = serde_json::json!({
        "servers": ["raw-each", "switchboard", "away", "a<b"], "kernel": "6.1", "rounds": 3,
        "rows": [row("paced", "us_per_delivery"), row("saturated", "us_per_delivery_32"),
            row("idle", "pss_kib_subscribed")],
    });
    let chart = drawing::svg(&document).expect("a chart");
    assert!(
        chart.contains("<title") && chart.contains("<desc") && chart.contains("prefers-color-scheme:dark")
    );
    assert!(chart.contains("Memory per idle connection: switchboard 1.00 KiB, a&lt;b 2.50 KiB."), "{chart}");
    assert!(!chart.contains("away") && !chart.contains("a<b"), "{chart}");
    assert_eq!(drawing::svg(&document).as_ref(), Ok(&chart));
    assert!(drawing::svg(&serde_json::json!({})).is_err());
}
