//! Builds everything from the settings and runs it until a signal ends it. The only module that knows
//! all others.
//!
//! Threads: one per shard (sockets, HTTP, fan-out) and the caller's, which runs the service runtime:
//! operators' listener, housekeeping, signals.

mod accept;
mod descriptors;
mod http;
mod lobby;
mod machine;
mod receivers;
mod refuse;
mod reload;
mod seat;
mod services;
mod shutdown;

use std::io;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use crate::admin::{self, Admin};
use crate::api;
use crate::config::{ServerSettings, Settings};
use crate::hub::{Alone, ConnectionLimits, Hub, vital};
use crate::readiness::Readiness;
use crate::routing::Router;
use crate::storage::StorageError;
use shutdown::{End, Signal};

pub use accept::try_bind;
pub use descriptors::{Descriptors, FileLimit, raise_file_limit};
pub use machine::memory as machine_memory;
pub use receivers::{RefusedReceiver, refused as refused_receivers};

/// Where the server listens, once it does.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    /// WebSockets and the HTTP API.
    pub public: SocketAddr,
    /// Metrics and health.
    pub admin: SocketAddr,
}

/// Why the server did not start, or did not end cleanly.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// An address could not be bound.
    #[error("cannot listen on {address} ({setting}): {reason}")]
    Bind {
        /// The key that holds the address.
        setting: &'static str,
        /// The configured address.
        address: SocketAddr,
        /// The system's reason, and what to do.
        reason: String,
    },
    /// A thread or runtime could not be started.
    #[error("cannot start: {0}")]
    Start(#[from] io::Error),
    /// The message store can't be used.
    #[error("{0}; {advice}", advice = Self::store_advice(.0))]
    Store(StorageError),
    /// A query of the portal's tables can't be what it must be.
    #[error("the portal's directory can't be used: {0}; `switchboard check` tries it without starting")]
    Directory(String),
    /// The store is of no use to this process any more, and the next one would do better.
    #[error("ended because the message store failed: {0}; the next start finds what is on disk")]
    StoreBroke(String),
    /// The drain ran out of time.
    #[error("stopped with {0} connections still open")]
    CutOff(usize),
}

/// Runs the server until SIGTERM (drain, then end), SIGINT (end now) or a store that only a restart can mend. `on_ready` is called once when
/// both listeners are bound, `load` on each SIGHUP.
///
/// # Errors
/// [`RunError`], for exit code 1.
pub fn run(
    mut settings: Settings,
    load: &reload::Load<'_>,
    on_ready: impl FnOnce(&Addresses),
) -> Result<(), RunError> {
    let files = raise_file_limit();
    let configured = settings.server.clone();
    let given = files.apply(&mut settings);
    let listener = accept::PublicListener::open("server.bind", settings.server.bind)?;
    let admin_listener = accept::bind("admin.bind", settings.admin.bind)?;
    let addresses = Addresses { public: listener.socket.local_addr()?, admin: admin_listener.local_addr()? };

    let shards = shard_count(&settings.server);
    let limits = ConnectionLimits::new(&settings.server)
        .with_requests(given.requests as usize)
        .with_memory(memory_budget(&settings.server));
    let hub = Hub::new(shards, limits, Arc::new(Alone));
    hub.set_apps(settings.apps.clone());
    let service = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    service.block_on(async { shutdown::outlive_strays() })?;
    let services = service.block_on(services::open(&settings, &hub))?;
    let work = http::Work::default();
    let readiness = services.readiness(&hub, settings.server.ready);
    start_shards(&hub, (services.router.as_ref(), &readiness), &settings.server, listener, shards, &work)?;
    // A reload is held against what was configured, not against what the limit of open files left of it.
    settings.server = configured;

    service.block_on(async {
        let mut signals = shutdown::Signals::listen()?;
        let admin = Admin {
            hub: hub.clone(),
            openapi: services.router.as_ref().map(|_| api::openapi()),
            router: services.router.clone(),
            outbox: services.outbox.clone(),
            webhooks: services.webhooks.clone(),
            readiness,
            settings: settings.admin.clone(),
            max_connections: given.admin as usize,
        };
        tokio::spawn(admin::serve(admin, admin_listener));
        tokio::spawn(vital(housekeeping(hub.clone())));
        services.run();
        receivers::warn_of_refused(settings.apps.clone());
        tracing::info!(public = %addresses.public, admin = %addresses.admin, shards, "listening");
        on_ready(&addresses);
        let end = loop {
            tokio::select! {
                signal = signals.next() => match signal {
                    Signal::Reload => reload::reload(&hub, &services, &mut settings, load),
                    Signal::End(end) => break end,
                },
                reason = services.store_breaks() => break End::StoreBroke(reason),
            }
        };
        shutdown::end(end, signals, &hub, &services, &work, &settings.server.drain).await
    })
}

/// Bytes of `server.memory`.
pub fn memory_budget(server: &ServerSettings) -> usize {
    server.memory.unwrap_or_else(|| usize::try_from(machine::memory() / 2).unwrap_or(usize::MAX))
}

/// Threads that serve connections.
pub fn shard_count(server: &ServerSettings) -> usize {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    server.shards.map(NonZeroU32::get).map_or((cores - 1).max(1), |shards| shards as usize)
}

/// Starts the shards' threads; the first also accepts for all.
fn start_shards(
    hub: &Hub,
    (router, readiness): (Option<&Router>, &Readiness),
    server: &ServerSettings,
    listener: accept::PublicListener,
    shards: usize,
    work: &http::Work,
) -> io::Result<()> {
    let (senders, receivers): (Vec<_>, Vec<_>) = (0..shards).map(|_| mpsc::unbounded_channel()).unzip();
    let mut listener = Some((listener, senders));
    let tls = api::TlsGuard::new(&server.trusted_proxies);
    for (index, receiver) in receivers.into_iter().enumerate() {
        let shard = http::ShardThread {
            hub: hub.clone(),
            router: router.cloned(),
            readiness: readiness.clone(),
            index,
            server: server.clone(),
            tls: tls.clone(),
            handed_over: receiver,
            work: work.clone(),
            listener: listener.take(),
        };
        thread::Builder::new().name(format!("shard-{index}")).spawn(move || shard.run())?;
    }
    Ok(())
}

async fn housekeeping(hub: Hub) {
    let mut each_second = tokio::time::interval(Duration::from_secs(1));
    loop {
        each_second.tick().await;
        hub.tick(Instant::now());
    }
}
