//! What the server has, or refused for good: it goes.

use std::io;

use domain::Timestamp;

use super::Buffer;
use super::segment::{Line, Segment};

impl Buffer {
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
    pub(super) fn skip_through(&mut self, through: Timestamp) -> io::Result<()> {
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
