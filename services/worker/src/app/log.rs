//! What handlers log: gathered for 200 ms or until there are 16 KiB, said until it is answered, and bounded on the way. A
//! handler that logs without end loses lines, not its worker's memory.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bus::Bus;
use contract::run::{FinishVerdict, LogChunk, Place, RunLog};
use domain::Timestamp;
use domain::execution::{LOG_LINE_MAX_BYTES, LOG_MAX_BYTES};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::app::lease::Session;
use crate::metrics::Metrics;

/// How long lines gather.
const GATHER: Duration = Duration::from_millis(200);
/// So many bytes of one attempt are said at once.
const URGENT_BYTES: usize = 16 * 1024;
/// The most that waits of one attempt, in bytes: one message's chunk, with room for the line that says what was dropped.
const KEPT_MAX_BYTES: usize = LOG_MAX_BYTES - 512;
/// The most that one attempt logs in a second, in bytes.
const SECOND_MAX_BYTES: usize = 1024 * 1024;
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

/// The log of one attempt.
pub(crate) struct AttemptLog {
    place: Place,
    /// What lines say they come from.
    source: String,
    session: Arc<Session>,
    logs: Arc<Logs>,
    lines: Mutex<Lines>,
    settled: Notify,
}

#[derive(Default)]
struct Lines {
    /// The number of the next line that is said.
    next: i64,
    kept: Vec<String>,
    bytes: usize,
    /// Lines, and their bytes, that are dropped since the last chunk.
    dropped: (u64, u64),
    /// When the current second began, and how many bytes were taken in it.
    second: Option<Instant>,
    second_bytes: usize,
    /// Among those that wait, or in a message.
    under_way: bool,
    /// The attempt is not ours any more: nothing more is said.
    closed: bool,
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
        Arc::new(AttemptLog {
            place,
            source: source.to_owned(),
            session: session.clone(),
            logs: self.clone(),
            lines: Mutex::default(),
            settled: Notify::new(),
        })
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

impl AttemptLog {
    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a message: each of its lines by itself.
    pub(crate) fn say(self: &Arc<Self>, level: Level, message: &str) {
        let head = format!(
            "[{}] {} [{}] ",
            level.as_str(),
            Timestamp::now(),
            self.source
        );
        for line in message.lines() {
            let mut whole = head.clone();
            whole.extend(line.chars().filter(|c| !c.is_control() || *c == '\t'));
            cut(&mut whole);
            self.push(whole);
        }
    }

    fn push(self: &Arc<Self>, line: String) {
        let now = Instant::now();
        let (begins, urgent) = {
            let mut lines = self.lines();
            if lines.closed {
                return;
            }
            lines.keep(line, now, &self.logs.metrics);
            let begins = !lines.under_way;
            lines.under_way = true;
            (begins, lines.bytes >= URGENT_BYTES)
        };
        if begins {
            self.logs.enqueue(self.clone());
        }
        if urgent {
            self.logs.urgent.notify_one();
        }
    }

    /// What is there to be said; it is under way until it is answered.
    fn chunk(&self) -> Option<LogChunk> {
        let mut lines = self.lines();
        let mut kept = std::mem::take(&mut lines.kept);
        lines.bytes = 0;
        let (dropped, bytes) = std::mem::take(&mut lines.dropped);
        if dropped > 0 {
            kept.push(format!(
                "[WARN] {} [{}] {dropped} lines ({bytes} bytes) are left out here: an execution logs at most 1 MiB a second",
                Timestamp::now(),
                self.source
            ));
        }
        if kept.is_empty() || lines.closed {
            lines.under_way = false;
            drop(lines);
            self.settled.notify_waiters();
            return None;
        }
        let first = lines.next;
        lines.next += i64::try_from(kept.len()).unwrap_or(i64::MAX);
        Some(LogChunk {
            place: self.place,
            first,
            lines: kept,
        })
    }

    /// The chunk is committed; or, when it is not wanted, nothing more is said.
    fn answered(self: &Arc<Self>, wanted: bool) {
        let again = {
            let mut lines = self.lines();
            if !wanted {
                lines.closed = true;
                lines.kept = Vec::new();
                lines.bytes = 0;
                lines.dropped = (0, 0);
            }
            lines.under_way = !lines.kept.is_empty() || lines.dropped.0 > 0;
            lines.under_way
        };
        if again {
            self.logs.enqueue(self.clone());
        }
        self.settled.notify_waiters();
    }

    /// Whether everything that was logged is committed.
    pub(crate) fn is_settled(&self) -> bool {
        !self.lines().under_way
    }

    /// Says at once what is there, and waits until it is committed: after the finish nobody would take it.
    pub(crate) async fn settle(&self, limit: Duration) {
        let settled = async {
            loop {
                let changed = self.settled.notified();
                if self.is_settled() {
                    return;
                }
                self.logs.urgent.notify_one();
                changed.await;
            }
        };
        if tokio::time::timeout(limit, settled).await.is_err() {
            tracing::debug!(execution = %self.place.id, "the last lines are not committed in time");
        }
    }
}

impl Lines {
    fn keep(&mut self, line: String, now: Instant, metrics: &Metrics) {
        let passed = self
            .second
            .is_none_or(|began| now.duration_since(began) >= Duration::from_secs(1));
        if passed {
            self.second = Some(now);
            self.second_bytes = 0;
        }
        // Once something is dropped, all is until the line that says so: what is kept stays in its order.
        let fits = self.dropped.0 == 0
            && self.second_bytes + line.len() <= SECOND_MAX_BYTES
            && self.bytes + line.len() <= KEPT_MAX_BYTES;
        if fits {
            self.second_bytes += line.len();
            self.bytes += line.len();
            self.kept.push(line);
            metrics.log_lines.with_label_values(&["kept"]).inc();
        } else {
            self.dropped.0 += 1;
            self.dropped.1 += line.len() as u64;
            metrics.log_dropped().inc();
        }
    }
}

/// Cuts a line that is too long.
fn cut(line: &mut String) {
    const MARK: &str = "…";
    if line.len() > LOG_LINE_MAX_BYTES {
        let mut end = LOG_LINE_MAX_BYTES - MARK.len();
        while !line.is_char_boundary(end) {
            end -= 1;
        }
        line.truncate(end);
        line.push_str(MARK);
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

#[cfg(test)]
mod tests {
    use contract::run::Place;
    use domain::{ExecutionId, OrgId};
    use uuid::Uuid;

    use super::*;
    use crate::app::lease::boot_now;

    fn log() -> Arc<AttemptLog> {
        let place = Place {
            org: OrgId::new(),
            id: ExecutionId::new(),
            attempt: 1,
            token: Uuid::new_v4(),
        };
        let session = Session::begun(Uuid::now_v7(), boot_now(), Duration::from_secs(10));
        Logs::new(&Metrics::new().expect("metrics")).attempt(place, "test/x", &session)
    }

    #[test]
    fn lines_are_numbered_on_and_what_is_dropped_is_counted_in_its_place() {
        let log = log();
        log.say(Level::Info, "one\ntwo\0\u{7}");
        let chunk = log.chunk().expect("two lines");
        assert_eq!((chunk.first, chunk.lines.len()), (0, 2));
        assert!(
            chunk.lines[1].ends_with("[test/x] two"),
            "{:?}",
            chunk.lines
        );
        let long = "x".repeat(1_000);
        for _ in 0..200 {
            log.say(Level::Info, &long);
        }
        log.answered(true);
        let chunk = log.chunk().expect("what fitted");
        assert_eq!(chunk.first, 2);
        let bytes: usize = chunk.lines.iter().map(String::len).sum();
        assert!(bytes <= LOG_MAX_BYTES, "{bytes}");
        let kept = chunk.lines.len() - 1;
        let said = format!("{} lines", 200 - kept);
        assert!(
            chunk.lines[kept].contains(&said),
            "{said}: {:?}",
            chunk.lines[kept]
        );
        log.answered(true);
        assert!(log.is_settled());
        log.say(Level::Warn, "after");
        let chunk = log.chunk().expect("a line");
        assert_eq!(chunk.first, 2 + i64::try_from(kept).expect("few") + 1);
    }

    #[test]
    fn long_lines_are_cut_between_characters() {
        let log = log();
        log.say(Level::Error, &"ä".repeat(10_000));
        let chunk = log.chunk().expect("a line");
        let line = &chunk.lines[0];
        assert!(
            line.len() <= LOG_LINE_MAX_BYTES && line.ends_with("ä…"),
            "{}",
            line.len()
        );
    }

    #[test]
    fn a_second_has_no_more_than_a_mebibyte() {
        let log = log();
        let line = "y".repeat(8_000);
        let mut kept = 0;
        for _ in 0..100 {
            for _ in 0..7 {
                log.say(Level::Info, &line);
            }
            if let Some(chunk) = log.chunk() {
                kept += chunk
                    .lines
                    .iter()
                    .filter(|line| line.len() > 8_000)
                    .map(String::len)
                    .sum::<usize>();
                log.answered(true);
            }
        }
        // The test itself may take a moment longer than one second.
        assert!(kept <= 8 * SECOND_MAX_BYTES / 2, "{kept}");
        assert!(kept > SECOND_MAX_BYTES / 2, "{kept}");
    }

    #[test]
    fn what_is_fenced_says_no_more() {
        let log = log();
        log.say(Level::Info, "one");
        assert!(log.chunk().is_some());
        log.answered(false);
        log.say(Level::Info, "two");
        assert!(log.is_settled() && log.chunk().is_none());
    }
}
