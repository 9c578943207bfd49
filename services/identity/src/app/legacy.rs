//! Machines over HTTP: known by a name that anybody with the key can say, so bound at their first report to that key and
//! to the block of addresses that they come from. A change of either quarantines until an operator releases.

use std::net::IpAddr;

use contract::audit::{Actor, AuditEntry};
use contract::legacy::{LegacyBind, LegacyBound, check_name};
use contract::{Author, Problem, ProblemKind};
use domain::access::LEGACY_AGENT;
use domain::network::block;
use domain::{CredentialId, MachineId, OrgId};
use serde_json::json;

use crate::app::App;
use crate::app::machine::{resource, standing};
use crate::error::IdentityError;
use crate::store;
use crate::store::machine::MachineRow;

/// What a quarantined machine is told, and whoever speaks in its name.
const QUARANTINED: &str = "this machine is quarantined: an operator has to release it";

fn forbidden(detail: impl Into<String>) -> Problem {
    Problem::new(ProblemKind::Forbidden, detail)
}

impl App {
    /// The machine of this name, when it comes with its key from its block. A name that nobody has becomes a machine, if
    /// that is asked for. Whoever comes otherwise has quarantined it when this returns. Asking again changes nothing
    /// more, so a lost answer does no harm.
    ///
    /// # Errors
    /// FORBIDDEN without the scope, for a machine that is revoked or quarantined (now or before), and when the key has
    /// as many machines as it may; INVALID naming `machine_id`; NOT_FOUND when nothing was to be made; UNAVAILABLE.
    pub async fn legacy_bind(
        &self,
        author: &Author,
        request: &LegacyBind,
    ) -> Result<LegacyBound, IdentityError> {
        author.require(LEGACY_AGENT)?;
        check_name(&request.name)?;
        if !request.create {
            return self
                .legacy_known(author, request)
                .await?
                .ok_or_else(|| Problem::not_found("machine").into());
        }
        if let Some(bound) = self.legacy_known(author, request).await? {
            return Ok(bound);
        }
        if let Some(bound) = self.legacy_begin(author, request).await? {
            return Ok(bound);
        }
        // Another report of this name was first.
        self.legacy_known(author, request)
            .await?
            .ok_or_else(|| Problem::unavailable("the machine began and is not there").into())
    }

    /// Judges a machine that is there.
    async fn legacy_known(
        &self,
        author: &Author,
        request: &LegacyBind,
    ) -> Result<Option<LegacyBound>, IdentityError> {
        let (org, key) = (author.org, author.credential);
        let mut tx = self.pools.tenant_tx(org).await?;
        let Some(machine) = store::legacy::by_name_in_tx(&mut tx, org, &request.name).await? else {
            return Ok(None);
        };
        if machine.revoked_at.is_some() {
            return Err(forbidden("this machine was revoked").into());
        }
        if machine.quarantined_at.is_some() {
            return Err(forbidden(QUARANTINED).into());
        }
        let Some(reason) = contradiction(&machine, key, request.address) else {
            return Ok(Some(LegacyBound {
                machine_id: MachineId(machine.id),
            }));
        };
        let block = block(request.address);
        let row =
            store::legacy::quarantine_in_tx(&mut tx, org, machine.id, &reason, key, &block).await?;
        tracing::warn!(%org, machine = %row.id, reason, "a machine over HTTP was quarantined");
        let actor = Actor::service(contract::identity::SERVICE);
        let entry = AuditEntry::new(org, actor, "machine.quarantine", resource(&row))
            .with(key)
            .because(reason.as_str())
            .before(standing(&machine))
            .after(standing(&row));
        let entry = AuditEntry {
            address: Some(request.address),
            ..entry
        };
        let data = json!({ "reason": reason });
        self.commit_change(tx, &row, "quarantined", data, entry)
            .await?;
        Err(forbidden(QUARANTINED).into())
    }

    /// Whether a machine may be bound to the key that quarantined it, as if it began with it now: judged in the turn in
    /// which machines begin, which the release's change needs anyway.
    pub(super) async fn legacy_may_move_in_tx(
        tx: &mut database::Tx,
        org: OrgId,
        machine: &MachineRow,
    ) -> Result<(), IdentityError> {
        let Some(key) = machine.wanted_key else {
            return Ok(());
        };
        let conflict = |detail| Err(Problem::new(ProblemKind::Conflict, detail).into());
        store::legacy::turn_in_tx(tx).await?;
        if !store::legacy::is_usable_in_tx(tx, org, CredentialId(key)).await? {
            return conflict(
                "the key with which it came is revoked or has expired; KNOWN keeps its own",
            );
        }
        // It has its own room already.
        let moves = machine.bound_key != Some(key);
        let room = store::legacy::room_in_tx(tx, org, CredentialId(key)).await?;
        if moves && room.is_none_or(|room| room <= 0) {
            return conflict("the key with which it came has as many machines as it may have");
        }
        Ok(())
    }

    /// Makes a machine; nothing when one of its name was made meanwhile.
    async fn legacy_begin(
        &self,
        author: &Author,
        request: &LegacyBind,
    ) -> Result<Option<LegacyBound>, IdentityError> {
        let (org, key) = (author.org, author.credential);
        let mut tx = self.pools.tenant_tx(org).await?;
        // Looked at before the turn too, so that a key without room costs nobody else's turn.
        has_room_in_tx(&mut tx, org, key).await?;
        store::legacy::turn_in_tx(&mut tx).await?;
        has_room_in_tx(&mut tx, org, key).await?;
        let block = block(request.address);
        let made = store::legacy::insert_in_tx(&mut tx, org, &request.name, key, &block).await?;
        let Some(row) = made else {
            return Ok(None);
        };
        let data = json!({ "hostname": row.hostname, "transport": row.transport });
        // The service that asks forwards the grant, and says in its question where the machine is.
        let entry = AuditEntry {
            address: Some(request.address),
            ..author.did("legacy.bind", resource(&row))
        };
        let entry = entry.after(json!({ "hostname": row.hostname, "block": block }));
        self.commit_change(tx, &row, "enrolled", data, entry)
            .await?;
        tracing::info!(%org, machine = %row.id, hostname = row.hostname, block, "a machine over HTTP began");
        Ok(Some(LegacyBound {
            machine_id: MachineId(row.id),
        }))
    }
}

async fn has_room_in_tx(
    tx: &mut database::Tx,
    org: OrgId,
    key: CredentialId,
) -> Result<(), IdentityError> {
    match store::legacy::room_in_tx(tx, org, key).await? {
        Some(room) if room > 0 => Ok(()),
        Some(_) => Err(forbidden(
            "this key has as many machines as it may have; revoke one, or use another key",
        )
        .into()),
        None => Err(forbidden("this is no legacy key").into()),
    }
}

/// How a machine contradicts what it is known by, in words for the operator who is to decide.
fn contradiction(machine: &MachineRow, key: CredentialId, address: IpAddr) -> Option<String> {
    let block = block(address);
    let bound = machine.bound_block.as_deref().unwrap_or_default();
    match (machine.bound_key == Some(key.0), bound == block) {
        (true, true) => None,
        (false, true) => Some("reports came with another key".to_owned()),
        (true, false) => Some(format!("reports came from {block} instead of {bound}")),
        (false, false) => Some(format!(
            "reports came with another key, and from {block} instead of {bound}"
        )),
    }
}
