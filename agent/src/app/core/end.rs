//! The loop's end: what runs is waited for, what is owed is written, and the server is told.

use std::time::Duration;

use contract::agent::{ActionError, Stopping};
use contract::subject::{Up, up};
use domain::action::Outcome;
use tokio::task::JoinHandle;

use crate::app::core::{Core, Exit};
use crate::journal::record::Key;

/// How long the server may take to note that the agent stops.
const STOPPING_TIMEOUT: Duration = Duration::from_secs(1);
/// How long results are still offered: they are in the journal, and the next life offers them again.
const RESULTS_TIMEOUT: Duration = Duration::from_secs(1);
/// While it ends, the loop looks so often whether it is done.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Why and until when the loop is ending.
pub(super) struct Farewell {
    exit: Exit,
    begun: Duration,
    until: Duration,
    next_look: Duration,
    stopping: JoinHandle<()>,
}

impl Farewell {
    pub(super) fn next_look(&self) -> Duration {
        self.next_look
    }
}

impl Core {
    /// Begins to end: nothing begins any more.
    pub(super) fn end(&mut self, exit: Exit, reason: &str) {
        self.parts.engine.stop();
        let (bus, me) = (self.parts.bus.clone(), &self.parts.me);
        let (org, subject) = (me.org, up(me.org, me.machine, Up::Stopping));
        let body = Stopping {
            session_id: self.parts.session,
            reason: reason.to_owned(),
        };
        let stopping = tokio::spawn(async move {
            let noted = bus
                .agent_request::<_, contract::agent::Noted>(subject, org, &body, STOPPING_TIMEOUT)
                .await;
            if let Err(problem) = noted {
                tracing::debug!(%problem, "the server did not note that the agent stops");
            }
        });
        let begun = self.moment().boot;
        let until = begun + self.parts.patience;
        self.ending = Some(Farewell {
            exit,
            begun,
            until,
            next_look: begun,
            stopping,
        });
    }

    /// How the loop ended, when nothing is under way any more, or when that takes too long.
    pub(super) fn has_ended(&mut self) -> Option<Exit> {
        let now = self.moment().boot;
        let (connected, results) = (self.is_connected(), self.outbox.results());
        let ending = self.ending.as_mut()?;
        ending.next_look = now + LOOK_EVERY;
        let engine = &self.parts.engine;
        let said = results == 0 || !connected || now >= ending.begun + RESULTS_TIMEOUT;
        let quiet =
            engine.running() == 0 && !engine.is_writing() && ending.stopping.is_finished() && said;
        let late = now >= ending.until;
        if late && !quiet {
            tracing::warn!(
                running = engine.running(),
                "the agent ends with something under way"
            );
        }
        // Who was told to stop while it restarted stops: the next life has the restart's outcome either way.
        let exit = if self.parts.shutdown.has_begun() {
            Exit::Stopped
        } else {
            ending.exit
        };
        (quiet || late).then_some(exit)
    }

    /// An action restarts the agent, if it can be started again.
    pub(super) fn restart(&mut self, key: Key) {
        match &self.parts.program {
            Some(program) if program.is_file() => {
                tracing::info!("restarting the agent");
                if self.ending.is_none() {
                    self.end(Exit::Restart, "restart");
                }
            }
            _ => {
                let error = ActionError {
                    code: "restart-failed".into(),
                    message: "the agent's program file is not there any more".into(),
                };
                let moment = self.moment();
                self.parts
                    .engine
                    .finished(key, Outcome::Failed, None, Some(error), moment);
            }
        }
    }
}
