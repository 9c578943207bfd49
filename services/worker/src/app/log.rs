//! What handlers log: gathered for 200 ms or until there are 16 KiB, said until it is answered, and bounded on the way. A
//! handler that logs without end loses lines, not its worker's memory.
//!
//! Rooms: `attempt` what one attempt says, `lines` its lines that wait. This file says them to the scheduler.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bus::Bus;
use contract::run::{FinishVerdict, LogChunk, Place, RunLog};
use tokio::sync::Notify;

use crate::app::lease::Session;
use crate::metrics::Metrics;

mod attempt;
mod lines;

pub(crate) use attempt::AttemptLog;

/// How long lines gather.
const GATHER: Duration = Duration::from_millis(200);
/// The most attempts in one message.
const CHUNKS_MAX: usize = 128;
/// A message has no more than this and one chunk, in bytes.
const MESSAGE_BYTES: usize = 900 * 1024;
/// How long the scheduler may take to answer.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The first pause before a message is said again; each later one is twice as long, up to the last.
const PAUSE: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(1)];

/// How serious a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// For whoever looks for a fault.
    Debug,
    /// What happened.
    Info,
    /// What should not be.
    Warn,
    /// What went wrong.
    Error,
}

impl Level {
    fn as_str(self) -> &'static str {
        match self {
            Self::Debug => "DEBUG",
            Self::Info => "INFO",
            Self::Warn => "WARN",
            Self::Error => "ERROR",
        }
    }
}

/// The logs of all attempts of this worker.
pub(crate) struct Logs {
    /// Those that have something to say, each once.
    waiting: Mutex<VecDeque<Arc<AttemptLog>>>,
    some: Notify,
    urgent: Notify,
    metrics: Metrics,
}

impl Logs {
    pub(crate) fn new(metrics: &Metrics) -> Arc<Self> {
        Arc::new(Self {
            waiting: Mutex::default(),
            some: Notify::new(),
            urgent: Notify::new(),
            metrics: metrics.clone(),
        })
    }

    /// The log of an attempt that begins.
    pub(crate) fn attempt(
        self: &Arc<Self>,
        place: Place,
        source: &str,
        session: &Arc<Session>,
    ) -> Arc<AttemptLog> {
        AttemptLog::new(self, place, source, session)
    }

    fn waiting(&self) -> MutexGuard<'_, VecDeque<Arc<AttemptLog>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enqueue(&self, log: Arc<AttemptLog>) {
        self.waiting().push_back(log);
        self.some.notify_one();
    }

    /// As much as goes into one message, of the first `most` that wait; and how many of them that were.
    fn gather(&self, most: usize) -> (Vec<(Arc<AttemptLog>, LogChunk)>, usize) {
        let (mut message, mut bytes, mut taken) = (Vec::new(), 0, 0);
        while taken < most && message.len() < CHUNKS_MAX && bytes < MESSAGE_BYTES {
            let Some(log) = self.waiting().pop_front() else {
                break;
            };
            taken += 1;
            if let Some(chunk) = log.chunk() {
                bytes += chunk.lines.iter().map(String::len).sum::<usize>();
                message.push((log, chunk));
            }
        }
        (message, taken)
    }

    /// Says what attempts log, for ever.
    pub(crate) async fn send(self: Arc<Self>, bus: Bus) {
        loop {
            self.some.notified().await;
            tokio::select! {
                () = tokio::time::sleep(GATHER) => {}
                () = self.urgent.notified() => {}
            }
            let mut left = self.waiting().len();
            while left > 0 {
                let (message, taken) = self.gather(left);
                left = if taken == 0 { 0 } else { left - taken };
                deliver(&bus, message).await;
            }
        }
    }
}

/// Says a message until each chunk is answered, or its session is over.
async fn deliver(bus: &Bus, mut message: Vec<(Arc<AttemptLog>, LogChunk)>) {
    let [mut pause, longest] = PAUSE;
    loop {
        message.retain(|(log, _)| {
            let over = log.session.is_over();
            if over {
                log.answered(false);
            }
            !over
        });
        if message.is_empty() {
            return;
        }
        let request = RunLog {
            items: message.iter().map(|(_, chunk)| chunk.clone()).collect(),
        };
        match bus.service_call(&request, None, TIMEOUT).await {
            Ok(answer) => {
                let mut verdicts = answer.verdicts.into_iter();
                message.retain(|(log, _)| match verdicts.next() {
                    Some(FinishVerdict::Applied | FinishVerdict::Duplicate) => {
                        log.answered(true);
                        false
                    }
                    Some(FinishVerdict::Fenced) => {
                        log.answered(false);
                        false
                    }
                    Some(FinishVerdict::Retry) | None => true,
                });
            }
            Err(problem) if problem.is_lasting() => {
                tracing::error!(%problem, "the scheduler does not take what handlers log");
                for (log, _) in &message {
                    log.answered(false);
                }
                return;
            }
            Err(problem) => tracing::debug!(%problem, "what handlers log waits"),
        }
        if message.is_empty() {
            return;
        }
        tokio::time::sleep(pause).await;
        pause = longest.min(pause * 2);
    }
}
