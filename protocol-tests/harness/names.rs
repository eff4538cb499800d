//! Names and ports nobody else uses, so that tests can share one server and one machine.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU64, Ordering};

static COUNTER: AtomicU64 = AtomicU64::new(0);

/// `prefix` and a suffix that no other call returns.
pub fn unique(prefix: &str) -> String {
    let count = COUNTER.fetch_add(1, Ordering::Relaxed);
    format!("{prefix}{count}-{:08x}", fastrand::u32(..))
}

/// A port of 127.0.0.1 on which nobody listens, for what cannot tell which one it got.
///
/// Below the range from which the system takes the ports of outgoing connections, so that none of those
/// comes in between.
pub fn free_port() -> u16 {
    listener().local_addr().expect("bound").port()
}

/// A listener on such a port, for who wants to have it at once.
pub fn listener() -> TcpListener {
    loop {
        if let Ok(listener) = TcpListener::bind(("127.0.0.1", fastrand::u16(10_000..32_000))) {
            return listener;
        }
    }
}
