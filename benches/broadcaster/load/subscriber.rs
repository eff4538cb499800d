//! One WebSocket connection of the generator and what it has reached.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::ops::Range;

use rustix::io::Errno;
use socket2::{Domain, Socket, Type};

/// What a connection is to do once it is open.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    pub channel: String,
    /// Streams whose messages arrive on that channel.
    pub streams: Range<u32>,
    /// User id for a presence channel.
    pub member: Option<usize>,
    /// Subscribes only when told so.
    pub waits: bool,
    /// Its deliveries are checked, but nobody waits for them.
    pub is_spectator: bool,
    /// Size of `SO_RCVBUF` where not the system's default.
    pub receive_buffer: Option<usize>,
}

/// How far a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Connecting,
    Upgrading,
    /// Upgraded, no `pusher:connection_established` yet.
    Greeting,
    /// Established, not subscribed.
    Open,
    Subscribing,
    Subscribed,
    /// We have sent a close frame.
    Closing,
    /// Gone, with the code of the server's close frame if there was one.
    Closed(Option<u16>),
}

/// One connection.
pub struct Subscriber {
    pub stream: Option<TcpStream>,
    pub phase: Phase,
    pub plan: Plan,
    pub socket_id: String,
    /// The start of a frame that has not arrived whole.
    pub rest: Vec<u8>,
    /// Code of a close frame received while waiting for the end of the stream.
    pub close_code: Option<u16>,
}

impl Subscriber {
    /// Starts connecting.
    ///
    /// To a loopback address every connection has one of 64 source addresses, so that storms of tens of thousands
    /// find free ports beside those still in TIME_WAIT.
    pub fn connect(plan: Plan, address: SocketAddr, number: usize) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        if let Some(size) = plan.receive_buffer {
            socket.set_recv_buffer_size(size)?;
        }
        if address.ip().is_loopback() && address.is_ipv4() {
            let source = Ipv4Addr::new(127, 0, 0, 2 + (number % 64) as u8);
            socket.bind(&SocketAddr::from((source, 0)).into())?;
        }
        match socket.connect(&address.into()) {
            Err(error) if error.raw_os_error() != Some(Errno::INPROGRESS.raw_os_error()) => {
                return Err(error);
            }
            _ => socket.set_tcp_nodelay(true)?,
        }
        Ok(Self {
            stream: Some(socket.into()),
            phase: Phase::Connecting,
            plan,
            socket_id: String::new(),
            rest: Vec::new(),
            close_code: None,
        })
    }

    /// The `pusher:subscribe` event of the plan, `auth` included where the channel's kind needs it.
    pub fn subscribe_event(&self, credentials: &crate::wire::Credentials) -> String {
        let channel = &self.plan.channel;
        let member = self
            .plan
            .member
            .map(|user| format!(r#"{{"user_id":"{user}","user_info":{{"name":"User {user}"}}}}"#));
        let mut data = serde_json::json!({ "channel": channel });
        if channel.starts_with("private-") || channel.starts_with("presence-") {
            data["auth"] = credentials.channel_auth(&self.socket_id, channel, member.as_deref()).into();
        }
        if let Some(member) = member {
            data["channel_data"] = member.into();
        }
        serde_json::json!({ "event": "pusher:subscribe", "data": data }).to_string()
    }
}
