//! Orders from the bus: verified, then handed to the engine.

use bus::Message;
use domain::Timestamp;

use crate::app::core::Core;
use crate::inbound::order::{self, Verified};

impl Core {
    pub(super) fn order(&mut self, message: &Message) {
        let verified = order::verify(
            &message.subject,
            &message.payload,
            &self.parts.keys.keys,
            &self.parts.me,
        );
        let (verified, issued) = match verified {
            Ok(verified) => verified,
            Err(refusal) => return self.parts.refused.note(&message.subject, &refusal),
        };
        self.parts.clock.not_before(issued);
        let moment = self.moment();
        match verified {
            Verified::New(task) => {
                let (action, seq) = (task.action, task.seq);
                let offered = self.parts.engine.offer(*task, issued, moment);
                tracing::debug!(%action, seq, ?offered, "offered");
            }
            Verified::Cancel(task) => {
                tracing::info!(action = %task.action, seq = task.seq, "asked to cancel");
                self.parts.engine.cancel(*task, issued, moment);
            }
            Verified::Time => self.sync.want(true),
            Verified::Keys(keys) => self.rotate(keys, issued),
        }
    }

    fn rotate(&mut self, keys: Vec<String>, issued: Timestamp) {
        if keys == self.parts.keys.keys {
            return;
        }
        match self.parts.keys.rotated(keys, issued) {
            Ok(rotated) => match rotated.write(&self.parts.folder) {
                Ok(()) => {
                    tracing::info!(keys = ?rotated.keys, "the keys that sign orders are new");
                    self.parts.keys = rotated;
                }
                // The old ones stay pinned; the server says it again.
                Err(error) => tracing::error!(%error, "the new keys cannot be kept"),
            },
            Err(reason) => tracing::warn!(reason, "a rotation of keys is refused"),
        }
    }
}
