//! The command line: arguments, commands, exit codes.
//!
//! [`run`] is the whole program but for the process around it, so that tests see what a shell would.
//! Results go to standard output, problems and logs to standard error. May import `config`, `server`,
//! `routing`, `storage`, `http_client` and `logging`.

mod admin_client;
mod banner;
mod check;
mod config;
mod health;
mod numbers;
mod serve;
mod terminal;
mod webhooks;

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use serde_json::json;

use crate::config::{Problem, Problems, Sources};
use terminal::Terminal;
use webhooks::WebhooksCommand;

/// The file that is read when `--config` names none.
const DEFAULT_FILE: &str = "switchboard.toml";

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Code 0.
    Fine,
    /// Code 1: the command could not do its work.
    Failed,
    /// Code 2: bad configuration or usage.
    Misused,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Fine => 0,
            Exit::Failed => 1,
            Exit::Misused => 2,
        })
    }
}

/// A Pusher Channels server with an embedded message router.
#[derive(Parser)]
#[command(name = "switchboard", version, arg_required_else_help = false)]
struct Arguments {
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    command: Option<Command>,
}

/// Taken by every command, so that `check` and `config show` judge exactly what `serve` would run with.
#[derive(Args)]
struct Options {
    /// Configuration file [default: switchboard.toml in the current folder, if it exists]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Laravel .env file, below the process environment
    #[arg(long, global = true, value_name = "FILE")]
    env_file: Option<PathBuf>,
    /// Address of the public port (server.bind)
    #[arg(long, global = true, value_name = "ADDRESS")]
    bind: Option<String>,
    /// error, warn, info, debug, trace or a filter (log.level)
    #[arg(long, global = true, value_name = "LEVEL")]
    log_level: Option<String>,
    /// Write JSON to standard output
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Clone, Subcommand)]
enum Command {
    /// Run the server (what happens without a command, too)
    Serve,
    /// Check configuration, addresses and limits without starting
    Check,
    /// Ask the running server whether it is ready (for containers)
    Health,
    /// Show and explain the configuration
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Fill and show the directory of phone numbers
    #[command(subcommand)]
    Numbers(NumbersCommand),
    /// See what became of webhooks, and send them again
    #[command(subcommand)]
    Webhooks(WebhooksCommand),
    /// Print the version
    Version,
}

#[derive(Clone, Copy, Subcommand)]
enum ConfigCommand {
    /// Print each effective value and where it comes from
    Show,
    /// Print a commented file to start from
    Init,
    /// Print the reference page
    Docs,
}

#[derive(Clone, Subcommand)]
enum NumbersCommand {
    /// Add and change numbers from a CSV file, also while the server runs
    ///
    /// The first line names the columns: number (required), user_id, status, label, is_default,
    /// messaging_profile_id. A line says everything about its number: what it leaves empty becomes empty.
    /// Numbers that the file does not have stay as they are.
    Import {
        /// The file
        file: PathBuf,
        /// Whose numbers; needed when several apps are configured
        #[arg(long, value_name = "ID")]
        app: Option<String>,
        /// Check the file and count, but change nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// Print all numbers of an app
    List {
        /// Whose numbers; needed when several apps are configured
        #[arg(long, value_name = "ID")]
        app: Option<String>,
    },
}

impl Options {
    fn sources(&self, environment: Vec<(OsString, OsString)>, create_development_app: bool) -> Sources {
        // Not `exists`: a dangling link or an unreadable folder must be reported, not skipped.
        let default = || Path::new(DEFAULT_FILE).symlink_metadata().is_ok().then(|| DEFAULT_FILE.into());
        let flags = [("--bind", "server.bind", &self.bind), ("--log-level", "log.level", &self.log_level)];
        Sources {
            file: self.config.clone().or_else(default),
            env_file: self.env_file.clone(),
            environment,
            flags: flags
                .into_iter()
                .filter_map(|(flag, key, value)| Some((flag, key, value.clone()?)))
                .collect(),
            create_development_app,
        }
    }
}

/// Runs the program with these arguments (the first is its name) and this environment.
pub fn run(
    arguments: impl IntoIterator<Item = OsString>,
    environment: Vec<(OsString, OsString)>,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Exit {
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => return usage(&error, out, err),
    };
    let Arguments { options, command } = arguments;
    let mut terminal = Terminal::new(out, err, options.json);
    let result = match command.unwrap_or(Command::Serve) {
        Command::Serve => serve::run(&options.sources(environment, true), &mut terminal),
        Command::Check => check::run(&options.sources(environment, false), &mut terminal),
        Command::Health => health::run(&options.sources(environment, false), &mut terminal),
        Command::Config(ConfigCommand::Show) => {
            config::show(&options.sources(environment, false), &mut terminal)
        }
        Command::Config(ConfigCommand::Init) => config::init(&mut terminal),
        Command::Config(ConfigCommand::Docs) => config::docs(&mut terminal),
        Command::Numbers(command) => {
            numbers::run(command, &options.sources(environment, false), &mut terminal)
        }
        Command::Webhooks(command) => {
            webhooks::run(command, &options.sources(environment, false), &mut terminal)
        }
        Command::Version => version(&mut terminal),
    };
    match result {
        Ok(exit) => exit,
        // `switchboard config docs | head` is no failure.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Exit::Fine,
        Err(error) => {
            terminal.complain(&format!("cannot write: {error}"));
            Exit::Failed
        }
    }
}

/// clap reports `--help` and `--version` as errors, too.
fn usage(error: &clap::Error, out: &mut dyn Write, err: &mut dyn Write) -> Exit {
    let (stream, exit): (&mut dyn Write, _) =
        if error.use_stderr() { (err, Exit::Misused) } else { (out, Exit::Fine) };
    // Nothing is left to report to when this fails.
    let _ = write!(stream, "{}", error.render());
    exit
}

fn version(terminal: &mut Terminal) -> io::Result<Exit> {
    let (name, version) = (env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"));
    terminal.answer(&json!({ "name": name, "version": version }), || format!("{name} {version}\n"))?;
    Ok(Exit::Fine)
}

/// Prints every problem to standard error, and with `--json` to standard output as one object as well.
fn refuse(problems: &Problems, terminal: &mut Terminal) -> io::Result<Exit> {
    for problem in &problems.0 {
        terminal.complain(&problem.to_string());
    }
    if terminal.json() {
        let list: Vec<_> = problems.0.iter().map(Problem::to_json).collect();
        terminal.object(&json!({ "event": "invalid_configuration", "problems": list }))?;
    }
    Ok(Exit::Misused)
}

#[cfg(test)]
mod tests;
