//! Connections of a shard that are no WebSockets, or not yet. When there are too many of them, one makes room for the
//! next: so a health check is answered however many clients connect and say nothing. What their requests take of the
//! memory is counted.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use super::seat::{Clock, Phase, Seat};
use crate::hub::Ledger;

/// Connections of which the one that waits longest makes room: looking at all of thousands for each new one would itself
/// be an attack.
const SAMPLE: usize = 64;

/// The connections that are served.
pub struct Lobby {
    ledger: Rc<Ledger>,
    guests: RefCell<BTreeMap<u64, Rc<Clock>>>,
    /// Number of the newest guest.
    newest: Cell<u64>,
    /// Where the next sample begins.
    next_sample: Cell<u64>,
}

impl Lobby {
    /// The connections of a shard that keeps account of its memory.
    pub fn new(ledger: Rc<Ledger>) -> Self {
        let guests = RefCell::default();
        Self { ledger, guests, newest: Cell::new(0), next_sample: Cell::new(0) }
    }

    /// A place for a new connection.
    pub fn enter(self: &Rc<Self>) -> Seat {
        let clock = Rc::new(Clock::new());
        let request = self.ledger.open(Rc::clone(&clock.must_leave));
        let number = self.newest.get() + 1;
        self.newest.set(number);
        self.guests.borrow_mut().insert(number, Rc::clone(&clock));
        Seat::new(Rc::clone(self), number, clock, request)
    }

    /// Has the connection leave that waits longest for its client, of a sample; if none waits, the one that is being
    /// answered longest.
    pub fn make_room(&self) {
        let guests = self.guests.borrow();
        let (from, mut last) = (self.next_sample.get(), 0);
        let sample = guests.range(from..).chain(guests.range(..from)).take(SAMPLE);
        let longest = sample
            .inspect(|(number, _)| last = **number)
            .min_by_key(|(_, clock)| (clock.phase.get() == Phase::Busy, clock.since.get()))
            .map(|(number, _)| *number);
        self.next_sample.set(last + 1);
        drop(guests);
        // Whoever was asked to leave is not asked again.
        let longest = longest.and_then(|number| self.guests.borrow_mut().remove(&number));
        if let Some(clock) = longest {
            clock.must_leave.notify_one();
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.lobby.guests.borrow_mut().remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use futures_util::FutureExt;
    use tokio::time::Instant;

    use super::*;
    use crate::config::ServerSettings;
    use crate::hub::{Alone, ConnectionLimits, Hub};

    fn hub() -> Hub {
        Hub::new(1, ConnectionLimits::new(&ServerSettings::default()), Arc::new(Alone))
    }

    fn lobby(hub: &Hub) -> Rc<Lobby> {
        Rc::new(Lobby::new(hub.ledger(0)))
    }

    fn seats(lobby: &Rc<Lobby>, count: usize) -> Vec<Seat> {
        std::iter::repeat_with(|| lobby.enter()).take(count).collect()
    }

    fn leaves(seat: &Seat) -> bool {
        seat.must_leave().now_or_never().is_some()
    }

    #[test]
    fn whoever_waits_longest_makes_room_and_a_request_is_answered_first() {
        let lobby = lobby(&hub());
        let seats = seats(&lobby, 4);
        let long_ago = Instant::now().checked_sub(Duration::from_secs(60)).expect("a running machine");
        seats[0].set(Phase::Busy);
        seats[0].clock.since.set(long_ago);
        seats[2].set(Phase::Idle);
        seats[2].clock.since.set(long_ago);
        lobby.make_room();
        assert_eq!(seats.iter().map(leaves).collect::<Vec<_>>(), [false, false, true, false]);
        for _ in 0..3 {
            lobby.make_room();
        }
        assert_eq!(seats.iter().map(leaves).collect::<Vec<_>>(), [true, true, false, true]);
        lobby.make_room();
    }

    #[test]
    fn one_of_thousands_makes_room_for_each_that_comes() {
        let lobby = lobby(&hub());
        let seats = seats(&lobby, 1_000);
        for _ in 0..1_000 {
            lobby.make_room();
        }
        assert!(seats.iter().all(leaves));
    }

    #[test]
    fn a_request_is_counted_from_its_first_byte_until_it_is_answered() {
        let hub = hub();
        let lobby = lobby(&hub);
        let seat = lobby.enter();
        seat.received(100);
        seat.set(Phase::Busy);
        seat.received(1_000);
        assert_eq!(hub.memory().used(), 1_100);
        seat.set(Phase::Idle);
        assert_eq!(hub.memory().used(), 0);
        seat.received(50);
        drop(seat);
        assert_eq!(hub.memory().used(), 0);
    }
}
