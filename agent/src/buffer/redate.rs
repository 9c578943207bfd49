//! Other times for samples that wait, once it is known what time it was.

use std::io;

use domain::Timestamp;

use super::barrier::Barriers;
use super::segment::{Edit, Glance, Taken};
use super::{Buffer, Kept};
use crate::clock::{AHEAD_MAX, BEHIND_MAX, Increasing};

/// A time that is wrong by less stays as it is: the server's word may have been so long on its way, and more.
const TOLERANCE: chrono::Duration = chrono::Duration::seconds(30);

impl Buffer {
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
}
