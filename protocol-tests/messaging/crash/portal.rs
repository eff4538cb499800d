//! The portal's side: repeats each request until it is answered.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::plan::Planned;
use crate::harness::http::Request;
use crate::harness::messaging::Router;
use crate::harness::sign::App;

/// Time in which a request is answered or repeated.
const PATIENCE: Duration = Duration::from_secs(5);
/// Pause before it is.
const PAUSE: Duration = Duration::from_millis(50);
/// Time in which a message must be acknowledged, whatever happens.
const LIMIT: Duration = Duration::from_secs(120);

/// Cloning shares it.
#[derive(Clone, Debug)]
pub struct Portal {
    app: App,
    /// The server's, the same after each start.
    address: SocketAddr,
    /// Whether the observer is there.
    is_heard: watch::Receiver<bool>,
    /// Ids of the messages, by their texts.
    acknowledged: Arc<Mutex<HashMap<String, Value>>>,
    pub started: Instant,
}

impl Portal {
    pub fn new(router: &Router, is_heard: watch::Receiver<bool>) -> Self {
        Self {
            app: router.app.clone(),
            address: router.server().public,
            is_heard,
            acknowledged: Arc::default(),
            started: Instant::now(),
        }
    }

    pub fn acknowledged(&self) -> HashMap<String, Value> {
        self.acknowledged.lock().expect("not poisoned").clone()
    }

    /// Sends one after the other.
    pub async fn send_all(&self, messages: Vec<Planned>) {
        for message in messages {
            tokio::time::sleep(message.pause).await;
            let id = self.send(&message).await;
            self.acknowledged.lock().expect("not poisoned").insert(message.text, id);
        }
    }

    async fn send(&self, message: &Planned) -> Value {
        let body = json!({"user_id": message.user, "to": message.to, "text": message.text,
            "wait": message.waits, "idempotency_key": message.text});
        let path = self.app.path("messaging/messages");
        let start = Instant::now();
        let mut is_heard = self.is_heard.clone();
        loop {
            if message.is_heard {
                // A server may end before the observer is there, time and again.
                let _ = tokio::time::timeout(PATIENCE, is_heard.wait_for(|is_heard| *is_heard)).await;
            }
            let request = Request::post(&self.app, &path, body.to_string()).header("Connection", "close");
            match tokio::time::timeout(PATIENCE, self.ask(&request)).await {
                Ok(Some((200, answer))) => return answer["message"]["id"].clone(),
                // Not now: it is starting, ending, or its store is.
                Ok(Some((503, _)) | None) | Err(_) => {}
                Ok(Some((status, answer))) => panic!("{status} {answer} for {body}"),
            }
            assert!(start.elapsed() < LIMIT, "no answer to {body}");
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// The whole answer, or nothing when the server went away before it.
    async fn ask(&self, request: &Request) -> Option<(u16, Value)> {
        let mut stream = TcpStream::connect(self.address).await.ok()?;
        stream.write_all(&request.bytes()).await.ok()?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.ok()?;
        let answer = String::from_utf8(answer).expect("an answer in UTF-8");
        let (head, body) = answer.split_once("\r\n\r\n")?;
        let status = head.split(' ').nth(1)?.parse().expect("a status");
        // Cut off in the middle it is none.
        Some((status, serde_json::from_str(body).ok()?))
    }
}
