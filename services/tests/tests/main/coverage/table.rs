//! What each operation needs, and how it is asked for. Those that end something come last, in the order of what they end.

use serde_json::{Value, json};

use super::world::{PASSWORD, Things};

/// What somebody must have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// Nothing: it is how one begins.
    Nothing,
    /// Any credential of this API.
    Credential,
    /// A person's session.
    Session,
    /// This scope.
    Scope(&'static str),
    /// To be an administrator of the platform.
    Platform,
}

/// An operation.
#[derive(Clone, Copy)]
pub struct Operation {
    pub id: &'static str,
    pub needs: Needs,
    /// The body, from what is one's own and what is meant.
    pub body: Option<fn(&Things, &Things) -> Value>,
    /// A query that names things.
    pub query: Option<fn(&Things) -> String>,
    /// Whether body or query name things of an organisation.
    pub names_others: bool,
    /// What may come back when what is meant is another organisation's; empty where that is no wrong.
    pub foreign: &'static [u16],
    /// What may come back for whoever may.
    pub allowed: &'static [u16],
}

const fn operation(id: &'static str, needs: Needs) -> Operation {
    Operation {
        id,
        needs,
        body: None,
        query: None,
        names_others: false,
        foreign: &[404],
        allowed: &[200],
    }
}

impl Operation {
    const fn with(self, body: fn(&Things, &Things) -> Value) -> Self {
        Self {
            body: Some(body),
            ..self
        }
    }

    const fn naming(self, body: fn(&Things, &Things) -> Value) -> Self {
        Self {
            body: Some(body),
            names_others: true,
            ..self
        }
    }

    const fn asking(self, query: fn(&Things) -> String) -> Self {
        Self {
            query: Some(query),
            names_others: true,
            ..self
        }
    }

    const fn foreign(self, foreign: &'static [u16]) -> Self {
        Self { foreign, ..self }
    }

    const fn gives(self, allowed: &'static [u16]) -> Self {
        Self { allowed, ..self }
    }
}

use Needs::{Credential, Nothing, Platform, Scope, Session};

/// The table.
pub const TABLE: &[Operation] = &[
    operation("auth_login", Nothing),
    operation("auth_refresh", Nothing),
    operation("auth_password_forgot", Nothing),
    operation("auth_password_reset", Nothing),
    operation("auth_invitation_accept", Nothing),
    operation("agent_enroll_challenge", Nothing),
    operation("agent_enroll", Nothing),
    operation("agent_standing", Nothing),
    operation("status_get", Nothing),
    operation("jwks_get", Nothing),
    operation("auth_me", Credential),
    operation("auth_session_list", Session),
    operation("auth_switch", Session)
        .naming(|_, meant| json!({ "organizationId": meant.organization }))
        .foreign(&[403, 404]),
    operation("organization_list", Credential),
    operation("organization_get", Scope("organization:read")),
    operation("organization_edit", Scope("organization:write")).with(|_, _| json!({ "name": "ours" })),
    operation("organization_create", Platform)
        .with(|_, _| json!({ "name": "one more" }))
        .gives(&[201]),
    operation("user_list", Scope("members:read")),
    operation("user_get", Scope("members:read")),
    operation("user_edit", Scope("members:write")).with(|_, _| json!({ "role": "VIEWER" })),
    operation("user_password_reset", Scope("members:write")),
    operation("user_invite", Scope("members:write"))
        .with(|_, _| json!({ "email": "one.more@example.org", "role": "VIEWER" }))
        .gives(&[201]),
    operation("invitation_list", Scope("members:read")),
    operation("api_key_list", Scope("api-keys:read")),
    operation("api_key_get", Scope("api-keys:read")),
    operation("api_key_edit", Scope("api-keys:write")).with(|_, _| json!({ "name": "another" })),
    operation("api_key_create", Scope("api-keys:write"))
        .with(|_, _| json!({ "name": "one more", "role": "VIEWER" }))
        .gives(&[201]),
    operation("enrollment_token_list", Scope("enrollment-tokens:read")),
    operation("enrollment_token_get", Scope("enrollment-tokens:read")),
    operation("enrollment_token_create", Scope("enrollment-tokens:write"))
        .with(|_, _| json!({ "name": "one more" }))
        .gives(&[201]),
    operation("audit_event_list", Scope("audit-events:read")),
    operation("audit_event_verify", Scope("audit-events:read")),
    operation("audit_event_export", Scope("audit-events:read")),
    operation("machine_list", Scope("machines:read")),
    operation("machine_get", Scope("machines:read")),
    operation("machine_sample_list", Scope("machines:read")),
    operation("machine_presence_list", Scope("machines:read")),
    operation("machine_availability_get", Scope("machines:read")),
    operation("machine_edit", Scope("machines:write")).with(|_, _| json!({ "notes": "seen" })),
    operation("machine_label", Scope("machines:write"))
        .naming(|_, meant| json!({ "machineIds": [meant.machine], "labels": { "seen": "yes" } })),
    operation("machine_release", Scope("machines:write")).gives(&[204, 409]),
    operation("action_list", Scope("actions:read"))
        .asking(|meant| format!("?machineId={}", meant.machine))
        .foreign(&[200, 404]),
    operation("action_get", Scope("actions:read")),
    operation("action_create", Scope("actions:write"))
        .naming(|_, meant| json!({ "machineId": meant.machine, "kind": "ping", "payload": {} }))
        .gives(&[201]),
    operation("job_list", Scope("jobs:read")),
    operation("job_get", Scope("jobs:read")),
    operation("job_create", Scope("jobs:write"))
        .with(|_, _| json!({ "name": "one more", "handler": "builtin/noop" }))
        .gives(&[201]),
    operation("job_edit", Scope("jobs:write")).with(|_, _| json!({ "description": "seen" })),
    operation("job_pause", Scope("jobs:write")),
    operation("job_resume", Scope("jobs:write")),
    operation("job_disable", Scope("jobs:write")),
    operation("job_disable_put", Scope("jobs:write")),
    operation("job_enable", Scope("jobs:write")),
    operation("job_enable_put", Scope("jobs:write")),
    operation("job_execute", Scope("jobs:execute")).gives(&[202]),
    operation("execution_settings_get", Scope("jobs:read")),
    operation("execution_settings_edit", Scope("jobs:write")).with(|_, _| json!({ "paused": false })),
    operation("execution_batch", Scope("jobs:execute"))
        .naming(|_, meant| json!({ "items": [{ "jobId": meant.job }] }))
        .gives(&[202]),
    operation("execution_list", Scope("jobs:read"))
        .asking(|meant| format!("?jobId={}", meant.job))
        .foreign(&[200, 404]),
    operation("execution_get", Scope("jobs:read")),
    // What ends something.
    operation("execution_cancel", Scope("jobs:execute")).gives(&[200, 202]),
    // Of one that has ended: else it would go on.
    operation("execution_logs", Scope("jobs:read")),
    operation("execution_retry", Scope("jobs:execute")).gives(&[202]),
    // Of another organisation's job there is nothing here to be changed.
    operation("execution_cancel_many", Scope("jobs:execute"))
        .naming(|_, meant| json!({ "jobId": meant.job }))
        .foreign(&[200, 404]),
    operation("execution_retry_many", Scope("jobs:execute"))
        .naming(|_, meant| json!({ "jobId": meant.job }))
        .foreign(&[202, 404])
        .gives(&[202]),
    operation("job_delete", Scope("jobs:write")).gives(&[204]),
    operation("action_cancel", Scope("actions:write")).gives(&[200, 202]),
    operation("invitation_cancel", Scope("members:write")).gives(&[204]),
    operation("enrollment_token_revoke", Scope("enrollment-tokens:write")).gives(&[204]),
    operation("api_key_revoke", Scope("api-keys:write")).gives(&[204]),
    operation("machine_revoke", Scope("machines:write")).gives(&[204]),
    operation("auth_session_revoke", Session).gives(&[204]),
    operation("user_remove", Scope("members:write")).gives(&[204]),
    operation("auth_password_change", Session)
        .with(|_, _| json!({ "currentPassword": PASSWORD, "newPassword": "another one of many words" }))
        .gives(&[204]),
    operation("auth_logout", Session).gives(&[204]),
    // An administrator of the platform may close any.
    operation("organization_close", Platform).foreign(&[]),
];
