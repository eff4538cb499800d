//! A client that is always there: it reconnects as soon as it can and notes what it hears.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::json;
use time::OffsetDateTime;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use crate::harness::messaging::{RECEIVED, Router, SENT, STATUS, text};
use crate::harness::sign::App;
use crate::harness::ws::Event;
use crate::harness::{DEADLINE, within};

/// Pause between attempts to connect.
const PAUSE: Duration = Duration::from_millis(20);

/// Notes from here on until it is dropped.
#[derive(Debug)]
pub struct Observer {
    seen: Arc<Mutex<Seen>>,
    /// Servers that were started, and when this client had all its channels again.
    starts: Arc<Mutex<Vec<Start>>>,
    /// Whether this client has all its channels.
    is_there: watch::Sender<bool>,
    /// Answers of the server to our pings.
    pongs: watch::Receiver<u64>,
    task: JoinHandle<()>,
}

/// A start of a server.
#[derive(Clone, Copy, Debug)]
struct Start {
    at: OffsetDateTime,
    /// Since when a connection to this server, and no other, had all channels.
    heard_from: Option<OffsetDateTime>,
}

/// What was heard.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Event and text of the message.
    pub texts: HashSet<(String, String)>,
    /// Steps (from, to) of the message with this text.
    steps: HashMap<String, HashSet<(String, String)>>,
    pub count: usize,
}

impl Seen {
    /// Whether a step to this status was told.
    pub fn has_step(&self, text: &str, to: &str) -> bool {
        self.steps.get(text).is_some_and(|steps| steps.iter().any(|(_, other)| other == to))
    }

    /// Whether the steps that were told form a chain from the first status to `last`.
    pub fn has_all_steps(&self, text: &str, last: &str) -> bool {
        let Some(steps) = self.steps.get(text) else { return false };
        let mut at = last;
        while at != "sending" {
            match steps.iter().find(|(_, to)| to == at) {
                Some((from, _)) => at = from,
                None => return false,
            }
        }
        true
    }

    /// What was told of the message with this text, for a failure's text.
    pub fn told(&self, text: &str) -> String {
        let events: Vec<_> = self.texts.iter().filter(|(_, of)| of == text).map(|(event, _)| event).collect();
        format!("{events:?} {:?}", self.steps.get(text).into_iter().flatten().collect::<Vec<_>>())
    }

    fn note(&mut self, event: &Event) {
        if ![SENT, RECEIVED, STATUS].contains(&event.event.as_str()) {
            return;
        }
        self.count += 1;
        let data = event.json();
        let words = text(&data["message"]["text"]);
        if event.event == STATUS {
            let step = (text(&data["previous_status"]), text(&data["message"]["status"]));
            self.steps.entry(words.clone()).or_default().insert(step);
        }
        self.texts.insert((event.event.clone(), words));
    }
}

impl Observer {
    /// Answers when it hears all channels.
    pub async fn start(router: &Router, channels: Vec<String>) -> Self {
        let (seen, starts) = (Arc::<Mutex<Seen>>::default(), Arc::default());
        let (sender, mut pongs) = watch::channel(0);
        let is_there = watch::Sender::new(true);
        let ears = Ears {
            address: router.server().public,
            app: router.app.clone(),
            channels,
            seen: Arc::clone(&seen),
            starts: Arc::clone(&starts),
            is_there: is_there.clone(),
            pongs: sender,
        };
        let task = tokio::spawn(async move {
            loop {
                // It ends with the server.
                let _ = ears.hear().await;
                tokio::time::sleep(PAUSE).await;
            }
        });
        within(DEADLINE, "the observer", pongs.changed()).await.expect("it lives");
        Self { seen, starts, is_there, pongs, task }
    }

    pub fn seen(&self) -> Seen {
        lock(&self.seen).clone()
    }

    /// A server is started now; none runs.
    pub fn server_starts(&self) {
        self.is_there.send_replace(false);
        lock(&self.starts).push(Start { at: OffsetDateTime::now_utc(), heard_from: None });
    }

    /// Tells whether this client has all its channels.
    pub fn is_there(&self) -> watch::Receiver<bool> {
        self.is_there.subscribe()
    }

    /// Whether a new server was up at some time between these two and this client not yet there: what was
    /// made then was told to nobody.
    pub fn was_away(&self, from: OffsetDateTime, to: OffsetDateTime) -> bool {
        let starts = lock(&self.starts).clone();
        let ends = starts.iter().skip(1).map(|next| next.at).chain([OffsetDateTime::now_utc()]);
        starts.iter().zip(ends).any(|(start, end)| start.at <= to && from <= start.heard_from.unwrap_or(end))
    }

    /// What this client knew of servers around this time, for a failure's text.
    pub fn around(&self, time: OffsetDateTime) -> String {
        let starts = lock(&self.starts).clone();
        let after = |at: OffsetDateTime| format!("{:+} ms", (at - time).whole_milliseconds());
        let tell = |start: &Start| {
            let heard = start.heard_from.map_or("never".to_owned(), after);
            format!("a start at {}, heard from {heard}", after(start.at))
        };
        let next = starts.iter().position(|start| start.at > time).unwrap_or(starts.len());
        let near = &starts[next.saturating_sub(2)..starts.len().min(next + 1)];
        near.iter().map(tell).collect::<Vec<_>>().join("; ")
    }

    /// Waits for what was published by now.
    pub async fn fence(&self) {
        let mut pongs = self.pongs.clone();
        pongs.borrow_and_update();
        // The second ping is sent after this call.
        for _ in 0..2 {
            within(DEADLINE, "the observer", pongs.changed()).await.expect("it lives");
        }
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Ears {
    address: SocketAddr,
    app: App,
    channels: Vec<String>,
    seen: Arc<Mutex<Seen>>,
    starts: Arc<Mutex<Vec<Start>>>,
    is_there: watch::Sender<bool>,
    pongs: watch::Sender<u64>,
}

impl Ears {
    /// Hears one server until it ends.
    async fn hear(&self) -> Option<()> {
        let url = format!("ws://{}/app/{}?protocol=7", self.address, self.app.key);
        let number = lock(&self.starts).len();
        let stream = TcpStream::connect(self.address).await.ok()?;
        if lock(&self.starts).len() != number {
            // It may be the old server's or the new one's.
            return None;
        }
        let (mut socket, _) = tokio_tungstenite::client_async(url, stream).await.ok()?;
        for channel in &self.channels {
            let data = json!({"event": "pusher:subscribe", "data": {"auth": "", "channel": channel}});
            socket.send(Message::text(data.to_string())).await.ok()?;
        }
        let mut missing = self.channels.len();
        let mut ping = tokio::time::interval(Duration::from_millis(100));
        let mut is_there = true;
        loop {
            tokio::select! {
                _ = ping.tick(), if is_there => {
                    let data = r#"{"event":"pusher:ping","data":{}}"#;
                    // Of a server that was killed, what it wrote before is still to be read.
                    is_there = socket.send(Message::text(data)).await.is_ok();
                }
                event = next(&mut socket) => {
                    let event = event?;
                    match event.event.as_str() {
                        "pusher:pong" => self.pongs.send_modify(|count| *count += 1),
                        "pusher_internal:subscription_succeeded" => missing -= 1,
                        _ => {}
                    }
                    // Of its own server: what a killed one wrote is still read when the next one starts.
                    if missing == 0 && number > 0 {
                        let mut starts = lock(&self.starts);
                        let is_last = starts.len() == number;
                        let heard_from = &mut starts[number - 1].heard_from;
                        if heard_from.is_none() {
                            *heard_from = Some(OffsetDateTime::now_utc());
                            self.is_there.send_replace(is_last);
                        }
                    }
                    lock(&self.seen).note(&event);
                }
            }
        }
    }
}

/// The next event, or nothing at the end.
async fn next(socket: &mut WebSocketStream<TcpStream>) -> Option<Event> {
    loop {
        match socket.next().await?.ok()? {
            Message::Text(text) => return Some(Event::read(&text)),
            Message::Close(frame) => {
                // Not because the server ends, but because of something this client did.
                if let Some(frame) = frame.filter(|frame| !frame.reason.starts_with("Server is")) {
                    eprintln!("the observer's connection was closed: {frame:?}");
                }
                return None;
            }
            _ => {}
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("not poisoned")
}
