-- An index serves questions about its first column. PostgreSQL may also read all of it for one about a later column, and does so
-- where it believes that there is next to nothing: after a table was emptied, an `id` was looked up in `waiting_of_job`, then for each
-- of a hundred thousand. Whoever names the first column implies these conditions, which hold for every row; nobody else can use the
-- index. (A planner that knows them to hold would leave them out: `services/scheduler/tests/main/plans.rs` tells.)
-- (One table in a migration: whoever works meanwhile locks them in another order.)
DROP INDEX scheduler.waiting_of_job;
CREATE INDEX waiting_of_job ON scheduler.waiting (job_id, id) WHERE job_id IS NOT NULL;
