//! Clients that come and go beside a fan-out, at a server without webhooks and at the same with one, in turn.
//!
//! Each of the guests has a channel of its own, so that every single subscribe and unsubscribe is one that
//! webhooks care for. First all of them come back to the channel they left, as pages that are loaded again do:
//! everything is followed and nothing is told. That takes turns of half a second at either server, so that
//! whatever else disturbs the machine hits both. Then one subscribe in [`MOVES`] goes to a new channel, which is
//! told as occupied, and the old one seconds later as vacated. What that needs goes on behind it, so each server
//! has but one long turn.
//!
//! What is promised is looked at, too: all that came and went for good was told.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::Scale;
use super::fan_out::{OPENING, plan, prepare_triggers, set_latencies};
use super::lab::{Lab, PATIENCE, Usage};
use super::subscriber::{Phase, Plan};
use crate::process::Memory;
use crate::scenario::{Job, Outcome};
use crate::wire;

/// Subscribers of the fan-out.
const READERS: usize = 1_000;
const PUBLISHERS: usize = 4;
const PAYLOAD: usize = 200;
/// Time between two publishes: 25 a second.
const PERIOD: Duration = Duration::from_millis(40);
/// Connections that come and go, a fifth of a second here and a fifth of a second there.
const GUESTS: usize = 2_000;
/// One guest in so many has a presence channel, which has a member to tell of as well.
const MEMBERS: usize = 4;
/// Time between two subscribes or unsubscribes: 10,000 a second.
const STEP: Duration = Duration::from_micros(100);
/// One subscribe in so many is to a new channel; no divisor of [`GUESTS`], so that everybody moves.
const MOVES: usize = 9;
/// One turn at a server.
const TURN: Duration = Duration::from_millis(480);
const OFF: &str = "_off";
const ON: &str = "_on";
/// Longer than what left may come back unnoticed (`webhook_delay`, 3 s): from then on as much is told to be gone as
/// leaves.
const WARM_UP: Duration = Duration::from_millis(3_500);

/// Compares the job's server with the one beside it, which has a webhook.
pub fn webhooks(off: &mut Lab, job: &Job, outcome: &mut Outcome) -> io::Result<()> {
    let beside = job.beside.clone().ok_or_else(|| io::Error::other("nothing to compare with"))?;
    let scale = Scale { quick: job.quick };
    let (turns, moving) = scale.pick((17, Duration::from_secs(6)), (9, Duration::from_secs(2)));
    let mut on = Lab::new(beside)?;
    let mut sides = [Side::open(off, OFF)?, Side::open(&mut on, ON)?];
    let [_, with] = &mut sides;
    all_told(with.lab, with.guests.due(with.lab))?;
    reload(&mut sides, turns, outcome)?;
    // In the other order in every other round.
    let order = if job.round.is_multiple_of(2) { [0, 1] } else { [1, 0] };
    for side in order {
        sides[side].move_on(moving, outcome)?;
    }
    for (what, name) in [("shard_us_per_delivery", "shard_ratio"), ("us_per_delivery", "process_ratio")] {
        outcome.set(name, outcome.metrics[&format!("{what}_on")] / outcome.metrics[&format!("{what}_off")]);
    }
    for metric in ["p50_us_reloads", "p99_us_reloads", "p50_us", "p99_us"] {
        let (on, off) = (outcome.metrics[&format!("{metric}_on")], outcome.metrics[&format!("{metric}_off")]);
        outcome.set(metric.replace("_us", "_ratio"), on / off);
    }
    let [_, with] = &mut sides;
    with.guests.check(with.lab, outcome)?;
    on.idle(Duration::from_millis(50))?;
    on.compare_orders();
    outcome.violations.extend(on.ledger.violations());
    Ok(())
}

/// Everybody comes back: in turns at both servers, every other pair of turns in the other order.
fn reload(sides: &mut [Side<'_>; 2], turns: usize, outcome: &mut Outcome) -> io::Result<()> {
    let memory = [sides[0].memory()?, sides[1].memory()?];
    let (mut shards, mut processes, mut extra) = (Vec::new(), Vec::new(), Vec::new());
    for side in sides.iter_mut() {
        side.come_and_go(TURN)?;
        side.lab.latencies = Some(Vec::new());
    }
    for turn in 0..turns {
        let order = if turn.is_multiple_of(2) { [0, 1] } else { [1, 0] };
        let mut cpu = [(0.0, 0.0); 2];
        for side in order {
            let usage = sides[side].measure(TURN, outcome)?;
            cpu[side] = (usage.shards, usage.server);
        }
        // As many deliveries and steps on either side: the ratio of the sums is that for each.
        let [off, on] = cpu;
        shards.push(on.0 / off.0);
        processes.push(on.1 / off.1);
        extra.push((on.0 - off.0) / steps(TURN) as f64);
    }
    outcome.set("extra_us_per_step", median(&mut extra));
    outcome.set("shard_ratio_reloads", median(&mut shards));
    outcome.set("process_ratio_reloads", median(&mut processes));
    outcome.set("shard_ratio_reloads_lowest", shards[0]);
    outcome.set("shard_ratio_reloads_highest", shards[shards.len() - 1]);
    for (side, memory) in sides.iter_mut().zip(memory) {
        side.guests.gather(side.lab)?;
        set_latencies(side.lab, outcome, &format!("_reloads{}", side.suffix));
        outcome.set(format!("growth_mib_reloads{}", side.suffix), side.memory()? - memory);
    }
    Ok(())
}

/// Of an odd number; sorts them.
fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// One server and the clients it has.
struct Side<'a> {
    lab: &'a mut Lab,
    suffix: &'static str,
    guests: Guests,
}

impl<'a> Side<'a> {
    fn open(lab: &'a mut Lab, suffix: &'static str) -> io::Result<Self> {
        lab.add_publishers(PUBLISHERS)?;
        let streams = lab.add_streams(0..PUBLISHERS);
        lab.open_all((0..READERS).map(|_| plan("wide", streams.clone())), OPENING)?;
        let guests = Guests::open(lab)?;
        Ok(Self { lab, suffix, guests })
    }

    fn come_and_go(&mut self, time: Duration) -> io::Result<()> {
        prepare(self.lab, time)?;
        self.guests.come_and_go(self.lab, time)
    }

    fn measure(&mut self, time: Duration, outcome: &mut Outcome) -> io::Result<Usage> {
        prepare(self.lab, time)?;
        let window = self.lab.start_window()?;
        self.guests.come_and_go(self.lab, time)?;
        // Where the server's own threads wait for each other, nobody else disturbs them.
        let mut unread = Outcome::default();
        self.lab.end_window(window, if self.has_webhook() { &mut unread } else { outcome })
    }

    fn has_webhook(&self) -> bool {
        self.suffix == ON
    }

    /// Some move on to new channels.
    fn move_on(&mut self, time: Duration, outcome: &mut Outcome) -> io::Result<()> {
        let suffix = self.suffix;
        let memory = self.memory()?;
        self.guests.moves = true;
        self.come_and_go(WARM_UP)?;
        let delivered = if self.has_webhook() { Told::now(self.lab)?.delivered } else { 0.0 };
        self.lab.latencies = Some(Vec::new());
        let usage = self.measure(time, outcome)?;
        let wall = usage.wall.as_secs_f64();
        if self.has_webhook() {
            let told = Told::now(self.lab)?.delivered - delivered;
            outcome.set("told_per_second", told / wall);
        }
        self.guests.gather(self.lab)?;
        set_latencies(self.lab, outcome, suffix);
        outcome.set(format!("growth_mib{suffix}"), self.memory()? - memory);
        for (name, value) in [
            ("shard_us_per_delivery", usage.shards / usage.deliveries as f64),
            ("us_per_delivery", usage.server / usage.deliveries as f64),
            ("shard_waited_share", usage.shards_waited / 1e6 / wall),
            ("steps_per_second", steps(time) as f64 / wall),
        ] {
            outcome.set(format!("{name}{suffix}"), value);
        }
        Ok(())
    }

    /// Of the server, in MiB.
    fn memory(&self) -> io::Result<f64> {
        Ok(Memory::of(self.lab.target.pid)?.anonymous / (1024.0 * 1024.0))
    }
}

/// Signs the publishes of a turn, and notices which HTTP connections the server closed while it was not its turn.
fn prepare(lab: &mut Lab, time: Duration) -> io::Result<()> {
    lab.turn(Duration::ZERO)?;
    for turn in 0..publishes(time) {
        let publisher = turn % PUBLISHERS;
        prepare_triggers(lab, publisher, &[("wide".to_owned(), publisher as u32)], 1, PAYLOAD)?;
    }
    Ok(())
}

fn publishes(time: Duration) -> usize {
    (time.as_nanos() / PERIOD.as_nanos()) as usize
}

fn steps(time: Duration) -> usize {
    (time.as_nanos() / STEP.as_nanos()) as usize
}

/// Those who come and go.
struct Guests {
    first: usize,
    /// Subscribes and unsubscribes so far.
    steps: usize,
    /// Subscribes so far, after the first of each.
    returns: usize,
    /// Channels that were left for good, and members of them.
    left: usize,
    turn: usize,
    /// Whether some move on to new channels.
    moves: bool,
}

impl Guests {
    fn open(lab: &mut Lab) -> io::Result<Self> {
        let first = lab.subscribers.len();
        lab.open_all((0..GUESTS).map(guest), OPENING)?;
        Ok(Self { first, steps: 0, returns: 0, left: 0, turn: 0, moves: false })
    }

    /// Keeps the pace for `time`, and that of the publishes beside it.
    fn come_and_go(&mut self, lab: &mut Lab, time: Duration) -> io::Result<()> {
        let (start, first) = (Instant::now(), self.steps);
        let mut published = 0;
        while self.steps - first < steps(time) || published < publishes(time) {
            let elapsed = start.elapsed().min(time);
            while self.steps - first < steps(elapsed) {
                self.step(lab)?;
            }
            if published < publishes(time) && elapsed >= PERIOD * published as u32 {
                let publisher = published % PUBLISHERS;
                lab.wait_until("a paced publish to land", |lab| lab.is_free(publisher))?;
                lab.publish(publisher)?;
                published += 1;
            }
            lab.turn(Duration::from_millis(1))?;
        }
        lab.wait_until("paced publishes to land", Lab::is_quiet)
    }

    /// Lets in everybody who is away, so that nobody is told to be gone in the break that follows.
    fn gather(&mut self, lab: &mut Lab) -> io::Result<()> {
        let all = self.first..self.first + GUESTS;
        lab.wait_until("guests to be let in", |lab| {
            all.clone().all(|id| lab.subscribers[id].phase != Phase::Subscribing)
        })?;
        for id in all.clone().filter(|id| lab.subscribers[*id].phase == Phase::Open).collect::<Vec<_>>() {
            lab.subscribe(id)?;
        }
        lab.wait_until("everybody to be there", |lab| {
            all.clone().all(|id| lab.subscribers[id].phase == Phase::Subscribed)
        })
    }

    fn step(&mut self, lab: &mut Lab) -> io::Result<()> {
        let id = self.first + self.turn;
        self.turn = (self.turn + 1) % GUESTS;
        self.steps += 1;
        lab.wait_until("a guest to be let in", |lab| lab.subscribers[id].phase != Phase::Subscribing)?;
        if lab.subscribers[id].phase == Phase::Subscribed {
            return lab.unsubscribe(id);
        }
        self.returns += 1;
        if self.moves && self.returns.is_multiple_of(MOVES) {
            let number = GUESTS + self.returns;
            let plan = &mut lab.subscribers[id].plan;
            plan.channel = channel(number, plan.member.is_some());
            self.left += if plan.member.is_some() { 2 } else { 1 };
        }
        lab.subscribe(id)
    }

    /// How much is to be told.
    fn due(&self, lab: &Lab) -> f64 {
        // Each connection was opened and each first channel occupied, as was a new one for each that was left.
        let first = lab.subscribers.len() + 1 + GUESTS + GUESTS / MEMBERS;
        (first + 2 * self.left) as f64
    }

    /// Whether all of it was told.
    fn check(&self, lab: &mut Lab, outcome: &mut Outcome) -> io::Result<()> {
        let expected = self.due(lab);
        let told = all_told(lab, expected)?;
        outcome.set("lost", told.lost);
        if told.delivered < expected && told.lost == 0.0 {
            let delivered = told.delivered;
            outcome.violations.push(format!("{delivered} webhooks were sent where {expected} were due"));
        }
        outcome.notes.push(format!(
            "{} subscribes and unsubscribes; {} webhooks sent, {expected} were due",
            self.steps, told.delivered
        ));
        Ok(())
    }
}

fn guest(number: usize) -> Plan {
    let member = number.is_multiple_of(MEMBERS).then_some(number);
    Plan { member, ..plan(&channel(number, member.is_some()), 0..0) }
}

fn channel(number: usize, has_members: bool) -> String {
    if has_members { format!("presence-room-{number}") } else { format!("page-{number}") }
}

/// What the server's metrics say of its webhook.
struct Told {
    delivered: f64,
    waiting: f64,
    lost: f64,
}

impl Told {
    fn now(lab: &Lab) -> io::Result<Self> {
        let admin = lab.target.admin.ok_or_else(|| io::Error::other("the server told no admin address"))?;
        let mut stream = TcpStream::connect(admin)?;
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n")?;
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes)?;
        let answer = wire::scan_answer(&bytes)?.ok_or_else(|| io::Error::other("half an answer"))?;
        let text = str::from_utf8(answer.body).map_err(io::Error::other)?;
        let figure = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            let value = line.and_then(|rest| rest.rsplit(' ').next()).and_then(|value| value.parse().ok());
            value.ok_or_else(|| io::Error::other(format!("no {name} in the metrics")))
        };
        Ok(Self {
            delivered: figure("switchboard_outbox_delivered_total")?,
            waiting: figure("switchboard_webhook_waiting")?,
            lost: figure("switchboard_webhook_lost_total")?,
        })
    }
}

/// Waits until nothing waits and as many were sent, or until no more are.
fn all_told(lab: &mut Lab, expected: f64) -> io::Result<Told> {
    let mut deadline = Instant::now() + PATIENCE;
    let mut most = 0.0;
    loop {
        lab.idle(Duration::from_millis(200))?;
        let told = Told::now(lab)?;
        if (told.waiting == 0.0 && told.delivered >= expected) || Instant::now() > deadline {
            return Ok(told);
        }
        if told.delivered > most {
            (most, deadline) = (told.delivered, Instant::now() + Duration::from_secs(5));
        }
    }
}
