//! The configuration file: what it may say, as variables of the environment. The environment beats it.

use std::io::Read;
use std::path::Path;

use serde_json::Value;

use crate::config::object;
use crate::error::AgentError;

/// Where it is, when nobody says otherwise.
pub const USUAL: &str = crate::platform::PLACES.config;
/// The longest file.
const MAX_BYTES: u64 = 64 * 1024;
/// Its keys, and the variable of each. The enrolment token is not among them: it is used once, and is a secret.
pub const KEYS: &[(&str, &str)] = &[
    ("state", "DASHFLEET_AGENT_STATE"),
    ("policy", "DASHFLEET_AGENT_POLICY"),
    ("reboot", "DASHFLEET_AGENT_REBOOT"),
    ("sampleMs", "DASHFLEET_AGENT_SAMPLE_MS"),
    ("inventoryMs", "DASHFLEET_AGENT_INVENTORY_MS"),
    ("processes", "DASHFLEET_AGENT_PROCESSES"),
    ("machineId", "DASHFLEET_AGENT_MACHINE_ID"),
    ("adminAddr", "DASHFLEET_AGENT_ADMIN_ADDR"),
    ("shutdownMs", "DASHFLEET_SHUTDOWN_MS"),
    ("log", "DASHFLEET_LOG"),
    ("logFormat", "DASHFLEET_LOG_FORMAT"),
    ("logFile", "DASHFLEET_AGENT_LOG_FILE"),
    ("otlpEndpoint", "OTEL_EXPORTER_OTLP_ENDPOINT"),
];

/// A value of the file: variable, text, and its place for errors.
pub type Entry = (&'static str, String, String);

/// Reads the file. Without one there are no values, unless somebody `named` it.
///
/// # Errors
/// [`AgentError::Config`] naming the file and the key: it was named and is not there, it is not a JSON object, has a key
/// that is not known or is given twice, or a value that is none, or somebody else than the owner of the machine could have written it.
pub fn read(path: &Path, named: bool) -> Result<Vec<Entry>, AgentError> {
    let wrong = |reason: String| {
        AgentError::Config(format!("configuration file {}: {reason}", path.display()))
    };
    let opened = match std::fs::File::open(path) {
        Ok(opened) => opened,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && !named => {
            return Ok(Vec::new());
        }
        Err(error) => return Err(wrong(error.to_string())),
    };
    crate::platform::check_trusted(&opened, path).map_err(&wrong)?;
    let mut text = String::new();
    opened
        .take(MAX_BYTES)
        .read_to_string(&mut text)
        .map_err(|error| wrong(error.to_string()))?;
    parse(&text, &path.display().to_string()).map_err(wrong)
}

/// Reads its text; `place` is where it is, for errors.
///
/// # Errors
/// What is wrong with it, with the key's name.
pub fn parse(text: &str, place: &str) -> Result<Vec<Entry>, String> {
    let fields = object::read(text)?;
    let mut entries = Vec::new();
    for (key, value) in &fields {
        let Some((_, variable)) = KEYS.iter().find(|(known, _)| known == key) else {
            let known: Vec<_> = KEYS.iter().map(|(key, _)| *key).collect();
            return Err(format!(
                "{}: is not known; known are {}",
                key.escape_debug(),
                known.join(", ")
            ));
        };
        let text = match value {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            Value::Bool(true) => "on".into(),
            Value::Bool(false) => "off".into(),
            _ => {
                return Err(format!(
                    "{key}: is neither a text, a number, true nor false"
                ));
            }
        };
        entries.push((*variable, text, format!("{place}: {key}")));
    }
    Ok(entries)
}
