-- Metrics: what machines are (inventory, labels), whether they are there (presence), and how they are (samples).
--
-- Partitions of `metrics.samples` are made and dropped by two functions of the owner's, because the service's roles
-- own nothing. `DETACH PARTITION … CONCURRENTLY` would lock less than `DROP TABLE`, but cannot run in a function:
-- so the drop waits for its lock only briefly and is tried again later, and a new partition is attached (which
-- locks out nobody) rather than created in place. There is no DEFAULT partition: it would have to be scanned under
-- lock at each attachment.
--
-- Keys that do not begin with org_id: `servers` and `cursors`, which belong to no tenant and which no tenant role
-- can see.

-- The machines: identity's, mirrored (`change` is identity's number), with what metrics adds. Columns that change
-- with each sample are in `metrics.latest`, so that these rows and their indexes stay still.
CREATE TABLE metrics.machines (
    org_id uuid NOT NULL,
    id uuid NOT NULL,
    change bigint NOT NULL,
    hostname text NOT NULL,
    labels jsonb NOT NULL,
    inventory jsonb NOT NULL,
    -- When an event last told of a change of it; when the next one is due, while a change waits to be told; and what it
    -- was then, for what that one tells.
    inventory_told_at timestamptz,
    inventory_due_at timestamptz,
    inventory_before jsonb,
    enrolled_at timestamptz NOT NULL,
    revoked_at timestamptz,
    quarantined_at timestamptz,
    quarantine_reason text,
    -- Presence. `presence_version` comes from the sequence below; 0: never was online. `offline_due_at` is set
    -- while no session is open and the grace runs.
    online boolean NOT NULL DEFAULT false,
    presence_version bigint NOT NULL DEFAULT 0,
    presence_at timestamptz,
    presence_reason text NOT NULL DEFAULT 'never connected',
    offline_due_at timestamptz,
    -- Why it goes offline, where that is known before it does (a machine over HTTP that is revoked or quarantined).
    offline_reason text,
    -- Until when it is said of a machine that is online that it came and went often.
    unstable_until timestamptz,
    -- What the agent said when it last stopped of its own will.
    stopping_at timestamptz,
    stopping_reason text,
    status text NOT NULL GENERATED ALWAYS AS (CASE
        WHEN revoked_at IS NOT NULL THEN 'REVOKED'
        WHEN quarantined_at IS NOT NULL THEN 'QUARANTINED'
        WHEN online THEN 'ONLINE'
        ELSE 'OFFLINE' END) STORED,
    CONSTRAINT machines_pkey PRIMARY KEY (org_id, id),
    CONSTRAINT machines_labels_check CHECK (jsonb_typeof(labels) = 'object'),
    CONSTRAINT machines_inventory_check CHECK (jsonb_typeof(inventory) = 'object'),
    CONSTRAINT machines_inventory_due_check CHECK ((inventory_due_at IS NULL) = (inventory_before IS NULL))
);
-- Lists, by name and by status. No GIN index on labels: under row-level security the planner may not use operators
-- that are not leakproof (`@>`, `?&`) as index conditions, so labels filter the organisation's machines instead.
CREATE INDEX machines_hostname ON metrics.machines (org_id, hostname, id);
CREATE INDEX machines_status ON metrics.machines (org_id, status, hostname, id);
CREATE INDEX machines_presence ON metrics.machines (presence_version) WHERE presence_version > 0;
CREATE INDEX machines_offline_due ON metrics.machines (offline_due_at) WHERE offline_due_at IS NOT NULL;
CREATE INDEX machines_inventory_due ON metrics.machines (inventory_due_at) WHERE inventory_due_at IS NOT NULL;
CREATE INDEX machines_online ON metrics.machines (org_id) WHERE online;
ALTER TABLE metrics.machines ENABLE ROW LEVEL SECURITY;
ALTER TABLE metrics.machines FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON metrics.machines TO df_metrics
    USING (org_id = (SELECT nullif(current_setting('df.org', true), '')::uuid));
CREATE POLICY system ON metrics.machines TO df_metrics_system USING (true);
GRANT SELECT, UPDATE (inventory, stopping_at, stopping_reason) ON metrics.machines TO df_metrics;
GRANT SELECT, INSERT, UPDATE ON metrics.machines TO df_metrics_system;

-- Presence versions: one sequence for all machines, taken under an advisory lock that is held until the commit, so
-- that a reader that saw n has seen all below n, and that the versions of one machine grow.
CREATE SEQUENCE metrics.presence_version AS bigint;
GRANT USAGE ON SEQUENCE metrics.presence_version TO df_metrics_system;

-- What changes with each sample: the latest one, its health, and when the machine was last heard (the epoch: never;
-- score -1: no sample yet).
CREATE TABLE metrics.latest (
    org_id uuid NOT NULL,
    machine_id uuid NOT NULL,
    last_seen_at timestamptz NOT NULL DEFAULT 'epoch',
    sample_at timestamptz,
    sample jsonb,
    health_score smallint NOT NULL DEFAULT -1,
    health_status text,
    CONSTRAINT latest_pkey PRIMARY KEY (org_id, machine_id),
    CONSTRAINT latest_machine FOREIGN KEY (org_id, machine_id) REFERENCES metrics.machines (org_id, id),
    CONSTRAINT latest_sample_check CHECK ((sample IS NULL) = (sample_at IS NULL) AND (sample IS NULL) = (health_status IS NULL)),
    CONSTRAINT latest_health_score_check CHECK (health_score BETWEEN -1 AND 100),
    CONSTRAINT latest_health_status_check CHECK (health_status IN ('OK', 'WARN', 'CRITICAL'))
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05);
CREATE INDEX latest_last_seen ON metrics.latest (org_id, last_seen_at, machine_id);
CREATE INDEX latest_health ON metrics.latest (org_id, health_score, machine_id);
ALTER TABLE metrics.latest ENABLE ROW LEVEL SECURITY;
ALTER TABLE metrics.latest FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON metrics.latest TO df_metrics
    USING (org_id = (SELECT nullif(current_setting('df.org', true), '')::uuid));
CREATE POLICY system ON metrics.latest TO df_metrics_system USING (true);
GRANT SELECT, UPDATE (last_seen_at) ON metrics.latest TO df_metrics;
GRANT SELECT, INSERT, UPDATE ON metrics.latest TO df_metrics_system;

-- Raw samples, a partition a day (UTC). No foreign key to machines: it would lock a machine's row with each sample;
-- the statement that writes joins the machines instead. `body` is the sample without its time.
CREATE TABLE metrics.samples (
    org_id uuid NOT NULL,
    machine_id uuid NOT NULL,
    at timestamptz NOT NULL,
    body jsonb NOT NULL,
    CONSTRAINT samples_pkey PRIMARY KEY (org_id, machine_id, at)
) PARTITION BY RANGE (at);
ALTER TABLE metrics.samples ENABLE ROW LEVEL SECURITY;
ALTER TABLE metrics.samples FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON metrics.samples TO df_metrics
    USING (org_id = (SELECT nullif(current_setting('df.org', true), '')::uuid));
CREATE POLICY system ON metrics.samples TO df_metrics_system USING (true);
GRANT SELECT ON metrics.samples TO df_metrics;
GRANT SELECT, INSERT ON metrics.samples TO df_metrics_system;

-- Connections of agents, as the bus' servers tell of them. A row that is born closed is a tombstone: the end of a
-- connection was heard before its beginning. `inferred`: nobody said that it ended, it was missed in a server's
-- list, or its server fell silent; if it shows again it is open again. Times are the database's, but for
-- `started_at`, which is the server's. No foreign key: a connection may be heard of before its machine.
CREATE TABLE metrics.sessions (
    org_id uuid NOT NULL,
    machine_id uuid NOT NULL,
    server_id text NOT NULL,
    cid bigint NOT NULL,
    started_at timestamptz NOT NULL,
    recorded_at timestamptz NOT NULL,
    closed_at timestamptz,
    closed_by text,
    reason text,
    inferred boolean NOT NULL DEFAULT false,
    CONSTRAINT sessions_pkey PRIMARY KEY (org_id, machine_id, server_id, cid),
    CONSTRAINT sessions_closed_by_check CHECK (closed_by IN ('CLIENT', 'SERVER')),
    CONSTRAINT sessions_closed_check CHECK ((closed_at IS NULL) = (closed_by IS NULL) AND (closed_at IS NULL) = (reason IS NULL))
);
CREATE INDEX sessions_open ON metrics.sessions (server_id) WHERE closed_at IS NULL;
-- A machine that comes and goes without end leaves thousands of rows in an hour: a decision about it reads two.
CREATE INDEX sessions_open_of_machine ON metrics.sessions (org_id, machine_id) WHERE closed_at IS NULL;
CREATE INDEX sessions_latest_of_machine ON metrics.sessions (org_id, machine_id, started_at DESC);
CREATE INDEX sessions_closed ON metrics.sessions (closed_at) WHERE closed_at IS NOT NULL;
ALTER TABLE metrics.sessions ENABLE ROW LEVEL SECURITY;
ALTER TABLE metrics.sessions FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON metrics.sessions TO df_metrics
    USING (org_id = (SELECT nullif(current_setting('df.org', true), '')::uuid));
CREATE POLICY system ON metrics.sessions TO df_metrics_system USING (true);
GRANT SELECT, INSERT, UPDATE, DELETE ON metrics.sessions TO df_metrics_system;

-- The bus' servers, and when each last gave a sign of life.
CREATE TABLE metrics.servers (
    server_id text NOT NULL,
    name text NOT NULL,
    heard_at timestamptz NOT NULL,
    CONSTRAINT servers_pkey PRIMARY KEY (server_id)
);
ALTER TABLE metrics.servers ENABLE ROW LEVEL SECURITY;
ALTER TABLE metrics.servers FORCE ROW LEVEL SECURITY;
CREATE POLICY system ON metrics.servers TO df_metrics_system USING (true);
GRANT SELECT, INSERT, UPDATE, DELETE ON metrics.servers TO df_metrics_system;

-- How far something has been read, and when somebody last did a chore that one replica does for all.
CREATE TABLE metrics.cursors (
    name text NOT NULL,
    position bigint NOT NULL DEFAULT 0,
    moved_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT cursors_pkey PRIMARY KEY (name)
);
ALTER TABLE metrics.cursors ENABLE ROW LEVEL SECURITY;
ALTER TABLE metrics.cursors FORCE ROW LEVEL SECURITY;
CREATE POLICY system ON metrics.cursors TO df_metrics_system USING (true);
GRANT SELECT, INSERT, UPDATE ON metrics.cursors TO df_metrics_system;

-- Makes the partitions of the days `first` to `last` that are missing; says how many it made.
CREATE FUNCTION metrics.sample_partitions_ensure(first date, last date) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET timezone = 'UTC'
    SET lock_timeout = '2s'
AS $$
DECLARE
    day date;
    partition text;
    made integer := 0;
BEGIN
    IF first IS NULL OR last IS NULL OR last < first OR last - first > 62 THEN
        RAISE EXCEPTION 'from one day to 63 days, not % to %', first, last USING ERRCODE = 'invalid_parameter_value';
    END IF;
    PERFORM pg_advisory_xact_lock(hashtext('dashfleet.metrics'), hashtext('partitions'));
    FOR offset_days IN 0 .. last - first LOOP
        day := first + offset_days;
        partition := 'samples_' || to_char(day, 'YYYYMMDD');
        CONTINUE WHEN to_regclass(format('metrics.%I', partition)) IS NOT NULL;
        EXECUTE format('CREATE TABLE metrics.%I (LIKE metrics.samples INCLUDING DEFAULTS INCLUDING CONSTRAINTS)', partition);
        EXECUTE format('ALTER TABLE metrics.%I ENABLE ROW LEVEL SECURITY', partition);
        EXECUTE format('ALTER TABLE metrics.%I FORCE ROW LEVEL SECURITY', partition);
        EXECUTE format('ALTER TABLE metrics.samples ATTACH PARTITION metrics.%I FOR VALUES FROM (%L) TO (%L)',
            partition, day::timestamptz, (day + 1)::timestamptz);
        made := made + 1;
    END LOOP;
    RETURN made;
END $$;
REVOKE ALL ON FUNCTION metrics.sample_partitions_ensure(date, date) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION metrics.sample_partitions_ensure(date, date) TO df_metrics_system;

-- Drops the partitions of days before `keep_from`, which must lie a week back; says how many it dropped. A partition
-- that is being read is left for the next time.
CREATE FUNCTION metrics.sample_partitions_drop(keep_from date) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET timezone = 'UTC'
    SET lock_timeout = '500ms'
AS $$
DECLARE
    partition name;
    dropped integer := 0;
BEGIN
    IF keep_from IS NULL OR keep_from > current_date - 7 THEN
        RAISE EXCEPTION 'samples of the last 7 days stay, and % is not before them', keep_from USING ERRCODE = 'invalid_parameter_value';
    END IF;
    PERFORM pg_advisory_xact_lock(hashtext('dashfleet.metrics'), hashtext('partitions'));
    FOR partition IN
        SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
        WHERE i.inhparent = 'metrics.samples'::regclass
            AND c.relname ~ '^samples_[0-9]{8}$'
            AND c.relname::text < 'samples_' || to_char(keep_from, 'YYYYMMDD')
        ORDER BY c.relname
    LOOP
        BEGIN
            EXECUTE format('DROP TABLE metrics.%I', partition);
            dropped := dropped + 1;
        EXCEPTION WHEN lock_not_available THEN
            NULL;
        END;
    END LOOP;
    RETURN dropped;
END $$;
REVOKE ALL ON FUNCTION metrics.sample_partitions_drop(date) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION metrics.sample_partitions_drop(date) TO df_metrics_system;
