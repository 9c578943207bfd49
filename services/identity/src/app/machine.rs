//! Machines after their enrolment: revoked, quarantined, released; and the feed that other services mirror. What operators
//! say of them is in [`super::edit`]; those over HTTP begin in [`super::legacy`], and are then machines like others.

use std::sync::Arc;

use contract::audit::{Actor, AuditEntry, Resource};
use contract::identity::{
    Done, MachineChanges, MachineChangesPage, MachineQuarantine, MachineRecord, MachineRelease,
    ReleaseAccept,
};
use contract::{Author, Problem, ProblemKind};
use database::OutboxRow;
use domain::access::MACHINES_WRITE;
use domain::{MachineId, OrgId};
use serde_json::{Value, json};

use crate::app::{App, audit};
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
        author: &Author,
        id: MachineId,
    ) -> Result<Done, IdentityError> {
        author.require(MACHINES_WRITE)?;
        let org = author.org;
        let mut tx = self.pools.tenant_tx(org).await?;
        let machine = locked(&mut tx, org, id).await?;
        if machine.revoked_at.is_none() {
            let row = store::machine::revoke_in_tx(&mut tx, org, id).await?;
            let entry = author.did("machine.revoke", resource(&row));
            let entry = entry.before(standing(&machine)).after(standing(&row));
            self.commit_change(tx, &row, "revoked", json!({ "by": author.sub }), entry)
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
        author: &Author,
        request: &MachineRelease,
    ) -> Result<Done, IdentityError> {
        author.require(MACHINES_WRITE)?;
        let (org, id, accept) = (author.org, request.machine_id, request.accept);
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
            let data = json!({ "by": author.sub, "releases": row.releases, "accept": accept });
            let entry = author.did("machine.release", resource(&row));
            let entry = entry.before(standing(&machine)).after(standing(&row));
            self.commit_change(tx, &row, "released", data, entry)
                .await?;
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
            let actor = Actor::service(contract::action::SERVICE);
            let entry = AuditEntry::new(org, actor, "machine.quarantine", resource(&row))
                .because(reason.as_str())
                .before(standing(&machine))
                .after(standing(&row));
            let data = json!({ "reason": reason });
            self.commit_change(tx, &row, "quarantined", data, entry)
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
        entry: AuditEntry,
    ) -> Result<(), IdentityError> {
        let event = OutboxRow::new(OrgId(row.org_id), "machine", verb, row.id, row.change, data);
        event.insert_in_tx(crate::SCHEMA, &mut tx).await?;
        audit::note_in_tx(&mut tx, entry).await?;
        tx.commit().await?;
        self.relay.wake();
        self.audit_relay.wake();
        if let Some(key) = KeyRow::of(row) {
            self.keys.apply(&key);
        }
        Ok(())
    }
}

/// A machine, as the audit names it.
pub(crate) fn resource(machine: &MachineRow) -> Resource {
    Resource::of("machine", machine.id).named(&machine.hostname)
}

/// What a machine may do, as the audit says it.
pub(crate) fn standing(machine: &MachineRow) -> Value {
    let status = match (machine.revoked_at, machine.quarantined_at) {
        (Some(_), _) => "REVOKED",
        (None, Some(_)) => "QUARANTINED",
        (None, None) => "ENROLLED",
    };
    json!({ "status": status, "quarantineReason": machine.quarantine_reason })
}

async fn locked(
    tx: &mut database::Tx,
    org: OrgId,
    id: MachineId,
) -> Result<MachineRow, IdentityError> {
    let machine = store::machine::lock_in_tx(tx, org, id).await?;
    Ok(machine.ok_or_else(|| Problem::not_found("machine"))?)
}
