-- Agents of Dash-Fleet, which speak HTTP: keys of their own kind, and machines that have no key of their own. What
-- such a machine is known by is its name, and that each report comes with the same key from the same block of
-- addresses; a change of either quarantines it.

-- Off until somebody enables it: these machines prove less than others.
ALTER TABLE identity.organizations ADD COLUMN legacy_enabled boolean NOT NULL DEFAULT false;
GRANT UPDATE (legacy_enabled) ON identity.organizations TO df_identity_system;

-- `networks`: where a legacy key is taken from, such as `10.0.0.0/8`; absent: from everywhere. `machine_cap`: how many
-- machines may be bound to it.
ALTER TABLE identity.api_keys
    ADD COLUMN kind text NOT NULL DEFAULT 'API',
    ADD COLUMN networks text[],
    ADD COLUMN machine_cap integer,
    ADD CONSTRAINT api_keys_kind_check CHECK (kind IN ('API', 'LEGACY')),
    ADD CONSTRAINT api_keys_legacy_check CHECK (CASE kind
        WHEN 'LEGACY' THEN machine_cap IS NOT NULL AND scopes IS NOT NULL AND scopes <@ ARRAY['legacy:agent', 'legacy:operator']
        ELSE machine_cap IS NULL AND networks IS NULL END),
    ADD CONSTRAINT api_keys_machine_cap_check CHECK (machine_cap > 0);
GRANT SELECT (kind, networks, machine_cap) ON identity.api_keys TO df_identity;

-- A machine over HTTP has a name instead of a public key and a token. `bound_…` is what it is known by, `wanted_…` what
-- quarantined it: a release binds it to that.
ALTER TABLE identity.machines
    ALTER COLUMN public_key DROP NOT NULL,
    ALTER COLUMN token_id DROP NOT NULL,
    ADD COLUMN transport text NOT NULL DEFAULT 'NATS',
    ADD COLUMN http_name text,
    ADD COLUMN bound_key uuid,
    ADD COLUMN bound_block text,
    ADD COLUMN wanted_key uuid,
    ADD COLUMN wanted_block text,
    ADD CONSTRAINT machines_transport_check CHECK (CASE transport
        WHEN 'NATS' THEN public_key IS NOT NULL AND token_id IS NOT NULL AND http_name IS NULL AND bound_key IS NULL
            AND bound_block IS NULL
        WHEN 'HTTP' THEN public_key IS NULL AND token_id IS NULL AND http_name IS NOT NULL AND bound_key IS NOT NULL
            AND bound_block IS NOT NULL
        ELSE false END),
    ADD CONSTRAINT machines_http_name_key UNIQUE (org_id, http_name),
    ADD CONSTRAINT machines_bound_key_fkey FOREIGN KEY (org_id, bound_key) REFERENCES identity.api_keys (org_id, id);
CREATE INDEX machines_of_key ON identity.machines (org_id, bound_key) WHERE bound_key IS NOT NULL AND revoked_at IS NULL;
-- Without the public key: what a tenant's transaction makes is a machine over HTTP or nothing.
GRANT INSERT (org_id, id, hostname, labels, inventory, enrolled_at, transport, http_name, bound_key, bound_block, change)
    ON identity.machines TO df_identity;
GRANT UPDATE (bound_key, bound_block, wanted_key, wanted_block) ON identity.machines TO df_identity;

-- The mirrors of it. Presence of these machines is by time: `offline_due_at` moves with each report.
ALTER TABLE metrics.machines
    ADD COLUMN transport text NOT NULL DEFAULT 'NATS',
    ADD COLUMN http_name text,
    ADD COLUMN bound_key uuid,
    ADD COLUMN bound_block text,
    ADD CONSTRAINT machines_transport_check CHECK (transport IN ('NATS', 'HTTP')),
    ADD CONSTRAINT machines_http_name_key UNIQUE (org_id, http_name);

-- The latest report of each machine over HTTP, as it said it: a sample does not have all of its words.
CREATE TABLE metrics.legacy_reports (
    org_id uuid NOT NULL,
    machine_id uuid NOT NULL,
    at timestamptz NOT NULL,
    client text NOT NULL,
    report jsonb NOT NULL,
    CONSTRAINT legacy_reports_pkey PRIMARY KEY (org_id, machine_id),
    CONSTRAINT legacy_reports_machine FOREIGN KEY (org_id, machine_id) REFERENCES metrics.machines (org_id, id)
) WITH (fillfactor = 70);
ALTER TABLE metrics.legacy_reports ENABLE ROW LEVEL SECURITY;
ALTER TABLE metrics.legacy_reports FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON metrics.legacy_reports TO df_metrics
    USING (org_id = (SELECT nullif(current_setting('df.org', true), '')::uuid));
CREATE POLICY system ON metrics.legacy_reports TO df_metrics_system USING (true);
GRANT SELECT ON metrics.legacy_reports TO df_metrics;
GRANT SELECT, INSERT, UPDATE ON metrics.legacy_reports TO df_metrics_system;

ALTER TABLE action.machines
    ADD COLUMN transport text NOT NULL DEFAULT 'NATS',
    ADD COLUMN http_name text,
    ADD COLUMN bound_key uuid,
    ADD COLUMN bound_block text,
    ADD CONSTRAINT machines_transport_check CHECK (transport IN ('NATS', 'HTTP')),
    ADD CONSTRAINT machines_http_name_key UNIQUE (org_id, http_name);

-- Until when a machine over HTTP has to say what became of an action that it was handed; then it is handed out again.
ALTER TABLE action.actions ADD COLUMN lease_until timestamptz;
