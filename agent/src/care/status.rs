//! `status`: whether this machine is enrolled, whether its agent runs and is connected, what is open, and what was
//! refused last. It only looks, and needs no more rights than to read the state folder.

use std::path::Path;

use contract::order::fingerprint;
use serde::Serialize;

use crate::app::core::Exit;
use crate::care::{say, wrapped};
use crate::config::{AgentConfig, StatusOptions};
use crate::error::AgentError;
use crate::state::StateFolder;
use crate::state::enrolment::Enrolment;
use crate::state::keys::PinnedKeys;
use crate::state::revocation::Revocation;
use crate::state::standing::{Connection, Standing};

/// How many columns a label takes.
const LABEL: usize = 14;

/// What is known.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// The state folder.
    pub state: String,
    /// Whether there is an enrolment.
    pub enrolled: bool,
    /// The server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The machine there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub machine_id: Option<String>,
    /// Its organisation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub organization_id: Option<String>,
    /// What the server said when it revoked this machine's key; absent when it has not, as far as this machine knows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revoked: Option<Revocation>,
    /// What the keys look like whose orders are obeyed now, to compare with what the server shows.
    pub action_keys: Vec<String>,
    /// Whether an agent runs with this folder.
    pub running: bool,
    /// How it stands; how it stood last, when none runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent: Option<Standing>,
}

/// Shows it.
///
/// # Errors
/// [`AgentError::State`] when the folder cannot be read; [`AgentError::NotEnrolled`] and [`AgentError::Revoked`] after it is
/// shown, so that scripts see it too.
pub fn status(config: &AgentConfig, options: &StatusOptions) -> Result<Exit, AgentError> {
    let folder = options.state.as_deref().unwrap_or(&config.state);
    let status = Status::look(folder)?;
    if options.json {
        let text = serde_json::to_string_pretty(&status)
            .map_err(|error| AgentError::Internal(error.to_string()))?;
        say(&format!("{text}\n"));
    } else {
        say(&status.text());
    }
    match &status.revoked {
        _ if !status.enrolled => Err(AgentError::NotEnrolled(folder.to_owned())),
        Some(revocation) => Err(revocation.error()),
        None => Ok(Exit::Stopped),
    }
}

impl Status {
    /// Looks at a state folder.
    ///
    /// # Errors
    /// [`AgentError::State`] when it cannot be read.
    pub fn look(folder: &Path) -> Result<Self, AgentError> {
        let enrolment = Enrolment::look(folder)?;
        let enrolled = enrolment.as_ref().map(|enrolment| &enrolment.enrolled);
        // Not those of the enrolment: they rotate.
        let pinned = enrolled
            .map(|enrolled| PinnedKeys::look(folder, &enrolled.action_keys))
            .transpose()?;
        Ok(Self {
            state: folder.display().to_string(),
            enrolled: enrolment.is_some(),
            url: enrolment.as_ref().map(|enrolment| enrolment.url.clone()),
            machine_id: enrolled.map(|enrolled| enrolled.machine_id.to_string()),
            organization_id: enrolled.map(|enrolled| enrolled.organization_id.to_string()),
            revoked: Revocation::look(folder)?,
            action_keys: pinned
                .map(|pinned| pinned.keys.iter().map(|key| fingerprint(key)).collect())
                .unwrap_or_default(),
            running: StateFolder::is_held(folder),
            agent: Standing::read(folder)?,
        })
    }

    /// For a person, in lines of at most 80 columns.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        let mut line = |label: &str, value: &str| {
            let line = wrapped(value, LABEL);
            text.push_str(&format!("{label:LABEL$}{line}\n"));
        };
        line("state folder", &self.state);
        match &self.url {
            Some(url) => line("enrolled", &format!("yes, with {url}")),
            None => line(
                "enrolled",
                "no; run `dashfleet-agent enroll --url URL` first",
            ),
        }
        if let Some(revocation) = &self.revoked {
            let said = format!(
                "yes, the server said so at {}: it never accepts this machine's key again, and nothing is reported or \
                 executed. To use the machine again, run `dashfleet-agent uninstall` or remove the state folder, then \
                 enrol it with a new token",
                revocation.heard_at
            );
            line("revoked", &said);
        }
        if let Some(machine) = &self.machine_id {
            line("machine", machine);
        }
        for key in &self.action_keys {
            line("obeys key", key);
        }
        let Some(agent) = &self.agent else {
            let running = if self.running {
                "yes"
            } else {
                "no, and never did with this folder"
            };
            line("running", running);
            return text;
        };
        if self.running {
            line(
                "running",
                &format!(
                    "yes, version {}, process {}, since {}",
                    agent.version, agent.pid, agent.started_at
                ),
            );
            let connection = match agent.connection {
                Connection::Connected => "yes",
                Connection::Connecting => "no, it keeps trying",
                Connection::Refused => "no, the server refuses this machine's key",
            };
            line("connected", &format!("{connection}, since {}", agent.since));
            if let Some(bus) = &agent.bus {
                line("by way of", bus);
            }
            if let Some(words) = &agent.words {
                line("", words);
            }
        } else {
            line(
                "running",
                &format!(
                    "no; version {} ran last, from {}",
                    agent.version, agent.started_at
                ),
            );
        }
        if let Some(reason) = &agent.quarantined {
            line("quarantined", reason);
        }
        line(
            "open actions",
            &format!(
                "{}; {} results that the server does not have",
                agent.open, agent.unreported
            ),
        );
        for open in &agent.open_actions {
            let kind = open.kind.as_deref().unwrap_or("(not known)");
            line(
                "",
                &format!("{} {kind}, attempt {}", open.action, open.attempt),
            );
        }
        match &agent.last_refused {
            Some(refused) => line(
                "last refused",
                &format!("{}: {}: {}", refused.at, refused.what, refused.reason),
            ),
            None => line("last refused", "nothing since its start"),
        }
        if agent.samples_dropped > 0 {
            line(
                "dropped",
                &format!(
                    "{} samples since its start, for want of room",
                    agent.samples_dropped
                ),
            );
        }
        if agent.samples_refused > 0 {
            let refused = format!(
                "{} samples since its start, by the server (is the clock right?)",
                agent.samples_refused
            );
            line("refused", &refused);
        }
        text
    }
}
