//! One thread of sockets: attaches connections, reads them, sweeps them, closes them.
//!
//! All state of a shard is one value behind a `RefCell` that is borrowed for single synchronous steps
//! only. Tasks: one per connection that waits for its socket to become readable, one for the fan-out, one
//! for the sweep, and one per backlog for as long as that lasts.

use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::future::Future;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};
use slab::Slab;
use tokio::net::TcpStream;
use tokio::task::{spawn_local, yield_now};
use tokio_tungstenite::tungstenite::error::CapacityError;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{self, Message};

use super::budget::Budget;
use super::connection::{Address, Connection, EngineIo, Phase, Received, receive};
use super::fan_out::Turn;
use super::lane::Lane;
use super::memory::Ledger;
use super::stats::ShardStats;
use super::{Admission, ConnectionLimits, Hub, Newcomer, ShardLoad};
use crate::protocol::channel::ChannelName;
use crate::protocol::id::SocketId;
use crate::protocol::server_event;

/// Bytes of replies to one connection that are collected before they are sent.
const MAX_REPLIES: usize = 64 * 1024;
/// Bytes joined for one write of replies, and kept for the next.
pub(super) const SCRATCH: usize = 64 * 1024;
/// Bytes read from a socket in one turn of its connection.
const TURN_BYTES: usize = 16 * 1024;
/// Messages acted upon in one turn of a connection: the others get theirs, however many messages a client sends.
const TURN_MESSAGES: usize = 16;
/// As [`TURN_MESSAGES`], of a connection that makes the shard work much.
const HEAVY_MESSAGES: usize = 4;
/// Connections served before other tasks get their turn.
pub(super) const SLICE: usize = 256;
/// How exactly pings and their answers are timed.
pub(super) const STEP: Duration = Duration::from_millis(50);
pub(super) const STEPS_A_SECOND: u32 = 20;

/// One shard; lives on its own thread.
pub struct Shard {
    pub(super) state: RefCell<ShardState>,
    hub: Hub,
    index: u32,
}

pub(super) struct ShardState {
    pub(super) this: Weak<Shard>,
    pub(super) hub: Hub,
    pub(super) index: u32,
    pub(super) limits: Arc<ConnectionLimits>,
    pub(super) connections: Slab<Box<Connection>>,
    pub(super) channels: Slab<LocalChannel>,
    pub(super) turn: Turn,
    pub(super) clock: Clock,
    /// When (in steps) every connection is looked after again.
    pub(super) next_sweep: u32,
    /// Slots that must be looked after before that, and when (in steps).
    pub(super) due: BinaryHeap<Reverse<(u32, u32)>>,
    pub(super) stats: ShardStats,
    /// Frames for the connection at work, which leave together when its turn ends.
    pub(super) replies: Vec<Bytes>,
    pub(super) reply_bytes: usize,
    /// What connections sent beyond one turn. Few have something here, so it is no part of the connection.
    pub(super) rests: HashMap<u32, Bytes, foldhash::fast::RandomState>,
    /// Readers whose turns come one at a time.
    pub(super) lane: Lane,
    /// Readers that wait until less is to be sent.
    pub(super) paused: Vec<Waker>,
    /// The connection whose reader is at work.
    pub(super) reading: Option<u32>,
    pub(super) joined: Vec<u8>,
    pub(super) control: Vec<u8>,
    pub(super) scratch: Vec<u8>,
    pub(super) ledger: Rc<Ledger>,
    /// Bytes that the connections keep that were looked after in this sweep.
    pub(super) held: usize,
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

/// Time since the shard started, as of the last look at it.
pub(super) struct Clock {
    start: Instant,
    steps: u32,
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
                clock: Clock { start: Instant::now(), steps: 0 },
                next_sweep: 0,
                due: BinaryHeap::new(),
                stats: ShardStats::default(),
                replies: Vec::new(),
                reply_bytes: 0,
                rests: HashMap::default(),
                lane: Lane::default(),
                paused: Vec::new(),
                reading: None,
                joined: Vec::new(),
                control: Vec::new(),
                scratch: vec![0; TURN_BYTES],
                ledger: hub.ledger(index as usize),
                held: 0,
            }),
            hub,
            index,
        });
        spawn_local(vital(Rc::clone(&shard).fan_out()));
        spawn_local(vital(Rc::clone(&shard).sweep()));
        spawn_local(vital(Rc::clone(&shard).run_lane()));
        shard
    }

    /// Takes over an upgraded connection; `leftover` is what the client sent behind its handshake, `newcomer`
    /// is there when the log wants to name it.
    pub fn attach(
        self: &Rc<Self>,
        admission: Admission,
        newcomer: Option<&Newcomer>,
        load: ShardLoad,
        socket: TcpStream,
        leftover: &[u8],
    ) {
        load.hand_over();
        let refusal = self.hub.refusal(&admission);
        let socket = Rc::new(socket);
        let mut state = self.state.borrow_mut();
        state.clock.tick();
        let connection = Connection::new(admission, Rc::clone(&socket), &state.clock);
        let id = connection.id;
        let slot = state.connections.insert(Box::new(connection)) as u32;
        state.stats.opened += 1;
        // Looked at before the first frame leaves: what comes later finds the connection among the others.
        match refusal {
            Some(refusal) => {
                if let Some(newcomer) = newcomer {
                    newcomer.is_refused(Some(state.connections[slot as usize].app.id()), &refusal);
                }
                state.close_with_error(slot, refusal.code, &refusal.message);
            }
            None => {
                if let Some(newcomer) = newcomer {
                    newcomer.connects(&state.connections[slot as usize].app, id);
                }
                let timeout = u64::from(state.limits.activity_timeout);
                state.reply(&server_event::connection_established(id, timeout));
                state.connections[slot as usize].tell_opened();
                state.take_turn(slot, id, Bytes::copy_from_slice(leftover));
            }
        }
        drop(state);
        spawn_local(ReadLoop {
            shard: Rc::clone(self),
            address: Address { shard: self.index, slot, id },
            socket,
        });
    }

    /// What the shard makes the process keep.
    pub fn ledger(&self) -> Rc<Ledger> {
        Rc::clone(&self.state.borrow().ledger)
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
        loop {
            let next_look = self.state.borrow().next_look();
            tokio::time::sleep_until(next_look.into()).await;
            while self.state.borrow_mut().sweep_due() {
                yield_now().await;
            }
            if !self.state.borrow_mut().begin_sweep() {
                continue;
            }
            let mut next = Some(0);
            while let Some(from) = next {
                next = self.state.borrow_mut().sweep_from(from);
                if next.is_some() {
                    yield_now().await;
                }
            }
            let mut state = self.state.borrow_mut();
            let held = std::mem::take(&mut state.held);
            state.settle_memory(held);
            state.resume_readers();
            self.hub.inner.stats.publish(self.index as usize, &state.stats);
        }
    }
}

/// A task without which the server is alive but useless: should it panic, the process ends, so that
/// whoever supervises it starts it anew.
pub async fn vital(task: impl Future<Output = ()>) {
    struct EndProcess;
    impl Drop for EndProcess {
        fn drop(&mut self) {
            if std::thread::panicking() {
                std::process::abort();
            }
        }
    }
    let _guard = EndProcess;
    task.await;
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
            let has_rest = self.shard.state.borrow().has_rest(self.address);
            let readable = if has_rest { Ok(()) } else { ready!(self.socket.poll_read_ready(cx)) };
            let mut state = self.shard.state.borrow_mut();
            // Every source of work but the HTTP API is a client's message, so this bounds what can wait.
            if state.must_pause(self.address) {
                state.paused.push(cx.waker().clone());
                return Poll::Pending;
            }
            if !state.admit_reader(self.address, cx.waker()) {
                return Poll::Pending;
            }
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

    pub(super) fn is_same(&self, address: Address) -> bool {
        self.connections.get(address.slot as usize).is_some_and(|connection| connection.id == address.id)
    }

    fn read(&mut self, address: Address, socket: &TcpStream) -> ReadTurn {
        if !self.is_same(address) {
            return ReadTurn::Gone;
        }
        self.reading = Some(address.slot);
        let next = match self.rests.remove(&address.slot) {
            Some(rest) => {
                self.deliver_links(address.slot);
                let is_over = self.take_turn(address.slot, address.id, rest);
                self.after_turn(address, !is_over)
            }
            None => self.read_socket(address, socket),
        };
        self.reading = None;
        next
    }

    fn read_socket(&mut self, address: Address, socket: &TcpStream) -> ReadTurn {
        let mut scratch = std::mem::take(&mut self.scratch);
        // Lost only if a panic unwound through a read; no other connection shall suffer.
        scratch.resize(TURN_BYTES, 0);
        let received = receive(socket, &mut scratch);
        let next = match received {
            Received::Nothing => ReadTurn::Wait,
            Received::End => {
                self.remove(address.slot);
                ReadTurn::Gone
            }
            Received::Full(len) | Received::Last(len) => {
                self.deliver_links(address.slot);
                let left = self.feed(address.slot, address.id, &scratch[..len]);
                let is_over = left.is_none();
                if let Some(left) = left {
                    self.keep_rest(address.slot, Bytes::copy_from_slice(&scratch[len - left..len]));
                }
                self.flush(address.slot);
                self.after_turn(address, !is_over || matches!(received, Received::Full(_)))
            }
        };
        self.scratch = scratch;
        next
    }

    fn after_turn(&self, address: Address, has_more: bool) -> ReadTurn {
        match has_more {
            _ if !self.is_same(address) => ReadTurn::Gone,
            true => ReadTurn::Again,
            false => ReadTurn::Wait,
        }
    }

    /// One turn of a connection with bytes that were read before; whether it needs no other one for them.
    fn take_turn(&mut self, slot: u32, id: SocketId, mut input: Bytes) -> bool {
        let left = self.feed(slot, id, &input);
        if let Some(left) = left {
            input.advance(input.len() - left);
            self.keep_rest(slot, input);
        }
        self.flush(slot);
        left.is_none()
    }

    fn keep_rest(&mut self, slot: u32, rest: Bytes) {
        if self.connections.contains(slot as usize) {
            self.rests.insert(slot, rest);
        }
    }

    fn has_rest(&self, address: Address) -> bool {
        !self.rests.is_empty() && self.rests.contains_key(&address.slot) && self.is_same(address)
    }

    /// Whether so much waits to be sent that a connection may not cause more. Those that sent much of late wait first:
    /// they may be the cause.
    fn must_pause(&self, address: Address) -> bool {
        if self.hub.is_calm(true) {
            return false;
        }
        let connection = self.connections.get(address.slot as usize);
        let Some(connection) = connection.filter(|connection| connection.id == address.id) else {
            return false;
        };
        let has_free_events = || connection.app.app().settings.client_event_rate.is_none();
        !self.hub.is_calm(connection.budgets.is_busy() || has_free_events())
    }

    /// Gives bytes from the client to the engine and acts on the messages they complete, up to [`TURN_MESSAGES`] or
    /// [`HEAVY_MESSAGES`].
    /// Answers `None` when that was all, else how many bytes are left for the connection's next turn.
    fn feed(&mut self, slot: u32, id: SocketId, mut input: &[u8]) -> Option<usize> {
        self.clock.tick();
        for done in 0..TURN_MESSAGES {
            let connection = self.connections.get_mut(slot as usize).filter(|it| it.id == id)?;
            if done >= HEAVY_MESSAGES && connection.is_heavy() {
                break;
            }
            connection.last_heard = self.clock.steps();
            if matches!(connection.phase, Phase::Pinged(_)) {
                connection.phase = Phase::Open;
            }
            if matches!(connection.phase, Phase::Deaf(_)) {
                return None;
            }
            let before = input.len();
            let mut io = EngineIo { input, output: &mut self.control };
            let message = connection.engine.read(&mut io);
            input = io.input;
            connection.unfinished.read(before - input.len());
            self.reply_control();
            if self.reply_bytes > MAX_REPLIES {
                self.flush(slot);
            }
            // A flush removes a connection whose socket is broken, and closes one whose reader is too slow.
            self.connections.get(slot as usize)?;
            if !self.pay_for_frames(slot, &message) {
                return None;
            }
            let is_open = self.connections.get(slot as usize)?.is_open();
            match message {
                Ok(Message::Text(text)) if is_open => {
                    self.stats.received += 1;
                    self.on_text(slot, text.as_str());
                }
                Ok(Message::Binary(_)) if is_open => {
                    self.close(slot, CloseCode::Unsupported, "Binary frames are not supported");
                }
                Ok(Message::Close(frame)) => self.client_closes(slot, frame.as_ref()),
                Ok(_) => {}
                Err(tungstenite::Error::Io(error)) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    return None;
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
                    self.end(slot);
                    return None;
                }
            }
        }
        Some(input.len())
    }

    /// Spends what a message costs besides what its text asks for; whether the connection could. A text of one frame
    /// costs nothing here, see [`ShardState::on_text`].
    fn pay_for_frames(&mut self, slot: u32, message: &Result<Message, tungstenite::Error>) -> bool {
        let connection = &mut self.connections[slot as usize];
        let cost = match message {
            Ok(Message::Text(text)) => {
                connection.unfinished.finish(text.len()) - u32::from(connection.is_open())
            }
            Ok(message) => connection.unfinished.finish(message.len()),
            Err(_) if connection.unfinished.is_endless(connection.app.app().max_client_message()) => u32::MAX,
            Err(_) => 0,
        };
        cost == 0 || self.spend(slot, Budget::Messages, cost)
    }

    /// Lets paused readers look again.
    pub(super) fn resume_readers(&mut self) {
        self.paused.drain(..).for_each(Waker::wake);
    }
}

impl Clock {
    /// Whole seconds.
    pub fn now(&self) -> u32 {
        self.steps / STEPS_A_SECOND
    }

    /// Whole steps of [`STEP`].
    pub fn steps(&self) -> u32 {
        self.steps
    }

    /// When a step begins.
    pub fn at(&self, step: u32) -> Instant {
        self.start + STEP * step
    }

    pub fn tick(&mut self) {
        let steps = self.start.elapsed().as_millis() / STEP.as_millis();
        self.steps = u32::try_from(steps).unwrap_or(u32::MAX);
    }
}
