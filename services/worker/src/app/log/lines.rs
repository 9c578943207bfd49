//! Lines that wait: bounded, and what is dropped is counted.

use std::time::Duration;

use domain::execution::{LOG_LINE_MAX_BYTES, LOG_MAX_BYTES};
use tokio::time::Instant;

use crate::metrics::Metrics;

/// The most that waits of one attempt, in bytes: one message's chunk, with room for the line that says what was dropped.
const KEPT_MAX_BYTES: usize = LOG_MAX_BYTES - 512;
/// The most that one attempt logs in a second, in bytes.
pub(super) const SECOND_MAX_BYTES: usize = 1024 * 1024;

/// The lines of one attempt that wait.
#[derive(Default)]
pub(super) struct Lines {
    /// The number of the next line that is said.
    pub(super) next: i64,
    pub(super) kept: Vec<String>,
    pub(super) bytes: usize,
    /// Lines, and their bytes, that are dropped since the last chunk.
    pub(super) dropped: (u64, u64),
    /// When the current second began, and how many bytes were taken in it.
    second: Option<Instant>,
    second_bytes: usize,
    /// Among those that wait, or in a message.
    pub(super) under_way: bool,
    /// The attempt is not ours any more: nothing more is said.
    pub(super) closed: bool,
}

impl Lines {
    /// Keeps a line, if there is room.
    pub(super) fn keep(&mut self, line: String, now: Instant, metrics: &Metrics) {
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
pub(super) fn cut(line: &mut String) {
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
