//! What comes back from editing machines.

use contract::Problem;
use contract::identity::{LabelledMachine, MachineLabelled};
use domain::MachineId;
use serde::Serialize;

use crate::document::machine as documented;
use crate::json::Documented;

/// The machines whose labels were to be edited.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Labelled {
    items: Vec<Item>,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Item {
    id: MachineId,
    changed: bool,
}

impl Documented for Labelled {
    type Schema = documented::LabelledMachines;
}

impl From<MachineLabelled> for Labelled {
    fn from(labelled: MachineLabelled) -> Self {
        let item = |machine: &LabelledMachine| Item {
            id: machine.machine_id,
            changed: machine.change.is_some(),
        };
        Self {
            items: labelled.items.iter().map(item).collect(),
        }
    }
}

/// The machine cannot be shown, after the edit was committed.
#[must_use]
pub fn written(problem: Problem) -> Problem {
    let detail = format!(
        "the edit is made, and making it again does no harm; the machine cannot be shown now: {}",
        problem.detail
    );
    Problem { detail, ..problem }
}
