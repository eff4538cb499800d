//! How many connections each address has, and how fast it opens them.
//!
//! Looked at when a connection comes and when it ends, never when something is published. An IPv6 address counts with all
//! of its /64, which is what one subscriber gets. The table has an entry for each address that has a connection or opened
//! one a moment ago; of the latter at most [`MAX_IDLE`].

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU64;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use ipnet::IpNet;

use crate::config::AdmissionSettings;

/// Sockets of an address beyond its connections that are accepted all the same: requests, and clients that are told
/// why they can't stay.
const SLACK: u32 = 256;
/// Addresses without a connection that are remembered because they opened some a moment ago.
const MAX_IDLE: usize = 65_536;

/// An address as it is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct AddressKey(NonZeroU64);

/// What of a limit an address used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Excess {
    /// It has as many connections as it may have.
    Connections,
    /// It opens them faster than it may.
    Rate,
}

/// The addresses of all clients.
#[derive(Debug)]
pub(super) struct Addresses {
    most: Option<u32>,
    rate: Option<f32>,
    burst: f32,
    exempt: Box<[IpNet]>,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    entries: HashMap<AddressKey, Entry>,
    /// Entries without a connection.
    idle: usize,
}

#[derive(Debug)]
struct Entry {
    /// Sockets that are no WebSockets yet.
    sockets: u32,
    connections: u32,
    /// Connections that may be opened, as of then.
    tokens: f32,
    looked: Instant,
}

impl AddressKey {
    fn of(address: IpAddr) -> Self {
        let bits = match address.to_canonical() {
            // No client has an IPv6 address that begins with 32 zeros: ::/8 is reserved (RFC 4291, section 2.4).
            IpAddr::V4(address) => 1 << 32 | u64::from(address.to_bits()),
            IpAddr::V6(address) => (address.to_bits() >> 64) as u64,
        };
        Self(NonZeroU64::new(bits).unwrap_or(NonZeroU64::MAX))
    }
}

impl Addresses {
    /// For a server of this many connections.
    pub fn new(admission: &AdmissionSettings, max_connections: usize) -> Self {
        let half = u32::try_from(max_connections / 2).unwrap_or(u32::MAX).max(1);
        Self {
            most: admission.address_connections.map(|most| most.get().min(half)),
            rate: admission.address_rate.map(|rate| rate.get() as f32),
            burst: admission.address_burst as f32,
            exempt: admission.exempt.as_slice().into(),
            table: Mutex::default(),
        }
    }

    /// As what an address is counted, if it is.
    pub fn key(&self, address: IpAddr) -> Option<AddressKey> {
        let address = address.to_canonical();
        let is_known = address != IpAddr::V6(Ipv6Addr::UNSPECIFIED);
        let is_limited = self.most.is_some() || self.rate.is_some();
        let is_exempt = || self.exempt.iter().any(|network| network.contains(&address));
        (is_known && is_limited && !is_exempt()).then(|| AddressKey::of(address))
    }

    /// Counts a new socket; answers whether it is within the address's rate, `None` if it is not to be accepted.
    pub fn enter(&self, key: AddressKey, now: Instant) -> Option<bool> {
        let mut table = self.table();
        let entry = table.entry(key, self.burst, now);
        let is_within = entry.take(self.rate, self.burst, now);
        let has_room = self.most.is_none_or(|most| entry.sockets + entry.connections < most + SLACK);
        let is_admitted = has_room && (is_within || entry.sockets < SLACK);
        if is_admitted {
            entry.sockets += 1;
        }
        table.left(key, self, now);
        is_admitted.then_some(is_within)
    }

    /// Counts a socket no more.
    pub fn leave(&self, key: AddressKey, now: Instant) {
        let mut table = self.table();
        if let Some(entry) = table.entries.get_mut(&key) {
            entry.sockets = entry.sockets.saturating_sub(1);
        }
        table.left(key, self, now);
    }

    /// Counts a new connection. `has_paid`: its socket was counted before, and this was the answer.
    pub fn connect(&self, key: AddressKey, has_paid: Option<bool>, now: Instant) -> Result<(), Excess> {
        let mut table = self.table();
        let entry = table.entry(key, self.burst, now);
        let outcome = if self.most.is_some_and(|most| entry.connections >= most) {
            Err(Excess::Connections)
        } else if !has_paid.unwrap_or_else(|| entry.take(self.rate, self.burst, now)) {
            Err(Excess::Rate)
        } else {
            entry.connections += 1;
            Ok(())
        };
        table.left(key, self, now);
        outcome
    }

    /// Counts a connection no more.
    pub fn disconnect(&self, key: AddressKey, now: Instant) {
        let mut table = self.table();
        if let Some(entry) = table.entries.get_mut(&key) {
            entry.connections = entry.connections.saturating_sub(1);
        }
        table.left(key, self, now);
    }

    /// Forgets addresses that opened nothing of late. Called about once a second.
    pub fn tick(&self, now: Instant) {
        let mut table = self.table();
        if table.idle > 0 {
            table.forget_idle(self, now);
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn entry(&mut self, key: AddressKey, burst: f32, now: Instant) -> &mut Entry {
        let entry = self.entries.entry(key).or_insert_with(|| {
            self.idle += 1;
            Entry { sockets: 0, connections: 0, tokens: burst, looked: now }
        });
        if !entry.is_used() {
            self.idle -= 1;
        }
        entry
    }

    /// Called when an entry was changed.
    fn left(&mut self, key: AddressKey, limits: &Addresses, now: Instant) {
        let Some(entry) = self.entries.get(&key).filter(|entry| !entry.is_used()) else { return };
        if entry.is_full(limits, now) {
            self.entries.remove(&key);
            return;
        }
        self.idle += 1;
        if self.idle > MAX_IDLE {
            self.forget_idle(limits, now);
            if self.idle > MAX_IDLE / 2 {
                // They start anew, which is better than that somebody else is not counted.
                self.entries.retain(|_, entry| entry.is_used());
                self.idle = 0;
            }
        }
    }

    fn forget_idle(&mut self, limits: &Addresses, now: Instant) {
        self.entries.retain(|_, entry| entry.is_used() || !entry.is_full(limits, now));
        self.idle = self.entries.values().filter(|entry| !entry.is_used()).count();
        self.entries.shrink_to(self.entries.len() * 2);
    }
}

impl Entry {
    fn is_used(&self) -> bool {
        self.sockets + self.connections > 0
    }

    /// Whether a new entry would be the same.
    fn is_full(&self, limits: &Addresses, now: Instant) -> bool {
        limits.rate.is_none_or(|rate| self.regained(rate, now) >= limits.burst)
    }

    fn regained(&self, rate: f32, now: Instant) -> f32 {
        self.tokens + now.saturating_duration_since(self.looked).as_secs_f32() * rate
    }

    fn take(&mut self, rate: Option<f32>, burst: f32, now: Instant) -> bool {
        let Some(rate) = rate else { return true };
        self.tokens = self.regained(rate, now).min(burst);
        self.looked = now;
        let has_one = self.tokens >= 1.0;
        if has_one {
            self.tokens -= 1.0;
        }
        has_one
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;
    use std::time::Duration;

    use super::*;
    fn addresses(connections: u32, rate: u32, burst: usize) -> Addresses {
        let admission = AdmissionSettings {
            address_connections: NonZeroU32::new(connections),
            address_rate: NonZeroU32::new(rate),
            address_burst: burst,
            ..AdmissionSettings::default()
        };
        Addresses::new(&admission, 50_000)
    }

    fn key(addresses: &Addresses, text: &str) -> AddressKey {
        addresses.key(text.parse().expect("an address")).expect("counted")
    }

    #[test]
    fn loopback_and_private_addresses_are_not_counted() {
        let addresses = addresses(1, 1, 1);
        for own in ["127.0.0.1", "::1", "10.2.3.4", "192.168.0.7", "172.31.0.1", "fd00::1", "::ffff:10.0.0.1"]
        {
            assert_eq!(addresses.key(own.parse().expect("an address")), None, "{own}");
        }
        assert_ne!(key(&addresses, "203.0.113.7"), key(&addresses, "203.0.113.8"));
        assert_eq!(key(&addresses, "203.0.113.7"), key(&addresses, "::ffff:203.0.113.7"));
    }

    #[test]
    fn an_ipv6_address_counts_with_its_64() {
        let addresses = addresses(1, 1, 1);
        let one = key(&addresses, "2001:db8:1:2::1");
        assert_eq!(one, key(&addresses, "2001:db8:1:2:ffff:ffff:ffff:ffff"));
        assert_ne!(one, key(&addresses, "2001:db8:1:3::1"));
    }

    #[test]
    fn an_address_has_so_many_connections_and_others_have_theirs() {
        let (addresses, now) = (addresses(2, 0, 1), Instant::now());
        let (one, other) = (key(&addresses, "203.0.113.7"), key(&addresses, "203.0.113.8"));
        let connect = |key| addresses.connect(key, None, now);
        assert_eq!([connect(one), connect(one), connect(one)], [Ok(()), Ok(()), Err(Excess::Connections)]);
        assert_eq!(connect(other), Ok(()));
        addresses.disconnect(one, now);
        assert_eq!([connect(one), connect(one)], [Ok(()), Err(Excess::Connections)]);
    }

    #[test]
    fn no_address_has_more_than_half_of_all_connections() {
        let admission = AdmissionSettings { address_rate: None, ..AdmissionSettings::default() };
        let (addresses, now) = (Addresses::new(&admission, 6), Instant::now());
        let one = key(&addresses, "203.0.113.7");
        let admitted = (0..6).filter(|_| addresses.connect(one, None, now).is_ok()).count();
        assert_eq!(admitted, 3);
    }

    #[test]
    fn an_address_opens_a_burst_and_then_so_many_a_second() {
        let (addresses, now) = (addresses(0, 10, 20), Instant::now());
        let one = key(&addresses, "203.0.113.7");
        let come = |now| {
            let outcome = addresses.connect(one, None, now);
            addresses.disconnect(one, now);
            outcome
        };
        assert!((0..20).all(|_| come(now).is_ok()));
        assert_eq!(come(now), Err(Excess::Rate));
        assert_eq!(addresses.connect(key(&addresses, "203.0.113.8"), None, now), Ok(()));
        let later = now + Duration::from_millis(101);
        assert_eq!([come(later), come(later)], [Ok(()), Err(Excess::Rate)]);
    }

    #[test]
    fn a_socket_that_paid_is_not_charged_again_and_few_are_open_beyond_the_rate() {
        let (addresses, now) = (addresses(0, 10, 3), Instant::now());
        let one = key(&addresses, "203.0.113.7");
        let entered: Vec<_> = (0..SLACK + 2).map(|_| addresses.enter(one, now)).collect();
        assert!(entered[..3].iter().all(|it| *it == Some(true)));
        assert!(entered[3..SLACK as usize].iter().all(|it| *it == Some(false)));
        assert!(entered[SLACK as usize..].iter().all(Option::is_none));
        assert_eq!(addresses.connect(one, Some(true), now), Ok(()));
        assert_eq!(addresses.connect(one, Some(false), now), Err(Excess::Rate));
    }

    #[test]
    fn sockets_that_say_nothing_are_bounded_too() {
        let (addresses, now) = (addresses(5, 0, 1), Instant::now());
        let one = key(&addresses, "203.0.113.7");
        let open = (0..1_000).filter(|_| addresses.enter(one, now).is_some()).count();
        assert_eq!(open as u32, 5 + SLACK);
        addresses.leave(one, now);
        assert!(addresses.enter(one, now).is_some());
    }

    #[test]
    fn many_addresses_take_no_more_memory_than_some() {
        let (addresses, now) = (addresses(5, 1, 100), Instant::now());
        for number in 0..4 * MAX_IDLE as u32 {
            let key = AddressKey::of(IpAddr::V4((0x2000_0000 + number).into()));
            addresses.connect(key, None, now).expect("within");
            addresses.disconnect(key, now);
            assert!(addresses.table().entries.len() <= MAX_IDLE + 1);
        }
        addresses.tick(now + Duration::from_secs(2));
        let table = addresses.table();
        assert_eq!((table.entries.len(), table.idle), (0, 0));
    }
}
