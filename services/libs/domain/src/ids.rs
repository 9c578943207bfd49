//! Typed identifiers: a machine's id cannot be passed where an organisation's is meant.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A text that is not a UUID in hyphenated or simple form.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a UUID")]
pub struct IdError(pub String);

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl $name {
            /// A new UUIDv7: ids made later sort later, which keeps index pages hot.
            #[must_use]
            #[allow(clippy::new_without_default)]
            pub fn new() -> Self {
                Self(Uuid::now_v7())
            }

            /// The form for bus subjects: 32 hexadecimal digits without hyphens.
            #[must_use]
            pub fn token(&self) -> String {
                self.0.simple().to_string()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.0.hyphenated())
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                let canonical = text.len() == 36 || text.len() == 32;
                match Uuid::try_parse(text) {
                    Ok(id) if canonical => Ok(Self(id)),
                    _ => Err(IdError(text.chars().take(64).collect())),
                }
            }
        }

        impl From<Uuid> for $name {
            fn from(id: Uuid) -> Self {
                Self(id)
            }
        }
    };
}

id!(
    /// An organisation: the tenant that owns machines, people and keys.
    OrgId
);
id!(
    /// A machine, from one enrolment to its revocation. Enrolled anew, it is a new machine.
    MachineId
);
id!(
    /// An action: something one machine is told to do once.
    ActionId
);
id!(
    /// A job: what is to be done, as often as it is asked for.
    JobId
);
id!(
    /// An execution of a job, from the request to its end, with all its attempts.
    ExecutionId
);
id!(
    /// A person.
    UserId
);
id!(
    /// A credential that can be revoked: a login session or an API key.
    CredentialId
);
id!(
    /// One installation of DashFleet; orders of one installation mean nothing to agents of another.
    DeploymentId
);
id!(
    /// One journal of one agent; a new journal means that the old memory is gone.
    JournalId
);
id!(
    /// One life of one agent process.
    SessionId
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_has_no_hyphens_and_parses_back() {
        let id = MachineId::new();
        assert_eq!(id.token().len(), 32);
        assert!(!id.token().contains('-'));
        assert_eq!(id.token().parse(), Ok(id));
        assert_eq!(id.to_string().parse(), Ok(id));
    }

    #[test]
    fn other_forms_are_refused() {
        for text in [
            "",
            "x",
            "{018f2f3e-0000-7000-8000-000000000000}",
            "urn:uuid:018f2f3e-0000-7000-8000-000000000000",
        ] {
            assert!(text.parse::<OrgId>().is_err(), "{text}");
        }
    }
}
