//! How the agent stands, written for `status` whenever it changed.

use bus::BusState;
use contract::agent::ResultReport;
use domain::Timestamp;

use crate::app::core::Core;
use crate::collect::inventory::VERSION;
use crate::state::standing::{Connection, LastRefused, OPEN_MAX, OpenAction, STANDING, Standing};

/// The longest text of a refusal, in characters.
const REASON_MAX_CHARS: usize = 300;

impl Core {
    /// Remembers that the owner's policy has refused something.
    pub(super) fn note_denied(&self, report: &ResultReport) {
        if let Some(error) = report
            .error
            .as_ref()
            .filter(|error| error.code == "policy-denied")
        {
            self.parts.refused.remember(LastRefused {
                at: report.finished_at,
                what: format!("action {}", report.action),
                reason: error.message.chars().take(REASON_MAX_CHARS).collect(),
            });
        }
    }

    /// Writes how the agent stands, when that is not what the file says.
    pub(super) fn note_standing(&mut self) {
        let (connection, words) = match &*self.state.borrow() {
            BusState::Connected(_) => (Connection::Connected, None),
            BusState::Refused(words) => (Connection::Refused, Some(words.clone())),
            BusState::Connecting | BusState::Closed => (Connection::Connecting, None),
        };
        let before = self.standing.as_ref();
        let since = before
            .filter(|before| before.connection == connection)
            .map_or_else(Timestamp::now, |before| before.since);
        let engine = &self.parts.engine;
        let standing = Standing {
            pid: std::process::id(),
            version: VERSION.to_owned(),
            session: self.parts.session,
            started_at: before.map_or_else(Timestamp::now, |before| before.started_at),
            connection,
            since,
            bus: self.parts.bus.server(),
            words,
            quarantined: engine.quarantined().map(ToOwned::to_owned),
            open: engine.open(),
            open_actions: engine
                .open_keys()
                .take(OPEN_MAX)
                .map(|(key, kind)| OpenAction {
                    action: key.action,
                    attempt: key.attempt,
                    kind: kind.map(|kind| kind.to_string()),
                })
                .collect(),
            unreported: self.outbox.results(),
            refused: self.parts.refused.count(),
            last_refused: self.parts.refused.last(),
            samples_dropped: self.parts.metrics.samples_dropped(),
            samples_refused: self.parts.metrics.samples_refused(),
        };
        if before == Some(&standing) {
            return;
        }
        if let Err(error) = standing.write(&self.parts.folder.file(STANDING)) {
            tracing::debug!(%error, "how the agent stands cannot be written");
        }
        self.standing = Some(standing);
    }
}
