//! A stand-in for the scheduler: it keeps in memory what the real one keeps in its tables, and loses answers when it is told to.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use bus::{Bus, Service};
use contract::action::Action;
use contract::execution::RunAs;
use contract::grant::PrincipalKind;
use contract::run::{
    Assignment, Finish, FinishVerdict, LogChunk, Offer, Offers, Place, RunAct, RunBegin, RunClaim,
    RunClaimed, RunEnd, RunEnded, RunFinish, RunFinished, RunLease, RunLog, RunLogged, RunProgress,
    RunRenew,
};
use contract::{Problem, ProblemKind};
use domain::execution::Outcome;
use domain::{ExecutionId, JobId, OrgId, Timestamp};
use serde_json::Value;
use testkit::{Nats, eventually};
use uuid::Uuid;

pub const PATIENCE: Duration = Duration::from_secs(15);

/// What the scheduler knows, was told, and is in the mood for.
#[derive(Default)]
pub struct State {
    pub lease_ms: u64,
    pub waiting: HashMap<ExecutionId, Assignment>,
    pub running: HashMap<ExecutionId, Assignment>,
    pub begins: Vec<RunBegin>,
    /// When renewals were answered, since boot.
    pub renewed: Vec<Duration>,
    pub progress: Vec<RunProgress>,
    /// So many renewals take no progress.
    pub progress_missed: usize,
    pub claims: Vec<(RunClaim, Instant)>,
    /// Every finish as often as it came.
    pub finishes: Vec<Finish>,
    /// Those that counted, with what their logs had by then.
    pub applied: Vec<(Finish, usize)>,
    pub logs: Vec<LogChunk>,
    /// What is logged gets no answer, and is not kept.
    pub logs_away: bool,
    pub acts: Vec<RunAct>,
    pub ends: Vec<Uuid>,
    pub cancelled: Vec<ExecutionId>,
    /// Renewals and beginnings get no answer.
    pub silent: bool,
    /// The session has expired.
    pub expired: bool,
    /// So many claims take effect and their answers are lost.
    pub claims_lost: usize,
    /// So many claims take effect, and are answered as if they had been refused.
    pub claims_hidden: usize,
    /// So many finishes take effect and their answers are lost.
    pub finishes_lost: usize,
    /// So many finishes are answered with RETRY, and have no effect.
    pub finishes_retried: usize,
    /// Finishes get no answer, and have no effect.
    pub finishes_away: bool,
    pub act_refusal: Option<Problem>,
}

impl State {
    fn begin(&mut self, request: RunBegin) -> Result<RunLease, Problem> {
        if self.silent {
            return Err(lost());
        }
        if request.replaces.is_some() {
            self.waiting.extend(self.running.drain());
        }
        self.expired = false;
        self.begins.push(request);
        Ok(self.lease())
    }

    fn renew(&mut self, request: RunRenew) -> Result<RunLease, Problem> {
        if self.silent {
            return Err(lost());
        }
        if self.expired {
            return Err(Problem::new(ProblemKind::NotFound, "expired"));
        }
        self.renewed.push(dashfleet_worker::app::lease::boot_now());
        let mut lease = self.lease();
        if request.given {
            let given = self.running.values().map(|running| running.place);
            let offer = |place: Place| Offer {
                org: place.org,
                id: place.id,
                turn: 0,
            };
            lease.given = given.map(offer).collect();
        }
        if self.progress_missed > 0 && !request.progress.is_empty() {
            self.progress_missed -= 1;
            lease.progress_missed = true;
        } else {
            self.progress.extend(request.progress);
        }
        Ok(lease)
    }

    fn lease(&self) -> RunLease {
        let cancelled = self.cancelled.iter().copied();
        RunLease {
            lease_ms: self.lease_ms,
            cancelled: cancelled
                .filter(|id| self.running.contains_key(id))
                .collect(),
            progress_missed: false,
            given: Vec::new(),
        }
    }

    fn claim(&mut self, request: RunClaim) -> Result<RunClaimed, Problem> {
        let mut granted = Vec::new();
        for offer in &request.offers {
            if let Some(mut assignment) = self.waiting.remove(&offer.id) {
                assignment.place.attempt += 1;
                assignment.place.token = Uuid::new_v4();
                self.running.insert(offer.id, assignment);
            }
            // What it has already is given again.
            granted.extend(self.running.get(&offer.id).cloned());
        }
        self.claims.push((request, Instant::now()));
        if self.claims_lost > 0 {
            self.claims_lost -= 1;
            return Err(lost());
        }
        if self.claims_hidden > 0 {
            self.claims_hidden -= 1;
            granted.clear();
        }
        Ok(RunClaimed { granted })
    }

    fn finish(&mut self, request: RunFinish) -> Result<RunFinished, Problem> {
        if self.finishes_away {
            return Err(lost());
        }
        let verdicts = request
            .items
            .into_iter()
            .map(|finish| self.finish_one(finish))
            .collect();
        if self.finishes_lost > 0 {
            self.finishes_lost -= 1;
            return Err(lost());
        }
        Ok(RunFinished { verdicts })
    }

    fn finish_one(&mut self, finish: Finish) -> FinishVerdict {
        self.finishes.push(finish.clone());
        if self.finishes_retried > 0 {
            self.finishes_retried -= 1;
            return FinishVerdict::Retry;
        }
        let place = finish.place;
        if self.applied.iter().any(|(known, _)| known.place == place) {
            return FinishVerdict::Duplicate;
        }
        if self
            .running
            .get(&place.id)
            .is_none_or(|running| running.place != place)
        {
            return FinishVerdict::Fenced;
        }
        let ended = self.running.remove(&place.id);
        if finish.outcome == Outcome::HandedBack {
            self.waiting
                .extend(ended.map(|assignment| (place.id, assignment)));
        }
        let lines = self.lines_of(place.id).len();
        self.applied.push((finish, lines));
        FinishVerdict::Applied
    }

    fn log(&mut self, request: RunLog) -> Result<RunLogged, Problem> {
        if self.logs_away {
            return Err(lost());
        }
        let mut verdicts = Vec::new();
        for chunk in request.items {
            let known = self.running.get(&chunk.place.id);
            if known.is_none_or(|running| running.place != chunk.place) {
                verdicts.push(FinishVerdict::Fenced);
                continue;
            }
            verdicts.push(FinishVerdict::Applied);
            self.logs.push(chunk);
        }
        Ok(RunLogged { verdicts })
    }

    fn act(&mut self, request: RunAct) -> Result<Action, Problem> {
        self.acts.push(request.clone());
        if let Some(refusal) = &self.act_refusal {
            return Err(refusal.clone());
        }
        Ok(testkit::action::queued(request.action))
    }

    /// What an execution logged, in the order of the lines.
    pub fn lines_of(&self, id: ExecutionId) -> Vec<String> {
        let mut chunks: Vec<&LogChunk> = self
            .logs
            .iter()
            .filter(|chunk| chunk.place.id == id)
            .collect();
        chunks.sort_by_key(|chunk| (chunk.place.attempt, chunk.first));
        chunks
            .iter()
            .flat_map(|chunk| chunk.lines.clone())
            .collect()
    }
}

/// As when an answer does not come: what was asked may have been done.
fn lost() -> Problem {
    Problem::unavailable("the answer is lost")
}

/// The stand-in.
pub struct Scheduler {
    pub org: OrgId,
    bus: Bus,
    state: Arc<Mutex<State>>,
    _service: Service,
}

impl Scheduler {
    pub async fn start(nats: &Nats, lease_ms: u64) -> Self {
        let bus = nats.bus("scheduler").await;
        let service = Service::start(&bus, "scheduler", None).await.unwrap();
        let state = Arc::new(Mutex::new(State {
            lease_ms,
            ..State::default()
        }));
        let this = state.clone();
        let begin = move |_: bus::Context, asked: RunBegin| {
            std::future::ready(this.lock().unwrap().begin(asked))
        };
        service.answer(begin).await.unwrap();
        let this = state.clone();
        let renew = move |_: bus::Context, asked: RunRenew| {
            std::future::ready(this.lock().unwrap().renew(asked))
        };
        service.answer(renew).await.unwrap();
        let this = state.clone();
        let claim = move |_: bus::Context, asked: RunClaim| {
            std::future::ready(this.lock().unwrap().claim(asked))
        };
        service.answer(claim).await.unwrap();
        let this = state.clone();
        let finish = move |_: bus::Context, asked: RunFinish| {
            std::future::ready(this.lock().unwrap().finish(asked))
        };
        service.answer(finish).await.unwrap();
        let this = state.clone();
        let log = move |_: bus::Context, asked: RunLog| {
            std::future::ready(this.lock().unwrap().log(asked))
        };
        service.answer(log).await.unwrap();
        let this = state.clone();
        let act = move |_: bus::Context, asked: RunAct| {
            std::future::ready(this.lock().unwrap().act(asked))
        };
        service.answer(act).await.unwrap();
        let this = state.clone();
        let end = move |_: bus::Context, asked: RunEnd| {
            let mut state = this.lock().unwrap();
            state.ends.push(asked.session_id);
            let running: Vec<_> = state.running.drain().collect();
            state.waiting.extend(running);
            std::future::ready(Ok(RunEnded {}))
        };
        service.answer(end).await.unwrap();
        Self {
            org: OrgId::new(),
            bus,
            state,
            _service: service,
        }
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// An execution that waits, and is not offered yet.
    pub fn execution(&self, handler: &str, config: Value) -> ExecutionId {
        self.execution_with(handler, config, |_| {})
    }

    pub fn execution_with(
        &self,
        handler: &str,
        config: Value,
        edit: impl FnOnce(&mut Assignment),
    ) -> ExecutionId {
        let id = ExecutionId::new();
        let mut assignment = Assignment {
            place: Place {
                org: self.org,
                id,
                attempt: 0,
                token: Uuid::nil(),
            },
            job_id: JobId::new(),
            handler: handler.into(),
            config: config.as_object().cloned().unwrap(),
            timeout_ms: 60_000,
            run_as: RunAs {
                kind: PrincipalKind::User,
                id: Uuid::now_v7(),
            },
            concluded: 0,
            scheduled_for: Timestamp::now(),
            traceparent: None,
        };
        edit(&mut assignment);
        self.state().waiting.insert(id, assignment);
        id
    }

    /// Offers executions, in one message.
    pub async fn offer(&self, ids: &[ExecutionId]) {
        let offers = Offers {
            items: ids
                .iter()
                .map(|id| Offer {
                    org: self.org,
                    id: *id,
                    turn: 0,
                })
                .collect(),
        };
        let subject = contract::work::subject("default");
        let payload = serde_json::to_vec(&offers).unwrap();
        self.bus.publish(subject, payload).await.unwrap();
    }

    /// Makes an execution and offers it.
    pub async fn run(&self, handler: &str, config: Value) -> ExecutionId {
        let id = self.execution(handler, config);
        self.offer(&[id]).await;
        id
    }

    /// Waits until something is so.
    pub async fn until<T>(&self, what: &str, question: impl Fn(&State) -> Option<T>) -> T {
        eventually(what, PATIENCE, || {
            std::future::ready(question(&self.state()))
        })
        .await
    }

    /// Waits until an execution has ended, and says how.
    pub async fn ended(&self, id: ExecutionId) -> Finish {
        self.until("the execution ends", |state| {
            let mut applied = state.applied.iter();
            applied
                .find(|(finish, _)| finish.place.id == id)
                .map(|(finish, _)| finish.clone())
        })
        .await
    }

    /// Waits until an execution runs.
    pub async fn begun(&self, id: ExecutionId) {
        self.until("the execution begins", |state| {
            state.running.contains_key(&id).then_some(())
        })
        .await;
    }
}
