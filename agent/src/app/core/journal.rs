//! What the journal's writer says, the journal written anew, and the floor of the clock in it.

use crate::app::core::{COMPACT_FROM_BYTES, Core};
use crate::clock::Moment;
use crate::error::AgentError;
use crate::journal::{Batch, Class, JournalEvent, Record};
use crate::platform;

/// The clock's floor is noted again when it has moved so far.
const CLOCK_EVERY: chrono::Duration = chrono::Duration::minutes(5);

impl Core {
    pub(super) fn journal(&mut self, event: JournalEvent) -> Result<(), AgentError> {
        let moment = self.moment();
        match event {
            JournalEvent::Durable { batch, used } => {
                self.parts.engine.durable(batch, moment);
                if used >= self.compact_at && !self.compacting {
                    self.compact(moment);
                }
            }
            JournalEvent::Rejected { batch } => self.parts.engine.rejected(batch, moment),
            JournalEvent::Head(head) => self.ask(head),
            JournalEvent::Compacted { used } => {
                self.compacting = false;
                self.compact_at = COMPACT_FROM_BYTES.max(used.saturating_mul(2));
                platform::memory_give_back();
            }
            JournalEvent::CompactionFailed { reason } => {
                tracing::warn!(
                    reason,
                    "the journal could not be written anew; it goes on as it is"
                );
                self.compacting = false;
                self.compact_at = self.compact_at.saturating_add(COMPACT_FROM_BYTES / 4);
            }
            JournalEvent::Broken { reason } => {
                let reason = format!(
                    "the journal cannot be written ({reason}): nothing can be executed safely"
                );
                return Err(AgentError::state(self.parts.folder.path(), reason));
            }
        }
        Ok(())
    }

    fn compact(&mut self, moment: Moment) {
        self.compacting = true;
        self.parts.engine.forget(moment);
        // What the engine still hands out was decided before this snapshot: it must be in the file before it.
        for batch in self.parts.engine.take_batches() {
            self.parts.journal.append(batch);
        }
        let mut records = self.parts.engine.snapshot(moment);
        records.extend(self.clock_record());
        self.parts.journal.compact(records);
    }

    fn clock_record(&self) -> Option<Record> {
        let (at, boot) = self.parts.clock.floor()?;
        let uptime_ms = u64::try_from(boot.as_millis()).unwrap_or(u64::MAX);
        Some(Record::Clock {
            at,
            boot: self.parts.boot.clone(),
            uptime_ms,
        })
    }

    /// Notes the floor of the clock when it has moved far enough; at the end in any case.
    pub(super) fn note_clock(&mut self, at_the_end: bool) {
        let Some(record) = self.clock_record() else {
            return;
        };
        let Record::Clock { at, .. } = &record else {
            return;
        };
        let far = self
            .clock_noted
            .is_none_or(|noted| at.since(noted) >= CLOCK_EVERY);
        if far || at_the_end {
            self.clock_noted = Some(*at);
            self.parts.journal.append(Batch {
                id: 0,
                class: Class::Lazy,
                records: vec![record],
            });
        }
    }
}
