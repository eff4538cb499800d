//! The raw sender: the floor the server is compared with.
//!
//! One thread, one epoll loop, plain sockets. It speaks just enough HTTP and WebSocket to be driven by the same
//! load generator and verifies nothing: no signature, no name, no limit, no UTF-8, no JSON beyond finding the
//! members the generator writes. A publication is encoded once. Two modes:
//!
//! - `each`: one `send` per delivery, at once. What an unbatched server cannot get below.
//! - `join`: deliveries of one event loop turn are collected per connection and leave in one write.

use std::collections::HashMap;
use std::io::{self, ErrorKind, Read, Write};
use std::mem;
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::fd::OwnedFd;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::wire::{self, Head};

const LISTENER: u64 = u64::MAX;
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}";

/// When deliveries are written, and what is done wrong on purpose.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Each,
    Join,
    /// As `Each`, but one delivery in [`FAULT_INTERVAL`] is left out.
    Losing,
    /// As `Each`, but one delivery in [`FAULT_INTERVAL`] is made twice.
    Doubling,
    /// As `Each`, but every second publication is delivered after its successor, to some subscribers.
    Swapping,
}

/// For the self-test of the generator's checks.
const FAULT_INTERVAL: u64 = 5_003;

/// Listens on a free loopback port, prints the ready line and serves until killed.
pub fn run(mode: Mode) -> io::Result<()> {
    // std's listener has a backlog of 128 on some targets; storms of connections need the system's maximum.
    let listener = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
    listener.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into())?;
    listener.listen(4096)?;
    let listener = TcpListener::from(listener);
    listener.set_nonblocking(true)?;
    println!(r#"{{"event":"ready","public":"{}","pid":{}}}"#, listener.local_addr()?, std::process::id());
    Sender::new(mode, listener)?.serve()
}

struct Connection {
    stream: TcpStream,
    upgraded: bool,
    /// Waits for the socket to become writable; `output` goes first.
    blocked: bool,
    /// The start of a request or frame that has not arrived whole.
    input: Vec<u8>,
    /// What the socket did not take, or what waits for the end of the turn.
    output: Vec<u8>,
    channels: Vec<u32>,
}

struct Sender {
    mode: Mode,
    epoll: OwnedFd,
    listener: TcpListener,
    connections: Vec<Option<Connection>>,
    free: Vec<u32>,
    channel_ids: HashMap<String, u32>,
    subscribers: Vec<Vec<u32>>,
    /// Connections with output to be written at the end of the turn.
    unflushed: Vec<u32>,
    frame: Vec<u8>,
    deliveries: u64,
    /// What [`Mode::Swapping`] holds back.
    held: Vec<(u32, Vec<u8>)>,
}

impl Sender {
    fn new(mode: Mode, listener: TcpListener) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, &listener, EventData::new_u64(LISTENER), EventFlags::IN)?;
        Ok(Self {
            mode,
            epoll,
            listener,
            connections: Vec::new(),
            free: Vec::new(),
            channel_ids: HashMap::new(),
            subscribers: Vec::new(),
            unflushed: Vec::new(),
            frame: Vec::new(),
            deliveries: 0,
            held: Vec::new(),
        })
    }

    fn serve(&mut self) -> io::Result<()> {
        let mut events = Vec::with_capacity(1024);
        let mut scratch = vec![0; 64 * 1024];
        loop {
            events.clear();
            match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), None) {
                Err(rustix::io::Errno::INTR) => continue,
                other => other?,
            };
            for event in &events {
                match { event.data }.u64() {
                    LISTENER => self.accept_all()?,
                    id => {
                        let flags = event.flags;
                        if flags.contains(EventFlags::OUT) {
                            self.flush(id as u32);
                        }
                        if flags.intersects(EventFlags::IN | EventFlags::HUP | EventFlags::ERR) {
                            self.read(id as u32, &mut scratch);
                        }
                    }
                }
            }
            let mut unflushed = mem::take(&mut self.unflushed);
            for id in unflushed.drain(..) {
                self.flush(id);
            }
            self.unflushed = unflushed;
        }
    }

    fn accept_all(&mut self) -> io::Result<()> {
        loop {
            let stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            stream.set_nonblocking(true)?;
            stream.set_nodelay(true)?;
            let id = self.free.pop().unwrap_or_else(|| {
                self.connections.push(None);
                self.connections.len() as u32 - 1
            });
            epoll::add(&self.epoll, &stream, EventData::new_u64(u64::from(id)), EventFlags::IN)?;
            self.connections[id as usize] = Some(Connection {
                stream,
                upgraded: false,
                blocked: false,
                input: Vec::new(),
                output: Vec::new(),
                channels: Vec::new(),
            });
        }
    }

    fn read(&mut self, id: u32, scratch: &mut [u8]) {
        let Some(connection) = &mut self.connections[id as usize] else { return };
        let size = match connection.stream.read(scratch) {
            Ok(0) => return self.remove(id),
            Ok(size) => size,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return,
            Err(_) => return self.remove(id),
        };
        if connection.input.is_empty() {
            let used = self.consume(id, &scratch[..size]);
            self.keep(id, &scratch[used..size]);
        } else {
            let mut input = mem::take(&mut connection.input);
            input.extend_from_slice(&scratch[..size]);
            let used = self.consume(id, &input);
            self.keep(id, &input[used..]);
        }
    }

    fn keep(&mut self, id: u32, rest: &[u8]) {
        if let Some(connection) = &mut self.connections[id as usize]
            && !rest.is_empty()
        {
            connection.input = rest.to_vec();
        }
    }

    /// Acts on every complete request or frame and returns how many bytes they took.
    fn consume(&mut self, id: u32, bytes: &[u8]) -> usize {
        let mut used = 0;
        while let Some(connection) = &self.connections[id as usize] {
            let rest = &bytes[used..];
            let step =
                if connection.upgraded { self.take_frame(id, rest) } else { self.take_request(id, rest) };
            match step {
                Ok(Some(size)) => used += size,
                Ok(None) => break,
                Err(error) => {
                    eprintln!("raw: {error}");
                    self.remove(id);
                }
            }
        }
        used.min(bytes.len())
    }

    fn take_request(&mut self, id: u32, bytes: &[u8]) -> io::Result<Option<usize>> {
        let Some(head) = Head::scan(bytes)? else { return Ok(None) };
        if let Some(key) = head.field("sec-websocket-key") {
            self.upgrade(id, key);
            return Ok(Some(head.size));
        }
        let size = head.size + head.content_length();
        let Some(body) = bytes.get(head.size..size) else { return Ok(None) };
        self.send(id, ANSWER);
        self.publish(str::from_utf8(body).map_err(io::Error::other)?);
        Ok(Some(size))
    }

    fn upgrade(&mut self, id: u32, key: &str) {
        let mut answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Accept: {}\r\n\r\n",
            derive_accept_key(key.as_bytes())
        )
        .into_bytes();
        let greeting = format!(
            r#"{{"event":"pusher:connection_established","data":"{{\"socket_id\":\"{id}.1\",\"activity_timeout\":120}}"}}"#
        );
        wire::push_frame(wire::TEXT, greeting.as_bytes(), &mut answer);
        if let Some(connection) = &mut self.connections[id as usize] {
            connection.upgraded = true;
        }
        self.send(id, &answer);
    }

    /// Publishes every event of a trigger or batch body as the generator writes it: `name`, `channel`, `data`.
    fn publish(&mut self, body: &str) {
        let mut rest = body;
        while let Some((name, after)) = member(rest, "name") {
            let Some((channel, after)) = member(after, "channel") else { return };
            let Some((data, after)) = member(after, "data") else { return };
            let text = format!(r#"{{"event":"{name}","channel":"{channel}","data":"{data}"}}"#);
            self.fan_out(channel, text.as_bytes(), None);
            rest = after;
        }
    }

    fn take_frame(&mut self, id: u32, bytes: &[u8]) -> io::Result<Option<usize>> {
        let Some(frame) = wire::scan_frame(bytes)? else { return Ok(None) };
        let mut payload = frame.payload.to_vec();
        wire::unmask(frame.mask.unwrap_or_default(), &mut payload);
        match frame.opcode {
            wire::TEXT => self.take_event(id, str::from_utf8(&payload).map_err(io::Error::other)?),
            wire::CLOSE => {
                let mut reply = Vec::new();
                wire::push_frame(wire::CLOSE, &payload, &mut reply);
                self.send(id, &reply);
                self.flush(id);
                self.remove(id);
            }
            _ => {}
        }
        Ok(Some(frame.size))
    }

    fn take_event(&mut self, id: u32, text: &str) {
        let Some((channel, _)) = member(text, "channel") else { return };
        if text.starts_with(r#"{"event":"client-"#) {
            return self.fan_out(channel, text.as_bytes(), Some(id));
        }
        let reply = format!(
            r#"{{"event":"pusher_internal:subscription_succeeded","channel":"{channel}","data":"{{}}"}}"#
        );
        let mut frame = Vec::new();
        wire::push_frame(wire::TEXT, reply.as_bytes(), &mut frame);
        self.subscribe(id, channel);
        self.send(id, &frame);
    }

    fn subscribe(&mut self, id: u32, channel: &str) {
        let channel = match self.channel_ids.get(channel) {
            Some(&known) => known,
            None => {
                let new = self.subscribers.len() as u32;
                self.channel_ids.insert(channel.to_owned(), new);
                self.subscribers.push(Vec::new());
                new
            }
        };
        self.subscribers[channel as usize].push(id);
        if let Some(connection) = &mut self.connections[id as usize] {
            connection.channels.push(channel);
        }
    }

    fn fan_out(&mut self, channel: &str, text: &[u8], except: Option<u32>) {
        let Some(&channel) = self.channel_ids.get(channel) else { return };
        let mut frame = mem::take(&mut self.frame);
        frame.clear();
        wire::push_frame(wire::TEXT, text, &mut frame);
        let receivers = mem::take(&mut self.subscribers[channel as usize]);
        for &id in &receivers {
            if Some(id) != except {
                self.deliver(id, &frame);
            }
        }
        self.subscribers[channel as usize] = receivers;
        self.frame = frame;
    }

    fn deliver(&mut self, id: u32, frame: &[u8]) {
        self.deliveries += 1;
        match self.mode {
            Mode::Losing if self.deliveries.is_multiple_of(FAULT_INTERVAL) => {}
            Mode::Doubling if self.deliveries.is_multiple_of(FAULT_INTERVAL) => {
                self.send(id, frame);
                self.send(id, frame);
            }
            Mode::Swapping if id.is_multiple_of(7) => match self.held.iter().position(|held| held.0 == id) {
                Some(place) => {
                    let (_, late) = self.held.swap_remove(place);
                    self.send(id, frame);
                    self.send(id, &late);
                }
                None => self.held.push((id, frame.to_vec())),
            },
            _ => self.send(id, frame),
        }
    }

    fn send(&mut self, id: u32, bytes: &[u8]) {
        let Some(connection) = &mut self.connections[id as usize] else { return };
        let mut sent = 0;
        if self.mode != Mode::Join && connection.output.is_empty() {
            match connection.stream.write(bytes) {
                Ok(size) if size == bytes.len() => return,
                Ok(size) => sent = size,
                // A broken connection is noticed, and removed, by the read that follows.
                Err(_) => {}
            }
        }
        if connection.output.is_empty() {
            self.unflushed.push(id);
        }
        connection.output.extend_from_slice(&bytes[sent..]);
    }

    fn flush(&mut self, id: u32) {
        let Some(connection) = &mut self.connections[id as usize] else { return };
        if connection.output.is_empty() {
            return;
        }
        let sent = connection.stream.write(&connection.output).unwrap_or(0);
        connection.output.drain(..sent);
        let blocked = !connection.output.is_empty();
        if blocked != connection.blocked {
            connection.blocked = blocked;
            let interest = if blocked { EventFlags::IN | EventFlags::OUT } else { EventFlags::IN };
            let changed = epoll::modify(
                &self.epoll,
                connection.stream.as_fd(),
                EventData::new_u64(u64::from(id)),
                interest,
            );
            if let Err(error) = changed {
                eprintln!("raw: {error}");
            }
        }
    }

    fn remove(&mut self, id: u32) {
        let Some(connection) = self.connections[id as usize].take() else { return };
        for channel in connection.channels {
            let subscribers = &mut self.subscribers[channel as usize];
            if let Some(place) = subscribers.iter().position(|&other| other == id) {
                subscribers.swap_remove(place);
            }
        }
        self.free.push(id);
    }
}

/// The string member `name` of flat JSON without escapes in it, and the text after its value.
fn member<'a>(text: &'a str, name: &str) -> Option<(&'a str, &'a str)> {
    let key = format!("\"{name}\":\"");
    let start = wire::find(text.as_bytes(), key.as_bytes())? + key.len();
    text[start..].split_once('"')
}
