//! Inventory: what a machine is, as its agent says.

use bus::AgentSender;
use contract::agent::{Inventory, Noted};
use contract::{Problem, ProblemKind};

use crate::app::{App, Standing};
use crate::error::MetricsError;
use crate::store;

/// The longest text of an inventory, in characters.
const TEXT_MAX_CHARS: usize = 256;

fn check(inventory: &Inventory) -> Result<(), Problem> {
    for (field, text) in [
        ("os", &inventory.os),
        ("osVersion", &inventory.os_version),
        ("kernel", &inventory.kernel),
        ("architecture", &inventory.architecture),
        ("cpuModel", &inventory.cpu_model),
        ("agentVersion", &inventory.agent_version),
    ] {
        if text.chars().count() > TEXT_MAX_CHARS {
            return Err(Problem::invalid(
                field,
                format!("is longer than {TEXT_MAX_CHARS} characters"),
            ));
        }
        if text.chars().any(char::is_control) {
            return Err(Problem::invalid(field, "has control characters"));
        }
    }
    Ok(())
}

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
        check(&inventory)?;
        let value = serde_json::to_value(&inventory)
            .map_err(|error| Problem::new(ProblemKind::Internal, error.to_string()))?;
        let mut standing = self.inventory_write(from, &value).await?;
        if standing == Standing::Unknown {
            self.mirror.refresh().await?;
            standing = self.inventory_write(from, &value).await?;
        }
        match standing {
            Standing::Known => Ok(Noted { noted: true }),
            Standing::Unknown => Err(crate::app::unknown(from)),
            Standing::Revoked => Err(crate::app::revoked()),
        }
    }

    async fn inventory_write(
        &self,
        from: AgentSender,
        inventory: &serde_json::Value,
    ) -> Result<Standing, MetricsError> {
        let mut tx = self.pools.tenant_tx(from.org).await?;
        let standing = store::machine::set_inventory(&mut tx, from.machine, inventory).await?;
        tx.commit().await?;
        Ok(standing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_texts_are_named() {
        let long = Inventory {
            cpu_model: "x".repeat(TEXT_MAX_CHARS + 1),
            ..Inventory::default()
        };
        let odd = Inventory {
            kernel: "6.1\0".into(),
            ..Inventory::default()
        };
        let paths = |inventory| {
            check(&inventory).map_err(|problem| {
                problem
                    .errors
                    .into_iter()
                    .map(|error| error.path)
                    .collect::<Vec<_>>()
            })
        };
        assert_eq!(paths(long), Err(vec!["cpuModel".to_owned()]));
        assert_eq!(paths(odd), Err(vec!["kernel".to_owned()]));
        assert_eq!(paths(Inventory::default()), Ok(()));
    }
}
