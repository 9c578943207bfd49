//! What the gateway reads from its environment, with the defaults.

use std::str::FromStr;
use std::time::Duration;

use runtime::config::ServiceConfig;
use runtime::{ConfigError, Reader};

use crate::address::Network;
use crate::browser::{Browsers, origin::Origin};
use crate::inbound::install::{Binaries, Install};
use crate::limits::Amounts;
use crate::tunnel::{TunnelConfig, Upstream};

/// Admin port of the gateway.
const ADMIN_PORT: u16 = 9100;
/// Where people and programs reach the API.
const HTTP_ADDR: &str = "0.0.0.0:8080";
/// What the process gets beyond the time that requests have to end.
const SHUTDOWN_MARGIN: Duration = Duration::from_secs(1);
/// Requests that one address may make in a second, before anybody looks at what they present: ten busy credentials.
const ADDRESS_REQUESTS_PER_SECOND: u32 = 10_000;
/// Requests without a credential that one address may make in a second: a rack may enrol at once.
const OPEN_REQUESTS_PER_SECOND: u32 = 200;
/// Failed authentications that one address may make in a minute.
const FAILED_AUTHENTICATIONS_PER_MINUTE: u32 = 2_000;
/// Logins, refreshes and what is like them that one address may ask for in a minute. (Wrong passwords are counted by
/// identity, for each account and address.)
const LOGINS_PER_MINUTE: u32 = 600;
/// Requests that one credential may make in a second.
const REQUESTS_PER_SECOND: u32 = 1_000;
/// Heavy requests that one credential may make in a second.
const HEAVY_REQUESTS_PER_SECOND: u32 = 20;
/// Tunnels of agents to the bus, at each replica.
const TUNNELS: usize = 10_240;
/// Which part of them one address may hold, when nothing else is said: nobody has shown who they are when they open one,
/// and a site behind one address is a part of the fleet.
const TUNNELS_PER_ADDRESS_PART: usize = 4;
/// Tunnels that one address may open in a second: a site behind one address comes back whole after an outage.
const TUNNELS_PER_SECOND: u32 = 500;

/// The gateway's configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// Bus, keys, admin endpoint, logs.
    pub service: ServiceConfig,
    /// `DASHFLEET_HTTP_ADDR`
    pub http_addr: String,
    /// `DASHFLEET_TRUSTED_PROXIES`: networks whose `X-Forwarded-For` is believed; none by default.
    pub trusted_proxies: Vec<Network>,
    /// How much of what, over all replicas.
    pub amounts: Amounts,
    /// `DASHFLEET_PUBLIC_URL` and `DASHFLEET_CORS_ORIGINS`: what browsers may do.
    pub browsers: Browsers,
    /// `DASHFLEET_PUBLIC_URL` and `DASHFLEET_AGENT_BINARIES`: what the install scripts say.
    pub install: Install,
    /// `DASHFLEET_NATS_WEBSOCKET_URLS`, `DASHFLEET_NATS_TUNNELS` and `DASHFLEET_NATS_TUNNELS_PER_ADDRESS`: the agents' way to
    /// the bus through this port.
    pub tunnels: TunnelConfig,
    /// How long it waits for what. Not from the environment: tests hold shorter ones.
    pub patience: Patience,
}

/// How long the gateway waits for what.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// For an owner's answer to a question.
    pub read: Duration,
    /// For an owner's answer to a change.
    pub write: Duration,
    /// For an owner's answer to a change of very many things at once.
    pub write_many: Duration,
    /// For each part's answer to `/api/status`.
    pub status: Duration,
    /// For the first request of a new connection.
    pub first_request: Duration,
    /// For the next request of a connection, all of its head. Longer than a proxy in front keeps idle connections, so
    /// that it is the proxy that lets go.
    pub next_request: Duration,
    /// For the whole body of a request.
    pub body: Duration,
    /// For a client to take any byte of a response.
    pub stalled_write: Duration,
    /// For a server of the bus to take a tunnel, and for the client to take the answer.
    pub tunnel_handshake: Duration,
    /// For anything to move in a tunnel; both ends of the bus ask each other every six seconds whether they live.
    pub tunnel_idle: Duration,
    /// Between "not ready" and the end of accepting, so that those who look at readiness can turn away.
    pub linger: Duration,
    /// How long identity's word about a credential is used.
    pub grant_fresh: Duration,
    /// When it is asked for again in the background, so that nobody has to wait for it.
    pub grant_renew: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            read: Duration::from_secs(3),
            write: Duration::from_secs(5),
            write_many: Duration::from_secs(20),
            status: Duration::from_millis(500),
            first_request: Duration::from_secs(10),
            next_request: Duration::from_secs(75),
            body: Duration::from_secs(30),
            stalled_write: Duration::from_secs(30),
            tunnel_handshake: Duration::from_secs(5),
            tunnel_idle: Duration::from_secs(60),
            linger: Duration::from_millis(250),
            grant_fresh: Duration::from_secs(60),
            grant_renew: Duration::from_secs(45),
        }
    }
}

impl Config {
    /// Reads it.
    ///
    /// # Errors
    /// [`ConfigError`] naming the variable.
    pub fn read(reader: &mut Reader) -> Result<Self, ConfigError> {
        let service = ServiceConfig::read(reader, ADMIN_PORT)?;
        let http_addr = reader.or("DASHFLEET_HTTP_ADDR", HTTP_ADDR.to_owned())?;
        let trusted_proxies = parsed(reader, "DASHFLEET_TRUSTED_PROXIES")?;
        let install = install(reader)?;
        let browsers = browsers(reader, install.public_url.as_deref())?;
        let tunnels = tunnels(reader)?;
        Ok(Self {
            service,
            http_addr,
            trusted_proxies,
            amounts: amounts(reader)?,
            browsers,
            install,
            tunnels,
            patience: Patience::default(),
        })
    }

    /// How long the end may take before the connection to the bus is closed: requests have `DASHFLEET_SHUTDOWN_MS` from the
    /// end of accepting on.
    #[must_use]
    pub fn end_max(&self) -> Duration {
        self.service.shutdown + self.patience.linger + SHUTDOWN_MARGIN
    }
}

impl Default for Amounts {
    fn default() -> Self {
        Self {
            address: ADDRESS_REQUESTS_PER_SECOND,
            open: OPEN_REQUESTS_PER_SECOND,
            tunnels: TUNNELS_PER_SECOND,
            failures: FAILED_AUTHENTICATIONS_PER_MINUTE,
            logins: LOGINS_PER_MINUTE,
            requests: REQUESTS_PER_SECOND,
            writes: REQUESTS_PER_SECOND,
            heavy: HEAVY_REQUESTS_PER_SECOND,
            user_requests: REQUESTS_PER_SECOND,
        }
    }
}

fn amounts(reader: &mut Reader) -> Result<Amounts, ConfigError> {
    let usual = Amounts::default();
    let requests = reader.or("DASHFLEET_REQUESTS_PER_SECOND", usual.requests)?;
    Ok(Amounts {
        address: reader.or("DASHFLEET_ADDRESS_REQUESTS_PER_SECOND", usual.address)?,
        open: reader.or("DASHFLEET_OPEN_REQUESTS_PER_SECOND", usual.open)?,
        tunnels: reader.or("DASHFLEET_NATS_TUNNELS_PER_SECOND", usual.tunnels)?,
        failures: reader.or(
            "DASHFLEET_FAILED_AUTHENTICATIONS_PER_MINUTE",
            usual.failures,
        )?,
        logins: reader.or("DASHFLEET_LOGINS_PER_MINUTE", usual.logins)?,
        requests,
        // Whoever raises the one means the others too, unless they are named.
        writes: reader.or("DASHFLEET_WRITES_PER_SECOND", requests)?,
        heavy: reader.or("DASHFLEET_HEAVY_REQUESTS_PER_SECOND", usual.heavy)?,
        user_requests: reader.or("DASHFLEET_USER_REQUESTS_PER_SECOND", requests)?,
    })
}

fn browsers(reader: &mut Reader, public_url: Option<&str>) -> Result<Browsers, ConfigError> {
    let origins: Vec<Origin> = parsed(reader, "DASHFLEET_CORS_ORIGINS")?;
    let own = public_url.map(Origin::of_url).transpose();
    let own = own.map_err(|reason| ConfigError {
        variable: "DASHFLEET_PUBLIC_URL".into(),
        reason,
    })?;
    Ok(Browsers::new(own, origins))
}

fn tunnels(reader: &mut Reader) -> Result<TunnelConfig, ConfigError> {
    const AT_ONCE: &str = "DASHFLEET_NATS_TUNNELS";
    let at_once: usize = reader.or(AT_ONCE, TUNNELS)?;
    let part = at_once.div_ceil(TUNNELS_PER_ADDRESS_PART);
    let config = TunnelConfig {
        upstreams: parsed::<Upstream>(reader, "DASHFLEET_NATS_WEBSOCKET_URLS")?,
        at_once,
        per_address: reader.or("DASHFLEET_NATS_TUNNELS_PER_ADDRESS", part)?,
    };
    if config.at_once > tokio::sync::Semaphore::MAX_PERMITS {
        return Err(ConfigError {
            variable: AT_ONCE.into(),
            reason: format!("`{}` is too many", config.at_once),
        });
    }
    Ok(config)
}

/// What the install scripts say. An address becomes part of a script: it has nothing in it that means something to a shell.
fn install(reader: &mut Reader) -> Result<Install, ConfigError> {
    let url = |variable: &str, url: String| {
        let plain = |c: char| c.is_ascii_alphanumeric() || "./:-_~[]%".contains(c);
        let rest = url
            .strip_prefix("http://")
            .or_else(|| url.strip_prefix("https://"));
        if rest.is_none_or(|rest| rest.is_empty() || !rest.chars().all(plain)) {
            return Err(ConfigError {
                variable: variable.into(),
                reason: format!("`{url}` is no plain http:// or https:// address"),
            });
        }
        Ok(url.trim_end_matches('/').to_owned())
    };
    let public_url = reader
        .optional("DASHFLEET_PUBLIC_URL")
        .map(|text| url("DASHFLEET_PUBLIC_URL", text))
        .transpose()?;
    let binaries = match reader.optional("DASHFLEET_AGENT_BINARIES") {
        None => None,
        Some(text) if text.contains("://") => {
            Some(Binaries::Url(url("DASHFLEET_AGENT_BINARIES", text)?))
        }
        Some(text) => Some(Binaries::Folder(text.into())),
    };
    Ok(Install {
        public_url,
        binaries,
        patience: Patience::default().read,
    })
}

/// A list separated by commas that may be empty.
fn parsed<T: FromStr<Err = String>>(
    reader: &mut Reader,
    name: &str,
) -> Result<Vec<T>, ConfigError> {
    let text = reader.optional(name).unwrap_or_default();
    text.split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
        .map(|part| {
            part.parse().map_err(|reason| ConfigError {
                variable: name.into(),
                reason,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&'static str, &str)]) -> Result<Config, ConfigError> {
        let base = [
            ("DASHFLEET_NATS_URLS", "nats://127.0.0.1:4222"),
            ("DASHFLEET_KEYS", "/keys"),
        ];
        let pairs = base
            .iter()
            .chain(pairs)
            .map(|(name, value)| (*name, (*value).to_owned()));
        Config::read(&mut Reader::from_pairs(pairs))
    }

    #[test]
    fn defaults_are_the_contracts() {
        let config = read(&[]).expect("a configuration");
        assert_eq!(config.http_addr, "0.0.0.0:8080");
        assert_eq!(config.service.admin_addr, "0.0.0.0:9100");
        let amounts = config.amounts;
        assert_eq!((amounts.failures, amounts.requests), (2_000, 1_000));
        assert_eq!((amounts.writes, amounts.user_requests), (1_000, 1_000));
        assert_eq!(
            (amounts.address, amounts.open, amounts.logins, amounts.heavy),
            (10_000, 200, 600, 20)
        );
        assert!(config.trusted_proxies.is_empty() && config.tunnels.upstreams.is_empty());
        let tunnels = (config.tunnels.at_once, config.tunnels.per_address);
        assert_eq!(tunnels, (10_240, 2_560));
    }

    #[test]
    fn a_wrong_way_to_the_bus_names_its_variable() {
        for (name, value) in [
            (
                "DASHFLEET_NATS_WEBSOCKET_URLS",
                "ws://nats:4280,nats://nats:4222",
            ),
            ("DASHFLEET_NATS_TUNNELS", "-1"),
            ("DASHFLEET_NATS_TUNNELS", "18446744073709551615"),
            ("DASHFLEET_NATS_TUNNELS_PER_SECOND", "many"),
            ("DASHFLEET_NATS_TUNNELS_PER_ADDRESS", "-1"),
        ] {
            assert_eq!(read(&[(name, value)]).expect_err("refused").variable, name);
        }
        let config = read(&[("DASHFLEET_NATS_WEBSOCKET_URLS", "ws://a:1, ws://b:2")]);
        assert_eq!(config.expect("a configuration").tunnels.upstreams.len(), 2);
    }

    #[test]
    fn whoever_raises_the_requests_of_a_credential_raises_its_changes_too() {
        let raised = ("DASHFLEET_REQUESTS_PER_SECOND", "5000");
        let amounts = read(&[raised]).expect("a configuration").amounts;
        assert_eq!((amounts.writes, amounts.user_requests), (5_000, 5_000));
        let named = ("DASHFLEET_WRITES_PER_SECOND", "100");
        let amounts = read(&[raised, named]).expect("a configuration").amounts;
        assert_eq!((amounts.writes, amounts.user_requests), (100, 5_000));
    }

    #[test]
    fn origins_are_exact_or_refused() {
        const NAME: &str = "DASHFLEET_CORS_ORIGINS";
        for wrong in [
            "*",
            "null",
            "dash.example.org",
            "https://dash.example.org/",
            "https://*.example.org",
            "https://a.example.org, *",
            "ftp://a.example.org",
            "https://user@a.example.org",
        ] {
            let error = read(&[(NAME, wrong)]).expect_err(wrong);
            assert_eq!(error.variable, NAME, "{wrong}");
        }
        let good = "https://dash.example.org, http://localhost:5173";
        assert!(read(&[(NAME, good)]).is_ok());
    }

    #[test]
    fn a_wrong_network_names_its_variable() {
        let error = read(&[("DASHFLEET_TRUSTED_PROXIES", "10.0.0.0/8, ten")]).expect_err("refused");
        assert_eq!(error.variable, "DASHFLEET_TRUSTED_PROXIES");
        assert!(read(&[("DASHFLEET_TRUSTED_PROXIES", "10.0.0.0/8,::1")]).is_ok());
    }
}
