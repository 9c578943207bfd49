//! What the platform's administrator grants and forbids: `DASHFLEET_EGRESS_ALLOW` and `DASHFLEET_EGRESS_NEVER`. No tenant has
//! a say in it.

use std::net::{IpAddr, SocketAddr};

use domain::network::Network;

use crate::address::{forms, is_metadata};

/// The most entries of each list.
const ENTRIES_MAX: usize = 256;

/// What was granted and forbidden; by default nothing but what holds anyway.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    networks: Vec<Network>,
    places: Vec<Place>,
    never: Vec<Network>,
}

/// A host and a port that may be reached, wherever it is.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    /// In lower case; an address in its shortest form.
    host: String,
    port: u16,
}

impl Rules {
    /// Reads both lists, each of entries separated by commas. `allow` has networks (`10.20.0.0/16`, `127.0.0.1`) and places
    /// (`intranet.example:8080`, `10.0.0.7:443`, `[::1]:8080`): a network may be reached at the ports that any request may use, a
    /// place at its port, wherever its name leads. `never` has networks, which no grant opens.
    ///
    /// # Errors
    /// Whether it is about `never` (else about `allow`), and which entry is wrong and why.
    pub fn read(allow: &str, never: &str) -> Result<Self, (bool, String)> {
        let mut rules = Self::default();
        for entry in entries(allow).map_err(|reason| (false, reason))? {
            rules.grant(entry).map_err(|reason| (false, reason))?;
        }
        for entry in entries(never).map_err(|reason| (true, reason))? {
            let network = entry.parse::<Network>().map_err(|reason| (true, reason))?;
            rules.never.push(network);
        }
        Ok(rules)
    }

    fn grant(&mut self, entry: &str) -> Result<(), String> {
        let refused = |address: IpAddr| {
            is_metadata(address).then(|| {
                format!("`{entry}` is a metadata service of a cloud, which is never reached")
            })
        };
        if let Ok(network) = entry.parse::<Network>() {
            if let Some(reason) = entry.parse::<IpAddr>().ok().and_then(refused) {
                return Err(reason);
            }
            self.networks.push(network);
            return Ok(());
        }
        let wrong = || {
            format!(
                "`{entry}` is neither a network such as 10.20.0.0/16 nor a place such as intranet.example:8080"
            )
        };
        if let Some(place) = entry
            .parse::<SocketAddr>()
            .ok()
            .filter(|place| place.port() > 0)
        {
            if let Some(reason) = refused(place.ip()) {
                return Err(reason);
            }
            self.places.push(Place {
                host: place.ip().to_canonical().to_string(),
                port: place.port(),
            });
            return Ok(());
        }
        let (host, port) = entry.rsplit_once(':').ok_or_else(wrong)?;
        let port = port.parse::<u16>().ok().filter(|port| *port > 0);
        let port = port.ok_or_else(wrong)?;
        match url::Host::parse(host) {
            Ok(url::Host::Domain(host)) => {
                let host = host.trim_end_matches('.').to_owned();
                if host.is_empty() || host.contains('*') {
                    return Err(wrong());
                }
                self.places.push(Place { host, port });
                Ok(())
            }
            _ => Err(wrong()),
        }
    }

    /// Whether this place is granted by name; `host` in lower case, an address in its shortest form.
    #[must_use]
    pub fn grants_place(&self, host: &str, port: u16) -> bool {
        self.places
            .iter()
            .any(|place| place.port == port && place.host == host)
    }

    /// Whether this address is in a granted network. What it carries does not count: whoever means a translated address
    /// grants that.
    #[must_use]
    pub fn grants_address(&self, address: IpAddr) -> bool {
        self.networks
            .iter()
            .any(|network| network.contains(address))
    }

    /// Whether nothing opens this address.
    #[must_use]
    pub fn forbids(&self, address: IpAddr) -> bool {
        is_metadata(address)
            || forms(address)
                .into_iter()
                .any(|form| self.never.iter().any(|network| network.contains(form)))
    }
}

fn entries(list: &str) -> Result<Vec<&str>, String> {
    let entries: Vec<&str> = list
        .split(',')
        .map(str::trim)
        .filter(|entry| !entry.is_empty())
        .collect();
    if entries.len() > ENTRIES_MAX {
        return Err(format!(
            "has {} entries; at most {ENTRIES_MAX}",
            entries.len()
        ));
    }
    Ok(entries)
}
