//! A server for tests that answers with raw bytes and remembers what it got.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What it does after a complete request.
#[derive(Clone, Debug)]
pub(crate) enum Behaviour {
    /// Writes these bytes and waits for the next request.
    Answer(String),
    /// Writes these bytes and closes.
    AnswerAndClose(String),
    /// Closes with a TCP reset.
    Reset,
    /// Says nothing.
    Hang,
}

/// Behaves as told, one behaviour for each connection's each request, the last one for ever.
pub(crate) struct TestServer {
    pub(crate) address: SocketAddr,
    requests: Arc<Mutex<Vec<String>>>,
}

impl TestServer {
    pub(crate) async fn start(behaviours: Vec<Behaviour>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let requests: Arc<Mutex<Vec<String>>> = Arc::default();
        let seen = Arc::clone(&requests);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, behaviours.clone(), Arc::clone(&seen)));
            }
        });
        Self { address, requests }
    }

    /// The requests so far, heads and bodies.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.requests.lock().expect("not poisoned").clone()
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

async fn serve(mut stream: TcpStream, behaviours: Vec<Behaviour>, seen: Arc<Mutex<Vec<String>>>) {
    while let Some(request) = read_request(&mut stream).await {
        let turn = {
            let mut seen = seen.lock().expect("not poisoned");
            seen.push(request);
            (seen.len() - 1).min(behaviours.len() - 1)
        };
        match &behaviours[turn] {
            Behaviour::Answer(text) => stream.write_all(text.as_bytes()).await.expect("writable"),
            Behaviour::AnswerAndClose(text) => {
                stream.write_all(text.as_bytes()).await.expect("writable");
                return;
            }
            Behaviour::Reset => {
                let _ = socket2::SockRef::from(&stream).set_linger(Some(std::time::Duration::ZERO));
                return;
            }
            Behaviour::Hang => std::future::pending().await,
        }
    }
}

async fn read_request(stream: &mut TcpStream) -> Option<String> {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .filter_map(|line| line.split_once(": "))
                .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
                .map_or(0, |(_, value)| value.parse().expect("a number"));
            if body.len() >= length {
                return Some(text);
            }
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
}
