//! Binding and accepting: each connection goes to the shard with the fewest.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::time::Duration;

use listenfd::ListenFd;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::sync::mpsc::UnboundedSender;

use super::RunError;
use super::http::Http;
use crate::hub::{ShardLoad, Visit};
use crate::logging::seldom::Seldom;

/// Connections that may wait to be accepted.
const LISTEN_BACKLOG: i32 = 4096;
/// Bytes that the kernel takes of what a client's connection can't carry yet. Without a bound it would take
/// megabytes from a client that does not read, and the backlog's limits would mean little.
pub const MAX_UNSENT: u32 = 128 * 1024;
/// Pause after a failed accept, for example when there are no descriptors left.
const FAILURE_PAUSE: Duration = Duration::from_millis(50);

/// A connection on its way to another shard.
pub type HandedOver = (std::net::TcpStream, Visit, ShardLoad);

/// The socket of the public port.
pub struct PublicListener {
    pub socket: TcpListener,
    /// Whether the socket outlives this process: systemd passed it.
    is_inherited: bool,
}

impl PublicListener {
    /// The socket that systemd passed (`sd_listen_fds(3)`), or one that is bound to `address`.
    pub fn open(setting: &'static str, address: SocketAddr) -> Result<Self, RunError> {
        let failed = |error| RunError::Bind { setting, address, reason: explained(setting, address, &error) };
        // Anything else that is passed, such as a Unix socket, is an error.
        match ListenFd::from_env().take_tcp_listener(0).map_err(failed)? {
            None => Ok(Self { socket: bind(setting, address)?, is_inherited: false }),
            Some(socket) => {
                prepare(SockRef::from(&socket)).map_err(failed)?;
                Ok(Self { socket, is_inherited: true })
            }
        }
    }
}

/// Whether an address could be listened on; it is free again afterwards.
///
/// # Errors
/// The system's reason, and what to do.
pub fn try_bind(setting: &str, address: SocketAddr) -> Result<(), String> {
    listen(address).map(drop).map_err(|error| explained(setting, address, &error))
}

/// A listening socket.
pub(super) fn bind(setting: &'static str, address: SocketAddr) -> Result<TcpListener, RunError> {
    let explain = |error| RunError::Bind { setting, address, reason: explained(setting, address, &error) };
    listen(address).map_err(explain)
}

fn explained(setting: &str, address: SocketAddr, error: &io::Error) -> String {
    let variable = format!("SWITCHBOARD__{}", setting.replace('.', "__").to_ascii_uppercase());
    let other = |port: u16| {
        let other = SocketAddr::new(address.ip(), port);
        match setting {
            "server.bind" => format!("--bind {other}"),
            _ => format!("{variable}={other}"),
        }
    };
    match error.kind() {
        io::ErrorKind::AddrInUse => format!(
            "another program listens on port {} (perhaps a second switchboard): stop it, or choose another port, \
             as in {}",
            address.port(),
            other(address.port().checked_add(10).unwrap_or(6011))
        ),
        io::ErrorKind::PermissionDenied => format!(
            "{error}: ports below 1024 need the capability CAP_NET_BIND_SERVICE; choose a higher one, as in {}",
            other(6001)
        ),
        io::ErrorKind::AddrNotAvailable => {
            format!(
                "this machine has no such address: set {setting} to one that it has, or to 0.0.0.0 for all"
            )
        }
        _ => error.to_string(),
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    prepare(SockRef::from(&socket))?;
    socket.bind(&address.into())?;
    socket.listen(LISTEN_BACKLOG)?;
    Ok(socket.into())
}

/// Sets what accepted sockets inherit, and that accepting does not block.
fn prepare(socket: SockRef<'_>) -> io::Result<()> {
    socket.set_nonblocking(true)?;
    // Frames are joined before they are written; waiting for more would only delay them.
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_notsent_lowat(MAX_UNSENT)
}

/// Accepts for all shards, on the first one.
pub async fn accept(http: Rc<Http>, listener: PublicListener, shards: Vec<UnboundedSender<HandedOver>>) {
    let PublicListener { socket, is_inherited } = listener;
    let listener = tokio::net::TcpListener::from_std(socket).expect("bug: the listener is not blocking");
    // Clients that connect to a socket that outlives this process are left to the next one, which serves them, while
    // this one could only refuse them.
    while !(is_inherited && http.hub().is_draining()) {
        match listener.accept().await {
            Ok((stream, peer)) => {
                let Some(visit) = http.visit(peer) else {
                    complain(&format!("{} has too many open, see server.admission", peer.ip()));
                    continue;
                };
                match http.hub().assign_shard() {
                    None => complain("too many connections, see server.max_connections"),
                    Some(load) if load.shard() == 0 => http.serve(stream, visit, load),
                    Some(load) => {
                        if let Ok(stream) = stream.into_std() {
                            // A shard only ends with the process.
                            let _ = shards[load.shard()].send((stream, visit, load));
                        }
                    }
                }
            }
            Err(error) => {
                complain(&error.to_string());
                tokio::time::sleep(FAILURE_PAUSE).await;
            }
        }
    }
}

/// Strangers can bring it about as often as they like.
fn complain(reason: &str) {
    static SELDOM: Seldom = Seldom::new();
    if let Some(suppressed) = SELDOM.admit() {
        tracing::warn!(reason, suppressed, "the server can't accept a connection");
    }
}
