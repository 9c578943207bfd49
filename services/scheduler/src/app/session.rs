//! Workers' sessions: begun, renewed, ended.

use contract::Problem;
use contract::run::{Offer, RunBegin, RunEnd, RunEnded, RunLease, RunRenew};
use database::Tx;
use domain::execution::Outcome;
use domain::text::check_name;
use domain::{ExecutionId, OrgId};
use tokio::time::Instant;
use uuid::Uuid;

use crate::app::claim::no_session;
use crate::app::{App, progress};
use crate::error::SchedulerError;
use crate::store::finish::{Moved, lost_in_tx};
use crate::store::session;

/// How many executions one statement takes from a session.
const LOST_AT_ONCE: i64 = 500;
/// How often it is tried: 100,000 executions, and limits that were set meanwhile.
const LOST_ROUNDS: usize = 200;
/// The most that a worker may run at once.
const CONCURRENCY_MAX: i32 = 10_000;

impl App {
    /// Begins a session, and ends the one that it replaces: its worker says that nothing of it runs any more.
    ///
    /// # Errors
    /// INVALID naming the field; UNAVAILABLE.
    pub async fn run_begin(
        &self,
        pool: &str,
        request: RunBegin,
    ) -> Result<RunLease, SchedulerError> {
        let began = Instant::now();
        check_name(&request.worker).map_err(|error| Problem::invalid("worker", error))?;
        if !(1..=CONCURRENCY_MAX).contains(&request.concurrency) {
            let text = format!("must be from 1 to {CONCURRENCY_MAX}");
            return Err(Problem::invalid("concurrency", text).into());
        }
        if !self.worker_pools.iter().any(|known| known == pool) {
            let text = format!("there is no pool `{pool}`; DASHFLEET_SCHEDULER_POOLS names them");
            return Err(Problem::invalid("pool", text).into());
        }
        let mut tx = self.pools.system_tx().await?;
        let mut moved = Vec::new();
        if let Some(old) = request.replaces
            && session::session_lock_in_tx(&mut tx, old, pool).await?
        {
            moved = self.give_up_in_tx(&mut tx, old, Outcome::Lost).await?;
        }
        let (id, worker) = (request.session_id, &request.worker);
        let begun = session::session_begin_in_tx(
            &mut tx,
            id,
            pool,
            worker,
            request.concurrency,
            self.timing.lease,
        );
        if !begun.await? {
            let text = "is another pool's session";
            return Err(Problem::invalid("sessionId", text).into());
        }
        tx.commit().await?;
        tracing::info!(session = %id, pool, worker, concurrency = request.concurrency, "a worker begins");
        self.told(&moved, began).await;
        Ok(self.lease(Vec::new()))
    }

    /// Renews a session, and says what of it was cancelled, whether what its handlers said is written, and, if that is asked, what it
    /// has had for longer than a lease.
    ///
    /// # Errors
    /// NOT_FOUND when it is over; INVALID naming the field, and nothing is renewed; UNAVAILABLE.
    pub async fn run_renew(
        &self,
        pool: &str,
        request: RunRenew,
    ) -> Result<RunLease, SchedulerError> {
        progress::check(&request.progress)?;
        let system = self.pools.system();
        let id = request.session_id;
        if !session::session_renew(system, id, pool, self.timing.lease).await? {
            return Err(no_session().into());
        }
        let cancelled = session::session_cancelled(system, id).await?;
        let given = match request.given {
            true => session::session_given(system, id, self.timing.lease).await?,
            false => Vec::new(),
        };
        let written = self.progress_write(id, request.progress).await;
        // It has them: nobody comes with these.
        let offer = |(org, id)| Offer {
            org: OrgId(org),
            id: ExecutionId(id),
            turn: 1,
        };
        Ok(RunLease {
            progress_missed: !written,
            given: given.into_iter().map(offer).collect(),
            ..self.lease(cancelled.into_iter().map(ExecutionId).collect())
        })
    }

    /// Ends a session: what it has begins elsewhere at once, and no attempt is used up.
    ///
    /// # Errors
    /// UNAVAILABLE.
    pub async fn run_end(&self, pool: &str, request: &RunEnd) -> Result<RunEnded, SchedulerError> {
        let began = Instant::now();
        let mut tx = self.pools.system_tx().await?;
        if session::session_lock_in_tx(&mut tx, request.session_id, pool).await? {
            let given = self.give_up_in_tx(&mut tx, request.session_id, Outcome::HandedBack);
            let moved = given.await?;
            tx.commit().await?;
            tracing::info!(session = %request.session_id, pool, handed_back = moved.len(), "a worker ends");
            self.told(&moved, began).await;
        }
        Ok(RunEnded {})
    }

    fn lease(&self, cancelled: Vec<ExecutionId>) -> RunLease {
        RunLease {
            lease_ms: u64::try_from(self.timing.lease.as_millis()).unwrap_or(u64::MAX),
            cancelled,
            progress_missed: false,
            given: Vec::new(),
        }
    }

    /// Takes everything from a session whose row is held, and removes it.
    pub(crate) async fn give_up_in_tx(
        &self,
        tx: &mut Tx,
        id: Uuid,
        outcome: Outcome,
    ) -> Result<Vec<Moved>, SchedulerError> {
        let mut all = Vec::new();
        for _ in 0..LOST_ROUNDS {
            let moved = lost_in_tx(tx, id, outcome, LOST_AT_ONCE).await;
            all.extend(moved.map_err(|error| self.heed(error.into()))?);
            if !session::session_has_in_tx(tx, id).await? {
                session::session_end_in_tx(tx, id).await?;
                return Ok(all);
            }
        }
        Err(SchedulerError::Bug(format!(
            "session {id} still has executions after {LOST_ROUNDS} rounds"
        )))
    }
}
