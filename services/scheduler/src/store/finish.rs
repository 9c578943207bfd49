//! How attempts end: [`Finishes`] by their worker's word, as a group commit; [`lost_in_tx`] by the end of its session. In both a
//! statement ([`sql`]) takes what runs, judges it, and puts it where it belongs: `ended`, or `waiting` again.

mod sql;

use chrono::{DateTime, Utc};
use contract::run::{Finish, FinishVerdict, Place};
use contract::work::Lane;
use database::group_commit::Written;
use database::{Batch, DatabaseError, Tx};
use domain::OrgId;
use domain::execution::{LOSSES_MAX, Outcome};
use serde_json::Value;
use sqlx::postgres::PgRow;
use sqlx::{FromRow, PgConnection};
use uuid::Uuid;

use crate::store::left::{filled, left};

/// An attempt's end, as it is written.
#[derive(Clone, Debug)]
pub struct Ending {
    /// What the worker says.
    pub finish: Finish,
    /// From 0 to 1: what is taken from the time before the next attempt.
    pub jitter: f64,
    /// Id of the event, the same when the statement is run again.
    pub event_id: Uuid,
}

/// What became of an attempt.
#[derive(Clone, Debug)]
pub struct Moved {
    /// The organisation.
    pub org: OrgId,
    /// The execution.
    pub id: Uuid,
    /// Its lane.
    pub lane: Lane,
    /// The pool.
    pub pool: String,
    /// The attempt.
    pub attempt: i32,
    /// How the execution ended; `None` when another attempt follows.
    pub status: Option<String>,
    /// Whether that one only waits for a worker.
    pub waits: bool,
    /// Whether a limit counted it: there is room now.
    pub limited: bool,
    /// When this was.
    pub at: DateTime<Utc>,
    /// When the attempt began.
    pub started_at: DateTime<Utc>,
    /// When the execution was made.
    pub created_at: DateTime<Utc>,
    /// The trace of who asked.
    pub traceparent: Option<String>,
    /// How the attempt ended; only where there is a trace to tell it.
    pub outcome: Option<String>,
}

/// The answer to an ending.
#[derive(Clone, Debug)]
pub struct Ended {
    /// For the worker.
    pub verdict: FinishVerdict,
    /// What became of the attempt, when this changed it.
    pub moved: Option<Moved>,
}

/// The group commit of endings.
#[derive(Debug)]
pub struct Finishes;

impl Batch for Finishes {
    type Item = Ending;
    type Answer = Ended;
    type Key = (Uuid, Uuid);

    const ONE_STATEMENT: bool = true;

    fn key(item: &Ending) -> (Uuid, Uuid) {
        (item.finish.place.org.0, item.finish.place.id.0)
    }

    fn write<'a>(
        &'a self,
        connection: &'a mut PgConnection,
        items: &'a [&'a Ending],
    ) -> Written<'a, Ended> {
        Box::pin(async move {
            let completed = |item: &&Ending| item.finish.outcome == Outcome::Completed;
            let chosen: Vec<&Ending> = items.iter().copied().filter(completed).collect();
            let mut plain = completed_plainly(connection, &chosen).await?.into_iter();
            let answers: Vec<Option<Ended>> = items
                .iter()
                .map(|item| completed(item).then(|| plain.next()).flatten().flatten())
                .collect();
            let judged = judged(connection, &left(items, &answers)).await?;
            Ok(filled(answers, judged))
        })
    }
}

fn column<T>(items: &[&Ending], of: impl Fn(&Ending) -> T) -> Vec<T> {
    items.iter().map(|item| of(item)).collect()
}

/// Ends what was completed where nothing is limited; says which of them.
async fn completed_plainly(
    connection: &mut PgConnection,
    items: &[&Ending],
) -> Result<Vec<Option<Ended>>, sqlx::Error> {
    let mut answers: Vec<Option<Ended>> = items.iter().map(|_| None).collect();
    if items.is_empty() {
        return Ok(answers);
    }
    let rows = sqlx::query(sql::PLAIN)
        .bind(column(items, |item| item.finish.place.org.0))
        .bind(column(items, |item| item.finish.place.id.0))
        .bind(column(items, |item| item.finish.place.attempt))
        .bind(column(items, |item| item.finish.place.token))
        .bind(column(items, |item| item.finish.result.clone()))
        .bind(column(items, |item| item.event_id))
        .fetch_all(connection)
        .await?;
    for row in &rows {
        let (place, moved) = moved(row)?;
        *answers.get_mut(place).ok_or_else(|| beyond(place))? = moved.map(Ended::applied);
    }
    Ok(answers)
}

/// Ends whatever can be ended, and says of each what became of it.
async fn judged(
    connection: &mut PgConnection,
    items: &[&Ending],
) -> Result<Vec<Ended>, sqlx::Error> {
    if items.is_empty() {
        return Ok(Vec::new());
    }
    let error = |item: &Ending| {
        let error = item.finish.error.as_ref();
        error.and_then(|error| serde_json::to_value(error).ok())
    };
    let rows = sqlx::query(sql::FINISH)
        .bind(LOSSES_MAX)
        .bind(column(items, |item| item.finish.place.org.0))
        .bind(column(items, |item| item.finish.place.id.0))
        .bind(column(items, |item| item.finish.place.attempt))
        .bind(column(items, |item| item.finish.place.token))
        .bind(column(items, |item| item.finish.outcome.as_str()))
        .bind(column(items, |item| item.finish.result.clone()))
        .bind(column(items, error))
        .bind(column(items, |item| item.finish.permanent))
        .bind(column(items, |item| item.jitter))
        .bind(column(items, |item| item.event_id))
        .bind(column(items, |item| item.finish.unbegun))
        .fetch_all(&mut *connection)
        .await?;
    let mut answers: Vec<Option<Ended>> = items.iter().map(|_| None).collect();
    for row in &rows {
        let (place, moved) = moved(row)?;
        let answer = answers.get_mut(place).ok_or_else(|| beyond(place))?;
        // The rows that were found come after those that were taken.
        if answer.is_none() {
            *answer = Some(match moved {
                Some(moved) => Ended::applied(moved),
                None => Ended::unmoved(FinishVerdict::Retry),
            });
        }
    }
    let absent = was(connection, &left(items, &answers)).await?;
    Ok(filled(answers, absent.into_iter().map(Ended::unmoved)))
}

/// Attempts that do not run: those that ended by a finish are DUPLICATE, the others FENCED. What a session had when it was over ended
/// by none, whatever its worker says of it later.
async fn was(
    connection: &mut PgConnection,
    items: &[&Ending],
) -> Result<Vec<FinishVerdict>, sqlx::Error> {
    let mut verdicts = vec![FinishVerdict::Fenced; items.len()];
    if items.is_empty() {
        return Ok(verdicts);
    }
    let attempts = column(items, |item| item.finish.place.attempt);
    let column = |of: fn(&Place) -> Uuid| column(items, |item| of(&item.finish.place));
    let ended: Vec<i64> = sqlx::query_scalar(sql::WAS)
        .bind(column(|place| place.org.0))
        .bind(column(|place| place.id.0))
        .bind(attempts)
        .bind(column(|place| place.token))
        .fetch_all(connection)
        .await?;
    for place in ended {
        let place = usize::try_from(place - 1).unwrap_or(usize::MAX);
        *verdicts.get_mut(place).ok_or_else(|| beyond(place))? = FinishVerdict::Duplicate;
    }
    Ok(verdicts)
}

fn beyond(place: usize) -> sqlx::Error {
    sqlx::Error::Decode(format!("a place {place} that was not asked for").into())
}

impl Ended {
    fn applied(moved: Moved) -> Self {
        Self {
            verdict: FinishVerdict::Applied,
            moved: Some(moved),
        }
    }

    fn unmoved(verdict: FinishVerdict) -> Self {
        Self {
            verdict,
            moved: None,
        }
    }
}

/// Takes from a session what it has, at most so many at once: LOST or HANDED_BACK. Whoever calls holds the session's row.
///
/// # Errors
/// [`DatabaseError`].
pub async fn lost_in_tx(
    tx: &mut Tx,
    session: Uuid,
    outcome: Outcome,
    most: i64,
) -> Result<Vec<Moved>, DatabaseError> {
    let rows = sqlx::query(sql::LOST)
        .bind(LOSSES_MAX)
        .bind(session)
        .bind(outcome.as_str())
        .bind(most)
        .fetch_all(&mut **tx)
        .await?;
    let moved: Result<Vec<_>, sqlx::Error> = rows.iter().map(|row| Ok(moved(row)?.1)).collect();
    Ok(moved?.into_iter().flatten().collect())
}

#[derive(FromRow)]
struct Row {
    org_id: Uuid,
    id: Uuid,
    job_id: Uuid,
    pool: String,
    key: String,
    attempt: i32,
    status: Option<String>,
    waits: bool,
    limited: bool,
    at: DateTime<Utc>,
    started_at: DateTime<Utc>,
    created_at: DateTime<Utc>,
    traceparent: Option<String>,
    outcome: Option<String>,
}

/// The place of a row, from 0, and what was moved, if the row says so.
fn moved(row: &PgRow) -> Result<(usize, Option<Moved>), sqlx::Error> {
    use sqlx::Row as _;
    let place = row.try_get::<i64, _>("place")?;
    // A session's rows have none.
    let place = usize::try_from(place - 1).unwrap_or_default();
    if row.try_get::<Option<Uuid>, _>("id")?.is_none() {
        return Ok((place, None));
    }
    let found = Row::from_row(row)?;
    let moved = Moved {
        org: found.org_id.into(),
        id: found.id,
        lane: Lane {
            org: found.org_id.into(),
            job: found.job_id.into(),
            key: found.key,
        },
        pool: found.pool,
        attempt: found.attempt,
        status: found.status,
        waits: found.waits,
        limited: found.limited,
        at: found.at,
        started_at: found.started_at,
        created_at: found.created_at,
        traceparent: found.traceparent,
        outcome: found.outcome,
    };
    Ok((place, Some(moved)))
}

/// What no column takes: PostgreSQL has no NUL in a text.
#[must_use]
pub fn storable(value: Value) -> Value {
    match value {
        Value::String(text) => Value::String(text.replace('\0', "\u{fffd}")),
        Value::Array(items) => items.into_iter().map(storable).collect(),
        Value::Object(fields) => fields
            .into_iter()
            .map(|(name, value)| (name.replace('\0', "\u{fffd}"), storable(value)))
            .collect::<serde_json::Map<_, _>>()
            .into(),
        other => other,
    }
}
