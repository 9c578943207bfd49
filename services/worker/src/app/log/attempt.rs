//! What one attempt says.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use contract::run::{LogChunk, Place};
use domain::Timestamp;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::lines::{Lines, cut};
use super::{Level, Logs};
use crate::app::lease::Session;

/// So many bytes of one attempt are said at once.
const URGENT_BYTES: usize = 16 * 1024;

/// The log of one attempt.
pub(crate) struct AttemptLog {
    place: Place,
    /// What lines say they come from.
    source: String,
    pub(super) session: Arc<Session>,
    logs: Arc<Logs>,
    lines: Mutex<Lines>,
    settled: Notify,
}

impl AttemptLog {
    pub(super) fn new(
        logs: &Arc<Logs>,
        place: Place,
        source: &str,
        session: &Arc<Session>,
    ) -> Arc<Self> {
        Arc::new(Self {
            place,
            source: source.to_owned(),
            session: session.clone(),
            logs: logs.clone(),
            lines: Mutex::default(),
            settled: Notify::new(),
        })
    }

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
    pub(super) fn chunk(&self) -> Option<LogChunk> {
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
    pub(super) fn answered(self: &Arc<Self>, wanted: bool) {
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

#[cfg(test)]
mod tests {
    use domain::execution::{LOG_LINE_MAX_BYTES, LOG_MAX_BYTES};
    use domain::{ExecutionId, OrgId};
    use uuid::Uuid;

    use super::super::lines::SECOND_MAX_BYTES;
    use super::*;
    use crate::app::lease::boot_now;
    use crate::metrics::Metrics;

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
