//! Inventory: what a machine is, as its agent says. What changed is an event.

use std::collections::{BTreeMap, BTreeSet};

use bus::AgentSender;
use contract::agent::{Inventory, Noted};
use contract::{Problem, ProblemKind};
use database::OutboxRow;
use serde::Serialize;
use serde_json::Value;

use crate::app::{App, Standing};
use crate::error::MetricsError;
use crate::store;

/// The most changes that an event tells.
const CHANGES_MAX: usize = 50;

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
        inventory: &serde_json::Value,
    ) -> Result<Standing, MetricsError> {
        let (org, machine) = (from.org, from.machine);
        let mut tx = self.pools.system_tx().await?;
        let before = match store::machine::inventory_in_tx(&mut tx, org, machine).await? {
            Ok(before) => before,
            Err(standing) => return Ok(standing),
        };
        if before != *inventory {
            let version =
                store::machine::set_inventory_in_tx(&mut tx, org, machine, inventory).await?;
            let data = serde_json::to_value(diff(&before, inventory))
                .map_err(|error| Problem::new(ProblemKind::Internal, error.to_string()))?;
            OutboxRow::new(
                org,
                "machine",
                "inventory-changed",
                machine.0,
                version,
                data,
            )
            .insert_in_tx(contract::metrics::SERVICE, &mut tx)
            .await?;
        }
        tx.commit().await?;
        self.relay.wake();
        Ok(Standing::Known)
    }
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
    let mut changes: Vec<_> = paths
        .into_iter()
        .filter(|path| before.get(*path) != after.get(*path))
        .map(|path| Change {
            path: path.clone(),
            before: before.get(path).cloned().unwrap_or_default(),
            after: after.get(path).cloned().unwrap_or_default(),
        })
        .collect();
    let omitted = changes.len().saturating_sub(CHANGES_MAX);
    changes.truncate(CHANGES_MAX);
    Diff { changes, omitted }
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
        let diff = diff(&json!({}), &json!({ "users": users }));
        assert_eq!((diff.changes.len(), diff.omitted), (CHANGES_MAX, 5));
    }
}
