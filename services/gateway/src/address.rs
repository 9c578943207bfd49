//! Whose request it is, seen from the network: the peer, or whom a proxy that is trusted names.

use std::net::IpAddr;
use std::str::FromStr;

use poem::http::HeaderMap;

/// Each proxy appends the address that it saw.
const FORWARDED_FOR: &str = "x-forwarded-for";

/// A network such as `10.0.0.0/8`, or a single address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    base: IpAddr,
    bits: u8,
}

impl Network {
    /// Whether the address lies in it.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.base, address.to_canonical()) {
            (IpAddr::V4(base), IpAddr::V4(address)) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.bits)).unwrap_or(0);
                base.to_bits() & mask == address.to_bits() & mask
            }
            (IpAddr::V6(base), IpAddr::V6(address)) => {
                let mask = u128::MAX
                    .checked_shl(128 - u32::from(self.bits))
                    .unwrap_or(0);
                base.to_bits() & mask == address.to_bits() & mask
            }
            _ => false,
        }
    }
}

impl FromStr for Network {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not a network such as 10.0.0.0/8");
        let (base, bits) = match text.split_once('/') {
            Some((base, bits)) => (base, Some(bits)),
            None => (text, None),
        };
        let base: IpAddr = base.parse().map_err(|_| wrong())?;
        let longest = if base.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            Some(bits) => bits
                .parse()
                .ok()
                .filter(|bits| *bits <= longest)
                .ok_or_else(wrong)?,
            None => longest,
        };
        Ok(Self { base, bits })
    }
}

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

    #[test]
    fn networks_are_read_strictly() {
        for text in [
            "10.0.0.0/33",
            "::/129",
            "10.0.0/8",
            "",
            "10.0.0.0/-1",
            "0.0.0.0/",
        ] {
            assert!(text.parse::<Network>().is_err(), "{text}");
        }
        let all: Network = "0.0.0.0/0".parse().expect("a network");
        assert!(all.contains("203.0.113.9".parse().expect("an address")));
        assert!(!all.contains("::1".parse().expect("an address")));
    }
}
