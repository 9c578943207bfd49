//! A plan in the tables, and its changes. Each notes since when it holds: what began before may go on.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::{DateTime, Utc};
use dashfleet_scheduler::store::limits::{limits_set_in_tx, limits_set_tenant_in_tx};
use domain::{JobId, OrgId};
use uuid::Uuid;

use super::plan::{Change, KEYS, Plan, What};
use crate::main::limits::set_tenant;
use crate::main::stage::Stage;

pub struct Cast {
    orgs: Vec<(OrgId, Vec<JobId>)>,
    /// How long each job's handler runs.
    pub takes: Arc<HashMap<JobId, Duration>>,
    /// When something of a job or an organisation was last changed, by the database's clock.
    changed: Mutex<HashMap<Uuid, DateTime<Utc>>>,
}

impl Cast {
    /// All of it waits; nobody rings.
    pub async fn begin(stage: &Stage, plan: &Plan) -> Self {
        let (mut orgs, mut takes) = (Vec::new(), HashMap::new());
        for of in &plan.orgs {
            let (org, mut jobs) = (OrgId::new(), Vec::new());
            for of in &of.jobs {
                let job = stage.job(org, of.sort).await;
                for (key, count) in KEYS.into_iter().zip(of.waits) {
                    stage.enqueue(org, job, key, count).await;
                }
                takes.insert(job, of.takes);
                jobs.push(job);
            }
            let weight = of.weight;
            let sql =
                format!("UPDATE scheduler.tenants SET weight = {weight} WHERE org_id = '{org}'");
            stage.execute(&sql).await;
            set_tenant(stage, org, of.concurrency).await;
            orgs.push((org, jobs));
        }
        Self {
            orgs,
            takes: Arc::new(takes),
            changed: Mutex::default(),
        }
    }

    /// Changes a row, and then, with the row held, notes the time: whatever begins later than that sees the change, since a claim
    /// waits for the row.
    pub async fn change(&self, stage: &Stage, change: &Change) {
        let (org, jobs) = &self.orgs[change.org];
        let mut tx = stage.pools.tenant_tx(*org).await.unwrap();
        let (sql, job) = match change.what {
            What::Pause(job) => ("UPDATE scheduler.jobs SET paused_at = now()", Some(job)),
            What::Resume(job) => ("UPDATE scheduler.jobs SET paused_at = NULL", Some(job)),
            What::Job(job, ..) => (
                "UPDATE scheduler.jobs SET concurrency = $3, key_concurrency = $4",
                Some(job),
            ),
            What::Org(_) => ("UPDATE scheduler.tenants SET concurrency = $2", None),
        };
        let job = job.map(|job| jobs[job]);
        let sql = match job {
            Some(_) => format!("{sql} WHERE org_id = $1 AND id = $2"),
            None => format!("{sql} WHERE org_id = $1"),
        };
        let query = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(org.0);
        let query = match change.what {
            What::Pause(_) | What::Resume(_) => query.bind(job.map(|job| job.0)),
            What::Job(_, all, of_key) => query.bind(job.map(|job| job.0)).bind(all).bind(of_key),
            What::Org(all) => query.bind(all),
        };
        query.execute(&mut *tx).await.unwrap();
        let now: DateTime<Utc> = sqlx::query_scalar("SELECT clock_timestamp()")
            .fetch_one(&mut *tx)
            .await
            .unwrap();
        // Before the commit: nobody sees the new limit beside the old time.
        let of = job.map_or(org.0, |job| job.0);
        self.changed.lock().unwrap().insert(of, now);
        match job {
            Some(job) => limits_set_in_tx(&mut tx, *org, job).await.unwrap(),
            None => limits_set_tenant_in_tx(&mut tx, *org).await.unwrap(),
        }
        tx.commit().await.unwrap();
    }

    /// Whether something that began at this time began under the limits that there are now.
    pub fn is_since(&self, of: Uuid, began: DateTime<Utc>) -> bool {
        let changed = self.changed.lock().unwrap();
        changed.get(&of).is_none_or(|changed| began > *changed)
    }

    /// How many have ended, as SQL.
    pub fn ended(&self) -> String {
        let orgs: Vec<String> = self
            .orgs
            .iter()
            .map(|(org, _)| format!("'{org}'"))
            .collect();
        format!(
            "SELECT count(*) FROM scheduler.ended WHERE status = 'COMPLETED' AND org_id IN ({})",
            orgs.join(", ")
        )
    }
}
