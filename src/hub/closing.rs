//! The end of a connection: close handshakes, cut connections, many closes spread over time.
//!
//! Whatever the reason, a connection first leaves its channels and its user, so that nobody publishes to it any
//! more, and then closes: a Close frame behind what is queued, the client's answer or a grace, the socket.

use std::net::Shutdown;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use socket2::SockRef;
use tokio::task::{spawn_local, yield_now};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use super::Hub;
use super::budget::Budget;
use super::connection::{Address, ClosedBy, Connection, EngineIo, Phase, Subscription};
use super::shard::{SLICE, ShardState};
use crate::protocol::error_code::ErrorCode;
use crate::protocol::server_event;

/// RFC 6455, section 7.1.5: no Close frame came.
const BROKEN_OFF: u16 = 1006;
/// RFC 6455, section 7.1.5: a Close frame without a code came.
const WITHOUT_CODE: u16 = 1005;
/// Time between steps of closing many connections.
const DRAIN_STEP: Duration = Duration::from_millis(50);

impl ShardState {
    /// Ends a connection whose close handshake is done, or which broke, once what waits for it has left.
    pub(super) fn end(&mut self, slot: u32) {
        self.flush(slot);
        if self.connections.get(slot as usize).is_none_or(|connection| connection.backlog.is_none()) {
            return self.remove(slot);
        }
        self.leave_everything(slot);
        let connection = &mut self.connections[slot as usize];
        connection.phase = Phase::Deaf(self.clock.now());
    }

    /// Notes the Close frame that a client began its end with.
    pub(super) fn client_closes(&mut self, slot: u32, frame: Option<&CloseFrame>) {
        let (code, reason) = frame.map_or((WITHOUT_CODE, ""), |frame| (frame.code.into(), &*frame.reason));
        self.connections[slot as usize].tell_closed(ClosedBy::Client, code, reason);
    }

    /// Begins the close handshake: leaves all channels, sends what is queued and a Close frame.
    pub(super) fn close(&mut self, slot: u32, code: CloseCode, reason: &str) {
        if !self.settle(slot) {
            return;
        }
        self.connections[slot as usize].tell_closed(ClosedBy::Server, code.into(), reason);
        self.leave_everything(slot);
        let connection = &mut self.connections[slot as usize];
        connection.phase = Phase::Closing(self.clock.now());
        let frame = CloseFrame { code, reason: cut_to(reason, 123).into() };
        let mut io = EngineIo { input: &[], output: &mut self.control };
        // The engine reports states, not faults, here: the frame is in `control` either way.
        let _ = connection.engine.close(&mut io, Some(frame));
        self.reply_control();
        self.flush(slot);
    }

    /// Sends what the turn has for a connection; whether it is open still. If not, replies to it are
    /// dropped: they must not reach the connection that is written to next.
    pub(super) fn settle(&mut self, slot: u32) -> bool {
        self.deliver_links(slot);
        let is_open = self.connections.get(slot as usize).is_some_and(|connection| connection.is_open());
        if !is_open {
            self.replies.clear();
            self.reply_bytes = 0;
        }
        is_open
    }

    /// As [`ShardState::close`], after a fault that makes what follows unreadable.
    pub(super) fn close_deaf(&mut self, slot: u32, code: CloseCode, reason: &str) {
        self.close(slot, code, reason);
        self.deafen(slot);
    }

    /// Reads nothing any more of a connection that is closing.
    fn deafen(&mut self, slot: u32) {
        if let Some(connection) = self.connections.get_mut(slot as usize) {
            if let Phase::Closing(since) = connection.phase {
                connection.phase = Phase::Deaf(since);
            }
            if connection.backlog.is_none() {
                let _ = SockRef::from(&*connection.socket).shutdown(Shutdown::Write);
            }
        }
    }

    /// Closes with one of the protocol's codes, told by `pusher:error` first where clients expect it.
    pub(super) fn close_with_error(&mut self, slot: u32, code: ErrorCode, reason: &str) {
        if !self.settle(slot) {
            return;
        }
        if tells_error(code) {
            self.reply(&server_event::error(Some(code), reason));
        }
        self.close(slot, CloseCode::from(code.number()), reason);
    }

    /// Closes a connection that used up a budget. Nothing more of it is read: it may go on for ever.
    pub(super) fn close_over_budget(&mut self, slot: u32, budget: Budget) {
        let Some(connection) = self.connections.get(slot as usize) else { return };
        if connection.is_open() {
            self.stats.over_budget[budget as usize] += 1;
            let reason = format!("Too many {} in a short time", budget.word());
            self.close_with_error(slot, ErrorCode::OverCapacity, &reason);
        }
        self.deafen(slot);
    }

    /// Closes a connection that left too much unread. What waits is forgotten but for the frame that has
    /// begun to leave: a reader that comes back within the grace sees no gap, then the code.
    pub(super) fn close_slow_consumer(&mut self, slot: u32) {
        let Some(connection) = self.connections.get_mut(slot as usize) else { return };
        if !connection.is_open() {
            return self.remove(slot);
        }
        self.stats.slow_consumers += 1;
        if let Some(backlog) = &mut connection.backlog {
            backlog.cut();
        }
        self.close_with_error(slot, ErrorCode::OverCapacity, "Too slow: too many unread messages");
        if self.connections.contains(slot as usize) {
            self.drain_later(slot);
        }
    }

    /// Ends a connection now. The socket closes when its tasks have noticed.
    pub(super) fn remove(&mut self, slot: u32) {
        if !self.connections.contains(slot as usize) {
            return;
        }
        self.leave_everything(slot);
        let connection = self.connections.remove(slot as usize);
        self.rests.remove(&slot);
        self.hub.inner.loads[self.index as usize].fetch_sub(1, Ordering::Relaxed);
        // Wakes the tasks that wait for this socket, unless the only one is the reader that is at work;
        // an error means that it is closed already.
        if self.reading != Some(slot) || connection.backlog.is_some() {
            let _ = SockRef::from(&*connection.socket).shutdown(Shutdown::Both);
        }
        if self.connections.is_empty() {
            self.connections.shrink_to_fit();
            self.channels.shrink_to_fit();
        }
    }

    pub(super) fn remove_if_same(&mut self, address: Address) {
        if self.is_same(address) {
            self.remove(address.slot);
        }
    }

    pub(super) fn leave_everything(&mut self, slot: u32) {
        let address = self.address(slot);
        let connection = &mut self.connections[slot as usize];
        connection.tell_closed(ClosedBy::Network, BROKEN_OFF, "");
        let subscriptions = std::mem::take(&mut connection.subscriptions);
        connection.held = Vec::new();
        let user = connection.user.take();
        for subscription in &subscriptions {
            self.leave_channel(slot, subscription);
        }
        if let Some(user) = user {
            let app = &self.connections[slot as usize].app;
            app.users.unwatch(&user.watchlist, address);
            app.users.sign_out(&user.id, address, Instant::now());
        }
    }

    /// Takes a connection from a channel's list and tells the directory. The subscription must be out of
    /// the connection's own list already.
    pub(super) fn leave_channel(&mut self, slot: u32, subscription: &Subscription) {
        let local = subscription.local;
        let channel = &mut self.channels[local as usize];
        channel.subscribers.swap_remove(subscription.position as usize);
        if let Some(moved) = channel.subscribers.get(subscription.position as usize)
            && let Some(moved) = self.connections[moved.slot as usize]
                .subscriptions
                .iter_mut()
                .find(|candidate| candidate.local == local)
        {
            moved.position = subscription.position;
        }
        let name = channel.name.clone();
        if channel.subscribers.is_empty() {
            self.channels.remove(local as usize);
        } else if channel.subscribers.capacity() > 4 * channel.subscribers.len() + 64 {
            channel.subscribers.shrink_to_fit();
        }
        let app = &self.connections[slot as usize].app;
        app.directory.leave(&name, self.index, subscription.member.as_ref(), Instant::now());
    }

    /// Closes all connections of an app.
    pub(super) fn close_app(&mut self, id: &str, code: ErrorCode, reason: &'static str) {
        let addresses = self.addresses(|connection| connection.app.id() == id);
        self.close_all(addresses, 1, move |state, slot| state.close_with_error(slot, code, reason));
    }

    /// Closes all connections, spread evenly over `window`.
    pub(super) fn begin_drain(&mut self, window: Duration, code: u16) {
        let steps = (window.as_millis() / DRAIN_STEP.as_millis()).max(1) as usize;
        let addresses = self.addresses(|_| true);
        let under_way = DrainUnderWay(self.hub.clone());
        self.close_all(addresses, steps, move |state, slot| {
            let _until_the_last = &under_way;
            state.close(slot, CloseCode::from(code), "Server is restarting");
        });
    }

    pub(super) fn addresses(&self, wanted: impl Fn(&Connection) -> bool) -> Vec<Address> {
        self.connections
            .iter()
            .filter(|(_, connection)| wanted(connection))
            .map(|(slot, _)| self.address(slot as u32))
            .collect()
    }

    /// Closes connections in equal steps, [`DRAIN_STEP`] apart; others get their turn in between.
    pub(super) fn close_all(
        &self,
        addresses: Vec<Address>,
        steps: usize,
        close: impl Fn(&mut Self, u32) + 'static,
    ) {
        let Some(shard) = self.this.upgrade() else { return };
        spawn_local(async move {
            for step in 0..steps {
                let range = addresses.len() * step / steps..addresses.len() * (step + 1) / steps;
                for slice in addresses[range].chunks(SLICE) {
                    shard.state.borrow_mut().close_slice(slice, &close);
                    yield_now().await;
                }
                if step + 1 < steps {
                    tokio::time::sleep(DRAIN_STEP).await;
                }
            }
        });
    }

    pub(super) fn close_slice(&mut self, addresses: &[Address], close: &impl Fn(&mut Self, u32)) {
        for address in addresses {
            if self.is_same(*address) {
                close(self, address.slot);
            }
        }
    }
}

/// A shard's drain, until every connection was sent its Close frame.
struct DrainUnderWay(Hub);

impl Drop for DrainUnderWay {
    fn drop(&mut self) {
        self.0.inner.drains.fetch_sub(1, Ordering::Release);
    }
}

/// Closing with an error is told by `pusher:error` first.
fn tells_error(code: ErrorCode) -> bool {
    !matches!(code, ErrorCode::ReconnectImmediately | ErrorCode::PongNotReceived)
}

/// The longest beginning of `text` that has at most `len` bytes.
fn cut_to(text: &str, len: usize) -> String {
    let mut end = text.len().min(len);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}
