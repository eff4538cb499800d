//! What every subscriber of a presence channel knows about its members.

use std::collections::HashMap;

use serde::Deserialize;

use super::ledger::Ledger;

/// Who has seen whom. Each member must be seen exactly once: in the snapshot or as an event.
pub struct Roster {
    members: usize,
    seen: Vec<Vec<bool>>,
    sightings: usize,
}

/// `data` of `subscription_succeeded` on a presence channel.
#[derive(Deserialize)]
pub struct Snapshot {
    presence: Presence,
}

#[derive(Deserialize)]
struct Presence {
    ids: Vec<String>,
    hash: HashMap<String, serde::de::IgnoredAny>,
    count: usize,
}

/// `data` of `member_added`.
#[derive(Deserialize)]
pub struct Added {
    user_id: String,
}

impl Roster {
    /// For `members` subscribers, each a member of its own whose user id is its number.
    pub fn new(members: usize) -> Self {
        Self { members, seen: vec![vec![false; members]; members], sightings: 0 }
    }

    /// True when everybody has seen everybody.
    pub fn is_complete(&self) -> bool {
        self.sightings == self.members * self.members
    }

    /// Enters the members that `subscriber` was answered with.
    pub fn take_snapshot(&mut self, subscriber: usize, snapshot: Snapshot, ledger: &mut Ledger) {
        let presence = snapshot.presence;
        if presence.count != presence.ids.len() || presence.hash.len() != presence.ids.len() {
            ledger.fault(format!("subscriber {subscriber} got a snapshot whose parts differ in size"));
        }
        for user in &presence.ids {
            self.see(subscriber, user, ledger);
        }
    }

    /// Enters an announced member.
    pub fn add(&mut self, subscriber: usize, added: Added, ledger: &mut Ledger) {
        self.see(subscriber, &added.user_id, ledger);
    }

    fn see(&mut self, subscriber: usize, user: &str, ledger: &mut Ledger) {
        match user.parse::<usize>().ok().and_then(|user| self.seen[subscriber].get_mut(user)) {
            Some(seen) if !*seen => {
                *seen = true;
                self.sightings += 1;
            }
            Some(_) => ledger.fault(format!("subscriber {subscriber} was told twice of member {user}")),
            None => ledger.fault(format!("subscriber {subscriber} was told of stranger {user}")),
        }
    }
}
