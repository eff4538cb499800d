//! Whether a client of a `tls_only` app came over TLS, and the refusal if not.
//!
//! A client that is closed with 4000 tries again over TLS without a pause. If a proxy that ends TLS does not say so to this
//! server, the client is refused again at once: 84 connections in 4 s were counted from one page. Therefore 4000
//! is sent only if the client came without TLS as far as can be known, and at most [`MOST_4000`] times in
//! [`SPAN_4000`] to one address. All others get 4100, after which clients wait a second, and the log says what to change.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hyper::header::{HeaderMap, HeaderName};
use ipnet::IpNet;

use super::proxies::Proxies;
use crate::hub::Refusal;
use crate::logging::seldom::Seldom;
use crate::protocol::error_code::ErrorCode;

/// How often one address is sent to TLS within [`SPAN_4000`].
const MOST_4000: u32 = 3;
/// The time in which these are counted.
const SPAN_4000: Duration = Duration::from_secs(2);
/// Addresses that are remembered.
const MAX_ADDRESSES: usize = 10_000;

const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Judges connections to `tls_only` apps. Cloning shares what is remembered.
#[derive(Clone)]
pub struct TlsGuard {
    proxies: Proxies,
    memory: Arc<Mutex<Memory>>,
    /// One for each [`Fault`].
    warnings: Arc<[Seldom; 3]>,
}

#[derive(Default)]
struct Memory {
    /// When an address was first sent to TLS lately, and how often since.
    sent_to_tls: HashMap<IpAddr, (Instant, u32)>,
}

/// How a client came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Transport {
    Tls,
    Plain,
    Unknown(Fault),
}

/// Why that is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// A trusted proxy sent no `X-Forwarded-Proto`.
    HeaderMissing,
    /// The header came from an address that is not trusted.
    ProxyNotTrusted,
    /// The client was sent to TLS and came back as before.
    CameBack,
}

impl TlsGuard {
    /// A guard that believes these proxies.
    pub fn new(trusted_proxies: &[IpNet]) -> Self {
        Self { proxies: Proxies::new(trusted_proxies), memory: Arc::default(), warnings: Arc::default() }
    }

    /// The proxies that it believes.
    pub fn proxies(&self) -> &Proxies {
        &self.proxies
    }

    /// Why a connection to a `tls_only` app is refused; `None` if it came over TLS. `peer` is the other end of the
    /// TCP connection.
    pub fn refusal(&self, app: &str, headers: &HeaderMap, peer: IpAddr) -> Option<Refusal> {
        self.refusal_at(Instant::now(), app, headers, peer)
    }

    /// Whether a client came over TLS, as far as that is known.
    pub fn is_secure(&self, headers: &HeaderMap, peer: IpAddr) -> bool {
        transport(headers, self.proxies.trust(peer.to_canonical())) == Transport::Tls
    }

    fn refusal_at(&self, now: Instant, app: &str, headers: &HeaderMap, peer: IpAddr) -> Option<Refusal> {
        let peer = peer.to_canonical();
        let is_trusted = self.proxies.trust(peer);
        let client = self.proxies.client(headers, peer).unwrap_or(peer);
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        let fault = match transport(headers, is_trusted) {
            Transport::Tls => return None,
            Transport::Plain if memory.may_send_to_tls(now, client) => {
                let message = "Application only accepts TLS connections, reconnect with wss://".to_owned();
                return Some(Refusal { code: ErrorCode::TlsOnly, message });
            }
            Transport::Plain => Fault::CameBack,
            Transport::Unknown(fault) => fault,
        };
        if let Some(suppressed) = self.warnings[fault as usize].admit() {
            warn(fault, app, peer, suppressed + 1);
        }
        let message = format!("Application only accepts TLS connections, and {}", fault.for_client());
        Some(Refusal { code: ErrorCode::OverCapacity, message })
    }
}

impl Memory {
    /// Whether an address was not sent to TLS too often lately. Counts this time.
    fn may_send_to_tls(&mut self, now: Instant, client: IpAddr) -> bool {
        if self.sent_to_tls.len() >= MAX_ADDRESSES {
            self.sent_to_tls.retain(|_, (since, _)| now.duration_since(*since) < SPAN_4000);
            if self.sent_to_tls.len() >= MAX_ADDRESSES {
                self.sent_to_tls.clear();
            }
        }
        let (since, count) = self.sent_to_tls.entry(client).or_insert((now, 0));
        if now.duration_since(*since) >= SPAN_4000 {
            (*since, *count) = (now, 0);
        }
        *count = count.saturating_add(1);
        *count <= MOST_4000
    }
}

impl Fault {
    /// For the client's developer, without anything about the network behind the proxy.
    fn for_client(self) -> &'static str {
        match self {
            Self::HeaderMissing => "the proxy in front of this server sends no X-Forwarded-Proto header",
            Self::ProxyNotTrusted => "the proxy in front of this server is not in server.trusted_proxies",
            Self::CameBack => {
                "this one came without TLS again; is X-Forwarded-Proto set by the proxy that ends TLS?"
            }
        }
    }
}

/// What the headers say about the client's connection.
fn transport(headers: &HeaderMap, is_trusted: bool) -> Transport {
    let scheme = headers.get(X_FORWARDED_PROTO).map(|value| value.to_str().unwrap_or_default());
    match (scheme, is_trusted) {
        (Some(scheme), true) => {
            let first = scheme.split(',').next().unwrap_or_default().trim();
            let is_tls = first.eq_ignore_ascii_case("https") || first.eq_ignore_ascii_case("wss");
            if is_tls { Transport::Tls } else { Transport::Plain }
        }
        (None, true) => Transport::Unknown(Fault::HeaderMissing),
        (Some(_), false) => Transport::Unknown(Fault::ProxyNotTrusted),
        (None, false) => Transport::Plain,
    }
}

/// Tells the operator what to change, with the refusals since this was last told.
fn warn(fault: Fault, app: &str, peer: IpAddr, refused: u64) {
    match fault {
        Fault::HeaderMissing => tracing::warn!(
            app,
            proxy = %peer,
            refused,
            "the app is tls_only, and the proxy does not say whether clients came over TLS: they are refused with 4100. \
             Add to nginx: proxy_set_header X-Forwarded-Proto $scheme; to HAProxy: http-request set-header \
             X-Forwarded-Proto https if {{ ssl_fc }}; to Apache: RequestHeader set X-Forwarded-Proto \
             expr=%{{REQUEST_SCHEME}} (a client that connects without a proxy must use wss://)"
        ),
        Fault::ProxyNotTrusted => tracing::warn!(
            app,
            proxy = %peer,
            refused,
            "the app is tls_only, and X-Forwarded-Proto came from an address that is not in server.trusted_proxies: \
             clients are refused with 4100. If this address is your proxy, add it: trusted_proxies = [\"{peer}\"]"
        ),
        Fault::CameBack => tracing::warn!(
            app,
            peer = %peer,
            refused,
            "the app is tls_only, and clients that were sent to TLS come back without it: they are refused with 4100. \
             If they use wss://, the proxy that ends TLS must set X-Forwarded-Proto: https, proxies behind it must pass it on, \
             and the last one must be in server.trusted_proxies"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

    const PROXY: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 5));
    const STRANGER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7));

    fn guard() -> TlsGuard {
        TlsGuard::new(&["10.0.0.0/8".parse().expect("a network")])
    }

    fn headers(pairs: &[(HeaderName, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.clone(), value.parse().expect("a value"))).collect()
    }

    fn code(guard: &TlsGuard, now: Instant, pairs: &[(HeaderName, &str)], peer: IpAddr) -> Option<u16> {
        guard.refusal_at(now, "1001", &headers(pairs), peer).map(|refusal| refusal.code.number())
    }

    #[test]
    fn only_clients_that_surely_came_without_tls_are_sent_to_it() {
        let now = Instant::now();
        for (proto, peer, expected) in [
            (Some("https"), PROXY, None),
            (Some("WSS"), PROXY, None),
            (Some("https, http"), PROXY, None),
            (Some("http"), PROXY, Some(4000)),
            (Some("http, https"), PROXY, Some(4000)),
            (Some(""), PROXY, Some(4000)),
            (Some("httpsx"), PROXY, Some(4000)),
            (None, PROXY, Some(4100)),
            (Some("https"), STRANGER, Some(4100)),
            (Some("http"), STRANGER, Some(4100)),
            (None, STRANGER, Some(4000)),
        ] {
            let pairs: Vec<_> = proto.map(|proto| (X_FORWARDED_PROTO, proto)).into_iter().collect();
            assert_eq!(code(&guard(), now, &pairs, peer), expected, "{proto:?} from {peer}");
        }
    }

    #[test]
    fn an_address_that_comes_back_as_before_has_to_wait() {
        let (guard, start) = (guard(), Instant::now());
        let codes = |now| [(); 4].map(|()| code(&guard, now, &[], STRANGER).expect("refused"));
        assert_eq!(codes(start), [4000, 4000, 4000, 4100]);
        assert_eq!(code(&guard, start, &[], PROXY), Some(4100), "another fault");
        assert_eq!(code(&guard, start + SPAN_4000 / 2, &[], STRANGER), Some(4100));
        assert_eq!(codes(start + SPAN_4000), [4000, 4000, 4000, 4100]);
    }

    #[test]
    fn clients_behind_one_proxy_are_told_apart() {
        let (guard, now) = (guard(), Instant::now());
        let from = |address| [(X_FORWARDED_PROTO, "http"), (X_FORWARDED_FOR, address)];
        for _ in 0..3 {
            assert_eq!(code(&guard, now, &from("198.51.100.9, 203.0.113.1"), PROXY), Some(4000));
        }
        assert_eq!(code(&guard, now, &from("203.0.113.1"), PROXY), Some(4100));
        assert_eq!(code(&guard, now, &from("203.0.113.2"), PROXY), Some(4000));
    }

    #[test]
    fn many_addresses_take_no_more_memory_than_some() {
        let (guard, now) = (guard(), Instant::now());
        for number in 0..=(2 * MAX_ADDRESSES as u32) {
            code(&guard, now, &[], IpAddr::V4((0xc000_0000 + number).into()));
        }
        assert!(guard.memory.lock().expect("no panic").sent_to_tls.len() <= MAX_ADDRESSES);
    }
}
