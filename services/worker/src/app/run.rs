//! An attempt: its handler, looked after until it ends.
//!
//! Before each step of a handler the lease is looked at: a process that was stopped, or a machine that was suspended, goes on in
//! the middle of anything, and by then another worker may have the execution. So its handlers are dropped where they are and
//! none of their code runs any more.

use std::any::Any;
use std::future::poll_fn;
use std::panic::AssertUnwindSafe;
use std::pin::{Pin, pin};
use std::sync::{Arc, OnceLock};
use std::task::Poll;
use std::time::Duration;

use contract::execution::ExecutionError;
use contract::run::{Assignment, Finish, Place};
use domain::execution::{
    ERROR_MESSAGE_MAX_CHARS, ERROR_STACK_MAX_CHARS, Outcome, RESULT_MAX_BYTES,
};
use futures::FutureExt;
use serde_json::Value;
use tokio::time::{Instant, Sleep, sleep};
use tokio_util::sync::{CancellationToken, WaitForCancellationFuture};

use crate::app::lease::{Session, boot_now};
use crate::app::log::AttemptLog;
use crate::app::witness::Witness;
use crate::handler::{Context, Failure, Handler, Host};

/// How long a handler that was asked to end may take; then it is dropped.
pub(crate) const GRACE: Duration = Duration::from_secs(1);

/// Why a handler is asked to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// Its time is up.
    Timeout,
    /// Somebody cancelled the execution.
    Cancelled,
    /// The worker ends.
    Stopping,
}

impl Reason {
    fn outcome(self) -> Outcome {
        match self {
            Self::Timeout => Outcome::Timeout,
            Self::Cancelled => Outcome::Cancelled,
            Self::Stopping => Outcome::HandedBack,
        }
    }
}

/// Asks a handler to end.
#[derive(Debug, Default)]
pub(crate) struct Stop {
    token: CancellationToken,
    reason: OnceLock<Reason>,
}

impl Stop {
    /// Asks; the first reason counts.
    pub(crate) fn ask(&self, reason: Reason) {
        if self.reason.set(reason).is_ok() {
            self.token.cancel();
        }
    }

    pub(crate) fn asked(&self) -> WaitForCancellationFuture<'_> {
        self.token.cancelled()
    }

    pub(crate) fn is_asked(&self) -> bool {
        self.token.is_cancelled()
    }

    fn reason(&self) -> Option<Reason> {
        self.reason.get().copied()
    }
}

/// An attempt that is to run.
pub(crate) struct Work {
    pub(crate) assignment: Assignment,
    /// `None` when this worker has no such handler.
    pub(crate) handler: Option<Arc<dyn Handler>>,
    pub(crate) session: Arc<Session>,
    pub(crate) stop: Arc<Stop>,
    pub(crate) host: Arc<Host>,
    pub(crate) log: Arc<AttemptLog>,
    pub(crate) witness: Option<Arc<Witness>>,
}

/// An attempt that has ended here.
pub(crate) struct Ended {
    pub(crate) place: Place,
    /// What to tell the scheduler; nothing when the lease is over: then it knows better.
    pub(crate) finish: Option<Box<Finish>>,
    pub(crate) log: Arc<AttemptLog>,
}

/// How a handler's future ended.
enum Step {
    /// By itself.
    Returned(Result<Value, Failure>),
    /// By a panic, which says this.
    Panicked(String),
    /// It was asked to end, and was dropped.
    Dropped,
    /// The lease was over: it was not polled any more.
    LeaseOver,
}

/// Runs an attempt to its end. It never panics, and never returns before the handler's future is gone.
pub(crate) async fn attempt(work: Work) -> Ended {
    let Work {
        assignment,
        handler,
        session,
        stop,
        host,
        log,
        witness,
    } = work;
    let place = assignment.place;
    let timeout_ms = u64::try_from(assignment.timeout_ms).unwrap_or(0);
    let began = Instant::now();
    let step = match handler {
        None => Step::Returned(Err(Failure::permanent(format!(
            "this worker has no handler `{}`",
            assignment.handler
        )))),
        Some(handler) => {
            let context =
                Context::new(assignment, stop.clone(), session.clone(), host, log.clone());
            let guard = Guard {
                session: &session,
                stop: &stop,
                timeout: Duration::from_millis(timeout_ms),
                witness: witness.as_deref(),
                place,
            };
            guard.run(handler.as_ref(), &context).await
        }
    };
    let duration = began.elapsed();
    let finish = conclude(step, stop.reason(), timeout_ms).map(|conclusion| {
        Box::new(Finish {
            place,
            outcome: conclusion.outcome,
            duration_ms: i64::try_from(duration.as_millis()).unwrap_or(i64::MAX),
            result: conclusion.result,
            error: conclusion.error,
            permanent: conclusion.permanent,
            unbegun: false,
        })
    });
    Ended { place, finish, log }
}

/// An attempt that did not begin and is given back.
pub(crate) fn handed_back(place: Place) -> Finish {
    Finish {
        place,
        outcome: Outcome::HandedBack,
        duration_ms: 0,
        result: None,
        error: None,
        permanent: false,
        unbegun: true,
    }
}

/// What looks after a handler's future.
struct Guard<'a> {
    session: &'a Session,
    stop: &'a Stop,
    timeout: Duration,
    witness: Option<&'a Witness>,
    place: Place,
}

impl Guard<'_> {
    async fn run(&self, handler: &dyn Handler, context: &Context) -> Step {
        // Before the handler's future, so that it is dropped after that one.
        let mut told = Told {
            witness: self.witness,
            place: self.place,
            stepped: None,
        };
        // In the future, so that a panic before the first step is caught too.
        let work = AssertUnwindSafe(async { handler.run(context).await });
        let mut work = pin!(work.catch_unwind());
        let mut over = pin!(self.session.over());
        let mut asked = pin!(self.stop.asked());
        let mut deadline = pin!(sleep(self.timeout));
        let mut grace: Option<Pin<Box<Sleep>>> = None;
        let mut begun = false;
        poll_fn(|waker| {
            if self.session.is_over() || over.as_mut().poll(waker).is_ready() {
                return Poll::Ready(Step::LeaseOver);
            }
            if grace.is_none() {
                if deadline.as_mut().poll(waker).is_ready() {
                    self.stop.ask(Reason::Timeout);
                }
                if asked.as_mut().poll(waker).is_ready() {
                    grace = Some(Box::pin(sleep(GRACE)));
                }
            }
            if let Some(grace) = &mut grace {
                // What has not begun does not begin in order to be ended.
                if !begun || grace.as_mut().poll(waker).is_ready() {
                    return Poll::Ready(Step::Dropped);
                }
            }
            if !begun {
                begun = true;
                told.begins();
            }
            let step = work.as_mut().poll(waker);
            told.stepped();
            let Poll::Ready(ended) = step else {
                return Poll::Pending;
            };
            // The step may have been a long one.
            if self.session.is_over() {
                return Poll::Ready(Step::LeaseOver);
            }
            told.ends(match &ended {
                Ok(Ok(_)) => "end",
                Ok(Err(_)) | Err(_) => "fail",
            });
            Poll::Ready(match ended {
                Ok(returned) => Step::Returned(returned),
                Err(panic) => Step::Panicked(words(panic.as_ref())),
            })
        })
        .await
    }
}

/// What the witness is told of a handler: whatever began is ended or cut, except where the process dies.
struct Told<'a> {
    witness: Option<&'a Witness>,
    place: Place,
    /// When the last step was over; nothing before the first one, after the end, and where there is no witness.
    stepped: Option<Duration>,
}

impl Told<'_> {
    fn begins(&mut self) {
        if let Some(witness) = self.witness {
            witness.note("start", self.place);
            self.stepped();
        }
    }

    fn stepped(&mut self) {
        self.stepped = self.witness.map(|_| boot_now());
    }

    fn ends(&mut self, word: &str) {
        self.stepped = None;
        if let Some(witness) = self.witness {
            witness.note(word, self.place);
        }
    }
}

impl Drop for Told<'_> {
    fn drop(&mut self) {
        if let (Some(witness), Some(stepped)) = (self.witness, self.stepped) {
            witness.cut(self.place, stepped);
        }
    }
}

/// What a panic says.
fn words(panic: &(dyn Any + Send)) -> String {
    if let Some(text) = panic.downcast_ref::<&str>() {
        return (*text).to_owned();
    }
    panic
        .downcast_ref::<String>()
        .cloned()
        .unwrap_or_else(|| "no words".to_owned())
}

/// What the scheduler is told.
#[derive(Debug, PartialEq)]
struct Conclusion {
    outcome: Outcome,
    result: Option<Value>,
    error: Option<ExecutionError>,
    permanent: bool,
}

impl Conclusion {
    fn failed(message: &str, stack: Option<&str>, permanent: bool) -> Self {
        Self {
            outcome: Outcome::Failed,
            result: None,
            error: Some(error(message, stack)),
            permanent,
        }
    }

    fn ended(reason: Reason, timeout_ms: u64) -> Self {
        let message = match reason {
            Reason::Timeout => Some(format!("took longer than {timeout_ms} ms")),
            Reason::Cancelled => Some("cancelled while it ran".to_owned()),
            Reason::Stopping => None,
        };
        Self {
            outcome: reason.outcome(),
            result: None,
            error: message.map(|message| error(&message, None)),
            permanent: false,
        }
    }
}

fn error(message: &str, stack: Option<&str>) -> ExecutionError {
    let cut = |text: &str, most: usize| text.chars().take(most).collect::<String>();
    ExecutionError {
        message: cut(message, ERROR_MESSAGE_MAX_CHARS),
        stack: stack.map(|stack| cut(stack, ERROR_STACK_MAX_CHARS)),
    }
}

/// `None` when the lease was over. What was done is done, however late: a handler that returned has completed. One that failed
/// after it was asked to end has ended for that reason.
fn conclude(step: Step, reason: Option<Reason>, timeout_ms: u64) -> Option<Conclusion> {
    let conclusion = match (step, reason) {
        (Step::LeaseOver, _) => return None,
        (Step::Returned(Ok(value)), _) => completed(value),
        (_, Some(reason)) => Conclusion::ended(reason, timeout_ms),
        (Step::Returned(Err(failure)), None) if failure.is_ours => Conclusion {
            outcome: Outcome::HandedBack,
            result: None,
            error: None,
            permanent: false,
        },
        (Step::Returned(Err(failure)), None) => Conclusion::failed(
            &failure.message,
            failure.stack.as_deref(),
            failure.permanent,
        ),
        (Step::Panicked(words), None) => {
            Conclusion::failed(&format!("the handler panicked: {words}"), None, false)
        }
        // Whoever is dropped was asked before.
        (Step::Dropped, None) => Conclusion::ended(Reason::Stopping, timeout_ms),
    };
    Some(conclusion)
}

fn completed(value: Value) -> Conclusion {
    let result = Some(value).filter(|value| !value.is_null());
    let bytes = result.as_ref().map_or(0, |value| value.to_string().len());
    if bytes > RESULT_MAX_BYTES {
        let message = format!("the result has {bytes} bytes of JSON; at most {RESULT_MAX_BYTES}");
        return Conclusion::failed(&message, None, true);
    }
    Conclusion {
        outcome: Outcome::Completed,
        result,
        error: None,
        permanent: false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn outcome(step: Step, reason: Option<Reason>) -> Option<Outcome> {
        conclude(step, reason, 100).map(|conclusion| conclusion.outcome)
    }

    #[test]
    fn what_a_handler_did_counts_before_why_it_was_asked_to_end() {
        for reason in [
            None,
            Some(Reason::Timeout),
            Some(Reason::Cancelled),
            Some(Reason::Stopping),
        ] {
            let done = Step::Returned(Ok(json!({ "n": 1 })));
            assert_eq!(outcome(done, reason), Some(Outcome::Completed));
            assert_eq!(outcome(Step::LeaseOver, reason), None);
        }
        for (reason, expected) in [
            (Reason::Timeout, Outcome::Timeout),
            (Reason::Cancelled, Outcome::Cancelled),
            (Reason::Stopping, Outcome::HandedBack),
        ] {
            for step in [
                Step::Dropped,
                Step::Panicked("x".into()),
                Step::Returned(Err(Failure::permanent("x"))),
            ] {
                assert_eq!(outcome(step, Some(reason)), Some(expected));
            }
        }
        let ours = Step::Returned(Err(Failure::ours("x")));
        assert_eq!(outcome(ours, None), Some(Outcome::HandedBack));
    }

    #[test]
    fn a_result_that_is_too_long_is_a_failure_that_lasts() {
        let long = Step::Returned(Ok(json!("x".repeat(RESULT_MAX_BYTES))));
        let conclusion = conclude(long, None, 100).expect("a conclusion");
        assert!(conclusion.permanent && conclusion.outcome == Outcome::Failed);
        assert!(conclusion.result.is_none() && conclusion.error.is_some());
    }

    #[test]
    fn the_first_reason_counts() {
        let stop = Stop::default();
        stop.ask(Reason::Cancelled);
        stop.ask(Reason::Timeout);
        assert_eq!(stop.reason(), Some(Reason::Cancelled));
        assert!(stop.is_asked());
    }
}
