//! Actions of machines over HTTP. Such a machine has no journal and says no attempt: so the server leases. What it is
//! handed is committed as handed out before it is answered; without a report within the lease it is handed out again, as
//! the next attempt, and after [`HANDOUTS_MAX`](domain::action::HANDOUTS_MAX) times given up as UNKNOWN.
//!
//! If the service dies after the commit and before the answer, the lease ends by itself. If the agent dies before its
//! report, likewise: then it may do again what it did, which is all that an agent without a journal can promise.
//!
//! Whether the machine may speak is judged under its row's lock, in the transaction that hands out or writes: what the
//! mirror knows of a revocation or a quarantine by then comes first.

use std::sync::Arc;
use std::time::Duration;

use contract::agent::{ActionError as Failure, ReportAnswer, Verdict};
use contract::legacy::{
    LegacyBind, LegacyNoted, LegacyPending, LegacyQueue, LegacyQueued, LegacyResult, LegacyTask,
    LegacyTasks, check_name,
};
use contract::{Author, Grant, Problem, ProblemKind};
use domain::access::{LEGACY_AGENT, LEGACY_OPERATOR};
use domain::action::{ActionKind, Outcome};
use domain::network::block;
use domain::{ActionId, MachineId, OrgId, Timestamp};
use serde_json::Value;

use crate::app::App;
use crate::app::create::Asked;
use crate::app::draft::Draft;
use crate::app::report::{empty, short, storable, without_nul};
use crate::error::ActionError;
use crate::store::legacy::{self, LegacyMachine};
use crate::store::report::{Report, report_in_tx};
use crate::store::row::unreadable;

/// How long identity may take to answer.
const CALL_TIMEOUT: Duration = Duration::from_secs(2);
/// The most actions of one answer: with the largest payloads still far below what the bus takes.
const TASKS_MAX: i64 = 20;
/// How often a report is judged against the attempt that was read before it, or written again after it was lost.
const TRIES: usize = 3;
/// What a machine is told that was trusted when it was looked at, and is not any more.
const MISTRUSTED: &str = "this machine is revoked, or quarantined until an operator releases it";

impl App {
    /// Queues an action for a machine over HTTP, on the same path as any other.
    ///
    /// # Errors
    /// As [`App::action_create`], with the words of Dash-Fleet for the fields.
    pub async fn legacy_queue(
        self: &Arc<Self>,
        author: &Author,
        request: LegacyQueue,
    ) -> Result<LegacyQueued, ActionError> {
        author.require(LEGACY_OPERATOR)?;
        check_name(&request.name)?;
        let kind = request.kind.parse::<ActionKind>().ok();
        let Some(kind) = kind.filter(|kind| kind.is_legacy()) else {
            let message = "must be message, restart or reboot";
            return Err(Problem::invalid("action_type", message).into());
        };
        let draft = Draft::permitted(author, kind, &request.payload, None, false)?;
        let machine = match self.legacy_named(author.org, &request.name).await? {
            Some(machine) => machine,
            // It may have reported for the first time a moment ago.
            None => {
                self.mirror_now().await?;
                let found = self.legacy_named(author.org, &request.name).await?;
                found.ok_or_else(|| Problem::not_found("machine"))?
            }
        };
        let asked = Asked {
            author,
            call: "legacy.queue",
            machine: machine.id.into(),
            key: None,
        };
        let action = self.action_draft_create(&asked, &draft).await?;
        Ok(LegacyQueued {
            action_id: action.id,
        })
    }

    async fn legacy_named(
        &self,
        org: OrgId,
        name: &str,
    ) -> Result<Option<LegacyMachine>, ActionError> {
        let mut tx = self.pools.tenant_tx(org).await?;
        let machine = legacy::machine_by_name_in_tx(&mut tx, org, name).await?;
        tx.commit().await?;
        Ok(machine)
    }

    /// Hands a machine what it is to do. A name that has never reported has nothing to do.
    ///
    /// # Errors
    /// FORBIDDEN without the scope, and for a machine that is revoked or quarantined; INVALID naming `machine_id`;
    /// UNAVAILABLE.
    pub async fn legacy_pending(
        &self,
        grant: &Grant,
        token: Option<&str>,
        request: &LegacyPending,
    ) -> Result<LegacyTasks, ActionError> {
        grant.require(LEGACY_AGENT)?;
        check_name(&request.name)?;
        let org = grant.org;
        let nothing = LegacyTasks { items: Vec::new() };
        let bind = LegacyBind {
            name: request.name.clone(),
            address: request.address,
            create: false,
        };
        let machine: MachineId = match self.legacy_named(org, &request.name).await? {
            Some(machine) if machine.is_bound(grant.credential, &block(request.address)) => {
                machine.id.into()
            }
            _ => match self.legacy_ask(token, &bind).await? {
                Some(machine) => machine,
                None => return Ok(nothing),
            },
        };
        let now = Timestamp::now();
        let mut tx = self.pools.tenant_tx(org).await?;
        if !legacy::machine_lock_in_tx(&mut tx, org, machine).await? {
            // Not mirrored yet, or no longer trusted since: the next question finds out.
            return Ok(nothing);
        }
        let rows =
            legacy::actions_hand_out_in_tx(&mut tx, org, machine, now.utc(), TASKS_MAX).await?;
        tx.commit().await?;
        let mut items = Vec::with_capacity(rows.len());
        for row in rows {
            self.show(&row).await;
            let kind = row.kind.parse();
            items.push(LegacyTask {
                action_id: row.id.into(),
                attempt: row.attempt,
                kind: kind.map_err(|error: String| unreadable("kind", &error))?,
                payload: row.payload,
            });
        }
        Ok(LegacyTasks { items })
    }

    /// What identity says of a machine that the mirror does not know so; `None` when there is none.
    async fn legacy_ask(
        &self,
        token: Option<&str>,
        bind: &LegacyBind,
    ) -> Result<Option<MachineId>, ActionError> {
        match self.bus.service_call(bind, token, CALL_TIMEOUT).await {
            Ok(bound) => Ok(Some(bound.machine_id)),
            Err(problem) if problem.kind == ProblemKind::NotFound => Ok(None),
            Err(problem) => Err(problem.into()),
        }
    }

    /// A machine says what became of an action that it was handed. Said again, it changes nothing.
    ///
    /// # Errors
    /// FORBIDDEN without the scope, and for a machine that is revoked or quarantined; NOT_FOUND for an action that no
    /// machine of this key was handed; UNAVAILABLE: the agent says it again.
    pub async fn legacy_result(
        &self,
        grant: &Grant,
        token: Option<&str>,
        request: LegacyResult,
    ) -> Result<LegacyNoted, ActionError> {
        grant.require(LEGACY_AGENT)?;
        let mut tries = 0;
        loop {
            tries += 1;
            let (machine, current) = self.legacy_handed(grant, token, &request).await?;
            let attempt = request.attempt.unwrap_or(current);
            let from = bus::AgentSender {
                org: grant.org,
                machine,
            };
            let report = report(from, attempt, &request)?;
            let answer = match self.legacy_write(from, &report).await {
                // Whether it was committed or not: written once more, it is recognised.
                Err(ActionError::Database(error)) if error.is_transient() && tries < TRIES => {
                    continue;
                }
                written => written?,
            };
            let overtaken = request.attempt.is_none() && answer.verdict == Verdict::Duplicate;
            // Handed out again between the look and the report: what was done was done in any attempt.
            if !overtaken
                || tries == TRIES
                || !self.legacy_moved(grant.org, &request, current).await?
            {
                return Ok(LegacyNoted {
                    applied: answer.verdict == Verdict::Applied,
                });
            }
        }
    }

    /// Writes a report while it holds the machine's row. The mirror takes the same lock first, and then the machine's
    /// actions: so whoever was revoked or quarantined before is not heard, however long the report has waited.
    async fn legacy_write(
        &self,
        from: bus::AgentSender,
        report: &Report,
    ) -> Result<ReportAnswer, ActionError> {
        let mut tx = self.pools.system_tx().await?;
        if !legacy::machine_lock_in_tx(&mut tx, from.org, from.machine).await? {
            // It may have been released a moment ago.
            drop(tx);
            self.mirror_now().await?;
            tx = self.pools.system_tx().await?;
            if !legacy::machine_lock_in_tx(&mut tx, from.org, from.machine).await? {
                return Err(Problem::new(ProblemKind::Forbidden, MISTRUSTED).into());
            }
        }
        let written = report_in_tx(&mut tx, report).await;
        if written.is_ok() {
            tx.commit().await?;
        }
        self.report_answer(from, report.action, written).await
    }

    /// The machine that was handed the action, when it is the one that speaks; and the attempt that it is in.
    async fn legacy_handed(
        &self,
        grant: &Grant,
        token: Option<&str>,
        request: &LegacyResult,
    ) -> Result<(MachineId, i32), ActionError> {
        let unknown = || Problem::not_found("action that this machine was handed");
        let org = grant.org;
        let mut tx = self.pools.tenant_tx(org).await?;
        let handed = legacy::machine_of_action_in_tx(&mut tx, org, request.action_id).await?;
        tx.commit().await?;
        let handed = handed.ok_or_else(unknown)?;
        let machine = handed.machine;
        if !machine.is_bound(grant.credential, &block(request.address)) {
            // A guessed id must not quarantine another key's machine; the same key from elsewhere does.
            if machine.bound_key != Some(grant.credential.0) {
                return Err(unknown().into());
            }
            let bind = LegacyBind {
                name: machine.http_name,
                address: request.address,
                create: false,
            };
            self.legacy_ask(token, &bind).await?.ok_or_else(unknown)?;
        }
        Ok((machine.id.into(), handed.attempt))
    }

    async fn legacy_moved(
        &self,
        org: OrgId,
        request: &LegacyResult,
        seen: i32,
    ) -> Result<bool, ActionError> {
        let mut tx = self.pools.tenant_tx(org).await?;
        let handed = legacy::machine_of_action_in_tx(&mut tx, org, request.action_id).await?;
        tx.commit().await?;
        Ok(handed.is_some_and(|handed| handed.attempt > seen))
    }
}

fn report(
    from: bus::AgentSender,
    attempt: i32,
    request: &LegacyResult,
) -> Result<Report, ActionError> {
    let action: ActionId = request.action_id;
    let (outcome, error) = if request.done {
        (Outcome::Succeeded, None)
    } else {
        (Outcome::Failed, Some(failure(&request.result)))
    };
    let error = error
        .map(|error| serde_json::to_value(short(&error)))
        .transpose()
        .map_err(|error| ActionError::Bug(error.to_string()))?;
    let result = request.result.clone();
    Ok(Report {
        finished_at: Some(Timestamp::now().utc()),
        result: (!result.is_null()).then(|| storable(result)),
        error: error.map(without_nul),
        ..empty(from, action, attempt, outcome.status().as_str())
    })
}

/// What an agent says of its failure, as the error of an action.
fn failure(result: &Value) -> Failure {
    let message = match result {
        Value::Null => "the agent says no more".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    Failure {
        code: "agent-error".into(),
        message,
    }
}
