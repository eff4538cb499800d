//! A portal's backend and a page.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use ed25519_dalek::{Signer, SigningKey};
use futures_util::{SinkExt, StreamExt};
use hmac::{Hmac, KeyInit, Mac};
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use md5::{Digest, Md5};
use serde_json::{Value, json};
use sha2::Sha256;
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use super::server::Server;

/// What the server believes webhooks of.
pub fn public_key() -> String {
    STANDARD.encode(carrier().verifying_key().as_bytes())
}

fn carrier() -> SigningKey {
    SigningKey::from_bytes(&[0x11; 32])
}

/// A webhook that brings a message, signed.
pub struct Webhook {
    timestamp: String,
    signature: String,
    body: Bytes,
}

impl Webhook {
    pub fn inbound(number: u64, from: &str, to: &str) -> Self {
        let event = json!({"data": {"event_type": "message.received", "id": format!("event-{number:032}"),
            "occurred_at": "2026-11-22T19:13:31.148+00:00", "record_type": "event", "payload": {
            "record_type": "message", "direction": "inbound", "id": format!("message-{number:030}"), "type": "SMS",
            "organization_id": "9d76d591-1b7d-405d-8c64-1320ee070245",
            "messaging_profile_id": "83d2343b-553f-4c5f-b8c8-fd27004f94bf",
            "from": {"phone_number": from, "carrier": "T-Mobile USA", "line_type": "Wireless"},
            "to": [{"phone_number": to, "status": "webhook_delivered", "carrier": "Telnyx", "line_type": "Wireless"}],
            "cc": [], "text": format!("Message {number} from outside"), "subject": null, "media": [],
            "webhook_url": "https://ws.portal.example/carriers/telnyx/1001", "webhook_failover_url": null,
            "encoding": "GSM-7", "parts": 1, "tags": [], "cost": null,
            "received_at": "2026-11-22T19:13:31.001+00:00", "sent_at": null, "completed_at": null,
            "valid_until": null, "errors": []}},
            "meta": {"attempt": 1, "delivered_to": "https://ws.portal.example/carriers/telnyx/1001"}});
        let body = serde_json::to_vec_pretty(&event).expect("JSON");
        let timestamp = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_secs().to_string();
        let signed = [timestamp.as_bytes(), b"|", &body].concat();
        let signature = STANDARD.encode(carrier().sign(&signed).to_bytes());
        Self { timestamp, signature, body: body.into() }
    }
}

/// Calls the messaging API over kept-alive connections.
pub struct Client {
    http: hyper_util::client::legacy::Client<HttpConnector, Full<Bytes>>,
    base: String,
}

impl Client {
    pub fn new(server: &Server) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let http = hyper_util::client::legacy::Client::builder(TokioExecutor::new()).build(connector);
        Self { http, base: format!("http://{}", server.address) }
    }

    /// A signed call; panics when it is not answered with 200.
    pub async fn post(&self, path: &str, body: &Value) -> Value {
        let body = body.to_string();
        let url =
            self.signed("POST", path, &format!("&body_md5={}", hex::encode(Md5::digest(body.as_bytes()))));
        let request = Request::post(url).header("content-type", "application/json");
        self.call(request.body(Full::from(body)).expect("a request")).await
    }

    /// As [`Self::post`], a GET.
    pub async fn get(&self, path: &str) -> Value {
        let request = Request::get(self.signed("GET", path, ""));
        self.call(request.body(Full::default()).expect("a request")).await
    }

    /// Brings a webhook; panics when it is not taken.
    pub async fn webhook(&self, webhook: &Webhook) {
        let request = Request::post(format!("{}/carriers/telnyx/1001", self.base))
            .header("content-type", "application/json")
            .header("telnyx-timestamp", &webhook.timestamp)
            .header("telnyx-signature-ed25519", &webhook.signature)
            .body(Full::from(webhook.body.clone()));
        self.call(request.expect("a request")).await;
    }

    fn signed(&self, method: &str, path: &str, more: &str) -> String {
        let path = format!("/apps/1001/messaging/{path}");
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_secs();
        let query = format!("auth_key=key&auth_timestamp={now}&auth_version=1.0{more}");
        let mut mac = Hmac::<Sha256>::new_from_slice(b"secret").expect("any length");
        mac.update(format!("{method}\n{path}\n{query}").as_bytes());
        let signature = hex::encode(mac.finalize().into_bytes());
        format!("{}{path}?{query}&auth_signature={signature}", self.base)
    }

    async fn call(&self, request: Request<Full<Bytes>>) -> Value {
        let response = self.http.request(request).await.expect("an answer");
        let status = response.status();
        let body = response.into_body().collect().await.expect("a body").to_bytes();
        let answer = serde_json::from_slice(&body).expect("JSON");
        assert_eq!(status, 200, "{answer}");
        answer
    }
}

/// A page with one channel.
pub struct Listener(WebSocketStream<TcpStream>);

impl Listener {
    pub async fn subscribe(server: &Server, channel: &str) -> Self {
        let stream = TcpStream::connect(server.address).await.expect("connected");
        stream.set_nodelay(true).expect("set");
        let url = format!("ws://{}/app/key?protocol=7", server.address);
        let (mut socket, _) = tokio_tungstenite::client_async(url, stream).await.expect("a WebSocket");
        let subscribe = serde_json::json!({"event": "pusher:subscribe", "data": {"channel": channel}});
        socket.send(Message::text(subscribe.to_string())).await.expect("sent");
        let mut listener = Self(socket);
        listener.wait_for("subscription_succeeded").await;
        listener
    }

    /// Until a frame holds this text.
    pub async fn wait_for(&mut self, text: &str) {
        loop {
            let frame = self.0.next().await.expect("open").expect("a frame");
            if frame.into_text().is_ok_and(|frame| frame.contains(text)) {
                return;
            }
        }
    }
}
