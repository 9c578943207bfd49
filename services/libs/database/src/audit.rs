//! Audit entries that leave with a commit: written into the owner's `audit_outbox` in the transaction of what they tell
//! of, handed to identity by one relay per service, and deleted when identity has answered after its commit. Whatever dies
//! in between, an entry is handed over again; identity knows it by its id.
//!
//! Identity may be away for hours: rows wait. One that identity refuses does not hold back the others: it is put aside,
//! with the reason beside it, and tried again later.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use domain::OrgId;
use sqlx::{AssertSqlSafe, PgConnection, PgPool};
use tokio::sync::Notify;
use uuid::Uuid;

use crate::error::DatabaseError;
use crate::leadership::lead;
use crate::pools::{Pools, answered};

/// How often the relay looks when nobody wakes it.
const POLL: Duration = Duration::from_millis(500);
/// How many rows it takes at once.
const BATCH: i64 = 256;
/// How many bytes of entries it hands over at once; a single larger one goes alone.
const BATCH_BYTES: usize = 1024 * 1024;
/// How long it waits after a failure, the first time; it doubles up to the second. Also how soon another takes over.
const PAUSE: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(8);
/// How long a row that was refused is put aside.
const ASIDE: &str = "10 minutes";
/// The longest reason that is kept beside it, in characters.
const REASON_MAX_CHARS: usize = 500;
/// What the leading replica does.
const RELAY: &str = "dashfleet.audit";

/// A row of an audit outbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditRow {
    /// Id of the entry, the same in every repetition.
    pub id: Uuid,
    /// The organisation.
    pub org: OrgId,
    /// The entry, as JSON.
    pub entry: String,
}

/// What the audit's owner answered to each row after its commit: nothing when it has it, or why it does not take it.
pub type Handed = Vec<Option<String>>;

/// Why rows were not handed over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotHanded {
    /// Whether the owner refuses them as a whole: at least one is not what it takes. Else it is away, or it is not known
    /// what came of them, and they are handed over again as they are.
    pub refused: bool,
    /// In words.
    pub reason: String,
}

impl From<(bool, String)> for NotHanded {
    fn from((refused, reason): (bool, String)) -> Self {
        Self { refused, reason }
    }
}

impl From<(Uuid, OrgId, String)> for AuditRow {
    fn from((id, org, entry): (Uuid, OrgId, String)) -> Self {
        Self { id, org, entry }
    }
}

impl AuditRow {
    /// Writes rows in a transaction of their own: what they tell of changed nothing.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn write_all(
        rows: &[Self],
        schema: &'static str,
        pools: &Pools,
    ) -> Result<(), DatabaseError> {
        let mut tx = pools.system_tx().await?;
        Self::insert_all_in_tx(rows, schema, &mut tx).await?;
        tx.commit().await
    }

    /// Writes it into `<schema>.audit_outbox` within the caller's transaction.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn insert_in_tx(
        &self,
        schema: &'static str,
        connection: &mut PgConnection,
    ) -> Result<(), DatabaseError> {
        Self::insert_all_in_tx(std::slice::from_ref(self), schema, connection).await
    }

    /// Writes many into `<schema>.audit_outbox` within the caller's transaction, in their order, by one statement.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn insert_all_in_tx(
        rows: &[Self],
        schema: &'static str,
        connection: &mut PgConnection,
    ) -> Result<(), DatabaseError> {
        let sql = format!(
            "INSERT INTO {schema}.audit_outbox (id, org_id, entry) SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::text[])"
        );
        sqlx::query(AssertSqlSafe(sql))
            .bind(rows.iter().map(|row| row.id).collect::<Vec<_>>())
            .bind(rows.iter().map(|row| row.org.0).collect::<Vec<_>>())
            .bind(rows.iter().map(|row| &*row.entry).collect::<Vec<_>>())
            .execute(connection)
            .await?;
        Ok(())
    }
}

/// Wakes the relay of this process after a commit. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct AuditRelay(Arc<Notify>);

/// A row with its place in the outbox.
type Placed = (i64, AuditRow);

impl AuditRelay {
    /// A relay that is not running yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// There is something in the outbox. (If this replica is not the one that relays, the other looks soon.)
    pub fn wake(&self) {
        self.0.notify_one();
    }

    /// Relays `<schema>.audit_outbox` for ever, one replica at a time, the oldest rows first: `hand` gives rows to the
    /// audit's owner and says what it answered to each after its commit. Dropping the future ends it at any point: what
    /// was handed over and not deleted is handed over again.
    pub async fn run<H, F>(self, pool: PgPool, schema: &'static str, hand: H)
    where
        H: Fn(Vec<AuditRow>) -> F,
        F: Future<Output = Result<Handed, NotHanded>>,
    {
        let mut pause = PAUSE;
        loop {
            let before = tokio::time::Instant::now();
            match self.relay_while_leading(&pool, schema, &hand).await {
                Ok(()) => pause = PAUSE * 2,
                Err(error) => {
                    // Whoever led for a while starts with a short pause again.
                    if before.elapsed() > PAUSE_MAX {
                        pause = PAUSE;
                    }
                    tracing::debug!(%error, schema, "the audit's relay pauses");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(PAUSE_MAX);
                    continue;
                }
            }
            tokio::time::sleep(pause).await;
        }
    }

    async fn relay_while_leading<H, F>(
        &self,
        pool: &PgPool,
        schema: &'static str,
        hand: &H,
    ) -> Result<(), DatabaseError>
    where
        H: Fn(Vec<AuditRow>) -> F,
        F: Future<Output = Result<Handed, NotHanded>>,
    {
        let Some(mut connection) = lead(pool, RELAY, schema).await? else {
            return Ok(());
        };
        let select = format!(
            "SELECT seq, id, org_id, entry FROM {schema}.audit_outbox
            WHERE not_before IS NULL OR not_before <= now() ORDER BY seq LIMIT {BATCH}"
        );
        loop {
            let select = sqlx::query_as(AssertSqlSafe(select.clone()));
            let rows: Vec<(i64, Uuid, Uuid, String)> =
                answered(select.fetch_all(&mut connection)).await?;
            let full = rows.len() as i64 == BATCH;
            let rows = rows.into_iter().map(|(seq, id, org, entry)| {
                let org = org.into();
                (seq, AuditRow { id, org, entry })
            });
            for batch in batches(rows) {
                settle(&mut connection, schema, hand, batch).await?;
            }
            if !full {
                // A wake that came during the work above is kept by the notifier.
                let _woken = tokio::time::timeout(POLL, self.0.notified()).await;
            }
        }
    }
}

/// Rows in portions of so many bytes.
fn batches(rows: impl Iterator<Item = Placed>) -> Vec<Vec<Placed>> {
    let mut batches: Vec<Vec<Placed>> = Vec::new();
    let mut bytes = BATCH_BYTES;
    for row in rows {
        bytes += row.1.entry.len();
        match batches.last_mut() {
            Some(batch) if bytes <= BATCH_BYTES => batch.push(row),
            _ => {
                bytes = row.1.entry.len();
                batches.push(vec![row]);
            }
        }
    }
    batches
}

/// Hands rows over and settles each; in halves, down to the one that is at fault, when they are refused as a whole.
async fn settle<H, F>(
    connection: &mut PgConnection,
    schema: &'static str,
    hand: &H,
    rows: Vec<Placed>,
) -> Result<(), DatabaseError>
where
    H: Fn(Vec<AuditRow>) -> F,
    F: Future<Output = Result<Handed, NotHanded>>,
{
    let mut waiting = vec![rows];
    while let Some(mut rows) = waiting.pop() {
        let handed = match hand(rows.iter().map(|(_, row)| row.clone()).collect()).await {
            Ok(handed) if handed.len() == rows.len() => handed,
            Ok(handed) => {
                let error = format!("{} answers to {} entries", handed.len(), rows.len());
                return Err(DatabaseError::Unavailable(error));
            }
            Err(error) if !error.refused => return Err(DatabaseError::Unavailable(error.reason)),
            Err(_) if rows.len() > 1 => {
                let later = rows.split_off(rows.len() / 2);
                waiting.extend([later, rows]);
                continue;
            }
            Err(error) => vec![Some(error.reason)],
        };
        let mut taken = Vec::with_capacity(rows.len());
        for ((seq, row), handed) in rows.iter().zip(handed) {
            match handed {
                None => taken.push(*seq),
                Some(reason) => {
                    tracing::error!(schema, entry = %row.id, org = %row.org, reason, "an audit entry is not taken; it stays in the outbox");
                    put_aside(connection, schema, *seq, &reason).await?;
                }
            }
        }
        if !taken.is_empty() {
            let delete = format!("DELETE FROM {schema}.audit_outbox WHERE seq = ANY($1)");
            let delete = sqlx::query(AssertSqlSafe(delete)).bind(&taken);
            answered(delete.execute(&mut *connection)).await?;
        }
    }
    Ok(())
}

async fn put_aside(
    connection: &mut PgConnection,
    schema: &'static str,
    seq: i64,
    reason: &str,
) -> Result<(), DatabaseError> {
    let reason: String = reason
        .chars()
        .filter(|c| !c.is_control())
        .take(REASON_MAX_CHARS)
        .collect();
    let aside = format!(
        "UPDATE {schema}.audit_outbox SET not_before = now() + interval '{ASIDE}', failure = $2 WHERE seq = $1"
    );
    let aside = sqlx::query(AssertSqlSafe(aside)).bind(seq).bind(reason);
    answered(aside.execute(connection)).await?;
    Ok(())
}
