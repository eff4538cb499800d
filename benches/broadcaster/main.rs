//! The budget benchmark: what a delivery, an event, a connection cost the server, beside a raw epoll sender.
//!
//! ```text
//! cargo bench --bench broadcaster -- [SCENARIO…] [--rounds N] [--quick] [--json FILE] [--svg FILE]
//! ```
//!
//! Roles in one program, which executes itself again: the orchestrator (`main`, `server`, `report`), the
//! load generator (`load`) and the receiver of webhooks (`receiver`) on one core, and the raw sender (`raw`) on
//! the other, where the server under test runs when it is its turn. Every run has a fresh server process; servers take turns within each round.
//! `docs/performance.md` explains the rows and the method.

mod chart;
mod load;
mod process;
#[path = "../progress.rs"]
mod progress;
mod raw;
mod receiver;
mod report;
mod scenario;
mod server;
#[path = "../stop.rs"]
mod stop;
mod wire;

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use clap::{Parser, ValueEnum};
use process::{Cores, spawn_pinned};
use progress::Progress;
use report::Sample;
use scenario::{Job, Outcome, Scenario};
use server::Candidate;

/// The server that the budget is for.
const SUBJECT: &str = "switchboard";
/// Above this share of its core, and busier than the server, the generator may have set the pace.
const BUSY_GENERATOR: f64 = 0.9;
/// Above this share of waiting for the core, other work on the machine has disturbed the run.
const DISTURBED: f64 = 0.1;
/// As shells say it of a program that ended by Ctrl-C.
const INTERRUPTED: u8 = 130;

/// Measures switchboard beside a raw epoll sender and checks every delivery.
#[derive(Parser)]
#[command(bin_name = "cargo bench --bench broadcaster --")]
struct Options {
    /// What to measure; everything when none is named
    #[arg(value_enum)]
    scenarios: Vec<Scenario>,
    /// Rounds in which every server is measured once [default: 3, with --quick 1]
    #[arg(long)]
    rounds: Option<u32>,
    /// Shorter phases and fewer connections: a check, not a measurement
    #[arg(long)]
    quick: bool,
    /// Write every sample to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Draw the chart of cost per delivery and memory per connection (needs paced, saturated and idle)
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Measure nothing, and draw what an earlier run wrote with --json
    #[arg(long, value_name = "FILE", requires = "svg", conflicts_with = "json")]
    from: Option<PathBuf>,
    /// Measure another switchboard binary too
    #[arg(long, value_name = "PATH=NAME", value_parser = server::parse_binary)]
    server: Vec<Candidate>,
    /// Measure a running Pusher server too
    #[arg(long, value_name = "NAME=HOST:PORT,PID,APP_ID,KEY,SECRET", value_parser = server::parse_running)]
    target: Vec<Candidate>,
    /// Start another Pusher server with a shell command, anew for each run, and measure it too
    #[arg(long, value_name = "NAME=HOST:PORT,APP_ID,KEY,SECRET,COMMAND", value_parser = server::parse_peer)]
    peer: Vec<Candidate>,
    /// Measure only the servers of these names
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    only: Vec<String>,
    /// Exit with 3 when a "must" of the budget is missed
    #[arg(long)]
    enforce: bool,
    /// Check the checks: measure senders that lose, double and reorder, and fail unless each is caught
    #[arg(long)]
    self_test: bool,
    /// Given by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let role = arguments.next();
    let done = match role.as_deref() {
        Some("load") => load::run(&arguments.next().unwrap_or_default()).map(|()| ExitCode::SUCCESS),
        Some("raw-each") => raw::run(raw::Mode::Each).map(|()| ExitCode::SUCCESS),
        Some("raw-join") => raw::run(raw::Mode::Join).map(|()| ExitCode::SUCCESS),
        Some("raw-losing") => raw::run(raw::Mode::Losing).map(|()| ExitCode::SUCCESS),
        Some("raw-doubling") => raw::run(raw::Mode::Doubling).map(|()| ExitCode::SUCCESS),
        Some("raw-swapping") => raw::run(raw::Mode::Swapping).map(|()| ExitCode::SUCCESS),
        Some(receiver::ROLE) => receiver::run().map(|()| ExitCode::SUCCESS),
        // What `cargo test --all-targets` does.
        None => {
            println!("run me with: cargo bench --bench broadcaster");
            Ok(ExitCode::SUCCESS)
        }
        Some(_) => match Options::parse() {
            Options { from: Some(from), svg: Some(svg), .. } => redraw(&from, &svg),
            options => orchestrate(&options),
        },
    };
    done.unwrap_or_else(|error| {
        eprintln!("broadcaster: {error}");
        ExitCode::FAILURE
    })
}

/// Draws the chart of an earlier run.
fn redraw(from: &Path, svg: &Path) -> io::Result<ExitCode> {
    draw(&serde_json::from_slice(&fs::read(from)?)?, svg)?;
    Ok(ExitCode::SUCCESS)
}

fn draw(document: &serde_json::Value, file: &Path) -> io::Result<()> {
    write_whole(file, chart::svg(document).map_err(io::Error::other)?.as_bytes())
}

/// Writes a file beside its place and then puts it there, so that no reader sees half of it.
fn write_whole(file: &Path, content: &[u8]) -> io::Result<()> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut whole = tempfile::Builder::new().permissions(readable()).tempfile_in(folder)?;
    whole.write_all(content)?;
    whole.persist(file)?;
    println!("wrote {}", file.display());
    Ok(())
}

/// As a file that is created without further words, not one for its owner alone.
fn readable() -> fs::Permissions {
    std::os::unix::fs::PermissionsExt::from_mode(0o666)
}

fn orchestrate(options: &Options) -> io::Result<ExitCode> {
    stop::listen();
    let limit = rlimit::increase_nofile_limit(u64::MAX)?;
    let cores = Cores::choose()?;
    println!("server on core {}, generator on core {}, {limit} open files", cores.server, cores.generator);
    if cores.is_shared() {
        println!("NOTE: one core only; generator and server take turns on it, latencies mean little");
    }
    if cfg!(debug_assertions) {
        println!("NOTE: not an optimised build; the figures mean nothing");
    }
    if options.self_test {
        return Ok(self_test(options, cores));
    }
    let candidates = candidates(options)?;
    let servers: Vec<_> = candidates.iter().map(|candidate| candidate.name().to_owned()).collect();
    let (scenarios, rounds) = (scenarios(options), rounds(options));
    let runs = scenarios.iter().map(|&scenario| rounds as usize * suiting(&candidates, scenario).count());
    let mut bench = Bench::new(options, cores, runs.sum(), candidates);
    let mut lines = Vec::new();
    for scenario in scenarios {
        bench.measure(scenario, rounds);
        if stop::is_wanted() {
            println!("stopped: {}, nothing was written", bench.progress.summary("runs"));
            return Ok(ExitCode::from(INTERRUPTED));
        }
        let new = report::lines(scenario, &bench.samples, &servers, SUBJECT);
        println!("\n{}", report::table(&new, &servers));
        lines.extend(new);
    }
    let missed = lines.iter().filter(|line| line.must_met == Some(false)).count();
    println!("all together\n\n{}", report::table(&lines, &servers));
    println!("(in brackets: ratio to raw-each, median of the rounds' ratios)");
    let document = bench.document(&servers, &lines);
    if let Some(path) = &options.json {
        write_whole(path, &serde_json::to_vec_pretty(&document)?)?;
    }
    if let Some(path) = &options.svg {
        draw(&document, path)?;
    }
    let done = bench.progress.summary("runs");
    println!("{done}; musts missed: {missed}; runs with violations: {}", bench.failures);
    Ok(match (bench.failures, missed) {
        (1.., _) => ExitCode::FAILURE,
        (0, 1..) if options.enforce => ExitCode::from(3),
        _ => ExitCode::SUCCESS,
    })
}

/// Runs the generator against senders with a fault.
fn self_test(options: &Options, cores: Cores) -> ExitCode {
    let faulty = ["raw-losing", "raw-doubling", "raw-swapping"].map(Candidate::Faulty).to_vec();
    let expected = faulty.len();
    let mut bench = Bench::new(options, cores, expected, faulty);
    bench.measure(Scenario::Saturated, 1);
    println!("{} of {expected} faulty senders caught", bench.failures);
    if bench.failures == expected { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn scenarios(options: &Options) -> Vec<Scenario> {
    if options.scenarios.is_empty() { Scenario::value_variants().to_vec() } else { options.scenarios.clone() }
}

fn rounds(options: &Options) -> u32 {
    options.rounds.unwrap_or(if options.quick { 1 } else { 3 })
}

/// Those about which a scenario says anything.
fn suiting(candidates: &[Candidate], scenario: Scenario) -> impl Iterator<Item = &Candidate> {
    candidates.iter().filter(move |candidate| candidate.suits(scenario))
}

fn candidates(options: &Options) -> io::Result<Vec<Candidate>> {
    let subject =
        Candidate::Binary { name: SUBJECT.to_owned(), path: env!("CARGO_BIN_EXE_switchboard").into() };
    let mut candidates = vec![Candidate::RawEach, Candidate::RawJoin, subject];
    candidates.extend(options.server.iter().chain(&options.target).chain(&options.peer).cloned());
    if let Some(stranger) =
        options.only.iter().find(|name| candidates.iter().all(|known| known.name() != *name))
    {
        return Err(io::Error::other(format!("--only {stranger}: there is no such server")));
    }
    if !options.only.is_empty() {
        candidates.retain(|candidate| options.only.iter().any(|name| name == candidate.name()));
    }
    Ok(candidates)
}

struct Bench<'a> {
    options: &'a Options,
    cores: Cores,
    candidates: Vec<Candidate>,
    samples: Vec<Sample>,
    /// Runs in which a promise was broken.
    failures: usize,
    progress: Progress,
}

impl<'a> Bench<'a> {
    fn new(options: &'a Options, cores: Cores, runs: usize, candidates: Vec<Candidate>) -> Self {
        let progress = Progress::new(runs);
        Self { options, cores, candidates, samples: Vec::new(), failures: 0, progress }
    }

    fn measure(&mut self, scenario: Scenario, rounds: u32) {
        println!("\n{}", scenario.name());
        for round in 0..rounds {
            for candidate in suiting(&self.candidates.clone(), scenario) {
                let (name, server) = (scenario.name(), candidate.name().to_owned());
                self.progress.begin(&format!("{name}, round {} of {rounds}, {server}", round + 1));
                let outcome = self.run(candidate, scenario, round);
                if stop::is_wanted() {
                    return;
                }
                self.progress.end();
                let outcome = outcome.unwrap_or_else(|error| Outcome {
                    violations: vec![error.to_string()],
                    ..Outcome::default()
                });
                self.tell(round, &server, &outcome);
                self.samples.push(Sample { scenario, round, server, outcome });
            }
        }
    }

    fn run(&self, candidate: &Candidate, scenario: Scenario, round: u32) -> io::Result<Outcome> {
        let mut server = candidate.start(self.cores, None)?;
        let mut beside = None;
        // Kept until the end of the run.
        let mut receiver = None;
        if scenario == Scenario::Webhooks {
            let webhook = receiver.insert(receiver::start(self.cores)?).target.address;
            beside = Some(candidate.start(self.cores, Some(webhook))?);
        }
        let mut outcome = self.drive(&Job {
            target: server.target.clone(),
            beside: beside.as_ref().map(|server| server.target.clone()),
            scenario,
            round,
            quick: self.options.quick,
        })?;
        if let Some(beside) = &mut beside {
            outcome.violations.extend(beside.complaints()?);
        }
        outcome.violations.extend(server.complaints()?);
        if !outcome.violations.is_empty() && !server.log().is_empty() {
            outcome.notes.push(format!("the server's log ends with:\n{}", server.log()));
        }
        Ok(outcome)
    }

    /// Runs the load generator to its end.
    fn drive(&self, job: &Job) -> io::Result<Outcome> {
        let job = serde_json::to_string(job)?;
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["load", &job]).stdin(Stdio::null()).stdout(Stdio::piped());
        let output = spawn_pinned(self.cores.generator, &mut command)?.wait_with_output()?;
        if !output.status.success() {
            return Err(io::Error::other(format!("the load generator ended with {}", output.status)));
        }
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    fn tell(&mut self, round: u32, server: &str, outcome: &Outcome) {
        let share = |name: &str| outcome.metrics.get(name).copied().unwrap_or_default();
        println!(
            "  round {} {server:<12} server {:3.0} % of its core, generator {:3.0} %",
            round + 1,
            100.0 * share("server_share"),
            100.0 * share("generator_share")
        );
        if share("generator_share") > BUSY_GENERATOR.max(share("server_share")) {
            println!("    WARNING: the generator was the bottleneck");
        }
        let waited = share("server_waited_share").max(share("generator_waited_share"));
        if waited > DISTURBED && !self.cores.is_shared() {
            println!(
                "    WARNING: other work kept a core from its process for {:.0} % of the time",
                100.0 * waited
            );
        }
        for note in &outcome.notes {
            println!("    note: {note}");
        }
        for violation in &outcome.violations {
            println!("    VIOLATION: {violation}");
        }
        self.failures += usize::from(!outcome.violations.is_empty());
    }

    fn document(&self, servers: &[String], lines: &[report::Line]) -> serde_json::Value {
        serde_json::json!({
            "cores": self.cores,
            "quick": self.options.quick,
            "rounds": rounds(self.options),
            "kernel": kernel_version(),
            "servers": servers,
            "rows": lines,
            "samples": self.samples,
        })
    }
}

/// The kernel's version without what a distribution adds to it.
fn kernel_version() -> String {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    release.trim().split('-').next().unwrap_or_default().to_owned()
}
