//! Fan-out inside one process: connections, channels, presence, users.
//!
//! # Use
//! [`Hub::start`] starts the shards; [`Hub::app_by_id`] and [`Hub::app_by_key`] find an app;
//! [`AppHub::publish`] sends an event to its subscribers. HTTP handlers run on shards but use only these
//! handles, never a shard.
//!
//! # Ownership
//! A *shard* is one thread. It owns its connections: it alone reads, writes and closes them, so a delivery
//! takes no lock, wakes no task and allocates nothing. Shared between threads are the directory (channel →
//! interested shards), the users, and one mailbox a shard.
//!
//! # Guarantees
//! 1. On one connection, frames leave in the order in which its shard produced them.
//! 2. On one channel of one node, all subscribers see publications in the same order, and a publish that
//!    has returned precedes one that starts later.
//! 3. `subscription_succeeded` precedes every event of that channel on that connection.
//! 4. A cached event is sent once to a new subscriber: after `subscription_succeeded`, or live.
//! 5. A presence member is announced for its first connection and for the end of its last one.
//! 6. Each node serves its own connections. An [`Uplink`] to other nodes, of which there is none yet, delivers at
//!    most once and keeps each publisher's order.
//!
//! A reader that is too slow is closed; nothing is ever dropped from the middle of a live connection.
//!
//! May import `apps`, `protocol`, `config`, `logging`.

mod addresses;
mod admission;
mod backlog;
mod budget;
mod cache;
mod closing;
mod connection;
mod directory;
mod fan_out;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod gate;
mod lane;
mod mailbox;
mod memory;
mod newcomer;
mod observer;
mod presence;
mod replies;
mod review;
mod session;
mod shard;
mod stats;
mod sweep;
#[cfg(any(test, fuzzing))]
pub(crate) mod testing;
mod uplink;
mod users;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use bytes::Bytes;

pub use admission::{Admission, REFUSED, REQUEST_SOCKETS, Refusal, ShardLoad, Visit};
pub use directory::{ChannelInfo, Remembered};
pub use gate::{Gatekeeper, Verdict};
pub use mailbox::MAX_BYTES as MAX_WAITING_BYTES;
pub use memory::{Holding, Ledger, Memory};
pub use newcomer::Newcomer;
pub use observer::{ClientEventSeen, ConnectionEnd, Observation, Observer};
pub use review::Handshake;
pub use shard::{Shard, vital};
pub use stats::{OVER_BUDGET, ShardStats, Stats};
pub use uplink::{Alone, RemotePublication, Uplink};

use crate::apps::App;
use crate::config::{AdmissionSettings, AppSettings, ServerSettings};
use crate::logging::traffic;
use crate::protocol::channel::ChannelName;
use crate::protocol::error_code::ErrorCode;
use crate::protocol::id::{SocketId, UserId};
use crate::protocol::server_event;
use addresses::Addresses;
use admission::RefusedConnections;
use directory::Directory;
use mailbox::{Mailbox, Parcel};
use observer::Observers;
use users::Users;

/// As hosted Pusher says it.
const DISABLED: &str = "Application disabled";
const REMOVED: &str = "Application does not exist any more";

/// Everything of this process that is connected. Cloning shares it.
#[derive(Clone)]
pub struct Hub {
    inner: Arc<Inner>,
}

struct Inner {
    apps: ArcSwap<Apps>,
    mailboxes: Arc<[Mailbox]>,
    limits: Arc<ConnectionLimits>,
    connections: Arc<AtomicUsize>,
    loads: Box<[AtomicUsize]>,
    addresses: Arc<Addresses>,
    refused: RefusedConnections,
    memory: Arc<Memory>,
    is_ending: AtomicBool,
    is_draining: AtomicBool,
    /// Drains of shards that have not sent all their Close frames.
    drains: AtomicUsize,
    uplink: Arc<dyn Uplink>,
    observers: Observers,
    gatekeeper: OnceLock<Arc<dyn Gatekeeper>>,
    stats: Stats,
}

#[derive(Default)]
struct Apps {
    by_id: HashMap<String, Arc<AppHub>>,
    by_key: HashMap<String, Arc<AppHub>>,
}

/// What holds for every connection of the process; the server's settings in the units the shards use.
#[derive(Clone, Debug)]
pub struct ConnectionLimits {
    /// In seconds, as it is told to clients.
    activity_timeout: u32,
    /// In steps of the shards' clock.
    ping_interval: u32,
    /// In steps of the shards' clock.
    pong_timeout: u32,
    backlog_limit: usize,
    backlog_max_age: u32,
    max_channels: usize,
    max_connections: usize,
    /// Sockets beyond these.
    requests: usize,
    /// Bytes of what clients and backends make the process keep.
    memory: usize,
    admission: AdmissionSettings,
}

/// One app and all that is connected to it on this node.
pub struct AppHub {
    id: String,
    app: ArcSwap<App>,
    directory: Directory,
    users: Users,
    connections: AtomicUsize,
    all_connections: Arc<AtomicUsize>,
    addresses: Arc<Addresses>,
    mailboxes: Arc<[Mailbox]>,
    uplink: Arc<dyn Uplink>,
    observers: Observers,
    /// Whether a reload disabled it: it may be enabled again, so its clients are told to come back.
    is_paused: AtomicBool,
}

/// What [`Hub::set_apps`] did, by app id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AppChanges {
    /// New apps.
    pub added: Vec<String>,
    /// Apps with other settings than before.
    pub changed: Vec<String>,
    /// Apps that are gone; their connections are closed with 4001.
    pub removed: Vec<String>,
}

/// A moment in what is published; see [`Hub::mark`].
#[derive(Clone, Debug)]
pub struct Mark(Box<[u64]>);

/// More is waiting to be sent than may wait; nothing was published.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("Over capacity: too many events are waiting to be sent, try again")]
pub struct Overloaded;

impl ConnectionLimits {
    /// From the settings; durations are rounded up to what the shards count in.
    pub fn new(server: &ServerSettings) -> Self {
        let count = |duration: Duration, unit: Duration| {
            u32::try_from(duration.as_nanos().div_ceil(unit.as_nanos())).unwrap_or(u32::MAX).max(1)
        };
        let seconds = |duration| count(duration, Duration::from_secs(1));
        Self {
            activity_timeout: seconds(server.activity_timeout),
            ping_interval: count(server.ping_interval, shard::STEP),
            pong_timeout: count(server.pong_timeout, shard::STEP),
            backlog_limit: server.backlog_limit,
            backlog_max_age: seconds(server.backlog_max_age),
            max_channels: server.max_channels_per_connection,
            max_connections: server.max_connections,
            requests: REQUEST_SOCKETS,
            memory: usize::MAX,
            admission: server.admission.clone(),
        }
    }

    /// With this many sockets for requests.
    #[must_use]
    pub fn with_requests(self, requests: usize) -> Self {
        Self { requests, ..self }
    }

    /// With this budget for what clients and backends make the process keep, in bytes.
    #[must_use]
    pub fn with_memory(self, memory: usize) -> Self {
        Self { memory, ..self }
    }
}

impl Hub {
    /// A hub of `shards` mailboxes; the shards themselves are run by [`Shard::new`] on their threads.
    pub fn new(shards: usize, limits: ConnectionLimits, uplink: Arc<dyn Uplink>) -> Self {
        let inner = Inner {
            apps: ArcSwap::default(),
            mailboxes: (0..shards).map(|_| Mailbox::default()).collect(),
            connections: Arc::default(),
            loads: (0..shards).map(|_| AtomicUsize::new(0)).collect(),
            is_ending: AtomicBool::new(false),
            is_draining: AtomicBool::new(false),
            drains: AtomicUsize::new(0),
            addresses: Arc::new(Addresses::new(&limits.admission, limits.max_connections)),
            refused: RefusedConnections::default(),
            memory: Arc::new(Memory::new(limits.memory, shards)),
            limits: Arc::new(limits),
            uplink,
            observers: Observers::default(),
            gatekeeper: OnceLock::new(),
            stats: Stats::new(shards),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Adds an observer. To be done before connections are accepted: what happened before is not told.
    pub fn observe(&self, observer: &Arc<dyn Observer>) {
        self.inner.observers.add(observer);
    }

    /// Has public channels of apps with `authenticated_public` guarded. Once, before connections are
    /// accepted; a second gatekeeper is not taken.
    pub fn guard(&self, gatekeeper: Arc<dyn Gatekeeper>) {
        if self.inner.gatekeeper.set(gatekeeper).is_err() {
            tracing::error!("bug: the hub got a second gatekeeper and ignores it");
        }
    }

    fn gatekeeper(&self) -> Option<Arc<dyn Gatekeeper>> {
        self.inner.gatekeeper.get().cloned()
    }

    /// Makes these the apps. One that was there under its id keeps its connections and channels, unless it
    /// is disabled now; the connections of one that is gone are closed. Call from one thread at a time.
    pub fn set_apps(&self, settings: Vec<AppSettings>) -> AppChanges {
        let known = self.inner.apps.load();
        let mut changes = AppChanges::default();
        let mut apps = Apps::default();
        for settings in settings {
            let (id, key) = (settings.id.clone(), settings.key.clone());
            let hub = match known.by_id.get(&id) {
                None => {
                    changes.added.push(id.clone());
                    self.new_app(settings)
                }
                Some(hub) => {
                    if hub.app().settings != settings {
                        changes.changed.push(id.clone());
                        self.reconfigure(hub, settings);
                    }
                    Arc::clone(hub)
                }
            };
            apps.by_id.insert(id, Arc::clone(&hub));
            apps.by_key.insert(key, hub);
        }
        changes.removed.extend(known.by_id.keys().filter(|id| !apps.by_id.contains_key(*id)).cloned());
        self.inner.apps.store(Arc::new(apps));
        for id in &changes.removed {
            self.close_app(id, ErrorCode::AppDoesNotExist, REMOVED);
        }
        changes
    }

    fn new_app(&self, settings: AppSettings) -> Arc<AppHub> {
        Arc::new(AppHub {
            id: settings.id.clone(),
            directory: Directory::new(
                settings.id.clone(),
                Arc::clone(&self.inner.mailboxes),
                Arc::clone(&self.inner.uplink),
                self.inner.observers.clone(),
                (settings.subscription_count, settings.cache_size),
            ),
            users: Users::new(
                settings.id.clone(),
                Arc::clone(&self.inner.mailboxes),
                self.inner.observers.clone(),
            ),
            connections: AtomicUsize::new(0),
            all_connections: Arc::clone(&self.inner.connections),
            addresses: Arc::clone(&self.inner.addresses),
            mailboxes: Arc::clone(&self.inner.mailboxes),
            uplink: Arc::clone(&self.inner.uplink),
            observers: self.inner.observers.clone(),
            is_paused: AtomicBool::new(false),
            app: ArcSwap::from_pointee(App::new(settings)),
        })
    }

    fn reconfigure(&self, hub: &AppHub, settings: AppSettings) {
        let is_enabled = settings.enabled;
        if hub.app().settings.enabled != is_enabled {
            hub.is_paused.store(!is_enabled, Ordering::Relaxed);
        }
        hub.directory.set_announce_count(settings.subscription_count);
        hub.directory.cache().set_most(settings.cache_size);
        let (old, new) = (hub.app(), Arc::new(hub.app().with_settings(settings)));
        hub.app.store(Arc::clone(&new));
        if is_enabled {
            let reviews = hub.reviews(&old, &new, self.inner.mailboxes.len());
            for (mailbox, review) in self.inner.mailboxes.iter().zip(reviews) {
                mailbox.push(Parcel::Review(review));
            }
        }
        if !is_enabled {
            // With 4003 its pages would stay away when it is enabled again.
            self.close_app(&hub.id, ErrorCode::OverCapacity, DISABLED);
        }
    }

    fn close_app(&self, id: &str, code: ErrorCode, reason: &'static str) {
        for mailbox in self.inner.mailboxes.iter() {
            mailbox.push(Parcel::CloseApp(id.into(), code, reason));
        }
    }

    /// The app of this id.
    pub fn app_by_id(&self, id: &str) -> Option<Arc<AppHub>> {
        self.inner.apps.load().by_id.get(id).cloned()
    }

    /// The app of this key.
    pub fn app_by_key(&self, key: &str) -> Option<Arc<AppHub>> {
        self.inner.apps.load().by_key.get(key).cloned()
    }

    /// All apps, in no order.
    pub fn apps(&self) -> Vec<Arc<AppHub>> {
        self.inner.apps.load().by_id.values().cloned().collect()
    }

    /// Connections of this node.
    pub fn connections(&self) -> usize {
        self.inner.connections.load(Ordering::Relaxed)
    }

    /// Connections of each shard, HTTP included.
    pub fn shard_loads(&self) -> Vec<usize> {
        self.inner.loads.iter().map(|load| load.load(Ordering::Relaxed)).collect()
    }

    /// Whether so little waits to be sent that clients may cause more. Far below what makes publishing
    /// answer [`Overloaded`], so that clients alone can't bring that about; and lower for those that cause much.
    fn is_calm(&self, is_busy: bool) -> bool {
        self.inner.mailboxes.iter().all(|mailbox| mailbox.is_calm(is_busy))
    }

    /// Stands for all that was published so far.
    pub fn mark(&self) -> Mark {
        Mark(self.inner.mailboxes.iter().map(Mailbox::mark).collect())
    }

    /// Whether what was published before this mark was written to this node's connections. Without other
    /// traffic, or with any amount of it, that comes soon.
    pub fn is_past(&self, mark: &Mark) -> bool {
        self.inner.mailboxes.iter().zip(&mark.0).all(|(mailbox, mark)| mailbox.is_past(*mark))
    }

    /// What clients and backends make the process keep.
    pub fn memory(&self) -> &Memory {
        &self.inner.memory
    }

    /// The account of a shard's memory; one for each shard.
    pub fn ledger(&self, shard: usize) -> std::rc::Rc<Ledger> {
        Ledger::new(Arc::clone(&self.inner.memory), shard)
    }

    /// Counters of all shards.
    pub fn stats(&self) -> &Stats {
        &self.inner.stats
    }

    /// The process will end soon: it is not ready any more, and serves what is still sent to it.
    pub fn announce_end(&self) {
        self.inner.is_ending.store(true, Ordering::Relaxed);
    }

    /// Whether [`Hub::announce_end`] or [`Hub::drain`] was called.
    pub fn is_ending(&self) -> bool {
        self.inner.is_ending.load(Ordering::Relaxed) || self.is_draining()
    }

    /// Whether a drain has connections left that were not sent a Close frame.
    pub fn is_closing_connections(&self) -> bool {
        self.inner.drains.load(Ordering::Acquire) > 0
    }

    /// Whether [`Hub::drain`] was called.
    pub fn is_draining(&self) -> bool {
        self.inner.is_draining.load(Ordering::Relaxed)
    }

    /// Refuses new connections and closes the established ones with `close_code`, spread evenly over
    /// `window`.
    pub fn drain(&self, window: Duration, close_code: u16) {
        self.inner.is_draining.store(true, Ordering::Relaxed);
        for mailbox in self.inner.mailboxes.iter() {
            self.inner.drains.fetch_add(1, Ordering::Release);
            mailbox.push(Parcel::Drain(window, close_code));
        }
    }

    /// Housekeeping, called about once a second: due announcements, expired events.
    pub fn tick(&self, now: Instant) {
        for app in self.apps() {
            app.directory.tick(now);
            app.users.tick(now);
        }
        self.inner.addresses.tick(now);
    }

    /// Forgets what waits to be sent, as shards do that sent it.
    #[cfg(test)]
    pub(crate) fn empty_for_test(&self) {
        for mailbox in self.inner.mailboxes.iter() {
            mailbox.take(&mut Vec::new());
            mailbox.turn_is_over();
        }
    }

    /// Publishes what another node published.
    pub fn publish_remote(&self, app_id: &str, publication: &RemotePublication) {
        if let Some(app) = self.app_by_id(app_id) {
            app.publish_local(publication);
        }
    }
}

impl AppHub {
    /// The app's id, which never changes.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The app's settings and keys, as of now.
    pub fn app(&self) -> Arc<App> {
        self.app.load_full()
    }

    /// Whether there is room for another publication. Asked before a request publishes anything.
    pub fn check_room(&self) -> Result<(), Overloaded> {
        if self.mailboxes.iter().all(Mailbox::has_room) { Ok(()) } else { Err(Overloaded) }
    }

    /// Publishes an event of the HTTP API. `data` is the quoted JSON string as it was received. A cache
    /// channel remembers the event before this returns.
    pub fn publish(&self, channel: &ChannelName, name: &str, data: &str, except: Option<SocketId>) {
        self.publish_on(std::slice::from_ref(channel), name, data, except);
    }

    /// Publishes one event on several channels, one after the other, and writes one line for all.
    pub fn publish_on(&self, channels: &[ChannelName], name: &str, data: &str, except: Option<SocketId>) {
        let mut receivers = 0;
        for channel in channels {
            receivers += self.publish_everywhere(&RemotePublication {
                channel: channel.clone(),
                frame: server_event::published(channel, name, data),
                except,
                remember: channel.is_cache().then(|| Bytes::copy_from_slice(data.as_bytes())),
            });
        }
        tracing::debug!(
            target: traffic::TARGET,
            app = self.id,
            channel = traffic::channels(channels.iter().map(ChannelName::as_str)),
            event = &*traffic::name(name),
            receivers,
            except = except.map(tracing::field::display),
            "publish"
        );
    }

    /// Publishes a client event to everybody but its sender. Answers what [`Directory::publish`] does.
    fn publish_client_event(
        &self,
        channel: &ChannelName,
        name: &str,
        data: &str,
        user_id: Option<&UserId>,
        sender: SocketId,
    ) -> u64 {
        let frame = server_event::client_event(channel, name, data, user_id);
        let channel = channel.clone();
        self.publish_everywhere(&RemotePublication { channel, frame, except: Some(sender), remember: None })
    }

    fn publish_everywhere(&self, publication: &RemotePublication) -> u64 {
        let receivers = self.publish_local(publication);
        self.uplink.publish(&self.id, publication);
        receivers
    }

    fn publish_local(&self, publication: &RemotePublication) -> u64 {
        let remember = publication.remember.as_ref().map(|data| Remembered {
            frame: publication.frame.clone(),
            data: data.clone(),
            expires: Instant::now() + self.app().settings.cache_ttl,
        });
        self.directory.publish(&publication.channel, &publication.frame, publication.except, remember)
    }

    /// Facts about one channel.
    pub fn channel(&self, channel: &ChannelName) -> ChannelInfo {
        self.directory.info(channel, Instant::now())
    }

    /// Occupied channels whose name starts with `prefix`, in the order of their names.
    pub fn channels(&self, prefix: &str) -> std::collections::BTreeMap<String, ChannelInfo> {
        self.directory.occupied(prefix, Instant::now())
    }

    /// Whether a channel has subscribers on this node.
    pub fn is_occupied(&self, channel: &ChannelName) -> bool {
        self.directory.is_occupied(channel)
    }

    /// How many channels have subscribers.
    pub fn occupied_channels(&self) -> usize {
        self.directory.occupied_count()
    }

    /// Bytes that cache channels remember, and events that were forgotten because there were too many.
    pub fn cached(&self) -> (usize, u64) {
        self.directory.cache().figures()
    }

    /// Ids of the distinct users of a presence channel.
    pub fn channel_users(&self, channel: &ChannelName) -> Vec<UserId> {
        self.directory.user_ids(channel)
    }

    /// Closes every connection of a signed-in user with 4009.
    pub fn terminate_user(&self, user_id: &str) {
        self.users.terminate(user_id);
    }

    /// Whether a connection of this node is signed in as this user.
    pub fn is_signed_in(&self, user_id: &str) -> bool {
        self.users.is_signed_in(user_id)
    }

    /// Everybody who is signed in on this node.
    pub fn signed_in_users(&self) -> Vec<UserId> {
        self.users.signed_in()
    }

    /// Connections of this app.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    fn tell(&self, what: &Observation<'_>) {
        self.observers.tell(&self.id, what);
    }

    /// Gives a channel a subscriber that is on no shard.
    #[cfg(test)]
    pub(crate) fn occupy_for_test(&self, channel: &ChannelName) {
        let socket_id = SocketId::parse("1.1").expect("a form").expect("an id");
        self.directory.join(socket_id, channel, 0, 0, None, Instant::now()).expect("no member");
    }
}

#[cfg(test)]
mod tests;
