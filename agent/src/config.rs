//! What the agent reads at its start: the command line, the configuration file, and the environment once.
//!
//! Rooms: [`file`] the configuration file, [`object`] how it and the policy are read.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Parser, Subcommand};
use domain::labels::Labels;
use runtime::config::TelemetryConfig;
use runtime::{ConfigError, Reader};

pub mod file;
pub mod object;

use crate::collect::Optional;
use crate::error::AgentError;
use crate::kinds::RebootMode;
use crate::platform::PLACES;

/// Where the state is, when nobody says otherwise.
const STATE_DEFAULT: &str = PLACES.state;
/// Where the policy is.
const POLICY_DEFAULT: &str = PLACES.policy;
/// How often a sample is taken, in milliseconds.
const SAMPLE_DEFAULT_MS: u64 = 5_000;
/// How often it is looked at what the machine is.
const INVENTORY_DEFAULT: Duration = Duration::from_secs(300);
/// From the least that makes sense (shares of processor time need a while to be measured) to a day, in milliseconds.
const SAMPLE_MS: std::ops::RangeInclusive<u64> = 50..=86_400_000;
/// How long what is under way may take at the end.
const SHUTDOWN_DEFAULT: Duration = Duration::from_secs(10);

/// The agent of DashFleet: reports how this machine is, and does what its organisation signs, as far as this
/// machine's owner allows.
#[derive(Debug, Parser)]
#[command(name = "dashfleet-agent", version)]
pub struct CommandLine {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make this machine a member of a fleet.
    Enroll(EnrollOptions),
    /// Report and execute until told to stop.
    Run(RunOptions),
    /// Show how the agent of this machine stands.
    Status(StatusOptions),
    /// Look for what keeps the agent from its work, and say what to do about it.
    Diagnose(DiagnoseOptions),
    /// Remove the agent from this machine: service, state, configuration, program.
    Uninstall(UninstallOptions),
}

/// Options of `enroll`.
#[derive(Debug, clap::Args)]
pub struct EnrollOptions {
    /// The server, such as https://fleet.example.com
    #[arg(long)]
    pub url: String,
    /// The enrolment token (dfe_…); who lists the processes sees it here. DASHFLEET_ENROLLMENT_TOKEN when neither this
    /// nor --token-file is given
    #[arg(long)]
    pub token: Option<Token>,
    /// A file with the enrolment token; `-` is standard input
    #[arg(long, value_name = "PATH", conflicts_with = "token")]
    pub token_file: Option<PathBuf>,
    /// The state folder; DASHFLEET_AGENT_STATE when absent
    #[arg(long)]
    pub state: Option<PathBuf>,
    /// The fingerprint of the key whose orders this machine is to obey; an enrolment that names other keys is refused
    #[arg(long, value_name = "FINGERPRINT")]
    pub action_key: Option<String>,
    /// A label of this machine, such as env=prod; may be given several times
    #[arg(long = "label", value_name = "KEY=VALUE")]
    pub labels: Vec<String>,
}

/// Options of `run`.
#[derive(Debug, clap::Args)]
pub struct RunOptions {
    /// The state folder; DASHFLEET_AGENT_STATE when absent
    #[arg(long)]
    pub state: Option<PathBuf>,
    /// Show the effective configuration and end
    #[arg(long)]
    pub print_config: bool,
}

/// Options of `status`.
#[derive(Debug, clap::Args)]
pub struct StatusOptions {
    /// The state folder; DASHFLEET_AGENT_STATE when absent
    #[arg(long)]
    pub state: Option<PathBuf>,
    /// As JSON
    #[arg(long)]
    pub json: bool,
}

/// Options of `diagnose`.
#[derive(Debug, clap::Args)]
pub struct DiagnoseOptions {
    /// The state folder; DASHFLEET_AGENT_STATE when absent
    #[arg(long)]
    pub state: Option<PathBuf>,
}

/// Options of `uninstall`.
#[derive(Debug, clap::Args)]
pub struct UninstallOptions {
    /// The state folder; DASHFLEET_AGENT_STATE when absent
    #[arg(long)]
    pub state: Option<PathBuf>,
    /// Do not ask
    #[arg(long)]
    pub yes: bool,
}

/// Where the configuration file is, and whether somebody said so: one that was named must be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigPath {
    /// Where it is when nobody says otherwise; there need not be one.
    Usual,
    /// Here.
    Named(PathBuf),
}

impl ConfigPath {
    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        match self {
            Self::Usual => Path::new(file::USUAL),
            Self::Named(path) => path,
        }
    }
}

impl std::str::FromStr for ConfigPath {
    type Err = std::convert::Infallible;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self::Named(text.into()))
    }
}

impl std::fmt::Display for ConfigPath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.path().display().fmt(f)
    }
}

/// Where the policy is, and whether somebody said so: a file that was named must be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PolicyPath {
    /// Where it is when nobody says otherwise; without a file there, the default policy holds.
    Usual,
    /// Here.
    Named(PathBuf),
}

impl PolicyPath {
    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        match self {
            Self::Usual => Path::new(POLICY_DEFAULT),
            Self::Named(path) => path,
        }
    }
}

impl std::str::FromStr for PolicyPath {
    type Err = std::convert::Infallible;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self::Named(text.into()))
    }
}

impl std::fmt::Display for PolicyPath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.path().display().fmt(f)
    }
}

/// Something that is on or off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Switch {
    On,
    Off,
}

impl std::str::FromStr for Switch {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "on" => Ok(Self::On),
            "off" => Ok(Self::Off),
            _ => Err("is neither on nor off"),
        }
    }
}

impl std::fmt::Display for Switch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::On => "on",
            Self::Off => "off",
        })
    }
}

/// An enrolment token. It is not shown by accident.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// Its text, for the proof.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.0
    }
}

impl From<String> for Token {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(…)")
    }
}

/// The longest text of a token, in bytes, with what is around it in a file.
const TOKEN_MAX_BYTES: u64 = 4 * 1024;

impl EnrollOptions {
    /// The token: from the command line, from the file that it names, or from the environment.
    ///
    /// # Errors
    /// [`AgentError::Config`] when there is none, or the file cannot be read.
    pub fn token(&self, config: &AgentConfig) -> Result<Token, AgentError> {
        let token = match (&self.token, &self.token_file) {
            (Some(token), _) => Some(token.clone()),
            (None, Some(path)) => Some(read_token(path).map_err(|error| {
                AgentError::Config(format!("--token-file {}: {error}", path.display()))
            })?),
            (None, None) => config.enrollment_token.clone(),
        };
        token.filter(|token| !token.0.is_empty()).ok_or_else(|| {
            AgentError::Config(
                "there is no enrolment token: set DASHFLEET_ENROLLMENT_TOKEN, or give --token-file PATH (`-` is \
                 standard input) or --token TOKEN"
                    .into(),
            )
        })
    }
}

fn read_token(path: &Path) -> std::io::Result<Token> {
    let mut text = String::new();
    if path == Path::new("-") {
        std::io::stdin()
            .take(TOKEN_MAX_BYTES)
            .read_to_string(&mut text)?;
    } else {
        std::fs::File::open(path)?
            .take(TOKEN_MAX_BYTES)
            .read_to_string(&mut text)?;
    }
    Ok(Token(text.trim().to_owned()))
}

/// The environment, read once.
#[derive(Clone, Debug)]
pub struct AgentConfig {
    /// `DASHFLEET_AGENT_STATE`
    pub state: PathBuf,
    /// `DASHFLEET_AGENT_POLICY`
    pub policy: PolicyPath,
    /// `DASHFLEET_ENROLLMENT_TOKEN`, for `enroll`
    pub enrollment_token: Option<Token>,
    /// `DASHFLEET_AGENT_REBOOT`
    pub reboot: RebootMode,
    /// `DASHFLEET_AGENT_SAMPLE_MS`
    pub sample: Duration,
    /// `DASHFLEET_AGENT_INVENTORY_MS`
    pub inventory: Duration,
    /// `DASHFLEET_AGENT_PROCESSES`
    pub optional: Optional,
    /// `DASHFLEET_AGENT_MACHINE_ID`
    pub machine_id: Option<PathBuf>,
    /// `DASHFLEET_AGENT_ADMIN_ADDR`
    pub admin_addr: Option<String>,
    /// `DASHFLEET_AGENT_LOG_FILE`: instead of standard error.
    pub log_file: Option<PathBuf>,
    /// The configuration file.
    pub file: ConfigPath,
    /// `DASHFLEET_SHUTDOWN_MS`
    pub shutdown: Duration,
    /// Logs and traces.
    pub telemetry: TelemetryConfig,
}

impl AgentConfig {
    /// Reads it.
    ///
    /// # Errors
    /// [`AgentError::Config`] naming the variable, or the file and its key.
    pub fn read(reader: &mut Reader) -> Result<Self, AgentError> {
        let config = reader.or("DASHFLEET_AGENT_CONFIG", ConfigPath::Usual)?;
        reader.file(file::read(
            config.path(),
            matches!(config, ConfigPath::Named(_)),
        )?);
        Self::effective(reader, config).map_err(|error| reader.placed(error).into())
    }

    fn effective(reader: &mut Reader, file: ConfigPath) -> Result<Self, ConfigError> {
        let sample = reader.within("DASHFLEET_AGENT_SAMPLE_MS", SAMPLE_DEFAULT_MS, &SAMPLE_MS)?;
        Ok(Self {
            state: reader
                .or("DASHFLEET_AGENT_STATE", STATE_DEFAULT.to_owned())?
                .into(),
            policy: reader.or("DASHFLEET_AGENT_POLICY", PolicyPath::Usual)?,
            enrollment_token: reader
                .secret_optional("DASHFLEET_ENROLLMENT_TOKEN")
                .map(Token::from),
            reboot: reader.or("DASHFLEET_AGENT_REBOOT", RebootMode::Real)?,
            sample: Duration::from_millis(sample),
            inventory: reader.millis("DASHFLEET_AGENT_INVENTORY_MS", INVENTORY_DEFAULT)?,
            optional: Optional {
                processes: reader.or("DASHFLEET_AGENT_PROCESSES", Switch::Off)? == Switch::On,
            },
            machine_id: reader.path_optional("DASHFLEET_AGENT_MACHINE_ID"),
            admin_addr: admin_addr(reader)?,
            log_file: reader.path_optional("DASHFLEET_AGENT_LOG_FILE"),
            file,
            shutdown: reader.millis("DASHFLEET_SHUTDOWN_MS", SHUTDOWN_DEFAULT)?,
            telemetry: TelemetryConfig::read(reader)?,
        })
    }
}

/// Where health and metrics are shown. Whether the address is this machine's is seen when it is used.
fn admin_addr(reader: &mut Reader) -> Result<Option<String>, ConfigError> {
    const NAME: &str = "DASHFLEET_AGENT_ADMIN_ADDR";
    let Some(address) = reader.optional(NAME) else {
        return Ok(None);
    };
    let is_good = address
        .rsplit_once(':')
        .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
    if is_good {
        return Ok(Some(address));
    }
    Err(ConfigError {
        variable: NAME.into(),
        reason: format!("`{address}` is not HOST:PORT, such as 127.0.0.1:9100"),
    })
}

/// Labels from `key=value` texts.
///
/// # Errors
/// [`AgentError::Config`] naming the one that is wrong.
pub fn parse_labels(texts: &[String]) -> Result<Labels, AgentError> {
    let mut labels = Labels::new();
    for text in texts {
        let Some((key, value)) = text.split_once('=') else {
            return Err(AgentError::Config(format!(
                "--label {text}: is not KEY=VALUE"
            )));
        };
        if labels.insert(key.to_owned(), value.to_owned()).is_some() {
            return Err(AgentError::Config(format!("--label {key}: is given twice")));
        }
    }
    domain::labels::check(&labels)
        .map_err(|error| AgentError::Config(format!("--label: {error}")))?;
    Ok(labels)
}
