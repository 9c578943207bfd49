//! What an administrator may write.

use egress::Rules;

#[test]
fn grants_are_read_strictly() {
    for good in [
        "",
        " , ",
        "10.0.0.0/8",
        "127.0.0.1, ::1, 10.0.0.7:8080, [::1]:8080, intranet.example:8443, Intranet.Example.:1",
    ] {
        assert!(Rules::read(good, "").is_ok(), "{good}");
    }
    for bad in [
        "10.0.0.0/33",
        "intranet.example",
        "intranet.example:",
        "intranet.example:0",
        "intranet.example:70000",
        "http://intranet.example:80",
        "10.0.0.1:0",
        ":80",
        "*.example:80",
        "169.254.169.254",
        "169.254.169.254:80",
        "[fd00:ec2::254]:80",
        "[::ffff:169.254.169.254]:80",
    ] {
        let (about_never, reason) = Rules::read(bad, "").unwrap_err();
        assert!(!about_never && reason.contains(bad), "{bad}: {reason}");
    }
}

#[test]
fn what_is_never_reached_is_networks_alone() {
    assert!(Rules::read("", "10.96.0.0/12, fd00::/8, 192.0.2.1").is_ok());
    for bad in ["cluster.local", "10.96.0.0/40", "10.0.0.1:80"] {
        let (about_never, reason) = Rules::read("", bad).unwrap_err();
        assert!(about_never && reason.contains(bad), "{bad}: {reason}");
    }
}

#[test]
fn lists_are_bounded() {
    let long = vec!["10.0.0.1"; 300].join(",");
    assert!(Rules::read(&long, "").is_err() && Rules::read("", &long).is_err());
}
