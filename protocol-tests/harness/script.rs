//! A program in another language, driven over JSON lines: one object a line on stdin and stdout.
//!
//! Lines it prints carry `"kind"`. It should end when its stdin closes; dropping the [`Script`] kills it
//! with everything it started.

use std::collections::VecDeque;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::Value;
use tokio::sync::mpsc;

use super::server::Output;
use super::{DEADLINE, within};

#[derive(Debug)]
pub struct Script {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: mpsc::UnboundedReceiver<String>,
    /// Read while waiting for another kind.
    passed: VecDeque<Value>,
    stderr: Output,
    name: String,
}

impl Script {
    /// Starts `command` in a process group of its own.
    pub fn spawn(mut command: Command) -> Self {
        let name = format!("{command:?}");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let mut child = command.spawn().unwrap_or_else(|e| panic!("{name}: {e}"));
        let (sender, lines) = mpsc::unbounded_channel();
        let (stdout, stderr) = (Output::default(), Output::default());
        stdout.follow(child.stdout.take().expect("stdout is piped"), move |line| {
            // A closed receiver means nobody waits any more.
            let _ = sender.send(line.to_owned());
        });
        stderr.follow(child.stderr.take().expect("stderr is piped"), |_| {});
        let stdin = child.stdin.take();
        Self { child, stdin, lines, passed: VecDeque::new(), stderr, name }
    }

    /// Writes one line.
    pub fn send(&mut self, message: &Value) {
        let stdin = self.stdin.as_mut().expect("stdin is open");
        if let Err(e) = writeln!(stdin, "{message}").and_then(|()| stdin.flush()) {
            panic!("{} does not read: {e}\n{}", self.name, self.stderr.text());
        }
    }

    /// Closes stdin, which asks the program to end.
    pub fn close_stdin(&mut self) {
        self.stdin = None;
    }

    /// The next line of this kind; others are kept for later.
    pub async fn wait_for(&mut self, kind: &str) -> Value {
        self.wait_for_within(kind, DEADLINE).await
    }

    pub async fn wait_for_within(&mut self, kind: &str, limit: Duration) -> Value {
        self.wait_until(kind, limit, |message| message["kind"] == kind).await
    }

    /// The next line `wanted` accepts; others are kept for later.
    pub async fn wait_until(
        &mut self,
        what: &str,
        limit: Duration,
        wanted: impl Fn(&Value) -> bool,
    ) -> Value {
        if let Some(index) = self.passed.iter().position(&wanted) {
            return self.passed.remove(index).expect("just found");
        }
        let what = format!("{what:?} from {}", self.name);
        within(limit, &what, async {
            loop {
                let message = self.read().await;
                if wanted(&message) {
                    return message;
                }
                self.passed.push_back(message);
            }
        })
        .await
    }

    /// The next line whatever its kind.
    pub async fn next(&mut self) -> Value {
        if let Some(message) = self.passed.pop_front() {
            return message;
        }
        let what = format!("a line from {}", self.name);
        within(DEADLINE, &what, self.read()).await
    }

    /// Lines read so far that nobody waited for.
    pub fn passed(&self) -> impl Iterator<Item = &Value> {
        self.passed.iter()
    }

    async fn read(&mut self) -> Value {
        let Some(line) = self.lines.recv().await else {
            panic!("{} ended ({:?})\n{}", self.name, self.child.try_wait(), self.stderr.text());
        };
        serde_json::from_str(&line).unwrap_or_else(|e| panic!("{} printed no JSON ({e}): {line}", self.name))
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("--- {} wrote ---\n{}---", self.name, self.stderr.tail(60));
        }
        let group = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        if let Some(group) = group {
            // Gone already when the program has ended and started nothing.
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = self.child.wait();
    }
}
