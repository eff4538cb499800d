//! Binding and accepting: each connection goes to the shard with the fewest.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::sync::mpsc::UnboundedSender;

use super::RunError;
use super::http::Http;
use crate::hub::ShardLoad;
use crate::logging::seldom::Seldom;

/// Connections that may wait to be accepted.
const LISTEN_BACKLOG: i32 = 4096;
/// Bytes that the kernel takes of what a client's connection can't carry yet. Without a bound it would take
/// megabytes from a client that does not read, and the backlog's limits would mean little.
const MAX_UNSENT: u32 = 128 * 1024;
/// Pause after a failed accept, for example when there are no descriptors left.
const FAILURE_PAUSE: Duration = Duration::from_millis(50);

/// A connection on its way to another shard.
pub type HandedOver = (std::net::TcpStream, SocketAddr, ShardLoad);

/// A listening socket.
pub fn bind(address: SocketAddr) -> Result<TcpListener, RunError> {
    let listen = || -> io::Result<TcpListener> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        // Accepted sockets inherit both options. Frames are joined before they are written; waiting for
        // more would only delay them.
        socket.set_tcp_nodelay(true)?;
        socket.set_tcp_notsent_lowat(MAX_UNSENT)?;
        socket.bind(&address.into())?;
        socket.listen(LISTEN_BACKLOG)?;
        Ok(socket.into())
    };
    listen().map_err(|source| RunError::Bind { address, source })
}

/// Accepts for all shards, on the first one.
pub async fn accept(http: Rc<Http>, listener: TcpListener, shards: Vec<UnboundedSender<HandedOver>>) {
    let listener = tokio::net::TcpListener::from_std(listener).expect("bug: the listener is not blocking");
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => match http.hub().assign_shard() {
                None => complain("too many connections, see server.max_connections"),
                Some(load) if load.shard() == 0 => http.serve(stream, peer, load),
                Some(load) => {
                    if let Ok(stream) = stream.into_std() {
                        // A shard only ends with the process.
                        let _ = shards[load.shard()].send((stream, peer, load));
                    }
                }
            },
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
