//! The seam between this node and others.

use bytes::Bytes;

use crate::protocol::channel::ChannelName;
use crate::protocol::frame::Frame;
use crate::protocol::id::SocketId;

/// A publication as it travels between nodes.
#[derive(Clone, Debug)]
pub struct RemotePublication {
    /// Where it goes.
    pub channel: ChannelName,
    /// The encoded event; its payload is the JSON text to forward.
    pub frame: Frame,
    /// The connection that must not get it.
    pub except: Option<SocketId>,
    /// The quoted `data` string, when the channel remembers its last event.
    pub remember: Option<Bytes>,
}

/// What the hub tells other nodes. Local fan-out never goes through it, so an outage of the link leaves
/// this node serving its own connections.
///
/// Delivery between nodes is at most once. Implementations never block; what comes from other nodes is
/// handed to [`super::Hub::publish_remote`], and a node ignores what it sent itself.
pub trait Uplink: Send + Sync + 'static {
    /// Forwards a publication of this node.
    fn publish(&self, app_id: &str, publication: &RemotePublication);
    /// This node gained its first, or lost its last, subscriber of a channel.
    fn interest(&self, app_id: &str, channel: &ChannelName, is_interested: bool);
}

/// No other nodes: the default.
#[derive(Debug)]
pub struct Alone;

impl Uplink for Alone {
    fn publish(&self, _: &str, _: &RemotePublication) {}
    fn interest(&self, _: &str, _: &ChannelName, _: bool) {}
}
