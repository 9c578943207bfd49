//! Group commit by waiting for nobody (law L3): a hot write path commits at once when idle and, while a commit
//! runs, gathers what arrives for the next one.
//!
//! Within a batch, items of one key keep their order of arrival: they are written in waves, of which each holds
//! a key at most once (a repeated key in one `UPDATE … FROM unnest` silently applies one of them), sorted by key
//! (so that batches of several replicas lock in one order). A data error is bisected down to the item that
//! caused it; collisions are run again; after a commit whose outcome is unknown the same items are run again, so
//! a batch must recognise what it wrote before.

use std::collections::HashMap;
use std::future::Future;
use std::hash::Hash;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use sqlx::{Connection, PgConnection};
use tokio::sync::{mpsc, oneshot};

use crate::error::DatabaseError;
use crate::pools::{Pools, answered};

/// The most items of one commit.
const BATCH_MAX: usize = 1_000;
/// How many items may wait; more are refused at once, and their senders keep them (law L2).
const QUEUE_MAX: usize = 20_000;
/// How often a batch is run again after a collision or a lost connection, before its senders are told.
const TRIES: u32 = 6;
/// The pause after the first lost connection; it doubles.
const PAUSE: Duration = Duration::from_millis(50);

/// A kind of write.
pub trait Batch: Send + Sync + 'static {
    /// What is to be written.
    type Item: Send + Sync + 'static;
    /// What became of it.
    type Answer: Send + 'static;
    /// What two items must not share in one statement: the primary key of the row that they write.
    type Key: Ord + Hash + Clone + Send;

    /// The key of an item.
    fn key(item: &Self::Item) -> Self::Key;

    /// Whether each statement of [`Batch::write`] (most have one) stands for itself and is recognised when it is run again, so that a
    /// batch of one wave needs no transaction around it.
    const ONE_STATEMENT: bool;

    /// Writes items with different keys, sorted by key, and answers each, in the same order. It recognises what
    /// an earlier run wrote.
    fn write<'a>(
        &'a self,
        connection: &'a mut PgConnection,
        items: &'a [&'a Self::Item],
    ) -> Written<'a, Self::Answer>;
}

/// The future of [`Batch::write`].
pub type Written<'a, A> = Pin<Box<dyn Future<Output = Result<Vec<A>, sqlx::Error>> + Send + 'a>>;

type Waiting<B> = (
    <B as Batch>::Item,
    oneshot::Sender<Result<<B as Batch>::Answer, DatabaseError>>,
);

/// Where items are handed in. Clones share one queue and one committer.
pub struct GroupCommit<B: Batch> {
    queue: mpsc::Sender<Waiting<B>>,
}

impl<B: Batch> Clone for GroupCommit<B> {
    fn clone(&self) -> Self {
        Self {
            queue: self.queue.clone(),
        }
    }
}

impl<B: Batch> GroupCommit<B> {
    /// Starts the committer. It ends when the last clone is dropped and everything handed in has been answered.
    pub fn start(pools: &Pools, batch: B) -> (Self, impl Future<Output = ()> + Send + use<B>) {
        let (queue, mut waiting) = mpsc::channel::<Waiting<B>>(QUEUE_MAX);
        let (pools, batch) = (pools.clone(), Arc::new(batch));
        let committer = async move {
            let mut gathered = Vec::new();
            while waiting.recv_many(&mut gathered, BATCH_MAX).await > 0 {
                let (items, senders): (Vec<_>, Vec<_>) = gathered.drain(..).unzip();
                let answers = commit(&pools, batch.as_ref(), &items).await;
                for (sender, answer) in senders.into_iter().zip(answers) {
                    // Whoever asked may have given up meanwhile; it will ask again.
                    drop(sender.send(answer));
                }
            }
        };
        (Self { queue }, committer)
    }

    /// Hands in an item and waits until it is committed or refused.
    ///
    /// # Errors
    /// [`DatabaseError::Unavailable`] when the queue is full or the database is away; the item's own error.
    pub async fn submit(&self, item: B::Item) -> Result<B::Answer, DatabaseError> {
        let (sender, answer) = oneshot::channel();
        self.queue
            .try_send((item, sender))
            .map_err(|_| DatabaseError::Unavailable("too many writes are waiting".into()))?;
        answer
            .await
            .map_err(|_| DatabaseError::Unavailable("the service is shutting down".into()))?
    }
}

/// Commits items, each answered: all at once if possible, else in halves down to the item that is at fault.
async fn commit<B: Batch>(
    pools: &Pools,
    batch: &B,
    items: &[B::Item],
) -> Vec<Result<B::Answer, DatabaseError>> {
    match commit_persistently(pools, batch, items).await {
        Ok(answers) => answers.into_iter().map(Ok).collect(),
        Err(DatabaseError::Constraint(_) | DatabaseError::Data(_)) if items.len() > 1 => {
            let (left, right) = items.split_at(items.len() / 2);
            let mut answers = Box::pin(commit(pools, batch, left)).await;
            answers.extend(Box::pin(commit(pools, batch, right)).await);
            answers
        }
        Err(error) => {
            tracing::warn!(%error, items = items.len(), "a batch was not committed");
            items.iter().map(|_| Err(error.clone())).collect()
        }
    }
}

async fn commit_persistently<B: Batch>(
    pools: &Pools,
    batch: &B,
    items: &[B::Item],
) -> Result<Vec<B::Answer>, DatabaseError> {
    let mut pause = PAUSE;
    let mut tries = 0;
    loop {
        tries += 1;
        match commit_once(pools, batch, items).await {
            Err(error) if error.is_transient() && tries < TRIES => {
                tracing::debug!(%error, tries, "running a batch again");
                if error != DatabaseError::Collision {
                    tokio::time::sleep(pause).await;
                    pause *= 2;
                }
            }
            other => return other,
        }
    }
}

async fn commit_once<B: Batch>(
    pools: &Pools,
    batch: &B,
    items: &[B::Item],
) -> Result<Vec<B::Answer>, DatabaseError> {
    let mut connection = pools.system().acquire().await?;
    let written = write_waves(batch, &mut connection, items).await;
    if let Err(DatabaseError::Unavailable(_) | DatabaseError::Ambiguous(_)) = &written {
        // Closed here and now: given back, the pool would wait for an answer of its own.
        drop(connection.detach());
    }
    written
}

async fn write_waves<B: Batch>(
    batch: &B,
    connection: &mut PgConnection,
    items: &[B::Item],
) -> Result<Vec<B::Answer>, DatabaseError> {
    let waves = waves::<B>(items);
    let mut answers: Vec<Option<B::Answer>> = items.iter().map(|_| None).collect();
    if let ([wave], true) = (waves.as_slice(), B::ONE_STATEMENT) {
        // A statement alone is a transaction: a connection lost during it may have committed.
        answered(write_wave(batch, connection, items, wave, &mut answers))
            .await
            .map_err(maybe_committed)?;
    } else {
        let mut tx = answered(connection.begin()).await?;
        for wave in &waves {
            answered(write_wave(batch, &mut tx, items, wave, &mut answers)).await?;
        }
        answered(tx.commit()).await.map_err(maybe_committed)?;
    }
    answers
        .into_iter()
        .collect::<Option<Vec<_>>>()
        .ok_or_else(|| DatabaseError::Bug("a batch answered fewer items than it got".into()))
}

fn maybe_committed(error: DatabaseError) -> DatabaseError {
    match error {
        DatabaseError::Unavailable(reason) => DatabaseError::Ambiguous(reason),
        other => other,
    }
}

async fn write_wave<B: Batch>(
    batch: &B,
    connection: &mut PgConnection,
    items: &[B::Item],
    wave: &[usize],
    answers: &mut [Option<B::Answer>],
) -> Result<(), DatabaseError> {
    let chosen: Vec<&B::Item> = wave.iter().filter_map(|index| items.get(*index)).collect();
    let written = batch.write(connection, &chosen).await?;
    if written.len() != chosen.len() {
        return Err(DatabaseError::Bug(format!(
            "a batch of {} answered {}",
            chosen.len(),
            written.len()
        )));
    }
    for (index, answer) in wave.iter().zip(written) {
        if let Some(place) = answers.get_mut(*index) {
            *place = Some(answer);
        }
    }
    Ok(())
}

/// Indices in waves: a key at most once in each, its occurrences in order of arrival, each wave sorted by key.
fn waves<B: Batch>(items: &[B::Item]) -> Vec<Vec<usize>> {
    let mut seen: HashMap<B::Key, usize> = HashMap::with_capacity(items.len());
    let mut waves: Vec<Vec<(B::Key, usize)>> = Vec::new();
    for (index, item) in items.iter().enumerate() {
        let key = B::key(item);
        let occurrence = seen.entry(key.clone()).or_default();
        if let Some(wave) = waves.get_mut(*occurrence) {
            wave.push((key, index));
        } else {
            waves.push(vec![(key, index)]);
        }
        *occurrence += 1;
    }
    waves
        .into_iter()
        .map(|mut wave| {
            wave.sort_by(|(left, _), (right, _)| left.cmp(right));
            wave.into_iter().map(|(_, index)| index).collect()
        })
        .collect()
}
