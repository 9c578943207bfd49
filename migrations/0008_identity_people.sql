-- People: platform administrators, invitations, resets of passwords, and what is known of credentials besides.
--
-- Unique keys that do not begin with org_id are hashes of secrets, as in 0002. Tables without an organisation, and
-- why: a reset of a password and failed logins are of a person, who can be in several organisations or in none; only
-- the system's role has any right on them.

-- Versions of events about people, keys and organisations: taken under the lock of the thing's row, so that of one
-- thing they grow in the order of commits.
CREATE SEQUENCE identity.event_version AS bigint;
GRANT USAGE ON SEQUENCE identity.event_version TO df_identity, df_identity_system;

ALTER TABLE identity.users
    ADD COLUMN platform_admin boolean NOT NULL DEFAULT false,
    ADD COLUMN password_changed_at timestamptz,
    ADD COLUMN disabled_at timestamptz,
    ADD CONSTRAINT users_name_check CHECK (char_length(name) BETWEEN 1 AND 254);
GRANT UPDATE (platform_admin, password_hash, password_changed_at) ON identity.users TO df_identity_system;

ALTER TABLE identity.organizations ADD COLUMN closed_at timestamptz;
GRANT UPDATE (name, legacy_enabled, closed_at) ON identity.organizations TO df_identity;

GRANT UPDATE (role), DELETE ON identity.memberships TO df_identity;
-- It changes none: without this right a row cannot be held while a link for a new password is judged.
GRANT UPDATE (role) ON identity.memberships TO df_identity_system;

-- Who is invited. One invitation for an address: inviting again replaces it. It is gone when it was accepted.
-- `hash`: of the link's secret. `mail_due_at`: when a mail is to be sent, or tried again; absent when nothing is to be
-- sent. The secret of a mailed link is made when it is mailed, so it stands nowhere but in the mail.
CREATE TABLE identity.invitations (
    org_id uuid NOT NULL,
    id uuid NOT NULL,
    email text NOT NULL,
    role text NOT NULL,
    hash bytea NOT NULL,
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    created_by uuid NOT NULL,
    mail_due_at timestamptz,
    mail_tries smallint NOT NULL DEFAULT 0,
    CONSTRAINT invitations_pkey PRIMARY KEY (org_id, id),
    CONSTRAINT invitations_email_key UNIQUE (org_id, email),
    CONSTRAINT invitations_org_id_fkey FOREIGN KEY (org_id) REFERENCES identity.organizations (org_id),
    CONSTRAINT invitations_hash_key UNIQUE (hash),
    CONSTRAINT invitations_hash_check CHECK (octet_length(hash) = 32),
    CONSTRAINT invitations_email_check CHECK (email = lower(email) AND char_length(email) BETWEEN 3 AND 254),
    CONSTRAINT invitations_role_check CHECK (role IN ('VIEWER', 'OPERATOR', 'ADMIN', 'OWNER'))
);
CREATE INDEX invitations_mail_due_at_idx ON identity.invitations (mail_due_at) WHERE mail_due_at IS NOT NULL;
CREATE INDEX invitations_expires_at_idx ON identity.invitations (expires_at);
ALTER TABLE identity.invitations ENABLE ROW LEVEL SECURITY;
ALTER TABLE identity.invitations FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON identity.invitations TO df_identity
    USING (org_id = (SELECT nullif(current_setting('df.org', true), '')::uuid));
CREATE POLICY system ON identity.invitations TO df_identity_system USING (true);
GRANT SELECT (org_id, id, email, role, created_at, expires_at, created_by, mail_due_at), INSERT, DELETE,
    UPDATE (role, hash, created_at, expires_at, created_by, mail_due_at, mail_tries) ON identity.invitations TO df_identity;
GRANT SELECT, UPDATE, DELETE ON identity.invitations TO df_identity_system;

-- Links to set a new password. Asked for by somebody who forgot it, the row is made whether or not there is such a
-- person: so both take the same time. `created_by` is the administrator who made it for somebody, then it is not
-- counted among those that strangers asked for. `made_in`: the organisation where that administrator had the right to;
-- absent for whoever forgot a password, and for the command. `shown`: to the administrator, instead of being mailed.
-- `standing`: a hash of what the person was then, everywhere: the link is worth nothing for somebody who is more since.
CREATE TABLE identity.password_resets (
    id uuid NOT NULL,
    email text NOT NULL,
    hash bytea NOT NULL,
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    created_by uuid,
    made_in uuid,
    shown boolean NOT NULL DEFAULT false,
    standing bytea,
    mail_due_at timestamptz,
    mail_tries smallint NOT NULL DEFAULT 0,
    CONSTRAINT password_resets_pkey PRIMARY KEY (id),
    CONSTRAINT password_resets_hash_key UNIQUE (hash),
    CONSTRAINT password_resets_hash_check CHECK (octet_length(hash) = 32),
    CONSTRAINT password_resets_made_in_check CHECK (made_in IS NULL OR created_by IS NOT NULL),
    CONSTRAINT password_resets_email_check CHECK (char_length(email) BETWEEN 1 AND 254)
);
CREATE INDEX password_resets_email_idx ON identity.password_resets (email);
CREATE INDEX password_resets_mail_due_at_idx ON identity.password_resets (mail_due_at) WHERE mail_due_at IS NOT NULL;
CREATE INDEX password_resets_expires_at_idx ON identity.password_resets (expires_at);
ALTER TABLE identity.password_resets ENABLE ROW LEVEL SECURITY;
ALTER TABLE identity.password_resets FORCE ROW LEVEL SECURITY;
CREATE POLICY system ON identity.password_resets TO df_identity_system USING (true);
GRANT SELECT, INSERT, UPDATE, DELETE ON identity.password_resets TO df_identity_system;

-- Failed logins, by the hash of address and account: a bucket that leaks, which all replicas share. An attempt counts
-- while it is under way, and then if it failed; a row is removed when it is empty again.
CREATE TABLE identity.login_failures (
    who bytea NOT NULL,
    level double precision NOT NULL,
    at timestamptz NOT NULL,
    CONSTRAINT login_failures_pkey PRIMARY KEY (who)
);
CREATE INDEX login_failures_at_idx ON identity.login_failures (at);
ALTER TABLE identity.login_failures ENABLE ROW LEVEL SECURITY;
ALTER TABLE identity.login_failures FORCE ROW LEVEL SECURITY;
CREATE POLICY system ON identity.login_failures TO df_identity_system USING (true);
GRANT SELECT, INSERT, UPDATE, DELETE ON identity.login_failures TO df_identity_system;

-- `family_hash`: of what all refresh tokens of a session end with, so that each that was ever given is known again.
ALTER TABLE identity.sessions
    ADD COLUMN address text,
    ADD COLUMN user_agent text,
    ADD COLUMN last_used_at timestamptz,
    ADD COLUMN family_hash bytea NOT NULL,
    ADD CONSTRAINT sessions_family_hash_key UNIQUE (family_hash),
    ADD CONSTRAINT sessions_family_hash_check CHECK (octet_length(family_hash) = 32);
CREATE INDEX sessions_person_idx ON identity.sessions (user_id, id);
GRANT SELECT (last_used_at), DELETE ON identity.sessions TO df_identity;
GRANT INSERT ON identity.sessions TO df_identity_system;

-- A key never has more than its creator has now; absent only for the bootstrap job's.
ALTER TABLE identity.api_keys
    ADD COLUMN created_by uuid,
    ADD CONSTRAINT api_keys_created_by_fkey FOREIGN KEY (created_by) REFERENCES identity.users (id),
    DROP CONSTRAINT api_keys_legacy_check,
    ADD CONSTRAINT api_keys_legacy_check CHECK (CASE kind
        WHEN 'LEGACY' THEN machine_cap IS NOT NULL AND scopes IS NOT NULL AND scopes <@ ARRAY['legacy:agent', 'legacy:operator']
        ELSE machine_cap IS NULL END);
CREATE INDEX api_keys_created_by_idx ON identity.api_keys (org_id, created_by) WHERE revoked_at IS NULL;
GRANT SELECT (created_by), INSERT, UPDATE (name, revoked_at) ON identity.api_keys TO df_identity;

-- `uses` is how often a token could be used when it was made; `hour_…` counts the uses of an hour that began with the
-- first of them.
ALTER TABLE identity.enrollment_tokens
    ADD COLUMN labels jsonb NOT NULL DEFAULT '{}',
    ADD COLUMN uses integer NOT NULL DEFAULT 1,
    ADD COLUMN hourly_cap integer,
    ADD COLUMN hour_at timestamptz,
    ADD COLUMN hour_uses integer NOT NULL DEFAULT 0,
    ADD COLUMN created_by uuid,
    ADD CONSTRAINT enrollment_tokens_labels_check CHECK (jsonb_typeof(labels) = 'object'),
    ADD CONSTRAINT enrollment_tokens_uses_check CHECK (uses > 0),
    ADD CONSTRAINT enrollment_tokens_hourly_cap_check CHECK (hourly_cap > 0);
GRANT SELECT (labels, uses, hourly_cap, created_by), INSERT, UPDATE (revoked_at) ON identity.enrollment_tokens TO df_identity;
GRANT UPDATE (hour_at, hour_uses, uses) ON identity.enrollment_tokens TO df_identity_system;

-- `Idempotency-Key`s of the last 24 hours, and what each made. What it made has a secret that follows from the key's
-- text, so it can be given again and stands nowhere.
CREATE TABLE identity.idempotency_keys (
    org_id uuid NOT NULL,
    route text NOT NULL,
    key text NOT NULL,
    body_hash bytea NOT NULL,
    made uuid NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT idempotency_keys_pkey PRIMARY KEY (org_id, route, key)
);
CREATE INDEX idempotency_keys_created_at_idx ON identity.idempotency_keys (created_at);
ALTER TABLE identity.idempotency_keys ENABLE ROW LEVEL SECURITY;
ALTER TABLE identity.idempotency_keys FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON identity.idempotency_keys TO df_identity
    USING (org_id = (SELECT nullif(current_setting('df.org', true), '')::uuid));
CREATE POLICY system ON identity.idempotency_keys TO df_identity_system USING (true);
GRANT SELECT, INSERT ON identity.idempotency_keys TO df_identity;
GRANT SELECT, INSERT, DELETE ON identity.idempotency_keys TO df_identity_system;
