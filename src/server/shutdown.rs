//! Signals, and the order in which the server ends.

use std::io;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::RunError;
use super::http::Busy;
use crate::config::DrainSettings;
use crate::hub::Hub;
use crate::protocol::error_code::ErrorCode;

/// Time beyond the drain window for clients to answer our Close frames.
const CLOSE_GRACE: Duration = Duration::from_secs(8);
/// Time for close frames to leave when the server is told to stop at once.
const STOP_GRACE: Duration = Duration::from_millis(500);
/// How often the number of connections is looked at.
const POLL: Duration = Duration::from_millis(20);

/// The signals that end the server.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Starts listening for them.
    pub fn listen() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn any(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Serves until a signal. SIGTERM: not ready, new connections get 4100, established ones are closed
/// over the drain window, then the end. SIGINT, or a second signal: the end at once.
pub async fn wait(
    mut signals: Signals,
    hub: &Hub,
    busy: &Busy,
    drain: &DrainSettings,
) -> Result<(), RunError> {
    let drains = tokio::select! {
        _ = signals.terminate.recv() => true,
        _ = signals.interrupt.recv() => false,
    };
    if drains {
        tracing::info!(connections = hub.connections(), window = ?drain.window, "draining");
        hub.drain(drain.window, drain.close_code);
        let emptied = tokio::select! {
            emptied = emptied(hub, busy, drain.window + CLOSE_GRACE) => emptied,
            () = signals.any() => false,
        };
        if emptied {
            tracing::info!("drained");
            return Ok(());
        }
    }
    let left = hub.connections();
    tracing::info!(connections = left, "stopping");
    hub.drain(Duration::ZERO, ErrorCode::OverCapacity.number());
    let emptied = emptied(hub, busy, STOP_GRACE).await;
    if emptied || !drains { Ok(()) } else { Err(RunError::CutOff(hub.connections())) }
}

/// Whether all connections ended, and all requests were answered, within `limit`.
async fn emptied(hub: &Hub, busy: &Busy, limit: Duration) -> bool {
    let gone = async {
        while hub.connections() > 0 || busy.count() > 0 {
            tokio::time::sleep(POLL).await;
        }
        // An answer that was given is not yet on its way.
        tokio::time::sleep(POLL).await;
    };
    tokio::time::timeout(limit, gone).await.is_ok()
}
