//! Raw HTTP/1.1, byte by byte, and the signed requests of the Pusher HTTP API on top of it.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::sign::{App, hmac_hex, md5_hex, now, string_to_sign};
use super::{DEADLINE, within};

/// One HTTP answer.
#[derive(Clone, Debug)]
pub struct Response {
    pub version: String,
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Response {
    /// The value of a header, by its name in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone()).expect("bodies are UTF-8")
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|e| panic!("the body is not JSON ({e}): {:?}", self.text()))
    }

    /// The sentence of an error body, whose shape is `{"error":TEXT,"code":STATUS}`.
    pub fn error(&self) -> String {
        assert_eq!(self.header("content-type"), Some("application/json"), "{self:?}");
        let body = self.json();
        let fields = body.as_object().expect("an error body is an object");
        assert_eq!(fields.len(), 2, "an error body has two fields: {body}");
        assert_eq!(fields["code"], Value::from(self.status), "{body}");
        let text = fields["error"].as_str().expect("`error` is a string");
        assert!(!text.is_empty());
        text.to_owned()
    }

    /// Fails unless the status is `status`; shows the body.
    #[track_caller]
    pub fn expect_status(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", String::from_utf8_lossy(&self.body));
        self
    }

    /// Fails unless this is a success with exactly this JSON text.
    #[track_caller]
    pub fn expect_ok(self, body: &str) -> Self {
        let answer = self.expect_status(200);
        assert_eq!(answer.header("content-type"), Some("application/json"));
        assert_eq!(answer.text(), body);
        answer
    }

    /// Fails unless this is an error of this status whose sentence contains `part`.
    #[track_caller]
    pub fn expect_error(self, status: u16, part: &str) -> Self {
        let answer = self.expect_status(status);
        let text = answer.error();
        assert!(text.contains(part), "{part:?} is not in {text:?}");
        answer
    }
}

/// A TCP connection that speaks HTTP by hand and reads answers one by one.
#[derive(Debug)]
pub struct HttpConnection {
    stream: TcpStream,
    unread: Vec<u8>,
}

impl HttpConnection {
    pub async fn connect(addr: SocketAddr) -> Self {
        let stream = TcpStream::connect(addr).await.expect("the server accepts");
        stream.set_nodelay(true).expect("TCP_NODELAY");
        Self { stream, unread: Vec::new() }
    }

    pub async fn write(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.expect("the server reads");
    }

    /// Like [`Self::write`], for a peer that may have closed already.
    pub async fn try_write(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).await.is_ok()
    }

    /// Ends our direction; the other stays open.
    pub async fn finish_writing(&mut self) {
        self.stream.shutdown().await.expect("half close");
    }

    /// The next answer.
    pub async fn response(&mut self) -> Response {
        self.response_or_end(false).await.expect("an answer before the connection ends")
    }

    /// The next answer, to a HEAD request: without a body whatever its headers say.
    pub async fn response_to_head(&mut self) -> Response {
        self.response_or_end(true).await.expect("an answer before the connection ends")
    }

    /// The next answer, or `None` when the server closes first.
    pub async fn response_or_end(&mut self, to_head: bool) -> Option<Response> {
        within(DEADLINE, "an HTTP answer", self.read_response(to_head)).await
    }

    /// Fails unless the server now closes without sending anything more.
    pub async fn expect_end(&mut self) {
        let more = within(DEADLINE, "the end of the connection", self.fill()).await;
        assert!(!more && self.unread.is_empty(), "left over: {:?}", String::from_utf8_lossy(&self.unread));
    }

    /// Reads on; false at the end of the stream or a reset.
    async fn fill(&mut self) -> bool {
        let mut chunk = [0; 16 * 1024];
        match self.stream.read(&mut chunk).await {
            Ok(0) | Err(_) => false,
            Ok(count) => {
                self.unread.extend_from_slice(&chunk[..count]);
                true
            }
        }
    }

    async fn line(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.unread.windows(2).position(|pair| pair == b"\r\n") {
                let line = self.unread.drain(..end + 2).take(end).collect();
                return Some(String::from_utf8(line).expect("heads are UTF-8"));
            }
            if !self.fill().await {
                return None;
            }
        }
    }

    async fn exactly(&mut self, count: usize) -> Vec<u8> {
        while self.unread.len() < count {
            assert!(self.fill().await, "the connection ended inside a body");
        }
        self.unread.drain(..count).collect()
    }

    async fn read_response(&mut self, to_head: bool) -> Option<Response> {
        let first = self.line().await?;
        let (version, rest) = first.split_once(' ').expect("a status line");
        let status = rest[..3].parse().expect("a numeric status");
        let mut headers = Vec::new();
        loop {
            let line = self.line().await.expect("a whole head");
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(':').expect("a header line");
            headers.push((name.to_owned(), value.trim().to_owned()));
        }
        let mut answer = Response { version: version.to_owned(), status, headers, body: Vec::new() };
        let bodiless = to_head || status / 100 == 1 || status == 204 || status == 304;
        if bodiless {
            return Some(answer);
        }
        if answer.header("transfer-encoding").is_some_and(|v| v.contains("chunked")) {
            answer.body = self.chunks().await;
        } else if let Some(length) = answer.header("content-length") {
            let length = length.parse().expect("a numeric content-length");
            answer.body = self.exactly(length).await;
        } else {
            while self.fill().await {}
            answer.body = std::mem::take(&mut self.unread);
        }
        Some(answer)
    }

    async fn chunks(&mut self) -> Vec<u8> {
        let mut body = Vec::new();
        loop {
            let head = self.line().await.expect("a chunk head");
            let size =
                usize::from_str_radix(head.split(';').next().unwrap_or("").trim(), 16).expect("a chunk size");
            body.extend(self.exactly(size).await);
            let end = self.line().await.expect("a chunk end");
            if size == 0 {
                assert!(end.is_empty(), "no trailers are sent");
                return body;
            }
        }
    }
}

/// One request of the HTTP API. Signed with the current time unless told otherwise.
#[derive(Clone, Debug)]
pub struct Request {
    app: App,
    method: String,
    path: String,
    prefix: String,
    params: Vec<(String, String)>,
    body: Option<Vec<u8>>,
    headers: Vec<(String, String)>,
    timestamp: i64,
}

impl Request {
    pub fn new(app: &App, method: &str, path: &str) -> Self {
        Self {
            app: app.clone(),
            method: method.to_owned(),
            path: path.to_owned(),
            prefix: String::new(),
            params: Vec::new(),
            body: None,
            headers: Vec::new(),
            timestamp: now(),
        }
    }

    pub fn get(app: &App, path: &str) -> Self {
        Self::new(app, "GET", path)
    }

    pub fn post(app: &App, path: &str, body: impl Into<Vec<u8>>) -> Self {
        Self::new(app, "POST", path).body(body)
    }

    /// `POST /apps/{id}/events` with this JSON.
    pub fn trigger(app: &App, body: &Value) -> Self {
        Self::post(app, &app.path("events"), body.to_string())
    }

    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = Some(body.into());
        self
    }

    /// A query parameter; its value is signed as given and encoded on the wire where it must be.
    pub fn param(mut self, name: &str, value: &str) -> Self {
        self.params.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn timestamp(mut self, seconds: i64) -> Self {
        self.timestamp = seconds;
        self
    }

    /// A part of the URL before the path which is not signed, as PHP's `path` option.
    pub fn unsigned_prefix(mut self, prefix: &str) -> Self {
        self.prefix = prefix.to_owned();
        self
    }

    /// Every parameter in the order sent, the signature last.
    pub fn signed_params(&self) -> Vec<(String, String)> {
        let mut params = vec![
            ("auth_key".to_owned(), self.app.key.clone()),
            ("auth_timestamp".to_owned(), self.timestamp.to_string()),
            ("auth_version".to_owned(), "1.0".to_owned()),
        ];
        if let Some(body) = &self.body {
            params.push(("body_md5".to_owned(), md5_hex(body)));
        }
        params.extend(self.params.iter().cloned());
        let signature = hmac_hex(&self.app.secret, &string_to_sign(&self.method, &self.path, &params));
        params.push(("auth_signature".to_owned(), signature));
        params
    }

    /// The request target with the signed query.
    pub fn target(&self) -> String {
        let query = self
            .signed_params()
            .iter()
            .map(|(name, value)| format!("{}={}", encode(name), encode(value)))
            .collect::<Vec<_>>()
            .join("&");
        format!("{}{}?{query}", self.prefix, self.path)
    }

    /// The whole request as bytes.
    pub fn bytes(&self) -> Vec<u8> {
        self.bytes_with_target(&self.target())
    }

    /// The whole request, but with this request target.
    pub fn bytes_with_target(&self, target: &str) -> Vec<u8> {
        let mut head = format!("{} {target} HTTP/1.1\r\nHost: localhost\r\n", self.method);
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if let Some(body) = &self.body {
            if !self.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type")) {
                head.push_str("Content-Type: application/json\r\n");
            }
            head.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        head.push_str("\r\n");
        let mut bytes = head.into_bytes();
        bytes.extend(self.body.iter().flatten());
        bytes
    }

    /// Sends it over a connection of its own.
    pub async fn send(&self, addr: SocketAddr) -> Response {
        exchange(addr, self.bytes()).await
    }

    /// Sends it over a connection of its own, with this request target.
    pub async fn send_with_target(&self, addr: SocketAddr, target: &str) -> Response {
        exchange(addr, self.bytes_with_target(target)).await
    }

    /// Sends it over `connection` and reads the answer.
    pub async fn send_over(&self, connection: &mut HttpConnection) -> Response {
        connection.write(self.bytes()).await;
        connection.response().await
    }
}

/// Percent-encodes only what would otherwise change the meaning of a query, as Node, Python and .NET do.
fn encode(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'%' | b'&' | b'+' | b'#' | b'=' | b'[' | b']' | b'"' | b'<' | b'>' => {
                out.push_str(&format!("%{byte:02X}"));
            }
            0..=0x20 | 0x7f.. => out.push_str(&format!("%{byte:02X}")),
            _ => out.push(char::from(byte)),
        }
    }
    out
}

/// Writes `bytes` over a new connection and reads one answer.
pub async fn exchange(addr: SocketAddr, bytes: impl AsRef<[u8]>) -> Response {
    let mut connection = HttpConnection::connect(addr).await;
    // A refusal may come, and close the connection, before the whole request is written.
    connection.try_write(bytes).await;
    connection.response().await
}

/// The answer to an unsigned GET as soon as it is so.
pub async fn get_until(addr: SocketAddr, path: &str, is_so: impl Fn(&Response) -> bool) -> Response {
    let start = Instant::now();
    loop {
        let answer = get(addr, path).await;
        if is_so(&answer) {
            return answer;
        }
        assert!(start.elapsed() < DEADLINE, "GET {path}: {} {}", answer.status, answer.text());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// An unsigned GET.
pub async fn get(addr: SocketAddr, path: &str) -> Response {
    exchange(addr, format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")).await
}
