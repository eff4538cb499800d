//! The proxies in front of the server, and the addresses of the clients behind them.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use hyper::header::HeaderMap;
use ipnet::IpNet;

const X_FORWARDED_FOR: &str = "x-forwarded-for";

/// Addresses whose headers are believed. Cloning shares them.
#[derive(Clone)]
pub struct Proxies(Arc<[IpNet]>);

impl Proxies {
    /// The proxies of these networks.
    pub fn new(networks: &[IpNet]) -> Self {
        Self(networks.into())
    }

    /// Whether an address is one of them.
    pub fn trust(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }

    /// The client's address, where a trusted proxy says so: the last one in `X-Forwarded-For` that is not trusted itself.
    /// What stands before it, or before something that is no address, may come from the client.
    pub fn client(&self, headers: &HeaderMap, peer: IpAddr) -> Option<IpAddr> {
        if !self.trust(peer) {
            return None;
        }
        let lists = headers.get_all(X_FORWARDED_FOR).into_iter().rev();
        let items = lists.flat_map(|list| list.to_str().unwrap_or_default().rsplit(','));
        items.map(parse).find(|address| address.is_none_or(|address| !self.trust(address))).flatten()
    }
}

/// An address, as proxies write it: some add the port.
fn parse(item: &str) -> Option<IpAddr> {
    let item = item.trim();
    let bare = item.strip_prefix('[').and_then(|item| item.strip_suffix(']')).unwrap_or(item);
    let address = bare.parse().or_else(|_| item.parse().map(|address: SocketAddr| address.ip()));
    address.map(|address: IpAddr| address.to_canonical()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_address_that_no_trusted_proxy_has_is_the_clients() {
        let proxies = Proxies::new(&["10.0.0.0/8".parse().expect("a network")]);
        let of = |peer: &str, lists: &[&str]| {
            let pairs = lists
                .iter()
                .map(|list| (X_FORWARDED_FOR.parse().expect("a name"), list.parse().expect("a value")));
            let client = proxies.client(&pairs.collect(), peer.parse().expect("an address"));
            client.map(|client| client.to_string())
        };
        for (peer, lists, client) in [
            ("10.0.0.1", &["203.0.113.7"][..], Some("203.0.113.7")),
            ("10.0.0.1", &["198.51.100.1, 203.0.113.7"], Some("203.0.113.7")),
            ("10.0.0.1", &["198.51.100.1", "203.0.113.7, 10.0.0.2"], Some("203.0.113.7")),
            ("10.0.0.1", &["203.0.113.7:4711"], Some("203.0.113.7")),
            ("10.0.0.1", &["[2001:db8::1]:4711"], Some("2001:db8::1")),
            ("10.0.0.1", &["[2001:db8::1]"], Some("2001:db8::1")),
            ("::ffff:10.0.0.1", &["::ffff:203.0.113.7"], Some("203.0.113.7")),
            ("10.0.0.1", &["198.51.100.1, unknown"], None),
            ("10.0.0.1", &["10.0.0.3"], None),
            ("10.0.0.1", &[], None),
            ("192.0.2.1", &["203.0.113.7"], None),
        ] {
            assert_eq!(of(peer, lists).as_deref(), client, "{lists:?} from {peer}");
        }
    }
}
