//! What the message router does a second, and how soon a message is seen.
//!
//! ```text
//! cargo bench --bench router -- [--seconds N] [--store URL] [--flush-delay MS]
//! ```
//!
//! `throughput`: internal messages, each acknowledged when it is on disk, from 64 senders at once and from
//! one; beside them, on the same disk in the same run, one `fdatasync` for each write of a page, and for
//! each commit of a small SQLite transaction. `latency`: 100 messages a second, from the call to the
//! recipient's WebSocket. `--flush-delay` makes each flush that much slower, for the server and for what is
//! measured beside it: a disk without a write cache takes milliseconds. `docs/performance.md` explains the figures.

mod client;
mod disk;
#[path = "../progress.rs"]
mod progress;
mod server;

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use futures_util::future::join_all;
use serde_json::json;

use client::{Client, Listener};
use progress::Progress;
use server::Server;

/// Users with a number each; senders are among them.
const USERS: usize = 128;
/// Messages a second while latency is measured.
const PACE: u32 = 100;
/// As shells say it of a program that ended by Ctrl-C.
const INTERRUPTED: u8 = 130;
/// How long the disk is measured, each way.
const DISK_TIME: Duration = Duration::from_secs(3);

/// Measures the message router.
#[derive(Parser)]
#[command(bin_name = "cargo bench --bench router --")]
struct Options {
    /// Length of each measurement
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Where messages are kept [default: an SQLite file beside the build output]
    #[arg(long, value_name = "URL")]
    store: Option<String>,
    /// Milliseconds that each flush of the disk takes longer; needs a C compiler
    #[arg(long, default_value_t = 0, value_name = "MS")]
    flush_delay: u64,
    /// Given by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
}

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
    let time = Duration::from_secs(options.seconds);
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let delay = Duration::from_millis(options.flush_delay);
    let mut progress = Progress::new(5);
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

    let server = Server::start(folder.path(), options.store.as_deref(), slow_disk.as_deref());
    let client = Client::new(&server);
    let numbers: Vec<_> = (0..USERS).map(|user| json!({"number": number(user), "user_id": user})).collect();
    client.post("phone_numbers", &json!({"phone_numbers": numbers})).await;

    progress.begin("messages of 1 sender");
    let one = throughput(&client, &server, 1, time).await;
    progress.end();
    println!("internal, 1 sender:         {:>8.0} a second, {:.0} µs of CPU each", one.rate, one.cpu_each);
    progress.begin("messages of 64 senders");
    let many = throughput(&client, &server, 64, time).await;
    progress.end();
    println!("internal, 64 senders:       {:>8.0} a second, {:.0} µs of CPU each", many.rate, many.cpu_each);
    println!(
        "64 senders are {:.1} × the rate of one flush a message, {:.1} × one commit a message, {:.1} × one sender",
        many.rate / flushes.rate,
        many.rate / commits.rate,
        many.rate / one.rate
    );
    progress.begin("from the call to the browser");
    latency(&client, &server, time, &flushes).await;
    progress.end();
    println!("{}", progress.summary("measurements"));
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
    let cpu = server.cpu() - cpu;
    Throughput {
        rate: sent as f64 / start.elapsed().as_secs_f64(),
        cpu_each: cpu.as_secs_f64() * 1e6 / sent as f64,
    }
}

/// At a steady pace, from the call to the recipient's WebSocket.
async fn latency(client: &Client, server: &Server, time: Duration, flushes: &disk::Rate) {
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
    let (p50, p99) = (seen[seen.len() / 2], seen[seen.len() * 99 / 100]);
    let budget = flushes.p99 * 2 + Duration::from_millis(5);
    println!(
        "call to browser at {PACE} a second: p50 {p50:?}, p99 {p99:?}; two flushes (p99) and 5 ms are {budget:?}"
    );
}
