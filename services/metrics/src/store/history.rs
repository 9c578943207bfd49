//! Presence as it was: changes of one machine, and how much of each day it was online. Under row-level security.

use chrono::{DateTime, NaiveDate, Utc};
use database::DatabaseError;
use domain::MachineId;
use sqlx::{PgConnection, PgPool};

/// A page of changes, the newest first. `$4`, `$5`: where the page before ended.
const PAGE: &str = "
    SELECT c.version, c.at, c.online, c.reason FROM metrics.presence_changes c
    WHERE c.machine_id = $1 AND c.at >= $2 AND c.at < $3
        AND ($4::timestamptz IS NULL OR (c.at, c.version) < ($4, $5))
    ORDER BY c.at DESC, c.version DESC LIMIT $6";

/// How much of each day (UTC) from `$2` to `$3` the machine was observed (from its enrolment until now, or until it was
/// revoked), and how much of that it was online.
const AVAILABILITY: &str = "
    WITH span AS (
        SELECT greatest($2::timestamptz, m.enrolled_at) AS began,
            least($3::timestamptz, coalesce(m.revoked_at, now()), now()) AS ended
        FROM metrics.machines m WHERE m.id = $1
    ), changes AS (
        SELECT span.began AS at, 0::bigint AS version, coalesce((
            SELECT c.online FROM metrics.presence_changes c WHERE c.machine_id = $1 AND c.at <= span.began
            ORDER BY c.at DESC, c.version DESC LIMIT 1), false) AS online
        FROM span
        UNION ALL
        SELECT c.at, c.version, c.online FROM metrics.presence_changes c, span
        WHERE c.machine_id = $1 AND c.at > span.began AND c.at < span.ended
    ), stretches AS (
        SELECT changes.at AS since, lead(changes.at, 1, span.ended) OVER (ORDER BY changes.at, changes.version) AS until,
            changes.online
        FROM changes, span
    ), days AS (
        SELECT greatest(span.began, day AT TIME ZONE 'UTC') AS since,
            least(span.ended, (day + interval '1 day') AT TIME ZONE 'UTC') AS until, day::date AS day
        FROM span, generate_series(date_trunc('day', span.began AT TIME ZONE 'UTC'), span.ended AT TIME ZONE 'UTC',
            interval '1 day') AS day
        WHERE span.began < span.ended
    )
    SELECT days.day, round(extract(epoch FROM days.until - days.since) * 1000)::bigint AS observed_ms,
        coalesce(round(sum(extract(epoch FROM least(days.until, stretches.until) - greatest(days.since, stretches.since))
            * 1000) FILTER (WHERE stretches.online))::bigint, 0) AS online_ms
    FROM days LEFT JOIN stretches
        ON stretches.online AND stretches.since < days.until AND stretches.until > days.since
    WHERE days.since < days.until
    GROUP BY days.day, days.since, days.until ORDER BY days.day";

/// Forgets changes of long ago, a portion at a time; but never the last one of a machine before then, which says how
/// it was at the beginning of what is kept.
const PURGE: &str = "
    DELETE FROM metrics.presence_changes WHERE (org_id, machine_id, version) IN (
        SELECT c.org_id, c.machine_id, c.version FROM metrics.presence_changes c
        WHERE c.at < $1 AND EXISTS (
            SELECT 1 FROM metrics.presence_changes later
            WHERE later.org_id = c.org_id AND later.machine_id = c.machine_id AND later.version > c.version AND later.at < $1)
        LIMIT $2)";

/// A change of presence.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
#[allow(missing_docs)] // columns of `metrics.presence_changes`
pub struct Change {
    pub version: i64,
    pub at: DateTime<Utc>,
    pub online: bool,
    pub reason: String,
}

/// A day of a machine, in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct Day {
    /// By UTC.
    pub day: NaiveDate,
    /// How much of it the machine was known.
    pub observed_ms: i64,
    /// How much of that it was online.
    pub online_ms: i64,
}

/// Changes of a machine of the transaction's organisation, the newest first.
///
/// # Errors
/// [`DatabaseError`].
pub async fn page(
    connection: &mut PgConnection,
    machine: MachineId,
    from: DateTime<Utc>,
    to: DateTime<Utc>,
    before: Option<(DateTime<Utc>, i64)>,
    limit: i64,
) -> Result<Vec<Change>, DatabaseError> {
    let (at, version) = before.unzip();
    Ok(sqlx::query_as(PAGE)
        .bind(machine.0)
        .bind(from)
        .bind(to)
        .bind(at)
        .bind(version)
        .bind(limit)
        .fetch_all(connection)
        .await?)
}

/// The days of a machine of the transaction's organisation, the oldest first; only those in which it was known.
///
/// # Errors
/// [`DatabaseError`].
pub async fn availability(
    connection: &mut PgConnection,
    machine: MachineId,
    from: DateTime<Utc>,
    to: DateTime<Utc>,
) -> Result<Vec<Day>, DatabaseError> {
    Ok(sqlx::query_as(AVAILABILITY)
        .bind(machine.0)
        .bind(from)
        .bind(to)
        .fetch_all(connection)
        .await?)
}

/// Forgets changes of before `before`, at most `limit`; says how many.
///
/// # Errors
/// [`DatabaseError`].
pub async fn purge(pool: &PgPool, before: DateTime<Utc>, limit: i64) -> Result<u64, DatabaseError> {
    let purged = sqlx::query(PURGE)
        .bind(before)
        .bind(limit)
        .execute(pool)
        .await?;
    Ok(purged.rows_affected())
}
