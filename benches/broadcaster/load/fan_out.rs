//! Scenarios that publish and count.

use std::io;
use std::mem;
use std::time::{Duration, Instant};

use super::lab::{Lab, PATIENCE};
use super::ledger::payload;
use super::subscriber::Plan;
use super::{Scale, percentile};
use crate::scenario::Outcome;

/// Bytes of `data`, as in most published comparisons.
const PAYLOAD: usize = 200;
/// Connections opened at a time while a scenario is set up.
pub const OPENING: usize = 128;

pub fn saturated(lab: &mut Lab, scale: Scale, outcome: &mut Outcome) -> io::Result<()> {
    const WIDTHS: [usize; 2] = [8, 32];
    lab.add_publishers(32)?;
    let streams = lab.add_streams(0..32);
    lab.open_all((0..1_000).map(|_| plan("wide", streams.clone())), OPENING)?;
    for publisher in 0..32 {
        prepare_triggers(lab, publisher, &[("wide".to_owned(), publisher as u32)], 1_500, PAYLOAD)?;
    }
    for width in WIDTHS {
        keep_publishing(lab, width, Duration::from_millis(300))?;
        let window = lab.start_window()?;
        keep_publishing(lab, width, scale.pick(Duration::from_secs(2), Duration::from_millis(800)))?;
        let usage = lab.end_window(window, outcome)?;
        outcome.set(format!("us_per_delivery_{width}"), usage.server / usage.deliveries as f64);
        outcome.set(
            format!("deliveries_per_second_{width}"),
            usage.deliveries as f64 / usage.wall.as_secs_f64(),
        );
    }
    Ok(())
}

pub fn paced(lab: &mut Lab, scale: Scale, outcome: &mut Outcome) -> io::Result<()> {
    const PUBLISHERS: usize = 4;
    let publishes = scale.pick(100, 40);
    lab.add_publishers(PUBLISHERS)?;
    let streams = lab.add_streams(0..PUBLISHERS);
    lab.open_all((0..1_000).map(|_| plan("wide", streams.clone())), OPENING)?;
    for publisher in 0..PUBLISHERS {
        prepare_triggers(lab, publisher, &[("wide".to_owned(), publisher as u32)], publishes, PAYLOAD)?;
    }
    let period = Duration::from_millis(40);
    publish_paced(lab, PUBLISHERS, period, 5)?;
    lab.latencies = Some(Vec::with_capacity(publishes * 1_000));
    let window = lab.start_window()?;
    publish_paced(lab, PUBLISHERS, period, publishes)?;
    let usage = lab.end_window(window, outcome)?;
    outcome.set("us_per_delivery", usage.server / usage.deliveries as f64);
    set_latencies(lab, outcome, "");
    Ok(())
}

pub fn bursts(lab: &mut Lab, scale: Scale, outcome: &mut Outcome) -> io::Result<()> {
    const BURST: usize = 32;
    const SIZES: [usize; 5] = [10, 30, 100, 300, 1_000];
    let rounds = scale.pick(12, 4);
    lab.add_publishers(BURST)?;
    for size in SIZES {
        let channel = format!("burst-{size}");
        let streams = lab.add_streams(0..BURST);
        lab.open_all((0..size).map(|_| plan(&channel, streams.clone())), OPENING)?;
    }
    let (mut cpu, mut count) = (0.0, 0);
    for (place, size) in SIZES.into_iter().enumerate() {
        for publisher in 0..BURST {
            let stream = (place * BURST + publisher) as u32;
            prepare_triggers(lab, publisher, &[(format!("burst-{size}"), stream)], rounds + 1, PAYLOAD)?;
        }
        burst(lab, BURST)?;
        let window = lab.start_window()?;
        for _ in 0..rounds {
            burst(lab, BURST)?;
        }
        let usage = lab.end_window(window, outcome)?;
        outcome.set(format!("us_per_delivery_{size}"), usage.server / usage.deliveries as f64);
        cpu += usage.server;
        count += usage.deliveries;
    }
    outcome.set("us_per_delivery", cpu / count as f64);
    Ok(())
}

pub fn narrow(lab: &mut Lab, scale: Scale, outcome: &mut Outcome) -> io::Result<()> {
    const PUBLISHERS: usize = 16;
    let channels = scale.pick(5_000, 2_000);
    let time = scale.pick(Duration::from_secs(2), Duration::from_millis(800));
    lab.add_publishers(PUBLISHERS)?;
    open_pairs(lab, "narrow", channels, PUBLISHERS)?;
    for publisher in 0..PUBLISHERS {
        let own = own_channels("narrow", publisher, channels, PUBLISHERS);
        prepare_triggers(lab, publisher, &own, scale.pick(2_500, 1_000), PAYLOAD)?;
    }
    keep_publishing(lab, PUBLISHERS, Duration::from_millis(200))?;
    let window = lab.start_window()?;
    keep_publishing(lab, PUBLISHERS, time)?;
    let usage = lab.end_window(window, outcome)?;
    let publishes = usage.deliveries as f64 / 2.0;
    outcome.set("us_per_publish", usage.server / publishes);
    outcome.set("publishes_per_second", publishes / usage.wall.as_secs_f64());
    Ok(())
}

pub fn batch(lab: &mut Lab, scale: Scale, outcome: &mut Outcome) -> io::Result<()> {
    const PUBLISHERS: usize = 8;
    const BATCH: usize = 10;
    const CHANNELS: usize = 1_000;
    let time = scale.pick(Duration::from_secs(2), Duration::from_millis(800));
    lab.add_publishers(PUBLISHERS)?;
    open_pairs(lab, "batch", CHANNELS, PUBLISHERS)?;
    for publisher in 0..PUBLISHERS {
        let own = own_channels("batch", publisher, CHANNELS, PUBLISHERS);
        let mut turn = own.iter().cycle();
        for _ in 0..scale.pick(1_000, 500) {
            let events: Vec<_> = turn.by_ref().take(BATCH).collect();
            let bodies: Vec<_> =
                events.iter().map(|(channel, stream)| event_body(lab, channel, *stream, PAYLOAD)).collect();
            let streams: Vec<_> = events.iter().map(|(_, stream)| *stream).collect();
            lab.prepare(
                publisher,
                "batch_events",
                &format!(r#"{{"batch":[{}]}}"#, bodies.join(",")),
                &streams,
            )?;
        }
    }
    keep_publishing(lab, PUBLISHERS, Duration::from_millis(200))?;
    let window = lab.start_window()?;
    keep_publishing(lab, PUBLISHERS, time)?;
    let usage = lab.end_window(window, outcome)?;
    let events = usage.deliveries as f64 / 2.0;
    outcome.set("us_per_event", usage.server / events);
    outcome.set("events_per_second", events / usage.wall.as_secs_f64());
    Ok(())
}

pub fn client_events(lab: &mut Lab, scale: Scale, outcome: &mut Outcome) -> io::Result<()> {
    const PAIRS: usize = 100;
    let time = scale.pick(Duration::from_secs(2), Duration::from_millis(800));
    for _ in 0..PAIRS {
        lab.add_flight();
    }
    let streams = lab.add_streams(0..PAIRS);
    // The sender follows no stream: an event echoed to it is a violation.
    let pair = |stream: u32| {
        let channel = format!("private-pair-{stream}");
        [plan(&channel, 0..0), plan(&channel, stream..stream + 1)]
    };
    lab.open_all(streams.flat_map(pair), OPENING)?;
    let mut send = |lab: &mut Lab, pair: usize| {
        let data = payload(pair as u32, lab.number(pair as u32), PAYLOAD);
        let text = format!(r#"{{"event":"client-bench","channel":"private-pair-{pair}","data":"{data}"}}"#);
        lab.send_event(2 * pair, pair, &text, 1)
    };
    keep_flying(lab, PAIRS, Duration::from_millis(200), &mut send)?;
    let window = lab.start_window()?;
    keep_flying(lab, PAIRS, time, &mut send)?;
    let usage = lab.end_window(window, outcome)?;
    outcome.set("us_per_event", usage.server / usage.deliveries as f64);
    outcome.set("events_per_second", usage.deliveries as f64 / usage.wall.as_secs_f64());
    Ok(())
}

pub fn latency(lab: &mut Lab, scale: Scale, outcome: &mut Outcome) -> io::Result<()> {
    let publishes = scale.pick(300, 100);
    lab.add_publishers(1)?;
    let streams = lab.add_streams(0..1);
    lab.open_all((0..10).map(|_| plan("few", streams.clone())), OPENING)?;
    prepare_triggers(lab, 0, &[("few".to_owned(), 0)], publishes + 20, PAYLOAD)?;
    let period = Duration::from_millis(10);
    publish_paced(lab, 1, period, 20)?;
    lab.latencies = Some(Vec::with_capacity(publishes * 10));
    let window = lab.start_window()?;
    publish_paced(lab, 1, period, publishes)?;
    lab.end_window(window, outcome)?;
    set_latencies(lab, outcome, "");
    Ok(())
}

/// Enters median and 99th percentile of the latencies collected since they were asked for.
pub fn set_latencies(lab: &mut Lab, outcome: &mut Outcome, suffix: &str) {
    let mut samples = lab.latencies.take().unwrap_or_default();
    outcome.set(format!("p50_us{suffix}"), percentile(&mut samples, 0.50) / 1e3);
    outcome.set(format!("p99_us{suffix}"), percentile(&mut samples, 0.99) / 1e3);
}

/// A connection that subscribes to `channel` at once.
pub fn plan(channel: &str, streams: std::ops::Range<u32>) -> Plan {
    Plan { channel: channel.to_owned(), streams, ..Plan::default() }
}

/// Signs `count` triggers, taking the channels in turn.
pub fn prepare_triggers(
    lab: &mut Lab,
    publisher: usize,
    channels: &[(String, u32)],
    count: usize,
    size: usize,
) -> io::Result<()> {
    for (channel, stream) in channels.iter().cycle().take(count) {
        let body = event_body(lab, channel, *stream, size);
        lab.prepare(publisher, "events", &body, &[*stream])?;
    }
    Ok(())
}

/// Publishes every `period` on the publishers in turn. One that is still busy when its turn comes is waited for.
pub fn publish_paced(lab: &mut Lab, publishers: usize, period: Duration, count: usize) -> io::Result<()> {
    let start = Instant::now();
    for turn in 0..count {
        lab.idle((start + period * turn as u32).saturating_duration_since(Instant::now()))?;
        let publisher = turn % publishers;
        lab.wait_until("a paced publish to land", |lab| lab.is_free(publisher))?;
        lab.publish(publisher)?;
    }
    lab.wait_until("paced publishes to land", Lab::is_quiet)
}

fn event_body(lab: &mut Lab, channel: &str, stream: u32, size: usize) -> String {
    let data = payload(stream, lab.number(stream), size);
    format!(r#"{{"name":"bench","channel":"{channel}","data":"{data}"}}"#)
}

/// `channels` channels with two subscribers each; channel `i` is stream `i` and belongs to publisher
/// `i % publishers`.
fn open_pairs(lab: &mut Lab, prefix: &str, channels: usize, publishers: usize) -> io::Result<()> {
    let streams = lab.add_streams((0..channels).map(|channel| channel % publishers));
    let pair = |stream: u32| {
        let plan = plan(&format!("{prefix}-{stream}"), stream..stream + 1);
        [plan.clone(), plan]
    };
    lab.open_all(streams.flat_map(pair), OPENING)
}

fn own_channels(prefix: &str, publisher: usize, channels: usize, publishers: usize) -> Vec<(String, u32)> {
    (publisher..channels)
        .step_by(publishers)
        .map(|channel| (format!("{prefix}-{channel}"), channel as u32))
        .collect()
}

/// One publish of each publisher at once, then a pause in which the server falls asleep.
fn burst(lab: &mut Lab, publishers: usize) -> io::Result<()> {
    for publisher in 0..publishers {
        lab.publish(publisher)?;
    }
    lab.wait_until("a burst to land", Lab::is_quiet)?;
    lab.idle(Duration::from_millis(4))
}

/// Keeps one publish of each of the first `width` publishers in flight.
fn keep_publishing(lab: &mut Lab, width: usize, time: Duration) -> io::Result<()> {
    keep_flying(lab, width, time, &mut |lab, publisher| lab.publish(publisher).map(drop))
}

/// Launches flights `0..width`, launches each again when it has landed, and after `time` lets all of them land.
fn keep_flying(
    lab: &mut Lab,
    width: usize,
    time: Duration,
    launch: &mut impl FnMut(&mut Lab, usize) -> io::Result<()>,
) -> io::Result<()> {
    let end = Instant::now() + time;
    for flight in 0..width {
        launch(lab, flight)?;
    }
    while !lab.is_quiet() {
        lab.turn(Duration::from_millis(100))?;
        lab.check_patience("deliveries", end + PATIENCE)?;
        if Instant::now() < end {
            let landed = mem::take(&mut lab.landed);
            for &flight in &landed {
                launch(lab, flight)?;
            }
            lab.landed = landed;
        }
    }
    Ok(())
}
