//! Who connects, as far as its handshake says: for the log alone.

use super::{AppHub, Refusal};
use crate::logging::traffic;
use crate::protocol::id::SocketId;

/// A client at its handshake. All texts are cut.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Newcomer {
    /// Where it is, with the proxy it came through, if that is trusted.
    pub address: String,
    /// The page's origin.
    pub origin: Option<String>,
    /// Name and version of its library.
    pub client: Option<String>,
}

impl Newcomer {
    pub(super) fn connects(&self, app: &AppHub, socket: SocketId) {
        tracing::debug!(
            target: traffic::TARGET,
            app = app.id(),
            address = self.address,
            socket = %socket,
            client = self.client,
            origin = self.origin,
            "connect"
        );
    }

    /// Writes that it is turned away; `app`: its id, or the key that it named.
    pub fn is_refused(&self, app: Option<&str>, refusal: &Refusal) {
        tracing::debug!(
            target: traffic::TARGET,
            app,
            address = self.address,
            client = self.client,
            origin = self.origin,
            code = refusal.code.number(),
            why = &*traffic::sentence(&refusal.message),
            "connect refused"
        );
    }
}
