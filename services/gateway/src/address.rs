//! Whose request it is, seen from the network: the peer, or whom a proxy that is trusted names; and whether it came by TLS.
//!
//! What a trusted proxy says and nobody can read makes the client [`UNKNOWN`], and not the proxy: no key that is bound to
//! networks is taken from there, all such share the limits of one address, and the audit is told none.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub use domain::network::Network;
use domain::network::neighbour;
use poem::http::HeaderMap;

/// Each proxy appends the address that it saw.
const FORWARDED_FOR: &str = "x-forwarded-for";
/// What the client spoke with the proxy.
const FORWARDED_PROTO: &str = "x-forwarded-proto";

/// The address of whoever cannot be told: no host has it.
pub const UNKNOWN: IpAddr = IpAddr::V6(Ipv6Addr::UNSPECIFIED);

/// The address, if it is one.
#[must_use]
pub fn known(address: IpAddr) -> Option<IpAddr> {
    (!address.is_unspecified()).then_some(address)
}

/// The neighbour that an address belongs to, for owners that count by it; empty when unknown.
#[must_use]
pub fn neighbour_text(address: IpAddr) -> String {
    known(address).map_or_else(String::new, |address| neighbour(address).to_string())
}

/// The client's address, or [`UNKNOWN`]: the nearest one that is not a trusted proxy's. What stands further left in the header is
/// the client's own invention.
#[must_use]
pub fn client(peer: IpAddr, headers: &HeaderMap, trusted: &[Network]) -> IpAddr {
    believed(peer, headers, trusted).0
}

/// Whether the client seems to be a proxy of ours that nobody told us of: it stands in a private network, and names
/// somebody for whom it speaks. On this machine there is nothing to be told apart.
#[must_use]
pub fn is_unknown_proxy(peer: IpAddr, headers: &HeaderMap, trusted: &[Network]) -> bool {
    let (client, names) = believed(peer, headers, trusted);
    names && is_private(client)
}

/// The client's address, and whether the client itself names another.
fn believed(peer: IpAddr, headers: &HeaderMap, trusted: &[Network]) -> (IpAddr, bool) {
    let is_proxy = |address: IpAddr| trusted.iter().any(|network| network.contains(address));
    let mut client = peer.to_canonical();
    let lines = headers.get_all(FORWARDED_FOR).iter().rev();
    // Of bytes: a line with one that is no text must not vanish with what a proxy of ours appended to it.
    for named in lines.flat_map(|line| line.as_bytes().rsplit(|byte| *byte == b',')) {
        if !is_proxy(client) {
            return (client, true);
        }
        match read(named) {
            Some(address) => client = address.to_canonical(),
            None => return (UNKNOWN, false),
        }
    }
    (client, false)
}

/// An address as proxies write it: by itself, or with the port.
fn read(named: &[u8]) -> Option<IpAddr> {
    let named = std::str::from_utf8(named).ok()?.trim_matches([' ', '\t']);
    if let Ok(address) = named.parse() {
        return Some(address);
    }
    let (address, port): (IpAddr, _) = match named.strip_prefix('[') {
        Some(named) => {
            let (address, rest) = named.split_once(']')?;
            let address: Ipv6Addr = address.parse().ok()?;
            if rest.is_empty() {
                return Some(address.into());
            }
            (address.into(), rest.strip_prefix(':')?)
        }
        None => {
            let (address, port) = named.split_once(':')?;
            let address: Ipv4Addr = address.parse().ok()?;
            (address.into(), port)
        }
    };
    let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    (digits && port.parse::<u16>().is_ok()).then_some(address)
}

/// Whether an address is of a network that is not the world's: of an organisation, a cluster, a link, a provider.
fn is_private(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            let [first, second, ..] = address.octets();
            let is_shared = first == 100 && second & 0xc0 == 64;
            address.is_private() || address.is_link_local() || is_shared
        }
        IpAddr::V6(address) => address.is_unique_local() || address.is_unicast_link_local(),
    }
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
            ("10.1.2.3", vec!["unknown"], vec!["10.0.0.0/8"], "::"),
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

    #[test]
    fn what_a_trusted_proxy_says_and_nobody_can_read_is_nobodys_address() {
        let trusted: Vec<Network> = vec!["10.0.0.0/8".parse().expect("a network")];
        let cases: [(&[&[u8]], &str); 24] = [
            (&[b"203.0.113.7:4711"], "203.0.113.7"),
            (&[b"1.1.1.1, 203.0.113.7:4711"], "203.0.113.7"),
            (&[b"[2001:db8::1]:44"], "2001:db8::1"),
            (&[b"[2001:db8::1]"], "2001:db8::1"),
            (&[b"2001:db8::1"], "2001:db8::1"),
            (&[b"[::ffff:203.0.113.7]:1"], "203.0.113.7"),
            (&[b"203.0.113.7:4711, 10.0.0.9:80"], "203.0.113.7"),
            (&[b"\t203.0.113.7 "], "203.0.113.7"),
            // What the client itself wrote, of which our proxy's part is good.
            (&[b"\xff\xfe, 203.0.113.7"], "203.0.113.7"),
            (&[b"\xff\xfe", b"203.0.113.7"], "203.0.113.7"),
            (&[b", ,203.0.113.7"], "203.0.113.7"),
            // What nobody can read, whatever stands further left, in this line or in one before.
            (&[b"203.0.113.7, \xff"], "::"),
            (&[b"203.0.113.7", b"\xff"], "::"),
            (&[b"203.0.113.7,"], "::"),
            (&[b"203.0.113.7", b""], "::"),
            (&[b"203.0.113.7, unknown"], "::"),
            (&[b"203.0.113.7, x, 10.0.0.9"], "::"),
            (&[b"203.0.113.7", b"x", b"10.0.0.9"], "::"),
            (&[b"203.0.113.7:"], "::"),
            (&[b"203.0.113.7:65536"], "::"),
            (&[b"203.0.113.7:+80"], "::"),
            (&[b"[2001:db8::1]44"], "::"),
            (&[b"[203.0.113.7]:44"], "::"),
            (&[b"0.0.0.0"], "0.0.0.0"),
        ];
        for (lines, expected) in cases {
            let mut headers = HeaderMap::new();
            for line in lines {
                let line = poem::http::HeaderValue::from_bytes(line).expect("a header");
                headers.append(FORWARDED_FOR, line);
            }
            let peer = "10.1.2.3".parse().expect("an address");
            let found = client(peer, &headers, &trusted);
            assert_eq!(found.to_string(), expected, "{lines:?}");
            let unknown = ["::", "0.0.0.0"].contains(&expected);
            assert_eq!(known(found).is_none(), unknown, "{lines:?}");
            assert_eq!(neighbour_text(found).is_empty(), unknown, "{lines:?}");
            assert!(!is_unknown_proxy(peer, &headers, &trusted), "{lines:?}");
        }
    }

    #[test]
    fn who_speaks_for_others_from_a_private_network_is_an_unknown_proxy() {
        let trusted: Vec<Network> = vec!["10.0.0.0/8".parse().expect("a network")];
        for (peer, forwarded, expected) in [
            ("192.168.1.2", Some("198.51.100.7"), true),
            ("172.16.0.9", Some("unknown"), true),
            ("100.64.0.1", Some("198.51.100.7"), true),
            ("fd00::1", Some("2001:db8::1"), true),
            // A proxy that we know, and one behind it that we do not.
            ("10.1.2.3", Some("198.51.100.7"), false),
            ("10.1.2.3", Some("198.51.100.7, 192.168.1.2"), true),
            ("10.1.2.3", Some("192.168.1.2"), false),
            // Nobody is named; it is this machine; it is somebody in the world who says so.
            ("192.168.1.2", None, false),
            ("127.0.0.1", Some("198.51.100.7"), false),
            ("::1", Some("198.51.100.7"), false),
            ("203.0.113.9", Some("198.51.100.7"), false),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(forwarded) = forwarded {
                headers.insert(FORWARDED_FOR, forwarded.parse().expect("a header"));
            }
            let peer = peer.parse().expect("an address");
            let found = is_unknown_proxy(peer, &headers, &trusted);
            assert_eq!(found, expected, "{peer} {forwarded:?}");
        }
    }
}
