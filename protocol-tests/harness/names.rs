//! Names nobody else uses, so that tests can share one server.

use std::sync::atomic::{AtomicU64, Ordering};

static COUNTER: AtomicU64 = AtomicU64::new(0);

/// `prefix` and a suffix that no other call returns.
pub fn unique(prefix: &str) -> String {
    let count = COUNTER.fetch_add(1, Ordering::Relaxed);
    format!("{prefix}{count}-{:08x}", fastrand::u32(..))
}
