//! How many offers may be out at once. A window that is too long lets what was offered first go before what has become more
//! urgent, or whose turn it is; one that is too short lets workers wait.
//!
//! Neither time nor rate tells which it is: an answer takes long because workers are busy, or because the database is. But workers
//! know. Each claim says whether there was room for more: if so, and all that the window allows was out, it grows by a quarter; if
//! not, some of it only waits, and it shrinks a little, down to one. What nobody answers halves it: the workers are gone, or drown.

/// What it is while nothing is known, and what it is again as soon as there is room: so many, and a quarter of the slots that there are.
const START: usize = 4;
/// Slots beyond four times this do not widen that.
const START_MAX: usize = 32;
/// Never less than one for each worker, up to so many: whoever has one slot never has room for more.
const WORKERS_MAX: usize = 256;
/// At most so many.
const MAX: usize = 2_000;
/// What a claim with room makes of it.
const WIDER: f64 = 1.25;
/// What a claim without room makes of it.
const NARROWER: f64 = 0.95;

/// The window, by what claims say.
#[derive(Debug)]
pub struct Window {
    size: f64,
    least: usize,
    start: usize,
}

impl Default for Window {
    /// A window that knows of nothing.
    fn default() -> Self {
        Self {
            size: START as f64,
            least: 1,
            start: START,
        }
    }
}

impl Window {
    /// A claim was answered: whether it had room for more, and whether all that the window allows `was_out`.
    pub fn claimed(&mut self, room: bool, was_out: bool) {
        self.size = match (room, was_out) {
            (true, true) => (self.size * WIDER).clamp(self.start as f64, MAX as f64),
            (true, false) => self.size.max(self.start as f64),
            (false, _) => (self.size * NARROWER).max(1.0),
        };
    }

    /// Offers were answered by nobody for too long.
    pub fn unanswered(&mut self) {
        self.size = (self.size / 2.0).max(1.0);
    }

    /// There are so many workers, with so many slots together.
    pub fn slots(&mut self, workers: usize, slots: usize) {
        self.least = workers.clamp(1, WORKERS_MAX);
        self.start = (slots / 4).clamp(START, START_MAX).max(self.least);
    }

    /// How many may be out.
    #[must_use]
    pub fn size(&self) -> usize {
        (self.size as usize).max(self.least)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_grows_while_workers_have_room_and_shrinks_while_they_have_none() {
        let mut window = Window::default();
        assert_eq!(window.size(), START);
        for _ in 0..100 {
            window.claimed(true, true);
        }
        assert_eq!(window.size(), MAX);
        for _ in 0..200 {
            window.claimed(false, true);
        }
        // One waits behind handlers that last: whoever comes next waits for no more than it.
        assert_eq!(window.size(), 1);
        window.claimed(true, true);
        assert_eq!(window.size(), START);
        for _ in 0..100 {
            window.claimed(true, true);
        }
        for _ in 0..20 {
            window.unanswered();
        }
        assert_eq!(window.size(), 1);
    }

    #[test]
    fn it_does_not_grow_while_nothing_else_waits() {
        let mut window = Window::default();
        for _ in 0..100 {
            window.claimed(true, false);
        }
        assert_eq!(window.size(), START);
    }

    #[test]
    fn slots_widen_its_start_and_workers_its_least_up_to_a_bound() {
        let mut window = Window::default();
        for (workers, slots, start, least) in [
            (1, 5, START, 1),
            (4, 40, 10, 4),
            (4, 10_000, START_MAX, 4),
            (100, 100, 100, 100),
            (1_000, 1_000, WORKERS_MAX, WORKERS_MAX),
        ] {
            window.slots(workers, slots);
            window.claimed(true, false);
            assert_eq!(window.size(), start, "{workers} workers, {slots} slots");
            for _ in 0..200 {
                window.claimed(false, true);
            }
            assert_eq!(window.size(), least, "{workers} workers, {slots} slots");
        }
    }
}
