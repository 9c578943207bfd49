//! Seeded randomness: a failing run can be played again.

/// A small generator (xorshift64*, Vigna 2016).
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// From the seed in `DASHFLEET_SEED`, else from a new one; it is printed.
    #[must_use]
    pub fn announced(what: &str) -> Self {
        let seed = std::env::var("DASHFLEET_SEED")
            .ok()
            .and_then(|seed| seed.parse().ok())
            .unwrap_or_else(|| uuid::Uuid::new_v4().as_u64_pair().0 | 1);
        println!("{what}: DASHFLEET_SEED={seed}");
        Self(seed)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) % end
    }

    /// One of several.
    ///
    /// # Panics
    /// When there are none.
    pub fn choose<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        let index = self.below(items.len() as u64) as usize;
        items.get(index).expect("one of them")
    }
}
