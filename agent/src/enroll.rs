//! `enroll`: this machine becomes a member of a fleet. The key is made here and stays here; the server gets a proof
//! that this machine has it.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD};
use chrono::{DateTime, Utc};
use contract::identity::{
    Challenged, Enroll, Enrolled, KeyStanding, Standing, StandingGet, enrollment_message,
    standing_message,
};
use contract::order::fingerprint;
use domain::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::collect::inventory;
use crate::config::{AgentConfig, EnrollOptions, parse_labels};
use crate::error::AgentError;
use crate::state::StateFolder;
use crate::state::enrolment::{Enrolment, MachineKey};
use crate::state::keys::PinnedKeys;
use crate::state::revocation::Revocation;
use crate::state::seal::Seal;

/// How long the server may take for one answer.
const TIMEOUT: Duration = Duration::from_secs(30);
/// How often to try while the server cannot be reached.
const TRIES: u32 = 5;
/// The longest pause between two tries.
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// How long the server may take to say that it still accepts the key of a machine that is enrolled.
const STANDING_PATIENCE: Duration = Duration::from_secs(10);

/// Enrols this machine, or finds that it is enrolled already. A repetition after a crash uses the same key, and the
/// server answers the same.
///
/// # Errors
/// [`AgentError`], with the server's words when it refuses; [`AgentError::Revoked`] when the machine was enrolled and the
/// server has revoked it since.
pub async fn enroll(
    config: &AgentConfig,
    options: &EnrollOptions,
) -> Result<Enrolment, AgentError> {
    let labels = parse_labels(&options.labels)?;
    let expected = expected_key(options.action_key.as_deref())?;
    let url = options.url.trim_end_matches('/').to_owned();
    let server = Server::new(&url)?;
    let folder =
        StateFolder::take_patiently(options.state.as_deref().unwrap_or(&config.state), true)
            .await?;
    Seal::of_this_machine(config.machine_id.as_deref())
        .await?
        .apply(&folder)?;
    if let Some(enrolment) = Enrolment::read(&folder)? {
        if enrolment.url != url {
            return Err(AgentError::EnrolledElsewhere(enrolment.url));
        }
        check_accepted(&folder, &url).await?;
        // Keys rotate: what counts is whom this machine obeys now.
        let pinned = PinnedKeys::read(&folder, &enrolment.enrolled.action_keys)?;
        check_keys(
            expected,
            &fingerprints(&pinned.keys),
            "the machine stays enrolled as it is",
        )?;
        return Ok(enrolment);
    }
    let token = options.token(config)?;
    let had_key = MachineKey::read(&folder)?.is_some();
    let key = MachineKey::read_or_make(&folder)?;
    let mut tries = 1;
    let mut enrolled = loop {
        match prove(&server, &key, token.text(), &labels, expected).await {
            Ok(enrolled) => break enrolled,
            Err(Failure::Final(error)) => {
                // A key that is new here cannot be one that was revoked.
                if had_key && matches!(error, AgentError::EnrolmentRefused(_)) {
                    check_not_revoked(&folder, &url, &key).await?;
                }
                return Err(error);
            }
            Err(Failure::Passing(reason, _)) if tries == TRIES => {
                return Err(AgentError::Unreachable(reason));
            }
            Err(Failure::Passing(reason, pause)) => {
                let pause = pause
                    .unwrap_or(Duration::from_secs(1 << tries.min(4)))
                    .min(PAUSE_MAX);
                tracing::warn!(
                    reason,
                    pause_ms = pause.as_millis(),
                    "the server cannot be reached; trying again"
                );
                tokio::time::sleep(pause).await;
                tries += 1;
            }
        }
    };
    // The server said before whose they would be; what counts is what it says now.
    let used = format!(
        "the token was used: revoke the machine {} on the server",
        enrolled.machine_id
    );
    check_keys(expected, &fingerprints(&enrolled.action_keys), &used)?;
    if let Some(expected) = expected {
        // What else the answer names, nobody has vouched for: that comes later, signed by this one.
        enrolled.action_keys.retain(|key| is_key(key, expected));
    }
    let enrolment = Enrolment {
        url,
        public_key: key.pair.public_key(),
        enrolled,
    };
    enrolment.write(&folder)?;
    Ok(enrolment)
}

/// Whether the server still accepts the key of a machine that is enrolled. A server that does not say so is believed what
/// it said before: without a word from it an enrolment stands, and a revocation too.
async fn check_accepted(folder: &StateFolder, url: &str) -> Result<(), AgentError> {
    let Some(key) = MachineKey::read(folder)? else {
        let reason = "there is an enrolment, and the machine's key (seed.nk) is gone: enrol this machine anew with an empty \
                      state folder";
        return Err(AgentError::state(folder.path(), reason));
    };
    let asked = Box::pin(standing(url, &key.pair));
    let silent = match tokio::time::timeout(STANDING_PATIENCE, asked).await {
        Ok(Ok(KeyStanding::Revoked)) => {
            return Err(Revocation::note(folder, Timestamp::now())?.error());
        }
        Ok(Ok(KeyStanding::Enrolled | KeyStanding::Quarantined)) => {
            return Revocation::forget(folder);
        }
        Ok(Ok(KeyStanding::Unknown)) => "the server does not know this machine's key".to_owned(),
        Ok(Err(reason)) => reason,
        Err(_) => format!("no answer within {} s", STANDING_PATIENCE.as_secs()),
    };
    if let Some(revocation) = Revocation::look(folder.path())? {
        return Err(revocation.error());
    }
    tracing::warn!(
        reason = silent,
        "this machine is enrolled; whether the server still accepts its key is not known"
    );
    Ok(())
}

/// Whether a refusal is because the key was revoked, which the enrolment that is lost would have remembered.
async fn check_not_revoked(
    folder: &StateFolder,
    url: &str,
    key: &MachineKey,
) -> Result<(), AgentError> {
    let asked = Box::pin(standing(url, &key.pair));
    match tokio::time::timeout(STANDING_PATIENCE, asked).await {
        Ok(Ok(KeyStanding::Revoked)) => Err(Revocation::note(folder, Timestamp::now())?.error()),
        // The refusal has another reason, and says it.
        _ => Ok(()),
    }
}

/// The fingerprint that the owner expects, before anything is asked of the server: it would enrol the machine first.
fn expected_key(given: Option<&str>) -> Result<Option<&str>, AgentError> {
    let Some(given) = given.filter(|given| !given.is_empty()) else {
        return Ok(None);
    };
    let digits = fingerprint("").len();
    if given.len() != digits || !given.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        let reason = format!("--action-key: a fingerprint has {digits} hexadecimal digits");
        return Err(AgentError::Config(reason));
    }
    Ok(Some(given))
}

fn is_key(key: &str, expected: &str) -> bool {
    fingerprint(key).eq_ignore_ascii_case(expected)
}

fn fingerprints(keys: &[String]) -> Vec<String> {
    keys.iter().map(|key| fingerprint(key)).collect()
}

/// Whether orders will come from whom the owner expects; `then` is what else to say when they will not.
fn check_keys(
    expected: Option<&str>,
    fingerprints: &[String],
    then: &str,
) -> Result<(), AgentError> {
    let Some(expected) = expected else {
        return Ok(());
    };
    if fingerprints
        .iter()
        .any(|key| key.eq_ignore_ascii_case(expected))
    {
        return Ok(());
    }
    Err(AgentError::KeyRefused(format!(
        "orders would be signed by {}, and not by {expected} as --action-key says; {then}",
        fingerprints.join(", ")
    )))
}

/// Asks for a challenge and answers it.
async fn prove(
    server: &Server,
    key: &MachineKey,
    token: &str,
    labels: &domain::labels::Labels,
    expected: Option<&str>,
) -> Result<Enrolled, Failure> {
    let Challenged {
        challenge,
        action_keys,
        ..
    } = server
        .post("enroll/challenge", &serde_json::json!({}))
        .await?;
    // Before the token is shown. A server of before says nothing here, and what it answers at the end is compared.
    if !action_keys.is_empty() {
        check_keys(expected, &action_keys, "the token was not used").map_err(Failure::Final)?;
    }
    let public_key = key.pair.public_key();
    let signature = key
        .pair
        .sign(&enrollment_message(&challenge, token, &public_key))
        .map_err(|error| {
            Failure::Final(AgentError::Internal(format!(
                "the key does not sign: {error}"
            )))
        })?;
    let request = Enroll {
        token: token.to_owned(),
        challenge,
        public_key,
        signature: STANDARD.encode(signature),
        hostname: inventory::hostname(),
        inventory: inventory::basics(),
        labels: labels.clone(),
    };
    server.post("enroll", &request).await
}

/// How a server says that this machine's key stands.
///
/// # Errors
/// The reason for having no answer, for the log.
pub async fn standing(url: &str, pair: &nkeys::KeyPair) -> Result<KeyStanding, String> {
    let server = Server::new(url).map_err(|error| error.to_string())?;
    let words = |failure: Failure| match failure {
        Failure::Final(error) => error.to_string(),
        Failure::Passing(reason, _) => reason,
    };
    let Challenged { challenge, .. } = server
        .post("enroll/challenge", &serde_json::json!({}))
        .await
        .map_err(words)?;
    let public_key = pair.public_key();
    let signature = pair
        .sign(&standing_message(&challenge, &public_key))
        .map_err(|error| error.to_string())?;
    let request = StandingGet {
        challenge,
        public_key,
        signature: STANDARD.encode(signature),
    };
    let Standing { standing } = server.post("standing", &request).await.map_err(words)?;
    Ok(standing)
}

/// The time that a server says with an answer, whatever it answers; `None` when it says none.
///
/// # Errors
/// Why there is no answer.
pub async fn server_time(url: &str, limit: Duration) -> Result<Option<DateTime<Utc>>, String> {
    let server = Server::new(url).map_err(|error| error.to_string())?;
    let asked = server
        .client
        .get(format!("{url}/api/status"))
        .timeout(limit);
    let answer = asked.send().await.map_err(|error| words(&error))?;
    let date = answer.headers().get(reqwest::header::DATE);
    let date = date.and_then(|date| date.to_str().ok());
    Ok(date.and_then(|date| {
        DateTime::parse_from_rfc2822(date)
            .ok()
            .map(|date| date.to_utc())
    }))
}

/// Why an answer is none.
enum Failure {
    /// It would be the same again.
    Final(AgentError),
    /// It may be another one later, and when the server says to ask again.
    Passing(String, Option<Duration>),
}

struct Server {
    url: String,
    client: reqwest::Client,
}

/// The address of a server, as `--url` gives it.
fn parsed(url: &str) -> Result<reqwest::Url, AgentError> {
    let wrong = |reason: String| AgentError::Config(format!("--url {url}: {reason}"));
    if url.is_empty() {
        return Err(AgentError::Config(
            "--url: is empty; give the server's address, such as https://fleet.example.com".into(),
        ));
    }
    // As it is left of `https://`.
    if matches!(url, "http:" | "https:") {
        return Err(wrong("has no host".into()));
    }
    // `host:8443` would be read as a scheme and a path.
    if !url.contains("://") {
        return Err(wrong(format!(
            "has no scheme; did you mean https://{url} ?"
        )));
    }
    let parsed = reqwest::Url::parse(url).map_err(|error| wrong(error.to_string()))?;
    if !matches!(parsed.scheme(), "http" | "https") {
        return Err(wrong("is neither http:// nor https://".into()));
    }
    if !parsed.username().is_empty() || parsed.password().is_some() {
        // Not shown again: it may be a password.
        let reason = "--url: has a user name or a password in it, for which the server has no use";
        return Err(AgentError::Config(reason.into()));
    }
    if parsed.query().is_some() || parsed.fragment().is_some() {
        return Err(wrong("has `?` or `#` in it; leave out what follows".into()));
    }
    Ok(parsed)
}

/// The parts of an RFC 9457 problem that a person wants to read.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Problem {
    title: String,
    detail: String,
    errors: Vec<ProblemError>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ProblemError {
    path: String,
    message: String,
}

impl Server {
    fn new(url: &str) -> Result<Self, AgentError> {
        let wrong = |reason: String| AgentError::Config(format!("--url {url}: {reason}"));
        let parsed = parsed(url)?;
        // A second call in one process changes nothing, and that is what it says.
        if rustls::crypto::ring::default_provider()
            .install_default()
            .is_err()
        {
            tracing::trace!("the TLS provider was there already");
        }
        let mut builder = reqwest::Client::builder()
            .timeout(TIMEOUT)
            .user_agent(concat!("dashfleet-agent/", env!("CARGO_PKG_VERSION")))
            // The token goes to the server that was named and to no other.
            .redirect(reqwest::redirect::Policy::none());
        if parsed.scheme() == "http" {
            // A machine without certificates of authorities can still use an unencrypted server on its own network.
            builder = builder.tls_certs_only([]);
        }
        let client = builder.build().map_err(|error| wrong(error.to_string()))?;
        Ok(Self {
            url: url.to_owned(),
            client,
        })
    }

    async fn post<T: DeserializeOwned>(
        &self,
        step: &str,
        body: &impl Serialize,
    ) -> Result<T, Failure> {
        let path = format!("{}/api/v1/agents/{step}", self.url);
        let sent = self.client.post(path).json(body).send().await;
        let response = sent.map_err(|error| Failure::Passing(words(&error), None))?;
        let status = response.status();
        let pause = response
            .headers()
            .get(reqwest::header::RETRY_AFTER)
            .and_then(|value| value.to_str().ok()?.parse().ok())
            .map(Duration::from_secs);
        let text = response
            .text()
            .await
            .map_err(|error| Failure::Passing(words(&error), None))?;
        if status.is_success() {
            return serde_json::from_str(&text).map_err(|error| {
                self.foreign(status, &format!("its answer is not understood: {error}"))
            });
        }
        let words = said(status, &text);
        if status.is_server_error() || matches!(status.as_u16(), 408 | 429) {
            return Err(Failure::Passing(words, pause));
        }
        if !is_problem(&text) {
            // The sign-in page of a network, or another server: it has not judged the token.
            return Err(self.foreign(status, "its refusal is not in the form of one"));
        }
        Err(Failure::Final(AgentError::EnrolmentRefused(words)))
    }

    /// What answers is somebody else.
    fn foreign(&self, status: reqwest::StatusCode, why: &str) -> Failure {
        Failure::Final(AgentError::Unreachable(format!(
            "what answers at {} does not answer like a DashFleet server (HTTP status {}; {why}). Look at --url, and whether \
             this network wants a sign-in in a browser first",
            self.url,
            status.as_u16()
        )))
    }
}

/// Whether a refusal has the form in which a DashFleet server refuses (RFC 9457).
fn is_problem(text: &str) -> bool {
    serde_json::from_str::<Problem>(text)
        .is_ok_and(|problem| !problem.title.is_empty() || !problem.detail.is_empty())
}

/// What a refusal says, in one line.
#[must_use]
pub fn said(status: reqwest::StatusCode, text: &str) -> String {
    let problem: Problem = serde_json::from_str(text).unwrap_or_default();
    let mut said = if problem.detail.is_empty() {
        problem.title
    } else {
        problem.detail
    };
    for error in problem.errors {
        if !said.contains(&error.message) {
            said = format!("{said}; {}: {}", error.path, error.message);
        }
    }
    if said.is_empty() {
        format!("HTTP status {status}")
    } else {
        format!("{said} (HTTP status {})", status.as_u16())
    }
}

/// An error with its causes: "connection refused" is at the bottom.
#[must_use]
pub fn words(error: &reqwest::Error) -> String {
    let mut said = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        said = format!("{said}: {error}");
        cause = error.source();
    }
    said
}
