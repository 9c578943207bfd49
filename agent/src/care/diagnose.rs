//! `diagnose`: what keeps the agent from its work, in plain words, each with what to do about it. It changes nothing and
//! connects as nobody: the agent may be at work meanwhile.

mod servers;

use std::path::Path;
use std::time::Duration;

use chrono::{DateTime, Utc};
use contract::identity::KeyStanding;
use domain::Timestamp;
use domain::action::ActionKind;

use crate::app::core::Exit;
use crate::care::{say, wrapped};
use crate::config::{AgentConfig, DiagnoseOptions};
use crate::error::AgentError;
use crate::policy::Policy;
use crate::state::StateFolder;
use crate::state::enrolment::{Enrolment, MachineKey};
use crate::state::revocation::Revocation;
use crate::state::seal::Seal;
use crate::state::standing::{Connection, Standing};
use crate::{enroll, platform};

/// How long one server may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// How far the clocks may lie apart: certificates are judged by this machine's.
const CLOCK_MAX: chrono::Duration = chrono::Duration::minutes(5);

/// What one look found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Whether it is well.
    pub well: bool,
    /// What was looked at, and how it is.
    pub what: String,
    /// What to do; empty when it is well.
    pub advice: String,
}

impl Finding {
    fn well(what: impl Into<String>) -> Self {
        Self {
            well: true,
            what: what.into(),
            advice: String::new(),
        }
    }

    fn bad(what: impl Into<String>, advice: impl Into<String>) -> Self {
        Self {
            well: false,
            what: what.into(),
            advice: advice.into(),
        }
    }
}

/// Looks at everything and prints what it finds.
///
/// # Errors
/// [`AgentError::Unwell`] when something is not well.
pub async fn diagnose(config: &AgentConfig, options: &DiagnoseOptions) -> Result<Exit, AgentError> {
    let folder = options.state.as_deref().unwrap_or(&config.state);
    let findings = findings(config, folder).await;
    let bad = findings.iter().filter(|finding| !finding.well).count();
    for finding in &findings {
        let mark = if finding.well { "ok   " } else { "WRONG" };
        say(&format!("{mark} {}\n", wrapped(&finding.what, 6)));
        if !finding.advice.is_empty() {
            say(&format!("      {}\n", wrapped(&finding.advice, 6)));
        }
    }
    if bad == 0 {
        say("All is well.\n");
        return Ok(Exit::Stopped);
    }
    Err(AgentError::Unwell(format!(
        "{bad} of {} looks found something wrong",
        findings.len()
    )))
}

async fn findings(config: &AgentConfig, folder: &Path) -> Vec<Finding> {
    let mut findings = vec![policy(config)];
    // Whoever names a file by mistake is told that, and not what would follow from it.
    if std::fs::metadata(folder).is_ok_and(|meta| !meta.is_dir()) {
        findings.push(Finding::bad(
            format!("{} is not a folder.", folder.display()),
            "Name the agent's state folder, by --state or DASHFLEET_AGENT_STATE.",
        ));
        return findings;
    }
    findings.extend(
        platform::permissions(folder)
            .into_iter()
            .map(|(well, what, advice)| Finding { well, what, advice }),
    );
    let not_running = findings.len();
    if StateFolder::is_held(folder) {
        findings.push(Finding::well("An agent is running with this state folder."));
    } else {
        findings.push(Finding::bad(
            "No agent is running with this state folder.",
            "Start it: `systemctl start dashfleet-agent` where it is a service, else `dashfleet-agent run`. Its log \
             says why it ended (`journalctl -u dashfleet-agent`).",
        ));
    }
    let enrolment = match Enrolment::look(folder) {
        Ok(Some(enrolment)) => enrolment,
        Ok(None) => {
            findings.push(Finding::bad(
                "This machine is not enrolled.",
                "Get an enrolment token and run `dashfleet-agent enroll --url URL`.",
            ));
            return findings;
        }
        Err(error) => {
            findings.push(Finding::bad(
                format!("The enrolment cannot be read: {error}."),
                "Do what the text says; where it says that permission is denied, run this as root or as the agent's user.",
            ));
            return findings;
        }
    };
    findings.push(Finding::well(format!(
        "This machine is enrolled with {}.",
        enrolment.url
    )));
    findings.push(seal(config, folder).await);
    findings.extend(server(&enrolment.url).await);
    let mut revoked = matches!(Revocation::look(folder), Ok(Some(_)));
    match MachineKey::look(folder) {
        Ok(Some(key)) => {
            let said = standing(&enrolment.url, &key).await;
            if let Ok(standing) = &said {
                revoked = *standing == KeyStanding::Revoked;
            }
            findings.push(of_standing(said));
        }
        Ok(None) => findings.push(Finding::bad(
            "The machine's key (seed.nk) is gone.",
            "Enrol this machine anew with an empty state folder.",
        )),
        Err(error) => findings.push(key_unread(&error)),
    }
    if revoked && let Some(finding) = findings.get_mut(not_running).filter(|it| !it.well) {
        // Whoever starts it now sees it end again.
        finding.advice = "It ends when it is started, because the server has revoked its key. `dashfleet-agent uninstall` \
                          removes it; to use the machine again, enrol it with an empty state folder and a new token."
            .into();
    }
    let running = match Standing::read(folder) {
        Ok(standing) if StateFolder::is_held(folder) => standing,
        _ => None,
    };
    if let Some(standing) = &running
        && standing.connection != Connection::Connected
    {
        findings.push(Finding::bad(
            format!(
                "The agent runs and has had no connection to the bus since {}.",
                standing.since
            ),
            "Its log says what each try met (`journalctl -u dashfleet-agent`); what is wrong with a server is below.",
        ));
    }
    let used = running.and_then(|standing| standing.bus);
    findings.extend(servers::findings(&enrolment, used.as_deref()).await);
    findings
}

fn policy(config: &AgentConfig) -> Finding {
    match Policy::read(&config.policy) {
        Err(error) => Finding::bad(
            format!("The policy cannot be used, and the agent does not start: {error}."),
            "Mend the file as the text says.",
        ),
        Ok(policy) => {
            let (allowed, denied): (Vec<_>, Vec<_>) = ActionKind::ALL
                .iter()
                .partition(|kind| policy.denies(**kind).is_none());
            let names = |kinds: Vec<&ActionKind>| {
                let names: Vec<_> = kinds.into_iter().map(ToString::to_string).collect();
                names.join(", ")
            };
            if allowed.is_empty() {
                return Finding::well(format!(
                    "The policy ({}) allows nothing: its `kinds` name no kind of action that this agent knows. Each action \
                     fails with `policy-denied`; the machine reports how it is all the same.",
                    config.policy
                ));
            }
            let denied = match names(denied) {
                none if none.is_empty() => String::new(),
                denied => format!(" and forbids {denied}"),
            };
            Finding::well(format!(
                "The policy ({}) allows {}{denied}.",
                config.policy,
                names(allowed)
            ))
        }
    }
}

async fn seal(config: &AgentConfig, folder: &Path) -> Finding {
    let checked = match Seal::of_this_machine(config.machine_id.as_deref()).await {
        Ok(seal) => seal.look(folder),
        Err(error) => Err(error),
    };
    match checked {
        Ok(()) => Finding::well("The state folder is this machine's."),
        Err(error) => Finding::bad(
            format!("The state folder does not fit this machine: {error}."),
            "Enrol this machine with an empty state folder.",
        ),
    }
}

/// Whether the server answers, and what time it has.
async fn server(url: &str) -> Vec<Finding> {
    let sent = Timestamp::now();
    match enroll::server_time(url, PATIENCE).await {
        Err(reason) => vec![Finding::bad(
            format!("The server {url} cannot be reached: {reason}."),
            "Look at the name, the network, the firewall and, for https, at this machine's certificate authorities \
             (SSL_CERT_FILE). Actions and samples need only the bus below.",
        )],
        Ok(None) => vec![Finding::well(format!(
            "The server {url} answers (without its time)."
        ))],
        Ok(Some(time)) => vec![
            Finding::well(format!("The server {url} answers.")),
            clock(sent, time),
        ],
    }
}

fn clock(here: Timestamp, server: DateTime<Utc>) -> Finding {
    let apart = here.since(Timestamp::from(server));
    if apart.abs() <= CLOCK_MAX {
        return Finding::well("This machine's clock agrees with the server's.");
    }
    let direction = if apart > chrono::Duration::zero() {
        "ahead of"
    } else {
        "behind"
    };
    Finding::bad(
        format!(
            "This machine's clock is {} s {direction} the server's.",
            apart.abs().num_seconds()
        ),
        "Set it (`timedatectl set-ntp true`). Samples get right times from the server all the same; what this machine writes \
         for itself has wrong ones, and certificates may seem to be invalid.",
    )
}

/// How the server says that the key stands; else why it does not say.
async fn standing(url: &str, key: &MachineKey) -> Result<KeyStanding, String> {
    match tokio::time::timeout(PATIENCE, enroll::standing(url, &key.pair)).await {
        Ok(said) => said,
        Err(_) => Err(format!("no answer within {} s", PATIENCE.as_secs())),
    }
}

fn of_standing(said: Result<KeyStanding, String>) -> Finding {
    match said {
        Ok(KeyStanding::Revoked) => Finding::bad(
            "The server has revoked this machine's key.",
            "Enrol this machine anew with an empty state folder, if it is to be used again.",
        ),
        Ok(standing) => Finding::well(format!(
            "What the server says of this machine's key: {standing:?}."
        )),
        Err(reason) => Finding::bad(
            format!("The server does not say how this machine's key stands: {reason}."),
            "Try again when the server can be reached.",
        ),
    }
}

fn key_unread(error: &AgentError) -> Finding {
    let advice = if error.to_string().contains("denied") {
        "Run this as root or as the agent's user."
    } else {
        "Do what the text says."
    };
    Finding::bad(
        format!("The machine's key cannot be used: {error}."),
        advice,
    )
}
