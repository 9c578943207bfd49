//! What operators say of machines: a name, notes, labels; of one, or labels of many at once. The row is edited under its
//! lock, so two edits at once both hold, unless they are about the same field: then the later one does.

use std::collections::{BTreeSet, HashMap};

use contract::audit::{AuditEntry, Resource};
use contract::identity::{
    LabelledMachine, MachineEdit, MachineEdited, MachineEdits, MachineLabel, MachineLabelled,
};
use contract::merge::Edit;
use contract::{Author, FieldError, Grant, Problem};
use database::OutboxRow;
use domain::access::{MACHINES_READ, MACHINES_WRITE};
use domain::labels::{LabelError, Labels, Selector, check_edits, edited};
use domain::machine::{LABEL_MANY_MAX, check_display_name, check_notes};
use domain::{MachineId, OrgId};
use serde_json::{Value, json};
use sqlx::types::Json;
use uuid::Uuid;

use crate::app::{App, audit};
use crate::error::IdentityError;
use crate::store;
use crate::store::edit::Said;

/// Which machines a request means.
#[derive(Debug)]
enum Meant {
    Listed(Vec<MachineId>),
    Chosen(Selector),
}

impl App {
    /// Edits what an operator says of a machine, also of one that is revoked: its history may want a note.
    ///
    /// # Errors
    /// FORBIDDEN without `machines:write` and `machines:read` (what comes back tells how the machine is); INVALID naming
    /// the field; NOT_FOUND; UNAVAILABLE.
    pub async fn machine_edit(
        &self,
        author: &Author,
        request: MachineEdit,
    ) -> Result<MachineEdited, IdentityError> {
        let MachineEdit { machine_id, edits } = request;
        require(author)?;
        let edits = check(edits)?;
        let mut tx = self.pools.tenant_tx(author.org).await?;
        let before = store::edit::lock_in_tx(&mut tx, author.org, &[machine_id]).await?;
        let known = before.first().map(|said| said.change);
        let known = known.ok_or_else(|| Problem::not_found("machine"))?;
        let entry = author.did("machine.edit", Resource::of("machine", machine_id));
        let changed = self.edit_commit(tx, author, before, &edits, entry).await?;
        let change = changed.first().map_or(known, |(_, change)| *change);
        Ok(MachineEdited { change })
    }

    /// Edits the labels of many machines: of all that are meant, or of none.
    ///
    /// # Errors
    /// FORBIDDEN without `machines:write` and `machines:read`; INVALID naming the field, `selector` when it is empty or
    /// chooses too many, `labels` when a machine would have too many; NOT_FOUND naming the first that is listed and not
    /// there; UNAVAILABLE.
    pub async fn machine_label(
        &self,
        author: &Author,
        request: MachineLabel,
    ) -> Result<MachineLabelled, IdentityError> {
        require(author)?;
        if request.labels.is_empty() {
            return Err(Problem::invalid("labels", "must name a label").into());
        }
        let entry = author
            .did("machine.label", Resource::kind("machine"))
            .after(json!({ "labels": request.labels, "selector": request.selector }));
        let meant = meant(request.machine_ids, request.selector.as_deref())?;
        let edits = check(MachineEdits {
            labels: Edit::Set(request.labels),
            ..MachineEdits::default()
        })?;
        let mut tx = self.pools.tenant_tx(author.org).await?;
        let before = meant_in_tx(&mut tx, author.org, &meant).await?;
        let machines: Vec<MachineId> = before.iter().map(|said| said.id.into()).collect();
        let changed = self.edit_commit(tx, author, before, &edits, entry).await?;
        let changes: HashMap<Uuid, i64> = changed.into_iter().collect();
        let items = machines.into_iter().map(|machine_id| LabelledMachine {
            machine_id,
            change: changes.get(&machine_id.0).copied(),
        });
        Ok(MachineLabelled {
            items: items.collect(),
        })
    }

    /// Writes the machines that become others, an event for each and one audit entry for all, and commits; gives their
    /// change numbers.
    async fn edit_commit(
        &self,
        mut tx: database::Tx,
        grant: &Grant,
        before: Vec<Said>,
        edits: &MachineEdits,
        entry: AuditEntry,
    ) -> Result<Vec<(Uuid, i64)>, IdentityError> {
        let mut pairs = Vec::with_capacity(before.len());
        for before in before {
            let after = after(&before, edits)?;
            if after != before {
                pairs.push((before, after));
            }
        }
        if pairs.is_empty() {
            return Ok(Vec::new());
        }
        // Made before the turn in which machines change, for which others wait.
        let mut told: HashMap<Uuid, Value> = pairs
            .iter()
            .map(|(before, after)| (after.id, tell(grant, before, after)))
            .collect();
        let written: Vec<&Said> = pairs.iter().map(|(_, after)| after).collect();
        let changed = store::edit::edit_in_tx(&mut tx, grant.org, &written).await?;
        let events: Vec<OutboxRow> = changed
            .iter()
            .map(|(id, change)| {
                let data = told.remove(id).unwrap_or_default();
                OutboxRow::new(grant.org, "machine", "edited", *id, *change, data)
            })
            .collect();
        OutboxRow::insert_all_in_tx(&events, crate::SCHEMA, &mut tx).await?;
        audit::note_in_tx(&mut tx, noted(entry, &pairs)).await?;
        tx.commit().await?;
        self.relay.wake();
        self.audit_relay.wake();
        tracing::info!(org = %grant.org, machines = changed.len(), by = %grant.sub, "machines were edited");
        Ok(changed)
    }
}

/// The audit's entry for what became of machines: of one, what was said of it before and since (of notes only whether
/// there are any); of several, how many.
fn noted(entry: AuditEntry, pairs: &[(Said, Said)]) -> AuditEntry {
    let shown = |said: &Said| json!({ "displayName": said.display_name, "labels": said.labels, "hasNotes": said.notes.is_some() });
    match pairs {
        [(before, after)] => AuditEntry {
            resource: Resource::of("machine", before.id),
            ..entry
        }
        .before(shown(before))
        .after(shown(after)),
        _ => entry.count(pairs.len()),
    }
}

/// What comes back tells how the machines are, and a selector finds out: so whoever edits must be able to read.
fn require(grant: &Grant) -> Result<(), Problem> {
    grant.require(MACHINES_WRITE)?;
    grant.require(MACHINES_READ)
}

fn invalid(error: LabelError) -> Problem {
    Problem::invalid(error.path, error.message)
}

/// Edits that are well formed. Notes without text are no notes.
fn check(mut edits: MachineEdits) -> Result<MachineEdits, Problem> {
    if let Edit::Set(name) = &edits.display_name {
        check_display_name(name).map_err(|error| Problem::invalid("displayName", error))?;
    }
    if let Edit::Set(notes) = &edits.notes {
        check_notes(notes).map_err(|error| Problem::invalid("notes", error))?;
        if notes.trim().is_empty() {
            edits.notes = Edit::Clear;
        }
    }
    if let Edit::Set(labels) = &edits.labels {
        check_edits(labels).map_err(invalid)?;
    }
    Ok(edits)
}

fn meant(listed: Option<Vec<MachineId>>, selector: Option<&str>) -> Result<Meant, Problem> {
    match (listed, selector) {
        (Some(listed), None) if (1..=LABEL_MANY_MAX).contains(&listed.len()) => {
            Ok(Meant::Listed(listed))
        }
        (Some(listed), None) => {
            let message = format!("has {} items; 1 to {LABEL_MANY_MAX}", listed.len());
            Err(Problem::invalid("machineIds", message))
        }
        (None, Some(selector)) => Ok(Meant::Chosen(Selector::of_some(selector).map_err(invalid)?)),
        (Some(_), Some(_)) => Err(Problem::invalid(
            "selector",
            "must not be given beside `machineIds`",
        )),
        (None, None) => Err(Problem::invalid(
            "machineIds",
            "is required, unless there is a `selector`",
        )),
    }
}

async fn meant_in_tx(
    tx: &mut database::Tx,
    org: OrgId,
    meant: &Meant,
) -> Result<Vec<Said>, IdentityError> {
    match meant {
        Meant::Listed(listed) => {
            let found = store::edit::lock_in_tx(tx, org, listed).await?;
            let there: BTreeSet<Uuid> = found.iter().map(|said| said.id).collect();
            let missing = listed.iter().position(|id| !there.contains(&id.0));
            let Some(missing) = missing else {
                return Ok(found);
            };
            let problem = Problem::not_found("machine");
            let error = FieldError {
                path: format!("machineIds[{missing}]"),
                message: problem.detail.clone(),
            };
            Err(Problem {
                errors: vec![error],
                ..problem
            }
            .into())
        }
        Meant::Chosen(selector) => {
            let Some(filter) = selector.filter() else {
                return Ok(Vec::new());
            };
            // One more than there may be, to know that there are too many.
            let limit = LABEL_MANY_MAX as i64 + 1;
            let found = store::edit::choose_in_tx(tx, org, &filter, limit).await?;
            if found.len() > LABEL_MANY_MAX {
                let message = format!(
                    "chooses more than {LABEL_MANY_MAX} machines; narrow it, at most {LABEL_MANY_MAX} are taken in one request"
                );
                return Err(Problem::invalid("selector", message).into());
            }
            Ok(found)
        }
    }
}

/// What is said of a machine after an edit.
fn after(before: &Said, edits: &MachineEdits) -> Result<Said, Problem> {
    let labels = match &edits.labels {
        Edit::Keep => before.labels.0.clone(),
        Edit::Clear => Labels::new(),
        Edit::Set(edits) => edited(&before.labels, edits).map_err(|error| {
            let message = format!("machine {}: {}", before.id, error.message);
            Problem::invalid(error.path, message)
        })?,
    };
    Ok(Said {
        id: before.id,
        display_name: edits
            .display_name
            .clone()
            .applied(before.display_name.clone()),
        notes: edits.notes.clone().applied(before.notes.clone()),
        labels: Json(labels),
        change: before.change,
    })
}

/// What the event tells: who, and each value that changed as `{path, before, after}`. Of notes only that they did:
/// people write into them what is not for everybody who hears of events.
fn tell(grant: &Grant, before: &Said, after: &Said) -> Value {
    let mut changes = Vec::new();
    if before.display_name != after.display_name {
        changes.push(json!({
            "path": "displayName", "before": before.display_name, "after": after.display_name,
        }));
    }
    let keys: BTreeSet<&String> = before.labels.keys().chain(after.labels.keys()).collect();
    for key in keys {
        let (was, is) = (before.labels.get(key), after.labels.get(key));
        if was != is {
            changes.push(json!({ "path": format!("labels.{key}"), "before": was, "after": is }));
        }
    }
    if before.notes != after.notes {
        changes.push(json!({ "path": "notes" }));
    }
    json!({ "by": grant.sub, "changes": changes })
}
