//! May this request go there? Pure: what a name resolves to is given, nothing is asked.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use crate::rules::Rules;

/// The ports that every request may use.
pub const PORTS: [u16; 2] = [80, 443];
/// How many addresses of a name are tried, in the order of the answer.
pub const ADDRESSES_MAX: usize = 8;

/// Where a request is aimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target<'a> {
    /// `http` or `https`, as the URL says it.
    pub scheme: &'a str,
    /// The name in lower case without a final dot, or the address in its shortest form, without brackets.
    pub host: &'a str,
    /// The port.
    pub port: u16,
}

/// Whom a manifest, a job or a channel means to reach. It narrows; what is not public is the administrator's to grant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Only these; every host when absent.
    hosts: Option<Vec<Outbound>>,
    /// Ports beside 80 and 443, at every host.
    ports: Vec<u16>,
}

impl Policy {
    /// Every host.
    #[must_use]
    pub fn anywhere() -> Self {
        Self::default()
    }

    /// These hosts and no other; none when the list is empty.
    #[must_use]
    pub fn only(hosts: Vec<Outbound>) -> Self {
        Self {
            hosts: Some(hosts),
            ports: Vec::new(),
        }
    }

    /// This port too, which whoever made the job named.
    #[must_use]
    pub fn with_port(mut self, port: u16) -> Self {
        self.ports.push(port);
        self
    }
}

/// A host of a list: `api.example.org`, `*.example.org` for every name below it, each with a port or without.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outbound {
    host: String,
    below: bool,
    port: Option<u16>,
}

impl Outbound {
    fn fits(&self, host: &str) -> bool {
        if self.below {
            return host
                .strip_suffix(&self.host)
                .is_some_and(|before| before.len() > 1 && before.ends_with('.'));
        }
        host == self.host
    }
}

impl FromStr for Outbound {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "`{}` is not a host such as api.example.org, *.example.org or api.example.org:8443",
                text.chars().take(256).collect::<String>()
            )
        };
        let (below, rest) = match text.strip_prefix("*.") {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let bare_v6 = rest.parse::<std::net::Ipv6Addr>().is_ok();
        let (host, port) = match rest.rsplit_once(':') {
            Some((host, port)) if !bare_v6 && !port.ends_with(']') => {
                let port = port.parse::<u16>().ok().filter(|port| *port > 0);
                (host, Some(port.ok_or_else(wrong)?))
            }
            _ => (rest, None),
        };
        let bracketed = if bare_v6 {
            format!("[{host}]")
        } else {
            host.to_owned()
        };
        let host = match url::Host::parse(&bracketed).map_err(|_| wrong())? {
            url::Host::Domain(name) => name.trim_end_matches('.').to_owned(),
            url::Host::Ipv4(address) if !below => address.to_string(),
            url::Host::Ipv6(address) if !below => IpAddr::V6(address).to_canonical().to_string(),
            _ => return Err(wrong()),
        };
        if host.is_empty() || host.contains('*') {
            return Err(wrong());
        }
        Ok(Self { host, below, port })
    }
}

/// Why a request may not go there. The words for an address that is not public and for one that never is are the
/// same, and name no address: a tenant learns nothing of the networks behind us.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Something else than HTTP.
    #[error("`{0}` is neither http nor https")]
    Scheme(String),
    /// Not on the list.
    #[error("`{0}` is not among the hosts that may be reached")]
    Host(String),
    /// A port that nobody named.
    #[error(
        "port {port} of `{host}` may not be reached; ports 80 and 443 may, and those that are named"
    )]
    Port {
        /// The host.
        host: String,
        /// The port.
        port: u16,
    },
    /// The name has no address.
    #[error("`{0}` has no address")]
    NoAddress(String),
    /// At least one of its addresses is neither public nor granted.
    #[error("`{0}` may not be reached: not all of its addresses are public")]
    NotPublic(String),
    /// At least one of its addresses is one that nobody can grant.
    #[error("`{0}` may not be reached: not all of its addresses are public")]
    Never(String),
}

/// What can be said before the name is resolved: the scheme, the list, the port.
///
/// # Errors
/// [`Refusal`]
pub fn admit(target: &Target<'_>, policy: &Policy, rules: &Rules) -> Result<(), Refusal> {
    if !matches!(target.scheme, "http" | "https") {
        return Err(Refusal::Scheme(target.scheme.chars().take(64).collect()));
    }
    let wrong_port = || Refusal::Port {
        host: target.host.to_owned(),
        port: target.port,
    };
    let usual = PORTS.contains(&target.port)
        || policy.ports.contains(&target.port)
        || rules.grants_place(target.host, target.port);
    let Some(hosts) = &policy.hosts else {
        return if usual { Ok(()) } else { Err(wrong_port()) };
    };
    let mut fitting = hosts
        .iter()
        .filter(|host| host.fits(target.host))
        .peekable();
    if fitting.peek().is_none() {
        return Err(Refusal::Host(target.host.to_owned()));
    }
    if fitting.any(|host| host.port.map_or(usual, |port| port == target.port)) {
        Ok(())
    } else {
        Err(wrong_port())
    }
}

/// Whether a request may go there, and to which addresses then, of those that the name resolved to.
///
/// # Errors
/// [`Refusal`]: also when a single one of the addresses is not allowed, since the next connection might choose that one.
pub fn decide(
    target: &Target<'_>,
    addresses: &[IpAddr],
    policy: &Policy,
    rules: &Rules,
) -> Result<Vec<SocketAddr>, Refusal> {
    admit(target, policy, rules)?;
    if addresses.is_empty() {
        return Err(Refusal::NoAddress(target.host.to_owned()));
    }
    let granted = rules.grants_place(target.host, target.port);
    for address in addresses {
        if rules.forbids(*address) {
            return Err(Refusal::Never(target.host.to_owned()));
        }
        let open = granted || rules.grants_address(*address) || crate::address::is_global(*address);
        if !open {
            return Err(Refusal::NotPublic(target.host.to_owned()));
        }
    }
    Ok(addresses
        .iter()
        .take(ADDRESSES_MAX)
        .map(|address| SocketAddr::new(*address, target.port))
        .collect())
}
