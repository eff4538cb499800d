//! Signals, and the order in which the server ends.

use std::io;
use std::pin::pin;
use std::time::{Duration, Instant};

use tokio::signal::unix::{self, SignalKind};

use super::RunError;
use super::http::Work;
use crate::config::DrainSettings;
use crate::hub::Hub;
use crate::protocol::error_code::ErrorCode;

use super::services::Services;

/// Time for clients to answer our Close frames, from the last answer on. Clients that do not answer are cut off: a
/// phone without a network is not to keep all others from the next process, to which they return a second after
/// their Close. Those that got the Close frame and are slow to answer lose nothing by it.
const ANSWER_GRACE: Duration = Duration::from_millis(300);
/// Time beyond the drain window for all answers and requests.
const CLOSE_GRACE: Duration = Duration::from_secs(8);
/// Time for calls to the carrier before connections are closed. Clients stay connected for as long as the process
/// can't end anyway; less than the 10 s after which `docker stop` kills.
const CALLS_FIRST: Duration = Duration::from_secs(4);
/// Time for close frames to leave when the server is told to stop at once.
const STOP_GRACE: Duration = Duration::from_millis(500);
/// Longest drain window of a server whose store broke: messages are refused until the next start.
const STORE_BROKE: Duration = Duration::from_secs(5);
/// Time for calls to the carrier that are out; longer than a call may take.
const CALLS: Duration = Duration::from_secs(12);
/// SIGVTALRM, on Linux as on the BSDs.
const VTALRM: i32 = 26;
/// SIGPROF, on Linux as on the BSDs.
const PROF: i32 = 27;
/// How often the number of connections is looked at.
const POLL: Duration = Duration::from_millis(20);

/// What a signal asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGHUP.
    Reload,
    /// SIGTERM or SIGINT.
    End(End),
}

/// How the server ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// SIGTERM: connections are closed over the drain window.
    Drain,
    /// SIGINT: at once.
    Stop,
    /// The store is of no use any more, and why: connections are closed over the drain window, but not for long.
    StoreBroke(String),
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

/// Has signals that nobody means for this process do nothing. By default they end it: a log rotation that sends
/// SIGUSR1, a terminal that hangs up while the store is opened. SIGHUP is obeyed from [`Signals::listen`] on.
///
/// # Errors
/// When the system does not let a signal be taken.
pub fn outlive_strays() -> io::Result<()> {
    let strays = [
        SignalKind::user_defined1(),
        SignalKind::user_defined2(),
        SignalKind::alarm(),
        SignalKind::from_raw(VTALRM),
        SignalKind::from_raw(PROF),
        SignalKind::io(),
        SignalKind::hangup(),
    ];
    for stray in strays {
        // The handler stays when the stream of its signals is dropped.
        drop(unix::signal(stray)?);
    }
    Ok(())
}

/// Ends the server. Draining: not ready, calls that are out come back, new connections get 4100, established ones are
/// closed over the window, then the end. Stopping, or a second signal: the end at once.
pub async fn end(
    end: End,
    mut signals: Signals,
    hub: &Hub,
    services: &Services,
    work: &Work,
    drain: &DrainSettings,
) -> Result<(), RunError> {
    if let End::StoreBroke(reason) = end {
        tracing::error!(
            reason,
            connections = hub.connections(),
            "ending, so that the server is started anew"
        );
        hub.announce_end();
        let window = drain.window.min(STORE_BROKE);
        hub.drain(window, drain.close_code);
        tokio::select! {
            _ = async { tokio::join!(emptied(hub, work, window + STOP_GRACE * 2), services.begin_end(STOP_GRACE)) } => {}
            () = signals.next_end() => {}
        }
        return Err(RunError::StoreBroke(reason));
    }
    if end == End::Drain {
        tracing::info!(connections = hub.connections(), window = ?drain.window, "draining");
        hub.announce_end();
        let emptied = tokio::select! {
            emptied = drained(hub, services, work, drain) => emptied,
            () = signals.next_end() => false,
        };
        if emptied {
            services.end().await;
            tracing::info!(unanswered = hub.connections(), "drained");
            return Ok(());
        }
    }
    tracing::info!(connections = hub.connections(), "stopping");
    let (emptied, ()) = tokio::join!(
        async {
            hub.drain(Duration::ZERO, ErrorCode::OverCapacity.number());
            emptied(hub, work, STOP_GRACE).await
        },
        services.begin_end(STOP_GRACE)
    );
    services.end().await;
    if emptied || end == End::Stop { Ok(()) } else { Err(RunError::CutOff(hub.connections())) }
}

/// Lets calls come back, then closes all connections; whether that was done in time.
async fn drained(hub: &Hub, services: &Services, work: &Work, drain: &DrainSettings) -> bool {
    let mut calls = pin!(services.begin_end(CALLS));
    let are_back = tokio::time::timeout(CALLS_FIRST, &mut calls).await.is_ok();
    hub.drain(drain.window, drain.close_code);
    let rest = async {
        if !are_back {
            calls.await;
        }
    };
    tokio::join!(emptied(hub, work, drain.window + CLOSE_GRACE), rest).0
}

/// Whether all requests were answered, and all connections ended or were given the time to, within `limit`.
async fn emptied(hub: &Hub, work: &Work, limit: Duration) -> bool {
    let gone = async {
        let (mut fewest, mut since) = (usize::MAX, Instant::now());
        loop {
            let open = hub.connections() + work.refusals.count();
            if open < fewest || hub.is_closing_connections() {
                (fewest, since) = (open, Instant::now());
            }
            let is_quiet = !hub.is_closing_connections() && since.elapsed() >= ANSWER_GRACE;
            if work.requests.count() == 0 && (open == 0 || is_quiet) {
                break;
            }
            tokio::time::sleep(POLL).await;
        }
        // An answer that was given is not yet on its way.
        tokio::time::sleep(POLL).await;
    };
    tokio::time::timeout(limit, gone).await.is_ok()
}
