//! Outgoing HTTP/1.1: calls to the carrier and to the portal's backend.
//!
//! One call is one request. Redirects are not followed and nothing is tried again here: whether a second
//! request may go out is for the caller to decide, and [`HttpFailure`] tells what it needs for that, namely
//! whether the receiver can have seen the first one.
//!
//! A client is a handle to its pool of kept-alive connections; clones share it. It runs in whatever tokio
//! runtime its calls run in.
//!
//! May import `config`.

mod connector;
mod reach;
#[cfg(test)]
pub(crate) mod test_server;

use std::error::Error;
use std::fmt;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};
use hyper::header::HeaderMap;
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_util::client::legacy::connect::capture_connection;
use hyper_util::client::legacy::{Client, Error as ClientError};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::time::Instant;

use connector::TimedConnector;

pub use reach::{Reach, address};

/// Longest life of an idle connection, below the 30 to 60 s after which balancers drop theirs: a request
/// on a connection that the other side is just closing has an unclear outcome.
const MAX_IDLE: Duration = Duration::from_secs(20);

/// How a client connects and writes.
#[derive(Clone, Copy, Debug)]
pub struct HttpOptions {
    /// Time for name look-up, TCP and TLS together.
    pub connect_timeout: Duration,
    /// How long a connection is kept for the next request; more than 20 s counts as 20 s.
    pub idle_timeout: Duration,
    /// Header names go out as `X-Pusher-Key` instead of `x-pusher-key`, for receivers that compare them
    /// letter by letter.
    pub title_case_headers: bool,
}

impl Default for HttpOptions {
    fn default() -> Self {
        Self { connect_timeout: Duration::from_secs(3), idle_timeout: MAX_IDLE, title_case_headers: false }
    }
}

/// Makes requests. Cheap to clone.
#[derive(Clone)]
pub struct HttpClient {
    client: Client<TimedConnector, Full<Bytes>>,
}

/// A complete answer, of any status.
#[derive(Clone, Debug)]
pub struct HttpAnswer {
    /// 3xx included: redirects are not followed.
    pub status: StatusCode,
    /// As received.
    pub headers: HeaderMap,
    /// Its first bytes, at most the caller's `max_answer`. The rest of a longer one is not read.
    pub body: Bytes,
}

/// An answer of any status whose body comes bit by bit.
#[derive(Debug)]
pub struct HttpStream {
    /// 3xx included: redirects are not followed.
    pub status: StatusCode,
    /// As received.
    pub headers: HeaderMap,
    body: Incoming,
}

impl HttpStream {
    /// The next bytes; `None` at the end.
    ///
    /// # Errors
    /// The answer broke off.
    pub async fn next(&mut self) -> Result<Option<Bytes>, HttpFailure> {
        while let Some(frame) = self.body.frame().await {
            let broken = |error| {
                let (status, cause) = (self.status.as_u16(), chain(&error));
                HttpFailure::Unclear(format!("HTTP {status}, then the answer broke off: {cause}"))
            };
            if let Ok(data) = frame.map_err(broken)?.into_data() {
                return Ok(Some(data));
            }
        }
        Ok(None)
    }
}

/// Why there is no answer. The texts hold neither URLs nor headers nor bodies.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HttpFailure {
    /// Not a byte of the request left: no connection (name, TCP, TLS, time), or a kept-alive one was closed
    /// before the request was written to it. The same request may be made again.
    #[error("not sent: {0}")]
    NotSent(String),
    /// The receiver may have got the request and acted on it: time-out, reset, an answer cut off.
    #[error("outcome unclear: {0}")]
    Unclear(String),
}

/// One request.
#[derive(Debug)]
struct Call<'a> {
    method: Method,
    uri: &'a Uri,
    headers: HeaderMap,
    body: Bytes,
    timeout: Duration,
    max_answer: usize,
    /// Set where the answer's head settles the call: how long its body is waited for.
    patience: Option<Duration>,
}

impl<'a> Call<'a> {
    fn without_body(
        method: Method,
        uri: &'a Uri,
        headers: HeaderMap,
        timeout: Duration,
        max_answer: usize,
    ) -> Self {
        Self { method, uri, headers, body: Bytes::new(), timeout, max_answer, patience: None }
    }
}

impl HttpClient {
    /// A client with its own pool, for hosts that the configuration trusts.
    pub fn new(options: HttpOptions) -> Self {
        Self::with(options, TimedConnector::new(options.connect_timeout))
    }

    /// A client with its own pool that connects to nothing else.
    ///
    /// # Errors
    /// What is wrong with the file of certificates.
    pub fn within(reach: &Reach, options: HttpOptions) -> Result<Self, String> {
        Ok(Self::with(options, TimedConnector::within(reach, options.connect_timeout)?))
    }

    fn with(options: HttpOptions, connector: TimedConnector) -> Self {
        let mut builder = Client::builder(TokioExecutor::new());
        builder
            .retry_canceled_requests(false)
            .pool_idle_timeout(options.idle_timeout.min(MAX_IDLE))
            .pool_timer(TokioTimer::new())
            .http1_title_case_headers(options.title_case_headers);
        Self { client: builder.build(connector) }
    }

    /// Posts `body`. `timeout` covers everything from connecting to the answer's last byte.
    ///
    /// # Errors
    /// See [`HttpFailure`]; an HTTP error status is an answer.
    pub async fn post(
        &self,
        uri: &Uri,
        headers: HeaderMap,
        body: Bytes,
        timeout: Duration,
        max_answer: usize,
    ) -> Result<HttpAnswer, HttpFailure> {
        self.call(Call { method: Method::POST, uri, headers, body, timeout, max_answer, patience: None })
            .await
    }

    /// As [`HttpClient::post`], where the answer's head says all that must be known: a body that does not
    /// come within `patience`, or breaks off, is left out.
    ///
    /// # Errors
    /// As for [`HttpClient::post`], but none once the head is there.
    pub async fn notify(
        &self,
        uri: &Uri,
        headers: HeaderMap,
        body: Bytes,
        timeout: Duration,
        max_answer: usize,
        patience: Duration,
    ) -> Result<HttpAnswer, HttpFailure> {
        let patience = Some(patience);
        self.call(Call { method: Method::POST, uri, headers, body, timeout, max_answer, patience }).await
    }

    /// Gets `uri`. Limits as for [`HttpClient::post`].
    ///
    /// # Errors
    /// As for [`HttpClient::post`].
    pub async fn get(
        &self,
        uri: &Uri,
        headers: HeaderMap,
        timeout: Duration,
        max_answer: usize,
    ) -> Result<HttpAnswer, HttpFailure> {
        self.call(Call::without_body(Method::GET, uri, headers, timeout, max_answer)).await
    }

    /// Gets `uri`; the answer's body is the caller's to read. `timeout` is for its head.
    ///
    /// # Errors
    /// As for [`HttpClient::post`].
    pub async fn open(
        &self,
        uri: &Uri,
        headers: HeaderMap,
        timeout: Duration,
    ) -> Result<HttpStream, HttpFailure> {
        let call = Call::without_body(Method::GET, uri, headers, timeout, 0);
        let (head, body) = self.head(&call, Instant::now() + timeout).await?.into_parts();
        Ok(HttpStream { status: head.status, headers: head.headers, body })
    }

    /// Deletes `uri`. Limits as for [`HttpClient::post`].
    ///
    /// # Errors
    /// As for [`HttpClient::post`].
    pub async fn delete(
        &self,
        uri: &Uri,
        headers: HeaderMap,
        timeout: Duration,
        max_answer: usize,
    ) -> Result<HttpAnswer, HttpFailure> {
        self.call(Call::without_body(Method::DELETE, uri, headers, timeout, max_answer)).await
    }

    async fn call(&self, call: Call<'_>) -> Result<HttpAnswer, HttpFailure> {
        let deadline = Instant::now() + call.timeout;
        let late = || format!("no complete answer within {} ms", call.timeout.as_millis());
        let response = self.head(&call, deadline).await?;
        let (head, body) = response.into_parts();
        let after_head =
            |reason: String| HttpFailure::Unclear(format!("HTTP {}, then {reason}", head.status.as_u16()));
        let deadline = call.patience.map_or(deadline, |patience| deadline.min(Instant::now() + patience));
        let body = match tokio::time::timeout_at(deadline, read(body, call.max_answer)).await {
            Ok(Ok(body)) => body,
            _ if call.patience.is_some() => Bytes::new(),
            Ok(Err(error)) => return Err(after_head(format!("the answer broke off: {}", chain(&error)))),
            Err(_) => return Err(after_head(late())),
        };
        Ok(HttpAnswer { status: head.status, headers: head.headers, body })
    }

    /// Sends the request and waits for the answer's head.
    async fn head(&self, call: &Call<'_>, deadline: Instant) -> Result<Response<Incoming>, HttpFailure> {
        let mut request = Request::new(Full::new(call.body.clone()));
        *request.method_mut() = call.method.clone();
        *request.uri_mut() = call.uri.clone();
        *request.headers_mut() = call.headers.clone();
        // Set by the client right before it hands the request to a connection: as long as it is not, no
        // byte can have left.
        let connection = capture_connection(&mut request);
        let answer = tokio::time::timeout_at(deadline, self.client.request(request)).await;
        let has_connection = connection.connection_metadata().is_some();
        match answer {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) if !has_connection || was_returned_unsent(&error) => {
                Err(HttpFailure::NotSent(chain(&error)))
            }
            Ok(Err(error)) => Err(HttpFailure::Unclear(chain(&error))),
            Err(_) if !has_connection => {
                Err(HttpFailure::NotSent(format!("no connection within {} ms", call.timeout.as_millis())))
            }
            Err(_) => Err(HttpFailure::Unclear(format!("no answer within {} ms", call.timeout.as_millis()))),
        }
    }
}

/// Whether hyper gave the request back because its connection closed before taking it. The kind is visible
/// in the text only; should the text ever change, such requests become unclear, which is safe.
fn was_returned_unsent(error: &ClientError) -> bool {
    error.to_string() == "client error (Canceled)"
}

/// Reads until the end or `limit` bytes. A body that ends before its announced length is an error.
async fn read(mut body: Incoming, limit: usize) -> Result<Bytes, hyper::Error> {
    let expected = usize::try_from(body.size_hint().lower()).unwrap_or(limit);
    let mut bytes = BytesMut::with_capacity(expected.min(limit).min(64 * 1024));
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        let room = limit - bytes.len();
        if data.len() > room {
            bytes.extend_from_slice(&data[..room]);
            break;
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes.freeze())
}

/// An error with its causes, each said once.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    text
}

impl fmt::Debug for HttpClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HttpClient")
    }
}

#[cfg(test)]
mod tests;
