//! What the message router does a second, and how soon a message is seen.
//!
//! ```text
//! cargo bench --bench router -- [--seconds N] [--rounds N] [--store URL] [--flush-delay MS] [--server PATH=NAME]…
//! ```
//!
//! `internal`: messages between users, each acknowledged when it is on disk, from 64 senders at once and from
//! one; beside them, on the same disk in the same run, one `fdatasync` for each write of a page, and for
//! each commit of a small SQLite transaction. `inbound`: webhooks of the carrier, each bringing a message, until
//! all of them are messages of their conversations. `latency`: 100 messages a second, from the call to the
//! recipient's WebSocket. `--flush-delay` makes each flush that much slower, for the server and for what is
//! measured beside it: a disk without a write cache takes milliseconds.
//!
//! With `--server` other builds are measured beside this one, in alternating rounds, and compared with it. With
//! `--store postgres://…/{}` each has a database of its own, named as the build (this one: `this`), which must be
//! there. `docs/performance.md` explains the figures.

mod client;
mod disk;
#[path = "../progress.rs"]
mod progress;
mod server;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use futures_util::future::join_all;
use serde_json::json;

use client::{Client, Listener, Webhook};
use progress::Progress;
use server::Server;

/// Users with a number each; senders are among them.
const USERS: usize = 128;
/// People outside who write to each of them.
const CONTACTS: u64 = 4;
/// Messages a second while latency is measured.
const PACE: u32 = 100;
/// As shells say it of a program that ended by Ctrl-C.
const INTERRUPTED: u8 = 130;
/// How long the disk is measured, each way.
const DISK_TIME: Duration = Duration::from_secs(3);
/// Webhooks for each second of a measurement: the same work for every build.
const WEBHOOKS: u64 = 2_000;

/// Measures the message router.
#[derive(Parser)]
#[command(bin_name = "cargo bench --bench router --")]
struct Options {
    /// Length of each measurement
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// How often everything is measured; the median is shown
    #[arg(long, default_value_t = 1)]
    rounds: usize,
    /// Where messages are kept [default: an SQLite file beside the build output]
    #[arg(long, value_name = "URL")]
    store: Option<String>,
    /// Milliseconds that each flush of the disk takes longer; needs a C compiler
    #[arg(long, default_value_t = 0, value_name = "MS")]
    flush_delay: u64,
    /// Another build to measure beside this one
    #[arg(long = "server", value_name = "PATH=NAME", value_parser = build)]
    servers: Vec<Build>,
    /// Given by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
}

/// A program under test.
#[derive(Clone)]
struct Build {
    name: String,
    program: PathBuf,
}

fn build(text: &str) -> Result<Build, String> {
    let (program, name) = text.split_once('=').ok_or("PATH=NAME is needed")?;
    Ok(Build { name: name.to_owned(), program: program.into() })
}

/// Values of each row by build.
type Rows = BTreeMap<&'static str, BTreeMap<String, Vec<f64>>>;

fn main() -> ExitCode {
    let options = Options::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        tokio::select! {
            () = run(&options) => ExitCode::SUCCESS,
            // The server and its folder end with what is dropped here.
            _ = tokio::signal::ctrl_c() => {
                println!("stopped");
                ExitCode::from(INTERRUPTED)
            }
        }
    })
}

async fn run(options: &Options) {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let delay = Duration::from_millis(options.flush_delay);
    let mut progress = Progress::new(2 + options.rounds * (options.servers.len() + 1));
    progress.begin("flushes of the disk");
    let flushes = beside(folder.path(), delay, disk::flushes).await;
    progress.end();
    progress.begin("commits of SQLite");
    let commits = beside(folder.path(), delay, disk::commits).await;
    progress.end();
    let slow_disk = (!delay.is_zero()).then(|| disk::slow(folder.path(), delay));
    println!(
        "fdatasync of a page:        {:>8.0} a second, p50 {:?}, p99 {:?}",
        flushes.rate, flushes.p50, flushes.p99
    );
    println!(
        "SQLite, commit by commit:   {:>8.0} a second, p50 {:?}, p99 {:?}",
        commits.rate, commits.p50, commits.p99
    );
    let this = Build { name: "this".to_owned(), program: env!("CARGO_BIN_EXE_switchboard").into() };
    let mut builds: Vec<Build> = options.servers.iter().cloned().chain([this]).collect();
    let mut rows = Rows::new();
    for round in 0..options.rounds {
        for build in &builds {
            progress.begin(&format!("round {}, {}", round + 1, build.name));
            measure(options, build, round, slow_disk.as_deref(), &mut rows).await;
            progress.end();
        }
        builds.reverse();
    }
    let budget = flushes.p99 * 2 + Duration::from_millis(5);
    println!("two flushes (p99) and 5 ms, the budget from call to browser: {budget:?}");
    for (row, values) in &rows {
        let this = median(&values["this"]);
        print!("{row:40} {this:>8.0}");
        for (name, values) in values.iter().filter(|(name, _)| *name != "this") {
            let other = median(values);
            print!("   {name} {other:>8.0}, this / {name} {:.2}", this / other);
        }
        println!();
    }
    let many = median(&rows["internal, 64 senders, a second"]["this"]);
    println!(
        "64 senders are {:.1} × the rate of one flush a message, {:.1} × one commit a message, {:.1} × one sender",
        many / flushes.rate,
        many / commits.rate,
        many / median(&rows["internal, 1 sender, a second"]["this"])
    );
    println!("{}", progress.summary("measurements"));
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

async fn measure(options: &Options, build: &Build, round: usize, slow_disk: Option<&Path>, rows: &mut Rows) {
    let time = Duration::from_secs(options.seconds);
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let store = options.store.as_ref().map(|store| store.replace("{}", &build.name));
    let server = Server::start(&build.program, folder.path(), store.as_deref(), slow_disk);
    let client = Client::new(&server);
    let numbers: Vec<_> = (0..USERS).map(|user| json!({"number": number(user), "user_id": user})).collect();
    client.post("phone_numbers", &json!({"phone_numbers": numbers})).await;
    let mut note = |row, value| {
        rows.entry(row).or_default().entry(build.name.clone()).or_default().push(value);
    };
    let mut both = |[rate, cpu]: [&'static str; 2], measured: &Throughput| {
        note(rate, measured.rate);
        note(cpu, measured.cpu_each);
    };
    let one = throughput(&client, &server, 1, time).await;
    both(["internal, 1 sender, a second", "internal, 1 sender, µs of CPU each"], &one);
    let internal = throughput(&client, &server, 64, time).await;
    both(["internal, 64 senders, a second", "internal, 64 senders, µs of CPU each"], &internal);
    // Not those of an earlier round in the same database.
    let first = (round as u64 + 1) * 1_000_000_000;
    let one = inbound(&client, &server, first, WEBHOOKS * options.seconds / 4, 1).await;
    both(["inbound, 1 connection, a second", "inbound, 1 connection, µs of CPU each"], &one);
    let outside = inbound(&client, &server, first + 500_000_000, WEBHOOKS * options.seconds, 64).await;
    both(["inbound, 64 connections, a second", "inbound, 64 connections, µs of CPU each"], &outside);
    let (p50, p99) = latency(&client, &server, time).await;
    note("call to browser p50, µs", p50);
    note("call to browser p99, µs", p99);
    let (name, round) = (&build.name, round + 1);
    println!("round {round}, {name}: {:.0} internal, {:.0} inbound a second", internal.rate, outside.rate);
}

/// Measures the disk on another thread, so that Ctrl-C is heard meanwhile.
async fn beside(
    folder: &Path,
    delay: Duration,
    measure: fn(&Path, Duration, Duration) -> disk::Rate,
) -> disk::Rate {
    let folder = folder.to_owned();
    tokio::task::spawn_blocking(move || measure(&folder, delay, DISK_TIME)).await.expect("measured")
}

fn number(user: usize) -> String {
    format!("+1312555{:04}", 1000 + user)
}

struct Throughput {
    rate: f64,
    cpu_each: f64,
}

/// So many senders, each with its next message when the last one was acknowledged.
async fn throughput(client: &Client, server: &Server, senders: usize, time: Duration) -> Throughput {
    let (start, cpu) = (Instant::now(), server.cpu());
    let end = start + time;
    let send = async |sender: usize| {
        let mut sent = 0_u64;
        while Instant::now() < end {
            let to = number((sender + 1 + sent as usize % (USERS - 1)) % USERS);
            let answer = client
                .post(
                    "messages",
                    &json!({"user_id": sender, "to": to, "text": format!("Message {sent} of {sender}")}),
                )
                .await;
            assert_eq!(answer["internal"], true, "{answer}");
            sent += 1;
        }
        sent
    };
    let sent: u64 = join_all((0..senders).map(send)).await.into_iter().sum();
    of(sent, start, server.cpu() - cpu)
}

fn of(count: u64, start: Instant, cpu: Duration) -> Throughput {
    Throughput {
        rate: count as f64 / start.elapsed().as_secs_f64(),
        cpu_each: cpu.as_secs_f64() * 1e6 / count as f64,
    }
}

/// So many webhooks over so many connections, each with its next one when the last was taken, until all of them are
/// messages.
async fn inbound(client: &Client, server: &Server, first: u64, count: u64, connections: u64) -> Throughput {
    let webhook = |index: u64| {
        let user = index % USERS as u64;
        let contact = index / USERS as u64 % CONTACTS;
        Webhook::inbound(
            first + index,
            &format!("+1415555{:04}", user * CONTACTS + contact),
            &number(user as usize),
        )
    };
    // Signed before, so that the generator's work is not measured.
    let webhooks: Vec<Webhook> = (0..count).map(webhook).collect();
    let (start, cpu) = (Instant::now(), server.cpu());
    let bring = async |connection: u64| {
        for webhook in webhooks.iter().skip(connection as usize).step_by(connections as usize) {
            client.webhook(webhook).await;
        }
    };
    join_all((0..connections).map(bring)).await;
    while client.get("status").await["inbox"]["count"] != 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    of(count, start, server.cpu() - cpu)
}

/// At a steady pace, from the call to the recipient's WebSocket: median and 99 % in microseconds.
async fn latency(client: &Client, server: &Server, time: Duration) -> (f64, f64) {
    let recipient = USERS - 1;
    let mut listener = Listener::subscribe(server, &format!("user.{recipient}")).await;
    let (mut seen, mut due) = (Vec::new(), tokio::time::interval(Duration::from_secs(1) / PACE));
    for index in 0..(time.as_secs() as u32 * PACE) {
        due.tick().await;
        let text = format!("latency {index}");
        let start = Instant::now();
        let message = json!({"user_id": index % 64, "to": number(recipient), "text": text});
        let (_, ()) = tokio::join!(client.post("messages", &message), listener.wait_for(&text));
        seen.push(start.elapsed());
    }
    seen.sort_unstable();
    let micros = |time: Duration| time.as_secs_f64() * 1e6;
    (micros(seen[seen.len() / 2]), micros(seen[seen.len() * 99 / 100]))
}
