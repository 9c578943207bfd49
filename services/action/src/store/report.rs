//! What agents say of their actions, as a group commit: one statement judges, writes, keeps the attempt and puts
//! the event into the outbox.

use chrono::{DateTime, Utc};
use contract::agent::Verdict;
use database::group_commit::Written;
use database::{Batch, DatabaseError, Tx};
use domain::{ActionId, MachineId, OrgId};
use serde_json::Value;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::store::row::ActionRow;

/// How often an action that is declared idempotent may be tried.
pub const ATTEMPTS_MAX: i32 = 5;

/// Rows are locked in the order of their keys, then judged as they are under the lock:
/// not this machine's, never offered, or another attempt: FENCED; a step or an end that is known: DUPLICATE; an end
/// of what is open: APPLIED; of what was given up as UNKNOWN: APPLIED, marked late; of what ended otherwise: FENCED.
/// An idempotent action whose agent died in the middle goes back to the queue with the next attempt.
const REPORT: &str = "
    WITH input AS (
        SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::int[], $5::text[], $6::timestamptz[],
            $7::timestamptz[], $8::timestamptz[], $9::jsonb[], $10::jsonb[], $11::uuid[])
        WITH ORDINALITY AS input(org_id, machine_id, id, attempt, status, delivered_at, started_at, finished_at,
            result, error, event_id, place)
    ), locked AS (
        SELECT action.org_id, action.id, action.machine_id, action.status, action.attempt, action.offered_at,
            action.idempotent, action.cancel_requested_at, action.not_after
        FROM action.actions AS action
        JOIN input ON action.org_id = input.org_id AND action.id = input.id
        ORDER BY action.org_id, action.id
        FOR NO KEY UPDATE OF action
    ), judged AS (
        SELECT input.*, locked.status AS before,
            CASE
                WHEN locked.id IS NULL OR locked.machine_id <> input.machine_id THEN 'FENCED'
                WHEN locked.offered_at IS NULL AND locked.attempt = 1 THEN 'FENCED'
                WHEN input.attempt < locked.attempt THEN 'DUPLICATE'
                WHEN input.attempt > locked.attempt THEN 'FENCED'
                WHEN input.status = 'DELIVERED' AND locked.status = 'QUEUED' THEN 'APPLIED'
                WHEN input.status = 'RUNNING' AND locked.status IN ('QUEUED', 'DELIVERED') THEN 'APPLIED'
                WHEN input.status IN ('DELIVERED', 'RUNNING') THEN 'DUPLICATE'
                WHEN locked.status IN ('QUEUED', 'DELIVERED', 'RUNNING', 'UNKNOWN') THEN 'APPLIED'
                WHEN locked.status = input.status THEN 'DUPLICATE'
                ELSE 'FENCED'
            END AS verdict,
            coalesce(input.status = 'INTERRUPTED' AND locked.idempotent AND locked.status <> 'UNKNOWN'
                AND locked.cancel_requested_at IS NULL AND locked.attempt < $12 AND locked.not_after > $13, false) AS again
        FROM input LEFT JOIN locked ON locked.org_id = input.org_id AND locked.id = input.id
    ), updated AS (
        UPDATE action.actions AS action SET
            status = CASE WHEN judged.again THEN 'QUEUED' ELSE judged.status END,
            attempt = CASE WHEN judged.again THEN action.attempt + 1 ELSE action.attempt END,
            delivered_at = CASE WHEN judged.again THEN NULL
                ELSE coalesce(action.delivered_at, judged.delivered_at, judged.started_at) END,
            started_at = CASE WHEN judged.again THEN NULL ELSE coalesce(judged.started_at, action.started_at) END,
            finished_at = CASE WHEN judged.again THEN NULL ELSE coalesce(judged.finished_at, action.finished_at) END,
            result = CASE WHEN judged.again THEN NULL ELSE coalesce(judged.result, action.result) END,
            error = CASE WHEN judged.again THEN NULL WHEN judged.finished_at IS NULL THEN action.error ELSE judged.error END,
            late = action.late OR judged.before = 'UNKNOWN',
            ring_at = CASE WHEN judged.again THEN $13
                WHEN judged.finished_at IS NULL AND action.cancel_requested_at IS NOT NULL THEN action.ring_at END,
            rings = CASE WHEN judged.again THEN 0 ELSE action.rings END,
            version = action.version + 1
        FROM judged
        WHERE action.org_id = judged.org_id AND action.id = judged.id AND judged.verdict = 'APPLIED'
        RETURNING action.*
    ), attempted AS (
        INSERT INTO action.attempts (org_id, action_id, attempt, outcome, error, started_at, finished_at)
        SELECT org_id, id, attempt, status, error, started_at, finished_at FROM judged
        WHERE verdict = 'APPLIED' AND finished_at IS NOT NULL
        ON CONFLICT ON CONSTRAINT attempts_pkey DO NOTHING
    ), event AS (
        INSERT INTO action.outbox (id, org_id, noun, verb, subject_id, version, at, data)
        SELECT judged.event_id, updated.org_id, 'action', lower(updated.status), updated.id, updated.version, $13,
            jsonb_build_object('machineId', updated.machine_id, 'kind', updated.kind, 'status', updated.status,
                'late', updated.late)
        FROM updated JOIN judged ON judged.org_id = updated.org_id AND judged.id = updated.id
        WHERE judged.finished_at IS NOT NULL AND NOT judged.again
    )
    SELECT judged.verdict, updated.*
    FROM judged LEFT JOIN updated ON updated.org_id = judged.org_id AND updated.id = judged.id
    ORDER BY judged.place";

/// One report.
#[derive(Clone, Debug)]
#[allow(missing_docs)] // the columns are explained in the migration
pub struct Report {
    pub org: OrgId,
    pub machine: MachineId,
    pub action: ActionId,
    pub attempt: i32,
    /// DELIVERED, RUNNING, or an outcome.
    pub status: &'static str,
    pub delivered_at: Option<DateTime<Utc>>,
    pub started_at: Option<DateTime<Utc>>,
    /// Set for an outcome.
    pub finished_at: Option<DateTime<Utc>>,
    pub result: Option<Value>,
    pub error: Option<Value>,
    /// Id of the event, the same when the statement is run again.
    pub event_id: Uuid,
}

/// What became of it.
#[derive(Clone, Debug)]
pub struct Reported {
    /// For the agent.
    pub verdict: Verdict,
    /// The action as it is now, when the report changed it.
    pub action: Option<ActionRow>,
}

/// The group commit of reports.
#[derive(Debug)]
pub struct Reports;

impl Batch for Reports {
    type Item = Report;
    type Answer = Reported;
    type Key = (Uuid, Uuid);

    const ONE_STATEMENT: bool = true;

    fn key(item: &Report) -> (Uuid, Uuid) {
        (item.org.0, item.action.0)
    }

    fn write<'a>(
        &'a self,
        connection: &'a mut PgConnection,
        items: &'a [&'a Report],
    ) -> Written<'a, Reported> {
        Box::pin(async move {
            fn column<T>(items: &[&Report], of: impl Fn(&Report) -> T) -> Vec<T> {
                items.iter().map(|item| of(item)).collect()
            }
            let rows = sqlx::query(REPORT)
                .bind(column(items, |item| item.org.0))
                .bind(column(items, |item| item.machine.0))
                .bind(column(items, |item| item.action.0))
                .bind(column(items, |item| item.attempt))
                .bind(column(items, |item| item.status))
                .bind(column(items, |item| item.delivered_at))
                .bind(column(items, |item| item.started_at))
                .bind(column(items, |item| item.finished_at))
                .bind(column(items, |item| item.result.clone()))
                .bind(column(items, |item| item.error.clone()))
                .bind(column(items, |item| item.event_id))
                .bind(ATTEMPTS_MAX)
                .bind(domain::Timestamp::now().utc())
                .fetch_all(connection)
                .await?;
            rows.iter().map(reported).collect()
        })
    }
}

/// Writes one report in somebody's transaction, judged as in the group commit.
///
/// # Errors
/// [`DatabaseError`].
pub async fn report_in_tx(tx: &mut Tx, report: &Report) -> Result<Reported, DatabaseError> {
    let written = Reports.write(tx, &[report]).await?;
    let answer = written.into_iter().next();
    answer.ok_or_else(|| DatabaseError::Bug("a report was not answered".into()))
}

fn reported(row: &sqlx::postgres::PgRow) -> Result<Reported, sqlx::Error> {
    use sqlx::{FromRow, Row};
    let verdict = match row.try_get::<&str, _>("verdict")? {
        "APPLIED" => Verdict::Applied,
        "DUPLICATE" => Verdict::Duplicate,
        "FENCED" => Verdict::Fenced,
        other => return Err(sqlx::Error::Decode(format!("a verdict `{other}`").into())),
    };
    let changed = row.try_get::<Option<Uuid>, _>("id")?.is_some();
    let action = if changed {
        Some(ActionRow::from_row(row)?)
    } else {
        None
    };
    Ok(Reported { verdict, action })
}
