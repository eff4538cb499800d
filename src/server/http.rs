//! A shard's thread, and HTTP on its connections until they end or become WebSockets.

use std::cell::RefCell;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::{CONNECTION, HeaderName, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, Version};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::runtime::LocalOptions;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::task::spawn_local;
use tokio::time::Instant;

use super::accept::{HandedOver, PublicListener, accept};
use super::lobby::Lobby;
use super::refuse::refuse;
use super::seat::{Phase, Seat, SeatedStream};
use crate::api::{Answer, Api, TlsGuard, Upgrade};
use crate::config::ServerSettings;
use crate::hub::{Hub, Shard, ShardLoad, Visit, vital};
use crate::logging::seldom::Seldom;
use crate::readiness::Readiness;
use crate::routing::Router;

/// Longest request head, and what hyper buffers of a body at once.
const MAX_BUFFER: usize = 64 * 1024;

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
    lobby: Rc<Lobby>,
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
            let shard = Shard::new(self.hub.clone(), self.index);
            let http = Rc::new(Http {
                api: Api::new(self.hub.clone(), self.router, self.readiness, &self.server, self.tls),
                lobby: Rc::new(Lobby::new(shard.ledger())),
                shard,
                hub: self.hub,
                header_timeout: self.server.header_timeout,
                idle_timeout: self.server.idle_timeout,
                keep_alive: KeepAlive::new(self.server.idle_timeout),
                work: self.work,
            });
            if let Some((listener, shards)) = self.listener.take() {
                spawn_local(vital(accept(Rc::clone(&http), listener, shards)));
            }
            while let Some((stream, visit, load)) = self.handed_over.recv().await {
                match TcpStream::from_std(stream) {
                    Ok(stream) => http.serve(stream, visit, load),
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

    /// Counts a new socket; `None` if it is not to be served.
    pub fn visit(&self, peer: SocketAddr) -> Option<Visit> {
        self.hub.visit(peer.ip(), self.api.trusts(peer.ip()))
    }

    /// Serves a new connection.
    pub fn serve(self: &Rc<Self>, stream: TcpStream, visit: Visit, load: ShardLoad) {
        if self.hub.is_crowded() {
            self.lobby.make_room();
        }
        let http = Rc::clone(self);
        let seat = Rc::new(self.lobby.enter());
        spawn_local(async move {
            let upgraded = Box::pin(http.serve_requests(stream, &visit, &seat)).await;
            match upgraded {
                Some((Upgrade::Accept(admission, newcomer), stream, leftover)) => {
                    drop(seat);
                    http.shard.attach(admission, newcomer.as_deref(), load, stream, &leftover);
                }
                Some((Upgrade::Refuse(refusal), stream, leftover)) => {
                    seat.set(Phase::Refused);
                    let _refusal = http.work.refusals.begin();
                    tokio::select! {
                        () = refuse(stream, leftover, refusal) => {}
                        () = seat.must_leave() => {}
                    }
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
        visit: &Visit,
        seat: &Rc<Seat>,
    ) -> Option<(Upgrade, TcpStream, Vec<u8>)> {
        let upgrade = RefCell::new(None);
        let service = service_fn(|request: Request<Incoming>| {
            seat.set(Phase::Busy);
            if self.api.is_upload(&request) {
                seat.leave_out_body();
            }
            let is_kept = KeepAlive::is_wanted(&request);
            let answer = self.api.handle(request, visit);
            let request = self.work.requests.begin();
            let upgrade = &upgrade;
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
                Ok::<_, Infallible>(response.map(|body| seat.watch(body)))
            }
        });
        let io = TokioIo::new(SeatedStream::new(stream, Rc::clone(seat)));
        // Without `pipeline_flush`, which would keep the 101 back while the client's first frames wait.
        let connection = http1::Builder::new()
            .max_buf_size(MAX_BUFFER)
            .half_close(true)
            .serve_connection(io, service)
            .without_shutdown();
        let parts = tokio::select! {
            biased;
            parts = pin!(connection) => parts.ok()?,
            () = self.expired(seat) => return None,
            () = seat.must_leave() => return None,
        };
        let (stream, leftover) = (parts.io.into_inner().stream, parts.read_buf.to_vec());
        upgrade.into_inner().map(|upgrade| (upgrade, stream, leftover))
    }

    /// Resolves when a request's head takes too long, or the connection is idle for too long.
    async fn expired(&self, seat: &Seat) {
        loop {
            let deadline = match seat.phase() {
                Phase::Idle => seat.since() + self.idle_timeout + IDLE_GRACE,
                Phase::New => seat.since() + self.header_timeout.min(self.idle_timeout + IDLE_GRACE),
                Phase::Head => seat.since() + self.header_timeout,
                Phase::Busy | Phase::Refused => Instant::now() + self.header_timeout,
                Phase::Sending(least) => match seat.may_send_until(least) {
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
                () = seat.sends() => {}
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
