//! A map of bounded size that keeps what was used lately: two generations, of which the older is forgotten as a whole
//! when the younger is full. Every step is constant on average, whatever a stranger feeds it.

use std::collections::HashMap;
use std::hash::Hash;

/// The map.
#[derive(Debug)]
pub struct Recent<K, V> {
    young: HashMap<K, V>,
    old: HashMap<K, V>,
    generation: usize,
}

impl<K: Eq + Hash, V> Recent<K, V> {
    /// A map of at most `capacity` entries; the latest half of them is never forgotten.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self {
            young: HashMap::new(),
            old: HashMap::new(),
            generation: (capacity / 2).max(1),
        }
    }

    /// The entry, which counts as a use.
    pub fn get(&mut self, key: &K) -> Option<&mut V>
    where
        K: Clone,
    {
        if let Some((key, value)) = self.old.remove_entry(key) {
            self.insert(key, value);
        }
        self.young.get_mut(key)
    }

    /// Puts an entry.
    pub fn insert(&mut self, key: K, value: V) {
        if self.young.len() >= self.generation && !self.young.contains_key(&key) {
            self.old = std::mem::take(&mut self.young);
        }
        self.old.remove(&key);
        self.young.insert(key, value);
    }

    /// Takes an entry out.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        self.young.remove(key).or_else(|| self.old.remove(key))
    }

    /// Keeps the entries for which `keep` says so.
    pub fn retain(&mut self, mut keep: impl FnMut(&mut V) -> bool) {
        self.young.retain(|_, value| keep(value));
        self.old.retain(|_, value| keep(value));
    }

    /// How many entries there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.young.is_empty() && self.old.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_never_grows_beyond_its_capacity_and_keeps_what_is_used() {
        let mut recent = Recent::new(100);
        recent.insert(0, "used");
        for key in 1..10_000 {
            recent.insert(key, "once");
            assert!(recent.len() <= 100);
            assert_eq!(recent.get(&0), Some(&mut "used"), "after {key}");
            assert!(recent.get(&key).is_some());
        }
    }

    #[test]
    fn what_is_removed_or_not_kept_is_gone() {
        let mut recent = Recent::new(4);
        for key in 0..4 {
            recent.insert(key, key);
        }
        recent.remove(&0);
        recent.retain(|value| *value != 3);
        assert!(recent.get(&0).is_none() && recent.get(&3).is_none());
        assert!(recent.get(&1).is_some() && recent.get(&2).is_some());
        assert!(!recent.is_empty());
    }
}
