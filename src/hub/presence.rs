//! Who is in a presence channel, as its subscribers were told.
//!
//! A user who comes and goes all the time would have every subscriber sent two events each time. So only a few changes
//! of one user are told at once; then the user *lingers* for [`LINGER`] after the last connection left: still a member
//! for everybody, until [`Roster::tick`] tells of the end. Whoever comes back meanwhile never was away. New
//! subscribers get the list as the others know it, so that every subscriber's list stays right.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::{Duration, Instant};

use crate::protocol::id::UserId;
use crate::protocol::json;
use crate::protocol::presence::Member;

/// How many times a user may leave a channel before the next end is told later.
const LEAVES: u32 = 60;
/// In this time one such end is forgotten.
const FORGET: Duration = Duration::from_secs(5);
/// How long a user who left too often stays a member.
const LINGER: Duration = Duration::from_secs(5);

/// The members of one channel by user id, each with the number of its connections.
#[derive(Debug, Default)]
pub(super) struct Roster {
    members: BTreeMap<UserId, Entry>,
    /// Users who left often of late, whether they are here or not.
    leavers: BTreeMap<UserId, Leaver>,
    /// Members without a connection.
    lingering: usize,
}

#[derive(Debug)]
struct Entry {
    info: Box<str>,
    /// None: the member lingers.
    connections: u32,
}

#[derive(Debug)]
struct Leaver {
    leaves: u32,
    /// When the last one was noted or forgotten.
    at: Instant,
}

/// What joining changed for the other subscribers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Came {
    /// Nothing: the user is a member already.
    Known,
    /// There is a new member.
    New,
    /// A lingering member is back with another `user_info`: the old one goes, the new one comes.
    Changed,
}

/// The roster is full.
#[derive(Debug, PartialEq, Eq)]
pub struct RosterFull;

impl Roster {
    /// Adds a connection of a user. A user who is in already is let in at the limit, too, and keeps the `user_info` of
    /// the first connection. Members that linger do not count for the limit.
    pub fn join(&mut self, member: &Member, limit: usize) -> Result<Came, RosterFull> {
        if let Some(entry) = self.members.get_mut(&member.user_id) {
            entry.connections += 1;
            if entry.connections > 1 {
                return Ok(Came::Known);
            }
            self.lingering -= 1;
            if entry.info == member.user_info {
                return Ok(Came::Known);
            }
            entry.info = member.user_info.clone();
            return Ok(Came::Changed);
        }
        if self.members.len() - self.lingering >= limit {
            return Err(RosterFull);
        }
        let entry = Entry { info: member.user_info.clone(), connections: 1 };
        self.members.insert(member.user_id.clone(), entry);
        Ok(Came::New)
    }

    /// Takes a connection of a user away; true when the user is no member any more.
    pub fn leave(&mut self, user_id: &UserId, now: Instant) -> bool {
        let Some(entry) = self.members.get_mut(user_id) else { return false };
        entry.connections -= 1;
        if entry.connections > 0 {
            return false;
        }
        let leaver = self.leavers.entry(user_id.clone()).or_insert(Leaver { leaves: 0, at: now });
        leaver.forget(now);
        if leaver.leaves >= LEAVES {
            leaver.at = now;
            self.lingering += 1;
            return false;
        }
        leaver.leaves += 1;
        self.members.remove(user_id);
        true
    }

    /// Whether [`Roster::tick`] has something to do at a later time.
    pub fn has_timers(&self) -> bool {
        !self.leavers.is_empty()
    }

    /// Takes away members that lingered long enough, and answers who they were. Called about once a second.
    pub fn tick(&mut self, now: Instant) -> Vec<UserId> {
        let Self { members, leavers, lingering } = self;
        let mut gone = Vec::new();
        leavers.retain(|user_id, leaver| {
            let lingers = members.get(user_id).is_some_and(|entry| entry.connections == 0);
            if lingers && now.saturating_duration_since(leaver.at) >= LINGER {
                members.remove(user_id);
                *lingering -= 1;
                gone.push(user_id.clone());
            }
            let lingers = lingers && members.contains_key(user_id);
            if !lingers {
                leaver.forget(now);
            }
            lingers || leaver.leaves > 0
        });
        gone
    }

    /// Takes away all members that linger, and answers who they were.
    pub fn end_lingering(&mut self) -> Vec<UserId> {
        let lingering = self.members.extract_if(.., |_, entry| entry.connections == 0);
        let gone = lingering.map(|(user_id, _)| user_id).collect();
        self.lingering = 0;
        gone
    }

    /// Distinct users.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Ids in a stable order.
    pub fn ids(&self) -> Vec<UserId> {
        self.members.keys().cloned().collect()
    }

    /// The `data` of `subscription_succeeded`: `{"presence":{"ids":[…],"hash":{…},"count":n}}`.
    pub fn snapshot(&self) -> String {
        let mut ids = String::new();
        let mut hash = String::new();
        for (id, entry) in &self.members {
            if !ids.is_empty() {
                ids.push(',');
                hash.push(',');
            }
            let id = json::string(id.as_str());
            ids.push_str(&id);
            let _ = write!(hash, "{id}:{}", entry.info);
        }
        format!(r#"{{"presence":{{"ids":[{ids}],"hash":{{{hash}}},"count":{}}}}}"#, self.len())
    }
}

impl Leaver {
    fn forget(&mut self, now: Instant) {
        while self.leaves > 0 && now.saturating_duration_since(self.at) >= FORGET {
            self.leaves -= 1;
            self.at += FORGET;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(id: &str, info: &str) -> Member {
        Member { user_id: UserId::member(id).expect("valid"), user_info: info.into() }
    }

    #[test]
    fn only_first_and_last_connections_count() {
        let (mut roster, now) = (Roster::default(), Instant::now());
        let ann = member("1", r#"{"n":1}"#);
        assert_eq!(roster.join(&ann, 1), Ok(Came::New));
        assert_eq!(
            roster.join(&member("1", r#"{"n":2}"#), 1),
            Ok(Came::Known),
            "a second tab passes at the limit"
        );
        assert_eq!(roster.join(&member("2", "{}"), 1), Err(RosterFull));
        assert_eq!(roster.snapshot(), r#"{"presence":{"ids":["1"],"hash":{"1":{"n":1}},"count":1}}"#);
        assert!(!roster.leave(&ann.user_id, now));
        assert!(roster.leave(&ann.user_id, now));
        assert!(!roster.leave(&ann.user_id, now));
        assert_eq!(roster.snapshot(), r#"{"presence":{"ids":[],"hash":{},"count":0}}"#);
    }

    #[test]
    fn a_user_who_comes_and_goes_all_the_time_lingers_and_is_gone_in_the_end() {
        let (mut roster, start) = (Roster::default(), Instant::now());
        let (ann, bob) = (member("1", "{}"), member("2", "{}"));
        roster.join(&bob, 2).expect("room");
        for _ in 0..LEAVES {
            assert_eq!(roster.join(&ann, 2), Ok(Came::New));
            assert!(roster.leave(&ann.user_id, start));
        }
        assert_eq!(roster.join(&ann, 2), Ok(Came::New));
        for _ in 0..1_000 {
            assert!(!roster.leave(&ann.user_id, start));
            assert_eq!(roster.join(&ann, 2), Ok(Came::Known), "nobody was told of the end");
        }
        assert!(!roster.leave(&ann.user_id, start));
        assert_eq!((roster.len(), roster.ids().len()), (2, 2), "a newcomer's list is that of the others");
        assert_eq!(roster.join(&member("3", "{}"), 2), Ok(Came::New), "who lingers takes nobody's place");
        assert!(roster.leave(&bob.user_id, start), "others leave at once");
        assert!(roster.tick(start + LINGER / 2).is_empty());
        assert_eq!(roster.tick(start + LINGER), std::slice::from_ref(&ann.user_id));
        assert!(roster.has_timers());
        assert!(roster.tick(start + LINGER + FORGET * (LEAVES + 1)).is_empty());
        assert!(!roster.has_timers() && roster.lingering == 0);
        assert_eq!(roster.len(), 1);
    }

    #[test]
    fn who_comes_back_with_another_info_is_told_anew() {
        let (mut roster, now) = (Roster::default(), Instant::now());
        let ann = member("1", "{}");
        for _ in 0..=LEAVES {
            roster.join(&ann, 1).expect("room");
            roster.leave(&ann.user_id, now);
        }
        assert_eq!(roster.join(&member("1", r#"{"n":2}"#), 1), Ok(Came::Changed));
        assert!(roster.snapshot().contains(r#""1":{"n":2}"#));
        roster.leave(&ann.user_id, now);
        assert_eq!(roster.end_lingering(), [ann.user_id]);
        assert_eq!((roster.len(), roster.lingering), (0, 0));
    }
}
