//! Identity's machines, taken over.

use chrono::{DateTime, Utc};
use contract::identity::MachineRecord;
use database::DatabaseError;
use sqlx::types::Json;
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

/// How far identity's changes have been read.
const POSITION: &str =
    "SELECT coalesce(max(position), 0) FROM metrics.cursors WHERE name = 'mirror'";
/// They have been read so far. Never back: another replica may have read further.
const SET_POSITION: &str = "
    INSERT INTO metrics.cursors AS c (name, position) VALUES ('mirror', $1)
    ON CONFLICT (name) DO UPDATE SET position = excluded.position, moved_at = now() WHERE c.position < excluded.position";
/// Takes over machines; an older change than the one that is here changes nothing. An inventory is given once, at
/// enrolment: afterwards it is ours. Labels stay identity's. Nobody hears a machine over HTTP that is revoked or quarantined:
/// it goes offline at once, for that reason, which is noted: it may be released before anybody looks. Gives the machines that changed, with their status.
const APPLY: &str = "
    INSERT INTO metrics.machines AS m (org_id, id, change, hostname, labels, inventory, enrolled_at, revoked_at, quarantined_at, quarantine_reason,
        transport, http_name, bound_key, bound_block, display_name, notes)
    SELECT t.org_id, t.id, t.change, t.hostname, t.labels, t.inventory, t.enrolled_at, t.revoked_at, t.quarantined_at, t.quarantine_reason,
        t.transport, t.http_name, t.bound_key, t.bound_block, t.display_name, t.notes
    FROM unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::text[], $5::jsonb[], $6::jsonb[], $7::timestamptz[], $8::timestamptz[], $9::timestamptz[], $10::text[],
            $11::text[], $12::text[], $13::uuid[], $14::text[], $15::text[], $16::text[])
        AS t(org_id, id, change, hostname, labels, inventory, enrolled_at, revoked_at, quarantined_at, quarantine_reason,
            transport, http_name, bound_key, bound_block, display_name, notes)
    ORDER BY t.org_id, t.id
    ON CONFLICT (org_id, id) DO UPDATE
    SET change = excluded.change, hostname = excluded.hostname, revoked_at = excluded.revoked_at,
        quarantined_at = excluded.quarantined_at, quarantine_reason = excluded.quarantine_reason,
        bound_key = excluded.bound_key, bound_block = excluded.bound_block,
        offline_due_at = CASE WHEN m.transport = 'HTTP' AND m.online AND (excluded.revoked_at IS NOT NULL OR excluded.quarantined_at IS NOT NULL)
            THEN now() ELSE m.offline_due_at END,
        offline_reason = CASE WHEN m.transport = 'HTTP' AND m.online AND excluded.revoked_at IS NOT NULL THEN 'revoked'
            WHEN m.transport = 'HTTP' AND m.online AND excluded.quarantined_at IS NOT NULL THEN 'quarantined' ELSE m.offline_reason END,
        labels = excluded.labels, display_name = excluded.display_name, notes = excluded.notes
    WHERE m.change < excluded.change
    RETURNING m.org_id, m.id, m.status, CASE m.status WHEN 'QUARANTINED' THEN m.quarantine_reason
        ELSE CASE WHEN m.online AND m.unstable_until > now() THEN m.presence_reason || '; it came and went often of late' ELSE m.presence_reason END END";
/// Each machine has its latest sample, also before there is one.
const APPLY_LATEST: &str = "
    INSERT INTO metrics.latest (org_id, machine_id) SELECT t.org_id, t.id FROM unnest($1::uuid[], $2::uuid[]) AS t(org_id, id)
    ON CONFLICT DO NOTHING";

/// A machine that changed: organisation, id, status, reason.
pub type Changed = (Uuid, Uuid, String, Option<String>);

/// How far identity's changes have been read.
///
/// # Errors
/// [`DatabaseError`].
pub async fn position(pool: &PgPool) -> Result<i64, DatabaseError> {
    Ok(sqlx::query_scalar(POSITION).fetch_one(pool).await?)
}

/// They have been read so far.
///
/// # Errors
/// [`DatabaseError`].
pub async fn set_position_in_tx(
    connection: &mut PgConnection,
    position: i64,
) -> Result<(), DatabaseError> {
    sqlx::query(SET_POSITION)
        .bind(position)
        .execute(connection)
        .await?;
    Ok(())
}

/// Takes over machines, each at most once; gives those that changed.
///
/// # Errors
/// [`DatabaseError`].
pub async fn apply_in_tx(
    connection: &mut PgConnection,
    records: &[&MachineRecord],
) -> Result<Vec<Changed>, DatabaseError> {
    let time = |time: Option<domain::Timestamp>| time.map(domain::Timestamp::utc);
    let legacy = || records.iter().map(|record| record.legacy.as_ref());
    let changed: Vec<Changed> = sqlx::query_as(APPLY)
        .bind(
            records
                .iter()
                .map(|record| record.org.0)
                .collect::<Vec<_>>(),
        )
        .bind(
            records
                .iter()
                .map(|record| record.machine_id.0)
                .collect::<Vec<_>>(),
        )
        .bind(
            records
                .iter()
                .map(|record| record.change)
                .collect::<Vec<_>>(),
        )
        .bind(
            records
                .iter()
                .map(|record| record.hostname.as_str())
                .collect::<Vec<_>>(),
        )
        .bind(
            records
                .iter()
                .map(|record| Json(&record.labels))
                .collect::<Vec<_>>(),
        )
        .bind(
            records
                .iter()
                .map(|record| Json(&record.inventory))
                .collect::<Vec<_>>(),
        )
        .bind(
            records
                .iter()
                .map(|record| record.enrolled_at.utc())
                .collect::<Vec<_>>(),
        )
        .bind(
            records
                .iter()
                .map(|record| time(record.revoked_at))
                .collect::<Vec<Option<DateTime<Utc>>>>(),
        )
        .bind(
            records
                .iter()
                .map(|record| time(record.quarantined_at))
                .collect::<Vec<Option<DateTime<Utc>>>>(),
        )
        .bind(
            records
                .iter()
                .map(|record| record.quarantine_reason.as_deref())
                .collect::<Vec<_>>(),
        )
        .bind(
            records
                .iter()
                .map(|record| record.transport.as_str())
                .collect::<Vec<_>>(),
        )
        .bind(
            legacy()
                .map(|legacy| legacy.map(|legacy| legacy.name.as_str()))
                .collect::<Vec<_>>(),
        )
        .bind(
            legacy()
                .map(|legacy| legacy.map(|legacy| legacy.key.0))
                .collect::<Vec<_>>(),
        )
        .bind(
            legacy()
                .map(|legacy| legacy.map(|legacy| legacy.block.as_str()))
                .collect::<Vec<_>>(),
        )
        .bind(
            records
                .iter()
                .map(|record| record.display_name.as_deref())
                .collect::<Vec<_>>(),
        )
        .bind(
            records
                .iter()
                .map(|record| record.notes.as_deref())
                .collect::<Vec<_>>(),
        )
        .fetch_all(&mut *connection)
        .await?;
    let (orgs, ids): (Vec<Uuid>, Vec<Uuid>) =
        changed.iter().map(|(org, id, _, _)| (*org, *id)).unzip();
    sqlx::query(APPLY_LATEST)
        .bind(orgs)
        .bind(ids)
        .execute(connection)
        .await?;
    Ok(changed)
}
