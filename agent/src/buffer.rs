//! The buffer of samples: on the disk, bounded, the oldest dropped first. A sample leaves it when the server has said
//! that it is written. It is not synced: a crash of the machine may cost the last seconds, a restart of the agent
//! costs nothing.
//!
//! Beside each sample stands when it was taken by the boot-time clock: a machine without a right clock at its boot dates
//! samples wrongly until the server has said what time it is, and the server takes none of those. [`Buffer::redate`]
//! puts right what waits then, but for what was sent already: that keeps its time ([`Buffer::sending`]).
//!
//! Rooms: [`segment`] one file of it; `batch` what is sent, `acknowledged` what is not needed any more; `redate` other times
//! for what waits, and [`barrier`] samples that keep theirs among those.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};

use contract::agent::{SAMPLES_MAX, Sample};
use domain::Timestamp;

mod acknowledged;
pub mod barrier;
mod batch;
mod redate;
pub mod segment;

use segment::{Line, Segment, Taken};

/// A sample in memory, and when it was taken, where that is known.
#[derive(Debug)]
struct Kept {
    sample: Sample,
    taken: Option<Taken>,
}

/// How much is kept.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// All files together.
    pub total: u64,
    /// One file.
    pub segment: u64,
    /// One batch, as JSON.
    pub batch: usize,
    /// Samples in memory when the disk takes none.
    pub memory: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            total: 64 * 1024 * 1024,
            segment: 1024 * 1024,
            batch: 192 * 1024,
            memory: SAMPLES_MAX,
        }
    }
}

/// The buffer.
#[derive(Debug)]
pub struct Buffer {
    folder: PathBuf,
    bounds: Bounds,
    segments: VecDeque<Segment>,
    /// Where the first sample that is not acknowledged begins, in the first segment.
    offset: u64,
    /// What the disk would not take.
    memory: VecDeque<Kept>,
    /// The time of the last sample, ever.
    last: Option<Timestamp>,
    /// Everything up to here is acknowledged.
    through: Option<Timestamp>,
    /// Everything up to here was sent, or is about to be.
    sent: Option<Timestamp>,
    /// Whether the disk knows that.
    sent_is_noted: bool,
    dropped: u64,
    next: u64,
    disk_failed: bool,
}

impl Buffer {
    /// Opens the buffer in this folder, with what an earlier life left there.
    ///
    /// # Errors
    /// When the folder cannot be made or read.
    pub fn open(folder: &Path, bounds: Bounds) -> io::Result<Self> {
        crate::platform::private_folder(folder)?;
        let mut names: Vec<u64> = Vec::new();
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            if path.extension().is_some_and(|it| it == segment::UNFINISHED) {
                std::fs::remove_file(&path)?;
            }
            names.extend(path.file_name().and_then(segment::number_of));
        }
        names.sort_unstable();
        let mut this = Self {
            folder: folder.to_owned(),
            bounds,
            segments: VecDeque::new(),
            offset: 0,
            memory: VecDeque::new(),
            last: None,
            through: None,
            sent: None,
            sent_is_noted: true,
            dropped: 0,
            next: names.last().map_or(1, |last| last + 1),
            disk_failed: false,
        };
        for number in names {
            let (segment, seen) = Segment::open(folder, number)?;
            this.through = this.through.max(seen.through);
            this.sent = this.sent.max(seen.sent);
            this.last = this.last.max(seen.last).max(seen.through);
            this.segments.push_back(segment);
        }
        if let Some(through) = this.through {
            this.skip_through(through)?;
        }
        Ok(this)
    }

    /// The time of the last sample, ever: the next one must be later.
    #[must_use]
    pub fn last(&self) -> Option<Timestamp> {
        self.last
    }

    /// How many samples were dropped for want of room.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Bytes on the disk.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes).sum()
    }

    /// Keeps a sample of which nobody knows when it was taken but for its own time.
    pub fn push(&mut self, sample: Sample) {
        self.push_taken(sample, None);
    }

    /// Keeps a sample, and when it was taken.
    pub fn push_taken(&mut self, sample: Sample, taken: Option<Taken>) {
        self.last = self.last.max(Some(sample.at));
        let line = Line::Sample(Box::new(sample), taken);
        match self.write(&line) {
            Ok(()) => {
                if std::mem::take(&mut self.disk_failed) {
                    tracing::info!("samples can be written to the disk again");
                }
                return;
            }
            Err(error) => {
                if !std::mem::replace(&mut self.disk_failed, true) {
                    tracing::warn!(%error, "samples cannot be written to the disk; a few are kept in memory");
                }
            }
        }
        if let Line::Sample(sample, taken) = line {
            self.memory.push_back(Kept {
                sample: *sample,
                taken,
            });
        }
        while self.memory.len() > self.bounds.memory {
            self.memory.pop_front();
            self.dropped += 1;
        }
    }

    fn write(&mut self, line: &Line) -> io::Result<()> {
        let text = line.encode()?;
        let full = self.segments.back().is_none_or(|last| {
            last.bytes + text.len() as u64 > self.bounds.segment && last.bytes > 0
        });
        if full {
            self.segments
                .push_back(Segment::create(&self.folder, self.next)?);
            self.next += 1;
        }
        while self.segments.len() > 1 && self.bytes() + text.len() as u64 > self.bounds.total {
            self.drop_first(true);
        }
        match self.segments.back_mut() {
            Some(last) => last.append(&text, matches!(line, Line::Sample(..))),
            None => Err(io::Error::other("there is no segment")),
        }
    }

    /// Removes the oldest segment; `lost` when its samples are not acknowledged.
    fn drop_first(&mut self, lost: bool) {
        let Some(segment) = self.segments.pop_front() else {
            return;
        };
        if lost {
            // Those before the offset are acknowledged: they are not lost.
            let acknowledged = segment.lines_before(self.offset).unwrap_or(0);
            let samples = segment.samples.saturating_sub(acknowledged);
            self.dropped += samples;
            tracing::warn!(
                samples,
                "the buffer is full; the oldest samples are dropped"
            );
        }
        self.offset = 0;
        segment.remove();
    }
}
