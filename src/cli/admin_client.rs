//! Asks the running server through its admin port.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use hyper::Uri;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use serde_json::Value;

use crate::config::AdminSettings;
use crate::http_client::{HttpAnswer, HttpClient, HttpFailure, HttpOptions};

/// Time for an answer.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Longest answer.
const MAX_ANSWER: usize = 256 << 20;

/// A client of the admin port that these settings describe.
pub(super) struct AdminClient {
    address: SocketAddr,
    headers: HeaderMap,
}

impl AdminClient {
    pub(super) fn new(settings: &AdminSettings) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let token = settings.token.as_ref().map(|token| format!("Bearer {}", token.expose()));
        if let Some(value) = token.and_then(|token| HeaderValue::try_from(token).ok()) {
            headers.insert(AUTHORIZATION, value);
        }
        Self { address: reachable(settings.bind), headers }
    }

    pub(super) fn get(&self, path: &str) -> Result<Value, String> {
        self.call(path, None)
    }

    pub(super) fn post(&self, path: &str, body: &Value) -> Result<Value, String> {
        self.call(path, Some(Bytes::from(body.to_string())))
    }

    fn call(&self, path: &str, body: Option<Bytes>) -> Result<Value, String> {
        let uri: Uri = format!("http://{}{path}", self.address)
            .parse()
            .map_err(|_| format!("{path} is no path of the admin port"))?;
        let headers = self.headers.clone();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let answer = runtime.map_err(|error| error.to_string())?.block_on(async {
            let client = HttpClient::new(HttpOptions::default());
            match body {
                Some(body) => client.post(&uri, headers, body, TIMEOUT, MAX_ANSWER).await,
                None => client.get(&uri, headers, TIMEOUT, MAX_ANSWER).await,
            }
        });
        self.read(answer)
    }

    fn read(&self, answer: Result<HttpAnswer, HttpFailure>) -> Result<Value, String> {
        let answer = answer.map_err(|failure| {
            format!(
                "no answer from the server's admin port {}: {failure}. Start the server, or name the configuration \
                 that it runs with (--config, admin.bind)",
                self.address
            )
        })?;
        if !answer.status.is_success() {
            return Err(String::from_utf8_lossy(&answer.body).into_owned());
        }
        serde_json::from_slice(&answer.body).map_err(|error| format!("the answer is not JSON: {error}"))
    }
}

/// An address that listens everywhere is asked at home.
pub(super) fn reachable(bind: SocketAddr) -> SocketAddr {
    let ip = match bind.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, bind.port())
}
