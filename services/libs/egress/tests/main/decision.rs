//! The one decision, by tables.

use std::net::{IpAddr, SocketAddr};

use egress::{Outbound, Policy, Refusal, Rules, Target, decide};

fn addresses(list: &[&str]) -> Vec<IpAddr> {
    list.iter()
        .map(|address| address.parse().unwrap())
        .collect()
}

fn rules(allow: &str, never: &str) -> Rules {
    Rules::read(allow, never).unwrap()
}

fn name(port: u16) -> Target<'static> {
    Target {
        scheme: "https",
        host: "shop.example",
        port,
    }
}

fn judge(address: &str, rules: &Rules) -> Result<(), Refusal> {
    decide(
        &name(443),
        &addresses(&[address]),
        &Policy::anywhere(),
        rules,
    )
    .map(|_| ())
}

/// Both ends of every range, and what lies beside them.
const CLOSED: &[&str] = &[
    "0.0.0.0",
    "0.255.255.255",
    "10.0.0.0",
    "10.255.255.255",
    "100.64.0.0",
    "100.127.255.255",
    "127.0.0.0",
    "127.0.0.1",
    "127.255.255.255",
    "169.254.0.0",
    "169.254.255.255",
    "172.16.0.0",
    "172.31.255.255",
    "192.0.0.0",
    "192.0.0.255",
    "192.168.0.0",
    "192.168.255.255",
    "198.18.0.0",
    "198.19.255.255",
    "224.0.0.0",
    "239.255.255.255",
    "240.0.0.0",
    "255.255.255.255",
    "::",
    "::1",
    "fc00::",
    "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
    "fe80::",
    "febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
    "fec0::",
    "feff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
    "ff00::",
    "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
    // Mapped, compatible.
    "::ffff:10.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:169.254.1.1",
    "::10.0.0.1",
    "::127.0.0.1",
    // NAT64.
    "64:ff9b::10.0.0.1",
    "64:ff9b::127.0.0.1",
    // Its local networks: after 96 bits, and after 48, 56 and 64.
    "64:ff9b:1::10.0.0.1",
    "64:ff9b:1:a00:0:100::",
    "64:ff9b:1:808:8:800::",
    "64:ff9b:1:ff0a:0:1::",
    "64:ff9b:1:ffff:a:0:100::",
    // 6to4.
    "2002:a00:1::",
    "2002:7f00:1::1",
    "2002:c0a8:101::",
    // Teredo: the server's address, and the inverted one of the client.
    "2001:0:a00:1::f7f7:f7f7",
    "2001:0:808:808::f5ff:fffe",
];

const PUBLIC: &[&str] = &[
    "1.0.0.0",
    "8.8.8.8",
    "9.255.255.255",
    "11.0.0.0",
    "100.63.255.255",
    "100.128.0.0",
    "126.255.255.255",
    "128.0.0.0",
    "169.253.255.255",
    "169.255.0.0",
    "172.15.255.255",
    "172.32.0.0",
    "191.255.255.255",
    "192.0.1.0",
    "192.167.255.255",
    "192.169.0.0",
    "198.17.255.255",
    "198.20.0.0",
    "223.255.255.255",
    "2606:4700::1111",
    "2001:4860:4860::8888",
    "fbff:ffff::1",
    "::ffff:8.8.8.8",
    "64:ff9b::8.8.8.8",
    "2002:808:808::1",
    "2001:0:808:808::f7f7:f7f7",
];

/// In each of its forms.
const METADATA: &[&str] = &[
    "169.254.169.254",
    "::ffff:169.254.169.254",
    "::169.254.169.254",
    "64:ff9b::169.254.169.254",
    "64:ff9b:1::169.254.169.254",
    "64:ff9b:1:a9fe:a9:fe00::",
    "2002:a9fe:a9fe::",
    "2001:0:808:808::5601:5601",
    "fd00:ec2::254",
    "fd20:ce::254",
    "168.63.129.16",
    "169.254.170.2",
    "100.100.100.200",
];

#[test]
fn every_range_that_is_not_public_is_refused_and_its_neighbours_are_not() {
    let none = Rules::default();
    for address in CLOSED {
        assert_eq!(
            judge(address, &none),
            Err(Refusal::NotPublic("shop.example".into())),
            "{address}"
        );
    }
    for address in PUBLIC {
        assert_eq!(judge(address, &none), Ok(()), "{address}");
    }
}

#[test]
fn metadata_addresses_are_never_reached_whatever_is_granted() {
    let everything = "0.0.0.0/0, ::/0, shop.example:443";
    let granted = rules(everything, "");
    for address in METADATA {
        assert_eq!(
            judge(address, &granted),
            Err(Refusal::Never("shop.example".into())),
            "{address}"
        );
    }
    for address in CLOSED.iter().chain(PUBLIC) {
        assert_eq!(judge(address, &granted), Ok(()), "{address}");
    }
}

#[test]
fn what_is_listed_as_never_is_closed_in_every_form() {
    let rules = rules(
        "10.0.0.0/8, ::/0, 0.0.0.0/0",
        "10.96.0.0/12, fd00:1::/32, 9.9.9.9",
    );
    for address in [
        "10.96.0.1",
        "::ffff:10.100.0.1",
        "64:ff9b::10.96.0.1",
        "2002:a60:1::",
        "fd00:1:2::3",
        "9.9.9.9",
    ] {
        assert_eq!(
            judge(address, &rules),
            Err(Refusal::Never("shop.example".into())),
            "{address}"
        );
    }
    assert_eq!(judge("10.95.255.255", &rules), Ok(()));
}

#[test]
fn one_address_that_is_not_allowed_closes_the_name() {
    let open = ["8.8.8.8", "2606:4700::1111"];
    let decided = decide(
        &name(443),
        &addresses(&open),
        &Policy::anywhere(),
        &Rules::default(),
    );
    let expected: Vec<SocketAddr> = ["8.8.8.8:443", "[2606:4700::1111]:443"]
        .map(|address| address.parse().unwrap())
        .to_vec();
    assert_eq!(decided.unwrap(), expected);
    for bad in ["10.0.0.1", "::1", "169.254.169.254"] {
        let mixed = addresses(&["8.8.8.8", bad, "2606:4700::1111"]);
        assert!(
            decide(&name(443), &mixed, &Policy::anywhere(), &Rules::default()).is_err(),
            "{bad}"
        );
    }
    let nothing = decide(&name(443), &[], &Policy::anywhere(), &Rules::default());
    assert_eq!(nothing, Err(Refusal::NoAddress("shop.example".into())));
}

#[test]
fn a_network_is_granted_for_its_addresses_and_a_place_for_its_name_and_port() {
    let granted = rules("10.20.0.0/16, 127.0.0.1, intranet.example:8443", "");
    assert_eq!(judge("10.20.0.1", &granted), Ok(()));
    assert_eq!(judge("::ffff:10.20.0.1", &granted), Ok(()));
    assert_eq!(judge("127.0.0.1", &granted), Ok(()));
    for address in ["10.21.0.1", "127.0.0.2", "64:ff9b::10.20.0.1"] {
        assert!(judge(address, &granted).is_err(), "{address}");
    }
    // A grant of a network opens no port.
    let at = |host: &'static str, port: u16| {
        let target = Target {
            scheme: "http",
            host,
            port,
        };
        decide(
            &target,
            &addresses(&["10.9.9.9"]),
            &Policy::anywhere(),
            &granted,
        )
        .map(|_| ())
    };
    assert_eq!(at("intranet.example", 8443), Ok(()));
    assert!(matches!(
        at("intranet.example", 443),
        Err(Refusal::NotPublic(_))
    ));
    assert!(matches!(
        at("intranet.example", 8444),
        Err(Refusal::Port { .. })
    ));
    assert!(matches!(
        at("other.example", 8443),
        Err(Refusal::Port { .. })
    ));
}

#[test]
fn only_http_at_ports_that_are_usual_or_named() {
    let ask = |scheme: &'static str, port: u16, policy: &Policy| {
        let target = Target {
            scheme,
            host: "shop.example",
            port,
        };
        decide(&target, &addresses(&["8.8.8.8"]), policy, &Rules::default()).map(|_| ())
    };
    for scheme in ["ftp", "file", "gopher", "ws", "HTTP", ""] {
        assert_eq!(
            ask(scheme, 80, &Policy::anywhere()),
            Err(Refusal::Scheme(scheme.into()))
        );
    }
    for port in [80, 443] {
        assert_eq!(ask("http", port, &Policy::anywhere()), Ok(()));
    }
    for port in [0, 22, 25, 5432, 4222, 8080] {
        assert!(matches!(
            ask("http", port, &Policy::anywhere()),
            Err(Refusal::Port { .. })
        ));
    }
    assert_eq!(
        ask("http", 8080, &Policy::anywhere().with_port(8080)),
        Ok(())
    );
}

#[test]
fn a_list_of_hosts_is_looked_at_first() {
    let hosts = [
        "api.example.org",
        "*.cdn.example",
        "8.8.8.8",
        "db.example:5433",
        "[2606:4700::1]",
    ];
    let hosts: Vec<Outbound> = hosts.iter().map(|host| host.parse().unwrap()).collect();
    let policy = Policy::only(hosts);
    let ask = |host: &'static str, port: u16| {
        let target = Target {
            scheme: "https",
            host,
            port,
        };
        decide(
            &target,
            &addresses(&["8.8.8.8"]),
            &policy,
            &Rules::default(),
        )
        .map(|_| ())
    };
    for (host, port) in [
        ("api.example.org", 443),
        ("a.cdn.example", 80),
        ("a.b.cdn.example", 443),
        ("8.8.8.8", 443),
        ("db.example", 5433),
        ("2606:4700::1", 443),
    ] {
        assert_eq!(ask(host, port), Ok(()), "{host}:{port}");
    }
    for host in [
        "example.org",
        "xapi.example.org",
        "cdn.example",
        "xcdn.example",
        "1.8.8.8",
    ] {
        assert_eq!(ask(host, 443), Err(Refusal::Host(host.into())), "{host}");
    }
    for (host, port) in [("db.example", 443), ("api.example.org", 5433)] {
        assert!(
            matches!(ask(host, port), Err(Refusal::Port { .. })),
            "{host}:{port}"
        );
    }
    // Being on a tenant's list makes nothing public.
    let target = Target {
        scheme: "https",
        host: "api.example.org",
        port: 443,
    };
    let private = decide(
        &target,
        &addresses(&["10.0.0.1"]),
        &policy,
        &Rules::default(),
    );
    assert!(matches!(private, Err(Refusal::NotPublic(_))));
    for bad in [
        "",
        "*",
        "*.",
        "a b",
        "x:",
        "x:0",
        "x:99999",
        "*.8.8.8.8",
        "http://x",
    ] {
        assert!(bad.parse::<Outbound>().is_err(), "{bad}");
    }
}

#[test]
fn the_words_of_a_refusal_name_no_address() {
    for address in ["10.1.2.3", "169.254.169.254"] {
        let refused = judge(address, &Rules::default()).unwrap_err().to_string();
        assert!(
            refused.contains("shop.example") && !refused.contains(address),
            "{refused}"
        );
    }
}
