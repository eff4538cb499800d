//! How far long work is: a line that changes on a terminal, a plain line now and then elsewhere.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use indicatif::{HumanDuration, ProgressBar, ProgressStyle};

/// Time between two plain lines.
const PLAIN_EVERY: Duration = Duration::from_secs(2);
/// Work of so many things begins with a plain line.
const LONG: usize = 2_000;

/// Reports to standard error while it lives.
pub(super) struct Progress {
    what: &'static str,
    total: usize,
    bar: ProgressBar,
    started: Instant,
    reported: Instant,
}

impl Progress {
    /// `what` names the things that are counted.
    pub(super) fn new(what: &'static str, total: usize) -> Self {
        // The bar is hidden where standard error is no terminal.
        let bar = ProgressBar::new(total as u64);
        let template = "{bar:30} {human_pos} of {human_len} {msg}, {per_sec}, {eta} left";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.set_message(what);
        if bar.is_hidden() && total >= LONG {
            write_line(&format!("0 of {total} {what}"));
        }
        let now = Instant::now();
        Self { what, total, bar, started: now, reported: now }
    }

    /// So many are done.
    pub(super) fn set(&mut self, done: usize) {
        self.bar.set_position(done as u64);
        if self.bar.is_hidden() && self.reported.elapsed() >= PLAIN_EVERY {
            self.reported = Instant::now();
            write_line(&plain(self.what, done, self.total, self.started.elapsed()));
        }
    }

    /// Time since the beginning.
    pub(super) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

fn write_line(line: &str) {
    // Progress that nobody can read is no reason to stop.
    let _ = writeln!(io::stderr(), "{line}");
}

fn plain(what: &str, done: usize, total: usize, elapsed: Duration) -> String {
    let rate = done as f64 / elapsed.as_secs_f64().max(0.001);
    let left = Duration::from_secs_f64(total.saturating_sub(done) as f64 / rate.max(0.001));
    format!("{done} of {total} {what}, {rate:.0} a second, about {} left", HumanDuration(left))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_line_has_rate_and_rest() {
        let line = plain("numbers", 20_000, 100_000, Duration::from_secs(2));
        assert_eq!(line, "20000 of 100000 numbers, 10000 a second, about 8 seconds left");
    }
}
