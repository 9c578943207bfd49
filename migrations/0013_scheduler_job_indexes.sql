-- As 0011. Of jobs both the place in a list and the name are asked for with an organisation, and so is an id.
DROP INDEX scheduler.jobs_pool;
CREATE INDEX jobs_pool ON scheduler.jobs (pool, org_id, id) WHERE pool IS NOT NULL;
ALTER TABLE scheduler.jobs DROP CONSTRAINT jobs_name_key;
CREATE UNIQUE INDEX jobs_name_key ON scheduler.jobs (org_id, name) WHERE name IS NOT NULL;
