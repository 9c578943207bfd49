//! Rests: who has little to do comes beside others that have much, and finds programs and database busy with that. It is next, and yet
//! waits at each step for a processor. So while such newcomers are about and wait longer than on an idle system, what the others
//! have is offered in smaller rounds, and after each they rest four times as long as half of its answers took ([`TIMES`]; but no longer
//! than [`MAX`]). The other half comes meanwhile, so more than half of the time belongs to who comes.
//!
//! Nobody rests where newcomers do not wait (there are processors enough), nor where all have much. Only those that have much rest:
//! whatever else waits is offered meanwhile.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use domain::OrgId;
use tokio::time::Instant;

use crate::app::fair::{Candidate, Chosen};

/// Who has so many waiting has much.
const MUCH: usize = 4;
/// A round of so many offers of those that have much keeps everybody busy.
const MANY: usize = 16;
/// For so long after it came a newcomer is still about, and so long after its last round who had much counts as having it.
const ABOUT: Duration = Duration::from_secs(1);
/// For so long it is remembered that a newcomer waited.
const REMEMBERED: Duration = Duration::from_secs(30);
/// A newcomer's offer that is answered sooner did not wait; one that takes twice this did, where nothing is known of an idle system.
const WAIT: Duration = Duration::from_millis(5);
/// One may be late for any reason; so many of the last eight were not by chance.
const LATE: u32 = 2;
/// So many times what half of its answers took is rested after a round.
const TIMES: u32 = 4;
/// The longest rest.
const MAX: Duration = Duration::from_millis(50);
/// For so long at most the answers to a round are waited for.
const ANSWERS_MAX: Duration = Duration::from_millis(100);

/// A round whose answers are waited for.
struct Round {
    asked: Instant,
    /// How many of its offers were made, and how many answers have come since; nothing before they are made.
    offers: Option<(usize, usize)>,
}

/// When there is to be a rest, and for whom.
#[derive(Default)]
pub(super) struct Rests {
    /// Who came last of those who have little, and when.
    newcomer: Option<(OrgId, Instant)>,
    /// The shortest time that a newcomer's offer took while nobody had much; a longer one is believed slowly.
    least: Option<Duration>,
    /// Which of the last eight took too long, a bit for each.
    late: u8,
    /// When too many did.
    waited: Option<Instant>,
    /// Who has much, and when that was last so.
    busy: HashSet<OrgId>,
    busy_at: Option<Instant>,
    round: Option<Round>,
    until: Option<Instant>,
}

fn is_within(at: Option<Instant>, time: Duration, now: Instant) -> bool {
    at.is_some_and(|at| now.saturating_duration_since(at) < time)
}

/// Who of these has much.
pub(super) fn much(candidates: &[Candidate]) -> HashSet<OrgId> {
    let mut counts: HashMap<OrgId, usize> = HashMap::new();
    for candidate in candidates {
        *counts.entry(candidate.lane.org).or_default() += candidate.waiting.len();
    }
    counts.retain(|_, count| *count >= MUCH);
    counts.into_keys().collect()
}

impl Rests {
    /// One that had nothing offered, and no more than others, has something to begin.
    pub(super) fn newcomer(&mut self, org: OrgId, now: Instant) {
        self.newcomer = Some((org, now));
    }

    /// What a newcomer was offered began after so long.
    pub(super) fn waited(&mut self, time: Duration, now: Instant) {
        if !is_within(self.busy_at, ABOUT, now) {
            let least = self.least.unwrap_or(time);
            self.least = Some(time.min(least + least / 64));
            return;
        }
        let long = WAIT.max(2 * self.least.unwrap_or(WAIT));
        self.late = self.late << 1 | u8::from(time > long);
        if self.late.count_ones() >= LATE {
            self.waited = Some(now);
        }
    }

    /// Whether newcomers are about that others make wait.
    pub(super) fn are_due(&self, now: Instant) -> bool {
        let Some((newcomer, came)) = self.newcomer else {
            return false;
        };
        is_within(Some(came), ABOUT, now)
            && is_within(self.busy_at, ABOUT, now)
            && is_within(self.waited, REMEMBERED, now)
            && self.busy.iter().any(|busy| *busy != newcomer)
    }

    /// Until when those that have much rest, if they do.
    pub(super) fn until(&self, now: Instant) -> Option<Instant> {
        let until = match &self.round {
            Some(round) => round.asked + ANSWERS_MAX,
            None => self.until?,
        };
        (now < until && self.are_due(now)).then_some(until)
    }

    /// Whether an organisation has much.
    pub(super) fn has_much(&self, org: OrgId) -> bool {
        self.busy.contains(&org)
    }

    /// Whether a round for those that have much, of whom so many offers are `out`, is to wait for the answers to some of them, since it would
    /// be of a few only. All of them together may have `most`.
    pub(super) fn is_too_small(&self, out: usize, most: usize) -> bool {
        let room = most.saturating_sub(out);
        room == 0 || (room < MANY && most >= 2 * MANY)
    }

    /// A round in which nobody rests begins.
    pub(super) fn asked(&mut self, now: Instant) {
        let offers = None;
        self.until = None;
        self.round = Some(Round { asked: now, offers });
    }

    /// The offers of a round are made; of these organisations more was found to wait than a few. `is_rest`: those that were known to have
    /// much were not in it.
    pub(super) fn offered(
        &mut self,
        chosen: &[Chosen],
        much: HashSet<OrgId>,
        is_rest: bool,
        now: Instant,
    ) {
        if is_rest {
            self.busy.extend(much);
            return;
        }
        let of_much = |chosen: &&Chosen| much.contains(&chosen.lane.org);
        let count = chosen.iter().filter(of_much).count();
        if count < MANY {
            self.round = None;
            return;
        }
        self.busy = much;
        self.busy_at = Some(now);
        if let Some(round) = &mut self.round {
            round.offers = Some((count, 0));
        }
    }

    /// An offer is answered. (Perhaps of another round: when half have come, it is known all the same how busy everybody is.)
    pub(super) fn answered(&mut self, now: Instant) {
        let Some(Round { asked, offers }) = &mut self.round else {
            return;
        };
        let Some((offers, answers)) = offers else {
            return;
        };
        *answers += 1;
        if *answers * 2 < *offers {
            return;
        }
        let took = now.saturating_duration_since(*asked);
        self.until = Some(now + (TIMES * took).min(MAX));
        self.round = None;
    }

    /// Which offers were answered is not known any more.
    pub(super) fn forget(&mut self) {
        self.round = None;
    }
}

#[cfg(test)]
mod tests {
    use contract::work::Lane;
    use domain::{ExecutionId, JobId};

    use super::*;

    const TOOK: Duration = Duration::from_millis(8);

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

    /// Who has much of them.
    fn much(chosen: &[Chosen]) -> HashSet<OrgId> {
        let candidate = |chosen: &Chosen| Candidate {
            lane: chosen.lane.clone(),
            weight: 1,
            tenant_free: None,
            job_free: None,
            key_free: None,
            waiting: vec![(chosen.id, 0)],
            more: false,
        };
        super::much(&chosen.iter().map(candidate).collect::<Vec<_>>())
    }

    /// A round of which half is answered after [`TOOK`], and until when is rested then.
    fn round(rests: &mut Rests, chosen: &[Chosen], now: Instant) -> Option<Instant> {
        rests.asked(now);
        rests.offered(chosen, much(chosen), false, now);
        for _ in 0..chosen.len() / 2 {
            rests.answered(now + TOOK);
        }
        rests.until(now + TOOK)
    }

    /// A newcomer came that is answered soon when it is alone, and late beside `busy`.
    fn waited(busy: OrgId, now: Instant) -> Rests {
        let mut rests = Rests::default();
        rests.waited(Duration::from_millis(3), now);
        round(&mut rests, &chosen(busy, MANY), now);
        rests.newcomer(OrgId::new(), now);
        rests.waited(Duration::from_millis(30), now);
        assert!(!rests.are_due(now));
        rests.waited(Duration::from_millis(30), now);
        rests
    }

    #[tokio::test]
    async fn beside_a_newcomer_who_has_much_rests() {
        let (busy, now) = (OrgId::new(), Instant::now());
        let mut rests = waited(busy, now);
        let until = now + TOOK + TIMES * TOOK;
        assert_eq!(round(&mut rests, &chosen(busy, MANY), now), Some(until));
        assert!(rests.has_much(busy) && !rests.has_much(OrgId::new()));
        assert_eq!(rests.until(until), None);
        // Few keep nobody busy, and who came long ago is no newcomer.
        assert_eq!(round(&mut rests, &chosen(busy, MANY - 1), until), None);
        let later = now + ABOUT;
        assert_eq!(round(&mut rests, &chosen(busy, MANY), later), None);
        rests.newcomer(OrgId::new(), later);
        assert!(rests.are_due(later));
    }

    #[tokio::test]
    async fn nobody_rests_for_a_newcomer_that_does_not_wait() {
        let (mut rests, busy, now) = (Rests::default(), OrgId::new(), Instant::now());
        // Where all is slow, this is no wait.
        let slow = Duration::from_millis(40);
        rests.waited(slow, now);
        for _ in 0..100 {
            rests.newcomer(OrgId::new(), now);
            assert_eq!(round(&mut rests, &chosen(busy, MANY), now), None);
            rests.waited(slow, now);
        }
        rests.waited(3 * slow, now);
        rests.waited(3 * slow, now);
        assert!(rests.are_due(now));
        let later = now + REMEMBERED;
        rests.newcomer(OrgId::new(), later);
        assert_eq!(round(&mut rests, &chosen(busy, MANY), later), None);
    }

    #[tokio::test]
    async fn who_is_found_to_have_much_during_a_rest_rests_with_the_others() {
        let (busy, other, now) = (OrgId::new(), OrgId::new(), Instant::now());
        let mut rests = waited(busy, now);
        round(&mut rests, &chosen(busy, MANY), now);
        let until = rests.until(now + TOOK);
        let of_rest = chosen(other, MANY);
        rests.offered(&of_rest, much(&of_rest), true, now + TOOK);
        assert!(rests.has_much(busy) && rests.has_much(other));
        assert_eq!(rests.until(now + TOOK), until);
        // Neither goes on by a few at a time.
        assert!(rests.is_too_small(32, 32) && rests.is_too_small(20, 32));
        assert!(!rests.is_too_small(16, 32) && !rests.is_too_small(2, 3));
    }

    #[tokio::test]
    async fn many_that_have_little_do_not_rest_for_one_another() {
        let (busy, now) = (OrgId::new(), Instant::now());
        let mut rests = waited(busy, now);
        let many: Vec<Chosen> = (0..100).flat_map(|_| chosen(OrgId::new(), 1)).collect();
        assert_eq!(round(&mut rests, &many, now), None);
        // Nor who has come with little for its own much.
        rests.newcomer(busy, now);
        assert_eq!(round(&mut rests, &chosen(busy, MANY), now), None);
    }

    #[tokio::test]
    async fn answers_that_do_not_come_are_not_waited_for() {
        let (busy, now) = (OrgId::new(), Instant::now());
        let mut rests = waited(busy, now);
        rests.asked(now);
        rests.offered(&chosen(busy, MANY), HashSet::from([busy]), false, now);
        rests.answered(now);
        let end = now + ANSWERS_MAX;
        assert_eq!((rests.until(now), rests.until(end)), (Some(end), None));
    }
}
