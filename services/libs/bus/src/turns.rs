//! Fairness between agents: each has so many requests in work at a service, and no more. Whoever asks faster is not
//! heard; an agent that gets no answer asks again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use contract::subject::Up;
use domain::MachineId;

/// The turns of one endpoint.
#[derive(Debug)]
pub(crate) struct Turns {
    /// Only machines that have something in work.
    running: Mutex<HashMap<MachineId, usize>>,
    max: usize,
}

/// One request in work; its place is free again when it is dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    turns: Arc<Turns>,
    machine: MachineId,
}

/// How many requests of one agent are worked on at once. An honest agent asks `sync` and says what it is one at a
/// time; a second is a repetition after a lost answer. Reports and samples
/// share commits, and come as many as an agent sends at once (16).
fn in_work_max(word: Up) -> usize {
    match word {
        Up::Sync | Up::Inventory | Up::Stopping => 2,
        Up::Metrics | Up::Accepted | Up::Started | Up::Result => 16,
    }
}

impl Turns {
    pub(crate) fn of(word: Up) -> Arc<Self> {
        Arc::new(Self {
            running: Mutex::default(),
            max: in_work_max(word),
        })
    }

    /// A turn for this machine; `None` when it has as many as it may.
    pub(crate) fn take(self: &Arc<Self>, machine: MachineId) -> Option<Turn> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let count = running.entry(machine).or_default();
        if *count >= self.max {
            return None;
        }
        *count += 1;
        Some(Turn {
            turns: Arc::clone(self),
            machine,
        })
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut running = self
            .turns
            .running
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = running.get_mut(&self.machine) {
            *count -= 1;
            if *count == 0 {
                running.remove(&self.machine);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_machine_has_its_turns_and_no_more_and_another_has_its_own() {
        let turns = Turns::of(Up::Sync);
        let (one, other) = (MachineId::new(), MachineId::new());
        let first = turns.take(one);
        let second = turns.take(one);
        assert!(first.is_some() && second.is_some() && turns.take(one).is_none());
        let others = turns.take(other);
        assert!(others.is_some());
        drop(first);
        let third = turns.take(one);
        assert!(third.is_some() && turns.take(one).is_none());
        drop((second, third, others));
        assert!(
            turns
                .running
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .is_empty()
        );
    }
}
