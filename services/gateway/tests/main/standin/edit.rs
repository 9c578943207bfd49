//! Identity's stand-in, as far as operators say something of machines.

use std::sync::Arc;

use bus::Service;
use contract::Problem;
use contract::identity::{
    LabelledMachine, MachineEdit, MachineEdited, MachineLabel, MachineLabelled,
};
use domain::MachineId;

use super::{CHANGE, DELIVERED, ELSEWHERE, HERE, Identity, NO_ONES, id};

impl Identity {
    pub(super) async fn answer_edits(self: &Arc<Self>, service: &Service) {
        let this = self.clone();
        let edit = move |ctx: bus::Context, edit: MachineEdit| {
            let this = this.clone();
            async move {
                ctx.grant()?.require(domain::access::MACHINES_WRITE)?;
                if edit.machine_id.0 == id(ELSEWHERE) {
                    return Err(Problem::not_found("machine"));
                }
                this.edits.lock().unwrap().push(edit);
                Ok(MachineEdited { change: CHANGE })
            }
        };
        service.answer(edit).await.unwrap();
        let this = self.clone();
        let label = move |ctx: bus::Context, label: MachineLabel| {
            let this = this.clone();
            async move {
                ctx.grant()?.require(domain::access::MACHINES_WRITE)?;
                this.labels.lock().unwrap().push(label.clone());
                let mut machines = vec![id(HERE).into(), id(DELIVERED).into()];
                if label.selector.as_deref() == Some(NO_ONES) {
                    machines.clear();
                }
                let item = |machine_id: MachineId| LabelledMachine {
                    machine_id,
                    change: (machine_id.0 == id(DELIVERED)).then_some(CHANGE),
                };
                Ok(MachineLabelled {
                    items: machines.into_iter().map(item).collect(),
                })
            }
        };
        service.answer(label).await.unwrap();
    }
}
