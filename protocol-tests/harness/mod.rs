//! What every test stands on: the real binary on a free port, and clients that speak raw bytes to it.
//!
//! - [`server`] starts and ends `switchboard`; [`shared`] lends one process to all tests that need no
//!   settings of their own.
//! - [`http`] sends signed and raw requests, [`ws`] is a Pusher client that trusts nothing, [`raw_ws`]
//!   writes WebSocket frames byte by byte.
//! - [`watcher`] sees what is published to a channel, and that nothing was.
//! - [`sign`] is an own implementation of the signatures, checked against published vectors.
//! - [`messaging`] is a server with a router, [`carrier`] the stand-in it sends through, [`portal`] the
//!   backend it calls back, [`databases`] the servers it may keep its records in, [`disk`] a disk that
//!   hangs or breaks, [`clock`] a clock that is set.
//! - [`proxy`] runs the reverse proxies that Debian has.
//! - [`script`] runs a Node or Python program that talks in JSON lines.
//!
//! Every wait has a deadline, nothing sleeps, and whatever was started ends with its owner.

#![allow(dead_code, reason = "a harness offers more than each area uses")]

pub mod carrier;
pub mod clock;
pub mod databases;
pub mod disk;
pub mod http;
pub mod messaging;
pub mod names;
pub mod portal;
pub mod proxy;
pub mod raw_ws;
pub mod script;
pub mod server;
pub mod shared;
pub mod sign;
pub mod watcher;
pub mod webhook;
pub mod ws;

use std::time::Duration;

/// How long anything may take that is expected to happen at once. Long, because a loaded machine is
/// slow; a passing test never waits for it.
pub const DEADLINE: Duration = Duration::from_secs(15);

/// Runs `future`, failing the test with `what` when it takes longer than `limit`.
pub async fn within<T>(limit: Duration, what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(limit, future).await {
        Ok(value) => value,
        Err(_) => panic!("waited {limit:?} in vain for {what}"),
    }
}

/// Runs a test on a stack of 16 MiB: unoptimised, the futures of two databases are too much for 2 MiB.
pub fn on_a_large_stack<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send + 'static) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let thread = std::thread::Builder::new().stack_size(16 << 20);
    let thread = thread.spawn(move || runtime.block_on(test())).expect("a thread");
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}
