//! The session: begun, renewed, ended. Executions that were given to it are this worker's for as long as it holds.

use std::sync::Arc;
use std::time::Duration;

use bus::Bus;
use contract::run::{Offer, RunBegin, RunEnd, RunLease, RunProgress, RunRenew};
use contract::{Problem, ProblemKind};
use domain::ExecutionId;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};
use uuid::Uuid;

use crate::app::lease::{Session, boot_now};
use crate::handler::Host;

/// How long the scheduler may take to begin a session: it may have to take back what the one before had.
const BEGIN_TIMEOUT: Duration = Duration::from_secs(5);
/// How long it may take to renew one. Several may be asked at once: an answer that is late counts still.
const RENEW_TIMEOUT: Duration = Duration::from_secs(7);
/// How many renewals are under way at once.
const RENEWALS_MAX: usize = 4;
/// How soon a renewal that failed is tried again.
const RETRY: Duration = Duration::from_millis(250);
/// With so many of them it is asked what the session has: a claim that was asked twice may have been refused where the first one
/// was being committed, or its answer lost for good.
const GIVEN_EVERY: u32 = 10;
/// How long it may take to end one.
const END_TIMEOUT: Duration = Duration::from_secs(2);

/// Asks once for a session. Asked again with the same id it is the same.
///
/// # Errors
/// The scheduler's [`Problem`]: ask again.
pub(crate) async fn begin(bus: &Bus, request: &RunBegin) -> Result<Arc<Session>, Problem> {
    let asked = boot_now();
    let lease = bus.service_call(request, None, BEGIN_TIMEOUT).await?;
    let held = Duration::from_millis(lease.lease_ms);
    Ok(Session::begun(request.session_id, asked, held))
}

/// What the scheduler says of a session's executions.
pub(crate) enum Told {
    /// Somebody cancelled these.
    Cancelled(Vec<ExecutionId>),
    /// These are the session's, and have been for longer than a lease.
    Given(Vec<Offer>),
}

/// A renewal that is over.
struct Renewal {
    asked: Duration,
    progress: Vec<RunProgress>,
    answer: Result<RunLease, Problem>,
}

async fn renew(bus: Bus, session_id: Uuid, progress: Vec<RunProgress>, given: bool) -> Renewal {
    let asked = boot_now();
    let request = RunRenew {
        session_id,
        progress,
        given,
    };
    let answer = bus.service_call(&request, None, RENEW_TIMEOUT).await;
    Renewal {
        asked,
        progress: request.progress,
        answer,
    }
}

/// Renews the session until it is over, and ends it when nobody answered for too long. What of it was cancelled is told, and now and
/// then what it has; both are told again, so none is waited for.
pub(crate) async fn keep(session: Arc<Session>, host: Arc<Host>, told: mpsc::Sender<Told>) {
    let every = session.renew_every();
    let mut next = Instant::now() + every;
    let mut renewals = JoinSet::new();
    // One that carries progress is under way. Another would have a newer word, and might come first.
    let mut carrying = false;
    let mut count: u32 = 0;
    loop {
        let left = session.left();
        if left.is_zero() {
            tracing::warn!(session = %session.id, "the scheduler does not answer: handlers are ended");
            session.end();
        }
        tokio::select! {
            () = session.over() => return,
            () = sleep_until(next), if renewals.len() < RENEWALS_MAX => {
                let progress = if carrying { Vec::new() } else { host.progress.take() };
                carrying |= !progress.is_empty();
                count = count.wrapping_add(1);
                let given = count.is_multiple_of(GIVEN_EVERY);
                renewals.spawn(renew(host.bus.clone(), session.id, progress, given));
                next = Instant::now() + every;
            }
            Some(renewal) = renewals.join_next() => match renewal {
                Ok(renewal) => {
                    carrying &= renewal.progress.is_empty();
                    if !renewed(&session, &host, &told, renewal) {
                        next = next.min(Instant::now() + RETRY.min(every));
                    }
                }
                Err(error) => {
                    carrying = false;
                    tracing::error!(%error, "a renewal broke");
                }
            },
            () = sleep(left) => {}
        }
    }
}

/// Takes an answer; `false` when there was none.
fn renewed(session: &Session, host: &Host, told: &mpsc::Sender<Told>, renewal: Renewal) -> bool {
    match renewal.answer {
        Ok(lease) => {
            session.renewed(renewal.asked);
            if lease.progress_missed {
                host.progress.give_back(renewal.progress);
            }
            let cancelled =
                (!lease.cancelled.is_empty()).then_some(Told::Cancelled(lease.cancelled));
            let given = (!lease.given.is_empty()).then_some(Told::Given(lease.given));
            for word in cancelled.into_iter().chain(given) {
                if told.try_send(word).is_err() {
                    tracing::debug!("what was cancelled, or given, is told with a later renewal");
                }
            }
            true
        }
        Err(problem) if problem.kind == ProblemKind::NotFound => {
            tracing::warn!(session = %session.id, "the session has expired: handlers are ended");
            session.lose();
            true
        }
        Err(problem) => {
            tracing::debug!(%problem, "the session is not renewed");
            host.progress.give_back(renewal.progress);
            false
        }
    }
}

/// Ends the session: what it still has begins elsewhere at once. Tried until it is answered, or until `by`; then it expires.
pub(crate) async fn end(bus: &Bus, session: &Session, by: Instant) -> bool {
    let request = RunEnd {
        session_id: session.id,
    };
    let said = async {
        loop {
            match bus.service_call(&request, None, END_TIMEOUT).await {
                Ok(_) => return,
                Err(problem) => tracing::debug!(%problem, "the session is not ended"),
            }
            sleep(RETRY).await;
        }
    };
    timeout_at(by, said).await.is_ok()
}
