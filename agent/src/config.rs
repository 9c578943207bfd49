//! What the agent reads at its start: the command line, and the environment once.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand};
use domain::labels::Labels;
use runtime::config::TelemetryConfig;
use runtime::{ConfigError, Reader};

use crate::error::AgentError;
use crate::kinds::RebootMode;

/// Where the state is, when nobody says otherwise.
const STATE_DEFAULT: &str = "/var/lib/dashfleet-agent";
/// Where the policy is.
const POLICY_DEFAULT: &str = "/etc/dashfleet/policy.json";
/// How often a sample is taken.
const SAMPLE_DEFAULT: Duration = Duration::from_secs(5);
/// More often makes no sense: shares of processor time need a while to be measured.
const SAMPLE_MIN: Duration = Duration::from_millis(50);
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
}

/// Options of `enroll`.
#[derive(Debug, clap::Args)]
pub struct EnrollOptions {
    /// The server, such as https://fleet.example.com
    #[arg(long)]
    pub url: String,
    /// The enrolment token (dfe_…)
    #[arg(long)]
    pub token: String,
    /// The state folder; DASHFLEET_AGENT_STATE when absent
    #[arg(long)]
    pub state: Option<PathBuf>,
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

/// The environment, read once.
#[derive(Clone, Debug)]
pub struct AgentConfig {
    /// `DASHFLEET_AGENT_STATE`
    pub state: PathBuf,
    /// `DASHFLEET_AGENT_POLICY`
    pub policy: PathBuf,
    /// `DASHFLEET_AGENT_REBOOT`
    pub reboot: RebootMode,
    /// `DASHFLEET_AGENT_SAMPLE_MS`
    pub sample: Duration,
    /// `DASHFLEET_AGENT_MACHINE_ID`
    pub machine_id: Option<PathBuf>,
    /// `DASHFLEET_AGENT_ADMIN_ADDR`
    pub admin_addr: Option<String>,
    /// `DASHFLEET_SHUTDOWN_MS`
    pub shutdown: Duration,
    /// Logs and traces.
    pub telemetry: TelemetryConfig,
}

impl AgentConfig {
    /// Reads it.
    ///
    /// # Errors
    /// [`ConfigError`] naming the variable.
    pub fn read(reader: &mut Reader) -> Result<Self, ConfigError> {
        let sample = reader.millis("DASHFLEET_AGENT_SAMPLE_MS", SAMPLE_DEFAULT)?;
        if sample < SAMPLE_MIN {
            return Err(ConfigError {
                variable: "DASHFLEET_AGENT_SAMPLE_MS".into(),
                reason: format!("is less than {} ms", SAMPLE_MIN.as_millis()),
            });
        }
        Ok(Self {
            state: reader
                .or("DASHFLEET_AGENT_STATE", STATE_DEFAULT.to_owned())?
                .into(),
            policy: reader
                .or("DASHFLEET_AGENT_POLICY", POLICY_DEFAULT.to_owned())?
                .into(),
            reboot: reader.or("DASHFLEET_AGENT_REBOOT", RebootMode::Real)?,
            sample,
            machine_id: reader.path_optional("DASHFLEET_AGENT_MACHINE_ID"),
            admin_addr: reader.optional("DASHFLEET_AGENT_ADMIN_ADDR"),
            shutdown: reader.millis("DASHFLEET_SHUTDOWN_MS", SHUTDOWN_DEFAULT)?,
            telemetry: TelemetryConfig::read(reader)?,
        })
    }
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
