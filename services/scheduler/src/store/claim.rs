//! Claims, as a group commit: a statement takes what waits and may begin, and gives it to its worker ([`sql`]).

mod sql;

use std::collections::HashSet;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use contract::execution::RunAs;
use contract::run::{Assignment, Offer, Place};
use contract::work::Lane;
use database::Batch;
use database::group_commit::Written;
use domain::ExecutionId;
use serde_json::{Map, Value};
use sqlx::postgres::PgRow;
use sqlx::{FromRow, PgConnection, Row};
use uuid::Uuid;

use crate::store::left::{filled, left};
use crate::store::row;

/// How many bytes of configuration one session is given at once, but for a first that is longer: by each of the two statements, and
/// of what it has already. All three are in one message, which may have a megabyte.
const CONFIG_MAX_BYTES: i64 = 256 * 1024;

/// One execution that one session claims.
#[derive(Clone, Debug)]
pub struct Claim {
    /// The pool of who asks.
    pub pool: Arc<str>,
    /// The session.
    pub session: Uuid,
    /// The execution.
    pub offer: Offer,
    /// The token that it gets if it is granted: the same when the statement is run again.
    pub token: Uuid,
}

/// What became of a claim.
#[derive(Clone, Debug)]
pub enum Claimed {
    /// There is no such session (any more).
    NoSession,
    /// It may not begin here and now.
    Refused,
    /// It is RUNNING.
    Granted {
        /// With all that its handler needs.
        assignment: Box<Assignment>,
        /// The lane that it came from.
        lane: Lane,
        /// Not given before.
        fresh: bool,
    },
}

/// The group commit of claims.
#[derive(Debug)]
pub struct Claims;

impl Batch for Claims {
    type Item = Claim;
    type Answer = Claimed;
    type Key = (Uuid, Uuid);

    const ONE_STATEMENT: bool = true;

    fn key(item: &Claim) -> (Uuid, Uuid) {
        (item.offer.org.0, item.offer.id.0)
    }

    fn write<'a>(
        &'a self,
        connection: &'a mut PgConnection,
        items: &'a [&'a Claim],
    ) -> Written<'a, Claimed> {
        Box::pin(async move {
            let given = ask(sql::PLAIN, connection, items).await?.answers;
            let left = left(items, &given);
            let judged = match left.is_empty() {
                true => Judged::default(),
                false => ask(sql::LIMITED, connection, &left).await?,
            };
            let verdicts = left.iter().zip(judged.answers).map(|(item, answer)| {
                answer.unwrap_or(match judged.sessions.contains(&item.session) {
                    true => Claimed::Refused,
                    false => Claimed::NoSession,
                })
            });
            Ok(filled(given, verdicts))
        })
    }
}

/// What a statement says of claims.
#[derive(Default)]
struct Judged {
    /// Of the sessions that they name, those that there are; as far as the statement says.
    sessions: HashSet<Uuid>,
    /// What began of them, each at its place.
    answers: Vec<Option<Claimed>>,
}

async fn ask(
    statement: &'static str,
    connection: &mut PgConnection,
    items: &[&Claim],
) -> Result<Judged, sqlx::Error> {
    fn column(items: &[&Claim], of: impl Fn(&Claim) -> Uuid) -> Vec<Uuid> {
        items.iter().map(|item| of(item)).collect()
    }
    let rows = sqlx::query(statement)
        .bind(column(items, |item| item.offer.org.0))
        .bind(column(items, |item| item.offer.id.0))
        .bind(column(items, |item| item.session))
        .bind(column(items, |item| item.token))
        .bind(CONFIG_MAX_BYTES)
        .bind(items.iter().map(|item| &*item.pool).collect::<Vec<_>>())
        .fetch_all(connection)
        .await?;
    let mut sessions = HashSet::new();
    let mut answers: Vec<Option<Claimed>> = items.iter().map(|_| None).collect();
    for row in &rows {
        let place: i64 = row.try_get("place")?;
        if place == 0 {
            sessions.insert(row.try_get::<Uuid, _>("id")?);
            continue;
        }
        let answer = usize::try_from(place - 1)
            .ok()
            .and_then(|place| answers.get_mut(place))
            .ok_or_else(|| sqlx::Error::Decode(format!("a place {place}").into()))?;
        *answer = Some(claimed(row)?);
    }
    Ok(Judged { sessions, answers })
}

#[derive(FromRow)]
struct Granted {
    org_id: Uuid,
    id: Uuid,
    job_id: Uuid,
    key: String,
    attempt: i32,
    concluded: i32,
    granted: Uuid,
    handler: String,
    effective: Value,
    timeout_ms: i64,
    principal_kind: String,
    principal_id: Uuid,
    scheduled_for: DateTime<Utc>,
    traceparent: Option<String>,
    fresh: bool,
}

fn claimed(row: &PgRow) -> Result<Claimed, sqlx::Error> {
    let found = Granted::from_row(row)?;
    let (org, job) = (found.org_id.into(), found.job_id.into());
    let config = match found.effective {
        Value::Object(config) => config,
        _ => Map::new(),
    };
    let assignment = Assignment {
        place: Place {
            org,
            id: ExecutionId(found.id),
            attempt: found.attempt,
            token: found.granted,
        },
        job_id: job,
        handler: found.handler,
        config,
        timeout_ms: found.timeout_ms,
        run_as: RunAs {
            kind: row::principal_kind(&found.principal_kind)?,
            id: found.principal_id,
        },
        concluded: found.concluded,
        scheduled_for: found.scheduled_for.into(),
        traceparent: found.traceparent,
    };
    Ok(Claimed::Granted {
        assignment: Box::new(assignment),
        lane: Lane {
            org,
            job,
            key: found.key,
        },
        fresh: found.fresh,
    })
}
