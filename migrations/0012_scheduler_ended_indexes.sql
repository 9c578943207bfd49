-- As 0011: an index for whoever names its first column, and for nobody else.
DROP INDEX scheduler.ended_in_status;
CREATE INDEX ended_in_status ON scheduler.ended (status, org_id, id) WHERE status IS NOT NULL;
DROP INDEX scheduler.ended_of_job;
CREATE INDEX ended_of_job ON scheduler.ended (job_id, status, id) WHERE job_id IS NOT NULL;
