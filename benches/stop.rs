//! Ctrl-C: ends what this program has started, so that nothing goes on without it.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use rustix::process::{Pid, Signal, kill_process};
use tokio::signal::unix::{SignalKind, signal};

static STOPPED: AtomicBool = AtomicBool::new(false);

/// Whether somebody wants this to end.
pub fn is_wanted() -> bool {
    STOPPED.load(Ordering::Relaxed)
}

/// From now on SIGINT and SIGTERM end the children, and the program goes on as far as its next question
/// [`is_wanted`], so that it removes its folders.
pub fn listen() {
    thread::spawn(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let mut interrupt = signal(SignalKind::interrupt()).expect("a handler");
            let mut terminate = signal(SignalKind::terminate()).expect("a handler");
            loop {
                tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
                STOPPED.store(true, Ordering::Relaxed);
                for child in children() {
                    // One that has ended by itself is no longer there.
                    let _ = kill_process(child, Signal::KILL);
                }
            }
        });
    });
}

/// The processes that this one has started and not yet waited for.
fn children() -> Vec<Pid> {
    let mut found = Vec::new();
    for task in fs::read_dir("/proc/self/task").into_iter().flatten().flatten() {
        let list = fs::read_to_string(task.path().join("children")).unwrap_or_default();
        found.extend(list.split_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?)));
    }
    found
}
