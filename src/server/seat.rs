//! A connection's place in the [`Lobby`](super::lobby::Lobby): where its request is, since when, and how fast the client
//! takes a file.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::accept::MAX_UNSENT;
use super::lobby::Lobby;
use crate::api::ResponseBody;
use crate::apps::LeastRate;
use crate::hub::Holding;

/// As [`MAX_UNSENT`], of a file.
const MAX_UNSENT_OF_FILE: u32 = 16 * 1024;

/// A connection's place among those that are served; given back when dropped.
pub struct Seat {
    pub(super) lobby: Rc<Lobby>,
    pub(super) number: u64,
    pub(super) clock: Rc<Clock>,
    /// Bytes of the request: its head, and its body until it is answered.
    pub(super) request: Holding,
    /// Whether the request's bytes are counted elsewhere.
    is_upload: Cell<bool>,
}

/// Where an HTTP connection is, and since when.
pub(super) struct Clock {
    pub phase: Cell<Phase>,
    pub since: Cell<Instant>,
    pub must_leave: Rc<Notify>,
    /// Bytes that the client's connection took since then.
    taken: Cell<u64>,
    /// Whether there is nothing to send now, or was none at some time since then: no fault of the client's.
    is_starved: Cell<bool>,
    was_starved: Cell<bool>,
    /// A file begins to be sent, whose time is looked at from now on.
    sends: Notify,
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
    /// A file is being sent, at this rate at least.
    Sending(LeastRate),
    /// It is told why it can't stay.
    Refused,
}

impl Clock {
    pub(super) fn new() -> Self {
        Self {
            phase: Cell::new(Phase::New),
            since: Cell::new(Instant::now()),
            must_leave: Rc::default(),
            taken: Cell::new(0),
            is_starved: Cell::new(false),
            was_starved: Cell::new(false),
            sends: Notify::new(),
        }
    }

    fn begin_window(&self) {
        self.since.set(Instant::now());
        self.taken.set(0);
        self.was_starved.set(self.is_starved.get());
    }
}

impl Seat {
    pub(super) fn new(lobby: Rc<Lobby>, number: u64, clock: Rc<Clock>, request: Holding) -> Self {
        Self { lobby, number, clock, request, is_upload: Cell::new(false) }
    }

    /// Notes where the connection is now.
    pub fn set(&self, phase: Phase) {
        self.clock.phase.set(phase);
        self.clock.begin_window();
        if matches!(phase, Phase::Idle | Phase::Sending(_) | Phase::Refused) {
            self.request.clear();
            self.is_upload.set(false);
        }
    }

    /// Leaves out what comes of the body of the request that is being answered: it is an upload, which is counted where
    /// it goes.
    pub fn leave_out_body(&self) {
        self.request.clear();
        self.is_upload.set(true);
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

    /// Resolves when a file begins to be sent.
    pub async fn sends(&self) {
        self.clock.sends.notified().await;
    }

    /// When the present window of a transfer ends; `None`: too little was taken in the last one.
    pub fn may_send_until(&self, least: LeastRate) -> Option<Instant> {
        let clock = &self.clock;
        if clock.since.get() + least.window() <= Instant::now() {
            if !clock.was_starved.get() && !least.is_met_by(clock.taken.get()) {
                return None;
            }
            clock.begin_window();
        }
        Some(clock.since.get() + least.window())
    }

    /// The answer's body, which is sent from now on.
    pub fn watch(self: &Rc<Self>, body: ResponseBody) -> Watched {
        self.clock.is_starved.set(false);
        self.set(body.least_rate().map_or(Phase::Idle, Phase::Sending));
        if body.least_rate().is_some() {
            self.clock.sends.notify_one();
        }
        Watched { body, seat: Rc::clone(self) }
    }

    /// Notes bytes that came.
    pub(super) fn received(&self, bytes: usize) {
        if matches!(self.phase(), Phase::New | Phase::Idle) {
            self.set(Phase::Head);
        }
        if !self.is_upload.get() {
            self.request.add(bytes);
        }
    }
}

/// A body, whose end is the end of its request.
pub struct Watched {
    body: ResponseBody,
    seat: Rc<Seat>,
}

impl Body for Watched {
    type Data = Bytes;
    type Error = <ResponseBody as Body>::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        let clock = &self.seat.clock;
        clock.is_starved.set(frame.is_pending());
        if frame.is_pending() {
            clock.was_starved.set(true);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if matches!(self.seat.phase(), Phase::Sending(_)) {
            self.seat.set(Phase::Idle);
        }
    }
}

/// A socket that notices when a request begins, and how fast a file leaves.
pub struct SeatedStream {
    pub stream: TcpStream,
    seat: Rc<Seat>,
    /// Whether the socket takes only little that it can't send.
    is_bound: Cell<bool>,
}

impl SeatedStream {
    /// The socket of the connection that has this seat.
    pub fn new(stream: TcpStream, seat: Rc<Seat>) -> Self {
        Self { stream, seat, is_bound: Cell::new(false) }
    }

    /// While a file is sent, the kernel takes little of it beforehand, and in small steps: what it takes shows how fast
    /// the client is.
    fn bound_unsent(&self) {
        let is_sending = matches!(self.seat.phase(), Phase::Sending(_));
        if self.is_bound.replace(is_sending) != is_sending {
            let bytes = if is_sending { MAX_UNSENT_OF_FILE } else { MAX_UNSENT };
            // Without it, slow clients are only seen in larger steps.
            let _ = SockRef::from(&self.stream).set_tcp_notsent_lowat(bytes);
        }
    }

    /// Counts what the connection took.
    fn counted(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(bytes)) = &written {
            let taken = &self.seat.clock.taken;
            taken.set(taken.get() + *bytes as u64);
        }
        written
    }
}

impl AsyncRead for SeatedStream {
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

impl AsyncWrite for SeatedStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.bound_unsent();
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.counted(written)
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
        self.bound_unsent();
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.counted(written)
    }
}
