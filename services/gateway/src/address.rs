//! Whose request it is, seen from the network: the peer, or whom a proxy that is trusted names.

use std::net::IpAddr;

pub use domain::network::Network;
use poem::http::HeaderMap;

/// Each proxy appends the address that it saw.
const FORWARDED_FOR: &str = "x-forwarded-for";

/// The client's address: the nearest one that is not a trusted proxy's. What stands further left in the header is
/// the client's own invention.
#[must_use]
pub fn client(peer: IpAddr, headers: &HeaderMap, trusted: &[Network]) -> IpAddr {
    let is_proxy = |address: IpAddr| trusted.iter().any(|network| network.contains(address));
    let mut client = peer.to_canonical();
    let lines = headers
        .get_all(FORWARDED_FOR)
        .iter()
        .rev()
        .filter_map(|line| line.to_str().ok());
    for named in lines.flat_map(|line| line.rsplit(',')) {
        if !is_proxy(client) {
            break;
        }
        match named.trim().parse::<IpAddr>() {
            Ok(address) => client = address.to_canonical(),
            Err(_) => break,
        }
    }
    client
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(peer: &str, forwarded: &[&str], trusted: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for line in forwarded {
            headers.append(FORWARDED_FOR, line.parse().expect("a header"));
        }
        let trusted: Vec<Network> = trusted
            .iter()
            .map(|network| network.parse().expect("a network"))
            .collect();
        client(peer.parse().expect("an address"), &headers, &trusted).to_string()
    }

    #[test]
    fn only_trusted_proxies_are_believed() {
        for (peer, forwarded, trusted, expected) in [
            ("192.0.2.1", vec!["198.51.100.7"], vec![], "192.0.2.1"),
            (
                "10.1.2.3",
                vec!["198.51.100.7"],
                vec!["10.0.0.0/8"],
                "198.51.100.7",
            ),
            (
                "10.1.2.3",
                vec!["1.1.1.1, 198.51.100.7, 10.9.9.9"],
                vec!["10.0.0.0/8"],
                "198.51.100.7",
            ),
            (
                "10.1.2.3",
                vec!["1.1.1.1", "198.51.100.7"],
                vec!["10.0.0.0/8"],
                "198.51.100.7",
            ),
            ("10.1.2.3", vec!["unknown"], vec!["10.0.0.0/8"], "10.1.2.3"),
            ("10.1.2.3", vec![], vec!["10.0.0.0/8"], "10.1.2.3"),
            (
                "::ffff:10.1.2.3",
                vec!["2001:db8::1"],
                vec!["10.0.0.0/8"],
                "2001:db8::1",
            ),
            (
                "fd00::1",
                vec!["2001:db8::1"],
                vec!["fd00::/8"],
                "2001:db8::1",
            ),
        ] {
            assert_eq!(
                seen(peer, &forwarded, &trusted),
                expected,
                "{peer} {forwarded:?}"
            );
        }
    }
}
