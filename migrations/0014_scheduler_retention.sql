-- Retention counts from the end: a day of executions goes when nothing of it waits or runs, and nothing of it ended since `keep_from`. One that
-- was put off for weeks, or begun again by hand, can be read as long as any other.
--
-- Rows come into `ended` in the order of their ends, so a summary of each stretch of pages finds the late ones of a day. (The policy first: it
-- takes the stronger lock, and whoever reads and then writes meanwhile waits for the first of them, not between the two.)
CREATE POLICY retention ON scheduler.ended FOR SELECT TO df_owner USING (true);
CREATE INDEX ended_late ON scheduler.ended USING brin (ended_at);

-- Whether anything of a day is open, or ended since then. The bounds are written out: so only that day's partition is planned, locked
-- and read, by its own statistics. What ended late is looked for first: days that it keeps are asked of each time, and what waits has no
-- index by day.
CREATE FUNCTION scheduler.day_is_kept(day date, keep_from date) RETURNS boolean
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
    SET timezone = 'UTC'
AS $$
DECLARE
    kept boolean;
BEGIN
    EXECUTE format('
        SELECT EXISTS (SELECT FROM scheduler.ended WHERE id >= %1$L AND id < %2$L AND ended_at >= %3$L)
            OR EXISTS (SELECT FROM scheduler.running WHERE id >= %1$L AND id < %2$L)
            OR EXISTS (SELECT FROM scheduler.waiting WHERE id >= %1$L AND id < %2$L)',
        scheduler.first_id(day), scheduler.first_id(day + 1), keep_from::timestamptz) INTO kept;
    RETURN kept;
END $$;
REVOKE ALL ON FUNCTION scheduler.day_is_kept(date, date) FROM PUBLIC;

-- Drops the partitions of the first day before `keep_from`, which must lie a day back, of which any can be dropped; says how many it
-- dropped. (Of one day only: the tables are locked from the first on.) One stays that is being read, and one that is kept.
CREATE OR REPLACE FUNCTION scheduler.partitions_drop(keep_from date) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET timezone = 'UTC'
    SET lock_timeout = '500ms'
AS $$
DECLARE
    partition text;
    day date;
    first_day date;
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
        ORDER BY right(c.relname::text, 8), c.relname DESC
    LOOP
        EXIT WHEN first_day IS NOT NULL AND day <> first_day;
        BEGIN
            -- Nobody waits while it is looked whether there is anything to do.
            CONTINUE WHEN scheduler.day_is_kept(day, keep_from);
            -- Once more under the lock: nobody takes an execution out of here to begin it again after it was looked for.
            EXECUTE format('LOCK TABLE scheduler.%I IN ACCESS EXCLUSIVE MODE', partition);
            IF NOT scheduler.day_is_kept(day, keep_from) THEN
                EXECUTE format('DROP TABLE scheduler.%I', partition);
                dropped := dropped + 1;
                first_day := day;
            END IF;
        EXCEPTION WHEN lock_not_available THEN
            NULL;
        END;
    END LOOP;
    RETURN dropped;
END $$;
