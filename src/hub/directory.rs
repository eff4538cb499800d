//! Which shards have subscribers of which channel, and what a channel itself remembers: member list,
//! last event, revision.
//!
//! One map per app. Its guards never leave this file, and nothing under a guard waits: a publication is
//! pushed to the mailboxes under the entry's lock, so that every shard sees one channel's publications in
//! one order. Each publication raises the entry's revision; a subscriber remembers the revision at which
//! it joined and is sent only what came later. That is why a cached event is never also seen live, a
//! member never appears twice, and none is missed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use dashmap::DashMap;
use smallvec::SmallVec;

use super::cache::CacheLedger;
use super::mailbox::{LocalPublication, Mailbox, Parcel};
use super::observer::{Observation, Observers};
use super::presence::{Came, Roster, RosterFull};
use super::uplink::Uplink;
use crate::logging::traffic;
use crate::protocol::channel::{ChannelKind, ChannelName};
use crate::protocol::frame::Frame;
use crate::protocol::id::{SocketId, UserId};
use crate::protocol::presence::Member;
use crate::protocol::server_event;

/// Subscribers above which `subscription_count` is sent at most each [`COUNT_INTERVAL`].
const BUSY_CHANNEL: u64 = 100;
/// Pusher docs, "subscription count events".
const COUNT_INTERVAL: Duration = Duration::from_secs(5);
/// Subscription counts of a smaller channel that are sent at once; after these, one each [`NEXT_COUNT`]. A channel's
/// subscribers may come and go much faster than another one of them can read.
const COUNTS_AT_ONCE: u32 = 10;
/// See [`COUNTS_AT_ONCE`].
const NEXT_COUNT: Duration = Duration::from_secs(1);

/// All channels of one app that are occupied or remember an event.
pub(super) struct Directory {
    channels: DashMap<Arc<str>, Entry, foldhash::fast::RandomState>,
    mailboxes: Arc<[Mailbox]>,
    app_id: String,
    uplink: Arc<dyn Uplink>,
    observers: Observers,
    next_id: AtomicU64,
    /// Whether subscribers are told how many they are.
    announce_count: AtomicBool,
    /// Whether an entry may have something to do at a later time: an event to forget, a count to send.
    has_timers: AtomicBool,
    cache: CacheLedger,
}

#[derive(Debug)]
struct Entry {
    id: u64,
    name: ChannelName,
    revision: u64,
    interested: SmallVec<[Interest; 2]>,
    roster: Option<Box<Roster>>,
    /// With its number in the ledger.
    remembered: Option<Box<(Remembered, u64)>>,
    count: CountAnnouncement,
}

/// One shard's subscribers.
#[derive(Clone, Copy, Debug)]
struct Interest {
    shard: u32,
    local: u32,
    subscribers: u32,
}

#[derive(Debug, Default)]
struct CountAnnouncement {
    sent: Option<Instant>,
    is_due: bool,
    /// Of [`COUNTS_AT_ONCE`], those that were sent and not forgotten.
    recent: u32,
}

/// The last event of a cache channel.
#[derive(Clone, Debug)]
pub struct Remembered {
    /// As it was sent.
    pub frame: Frame,
    /// The quoted JSON string that was published.
    pub data: Bytes,
    /// When it is forgotten.
    pub expires: Instant,
}

/// What a subscriber needs to know of the channel it joined, all of one moment.
#[derive(Debug)]
pub(super) struct Joined {
    /// Identity of the channel while it is occupied.
    pub channel: u64,
    /// Publications up to this revision are not for this subscriber.
    pub since: u64,
    /// `data` for `subscription_succeeded` of a presence channel.
    pub snapshot: Option<String>,
    /// The last event of a cache channel.
    pub remembered: Option<Frame>,
}

/// What the HTTP API tells about a channel.
#[derive(Clone, Debug, Default)]
pub struct ChannelInfo {
    /// Connections subscribed.
    pub subscribers: u64,
    /// Distinct users, for presence channels.
    pub users: usize,
    /// Last event of a cache channel.
    pub remembered: Option<Remembered>,
}

impl Directory {
    pub fn new(
        app_id: String,
        mailboxes: Arc<[Mailbox]>,
        uplink: Arc<dyn Uplink>,
        observers: Observers,
        (announce_count, cache_size): (bool, usize),
    ) -> Self {
        Self {
            channels: DashMap::with_hasher(foldhash::fast::RandomState::default()),
            mailboxes,
            app_id,
            uplink,
            observers,
            next_id: AtomicU64::new(1),
            announce_count: AtomicBool::new(announce_count),
            has_timers: AtomicBool::new(false),
            cache: CacheLedger::new(cache_size),
        }
    }

    /// Hands a frame to every shard with subscribers; `remember` replaces the channel's last event. Answers
    /// how many subscribers this node has at that moment, but 0 when no log line wants to know.
    pub fn publish(
        &self,
        channel: &ChannelName,
        frame: &Frame,
        except: Option<SocketId>,
        remember: Option<Remembered>,
    ) -> u64 {
        match remember {
            Some(remembered) => {
                let mut entry =
                    self.channels.entry(channel.shared()).or_insert_with(|| self.new_entry(channel));
                let before = entry.remembered.take().map(|before| before.1);
                let bytes = remembered.frame.bytes().len() + remembered.data.len();
                let number = self.cache.enter(entry.key(), bytes, before);
                entry.remembered = Some(Box::new((remembered, number)));
                // Under the entry's lock, behind what it speaks of: a tick in between would take the flag and find
                // nothing, and the event would never be forgotten.
                self.has_timers.store(true, Ordering::Relaxed);
                entry.push(&self.mailboxes, frame, except);
                let receivers = entry.receivers();
                drop(entry);
                self.forget_excess();
                receivers
            }
            None => match self.channels.get_mut(channel.as_str()) {
                Some(mut entry) => {
                    entry.push(&self.mailboxes, frame, except);
                    entry.receivers()
                }
                None => 0,
            },
        }
    }

    /// Forgets the oldest events of cache channels while there are too many.
    fn forget_excess(&self) {
        while let Some((number, channel)) = self.cache.pop_excess() {
            let Some(mut entry) = self.channels.get_mut(&*channel) else { continue };
            entry.remembered.take_if(|remembered| remembered.1 == number);
            let abandoned = entry.is_empty();
            drop(entry);
            if abandoned {
                self.channels.remove_if(&*channel, |_, entry| entry.is_empty());
            }
        }
    }

    /// What cache channels remember, and how much they may.
    pub fn cache(&self) -> &CacheLedger {
        &self.cache
    }

    /// Where a shard keeps a channel, when it has subscribers of it.
    pub fn local_index(&self, channel: &ChannelName, shard: u32) -> Option<u32> {
        let entry = self.channels.get(channel.as_str())?;
        entry.interested.iter().find(|interest| interest.shard == shard).map(|interest| interest.local)
    }

    /// Adds a subscriber, this connection, that the shard keeps under `local`; `member` for presence channels, with
    /// the most members allowed.
    pub fn join(
        &self,
        socket_id: SocketId,
        channel: &ChannelName,
        shard: u32,
        local: u32,
        member: Option<(&Member, usize)>,
        now: Instant,
    ) -> Result<Joined, RosterFull> {
        let mut entry = self.channels.entry(channel.shared()).or_insert_with(|| self.new_entry(channel));
        let was_vacant = entry.interested.is_empty();
        let mut snapshot = None;
        let mut new_member = None;
        if let Some((member, limit)) = member {
            let roster = entry.roster.get_or_insert_default();
            match roster.join(member, limit) {
                Err(full) => {
                    let abandoned = entry.is_abandoned(now);
                    drop(entry);
                    if abandoned {
                        self.remove_abandoned(channel, now);
                    }
                    return Err(full);
                }
                Ok(came) => {
                    snapshot = Some(roster.snapshot());
                    if came == Came::Changed {
                        self.tell_removed(&mut entry, &member.user_id);
                    }
                    if came != Came::Known {
                        let frame = server_event::member_added(channel, member);
                        entry.push(&self.mailboxes, &frame, None);
                        new_member = Some(&member.user_id);
                    }
                }
            }
        }
        entry.add_interest(shard, local);
        let joined = Joined {
            channel: entry.id,
            since: entry.revision,
            snapshot,
            remembered: entry.remembered(now).map(|remembered| remembered.frame.clone()),
        };
        self.tell(&Observation::Subscribed(channel));
        if was_vacant {
            self.uplink.interest(&self.app_id, channel, true);
            self.tell(&Observation::ChannelOccupied(channel, socket_id));
        }
        if let Some(user) = new_member {
            self.tell(&Observation::MemberAdded(channel, user));
        }
        if channel.is_cache() && joined.remembered.is_none() {
            self.tell(&Observation::CacheMiss(channel, socket_id));
        }
        self.announce_count(&mut entry, now, Some(socket_id));
        Ok(joined)
    }

    /// Takes a subscriber away.
    pub fn leave(&self, channel: &ChannelName, shard: u32, user: Option<&UserId>, now: Instant) {
        let Some(mut entry) = self.channels.get_mut(channel.as_str()) else { return };
        entry.remove_interest(shard);
        if let (Some(user), Some(roster)) = (user, entry.roster.as_mut()) {
            let is_gone = roster.leave(user, now);
            if roster.has_timers() {
                self.has_timers.store(true, Ordering::Relaxed);
            }
            if is_gone {
                self.tell_removed(&mut entry, user);
            }
        }
        if entry.interested.is_empty() {
            // Nobody is left for whom they could linger.
            let lingering = entry.roster.as_mut().map(|roster| roster.end_lingering()).unwrap_or_default();
            lingering.iter().for_each(|user| self.tell_removed(&mut entry, user));
        }
        self.announce_count(&mut entry, now, None);
        // Told under the entry's lock, so that coming and going reach the link and observers in their order.
        if entry.interested.is_empty() {
            self.uplink.interest(&self.app_id, channel, false);
            self.tell(&Observation::ChannelVacated(channel));
        }
        let abandoned = entry.is_abandoned(now);
        drop(entry);
        if abandoned {
            self.remove_abandoned(channel, now);
        }
    }

    fn remove_abandoned(&self, channel: &ChannelName, now: Instant) {
        let removed = self.channels.remove_if(channel.as_str(), |_, entry| entry.is_abandoned(now));
        // What expired and was not yet forgotten.
        if let Some(expired) = removed.and_then(|(_, entry)| entry.remembered) {
            self.cache.remove(expired.1);
        }
    }

    /// Facts about one channel; all zero when nobody is there.
    pub fn info(&self, channel: &ChannelName, now: Instant) -> ChannelInfo {
        self.channels.get(channel.as_str()).map(|entry| entry.info(now)).unwrap_or_default()
    }

    /// Whether a channel has subscribers.
    pub fn is_occupied(&self, channel: &ChannelName) -> bool {
        self.channels.get(channel.as_str()).is_some_and(|entry| !entry.interested.is_empty())
    }

    /// The member list of a presence channel, as `data` of `subscription_succeeded`.
    pub fn snapshot(&self, channel: &ChannelName) -> String {
        let entry = self.channels.get(channel.as_str());
        let snapshot = entry.and_then(|entry| entry.roster.as_ref().map(|roster| roster.snapshot()));
        snapshot.unwrap_or_else(|| Roster::default().snapshot())
    }

    /// Ids of the distinct users of a presence channel.
    pub fn user_ids(&self, channel: &ChannelName) -> Vec<UserId> {
        let entry = self.channels.get(channel.as_str());
        entry.and_then(|entry| entry.roster.as_ref().map(|roster| roster.ids())).unwrap_or_default()
    }

    /// Occupied channels whose name starts with `prefix`, in the order of their names.
    /// Server-to-user channels are left out.
    pub fn occupied(&self, prefix: &str, now: Instant) -> BTreeMap<String, ChannelInfo> {
        self.channels
            .iter()
            .filter(|entry| entry.key().starts_with(prefix) && !entry.interested.is_empty())
            .filter(|entry| entry.name.kind() != ChannelKind::ServerToUser)
            .map(|entry| (entry.key().to_string(), entry.info(now)))
            .collect()
    }

    /// How many channels have subscribers.
    pub fn occupied_count(&self) -> usize {
        self.channels.iter().filter(|entry| !entry.interested.is_empty()).count()
    }

    /// Sends due subscription counts and forgets expired events. Called about once a second.
    pub fn tick(&self, now: Instant) {
        if !self.has_timers.swap(false, Ordering::Relaxed) {
            return;
        }
        let announce = self.announces_count();
        self.channels.retain(|_, entry| {
            if entry.remembered(now).is_none()
                && let Some(expired) = entry.remembered.take()
            {
                self.cache.remove(expired.1);
            }
            if announce && entry.count.is_due {
                self.announce_count(entry, now, None);
            }
            let gone = entry.roster.as_mut().map(|roster| roster.tick(now)).unwrap_or_default();
            gone.iter().for_each(|user| self.tell_removed(entry, user));
            let has_leavers = entry.roster.as_ref().is_some_and(|roster| roster.has_timers());
            if entry.remembered.is_some() || entry.count.is_due || has_leavers {
                self.has_timers.store(true, Ordering::Relaxed);
            }
            !entry.is_abandoned(now)
        });
    }

    /// Switches subscription counts on or off.
    pub fn set_announce_count(&self, on: bool) {
        self.announce_count.store(on, Ordering::Relaxed);
    }

    fn announces_count(&self) -> bool {
        self.announce_count.load(Ordering::Relaxed)
    }

    fn new_entry(&self, channel: &ChannelName) -> Entry {
        Entry {
            id: self.next_id.fetch_add(1, Ordering::Relaxed),
            name: channel.clone(),
            revision: 0,
            interested: SmallVec::new(),
            roster: None,
            remembered: None,
            count: CountAnnouncement::default(),
        }
    }

    fn announce_count(&self, entry: &mut Entry, now: Instant, by: Option<SocketId>) {
        if !self.announces_count()
            || matches!(entry.name.kind(), ChannelKind::Presence | ChannelKind::ServerToUser)
        {
            return;
        }
        let subscribers = entry.subscribers();
        // An empty channel forgets what it was told, and nobody is sent its count.
        if subscribers > 0 && !entry.count.admit(subscribers, now) {
            self.has_timers.store(true, Ordering::Relaxed);
            return;
        }
        if subscribers > 0 {
            let frame = server_event::subscription_count(&entry.name, subscribers);
            entry.push_as(&self.mailboxes, &frame, None, true);
        }
        self.tell(&Observation::SubscriptionCount(&entry.name, subscribers, by));
    }

    /// Tells subscribers and observers that a user is no member any more.
    fn tell_removed(&self, entry: &mut Entry, user: &UserId) {
        let frame = server_event::member_removed(&entry.name, user);
        entry.push(&self.mailboxes, &frame, None);
        self.tell(&Observation::MemberRemoved(&entry.name, user));
    }

    /// Under the lock of the channel's entry, so that observers hear of one channel in order.
    fn tell(&self, what: &Observation<'_>) {
        self.observers.tell(&self.app_id, what);
    }
}

impl CountAnnouncement {
    /// Whether the count of so many subscribers may be sent now; else it is due.
    fn admit(&mut self, subscribers: u64, now: Instant) -> bool {
        let since = self.sent.map(|sent| now.saturating_duration_since(sent));
        let forgotten = since.map_or(u64::MAX, |since| since.as_secs() / NEXT_COUNT.as_secs());
        let recent = self.recent.saturating_sub(u32::try_from(forgotten).unwrap_or(u32::MAX));
        let is_soon = subscribers > BUSY_CHANNEL && since.is_some_and(|since| since < COUNT_INTERVAL);
        if is_soon || recent >= COUNTS_AT_ONCE {
            self.is_due = true;
            return false;
        }
        *self = Self { sent: Some(now), is_due: false, recent: recent + 1 };
        true
    }
}

impl Entry {
    fn push(&mut self, mailboxes: &[Mailbox], frame: &Frame, except: Option<SocketId>) {
        self.push_as(mailboxes, frame, except, false);
    }

    /// As [`Entry::push`]; `is_state`: the newest such frame of the channel replaces those that wait.
    fn push_as(&mut self, mailboxes: &[Mailbox], frame: &Frame, except: Option<SocketId>, is_state: bool) {
        self.revision += 1;
        for interest in &self.interested {
            mailboxes[interest.shard as usize].push(Parcel::Publication(LocalPublication {
                local: interest.local,
                channel: self.id,
                revision: self.revision,
                except,
                is_state,
                frame: frame.clone(),
            }));
        }
    }

    fn add_interest(&mut self, shard: u32, local: u32) {
        match self.interested.iter_mut().find(|interest| interest.shard == shard) {
            Some(interest) => interest.subscribers += 1,
            None => self.interested.push(Interest { shard, local, subscribers: 1 }),
        }
    }

    fn remove_interest(&mut self, shard: u32) {
        if let Some(at) = self.interested.iter().position(|interest| interest.shard == shard) {
            self.interested[at].subscribers -= 1;
            if self.interested[at].subscribers == 0 {
                self.interested.swap_remove(at);
            }
        }
    }

    /// For the log line of a publication; not counted when it is off.
    fn receivers(&self) -> u64 {
        if traffic::is_on() { self.subscribers() } else { 0 }
    }

    fn subscribers(&self) -> u64 {
        self.interested.iter().map(|interest| u64::from(interest.subscribers)).sum()
    }

    fn remembered(&self, now: Instant) -> Option<&Remembered> {
        self.remembered.as_deref().map(|(remembered, _)| remembered).filter(|it| it.expires > now)
    }

    /// Whether it has neither subscribers nor an event.
    fn is_empty(&self) -> bool {
        self.interested.is_empty() && self.remembered.is_none()
    }

    fn is_abandoned(&self, now: Instant) -> bool {
        self.interested.is_empty() && self.remembered(now).is_none()
    }

    fn info(&self, now: Instant) -> ChannelInfo {
        ChannelInfo {
            subscribers: self.subscribers(),
            users: self.roster.as_ref().map_or(0, |roster| roster.len()),
            remembered: self.remembered(now).cloned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::Alone;

    fn socket() -> SocketId {
        SocketId::parse("1.1").expect("a form").expect("an id")
    }

    fn directory() -> (Directory, Arc<[Mailbox]>) {
        let mailboxes: Arc<[Mailbox]> = [Mailbox::default()].into();
        let (alone, observers) = (Arc::new(Alone), Observers::default());
        (
            Directory::new("1001".to_owned(), Arc::clone(&mailboxes), alone, observers, (false, 64 << 10)),
            mailboxes,
        )
    }

    fn name(name: &str) -> ChannelName {
        ChannelName::parse(name).expect(name)
    }

    fn revisions(mailbox: &Mailbox) -> Vec<u64> {
        let mut parcels = Vec::new();
        mailbox.take(&mut parcels);
        parcels
            .iter()
            .filter_map(|parcel| match parcel {
                Parcel::Publication(publication) => Some(publication.revision),
                _ => None,
            })
            .collect()
    }

    #[test]
    fn what_was_published_before_joining_is_not_for_the_newcomer() {
        let (directory, mailboxes) = directory();
        let (news, now, frame) = (name("news"), Instant::now(), Frame::text("x"));
        directory.join(socket(), &news, 0, 7, None, now).expect("joined");
        directory.publish(&news, &frame, None, None);
        let second = directory.join(socket(), &news, 0, 7, None, now).expect("joined");
        directory.publish(&news, &frame, None, None);
        let revisions = revisions(&mailboxes[0]);
        assert_eq!(revisions.iter().filter(|revision| **revision > second.since).count(), 1);
        assert_eq!(directory.local_index(&news, 0), Some(7));
    }

    #[test]
    fn a_cache_channel_remembers_without_subscribers_until_it_expires() {
        let (directory, _) = directory();
        let (prices, now) = (name("cache-prices"), Instant::now());
        let expires = now + Duration::from_secs(1);
        let remembered = Remembered { frame: Frame::text("v"), data: Bytes::from_static(b"\"v\""), expires };
        directory.publish(&prices, &Frame::text("v"), None, Some(remembered));
        assert!(directory.occupied("", now).is_empty());
        assert!(directory.join(socket(), &prices, 0, 0, None, now).expect("joined").remembered.is_some());
        directory.leave(&prices, 0, None, now);
        assert!(directory.info(&prices, now).remembered.is_some());
        directory.tick(expires);
        assert!(directory.info(&prices, now).remembered.is_none());
        assert!(directory.channels.is_empty());
    }

    #[test]
    fn cache_channels_remember_so_many_bytes_and_forget_the_oldest_first() {
        let (directory, _) = directory();
        let now = Instant::now();
        let expires = now + Duration::from_secs(60);
        let publish = |channel: &str| {
            let (frame, data) = (Frame::text(&"v".repeat(1_000)), Bytes::from(vec![b'v'; 1_000]));
            let remembered = Remembered { frame: frame.clone(), data, expires };
            directory.publish(&name(channel), &frame, None, Some(remembered));
        };
        let is_known = |channel: &str| directory.info(&name(channel), now).remembered.is_some();
        directory.join(socket(), &name("cache-0"), 0, 0, None, now).expect("joined");
        for number in 0..1_000 {
            publish(&format!("cache-{number}"));
            publish("cache-hot");
        }
        assert!(directory.cache.figures().0 <= 64 << 10);
        assert!(
            is_known("cache-hot") && is_known("cache-999") && is_known("cache-990") && !is_known("cache-900")
        );
        assert!(directory.is_occupied(&name("cache-0")) && !is_known("cache-0"));
        assert!(directory.channels.len() < 40, "{}", directory.channels.len());
        directory.leave(&name("cache-0"), 0, None, now);
        directory.tick(expires);
        assert_eq!((directory.channels.len(), directory.cache.figures().0), (0, 0));
    }

    #[test]
    fn what_is_remembered_during_a_tick_is_forgotten_by_a_later_one() {
        let (directory, _) = directory();
        let now = Instant::now();
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !is_over.load(Ordering::Acquire) {
                    directory.tick(now);
                }
            });
            for number in 0..20_000 {
                let (frame, data) = (Frame::text("v"), Bytes::from_static(b"\"v\""));
                let remembered = Remembered { frame: frame.clone(), data, expires: now };
                directory.publish(&name(&format!("cache-{number}")), &frame, None, Some(remembered));
                // The next tick after this one has only this to find.
                while number % 4 == 0 && directory.has_timers.load(Ordering::Acquire) {
                    std::hint::spin_loop();
                }
            }
            is_over.store(true, Ordering::Release);
        });
        directory.tick(now);
        assert!(directory.channels.is_empty(), "{} stay for ever", directory.channels.len());
    }

    #[test]
    fn a_refused_member_leaves_nothing_behind() {
        let (directory, _) = directory();
        let room = name("presence-room");
        let member = Member { user_id: UserId::member("1").expect("valid"), user_info: "{}".into() };
        assert!(directory.join(socket(), &room, 0, 0, Some((&member, 0)), Instant::now()).is_err());
        assert!(directory.channels.is_empty());
    }

    fn told(mailbox: &Mailbox) -> Vec<String> {
        let mut parcels = Vec::new();
        mailbox.take(&mut parcels);
        let text = |frame: &Frame| String::from_utf8_lossy(frame.payload()).into_owned();
        let texts = parcels.iter().filter_map(|parcel| match parcel {
            Parcel::Publication(publication) => Some(text(&publication.frame)),
            _ => None,
        });
        texts.collect()
    }

    #[test]
    fn however_often_strangers_come_and_go_a_channel_of_any_size_is_sent_few_counts_and_the_last_one_is_right()
     {
        for size in [1, BUSY_CHANNEL + 1] {
            let (directory, mailboxes) = directory();
            directory.set_announce_count(true);
            let (news, start) = (name("news"), Instant::now());
            let join = |now| drop(directory.join(socket(), &news, 0, 7, None, now).expect("joined"));
            (0..size).for_each(|_| join(start));
            for _ in 0..1_000 {
                join(start);
                directory.leave(&news, 0, None, start);
            }
            join(start);
            assert!(told(&mailboxes[0]).len() <= COUNTS_AT_ONCE as usize);
            let later = start + COUNT_INTERVAL;
            directory.tick(later);
            let last = told(&mailboxes[0]);
            assert!(last.len() == 1 && last[0].contains(&format!(r#":{}}}"#, size + 1)), "{last:?}");
            for _ in 0..1_000 {
                join(later);
                directory.leave(&news, 0, None, later);
            }
            assert!(told(&mailboxes[0]).len() <= COUNTS_AT_ONCE as usize);
        }
    }

    #[test]
    fn a_member_who_comes_and_goes_all_the_time_is_told_seldom_and_every_list_stays_right() {
        let (directory, mailboxes) = directory();
        let (room, start) = (name("presence-room"), Instant::now());
        let member =
            |id: &str| Member { user_id: UserId::member(id).expect("valid"), user_info: "{}".into() };
        let (ann, bob) = (member("ann"), member("bob"));
        let join =
            |who: &Member| directory.join(socket(), &room, 0, 7, Some((who, 100)), start).expect("joined");
        join(&bob);
        told(&mailboxes[0]);
        for _ in 0..1_000 {
            join(&ann);
            directory.leave(&room, 0, Some(&ann.user_id), start);
        }
        let events = told(&mailboxes[0]);
        assert!(events.len() < 200, "{}", events.len());
        let is_added = |event: &String| event.contains("member_added");
        assert!(
            events.chunks(2).all(|pair| is_added(&pair[0]) && pair.get(1).is_none_or(|it| !is_added(it)))
        );
        assert!(is_added(events.last().expect("events")), "for the others she is there");
        assert!(directory.snapshot(&room).contains("ann"), "and for a newcomer");
        directory.tick(start + Duration::from_secs(6));
        let events = told(&mailboxes[0]);
        assert!(events.len() == 1 && events[0].contains("member_removed"), "{events:?}");
        assert!(!directory.snapshot(&room).contains("ann"));
        join(&ann);
        directory.leave(&room, 0, Some(&ann.user_id), start);
        directory.leave(&room, 0, Some(&bob.user_id), start);
        assert!(directory.channels.is_empty(), "nobody is left for whom she could linger");
    }
}
