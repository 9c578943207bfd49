//! Rests: somebody with little to do comes beside somebody who has much, and finds the programs and the database busy with that. It is
//! next, and yet waits at each step for a processor. So while such a newcomer is about, what is made of the others' goes in smaller
//! rounds, each answered before the next, with a rest between them as long as the round took: half of the time belongs to who comes.
//!
//! Nobody rests who is alone, nor where all have much, nor where workers take few at once since their handlers last.

use std::time::Duration;

use domain::OrgId;
use tokio::time::Instant;

use crate::app::fair::Chosen;

/// A round of so many offers keeps everybody busy.
const MANY: usize = 16;
/// For so long after it came a newcomer may come again.
const ABOUT: Duration = Duration::from_secs(1);
/// The longest rest, and the longest wait for the answers to a round.
const MAX: Duration = Duration::from_millis(50);

/// A round that is under way.
struct Round {
    asked: Instant,
    /// How many of its offers are not answered; none before they are made.
    left: Option<usize>,
}

/// When there is to be a rest.
#[derive(Default)]
pub(super) struct Rests {
    /// Who came last of those who have little, and when.
    newcomer: Option<(OrgId, Instant)>,
    /// Whose many offers were made last, of those who are not that newcomer; and when.
    busy: Option<(OrgId, Instant)>,
    round: Option<Round>,
    until: Option<Instant>,
}

impl Rests {
    /// One that had nothing offered, and no more than others, has something to begin.
    pub(super) fn newcomer(&mut self, org: OrgId, now: Instant) {
        self.newcomer = Some((org, now));
    }

    /// Whether a newcomer is about beside others that have much.
    pub(super) fn are_due(&self, now: Instant) -> bool {
        let recent = |at: Instant| now.saturating_duration_since(at) < ABOUT;
        match (self.newcomer, self.busy) {
            (Some((newcomer, came)), Some((busy, offered))) => {
                newcomer != busy && recent(came) && recent(offered)
            }
            _ => false,
        }
    }

    /// When the next round may begin, if not now.
    pub(super) fn wait_until(&self, now: Instant) -> Option<Instant> {
        let until = match &self.round {
            Some(round) => round.asked + 2 * MAX,
            None => self.until?,
        };
        (now < until && self.are_due(now)).then_some(until)
    }

    /// A round begins.
    pub(super) fn asked(&mut self, now: Instant) {
        let left = None;
        self.round = Some(Round { asked: now, left });
    }

    /// The offers of a round are made.
    pub(super) fn offered(&mut self, chosen: &[Chosen], now: Instant) {
        if chosen.len() < MANY {
            self.round = None;
            return;
        }
        let newcomer = self.newcomer.map(|(org, _)| org);
        let mut orgs = chosen.iter().map(|chosen| chosen.lane.org);
        if let Some(org) = orgs.find(|org| Some(*org) != newcomer) {
            self.busy = Some((org, now));
        }
        if let Some(round) = &mut self.round {
            round.left = Some(chosen.len());
        }
    }

    /// An offer is answered. (It may be a newcomer's: then the rest begins with one that is not, and is shorter by nothing much.)
    pub(super) fn answered(&mut self, now: Instant) {
        let Some(Round { asked, left }) = &mut self.round else {
            return;
        };
        let Some(left) = left else { return };
        *left = left.saturating_sub(1);
        if *left == 0 {
            let took = now.saturating_duration_since(*asked);
            self.until = Some(now + took.min(MAX));
            self.round = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use contract::work::Lane;
    use domain::{ExecutionId, JobId};

    use super::*;

    fn chosen(org: OrgId, count: usize) -> Vec<Chosen> {
        let one = || Chosen {
            lane: Lane {
                org,
                job: JobId::new(),
                key: String::new(),
            },
            id: ExecutionId::new(),
            tag: 0.0,
            is_first: false,
        };
        (0..count).map(|_| one()).collect()
    }

    /// A round that is answered after `took`, and until when is rested then.
    fn round(rests: &mut Rests, org: OrgId, count: usize, now: Instant) -> Option<Instant> {
        let took = Duration::from_millis(8);
        rests.asked(now);
        rests.offered(&chosen(org, count), now);
        for _ in 0..count {
            rests.answered(now + took);
        }
        rests.wait_until(now + took)
    }

    #[tokio::test]
    async fn beside_a_newcomer_a_rest_is_as_long_as_its_round() {
        let (mut rests, now) = (Rests::default(), Instant::now());
        let (newcomer, busy) = (OrgId::new(), OrgId::new());
        assert_eq!(round(&mut rests, busy, MANY, now), None);
        rests.newcomer(newcomer, now);
        let until = now + Duration::from_millis(16);
        assert_eq!(round(&mut rests, busy, MANY, now), Some(until));
        assert_eq!(rests.wait_until(until), None);
        // Few keep nobody busy, and what is about for long is no newcomer.
        assert_eq!(round(&mut rests, busy, MANY - 1, until), None);
        assert_eq!(round(&mut rests, busy, MANY, now + ABOUT), None);
    }

    #[tokio::test]
    async fn who_has_both_much_and_little_rests_for_nobody() {
        let (mut rests, now, org) = (Rests::default(), Instant::now(), OrgId::new());
        rests.newcomer(org, now);
        assert_eq!(round(&mut rests, org, MANY, now), None);
        assert!(!rests.are_due(now));
    }

    #[tokio::test]
    async fn answers_that_do_not_come_are_not_waited_for() {
        let (mut rests, now) = (Rests::default(), Instant::now());
        rests.newcomer(OrgId::new(), now);
        rests.asked(now);
        rests.offered(&chosen(OrgId::new(), MANY), now);
        rests.answered(now);
        assert_eq!(rests.wait_until(now), Some(now + 2 * MAX));
        assert_eq!(rests.wait_until(now + 2 * MAX), None);
    }
}
