-- Actions: what machines are told to do, once each.

-- The machines as identity knows them, and what their journals said last. `last_seq` is taken under the row's lock,
-- so that the order of `seq` is the order of commit.
CREATE TABLE action.machines (
    org_id uuid NOT NULL,
    id uuid NOT NULL,
    fingerprint text NOT NULL,
    change bigint NOT NULL,
    releases integer NOT NULL,
    revoked_at timestamptz,
    quarantined_at timestamptz,
    quarantine_reason text,
    quarantine_reported boolean NOT NULL DEFAULT true,
    last_seq bigint NOT NULL DEFAULT 0,
    online boolean NOT NULL DEFAULT false,
    presence_version bigint NOT NULL DEFAULT 0,
    journal_id uuid,
    journal_entries bigint NOT NULL DEFAULT 0,
    journal_head text NOT NULL DEFAULT '',
    session_id uuid,
    suspect_session uuid,
    suspect_echo uuid,
    synced_at timestamptz,
    CONSTRAINT machines_pkey PRIMARY KEY (org_id, id)
);
CREATE INDEX machines_quarantine_unreported ON action.machines (org_id, id) WHERE NOT quarantine_reported;

-- Lives of agents that another life has replaced: one that comes back is a copy.
CREATE TABLE action.superseded_sessions (
    org_id uuid NOT NULL,
    machine_id uuid NOT NULL,
    session_id uuid NOT NULL,
    superseded_at timestamptz NOT NULL,
    CONSTRAINT superseded_sessions_pkey PRIMARY KEY (org_id, machine_id, session_id),
    CONSTRAINT superseded_sessions_machine FOREIGN KEY (org_id, machine_id) REFERENCES action.machines (org_id, id)
);
CREATE INDEX superseded_sessions_age ON action.superseded_sessions (superseded_at);

CREATE TABLE action.actions (
    org_id uuid NOT NULL,
    id uuid NOT NULL,
    machine_id uuid NOT NULL,
    seq bigint NOT NULL,
    kind text NOT NULL,
    payload jsonb NOT NULL,
    idempotent boolean NOT NULL,
    status text NOT NULL,
    attempt integer NOT NULL DEFAULT 1,
    principal uuid NOT NULL,
    traceparent text,
    not_after timestamptz NOT NULL,
    -- Past this nothing more is expected: not_after + run time + grace.
    give_up_at timestamptz NOT NULL,
    created_at timestamptz NOT NULL,
    -- Committed before the first push or sync reply. Null: the machine cannot know of it.
    offered_at timestamptz,
    delivered_at timestamptz,
    started_at timestamptz,
    finished_at timestamptz,
    cancel_requested_at timestamptz,
    result jsonb,
    error jsonb,
    late boolean NOT NULL DEFAULT false,
    -- When to ring again, and how often it rang.
    ring_at timestamptz,
    rings smallint NOT NULL DEFAULT 0,
    version bigint NOT NULL DEFAULT 1,
    CONSTRAINT actions_pkey PRIMARY KEY (org_id, id),
    CONSTRAINT actions_seq UNIQUE (org_id, machine_id, seq),
    CONSTRAINT actions_machine FOREIGN KEY (org_id, machine_id) REFERENCES action.machines (org_id, id),
    CONSTRAINT actions_status CHECK (status IN ('QUEUED', 'DELIVERED', 'RUNNING', 'SUCCEEDED', 'FAILED', 'EXPIRED',
        'CANCELLED', 'INTERRUPTED', 'UNKNOWN'))
);
-- What is open on a machine (sync), what may expire, what is overdue, what rings: each index holds open actions only.
CREATE INDEX actions_open ON action.actions (org_id, machine_id, seq) WHERE status IN ('QUEUED', 'DELIVERED', 'RUNNING');
CREATE INDEX actions_unoffered ON action.actions (not_after) WHERE status = 'QUEUED' AND offered_at IS NULL;
CREATE INDEX actions_overdue ON action.actions (give_up_at)
    WHERE status IN ('QUEUED', 'DELIVERED', 'RUNNING') AND offered_at IS NOT NULL;
CREATE INDEX actions_ringing ON action.actions (ring_at) WHERE ring_at IS NOT NULL;
-- Lists, newest first (ids are UUIDv7).
CREATE INDEX actions_of_machine ON action.actions (org_id, machine_id, id);
CREATE INDEX actions_of_machine_in_status ON action.actions (org_id, machine_id, status, id);
CREATE INDEX actions_in_status ON action.actions (org_id, status, id);

-- How each attempt ended.
CREATE TABLE action.attempts (
    org_id uuid NOT NULL,
    action_id uuid NOT NULL,
    attempt integer NOT NULL,
    outcome text NOT NULL,
    error jsonb,
    started_at timestamptz,
    finished_at timestamptz NOT NULL,
    CONSTRAINT attempts_pkey PRIMARY KEY (org_id, action_id, attempt),
    CONSTRAINT attempts_action FOREIGN KEY (org_id, action_id) REFERENCES action.actions (org_id, id)
);

-- `Idempotency-Key`s of the last 24 hours, and the actions that each made: one, or as many as machines were chosen. A
-- machine that was revoked meanwhile has no action of its id.
CREATE TABLE action.idempotency_keys (
    org_id uuid NOT NULL,
    route text NOT NULL,
    key text NOT NULL,
    body_hash bytea NOT NULL,
    action_ids uuid[] NOT NULL,
    created_at timestamptz NOT NULL,
    CONSTRAINT idempotency_keys_pkey PRIMARY KEY (org_id, route, key)
);
CREATE INDEX idempotency_keys_age ON action.idempotency_keys (created_at);

-- How far the feeds of other services have been read. Not a tenant table: it says nothing about any organisation.
CREATE TABLE action.cursors (
    feed text PRIMARY KEY,
    position bigint NOT NULL
);
GRANT SELECT, INSERT, UPDATE ON action.cursors TO df_action_system;

DO $$
DECLARE
    t text;
BEGIN
    FOREACH t IN ARRAY ARRAY['machines', 'superseded_sessions', 'actions', 'attempts', 'idempotency_keys'] LOOP
        EXECUTE format('ALTER TABLE action.%I ENABLE ROW LEVEL SECURITY', t);
        EXECUTE format('ALTER TABLE action.%I FORCE ROW LEVEL SECURITY', t);
        EXECUTE format('CREATE POLICY tenant ON action.%I TO df_action
            USING (org_id = (SELECT nullif(current_setting(''df.org'', true), '''')::uuid))', t);
        EXECUTE format('CREATE POLICY system ON action.%I TO df_action_system USING (true)', t);
    END LOOP;
END $$;

GRANT SELECT, UPDATE ON action.machines TO df_action;
GRANT SELECT, INSERT, UPDATE ON action.actions TO df_action;
GRANT SELECT, INSERT ON action.idempotency_keys TO df_action;
GRANT SELECT ON action.attempts TO df_action;
GRANT SELECT, INSERT, UPDATE ON action.machines, action.actions TO df_action_system;
GRANT SELECT, INSERT ON action.attempts TO df_action_system;
GRANT SELECT, INSERT, DELETE ON action.superseded_sessions TO df_action_system;
GRANT SELECT, DELETE ON action.idempotency_keys TO df_action_system;
