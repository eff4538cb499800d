//! Who gets a connection: the limits of the server, of each app and of each address.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use super::addresses::{AddressKey, Addresses, Excess};
use super::review::Handshake;
use super::{AppHub, Hub};
use crate::config::OverQuota;
use crate::logging::seldom::Seldom;
use crate::protocol::error_code::ErrorCode;

/// Sockets beyond `max_connections` that are accepted where the limit of open files lets them: requests, and clients that
/// are told why they can't stay.
pub const REQUEST_SOCKETS: usize = 1024 + CROWD;
/// Of these, those that are accepted while the ones that waited longest are closed.
const CROWD: usize = 256;
/// Sockets that are no WebSockets yet, as a part of `max_connections`; more come at once in an attack only.
const LOBBY_PART: usize = 4;

/// Why connections are refused, for metrics; in the order of [`Reason`].
pub const REFUSED: [&str; 5] = ["server", "app", "app_reserve", "address_connections", "address_rate"];

/// See [`REFUSED`].
#[derive(Clone, Copy, Debug)]
enum Reason {
    Server,
    App,
    AppReserve,
    AddressConnections,
    AddressRate,
}

/// How many connections were refused for each of [`REFUSED`].
#[derive(Debug, Default)]
pub(super) struct RefusedConnections([AtomicU64; 5]);

/// A place among an app's connections, and its address's; given back when dropped.
pub struct Admission {
    app: Arc<AppHub>,
    /// How the client came, where a later change of the app's settings may forbid that.
    pub handshake: Option<Arc<Handshake>>,
    address: Option<AddressKey>,
}

/// A socket from the moment it was accepted until it ends or is a WebSocket; counted with its address as long.
pub struct Visit {
    /// The other end of the TCP connection.
    pub peer: IpAddr,
    /// Whether that is one of `trusted_proxies`.
    pub is_proxy: bool,
    counted: Option<Counted>,
}

struct Counted {
    addresses: Arc<Addresses>,
    key: AddressKey,
    is_within_rate: bool,
}

/// A connection's place in the count of its shard; given back when dropped, unless the connection became
/// a WebSocket, which the shard counts itself.
pub struct ShardLoad {
    hub: Hub,
    shard: usize,
    is_counted_here: bool,
}

/// Why a connection is turned away; told with `pusher:error` and the same close code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The code, which decides whether the client comes back.
    pub code: ErrorCode,
    /// A sentence for the client's developer.
    pub message: String,
}

impl Refusal {
    fn new(code: ErrorCode, message: &str) -> Self {
        Self { code, message: message.to_owned() }
    }
}

impl Hub {
    /// Counts a new socket with the address of its other end, unless that is a proxy; `None` if this address has so many
    /// that it is not even told so.
    pub fn visit(&self, peer: IpAddr, is_proxy: bool) -> Option<Visit> {
        let addresses = &self.inner.addresses;
        let key = if is_proxy { None } else { addresses.key(peer) };
        let count = |key| {
            let is_within_rate = addresses.enter(key, Instant::now())?;
            Some(Counted { addresses: Arc::clone(addresses), key, is_within_rate })
        };
        let counted = match key {
            Some(key) => Some(count(key)?),
            None => None,
        };
        Some(Visit { peer, is_proxy, counted })
    }

    /// Reserves a place for a connection. `client` is its address, where a proxy says so.
    ///
    /// # Errors
    /// What to tell the client when there is none.
    pub fn admit(
        &self,
        app: &Arc<AppHub>,
        visit: &Visit,
        client: Option<IpAddr>,
    ) -> Result<Admission, Refusal> {
        if let Some(refusal) = self.refusal(app) {
            return Err(refusal);
        }
        let mut admission = Admission::new(Arc::clone(app));
        let is_full = self.connections() > self.inner.limits.max_connections;
        let reason = if is_full { Some(Reason::Server) } else { self.app_excess(app) };
        let excess = reason.or_else(|| self.address_excess(&mut admission, visit, client).err());
        excess.map_or(Ok(admission), |reason| Err(self.refuse(app, reason)))
    }

    fn app_excess(&self, app: &AppHub) -> Option<Reason> {
        let quota = app.app().settings.max_connections.map_or(usize::MAX, |quota| quota.get() as usize);
        if app.connections() > quota {
            return Some(Reason::App);
        }
        (!self.leaves_reserve(app)).then_some(Reason::AppReserve)
    }

    /// Whether the other apps could still have what is kept for each of them.
    fn leaves_reserve(&self, app: &AppHub) -> bool {
        let limits = &self.inner.limits;
        let apps = self.inner.apps.load();
        let kept = limits.max_connections * limits.admission.app_reserve / 100 / apps.by_id.len().max(1);
        let free = limits.max_connections.saturating_sub(self.connections());
        if app.connections() <= kept || free >= kept * apps.by_id.len().saturating_sub(1) {
            return true;
        }
        let missing = |other: &Arc<AppHub>| {
            let policy = other.app();
            let quota = policy.settings.max_connections.map_or(usize::MAX, |quota| quota.get() as usize);
            let own = if policy.settings.enabled { kept.min(quota) } else { 0 };
            own.saturating_sub(other.connections())
        };
        let others = apps.by_id.values().filter(|other| !std::ptr::eq(&raw const ***other, app));
        others.map(missing).sum::<usize>() <= free
    }

    /// Counts the connection with its address.
    fn address_excess(
        &self,
        admission: &mut Admission,
        visit: &Visit,
        client: Option<IpAddr>,
    ) -> Result<(), Reason> {
        let addresses = &self.inner.addresses;
        let (key, has_paid) = match (client, &visit.counted) {
            (Some(client), _) => (addresses.key(client), None),
            (None, Some(counted)) => (Some(counted.key), Some(counted.is_within_rate)),
            (None, None) => (None, None),
        };
        let Some(key) = key else { return Ok(()) };
        addresses.connect(key, has_paid, Instant::now()).map_err(|excess| {
            let (reason, what) = match excess {
                Excess::Connections => (Reason::AddressConnections, "has too many connections"),
                Excess::Rate => (Reason::AddressRate, "opens too many connections in a short time"),
            };
            warn_of_address(client.unwrap_or(visit.peer), what);
            reason
        })?;
        admission.address = Some(key);
        Ok(())
    }

    fn refuse(&self, app: &AppHub, reason: Reason) -> Refusal {
        self.inner.refused.0[reason as usize].fetch_add(1, Ordering::Relaxed);
        let full = |message| Refusal::new(ErrorCode::OverCapacity, message);
        match reason {
            Reason::Server => full("Server is over capacity"),
            Reason::App => {
                let code = match app.app().settings.over_quota {
                    OverQuota::Stop => ErrorCode::OverQuota,
                    OverQuota::Retry => ErrorCode::OverCapacity,
                };
                Refusal::new(code, "Application is over its connection quota")
            }
            Reason::AppReserve => full("Server has no more room for this application"),
            Reason::AddressConnections => full("Too many connections from this address"),
            Reason::AddressRate => full("Too many new connections from this address"),
        }
    }

    /// Why no connection of this app is wanted at all, if so.
    pub(super) fn refusal(&self, app: &AppHub) -> Option<Refusal> {
        let refuse = |code, message: &str| Some(Refusal::new(code, message));
        if self.is_draining() {
            return refuse(ErrorCode::OverCapacity, "Server is shutting down, please reconnect");
        }
        match self.inner.apps.load().by_id.get(&app.id) {
            None => return refuse(ErrorCode::AppDoesNotExist, super::REMOVED),
            Some(known) if !std::ptr::eq(&raw const **known, app) => {
                return refuse(ErrorCode::OverCapacity, "Application was replaced, please reconnect");
            }
            Some(_) => {}
        }
        if !app.app().settings.enabled {
            let is_paused = app.is_paused.load(Ordering::Relaxed);
            let code = if is_paused { ErrorCode::OverCapacity } else { ErrorCode::AppDisabled };
            return refuse(code, super::DISABLED);
        }
        None
    }

    /// Connections that were refused, in the order of [`REFUSED`].
    pub fn refused(&self) -> [u64; 5] {
        std::array::from_fn(|index| self.inner.refused.0[index].load(Ordering::Relaxed))
    }

    /// Assigns a new socket to the shard with the fewest; `None` when the process has as many as it may have.
    pub fn assign_shard(&self) -> Option<ShardLoad> {
        if self.sockets() >= self.inner.limits.max_connections + self.inner.limits.requests {
            return None;
        }
        let loads = self.inner.loads.iter().map(|load| load.load(Ordering::Relaxed));
        let (shard, _) = loads.enumerate().min_by_key(|(_, load)| *load)?;
        self.inner.loads[shard].fetch_add(1, Ordering::Relaxed);
        Some(ShardLoad { hub: self.clone(), shard, is_counted_here: true })
    }

    /// Whether there are so many sockets, or so many that are no WebSockets, that one of the latter must go.
    pub fn is_crowded(&self) -> bool {
        let (sockets, limits) = (self.sockets(), &self.inner.limits);
        let (most, requests) = (limits.max_connections, limits.requests - (limits.requests / 4).min(CROWD));
        sockets > most + requests
            || sockets.saturating_sub(self.connections()) > requests.max(most / LOBBY_PART)
    }

    fn sockets(&self) -> usize {
        self.inner.loads.iter().map(|load| load.load(Ordering::Relaxed)).sum()
    }
}

/// Names an address whose connections are refused: it may be many users behind one, or a proxy.
fn warn_of_address(address: IpAddr, what: &str) {
    static SELDOM: Seldom = Seldom::new();
    if let Some(suppressed) = SELDOM.admit() {
        tracing::warn!(
            %address,
            suppressed,
            "an address {what}, and the server refuses more with 4100, see server.admission; a proxy must be in \
             server.trusted_proxies and send X-Forwarded-For"
        );
    }
}

impl Admission {
    fn new(app: Arc<AppHub>) -> Self {
        app.connections.fetch_add(1, Ordering::Relaxed);
        app.all_connections.fetch_add(1, Ordering::Relaxed);
        Self { app, handshake: None, address: None }
    }
}

impl std::ops::Deref for Admission {
    type Target = Arc<AppHub>;
    fn deref(&self) -> &Self::Target {
        &self.app
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        let count_down = |count: &AtomicUsize| count.fetch_sub(1, Ordering::Relaxed);
        count_down(&self.app.connections);
        count_down(&self.app.all_connections);
        if let Some(address) = self.address {
            self.app.addresses.disconnect(address, Instant::now());
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.addresses.leave(self.key, Instant::now());
    }
}

impl ShardLoad {
    /// The shard.
    pub fn shard(&self) -> usize {
        self.shard
    }

    /// Leaves the count to the shard.
    pub(super) fn hand_over(mut self) {
        self.is_counted_here = false;
    }
}

impl Drop for ShardLoad {
    fn drop(&mut self) {
        if self.is_counted_here {
            self.hub.inner.loads[self.shard].fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;
    use crate::config::{AppSettings, ServerSettings};
    use crate::hub::{Alone, ConnectionLimits};

    fn hub(max_connections: usize, apps: Vec<AppSettings>) -> Hub {
        let server = ServerSettings { max_connections, ..ServerSettings::default() };
        let hub = Hub::new(1, ConnectionLimits::new(&server), Arc::new(Alone));
        hub.set_apps(apps);
        hub
    }

    fn app(id: &str) -> AppSettings {
        AppSettings::new(id, format!("key-{id}"), "secret")
    }

    fn connect(hub: &Hub, id: &str) -> Result<Admission, Refusal> {
        let visit = hub.visit([127, 0, 0, 1].into(), false).expect("exempt");
        hub.admit(&hub.app_by_id(id).expect("configured"), &visit, None)
    }

    fn fill(hub: &Hub, id: &str) -> Vec<Admission> {
        std::iter::from_fn(|| connect(hub, id).ok()).take(1_000).collect()
    }

    #[test]
    fn an_app_that_is_flooded_leaves_the_others_their_part() {
        let hub = hub(100, ["1", "2", "3", "4", "5"].map(app).into());
        let flood = fill(&hub, "1");
        assert_eq!(flood.len(), 80);
        assert_eq!(connect(&hub, "1").err().map(|it| it.code), Some(ErrorCode::OverCapacity));
        let second = fill(&hub, "2");
        assert_eq!(second.len(), 5, "its part, and what is kept for three others is left");
        let others = ["3", "4", "5"].map(|id| fill(&hub, id));
        assert_eq!(others.each_ref().map(Vec::len), [5, 5, 5]);
        assert_eq!(hub.connections(), 100);
        drop(flood);
        assert_eq!(fill(&hub, "5").len(), 75, "what is free is for everybody, but for the first one's part");
    }

    #[test]
    fn nothing_is_kept_for_one_app_or_for_apps_that_may_not_have_it() {
        assert_eq!(fill(&hub(40, vec![app("1")]), "1").len(), 40);
        let small = AppSettings { max_connections: NonZeroU32::new(1), ..app("2") };
        let disabled = AppSettings { enabled: false, ..app("3") };
        assert_eq!(fill(&hub(120, vec![app("1"), small, disabled]), "1").len(), 119);
    }

    #[test]
    fn an_admission_of_a_connection_costs_24_bytes() {
        assert_eq!(size_of::<Admission>(), 24);
    }

    #[test]
    fn a_client_behind_a_proxy_counts_by_its_own_address() {
        let hub = hub(10, vec![app("1")]);
        let app = hub.app_by_id("1").expect("configured");
        let visit = hub.visit([198, 51, 100, 1].into(), true).expect("a proxy");
        let come = |last| hub.admit(&app, &visit, Some([203, 0, 113, last].into()));
        let first: Vec<_> = (0..6).filter_map(|_| come(7).ok()).collect();
        assert_eq!(first.len(), 5, "half of all");
        assert_eq!(come(7).err().map(|it| it.code), Some(ErrorCode::OverCapacity));
        assert!(come(8).is_ok());
        assert!(hub.admit(&app, &visit, None).is_ok(), "whoever the proxy does not name is not counted");
        assert_eq!(hub.refused(), [0, 0, 0, 2, 0]);
    }
}
