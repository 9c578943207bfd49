//! A plan in the tables, and its changes, by the statements that users' edits run. Each notes since when it holds: what began before
//! may go on.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::{DateTime, Utc};
use dashfleet_scheduler::store::job::{job_lock_in_tx, job_update_in_tx};
use dashfleet_scheduler::store::limits::{limits_set_in_tx, limits_set_tenant_in_tx};
use dashfleet_scheduler::store::settings::{settings_lock_in_tx, settings_update_in_tx};
use database::Tx;
use domain::{JobId, OrgId};
use uuid::Uuid;

use super::plan::{Change, KEYS, OfJob, OfOrg, Plan, What};
use super::rate::{self, Rate, Seen};
use crate::main::limits::set_tenant;
use crate::main::stage::Stage;

/// How many of an organisation have begun, and how many wait.
const STOOD: &str = "
    SELECT (SELECT count(*) FROM scheduler.running WHERE org_id = $1) + (SELECT count(*) FROM scheduler.ended WHERE org_id = $1),
        (SELECT count(*) FROM scheduler.waiting WHERE org_id = $1)";

pub struct Cast {
    orgs: Vec<(OrgId, Vec<JobId>)>,
    /// How long each job's handler runs.
    pub takes: Arc<HashMap<JobId, Duration>>,
    notes: Mutex<Notes>,
}

#[derive(Default)]
struct Notes {
    /// When something of a job or an organisation was last changed (but for rates), by the database's clock.
    changed: HashMap<Uuid, DateTime<Utc>>,
    /// By job.
    rates: HashMap<Uuid, Rate>,
    /// How many of an organisation had begun when it was paused.
    paused: HashMap<OrgId, i64>,
    /// At the end of how many such pauses something waited.
    pauses: usize,
}

impl Cast {
    /// All of it waits; nobody rings.
    pub async fn begin(stage: &Stage, plan: &Plan) -> Self {
        let (mut orgs, mut takes, mut notes) = (Vec::new(), HashMap::new(), Notes::default());
        for of in &plan.orgs {
            let (org, mut jobs) = (OrgId::new(), Vec::new());
            for of in &of.jobs {
                let job = stage.job(org, of.sort).await;
                for (key, count) in KEYS.into_iter().zip(of.waits) {
                    stage.enqueue(org, job, key, count).await;
                }
                takes.insert(job, of.takes);
                notes.rates.insert(job.0, Rate::new(of.sort.rate));
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
            notes: Mutex::new(notes),
        }
    }

    pub fn jobs(&self) -> Vec<Uuid> {
        let jobs = self.orgs.iter().flat_map(|(_, jobs)| jobs);
        jobs.map(|job| job.0).collect()
    }

    /// Changes a row that it holds: claims hold it too until their commit, and wait for it. So whatever has begun by then began before
    /// the change, and all that begins later sees it. Notes are written before the commit: nobody sees what is new beside them.
    pub async fn change(&self, stage: &Stage, change: &Change) {
        let (org, jobs) = &self.orgs[change.org];
        let mut tx = stage.pools.tenant_tx(*org).await.unwrap();
        match change.what {
            What::Job(job, edit) => self.change_job(&mut tx, *org, jobs[job], edit).await,
            What::Org(edit) => self.change_org(&mut tx, *org, edit).await,
        }
        tx.commit().await.unwrap();
    }

    async fn change_job(&self, tx: &mut Tx, org: OrgId, job: JobId, edit: OfJob) {
        let before = job_lock_in_tx(tx, org, job).await.unwrap().unwrap();
        let now = now(tx).await;
        let seen = rate::seen(tx, &[job.0]).await;
        let mut after = before.clone();
        after.version += 1;
        match edit {
            OfJob::Pause => after.paused_at = Some(now),
            OfJob::Resume => after.paused_at = None,
            OfJob::Concurrency(all, of_key) => {
                after.concurrency = all;
                after.key_concurrency = of_key;
            }
            OfJob::Rate(rate) => {
                after.rate_max = rate.map(|(max, _)| max);
                after.rate_per_ms = rate.map(|(_, per_ms)| per_ms);
            }
        }
        job_update_in_tx(tx, org, &after).await.unwrap();
        if after.limits() != before.limits() {
            limits_set_in_tx(tx, org, job).await.unwrap();
        }
        let mut notes = self.notes.lock().unwrap();
        if !matches!(edit, OfJob::Rate(_)) {
            notes.changed.insert(job.0, now);
        }
        let rate = after.rate_max.zip(after.rate_per_ms);
        let known = notes.rates.get_mut(&job.0).unwrap();
        known
            .change(&seen[0], rate)
            .unwrap_or_else(|wrong| panic!("rate of {job}, before {edit:?}: {wrong}"));
    }

    async fn change_org(&self, tx: &mut Tx, org: OrgId, edit: OfOrg) {
        let before = settings_lock_in_tx(tx, org).await.unwrap();
        let now = now(tx).await;
        let (begun, waits): (i64, i64) = sqlx::query_as(STOOD)
            .bind(org.0)
            .fetch_one(&mut **tx)
            .await
            .unwrap();
        let mut after = before.clone();
        after.version += 1;
        match edit {
            OfOrg::Pause => after.paused_at = Some(now),
            OfOrg::Resume => after.paused_at = None,
            OfOrg::Concurrency(all) => after.concurrency = all,
        }
        settings_update_in_tx(tx, org, &after).await.unwrap();
        if after.concurrency != before.concurrency {
            limits_set_tenant_in_tx(tx, org).await.unwrap();
        }
        let mut notes = self.notes.lock().unwrap();
        notes.changed.insert(org.0, now);
        match edit {
            OfOrg::Pause => {
                notes.paused.insert(org, begun);
            }
            OfOrg::Resume => {
                let by_then = notes.paused.remove(&org).unwrap();
                assert_eq!(begun, by_then, "of {org} some began while it was paused");
                notes.pauses += usize::from(waits > 0);
            }
            OfOrg::Concurrency(_) => {}
        }
    }

    /// Whether something that began at this time began under the limits that there are now.
    pub fn is_since(&self, of: Uuid, began: DateTime<Utc>) -> bool {
        let notes = self.notes.lock().unwrap();
        notes
            .changed
            .get(&of)
            .is_none_or(|changed| began > *changed)
    }

    /// # Panics
    /// When more of a job began than its rate let.
    pub fn rates_hold(&self, seen: &[Seen]) {
        let mut notes = self.notes.lock().unwrap();
        for seen in seen {
            let known = notes.rates.get_mut(&seen.job).unwrap();
            known
                .look(seen)
                .unwrap_or_else(|wrong| panic!("rate of {}: {wrong}", seen.job));
        }
    }

    /// How much there was to be seen, in a few figures.
    pub fn told(&self) -> String {
        let notes = self.notes.lock().unwrap();
        let windows: usize = notes.rates.values().map(|rate| rate.windows).sum();
        let pauses = notes.pauses;
        format!("{windows} windows of rates, {pauses} organisations waited paused")
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

async fn now(tx: &mut Tx) -> DateTime<Utc> {
    sqlx::query_scalar("SELECT clock_timestamp()")
        .fetch_one(&mut **tx)
        .await
        .unwrap()
}
