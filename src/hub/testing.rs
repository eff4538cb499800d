//! Connections for tests: one real shard and real sockets, without HTTP in front.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::LocalOptions;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::{Admission, Alone, AppHub, ConnectionLimits, Hub, Refusal, Shard};
use crate::config::{AppSettings, ServerSettings};
use crate::protocol::auth::AppKeys;

/// A hub of one shard, which runs on the test's thread.
pub(crate) struct OneShard {
    pub hub: Hub,
    pub shard: Rc<Shard>,
}

/// A client of app 1001.
pub(crate) struct Client {
    socket: WebSocketStream<TcpStream>,
    pub id: String,
}

/// An app `1001`, `key`, `secret`.
pub(crate) fn app() -> AppSettings {
    AppSettings::new("1001", "key", "secret")
}

/// Runs a test on a thread of a shard's kind.
pub(crate) fn run(test: impl Future<Output = ()>) {
    let builder =
        tokio::runtime::Builder::new_current_thread().enable_all().build_local(LocalOptions::default());
    let runtime = builder.expect("a runtime");
    let outcome = catch_unwind(AssertUnwindSafe(|| runtime.block_on(test)));
    // A shard's tasks that end while their thread panics end the process.
    drop(runtime);
    outcome.unwrap_or_else(|panic| resume_unwind(panic));
}

impl Hub {
    /// A place for a client whose address does not count.
    pub(crate) fn place(&self, app: &Arc<AppHub>) -> Result<Admission, Refusal> {
        let visit = self.visit([127, 0, 0, 1].into(), false).expect("not counted");
        self.admit(app, &visit, None)
    }
}

impl OneShard {
    /// Must be called inside [`run`].
    pub fn new(app: AppSettings) -> Self {
        Self::with(app, ServerSettings::default())
    }

    pub fn with(app: AppSettings, server: ServerSettings) -> Self {
        let hub = Hub::new(1, ConnectionLimits::new(&server), Arc::new(Alone));
        hub.set_apps(vec![app]);
        Self { shard: Shard::new(hub.clone(), 0), hub }
    }

    /// Hands a socket to the shard; `leftover` is what the client sent behind its handshake.
    pub fn attach(&self, admission: Admission, socket: TcpStream, leftover: &[u8]) {
        self.shard.attach(admission, None, self.hub.assign_shard().expect("room"), socket, leftover);
    }

    /// A connection that was told its socket id.
    pub async fn connect(&self) -> Client {
        let (near, far) = pair().await;
        let app = self.hub.app_by_id("1001").expect("configured");
        self.attach(self.hub.place(&app).expect("room"), far, b"");
        Client::of(near).await
    }
}

/// Both ends of a TCP connection.
pub(crate) async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let near = TcpStream::connect(listener.local_addr().expect("bound")).await.expect("connected");
    let (far, _) = listener.accept().await.expect("accepted");
    (near, far)
}

/// Both ends of a connection that takes no port of the system's: as quick as the system has it.
pub(crate) fn local_pair() -> (TcpStream, TcpStream) {
    let (near, far) =
        socket2::Socket::pair(socket2::Domain::UNIX, socket2::Type::STREAM, None).expect("a pair");
    let stream = |socket: socket2::Socket| {
        socket.set_nonblocking(true).expect("set");
        TcpStream::from_std(socket.into()).expect("inside a runtime")
    };
    (stream(near), stream(far))
}

/// Both ends of a TCP connection whose buffers are as small as the system lets them be.
pub(crate) async fn narrow_pair() -> (TcpStream, TcpStream) {
    let (near, far) = pair().await;
    SockRef::from(&near).set_recv_buffer_size(1).expect("set");
    SockRef::from(&far).set_send_buffer_size(1).expect("set");
    (near, far)
}

/// Text frames as a client sends them, one behind the other.
pub(crate) fn frames<'a>(texts: impl IntoIterator<Item = &'a str>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for text in texts {
        let len = u16::try_from(text.len()).expect("short");
        bytes.extend([0x81, 0x80 | 126]);
        bytes.extend(len.to_be_bytes());
        bytes.extend([0; 4]);
        bytes.extend(text.as_bytes());
    }
    bytes
}

impl Client {
    /// The client of this socket, which the shard has the other end of.
    pub async fn of(near: TcpStream) -> Self {
        let socket = WebSocketStream::from_raw_socket(near, Role::Client, None).await;
        let mut client = Self { socket, id: String::new() };
        let data = client.next().await["data"].as_str().map(str::to_owned).expect("data");
        let data: Value = serde_json::from_str(&data).expect("JSON");
        client.id = data["socket_id"].as_str().expect("an id").to_owned();
        client
    }

    pub async fn send(&mut self, event: &str, data: Value) {
        let text = json!({"event": event, "data": data}).to_string();
        self.socket.send(Message::text(text)).await.expect("sent");
    }

    /// Asks for a channel without waiting for the answer.
    pub async fn ask_for(&mut self, channel: &str) {
        let parts = [self.id.as_bytes(), channel.as_bytes()];
        let auth = sign(&[parts[0], b":", parts[1]]);
        self.send("pusher:subscribe", json!({"channel": channel, "auth": auth})).await;
    }

    pub async fn subscribe(&mut self, channel: &str) {
        self.ask_for(channel).await;
        assert_eq!(self.names(1).await, [format!("pusher_internal:subscription_succeeded {channel}")]);
    }

    /// Asks to sign in without waiting for the answer.
    pub async fn sign_in(&mut self, user: &str) {
        let user_data = json!({"id": user}).to_string();
        let auth = sign(&[self.id.as_bytes(), b"::user::", user_data.as_bytes()]);
        self.send("pusher:signin", json!({"auth": auth, "user_data": user_data})).await;
    }

    pub async fn client_event(&mut self, channel: &str, event: &str, data: Value) {
        let text = json!({"event": event, "channel": channel, "data": data}).to_string();
        self.socket.send(Message::text(text)).await.expect("sent");
    }

    /// The next frame.
    pub async fn next(&mut self) -> Value {
        let message = tokio::time::timeout(Duration::from_secs(10), self.socket.next()).await;
        let message = message.expect("a frame in time").expect("open").expect("a frame");
        serde_json::from_str(message.to_text().expect("text")).expect("JSON")
    }

    /// The code that the connection is closed with, after whatever comes before.
    pub async fn close_code(&mut self) -> u16 {
        loop {
            let message = tokio::time::timeout(Duration::from_secs(10), self.socket.next()).await;
            match message.expect("a frame in time").expect("a frame").expect("open") {
                Message::Close(close) => return close.expect("a code").code.into(),
                _ => continue,
            }
        }
    }

    /// The data of the next frame, which must be this event.
    pub async fn data(&mut self, event: &str) -> Value {
        let frame = self.next().await;
        assert_eq!(frame["event"], event, "{frame}");
        serde_json::from_str(frame["data"].as_str().expect("a string")).expect("JSON")
    }

    /// The next frames, as `event channel`.
    pub async fn names(&mut self, count: usize) -> Vec<String> {
        let mut names = Vec::new();
        for _ in 0..count {
            let frame = self.next().await;
            let text = |key: &str| frame[key].as_str().unwrap_or_default().to_owned();
            names.push(format!("{} {}", text("event"), text("channel")).trim().to_owned());
        }
        names
    }

    /// What came until now, as `event channel`: a ping is answered behind everything before it.
    pub async fn names_until_now(&mut self) -> Vec<String> {
        self.send("pusher:ping", json!({})).await;
        let mut names = Vec::new();
        loop {
            match self.names(1).await.pop() {
                Some(pong) if pong == "pusher:pong" => return names,
                name => names.extend(name),
            }
        }
    }
}

/// `key:` and the signature of these parts.
pub(crate) fn sign(parts: &[&[u8]]) -> String {
    format!("key:{}", AppKeys::new("key", ["secret"]).sign(parts))
}
