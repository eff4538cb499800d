//! A portal's backend and a page.

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use hmac::{Hmac, KeyInit, Mac};
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use md5::{Digest, Md5};
use serde_json::Value;
use sha2::Sha256;
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use super::server::Server;

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
        let path = format!("/apps/1001/messaging/{path}");
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_secs();
        let query = format!(
            "auth_key=key&auth_timestamp={now}&auth_version=1.0&body_md5={}",
            hex::encode(Md5::digest(body.as_bytes()))
        );
        let mut mac = Hmac::<Sha256>::new_from_slice(b"secret").expect("any length");
        mac.update(format!("POST\n{path}\n{query}").as_bytes());
        let signature = hex::encode(mac.finalize().into_bytes());
        let request = Request::post(format!("{}{path}?{query}&auth_signature={signature}", self.base))
            .header("content-type", "application/json")
            .body(Full::from(body))
            .expect("a request");
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
