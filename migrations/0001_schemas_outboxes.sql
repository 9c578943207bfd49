-- What every owner of data shares: its own schema, and the setting by which row-level security knows the organisation.
-- Tables come with their service's own migrations.
CREATE SCHEMA identity;
CREATE SCHEMA action;
CREATE SCHEMA metrics;

GRANT USAGE ON SCHEMA identity TO df_identity, df_identity_system;
GRANT USAGE ON SCHEMA action TO df_action, df_action_system;
GRANT USAGE ON SCHEMA metrics TO df_metrics, df_metrics_system;
REVOKE ALL ON SCHEMA public FROM PUBLIC;

-- One outbox per owner (CONTRIBUTING, "Events"). `seq` is the order in which the relay publishes.
CREATE TABLE identity.outbox (
    seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id uuid NOT NULL,
    org_id uuid NOT NULL,
    noun text NOT NULL,
    verb text NOT NULL,
    subject_id uuid NOT NULL,
    version bigint NOT NULL,
    at timestamptz NOT NULL,
    data jsonb NOT NULL
);
ALTER TABLE identity.outbox ENABLE ROW LEVEL SECURITY;
ALTER TABLE identity.outbox FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON identity.outbox TO df_identity
    USING (org_id = (SELECT nullif(current_setting('df.org', true), '')::uuid));
CREATE POLICY system ON identity.outbox TO df_identity_system USING (true);
GRANT INSERT ON identity.outbox TO df_identity;
GRANT SELECT, INSERT, DELETE ON identity.outbox TO df_identity_system;

CREATE TABLE action.outbox (
    seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id uuid NOT NULL,
    org_id uuid NOT NULL,
    noun text NOT NULL,
    verb text NOT NULL,
    subject_id uuid NOT NULL,
    version bigint NOT NULL,
    at timestamptz NOT NULL,
    data jsonb NOT NULL
);
ALTER TABLE action.outbox ENABLE ROW LEVEL SECURITY;
ALTER TABLE action.outbox FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON action.outbox TO df_action
    USING (org_id = (SELECT nullif(current_setting('df.org', true), '')::uuid));
CREATE POLICY system ON action.outbox TO df_action_system USING (true);
GRANT INSERT ON action.outbox TO df_action;
GRANT SELECT, INSERT, DELETE ON action.outbox TO df_action_system;

CREATE TABLE metrics.outbox (
    seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id uuid NOT NULL,
    org_id uuid NOT NULL,
    noun text NOT NULL,
    verb text NOT NULL,
    subject_id uuid NOT NULL,
    version bigint NOT NULL,
    at timestamptz NOT NULL,
    data jsonb NOT NULL
);
ALTER TABLE metrics.outbox ENABLE ROW LEVEL SECURITY;
ALTER TABLE metrics.outbox FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON metrics.outbox TO df_metrics
    USING (org_id = (SELECT nullif(current_setting('df.org', true), '')::uuid));
CREATE POLICY system ON metrics.outbox TO df_metrics_system USING (true);
GRANT INSERT ON metrics.outbox TO df_metrics;
GRANT SELECT, INSERT, DELETE ON metrics.outbox TO df_metrics_system;
