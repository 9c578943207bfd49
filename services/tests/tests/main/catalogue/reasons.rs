//! What tables, policies and keys are held against, and what may be otherwise, each with its reason.

/// Schemas of the services that own data.
pub const SCHEMAS: [&str; 4] = ["identity", "action", "scheduler", "metrics"];

/// The condition of every tenant policy, as PostgreSQL prints it.
pub const TENANT: &str = "(org_id = ( SELECT (NULLIF(current_setting('df.org'::text, true), ''::text))::uuid AS \"nullif\"))";

/// Tables that belong to no organisation, and why that is right.
pub const NO_ORGANISATION: [(&str, &str); 13] = [
    ("identity.deployment", "one row: which installation this is"),
    (
        "identity.action_keys",
        "public keys, the same for everybody",
    ),
    (
        "identity.users",
        "a person can be a member of several; the tenant policy goes through memberships",
    ),
    (
        "identity.password_resets",
        "of a person, or of nobody; no tenant has any right on it",
    ),
    ("identity.login_failures", "likewise"),
    (
        "action.cursors",
        "how far a feed of all organisations was read",
    ),
    (
        "action.audit_turns",
        "when somebody last signed the audit of all organisations",
    ),
    (
        "identity.audit_signers",
        "public keys, the same for everybody",
    ),
    ("metrics.cursors", "likewise"),
    ("metrics.servers", "the bus' own servers"),
    (
        "scheduler.sessions",
        "a worker's life: it runs executions of all organisations",
    ),
    (
        "scheduler.dispatchers",
        "which replica offers a pool's executions, of all organisations",
    ),
    (
        "scheduler.ticks",
        "when somebody last did what is done for all organisations",
    ),
];

/// Unique and foreign keys that do not begin with the organisation, and why that is right.
pub const NO_PREFIX: [(&str, &str); 30] = [
    (
        "identity.outbox.outbox_pkey",
        "the order in which all rows leave",
    ),
    ("action.outbox.outbox_pkey", "likewise"),
    ("scheduler.outbox.outbox_pkey", "likewise"),
    ("metrics.outbox.outbox_pkey", "likewise"),
    ("identity.audit_outbox.audit_outbox_pkey", "likewise"),
    ("action.audit_outbox.audit_outbox_pkey", "likewise"),
    ("scheduler.audit_outbox.audit_outbox_pkey", "likewise"),
    ("metrics.audit_outbox.audit_outbox_pkey", "likewise"),
    (
        "identity.audit_signers.audit_signers_pkey",
        "no organisation",
    ),
    ("action.audit_turns.audit_turns_pkey", "no organisation"),
    ("identity.deployment.deployment_pkey", "no organisation"),
    ("identity.action_keys.action_keys_pkey", "no organisation"),
    (
        "identity.action_keys.action_keys_public_key_key",
        "no organisation",
    ),
    (
        "identity.users.users_pkey",
        "an id: a person can be in several organisations",
    ),
    (
        "identity.users.users_email_key",
        "whoever logs in has said no organisation yet",
    ),
    (
        "identity.memberships.memberships_user_id_fkey",
        "points to a person",
    ),
    (
        "identity.sessions.sessions_access_hash_key",
        "the hash of a credential that says no organisation",
    ),
    ("identity.sessions.sessions_refresh_hash_key", "likewise"),
    (
        "identity.sessions.sessions_previous_refresh_hash_key",
        "likewise",
    ),
    ("identity.sessions.sessions_family_hash_key", "likewise"),
    ("identity.api_keys.api_keys_hash_key", "likewise"),
    (
        "identity.enrollment_tokens.enrollment_tokens_hash_key",
        "likewise",
    ),
    ("identity.invitations.invitations_hash_key", "likewise"),
    (
        "identity.api_keys.api_keys_created_by_fkey",
        "points to a person",
    ),
    (
        "identity.machines.machines_public_key_key",
        "one key is one machine, everywhere and for ever",
    ),
    (
        "identity.machines.machines_change_key",
        "one order of all machines",
    ),
    ("action.cursors.cursors_pkey", "no organisation"),
    ("scheduler.sessions.sessions_pkey", "no organisation"),
    ("scheduler.dispatchers.dispatchers_pkey", "no organisation"),
    ("scheduler.ticks.ticks_pkey", "no organisation"),
];

/// Policies of the owner, whose functions see no more than what these say, and why they are there.
pub const RETENTION: [(&str, &str); 7] = [
    (
        "identity.audit_events.retention",
        "removes what is older than 90 days, by a function, from the front",
    ),
    (
        "identity.audit_heads.retention",
        "keeps where a chain begins since",
    ),
    (
        "identity.audit_countersigns.retention",
        "removes signatures of what was removed",
    ),
    (
        "action.audit_heads_signed.retention",
        "removes copies that are older than 90 days",
    ),
    (
        "scheduler.waiting.retention",
        "looks, before a day's executions are removed, whether one of them still waits",
    ),
    ("scheduler.running.retention", "likewise, whether one runs"),
    (
        "scheduler.ended.retention",
        "likewise, and whether one ended not so long ago",
    ),
];

/// What a tenant's transaction may not even select.
pub const SECRETS: [(&str, &str); 9] = [
    ("identity.users", "password_hash"),
    ("identity.sessions", "access_hash"),
    ("identity.sessions", "refresh_hash"),
    ("identity.sessions", "previous_refresh_hash"),
    ("identity.sessions", "family_hash"),
    ("identity.api_keys", "hash"),
    ("identity.enrollment_tokens", "hash"),
    ("identity.invitations", "hash"),
    ("identity.password_resets", "hash"),
];
