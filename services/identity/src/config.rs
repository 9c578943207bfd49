//! What identity reads from its environment, and its seeds.

use std::fmt;

use contract::audit::{RETENTION_DAYS, RETENTION_DAYS_RANGE};
use domain::network::Network;
use lettre::message::Mailbox;
use lettre::{AsyncSmtpTransport, Tokio1Executor};
use nkeys::{KeyPair, XKey};
use runtime::config::{ConfigError, DatabaseConfig, Reader, ServiceConfig};
use runtime::keys::read_seed;

use crate::app::password::rules;
use crate::app::secret::{self, SecretKind};

/// Port of the admin endpoint.
const ADMIN_PORT: u16 = 9101;
/// The variable of the keys folder, for errors about what lies in it.
const KEYS: &str = "DASHFLEET_KEYS";

/// The configuration of the service.
#[derive(Debug)]
pub struct Config {
    /// Bus, admin endpoint, logs.
    pub service: ServiceConfig,
    /// PostgreSQL.
    pub database: DatabaseConfig,
    /// Seeds, from the keys folder.
    pub keys: Keys,
    /// `DASHFLEET_AGENT_NATS_URLS`: where enrolment tells agents to connect, in the order to try.
    pub agent_nats_urls: Vec<String>,
    /// The text of the PEM file `DASHFLEET_AGENT_NATS_CA`, which enrolment gives to agents.
    pub agent_nats_ca: Option<String>,
    /// `DASHFLEET_PUBLIC_URL`: where people reach the installation, without a slash at its end. Without it links are
    /// paths.
    pub public_url: Option<String>,
    /// `DASHFLEET_SMTP_URL` and `DASHFLEET_SMTP_FROM`: how mails leave. Without them links are shown to whoever made them.
    pub mail: Option<MailConfig>,
    /// `DASHFLEET_AUDIT_RETENTION_DAYS`: for how long audit entries are kept.
    pub audit_retention_days: i32,
}

/// How mails leave.
#[derive(Clone)]
pub struct MailConfig {
    /// `smtps://user:password@host`, or `smtp://host:587?tls=required`.
    pub url: String,
    /// From whom.
    pub from: Mailbox,
}

impl fmt::Debug for MailConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MailConfig")
            .field("from", &self.from)
            .finish_non_exhaustive()
    }
}

impl MailConfig {
    fn read(reader: &mut Reader) -> Result<Option<Self>, ConfigError> {
        let (name, from_name) = ("DASHFLEET_SMTP_URL", "DASHFLEET_SMTP_FROM");
        let (url, from) = (reader.secret_optional(name), reader.optional(from_name));
        let (url, from) = match (url, from) {
            (None, None) => return Ok(None),
            (Some(url), Some(from)) => (url, from),
            (Some(_), None) => {
                return Err(wrong(from_name, format!("is required beside {name}")));
            }
            (None, Some(_)) => return Err(wrong(name, format!("is required beside {from_name}"))),
        };
        AsyncSmtpTransport::<Tokio1Executor>::from_url(&url).map_err(|_| {
            let reason =
                "is no URL such as smtps://user:password@host or smtp://host:587?tls=required";
            wrong(name, reason.to_owned())
        })?;
        let from = from
            .parse::<Mailbox>()
            .map_err(|error| wrong(from_name, format!("`{from}`: {error}")))?;
        Ok(Some(Self { url, from }))
    }
}

/// What is behind a link to the installation: http or https, without a slash at its end.
fn public_url(reader: &mut Reader) -> Result<Option<String>, ConfigError> {
    let name = "DASHFLEET_PUBLIC_URL";
    let Some(url) = reader.optional(name) else {
        return Ok(None);
    };
    let host = url
        .strip_prefix("https://")
        .or_else(|| url.strip_prefix("http://"));
    let plain = |c: char| c.is_ascii_graphic() && !matches!(c, '#' | '?' | '@');
    if host.is_none_or(|host| host.is_empty() || !host.chars().all(plain)) {
        let reason = format!("`{url}` is no URL such as https://fleet.example.org");
        return Err(wrong(name, reason));
    }
    Ok(Some(url.trim_end_matches('/').to_owned()))
}

impl Config {
    /// Reads it.
    ///
    /// # Errors
    /// [`ConfigError`] naming the variable.
    pub fn read(reader: &mut Reader) -> Result<Self, ConfigError> {
        let service = ServiceConfig::read(reader, ADMIN_PORT)?;
        let database = DatabaseConfig::read(reader)?;
        let agent_nats_urls = reader.list("DASHFLEET_AGENT_NATS_URLS")?;
        for url in &agent_nats_urls {
            bus::check_agent_url(url)
                .map_err(|error| wrong("DASHFLEET_AGENT_NATS_URLS", error.to_string()))?;
        }
        let agent_nats_ca = match reader.path_optional("DASHFLEET_AGENT_NATS_CA") {
            None => None,
            Some(path) => Some(std::fs::read_to_string(&path).map_err(|error| {
                wrong(
                    "DASHFLEET_AGENT_NATS_CA",
                    format!("{}: {error}", path.display()),
                )
            })?),
        };
        let public_url = public_url(reader)?;
        let mail = MailConfig::read(reader)?;
        if mail.is_some() && public_url.is_none() {
            let reason =
                "is required where mails are sent: what stands in them must be a whole link";
            return Err(wrong("DASHFLEET_PUBLIC_URL", reason.to_owned()));
        }
        let audit_retention_days = reader.within(
            "DASHFLEET_AUDIT_RETENTION_DAYS",
            RETENTION_DAYS,
            &RETENTION_DAYS_RANGE,
        )?;
        let keys = Keys::read(&service)?;
        Ok(Self {
            service,
            database,
            keys,
            agent_nats_urls,
            agent_nats_ca,
            public_url,
            mail,
            audit_retention_days,
        })
    }
}

/// Seeds in nkeys' text format. They are never shown.
pub struct Keys {
    /// `nats.nk`: the user in the account APP.
    pub nats: String,
    /// `nats-auth.nk`: the user in the account AUTH, which hears callouts.
    pub nats_auth: String,
    /// `nats-sys.nk`: the user in the account SYS, which kicks.
    pub nats_sys: String,
    /// `jwt.nk`: the first signs grants, and all are published.
    pub jwt: Vec<String>,
    callout_issuer: String,
    callout_xkey: String,
}

impl Keys {
    fn read(service: &ServiceConfig) -> Result<Self, ConfigError> {
        let seed = |name: &str| read_seed(&service.keys, name);
        let keys = Self {
            nats: seed("nats.nk")?,
            nats_auth: seed("nats-auth.nk")?,
            nats_sys: seed("nats-sys.nk")?,
            jwt: seed("jwt.nk")?.lines().map(ToOwned::to_owned).collect(),
            callout_issuer: seed("callout-issuer.nk")?,
            callout_xkey: seed("callout-xkey.nk")?,
        };
        for (name, seed) in [
            ("nats.nk", &keys.nats),
            ("nats-auth.nk", &keys.nats_auth),
            ("nats-sys.nk", &keys.nats_sys),
        ]
        .into_iter()
        .chain(keys.jwt.iter().map(|seed| ("jwt.nk", seed)))
        {
            KeyPair::from_seed(seed).map_err(|error| wrong(KEYS, format!("{name}: {error}")))?;
        }
        keys.callout_issuer()?;
        keys.callout_xkey()?;
        Ok(keys)
    }

    /// `callout-issuer.nk`: the account key that signs answers to callouts.
    ///
    /// # Errors
    /// [`ConfigError`] naming the file.
    pub fn callout_issuer(&self) -> Result<KeyPair, ConfigError> {
        KeyPair::from_seed(&self.callout_issuer)
            .map_err(|error| wrong(KEYS, format!("callout-issuer.nk: {error}")))
    }

    /// `callout-xkey.nk`: the x25519 key that opens callouts.
    ///
    /// # Errors
    /// [`ConfigError`] naming the file.
    pub fn callout_xkey(&self) -> Result<XKey, ConfigError> {
        XKey::from_seed(&self.callout_xkey)
            .map_err(|error| wrong(KEYS, format!("callout-xkey.nk: {error}")))
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keys(secret)")
    }
}

/// The configuration of the command `bootstrap`. Whoever runs it made the secrets first and keeps them, so that a
/// crash in between loses nothing.
pub struct BootstrapConfig {
    /// PostgreSQL.
    pub database: DatabaseConfig,
    /// `DASHFLEET_BOOTSTRAP_ORGANIZATION`: its name.
    pub organization: String,
    /// `DASHFLEET_BOOTSTRAP_ADMIN_EMAIL`, in lower case.
    pub admin_email: String,
    /// `DASHFLEET_BOOTSTRAP_ADMIN_PASSWORD`: set when the user is made, and never changed here.
    pub admin_password: String,
    /// `DASHFLEET_BOOTSTRAP_API_KEY`
    pub api_key: Option<String>,
    /// `DASHFLEET_BOOTSTRAP_LEGACY_API_KEY`: a key for agents and scripts of Dash-Fleet, which it enables in the
    /// organisation; without it they are left as they are (off, in a new one).
    pub legacy_api_key: Option<String>,
    /// `DASHFLEET_BOOTSTRAP_LEGACY_NETWORKS`: where that key is taken from; from everywhere when absent.
    pub legacy_networks: Option<Vec<String>>,
    /// `DASHFLEET_BOOTSTRAP_ENROLLMENT_TOKEN`
    pub enrollment_token: Option<String>,
}

impl BootstrapConfig {
    /// Reads it.
    ///
    /// # Errors
    /// [`ConfigError`] naming the variable.
    pub fn read(reader: &mut Reader) -> Result<Self, ConfigError> {
        let database = DatabaseConfig::read(reader)?;
        let organization: String =
            reader.or("DASHFLEET_BOOTSTRAP_ORGANIZATION", "default".to_owned())?;
        if organization.chars().count() > 200 {
            let reason = "has more than 200 characters".to_owned();
            return Err(wrong("DASHFLEET_BOOTSTRAP_ORGANIZATION", reason));
        }
        let email = "DASHFLEET_BOOTSTRAP_ADMIN_EMAIL";
        let admin_email = reader.required(email)?.to_lowercase();
        let parts = admin_email.split_once('@');
        if !parts.is_some_and(|(name, host)| !name.is_empty() && !host.is_empty())
            || admin_email.chars().count() > 254
        {
            return Err(wrong(
                email,
                format!("`{admin_email}` is not an e-mail address"),
            ));
        }
        let password = "DASHFLEET_BOOTSTRAP_ADMIN_PASSWORD";
        let admin_password = reader.secret(password)?;
        rules::check(password, &admin_password, &admin_email, "").map_err(|problem| {
            let reason = problem.errors.into_iter().map(|error| error.message);
            wrong(password, reason.collect())
        })?;
        let mut secret = |name: &str, kind: SecretKind| {
            let value = reader.secret_optional(name);
            match value.as_deref().map(|value| secret::check(kind, value)) {
                Some(Err(reason)) => Err(wrong(name, reason)),
                _ => Ok(value),
            }
        };
        let api_key = secret("DASHFLEET_BOOTSTRAP_API_KEY", SecretKind::ApiKey)?;
        let legacy = "DASHFLEET_BOOTSTRAP_LEGACY_API_KEY";
        let legacy_api_key = secret(legacy, SecretKind::LegacyKey)?;
        let token = "DASHFLEET_BOOTSTRAP_ENROLLMENT_TOKEN";
        let enrollment_token = secret(token, SecretKind::EnrollmentToken)?;
        Ok(Self {
            database,
            organization,
            admin_email,
            admin_password,
            api_key,
            legacy_api_key,
            legacy_networks: networks(reader, "DASHFLEET_BOOTSTRAP_LEGACY_NETWORKS")?,
            enrollment_token,
        })
    }
}

/// The configuration of the commands for one account: the address is the command line's.
pub struct AccountConfig {
    /// PostgreSQL.
    pub database: DatabaseConfig,
    /// `DASHFLEET_PUBLIC_URL`
    pub public_url: Option<String>,
    /// The address, in lower case.
    pub email: String,
}

impl AccountConfig {
    /// Reads it.
    ///
    /// # Errors
    /// [`ConfigError`] naming the variable, or the argument.
    pub fn read(reader: &mut Reader) -> Result<Self, ConfigError> {
        Self::of(reader, std::env::args().nth(2))
    }

    /// Reads it for this address.
    ///
    /// # Errors
    /// [`ConfigError`] naming the variable, or the argument.
    pub fn of(reader: &mut Reader, email: Option<String>) -> Result<Self, ConfigError> {
        let missing = || {
            wrong(
                "ADDRESS",
                "is required: the account's e-mail address".to_owned(),
            )
        };
        Ok(Self {
            database: DatabaseConfig::read(reader)?,
            public_url: public_url(reader)?,
            email: email.ok_or_else(missing)?.trim().to_lowercase(),
        })
    }
}

fn networks(reader: &mut Reader, variable: &str) -> Result<Option<Vec<String>>, ConfigError> {
    let Some(text) = reader.optional(variable) else {
        return Ok(None);
    };
    let parts = text
        .split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty());
    let networks = parts.map(|part| match part.parse::<Network>() {
        Ok(_) => Ok(part.to_owned()),
        Err(reason) => Err(wrong(variable, reason)),
    });
    let networks: Vec<String> = networks.collect::<Result<_, _>>()?;
    Ok((!networks.is_empty()).then_some(networks))
}

fn wrong(variable: &str, reason: String) -> ConfigError {
    ConfigError {
        variable: variable.into(),
        reason,
    }
}
