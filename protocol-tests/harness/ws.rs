//! A Pusher client over tungstenite that trusts nothing: every frame it receives is checked against
//! what the strictest client library can read.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::handshake::client::Response as Upgrade;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{Error, Message};

use super::names::unique;
use super::server::TestServer;
use super::sign::App;
use super::{DEADLINE, within};

/// One text frame from the server.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    pub event: String,
    pub channel: Option<String>,
    /// A string, except in `pusher:error`.
    pub data: Value,
    pub user_id: Option<String>,
    /// The frame as received.
    pub text: String,
}

impl Event {
    /// Reads a frame by the rule of pusher-websocket-swift, which satisfies every other library: only
    /// known keys, `data` present and a string, but an object with integer-or-null `code` in
    /// `pusher:error`.
    pub fn read(text: &str) -> Self {
        let value: Value = serde_json::from_str(text).unwrap_or_else(|e| panic!("not JSON ({e}): {text}"));
        let fields = value.as_object().unwrap_or_else(|| panic!("not an object: {text}"));
        for key in fields.keys() {
            assert!(["event", "channel", "data", "user_id"].contains(&key.as_str()), "key {key:?} in {text}");
        }
        let string = |key: &str| -> Option<String> {
            let value = fields.get(key)?;
            Some(value.as_str().unwrap_or_else(|| panic!("{key:?} is not a string in {text}")).to_owned())
        };
        let event = string("event").unwrap_or_else(|| panic!("no event in {text}"));
        let data = fields.get("data").unwrap_or_else(|| panic!("no data in {text}")).clone();
        if event == "pusher:error" {
            let error = data.as_object().unwrap_or_else(|| panic!("data is not an object in {text}"));
            let code = error.get("code").unwrap_or_else(|| panic!("no code in {text}"));
            assert!(code.is_null() || code.is_u64(), "code is neither integer nor null in {text}");
            assert!(error.get("message").is_some_and(Value::is_string), "no message in {text}");
            assert_eq!(error.len(), 2, "unexpected keys in {text}");
        } else {
            assert!(data.is_string(), "data is not a string in {text}");
        }
        match event.as_str() {
            "pusher:connection_established"
            | "pusher:pong"
            | "pusher:error"
            | "pusher:signin_success"
            | "pusher_internal:watchlist_events" => {
                assert!(!fields.contains_key("channel"), "a channel in {text}");
            }
            _ => assert!(fields.contains_key("channel"), "no channel in {text}"),
        }
        if fields.contains_key("user_id") {
            let is_stamped =
                event.starts_with("client-") && fields["channel"].as_str().is_some_and(is_presence);
            assert!(is_stamped, "a user_id in {text}");
        }
        Self { event, channel: string("channel"), data, user_id: string("user_id"), text: text.to_owned() }
    }

    /// The code of a `pusher:error`, `None` when it is null.
    #[track_caller]
    pub fn code(&self) -> Option<u64> {
        assert_eq!(self.event, "pusher:error", "{}", self.text);
        self.data["code"].as_u64()
    }

    /// `data` as the string it is.
    #[track_caller]
    pub fn data(&self) -> &str {
        self.data.as_str().expect("a string")
    }

    /// The JSON inside `data`.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(self.data()).unwrap_or_else(|e| panic!("{e}: {}", self.text))
    }

    #[track_caller]
    pub fn channel(&self) -> &str {
        self.channel.as_deref().expect("a channel")
    }
}

fn is_presence(channel: &str) -> bool {
    channel.starts_with("presence-")
}

/// A connection with nothing assumed about its first frame.
#[derive(Debug)]
pub struct WsClient {
    stream: WebSocketStream<TcpStream>,
    /// Empty until [`Self::established`].
    pub socket_id: String,
    pub activity_timeout: u64,
    pub upgrade: Upgrade,
    app: App,
}

impl WsClient {
    /// Connects as pusher-js does and waits until the connection is established.
    pub async fn connect(server: &TestServer) -> Self {
        Self::connect_to(server, server.app()).await
    }

    /// As [`Self::connect`], to an app other than the first.
    pub async fn connect_to(server: &TestServer, app: &App) -> Self {
        let path = format!("/app/{}?protocol=7&client=js&version=8.6.0&flash=false", app.key);
        Self::open(server.public, app, &path, &[]).await.established().await
    }

    /// Upgrades `path`, which must answer 101.
    pub async fn open(addr: SocketAddr, app: &App, path: &str, headers: &[(&'static str, &str)]) -> Self {
        match Self::try_open(addr, app, path, headers).await {
            Ok(client) => client,
            Err(e) => panic!("no upgrade of {path}: {e}"),
        }
    }

    /// Upgrades `path` or tells why the server would not.
    pub async fn try_open(
        addr: SocketAddr,
        app: &App,
        path: &str,
        headers: &[(&'static str, &str)],
    ) -> Result<Self, Error> {
        let mut request = format!("ws://{addr}{path}").into_client_request()?;
        for (name, value) in headers {
            request.headers_mut().append(*name, value.parse().expect("a header value"));
        }
        let stream = TcpStream::connect(addr).await?;
        stream.set_nodelay(true)?;
        let upgrading = tokio_tungstenite::client_async(request, stream);
        let (stream, upgrade) = within(DEADLINE, "an upgrade", upgrading).await?;
        Ok(Self { stream, socket_id: String::new(), activity_timeout: 0, upgrade, app: app.clone() })
    }

    /// Reads `pusher:connection_established`, which must be the first frame.
    pub async fn established(mut self) -> Self {
        let event = self.expect("pusher:connection_established").await;
        assert_eq!(event.channel, None);
        let data = event.json();
        self.socket_id = data["socket_id"].as_str().expect("socket_id is a string").to_owned();
        self.activity_timeout = data["activity_timeout"].as_u64().expect("activity_timeout is a number");
        self
    }

    pub fn app(&self) -> &App {
        &self.app
    }

    pub async fn send_text(&mut self, text: &str) {
        self.send_message(Message::text(text)).await;
    }

    pub async fn send_json(&mut self, value: &Value) {
        self.send_text(&value.to_string()).await;
    }

    pub async fn send_message(&mut self, message: Message) {
        within(DEADLINE, "the server to read", self.stream.send(message)).await.expect("the server reads");
    }

    /// Sends, unless the server has closed.
    pub async fn try_send_text(&mut self, text: &str) -> bool {
        within(DEADLINE, "the server to read", self.stream.send(Message::text(text))).await.is_ok()
    }

    /// The next message of any kind but control pings and pongs, or `None` at the end.
    async fn message(&mut self) -> Option<Message> {
        loop {
            match self.stream.next().await? {
                Ok(Message::Ping(_) | Message::Pong(_)) => {}
                Ok(message) => return Some(message),
                Err(Error::ConnectionClosed | Error::AlreadyClosed) => return None,
                Err(e) => panic!("the connection failed: {e}"),
            }
        }
    }

    /// The next message of any kind, control pings and pongs too.
    pub async fn next_message(&mut self, limit: Duration) -> Message {
        let message = within(limit, "a message", self.stream.next())
            .await
            .expect("the connection is open")
            .expect("the connection works");
        if let Message::Text(text) = &message {
            Event::read(text);
        }
        message
    }

    /// The next text frame.
    pub async fn next(&mut self) -> Event {
        self.next_within(DEADLINE, "a frame").await
    }

    /// The next text frame, within `limit`.
    pub async fn next_within(&mut self, limit: Duration, what: &str) -> Event {
        match within(limit, what, self.message()).await {
            Some(Message::Text(text)) => Event::read(&text),
            other => panic!("expected {what}, got {other:?}"),
        }
    }

    /// The next text frame, which must be this event.
    pub async fn expect(&mut self, event: &str) -> Event {
        let frame = self.next_within(DEADLINE, event).await;
        assert_eq!(frame.event, event, "{}", frame.text);
        frame
    }

    /// As [`Self::expect`] with a deadline of its own.
    pub async fn expect_event(&mut self, event: &str, limit: Duration) -> Event {
        let frame = self.next_within(limit, event).await;
        assert_eq!(frame.event, event, "{}", frame.text);
        frame
    }

    /// The next text frame, which must be exactly this text up to the order of keys.
    pub async fn expect_text(&mut self, text: &str) -> Event {
        let frame = self.next_within(DEADLINE, text).await;
        let expected: Value = serde_json::from_str(text).expect("expected text is JSON");
        let got: Value = serde_json::from_str(&frame.text).expect("checked");
        assert_eq!(got, expected);
        frame
    }

    /// Skips other frames until this event comes.
    pub async fn wait_for(&mut self, event: &str) -> Event {
        loop {
            let frame = self.next_within(DEADLINE, event).await;
            if frame.event == event {
                return frame;
            }
        }
    }

    /// The next frame, which must be `pusher:error` with this code and a message containing `part`.
    pub async fn expect_error(&mut self, code: impl Into<Option<u16>>, part: &str) -> Event {
        let frame = self.expect("pusher:error").await;
        let code = code.into().map_or(Value::Null, Value::from);
        assert_eq!(frame.data["code"], code, "{}", frame.text);
        let message = frame.data["message"].as_str().expect("checked");
        assert!(message.contains(part), "{part:?} is not in {message:?}");
        frame
    }

    /// Reads the Close frame, which must be next and carry `code`, and then the clean end.
    pub async fn expect_close(&mut self, code: u16) -> CloseFrame {
        self.expect_close_within(code, DEADLINE).await
    }

    pub async fn expect_close_within(&mut self, code: u16, limit: Duration) -> CloseFrame {
        let frame = match within(limit, "a Close frame", self.message()).await {
            Some(Message::Close(Some(frame))) => frame,
            other => panic!("expected a Close with {code}, got {other:?}"),
        };
        assert_eq!(u16::from(frame.code), code, "{frame:?}");
        let end = within(limit, "the end after the Close", self.message()).await;
        assert_eq!(end, None, "nothing follows a Close");
        frame
    }

    /// The next frames, which must turn the connection away: `pusher:error` with `code` and a message that
    /// contains `part`, a Close with the same code and message, and the clean end.
    pub async fn expect_refusal(&mut self, code: u16, part: &str) {
        let error = self.expect_error(code, part).await;
        let message = error.data["message"].as_str().expect("checked").to_owned();
        let close = self.expect_close(code).await;
        assert!(close.reason.len() <= 123, "{close:?}");
        assert!(message.starts_with(close.reason.as_str()), "{message:?} and {close:?}");
        assert!(close.reason.len() >= message.len().min(120), "{message:?} and {close:?}");
    }

    /// Skips text frames until the Close comes; returns it.
    pub async fn wait_for_close(&mut self, limit: Duration) -> CloseFrame {
        within(limit, "a Close frame", async {
            loop {
                match self.message().await {
                    Some(Message::Close(Some(frame))) => return frame,
                    Some(Message::Text(text)) => drop(Event::read(&text)),
                    other => panic!("expected a Close, got {other:?}"),
                }
            }
        })
        .await
    }

    /// Closes from our side and waits for the server's Close.
    pub async fn close(mut self) {
        self.stream.close(None).await.expect("the server reads");
        within(DEADLINE, "the server's Close", async {
            while let Some(message) = self.message().await {
                drop(message);
            }
        })
        .await;
    }

    /// Ends TCP without a Close frame, with a reset instead of a FIN.
    pub fn reset(self) {
        let socket = socket2::SockRef::from(self.stream.get_ref());
        socket.set_linger(Some(Duration::ZERO)).expect("SO_LINGER");
    }

    /// Fails when anything but the answer arrives before the answer to a `pusher:ping`.
    pub async fn expect_nothing(&mut self) {
        self.send_text(r#"{"event":"pusher:ping","data":{}}"#).await;
        let frame = self.next_within(DEADLINE, "pusher:pong").await;
        assert_eq!(frame.event, "pusher:pong", "unexpected: {}", frame.text);
    }

    /// Fails when anything arrives that was published before this call, or sent in answer to a request
    /// that was answered before it.
    ///
    /// [`Self::expect_nothing`] alone would not prove that: an event reaches a connection through the
    /// thread that owns it, which may read the ping first. What is published later comes later.
    pub async fn expect_nothing_published(&mut self, server: &TestServer) {
        let events = self.published_so_far(server).await;
        assert!(events.is_empty(), "unexpected: {events:?}");
    }

    /// Everything that was published for this connection before this call and not read yet.
    pub async fn published_so_far(&mut self, server: &TestServer) -> Vec<Event> {
        let fence = unique("fence-");
        let app = self.app.clone();
        self.send_subscribe(&fence).await;
        let mut events = self.until(|frame| frame.channel.as_deref() == Some(&fence)).await;
        server.publish_to(&app, &fence, "fence", "{}").await;
        let is_fence = |frame: &Event| frame.event == "fence" && frame.channel.as_deref() == Some(&fence);
        events.extend(self.until(is_fence).await);
        events.retain(|frame| frame.channel.as_deref() != Some(&fence));
        self.unsubscribe(&fence).await;
        events
    }

    async fn until(&mut self, is_last: impl Fn(&Event) -> bool) -> Vec<Event> {
        let mut events = Vec::new();
        loop {
            let frame = self.next_within(DEADLINE, "the fence").await;
            if is_last(&frame) {
                return events;
            }
            events.push(frame);
        }
    }

    /// Reads everything up to the answer to a `pusher:ping` and returns it.
    pub async fn drain(&mut self) -> Vec<Event> {
        self.send_text(r#"{"event":"pusher:ping","data":{}}"#).await;
        let mut events = Vec::new();
        loop {
            let frame = self.next_within(DEADLINE, "pusher:pong").await;
            if frame.event == "pusher:pong" {
                return events;
            }
            events.push(frame);
        }
    }

    /// Sends `pusher:subscribe` for a channel that needs no signature; reads nothing.
    pub async fn send_subscribe(&mut self, channel: &str) {
        self.send_json(&json!({"event": "pusher:subscribe", "data": {"auth": "", "channel": channel}})).await;
    }

    /// Sends `pusher:subscribe` with the right signature for a private channel; reads nothing.
    pub async fn send_subscribe_private(&mut self, channel: &str) {
        let auth = self.app.channel_auth(&self.socket_id, channel);
        self.send_subscribe_with_auth(channel, &auth).await;
    }

    /// Sends `pusher:subscribe` with this `auth`; reads nothing.
    pub async fn send_subscribe_with_auth(&mut self, channel: &str, auth: &str) {
        self.send_json(&json!({"event": "pusher:subscribe", "data": {"auth": auth, "channel": channel}}))
            .await;
    }

    /// Sends `pusher:subscribe` with the right signature for a presence channel; reads nothing.
    pub async fn send_subscribe_presence(&mut self, channel: &str, channel_data: &str) {
        let auth = self.app.presence_auth(&self.socket_id, channel, channel_data);
        let data = json!({"auth": auth, "channel": channel, "channel_data": channel_data});
        self.send_json(&json!({"event": "pusher:subscribe", "data": data})).await;
    }

    /// Subscribes to a channel of any kind but presence, with a right signature where one is needed.
    pub async fn subscribe(&mut self, channel: &str) -> Event {
        if channel.starts_with("private-") {
            self.send_subscribe_private(channel).await;
        } else {
            self.send_subscribe(channel).await;
        }
        self.expect_subscribed(channel).await
    }

    /// Joins a presence channel and returns the roster: the value of `presence`.
    pub async fn join(&mut self, channel: &str, channel_data: &str) -> Value {
        self.send_subscribe_presence(channel, channel_data).await;
        self.expect_subscribed(channel).await.json()["presence"].clone()
    }

    /// Joins a presence channel as `user` without user_info.
    pub async fn join_as(&mut self, channel: &str, user: &str) -> Value {
        self.join(channel, &json!({"user_id": user}).to_string()).await
    }

    /// The next frame, which must say that `channel` is subscribed.
    pub async fn expect_subscribed(&mut self, channel: &str) -> Event {
        let frame = self.expect("pusher_internal:subscription_succeeded").await;
        assert_eq!(frame.channel(), channel);
        frame
    }

    /// The next two frames, which must say that `channel` is not subscribed: `pusher:subscription_error`
    /// of this type and status for pusher-js and Echo, then `pusher:error` with the same text.
    pub async fn expect_not_subscribed(
        &mut self,
        channel: &str,
        kind: &str,
        status: u16,
        part: &str,
    ) -> String {
        let frame = self.expect("pusher:subscription_error").await;
        assert_eq!(frame.channel(), channel);
        let data = frame.json();
        assert_eq!(data["type"], kind, "{data}");
        assert_eq!(data["status"], status, "{data}");
        let text = data["error"].as_str().expect("error is a string").to_owned();
        assert!(text.contains(part), "{part:?} is not in {text:?}");
        let error = self.expect_error(None, part).await;
        assert_eq!(error.data["message"], text);
        text
    }

    pub async fn unsubscribe(&mut self, channel: &str) {
        self.send_json(&json!({"event": "pusher:unsubscribe", "data": {"channel": channel}})).await;
    }

    /// Sends `pusher:signin` with the right signature; reads nothing.
    pub async fn send_signin(&mut self, user_data: &str) {
        let auth = self.app.user_auth(&self.socket_id, user_data);
        self.send_json(&json!({"event": "pusher:signin", "data": {"auth": auth, "user_data": user_data}}))
            .await;
    }

    /// Signs in and reads the success.
    pub async fn sign_in(&mut self, user_data: &str) -> Event {
        self.send_signin(user_data).await;
        let frame = self.expect("pusher:signin_success").await;
        assert_eq!(frame.json(), json!({"user_data": user_data}), "the same string and nothing else");
        assert_eq!(frame.channel, None);
        frame
    }

    /// Sends a client event.
    pub async fn send_client_event(&mut self, channel: &str, event: &str, data: &Value) {
        self.send_json(&json!({"event": event, "channel": channel, "data": data})).await;
    }
}
