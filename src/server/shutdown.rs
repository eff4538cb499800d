//! Signals, and the order in which the server ends.

use std::io;
use std::time::Duration;

use tokio::signal::unix::{self, SignalKind};

use super::RunError;
use super::http::Busy;
use crate::config::DrainSettings;
use crate::hub::Hub;
use crate::protocol::error_code::ErrorCode;

use super::services::Services;

/// Time beyond the drain window for clients to answer our Close frames.
const CLOSE_GRACE: Duration = Duration::from_secs(8);
/// Time for close frames to leave when the server is told to stop at once.
const STOP_GRACE: Duration = Duration::from_millis(500);
/// Time for calls to the carrier that are out; longer than a call may take.
const CALLS: Duration = Duration::from_secs(12);
/// How often the number of connections is looked at.
const POLL: Duration = Duration::from_millis(20);

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGHUP.
    Reload,
    /// SIGTERM or SIGINT.
    End(End),
}

/// How the server ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// SIGTERM: connections are closed over the drain window.
    Drain,
    /// SIGINT: at once.
    Stop,
}

/// The signals that the server obeys.
pub struct Signals {
    terminate: unix::Signal,
    interrupt: unix::Signal,
    hang_up: unix::Signal,
}

impl Signals {
    /// Starts listening for them.
    pub fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: unix::signal(SignalKind::terminate())?,
            interrupt: unix::signal(SignalKind::interrupt())?,
            hang_up: unix::signal(SignalKind::hangup())?,
        })
    }

    /// Waits for the next one.
    pub async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.terminate.recv() => Signal::End(End::Drain),
            _ = self.interrupt.recv() => Signal::End(End::Stop),
            _ = self.hang_up.recv() => Signal::Reload,
        }
    }

    async fn next_end(&mut self) {
        while self.next().await == Signal::Reload {}
    }
}

/// Ends the server. Draining: not ready, new connections get 4100, established ones are closed over the
/// window, then the end. Stopping, or a second signal: the end at once.
pub async fn end(
    end: End,
    mut signals: Signals,
    hub: &Hub,
    services: &Services,
    busy: &Busy,
    drain: &DrainSettings,
) -> Result<(), RunError> {
    if end == End::Drain {
        tracing::info!(connections = hub.connections(), window = ?drain.window, "draining");
        hub.drain(drain.window, drain.close_code);
        let emptied = tokio::select! {
            (emptied, ()) = async {
                tokio::join!(emptied(hub, busy, drain.window + CLOSE_GRACE), services.begin_end(CALLS))
            } => emptied,
            () = signals.next_end() => false,
        };
        if emptied {
            services.end().await;
            tracing::info!("drained");
            return Ok(());
        }
    }
    tracing::info!(connections = hub.connections(), "stopping");
    let (emptied, ()) = tokio::join!(
        async {
            hub.drain(Duration::ZERO, ErrorCode::OverCapacity.number());
            emptied(hub, busy, STOP_GRACE).await
        },
        services.begin_end(STOP_GRACE)
    );
    services.end().await;
    if emptied || end == End::Stop { Ok(()) } else { Err(RunError::CutOff(hub.connections())) }
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
