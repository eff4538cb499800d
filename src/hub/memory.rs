//! One budget for what clients and backends make the process keep: unfinished messages, what waits for slow readers,
//! heads and bodies of requests.
//!
//! Each shard adds up its own: sockets that are no WebSockets as their bytes come, connections when it looks after them
//! once a second. While the sum of all shards is beyond the budget, whoever holds the most is closed first. Nothing of it is
//! looked at when something is published.

use std::cell::{Cell, RefCell};
use std::cmp::Reverse;
use std::collections::{BTreeMap, HashSet};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use tokio::sync::Notify;

use super::connection::{Connection, Phase};
use super::shard::ShardState;
use crate::logging::seldom::Seldom;
use crate::protocol::error_code::ErrorCode;

/// Bytes that no connection is closed for.
const SMALL: usize = 4 * 1024;

/// The sums of all shards.
#[derive(Debug)]
pub struct Memory {
    most: usize,
    shards: Box<[AtomicUsize]>,
    closed: AtomicU64,
}

/// What one shard keeps.
pub struct Ledger {
    memory: Arc<Memory>,
    shard: usize,
    /// Sockets that are no WebSockets.
    holders: RefCell<BTreeMap<u64, Holder>>,
    newest: Cell<u64>,
    /// Bytes of these.
    held: Cell<usize>,
    /// Bytes of the connections, as of the last look.
    connections: Cell<usize>,
}

struct Holder {
    bytes: usize,
    must_leave: Rc<Notify>,
}

/// What one socket keeps; given back when dropped.
pub struct Holding {
    ledger: Rc<Ledger>,
    number: u64,
}

impl Memory {
    pub(super) fn new(most: usize, shards: usize) -> Self {
        let shards = (0..shards.max(1)).map(|_| AtomicUsize::new(0)).collect();
        Self { most, shards, closed: AtomicU64::new(0) }
    }

    /// The budget.
    pub fn most(&self) -> usize {
        self.most
    }

    /// Bytes that are kept, as of about now.
    pub fn used(&self) -> usize {
        self.shards.iter().map(|shard| shard.load(Ordering::Relaxed)).sum()
    }

    /// Connections and requests that were closed because they held the most.
    pub fn closed(&self) -> u64 {
        self.closed.load(Ordering::Relaxed)
    }

    fn excess(&self) -> usize {
        self.used().saturating_sub(self.most)
    }

    fn note_closed(&self, bytes: usize) {
        static SELDOM: Seldom = Seldom::new();
        self.closed.fetch_add(1, Ordering::Relaxed);
        if let Some(suppressed) = SELDOM.admit() {
            let most = self.most;
            tracing::warn!(
                bytes,
                most,
                suppressed,
                "server.memory is used up: the server closes who holds the most of it"
            );
        }
    }
}

impl Ledger {
    pub(super) fn new(memory: Arc<Memory>, shard: usize) -> Rc<Self> {
        Rc::new(Self {
            memory,
            shard,
            holders: RefCell::default(),
            newest: Cell::new(0),
            held: Cell::new(0),
            connections: Cell::new(0),
        })
    }

    /// A holding of a new socket, which is notified when it must leave.
    pub fn open(self: &Rc<Self>, must_leave: Rc<Notify>) -> Holding {
        let number = self.newest.get() + 1;
        self.newest.set(number);
        self.holders.borrow_mut().insert(number, Holder { bytes: 0, must_leave });
        Holding { ledger: Rc::clone(self), number }
    }

    fn publish(&self) {
        let bytes = self.held.get() + self.connections.get();
        // A ledger without shards is one of a test.
        if let Some(shard) = self.memory.shards.get(self.shard) {
            shard.store(bytes, Ordering::Relaxed);
        }
    }

    fn change(&self, number: u64, change: impl FnOnce(usize) -> usize) {
        if let Some(holder) = self.holders.borrow_mut().get_mut(&number) {
            let before = holder.bytes;
            holder.bytes = change(before);
            self.held.set(self.held.get() - before + holder.bytes);
        }
        self.publish();
    }

    fn largest(&self) -> Option<(usize, u64)> {
        let holders = self.holders.borrow();
        holders.iter().map(|(number, holder)| (holder.bytes, *number)).max()
    }

    /// Has a socket leave.
    fn dismiss(&self, number: u64) {
        let Some(holder) = self.holders.borrow_mut().remove(&number) else { return };
        self.held.set(self.held.get() - holder.bytes);
        self.publish();
        holder.must_leave.notify_one();
        self.memory.note_closed(holder.bytes);
    }
}

impl Holding {
    /// Takes in bytes that came. If that is too much, the socket that holds the most must leave, perhaps this one.
    pub fn add(&self, bytes: usize) {
        self.ledger.change(self.number, |before| before + bytes);
        if self.ledger.memory.excess() > 0
            && let Some((bytes, number)) = self.ledger.largest()
            && bytes >= self.ledger.connections.get() / 16
        {
            self.ledger.dismiss(number);
        }
    }

    /// What came is done with.
    pub fn clear(&self) {
        self.ledger.change(self.number, |_| 0);
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        self.clear();
        self.ledger.holders.borrow_mut().remove(&self.number);
    }
}

impl ShardState {
    /// Adds up what the shard's connections keep and, if that is too much, closes those that keep the most. Called when
    /// all were looked after; `held` is their sum.
    pub(super) fn settle_memory(&mut self, held: usize) {
        let ledger = Rc::clone(&self.ledger);
        ledger.connections.set(held);
        ledger.publish();
        if ledger.memory.excess() == 0 {
            return;
        }
        // What is sent to many waits in one copy for all of them.
        let own = self.held_by_all();
        let (excess, used) = (ledger.memory.excess() as u128, ledger.memory.used().max(1) as u128);
        // The other shards free their parts.
        let part = usize::try_from((excess * own as u128).div_ceil(used)).unwrap_or(usize::MAX);
        let mut next = part;
        while next > 0 && self.free(next) && self.held_by_all() > own.saturating_sub(part) {
            // Others wait for what these waited for: more must go.
            next = next.saturating_mul(2);
        }
    }

    /// Bytes that the shard keeps, counted exactly.
    fn held_by_all(&self) -> usize {
        self.ledger.connections.set(self.held_once());
        self.ledger.publish();
        self.ledger.connections.get() + self.ledger.held.get()
    }

    /// Bytes that the connections keep, each waiting frame counted once.
    fn held_once(&self) -> usize {
        let mut seen = HashSet::new();
        let frames = |connection: &Connection| {
            let pieces = connection.backlog.iter().flat_map(|backlog| backlog.pieces());
            pieces.filter(|piece| seen.insert(piece.as_ptr())).map(|piece| piece.len()).sum::<usize>()
        };
        let waiting: usize = self.connections.iter().map(|(_, connection)| &**connection).map(frames).sum();
        waiting + self.connections.iter().map(|(_, connection)| connection.unfinished.bytes()).sum::<usize>()
    }

    /// Closes connections and sockets until those closed held this many bytes, the largest first; whether there was one.
    fn free(&mut self, share: usize) -> bool {
        let connections = self.connections.iter().filter(|(_, connection)| connection.is_open());
        let mut largest: Vec<(usize, u32)> = connections
            .map(|(slot, connection)| (connection.held(), slot as u32))
            .filter(|(bytes, _)| *bytes > SMALL)
            .collect();
        largest.sort_unstable_by_key(|(bytes, _)| Reverse(*bytes));
        let mut largest = largest.into_iter().peekable();
        let mut freed = 0;
        while freed < share {
            let socket = self.ledger.largest().filter(|(bytes, _)| *bytes > SMALL);
            let connection = largest.peek().copied();
            if let Some((bytes, number)) = socket
                && connection.is_none_or(|connection| connection.0 < bytes)
            {
                self.ledger.dismiss(number);
                freed += bytes;
            } else if let Some((bytes, slot)) = largest.next() {
                self.close_over_memory(slot);
                self.ledger.memory.note_closed(bytes);
                freed += bytes;
            } else {
                break;
            }
        }
        freed > 0
    }

    fn close_over_memory(&mut self, slot: u32) {
        let Some(connection) = self.connections.get_mut(slot as usize) else { return };
        if let Some(backlog) = &mut connection.backlog {
            backlog.cut();
        }
        self.close_with_error(
            slot,
            ErrorCode::OverCapacity,
            "Server is out of memory: too much is unread or unfinished",
        );
        if let Some(connection) = self.connections.get_mut(slot as usize) {
            let has_backlog = connection.backlog.is_some();
            if let Phase::Closing(since) = connection.phase {
                connection.phase = Phase::Deaf(since);
            }
            connection.forget_unfinished();
            if has_backlog {
                self.drain_later(slot);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn ledgers(most: usize) -> (Arc<Memory>, [Rc<Ledger>; 2]) {
        let memory = Arc::new(Memory::new(most, 2));
        let ledger = |shard| Ledger::new(Arc::clone(&memory), shard);
        (Arc::clone(&memory), [ledger(0), ledger(1)])
    }

    fn leaves(notify: &Notify) -> bool {
        notify.notified().now_or_never().is_some()
    }

    #[test]
    fn whoever_holds_the_most_leaves_first() {
        let (memory, [here, there]) = ledgers(1_000);
        let notifies = [(); 4].map(|()| Rc::new(Notify::new()));
        let [large, small, other, newest] = &notifies;
        let (large_holding, small_holding) = (here.open(Rc::clone(large)), here.open(Rc::clone(small)));
        let other_holding = there.open(Rc::clone(other));
        large_holding.add(500);
        small_holding.add(100);
        other_holding.add(400);
        assert!(!notifies.iter().any(|notify| leaves(notify)));
        let newest_holding = here.open(Rc::clone(newest));
        newest_holding.add(1);
        assert_eq!([large, small, other, newest].map(|notify| leaves(notify)), [true, false, false, false]);
        assert_eq!((memory.used(), memory.closed()), (501, 1));
        small_holding.clear();
        drop((newest_holding, other_holding));
        assert_eq!(memory.used(), 0);
        large_holding.add(10_000);
        assert_eq!(memory.used(), 0, "whoever was told to leave does not count any more");
    }
}
