//! The room for what waits for a webhook, and who has how much of it.
//!
//! Whoever knows an app's key may come and go on public channels as often as the server allows. That must not
//! take the room of others, so events that everybody may cause have half of it at most, and each channel and
//! each user or connection a share. What finds no room is not written; nothing that waits is dropped for it.
//!
//! What waits is counted in the store when a limit seems to be reached. In between, what was written since is
//! added and nothing taken away, so a limit may be seen too early and never too late. Pure but for the time.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use crate::outbox::Target;
use crate::protocol::channel::{ChannelKind, ChannelName};
use crate::protocol::id::{SocketId, UserId};

/// A count may take this part of the time: one of 50 ms may follow after a second.
const PART: u32 = 20;

/// What may wait for one webhook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limits {
    /// Requests.
    pub requests: u64,
    /// Of these, requests with events that everybody may cause.
    public: u64,
    /// Events of one channel.
    channel: u64,
    /// Events that one user caused, or one connection without a user.
    origin: u64,
}

impl Limits {
    pub fn new(requests: usize) -> Self {
        let requests = requests as u64;
        let part = |of: u64| (requests / of).max(1);
        Self { requests, public: part(2), channel: part(10), origin: part(100) }
    }
}

/// Names whoever has a share, whatever the length of its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Share(u64);

impl Share {
    pub fn channel(channel: &ChannelName) -> Self {
        Self::of('c', channel.as_str())
    }

    pub fn user(user: &UserId) -> Self {
        Self::of('u', user.as_str())
    }

    pub fn connection(socket_id: SocketId) -> Self {
        Self::of('s', &socket_id.to_string())
    }

    /// As the store keeps it.
    pub fn text(self) -> String {
        format!("{:x}", self.0)
    }

    pub fn parse(text: &str) -> Option<Self> {
        u64::from_str_radix(text, 16).ok().map(Self)
    }

    fn of(kind: char, name: &str) -> Self {
        let mut first = [0; 8];
        first.copy_from_slice(&Sha256::digest(format!("{kind}:{name}"))[..8]);
        Self(u64::from_be_bytes(first))
    }
}

/// Whose room an event takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Owners {
    /// Whether everybody may cause such an event who knows the app's key.
    pub is_public: bool,
    pub channel: Option<Share>,
    /// The user or the connection that caused it, if that is known.
    pub origin: Option<Share>,
}

impl Owners {
    pub fn of_channel(channel: &ChannelName, origin: Option<Share>) -> Self {
        let is_public = channel.kind() == ChannelKind::Public;
        Self { is_public, channel: Some(Share::channel(channel)), origin }
    }

    fn shares(self) -> impl Iterator<Item = Share> {
        self.channel.into_iter().chain(self.origin)
    }
}

/// How many events a request has of each share, as the store keeps it.
#[derive(Clone, Debug, Default)]
pub(super) struct Shares(HashMap<Share, u32>);

impl Shares {
    pub fn add(&mut self, owners: Owners) {
        owners.shares().for_each(|share| *self.0.entry(share).or_default() += 1);
    }

    pub fn write(&self) -> String {
        let one = |(share, count): (&Share, &u32)| format!("{}*{count}", share.text());
        self.0.iter().map(one).collect::<Vec<_>>().join(" ")
    }

    fn read(text: &str) -> impl Iterator<Item = (Share, u32)> {
        text.split(' ').filter_map(|one| {
            let (share, count) = one.split_once('*')?;
            Some((Share::parse(share)?, count.parse().ok()?))
        })
    }
}

/// What waits for one webhook, or less.
#[derive(Debug, Default)]
pub(super) struct Room {
    requests: u64,
    public: u64,
    shares: HashMap<Share, u32>,
    /// When it was counted, and how long that took.
    counted: Option<(Instant, Duration)>,
    /// Whether there may be comings that found no room.
    pub has_gaps: bool,
    /// Events that found no room, since the start of the process.
    pub dropped: u64,
}

impl Room {
    /// Adds a request that waits, as the store has it.
    pub fn add_stored(&mut self, is_public: bool, shares: &str) {
        self.add_request(is_public);
        Shares::read(shares).for_each(|(share, count)| *self.shares.entry(share).or_default() += count);
    }

    /// It was counted in the store.
    pub fn counted(self, at: Instant, took: Duration) -> Self {
        Self { counted: Some((at, took)), ..self }
    }

    pub fn add_request(&mut self, is_public: bool) {
        self.requests += 1;
        self.public += u64::from(is_public);
    }

    pub fn add_event(&mut self, owners: Owners) {
        owners.shares().for_each(|share| *self.shares.entry(share).or_default() += 1);
    }

    fn of(&self, share: Option<Share>) -> u64 {
        share.and_then(|share| self.shares.get(&share)).map_or(0, |count| u64::from(*count))
    }

    /// Whether there is room for an event.
    pub fn admits(&self, owners: Owners, limits: &Limits) -> bool {
        self.has_room(owners, limits, 1)
    }

    fn has_room(&self, owners: Owners, limits: &Limits, events: u64) -> bool {
        self.requests + events <= limits.requests
            && (!owners.is_public || self.public + events <= limits.public)
            && self.of(owners.channel) + events <= limits.channel
            && self.of(owners.origin) + events <= limits.origin
    }

    /// Whether it should be counted before these are written: it never was, or they may not find room.
    pub fn wants_count(&self, next: &[Owners], limits: &Limits, now: Instant) -> bool {
        let Some((at, took)) = self.counted else { return true };
        if now.saturating_duration_since(at) < took * PART {
            return false;
        }
        next.iter().any(|owners| !self.has_room(*owners, limits, next.len() as u64))
    }
}

/// What is known of all webhooks.
#[derive(Debug, Default)]
pub(super) struct Rooms(HashMap<Target, Room>);

impl Rooms {
    pub fn of(&mut self, target: &Target) -> &mut Room {
        if !self.0.contains_key(target) {
            self.0.insert(target.clone(), Room::default());
        }
        self.0.entry(target.clone()).or_default()
    }

    /// It was counted.
    pub fn set(&mut self, target: &Target, room: Room) {
        let Room { has_gaps, dropped, .. } = *self.of(target);
        self.0.insert(target.clone(), Room { has_gaps, dropped, ..room });
    }

    pub fn have_gaps(&self) -> bool {
        self.0.values().any(|room| room.has_gaps)
    }

    /// Events that found no room, since the start of the process.
    pub fn dropped(&self) -> Vec<(Target, u64)> {
        self.0.iter().map(|(target, room)| (target.clone(), room.dropped)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owners(channel: &str, user: &str) -> Owners {
        let channel = ChannelName::parse(channel).expect("a name");
        Owners::of_channel(&channel, Some(Share::user(&UserId::member(user).expect("an id"))))
    }

    /// Writes so many events, each a request of its own; answers how many found room.
    fn fill(room: &mut Room, limits: &Limits, all: impl Iterator<Item = Owners>) -> usize {
        all.filter(|owners| {
            let is_admitted = room.admits(*owners, limits);
            if is_admitted {
                room.add_request(owners.is_public);
                room.add_event(*owners);
            }
            is_admitted
        })
        .count()
    }

    #[test]
    fn strangers_take_half_of_the_room_and_each_channel_and_user_a_share() {
        let limits = Limits::new(1_000);
        let many = |start: usize, prefix: &str| {
            let prefix = prefix.to_owned();
            (start..start + 5_000).map(move |n| owners(&format!("{prefix}{n}"), &n.to_string()))
        };
        let mut room = Room::default();
        assert_eq!(fill(&mut room, &limits, many(0, "news-")), 500, "channels that everybody may use");
        let room_user = (0..5_000).map(|n| owners(&format!("private-{n}"), "one"));
        assert_eq!(fill(&mut room, &limits, room_user), 10, "one user in many channels");
        let one_channel = (0..5_000).map(|n| owners("presence-room", &format!("of-{n}")));
        assert_eq!(fill(&mut room, &limits, one_channel), 100, "many users in one channel");
        assert_eq!(fill(&mut room, &limits, many(0, "private-x-")), 390, "whoever comes");
        assert_eq!(room.requests, 1_000);
    }

    #[test]
    fn what_is_stored_is_counted_as_it_was_written() {
        let (a, b) = (owners("presence-room", "1"), owners("presence-room", "2"));
        let mut batch = Shares::default();
        [a, a, b].into_iter().for_each(|owners| batch.add(owners));
        let mut room = Room::default();
        room.add_stored(false, &batch.write());
        assert_eq!([room.of(a.channel), room.of(a.origin), room.of(b.origin)], [3, 2, 1]);
        assert_eq!((room.requests, room.public), (1, 0));
    }

    #[test]
    fn it_is_counted_only_before_a_limit_and_the_longer_it_takes_the_more_seldom() {
        let (limits, start) = (Limits::new(1_000), Instant::now());
        let second = Duration::from_secs(1);
        let next = [owners("presence-room", "1"); 10];
        assert!(Room::default().wants_count(&next, &limits, start), "never counted");
        let mut room = Room::default().counted(start, Duration::from_millis(50));
        assert!(!room.wants_count(&next, &limits, start + second * 9));
        room.add_event(next[0]);
        assert!(!room.wants_count(&next, &limits, start + second / 2), "just counted");
        assert!(room.wants_count(&next, &limits, start + second), "ten more of one user are too many");
        assert!(!room.wants_count(&[], &limits, start + second));
    }
}
