//! What the hub's threads see on their way, until the webhooks' task looks. Each connection has a share of the room,
//! and so have each app and what everybody may cause: nobody takes the room of others.
//!
//! Waking another thread costs more than what is to be said, so the task is only woken when it waits for
//! nothing else: it looks at most every few milliseconds, however much happens.

use std::collections::HashMap;
use std::mem;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::Notify;

use super::endpoints::Endpoints;
use super::presence::Subject;
use crate::config::WebhookEvent;
use crate::hub::{Observation, Observer};
use crate::protocol::channel::{ChannelKind, ChannelName};
use crate::protocol::id::{SocketId, UserId};

/// Observations that may wait.
const MAX_COUNT: usize = 65_536;
/// Bytes that clients' events among them may have.
const MAX_BYTES: usize = 64 << 20;
/// The part that one connection may have.
const CONNECTION: usize = 16;

/// Something that happened in an app.
#[derive(Debug)]
pub(super) struct Seen {
    pub app: Arc<str>,
    pub what: What,
    /// The connection that caused it, if that is known.
    pub by: Option<SocketId>,
}

/// What happened.
#[derive(Debug)]
pub(super) enum What {
    Came(Subject),
    Left(Subject),
    ClientEvent(Box<ClientEvent>),
    CacheMiss(ChannelName),
    SubscriptionCount(ChannelName, u64),
    Opened(SocketId),
    Closed(Box<Closed>),
}

#[derive(Debug)]
pub(super) struct ClientEvent {
    pub channel: ChannelName,
    pub event: Box<str>,
    /// A quoted JSON string.
    pub data: Box<str>,
    pub socket_id: SocketId,
    pub user_id: Option<UserId>,
}

#[derive(Debug)]
pub(super) struct Closed {
    pub socket_id: SocketId,
    pub user_id: Option<UserId>,
    pub lasted: Duration,
    pub code: u16,
    pub reason: String,
}

/// The queue; observes the hub.
#[derive(Default)]
pub(super) struct Queue {
    endpoints: ArcSwap<Endpoints>,
    waiting: Mutex<Waiting>,
    wake: Notify,
    is_closed: AtomicBool,
    lost: AtomicU64,
}

#[derive(Default)]
struct Waiting {
    seen: Vec<Seen>,
    bytes: usize,
    /// How many are of each app, and of these how many of what everybody may cause.
    of_apps: HashMap<Arc<str>, [usize; 2]>,
    /// How many each connection caused, and the bytes of its events.
    of_connections: HashMap<SocketId, [usize; 2]>,
    /// Whether something found no room since the last look.
    has_gap: bool,
}

impl Queue {
    /// Who wants what from now on.
    pub fn set(&self, endpoints: Endpoints) {
        self.endpoints.store(Arc::new(endpoints));
    }

    pub fn endpoints(&self) -> Arc<Endpoints> {
        self.endpoints.load_full()
    }

    /// Counts something that is not told.
    pub fn lose(&self) {
        self.lost.fetch_add(1, Ordering::Relaxed);
    }

    /// Observations that found no room.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Nothing more is worth waiting for.
    pub fn close(&self) {
        self.is_closed.store(true, Ordering::Release);
        self.wake();
    }

    pub fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Acquire)
    }

    /// Waits until there is something to take.
    pub async fn filled(&self) {
        self.wake.notified().await;
    }

    /// Has the task look.
    pub fn wake(&self) {
        self.wake.notify_one();
    }

    /// All that waits, and whether something is missing behind it.
    pub fn take(&self) -> (Vec<Seen>, bool) {
        let mut waiting = self.lock();
        let Waiting { seen, has_gap, .. } = mem::take(&mut *waiting);
        (seen, has_gap)
    }

    /// Leaves no room, and something that found none.
    #[cfg(test)]
    pub fn fill(&self) {
        let news = Subject::Channel(ChannelName::parse("private-news").expect("a name"));
        (0..=MAX_COUNT).for_each(|_| self.push(&"1001".into(), What::Came(news.clone()), None));
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, app: &Arc<str>, what: What, by: Option<SocketId>) {
        let bytes = if let What::ClientEvent(event) = &what { event.data.len() } else { 0 };
        let apps = self.endpoints.load().count();
        let mut waiting = self.lock();
        if !waiting.has_room(app, &what, by, bytes, apps) {
            // Who came and went is looked at anew; of the rest there is nothing to look at.
            waiting.has_gap |= matches!(what, What::Came(_) | What::Left(_));
            return self.lose();
        }
        let is_first = waiting.seen.is_empty();
        waiting.bytes += bytes;
        let of_app = waiting.of_apps.entry(Arc::clone(app)).or_default();
        of_app[0] += 1;
        of_app[1] += usize::from(what.is_public());
        if let Some(by) = by {
            let of_connection = waiting.of_connections.entry(by).or_default();
            of_connection[0] += 1;
            of_connection[1] += bytes;
        }
        waiting.seen.push(Seen { app: Arc::clone(app), what, by });
        drop(waiting);
        if is_first {
            self.wake.notify_one();
        }
    }
}

impl Waiting {
    fn has_room(&self, app: &Arc<str>, what: &What, by: Option<SocketId>, bytes: usize, apps: usize) -> bool {
        // Ends of connections have room of their own: nothing tells later that one was missed, and there can be no
        // more of them than connections.
        if matches!(what, What::Closed(_)) {
            return self.seen.len() < 2 * MAX_COUNT;
        }
        let [of_app, public] = self.of_apps.get(app).copied().unwrap_or_default();
        // Half for one app, so that there is always room for another.
        let app_room = if apps > 1 { MAX_COUNT / 2 } else { MAX_COUNT };
        let [of_connection, its_bytes] =
            by.and_then(|by| self.of_connections.get(&by)).copied().unwrap_or_default();
        self.seen.len() < MAX_COUNT
            && self.bytes + bytes <= MAX_BYTES
            && of_app < app_room
            && (!what.is_public() || public < app_room / 2)
            && of_connection < MAX_COUNT / CONNECTION
            && its_bytes + bytes <= MAX_BYTES / CONNECTION
    }
}

impl What {
    /// Whether everybody may cause it who knows the app's key.
    fn is_public(&self) -> bool {
        let channel = match self {
            Self::Came(subject) | Self::Left(subject) => subject.channel(),
            Self::ClientEvent(event) => Some(&event.channel),
            Self::CacheMiss(channel) | Self::SubscriptionCount(channel, _) => Some(channel),
            Self::Opened(_) | Self::Closed(_) => return true,
        };
        channel.is_some_and(|channel| channel.kind() == ChannelKind::Public)
    }
}

impl Observer for Queue {
    fn see(&self, app_id: &str, what: &Observation<'_>) {
        let endpoints = self.endpoints.load();
        let Some(app) = endpoints.app(app_id) else { return };
        let Some((event, channel)) = kind(what) else { return };
        if !app.watches(event) || channel.is_some_and(|it| it.kind() == ChannelKind::ServerToUser) {
            return;
        }
        if !app.tracks(event, channel) {
            return;
        }
        let by = cause(what);
        if let Some(what) = owned(what) {
            self.push(&app.id, what, by);
        }
    }
}

/// The connection that caused it, if that is known.
fn cause(what: &Observation<'_>) -> Option<SocketId> {
    match *what {
        Observation::ChannelOccupied(_, by) | Observation::CacheMiss(_, by) => Some(by),
        Observation::SubscriptionCount(_, _, by) => by,
        Observation::ClientEvent(event) => Some(event.socket_id),
        _ => None,
    }
}

/// Which event an observation leads to, and of which channel.
fn kind<'a>(what: &Observation<'a>) -> Option<(WebhookEvent, Option<&'a ChannelName>)> {
    Some(match *what {
        Observation::ChannelOccupied(channel, _) => (WebhookEvent::ChannelOccupied, Some(channel)),
        Observation::ChannelVacated(channel) => (WebhookEvent::ChannelVacated, Some(channel)),
        Observation::MemberAdded(channel, _) => (WebhookEvent::MemberAdded, Some(channel)),
        Observation::MemberRemoved(channel, _) => (WebhookEvent::MemberRemoved, Some(channel)),
        Observation::CacheMiss(channel, _) => (WebhookEvent::CacheMiss, Some(channel)),
        Observation::SubscriptionCount(channel, ..) => (WebhookEvent::SubscriptionCount, Some(channel)),
        Observation::ClientEvent(event) => (WebhookEvent::ClientEvent, Some(event.channel)),
        Observation::UserCame(_) => (WebhookEvent::UserOnline, None),
        Observation::UserLeft(_) => (WebhookEvent::UserOffline, None),
        Observation::ConnectionOpened(_) => (WebhookEvent::ConnectionOpened, None),
        Observation::ConnectionClosed(_) => (WebhookEvent::ConnectionClosed, None),
        Observation::Subscribed(_) => return None,
    })
}

fn owned(what: &Observation<'_>) -> Option<What> {
    Some(match *what {
        Observation::ChannelOccupied(channel, _) => What::Came(Subject::Channel(channel.clone())),
        Observation::ChannelVacated(channel) => What::Left(Subject::Channel(channel.clone())),
        Observation::MemberAdded(channel, user) => What::Came(Subject::Member(channel.clone(), user.clone())),
        Observation::MemberRemoved(channel, user) => {
            What::Left(Subject::Member(channel.clone(), user.clone()))
        }
        Observation::UserCame(user) => What::Came(Subject::User(user.clone())),
        Observation::UserLeft(user) => What::Left(Subject::User(user.clone())),
        Observation::CacheMiss(channel, _) => What::CacheMiss(channel.clone()),
        Observation::SubscriptionCount(channel, count, _) => What::SubscriptionCount(channel.clone(), count),
        Observation::ClientEvent(event) => What::ClientEvent(Box::new(ClientEvent {
            channel: event.channel.clone(),
            event: event.event.into(),
            data: event.data.into(),
            socket_id: event.socket_id,
            user_id: event.user_id.cloned(),
        })),
        Observation::ConnectionOpened(id) => What::Opened(id),
        Observation::ConnectionClosed(end) => What::Closed(Box::new(Closed {
            socket_id: end.socket_id,
            user_id: end.user_id.cloned(),
            lasted: end.lasted,
            code: end.code,
            reason: end.reason.to_owned(),
        })),
        Observation::Subscribed(_) => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{AppSettings, WebhookSettings};

    fn queue(events: Vec<WebhookEvent>) -> Queue {
        let webhook = WebhookSettings {
            url: crate::config::Secret::new("http://portal.example/".to_owned()),
            events,
            ..Default::default()
        };
        let app = AppSettings { webhooks: vec![webhook], ..AppSettings::new("1001", "key", "secret") };
        let queue = Queue::default();
        queue.set(Endpoints::new(&[app]));
        queue
    }

    fn channel(name: &str) -> ChannelName {
        ChannelName::parse(name).expect(name)
    }

    fn socket(number: usize) -> SocketId {
        SocketId::parse(&format!("1.{number}")).expect("a form").expect("an id")
    }

    #[test]
    fn what_nobody_wants_is_not_queued() {
        let queue = queue(vec![WebhookEvent::ChannelVacated]);
        let (news, own) = (channel("news"), channel("#server-to-user-7"));
        queue.see("1001", &Observation::CacheMiss(&news, socket(1)));
        queue.see("1002", &Observation::ChannelOccupied(&news, socket(1)));
        queue.see("1001", &Observation::ChannelOccupied(&own, socket(1)));
        assert!(queue.take().0.is_empty());
        queue.see("1001", &Observation::ChannelOccupied(&news, socket(1)));
        let (seen, has_gap) = queue.take();
        assert!(matches!(&seen[0].what, What::Came(Subject::Channel(channel)) if *channel == news));
        assert_eq!((seen.len(), has_gap), (1, false));
    }

    #[test]
    fn what_finds_no_room_is_counted_and_leaves_a_mark() {
        let queue = queue(vec![]);
        let news = channel("private-news");
        (0..MAX_COUNT + 3).for_each(|n| queue.see("1001", &Observation::ChannelOccupied(&news, socket(n))));
        assert_eq!(queue.lost(), 3);
        let (seen, has_gap) = queue.take();
        assert_eq!((seen.len(), has_gap), (MAX_COUNT, true));
        assert!(!queue.take().1, "told once");
    }

    #[test]
    fn strangers_and_single_connections_and_apps_leave_room_for_others() {
        let queue = queue(vec![]);
        let (news, room) = (channel("news"), channel("private-room"));
        (0..MAX_COUNT).for_each(|n| queue.see("1001", &Observation::ChannelOccupied(&news, socket(n))));
        assert_eq!(queue.lock().seen.len(), MAX_COUNT / 2, "strangers");
        (0..MAX_COUNT)
            .for_each(|_| queue.see("1001", &Observation::ChannelOccupied(&room, socket(MAX_COUNT))));
        assert_eq!(queue.lock().seen.len(), MAX_COUNT / 2 + MAX_COUNT / CONNECTION, "one connection");
        queue.take();

        let webhook = WebhookSettings {
            url: crate::config::Secret::new("http://portal.example/".to_owned()),
            ..Default::default()
        };
        let app = |id| AppSettings { webhooks: vec![webhook.clone()], ..AppSettings::new(id, id, "secret") };
        queue.set(Endpoints::new(&[app("1001"), app("1002")]));
        (0..MAX_COUNT).for_each(|n| queue.see("1001", &Observation::ChannelOccupied(&room, socket(n))));
        assert_eq!(queue.lock().seen.len(), MAX_COUNT / 2, "one app");
        queue.see("1002", &Observation::ChannelOccupied(&news, socket(1)));
        assert_eq!(queue.lock().seen.len(), MAX_COUNT / 2 + 1);
    }
}
