//! The thread that samples: it alone looks at the machine and touches the buffer's files, so that neither a hanging
//! look nor a slow disk holds up an action.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use contract::agent::Sample;
use domain::Timestamp;
use tokio::sync::{Notify, oneshot};

use crate::backoff;
use crate::buffer::segment::Taken;
use crate::buffer::{Bounds, Buffer};
use crate::clock::{AHEAD_MAX, Clock, Increasing};
use crate::collect::{Collector, Optional};
use crate::error::AgentError;
use crate::platform::is_same_boot;

/// The first sample comes so soon: a share of processor time needs a while to be measured.
const FIRST: Duration = Duration::from_millis(300);
/// How many commands may wait: one user asks one thing at a time. A thread that hangs is not waited for.
const QUEUE: usize = 8;
/// The thread's stack.
const STACK_BYTES: usize = 512 * 1024;

enum Command {
    Batch(oneshot::Sender<Vec<Sample>>),
    Acknowledge(Timestamp),
}

/// How the buffer stands, for the metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BufferState {
    /// Bytes on the disk.
    pub bytes: u64,
    /// Samples that were dropped.
    pub dropped: u64,
    /// Samples that the server refused for good.
    pub refused: u64,
}

/// The sampling thread, as its users hold it.
#[derive(Clone, Debug)]
pub struct Sampler {
    commands: SyncSender<Command>,
    news: Arc<Notify>,
    state: Arc<std::sync::Mutex<BufferState>>,
    refused: Arc<AtomicU64>,
}

impl Sampler {
    /// Begins to sample about every `period` into the buffer in `folder`; `boot` is the id of the machine's boot.
    ///
    /// # Errors
    /// [`AgentError`] when the buffer cannot be opened or the machine cannot be looked at.
    pub fn begin(
        folder: PathBuf,
        period: Duration,
        optional: Optional,
        clock: Arc<Clock>,
        boot: String,
    ) -> Result<Self, AgentError> {
        let buffer = Buffer::open(&folder, Bounds::default())
            .map_err(|error| AgentError::state(&folder, error))?;
        let (commands, receiver) = sync_channel(QUEUE);
        let this = Self {
            commands,
            news: Arc::new(Notify::new()),
            state: Arc::default(),
            refused: Arc::default(),
        };
        let (news, state) = (Arc::clone(&this.news), Arc::clone(&this.state));
        std::thread::Builder::new()
            .name("sampler".into())
            .stack_size(STACK_BYTES)
            .spawn(move || {
                let collector = match Collector::new(optional) {
                    Ok(collector) => collector,
                    Err(error) => {
                        tracing::error!(
                            error,
                            "the machine cannot be looked at: no samples are taken"
                        );
                        return;
                    }
                };
                let times = Increasing::after(buffer.last());
                Thread {
                    buffer,
                    collector,
                    times,
                    period,
                    clock,
                    boot,
                    is_right: false,
                    news,
                    state,
                }
                .run(&receiver);
            })
            .map_err(|error| AgentError::Internal(format!("the sampling thread: {error}")))?;
        Ok(this)
    }

    /// The oldest samples that the server does not have. They keep the times with which they are given out.
    pub async fn batch(&self) -> Vec<Sample> {
        let (answer, batch) = oneshot::channel();
        if self.commands.try_send(Command::Batch(answer)).is_err() {
            return Vec::new();
        }
        batch.await.unwrap_or_default()
    }

    /// The server has everything up to this time.
    pub fn acknowledge(&self, through: Timestamp) {
        if self
            .commands
            .try_send(Command::Acknowledge(through))
            .is_err()
        {
            tracing::debug!("the sampling thread does not listen; the server says it again");
        }
    }

    /// The server refused so many for good: they are lost, and counted.
    pub fn refused(&self, samples: u64) {
        self.refused.fetch_add(samples, Ordering::Relaxed);
    }

    /// Waits for a sample that has not been waited for.
    pub async fn news(&self) {
        self.news.notified().await;
    }

    /// How the buffer stands.
    #[must_use]
    pub fn state(&self) -> BufferState {
        let state = *self
            .state
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        BufferState {
            refused: self.refused.load(Ordering::Relaxed),
            ..state
        }
    }
}

struct Thread {
    buffer: Buffer,
    collector: Collector,
    times: Increasing,
    period: Duration,
    clock: Arc<Clock>,
    boot: String,
    /// What was taken before the server's first word in this life has been put right.
    is_right: bool,
    news: Arc<Notify>,
    state: Arc<std::sync::Mutex<BufferState>>,
}

impl Thread {
    fn run(mut self, commands: &Receiver<Command>) {
        let mut due = Instant::now() + FIRST.min(self.period);
        loop {
            match commands.recv_timeout(due.saturating_duration_since(Instant::now())) {
                Ok(Command::Batch(answer)) => {
                    // Now no answer is waited for that would speak of times of before.
                    self.put_right();
                    let batch = self.buffer.batch().unwrap_or_else(|error| {
                        tracing::warn!(%error, "the buffer of samples cannot be read");
                        Vec::new()
                    });
                    // What leaves this thread may be sent, and what was sent keeps its time.
                    if let Some(last) = batch.last()
                        && let Err(error) = self.buffer.sending(last.at)
                    {
                        tracing::debug!(%error, "that samples are sent cannot be noted on the disk");
                    }
                    if answer.send(batch).is_err() {
                        tracing::trace!("nobody waits for the batch any more");
                    }
                }
                Ok(Command::Acknowledge(through)) => {
                    if let Err(error) = self.buffer.acknowledge(through) {
                        tracing::warn!(%error, "the buffer of samples cannot be trimmed");
                    }
                    self.note();
                }
                Err(RecvTimeoutError::Timeout) => {
                    let moment = self.clock.moment();
                    let taken = Taken {
                        boot: self.boot.clone(),
                        uptime_ms: u64::try_from(moment.boot.as_millis()).unwrap_or(u64::MAX),
                    };
                    let sample = self.collector.sample(self.times.next(moment.now));
                    self.buffer.push_taken(sample, Some(taken));
                    self.note();
                    self.news.notify_one();
                    // A fleet that started together does not report together.
                    due = Instant::now() + backoff::jittered(self.period);
                }
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Dates anew what waits, once the server has said what time it is: from then on the agent's clock is as right as the
    /// server's, and what was taken since the boot lies as long ago as the boot-time clock says. Only the server's word
    /// decides that: a machine's clock that was turned back dates nothing anew.
    fn put_right(&mut self) {
        if self.is_right || !self.clock.is_told() {
            return;
        }
        self.is_right = true;
        let moment = self.clock.moment();
        let right = |taken: &Taken| {
            if !is_same_boot(&taken.boot, &self.boot) {
                return None;
            }
            let ago = moment
                .boot
                .checked_sub(Duration::from_millis(taken.uptime_ms))?;
            Some(moment.now.plus(-chrono::Duration::from_std(ago).ok()?))
        };
        match self.buffer.redate(right, moment.now.plus(AHEAD_MAX)) {
            Ok(0) => {}
            Ok(samples) => tracing::info!(
                samples,
                "this machine's clock was wrong; samples that wait have the times now at which they were taken"
            ),
            Err(error) => {
                tracing::warn!(%error, "samples with times of a wrong clock are dropped");
            }
        }
        self.times = Increasing::after(self.buffer.last());
    }

    fn note(&self) {
        let state = BufferState {
            bytes: self.buffer.bytes(),
            dropped: self.buffer.dropped(),
            refused: 0,
        };
        *self
            .state
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner) = state;
    }
}
