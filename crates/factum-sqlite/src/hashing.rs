//! A quick hash for the maps in memory, keyed anew in each process.
//!
//! The standard one is made to withstand keys that were chosen to collide, and takes a fifth of the writer's time. This
//! one multiplies and folds, with two secrets that nobody outside can learn: no answer tells how a map is filled.

use std::hash::{BuildHasher, Hasher, RandomState};

/// Makes hashers with the secrets of one map.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Keyed {
    start: u64,
    factor: u64,
}

impl Default for Keyed {
    fn default() -> Self {
        let random = RandomState::new();
        Self {
            start: random.hash_one(0),
            factor: random.hash_one(1) | 1,
        }
    }
}

impl BuildHasher for Keyed {
    type Hasher = Folding;

    fn build_hasher(&self) -> Folding {
        Folding {
            state: self.start,
            factor: self.factor,
        }
    }
}

/// A hash that is being made.
#[derive(Debug)]
pub(crate) struct Folding {
    state: u64,
    factor: u64,
}

impl Folding {
    fn fold(&mut self, word: u64) {
        let product = u128::from(self.state ^ word) * u128::from(self.factor);
        let [low, high] = [product, product >> 64].map(|half| half & u128::from(u64::MAX));
        // Half of 128 bits always fits.
        self.state = u64::try_from(low ^ high).unwrap_or_default();
    }
}

impl Hasher for Folding {
    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.fold(u64::from_le_bytes(*word));
        }
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        // With its length, so that what is filled up with zeros is told from zeros.
        last[7] = u8::try_from(rest.len()).unwrap_or_default();
        self.fold(u64::from_le_bytes(last));
    }

    fn write_u8(&mut self, number: u8) {
        self.fold(number.into());
    }

    fn write_u32(&mut self, number: u32) {
        self.fold(number.into());
    }

    fn write_u64(&mut self, number: u64) {
        self.fold(number);
    }

    fn write_i64(&mut self, number: i64) {
        self.fold(number.cast_unsigned());
    }

    fn write_usize(&mut self, number: usize) {
        self.fold(number as u64);
    }

    fn finish(&self) -> u64 {
        self.state
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn keys_that_are_alike_are_spread_over_all_bits() {
        let keyed = Keyed::default();
        let texts = (0..10_000).map(|number| format!("order-{number}"));
        let hashes: Vec<_> = texts.map(|text| keyed.hash_one(text)).collect();
        let distinct: BTreeSet<_> = hashes.iter().collect();
        assert_eq!(distinct.len(), hashes.len());
        for bit in 0..64 {
            let set = hashes.iter().filter(|hash| *hash >> bit & 1 == 1).count();
            assert!(
                (4_000..6_000).contains(&set),
                "bit {bit} is set in {set} of 10,000"
            );
        }
        let zeros: BTreeSet<_> = (0..8)
            .map(|length| keyed.hash_one(vec![0_u8; length]))
            .collect();
        assert_eq!(zeros.len(), 8);
    }
}
