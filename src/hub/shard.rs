//! One thread of sockets: attaches connections, reads them, sweeps them, closes them.
//!
//! All state of a shard is one value behind a `RefCell` that is borrowed for single synchronous steps
//! only. Tasks: one per connection that waits for its socket to become readable, one for the fan-out, one
//! for the sweep, and one per backlog for as long as that lasts.

use std::cell::RefCell;
use std::future::Future;
use std::net::Shutdown;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use slab::Slab;
use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::task::{spawn_local, yield_now};
use tokio_tungstenite::tungstenite::error::CapacityError;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{self, Message};

use super::backlog::Drained;
use super::connection::{Address, Connection, EngineIo, Phase, Received, Subscription, receive};
use super::fan_out::{Turn, tells_error};
use super::stats::ShardStats;
use super::{Admission, ConnectionLimits, Hub};
use crate::protocol::channel::ChannelName;
use crate::protocol::error_code::ErrorCode;
use crate::protocol::frame::Frame;
use crate::protocol::id::SocketId;
use crate::protocol::server_event;

/// Bytes read from a socket at once.
const SCRATCH: usize = 64 * 1024;
/// Connections served before other tasks get their turn.
const SLICE: usize = 256;
/// Seconds that a client has to answer our Close frame.
const CLOSE_GRACE: u32 = 5;
/// Seconds that a client which does not read has to come back and see why it was closed.
const UNREAD_GRACE: u32 = 30;
/// Seconds between steps of a drain.
const DRAIN_STEP: Duration = Duration::from_millis(50);

/// One shard; lives on its own thread.
pub struct Shard {
    state: RefCell<ShardState>,
    hub: Hub,
    index: u32,
}

pub(super) struct ShardState {
    this: Weak<Shard>,
    pub(super) hub: Hub,
    pub(super) index: u32,
    pub(super) limits: Arc<ConnectionLimits>,
    pub(super) connections: Slab<Box<Connection>>,
    pub(super) channels: Slab<LocalChannel>,
    pub(super) turn: Turn,
    pub(super) clock: Clock,
    pub(super) stats: ShardStats,
    /// Frames for the connection at work, which leave together when its turn ends.
    replies: Vec<Bytes>,
    /// The connection whose reader is at work.
    reading: Option<u32>,
    joined: Vec<u8>,
    control: Vec<u8>,
    scratch: Vec<u8>,
}

/// A channel as far as this shard is concerned.
pub(super) struct LocalChannel {
    /// The directory's identity of it.
    pub id: u64,
    pub name: ChannelName,
    pub subscribers: Vec<Subscriber>,
}

/// A connection in a channel's list.
pub(super) struct Subscriber {
    pub slot: u32,
    /// Publications up to this revision are not for it.
    pub since: u64,
}

/// Whole seconds since the shard started, as of the last sweep.
pub(super) struct Clock {
    start: Instant,
    seconds: u32,
}

/// What a reader does next.
enum ReadTurn {
    Wait,
    Again,
    Gone,
}

impl Shard {
    /// The shard of this index; call on its own thread inside its `LocalRuntime`.
    pub fn new(hub: Hub, index: usize) -> Rc<Self> {
        let index = u32::try_from(index).expect("bug: more shards than fit");
        let shard = Rc::new_cyclic(|this| Self {
            state: RefCell::new(ShardState {
                this: Weak::clone(this),
                hub: hub.clone(),
                index,
                limits: Arc::clone(&hub.inner.limits),
                connections: Slab::new(),
                channels: Slab::new(),
                turn: Turn::default(),
                clock: Clock { start: Instant::now(), seconds: 0 },
                stats: ShardStats::default(),
                replies: Vec::new(),
                reading: None,
                joined: Vec::new(),
                control: Vec::new(),
                scratch: vec![0; SCRATCH],
            }),
            hub,
            index,
        });
        spawn_local(Rc::clone(&shard).fan_out());
        spawn_local(Rc::clone(&shard).sweep());
        shard
    }

    /// Takes over an upgraded connection; `leftover` is what the client sent behind its handshake.
    pub fn attach(self: &Rc<Self>, admission: Admission, socket: TcpStream, leftover: &[u8]) {
        let socket = Rc::new(socket);
        let mut state = self.state.borrow_mut();
        let connection = Connection::new(admission, Rc::clone(&socket), state.clock.now());
        let id = connection.id;
        let slot = state.connections.insert(Box::new(connection)) as u32;
        state.report_load();
        state.stats.opened += 1;
        let timeout = u64::from(state.limits.activity_timeout);
        state.reply(&server_event::connection_established(id, timeout));
        state.feed(slot, id, leftover);
        state.flush(slot);
        drop(state);
        spawn_local(ReadLoop {
            shard: Rc::clone(self),
            address: Address { shard: self.index, slot, id },
            socket,
        });
    }

    async fn fan_out(self: Rc<Self>) {
        let mailbox = &self.hub.inner.mailboxes[self.index as usize];
        loop {
            mailbox.filled().await;
            if self.state.borrow_mut().begin_turn() {
                while self.state.borrow_mut().continue_turn(SLICE) {
                    yield_now().await;
                }
            }
        }
    }

    async fn sweep(self: Rc<Self>) {
        let mut each_second = tokio::time::interval(Duration::from_secs(1));
        each_second.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            each_second.tick().await;
            let mut next = Some(0);
            while let Some(from) = next {
                next = self.state.borrow_mut().sweep_from(from);
                if next.is_some() {
                    yield_now().await;
                }
            }
            let state = self.state.borrow();
            self.hub.inner.stats.publish(self.index as usize, &state.stats);
        }
    }
}

/// Waits for one socket to become readable, for as long as the connection lives.
struct ReadLoop {
    shard: Rc<Shard>,
    address: Address,
    socket: Rc<TcpStream>,
}

impl Future for ReadLoop {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let readable = ready!(self.socket.poll_read_ready(cx));
            let mut state = self.shard.state.borrow_mut();
            if readable.is_err() {
                state.remove_if_same(self.address);
                return Poll::Ready(());
            }
            match state.read(self.address, &self.socket) {
                ReadTurn::Wait => {}
                ReadTurn::Again => {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                ReadTurn::Gone => return Poll::Ready(()),
            }
        }
    }
}

impl ShardState {
    pub(super) fn address(&self, slot: u32) -> Address {
        Address { shard: self.index, slot, id: self.connections[slot as usize].id }
    }

    fn is_same(&self, address: Address) -> bool {
        self.connections.get(address.slot as usize).is_some_and(|connection| connection.id == address.id)
    }

    fn read(&mut self, address: Address, socket: &TcpStream) -> ReadTurn {
        if !self.is_same(address) {
            return ReadTurn::Gone;
        }
        let mut scratch = std::mem::take(&mut self.scratch);
        // Lost only if a panic unwound through a read; no other connection shall suffer.
        scratch.resize(SCRATCH, 0);
        self.reading = Some(address.slot);
        let received = receive(socket, &mut scratch);
        let next = match received {
            Received::Nothing => ReadTurn::Wait,
            Received::End => {
                self.remove(address.slot);
                ReadTurn::Gone
            }
            Received::Full(len) | Received::Last(len) => {
                self.deliver_links(address.slot);
                self.feed(address.slot, address.id, &scratch[..len]);
                self.flush(address.slot);
                match received {
                    _ if !self.is_same(address) => ReadTurn::Gone,
                    Received::Full(_) => ReadTurn::Again,
                    _ => ReadTurn::Wait,
                }
            }
        };
        self.scratch = scratch;
        self.reading = None;
        next
    }

    /// Gives bytes from the client to the engine and acts on every message they complete.
    fn feed(&mut self, slot: u32, id: SocketId, mut input: &[u8]) {
        loop {
            let Some(connection) = self.connections.get_mut(slot as usize).filter(|it| it.id == id) else {
                return;
            };
            connection.last_heard = self.clock.seconds;
            connection.is_pinged = false;
            if matches!(connection.phase, Phase::Deaf(_)) {
                return;
            }
            let mut io = EngineIo { input, output: &mut self.control };
            let message = connection.engine.read(&mut io);
            input = io.input;
            let is_open = connection.is_open();
            if !self.control.is_empty() {
                self.replies.push(Bytes::copy_from_slice(&self.control));
                self.control.clear();
            }
            match message {
                Ok(Message::Text(text)) if is_open => {
                    self.stats.received += 1;
                    self.on_text(slot, text.as_str());
                }
                Ok(Message::Binary(_)) if is_open => {
                    self.close(slot, CloseCode::Unsupported, "Binary frames are not supported");
                }
                Ok(_) => {}
                Err(tungstenite::Error::Io(error)) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    return;
                }
                Err(tungstenite::Error::Capacity(CapacityError::MessageTooLong { max_size, .. })) => {
                    let reason = format!("Message is longer than {max_size} bytes");
                    self.close_deaf(slot, CloseCode::Size, &reason);
                }
                Err(tungstenite::Error::Utf8(_)) => {
                    self.close_deaf(slot, CloseCode::Invalid, "Text is not valid UTF-8");
                }
                Err(tungstenite::Error::Protocol(error)) if is_open => {
                    self.close_deaf(slot, CloseCode::Protocol, &error.to_string());
                }
                Err(_) => {
                    self.flush(slot);
                    return self.remove(slot);
                }
            }
        }
    }

    /// Queues a frame for the connection at work.
    pub(super) fn reply(&mut self, frame: &Frame) {
        self.replies.push(frame.bytes().clone());
    }

    /// Sends the queued replies, behind what the fan-out has for this connection.
    pub(super) fn flush(&mut self, slot: u32) {
        self.deliver_links(slot);
        let mut replies = std::mem::take(&mut self.replies);
        if let Some(connection) = self.connections.get_mut(slot as usize)
            && !replies.is_empty()
        {
            let joined = match replies.as_slice() {
                [only] => only,
                several => {
                    self.joined.clear();
                    several.iter().for_each(|reply| self.joined.extend_from_slice(reply));
                    self.joined.as_slice()
                }
            };
            let written =
                connection.write(replies.as_slice(), joined, self.limits.backlog_limit, self.clock.seconds);
            self.after_write(slot, written);
        }
        replies.clear();
        replies.shrink_to(SLICE);
        self.joined.shrink_to(SCRATCH);
        self.replies = replies;
    }

    /// Drains a backlog as the socket becomes writable.
    pub(super) fn drain_later(&mut self, slot: u32) {
        let Some(shard) = self.this.upgrade() else { return };
        let address = self.address(slot);
        let socket = Rc::clone(&self.connections[slot as usize].socket);
        spawn_local(async move {
            while socket.writable().await.is_ok() {
                let mut state = shard.state.borrow_mut();
                if !state.is_same(address) {
                    return;
                }
                let connection = &mut state.connections[address.slot as usize];
                match connection.drain_backlog() {
                    Ok(Drained::Blocked) => {}
                    Ok(Drained::Empty) => {
                        if matches!(connection.phase, Phase::Deaf(_)) {
                            let _ = SockRef::from(&*connection.socket).shutdown(Shutdown::Write);
                        }
                        return;
                    }
                    Err(_) => return state.remove(address.slot),
                }
            }
            shard.state.borrow_mut().remove_if_same(address);
        });
    }

    /// Begins the close handshake: leaves all channels, sends what is queued and a Close frame.
    pub(super) fn close(&mut self, slot: u32, code: CloseCode, reason: &str) {
        self.deliver_links(slot);
        if !self.connections.get(slot as usize).is_some_and(|connection| connection.is_open()) {
            return;
        }
        self.leave_everything(slot);
        let connection = &mut self.connections[slot as usize];
        connection.phase = Phase::Closing(self.clock.seconds);
        let frame = CloseFrame { code, reason: cut_to(reason, 123).into() };
        let mut io = EngineIo { input: &[], output: &mut self.control };
        // The engine reports states, not faults, here: the frame is in `control` either way.
        let _ = connection.engine.close(&mut io, Some(frame));
        self.replies.push(Bytes::copy_from_slice(&self.control));
        self.control.clear();
        self.flush(slot);
    }

    /// As [`ShardState::close`], after a fault that makes what follows unreadable.
    fn close_deaf(&mut self, slot: u32, code: CloseCode, reason: &str) {
        self.close(slot, code, reason);
        if let Some(connection) = self.connections.get_mut(slot as usize) {
            connection.phase = Phase::Deaf(self.clock.seconds);
            if connection.backlog.is_none() {
                let _ = SockRef::from(&*connection.socket).shutdown(Shutdown::Write);
            }
        }
    }

    /// Closes with one of the protocol's codes, told by `pusher:error` first where clients expect it.
    pub(super) fn close_with_error(&mut self, slot: u32, code: ErrorCode, reason: &str) {
        if !self.connections.get(slot as usize).is_some_and(|connection| connection.is_open()) {
            return;
        }
        if tells_error(code) {
            self.reply(&server_event::error(Some(code), reason));
        }
        self.close(slot, CloseCode::from(code.number()), reason);
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
        if let Some(connection) = self.connections.get(slot as usize)
            && connection.backlog.is_some()
        {
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
        self.report_load();
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

    fn report_load(&self) {
        self.hub.inner.shard_connections[self.index as usize]
            .store(self.connections.len(), std::sync::atomic::Ordering::Relaxed);
    }

    fn remove_if_same(&mut self, address: Address) {
        if self.is_same(address) {
            self.remove(address.slot);
        }
    }

    fn leave_everything(&mut self, slot: u32) {
        let address = self.address(slot);
        let connection = &mut self.connections[slot as usize];
        let subscriptions = std::mem::take(&mut connection.subscriptions);
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
        let vacated = app.directory.leave(&name, self.index, subscription.member.as_ref(), Instant::now());
        if vacated {
            app.uplink.interest(&app.id, &name, false);
        }
    }

    /// Looks after up to [`SLICE`] × 4 slots; returns where to go on.
    fn sweep_from(&mut self, from: usize) -> Option<usize> {
        self.clock.tick();
        let end = (from + SLICE * 4).min(self.connections.capacity());
        for slot in from..end {
            if self.connections.contains(slot) {
                self.sweep_connection(slot as u32);
            }
        }
        (end < self.connections.capacity()).then_some(end)
    }

    fn sweep_connection(&mut self, slot: u32) {
        let now = self.clock.seconds;
        let limits = Arc::clone(&self.limits);
        let connection = &mut self.connections[slot as usize];
        let silent = now.saturating_sub(connection.last_heard);
        match connection.phase {
            Phase::Closing(since) | Phase::Deaf(since) => {
                let grace = if connection.backlog.is_some() { UNREAD_GRACE } else { CLOSE_GRACE };
                if now.saturating_sub(since) > grace {
                    self.remove(slot);
                }
            }
            Phase::Open if is_older(connection, now, limits.backlog_max_age) => {
                self.close_slow_consumer(slot)
            }
            Phase::Open if connection.is_overdue(now) => {
                self.close_with_error(
                    slot,
                    ErrorCode::Unauthorized,
                    "Connection not authorized within timeout",
                );
            }
            Phase::Open if silent > limits.activity_timeout + limits.pong_timeout => {
                self.stats.timed_out += 1;
                self.close_with_error(slot, ErrorCode::PongNotReceived, "Pong reply not received");
            }
            Phase::Open if silent > limits.activity_timeout && !connection.is_pinged => {
                connection.is_pinged = true;
                self.replies.push(Bytes::from_static(&[0x89, 0]));
                self.flush(slot);
            }
            Phase::Open => {}
        }
    }

    /// Closes all connections of an app.
    pub(super) fn close_app(&mut self, id: &str, code: ErrorCode, reason: &str) {
        let of_app = self.connections.iter().filter(|(_, connection)| connection.app.id() == id);
        let slots: Vec<u32> = of_app.map(|(slot, _)| slot as u32).collect();
        slots.into_iter().for_each(|slot| self.close_with_error(slot, code, reason));
    }

    /// Closes all connections, spread evenly over `window`.
    pub(super) fn begin_drain(&mut self, window: Duration, code: u16) {
        let Some(shard) = self.this.upgrade() else { return };
        let addresses: Vec<Address> = self
            .connections
            .iter()
            .map(|(slot, connection)| Address { shard: self.index, slot: slot as u32, id: connection.id })
            .collect();
        let steps = (window.as_millis() / DRAIN_STEP.as_millis()).max(1) as usize;
        spawn_local(async move {
            for step in 0..steps {
                let range = addresses.len() * step / steps..addresses.len() * (step + 1) / steps;
                for address in &addresses[range] {
                    let mut state = shard.state.borrow_mut();
                    if state.is_same(*address) {
                        state.close(address.slot, CloseCode::from(code), "Server is restarting");
                    }
                }
                if step + 1 < steps {
                    tokio::time::sleep(DRAIN_STEP).await;
                }
            }
        });
    }
}

impl Connection {
    /// Whether the app demands authorisation and the time for it is over.
    fn is_overdue(&self, now: u32) -> bool {
        let app = self.app.app();
        let settings = &app.settings;
        settings.authorized_connections
            && !self.is_authorized
            && u64::from(now.saturating_sub(self.opened)) > settings.authorization_timeout.as_secs()
    }
}

fn is_older(connection: &Connection, now: u32, max_age: u32) -> bool {
    connection.backlog.as_ref().is_some_and(|backlog| backlog.age(now) > max_age)
}

impl Clock {
    pub fn now(&self) -> u32 {
        self.seconds
    }

    fn tick(&mut self) {
        self.seconds = u32::try_from(self.start.elapsed().as_secs()).unwrap_or(u32::MAX);
    }
}

/// The longest beginning of `text` that has at most `len` bytes.
pub(super) fn cut_to(text: &str, len: usize) -> String {
    let mut end = text.len().min(len);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}
