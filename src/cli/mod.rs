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
mod laravel;
mod numbers;
mod progress;
mod serve;
mod sums;
mod table;
mod terminal;
mod webhooks;

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use serde_json::json;

use crate::config::{Problem, Problems, Sources};
use laravel::LaravelCommand;
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

/// Exit codes and where to begin, below the list of commands. A paragraph is one line, which clap wraps to the
/// terminal; a line of the examples fits 80 columns.
const HELP: &str = "\
Without a command the server starts, as with serve. Without any app in the configuration it starts in \
development mode: it makes an app, prints what Laravel and Echo need, and listens on this machine only.

Examples:
  switchboard                                 start in development mode
  switchboard --env-file .env                 start with a Laravel project's app
  switchboard config init > switchboard.toml  write a file to start from
  switchboard check                           find what would prevent a start

Exit codes: 0 success, 1 the command failed, 2 wrong configuration or arguments.";

/// A server for the Pusher Channels protocol with an embedded router for text messages.
#[derive(Parser)]
#[command(name = "switchboard", version, arg_required_else_help = false, max_term_width = 100, after_help = HELP)]
struct Arguments {
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    command: Option<Command>,
}

/// Taken by every command, so that `check` and `config show` judge exactly what `serve` would run with.
#[derive(Args)]
struct Options {
    /// Read this configuration file [default: switchboard.toml in the current folder, if it exists]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Read variables from a Laravel .env file; those of the process come first
    #[arg(long, global = true, value_name = "FILE")]
    env_file: Option<PathBuf>,
    /// Listen on this address and port, as in 127.0.0.1:6001 (server.bind)
    #[arg(long, global = true, value_name = "ADDRESS")]
    bind: Option<String>,
    /// Log from this level on: error, warn, info, debug, trace, or a filter (log.level)
    #[arg(long, global = true, value_name = "LEVEL")]
    log_level: Option<String>,
    /// Print the result as JSON
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Clone, Subcommand)]
enum Command {
    /// Run the server until SIGTERM or Ctrl-C
    ///
    /// SIGTERM closes the connections over server.drain.window and then ends the server, Ctrl-C ends it at once,
    /// SIGHUP reads the configuration again. Logs go to standard error.
    Serve,
    /// Check configuration, addresses, limits and stores without starting the server
    ///
    /// Prints one line for each check: ok, warning or failed. Exit code 1 if a check failed. The addresses are
    /// taken while the server runs, so stop it before.
    Check,
    /// Ask the running server whether it is ready; for health checks of containers
    ///
    /// Asks the admin port (admin.bind). Exit code 0 if the server is ready, otherwise 1.
    Health,
    /// Show, explain and begin the configuration
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Print what to paste into a Laravel project: commands, .env, Echo, Vue, React
    Laravel(LaravelCommand),
    /// Import and list the phone numbers of an app
    #[command(subcommand)]
    Numbers(NumbersCommand),
    /// List webhooks and their requests, and send requests again
    #[command(subcommand)]
    Webhooks(WebhooksCommand),
    /// Print the version
    Version,
}

#[derive(Clone, Copy, Subcommand)]
enum ConfigCommand {
    /// Print each setting with its value and where the value comes from
    ///
    /// Secrets are shown as fingerprints, passwords in URLs as ***.
    Show {
        /// Print only the settings that differ from their defaults
        #[arg(long)]
        changed: bool,
    },
    /// Print a short file to start from, with one app and random credentials
    ///
    /// Example: switchboard config init > switchboard.toml
    Init,
    /// Print a file with every setting, its meaning and its default, all as comments
    Reference,
    /// Print docs/configuration.md
    Docs,
}

#[derive(Clone, Subcommand)]
enum NumbersCommand {
    /// Add and change phone numbers from a CSV file, also while the server runs
    ///
    /// The first line of the file names the columns: number (required), user_id, status, label, is_default,
    /// messaging_profile_id. A line replaces everything that is known of its number: an empty field becomes empty.
    /// Numbers that are not in the file stay as they are. A file with one wrong line is refused as a whole.
    ///
    /// Ctrl-C stops after the thousand numbers that are being written and says how many are imported; the same
    /// command imports the rest.
    #[command(
        after_help = "Example of a file:\n  number,user_id,label,is_default\n  +13125550100,7,Sales,1\n  \
                            +13125550101,,Spare,"
    )]
    Import {
        /// The CSV file: UTF-8, fields separated by commas or semicolons
        file: PathBuf,
        /// The id of the app; needed when several apps are configured
        #[arg(long, value_name = "ID")]
        app: Option<String>,
        /// Check the file and count the changes, but change nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// Print all phone numbers of an app
    List {
        /// The id of the app; needed when several apps are configured
        #[arg(long, value_name = "ID")]
        app: Option<String>,
    },
}

impl NumbersCommand {
    /// Whether it writes something for an app: in development mode the app is made then, as by `serve`.
    fn needs_app(&self) -> bool {
        matches!(self, Self::Import { dry_run: false, .. })
    }
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
        Command::Config(ConfigCommand::Show { changed }) => {
            config::show(&options.sources(environment, false), changed, &mut terminal)
        }
        Command::Config(ConfigCommand::Reference) => config::reference(&mut terminal),
        Command::Config(ConfigCommand::Init) => config::init(&mut terminal),
        Command::Config(ConfigCommand::Docs) => config::docs(&mut terminal),
        // It never makes the development app: in another folder than the server's, that would be another app.
        Command::Laravel(command) => {
            laravel::run(&command, &options.sources(environment, false), &mut terminal)
        }
        Command::Numbers(command) => {
            let sources = options.sources(environment, command.needs_app());
            numbers::run(command, &sources, &mut terminal)
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
