//! What is said of an organisation's executions as a whole.

use contract::audit::Resource;
use contract::job::{Settings, SettingsEdit};
use contract::merge::Edit;
use contract::{Author, Grant};
use domain::Timestamp;
use domain::access::{JOBS_READ, JOBS_WRITE, PLATFORM_ADMIN};
use domain::job::CONCURRENCY;
use serde_json::json;

use crate::app::job::within;
use crate::app::{App, audit};
use crate::error::SchedulerError;
use crate::store::{limits, settings};

/// What an organisation's share may be beside others.
const WEIGHT: std::ops::RangeInclusive<i16> = 1..=100;

impl App {
    /// What is said of the organisation's executions as a whole.
    ///
    /// # Errors
    /// FORBIDDEN, UNAVAILABLE.
    pub async fn settings_get(&self, grant: &Grant) -> Result<Settings, SchedulerError> {
        grant.require(JOBS_READ)?;
        let mut tx = self.pools.tenant_read(grant.org).await?;
        Ok(settings::settings_get_in_tx(&mut tx, grant.org)
            .await?
            .view())
    }

    /// Says something of the organisation's executions as a whole.
    ///
    /// # Errors
    /// INVALID naming the field; FORBIDDEN without `jobs:write`, and for `weight` without `platform:admin`; UNAVAILABLE,
    /// OUTCOME_UNKNOWN.
    pub async fn settings_edit(
        &self,
        author: &Author,
        request: &SettingsEdit,
    ) -> Result<Settings, SchedulerError> {
        author.require(JOBS_WRITE)?;
        if let Some(weight) = request.weight {
            author.require(PLATFORM_ADMIN)?;
            within("weight", weight, &WEIGHT)?;
        }
        if let Edit::Set(limit) = request.concurrency {
            within("concurrency", limit, &CONCURRENCY)?;
        }
        let org = author.org;
        let mut tx = self.pools.tenant_tx(org).await?;
        let before = settings::settings_lock_in_tx(&mut tx, org).await?;
        let mut after = before.clone();
        after.paused_at = match request.paused {
            Some(true) => before.paused_at.or_else(|| Some(Timestamp::now().utc())),
            Some(false) => None,
            None => before.paused_at,
        };
        after.concurrency = request.concurrency.applied(before.concurrency);
        after.weight = request.weight.unwrap_or(before.weight);
        if after == before {
            return Ok(before.view());
        }
        after.version += 1;
        settings::settings_update_in_tx(&mut tx, org, &after).await?;
        if after.concurrency != before.concurrency {
            limits::limits_set_tenant_in_tx(&mut tx, org).await?;
        }
        let entry = author
            .did("settings.edit", Resource::of("execution-settings", org))
            .before(json!(before.view()))
            .after(json!(after.view()));
        audit::note_in_tx(&mut tx, entry).await?;
        tx.commit().await?;
        self.audit_relay.wake();
        Ok(after.view())
    }
}
