//! The buffer of samples: on the disk, bounded, the oldest dropped first. A sample leaves it when the server has said
//! that it is written. It is not synced: a crash of the machine may cost the last seconds, a restart of the agent
//! costs nothing.
//!
//! Beside each sample stands when it was taken by the boot-time clock: a machine without a right clock at its boot dates
//! samples wrongly until the server has said what time it is, and the server takes none of those. [`Buffer::redate`]
//! puts right what waits then, but for what was sent already: that keeps its time ([`Buffer::sending`]).
//!
//! Rooms: [`segment`] one file of it; [`barrier`] samples that keep their times among those that get others.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};

use contract::agent::{SAMPLES_MAX, Sample};
use domain::Timestamp;

pub mod barrier;
pub mod segment;

use crate::clock::{AHEAD_MAX, BEHIND_MAX, Increasing};
use barrier::Barriers;
use segment::{Edit, Glance, Line, Segment, Taken};

/// A time that is wrong by less stays as it is: the server's word may have been so long on its way, and more.
const TOLERANCE: chrono::Duration = chrono::Duration::seconds(30);

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

    /// The oldest samples that are not acknowledged, in the order of their times: at most so many as one message takes.
    ///
    /// # Errors
    /// When the files cannot be read.
    pub fn batch(&mut self) -> io::Result<Vec<Sample>> {
        let mut batch = Filling::within(self.bounds.batch);
        // What the disk did not take for a while lies before what it took afterwards. It may never come after that: who
        // acknowledges a time acknowledges everything before it.
        let mut waiting = self.memory.iter().peekable();
        let mut offset = self.offset;
        for segment in &self.segments {
            segment.read(offset, |line, range| {
                if let Line::Sample(sample, _) = line {
                    while !batch.full
                        && let Some(earlier) = waiting.next_if(|waits| waits.sample.at < sample.at)
                    {
                        batch.take(earlier.sample.clone(), bytes_of(&earlier.sample));
                    }
                    let bytes = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
                    batch.take(*sample, bytes);
                }
                !batch.full
            })?;
            if batch.full {
                return Ok(batch.samples);
            }
            offset = 0;
        }
        for Kept { sample, .. } in waiting {
            batch.take(sample.clone(), bytes_of(sample));
        }
        Ok(batch.samples)
    }

    /// Notes that samples up to this time are about to be sent. From now on they keep the times that they have: the
    /// server knows a sample by its time, and may have one whose answer is lost. With another time it would be there
    /// twice.
    ///
    /// To be called before anything is sent. It is not synced, and need not be: after a crash of the machine another
    /// boot begins, and what was taken in this one is not dated anew any more.
    ///
    /// # Errors
    /// When the disk does not take it. Then it holds for this life only: if the agent dies before the answer comes, and
    /// with a clock that was wrong, the next life may send these samples with other times. They are at most one batch.
    pub fn sending(&mut self, through: Timestamp) -> io::Result<()> {
        if self.sent_is_noted && self.sent.is_some_and(|sent| through <= sent) {
            return Ok(());
        }
        self.sent = self.sent.max(Some(through));
        self.sent_is_noted = false;
        self.write(&Line::Sent(through))?;
        self.sent_is_noted = true;
        Ok(())
    }

    /// Gives samples that wait the times at which they were taken, as `right` knows them, where theirs are wrong by
    /// more than half a minute. Their order stays, and times increase. What nobody can date keeps its time, and what
    /// was sent, since the server may have it; but samples with times after `limit`, which is [`AHEAD_MAX`] after the
    /// server's time, or more than [`BEHIND_MAX`] before that, it has taken from nobody. Of those after it, what cannot
    /// be dated is forgotten, and so are acknowledgements of such times: until that time comes the server would take no
    /// other either. What was sent and keeps its time is not moved by what lies before it: that gets an earlier time
    /// then. The next sample may have any time after those that stay. Says how many samples have another time now.
    ///
    /// Interrupted and done again, it gives no sample twice and loses none: each file is the old one or the new one,
    /// what is right already stays, and no sample has a new time before acknowledgements of times of a wrong clock are
    /// gone from all files: whoever opened the buffer by one of those would take what is put right for acknowledged.
    ///
    /// # Errors
    /// When a file cannot be read or written anew; its samples are dropped, and counted: with wrong times they would keep
    /// the others from the server.
    pub fn redate(
        &mut self,
        right: impl Fn(&Taken) -> Option<Timestamp>,
        limit: Timestamp,
    ) -> io::Result<u64> {
        let taken_back = self.take_back(limit);
        let sent = self.sent;
        let oldest = limit.plus(-(AHEAD_MAX + BEHIND_MAX));
        let is_sent =
            |at: Timestamp| oldest <= at && at <= limit && sent.is_some_and(|sent| at <= sent);
        let dated = |at: Timestamp, taken: Option<&Taken>| match taken.and_then(&right) {
            Some(right) if !is_sent(at) && right.since(at).abs() > TOLERANCE => Some(right),
            _ => (at <= limit).then_some(at),
        };
        // A mark of a wrong clock would make what comes look as if it had been sent: it moves to what it keeps.
        let mut stays_sent = None;
        let mut redated = 0;
        let mut barriers = Barriers::default();
        let mut looked = Ok(());
        if sent.is_some_and(|sent| oldest <= sent) {
            looked = self.rewrite(|glance, is_acknowledged| {
                if let (Glance::Sample(at, _), false) = (glance, is_acknowledged) {
                    barriers.see(at, is_sent(at));
                }
                Edit::Same
            });
        }
        let mut on_disk = Increasing::after(self.through);
        let rewritten = self.rewrite(|glance, is_acknowledged| match glance {
            Glance::Sent(sent) if sent > limit => stays_sent.map_or(Edit::Wrong, Edit::At),
            Glance::Through(_) | Glance::Sent(_) => Edit::Same,
            Glance::Sample(..) if is_acknowledged => Edit::Spent,
            Glance::Sample(at, taken) => {
                let mut right = dated(at, taken.as_ref());
                if is_sent(at) {
                    stays_sent = stays_sent.max(Some(at));
                } else {
                    right = barriers.below(right);
                }
                match right.map(|right| on_disk.next(right)) {
                    None => Edit::Wrong,
                    Some(right) if right == at => Edit::Same,
                    Some(right) => {
                        redated += 1;
                        Edit::At(right)
                    }
                }
            }
        });
        let mut barriers = Barriers::default();
        for Kept { sample, .. } in &self.memory {
            barriers.see(sample.at, is_sent(sample.at));
        }
        let mut in_memory = Increasing::after(self.through);
        self.memory.retain_mut(|kept| {
            let mut right = dated(kept.sample.at, kept.taken.as_ref());
            if is_sent(kept.sample.at) {
                stays_sent = stays_sent.max(Some(kept.sample.at));
            } else {
                right = barriers.below(right);
            }
            let Some(right) = right else {
                return false;
            };
            let at = in_memory.next(right);
            redated += u64::from(at != kept.sample.at);
            kept.sample.at = at;
            true
        });
        self.last = on_disk.last().max(in_memory.last());
        self.sent = sent.filter(|sent| *sent <= limit).or(stays_sent);
        taken_back.and(looked).and(rewritten).map(|()| redated)
    }

    /// Takes back acknowledgements of times after `limit`, from all files before anything else becomes of them. What
    /// they were about goes first: the oldest file has it, and marks stand in the same file or in later ones.
    fn take_back(&mut self, limit: Timestamp) -> io::Result<()> {
        if self.through.is_none_or(|through| through <= limit) {
            return Ok(());
        }
        let mut stays = None;
        let rewritten = self.rewrite(|glance, is_acknowledged| match glance {
            Glance::Through(through) if through > limit => Edit::Wrong,
            Glance::Through(through) => {
                stays = stays.max(Some(through));
                Edit::Same
            }
            Glance::Sample(..) if is_acknowledged => Edit::Wrong,
            Glance::Sample(..) | Glance::Sent(_) => Edit::Same,
        });
        self.through = stays;
        rewritten
    }

    /// Writes the files anew, the oldest first; `each` says what becomes of a line, and is told whether that is
    /// acknowledged.
    ///
    /// # Errors
    /// When a file cannot be read or written anew: it is removed, and its samples are counted.
    fn rewrite(&mut self, mut each: impl FnMut(Glance, bool) -> Edit) -> io::Result<()> {
        let mut done = Ok(());
        let mut acknowledged = std::mem::take(&mut self.offset);
        for mut segment in std::mem::take(&mut self.segments) {
            match segment.rewrite(|glance, range| each(glance, range.end <= acknowledged)) {
                Ok(is_other) => {
                    // What was acknowledged in it is gone, or still there.
                    if !is_other && self.segments.is_empty() {
                        self.offset = acknowledged;
                    }
                    self.segments.push_back(segment);
                }
                Err(error) => {
                    self.dropped += segment.samples;
                    segment.remove();
                    done = Err(error);
                }
            }
            acknowledged = 0;
        }
        done
    }

    /// Everything up to this time is written by the server, or refused for good. A time after the last sample says
    /// nothing: it answers samples that were forgotten meanwhile.
    ///
    /// # Errors
    /// When the files cannot be read or written.
    pub fn acknowledge(&mut self, through: Timestamp) -> io::Result<()> {
        if self.last.is_none_or(|last| through > last) {
            return Ok(());
        }
        self.through = self.through.max(Some(through));
        self.memory.retain(|kept| kept.sample.at > through);
        self.skip_through(through)?;
        if self.segments.is_empty() {
            return Ok(());
        }
        self.write(&Line::Through(through))?;
        // Nothing is waiting: the file begins anew before it grows.
        if self.segments.len() == 1 && self.is_drained()? && self.bytes() > self.bounds.segment / 4
        {
            self.segments
                .push_back(Segment::create(&self.folder, self.next)?);
            self.next += 1;
            self.drop_first(false);
            self.write(&Line::Through(through))?;
        }
        Ok(())
    }

    fn is_drained(&self) -> io::Result<bool> {
        let mut waiting = false;
        if let Some(first) = self.segments.front() {
            first.read(self.offset, |line, _| {
                waiting = matches!(line, Line::Sample(..));
                !waiting
            })?;
        }
        Ok(!waiting)
    }

    /// Moves to the first sample after a time, and removes the files before it.
    fn skip_through(&mut self, through: Timestamp) -> io::Result<()> {
        loop {
            let Some(first) = self.segments.front() else {
                return Ok(());
            };
            let mut next = None;
            let mut end = self.offset;
            first.read(self.offset, |line, range| {
                match line {
                    Line::Sample(sample, _) if sample.at > through => next = Some(range.start),
                    _ => end = range.end,
                }
                next.is_none()
            })?;
            match next {
                Some(next) => {
                    self.offset = next;
                    return Ok(());
                }
                None if self.segments.len() > 1 => self.drop_first(false),
                None => {
                    self.offset = end;
                    return Ok(());
                }
            }
        }
    }
}

/// A batch that is being put together.
struct Filling {
    samples: Vec<Sample>,
    bytes: usize,
    bytes_max: usize,
    /// A sample found no room: those after it are not taken either.
    full: bool,
}

impl Filling {
    fn within(bytes_max: usize) -> Self {
        Self {
            samples: Vec::new(),
            bytes: 0,
            bytes_max,
            full: false,
        }
    }

    /// Takes a sample of so many bytes, if there is room. The first one always has it.
    fn take(&mut self, sample: Sample, bytes: usize) {
        let bytes = self.bytes.saturating_add(bytes);
        self.full |= self.samples.len() == SAMPLES_MAX
            || (bytes > self.bytes_max && !self.samples.is_empty());
        if !self.full {
            self.bytes = bytes;
            self.samples.push(sample);
        }
    }
}

/// What a sample in memory takes in a message, with the comma after it.
fn bytes_of(sample: &Sample) -> usize {
    serde_json::to_vec(sample).map_or(0, |text| text.len() + 1)
}
