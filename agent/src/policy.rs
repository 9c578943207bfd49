//! The policy file: what the owner of this machine allows, which no server overrides.

use std::io::Read;
use std::path::Path;

use domain::action::ActionKind;
use serde::Deserialize;
use serde_json::Value;

use crate::config::{PolicyPath, object};
use crate::error::AgentError;

/// The longest policy file.
const POLICY_MAX_BYTES: u64 = 64 * 1024;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PolicyFile {
    #[serde(default)]
    kinds: Option<Vec<String>>,
    #[serde(default)]
    users: Option<Vec<String>>,
    #[serde(default)]
    paths: Option<Vec<String>>,
}

/// What is allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    kinds: Vec<ActionKind>,
    users: Option<Vec<String>>,
    source: String,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            kinds: ActionKind::ALL.to_vec(),
            users: None,
            source: "the default policy".into(),
        }
    }
}

impl Policy {
    /// Reads the file; the default policy when there is none and nobody has named one.
    ///
    /// # Errors
    /// [`AgentError::Config`] when it was named and is not there, cannot be read, is malformed, or could have been
    /// written by somebody else than the owner of the machine.
    pub fn read(file: &PolicyPath) -> Result<Self, AgentError> {
        let path = file.path();
        let wrong = |reason: String| {
            AgentError::Config(format!("policy file {}: {reason}", path.display()))
        };
        let opened = match std::fs::File::open(path) {
            Ok(opened) => opened,
            Err(error)
                if error.kind() == std::io::ErrorKind::NotFound
                    && matches!(file, PolicyPath::Usual) =>
            {
                return Ok(Self::default());
            }
            Err(error) => return Err(wrong(error.to_string())),
        };
        // The checks look at the opened file: what is checked is what is read.
        crate::platform::check_trusted(&opened, path).map_err(&wrong)?;
        let mut text = String::new();
        opened
            .take(POLICY_MAX_BYTES)
            .read_to_string(&mut text)
            .map_err(|error| wrong(error.to_string()))?;
        Self::parse(&text, &path.display().to_string()).map_err(wrong)
    }

    /// Reads a policy's text; `source` is where it comes from, for refusals.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str, source: &str) -> Result<Self, String> {
        let fields = object::read(text)?;
        // Absent means everything: whoever writes `null` may mean nothing.
        if let Some((field, _)) = fields.iter().find(|(_, value)| value.is_null()) {
            return Err(format!(
                "{field}: is null; leave it out to allow everything, or write a list"
            ));
        }
        for (field, value) in &fields {
            let list = value.as_array();
            let known = matches!(field.as_str(), "kinds" | "users" | "paths");
            let texts = list.is_some_and(|list| list.iter().all(Value::is_string));
            if known && !texts {
                return Err(format!("{field}: is not a list of texts, such as [\"…\"]"));
            }
        }
        let file: PolicyFile =
            serde_json::from_value(Value::Object(fields)).map_err(|error| error.to_string())?;
        let mut kinds = Vec::new();
        for name in file
            .kinds
            .unwrap_or_else(|| ActionKind::ALL.iter().map(ToString::to_string).collect())
        {
            match name.parse() {
                Ok(kind) => kinds.push(kind),
                // A list of what is allowed: what this agent does not know, it does not do anyway.
                Err(_) => tracing::warn!(
                    policy = source,
                    kind = name,
                    "the policy allows a kind that this agent does not know"
                ),
            }
        }
        for path in file.paths.iter().flatten() {
            if !Path::new(path).is_absolute() {
                return Err(format!("paths: `{path}` is not absolute"));
            }
        }
        Ok(Self {
            kinds,
            users: file.users,
            source: source.to_owned(),
        })
    }

    /// Why a kind is forbidden; `None` when it is allowed.
    #[must_use]
    pub fn denies(&self, kind: ActionKind) -> Option<String> {
        if self.kinds.contains(&kind) {
            return None;
        }
        Some(format!(
            "the rule `kinds` of {} does not allow `{kind}`",
            self.source
        ))
    }

    /// Whether this user's sessions may be shown something.
    #[must_use]
    pub fn allows_user(&self, user: &str) -> bool {
        self.users
            .as_ref()
            .is_none_or(|users| users.iter().any(|allowed| allowed == user))
    }

    /// Whether some users are left out, so that nothing may be shown to everybody at once.
    #[must_use]
    pub fn restricts_users(&self) -> bool {
        self.users.is_some()
    }
}
