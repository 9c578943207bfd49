//! Which addresses are public, looking through every form in which one address carries another.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// IPv4 networks that are not public: base and length.
const CLOSED_V4: [(Ipv4Addr, u32); 11] = [
    // "This network", and what some systems take for the loopback.
    (Ipv4Addr::new(0, 0, 0, 0), 8),
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    // Behind a provider's NAT.
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    // Link-local, and the metadata of clouds.
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 0, 0, 0), 24),
    // Relays of 6to4, which there should be none of any more (RFC 7526).
    (Ipv4Addr::new(192, 88, 99, 0), 24),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    // Benchmarks.
    (Ipv4Addr::new(198, 18, 0, 0), 15),
    // Multicast, reserved, broadcast.
    (Ipv4Addr::new(224, 0, 0, 0), 3),
];

/// IPv6 networks that are not public: base and length.
const CLOSED_V6: [(Ipv6Addr, u32); 4] = [
    (Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0), 7),
    (Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10),
    (Ipv6Addr::new(0xfec0, 0, 0, 0, 0, 0, 0, 0), 10),
    (Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8),
];

/// Where clouds tell a machine who it is and hand it credentials: never reached, whatever was granted. The first is that of nearly
/// all of them; then containers and pods of AWS, Azure, Alibaba, and AWS and Google over IPv6.
const METADATA: [IpAddr; 8] = [
    IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)),
    IpAddr::V4(Ipv4Addr::new(169, 254, 170, 2)),
    IpAddr::V4(Ipv4Addr::new(169, 254, 170, 23)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x0254)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x0023)),
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0x00ce, 0, 0, 0, 0, 0, 0x0254)),
];

const MAPPED: Ipv6Addr = Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0);
const COMPATIBLE: Ipv6Addr = Ipv6Addr::UNSPECIFIED;
const NAT64: Ipv6Addr = Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0);
const NAT64_LOCAL: Ipv6Addr = Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, 0, 0);
const SIX_TO_FOUR: Ipv6Addr = Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0);
const TEREDO: Ipv6Addr = Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0);

/// Whether the address is public: it and every IPv4 address that it may carry.
#[must_use]
pub fn is_global(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_global_v4(address),
        IpAddr::V6(address) => {
            let closed = CLOSED_V6
                .iter()
                .any(|(base, length)| is_within_v6(address, *base, *length));
            !closed && carried(address).into_iter().all(is_global_v4)
        }
    }
}

/// Whether the address, or one that it may carry, is a cloud's metadata service.
#[must_use]
pub fn is_metadata(address: IpAddr) -> bool {
    forms(address).iter().any(|form| METADATA.contains(form))
}

/// The address, and every IPv4 address that it may carry: what never may be reached is looked for in all of them.
#[must_use]
pub fn forms(address: IpAddr) -> Vec<IpAddr> {
    let mut forms = vec![address];
    if let IpAddr::V6(address) = address {
        forms.extend(carried(address).into_iter().map(IpAddr::V4));
    }
    forms
}

fn is_global_v4(address: Ipv4Addr) -> bool {
    !CLOSED_V4.iter().any(|(base, length)| {
        let mask = u32::MAX << (32 - length);
        address.to_bits() & mask == base.to_bits()
    })
}

fn is_within_v6(address: Ipv6Addr, base: Ipv6Addr, length: u32) -> bool {
    let mask = u128::MAX << (128 - length);
    address.to_bits() & mask == base.to_bits()
}

/// The IPv4 addresses that an IPv6 address may stand for. Where its network does not tell how it carries one, all ways
/// count: for the local networks of NAT64 (RFC 8215) those of RFC 6052, which leaves hardly one of them public. Who
/// translates there grants the network.
fn carried(address: Ipv6Addr) -> Vec<Ipv4Addr> {
    let bits = address.to_bits();
    let v4 = |bits: u128| Ipv4Addr::from_bits((bits & 0xffff_ffff) as u32);
    let within = |base: Ipv6Addr, length: u32| is_within_v6(address, base, length);
    if within(MAPPED, 96) || within(COMPATIBLE, 96) || within(NAT64, 96) {
        return vec![v4(bits)];
    }
    if within(NAT64_LOCAL, 48) {
        return vec![
            // The bits from 64 to 71 are skipped.
            v4((((bits >> 64) & 0xffff) << 16) | ((bits >> 40) & 0xffff)),
            v4((((bits >> 64) & 0xff) << 24) | ((bits >> 32) & 0x00ff_ffff)),
            v4(bits >> 24),
            v4(bits),
        ];
    }
    if within(SIX_TO_FOUR, 16) {
        return vec![v4(bits >> 80)];
    }
    if within(TEREDO, 32) {
        // The server, and the client, which is inverted.
        return vec![v4(bits >> 64), v4(!bits)];
    }
    Vec::new()
}
