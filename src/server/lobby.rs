//! Connections of a shard that are no WebSockets, or not yet. When there are too many of them, one makes room for the
//! next: so a health check is answered however many clients connect and say nothing. What their requests take of the
//! memory is counted.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::hub::{Holding, Ledger};

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

/// A connection's place among them; given back when dropped.
pub struct Seat {
    lobby: Rc<Lobby>,
    number: u64,
    clock: Rc<Clock>,
    /// Bytes of the request: its head, and its body until it is answered.
    request: Holding,
}

/// Where an HTTP connection is, and since when.
struct Clock {
    phase: Cell<Phase>,
    since: Cell<Instant>,
    must_leave: Rc<Notify>,
}

/// Where an HTTP connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Waits for a request.
    Idle,
    /// Nothing came yet.
    New,
    /// Part of a request's head is there.
    Head,
    /// A request is being answered.
    Busy,
    /// It is told why it can't stay.
    Refused,
}

impl Lobby {
    /// The connections of a shard that keeps account of its memory.
    pub fn new(ledger: Rc<Ledger>) -> Self {
        let guests = RefCell::default();
        Self { ledger, guests, newest: Cell::new(0), next_sample: Cell::new(0) }
    }

    /// A place for a new connection.
    pub fn enter(self: &Rc<Self>) -> Seat {
        let clock = Rc::new(Clock {
            phase: Cell::new(Phase::New),
            since: Cell::new(Instant::now()),
            must_leave: Rc::default(),
        });
        let request = self.ledger.open(Rc::clone(&clock.must_leave));
        let number = self.newest.get() + 1;
        self.newest.set(number);
        self.guests.borrow_mut().insert(number, Rc::clone(&clock));
        Seat { lobby: Rc::clone(self), number, clock, request }
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

impl Seat {
    /// Notes where the connection is now.
    pub fn set(&self, phase: Phase) {
        self.clock.phase.set(phase);
        self.clock.since.set(Instant::now());
        if matches!(phase, Phase::Idle | Phase::Refused) {
            self.request.clear();
        }
    }

    /// Where it is.
    pub fn phase(&self) -> Phase {
        self.clock.phase.get()
    }

    /// Since when.
    pub fn since(&self) -> Instant {
        self.clock.since.get()
    }

    /// Resolves when it must make room for others.
    pub async fn must_leave(&self) {
        self.clock.must_leave.notified().await;
    }

    /// Notes bytes that came.
    fn received(&self, bytes: usize) {
        if matches!(self.phase(), Phase::New | Phase::Idle) {
            self.set(Phase::Head);
        }
        self.request.add(bytes);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.lobby.guests.borrow_mut().remove(&self.number);
    }
}

/// A socket that notices when a request begins.
pub struct SeatedStream<'a> {
    pub stream: TcpStream,
    pub seat: &'a Seat,
}

impl AsyncRead for SeatedStream<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if read.is_ready() {
            self.seat.received(buffer.filled().len() - before);
        }
        read
    }
}

impl AsyncWrite for SeatedStream<'_> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use futures_util::FutureExt;

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
