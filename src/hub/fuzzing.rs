//! Whole connections: what clients may be sent, given what they and a backend sent.
//!
//! Three clients of one shard, over real sockets. After each step all of them ask for a pong, which comes behind
//! everything before it; so what each was sent because of the step is known, and is held against [`Model`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::AppHub;
use super::testing::{self, OneShard};
use crate::config::{AppSettings, ClientEvents};
use crate::protocol::channel::{ChannelKind, ChannelName};
use crate::protocol::client_event::{ClientEvent, ClientMessage};
use crate::protocol::id::check_event_name;
use crate::protocol::json;

const CLIENTS: [char; 3] = ['a', 'b', 'c'];
const MAX_STEPS: usize = 30;
const PING: &str = r#"{"event":"pusher:ping"}"#;
/// A frame that does not come in this time never comes.
const PATIENCE: Duration = Duration::from_secs(20);
/// Depends on time, and on what others did before.
const AT_ANY_TIME: [&str; 3] =
    ["pusher_internal:subscription_count", "pusher_internal:member_added", "pusher_internal:member_removed"];

/// A step in each line. `p CHANNEL EVENT TEXT`: a backend publishes. `a`, `b`, `c`: a client sends the rest of the line
/// as a text frame, or of `+CHANNEL` a signed subscription, of `=USER` a signed sign-in, of `!HEX` these bytes and
/// nothing more, of `x` nothing more.
pub(crate) fn connection(script: &str) {
    // Long texts and long scripts find nothing that short ones do not.
    if script.len() > 2048 {
        return;
    }
    testing::run(async {
        let one = OneShard::new(settings());
        let app = one.hub.app_by_id("1001").expect("bug: no app");
        let mut model = Model::default();
        let mut clients = BTreeMap::new();
        for name in CLIENTS {
            clients.insert(name, Wire::connect(&one, &app).await);
            model.clients.insert(name, Peer::default());
        }
        for line in script.lines().take(MAX_STEPS) {
            let mut expected = Expected::new();
            let mut is_known = true;
            match line.split_at_checked(1) {
                Some(("p", rest)) => model.publish(&app, rest, &mut expected),
                Some((name, action)) if CLIENTS.iter().any(|client| name.starts_with(*client)) => {
                    let name = name.chars().next().expect("bug: an empty name");
                    if let Some(wire) = clients.get_mut(&name) {
                        is_known = act(&mut model, name, wire, action, &mut expected).await;
                    }
                }
                _ => continue,
            }
            let gone: Vec<_> = clients.extract_if(.., |name, _| !model.clients.contains_key(name)).collect();
            for (_, wire) in gone {
                wire.end().await;
            }
            // Whoever acted first, so that the others have what came of it by then.
            for _ in 0..2 {
                for (name, wire) in &mut clients {
                    wire.ask().await;
                    wire.settle(model.clients.get(name).expect("bug: a client without a model")).await;
                }
            }
            for (name, wire) in &mut clients {
                let came = std::mem::take(&mut wire.came);
                let expected = expected.remove(name).unwrap_or_default();
                assert!(!is_known || came == expected, "{name} after {line:?}: {came:?}, not {expected:?}");
            }
        }
        for (name, wire) in clients {
            assert_eq!(wire.end().await, [""; 0], "{name} at the end");
        }
    });
}

fn settings() -> AppSettings {
    AppSettings {
        client_events: ClientEvents::Members,
        client_event_rate: None,
        subscription_count: true,
        event_size: 2_000,
        ..testing::app()
    }
}

/// What each client is to be sent, in short words.
type Expected = BTreeMap<char, Vec<String>>;

/// What is known of all clients.
#[derive(Default)]
struct Model {
    clients: BTreeMap<char, Peer>,
    /// What cache channels remember.
    remembered: BTreeMap<String, String>,
}

#[derive(Default)]
struct Peer {
    user: Option<String>,
    subscribed: BTreeSet<String>,
    /// Channels that it is or was subscribed to.
    let_in: BTreeSet<String>,
}

/// Lets a client act; answers whether it is known what comes of it.
async fn act(model: &mut Model, name: char, wire: &mut Wire, action: &str, expected: &mut Expected) -> bool {
    let text = match action.split_at_checked(1) {
        Some(("+", channel)) => wire.signed_subscription(name, channel),
        Some(("=", user)) => wire.signed_sign_in(user),
        Some(("!", digits)) => {
            wire.send(&hex_digits(digits)).await;
            model.clients.remove(&name);
            // Frames of a client may be among them.
            return false;
        }
        Some(("x", "")) => {
            model.clients.remove(&name);
            return true;
        }
        _ => action.to_owned(),
    };
    let is_signed = text != action;
    wire.send_text(&text).await;
    wire.asked += usize::from(ClientMessage::parse(&text) == Ok(ClientMessage::Ping));
    model.message(name, &text, is_signed, expected);
    true
}

/// The bytes that the pairs of digits stand for, as far as they are ones.
fn hex_digits(digits: &str) -> Vec<u8> {
    let pairs = digits.as_bytes().chunks_exact(2);
    pairs.map_while(|pair| hex::decode(pair).ok()).flatten().collect()
}

impl Model {
    fn peer(&mut self, name: char) -> &mut Peer {
        self.clients.get_mut(&name).expect("bug: a client without a model")
    }

    /// A text frame of a client, which the harness has signed or not.
    fn message(&mut self, name: char, text: &str, is_signed: bool, expected: &mut Expected) {
        let own = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let answer = match ClientMessage::parse(text) {
            Ok(ClientMessage::Ping | ClientMessage::Pong) => Vec::new(),
            Ok(ClientMessage::Subscribe(request)) => self.subscribe(name, &request.channel, is_signed),
            Ok(ClientMessage::Unsubscribe(channel)) => {
                self.peer(name).subscribed.remove(&channel);
                Vec::new()
            }
            Ok(ClientMessage::SignIn(request)) => {
                let user = request.ok().filter(|_| is_signed).and_then(|request| user_of(&request.user_data));
                let peer = self.peer(name);
                match user {
                    Some(user) if peer.user.as_ref().is_none_or(|known| *known == user) => {
                        peer.user = Some(user);
                        own(&["pusher:signin_success"])
                    }
                    _ => own(&["pusher:error 4009"]),
                }
            }
            Ok(ClientMessage::Event(event)) => {
                if !self.client_event(name, &event, expected) {
                    expected.insert(name, own(&["pusher:error null"]));
                }
                return;
            }
            Err(_) => own(&["pusher:error null"]),
        };
        expected.insert(name, answer);
    }

    fn subscribe(&mut self, name: char, channel: &str, is_signed: bool) -> Vec<String> {
        let shown: String = channel.chars().take(256).collect();
        let refused = vec![format!("pusher:subscription_error {shown}"), "pusher:error null".to_owned()];
        let Ok(parsed) = ChannelName::parse(channel) else { return refused };
        let remembered = self.remembered.get(channel).cloned();
        let peer = self.peer(name);
        let is_allowed = match parsed.kind() {
            ChannelKind::Public => true,
            ChannelKind::ServerToUser => peer.user.as_deref() == parsed.server_to_user(),
            ChannelKind::Private | ChannelKind::PrivateEncrypted | ChannelKind::Presence => is_signed,
        };
        if !is_allowed {
            return refused;
        }
        let succeeded = format!("pusher_internal:subscription_succeeded {channel}");
        peer.let_in.insert(channel.to_owned());
        match (peer.subscribed.insert(channel.to_owned()), remembered) {
            (true, Some(event)) => vec![succeeded, event],
            (true, None) if parsed.is_cache() => vec![succeeded, format!("pusher:cache_miss {channel}")],
            _ => vec![succeeded],
        }
    }

    /// Whether a client event goes out; then all other subscribers are to get it.
    fn client_event(&mut self, name: char, event: &ClientEvent<'_>, expected: &mut Expected) -> bool {
        let is_guarded = ChannelName::parse(&event.channel).is_ok_and(|channel| channel.kind().needs_auth());
        let fits = json::decoded_len(&event.data).is_some_and(|len| len <= settings().event_size);
        let is_member = self.peer(name).subscribed.contains(&event.channel);
        if !is_guarded || !is_member || !fits || check_event_name(&event.name).is_err() {
            return false;
        }
        let is_presence = event.channel.starts_with("presence-");
        let data: String = serde_json::from_str(&event.data).expect("bug: data is no JSON string");
        let user = if is_presence { format!(" of user-{name}") } else { String::new() };
        let word = format!("{} {} {data:?}{user}", event.name, event.channel);
        self.deliver(&event.channel, &word, Some(name), expected);
        true
    }

    fn publish(&mut self, app: &AppHub, line: &str, expected: &mut Expected) {
        let mut parts = line.trim_start().splitn(3, ' ');
        let mut next = || parts.next().unwrap_or_default();
        let (channel, event, data) = (next(), next(), next());
        let Ok(channel) = ChannelName::parse(channel) else { return };
        if check_event_name(event).is_err() {
            return;
        }
        app.publish(&channel, event, &json::string(data), None);
        let word = format!("{event} {channel} {data:?}");
        if channel.is_cache() {
            self.remembered.insert(channel.to_string(), word.clone());
        }
        self.deliver(channel.as_str(), &word, None, expected);
    }

    fn deliver(&self, channel: &str, word: &str, except: Option<char>, expected: &mut Expected) {
        let receives = |name: char, peer: &Peer| Some(name) != except && peer.subscribed.contains(channel);
        for (name, _) in self.clients.iter().filter(|(name, peer)| receives(**name, peer)) {
            expected.entry(*name).or_default().push(word.to_owned());
        }
    }
}

fn user_of(user_data: &str) -> Option<String> {
    crate::protocol::presence::UserData::parse(user_data).ok().map(|user| user.id.as_str().to_owned())
}

/// A client's end of a connection.
struct Wire {
    socket: TcpStream,
    id: String,
    unread: Vec<u8>,
    /// Pongs that have to come.
    asked: usize,
    /// What came otherwise.
    came: Vec<String>,
}

/// A frame of the server's.
enum Frame {
    Text(String),
    /// Its opcode.
    Control(u8),
}

impl Wire {
    async fn connect(one: &OneShard, app: &Arc<AppHub>) -> Self {
        let (near, far) = testing::local_pair();
        one.attach(one.hub.place(app).expect("bug: no room"), far, b"");
        let mut wire =
            Self { socket: near, id: String::new(), unread: Vec::new(), asked: 0, came: Vec::new() };
        let Some(Frame::Text(text)) = wire.frame().await else { panic!("a connection without a greeting") };
        let greeting: Value = serde_json::from_str(&text).expect("bug: a frame that is no JSON");
        assert_eq!(greeting["event"], "pusher:connection_established");
        let data: Value =
            serde_json::from_str(greeting["data"].as_str().expect("bug: no data")).expect("bug");
        wire.id = data["socket_id"].as_str().expect("bug: no socket_id").to_owned();
        wire
    }

    fn signed_subscription(&self, name: char, channel: &str) -> String {
        let mut data = json!({"channel": channel});
        let channel_data = json!({"user_id": format!("user-{name}")}).to_string();
        let auth = if channel.starts_with("presence-") {
            data["channel_data"] = channel_data.as_str().into();
            testing::sign(&[self.id.as_bytes(), b":", channel.as_bytes(), b":", channel_data.as_bytes()])
        } else {
            testing::sign(&[self.id.as_bytes(), b":", channel.as_bytes()])
        };
        data["auth"] = auth.into();
        json!({"event": "pusher:subscribe", "data": data}).to_string()
    }

    fn signed_sign_in(&self, user: &str) -> String {
        let user_data = json!({"id": user}).to_string();
        let auth = testing::sign(&[self.id.as_bytes(), b"::user::", user_data.as_bytes()]);
        json!({"event": "pusher:signin", "data": {"auth": auth, "user_data": user_data}}).to_string()
    }

    async fn send(&mut self, bytes: &[u8]) {
        // A server that has closed already is seen when reading.
        let _ = self.socket.write_all(bytes).await;
    }

    async fn send_text(&mut self, text: &str) {
        self.send(&testing::frames([text])).await;
    }

    async fn ask(&mut self) {
        self.asked += 1;
        self.send_text(PING).await;
    }

    /// Reads until the pong is there that was asked for. One too many is found at the end.
    async fn settle(&mut self, peer: &Peer) {
        while self.asked > 0 {
            let Some(Frame::Text(text)) = self.frame().await else {
                panic!("the server closed a good client")
            };
            match word(&text, Some(peer)) {
                Some(word) if word == "pusher:pong" => self.asked -= 1,
                word => self.came.extend(word),
            }
        }
    }

    /// What comes after the client's last bytes: whatever they were, only whole frames.
    async fn end(mut self) -> Vec<String> {
        let _ = self.socket.shutdown().await;
        while let Some(frame) = self.frame().await {
            match frame {
                Frame::Text(text) => self.came.extend(word(&text, None)),
                Frame::Control(opcode) => assert!(matches!(opcode, 8..=10), "opcode {opcode}"),
            }
        }
        self.came
    }

    /// The next frame; `None`: the connection has ended.
    async fn frame(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = self.take_frame() {
                return Some(frame);
            }
            let read = tokio::time::timeout(PATIENCE, self.socket.read_buf(&mut self.unread)).await;
            match read.expect("the server says nothing any more") {
                Ok(0) | Err(_) => {
                    assert!(self.unread.is_empty(), "the connection ends within a frame");
                    return None;
                }
                Ok(_) => {}
            }
        }
    }

    /// RFC 6455, section 5.2: the server's frames are whole, not masked, and no longer than they need be.
    fn take_frame(&mut self) -> Option<Frame> {
        let (first, second) = (*self.unread.first()?, *self.unread.get(1)?);
        assert!(first & 0xf0 == 0x80 && second & 0x80 == 0, "the frame begins with {first:02x} {second:02x}");
        let (head, len) = match second {
            126 => (4, usize::from(u16::from_be_bytes([*self.unread.get(2)?, *self.unread.get(3)?]))),
            127 => panic!("a frame of more than 64 KB"),
            len => (2, usize::from(len)),
        };
        let payload = self.unread.get(head..head + len)?.to_vec();
        self.unread.drain(..head + len);
        Some(match first & 0x0f {
            1 => Frame::Text(String::from_utf8(payload).expect("bug: a text that is no UTF-8")),
            opcode => Frame::Control(opcode),
        })
    }
}

/// A frame in short; `None`: it may come at any time. Whatever it is, it has the form that client libraries read, and
/// names no channel that the client, if it is known, was never let in to.
fn word(text: &str, peer: Option<&Peer>) -> Option<String> {
    let frame: Value = serde_json::from_str(text).expect("bug: a frame that is no JSON");
    let event = frame["event"].as_str().expect("bug: a frame without an event");
    if event == "pusher:error" {
        assert!(frame["data"]["message"].is_string(), "{text}");
        return Some(format!("{event} {}", frame["data"]["code"]));
    }
    let data = frame["data"].as_str().unwrap_or_else(|| panic!("data is no string: {text}"));
    let Some(channel) = frame["channel"].as_str() else { return Some(event.to_owned()) };
    let may_know = peer.is_none_or(|peer| peer.let_in.contains(channel));
    assert!(may_know || event == "pusher:subscription_error", "{text}");
    if AT_ANY_TIME.contains(&event) {
        let mut members = CLIENTS.iter().map(|name| format!(r#"{{"user_id":"user-{name}""#));
        assert!(event.ends_with("_count") || members.any(|member| data.starts_with(&member)), "{text}");
        return None;
    }
    let is_of_service = event.starts_with("pusher:") || event.starts_with("pusher_internal:");
    let user = frame["user_id"].as_str().map(|user| format!(" of {user}")).unwrap_or_default();
    Some(if is_of_service {
        format!("{event} {channel}")
    } else {
        format!("{event} {channel} {data:?}{user}")
    })
}
