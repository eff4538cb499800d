//! Where a long piece of work stands: one line that is written over on a terminal, plain lines elsewhere.

use std::io::{self, IsTerminal, Write as _};
use std::time::{Duration, Instant};

/// Counts steps and guesses the time that is left from the time that the steps so far have taken.
pub struct Progress {
    start: Instant,
    steps: usize,
    done: usize,
    is_terminal: bool,
}

impl Progress {
    /// Nothing is done yet of so many steps.
    pub fn new(steps: usize) -> Self {
        Self { start: Instant::now(), steps, done: 0, is_terminal: io::stderr().is_terminal() }
    }

    /// Says what runs now.
    pub fn begin(&self, what: &str) {
        let line = format!("[{} of {}] {what}{}", self.done + 1, self.steps, self.left());
        if self.is_terminal {
            eprint!("\r\x1b[2K{line}");
        } else {
            eprintln!("{line}");
        }
        // A terminal that is gone is no reason to stop.
        let _ = io::stderr().flush();
    }

    /// The step that ran is over. On a terminal its line makes room for what is printed next.
    pub fn end(&mut self) {
        self.done += 1;
        if self.is_terminal {
            eprint!("\r\x1b[2K");
        }
    }

    /// What was done, and in which time.
    pub fn summary(&self, steps: &str) -> String {
        format!("{} of {} {steps} in {}", self.done, self.steps, spoken(self.start.elapsed()))
    }

    fn left(&self) -> String {
        let Some(each) = self.start.elapsed().checked_div(u32::try_from(self.done).unwrap_or(u32::MAX))
        else {
            return String::new();
        };
        let left = each * u32::try_from(self.steps - self.done).unwrap_or(u32::MAX);
        format!(", about {} left", spoken(left))
    }
}

/// `45 s`, `3 min 20 s`.
fn spoken(time: Duration) -> String {
    match (time.as_secs() / 60, time.as_secs() % 60) {
        (0, seconds) => format!("{seconds} s"),
        (minutes, seconds) => format!("{minutes} min {seconds} s"),
    }
}
