//! What is sent: the oldest samples, as many as one message takes.

use std::io;

use contract::agent::{SAMPLES_MAX, Sample};
use domain::Timestamp;

use super::segment::Line;
use super::{Buffer, Kept};

impl Buffer {
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
