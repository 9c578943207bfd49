//! How far handlers say they are: the last word of each, until the next renewal takes it along.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use contract::run::{ITEMS_MAX, Place, RunProgress};
use domain::ExecutionId;
use serde_json::Value;

use crate::handler::Failure;

/// The longest word, in bytes of its JSON text.
const PROGRESS_MAX_BYTES: usize = 4 * 1024;

/// The last words; at most one for each handler that runs.
#[derive(Debug, Default)]
pub struct Progress {
    words: Mutex<HashMap<ExecutionId, RunProgress>>,
}

impl Progress {
    fn words(&self) -> MutexGuard<'_, HashMap<ExecutionId, RunProgress>> {
        self.words.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The last word of an attempt.
    ///
    /// # Errors
    /// When it is too long.
    pub fn put(&self, place: Place, progress: Value) -> Result<(), Failure> {
        let bytes = progress.to_string().len();
        if bytes > PROGRESS_MAX_BYTES {
            return Err(Failure::permanent(format!(
                "progress: {bytes} bytes of JSON; at most {PROGRESS_MAX_BYTES}"
            )));
        }
        self.words()
            .insert(place.id, RunProgress { place, progress });
        Ok(())
    }

    /// Takes as many as one renewal carries.
    pub(crate) fn take(&self) -> Vec<RunProgress> {
        let mut words = self.words();
        if words.is_empty() {
            return Vec::new();
        }
        let ids: Vec<ExecutionId> = words.keys().copied().take(ITEMS_MAX).collect();
        ids.iter().filter_map(|id| words.remove(id)).collect()
    }

    /// They are not written: they go with the next one, if nothing newer was said.
    pub(crate) fn give_back(&self, taken: Vec<RunProgress>) {
        let mut words = self.words();
        for word in taken {
            words.entry(word.place.id).or_insert(word);
        }
    }

    /// The attempt has ended: its end says more.
    pub(crate) fn forget(&self, id: ExecutionId) {
        self.words().remove(&id);
    }
}

#[cfg(test)]
mod tests {
    use domain::OrgId;
    use serde_json::json;
    use uuid::Uuid;

    use super::*;

    #[test]
    fn what_is_given_back_is_said_again_unless_something_newer_was_said() {
        let progress = Progress::default();
        let place = |id| Place {
            org: OrgId::new(),
            id,
            attempt: 1,
            token: Uuid::new_v4(),
        };
        let (one, other) = (place(ExecutionId::new()), place(ExecutionId::new()));
        for place in [one, other] {
            progress.put(place, json!(1)).expect("a short word");
        }
        let taken = progress.take();
        assert_eq!(taken.len(), 2);
        assert!(progress.take().is_empty(), "said once");
        progress.put(one, json!(2)).expect("a short word");
        progress.give_back(taken);
        let again = progress.take();
        let said = |place: Place| {
            let word = again.iter().find(|word| word.place == place);
            word.map(|word| word.progress.clone())
        };
        assert_eq!((said(one), said(other)), (Some(json!(2)), Some(json!(1))));
    }
}
