-- An index serves questions about its first column. PostgreSQL may also read all of it for one about a later column, and does so
-- where it believes that there is next to nothing: after a table was emptied, an `id` was looked up in `waiting_of_job`, then for each
-- of a hundred thousand. Whoever names the first column implies these conditions, which hold for every row; nobody else can use the
-- index. (A planner that knows them to hold would leave them out: `services/scheduler/tests/main/plans.rs` tells.)
DROP INDEX scheduler.waiting_of_job;
CREATE INDEX waiting_of_job ON scheduler.waiting (job_id, id) WHERE job_id IS NOT NULL;

DROP INDEX scheduler.ended_in_status;
CREATE INDEX ended_in_status ON scheduler.ended (status, org_id, id) WHERE status IS NOT NULL;
DROP INDEX scheduler.ended_of_job;
CREATE INDEX ended_of_job ON scheduler.ended (job_id, status, id) WHERE job_id IS NOT NULL;

-- Of jobs both the place in a list and the name are asked for with an organisation, and so is an id.
DROP INDEX scheduler.jobs_pool;
CREATE INDEX jobs_pool ON scheduler.jobs (pool, org_id, id) WHERE pool IS NOT NULL;
ALTER TABLE scheduler.jobs DROP CONSTRAINT jobs_name_key;
CREATE UNIQUE INDEX jobs_name_key ON scheduler.jobs (org_id, name) WHERE name IS NOT NULL;
