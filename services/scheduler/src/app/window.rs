//! How many offers may be out at once. A window that is too long lets what was offered first go before what has become more
//! urgent, or whose turn it is; one that is too short lets workers wait.
//!
//! Neither time nor rate tells which it is: an answer takes long because workers are busy, or because the database is. But workers
//! know. Each claim says whether there was room for more: if so, and all that the window allows was out, it grows by a quarter; if
//! not, some of it only waits, and it shrinks a little. What nobody answers halves it: the workers are gone, or drown.

/// At least so many, and a quarter of the slots that there are: idle workers are busy after four rounds.
const MIN: usize = 4;
/// Slots beyond four times this do not widen the least window.
const MIN_MAX: usize = 32;
/// One for each worker, up to so many: whoever has one slot never has room for more.
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
}

impl Default for Window {
    /// A window that knows of nothing.
    fn default() -> Self {
        Self {
            size: 0.0,
            least: MIN,
        }
    }
}

impl Window {
    /// A claim was answered: whether it had room for more, and whether all that the window allows `was_out`.
    pub fn claimed(&mut self, room: bool, was_out: bool) {
        let size = self.size.max(self.least as f64);
        self.size = match (room, was_out) {
            (true, true) => (size * WIDER).min(MAX as f64),
            (true, false) => size,
            (false, _) => size * NARROWER,
        };
    }

    /// Offers were answered by nobody for too long.
    pub fn unanswered(&mut self) {
        self.size /= 2.0;
    }

    /// There are so many workers, with so many slots together.
    pub fn slots(&mut self, workers: usize, slots: usize) {
        let least = (slots / 4).clamp(MIN, MIN_MAX);
        self.least = least.max(workers.min(WORKERS_MAX));
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
        assert_eq!(window.size(), MIN);
        for _ in 0..100 {
            window.claimed(true, true);
        }
        assert_eq!(window.size(), MAX);
        for _ in 0..200 {
            window.claimed(false, true);
        }
        assert_eq!(window.size(), MIN);
        for _ in 0..100 {
            window.claimed(true, true);
        }
        for _ in 0..10 {
            window.unanswered();
        }
        assert_eq!(window.size(), MIN);
    }

    #[test]
    fn it_does_not_grow_while_nothing_else_waits() {
        let mut window = Window::default();
        for _ in 0..100 {
            window.claimed(true, false);
        }
        assert_eq!(window.size(), MIN);
    }

    #[test]
    fn slots_widen_it_up_to_a_bound() {
        let mut window = Window::default();
        for (workers, slots, size) in [
            (1, 5, MIN),
            (4, 40, 10),
            (4, 10_000, MIN_MAX),
            (100, 100, 100),
            (1_000, 1_000, WORKERS_MAX),
        ] {
            window.slots(workers, slots);
            assert_eq!(window.size(), size, "{workers} workers, {slots} slots");
        }
    }
}
