//! Machines after their enrolment: revoked, quarantined, released; and the feed that other services mirror. What operators
//! say of them is in [`super::edit`]; those over HTTP begin in [`super::legacy`], and are then machines like others.

use std::sync::Arc;

use contract::identity::{
    Done, MachineChanges, MachineChangesPage, MachineQuarantine, MachineRecord, MachineRelease,
    ReleaseAccept,
};
use contract::{Grant, Problem, ProblemKind};
use database::OutboxRow;
use domain::access::MACHINES_WRITE;
use domain::{MachineId, OrgId};
use serde_json::{Value, json};

use crate::app::App;
use crate::error::IdentityError;
use crate::store;
use crate::store::machine::{KeyRow, MachineRow};

/// The longest page of changes, in machines and in bytes.
const PAGE_MAX: u32 = 1_000;
const PAGE_MAX_BYTES: usize = 1024 * 1024;
/// The longest reason of a quarantine, in characters.
const REASON_MAX_CHARS: usize = 500;

impl App {
    /// Revokes a machine: its key is never accepted again, and its connection is cut within a second. Again, it
    /// only looks for connections again.
    ///
    /// # Errors
    /// FORBIDDEN, NOT_FOUND, UNAVAILABLE.
    pub async fn machine_revoke(
        self: &Arc<Self>,
        grant: &Grant,
        id: MachineId,
    ) -> Result<Done, IdentityError> {
        grant.require(MACHINES_WRITE)?;
        let org = grant.org;
        let mut tx = self.pools.tenant_tx(org).await?;
        let machine = locked(&mut tx, org, id).await?;
        if machine.revoked_at.is_none() {
            let row = store::machine::revoke_in_tx(&mut tx, org, id).await?;
            self.commit_change(tx, &row, "revoked", json!({ "by": grant.sub }))
                .await?;
            tracing::info!(%org, machine = %id, "a machine was revoked");
            self.kick(org, id);
        } else {
            self.kick_again(org, id);
        }
        Ok(Done {})
    }

    /// An operator trusts a quarantined machine again. Of a machine that is not quarantined it changes nothing.
    ///
    /// # Errors
    /// FORBIDDEN, NOT_FOUND, UNAVAILABLE; CONFLICT when the machine is revoked, and when it cannot be bound to the key
    /// that is to be accepted.
    pub async fn machine_release(
        &self,
        grant: &Grant,
        request: &MachineRelease,
    ) -> Result<Done, IdentityError> {
        grant.require(MACHINES_WRITE)?;
        let (org, id, accept) = (grant.org, request.machine_id, request.accept);
        let mut tx = self.pools.tenant_tx(org).await?;
        let machine = locked(&mut tx, org, id).await?;
        if machine.revoked_at.is_some() {
            let text = "this machine was revoked, and that is for ever; enrol it as a new one";
            return Err(Problem::new(ProblemKind::Conflict, text).into());
        }
        if machine.quarantined_at.is_some() {
            if accept == ReleaseAccept::New {
                Self::legacy_may_move_in_tx(&mut tx, org, &machine).await?;
            }
            let row = store::machine::release_in_tx(&mut tx, org, id, accept).await?;
            let data = json!({ "by": grant.sub, "releases": row.releases, "accept": accept });
            self.commit_change(tx, &row, "released", data).await?;
        }
        Ok(Done {})
    }

    /// `action` saw what a copy would do: nothing is offered until an operator decides. A machine that is
    /// quarantined or revoked already stays as it is.
    ///
    /// # Errors
    /// NOT_FOUND, UNAVAILABLE.
    pub async fn machine_quarantine(
        &self,
        request: &MachineQuarantine,
    ) -> Result<Done, IdentityError> {
        let (org, id) = (request.org, request.machine_id);
        let reason: String = request
            .reason
            .chars()
            .filter(|c| !c.is_control())
            .take(REASON_MAX_CHARS)
            .collect();
        let mut tx = self.pools.tenant_tx(org).await?;
        let machine = locked(&mut tx, org, id).await?;
        if machine.quarantined_at.is_none() && machine.revoked_at.is_none() {
            let row = store::machine::quarantine_in_tx(&mut tx, org, id, &reason).await?;
            tracing::warn!(%org, machine = %id, reason, "a machine was quarantined");
            self.commit_change(tx, &row, "quarantined", json!({ "reason": reason }))
                .await?;
        }
        Ok(Done {})
    }

    /// The machines that changed after a cursor, in the order of commit.
    ///
    /// # Errors
    /// UNAVAILABLE.
    pub async fn machine_changes(
        &self,
        request: &MachineChanges,
    ) -> Result<MachineChangesPage, IdentityError> {
        let limit = i64::from(request.limit.clamp(1, PAGE_MAX));
        let mut rows =
            store::machine::changes(self.pools.system(), request.after, limit + 1).await?;
        let mut more = rows.len() as i64 > limit;
        rows.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        let mut items: Vec<MachineRecord> = Vec::with_capacity(rows.len());
        let mut bytes = 0;
        for record in rows.into_iter().map(MachineRecord::from) {
            bytes += serde_json::to_vec(&record)
                .map_err(IdentityError::internal)?
                .len();
            if bytes > PAGE_MAX_BYTES && !items.is_empty() {
                more = true;
                break;
            }
            items.push(record);
        }
        Ok(MachineChangesPage { items, more })
    }

    pub(crate) async fn commit_change(
        &self,
        mut tx: database::Tx,
        row: &MachineRow,
        verb: &str,
        data: Value,
    ) -> Result<(), IdentityError> {
        let event = OutboxRow::new(OrgId(row.org_id), "machine", verb, row.id, row.change, data);
        event.insert_in_tx(crate::SCHEMA, &mut tx).await?;
        tx.commit().await?;
        self.relay.wake();
        if let Some(key) = KeyRow::of(row) {
            self.keys.apply(&key);
        }
        Ok(())
    }
}

async fn locked(
    tx: &mut database::Tx,
    org: OrgId,
    id: MachineId,
) -> Result<MachineRow, IdentityError> {
    let machine = store::machine::lock_in_tx(tx, org, id).await?;
    Ok(machine.ok_or_else(|| Problem::not_found("machine"))?)
}
