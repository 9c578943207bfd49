-- Jobs and their executions.
--
-- An execution's row lies in the table of its state: `waiting`, `running`, `ended`. Each step is one statement that deletes
-- it here and inserts it there, so a row is in one of them at any time, and the condition of the deletion is the fence.
-- What waits and what runs stays small, whatever has ended: `ended` is only ever appended to (and emptied by a retry), in a
-- partition for each day of creation, which its id tells (UUIDv7).
--
-- No second index of these tables begins with org_id: a plan that was made while a table (or the day's partition) was empty finds
-- all of them equally cheap, and is kept; looking one execution up by an index of its whole organisation is not.
CREATE SCHEMA scheduler;
GRANT USAGE ON SCHEMA scheduler TO df_scheduler, df_scheduler_system;

CREATE TABLE scheduler.outbox (
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
CREATE TABLE scheduler.audit_outbox (
    seq bigint GENERATED ALWAYS AS IDENTITY,
    id uuid NOT NULL,
    org_id uuid NOT NULL,
    entry text NOT NULL,
    written_at timestamptz NOT NULL DEFAULT now(),
    not_before timestamptz,
    failure text,
    CONSTRAINT audit_outbox_pkey PRIMARY KEY (seq)
);
CREATE TABLE scheduler.idempotency_keys (
    org_id uuid NOT NULL,
    route text NOT NULL,
    key text NOT NULL,
    body_hash bytea NOT NULL,
    ids uuid[] NOT NULL,
    created_at timestamptz NOT NULL,
    CONSTRAINT idempotency_keys_pkey PRIMARY KEY (org_id, route, key)
);
CREATE INDEX idempotency_keys_age ON scheduler.idempotency_keys (created_at);

-- What was said about an organisation as a whole: a row from its first job on. `weight` is its share beside others that wait.
CREATE TABLE scheduler.tenants (
    org_id uuid NOT NULL,
    paused_at timestamptz,
    concurrency integer,
    weight smallint NOT NULL DEFAULT 1,
    version bigint NOT NULL DEFAULT 1,
    CONSTRAINT tenants_pkey PRIMARY KEY (org_id),
    CONSTRAINT tenants_concurrency_check CHECK (concurrency BETWEEN 0 AND 1000000),
    CONSTRAINT tenants_weight_check CHECK (weight BETWEEN 1 AND 100)
);

-- Jobs. Whoever begins or ends an execution of a job that has a limit holds the job's row FOR SHARE until the commit, so
-- that who sets a limit counts what runs exactly.
CREATE TABLE scheduler.jobs (
    org_id uuid NOT NULL,
    id uuid NOT NULL,
    name text NOT NULL,
    description text NOT NULL DEFAULT '',
    module_id uuid,
    handler text NOT NULL,
    config jsonb NOT NULL DEFAULT '{}',
    enabled boolean NOT NULL DEFAULT true,
    paused_at timestamptz,
    pool text NOT NULL,
    priority smallint NOT NULL DEFAULT 0,
    timeout_ms bigint NOT NULL,
    retries smallint NOT NULL,
    backoff_ms bigint NOT NULL,
    concurrency integer,
    key_concurrency integer,
    rate_max integer,
    rate_per_ms bigint,
    version bigint NOT NULL DEFAULT 1,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    CONSTRAINT jobs_pkey PRIMARY KEY (org_id, id),
    -- So that there is a row to lock.
    CONSTRAINT jobs_tenant FOREIGN KEY (org_id) REFERENCES scheduler.tenants (org_id),
    CONSTRAINT jobs_name_key UNIQUE (org_id, name),
    CONSTRAINT jobs_config_check CHECK (jsonb_typeof(config) = 'object'),
    CONSTRAINT jobs_concurrency_check CHECK (concurrency BETWEEN 1 AND 1000000 AND key_concurrency BETWEEN 1 AND 1000000),
    CONSTRAINT jobs_rate_check CHECK ((rate_max IS NULL) = (rate_per_ms IS NULL) AND rate_max > 0 AND rate_per_ms > 0)
);
CREATE INDEX jobs_pool ON scheduler.jobs (pool, org_id, id);

-- Counters of what runs, one row for each limit: an organisation's (`job_id` nil, `key` empty), a job's (`key` empty), a key's of
-- a job. A row exists while there is a limit, and `running` is then exact. `window_at` and `window_count`: of a job with
-- a rate, when the current window began and how many began in it.
CREATE TABLE scheduler.limits (
    org_id uuid NOT NULL,
    job_id uuid NOT NULL,
    key text NOT NULL,
    max integer,
    running integer NOT NULL DEFAULT 0,
    rate_max integer,
    rate_per_ms bigint,
    window_at timestamptz NOT NULL DEFAULT 'epoch',
    window_count integer NOT NULL DEFAULT 0,
    CONSTRAINT limits_pkey PRIMARY KEY (org_id, job_id, key),
    CONSTRAINT limits_running_check CHECK (running >= 0)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05);

-- What waits: `due` while it only waits for a worker, else until `run_at`. A lane is one (pool, organisation, job, key): what can
-- be held back as a whole. Within it the order is priority, then id.
CREATE TABLE scheduler.waiting (
    org_id uuid NOT NULL,
    id uuid NOT NULL,
    job_id uuid NOT NULL,
    pool text NOT NULL,
    key text NOT NULL,
    priority smallint NOT NULL,
    due boolean NOT NULL,
    run_at timestamptz NOT NULL,
    override jsonb,
    deduplication_key text,
    principal_kind text NOT NULL,
    principal_id uuid NOT NULL,
    credential uuid NOT NULL,
    traceparent text,
    scheduled_for timestamptz NOT NULL,
    created_at timestamptz NOT NULL,
    -- Attempts begun so far; those of them whose end is known; those that failed since the last retry by hand; those lost
    -- with their worker since then; what is known of each that ended; the token of the last one.
    attempt integer NOT NULL DEFAULT 0,
    concluded integer NOT NULL DEFAULT 0,
    failures smallint NOT NULL DEFAULT 0,
    losses smallint NOT NULL DEFAULT 0,
    attempts jsonb,
    token uuid,
    version bigint NOT NULL DEFAULT 1,
    CONSTRAINT waiting_pkey PRIMARY KEY (org_id, id),
    CONSTRAINT waiting_job FOREIGN KEY (org_id, job_id) REFERENCES scheduler.jobs (org_id, id)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);
CREATE INDEX waiting_lanes ON scheduler.waiting (pool, org_id, job_id, key, priority DESC, id) WHERE due;
CREATE INDEX waiting_delayed ON scheduler.waiting (run_at) WHERE NOT due;
CREATE INDEX waiting_of_job ON scheduler.waiting (job_id, id);

-- A worker's life: executions refer to it, and go back to `waiting` when it has expired. No organisation's.
CREATE TABLE scheduler.sessions (
    id uuid NOT NULL,
    pool text NOT NULL,
    worker text NOT NULL,
    concurrency integer NOT NULL,
    started_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    CONSTRAINT sessions_pkey PRIMARY KEY (id)
) WITH (fillfactor = 50);
CREATE INDEX sessions_expires ON scheduler.sessions (expires_at);

-- What runs. `token` is made in the claim and known to nobody but the worker that got it.
CREATE TABLE scheduler.running (
    org_id uuid NOT NULL,
    id uuid NOT NULL,
    job_id uuid NOT NULL,
    pool text NOT NULL,
    key text NOT NULL,
    priority smallint NOT NULL,
    override jsonb,
    deduplication_key text,
    principal_kind text NOT NULL,
    principal_id uuid NOT NULL,
    credential uuid NOT NULL,
    traceparent text,
    scheduled_for timestamptz NOT NULL,
    created_at timestamptz NOT NULL,
    attempt integer NOT NULL,
    concluded integer NOT NULL DEFAULT 0,
    failures smallint NOT NULL,
    losses smallint NOT NULL,
    attempts jsonb,
    token uuid NOT NULL,
    version bigint NOT NULL,
    session_id uuid NOT NULL,
    started_at timestamptz NOT NULL,
    timeout_ms bigint NOT NULL,
    retries smallint NOT NULL,
    backoff_ms bigint NOT NULL,
    cancel_requested_at timestamptz,
    progress jsonb,
    CONSTRAINT running_pkey PRIMARY KEY (org_id, id)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);
CREATE INDEX running_session ON scheduler.running (session_id);

-- What has ended.
CREATE TABLE scheduler.ended (
    org_id uuid NOT NULL,
    id uuid NOT NULL,
    job_id uuid NOT NULL,
    pool text NOT NULL,
    key text NOT NULL,
    priority smallint NOT NULL,
    override jsonb,
    deduplication_key text,
    principal_kind text NOT NULL,
    principal_id uuid NOT NULL,
    credential uuid NOT NULL,
    traceparent text,
    scheduled_for timestamptz NOT NULL,
    created_at timestamptz NOT NULL,
    attempt integer NOT NULL,
    concluded integer NOT NULL DEFAULT 0,
    failures smallint NOT NULL,
    losses smallint NOT NULL,
    attempts jsonb,
    token uuid,
    version bigint NOT NULL,
    status text NOT NULL,
    started_at timestamptz,
    ended_at timestamptz NOT NULL,
    result jsonb,
    error jsonb,
    dead_letter boolean NOT NULL DEFAULT false,
    CONSTRAINT ended_pkey PRIMARY KEY (org_id, id),
    CONSTRAINT ended_status_check CHECK (status IN ('COMPLETED', 'FAILED', 'TIMEOUT', 'CANCELLED')),
    -- So lists of dead letters are lists of these statuses, and need no index of their own.
    CONSTRAINT ended_dead_letter_check CHECK (dead_letter = (status IN ('FAILED', 'TIMEOUT')))
) PARTITION BY RANGE (id);
CREATE INDEX ended_in_status ON scheduler.ended (status, org_id, id);
CREATE INDEX ended_of_job ON scheduler.ended (job_id, status, id);

-- A key while an execution of it waits or runs.
CREATE TABLE scheduler.deduplications (
    org_id uuid NOT NULL,
    job_id uuid NOT NULL,
    key text NOT NULL,
    execution_id uuid NOT NULL,
    CONSTRAINT deduplications_pkey PRIMARY KEY (org_id, job_id, key)
);

-- What handlers logged: whole messages of a worker, `first` the number of the first line in its attempt. The last 64 KiB of an
-- execution stay: when the first chunk that is left does not begin at 0 there were more.
CREATE TABLE scheduler.log_chunks (
    org_id uuid NOT NULL,
    execution_id uuid NOT NULL,
    attempt integer NOT NULL,
    first bigint NOT NULL,
    lines text[] NOT NULL,
    bytes integer NOT NULL,
    CONSTRAINT log_chunks_pkey PRIMARY KEY (org_id, execution_id, attempt, first)
) PARTITION BY RANGE (execution_id);

-- Which replica offers a pool's executions: a hint, not a right, since a claim decides.
CREATE TABLE scheduler.dispatchers (
    pool text NOT NULL,
    holder uuid NOT NULL,
    held_until timestamptz NOT NULL,
    CONSTRAINT dispatchers_pkey PRIMARY KEY (pool)
);
-- When something that one replica does for all was last done.
CREATE TABLE scheduler.ticks (
    name text NOT NULL,
    at timestamptz NOT NULL,
    CONSTRAINT ticks_pkey PRIMARY KEY (name)
);

DO $$
DECLARE
    t text;
BEGIN
    FOREACH t IN ARRAY ARRAY['outbox', 'audit_outbox', 'idempotency_keys', 'tenants', 'jobs', 'limits', 'waiting', 'running',
        'ended', 'deduplications', 'log_chunks'] LOOP
        EXECUTE format('ALTER TABLE scheduler.%I ENABLE ROW LEVEL SECURITY', t);
        EXECUTE format('ALTER TABLE scheduler.%I FORCE ROW LEVEL SECURITY', t);
        EXECUTE format('CREATE POLICY tenant ON scheduler.%I TO df_scheduler
            USING (org_id = (SELECT nullif(current_setting(''df.org'', true), '''')::uuid))', t);
        EXECUTE format('CREATE POLICY system ON scheduler.%I TO df_scheduler_system USING (true)', t);
    END LOOP;
    FOREACH t IN ARRAY ARRAY['sessions', 'dispatchers', 'ticks'] LOOP
        EXECUTE format('ALTER TABLE scheduler.%I ENABLE ROW LEVEL SECURITY', t);
        EXECUTE format('ALTER TABLE scheduler.%I FORCE ROW LEVEL SECURITY', t);
        EXECUTE format('CREATE POLICY system ON scheduler.%I TO df_scheduler_system USING (true)', t);
        EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON scheduler.%I TO df_scheduler_system', t);
    END LOOP;
END $$;
-- The functions below look for what is not ended, across organisations.
CREATE POLICY retention ON scheduler.waiting TO df_owner USING (true);
CREATE POLICY retention ON scheduler.running TO df_owner USING (true);

GRANT INSERT ON scheduler.outbox TO df_scheduler;
GRANT SELECT, INSERT, DELETE ON scheduler.outbox TO df_scheduler_system;
GRANT INSERT (id, org_id, entry) ON scheduler.audit_outbox TO df_scheduler;
GRANT SELECT, INSERT (id, org_id, entry), UPDATE (not_before, failure), DELETE ON scheduler.audit_outbox TO df_scheduler_system;
GRANT SELECT, INSERT ON scheduler.idempotency_keys TO df_scheduler;
GRANT SELECT, DELETE ON scheduler.idempotency_keys TO df_scheduler_system;
GRANT SELECT, INSERT, UPDATE ON scheduler.tenants TO df_scheduler, df_scheduler_system;
GRANT SELECT, INSERT, UPDATE, DELETE ON scheduler.jobs TO df_scheduler;
GRANT SELECT, UPDATE ON scheduler.jobs TO df_scheduler_system;
GRANT SELECT, INSERT, UPDATE, DELETE ON scheduler.limits, scheduler.waiting, scheduler.running, scheduler.deduplications
    TO df_scheduler, df_scheduler_system;
GRANT SELECT, INSERT, DELETE ON scheduler.ended TO df_scheduler, df_scheduler_system;
GRANT SELECT ON scheduler.log_chunks TO df_scheduler;
GRANT SELECT, INSERT, DELETE ON scheduler.log_chunks TO df_scheduler_system;

-- The first id of a day (UTC): a UUIDv7 begins with the milliseconds since the epoch.
CREATE FUNCTION scheduler.first_id(day date) RETURNS uuid
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
    RETURN (lpad(to_hex((day - date '1970-01-01')::bigint * 86400000), 12, '0') || repeat('0', 20))::uuid;

-- Makes the partitions of the days `first` to `last` that are missing; says how many it made.
CREATE FUNCTION scheduler.partitions_ensure(first date, last date) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET timezone = 'UTC'
    SET lock_timeout = '2s'
AS $$
DECLARE
    parent text;
    day date;
    partition text;
    made integer := 0;
BEGIN
    IF first IS NULL OR last IS NULL OR last < first OR last - first > 62 THEN
        RAISE EXCEPTION 'from one day to 63 days, not % to %', first, last USING ERRCODE = 'invalid_parameter_value';
    END IF;
    PERFORM pg_advisory_xact_lock(hashtext('dashfleet.scheduler'), hashtext('partitions'));
    FOREACH parent IN ARRAY ARRAY['ended', 'log_chunks'] LOOP
        FOR offset_days IN 0 .. last - first LOOP
            day := first + offset_days;
            partition := parent || '_' || to_char(day, 'YYYYMMDD');
            CONTINUE WHEN to_regclass(format('scheduler.%I', partition)) IS NOT NULL;
            EXECUTE format('CREATE TABLE scheduler.%I (LIKE scheduler.%I INCLUDING DEFAULTS INCLUDING CONSTRAINTS)', partition, parent);
            EXECUTE format('ALTER TABLE scheduler.%I ENABLE ROW LEVEL SECURITY', partition);
            EXECUTE format('ALTER TABLE scheduler.%I FORCE ROW LEVEL SECURITY', partition);
            EXECUTE format('ALTER TABLE scheduler.%I ATTACH PARTITION scheduler.%I FOR VALUES FROM (%L) TO (%L)',
                parent, partition, scheduler.first_id(day), scheduler.first_id(day + 1));
            made := made + 1;
        END LOOP;
    END LOOP;
    RETURN made;
END $$;
REVOKE ALL ON FUNCTION scheduler.first_id(date), scheduler.partitions_ensure(date, date) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION scheduler.first_id(date), scheduler.partitions_ensure(date, date) TO df_scheduler_system;

-- Drops the partitions of days before `keep_from`, which must lie a day back; says how many it dropped. One stays that
-- is being read, and one of whose executions any still waits or runs: it will end there.
CREATE FUNCTION scheduler.partitions_drop(keep_from date) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET timezone = 'UTC'
    SET lock_timeout = '500ms'
AS $$
DECLARE
    partition text;
    day date;
    open boolean;
    dropped integer := 0;
BEGIN
    IF keep_from IS NULL OR keep_from > current_date - 1 THEN
        RAISE EXCEPTION 'executions of the last day stay, and % is not before it', keep_from USING ERRCODE = 'invalid_parameter_value';
    END IF;
    PERFORM pg_advisory_xact_lock(hashtext('dashfleet.scheduler'), hashtext('partitions'));
    FOR partition, day IN
        SELECT c.relname, to_date(right(c.relname::text, 8), 'YYYYMMDD')
        FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
        WHERE i.inhparent IN ('scheduler.ended'::regclass, 'scheduler.log_chunks'::regclass)
            AND c.relname ~ '_[0-9]{8}$' AND right(c.relname::text, 8) < to_char(keep_from, 'YYYYMMDD')
        ORDER BY right(c.relname::text, 8)
    LOOP
        BEGIN
            -- First the lock: nobody takes an execution out of here to begin it again after it was looked for.
            EXECUTE format('LOCK TABLE scheduler.%I IN ACCESS EXCLUSIVE MODE', partition);
            SELECT EXISTS (SELECT FROM scheduler.waiting w WHERE w.id >= scheduler.first_id(day) AND w.id < scheduler.first_id(day + 1))
                OR EXISTS (SELECT FROM scheduler.running r WHERE r.id >= scheduler.first_id(day) AND r.id < scheduler.first_id(day + 1))
                INTO open;
            IF NOT open THEN
                EXECUTE format('DROP TABLE scheduler.%I', partition);
                dropped := dropped + 1;
            END IF;
        EXCEPTION WHEN lock_not_available THEN
            NULL;
        END;
    END LOOP;
    RETURN dropped;
END $$;
REVOKE ALL ON FUNCTION scheduler.partitions_drop(date) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION scheduler.partitions_drop(date) TO df_scheduler_system;
