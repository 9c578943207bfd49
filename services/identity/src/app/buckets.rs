//! Token buckets by key, in bounded memory.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A bucket per key. Time is the caller's, so that tests can hold it.
#[derive(Debug)]
pub struct Buckets<K> {
    capacity: f64,
    per_second: f64,
    keys_max: usize,
    buckets: Mutex<HashMap<K, Bucket>>,
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    tokens: f64,
    at: Instant,
}

impl<K: Eq + Hash + Clone> Buckets<K> {
    /// Buckets that hold `capacity` tokens and get `per_second` new ones; at most `keys_max` are remembered.
    #[must_use]
    pub fn new(capacity: u32, per_second: f64, keys_max: usize) -> Self {
        Self {
            capacity: capacity.into(),
            per_second,
            keys_max,
            buckets: Mutex::default(),
        }
    }

    /// Takes a token.
    ///
    /// # Errors
    /// How long until there is one.
    pub fn take(&self, key: &K, now: Instant) -> Result<(), Duration> {
        let mut buckets = self.lock();
        let mut bucket = self.filled(buckets.get(key).copied(), now);
        if bucket.tokens < 1.0 {
            let wait = (1.0 - bucket.tokens) / self.per_second;
            return Err(Duration::from_secs_f64(wait));
        }
        bucket.tokens -= 1.0;
        if buckets.len() >= self.keys_max && !buckets.contains_key(key) {
            buckets.retain(|_, bucket| self.filled(Some(*bucket), now).tokens < self.capacity);
            // Full of keys that are under way: forgetting all is kinder than growing or refusing everybody.
            if buckets.len() >= self.keys_max {
                buckets.clear();
            }
        }
        buckets.insert(key.clone(), bucket);
        Ok(())
    }

    /// Puts a token back.
    pub fn give_back(&self, key: &K) {
        if let Some(bucket) = self.lock().get_mut(key) {
            bucket.tokens = (bucket.tokens + 1.0).min(self.capacity);
        }
    }

    fn filled(&self, bucket: Option<Bucket>, now: Instant) -> Bucket {
        let tokens = bucket.map_or(self.capacity, |bucket| {
            let gained = now.saturating_duration_since(bucket.at).as_secs_f64() * self.per_second;
            (bucket.tokens + gained).min(self.capacity)
        });
        Bucket { tokens, at: now }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<K, Bucket>> {
        // Nothing panics while the lock is held; if something did, the map is still whole.
        self.buckets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_empties_and_fills_again() {
        let buckets = Buckets::new(10, 10.0 / 60.0, 100);
        let now = Instant::now();
        for _ in 0..10 {
            assert_eq!(buckets.take(&"a", now), Ok(()));
        }
        let wait = buckets.take(&"a", now).map_err(|wait| wait.as_secs());
        assert!(matches!(wait, Err(5..=6)), "{wait:?}");
        assert_eq!(buckets.take(&"b", now), Ok(()));
        assert_eq!(
            buckets.take(&"a", now + Duration::from_millis(6_100)),
            Ok(())
        );
        buckets.give_back(&"a");
        assert_eq!(
            buckets.take(&"a", now + Duration::from_millis(6_100)),
            Ok(())
        );
    }

    #[test]
    fn memory_is_bounded() {
        let buckets = Buckets::new(1, 1.0, 10);
        let now = Instant::now();
        for key in 0..1_000 {
            assert_eq!(buckets.take(&key, now), Ok(()));
        }
        assert!(buckets.lock().len() <= 10);
    }
}
