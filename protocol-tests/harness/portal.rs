//! The backend of the portal, as the server sees it: a receiver of callbacks that keeps every request as
//! it came and answers as told.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::sign::{App, hmac_hex};
use super::{DEADLINE, names, within};

/// What a request gets.
#[derive(Debug)]
pub enum Reply {
    /// A status and a body.
    Status(u16, String),
    /// As `Status`, once the sender of the receiver says so, or is gone.
    Held(oneshot::Receiver<()>, u16, String),
    /// Nothing, for ever.
    Hang,
    /// The end of the connection.
    Close,
    /// These bytes, head and all.
    Raw(Vec<u8>),
    /// These bytes, and the end of the connection.
    RawThenClose(Vec<u8>),
}

impl Reply {
    pub fn json(body: &Value) -> Self {
        Self::Status(200, body.to_string())
    }

    /// 200, with a file.
    pub fn file(content_type: &str, content: &[u8]) -> Self {
        let length = content.len();
        let head =
            format!("HTTP/1.1 200 X\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\n\r\n");
        Self::Raw([head.as_bytes(), content].concat())
    }

    /// 200, but only when the returned sender is used or dropped.
    pub fn held() -> (oneshot::Sender<()>, Self) {
        let (release, held) = oneshot::channel();
        (release, Self::Held(held, 200, "{}".to_owned()))
    }
}

/// One request as it came.
#[derive(Clone, Debug)]
pub struct Received {
    pub method: String,
    pub path: String,
    /// Names in the case they had on the wire.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Received {
    /// The value of a header, by its name in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("the body is JSON")
    }

    /// Its events, in their order, as they came.
    #[track_caller]
    pub fn events(&self) -> Vec<Value> {
        self.json()["events"].as_array().expect("a list of events").clone()
    }

    /// Its events, in their order. The `data` of a callback, which has a `seq`, is read: it is JSON text in a string.
    #[track_caller]
    pub fn callbacks(&self) -> Vec<Value> {
        let mut events = self.events();
        for event in events.iter_mut().filter(|event| event["seq"].is_i64()) {
            let data = event["data"].as_str().expect("callbacks have a string as their data");
            event["data"] = serde_json::from_str(data).expect("JSON");
        }
        events
    }

    /// Fails unless it is signed as Pusher signs webhooks: by this app, over exactly these bytes.
    #[track_caller]
    pub fn expect_signed(&self, app: &App) {
        assert_eq!(self.header("X-Pusher-Key"), Some(app.key.as_str()));
        let body = str::from_utf8(&self.body).expect("UTF-8");
        assert_eq!(self.header("X-Pusher-Signature"), Some(hmac_hex(&app.secret, body).as_str()));
        assert_eq!(self.header("Content-Type"), Some("application/json"));
    }
}

/// The receiver. It answers 200 `{}` unless told otherwise.
#[derive(Debug)]
pub struct Portal {
    port: u16,
    plan: Arc<Mutex<Plan>>,
    received: UnboundedReceiver<Received>,
    sender: UnboundedSender<Received>,
    /// Events read while waiting for another one.
    passed: VecDeque<Value>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct Plan {
    next: VecDeque<Reply>,
    otherwise: (u16, String),
}

impl Portal {
    /// On a free port.
    pub async fn start() -> Self {
        let listener = names::listener();
        listener.set_nonblocking(true).expect("our own");
        let listener = TcpListener::from_std(listener).expect("a runtime");
        let port = listener.local_addr().expect("bound").port();
        let plan = Plan { next: VecDeque::new(), otherwise: (200, "{}".to_owned()) };
        let plan = Arc::new(Mutex::new(plan));
        let (sender, received) = unbounded_channel();
        let task = listen(listener, &plan, &sender);
        Self { port, plan, received, sender, passed: VecDeque::new(), task }
    }

    pub fn addr(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.port).into()
    }

    /// Where callbacks are to go.
    pub fn url(&self) -> String {
        format!("http://{}/switchboard", self.addr())
    }

    /// What requests get when nothing is planned for them.
    pub fn answers(&self, status: u16, body: &str) {
        self.plan.lock().expect("not poisoned").otherwise = (status, body.to_owned());
    }

    /// What the next request gets that has nothing planned yet.
    pub fn answers_next(&self, reply: Reply) {
        self.plan.lock().expect("not poisoned").next.push_back(reply);
    }

    /// Forgets what was planned for requests.
    pub fn answers_from_now_on(&self) {
        self.plan.lock().expect("not poisoned").next.clear();
    }

    /// Refuses connections, and ends those there are, until [`Self::accept`].
    pub async fn refuse(&mut self) {
        self.task.abort();
        // Resolves once the listener is dropped.
        let _ = (&mut self.task).await;
    }

    /// Listens again.
    pub async fn accept(&mut self) {
        let listener = TcpListener::bind(("127.0.0.1", self.port)).await.expect("our own port");
        self.task = listen(listener, &self.plan, &self.sender);
    }

    /// The next request.
    pub async fn next(&mut self) -> Received {
        self.next_within(DEADLINE).await
    }

    pub async fn next_within(&mut self, limit: Duration) -> Received {
        within(limit, "a callback", self.received.recv()).await.expect("we hold a sender")
    }

    /// The next event of this name from any request, as [`Received::callbacks`] gives it; others are kept for later.
    pub async fn event(&mut self, name: &str) -> Value {
        self.event_where(name, |event| event["name"] == name).await
    }

    /// The next event that `wanted` accepts; others are kept for later.
    pub async fn event_where(&mut self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        loop {
            if let Some(index) = self.passed.iter().position(&wanted) {
                return self.passed.remove(index).expect("just found");
            }
            let request = within(DEADLINE, &format!("a callback {what:?}"), self.received.recv()).await;
            self.passed.extend(request.expect("we hold a sender").callbacks());
        }
    }

    /// Whether a request came that nobody has read yet; reads them all.
    pub fn was_asked(&mut self) -> bool {
        std::iter::from_fn(|| self.received.try_recv().ok()).count() > 0
    }

    /// Events that came and that nobody waited for.
    pub fn passed(&mut self) -> Vec<Value> {
        while let Ok(request) = self.received.try_recv() {
            self.passed.extend(request.callbacks());
        }
        self.passed.iter().cloned().collect()
    }
}

impl Drop for Portal {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn listen(
    listener: TcpListener,
    plan: &Arc<Mutex<Plan>>,
    sender: &UnboundedSender<Received>,
) -> JoinHandle<()> {
    let (plan, sender) = (Arc::clone(plan), sender.clone());
    tokio::spawn(async move {
        // Dropped with this task, which ends the connections.
        let mut connections = tokio::task::JoinSet::new();
        loop {
            let Ok((stream, _)) = listener.accept().await else { return };
            connections.spawn(serve(stream, Arc::clone(&plan), sender.clone()));
        }
    })
}

/// Answers requests until the peer closes or the plan ends the connection.
async fn serve(stream: TcpStream, plan: Arc<Mutex<Plan>>, sender: UnboundedSender<Received>) {
    let mut stream = BufReader::new(stream);
    while let Some(request) = read(&mut stream).await {
        let reply = {
            let mut plan = plan.lock().expect("not poisoned");
            let (status, body) = plan.otherwise.clone();
            plan.next.pop_front().unwrap_or(Reply::Status(status, body))
        };
        // Nobody listens any more once the test is over.
        let _ = sender.send(request);
        let (status, body) = match reply {
            Reply::Status(status, body) => (status, body),
            Reply::Held(held, status, body) => {
                // A dropped sender releases, too.
                let _ = held.await;
                (status, body)
            }
            Reply::Hang => std::future::pending().await,
            Reply::Close => return,
            Reply::RawThenClose(bytes) => {
                // Whether or not the peer is still there.
                let _ = stream.write_all(&bytes).await;
                return;
            }
            Reply::Raw(bytes) => match stream.write_all(&bytes).await {
                Ok(()) => continue,
                Err(_) => return,
            },
        };
        let head = format!(
            "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        if stream.write_all((head + &body).as_bytes()).await.is_err() {
            return;
        }
    }
}

/// The next request with `Content-Length` or chunks; `None` at the end of the connection.
async fn read(stream: &mut BufReader<TcpStream>) -> Option<Received> {
    let first = line(stream).await?;
    let mut words = first.split(' ').map(str::to_owned);
    let (method, path) = (words.next()?, words.next()?);
    let mut request = Received { method, path, headers: Vec::new(), body: Vec::new() };
    loop {
        let line = line(stream).await?;
        let Some((name, value)) = line.split_once(':') else { break };
        request.headers.push((name.to_owned(), value.trim().to_owned()));
    }
    if request.header("transfer-encoding").is_some() {
        loop {
            let size = usize::from_str_radix(line(stream).await?.trim(), 16).expect("a chunk's size");
            let start = request.body.len();
            request.body.resize(start + size, 0);
            stream.read_exact(&mut request.body[start..]).await.ok()?;
            line(stream).await?;
            if size == 0 {
                break;
            }
        }
    } else {
        let length = request.header("content-length").map_or(0, |text| text.parse().expect("a length"));
        request.body = vec![0; length];
        stream.read_exact(&mut request.body).await.ok()?;
    }
    Some(request)
}

async fn line(stream: &mut BufReader<TcpStream>) -> Option<String> {
    let mut line = String::new();
    let count = stream.read_line(&mut line).await.ok()?;
    (count > 0).then(|| line.trim_end_matches(['\r', '\n']).to_owned())
}

#[tokio::test]
async fn harness_portal_answers_as_told_and_keeps_requests_as_they_came() {
    let mut portal = Portal::start().await;
    let app = App::new("1", "key", "secret");
    let body = json!({"time_ms": 1, "events": [{"name": "a"}, {"name": "b"}]}).to_string();
    let request = format!(
        "POST /switchboard HTTP/1.1\r\nX-Pusher-Key: key\r\nx-pusher-signature: {}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        hmac_hex("secret", &body),
        body.len()
    );
    let (release, reply) = Reply::held();
    portal.answers_next(reply);
    portal.answers_next(Reply::Close);
    portal.answers(500, "{\"no\":1}");
    let mut connection = super::http::HttpConnection::connect(portal.addr()).await;
    connection.write(&request).await;
    let received = portal.next().await;
    received.expect_signed(&app);
    assert_eq!((received.path.as_str(), received.headers[0].0.as_str()), ("/switchboard", "X-Pusher-Key"));
    release.send(()).expect("held");
    assert_eq!(connection.response().await.status, 200);
    connection.write(&request).await;
    connection.expect_end().await;
    let answer = super::http::exchange(portal.addr(), &request).await;
    assert_eq!((answer.status, answer.json()), (500, json!({"no": 1})));
    assert_eq!(portal.event("b").await["name"], "b");
    assert_eq!(portal.passed().len(), 3, "two requests, of which one event was read");
    portal.refuse().await;
    assert!(TcpStream::connect(portal.addr()).await.is_err());
    portal.accept().await;
    assert_eq!(super::http::exchange(portal.addr(), &request).await.status, 500);
}
