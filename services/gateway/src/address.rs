//! Whose request it is, seen from the network: the peer, or whom a proxy that is trusted names; and whether it came by TLS.

use std::net::IpAddr;

pub use domain::network::Network;
use poem::http::HeaderMap;

/// Each proxy appends the address that it saw.
const FORWARDED_FOR: &str = "x-forwarded-for";
/// What the client spoke with the proxy.
const FORWARDED_PROTO: &str = "x-forwarded-proto";

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

/// Whether the client of a proxy that is trusted speaks TLS with it; nothing where nobody who is believed says so.
#[must_use]
pub fn forwarded_https(peer: IpAddr, headers: &HeaderMap, trusted: &[Network]) -> Option<bool> {
    if !trusted.iter().any(|network| network.contains(peer)) {
        return None;
    }
    let named = headers.get(FORWARDED_PROTO)?.to_str().ok()?;
    // The first is the proxy that the client itself spoke with.
    let first = named.split(',').next()?.trim();
    match first.to_ascii_lowercase().as_str() {
        "https" | "wss" => Some(true),
        "http" | "ws" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_trusted_proxies_say_whether_there_is_tls() {
        let trusted: Vec<Network> = vec!["10.0.0.0/8".parse().expect("a network")];
        for (peer, said, expected) in [
            ("10.1.2.3", Some("https"), Some(true)),
            ("10.1.2.3", Some("HTTPS, http"), Some(true)),
            ("10.1.2.3", Some("http"), Some(false)),
            ("10.1.2.3", Some("gopher"), None),
            ("10.1.2.3", None, None),
            ("192.0.2.1", Some("https"), None),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(said) = said {
                headers.insert(FORWARDED_PROTO, said.parse().expect("a header"));
            }
            let peer = peer.parse().expect("an address");
            assert_eq!(
                forwarded_https(peer, &headers, &trusted),
                expected,
                "{peer} {said:?}"
            );
        }
    }

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
