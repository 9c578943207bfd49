//! Network addresses as limits count them.

use std::net::IpAddr;

/// What counts as one neighbour: an IPv4 address, or the /64 that an IPv6 host chooses its addresses from.
#[must_use]
pub fn neighbour(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() & (u128::MAX << 64)).into()),
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
}
