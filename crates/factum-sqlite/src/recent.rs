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

    /// What `see` makes of the value of `key`, if it is remembered.
    pub(crate) fn get<Q, T>(&mut self, key: &Q, see: impl FnOnce(&mut V) -> T) -> Option<T>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        if let Some(value) = self.young.get_mut(key) {
            return Some(see(value));
        }
        let (key, mut value) = self.old.remove_entry(key)?;
        let seen = see(&mut value);
        self.put(key, value);
        Some(seen)
    }

    /// Remembers a value.
    pub(crate) fn put(&mut self, key: K, value: V) {
        if self.young.len() >= self.half {
            self.old = std::mem::take(&mut self.young);
        }
        // An older value may stay among the old ones: it is not read again, and goes with them.
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
            assert_eq!(
                recent.get(&0, |value| *value),
                Some(0),
                "0 is used all the time"
            );
            assert!(recent.young.len() + recent.old.len() <= 8);
        }
        assert_eq!(recent.get(&99, |value| *value), Some(198));
        assert_eq!(recent.get(&50, |value| *value), None);
        for number in 0..100 {
            recent.put(7, number);
            recent.put(number + 100, number);
            assert_eq!(
                recent.get(&7, |value| *value),
                Some(number),
                "never an older one"
            );
        }
    }
}
