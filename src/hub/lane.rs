//! The turns of connections that make a shard work much: one at a time.
//!
//! A hundred sockets that never stop sending are all readable whenever the shard looks, so that everybody else would wait
//! for a hundred turns. Connections that sent much of late stand in a lane instead: after each of their turns the shard
//! looks at its sockets, and all others get theirs first.

use std::collections::{HashSet, VecDeque};
use std::rc::Rc;
use std::task::Waker;

use tokio::sync::Notify;
use tokio::task::yield_now;

use super::connection::Address;
use super::shard::{Shard, ShardState};

/// Who waits for a turn, and who has it.
#[derive(Default)]
pub(super) struct Lane {
    waiting: VecDeque<(Address, Waker)>,
    /// The addresses in `waiting`: of thousands, each is asked for at each of its turns.
    known: HashSet<Address, foldhash::fast::RandomState>,
    turn: Option<Address>,
    filled: Rc<Notify>,
}

impl Lane {
    /// Whether it is the turn of a connection; else it waits, and is woken when it is.
    fn admit(&mut self, address: Address, waker: &Waker) -> bool {
        if self.turn.take_if(|turn| *turn == address).is_some() {
            return true;
        }
        if self.known.insert(address) {
            self.waiting.push_back((address, waker.clone()));
            self.filled.notify_one();
        }
        false
    }

    /// Gives the next one its turn; false when nobody waits.
    fn advance(&mut self) -> bool {
        let Some((address, waker)) = self.waiting.pop_front() else { return false };
        self.known.remove(&address);
        self.turn = Some(address);
        waker.wake();
        true
    }
}

impl ShardState {
    /// Whether a connection may be read now; else it is woken when it is its turn.
    pub(super) fn admit_reader(&mut self, address: Address, waker: &Waker) -> bool {
        let connection = self.connections.get(address.slot as usize);
        let is_heavy = connection.is_some_and(|it| it.id == address.id && it.is_heavy());
        !is_heavy || self.lane.admit(address, waker)
    }
}

impl Shard {
    /// Gives the connections of the lane their turns; never ends.
    pub(super) async fn run_lane(self: Rc<Self>) {
        let filled = Rc::clone(&self.state.borrow().lane.filled);
        loop {
            while self.state.borrow_mut().lane.advance() {
                // Resolves after the sockets were looked at.
                yield_now().await;
            }
            filled.notified().await;
        }
    }
}
