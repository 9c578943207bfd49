//! Finishes: said until the scheduler has answered after its commit. They hold no slot; what gathers while earlier ones are under
//! way goes together.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bus::Bus;
use contract::Problem;
use contract::run::{Finish, FinishVerdict, ITEMS_MAX, RunFinish, RunFinished};
use domain::ExecutionId;
use domain::execution::Outcome;
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;
use uuid::Uuid;

use crate::app::lease::Session;
use crate::metrics::Metrics;

/// How many requests are under way at once, at most.
const AT_ONCE: usize = 4;
/// While one is under way what ends is gathered: for another one so many are enough,
const ENOUGH: usize = 64;
/// or this time.
const GATHER: Duration = Duration::from_millis(25);
/// A request has no more than this and one finish, in bytes.
const REQUEST_BYTES: usize = 1024 * 1024;
/// How long the scheduler may take to answer before it is told again.
pub(super) const TIMEOUT: Duration = Duration::from_secs(5);
/// The first pause before it is told again; each later one is twice as long, up to the last.
const PAUSE: [Duration; 2] = [Duration::from_millis(20), Duration::from_millis(500)];
/// With so many waiting nothing more is claimed.
const WAITING_MAX: usize = 2_000;
/// With so many bytes of them waiting nothing more is claimed.
const WAITING_MAX_BYTES: usize = 32 * 1024 * 1024;
/// What a finish takes beside its result and its error, in bytes of JSON.
const FRAME_BYTES: usize = 320;

/// A finish that is not committed.
struct Waiting {
    finish: Finish,
    bytes: usize,
    session: Arc<Session>,
    since: Instant,
    /// Sent by itself: it was in a request that was refused as a whole.
    alone: bool,
    /// What it had to say was taken out: it was refused by itself.
    stripped: bool,
}

/// A request that was answered, or not.
pub(crate) struct Answered {
    sent: Vec<Waiting>,
    answer: Result<RunFinished, Problem>,
}

/// The finishes of this worker, of all its sessions.
pub(crate) struct Finishes {
    waiting: VecDeque<Waiting>,
    /// Of those that wait and those that are under way.
    count: usize,
    bytes: usize,
    pub(crate) requests: JoinSet<Answered>,
    pause: Duration,
    not_before: Instant,
    metrics: Metrics,
}

impl Finishes {
    pub(crate) fn new(metrics: &Metrics) -> Self {
        Self {
            waiting: VecDeque::new(),
            count: 0,
            bytes: 0,
            requests: JoinSet::new(),
            pause: Duration::ZERO,
            not_before: Instant::now(),
            metrics: metrics.clone(),
        }
    }

    /// An attempt has ended.
    pub(crate) fn push(&mut self, finish: Finish, session: &Arc<Session>) {
        let bytes = weight(&finish);
        self.count += 1;
        self.bytes += bytes;
        self.waiting.push_back(Waiting {
            finish,
            bytes,
            session: session.clone(),
            since: Instant::now(),
            alone: false,
            stripped: false,
        });
    }

    /// Whether everything is committed, or given up.
    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// How many are not committed.
    pub(crate) fn len(&self) -> usize {
        self.count
    }

    /// Whether there are so many that nothing more should be begun, with `others` that will be finishes soon.
    pub(crate) fn is_full(&self, others: usize) -> bool {
        self.count + others >= WAITING_MAX || self.bytes >= WAITING_MAX_BYTES
    }

    /// When something may be sent that waits; `None` when nothing waits for time alone.
    pub(crate) fn wake_at(&self) -> Option<Instant> {
        let first = self.waiting.front()?;
        let at = match self.requests.len() {
            0 => self.not_before,
            AT_ONCE.. => return None,
            _ if self.waiting.len() >= ENOUGH => self.not_before,
            _ => self.not_before.max(first.since + GATHER),
        };
        Some(at)
    }

    /// Sends what has gathered.
    pub(crate) fn send(&mut self, bus: &Bus, now: Instant) {
        while self.wake_at().is_some_and(|at| at <= now) {
            let sent = self.gather();
            let bus = bus.clone();
            self.requests.spawn(async move {
                let request = RunFinish {
                    items: sent.iter().map(|waiting| waiting.finish.clone()).collect(),
                };
                let answer = bus.service_call(&request, None, TIMEOUT).await;
                Answered { sent, answer }
            });
        }
    }

    fn gather(&mut self) -> Vec<Waiting> {
        let (mut sent, mut bytes) = (Vec::new(), 0);
        while let Some(next) = self.waiting.pop_front() {
            let alone = next.alone;
            if alone && !sent.is_empty() {
                self.waiting.push_front(next);
                break;
            }
            bytes += next.bytes;
            sent.push(next);
            if alone || sent.len() >= ITEMS_MAX || bytes >= REQUEST_BYTES {
                break;
            }
        }
        sent
    }

    /// Takes an answer: which executions of which sessions are no more this worker's concern.
    pub(crate) fn answered(
        &mut self,
        answered: Result<Answered, JoinError>,
    ) -> Vec<(Uuid, ExecutionId)> {
        let Answered { sent, answer } = match answered {
            Ok(answered) => answered,
            Err(error) => {
                // What was in it is lost to this worker: its session ends with it, sooner or later.
                tracing::error!(%error, "a request of finishes broke");
                return Vec::new();
            }
        };
        let mut done = Vec::new();
        match answer {
            Ok(answer) => {
                self.pause = Duration::ZERO;
                let mut verdicts = answer.verdicts.into_iter();
                for waiting in sent {
                    match verdicts.next() {
                        Some(FinishVerdict::Retry) | None => self.again(waiting),
                        Some(verdict) => done.push(self.done(waiting, verdict)),
                    }
                }
            }
            Err(problem) if problem.is_lasting() => self.refused(sent, &problem),
            Err(problem) => {
                tracing::debug!(%problem, finishes = sent.len(), "finishes are said again");
                for waiting in sent.into_iter().rev() {
                    self.again(waiting);
                }
            }
        }
        done
    }

    fn done(&mut self, waiting: Waiting, verdict: FinishVerdict) -> (Uuid, ExecutionId) {
        let label = match verdict {
            FinishVerdict::Applied => "applied",
            FinishVerdict::Duplicate => "duplicate",
            FinishVerdict::Fenced | FinishVerdict::Retry => "fenced",
        };
        self.metrics.finishes.with_label_values(&[label]).inc();
        let took = waiting.since.elapsed();
        self.metrics.finish_time.observe(took.as_secs_f64());
        let known = (waiting.session.id, waiting.finish.place.id);
        self.forget(&waiting);
        known
    }

    /// It waits again, unless nobody will ever take it.
    fn again(&mut self, waiting: Waiting) {
        if waiting.session.is_lost() {
            self.forget(&waiting);
            return;
        }
        let [first, longest] = PAUSE;
        if self.not_before <= Instant::now() {
            self.pause = longest.min((self.pause * 2).max(first));
            self.not_before = Instant::now() + self.pause;
        }
        self.waiting.push_front(waiting);
    }

    /// The scheduler does not take the request. One bad finish must not hold back the others: each is sent by itself, then without
    /// what it says, and then its session is given up, since the execution would be RUNNING for as long as that lives.
    fn refused(&mut self, sent: Vec<Waiting>, problem: &Problem) {
        tracing::error!(%problem, finishes = sent.len(), "finishes are refused");
        for mut waiting in sent {
            if waiting.stripped {
                waiting.session.end();
                self.forget(&waiting);
                continue;
            }
            if waiting.alone {
                let finish = &mut waiting.finish;
                finish.outcome = Outcome::Failed;
                finish.result = None;
                finish.permanent = true;
                finish.error = Some(contract::execution::ExecutionError {
                    message: "what the handler returned cannot be stored".into(),
                    stack: None,
                });
                self.bytes = self.bytes.saturating_sub(waiting.bytes);
                waiting.bytes = weight(&waiting.finish);
                self.bytes += waiting.bytes;
                waiting.stripped = true;
            }
            waiting.alone = true;
            self.again(waiting);
        }
    }

    fn forget(&mut self, waiting: &Waiting) {
        self.count = self.count.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(waiting.bytes);
    }

    /// A session is over for good: what waits of it is in vain.
    pub(crate) fn forget_session(&mut self, session: &Session) {
        let (gone, stay): (VecDeque<_>, VecDeque<_>) = std::mem::take(&mut self.waiting)
            .into_iter()
            .partition(|waiting| waiting.session.id == session.id);
        self.waiting = stay;
        for waiting in &gone {
            self.forget(waiting);
        }
    }

    /// Says what there is until everything is answered, for at most `limit`.
    pub(crate) async fn flush(&mut self, bus: &Bus, limit: Duration) {
        let end = Instant::now() + limit;
        while !self.is_empty() && Instant::now() < end {
            self.send(bus, Instant::now());
            let wake = self.wake_at().map_or(end, |at| at.min(end));
            tokio::select! {
                Some(answered) = self.requests.join_next() => drop(self.answered(answered)),
                () = tokio::time::sleep_until(wake) => {}
            }
        }
    }
}

/// What a finish takes in a message, about.
fn weight(finish: &Finish) -> usize {
    let result = finish
        .result
        .as_ref()
        .map_or(0, |value| value.to_string().len());
    let error = finish.error.as_ref().map_or(0, |error| {
        error.message.len() + error.stack.as_ref().map_or(0, String::len)
    });
    FRAME_BYTES + result + error
}

#[cfg(test)]
mod tests {
    use contract::ProblemKind;
    use contract::run::Place;
    use domain::OrgId;
    use serde_json::json;

    use super::*;
    use crate::app::lease::boot_now;
    use crate::app::run::handed_back;

    fn world() -> (Finishes, Arc<Session>) {
        let session = Session::begun(Uuid::now_v7(), boot_now(), Duration::from_secs(10));
        (Finishes::new(&Metrics::new().expect("metrics")), session)
    }

    fn finish(result: usize) -> Finish {
        let place = Place {
            org: OrgId::new(),
            id: ExecutionId::new(),
            attempt: 1,
            token: Uuid::new_v4(),
        };
        Finish {
            result: Some(json!("x".repeat(result))),
            ..handed_back(place)
        }
    }

    fn answer(
        finishes: &mut Finishes,
        answer: Result<Vec<FinishVerdict>, ProblemKind>,
    ) -> (usize, usize) {
        let sent = finishes.gather();
        let count = sent.len();
        let answer = answer
            .map(|verdicts| RunFinished { verdicts })
            .map_err(|kind| Problem::new(kind, "no"));
        let done = finishes.answered(Ok(Answered { sent, answer }));
        (count, done.len())
    }

    #[tokio::test]
    async fn requests_are_bounded_by_count_and_by_bytes() {
        let (mut finishes, session) = world();
        for _ in 0..ITEMS_MAX + 1 {
            finishes.push(finish(0), &session);
        }
        assert_eq!(finishes.gather().len(), ITEMS_MAX);
        assert_eq!(finishes.gather().len(), 1);
        for _ in 0..100 {
            finishes.push(finish(60_000), &session);
        }
        let bytes: usize = finishes.gather().iter().map(|waiting| waiting.bytes).sum();
        assert!(
            (REQUEST_BYTES..2 * REQUEST_BYTES).contains(&bytes),
            "{bytes}"
        );
        assert!(finishes.bytes > 100 * 60_000);
    }

    #[tokio::test]
    async fn each_is_kept_until_it_is_answered_otherwise_than_with_retry() {
        let (mut finishes, session) = world();
        for _ in 0..4 {
            finishes.push(finish(10), &session);
        }
        assert_eq!(answer(&mut finishes, Err(ProblemKind::Unavailable)), (4, 0));
        assert!(finishes.len() == 4 && finishes.wake_at().is_some());
        let verdicts = vec![
            FinishVerdict::Applied,
            FinishVerdict::Retry,
            FinishVerdict::Duplicate,
            FinishVerdict::Fenced,
        ];
        assert_eq!(answer(&mut finishes, Ok(verdicts)), (4, 3));
        // An answer that says too little is as good as none.
        assert_eq!(answer(&mut finishes, Ok(Vec::new())), (1, 0));
        assert_eq!(
            answer(&mut finishes, Ok(vec![FinishVerdict::Applied])),
            (1, 1)
        );
        assert!(finishes.is_empty() && finishes.bytes == 0);
    }

    #[tokio::test]
    async fn one_that_cannot_be_stored_holds_back_no_other() {
        let (mut finishes, session) = world();
        for _ in 0..3 {
            finishes.push(finish(10), &session);
        }
        assert_eq!(answer(&mut finishes, Err(ProblemKind::Invalid)), (3, 0));
        let applied = || Ok(vec![FinishVerdict::Applied]);
        assert_eq!(answer(&mut finishes, applied()), (1, 1));
        assert_eq!(answer(&mut finishes, applied()), (1, 1));
        assert_eq!(answer(&mut finishes, Err(ProblemKind::Invalid)), (1, 0));
        assert!(finishes.waiting[0].finish.result.is_none() && !session.is_over());
        assert_eq!(answer(&mut finishes, Err(ProblemKind::Invalid)), (1, 0));
        assert!(finishes.is_empty() && session.is_over());
    }

    #[tokio::test]
    async fn what_is_lost_with_its_session_is_forgotten() {
        let (mut finishes, session) = world();
        let other = Session::begun(Uuid::now_v7(), boot_now(), Duration::from_secs(10));
        finishes.push(finish(10), &session);
        finishes.push(finish(10), &other);
        finishes.forget_session(&session);
        assert_eq!(finishes.len(), 1);
        other.lose();
        assert_eq!(answer(&mut finishes, Err(ProblemKind::Unavailable)), (1, 0));
        assert!(finishes.is_empty());
    }

    #[tokio::test]
    async fn too_many_stop_the_claims() {
        let (mut finishes, session) = world();
        assert!(!finishes.is_full(WAITING_MAX - 1) && finishes.is_full(WAITING_MAX));
        for _ in 0..WAITING_MAX_BYTES / 60_000 {
            finishes.push(finish(60_000), &session);
        }
        assert!(finishes.is_full(0) && finishes.len() < WAITING_MAX);
    }
}
