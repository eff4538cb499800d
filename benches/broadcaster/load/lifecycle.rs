//! Scenarios about connections: joining, staying, coming and going.

use std::io;
use std::time::{Duration, Instant};

use super::Scale;
use super::fan_out::{OPENING, plan, prepare_triggers};
use super::lab::Lab;
use super::roster::Roster;
use super::subscriber::{Phase, Plan};
use crate::process::{CpuSample, Memory, open_files};
use crate::scenario::Outcome;

const KIB: f64 = 1024.0;
const MIB: f64 = 1024.0 * 1024.0;

pub fn presence(lab: &mut Lab, outcome: &mut Outcome) -> io::Result<()> {
    const USERS: usize = 500;
    const AT_A_TIME: usize = 64;
    let plan = |user| Plan { member: Some(user), waits: true, ..plan("presence-hall", 0..0) };
    lab.open_all((0..USERS).map(plan), OPENING)?;
    lab.roster = Some(Roster::new(USERS));
    let window = lab.start_window()?;
    let mut asked = 0;
    while lab.subscribed < USERS {
        while asked < USERS.min(lab.subscribed + AT_A_TIME) {
            lab.subscribe(asked)?;
            asked += 1;
        }
        let before = lab.subscribed;
        lab.wait_until("a user to join", |lab| lab.subscribed > before)?;
    }
    lab.wait_until("everybody to see everybody", |lab| lab.roster.as_ref().is_some_and(Roster::is_complete))?;
    let usage = lab.end_window(window, outcome)?;
    outcome.set("server_cpu_s", usage.server / 1e6);
    outcome.set("wall_s", usage.wall.as_secs_f64());
    Ok(())
}

pub fn idle(lab: &mut Lab, scale: Scale, outcome: &mut Outcome) -> io::Result<()> {
    let settle = Duration::from_secs(1);
    // Each of the two processes needs one descriptor for a connection; a server keeps some for itself.
    let available = (rlimit::getrlimit(rlimit::Resource::NOFILE)?.0 as usize).saturating_sub(1_000);
    let wanted = scale.pick(20_000, 5_000);
    let count = wanted.min(available);
    if count < wanted {
        outcome.notes.push(format!("{count} connections instead of {wanted}: the limit of open files"));
    }
    lab.add_publishers(1)?;
    let streams = lab.add_streams(0..1);
    let everyone = plan("everyone", streams);
    // What the first connections and publishes make the server set up is not a cost per connection.
    lab.open_all(vec![everyone.clone(); 16], OPENING)?;
    broadcast(lab, 2)?;
    lab.idle(settle)?;
    let empty = Memory::of(lab.target.pid)?;
    lab.open_all((0..count).map(|_| everyone.clone()), OPENING)?;
    lab.idle(settle)?;
    set_memory(lab, outcome, empty, count, "subscribed")?;
    broadcast(lab, 1)?;
    lab.idle(settle)?;
    set_memory(lab, outcome, empty, count, "after_broadcast")?;
    outcome.set("connections", count as f64);
    Ok(())
}

fn broadcast(lab: &mut Lab, times: usize) -> io::Result<()> {
    prepare_triggers(lab, 0, &[("everyone".to_owned(), 0)], times, 200)?;
    for _ in 0..times {
        lab.publish(0)?;
        lab.wait_until("a broadcast to reach everyone", Lab::is_quiet)?;
    }
    Ok(())
}

fn set_memory(lab: &Lab, outcome: &mut Outcome, empty: Memory, count: usize, when: &str) -> io::Result<()> {
    let now = Memory::of(lab.target.pid)?;
    outcome.set(format!("pss_kib_{when}"), (now.pss - empty.pss) / KIB / count as f64);
    outcome.set(format!("anonymous_kib_{when}"), (now.anonymous - empty.anonymous) / KIB / count as f64);
    Ok(())
}

pub fn connect(lab: &mut Lab, scale: Scale, outcome: &mut Outcome) -> io::Result<()> {
    cycle_connections(lab, 200)?;
    let files = open_files(lab.target.pid)?;
    let count = scale.pick(4_000, 1_500);
    let window = lab.start_window()?;
    cycle_connections(lab, count)?;
    wait_for_files(lab, files, outcome)?;
    let usage = lab.end_window(window, outcome)?;
    outcome.set("us_per_connection", usage.server / count as f64);
    outcome.set("connections_per_second", count as f64 / usage.wall.as_secs_f64());
    Ok(())
}

/// Connects, subscribes and closes `count` connections, 32 at a time.
fn cycle_connections(lab: &mut Lab, count: usize) -> io::Result<()> {
    const AT_A_TIME: usize = 32;
    let mut active = Vec::with_capacity(AT_A_TIME);
    let mut started = 0;
    loop {
        active.retain(|&id: &usize| !matches!(lab.subscribers[id].phase, Phase::Closed(_)));
        while active.len() < AT_A_TIME && started < count {
            active.push(lab.open(plan(&format!("cycle-{}", started % 100), 0..0))?);
            started += 1;
        }
        if active.is_empty() {
            return Ok(());
        }
        let progress = |lab: &Lab| {
            active.iter().any(|&id| matches!(lab.subscribers[id].phase, Phase::Subscribed | Phase::Closed(_)))
        };
        lab.wait_until("connections to open and close", progress)?;
        for &id in &active {
            if lab.subscribers[id].phase == Phase::Subscribed {
                lab.close(id)?;
            }
        }
    }
}

pub fn churn(lab: &mut Lab, scale: Scale, outcome: &mut Outcome) -> io::Result<()> {
    const RESIDENTS: usize = 100;
    let (storms, size) = scale.pick((4, 2_000), (2, 1_000));
    lab.add_publishers(1)?;
    let streams = lab.add_streams(0..1);
    let everyone = plan("everyone", streams);
    lab.open_all(vec![everyone.clone(); RESIDENTS], OPENING)?;
    broadcast(lab, 2)?;
    lab.idle(Duration::from_secs(1))?;
    let pid = lab.target.pid;
    let (before, files, threads) = (Memory::of(pid)?, open_files(pid)?, CpuSample::take(pid)?.threads());
    let mut left = Vec::new();
    for _ in 0..storms {
        storm(lab, Plan { is_spectator: true, ..everyone.clone() }, size)?;
        wait_for_files(lab, files, outcome)?;
        broadcast(lab, 1)?;
        left.push((settled_memory(lab, before)? - before.anonymous) / MIB);
    }
    let first = left.first().copied().unwrap_or_default();
    let last = left.last().copied().unwrap_or_default();
    outcome.set("left_mib", last);
    outcome.set("growth_mib", last - first);
    outcome.set("descriptors_leaked", open_files(pid)? as f64 - files as f64);
    outcome.set("threads_added", CpuSample::take(pid)?.threads() as f64 - threads as f64);
    Ok(())
}

/// Opens `size` connections, publishes to them, and closes one half politely, the other by dropping the socket.
fn storm(lab: &mut Lab, plan: Plan, size: usize) -> io::Result<()> {
    let first = lab.subscribers.len();
    lab.open_all((0..size).map(|_| plan.clone()), OPENING)?;
    broadcast(lab, 1)?;
    let ended = lab.ended;
    for id in first..lab.subscribers.len() {
        if id % 2 == 0 { lab.close(id)? } else { lab.abandon(id) }
    }
    lab.wait_until("the storm to pass", |lab| lab.ended == ended + size)
}

/// Waits until the server holds as many descriptors as before; what it still holds then is a leak.
fn wait_for_files(lab: &mut Lab, files: usize, outcome: &mut Outcome) -> io::Result<()> {
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        let now = open_files(lab.target.pid)?;
        if now <= files {
            return Ok(());
        }
        if Instant::now() > deadline {
            outcome
                .violations
                .push(format!("{} descriptors stayed open after their connections", now - files));
            return Ok(());
        }
        lab.idle(Duration::from_millis(10))?;
    }
}

/// Anonymous memory once it has stopped falling: allocators give pages back over some ten seconds.
fn settled_memory(lab: &mut Lab, before: Memory) -> io::Result<f64> {
    let deadline = Instant::now() + Duration::from_secs(12);
    let mut lowest = f64::INFINITY;
    let mut unchanged = 0;
    while unchanged < 3 && Instant::now() < deadline {
        lab.idle(Duration::from_millis(500))?;
        let now = Memory::of(lab.target.pid)?.anonymous;
        unchanged = if now < lowest - 64.0 * KIB { 0 } else { unchanged + 1 };
        lowest = lowest.min(now);
        if lowest <= before.anonymous {
            break;
        }
    }
    Ok(lowest)
}
