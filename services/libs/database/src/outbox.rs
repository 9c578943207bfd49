//! Events that leave with a commit: written into the owner's `outbox` table in its transaction, published by one
//! relay per service, then deleted. At least once; consumers drop what they saw.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use domain::{OrgId, Timestamp};
use futures::stream::{FuturesUnordered, StreamExt};
use serde_json::Value;
use sqlx::{AssertSqlSafe, PgConnection, PgPool};
use tokio::sync::Notify;
use uuid::Uuid;

use crate::error::DatabaseError;
use crate::leadership::lead;
use crate::pools::answered;

/// How often the relay looks when nobody wakes it.
const POLL: Duration = Duration::from_millis(500);
/// How many rows it takes at once.
const BATCH: i64 = 256;
/// How long it waits after a failure; also how soon another replica takes over.
const PAUSE: Duration = Duration::from_millis(500);

/// What the leading replica does.
const RELAY: &str = "dashfleet.outbox";

/// A row of an outbox.
#[derive(Clone, Debug, PartialEq)]
pub struct OutboxRow {
    /// Id of the event.
    pub id: Uuid,
    /// The organisation.
    pub org: OrgId,
    /// What kind of thing.
    pub noun: String,
    /// What happened to it.
    pub verb: String,
    /// The thing.
    pub subject_id: Uuid,
    /// Grows with each event of the thing.
    pub version: i64,
    /// When it was committed.
    pub at: Timestamp,
    /// What else there is to know.
    pub data: Value,
}

impl OutboxRow {
    /// An event that happens now.
    #[must_use]
    pub fn new(
        org: OrgId,
        noun: &str,
        verb: &str,
        subject_id: Uuid,
        version: i64,
        data: Value,
    ) -> Self {
        Self {
            id: Uuid::now_v7(),
            org,
            noun: noun.into(),
            verb: verb.into(),
            subject_id,
            version,
            at: Timestamp::now(),
            data,
        }
    }

    /// Writes it into `<schema>.outbox` within the caller's transaction.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn insert_in_tx(
        &self,
        schema: &'static str,
        connection: &mut PgConnection,
    ) -> Result<(), DatabaseError> {
        let sql = format!(
            "INSERT INTO {schema}.outbox (id, org_id, noun, verb, subject_id, version, at, data) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)"
        );
        sqlx::query(AssertSqlSafe(sql))
            .bind(self.id)
            .bind(self.org.0)
            .bind(&self.noun)
            .bind(&self.verb)
            .bind(self.subject_id)
            .bind(self.version)
            .bind(self.at.utc())
            .bind(&self.data)
            .execute(connection)
            .await?;
        Ok(())
    }

    /// Writes many into `<schema>.outbox` within the caller's transaction, in their order, by one statement.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn insert_all_in_tx(
        rows: &[Self],
        schema: &'static str,
        connection: &mut PgConnection,
    ) -> Result<(), DatabaseError> {
        let sql = format!(
            "INSERT INTO {schema}.outbox (id, org_id, noun, verb, subject_id, version, at, data)
            SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::uuid[], $6::bigint[], $7::timestamptz[], $8::jsonb[])"
        );
        sqlx::query(AssertSqlSafe(sql))
            .bind(rows.iter().map(|row| row.id).collect::<Vec<_>>())
            .bind(rows.iter().map(|row| row.org.0).collect::<Vec<_>>())
            .bind(rows.iter().map(|row| &*row.noun).collect::<Vec<_>>())
            .bind(rows.iter().map(|row| &*row.verb).collect::<Vec<_>>())
            .bind(rows.iter().map(|row| row.subject_id).collect::<Vec<_>>())
            .bind(rows.iter().map(|row| row.version).collect::<Vec<_>>())
            .bind(rows.iter().map(|row| row.at.utc()).collect::<Vec<_>>())
            .bind(rows.iter().map(|row| &row.data).collect::<Vec<_>>())
            .execute(connection)
            .await?;
        Ok(())
    }
}

/// Wakes the relay of this process after a commit. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Relay(Arc<Notify>);

impl Relay {
    /// A relay that is not running yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// There is something in the outbox. (If this replica is not the one that relays, the other looks soon.)
    pub fn wake(&self) {
        self.0.notify_one();
    }

    /// Relays `<schema>.outbox` for ever: one replica at a time (a session's advisory lock), each thing's rows in their
    /// order, each deleted after `publish` said that the stream has it. Dropping the future ends it at any point:
    /// what was published and not deleted is published again.
    pub async fn run<P, F>(self, pool: PgPool, schema: &'static str, publish: P)
    where
        P: Fn(OutboxRow) -> F,
        F: Future<Output = Result<(), String>>,
    {
        loop {
            match self.relay_while_leading(&pool, schema, &publish).await {
                Ok(()) => {}
                Err(error) => tracing::debug!(%error, schema, "the relay pauses"),
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn relay_while_leading<P, F>(
        &self,
        pool: &PgPool,
        schema: &'static str,
        publish: &P,
    ) -> Result<(), DatabaseError>
    where
        P: Fn(OutboxRow) -> F,
        F: Future<Output = Result<(), String>>,
    {
        let Some(mut connection) = lead(pool, RELAY, schema).await? else {
            tokio::time::sleep(PAUSE * 2).await;
            return Ok(());
        };
        let select = format!(
            "SELECT seq, id, org_id, noun, verb, subject_id, version, at, data FROM {schema}.outbox ORDER BY seq LIMIT {BATCH}"
        );
        let delete = format!("DELETE FROM {schema}.outbox WHERE seq = ANY($1)");
        loop {
            let select = sqlx::query_as(AssertSqlSafe(select.clone()));
            let rows: Vec<Row> = answered(select.fetch_all(&mut connection)).await?;
            let full = rows.len() as i64 == BATCH;
            let (done, failure) = publish_all(rows, publish).await;
            if !done.is_empty() {
                let delete = sqlx::query(AssertSqlSafe(delete.clone())).bind(&done);
                answered(delete.execute(&mut connection)).await?;
            }
            if let Some(error) = failure {
                return Err(DatabaseError::Unavailable(error));
            }
            if !full {
                // A wake that came during the work above is kept by the notifier.
                let _woken = tokio::time::timeout(POLL, self.0.notified()).await;
            }
        }
    }
}

/// Publishes rows, those of one thing one after another: what the stream refuses holds back the later versions, which
/// consumers would otherwise see first, and then drop the earlier one. Says which rows the stream has, and why not all.
async fn publish_all<P, F>(rows: Vec<Row>, publish: &P) -> (Vec<i64>, Option<String>)
where
    P: Fn(OutboxRow) -> F,
    F: Future<Output = Result<(), String>>,
{
    let mut things: BTreeMap<Uuid, Vec<Row>> = BTreeMap::new();
    for row in rows {
        things.entry(row.5).or_default().push(row);
    }
    let mut under_way: FuturesUnordered<_> = things
        .into_values()
        .map(|rows| async move {
            let mut done = Vec::with_capacity(rows.len());
            for row in rows {
                let seq = row.0;
                if let Err(error) = publish(row.into()).await {
                    return (done, Some(error));
                }
                done.push(seq);
            }
            (done, None)
        })
        .collect();
    let (mut done, mut failure) = (Vec::new(), None);
    while let Some((published, refused)) = under_way.next().await {
        done.extend(published);
        failure = refused.or(failure);
    }
    (done, failure)
}

type Row = (
    i64,
    Uuid,
    Uuid,
    String,
    String,
    Uuid,
    i64,
    chrono::DateTime<chrono::Utc>,
    Value,
);

impl From<Row> for OutboxRow {
    fn from((_, id, org, noun, verb, subject_id, version, at, data): Row) -> Self {
        Self {
            id,
            org: org.into(),
            noun,
            verb,
            subject_id,
            version,
            at: at.into(),
            data,
        }
    }
}
