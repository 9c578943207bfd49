//! Network addresses as limits and bindings count them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// What counts as one neighbour: an IPv4 address, or the /64 that an IPv6 host chooses its addresses from.
#[must_use]
pub fn neighbour(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() & (u128::MAX << 64)).into()),
    }
}

/// The block that a machine over HTTP is bound to: an IPv4 address' /24, an IPv6 address' /64. Within it addresses
/// change by themselves (DHCP, privacy extensions).
#[must_use]
pub fn block(address: IpAddr) -> String {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            let base = Ipv4Addr::from_bits(address.to_bits() & (u32::MAX << 8));
            format!("{base}/24")
        }
        IpAddr::V6(address) => {
            let base = Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64));
            format!("{base}/64")
        }
    }
}

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
        let address = address.to_canonical();
        self.base.is_ipv4() == address.is_ipv4() && first(address, self.bits) == self.base
    }
}

/// The first address of the network of so many bits that an address is in.
fn first(address: IpAddr, bits: u8) -> IpAddr {
    let bits = u32::from(bits);
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX
                .checked_shl(32_u32.saturating_sub(bits))
                .unwrap_or(0);
            Ipv4Addr::from_bits(address.to_bits() & mask).into()
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX
                .checked_shl(128_u32.saturating_sub(bits))
                .unwrap_or(0);
            Ipv6Addr::from_bits(address.to_bits() & mask).into()
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
        let bits: u8 = match bits {
            Some(bits) => bits
                .parse()
                .ok()
                .filter(|bits| *bits <= longest)
                .ok_or_else(wrong)?,
            None => longest,
        };
        // An IPv4 address in the clothes of an IPv6 one: so no client's address ever looks.
        let (base, bits) = match (base.to_canonical(), bits.checked_sub(96)) {
            (mapped @ IpAddr::V4(_), Some(bits)) if base.is_ipv6() => (mapped, bits),
            _ => (base, bits),
        };
        let first = first(base, bits);
        if first != base {
            return Err(format!(
                "`{text}` has bits set behind its first {bits}: the network that it is in is {first}/{bits}"
            ));
        }
        Ok(Self { base, bits })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_of_one_ipv6_network_are_one_neighbour() -> Result<(), std::net::AddrParseError> {
        let one = |text: &str| text.parse().map(neighbour);
        assert_eq!(one("2001:db8::1")?, one("2001:db8::ffff:1")?);
        assert_ne!(one("2001:db8::1")?, one("2001:db8:0:1::1")?);
        assert_ne!(one("192.0.2.1")?, one("192.0.2.2")?);
        assert_eq!(one("::ffff:192.0.2.1")?, one("192.0.2.1")?);
        Ok(())
    }

    #[test]
    fn a_block_is_a_24_or_a_64() -> Result<(), std::net::AddrParseError> {
        for (address, expected) in [
            ("127.0.0.1", "127.0.0.0/24"),
            ("127.0.0.254", "127.0.0.0/24"),
            ("127.1.0.1", "127.1.0.0/24"),
            ("::ffff:192.0.2.9", "192.0.2.0/24"),
            ("2001:db8:0:1:2:3:4:5", "2001:db8:0:1::/64"),
        ] {
            assert_eq!(block(address.parse()?), expected);
        }
        Ok(())
    }

    #[test]
    fn networks_are_read_strictly() -> Result<(), Box<dyn std::error::Error>> {
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
        // Which of the two is meant nobody knows: 10.0.0.0/0 would be the whole world.
        for (text, meant) in [
            ("10.0.0.0/0", "0.0.0.0/0"),
            ("10.0.0.5/8", "10.0.0.0/8"),
            ("2001:db8::1/64", "2001:db8::/64"),
            ("::ffff:10.0.0.5/104", "10.0.0.0/8"),
            ("::ffff:10.0.0.0/64", "::/64"),
        ] {
            let refused = text.parse::<Network>().err().unwrap_or_default();
            assert!(refused.contains(text), "{text}: {refused}");
            assert!(refused.ends_with(meant), "{text}: {refused}");
        }
        for (text, same) in [
            ("::ffff:10.0.0.5", "10.0.0.5"),
            ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
            ("::ffff:0.0.0.0/96", "0.0.0.0/0"),
        ] {
            assert_eq!(text.parse::<Network>()?, same.parse::<Network>()?, "{text}");
        }
        let one: Network = "::ffff:10.0.0.5".parse()?;
        assert!(one.contains("10.0.0.5".parse()?));
        assert!(one.contains("::ffff:10.0.0.5".parse()?));
        assert!(!one.contains("10.0.0.6".parse()?));
        let all: Network = "0.0.0.0/0".parse()?;
        assert!(all.contains("203.0.113.9".parse()?));
        assert!(!all.contains("::1".parse()?));
        Ok(())
    }
}
