//! Users that signed in, and who watches whom.
//!
//! A user is online while at least one connection is signed in, and for [`GRACE`] after the last one
//! left, so that a change of page does not flicker.

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use dashmap::DashMap;

use super::connection::Address;
use super::mailbox::{Mailbox, Parcel};
use super::observer::{Observation, Observers};
use crate::protocol::error_code::ErrorCode;
use crate::protocol::id::UserId;
use crate::protocol::server_event;

/// How long a user stays online after the last connection left.
const GRACE: Duration = Duration::from_secs(3);

/// The signed-in users of one app.
#[derive(Debug)]
pub(super) struct Users {
    entries: DashMap<UserId, Entry, foldhash::fast::RandomState>,
    leaving: Mutex<VecDeque<(Instant, UserId)>>,
    mailboxes: Arc<[Mailbox]>,
    app_id: String,
    observers: Observers,
}

#[derive(Debug, Default)]
struct Entry {
    connections: HashSet<Address>,
    watchers: HashSet<Address>,
    left: Option<Instant>,
}

impl Users {
    pub fn new(app_id: String, mailboxes: Arc<[Mailbox]>, observers: Observers) -> Self {
        Self {
            entries: DashMap::with_hasher(foldhash::fast::RandomState::default()),
            leaving: Mutex::default(),
            mailboxes,
            app_id,
            observers,
        }
    }

    /// A connection signed in as this user; watchers hear of the first one.
    pub fn sign_in(&self, user: &UserId, connection: Address) {
        let mut entry = self.entries.entry(user.clone()).or_default();
        let came = !entry.is_online();
        entry.left = None;
        let is_first = entry.connections.is_empty();
        entry.connections.insert(connection);
        if is_first {
            self.observers.tell(&self.app_id, &Observation::UserCame(user));
        }
        if came {
            self.tell_watchers(&entry, std::slice::from_ref(user), &[]);
        }
    }

    /// A signed-in connection ended. Watchers hear of it after [`GRACE`], see [`Users::tick`].
    pub fn sign_out(&self, user: &UserId, connection: Address, now: Instant) {
        let Some(mut entry) = self.entries.get_mut(user) else { return };
        entry.connections.remove(&connection);
        if entry.connections.is_empty() {
            entry.left = Some(now);
            self.observers.tell(&self.app_id, &Observation::UserLeft(user));
            drop(entry);
            let mut leaving = self.leaving.lock().unwrap_or_else(PoisonError::into_inner);
            leaving.push_back((now, user.clone()));
        }
    }

    /// Registers a watcher and tells who of the watched is online now, and who is not.
    pub fn watch(&self, watched: &[UserId], watcher: Address) -> (Vec<UserId>, Vec<UserId>) {
        watched.iter().cloned().partition(|user| {
            let mut entry = self.entries.entry(user.clone()).or_default();
            entry.watchers.insert(watcher);
            entry.is_online()
        })
    }

    /// Ends what [`Users::watch`] began.
    pub fn unwatch(&self, watched: &[UserId], watcher: Address) {
        for user in watched {
            if let Some(mut entry) = self.entries.get_mut(user) {
                entry.watchers.remove(&watcher);
            }
            self.entries.remove_if(user, |_, entry| entry.is_forgotten());
        }
    }

    /// Whether at least one connection is signed in as this user; without grace.
    pub fn is_signed_in(&self, user: &str) -> bool {
        self.entries.get(user).is_some_and(|entry| !entry.connections.is_empty())
    }

    /// Everybody who is signed in.
    pub fn signed_in(&self) -> Vec<UserId> {
        let online = self.entries.iter().filter(|entry| !entry.connections.is_empty());
        online.map(|entry| entry.key().clone()).collect()
    }

    /// Closes every connection of a user with 4009.
    pub fn terminate(&self, user: &str) {
        let Some(entry) = self.entries.get(user) else { return };
        for address in &entry.connections {
            let reason = "You got disconnected by the app.";
            self.mailboxes[address.shard as usize].push(Parcel::Close(
                *address,
                ErrorCode::Unauthorized,
                reason,
            ));
        }
    }

    /// Announces users whose grace is over. Called about once a second.
    pub fn tick(&self, now: Instant) {
        loop {
            let Some((left, user)) = self.pop_leaving(now) else { return };
            if let Some(mut entry) = self.entries.get_mut(&user)
                && entry.left == Some(left)
            {
                entry.left = None;
                self.tell_watchers(&entry, &[], std::slice::from_ref(&user));
            }
            self.entries.remove_if(&user, |_, entry| entry.is_forgotten());
        }
    }

    /// The next user whose grace is over.
    fn pop_leaving(&self, now: Instant) -> Option<(Instant, UserId)> {
        let mut leaving = self.leaving.lock().unwrap_or_else(PoisonError::into_inner);
        let (left, _) = leaving.front()?;
        if now.saturating_duration_since(*left) < GRACE {
            return None;
        }
        leaving.pop_front()
    }

    fn tell_watchers(&self, entry: &Entry, online: &[UserId], offline: &[UserId]) {
        if entry.watchers.is_empty() {
            return;
        }
        if let Some(frame) = server_event::watchlist_events(online, offline) {
            for address in &entry.watchers {
                self.mailboxes[address.shard as usize].push(Parcel::Direct(*address, frame.clone()));
            }
        }
    }
}

impl Entry {
    fn is_online(&self) -> bool {
        !self.connections.is_empty() || self.left.is_some()
    }

    fn is_forgotten(&self) -> bool {
        !self.is_online() && self.watchers.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::id::SocketId;

    fn address() -> Address {
        Address { shard: 0, slot: 0, id: SocketId::random() }
    }

    fn told(users: &Users) -> Vec<String> {
        let mut parcels = Vec::new();
        users.mailboxes[0].take(&mut parcels);
        let text =
            |frame: &crate::protocol::frame::Frame| String::from_utf8_lossy(frame.payload()).into_owned();
        parcels
            .iter()
            .filter_map(|parcel| match parcel {
                Parcel::Direct(_, frame) => Some(text(frame)),
                _ => None,
            })
            .collect()
    }

    #[test]
    fn a_change_of_page_does_not_flicker() {
        let users = Users::new("1001".to_owned(), [Mailbox::default()].into(), Observers::default());
        let ann = UserId::signed_in("ann").expect("valid");
        let (watcher, first, second, start) = (address(), address(), address(), Instant::now());
        assert_eq!(users.watch(std::slice::from_ref(&ann), watcher), (vec![], vec![ann.clone()]));
        users.sign_in(&ann, first);
        assert_eq!(told(&users).len(), 1);
        users.sign_out(&ann, first, start);
        users.tick(start + Duration::from_secs(2));
        users.sign_in(&ann, second);
        users.tick(start + Duration::from_secs(4));
        assert!(told(&users).is_empty(), "back within the grace");
        users.sign_out(&ann, second, start);
        users.tick(start + GRACE);
        assert!(told(&users)[0].contains("offline"));
        users.unwatch(&[ann], watcher);
        assert!(users.entries.is_empty());
    }
}
