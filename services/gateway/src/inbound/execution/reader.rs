//! Who reads a stream: their rights are those of the last time that was asked, and they are asked for again whenever they may have
//! changed. A stream goes on for minutes after its request was let in.

use contract::{Problem, ProblemKind};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};

use super::streams::Turn;
use crate::caller::{Caller, Presented};
use crate::credentials::Doubt;
use crate::owners::Owners;

/// Somebody who reads a stream, with their place among the streams.
pub struct Reader {
    caller: Caller,
    presented: Presented,
    doubts: broadcast::Receiver<Doubt>,
    /// Their rights may have changed since they were asked for.
    in_doubt: bool,
    _turn: Turn,
}

impl Reader {
    /// Whoever has taken a turn.
    ///
    /// # Errors
    /// What [`Caller::renew`] refuses: rights may have been taken away after the request was looked at, and before doubts were heard.
    pub async fn new(
        owners: &Owners,
        mut caller: Caller,
        presented: Presented,
        turn: Turn,
    ) -> Result<Self, Problem> {
        let doubts = owners.doubts();
        owners.renew(&mut caller, &presented).await?;
        Ok(Self {
            caller,
            presented,
            doubts,
            in_doubt: false,
            _turn: turn,
        })
    }

    /// With the rights of the last time that was asked.
    #[must_use]
    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    /// Waits until their rights may have changed.
    pub async fn doubted(&mut self) {
        loop {
            let heard = self.doubts.recv().await;
            if self.note(heard) {
                return;
            }
        }
    }

    /// Asks for their rights, when these may have changed. What cannot be asked holds as long as its grant, and is asked for again.
    ///
    /// # Errors
    /// They have none any more.
    pub async fn settle(&mut self, owners: &Owners) -> Result<(), Problem> {
        loop {
            let heard = match self.doubts.try_recv() {
                Ok(doubt) => Ok(doubt),
                Err(TryRecvError::Lagged(missed)) => Err(RecvError::Lagged(missed)),
                Err(TryRecvError::Empty | TryRecvError::Closed) => break,
            };
            self.note(heard);
        }
        if !self.in_doubt {
            return Ok(());
        }
        match owners.renew(&mut self.caller, &self.presented).await {
            Ok(is_new) => self.in_doubt = !is_new,
            Err(problem) if is_refusal(&problem) => return Err(problem),
            Err(problem) => tracing::debug!(%problem, "a stream's rights cannot be asked for"),
        }
        Ok(())
    }

    /// Whether what was heard is about them. Who missed something was meant, perhaps.
    fn note(&mut self, heard: Result<Doubt, RecvError>) -> bool {
        let is_about = heard.map_or(true, |doubt| self.caller.is_doubted(doubt));
        self.in_doubt |= is_about;
        is_about
    }
}

fn is_refusal(problem: &Problem) -> bool {
    matches!(
        problem.kind,
        ProblemKind::Unauthenticated | ProblemKind::Forbidden
    )
}
