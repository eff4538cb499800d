//! Who is in a presence channel.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::protocol::id::UserId;
use crate::protocol::json;
use crate::protocol::presence::Member;

/// The members of one channel by user id, each with the number of its connections.
#[derive(Debug, Default)]
pub(super) struct Roster {
    members: BTreeMap<UserId, Entry>,
}

#[derive(Debug)]
struct Entry {
    info: Box<str>,
    connections: u32,
}

/// The roster is full.
#[derive(Debug, PartialEq, Eq)]
pub struct RosterFull;

impl Roster {
    /// Adds a connection of a user; true when it is the user's first. A user who is in already is let in
    /// at the limit, too, and keeps the `user_info` of the first connection.
    pub fn join(&mut self, member: &Member, limit: usize) -> Result<bool, RosterFull> {
        if let Some(entry) = self.members.get_mut(&member.user_id) {
            entry.connections += 1;
            return Ok(false);
        }
        if self.members.len() >= limit {
            return Err(RosterFull);
        }
        let entry = Entry { info: member.user_info.clone(), connections: 1 };
        self.members.insert(member.user_id.clone(), entry);
        Ok(true)
    }

    /// Takes a connection of a user away; true when it was the user's last.
    pub fn leave(&mut self, user_id: &UserId) -> bool {
        let Some(entry) = self.members.get_mut(user_id) else { return false };
        entry.connections -= 1;
        if entry.connections == 0 {
            self.members.remove(user_id);
            return true;
        }
        false
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

#[cfg(test)]
mod tests {
    use super::*;

    fn member(id: &str, info: &str) -> Member {
        Member { user_id: UserId::member(id).expect("valid"), user_info: info.into() }
    }

    #[test]
    fn only_first_and_last_connections_count() {
        let mut roster = Roster::default();
        let ann = member("1", r#"{"n":1}"#);
        assert_eq!(roster.join(&ann, 1), Ok(true));
        assert_eq!(roster.join(&member("1", r#"{"n":2}"#), 1), Ok(false), "a second tab passes at the limit");
        assert_eq!(roster.join(&member("2", "{}"), 1), Err(RosterFull));
        assert_eq!(roster.snapshot(), r#"{"presence":{"ids":["1"],"hash":{"1":{"n":1}},"count":1}}"#);
        assert!(!roster.leave(&ann.user_id));
        assert!(roster.leave(&ann.user_id));
        assert!(!roster.leave(&ann.user_id));
        assert_eq!(roster.snapshot(), r#"{"presence":{"ids":[],"hash":{},"count":0}}"#);
    }
}
