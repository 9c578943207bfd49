//! Inventory: what a machine is, as its agent says. What changed is an event, one in a while: the first change is told at
//! once, those that follow are told together when their time has come. The row always has what was said last.

use std::collections::{BTreeMap, BTreeSet};

use bus::AgentSender;
use contract::agent::{Inventory, Noted};
use contract::{Problem, ProblemKind};
use database::OutboxRow;
use domain::{MachineId, OrgId};
use serde::Serialize;
use serde_json::Value;

use crate::app::{App, Standing};
use crate::error::MetricsError;
use crate::store;

/// The most changes that an event tells.
const CHANGES_MAX: usize = 50;
/// The most bytes of them, as JSON: the stream that carries them is everybody's, and forgets the oldest when it is full.
const CHANGES_MAX_BYTES: usize = 4 * 1024;
/// How many machines are told of in one transaction: each brings two inventories.
const TOLD_AT_ONCE: i64 = 50;

impl App {
    /// Takes an inventory, and answers after the commit.
    ///
    /// # Errors
    /// INVALID naming the field; FORBIDDEN when the machine was revoked; UNAVAILABLE when it is not known yet.
    pub async fn inventory_report(
        &self,
        from: AgentSender,
        inventory: Inventory,
    ) -> Result<Noted, MetricsError> {
        inventory.check("")?;
        let value = serde_json::to_value(&inventory)
            .map_err(|error| Problem::new(ProblemKind::Internal, error.to_string()))?;
        self.machine_write(from, || self.inventory_write(from, &value))
            .await?;
        Ok(Noted { noted: true })
    }

    async fn inventory_write(
        &self,
        from: AgentSender,
        inventory: &Value,
    ) -> Result<Standing, MetricsError> {
        let (org, machine, pace) = (from.org, from.machine, self.timing.inventory);
        let mut tx = self.pools.system_tx().await?;
        let found = store::inventory::get_in_tx(&mut tx, org, machine, pace).await?;
        let (before, may_tell) = match found {
            Ok(found) => found,
            Err(standing) => return Ok(standing),
        };
        if before == *inventory {
            tx.commit().await?;
            return Ok(Standing::Known);
        }
        if may_tell {
            let version =
                store::inventory::set_told_in_tx(&mut tx, org, machine, inventory).await?;
            event(org, machine, version, &diff(&before, inventory))?
                .insert_in_tx(contract::metrics::SERVICE, &mut tx)
                .await?;
        } else {
            store::inventory::set_untold_in_tx(&mut tx, org, machine, inventory, pace).await?;
        }
        tx.commit().await?;
        self.relay.wake();
        Ok(Standing::Known)
    }

    /// Tells of the changes whose time has come. What came back to what it was is no change.
    ///
    /// # Errors
    /// [`MetricsError::Database`].
    pub async fn inventories_tell(&self) -> Result<(), MetricsError> {
        while store::inventory::any_due(self.pools.system()).await? {
            let mut tx = self.pools.system_tx().await?;
            let due = store::inventory::due_in_tx(&mut tx, TOLD_AT_ONCE).await?;
            if due.is_empty() {
                // Others hold them: another replica tells, or an agent speaks.
                return Ok(());
            }
            for untold in due {
                let (org, machine) = (OrgId(untold.org_id), MachineId(untold.id));
                let version = store::inventory::told_in_tx(&mut tx, org, machine).await?;
                let diff = diff(&untold.inventory_before, &untold.inventory);
                if diff.changes.is_empty() && diff.omitted == 0 {
                    continue;
                }
                event(org, machine, version, &diff)?
                    .insert_in_tx(contract::metrics::SERVICE, &mut tx)
                    .await?;
            }
            tx.commit().await?;
            self.relay.wake();
        }
        Ok(())
    }
}

fn event(
    org: OrgId,
    machine: MachineId,
    version: i64,
    diff: &Diff,
) -> Result<OutboxRow, MetricsError> {
    let data = serde_json::to_value(diff)
        .map_err(|error| Problem::new(ProblemKind::Internal, error.to_string()))?;
    let verb = "inventory-changed";
    Ok(OutboxRow::new(
        org, "machine", verb, machine.0, version, data,
    ))
}

/// What an event tells of a change of inventory.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Diff {
    /// What changed, in the order of paths.
    changes: Vec<Change>,
    /// How many changes more there are than are shown.
    omitted: usize,
}

/// One value that changed; `null` where there was, or is, none.
#[derive(Debug, PartialEq, Serialize)]
struct Change {
    path: String,
    before: Value,
    after: Value,
}

/// From one inventory to the next. Items of a list are known by their names, so that one that is new moves no other.
fn diff(before: &Value, after: &Value) -> Diff {
    let (before, after) = (leaves(before), leaves(after));
    let paths: BTreeSet<_> = before.keys().chain(after.keys()).collect();
    let mut diff = Diff {
        changes: Vec::new(),
        omitted: 0,
    };
    let mut room = CHANGES_MAX_BYTES;
    for path in paths {
        let (before, after) = (before.get(path), after.get(path));
        if before == after {
            continue;
        }
        let change = Change {
            path: path.clone(),
            before: before.cloned().unwrap_or_default(),
            after: after.cloned().unwrap_or_default(),
        };
        let size = serde_json::to_vec(&change).map_or(usize::MAX, |text| text.len());
        match room.checked_sub(size.saturating_add(1)) {
            Some(left) if diff.changes.len() < CHANGES_MAX => {
                room = left;
                diff.changes.push(change);
            }
            _ => diff.omitted += 1,
        }
    }
    diff
}

/// Every value that has no parts, by its path: `bios.version`, `disks[sda].size`, `users[ann]`.
fn leaves(value: &Value) -> BTreeMap<String, Value> {
    let mut found = BTreeMap::new();
    let mut waiting = vec![(String::new(), value)];
    while let Some((path, value)) = waiting.pop() {
        match value {
            Value::Object(fields) => waiting.extend(fields.iter().map(|(name, value)| {
                let dot = if path.is_empty() { "" } else { "." };
                (format!("{path}{dot}{name}"), value)
            })),
            Value::Array(items) => {
                waiting.extend(items.iter().map(|item| {
                    let name = item.get("name").unwrap_or(item);
                    let name = name
                        .as_str()
                        .map_or_else(|| name.to_string(), str::to_owned);
                    (format!("{path}[{name}]"), item)
                }));
            }
            leaf => {
                found.insert(path, leaf.clone());
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_diff_names_what_changed_and_nothing_else() {
        let before = json!({"os": "Debian", "cpuCores": 4, "users": ["ann"],
            "disks": [{"name": "sda", "size": 1}, {"name": "sdb", "size": 2}]});
        let after = json!({"os": "Debian", "cpuCores": 8, "packages": 412, "users": ["ann", "bob"],
            "disks": [{"name": "sdb", "size": 3}]});
        let diff = diff(&before, &after);
        let changes = serde_json::to_value(&diff.changes).unwrap_or_default();
        assert_eq!(
            changes,
            json!([
                {"path": "cpuCores", "before": 4, "after": 8},
                {"path": "disks[sda].name", "before": "sda", "after": null},
                {"path": "disks[sda].size", "before": 1, "after": null},
                {"path": "disks[sdb].size", "before": 2, "after": 3},
                {"path": "packages", "before": null, "after": 412},
                {"path": "users[bob]", "before": null, "after": "bob"},
            ])
        );
        assert_eq!(diff.omitted, 0);
    }

    #[test]
    fn a_diff_has_an_end() {
        let users: Vec<_> = (0..CHANGES_MAX + 5).map(|n| n.to_string()).collect();
        let diff_of = |after: &Value| diff(&json!({}), after);
        let diff = diff_of(&json!({ "users": users }));
        assert_eq!((diff.changes.len(), diff.omitted), (CHANGES_MAX, 5));
        // Long texts are fewer, and what is short beside them still fits.
        let users: Vec<_> = (0..40).map(|n| format!("{n:0>256}")).collect();
        let diff = diff_of(&json!({ "users": users, "version": 1 }));
        let bytes = serde_json::to_vec(&diff.changes).unwrap_or_default().len();
        assert!(bytes <= CHANGES_MAX_BYTES + 2, "{bytes}");
        assert_eq!(diff.changes.len() + diff.omitted, 41);
        assert!(diff.omitted > 20 && diff.changes.iter().any(|one| one.path == "version"));
    }
}
