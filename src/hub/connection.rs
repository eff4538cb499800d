//! One WebSocket: its socket, its protocol engine, its backlog, what it is subscribed to.
//!
//! A connection is owned by its shard and touched only by that thread. All bytes leave through
//! [`Connection::write`], so that pongs, close frames and publications never interleave inside a frame.

use std::io::{self, IoSlice, Read, Write};
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use socket2::SockRef;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig, WebSocketContext};

use super::backlog::{Backlog, Drained};
use super::budget::{Budgets, Unfinished};
use super::gate::Held;
use super::observer::{ConnectionEnd, Observation};
use super::shard::Clock;
use super::{Admission, AppHub};
use crate::apps::TokenBucket;
use crate::logging::traffic;
use crate::protocol::auth::Authorization;
use crate::protocol::id::{SocketId, UserId};
use crate::protocol::presence::UserData;

/// Marks the end of a list of [`super::fan_out::Link`]s.
pub(super) const NO_LINK: u32 = u32::MAX;

/// The engine's read buffer. It is allocated at once and kept, so it is most of what an idle connection
/// costs; longer messages grow it for as long as they take.
const ENGINE_BUFFER: usize = 256;

/// Where a connection lives, from anywhere in the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Address {
    pub shard: u32,
    pub slot: u32,
    /// Tells whether the slot was given to another connection since.
    pub id: SocketId,
}

pub(super) struct Connection {
    pub socket: Rc<TcpStream>,
    pub engine: WebSocketContext,
    pub app: Admission,
    pub id: SocketId,
    pub subscriptions: Vec<Subscription>,
    /// Subscriptions that are not decided yet.
    pub held: Vec<Held>,
    pub user: Option<Box<UserData>>,
    pub backlog: Option<Box<Backlog>>,
    pub event_bucket: Option<Box<TokenBucket>>,
    pub phase: Phase,
    /// Shard time (steps) of the last frame of any kind that came in.
    pub last_heard: u32,
    pub opened: u32,
    /// When observers were told of it; `None`: not yet, or told of its end, too.
    pub told: Option<Instant>,
    /// Whether it signed in or subscribed to a channel that needs a signature, and by which secret.
    pub authorization: Authorization,
    pub budgets: Budgets,
    pub unfinished: Unfinished,
    /// First and last of the publications that the current turn has for this connection.
    pub links: (u32, u32),
}

/// Where a connection is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Open,
    /// As `Open`, with a control ping unanswered that was sent at this shard time (steps).
    Pinged(u32),
    /// We sent a Close frame at this shard time (seconds) and wait for the client's.
    Closing(u32),
    /// As `Closing`, but what still comes in can't be read as frames any more.
    Deaf(u32),
}

/// Who began the end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ClosedBy {
    /// A Close frame of ours.
    Server,
    /// A Close frame of the client.
    Client,
    /// Neither sent one: the TCP connection ended or broke.
    Network,
}

impl ClosedBy {
    fn word(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Client => "client",
            Self::Network => "network",
        }
    }
}

/// One channel of one connection.
pub(super) struct Subscription {
    /// Where the shard keeps the channel.
    pub local: u32,
    /// The connection's place in the channel's list.
    pub position: u32,
    /// Who it is on a presence channel.
    pub member: Option<UserId>,
}

/// What became of bytes handed to a connection.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Written {
    /// The socket took all.
    All,
    /// The rest waits, and nothing waited before: somebody has to drain it.
    BacklogBegun,
    /// The rest waits behind what waited before.
    Queued,
    /// More waits than is allowed.
    OverLimit,
    /// The socket is broken.
    Broken,
}

/// Frames for one connection, in order.
pub(super) trait Pieces {
    fn len(&self) -> usize;
    fn get(&self, index: usize) -> &Bytes;
    /// What a frame tells the state of, if it may replace an earlier one that waits.
    fn state_of(&self, _: usize) -> Option<u64> {
        None
    }
}

impl Pieces for [Bytes] {
    fn len(&self) -> usize {
        <[Bytes]>::len(self)
    }
    fn get(&self, index: usize) -> &Bytes {
        &self[index]
    }
}

impl Connection {
    pub fn new(app: Admission, socket: Rc<TcpStream>, clock: &Clock) -> Self {
        let engine = new_engine(&app);
        Self {
            socket,
            engine,
            app,
            id: SocketId::random(),
            subscriptions: Vec::new(),
            held: Vec::new(),
            user: None,
            backlog: None,
            event_bucket: None,
            phase: Phase::Open,
            last_heard: clock.steps(),
            opened: clock.now(),
            told: None,
            authorization: Authorization::default(),
            budgets: Budgets::new(clock.steps()),
            unfinished: Unfinished::default(),
            links: (NO_LINK, NO_LINK),
        }
    }

    /// Bytes that it makes the process keep: unfinished messages and what waits for it to read.
    pub fn held(&self) -> usize {
        self.unfinished.bytes() + self.backlog.as_ref().map_or(0, |backlog| backlog.bytes())
    }

    /// Forgets what came of an unfinished message, after which nothing more can be read.
    pub fn forget_unfinished(&mut self) {
        self.engine = new_engine(&self.app);
        self.unfinished = Unfinished::default();
    }

    /// Sends frames in one write, or queues what the socket does not take. `joined` is their
    /// concatenation, when there are several.
    pub fn write<P: Pieces + ?Sized>(
        &mut self,
        pieces: &P,
        joined: &[u8],
        limit: usize,
        now: u32,
    ) -> Written {
        if let Some(backlog) = &mut self.backlog {
            for index in 0..pieces.len() {
                backlog.push_state(pieces.get(index).clone(), pieces.state_of(index), now);
            }
            return if backlog.bytes() > limit { Written::OverLimit } else { Written::Queued };
        }
        let mut sent = 0;
        while sent < joined.len() {
            match self.socket.try_write(&joined[sent..]) {
                Ok(0) => return Written::Broken,
                Ok(written) => sent += written,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return self.begin_backlog(pieces, sent, limit, now);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Written::Broken,
            }
        }
        Written::All
    }

    /// Queues what follows the first `sent` bytes, as slices of the frames themselves.
    fn begin_backlog<P: Pieces + ?Sized>(
        &mut self,
        pieces: &P,
        sent: usize,
        limit: usize,
        now: u32,
    ) -> Written {
        let mut backlog = Box::new(Backlog::default());
        let mut skip = sent;
        for index in 0..pieces.len() {
            let piece = pieces.get(index);
            if skip >= piece.len() {
                skip -= piece.len();
            } else if skip > 0 {
                backlog.push(piece.slice(skip..), true, now);
                skip = 0;
            } else {
                backlog.push_state(piece.clone(), pieces.state_of(index), now);
            }
        }
        let is_over = backlog.bytes() > limit;
        self.backlog = Some(backlog);
        if is_over { Written::OverLimit } else { Written::BacklogBegun }
    }

    /// Writes what waits, as far as the socket takes it.
    pub fn drain_backlog(&mut self) -> io::Result<Drained> {
        let Some(backlog) = &mut self.backlog else { return Ok(Drained::Empty) };
        let socket = &self.socket;
        let drained = backlog.drain(|slices| socket.try_write_vectored(slices))?;
        if drained == Drained::Empty {
            self.backlog = None;
        }
        Ok(drained)
    }

    /// Whether it makes the shard work so much of late that its turns come one at a time, see [`super::lane`].
    pub fn is_heavy(&self) -> bool {
        self.budgets.is_busy() || self.unfinished.is_long() || matches!(self.phase, Phase::Deaf(_))
    }

    pub fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Open | Phase::Pinged(_))
    }

    /// Tells observers that it is established.
    pub fn tell_opened(&mut self) {
        self.told = Some(Instant::now());
        self.app.tell(&Observation::ConnectionOpened(self.id));
    }

    /// Tells observers how it ended, for the first of the ways in which it does.
    pub fn tell_closed(&mut self, by: ClosedBy, code: u16, reason: &str) {
        let Some(opened) = self.told.take() else { return };
        tracing::debug!(
            target: traffic::TARGET,
            app = self.app.id(),
            socket = %self.id,
            code,
            reason = &*traffic::sentence(reason),
            by = by.word(),
            after = ?Duration::from_millis(opened.elapsed().as_millis() as u64),
            "disconnect"
        );
        self.app.tell(&Observation::ConnectionClosed(ConnectionEnd {
            socket_id: self.id,
            user_id: self.user.as_deref().map(|user| &user.id),
            lasted: opened.elapsed(),
            code,
            reason,
        }));
    }
}

fn new_engine(app: &AppHub) -> WebSocketContext {
    let limit = app.app().max_client_message();
    let config = WebSocketConfig::default()
        .read_buffer_size(ENGINE_BUFFER)
        .write_buffer_size(0)
        .max_write_buffer_size(64 * 1024)
        .max_message_size(Some(limit))
        .max_frame_size(Some(limit));
    WebSocketContext::new(Role::Server, Some(config))
}

/// The socket as the engine sees it during one call: bytes already read, and a place for the control
/// frames that it wants to send.
pub(super) struct EngineIo<'i, 'o> {
    pub input: &'i [u8],
    pub output: &'o mut Vec<u8>,
}

impl Read for EngineIo<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.input.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.input.read(buffer)
    }
}

impl Write for EngineIo<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.output.write(bytes)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.output.write_vectored(slices)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What reading a socket once brought.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Received {
    /// This many bytes, and there may be more.
    Full(usize),
    /// This many bytes, and the socket is empty now.
    Last(usize),
    /// Nothing for now.
    Nothing,
    /// The client is gone.
    End,
}

/// Reads what fits. A short read tells the runtime that the socket is empty, which spares the system
/// call that would find it so.
pub(super) fn receive(socket: &TcpStream, buffer: &mut [u8]) -> Received {
    let mut received = None;
    let result = socket.try_io(tokio::io::Interest::READABLE, || {
        let read = (&*SockRef::from(socket)).read(buffer)?;
        received = Some(read);
        if 0 < read && read < buffer.len() { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
    });
    match (received, result) {
        (Some(0), _) => Received::End,
        (Some(read), Ok(())) => Received::Full(read),
        (Some(read), Err(_)) => Received::Last(read),
        (None, Err(error)) if error.kind() == io::ErrorKind::WouldBlock => Received::Nothing,
        (None, _) => Received::End,
    }
}
