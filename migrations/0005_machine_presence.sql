-- Presence as it was: each change of each machine, for its history and its availability by day. Kept for 400 days
-- (`services/metrics/src/app/maintenance.rs`): ten thousand machines that change five times a day leave 20 million rows.
--
-- A change is written by the statement that decides it, so the history is the sequence of `machine.online` and
-- `machine.offline` events, and `version` is theirs.
CREATE TABLE metrics.presence_changes (
    org_id uuid NOT NULL,
    machine_id uuid NOT NULL,
    version bigint NOT NULL,
    at timestamptz NOT NULL,
    online boolean NOT NULL,
    reason text NOT NULL,
    CONSTRAINT presence_changes_pkey PRIMARY KEY (org_id, machine_id, version),
    CONSTRAINT presence_changes_machine FOREIGN KEY (org_id, machine_id) REFERENCES metrics.machines (org_id, id)
);
-- Of one machine in time (history, availability, whether it is unstable); of all, what is old.
CREATE INDEX presence_changes_of_machine ON metrics.presence_changes (org_id, machine_id, at);
CREATE INDEX presence_changes_age ON metrics.presence_changes USING brin (at);
ALTER TABLE metrics.presence_changes ENABLE ROW LEVEL SECURITY;
ALTER TABLE metrics.presence_changes FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON metrics.presence_changes TO df_metrics
    USING (org_id = (SELECT nullif(current_setting('df.org', true), '')::uuid));
CREATE POLICY system ON metrics.presence_changes TO df_metrics_system USING (true);
GRANT SELECT ON metrics.presence_changes TO df_metrics;
GRANT SELECT, INSERT, DELETE ON metrics.presence_changes TO df_metrics_system;
