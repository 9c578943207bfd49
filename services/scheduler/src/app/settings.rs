//! What is said of an organisation's executions as a whole.

use contract::audit::Resource;
use contract::job::{Settings, SettingsEdit};
use contract::merge::Edit;
use contract::{Author, Grant};
use database::OutboxRow;
use domain::access::{JOBS_READ, JOBS_WRITE, PLATFORM_ADMIN};
use domain::job::CONCURRENCY;
use domain::{OrgId, Timestamp};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::app::job::{changed, within};
use crate::app::{App, audit};
use crate::error::SchedulerError;
use crate::store::settings::SettingsRow;
use crate::store::{limits, settings};

/// What the audit and the events call it.
const NOUN: &str = "execution-settings";
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
        event(org, &before, &after, author.sub)
            .insert_in_tx(contract::job::SERVICE, &mut tx)
            .await?;
        let entry = author
            .did("settings.edit", Resource::of(NOUN, org))
            .before(json!(before.view()))
            .after(json!(after.view()));
        audit::note_in_tx(&mut tx, entry).await?;
        tx.commit().await?;
        self.relay.wake();
        self.audit_relay.wake();
        Ok(after.view())
    }
}

/// The event: who, what is said now, and which of it changed. The thing is the organisation.
fn event(org: OrgId, before: &SettingsRow, after: &SettingsRow, by: Uuid) -> OutboxRow {
    let mut data = told(after);
    let changed = changed(&told(before), &data);
    if let Some(data) = data.as_object_mut() {
        data.insert("by".to_owned(), json!(by));
        data.insert("changes".to_owned(), json!(changed));
    }
    OutboxRow::new(org, NOUN, "edited", org.0, after.version, data)
}

/// Each field, also what is not limited: that it was taken away is a change too.
fn told(row: &SettingsRow) -> Value {
    let settings = row.view();
    json!({ "paused": settings.paused, "concurrency": settings.concurrency, "weight": settings.weight })
}
