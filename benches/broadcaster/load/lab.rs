//! The generator's event loop: connections, publishers, and what is in flight between them.
//!
//! Scenarios drive it in straight lines: open connections, publish, take `turn`s until what they wait for has
//! happened. A *flight* is one request (or client event) and the deliveries it must lead to; it has *landed*
//! when it was answered and every delivery has arrived. At most one flight of a publisher is in the air.
//!
//! One thread owns everything. Per delivered message nothing is allocated and no clock is read: the time of a
//! message is that of the read that brought it.

use std::io::{self, ErrorKind, Read, Write};
use std::mem;
use std::net::TcpStream;
use std::ops::Range;
use std::time::{Duration, Instant, SystemTime};

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::time::Timespec;
use serde::Deserialize;

use super::ledger::{Ledger, MarkReader};
use super::publisher::Publisher;
use super::roster::Roster;
use super::subscriber::{Phase, Plan, Subscriber};
use crate::process::CpuSample;
use crate::scenario::{Outcome, Target};
use crate::wire::{self, Head};

/// Tokens from here on belong to publishers.
const PUBLISHERS: u64 = 1 << 32;
const MASK: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];
/// How long anything may take that should be quick.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// One publish on its way.
#[derive(Clone, Copy)]
struct Flight {
    sent: Instant,
    /// Deliveries still to come.
    missing: u32,
    answered: bool,
}

/// Everything the generator holds.
pub struct Lab {
    pub target: Target,
    epoll: OwnedFd,
    events: Vec<epoll::Event>,
    scratch: Vec<u8>,
    out: Vec<u8>,
    pub subscribers: Vec<Subscriber>,
    publishers: Vec<Publisher>,
    flights: Vec<Flight>,
    /// Which flight a stream's messages belong to.
    owners: Vec<usize>,
    /// Subscribers a stream's messages must reach.
    audiences: Vec<u32>,
    /// Next number of each stream.
    numbers: Vec<u32>,
    marks: MarkReader,
    pub ledger: Ledger,
    /// Members of a presence channel as each subscriber sees them, when a scenario asks for it.
    pub roster: Option<Roster>,
    /// Flights that landed during the last turn.
    pub landed: Vec<usize>,
    in_flight: usize,
    /// Connections that became subscribed, and that ended, so far.
    pub subscribed: usize,
    pub ended: usize,
    /// Marked messages received so far.
    pub deliveries: u64,
    /// Time from publish to receive in nanoseconds, when a scenario asks for it.
    pub latencies: Option<Vec<u64>>,
}

/// What happened between two moments without anything in flight.
pub struct Window {
    server: CpuSample,
    own: CpuSample,
    start: Instant,
    deliveries: u64,
}

/// The sums of a [`Window`].
pub struct Usage {
    /// CPU time of the server, in microseconds.
    pub server: f64,
    /// The part of it of switchboard's threads that serve connections.
    pub shards: f64,
    /// How long these waited for their core.
    pub shards_waited: f64,
    pub wall: Duration,
    pub deliveries: u64,
}

impl Lab {
    pub fn new(target: Target) -> io::Result<Self> {
        Ok(Self {
            target,
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            events: Vec::with_capacity(1024),
            scratch: vec![0; 256 * 1024],
            out: Vec::new(),
            subscribers: Vec::new(),
            publishers: Vec::new(),
            flights: Vec::new(),
            owners: Vec::new(),
            audiences: Vec::new(),
            numbers: Vec::new(),
            marks: MarkReader::default(),
            ledger: Ledger::default(),
            roster: None,
            landed: Vec::new(),
            in_flight: 0,
            subscribed: 0,
            ended: 0,
            deliveries: 0,
            latencies: None,
        })
    }

    /// Waits for something to happen, at most `limit`, and acts on all that did.
    pub fn turn(&mut self, limit: Duration) -> io::Result<()> {
        self.landed.clear();
        let mut events = mem::take(&mut self.events);
        events.clear();
        let limit = Timespec { tv_sec: limit.as_secs() as i64, tv_nsec: limit.subsec_nanos().into() };
        match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), Some(&limit)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        for event in &events {
            let (token, flags) = ({ event.data }.u64(), event.flags);
            if token >= PUBLISHERS {
                self.read_answer((token - PUBLISHERS) as usize)?;
            } else if self.subscribers[token as usize].phase == Phase::Connecting {
                self.finish_connect(token as usize, flags)?;
            } else {
                self.read_messages(token as usize)?;
            }
        }
        self.events = events;
        Ok(())
    }

    /// Takes turns until `done`.
    ///
    /// # Errors
    /// When it is not done after [`PATIENCE`], or when a violation makes it pointless to wait.
    pub fn wait_until(&mut self, what: &str, mut done: impl FnMut(&Self) -> bool) -> io::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while !done(self) {
            self.check_patience(what, deadline)?;
            self.turn(Duration::from_millis(20))?;
        }
        Ok(())
    }

    /// # Errors
    /// When waiting for `what` has become pointless.
    pub fn check_patience(&self, what: &str, deadline: Instant) -> io::Result<()> {
        if self.ledger.has_faults() {
            return Err(io::Error::other("stopped at the first violation"));
        }
        if Instant::now() > deadline {
            let missing: u32 = self.flights.iter().map(|flight| flight.missing).sum();
            let unanswered = self.flights.iter().filter(|flight| !flight.answered).count();
            return Err(io::Error::other(format!(
                "gave up waiting for {what}: {missing} deliveries missing, {unanswered} requests unanswered"
            )));
        }
        Ok(())
    }

    /// Takes turns for a while.
    pub fn idle(&mut self, time: Duration) -> io::Result<()> {
        let end = Instant::now() + time;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            self.turn(left)?;
        }
    }

    /// Declares streams: `flights[i]` carries the messages of the i-th new one. Returns their numbers.
    pub fn add_streams(&mut self, flights: impl Iterator<Item = usize>) -> Range<u32> {
        let start = self.owners.len() as u32;
        self.owners.extend(flights);
        self.audiences.resize(self.owners.len(), 0);
        self.numbers.resize(self.owners.len(), 0);
        start..self.owners.len() as u32
    }

    /// Starts one connection and returns its number. Its streams must have nothing prepared that is not sent yet.
    pub fn open(&mut self, plan: Plan) -> io::Result<usize> {
        let id = self.subscribers.len();
        let streams = plan.streams.start as usize..plan.streams.end as usize;
        self.ledger.add(plan.streams.clone(), &self.numbers[streams]);
        if !plan.is_spectator {
            for stream in plan.streams.clone() {
                self.audiences[stream as usize] += 1;
            }
        }
        let subscriber = Subscriber::connect(plan, self.target.address, id)?;
        if let Some(stream) = &subscriber.stream {
            epoll::add(&self.epoll, stream, EventData::new_u64(id as u64), EventFlags::OUT)?;
        }
        self.subscribers.push(subscriber);
        Ok(id)
    }

    /// Opens many connections, `window` at a time, and waits until each has reached what its plan says.
    pub fn open_all(&mut self, plans: impl IntoIterator<Item = Plan>, window: usize) -> io::Result<()> {
        let first = self.subscribers.len();
        let mut settled = first;
        for plan in plans {
            self.open(plan)?;
            let opened = self.subscribers.len();
            if opened - settled >= window {
                self.wait_until("connections to open", |lab| {
                    settled = lab.first_unsettled(settled);
                    opened - settled < window
                })?;
            }
        }
        self.wait_until("connections to open", |lab| {
            settled = lab.first_unsettled(settled);
            settled == lab.subscribers.len()
        })
    }

    fn first_unsettled(&self, from: usize) -> usize {
        let unsettled = |subscriber: &Subscriber| match subscriber.phase {
            Phase::Open => !subscriber.plan.waits,
            Phase::Subscribed | Phase::Closing | Phase::Closed(_) => false,
            _ => true,
        };
        self.subscribers[from..]
            .iter()
            .position(unsettled)
            .map_or(self.subscribers.len(), |place| from + place)
    }

    /// Adds `count` publishers; publisher `i` flies flight `i`.
    pub fn add_publishers(&mut self, count: usize) -> io::Result<()> {
        for _ in 0..count {
            self.publishers.push(Publisher::new(self.target.address));
            self.add_flight();
            let id = self.publishers.len() - 1;
            self.connect_publisher(id)?;
        }
        Ok(())
    }

    /// Adds a flight that no publisher flies, for client events.
    pub fn add_flight(&mut self) -> usize {
        self.flights.push(Flight { sent: Instant::now(), missing: 0, answered: true });
        self.flights.len() - 1
    }

    fn connect_publisher(&mut self, id: usize) -> io::Result<()> {
        let stream = self.publishers[id].connect()?;
        Ok(epoll::add(&self.epoll, stream, EventData::new_u64(PUBLISHERS + id as u64), EventFlags::IN)?)
    }

    /// Takes the next number of a stream.
    pub fn number(&mut self, stream: u32) -> u32 {
        let number = &mut self.numbers[stream as usize];
        *number += 1;
        *number - 1
    }

    /// Signs a request that carries one message of each of `streams`.
    pub fn prepare(
        &mut self,
        publisher: usize,
        endpoint: &str,
        body: &str,
        streams: &[u32],
    ) -> io::Result<()> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_err(io::Error::other)?;
        let request = self.target.credentials.signed_post(endpoint, body, now.as_secs());
        let audience = streams.iter().map(|&stream| self.audiences[stream as usize]).sum();
        self.publishers[publisher].prepare(&request, audience);
        Ok(())
    }

    /// Sends a publisher's next request; false when it has none.
    pub fn publish(&mut self, id: usize) -> io::Result<bool> {
        if self.publishers[id].stream.is_none() && self.publishers[id].left() > 0 {
            self.connect_publisher(id)?;
        }
        let publisher = &mut self.publishers[id];
        let Some(prepared) = publisher.next() else { return Ok(false) };
        self.flights[id] = Flight { sent: Instant::now(), missing: prepared.audience, answered: false };
        self.in_flight += 1;
        if let Some(stream) = &publisher.stream {
            send_all(stream, publisher.request(&prepared))?;
        }
        Ok(true)
    }

    /// Sends a client event to the other `audience` subscribers of the channel.
    pub fn send_event(&mut self, id: usize, flight: usize, text: &str, audience: u32) -> io::Result<()> {
        self.flights[flight] = Flight { sent: Instant::now(), missing: audience, answered: true };
        self.in_flight += 1;
        self.send_frame(id, wire::TEXT, text.as_bytes())
    }

    /// True when nothing that was published is still awaited.
    pub fn is_quiet(&self) -> bool {
        self.in_flight == 0
    }

    /// Whether a publisher may publish again.
    pub fn is_free(&self, publisher: usize) -> bool {
        let flight = &self.flights[publisher];
        flight.answered && flight.missing == 0
    }

    /// Subscribes an open connection whose plan waited.
    pub fn subscribe(&mut self, id: usize) -> io::Result<()> {
        let text = self.subscribers[id].subscribe_event(&self.target.credentials);
        self.subscribers[id].phase = Phase::Subscribing;
        self.send_frame(id, wire::TEXT, text.as_bytes())
    }

    /// Leaves the channel of a subscribed connection; there is no answer to that.
    pub fn unsubscribe(&mut self, id: usize) -> io::Result<()> {
        let data = serde_json::json!({ "channel": self.subscribers[id].plan.channel });
        let text = serde_json::json!({ "event": "pusher:unsubscribe", "data": data }).to_string();
        self.subscribers[id].phase = Phase::Open;
        self.send_frame(id, wire::TEXT, text.as_bytes())
    }

    /// Begins the closing handshake.
    pub fn close(&mut self, id: usize) -> io::Result<()> {
        self.subscribers[id].phase = Phase::Closing;
        self.send_frame(id, wire::CLOSE, &1000u16.to_be_bytes())
    }

    /// Drops the connection without a word.
    pub fn abandon(&mut self, id: usize) {
        self.subscribers[id].stream = None;
        self.subscribers[id].phase = Phase::Closed(None);
        self.ended += 1;
    }

    /// Leaves what arrives for a connection in the socket.
    pub fn stop_reading(&self, id: usize) -> io::Result<()> {
        match &self.subscribers[id].stream {
            Some(stream) => Ok(epoll::delete(&self.epoll, stream)?),
            None => Ok(()),
        }
    }

    /// Reads a connection again.
    pub fn resume_reading(&self, id: usize) -> io::Result<()> {
        match &self.subscribers[id].stream {
            Some(stream) => {
                Ok(epoll::add(&self.epoll, stream, EventData::new_u64(id as u64), EventFlags::IN)?)
            }
            None => Ok(()),
        }
    }

    /// Begins a measured phase. Nothing may be in flight.
    pub fn start_window(&self) -> io::Result<Window> {
        Ok(Window {
            server: CpuSample::take(self.target.pid)?,
            own: CpuSample::take(std::process::id())?,
            start: Instant::now(),
            deliveries: self.deliveries,
        })
    }

    /// Ends a measured phase, waiting until nothing is in flight; the shares that server and generator had of
    /// their cores are entered in `outcome`, the highest of several phases.
    pub fn end_window(&mut self, window: Window, outcome: &mut Outcome) -> io::Result<Usage> {
        self.wait_until("deliveries", Self::is_quiet)?;
        let wall = window.start.elapsed();
        // A thread's account is only brought up to date when it sleeps or at a clock tick.
        self.idle(Duration::from_millis(5))?;
        let server = CpuSample::take(self.target.pid)?.since(&window.server);
        let own = CpuSample::take(std::process::id())?.since(&window.own);
        if server.ended_threads > 0 {
            let count = server.ended_threads;
            outcome
                .notes
                .push(format!("{count} server threads ended while being measured: CPU is a lower bound"));
        }
        for (name, time) in [
            ("server_share", server.ran),
            ("server_waited_share", server.waited),
            ("generator_share", own.ran),
            ("generator_waited_share", own.waited),
        ] {
            let worst = outcome.metrics.entry(name.to_owned()).or_default();
            *worst = worst.max(time.as_secs_f64() / wall.as_secs_f64());
        }
        let micros = |time: Duration| 1e6 * time.as_secs_f64();
        Ok(Usage {
            server: micros(server.ran),
            shards: micros(server.shards.ran),
            shards_waited: micros(server.shards.waited),
            wall,
            deliveries: self.deliveries - window.deliveries,
        })
    }

    /// Checks that subscribers of one channel saw its messages in one order. Nothing may be in flight.
    pub fn compare_orders(&mut self) {
        let present = self.subscribers.iter().enumerate().filter(|(_, one)| one.phase == Phase::Subscribed);
        self.ledger.compare_orders(present.map(|(id, _)| id));
    }

    fn finish_connect(&mut self, id: usize, flags: EventFlags) -> io::Result<()> {
        let Some(stream) = &self.subscribers[id].stream else { return Ok(()) };
        if flags.intersects(EventFlags::ERR | EventFlags::HUP) {
            let error = stream.take_error()?.unwrap_or_else(|| io::Error::other("connection refused"));
            return Err(io::Error::other(format!("connection {id}: {error}")));
        }
        epoll::modify(&self.epoll, stream, EventData::new_u64(id as u64), EventFlags::IN)?;
        send_all(stream, self.target.credentials.upgrade_request().as_bytes())?;
        self.subscribers[id].phase = Phase::Upgrading;
        Ok(())
    }

    fn read_answer(&mut self, id: usize) -> io::Result<()> {
        let publisher = &mut self.publishers[id];
        let Some(stream) = &mut publisher.stream else { return Ok(()) };
        let size = match stream.read(&mut self.scratch) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            other => other.unwrap_or(0),
        };
        publisher.answer.extend_from_slice(&self.scratch[..size]);
        let Some(answer) = wire::scan_answer(&publisher.answer)? else {
            if size == 0 {
                publisher.stream = None;
                if !self.flights[id].answered {
                    return Err(io::Error::other("HTTP connection closed before the answer"));
                }
            }
            return Ok(());
        };
        if answer.status != 200 {
            let body = String::from_utf8_lossy(answer.body);
            return Err(io::Error::other(format!("publish refused with {}: {body}", answer.status)));
        }
        if !answer.keeps_alive || size == 0 {
            publisher.stream = None;
        }
        publisher.answer.clear();
        self.flights[id].answered = true;
        self.check_landing(id);
        Ok(())
    }

    fn check_landing(&mut self, flight: usize) {
        if self.is_free(flight) {
            self.in_flight -= 1;
            self.landed.push(flight);
        }
    }

    fn read_messages(&mut self, id: usize) -> io::Result<()> {
        let mut scratch = mem::take(&mut self.scratch);
        let result = self.read_into(id, &mut scratch);
        self.scratch = scratch;
        result
    }

    fn read_into(&mut self, id: usize, scratch: &mut [u8]) -> io::Result<()> {
        loop {
            let Some(stream) = &mut self.subscribers[id].stream else { return Ok(()) };
            let size = match stream.read(scratch) {
                Ok(0) => return self.lose(id),
                Ok(size) => size,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(_) => return self.lose(id),
            };
            let now = Instant::now();
            let subscriber = &mut self.subscribers[id];
            if subscriber.rest.is_empty() {
                let used = self.consume(id, &scratch[..size], now)?;
                if used < size {
                    self.subscribers[id].rest = scratch[used..size].to_vec();
                }
            } else {
                let mut rest = mem::take(&mut subscriber.rest);
                rest.extend_from_slice(&scratch[..size]);
                let used = self.consume(id, &rest, now)?;
                rest.drain(..used);
                self.subscribers[id].rest = rest;
            }
            if size < scratch.len() {
                return Ok(());
            }
        }
    }

    /// The server ended the connection. Only a spectator, or one that is closing, may be ended.
    fn lose(&mut self, id: usize) -> io::Result<()> {
        let subscriber = &mut self.subscribers[id];
        subscriber.stream = None;
        let before = mem::replace(&mut subscriber.phase, Phase::Closed(subscriber.close_code));
        self.ended += 1;
        if before == Phase::Closing || subscriber.plan.is_spectator {
            return Ok(());
        }
        let code = subscriber.close_code;
        Err(io::Error::other(format!(
            "the server ended connection {id} (close code {code:?}) in state {before:?}"
        )))
    }

    fn consume(&mut self, id: usize, bytes: &[u8], now: Instant) -> io::Result<usize> {
        let mut used = 0;
        if self.subscribers[id].phase == Phase::Upgrading {
            let Some(head) = Head::scan(bytes)? else { return Ok(0) };
            if !head.line.contains(" 101 ")
                || head.field("sec-websocket-accept") != Some(wire::WEBSOCKET_ACCEPT)
            {
                return Err(io::Error::other(format!("upgrade answered with {:?}", head.line)));
            }
            used = head.size;
            self.subscribers[id].phase = Phase::Greeting;
        }
        while let Some(frame) = wire::scan_frame(&bytes[used..])? {
            used += frame.size;
            match frame.opcode {
                wire::TEXT => self.receive(id, frame.payload, now)?,
                wire::PING => self.send_frame(id, wire::PONG, frame.payload)?,
                wire::CLOSE => self.receive_close(id, frame.payload)?,
                _ => {}
            }
        }
        Ok(used)
    }

    fn receive_close(&mut self, id: usize, payload: &[u8]) -> io::Result<()> {
        let subscriber = &mut self.subscribers[id];
        subscriber.close_code = payload.first_chunk().map(|code| u16::from_be_bytes(*code));
        if subscriber.phase != Phase::Closing {
            // The server may already have gone; the answer is a courtesy.
            let _ = self.send_frame(id, wire::CLOSE, payload.get(..2).unwrap_or_default());
        }
        Ok(())
    }

    fn receive(&mut self, id: usize, text: &[u8], now: Instant) -> io::Result<()> {
        let Some((stream, number)) = self.marks.read(text) else { return self.receive_event(id, text) };
        self.deliveries += 1;
        let subscriber = &self.subscribers[id];
        if subscriber.phase != Phase::Subscribed && subscriber.phase != Phase::Closing {
            self.ledger.fault(format!("subscriber {id} got a message before subscription_succeeded"));
        }
        if self.ledger.enter(id, stream, number) && !self.subscribers[id].plan.is_spectator {
            let owner = self.owners[stream as usize];
            let flight = &mut self.flights[owner];
            if let Some(latencies) = &mut self.latencies {
                latencies.push((now - flight.sent).as_nanos() as u64);
            }
            flight.missing = flight.missing.saturating_sub(1);
            if flight.missing == 0 {
                self.check_landing(owner);
            }
        }
        Ok(())
    }

    /// The few events of the protocol itself.
    fn receive_event(&mut self, id: usize, text: &[u8]) -> io::Result<()> {
        let event: Event = serde_json::from_slice(text)?;
        match event.event.as_str() {
            "pusher:connection_established" => {
                let data: Established = event.data_as()?;
                let subscriber = &mut self.subscribers[id];
                subscriber.socket_id = data.socket_id;
                subscriber.phase = Phase::Open;
                if !subscriber.plan.waits {
                    self.subscribe(id)?;
                }
            }
            "pusher_internal:subscription_succeeded" => {
                self.subscribers[id].phase = Phase::Subscribed;
                self.subscribed += 1;
                if let Some(roster) = &mut self.roster {
                    roster.take_snapshot(id, event.data_as()?, &mut self.ledger);
                }
            }
            "pusher_internal:member_added" => {
                if let Some(roster) = &mut self.roster {
                    roster.add(id, event.data_as()?, &mut self.ledger);
                }
            }
            "pusher:ping" => self.send_frame(id, wire::TEXT, br#"{"event":"pusher:pong","data":{}}"#)?,
            // Announces the Close frame behind it, which is what counts.
            "pusher:error" if self.subscribers[id].plan.is_spectator => {}
            "pusher:error" | "pusher:subscription_error" => {
                return Err(io::Error::other(format!("connection {id}: {}", String::from_utf8_lossy(text))));
            }
            _ => {}
        }
        Ok(())
    }

    fn send_frame(&mut self, id: usize, opcode: u8, payload: &[u8]) -> io::Result<()> {
        self.out.clear();
        wire::push_masked_frame(opcode, payload, MASK, &mut self.out);
        match &self.subscribers[id].stream {
            Some(stream) => send_all(stream, &self.out),
            None => Err(io::Error::other(format!("connection {id} is gone"))),
        }
    }
}

/// Any event of the protocol; `data` is a string that holds JSON, save in errors.
#[derive(Deserialize)]
struct Event {
    event: String,
    #[serde(default)]
    data: serde_json::Value,
}

#[derive(Deserialize)]
struct Established {
    socket_id: String,
}

impl Event {
    fn data_as<T: serde::de::DeserializeOwned>(self) -> io::Result<T> {
        Ok(match self.data {
            serde_json::Value::String(text) => serde_json::from_str(&text)?,
            other => serde_json::from_value(other)?,
        })
    }
}

/// Writes everything; requests are smaller than socket buffers, so waiting is the exception.
fn send_all(mut stream: &TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match stream.write(bytes) {
            Ok(size) => bytes = &bytes[size..],
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                let patience = Timespec { tv_sec: PATIENCE.as_secs() as i64, tv_nsec: 0 };
                if poll(&mut [PollFd::new(&stream, PollFlags::OUT)], Some(&patience))? == 0 {
                    return Err(io::Error::other("the server stopped reading"));
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
