//! Memory for files on their way in and out: as many bytes as are there, and a share of it for each link, address, user
//! and app, so that none leaves the others without.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use crate::routing::{Code, RoutingError};

/// Bytes for all transfers of the process.
pub const MEMORY: usize = 256 << 20;
/// What one party may have of it.
const OF_A_LINK: usize = MEMORY / 32;
const OF_A_USER: usize = MEMORY / 4;
const OF_AN_ADDRESS: usize = MEMORY / 8 * 3;
/// More than two of the largest files that may be set.
pub const OF_AN_APP: usize = MEMORY / 2;

/// The memory, shared by all transfers.
#[derive(Debug, Default)]
pub struct Room {
    state: Mutex<State>,
    freed: Notify,
}

#[derive(Debug, Default)]
struct State {
    taken: usize,
    /// By those that have some.
    by_party: HashMap<Party, usize>,
}

/// Who has a share.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Party {
    Link(Arc<str>),
    Address(IpAddr),
    User(Arc<str>, Arc<str>),
    App(Arc<str>),
}

/// All parties of one transfer.
#[derive(Clone, Debug)]
pub struct Parties(Arc<[Party]>);

/// Room that is taken, until it is dropped.
#[derive(Debug)]
pub struct Held {
    room: Arc<Room>,
    parties: Parties,
    bytes: usize,
}

impl Party {
    fn share(&self) -> usize {
        match self {
            Self::Link(_) => OF_A_LINK,
            Self::Address(_) => OF_AN_ADDRESS,
            Self::User(..) => OF_A_USER,
            Self::App(_) => OF_AN_APP,
        }
    }
}

impl Parties {
    /// Of what a client at this address transfers by the link of an attachment.
    pub fn of_link(app: &str, user: &str, link: &str, address: IpAddr) -> Self {
        let own = [Party::Link(link.into()), Party::Address(network(address))];
        Self(own.into_iter().chain(Self::owners(app, user)).collect())
    }

    /// Of a copy, which is in memory as a whole.
    pub fn of_copy(app: &str, user: &str) -> Self {
        Self(Self::owners(app, user).into())
    }

    fn owners(app: &str, user: &str) -> [Party; 2] {
        let app: Arc<str> = app.into();
        [Party::User(Arc::clone(&app), user.into()), Party::App(app)]
    }
}

/// An address, or the network of 64 bits that one household has of them.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from(u128::from(address) >> 64 << 64).into(),
        address => address,
    }
}

impl Room {
    /// Takes room for so many bytes, which must be few beside a share; waits for it as long as `patience`.
    ///
    /// # Errors
    /// `rate_limited`: there was none.
    pub async fn take(
        self: &Arc<Self>,
        parties: &Parties,
        bytes: usize,
        patience: Duration,
    ) -> Result<Held, RoutingError> {
        let taken = async {
            loop {
                let freed = self.freed.notified();
                tokio::pin!(freed);
                // Before the look: what is given back from now on wakes it.
                freed.as_mut().enable();
                if self.lock().take(parties, bytes) {
                    return Held { room: Arc::clone(self), parties: parties.clone(), bytes };
                }
                freed.await;
            }
        };
        tokio::time::timeout(patience, taken).await.map_err(|_| RoutingError {
            retry_after: Some(Duration::from_secs(1)),
            ..RoutingError::new(Code::RateLimited, "too many attachments are on their way")
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn take(&mut self, parties: &Parties, bytes: usize) -> bool {
        let has_room = |party: &Party| {
            self.by_party.get(party).copied().unwrap_or(0).saturating_add(bytes) <= party.share()
        };
        if self.taken.saturating_add(bytes) > MEMORY || !parties.0.iter().all(has_room) {
            return false;
        }
        self.taken += bytes;
        for party in parties.0.iter() {
            *self.by_party.entry(party.clone()).or_default() += bytes;
        }
        true
    }

    fn give_back(&mut self, parties: &Parties, bytes: usize) {
        self.taken -= bytes;
        for party in parties.0.iter() {
            let left = self.by_party.get_mut(party).map_or(0, |taken| {
                *taken -= bytes;
                *taken
            });
            if left == 0 {
                self.by_party.remove(party);
            }
        }
    }
}

impl Held {
    /// Holds another one's room as well, of the same transfer.
    pub fn join(&mut self, mut other: Self) {
        self.bytes += std::mem::take(&mut other.bytes);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.room.lock().give_back(&self.parties, self.bytes);
            self.room.freed.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KB: usize = 1 << 10;

    fn parties(app: &str, user: &str, link: &str, address: &str) -> Parties {
        Parties::of_link(app, user, link, address.parse().expect("an address"))
    }

    async fn fill(room: &Arc<Room>, parties: &Parties) -> Vec<Held> {
        let mut held = Vec::new();
        while let Ok(more) = room.take(parties, 64 * KB, Duration::ZERO).await {
            held.push(more);
        }
        held
    }

    fn bytes(held: &[Held]) -> usize {
        held.iter().map(|held| held.bytes).sum()
    }

    #[tokio::test]
    async fn nobody_takes_more_than_a_share_and_the_others_have_theirs() {
        let room = Arc::new(Room::default());
        let of_link = fill(&room, &parties("1", "a", "x", "192.0.2.1")).await;
        assert_eq!(bytes(&of_link), OF_A_LINK);
        let mut of_user = Vec::new();
        for link in 0..40 {
            of_user.extend(fill(&room, &parties("1", "a", &link.to_string(), "192.0.2.1")).await);
        }
        assert_eq!(bytes(&of_link) + bytes(&of_user), OF_A_USER);
        let mut of_address = Vec::new();
        for link in 0..80 {
            let user = format!("user {link}");
            of_address.extend(fill(&room, &parties("1", &user, &format!("y{link}"), "192.0.2.1")).await);
        }
        assert_eq!(bytes(&of_link) + bytes(&of_user) + bytes(&of_address), OF_AN_ADDRESS);
        let mut of_app = Vec::new();
        for link in 0..80 {
            let address = format!("198.51.100.{link}");
            of_app
                .extend(fill(&room, &parties("1", &format!("b{link}"), &format!("z{link}"), &address)).await);
        }
        assert_eq!(room.lock().taken, OF_AN_APP);
        // Another app goes on.
        assert_eq!(bytes(&fill(&room, &parties("2", "a", "other", "203.0.113.1")).await), OF_A_LINK);
        drop((of_link, of_user, of_address, of_app));
        // One look: two locks in one statement would wait for each other.
        let state = room.lock();
        assert_eq!((state.taken, state.by_party.len()), (0, 0));
    }

    #[tokio::test]
    async fn a_network_of_ipv6_is_one_address() {
        let of = |address: &str| network(address.parse().expect("an address"));
        assert_eq!(of("2001:db8:1:2:3:4:5:6"), of("2001:db8:1:2::9"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
    }

    #[tokio::test]
    async fn who_waits_gets_what_is_given_back() {
        let room = Arc::new(Room::default());
        let parties = parties("1", "a", "x", "192.0.2.1");
        let mut held = fill(&room, &parties).await;
        let waiting = room.take(&parties, 64 * KB, Duration::from_secs(60));
        let (taken, ()) = tokio::join!(waiting, async {
            tokio::task::yield_now().await;
            held.pop();
        });
        let mut taken = taken.expect("room");
        taken.join(held.pop().expect("some"));
        assert_eq!(taken.bytes, 128 * KB);
        drop((taken, held));
        assert_eq!(room.lock().taken, 0);
    }
}
