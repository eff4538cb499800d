//! A shard's thread, and HTTP on its connections until they end or become WebSockets.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::header::{CONNECTION, HeaderName, HeaderValue};
use hyper::rt::ReadBufCursor;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, Version};
use hyper_util::rt::TokioIo;
use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::runtime::LocalOptions;
use tokio::sync::Notify;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::task::spawn_local;
use tokio::time::Instant;

use super::accept::{HandedOver, MAX_UNSENT, PublicListener, accept};
use super::refuse::refuse;
use crate::api::{Answer, Api, ResponseBody, TlsGuard, Upgrade};
use crate::apps::LeastRate;
use crate::config::ServerSettings;
use crate::hub::{Hub, Shard, ShardLoad, vital};
use crate::logging::seldom::Seldom;
use crate::readiness::Readiness;
use crate::routing::Router;

/// Longest request head, and what hyper buffers of a body at once.
const MAX_BUFFER: usize = 64 * 1024;

/// As [`MAX_UNSENT`], of a file.
const MAX_UNSENT_OF_FILE: u32 = 16 * 1024;

/// Time that an idle connection is kept beyond the one it was told: a request that is sent at the last moment, or by a
/// client that reads no `Keep-Alive`, is on its way meanwhile, and gets its answer.
const IDLE_GRACE: Duration = Duration::from_secs(5);

/// What a shard's thread is started with.
pub struct ShardThread {
    pub hub: Hub,
    pub router: Option<Router>,
    pub readiness: Readiness,
    pub index: usize,
    pub server: ServerSettings,
    pub tls: TlsGuard,
    pub handed_over: UnboundedReceiver<HandedOver>,
    pub work: Work,
    /// The first shard accepts, and hands connections to the others.
    pub listener: Option<(PublicListener, Vec<UnboundedSender<HandedOver>>)>,
}

/// HTTP service of one shard.
pub struct Http {
    hub: Hub,
    api: Api,
    shard: Rc<Shard>,
    header_timeout: Duration,
    idle_timeout: Duration,
    keep_alive: KeepAlive,
    work: Work,
}

/// What tells a client how long an idle connection is kept.
struct KeepAlive(HeaderValue);

/// What of the process's work on connections is not done yet, apart from WebSockets.
#[derive(Clone, Default)]
pub struct Work {
    /// Requests that are being answered.
    pub requests: Tasks,
    /// Clients that are being turned away.
    pub refusals: Tasks,
}

/// A number of things under way.
#[derive(Clone, Default)]
pub struct Tasks(Arc<AtomicUsize>);

/// One of them.
struct Task<'a>(&'a Tasks);

impl ShardThread {
    /// Runs the shard; returns only if the process ends.
    pub fn run(mut self) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build_local(LocalOptions::default())
            .expect("bug: the system gave a thread but no event queue");
        runtime.block_on(async {
            let http = Rc::new(Http {
                api: Api::new(self.hub.clone(), self.router, self.readiness, &self.server, self.tls),
                shard: Shard::new(self.hub.clone(), self.index),
                hub: self.hub,
                header_timeout: self.server.header_timeout,
                idle_timeout: self.server.idle_timeout,
                keep_alive: KeepAlive::new(self.server.idle_timeout),
                work: self.work,
            });
            if let Some((listener, shards)) = self.listener.take() {
                spawn_local(vital(accept(Rc::clone(&http), listener, shards)));
            }
            while let Some((stream, peer, load)) = self.handed_over.recv().await {
                match TcpStream::from_std(stream) {
                    Ok(stream) => http.serve(stream, peer, load),
                    Err(error) => {
                        static SELDOM: Seldom = Seldom::new();
                        if let Some(suppressed) = SELDOM.admit() {
                            tracing::warn!(%error, suppressed, "a shard can't take over a connection");
                        }
                    }
                }
            }
            std::future::pending::<()>().await;
        });
    }
}

impl Http {
    pub fn hub(&self) -> &Hub {
        &self.hub
    }

    /// Serves a new connection.
    pub fn serve(self: &Rc<Self>, stream: TcpStream, peer: SocketAddr, load: ShardLoad) {
        let http = Rc::clone(self);
        spawn_local(async move {
            let upgraded = Box::pin(http.serve_requests(stream, peer)).await;
            match upgraded {
                Some((Upgrade::Accept(admission, newcomer), stream, leftover)) => {
                    http.shard.attach(admission, newcomer.as_deref(), load, stream, &leftover);
                }
                Some((Upgrade::Refuse(refusal), stream, leftover)) => {
                    let _refusal = http.work.refusals.begin();
                    refuse(stream, leftover, refusal).await;
                }
                None => {}
            }
        });
    }

    /// Answers requests until the connection ends (`None`) or becomes a WebSocket. What the client sent
    /// behind its handshake is copied, so that hyper's buffer goes.
    async fn serve_requests(
        &self,
        stream: TcpStream,
        peer: SocketAddr,
    ) -> Option<(Upgrade, TcpStream, Vec<u8>)> {
        let clock = Rc::new(Clock::new());
        let upgrade = RefCell::new(None);
        let service = service_fn(|request: Request<Incoming>| {
            clock.set(Phase::Busy);
            let is_kept = KeepAlive::is_wanted(&request);
            let answer = self.api.handle(request, peer.ip());
            let request = self.work.requests.begin();
            let (clock, upgrade) = (Rc::clone(&clock), &upgrade);
            async move {
                let _request = request;
                let response = match answer.await {
                    Answer::Response(mut response) => {
                        if is_kept {
                            self.keep_alive.tell(&mut response);
                        }
                        response
                    }
                    Answer::Upgrade(response, kind) => {
                        upgrade.replace(Some(kind));
                        response
                    }
                };
                Ok::<_, Infallible>(response.map(|body| clock.watch(body)))
            }
        });
        let io = TimedIo::new(stream, Rc::clone(&clock));
        // Without `pipeline_flush`, which would keep the 101 back while the client's first frames wait.
        let connection = http1::Builder::new()
            .max_buf_size(MAX_BUFFER)
            .half_close(true)
            .serve_connection(io, service)
            .without_shutdown();
        let parts = tokio::select! {
            biased;
            parts = pin!(connection) => parts.ok()?,
            () = self.expired(&clock) => return None,
        };
        let (stream, leftover) = (parts.io.io.into_inner(), parts.read_buf.to_vec());

        upgrade.into_inner().map(|upgrade| (upgrade, stream, leftover))
    }

    /// Resolves when a request's head takes too long, or the connection is idle for too long.
    async fn expired(&self, clock: &Clock) {
        loop {
            let deadline = match clock.phase.get() {
                Phase::Idle => clock.since.get() + self.idle_timeout + IDLE_GRACE,
                Phase::New => clock.since.get() + self.header_timeout.min(self.idle_timeout + IDLE_GRACE),
                Phase::Head => clock.since.get() + self.header_timeout,
                Phase::Busy => Instant::now() + self.header_timeout,
                Phase::Sending(least) => match clock.may_send_until(least) {
                    Some(deadline) => deadline,
                    None => return,
                },
            };
            if deadline <= Instant::now() {
                return;
            }
            // A head may begin meanwhile, whose time is shorter.
            let check = Instant::now() + self.header_timeout.min(self.idle_timeout);
            tokio::select! {
                () = tokio::time::sleep_until(deadline.min(check)) => {}
                () = clock.sends.notified() => {}
            }
        }
    }
}

impl KeepAlive {
    /// Whole seconds, at least one; clients read no fractions.
    fn new(idle_timeout: Duration) -> Self {
        Self(
            HeaderValue::try_from(format!("timeout={}", idle_timeout.as_secs().max(1))).expect("bug: digits"),
        )
    }

    /// Whether the connection outlives the answer as far as the client is concerned.
    fn is_wanted<B>(request: &Request<B>) -> bool {
        let options = request.headers().get_all(CONNECTION);
        let says_close = options
            .iter()
            .filter_map(|value| value.to_str().ok())
            .any(|value| value.split(',').any(|option| option.trim().eq_ignore_ascii_case("close")));
        request.version() == Version::HTTP_11 && !says_close
    }

    /// Both headers: what proxies must not pass on is named in `Connection`.
    fn tell<B>(&self, response: &mut Response<B>) {
        let headers = response.headers_mut();
        if !headers.contains_key(CONNECTION) {
            headers.insert(CONNECTION, HeaderValue::from_static("keep-alive"));
            headers.insert(HeaderName::from_static("keep-alive"), self.0.clone());
        }
    }
}

impl Tasks {
    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    fn begin(&self) -> Task<'_> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Task(self)
    }
}

impl Drop for Task<'_> {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Where an HTTP connection is, and since when.
struct Clock {
    phase: Cell<Phase>,
    since: Cell<Instant>,
    /// Bytes that the client's connection took since then.
    taken: Cell<u64>,
    /// Whether there is nothing to send now, or was none at some time since then: no fault of the client's.
    is_starved: Cell<bool>,
    was_starved: Cell<bool>,
    /// A file begins to be sent, whose time is looked at from now on.
    sends: Notify,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
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
}

impl Clock {
    fn new() -> Self {
        Self {
            phase: Cell::new(Phase::New),
            since: Cell::new(Instant::now()),
            taken: Cell::new(0),
            is_starved: Cell::new(false),
            was_starved: Cell::new(false),
            sends: Notify::new(),
        }
    }

    fn set(&self, phase: Phase) {
        self.phase.set(phase);
        self.begin_window();
    }

    fn begin_window(&self) {
        self.since.set(Instant::now());
        self.taken.set(0);
        self.was_starved.set(self.is_starved.get());
    }

    /// When the present window of a transfer ends; `None`: too little was taken in the last one.
    fn may_send_until(&self, least: LeastRate) -> Option<Instant> {
        if self.since.get() + least.window() <= Instant::now() {
            if !self.was_starved.get() && !least.is_met_by(self.taken.get()) {
                return None;
            }
            self.begin_window();
        }
        Some(self.since.get() + least.window())
    }

    /// The answer's body, which is sent from now on.
    fn watch(self: &Rc<Self>, body: ResponseBody) -> Watched {
        self.is_starved.set(false);
        self.set(body.least_rate().map_or(Phase::Idle, Phase::Sending));
        if body.least_rate().is_some() {
            self.sends.notify_one();
        }
        Watched { body, clock: Rc::clone(self) }
    }
}

/// A body, whose end is the end of its request.
struct Watched {
    body: ResponseBody,
    clock: Rc<Clock>,
}

impl Body for Watched {
    type Data = Bytes;
    type Error = <ResponseBody as Body>::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        self.clock.is_starved.set(frame.is_pending());
        if frame.is_pending() {
            self.clock.was_starved.set(true);
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
        if matches!(self.clock.phase.get(), Phase::Sending(_)) {
            self.clock.set(Phase::Idle);
        }
    }
}

/// A stream that notices when a request begins.
struct TimedIo {
    io: TokioIo<TcpStream>,
    clock: Rc<Clock>,
    /// Whether the socket takes only little that it can't send.
    is_bound: Cell<bool>,
}

impl TimedIo {
    fn new(stream: TcpStream, clock: Rc<Clock>) -> Self {
        Self { io: TokioIo::new(stream), clock, is_bound: Cell::new(false) }
    }

    /// While a file is sent, the kernel takes little of it beforehand, and in small steps: what it takes shows how fast
    /// the client is.
    fn bound_unsent(&self) {
        let is_sending = matches!(self.clock.phase.get(), Phase::Sending(_));
        if self.is_bound.replace(is_sending) != is_sending {
            let bytes = if is_sending { MAX_UNSENT_OF_FILE } else { MAX_UNSENT };
            // Without it, slow clients are only seen in larger steps.
            let _ = SockRef::from(self.io.inner()).set_tcp_notsent_lowat(bytes);
        }
    }

    /// Counts what the connection took.
    fn counted(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(bytes)) = &written {
            self.clock.taken.set(self.clock.taken.get() + *bytes as u64);
        }
        written
    }
}

impl hyper::rt::Read for TimedIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.io).poll_read(cx, buffer);
        if read.is_ready() && matches!(self.clock.phase.get(), Phase::New | Phase::Idle) {
            self.clock.set(Phase::Head);
        }
        read
    }
}

impl hyper::rt::Write for TimedIo {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.bound_unsent();
        let written = Pin::new(&mut self.io).poll_write(cx, bytes);
        self.counted(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.bound_unsent();
        let written = Pin::new(&mut self.io).poll_write_vectored(cx, slices);
        self.counted(written)
    }
}
