//! The `switchboard` binary.

use std::io;
use std::process::ExitCode;

fn main() -> ExitCode {
    let environment = std::env::vars_os().collect();
    switchboard::cli::run(std::env::args_os(), environment, &mut io::stdout(), &mut io::stderr()).into()
}
