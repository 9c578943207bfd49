//! Machines over HTTP: found by name, heard by report, online for a time.

use chrono::{DateTime, Utc};
use database::{DatabaseError, Tx};
use domain::{CredentialId, MachineId, OrgId};
use serde_json::Value;
use sqlx::PgConnection;
use std::time::Duration;
use uuid::Uuid;

use crate::store::presence::PresenceChange;

/// The machine of a name that comes with this key from this block, when it may speak.
const BOUND: &str = "
    SELECT id FROM metrics.machines
    WHERE org_id = $1 AND http_name = $2 AND bound_key = $3 AND bound_block = $4
        AND revoked_at IS NULL AND quarantined_at IS NULL";
/// The latest report, unless a later one is here: two may come at once. These three look for themselves whether the machine
/// may still speak: it may have been revoked or quarantined since the report came.
const SET_REPORT: &str = "
    INSERT INTO metrics.legacy_reports AS r (org_id, machine_id, at, client, report)
    SELECT m.org_id, m.id, $3, $4, $5 FROM metrics.machines m
    WHERE m.org_id = $1 AND m.id = $2 AND m.transport = 'HTTP' AND m.revoked_at IS NULL AND m.quarantined_at IS NULL
    ON CONFLICT (org_id, machine_id) DO UPDATE SET at = excluded.at, client = excluded.client, report = excluded.report
    WHERE r.at < excluded.at";
/// It is online for some more time. Not so when it was offline: that is for `CAME`, under the lock.
const STAYS: &str = "
    UPDATE metrics.machines SET offline_due_at = greatest(offline_due_at, now() + make_interval(secs => $3::float8)), offline_reason = NULL
    WHERE org_id = $1 AND id = $2 AND transport = 'HTTP' AND online AND revoked_at IS NULL AND quarantined_at IS NULL
    RETURNING true";
/// It came, with its event. Under the lock that orders presence.
const CAME: &str = r#"
    WITH came AS (
        UPDATE metrics.machines m
        SET online = true, offline_due_at = now() + make_interval(secs => $3::float8), presence_at = greatest(now(), m.presence_at), offline_reason = NULL,
            presence_reason = 'reports', presence_version = nextval('metrics.presence_version')
        WHERE m.org_id = $1 AND m.id = $2 AND m.transport = 'HTTP' AND NOT m.online AND m.revoked_at IS NULL
            AND m.quarantined_at IS NULL
        RETURNING m.org_id, m.id, m.online, m.presence_version, m.presence_at, m.presence_reason, m.status
    ), noted AS (
        INSERT INTO metrics.presence_changes (org_id, machine_id, version, at, online, reason)
        SELECT org_id, id, presence_version, presence_at, online, presence_reason FROM came
    ), told AS (
        INSERT INTO metrics.outbox (id, org_id, noun, verb, subject_id, version, at, data)
        SELECT gen_random_uuid(), org_id, 'machine', 'online', id, presence_version, presence_at, jsonb_build_object(
            'online', true, 'reason', presence_reason, 'since', to_char(presence_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'))
        FROM came
    )
    SELECT org_id, id, online, presence_version, presence_at, presence_reason, status FROM came"#;
/// Machines over HTTP that have reported, by name.
const FLEET: &str = "
    SELECT m.http_name, r.client, r.at, r.report
    FROM metrics.machines m JOIN metrics.legacy_reports r ON r.org_id = m.org_id AND r.machine_id = m.id
    WHERE m.http_name > $1 AND m.revoked_at IS NULL
    ORDER BY m.org_id, m.http_name LIMIT $2";

/// A machine over HTTP and its latest report.
#[derive(Debug, sqlx::FromRow)]
#[allow(missing_docs)] // the columns of `FLEET`
pub struct Reported {
    pub http_name: String,
    pub client: String,
    pub at: DateTime<Utc>,
    pub report: Value,
}

/// The machine of a name that comes with this key from this block, when it may speak.
///
/// # Errors
/// [`DatabaseError`].
pub async fn bound_in_tx(
    tx: &mut Tx,
    org: OrgId,
    name: &str,
    key: CredentialId,
    block: &str,
) -> Result<Option<MachineId>, DatabaseError> {
    let found: Option<Uuid> = sqlx::query_scalar(BOUND)
        .bind(org.0)
        .bind(name)
        .bind(key.0)
        .bind(block)
        .fetch_optional(&mut **tx)
        .await?;
    Ok(found.map(Into::into))
}

/// Keeps a machine's latest report.
///
/// # Errors
/// [`DatabaseError`].
pub async fn report_set_in_tx(
    tx: &mut Tx,
    org: OrgId,
    machine: MachineId,
    at: DateTime<Utc>,
    client: &str,
    report: &Value,
) -> Result<(), DatabaseError> {
    sqlx::query(SET_REPORT)
        .bind(org.0)
        .bind(machine.0)
        .bind(at)
        .bind(client)
        .bind(report)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// A machine that is online stays so for this time; says whether it was.
///
/// # Errors
/// [`DatabaseError`].
pub async fn stays_in_tx(
    tx: &mut Tx,
    org: OrgId,
    machine: MachineId,
    ttl: Duration,
) -> Result<bool, DatabaseError> {
    let stays: Option<bool> = sqlx::query_scalar(STAYS)
        .bind(org.0)
        .bind(machine.0)
        .bind(ttl.as_secs_f64())
        .fetch_optional(&mut **tx)
        .await?;
    Ok(stays.is_some())
}

/// A machine comes online for this time. Under the lock that orders presence.
///
/// # Errors
/// [`DatabaseError`].
pub async fn came_in_tx(
    tx: &mut Tx,
    org: OrgId,
    machine: MachineId,
    ttl: Duration,
) -> Result<Option<PresenceChange>, DatabaseError> {
    Ok(sqlx::query_as(CAME)
        .bind(org.0)
        .bind(machine.0)
        .bind(ttl.as_secs_f64())
        .fetch_optional(&mut **tx)
        .await?)
}

/// Machines over HTTP of the transaction's organisation that have reported, by name.
///
/// # Errors
/// [`DatabaseError`].
pub async fn fleet(
    connection: &mut PgConnection,
    after: &str,
    limit: i64,
) -> Result<Vec<Reported>, DatabaseError> {
    Ok(sqlx::query_as(FLEET)
        .bind(after)
        .bind(limit)
        .fetch_all(connection)
        .await?)
}
