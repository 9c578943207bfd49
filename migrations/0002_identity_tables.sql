-- identity: the installation, organisations, people, credentials, machines.
--
-- Unique keys that do not begin with org_id, and why: ids (UUIDv7, made once), e-mail addresses (a person logs in
-- before any organisation is known), credential hashes (likewise), machine public keys (one key is one machine,
-- everywhere and for ever), machine change numbers (one order of all machines). None of them tells a tenant
-- anything: it can neither choose nor read another's.
--
-- Secrets are stored as SHA-256 (they are random, so a slow hash would add nothing), passwords as Argon2id.

-- The installation. Orders of one installation mean nothing to agents of another.
CREATE TABLE identity.deployment (
    singleton boolean NOT NULL DEFAULT true,
    id uuid NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT deployment_pkey PRIMARY KEY (singleton),
    CONSTRAINT deployment_one_row CHECK (singleton)
);
ALTER TABLE identity.deployment ENABLE ROW LEVEL SECURITY;
ALTER TABLE identity.deployment FORCE ROW LEVEL SECURITY;
CREATE POLICY system ON identity.deployment TO df_identity_system USING (true);
GRANT SELECT, INSERT ON identity.deployment TO df_identity_system;

-- The public keys whose orders agents obey, as `action` last said; the first signs.
CREATE TABLE identity.action_keys (
    place smallint NOT NULL,
    public_key text NOT NULL,
    put_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT action_keys_pkey PRIMARY KEY (place),
    CONSTRAINT action_keys_place_check CHECK (place >= 0),
    CONSTRAINT action_keys_public_key_key UNIQUE (public_key)
);
ALTER TABLE identity.action_keys ENABLE ROW LEVEL SECURITY;
ALTER TABLE identity.action_keys FORCE ROW LEVEL SECURITY;
CREATE POLICY system ON identity.action_keys TO df_identity_system USING (true);
GRANT SELECT, INSERT, DELETE ON identity.action_keys TO df_identity_system;

CREATE TABLE identity.organizations (
    org_id uuid NOT NULL,
    name text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT organizations_pkey PRIMARY KEY (org_id),
    CONSTRAINT organizations_name_check CHECK (char_length(name) BETWEEN 1 AND 200)
);
ALTER TABLE identity.organizations ENABLE ROW LEVEL SECURITY;
ALTER TABLE identity.organizations FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON identity.organizations TO df_identity
    USING (org_id = (SELECT nullif(current_setting('df.org', true), '')::uuid));
CREATE POLICY system ON identity.organizations TO df_identity_system USING (true);
GRANT SELECT ON identity.organizations TO df_identity;
GRANT SELECT, INSERT ON identity.organizations TO df_identity_system;

-- People. One person can be a member of several organisations, so this is no tenant table: a tenant sees its
-- members (policy below, which reads memberships under the same setting), and never a password hash (grants).
CREATE TABLE identity.users (
    id uuid NOT NULL,
    email text NOT NULL,
    name text NOT NULL,
    password_hash text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT users_pkey PRIMARY KEY (id),
    CONSTRAINT users_email_key UNIQUE (email),
    CONSTRAINT users_email_check CHECK (email = lower(email) AND char_length(email) BETWEEN 3 AND 254)
);

CREATE TABLE identity.memberships (
    org_id uuid NOT NULL,
    user_id uuid NOT NULL,
    role text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT memberships_pkey PRIMARY KEY (org_id, user_id),
    CONSTRAINT memberships_org_id_fkey FOREIGN KEY (org_id) REFERENCES identity.organizations (org_id),
    CONSTRAINT memberships_user_id_fkey FOREIGN KEY (user_id) REFERENCES identity.users (id),
    CONSTRAINT memberships_role_check CHECK (role IN ('VIEWER', 'OPERATOR', 'ADMIN', 'OWNER'))
);
CREATE INDEX memberships_user_id_idx ON identity.memberships (user_id);
ALTER TABLE identity.memberships ENABLE ROW LEVEL SECURITY;
ALTER TABLE identity.memberships FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON identity.memberships TO df_identity
    USING (org_id = (SELECT nullif(current_setting('df.org', true), '')::uuid));
CREATE POLICY system ON identity.memberships TO df_identity_system USING (true);
GRANT SELECT ON identity.memberships TO df_identity;
GRANT SELECT, INSERT ON identity.memberships TO df_identity_system;

ALTER TABLE identity.users ENABLE ROW LEVEL SECURITY;
ALTER TABLE identity.users FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON identity.users TO df_identity
    USING (EXISTS (
        SELECT 1 FROM identity.memberships AS m
        WHERE m.org_id = (SELECT nullif(current_setting('df.org', true), '')::uuid) AND m.user_id = users.id
    ));
CREATE POLICY system ON identity.users TO df_identity_system USING (true);
GRANT SELECT (id, email, name, created_at) ON identity.users TO df_identity;
GRANT SELECT, INSERT ON identity.users TO df_identity_system;

-- Logins. A refresh replaces both tokens; the refresh token before the last is kept to notice that it was copied, and
-- when it was replaced: until soon after, whoever shows it may have lost the answer.
CREATE TABLE identity.sessions (
    org_id uuid NOT NULL,
    id uuid NOT NULL,
    user_id uuid NOT NULL,
    access_hash bytea NOT NULL,
    access_expires_at timestamptz NOT NULL,
    refresh_hash bytea NOT NULL,
    previous_refresh_hash bytea,
    refresh_expires_at timestamptz NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    rotated_at timestamptz,
    revoked_at timestamptz,
    CONSTRAINT sessions_pkey PRIMARY KEY (org_id, id),
    CONSTRAINT sessions_membership_fkey FOREIGN KEY (org_id, user_id) REFERENCES identity.memberships (org_id, user_id),
    CONSTRAINT sessions_access_hash_key UNIQUE (access_hash),
    CONSTRAINT sessions_refresh_hash_key UNIQUE (refresh_hash),
    CONSTRAINT sessions_previous_refresh_hash_key UNIQUE (previous_refresh_hash),
    CONSTRAINT sessions_hash_check CHECK (octet_length(access_hash) = 32 AND octet_length(refresh_hash) = 32)
);
CREATE INDEX sessions_user_idx ON identity.sessions (org_id, user_id);
CREATE INDEX sessions_refresh_expires_at_idx ON identity.sessions (refresh_expires_at);
ALTER TABLE identity.sessions ENABLE ROW LEVEL SECURITY;
ALTER TABLE identity.sessions FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON identity.sessions TO df_identity
    USING (org_id = (SELECT nullif(current_setting('df.org', true), '')::uuid));
CREATE POLICY system ON identity.sessions TO df_identity_system USING (true);
GRANT SELECT (org_id, id, user_id, created_at, refresh_expires_at, revoked_at) ON identity.sessions TO df_identity;
GRANT INSERT, UPDATE (revoked_at) ON identity.sessions TO df_identity;
GRANT SELECT, UPDATE, DELETE ON identity.sessions TO df_identity_system;

-- Keys of programs. `scopes` narrows the role: absent means all of the role, now and later; empty denies everything.
CREATE TABLE identity.api_keys (
    org_id uuid NOT NULL,
    id uuid NOT NULL,
    name text NOT NULL,
    hash bytea NOT NULL,
    role text NOT NULL,
    scopes text[],
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz,
    revoked_at timestamptz,
    last_used_at timestamptz,
    CONSTRAINT api_keys_pkey PRIMARY KEY (org_id, id),
    CONSTRAINT api_keys_org_id_fkey FOREIGN KEY (org_id) REFERENCES identity.organizations (org_id),
    CONSTRAINT api_keys_hash_key UNIQUE (hash),
    CONSTRAINT api_keys_hash_check CHECK (octet_length(hash) = 32),
    CONSTRAINT api_keys_role_check CHECK (role IN ('VIEWER', 'OPERATOR', 'ADMIN', 'OWNER'))
);
ALTER TABLE identity.api_keys ENABLE ROW LEVEL SECURITY;
ALTER TABLE identity.api_keys FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON identity.api_keys TO df_identity
    USING (org_id = (SELECT nullif(current_setting('df.org', true), '')::uuid));
CREATE POLICY system ON identity.api_keys TO df_identity_system USING (true);
GRANT SELECT (org_id, id, name, role, scopes, created_at, expires_at, revoked_at, last_used_at) ON identity.api_keys TO df_identity;
GRANT SELECT, INSERT, UPDATE (last_used_at) ON identity.api_keys TO df_identity_system;

-- What a machine shows to become one of the organisation's.
CREATE TABLE identity.enrollment_tokens (
    org_id uuid NOT NULL,
    id uuid NOT NULL,
    name text NOT NULL,
    hash bytea NOT NULL,
    expires_at timestamptz NOT NULL,
    uses_left integer NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    revoked_at timestamptz,
    CONSTRAINT enrollment_tokens_pkey PRIMARY KEY (org_id, id),
    CONSTRAINT enrollment_tokens_org_id_fkey FOREIGN KEY (org_id) REFERENCES identity.organizations (org_id),
    CONSTRAINT enrollment_tokens_hash_key UNIQUE (hash),
    CONSTRAINT enrollment_tokens_hash_check CHECK (octet_length(hash) = 32),
    CONSTRAINT enrollment_tokens_uses_left_check CHECK (uses_left >= 0)
);
ALTER TABLE identity.enrollment_tokens ENABLE ROW LEVEL SECURITY;
ALTER TABLE identity.enrollment_tokens FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON identity.enrollment_tokens TO df_identity
    USING (org_id = (SELECT nullif(current_setting('df.org', true), '')::uuid));
CREATE POLICY system ON identity.enrollment_tokens TO df_identity_system USING (true);
GRANT SELECT (org_id, id, name, expires_at, uses_left, created_at, revoked_at) ON identity.enrollment_tokens TO df_identity;
GRANT SELECT, INSERT, UPDATE (expires_at, uses_left) ON identity.enrollment_tokens TO df_identity_system;

-- Machines. `change` comes from the sequence below, taken under an advisory lock that is held until the commit, so
-- that the order of change numbers is the order of commits: a reader that saw n has seen all below n.
CREATE SEQUENCE identity.machine_change AS bigint;
GRANT USAGE ON SEQUENCE identity.machine_change TO df_identity, df_identity_system;

CREATE TABLE identity.machines (
    org_id uuid NOT NULL,
    id uuid NOT NULL,
    hostname text NOT NULL,
    public_key text NOT NULL,
    labels jsonb NOT NULL,
    inventory jsonb NOT NULL,
    token_id uuid NOT NULL,
    enrolled_at timestamptz NOT NULL,
    revoked_at timestamptz,
    quarantined_at timestamptz,
    quarantine_reason text,
    releases integer NOT NULL DEFAULT 0,
    change bigint NOT NULL,
    CONSTRAINT machines_pkey PRIMARY KEY (org_id, id),
    CONSTRAINT machines_org_id_fkey FOREIGN KEY (org_id) REFERENCES identity.organizations (org_id),
    CONSTRAINT machines_token_fkey FOREIGN KEY (org_id, token_id) REFERENCES identity.enrollment_tokens (org_id, id),
    CONSTRAINT machines_public_key_key UNIQUE (public_key),
    CONSTRAINT machines_change_key UNIQUE (change),
    CONSTRAINT machines_hostname_check CHECK (char_length(hostname) BETWEEN 1 AND 253)
);
ALTER TABLE identity.machines ENABLE ROW LEVEL SECURITY;
ALTER TABLE identity.machines FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON identity.machines TO df_identity
    USING (org_id = (SELECT nullif(current_setting('df.org', true), '')::uuid));
CREATE POLICY system ON identity.machines TO df_identity_system USING (true);
GRANT SELECT, UPDATE (revoked_at, quarantined_at, quarantine_reason, releases, change) ON identity.machines TO df_identity;
GRANT SELECT, INSERT ON identity.machines TO df_identity_system;
