//! One of 1,000 readers stops reading while publishes go on.
//!
//! Promised: the others notice nothing, the server's memory stays bounded, the slow one is closed with a code
//! once it is more than 1 MiB or 10 s behind, and has no gap before that.

use std::io;
use std::time::{Duration, Instant};

use super::Scale;
use super::fan_out::{OPENING, plan, prepare_triggers, set_latencies};
use super::lab::Lab;
use super::subscriber::{Phase, Plan};
use crate::process::Memory;
use crate::scenario::Outcome;

const READERS: usize = 1_000;
/// 20 × 25 kB a second: what a server without bounds would pile up is seen in its memory.
const PAYLOAD: usize = 25_000;
const PERIOD: Duration = Duration::from_millis(50);
/// Longer than the server lets anybody stay behind, shorter than it waits for the reader to come back and be told.
const STALL: Duration = Duration::from_secs(15);

pub fn stalled_reader(lab: &mut Lab, scale: Scale, outcome: &mut Outcome) -> io::Result<()> {
    lab.add_publishers(1)?;
    let streams = lab.add_streams(0..1);
    let reader = plan("everyone", streams);
    let slow = Plan { is_spectator: true, receive_buffer: Some(4096), ..reader.clone() };
    lab.open_all([slow], 1)?;
    lab.open_all(vec![reader; READERS - 1], OPENING)?;
    prepare_triggers(lab, 0, &[("everyone".to_owned(), 0)], 600, PAYLOAD)?;
    let window = lab.start_window()?;
    publish_for(lab, Duration::from_secs(1), |_| Ok(()))?;

    lab.latencies = Some(Vec::new());
    publish_for(lab, scale.pick(Duration::from_secs(4), Duration::from_secs(2)), |_| Ok(()))?;
    set_latencies(lab, outcome, "_before");

    lab.stop_reading(0)?;
    lab.latencies = Some(Vec::new());
    let growth = observe_stall(lab)?;
    set_latencies(lab, outcome, "_stalled");
    lab.end_window(window, outcome)?;
    for part in ["p50", "p99"] {
        let (before, during) =
            (outcome.metrics[&format!("{part}_us_before")], outcome.metrics[&format!("{part}_us_stalled")]);
        outcome.set(format!("{part}_ratio"), during / before);
    }
    outcome.set("memory_growth_mib", growth / (1024.0 * 1024.0));
    let published = lab.ledger.expected(1);
    lab.resume_reading(0)?;
    lab.wait_until("the stalled reader's end", |lab| matches!(lab.subscribers[0].phase, Phase::Closed(_)))?;
    let received = lab.ledger.expected(0);
    outcome.set("messages_behind", f64::from(published - received));
    let end = match lab.subscribers[0].phase {
        Phase::Closed(Some(code)) => {
            outcome.set("close_code", f64::from(code));
            format!("close code {code}")
        }
        _ => "a cut connection".to_owned(),
    };
    outcome
        .notes
        .push(format!("the stalled reader got {received} of {published} messages without a gap, then {end}"));
    Ok(())
}

/// Publishes while the reader stands still; how much the server's anonymous memory grew at its highest.
fn observe_stall(lab: &mut Lab) -> io::Result<f64> {
    let pid = lab.target.pid;
    let memory = Memory::of(pid)?.anonymous;
    let mut growth = 0.0_f64;
    publish_for(lab, STALL, |turn| {
        // Looking often would disturb what is measured: it takes the server's memory lock.
        if turn % 5 == 0 {
            growth = growth.max(Memory::of(pid)?.anonymous - memory);
        }
        Ok(())
    })?;
    Ok(growth)
}

/// Publishes at the pace for `time` and runs `observe` after each publish.
fn publish_for(
    lab: &mut Lab,
    time: Duration,
    mut observe: impl FnMut(usize) -> io::Result<()>,
) -> io::Result<()> {
    let start = Instant::now();
    for turn in 0.. {
        let due = PERIOD * turn as u32;
        if due >= time {
            break;
        }
        lab.idle(due.saturating_sub(start.elapsed()))?;
        lab.wait_until("the readers that do read", Lab::is_quiet)?;
        lab.publish(0)?;
        observe(turn)?;
    }
    lab.wait_until("the readers that do read", Lab::is_quiet)
}
