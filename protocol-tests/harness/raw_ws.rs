//! WebSocket frames byte by byte (RFC 6455), for what a proper client would never send or do:
//! broken frames, unanswered pings, a socket that nobody reads.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use super::sign::App;
use super::ws::Event;
use super::{DEADLINE, within};

pub const CONTINUATION: u8 = 0x0;
pub const TEXT: u8 = 0x1;
pub const BINARY: u8 = 0x2;
pub const CLOSE: u8 = 0x8;
pub const PING: u8 = 0x9;
pub const PONG: u8 = 0xA;

/// A frame as received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawFrame {
    pub opcode: u8,
    pub payload: Vec<u8>,
}

impl RawFrame {
    /// The code of a Close frame.
    pub fn close_code(&self) -> Option<u16> {
        let code = (self.opcode == CLOSE).then(|| self.payload.get(..2)).flatten()?;
        Some(u16::from_be_bytes([code[0], code[1]]))
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.payload).expect("UTF-8")
    }
}

#[derive(Debug)]
pub struct RawWs {
    stream: TcpStream,
    unread: Vec<u8>,
}

impl RawWs {
    /// Upgrades and leaves `connection_established` to be read.
    pub async fn connect(addr: SocketAddr, app: &App) -> Self {
        let stream = TcpStream::connect(addr).await.expect("the server accepts");
        Self::upgrade(stream, app).await
    }

    /// As [`Self::connect`], with a receive buffer of about `bytes`.
    pub async fn connect_with_small_buffer(addr: SocketAddr, app: &App, bytes: u32) -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(bytes).expect("SO_RCVBUF");
        Self::upgrade(socket.connect(addr).await.expect("the server accepts"), app).await
    }

    /// Sends these bytes, which must begin with a good request for an upgrade.
    pub async fn open(addr: SocketAddr, request: impl AsRef<[u8]>) -> Self {
        let stream = TcpStream::connect(addr).await.expect("the server accepts");
        Self::request(stream, request.as_ref()).await
    }

    async fn upgrade(stream: TcpStream, app: &App) -> Self {
        Self::request(stream, upgrade_request(&app.key).as_bytes()).await
    }

    async fn request(mut stream: TcpStream, request: &[u8]) -> Self {
        stream.set_nodelay(true).expect("TCP_NODELAY");
        stream.write_all(request).await.expect("the server reads");
        let mut client = Self { stream, unread: Vec::new() };
        let head = client.until_blank_line().await;
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        client
    }

    /// Reads `connection_established`, which must be next, and returns the socket id.
    pub async fn established(&mut self) -> String {
        let event = Event::read(&self.expect_text().await);
        assert_eq!(event.event, "pusher:connection_established");
        event.json()["socket_id"].as_str().expect("socket_id is a string").to_owned()
    }

    async fn until_blank_line(&mut self) -> String {
        loop {
            if let Some(end) = self.unread.windows(4).position(|w| w == b"\r\n\r\n") {
                let head = self.unread.drain(..end + 4).collect();
                return String::from_utf8(head).expect("heads are UTF-8");
            }
            assert!(within(DEADLINE, "an upgrade", self.fill()).await, "closed before the upgrade");
        }
    }

    async fn fill(&mut self) -> bool {
        let mut chunk = vec![0; 64 * 1024];
        match self.stream.read(&mut chunk).await {
            Ok(0) | Err(_) => false,
            Ok(count) => {
                self.unread.extend_from_slice(&chunk[..count]);
                true
            }
        }
    }

    pub async fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.expect("the server reads");
    }

    pub async fn try_write(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).await.is_ok()
    }

    /// Ends our direction, if the server has not ended both.
    pub async fn finish_writing(&mut self) {
        let _ = self.stream.shutdown().await;
    }

    pub async fn write_text(&mut self, text: &str) {
        self.write(&frame(TEXT, true, text.as_bytes())).await;
    }

    /// The next frame, or `None` when the server closes TCP.
    pub async fn next(&mut self, limit: Duration) -> Option<RawFrame> {
        within(limit, "a frame or the end", self.read_frame()).await
    }

    /// The next text frame; anything else fails.
    pub async fn expect_text(&mut self) -> String {
        let frame = self.next(DEADLINE).await.expect("an open connection");
        assert_eq!(frame.opcode, TEXT, "{frame:?}");
        frame.text().to_owned()
    }

    /// The next frame, which must be exactly this one.
    pub async fn expect_frame(&mut self, opcode: u8, payload: &[u8]) {
        let frame = self.next(DEADLINE).await.expect("an open connection");
        assert_eq!(frame, RawFrame { opcode, payload: payload.to_vec() });
    }

    /// The next frame, which must be a Close with this code, and then the end of TCP.
    pub async fn expect_close(&mut self, code: u16) {
        let frame = self.next(DEADLINE).await.expect("a Close before the end");
        assert_eq!(frame.close_code(), Some(code), "{frame:?}");
        assert_eq!(self.next(DEADLINE).await, None, "nothing follows a Close");
    }

    /// Skips text frames until the Close, answers nothing, and returns its code.
    pub async fn wait_for_close(&mut self, limit: Duration) -> u16 {
        within(limit, "a Close frame", async {
            loop {
                let frame = self.read_frame().await.expect("a Close before the end");
                if let Some(code) = frame.close_code() {
                    return code;
                }
                assert_ne!(frame.opcode, CLOSE, "a Close without a code");
            }
        })
        .await
    }

    /// Waits until the server has closed TCP, ignoring frames.
    pub async fn wait_for_end(&mut self, limit: Duration) {
        within(limit, "the end of TCP", async { while self.read_frame().await.is_some() {} }).await;
    }

    async fn read_frame(&mut self) -> Option<RawFrame> {
        self.need(2).await?;
        let (first, second) = (self.unread[0], self.unread[1]);
        assert_eq!(first & 0x80, 0x80, "the server never fragments");
        assert_eq!(first & 0x70, 0, "no extension was negotiated");
        assert_eq!(second & 0x80, 0, "a server must not mask");
        let (head, length) = match second & 0x7f {
            126 => {
                self.need(4).await?;
                (4, usize::from(u16::from_be_bytes([self.unread[2], self.unread[3]])))
            }
            127 => {
                self.need(10).await?;
                let mut bytes = [0; 8];
                bytes.copy_from_slice(&self.unread[2..10]);
                (10, usize::try_from(u64::from_be_bytes(bytes)).expect("fits"))
            }
            short => (2, usize::from(short)),
        };
        self.need(head + length).await?;
        let payload = self.unread[head..head + length].to_vec();
        self.unread.drain(..head + length);
        let frame = RawFrame { opcode: first & 0x0f, payload };
        if frame.opcode == TEXT {
            Event::read(frame.text());
        }
        Some(frame)
    }

    async fn need(&mut self, count: usize) -> Option<()> {
        while self.unread.len() < count {
            if !self.fill().await {
                return None;
            }
        }
        Some(())
    }
}

/// The request for an upgrade as a browser sends it.
pub fn upgrade_request(key: &str) -> String {
    format!(
        "GET /app/{key}?protocol=7&client=js&version=8.6.0&flash=false HTTP/1.1\r\nHost: localhost\r\n\
         Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
}

/// A masked frame as a client sends it.
pub fn frame(opcode: u8, fin: bool, payload: &[u8]) -> Vec<u8> {
    frame_with_first_byte(opcode | if fin { 0x80 } else { 0 }, payload)
}

/// A masked frame with any first byte: reserved bits, unknown opcodes.
pub fn frame_with_first_byte(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = head(first, 0x80, payload.len());
    let mask = [0x37, 0xfa, 0x21, 0x3d];
    bytes.extend_from_slice(&mask);
    bytes.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

/// A frame without the mask every client frame must have.
pub fn unmasked(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = head(opcode | 0x80, 0, payload.len());
    bytes.extend_from_slice(payload);
    bytes
}

/// The head of a masked frame that claims `length` bytes of payload, which need not follow.
pub fn head_claiming(opcode: u8, length: u64) -> Vec<u8> {
    let mut bytes = vec![opcode | 0x80, 0x80 | 127];
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(&[0; 4]);
    bytes
}

fn head(first: u8, mask: u8, length: usize) -> Vec<u8> {
    let mut bytes = vec![first];
    if length < 126 {
        bytes.push(mask | u8::try_from(length).expect("short"));
    } else if let Ok(medium) = u16::try_from(length) {
        bytes.push(mask | 126);
        bytes.extend_from_slice(&medium.to_be_bytes());
    } else {
        bytes.push(mask | 127);
        bytes.extend_from_slice(&(length as u64).to_be_bytes());
    }
    bytes
}
