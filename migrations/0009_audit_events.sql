-- Audit: who did what. An entry is written into its owner's `audit_outbox` in the transaction of what it tells of, handed
-- to identity (`audit.append`), and chained there, for each organisation (`services/libs/contract/src/audit/chain.rs` says
-- what is hashed). Action signs the chains' ends each minute and keeps copies of its own.
--
-- Services may add and read, and nobody may change or delete. What is too old is removed by a function, from the front.

-- One per owner. `not_before` and `failure` are of an entry that identity refused: it must not hold back the others.
DO $$
DECLARE
    s text;
BEGIN
    FOREACH s IN ARRAY ARRAY['identity', 'action', 'metrics'] LOOP
        EXECUTE format('CREATE TABLE %I.audit_outbox (
            seq bigint GENERATED ALWAYS AS IDENTITY,
            id uuid NOT NULL,
            org_id uuid NOT NULL,
            entry text NOT NULL,
            written_at timestamptz NOT NULL DEFAULT now(),
            not_before timestamptz,
            failure text,
            CONSTRAINT audit_outbox_pkey PRIMARY KEY (seq))', s);
        EXECUTE format('ALTER TABLE %I.audit_outbox ENABLE ROW LEVEL SECURITY', s);
        EXECUTE format('ALTER TABLE %I.audit_outbox FORCE ROW LEVEL SECURITY', s);
        EXECUTE format('CREATE POLICY tenant ON %I.audit_outbox TO %I
            USING (org_id = (SELECT nullif(current_setting(''df.org'', true), '''')::uuid))', s, 'df_' || s);
        EXECUTE format('CREATE POLICY system ON %I.audit_outbox TO %I USING (true)', s, 'df_' || s || '_system');
        EXECUTE format('GRANT INSERT (id, org_id, entry) ON %I.audit_outbox TO %I', s, 'df_' || s);
        EXECUTE format('GRANT SELECT, INSERT (id, org_id, entry), UPDATE (not_before, failure), DELETE ON %I.audit_outbox TO %I',
            s, 'df_' || s || '_system');
    END LOOP;
END $$;

-- The chain. `before` and `after` are text and not jsonb: what is hashed is what is stored, byte for byte. `recorded_at`
-- is the database's own word, which no role may give: retention goes by it.
CREATE TABLE identity.audit_events (
    org_id uuid NOT NULL,
    seq bigint NOT NULL,
    prev bytea NOT NULL,
    hash bytea NOT NULL,
    id uuid NOT NULL,
    at timestamptz NOT NULL,
    service text NOT NULL,
    actor_kind text NOT NULL,
    actor_id uuid,
    actor_name text,
    credential uuid,
    address text,
    call text NOT NULL,
    resource_kind text NOT NULL,
    resource_id text,
    resource_name text,
    outcome text NOT NULL,
    reason text,
    before text,
    after text,
    count bigint NOT NULL,
    trace_id text,
    recorded_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT audit_events_pkey PRIMARY KEY (org_id, seq),
    CONSTRAINT audit_events_id_key UNIQUE (org_id, id),
    CONSTRAINT audit_events_seq_check CHECK (seq > 0),
    CONSTRAINT audit_events_hash_check CHECK (octet_length(prev) = 32 AND octet_length(hash) = 32),
    CONSTRAINT audit_events_outcome_check CHECK (outcome IN ('SUCCEEDED', 'DENIED')),
    CONSTRAINT audit_events_count_check CHECK (count > 0)
);
-- A list is in the order of time, whichever filter it has; a page begins where the one before ended.
CREATE INDEX audit_events_at ON identity.audit_events (org_id, at, seq);
CREATE INDEX audit_events_actor ON identity.audit_events (org_id, actor_id, at, seq);
CREATE INDEX audit_events_call ON identity.audit_events (org_id, call, at, seq);
CREATE INDEX audit_events_resource ON identity.audit_events (org_id, resource_id, at, seq);
CREATE INDEX audit_events_denied ON identity.audit_events (org_id, at, seq) WHERE outcome = 'DENIED';

-- The end of each chain, whose lock orders those who append; and its beginning since entries were removed: the hash of
-- the last that was.
CREATE TABLE identity.audit_heads (
    org_id uuid NOT NULL,
    seq bigint NOT NULL DEFAULT 0,
    hash bytea NOT NULL DEFAULT decode(repeat('00', 32), 'hex'),
    signed_seq bigint NOT NULL DEFAULT 0,
    anchor_seq bigint NOT NULL DEFAULT 0,
    anchor_hash bytea NOT NULL DEFAULT decode(repeat('00', 32), 'hex'),
    CONSTRAINT audit_heads_pkey PRIMARY KEY (org_id),
    CONSTRAINT audit_heads_hash_check CHECK (octet_length(hash) = 32 AND octet_length(anchor_hash) = 32),
    CONSTRAINT audit_heads_seq_check CHECK (anchor_seq >= 0 AND seq >= anchor_seq)
) WITH (fillfactor = 70);
CREATE INDEX audit_heads_unsigned ON identity.audit_heads (org_id) WHERE signed_seq < seq;

-- What action gave back: its signature over an end.
CREATE TABLE identity.audit_countersigns (
    org_id uuid NOT NULL,
    seq bigint NOT NULL,
    hash bytea NOT NULL,
    at timestamptz NOT NULL,
    kid text NOT NULL,
    signature bytea NOT NULL,
    CONSTRAINT audit_countersigns_pkey PRIMARY KEY (org_id, seq),
    CONSTRAINT audit_countersigns_hash_check CHECK (octet_length(hash) = 32)
);

-- Every key with which action ever said that it signs. What may be kept goes by them; a verification goes by what action
-- says from its key files, since whoever owns the database could add one here.
CREATE TABLE identity.audit_signers (
    public_key text NOT NULL,
    known_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT audit_signers_pkey PRIMARY KEY (public_key)
);

-- Action's copies, each organisation's a chain of its own.
CREATE TABLE action.audit_heads_signed (
    org_id uuid NOT NULL,
    seq bigint NOT NULL,
    hash bytea NOT NULL,
    at timestamptz NOT NULL,
    kid text NOT NULL,
    signature bytea NOT NULL,
    prev bytea NOT NULL,
    link bytea NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT audit_heads_signed_pkey PRIMARY KEY (org_id, seq),
    -- Nobody can sign two ends behind the same one.
    CONSTRAINT audit_heads_signed_prev_key UNIQUE (org_id, prev),
    CONSTRAINT audit_heads_signed_hash_check CHECK (octet_length(hash) = 32 AND octet_length(prev) = 32 AND octet_length(link) = 32)
);
CREATE INDEX audit_heads_signed_age ON action.audit_heads_signed USING brin (recorded_at);

-- When somebody last signed: one replica does it for all.
CREATE TABLE action.audit_turns (
    name text NOT NULL,
    taken_at timestamptz NOT NULL,
    CONSTRAINT audit_turns_pkey PRIMARY KEY (name)
);
ALTER TABLE action.audit_turns ENABLE ROW LEVEL SECURITY;
ALTER TABLE action.audit_turns FORCE ROW LEVEL SECURITY;
CREATE POLICY system ON action.audit_turns TO df_action_system USING (true);
GRANT SELECT, INSERT, UPDATE ON action.audit_turns TO df_action_system;

ALTER TABLE identity.audit_signers ENABLE ROW LEVEL SECURITY;
ALTER TABLE identity.audit_signers FORCE ROW LEVEL SECURITY;
CREATE POLICY system ON identity.audit_signers TO df_identity_system USING (true);
GRANT SELECT, INSERT (public_key) ON identity.audit_signers TO df_identity_system;

DO $$
DECLARE
    s text;
    t text;
BEGIN
    FOREACH t IN ARRAY ARRAY['identity.audit_events', 'identity.audit_heads', 'identity.audit_countersigns', 'action.audit_heads_signed'] LOOP
        s := split_part(t, '.', 1);
        t := split_part(t, '.', 2);
        EXECUTE format('ALTER TABLE %I.%I ENABLE ROW LEVEL SECURITY', s, t);
        EXECUTE format('ALTER TABLE %I.%I FORCE ROW LEVEL SECURITY', s, t);
        EXECUTE format('CREATE POLICY tenant ON %I.%I TO %I
            USING (org_id = (SELECT nullif(current_setting(''df.org'', true), '''')::uuid))', s, t, 'df_' || s);
        EXECUTE format('CREATE POLICY system ON %I.%I TO %I USING (true)', s, t, 'df_' || s || '_system');
    END LOOP;
END $$;
GRANT SELECT ON identity.audit_events, identity.audit_heads, identity.audit_countersigns TO df_identity;
GRANT SELECT ON action.audit_heads_signed TO df_action;
-- Without `recorded_at`.
GRANT SELECT, INSERT (org_id, seq, prev, hash, id, at, service, actor_kind, actor_id, actor_name, credential, address, call,
    resource_kind, resource_id, resource_name, outcome, reason, before, after, count, trace_id)
    ON identity.audit_events TO df_identity_system;
GRANT SELECT, INSERT (org_id), UPDATE (seq, hash, signed_seq) ON identity.audit_heads TO df_identity_system;
GRANT SELECT, INSERT ON identity.audit_countersigns TO df_identity_system;
GRANT SELECT, INSERT (org_id, seq, hash, at, kid, signature, prev, link) ON action.audit_heads_signed TO df_action_system;

-- The functions below run as the owner, for whom row-level security is forced like for everybody: these policies are all
-- that it sees. Younger entries than 90 days are out of its reach, whatever a function is asked for.
CREATE POLICY retention ON identity.audit_events TO df_owner USING (recorded_at < now() - interval '90 days');
CREATE POLICY retention ON identity.audit_heads TO df_owner USING (true);
CREATE POLICY retention ON identity.audit_countersigns TO df_owner USING (true);
CREATE POLICY retention ON action.audit_heads_signed TO df_owner USING (recorded_at < now() - interval '90 days');

-- Removes the entries of an organisation that were recorded more than so many days ago (90 at least), from the front and
-- up to an end that action signed: what is kept begins behind that end, whose hash stays as the anchor. At most about
-- `portion` at once; says how many. Organisations come one after another: `org` is the first that is looked at.
CREATE FUNCTION identity.audit_events_drop(org uuid, days integer, portion integer) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET lock_timeout = '2s'
AS $$
DECLARE
    anchor bigint;
    cut bigint;
    cut_hash bytea;
    dropped bigint;
BEGIN
    IF org IS NULL OR days IS NULL OR days < 90 OR portion IS NULL OR portion < 1 THEN
        RAISE EXCEPTION 'entries of the last 90 days stay, and % days is less', days USING ERRCODE = 'invalid_parameter_value';
    END IF;
    SELECT h.anchor_seq INTO anchor FROM identity.audit_heads AS h WHERE h.org_id = org FOR UPDATE;
    IF anchor IS NULL THEN
        RETURN 0;
    END IF;
    -- The last entry stays, so that a chain never begins with nothing.
    SELECT e.seq, e.hash INTO cut, cut_hash
    FROM identity.audit_countersigns AS c JOIN identity.audit_events AS e ON e.org_id = c.org_id AND e.seq = c.seq AND e.hash = c.hash
    WHERE c.org_id = org AND c.seq > anchor AND c.seq <= anchor + portion
        AND c.seq < (SELECT h.seq FROM identity.audit_heads AS h WHERE h.org_id = org)
        AND e.recorded_at < now() - make_interval(days => days)
    ORDER BY c.seq DESC LIMIT 1;
    IF cut IS NULL THEN
        -- More entries than a portion between two signatures.
        SELECT e.seq, e.hash INTO cut, cut_hash
        FROM identity.audit_countersigns AS c JOIN identity.audit_events AS e ON e.org_id = c.org_id AND e.seq = c.seq AND e.hash = c.hash
        WHERE c.org_id = org AND c.seq > anchor
            AND c.seq < (SELECT h.seq FROM identity.audit_heads AS h WHERE h.org_id = org)
            AND e.recorded_at < now() - make_interval(days => days)
        ORDER BY c.seq LIMIT 1;
    END IF;
    IF cut IS NULL THEN
        RETURN 0;
    END IF;
    DELETE FROM identity.audit_events AS e WHERE e.org_id = org AND e.seq <= cut;
    GET DIAGNOSTICS dropped = ROW_COUNT;
    -- That of the anchor stays: by it a verification sees that nobody moved the anchor.
    DELETE FROM identity.audit_countersigns AS c WHERE c.org_id = org AND c.seq < cut;
    UPDATE identity.audit_heads AS h SET anchor_seq = cut, anchor_hash = cut_hash WHERE h.org_id = org;
    RETURN dropped;
END $$;
REVOKE ALL ON FUNCTION identity.audit_events_drop(uuid, integer, integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION identity.audit_events_drop(uuid, integer, integer) TO df_identity_system;

-- Removes copies of more than so many days ago (90 at least), at most `portion` at once; says how many. The first that is
-- kept of an organisation is the one by which the anchor of identity's chain is verified, or later: so a day longer than
-- identity keeps entries.
CREATE FUNCTION action.audit_heads_signed_drop(days integer, portion integer) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET lock_timeout = '2s'
AS $$
DECLARE
    dropped bigint;
BEGIN
    IF days IS NULL OR days < 90 OR portion IS NULL OR portion < 1 THEN
        RAISE EXCEPTION 'copies of the last 90 days stay, and % days is less', days USING ERRCODE = 'invalid_parameter_value';
    END IF;
    DELETE FROM action.audit_heads_signed AS s WHERE s.ctid IN (
        SELECT o.ctid FROM action.audit_heads_signed AS o
        WHERE o.recorded_at < now() - make_interval(days => days)
            -- The newest of an organisation stays, however old: it is what the next one follows.
            AND EXISTS (SELECT FROM action.audit_heads_signed AS n
                WHERE n.org_id = o.org_id AND n.seq > o.seq AND n.recorded_at < now() - make_interval(days => days))
        ORDER BY o.org_id, o.seq LIMIT portion);
    GET DIAGNOSTICS dropped = ROW_COUNT;
    RETURN dropped;
END $$;
REVOKE ALL ON FUNCTION action.audit_heads_signed_drop(integer, integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION action.audit_heads_signed_drop(integer, integer) TO df_action_system;
