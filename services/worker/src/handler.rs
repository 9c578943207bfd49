//! What runs an execution, and what it may ask for while it runs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bus::Bus;
use contract::action::{Action, ActionCreate};
use contract::execution::RunAs;
use contract::run::{Assignment, Place, RunAct};
use contract::{Problem, ProblemKind};
use domain::{ExecutionId, JobId, OrgId, Timestamp};
use futures::future::BoxFuture;
use serde_json::{Map, Value};
use tokio_util::sync::WaitForCancellationFuture;

use crate::app::lease::Session;
use crate::app::log::AttemptLog;
use crate::app::progress::Progress;
use crate::app::run::Stop;

pub use crate::app::log::Level;

/// How long the scheduler may take to have an action queued: it asks two services.
const ACT_TIMEOUT: Duration = Duration::from_secs(12);
/// The first pause before that is asked again; each later one is twice as long, up to the last.
const ACT_PAUSE: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(2)];

/// Runs executions of one kind. One value runs all of them, many at once.
///
/// The future is polled only while the worker holds its lease. When its time is up, or somebody cancelled it, or the worker
/// ends, [`Context::cancelled`] is ready first; a second later the future is dropped wherever it is.
pub trait Handler: Send + Sync {
    /// Runs one attempt. What it returns is the execution's result, at most 64 KiB of JSON.
    fn run<'a>(&'a self, context: &'a Context) -> BoxFuture<'a, Result<Value, Failure>>;
}

/// Why an attempt did not complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// A sentence.
    pub message: String,
    /// Where, in the handler's own code.
    pub stack: Option<String>,
    /// Whether another attempt is useless, whatever the job allows.
    pub permanent: bool,
    /// The handler did nothing wrong: the attempt is given back, and none is used up.
    pub(crate) is_ours: bool,
}

impl Failure {
    /// One that another attempt may mend.
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            stack: None,
            permanent: false,
            is_ours: false,
        }
    }

    /// One that every attempt would meet.
    pub fn permanent(message: impl Into<String>) -> Self {
        Self {
            permanent: true,
            ..Self::new(message)
        }
    }

    pub(crate) fn ours(message: impl Into<String>) -> Self {
        Self {
            is_ours: true,
            ..Self::new(message)
        }
    }

    fn refused(problem: &Problem) -> Self {
        let permanent = matches!(
            problem.kind,
            ProblemKind::Invalid
                | ProblemKind::Unauthenticated
                | ProblemKind::Forbidden
                | ProblemKind::NotFound
                | ProblemKind::TooLarge
        );
        Self {
            permanent,
            ..Self::new(format!("refused: {}", problem.detail))
        }
    }
}

impl From<egress::EgressError> for Failure {
    fn from(error: egress::EgressError) -> Self {
        Self {
            permanent: error.is_lasting(),
            ..Self::new(error.to_string())
        }
    }
}

/// Handlers by name.
#[derive(Clone, Default)]
pub struct Handlers(BTreeMap<String, Arc<dyn Handler>>);

impl Handlers {
    /// Those that are always there.
    #[must_use]
    pub fn builtin() -> Self {
        crate::builtin::all()
    }

    /// With one more; another of this name is replaced.
    #[must_use]
    pub fn with(mut self, name: &str, handler: impl Handler + 'static) -> Self {
        self.0.insert(name.to_owned(), Arc::new(handler));
        self
    }

    pub(crate) fn get(&self, name: &str) -> Option<Arc<dyn Handler>> {
        self.0.get(name).cloned()
    }
}

/// What handlers reach through the worker.
pub(crate) struct Host {
    pub(crate) bus: Bus,
    pub(crate) egress: egress::Client,
    pub(crate) progress: Progress,
}

/// An attempt, as its handler sees it.
pub struct Context {
    /// The organisation.
    pub org: OrgId,
    /// The execution.
    pub execution: ExecutionId,
    /// The job.
    pub job: JobId,
    /// The handler's name, such as `builtin/noop`.
    pub handler: String,
    /// The attempt, from 1.
    pub attempt: i32,
    /// The job's configuration, with what this execution replaces of it.
    pub config: Map<String, Value>,
    /// When it was to run first.
    pub scheduled_for: Timestamp,
    /// On whose behalf.
    pub run_as: RunAs,
    concluded: i32,
    place: Place,
    stop: Arc<Stop>,
    session: Arc<Session>,
    host: Arc<Host>,
    log: Arc<AttemptLog>,
}

impl Context {
    pub(crate) fn new(
        assignment: Assignment,
        stop: Arc<Stop>,
        session: Arc<Session>,
        host: Arc<Host>,
        log: Arc<AttemptLog>,
    ) -> Self {
        Self {
            org: assignment.place.org,
            execution: assignment.place.id,
            job: assignment.job_id,
            handler: assignment.handler,
            attempt: assignment.place.attempt,
            config: assignment.config,
            scheduled_for: assignment.scheduled_for,
            run_as: assignment.run_as,
            concluded: assignment.concluded,
            place: assignment.place,
            stop,
            session,
            host,
            log,
        }
    }

    /// What tells a repetition to others: `<execution>:<attempts before this one whose handlers came to an end>`. An attempt that follows
    /// one whose worker was lost, or that was stopped in the middle (its time was up, say), has the same: nobody knows what that one did.
    #[must_use]
    pub fn idempotency_key(&self) -> String {
        format!("{}:{}", self.execution, self.concluded)
    }

    /// Notes a line. Lines over 1 MiB a second, or faster than the scheduler takes them, are dropped and counted.
    pub fn log(&self, level: Level, message: &str) {
        self.log.say(level, message);
    }

    /// Says how far it is; the last word counts, and travels within about two seconds.
    ///
    /// # Errors
    /// When it is more than 4 KiB of JSON.
    pub fn progress(&self, progress: Value) -> Result<(), Failure> {
        self.host.progress.put(self.place, progress)
    }

    /// Waits until the handler should end: its time is up, somebody cancelled it, or the worker ends. A second later it is
    /// dropped.
    pub fn cancelled(&self) -> WaitForCancellationFuture<'_> {
        self.stop.asked()
    }

    /// Whether the handler should end.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.stop.is_asked()
    }

    /// Makes a request outside, in the name of the organisation.
    ///
    /// # Errors
    /// [`Failure`] saying why there is no answer; also when the worker's lease is in doubt, or the handler should end.
    pub async fn fetch(&self, mut request: egress::Request) -> Result<egress::Response, Failure> {
        self.may_ask()?;
        request.tenant = self.org.0;
        tokio::select! {
            answer = self.host.egress.fetch(request) => Ok(answer?),
            () = self.cancelled() => Err(Failure::new("ended before the answer came")),
        }
    }

    /// Queues an action, with the right that whoever asked for the execution has now. Asked again in the same execution it is the same
    /// action, so it asks until it is answered.
    ///
    /// # Errors
    /// [`Failure`] with the reason of the refusal; permanent when it would be refused again. Also when the worker's lease is in
    /// doubt, or the handler should end.
    pub async fn act(&self, action: ActionCreate) -> Result<Action, Failure> {
        let request = RunAct {
            place: self.place,
            action,
        };
        let [mut pause, longest] = ACT_PAUSE;
        loop {
            self.may_ask()?;
            tokio::select! {
                answer = self.host.bus.service_call(&request, None, ACT_TIMEOUT) => match answer {
                    Ok(action) => return Ok(action),
                    Err(problem) if problem.is_lasting() => return Err(Failure::refused(&problem)),
                    Err(problem) => tracing::debug!(%problem, execution = %self.execution, "an action is asked for again"),
                },
                () = self.cancelled() => return Err(Failure::new("ended before the action was queued")),
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => pause = longest.min(pause * 2),
                () = self.cancelled() => return Err(Failure::new("ended before the action was queued")),
            }
        }
    }

    /// Nothing is asked for when another worker may soon have the execution.
    fn may_ask(&self) -> Result<(), Failure> {
        if self.session.is_doubted() {
            return Err(Failure::ours(
                "the worker has not heard from the scheduler for too long to do this",
            ));
        }
        Ok(())
    }
}
