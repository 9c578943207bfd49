//! Samples: written by group commit, read by time.

use std::sync::Arc;
use std::time::Instant;

use chrono::{DateTime, Utc};
use contract::agent::{DiskSample, Sample};
use database::DatabaseError;
use database::group_commit::{Batch, Written};
use domain::health::Health;
use domain::{MachineId, OrgId};
use serde_json::Value;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::metrics::{Count, Measure, Metrics};
use crate::store::machine::Standing;

/// Writes the messages of several machines: their samples, and the latest of each where it is newer. One statement
/// is one round trip and one commit. `place` numbers the messages; each has at most one machine, and each machine one.
/// An update takes rows in the order of its plan, so they are taken before, by key (law L3). Of a machine over HTTP that is
/// quarantined nothing is written: an enrolled one proves each time that it is itself, and is only offered nothing.
pub const WRITE: &str = r"
    WITH message AS (
        SELECT t.place, t.org_id, t.machine_id, t.at, t.sample, t.score, t.status,
            m.id IS NOT NULL AS known, m.revoked_at IS NOT NULL AS revoked,
            coalesce(m.transport = 'HTTP', false) AND m.quarantined_at IS NOT NULL AS quarantined
        FROM unnest($1::uuid[], $2::uuid[], $3::timestamptz[], $4::text[], $5::smallint[], $6::text[])
            WITH ORDINALITY AS t(org_id, machine_id, at, sample, score, status, place)
        LEFT JOIN metrics.machines m ON m.org_id = t.org_id AND m.id = t.machine_id
    ), written AS (
        INSERT INTO metrics.samples (org_id, machine_id, at, body)
        SELECT m.org_id, m.machine_id, s.at, s.body::jsonb
        FROM unnest($7::bigint[], $8::timestamptz[], $9::text[]) AS s(place, at, body)
        JOIN message m ON m.place = s.place
        WHERE m.known AND NOT m.revoked AND NOT m.quarantined
        ORDER BY m.place, s.at
        ON CONFLICT DO NOTHING
        RETURNING 1
    ), taken AS (
        SELECT l.org_id, l.machine_id, m.place, m.at, m.sample, m.score, m.status
        FROM message m JOIN metrics.latest l ON l.org_id = m.org_id AND l.machine_id = m.machine_id
        WHERE NOT m.revoked AND NOT m.quarantined
        ORDER BY l.org_id, l.machine_id FOR NO KEY UPDATE OF l
    ), heard AS (
        UPDATE metrics.latest l SET
            last_seen_at = greatest(l.last_seen_at, now()),
            sample_at = CASE WHEN m.at > coalesce(l.sample_at, '-infinity') THEN m.at ELSE l.sample_at END,
            sample = CASE WHEN m.at > coalesce(l.sample_at, '-infinity') THEN m.sample::jsonb ELSE l.sample END,
            health_score = CASE WHEN m.at > coalesce(l.sample_at, '-infinity') THEN m.score ELSE l.health_score END,
            health_status = CASE WHEN m.at > coalesce(l.sample_at, '-infinity') THEN m.status ELSE l.health_status END
        FROM taken m
        WHERE l.org_id = m.org_id AND l.machine_id = m.machine_id
        RETURNING m.place, l.sample_at = m.at AS latest
    )
    SELECT m.known, m.revoked, m.quarantined, coalesce(h.latest, false), (SELECT count(*) FROM written)
    FROM message m LEFT JOIN heard h ON h.place = m.place
    ORDER BY m.place";

/// The samples of a machine from one time to before another, oldest first.
pub const LIST: &str = "SELECT at, body FROM metrics.samples WHERE machine_id = $1 AND at >= $2 AND at < $3 ORDER BY at LIMIT $4";

/// The disks of a machine as they were last known.
pub const DISKS: &str = "SELECT sample -> 'disks' FROM metrics.latest WHERE machine_id = $1";

/// One message of one machine, ready to be written.
#[derive(Debug)]
pub struct SampleWrite {
    /// Its organisation.
    pub org: OrgId,
    /// The machine.
    pub machine: MachineId,
    /// Times and bodies.
    pub rows: Vec<(DateTime<Utc>, String)>,
    /// The newest of them; none when all were refused.
    pub newest: Option<Newest>,
}

/// A sample that may become a machine's latest.
#[derive(Debug)]
pub struct Newest {
    /// Its time.
    pub at: DateTime<Utc>,
    /// The sample as JSON.
    pub sample: String,
    /// The machine's health at it.
    pub health: Health,
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SampleWritten {
    /// Whether the machine may speak; when not, nothing was written.
    pub standing: Standing,
    /// Whether its newest is the machine's latest.
    pub latest: bool,
}

impl From<SampleWritten> for Standing {
    fn from(written: SampleWritten) -> Self {
        written.standing
    }
}

/// The body of a sample as it is stored: without its time, which is a column.
///
/// # Errors
/// When it cannot be written as JSON.
pub fn body(sample: &Sample) -> Result<String, serde_json::Error> {
    let mut value = serde_json::to_value(sample)?;
    if let Some(fields) = value.as_object_mut() {
        fields.remove("at");
    }
    serde_json::to_string(&value)
}

/// The group commit of samples.
pub struct SampleWrites {
    /// Batch sizes and times are noted here.
    pub metrics: Arc<Metrics>,
}

impl Batch for SampleWrites {
    type Item = Arc<SampleWrite>;
    type Answer = SampleWritten;
    type Key = (Uuid, Uuid);
    const ONE_STATEMENT: bool = true;

    fn key(item: &Self::Item) -> Self::Key {
        (item.org.0, item.machine.0)
    }

    fn write<'a>(
        &'a self,
        connection: &'a mut PgConnection,
        items: &'a [&'a Self::Item],
    ) -> Written<'a, Self::Answer> {
        Box::pin(async move {
            let begun = Instant::now();
            let newest = |item: &'a &Arc<SampleWrite>| item.newest.as_ref();
            let rows = || {
                items
                    .iter()
                    .zip(1_i64..)
                    .flat_map(|(item, place)| item.rows.iter().map(move |row| (place, row)))
            };
            let answers: Vec<(bool, bool, bool, bool, i64)> = sqlx::query_as(WRITE)
                .bind(items.iter().map(|item| item.org.0).collect::<Vec<_>>())
                .bind(items.iter().map(|item| item.machine.0).collect::<Vec<_>>())
                .bind(
                    items
                        .iter()
                        .map(|item| newest(item).map(|newest| newest.at))
                        .collect::<Vec<_>>(),
                )
                .bind(
                    items
                        .iter()
                        .map(|item| newest(item).map(|newest| newest.sample.as_str()))
                        .collect::<Vec<_>>(),
                )
                .bind(
                    items
                        .iter()
                        .map(|item| newest(item).map(|newest| i16::from(newest.health.score)))
                        .collect::<Vec<_>>(),
                )
                .bind(
                    items
                        .iter()
                        .map(|item| newest(item).map(|newest| newest.health.status.as_str()))
                        .collect::<Vec<_>>(),
                )
                .bind(rows().map(|(place, _)| place).collect::<Vec<_>>())
                .bind(rows().map(|(_, (at, _))| *at).collect::<Vec<_>>())
                .bind(
                    rows()
                        .map(|(_, (_, body))| body.as_str())
                        .collect::<Vec<_>>(),
                )
                .fetch_all(connection)
                .await?;
            self.metrics
                .observe(Measure::SampleBatchSize, items.len() as f64);
            self.metrics
                .observe_time(Measure::SampleCommitSeconds, begun.elapsed());
            let rows = answers
                .first()
                .map_or(0, |answer| u64::try_from(answer.4).unwrap_or(0));
            let answers: Vec<_> = answers.into_iter().map(written).collect();
            let known = items
                .iter()
                .zip(&answers)
                .filter(|(_, answer)| answer.standing == Standing::Known);
            let taken: u64 = known.map(|(item, _)| item.rows.len() as u64).sum();
            self.metrics.add(Count::SamplesWritten, rows);
            self.metrics
                .add(Count::SamplesRepeated, taken.saturating_sub(rows));
            Ok(answers)
        })
    }
}

fn written(
    (known, revoked, quarantined, latest, _): (bool, bool, bool, bool, i64),
) -> SampleWritten {
    let standing = match (known, revoked, quarantined) {
        (false, _, _) => Standing::Unknown,
        (true, true, _) => Standing::Revoked,
        (true, false, true) => Standing::Quarantined,
        (true, false, false) => Standing::Known,
    };
    SampleWritten { standing, latest }
}

/// The samples of a machine of the transaction's organisation.
///
/// # Errors
/// [`DatabaseError`].
pub async fn list(
    connection: &mut PgConnection,
    machine: MachineId,
    from: DateTime<Utc>,
    to: DateTime<Utc>,
    limit: i64,
) -> Result<Vec<Sample>, DatabaseError> {
    let rows: Vec<(DateTime<Utc>, Value)> = sqlx::query_as(LIST)
        .bind(machine.0)
        .bind(from)
        .bind(to)
        .bind(limit)
        .fetch_all(connection)
        .await?;
    rows.into_iter().map(|(at, body)| whole(at, body)).collect()
}

/// The disks of a machine of the transaction's organisation as its latest sample shows them; none when it has no sample.
///
/// # Errors
/// [`DatabaseError`].
pub async fn disks(
    connection: &mut PgConnection,
    machine: MachineId,
) -> Result<Vec<DiskSample>, DatabaseError> {
    let disks: Option<Option<Value>> = sqlx::query_scalar(DISKS)
        .bind(machine.0)
        .fetch_optional(connection)
        .await?;
    disks.flatten().map_or_else(
        || Ok(Vec::new()),
        |disks| {
            serde_json::from_value(disks).map_err(|error| {
                DatabaseError::Bug(format!("stored disks cannot be read: {error}"))
            })
        },
    )
}

fn whole(at: DateTime<Utc>, mut body: Value) -> Result<Sample, DatabaseError> {
    if let Some(fields) = body.as_object_mut() {
        fields.insert(
            "at".into(),
            Value::String(domain::Timestamp::from(at).to_string()),
        );
    }
    serde_json::from_value(body)
        .map_err(|error| DatabaseError::Bug(format!("a stored sample cannot be read: {error}")))
}
