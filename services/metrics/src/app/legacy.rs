//! Machines over HTTP: a report becomes a sample like any other, and keeps the machine online for a time.
//!
//! Three commits, in this order: the machine is bound (identity's, only at its first report and after a change), the
//! sample is written, the report is kept and the machine is online. Whoever dies between two of them has not answered,
//! so the agent reports again; each step finds done what was done. Whether the machine may speak is looked for in each of
//! them: what the mirror knows by then of a revocation or a quarantine comes first.

mod figures;

use bus::AgentSender;
use chrono::Duration;
use contract::agent::SampleBatch;
use contract::legacy::{
    FLEET_PAGE_MAX, LegacyBind, LegacyBound, LegacyFleet, LegacyFleetPage, LegacyMachine,
    LegacyReport, LegacyReported, check_name,
};
use contract::{Grant, Problem, ProblemKind};
use database::DatabaseError;
use domain::access::{LEGACY_AGENT, LEGACY_OPERATOR};
use domain::network::block;
use domain::{MachineId, Timestamp};

use crate::app::App;
use crate::error::MetricsError;
use crate::store;

/// How long identity may take to answer.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(2);

impl App {
    /// Takes a report, and answers when it is committed.
    ///
    /// # Errors
    /// FORBIDDEN without the scope, for a machine that is revoked or quarantined, and for a new one beyond the key's cap;
    /// INVALID naming the field; UNAVAILABLE when the agent is to report again.
    pub async fn legacy_report(
        &self,
        grant: &Grant,
        token: Option<&str>,
        request: LegacyReport,
    ) -> Result<LegacyReported, MetricsError> {
        grant.require(LEGACY_AGENT)?;
        check_name(&request.name)?;
        let now = Timestamp::now();
        let sample = figures::sample(&request.figures, now)?;
        let machine = self.legacy_machine(grant, token, &request).await?;
        let from = AgentSender {
            org: grant.org,
            machine,
        };
        let samples = vec![sample];
        let answer = self.sample_report(from, SampleBatch { samples }).await?;
        if answer.refused > 0 {
            return Err(Problem::invalid("report", "is outside of what a sample can be").into());
        }
        self.legacy_heard(from, &request, now).await?;
        Ok(LegacyReported {
            org: grant.org,
            machine_id: machine,
        })
    }

    /// The machine that speaks: as the mirror knows it, or else as identity says.
    async fn legacy_machine(
        &self,
        grant: &Grant,
        token: Option<&str>,
        request: &LegacyReport,
    ) -> Result<MachineId, MetricsError> {
        let mut tx = self.pools.tenant_read(grant.org).await?;
        let block = block(request.address);
        let (name, key) = (request.name.as_str(), grant.credential);
        let bound = store::legacy::bound_in_tx(&mut tx, grant.org, name, key, &block).await?;
        drop(tx);
        if let Some(machine) = bound {
            return Ok(machine);
        }
        let bind = LegacyBind {
            name: request.name.clone(),
            address: request.address,
            create: true,
        };
        let LegacyBound { machine_id } = self.bus.service_call(&bind, token, PATIENCE).await?;
        Ok(machine_id)
    }

    async fn legacy_heard(
        &self,
        from: AgentSender,
        request: &LegacyReport,
        now: Timestamp,
    ) -> Result<(), MetricsError> {
        let report = serde_json::to_value(&request.figures).map_err(|error| {
            tracing::error!(%error, "a report cannot be written as JSON");
            Problem::new(ProblemKind::Internal, "a report cannot be written")
        })?;
        let (client, ttl) = (
            request.address.to_canonical().to_string(),
            self.timing.http_ttl,
        );
        let mut tx = self.pools.system_tx().await?;
        let (org, machine) = (from.org, from.machine);
        store::legacy::report_set_in_tx(&mut tx, org, machine, now.utc(), &client, &report).await?;
        if store::legacy::stays_in_tx(&mut tx, org, machine, ttl).await? {
            return Ok(tx.commit().await?);
        }
        tx.commit().await?;
        // The lock is taken before anything else of its transaction.
        let mut tx = self.pools.system_tx().await?;
        store::presence::lock_in_tx(&mut tx).await?;
        let came = store::legacy::came_in_tx(&mut tx, org, machine, ttl).await?;
        tx.commit().await?;
        self.presence_announce(came.as_slice()).await;
        Ok(())
    }

    /// A page of the organisation's machines over HTTP that have reported and are not revoked.
    ///
    /// # Errors
    /// FORBIDDEN without the scope; INVALID naming `limit`; UNAVAILABLE.
    pub async fn legacy_fleet(
        &self,
        grant: &Grant,
        request: &LegacyFleet,
    ) -> Result<LegacyFleetPage, MetricsError> {
        grant.require(LEGACY_OPERATOR)?;
        if !(1..=FLEET_PAGE_MAX).contains(&request.limit) {
            let message = format!("must be from 1 to {FLEET_PAGE_MAX}");
            return Err(Problem::invalid("limit", message).into());
        }
        let after = request.after.as_deref().unwrap_or_default();
        if after.contains('\0') {
            return Err(Problem::invalid("after", "is no name").into());
        }
        let limit = i64::from(request.limit);
        let mut tx = self.pools.tenant_read(grant.org).await?;
        let mut found = store::legacy::fleet(&mut tx, after, limit + 1).await?;
        drop(tx);
        let more = found.len() as i64 > limit;
        found.truncate(request.limit as usize);
        let now = Timestamp::now();
        let items = found
            .into_iter()
            .map(|found| {
                let at = Timestamp::from(found.at);
                Ok(LegacyMachine {
                    name: found.http_name,
                    client: found.client,
                    at,
                    figures: serde_json::from_value(found.report).map_err(|error| {
                        DatabaseError::Bug(format!("a stored report cannot be read: {error}"))
                    })?,
                    ttl_remaining_seconds: self.legacy_remaining(now.since(at)),
                })
            })
            .collect::<Result<Vec<_>, DatabaseError>>()?;
        let next = items
            .last()
            .filter(|_| more)
            .map(|last: &LegacyMachine| last.name.clone());
        Ok(LegacyFleetPage {
            org: grant.org,
            items,
            next,
        })
    }

    fn legacy_remaining(&self, age: Duration) -> u32 {
        let ttl = i64::try_from(self.timing.http_ttl.as_millis()).unwrap_or(i64::MAX);
        let left = ttl.saturating_sub(age.num_milliseconds()).clamp(0, ttl);
        // A part of a second counts: 0 is when it has expired.
        u32::try_from(left.saturating_add(999) / 1_000).unwrap_or(u32::MAX)
    }
}
