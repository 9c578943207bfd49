//! Roles and scopes. A scope is `resource:verb`; an empty set of scopes denies everything.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::action::ActionKind;

/// What a member of an organisation may do, as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Role {
    /// Reads.
    Viewer,
    /// Reads, and acts on machines.
    Operator,
    /// Also manages machines, keys and members.
    Admin,
    /// Also manages the organisation itself.
    Owner,
}

impl Role {
    /// All roles, the weakest first.
    pub const ALL: [Self; 4] = [Self::Viewer, Self::Operator, Self::Admin, Self::Owner];

    /// The name as it is stored and sent: `OWNER`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "VIEWER",
            Self::Operator => "OPERATOR",
            Self::Admin => "ADMIN",
            Self::Owner => "OWNER",
        }
    }

    /// The scopes that the role has, from the one table.
    #[must_use]
    pub fn scopes(self) -> Scopes {
        Scopes(
            SCOPES
                .iter()
                .filter(|(_, weakest)| *weakest <= self)
                .map(|(scope, _)| (*scope).to_owned())
                .collect(),
        )
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Role {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|role| role.as_str() == text)
            .ok_or_else(|| {
                format!("unknown role `{text}`; known are VIEWER, OPERATOR, ADMIN, OWNER")
            })
    }
}

/// Reads actions.
pub const ACTIONS_READ: &str = "actions:read";
/// Queues `ping` and `message`, and cancels.
pub const ACTIONS_WRITE: &str = "actions:write";
/// Reads machines and their samples.
pub const MACHINES_READ: &str = "machines:read";
/// Revokes and releases machines.
pub const MACHINES_WRITE: &str = "machines:write";
/// Sees enrolment tokens.
pub const ENROLLMENT_READ: &str = "enrollment-tokens:read";
/// Makes and revokes enrolment tokens.
pub const ENROLLMENT_WRITE: &str = "enrollment-tokens:write";
/// Sees the organisation.
pub const ORGANIZATION_READ: &str = "organization:read";
/// Changes the organisation itself.
pub const ORGANIZATION_WRITE: &str = "organization:write";
/// Sees who belongs to the organisation.
pub const MEMBERS_READ: &str = "members:read";
/// Invites and removes people, and says what they may do.
pub const MEMBERS_WRITE: &str = "members:write";
/// Sees API keys.
pub const API_KEYS_READ: &str = "api-keys:read";
/// Makes and revokes API keys.
pub const API_KEYS_WRITE: &str = "api-keys:write";
/// Reads the audit.
pub const AUDIT_READ: &str = "audit-events:read";
/// Reads jobs, their executions and their logs.
pub const JOBS_READ: &str = "jobs:read";
/// Executes jobs, cancels executions and begins them again.
pub const JOBS_EXECUTE: &str = "jobs:execute";
/// Makes, changes and removes jobs, and says how many run at once.
pub const JOBS_WRITE: &str = "jobs:write";
/// Installs and configures modules: their code runs here.
pub const MODULES_WRITE: &str = "modules:write";

/// Makes and closes organisations. No role has it: it is a platform administrator's, in every organisation that the
/// person is a member of.
pub const PLATFORM_ADMIN: &str = "platform:admin";
/// What no grant of an API key has, whatever its role: a program that was stolen must not be able to stay.
pub const PEOPLE_ONLY: [&str; 4] = [
    API_KEYS_WRITE,
    MEMBERS_WRITE,
    ORGANIZATION_WRITE,
    PLATFORM_ADMIN,
];

/// Reports as an agent of Dash-Fleet over HTTP. No role has it: it is a legacy key's.
pub const LEGACY_AGENT: &str = "legacy:agent";
/// Queues and lists as an operator's script of Dash-Fleet. No role has it: it is a legacy key's.
pub const LEGACY_OPERATOR: &str = "legacy:operator";
/// All that a legacy key can have, and nobody else.
pub const LEGACY_SCOPES: [&str; 2] = [LEGACY_AGENT, LEGACY_OPERATOR];

/// Every scope that roles have, with the weakest role that has it.
pub const SCOPES: &[(&str, Role)] = &[
    (ACTIONS_READ, Role::Viewer),
    (MACHINES_READ, Role::Viewer),
    (ORGANIZATION_READ, Role::Viewer),
    (JOBS_READ, Role::Viewer),
    (ACTIONS_WRITE, Role::Operator),
    ("actions:restart", Role::Operator),
    ("actions:reboot", Role::Operator),
    (MEMBERS_READ, Role::Operator),
    (JOBS_EXECUTE, Role::Operator),
    (MACHINES_WRITE, Role::Admin),
    (ENROLLMENT_READ, Role::Admin),
    (ENROLLMENT_WRITE, Role::Admin),
    (MEMBERS_WRITE, Role::Admin),
    (API_KEYS_READ, Role::Admin),
    (API_KEYS_WRITE, Role::Admin),
    (AUDIT_READ, Role::Admin),
    (JOBS_WRITE, Role::Admin),
    (MODULES_WRITE, Role::Admin),
    (ORGANIZATION_WRITE, Role::Owner),
];

/// The scope that queueing an action of this kind needs.
#[must_use]
pub fn action_scope(kind: ActionKind) -> &'static str {
    match kind {
        ActionKind::Ping | ActionKind::Message => ACTIONS_WRITE,
        ActionKind::Restart => "actions:restart",
        ActionKind::Reboot => "actions:reboot",
    }
}

/// A set of scopes. It allows what it names and nothing else.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Scopes(BTreeSet<String>);

impl Scopes {
    /// The scopes of the table among `names`.
    ///
    /// # Errors
    /// The first name that the table does not have.
    pub fn from_names<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Self, String> {
        let mut set = BTreeSet::new();
        for name in names {
            if !SCOPES.iter().any(|(scope, _)| *scope == name) {
                return Err(format!("unknown scope `{name}`"));
            }
            set.insert(name.to_owned());
        }
        Ok(Self(set))
    }

    /// The scopes of a legacy key among `names`: it has none of a role's.
    ///
    /// # Errors
    /// The first name that no legacy key has.
    pub fn of_legacy_key<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Self, String> {
        let mut set = BTreeSet::new();
        for name in names {
            if !LEGACY_SCOPES.contains(&name) {
                return Err(format!("a legacy key cannot have the scope `{name}`"));
            }
            set.insert(name.to_owned());
        }
        Ok(Self(set))
    }

    /// Whether the set names this scope.
    #[must_use]
    pub fn allows(&self, scope: &str) -> bool {
        self.0.contains(scope)
    }

    /// Those that both sets have: what a key gets is never more than its creator has.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        Self(self.0.intersection(&other.0).cloned().collect())
    }

    /// The set without what is for people only: what a key's grant can have of it.
    #[must_use]
    pub fn without_people_only(mut self) -> Self {
        self.0
            .retain(|scope| !PEOPLE_ONLY.contains(&scope.as_str()));
        self
    }

    /// The set of a platform administrator's session.
    #[must_use]
    pub fn with_platform_admin(mut self) -> Self {
        self.0.insert(PLATFORM_ADMIN.to_owned());
        self
    }

    /// The names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_empty_scope_denies() {
        for (scope, _) in SCOPES {
            assert!(!Scopes::default().allows(scope));
        }
    }

    #[test]
    fn a_stronger_role_has_all_of_a_weaker_one() {
        for pair in Role::ALL.windows(2) {
            if let [weak, strong] = pair {
                assert_eq!(weak.scopes().intersection(&strong.scopes()), weak.scopes());
            }
        }
    }

    #[test]
    fn no_role_has_a_legacy_keys_scopes_and_no_legacy_key_a_roles() {
        for scope in LEGACY_SCOPES {
            assert!(!Role::Owner.scopes().allows(scope), "{scope}");
            assert!(Scopes::from_names([scope]).is_err(), "{scope}");
            assert!(Scopes::of_legacy_key([scope]).is_ok_and(|scopes| scopes.allows(scope)));
        }
        assert!(Scopes::of_legacy_key([MACHINES_READ]).is_err());
    }

    /// The whole matrix, written out: V viewer, O operator, A admin, W owner; `-` has it not. What changes here changes
    /// what people may do.
    #[test]
    fn roles_have_exactly_these_scopes() {
        let matrix = [
            ("actions:read", "VOAW"),
            ("machines:read", "VOAW"),
            ("organization:read", "VOAW"),
            ("jobs:read", "VOAW"),
            ("actions:write", "-OAW"),
            ("actions:restart", "-OAW"),
            ("actions:reboot", "-OAW"),
            ("members:read", "-OAW"),
            ("jobs:execute", "-OAW"),
            ("machines:write", "--AW"),
            ("enrollment-tokens:read", "--AW"),
            ("enrollment-tokens:write", "--AW"),
            ("members:write", "--AW"),
            ("api-keys:read", "--AW"),
            ("api-keys:write", "--AW"),
            ("audit-events:read", "--AW"),
            ("jobs:write", "--AW"),
            ("modules:write", "--AW"),
            ("organization:write", "---W"),
            ("platform:admin", "----"),
            ("legacy:agent", "----"),
            ("legacy:operator", "----"),
        ];
        let named: BTreeSet<&str> = matrix.iter().map(|(scope, _)| *scope).collect();
        for (scope, _) in SCOPES {
            assert!(named.contains(scope), "{scope} is not in the matrix");
        }
        for (scope, who) in matrix {
            for (role, mark) in Role::ALL.into_iter().zip(who.chars()) {
                assert_eq!(role.scopes().allows(scope), mark != '-', "{role} {scope}");
            }
        }
    }

    #[test]
    fn no_key_has_what_is_for_people_only() {
        for role in Role::ALL {
            let scopes = role.scopes().with_platform_admin().without_people_only();
            for scope in PEOPLE_ONLY {
                assert!(!scopes.allows(scope), "{role} {scope}");
            }
            let left = role
                .scopes()
                .names()
                .filter(|name| !PEOPLE_ONLY.contains(name))
                .count();
            assert_eq!(
                scopes.names().count(),
                left,
                "{role}: and nothing else is taken"
            );
        }
        assert!(
            Scopes::from_names([PLATFORM_ADMIN]).is_err(),
            "no key can ask for it"
        );
    }

    #[test]
    fn each_kind_has_a_scope_of_the_table() {
        for kind in ActionKind::ALL {
            assert!(Role::Owner.scopes().allows(action_scope(kind)), "{kind}");
        }
        assert!(!Role::Viewer.scopes().allows(ACTIONS_WRITE));
    }
}
