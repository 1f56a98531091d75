//! A bounded cache that forgets what was not used lately.

#![expect(
    clippy::disallowed_types,
    reason = "entries are looked up by key only; their order is never seen"
)]

use std::{borrow::Borrow, collections::HashMap, hash::Hash};

use crate::hashing::Keyed;

/// Two generations of entries: what is used moves to the young one, and when that is full, the old one is
/// dropped whole and the young one takes its place. Every step is O(1), and at least the last `capacity / 2`
/// entries used are kept.
#[derive(Debug)]
pub(crate) struct Recent<K, V> {
    young: HashMap<K, V, Keyed>,
    old: HashMap<K, V, Keyed>,
    half: usize,
}

impl<K: Eq + Hash, V> Recent<K, V> {
    /// A cache of at most `capacity` entries.
    pub(crate) fn at_most(capacity: usize) -> Self {
        Self {
            young: HashMap::default(),
            old: HashMap::default(),
            half: (capacity / 2).max(1),
        }
    }

    /// The value of `key`, if it is remembered.
    pub(crate) fn get<Q>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        if !self.young.contains_key(key)
            && let Some((key, value)) = self.old.remove_entry(key)
        {
            self.put(key, value);
        }
        self.young.get_mut(key)
    }

    /// Remembers a value.
    pub(crate) fn put(&mut self, key: K, value: V) {
        if self.young.len() >= self.half {
            self.old = std::mem::take(&mut self.young);
        }
        self.old.remove(&key);
        self.young.insert(key, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_stays_and_the_rest_is_forgotten_within_the_bound() {
        let mut recent = Recent::at_most(8);
        for number in 0..100 {
            recent.put(number, number * 2);
            assert_eq!(recent.get(&0), Some(&mut 0), "0 is used all the time");
            assert!(recent.young.len() + recent.old.len() <= 8);
        }
        assert_eq!(recent.get(&99), Some(&mut 198));
        assert_eq!(recent.get(&50), None);
    }
}
