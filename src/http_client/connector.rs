//! Reaching a host: name, TCP and TLS within one time limit.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::Uri;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use tower_service::Service;

use super::reach::{Reach, Resolver};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Connects by HTTP or HTTPS. The limit covers the name look-up and the TLS handshake too; hyper's own is
/// for TCP alone.
#[derive(Clone)]
pub(super) struct TimedConnector {
    inner: Https,
    reach: Reach,
    limit: Duration,
}

type Https = HttpsConnector<HttpConnector<Resolver>>;

impl TimedConnector {
    /// Connects to anything; TLS with Mozilla's roots.
    pub(super) fn new(limit: Duration) -> Self {
        let builder = HttpsConnectorBuilder::new().with_webpki_roots();
        let inner = builder.https_or_http().enable_http1().wrap_connector(tcp(&Reach::default()));
        Self { inner, reach: Reach::default(), limit }
    }

    /// Connects to what is within reach.
    ///
    /// # Errors
    /// What is wrong with the file of certificates.
    pub(super) fn within(reach: &Reach, limit: Duration) -> Result<Self, String> {
        let builder = HttpsConnectorBuilder::new();
        let builder = match reach.tls()? {
            Some(tls) => builder.with_tls_config(tls),
            None => builder.with_webpki_roots(),
        };
        let inner = builder.https_or_http().enable_http1().wrap_connector(tcp(reach));
        Ok(Self { inner, reach: reach.clone(), limit })
    }
}

fn tcp(reach: &Reach) -> HttpConnector<Resolver> {
    let mut tcp = HttpConnector::new_with_resolver(Resolver::new(reach.public_only));
    tcp.set_nodelay(true);
    tcp.enforce_http(false);
    tcp
}

impl Service<Uri> for TimedConnector {
    type Response = <Https as Service<Uri>>::Response;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let checked = self.reach.check(&uri);
        let (connecting, limit) = (self.inner.call(uri), self.limit);
        Box::pin(async move {
            checked?;
            match tokio::time::timeout(limit, connecting).await {
                Ok(result) => result,
                Err(_) => {
                    let text = format!("no connection within {} ms", limit.as_millis());
                    Err(io::Error::new(io::ErrorKind::TimedOut, text).into())
                }
            }
        })
    }
}
