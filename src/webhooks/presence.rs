//! Who is there: channels, members of presence channels, users. What is gone is remembered for a while, and
//! if it is back in time it was never gone.
//!
//! ```text
//! absent ──came──► present ──left──► leaving ──time──► absent
//!                     ▲                 │
//!                     └──────came───────┘
//! ```
//!
//! Pure: it is told the time.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Instant;

use crate::protocol::channel::ChannelName;
use crate::protocol::id::UserId;

/// What can be there or not, of one app.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub app: Arc<str>,
    pub subject: Subject,
}

/// What it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Subject {
    /// A channel with subscribers.
    Channel(ChannelName),
    /// A member of a presence channel.
    Member(ChannelName, UserId),
    /// A signed-in user.
    User(UserId),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Present,
    /// Until this deadline.
    Leaving(Deadline),
}

/// A time, and a number that keeps those of the same time in the order in which they were set: a member goes
/// before the channel.
type Deadline = (Instant, u64);

/// All that is there.
#[derive(Debug, Default)]
pub(super) struct Presence {
    states: HashMap<Key, State>,
    deadlines: BTreeMap<Deadline, Key>,
    count: u64,
}

impl Presence {
    /// Something came; tells whether that is news.
    pub fn came(&mut self, key: Key) -> bool {
        match self.states.insert(key, State::Present) {
            None => true,
            Some(State::Present) => false,
            Some(State::Leaving(deadline)) => {
                self.deadlines.remove(&deadline);
                false
            }
        }
    }

    /// Something left; it is gone at `until`. What was never there is not missed.
    pub fn left(&mut self, key: &Key, until: Instant) {
        if self.states.get(key) == Some(&State::Present) {
            self.leaving(key.clone(), until);
        }
    }

    /// Something was there before this process began, or on another one that ended: unless it comes here, it
    /// is gone at `until`. Tells whether it was unknown.
    pub fn remembered(&mut self, key: Key, until: Instant) -> bool {
        let is_new = !self.states.contains_key(&key);
        if is_new {
            self.leaving(key, until);
        }
        is_new
    }

    fn leaving(&mut self, key: Key, until: Instant) {
        self.count += 1;
        let deadline = (until, self.count);
        self.states.insert(key.clone(), State::Leaving(deadline));
        self.deadlines.insert(deadline, key);
    }

    /// The next one whose time is over; it is gone now.
    pub fn pop_due(&mut self, now: Instant) -> Option<Key> {
        let (until, _) = *self.deadlines.first_key_value()?.0;
        if until > now {
            return None;
        }
        let (_, key) = self.deadlines.pop_first()?;
        self.states.remove(&key);
        Some(key)
    }

    /// When the next one's time is over.
    pub fn next_due(&self) -> Option<Instant> {
        self.deadlines.first_key_value().map(|((until, _), _)| *until)
    }

    /// Everything that is there and not leaving.
    pub fn present(&self) -> impl Iterator<Item = &Key> {
        self.states.iter().filter(|(_, state)| **state == State::Present).map(|(key, _)| key)
    }

    /// How much is remembered.
    pub fn len(&self) -> usize {
        self.states.len()
    }

    /// Gives unused memory back when little is left of much.
    pub fn shrink(&mut self) {
        if self.states.capacity() > 1024 && self.states.capacity() > 4 * self.states.len() {
            self.states.shrink_to(2 * self.states.len());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn key(user: Option<&str>) -> Key {
        let room = ChannelName::parse("presence-room").expect("a name");
        let subject = match user {
            None => Subject::Channel(room),
            Some(user) => Subject::Member(room, UserId::member(user).expect("an id")),
        };
        Key { app: "1001".into(), subject }
    }

    fn gone(presence: &mut Presence, now: Instant) -> Vec<Key> {
        std::iter::from_fn(|| presence.pop_due(now)).collect()
    }

    #[test]
    fn who_is_back_in_time_was_never_gone() {
        let (mut presence, start) = (Presence::default(), Instant::now());
        let delay = Duration::from_secs(3);
        assert!(presence.came(key(None)));
        presence.left(&key(None), start + delay);
        assert!(gone(&mut presence, start + delay / 2).is_empty());
        assert!(!presence.came(key(None)));
        assert!(gone(&mut presence, start + delay * 2).is_empty());
        presence.left(&key(None), start + delay * 2);
        assert_eq!(presence.next_due(), Some(start + delay * 2));
        assert_eq!(gone(&mut presence, start + delay * 2), [key(None)]);
        assert_eq!((presence.len(), presence.next_due()), (0, None));
        assert!(presence.came(key(None)), "news again");
    }

    #[test]
    fn what_leaves_at_once_goes_in_that_order() {
        let (mut presence, now) = (Presence::default(), Instant::now());
        let all = [key(Some("2")), key(Some("1")), key(None)];
        all.iter().for_each(|key| assert!(presence.came(key.clone())));
        all.iter().for_each(|key| presence.left(key, now));
        assert_eq!(gone(&mut presence, now), all);
    }

    #[test]
    fn what_was_there_before_stays_if_it_comes_and_goes_if_not() {
        let (mut presence, now) = (Presence::default(), Instant::now());
        assert!(presence.remembered(key(None), now) && presence.remembered(key(Some("1")), now));
        assert!(!presence.came(key(None)), "no news");
        assert!(!presence.remembered(key(None), now), "it is here");
        assert_eq!(gone(&mut presence, now), [key(Some("1"))]);
        presence.left(&key(Some("9")), now);
        assert_eq!(presence.len(), 1, "nobody knew that one");
    }
}
