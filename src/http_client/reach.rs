//! What a client may connect to: any address or public ones only, and whose certificates it believes.
//!
//! An address is looked at when a connection is made to it, after its name was resolved: a name that is
//! harmless when the configuration is read may point to the cloud's metadata service an hour later.

use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use hyper::Uri;
use hyper_util::client::legacy::connect::dns::{GaiResolver, Name};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tower_service::Service;

/// What a client may connect to. The default is anything, with Mozilla's roots.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Reach {
    /// Loopback, private, link-local and other addresses that are not part of the internet are refused.
    pub public_only: bool,
    /// PEM file of the authorities that are believed instead of Mozilla's.
    pub ca_file: Option<PathBuf>,
}

impl Reach {
    /// The TLS settings; `None`: the connector's own.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub fn tls(&self) -> Result<Option<ClientConfig>, String> {
        let Some(path) = &self.ca_file else { return Ok(None) };
        let fault = |fault: &dyn std::fmt::Display| format!("{}: {fault}", path.display());
        let certificates = CertificateDer::pem_file_iter(path).map_err(|error| fault(&error))?;
        let mut roots = RootCertStore::empty();
        for certificate in certificates {
            let certificate = certificate.map_err(|error| fault(&error))?;
            roots.add(certificate).map_err(|error| fault(&error))?;
        }
        if roots.is_empty() {
            return Err(fault(&"holds no certificate"));
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| fault(&error))?;
        Ok(Some(builder.with_root_certificates(roots).with_no_client_auth()))
    }

    /// An address that a URL's host stands for now, if all that it stands for are refused. `None` also when the
    /// name can't be resolved.
    pub async fn refused_address(&self, uri: &Uri) -> Option<IpAddr> {
        if !self.public_only {
            return None;
        }
        let host = uri.host()?.trim_start_matches('[').trim_end_matches(']');
        let addresses: Vec<IpAddr> = match host.parse() {
            Ok(ip) => vec![ip],
            Err(_) => tokio::net::lookup_host((host, 0)).await.ok()?.map(|address| address.ip()).collect(),
        };
        if addresses.iter().copied().any(is_public) { None } else { addresses.first().copied() }
    }

    /// Whether a URL names an address that is refused. Of a name, only its resolution can tell.
    ///
    /// # Errors
    /// It does.
    pub(super) fn check(&self, uri: &Uri) -> io::Result<()> {
        let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
        match host.parse::<IpAddr>() {
            Ok(ip) if self.public_only && !is_public(ip) => Err(refused()),
            _ => Ok(()),
        }
    }
}

/// Scheme, host and port of a URL: what of it is no secret.
pub fn address(uri: &Uri) -> String {
    let host = uri.host().unwrap_or_default();
    let port = uri.port_u16().map_or_else(String::new, |port| format!(":{port}"));
    format!("{}://{host}{port}", uri.scheme_str().unwrap_or("http"))
}

fn refused() -> io::Error {
    let text = "the address is private or local: allow_private_addresses = true permits it";
    io::Error::new(io::ErrorKind::PermissionDenied, text)
}

/// Resolves names, and leaves out what is refused.
#[derive(Clone)]
pub(super) struct Resolver {
    inner: GaiResolver,
    public_only: bool,
}

impl Resolver {
    pub(super) fn new(public_only: bool) -> Self {
        Self { inner: GaiResolver::new(), public_only }
    }
}

impl Service<Name> for Resolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let (resolving, public_only) = (self.inner.call(name), self.public_only);
        Box::pin(async move {
            let found: Vec<SocketAddr> = resolving.await?.collect();
            let accepted: Vec<_> =
                found.iter().filter(|at| !public_only || is_public(at.ip())).copied().collect();
            if accepted.is_empty() && !found.is_empty() { Err(refused()) } else { Ok(accepted.into_iter()) }
        })
    }
}

/// Whether an address belongs to the internet (IANA's registries of special-purpose addresses).
fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => is_public_v4(ip),
        IpAddr::V6(ip) => is_public_v6(ip),
    }
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    let is_special = ip.is_private()
        || ip.is_loopback()
        || ip.is_link_local()
        || ip.is_multicast()
        || ip.is_documentation()
        || a == 0
        || a >= 240
        // Shared by carriers, protocol assignments, benchmarks.
        || (a == 100 && b & 0xc0 == 64)
        || (a == 192 && b == 0 && c == 0)
        || (a == 198 && b & 0xfe == 18);
    !is_special
}

fn is_public_v6(ip: Ipv6Addr) -> bool {
    let segments = ip.segments();
    let embedded = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        is_public_v4(Ipv4Addr::new(a, b, c, d))
    };
    match segments {
        // An IPv4 address in another form: mapped, compatible, translated (NAT64), 6to4.
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => embedded(high, low),
        [0x2002, high, low, ..] => embedded(high, low),
        // All that is given out today is 2000::/3; of it, assignments for protocols and documentation.
        [0x2001, 0..0x200, ..] | [0x2001, 0xdb8, ..] | [0x3fff, ..] => false,
        [first, ..] => first & 0xe000 == 0x2000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_of_the_internet_are_public() {
        for (ip, expected) in [
            ("8.8.8.8", true),
            ("172.15.0.1", true),
            ("172.16.0.1", false),
            ("10.1.2.3", false),
            ("192.168.1.1", false),
            ("127.0.0.1", false),
            ("0.0.0.0", false),
            ("169.254.169.254", false),
            ("100.64.0.1", false),
            ("100.128.0.1", true),
            ("192.0.0.1", false),
            ("192.0.2.1", false),
            ("198.19.0.1", false),
            ("224.0.0.1", false),
            ("255.255.255.255", false),
            ("2606:4700::1111", true),
            ("::1", false),
            ("::", false),
            ("::ffff:127.0.0.1", false),
            ("::ffff:8.8.8.8", true),
            ("::10.0.0.1", false),
            ("64:ff9b::a9fe:a9fe", false),
            ("64:ff9b::808:808", true),
            ("2002:7f00:1::", false),
            ("fd00::1", false),
            ("fe80::1", false),
            ("ff02::1", false),
            ("2001:db8::1", false),
        ] {
            assert_eq!(is_public(ip.parse().expect("an address")), expected, "{ip}");
        }
    }

    #[test]
    fn addresses_in_urls_are_looked_at() {
        let reach = Reach { public_only: true, ca_file: None };
        for (url, expected) in [
            ("http://127.0.0.1:9/", false),
            ("https://[::1]/", false),
            ("https://8.8.8.8/", true),
            ("https://portal.example/", true),
        ] {
            let uri: Uri = url.parse().expect("a URL");
            assert_eq!(reach.check(&uri).is_ok(), expected, "{url}");
            assert!(Reach::default().check(&uri).is_ok());
        }
    }

    #[tokio::test]
    async fn names_of_local_addresses_are_refused() {
        let name: Name = "localhost".parse().expect("a name");
        let error = Resolver::new(true).call(name.clone()).await.expect_err("refused");
        assert!(error.to_string().contains("allow_private_addresses"), "{error}");
        assert!(Resolver::new(false).call(name).await.expect("resolved").next().is_some());
    }

    #[test]
    fn a_file_without_certificates_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("ca.pem");
        let reach = Reach { public_only: false, ca_file: Some(path.clone()) };
        assert!(reach.tls().is_err_and(|fault| fault.contains("ca.pem")));
        std::fs::write(&path, "nothing").expect("written");
        assert!(reach.tls().is_err_and(|fault| fault.contains("holds no certificate")));
        assert!(Reach::default().tls().expect("nothing to read").is_none());
    }
}
