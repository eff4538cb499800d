//! Where a command writes, and in which form.

use std::io::{self, Write};

use serde::Serialize;

/// Standard output and standard error of one command.
pub(super) struct Terminal<'a> {
    out: &'a mut dyn Write,
    err: &'a mut dyn Write,
    json: bool,
}

impl<'a> Terminal<'a> {
    pub(super) fn new(out: &'a mut dyn Write, err: &'a mut dyn Write, json: bool) -> Self {
        Self { out, err, json }
    }

    /// Whether results are JSON.
    pub(super) fn json(&self) -> bool {
        self.json
    }

    /// Writes a result: the value with `--json`, otherwise the text.
    pub(super) fn answer(&mut self, value: &impl Serialize, text: impl FnOnce() -> String) -> io::Result<()> {
        if self.json { self.object(value) } else { self.text(&text()) }
    }

    /// Writes one line of JSON.
    pub(super) fn object(&mut self, value: &impl Serialize) -> io::Result<()> {
        writeln!(self.out, "{}", serde_json::to_string(value)?)?;
        self.out.flush()
    }

    /// Writes text as it is.
    pub(super) fn text(&mut self, text: &str) -> io::Result<()> {
        self.out.write_all(text.as_bytes())?;
        self.out.flush()
    }

    /// Writes a line to standard error. A failure is ignored: there is nowhere to report it.
    pub(super) fn complain(&mut self, text: &str) {
        let _ = writeln!(self.err, "switchboard: {text}");
    }
}
