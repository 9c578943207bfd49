//! How many offers may be out at once. A window that is too long lets what was offered first go before what has become more
//! urgent, or whose turn it is; one that is too short lets workers wait.
//!
//! Neither time nor rate tells which it is: an answer takes long because workers are busy, or because the database is. But workers
//! know, and each claim says how many its worker wants to be out. The window is the sum of that. What nobody answers
//! halves it for a while: the workers are gone, or drown.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;
use uuid::Uuid;

/// For a worker of which nothing was heard yet: a quarter of its slots, between these. One that was not heard for a while gets what it
/// wanted last, and no more than that quarter.
const START: [usize; 2] = [1, 32];
/// At least so many while nobody was heard yet, and after offers that nobody answered.
const MIN: usize = 4;
/// At most so many.
const MAX: usize = 2_000;
/// While there are rests between rounds: for one worker, or all its slots;
const RESTING_EACH: usize = 32;
/// and for all of them, or four for each.
const RESTING_ALL: usize = 256;
/// After so long what a worker said is old: its handlers may be others.
const OLD: Duration = Duration::from_secs(1);
/// The smallest part of the window that unanswered offers leave.
const PART_MIN: f64 = 1.0 / 64.0;
/// What an answer makes of that part.
const PART_MORE: f64 = 1.25;

/// What is known of a worker.
#[derive(Clone, Copy, Debug)]
struct Worker {
    slots: usize,
    want: usize,
    heard: Option<Instant>,
}

impl Worker {
    fn wants(&self, now: Instant) -> usize {
        let [least, most] = START;
        let start = (self.slots / 4).clamp(least, most);
        match self.heard {
            Some(at) if now.saturating_duration_since(at) < OLD => self.want,
            Some(_) => self.want.min(start),
            None => start,
        }
    }
}

/// The window, by what workers say.
#[derive(Debug)]
pub struct Window {
    workers: HashMap<Uuid, Worker>,
    part: f64,
}

impl Default for Window {
    /// A window that knows of nobody.
    fn default() -> Self {
        Self {
            workers: HashMap::new(),
            part: 1.0,
        }
    }
}

impl Window {
    /// A claim was answered: so many offers this session wants to be out.
    pub fn wanted(&mut self, session: Uuid, offers: usize, now: Instant) {
        self.part = (self.part * PART_MORE).min(1.0);
        if let Some(worker) = self.workers.get_mut(&session) {
            worker.want = offers;
            worker.heard = Some(now);
        } else {
            let worker = Worker {
                slots: 0,
                want: offers,
                heard: Some(now),
            };
            self.workers.insert(session, worker);
        }
    }

    /// Offers were answered by nobody for too long.
    pub fn unanswered(&mut self) {
        self.part = (self.part / 2.0).max(PART_MIN);
    }

    /// These are the sessions that there are, with their slots.
    pub fn sessions(&mut self, sessions: Vec<(Uuid, usize)>) {
        let mut before = std::mem::take(&mut self.workers);
        for (session, slots) in sessions {
            let worker = before.remove(&session).unwrap_or(Worker {
                slots,
                want: 0,
                heard: None,
            });
            self.workers.insert(session, Worker { slots, ..worker });
        }
    }

    /// How many workers there are.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.workers.len()
    }

    /// How many may be out; fewer while the dispatcher `rests` between rounds.
    #[must_use]
    pub fn size(&self, now: Instant, rests: bool) -> usize {
        let count = self.workers.len();
        let all: usize = match rests {
            true => {
                let limits = self.workers.values().map(|worker| {
                    let most = RESTING_EACH.max(worker.slots);
                    worker.wants(now).min(most)
                });
                limits.sum::<usize>().min(RESTING_ALL.max(4 * count))
            }
            false => self.workers.values().map(|worker| worker.wants(now)).sum(),
        };
        // While no worker was heard a few; afterwards one, however little they want: whoever comes next waits for no more than it.
        let least = if self.workers.values().all(|worker| worker.heard.is_none()) {
            MIN
        } else {
            1
        };
        let all = all.max(least).min(MAX);
        ((all as f64 * self.part) as usize).max(all.min(MIN))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_what_workers_want_as_long_as_they_said_so_lately() {
        let (mut window, now) = (Window::default(), Instant::now());
        assert_eq!(window.size(now, false), MIN);
        let [one, two] = [Uuid::new_v4(), Uuid::new_v4()];
        window.sessions(vec![(one, 5), (two, 100)]);
        assert_eq!(window.size(now, false), 1 + 25);
        window.wanted(one, 300, now);
        window.wanted(two, 7, now);
        assert_eq!(window.size(now, false), 307);
        // One waits behind handlers that last: whoever comes next waits for no more than it.
        window.wanted(one, 1, now);
        window.wanted(two, 0, now);
        assert_eq!(window.size(now, false), 1);
        window.wanted(one, 5_000, now);
        assert_eq!(window.size(now, false), MAX);
        assert_eq!(window.size(now, true), RESTING_EACH);
        assert_eq!(window.size(now + OLD, false), 1);
        window.sessions(vec![(two, 100)]);
        assert_eq!(window.size(now, false), 1);
    }

    #[test]
    fn what_nobody_answers_halves_it_until_somebody_does() {
        let (mut window, now) = (Window::default(), Instant::now());
        let one = Uuid::new_v4();
        window.wanted(one, 640, now);
        window.unanswered();
        assert_eq!(window.size(now, false), 320);
        for _ in 0..20 {
            window.unanswered();
        }
        assert_eq!(window.size(now, false), 10);
        for _ in 0..20 {
            window.wanted(one, 640, now);
        }
        assert_eq!(window.size(now, false), 640);
    }
}
