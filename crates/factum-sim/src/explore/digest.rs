//! Hashes of states: 128 bits, the same in every run, computed for each part of a world when that part changes.

use std::{
    any::Any,
    fmt,
    hash::{BuildHasher, Hash, Hasher},
    ops::Deref,
    sync::Arc,
};

/// A hasher of 128 bits.
///
/// Two lanes of folded multiplications, with different constants (the first digits of pi and of e). It is quick and
/// mixes well; it is no defence against someone who looks for collisions.
#[derive(Clone, Debug)]
pub struct Digest {
    left: u64,
    right: u64,
}

const LEFT: u64 = 0x243f_6a88_85a3_08d3;
const RIGHT: u64 = 0xb7e1_5162_8aed_2a6b;

impl Digest {
    /// The digest of `value`.
    pub fn of(value: &(impl Hash + ?Sized)) -> u128 {
        let mut digest = Self {
            left: LEFT,
            right: RIGHT,
        };
        value.hash(&mut digest);
        let (left, right) = (
            fold(digest.left, RIGHT),
            fold(digest.right ^ digest.left, LEFT),
        );
        u128::from(left) << 64 | u128::from(right)
    }
}

fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    #[expect(
        clippy::cast_possible_truncation,
        reason = "both halves of the product are mixed"
    )]
    let halves = (product as u64, (product >> 64) as u64);
    halves.0 ^ halves.1
}

impl Hasher for Digest {
    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.write_u64(u64::from_le_bytes(*word));
        }
        if !rest.is_empty() {
            let mut word = [0; 8];
            word[..rest.len()].copy_from_slice(rest);
            self.write_u64(u64::from_le_bytes(word) ^ (rest.len() as u64) << 56);
        }
    }

    fn write_u8(&mut self, number: u8) {
        self.write_u64(number.into());
    }

    fn write_u32(&mut self, number: u32) {
        self.write_u64(number.into());
    }

    fn write_u64(&mut self, number: u64) {
        // Added before, so that a zero changes the state as well.
        self.left = fold(self.left.rotate_left(23) ^ number, LEFT).wrapping_add(RIGHT);
        self.right = fold(self.right.rotate_left(41) ^ number, RIGHT).wrapping_add(LEFT);
    }

    fn write_usize(&mut self, number: usize) {
        self.write_u64(number as u64);
    }

    fn finish(&self) -> u64 {
        self.left ^ self.right
    }
}

/// A part of a world: shared between worlds as long as it does not change, and hashed once.
pub struct Part<T>(Arc<(u128, T)>);

impl<T: Hash> Part<T> {
    /// A part with this value.
    pub fn new(value: T) -> Self {
        Self(Arc::new((Digest::of(&value), value)))
    }
}

impl<T: Hash + Clone> Part<T> {
    /// Changes it in this world only.
    pub fn change<R>(&mut self, change: impl FnOnce(&mut T) -> R) -> R {
        let mut value = self.0.1.clone();
        let result = change(&mut value);
        *self = Self::new(value);
        result
    }
}

impl<T> Clone for Part<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Deref for Part<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0.1
    }
}

impl<T> Hash for Part<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(&self.0.0.to_le_bytes());
    }
}

impl<T: fmt::Debug> fmt::Debug for Part<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// The parts of the worlds that wait to be looked at, so that equal ones are kept once.
#[derive(Debug, Default)]
pub struct Pool(
    #[expect(
        clippy::disallowed_types,
        reason = "it is asked and never listed, so its order can't be seen"
    )]
    std::collections::HashMap<u128, Arc<dyn Any + Send + Sync>, AsIs>,
);

impl Pool {
    /// Puts the part that is kept in place of an equal one.
    pub fn share<T: Send + Sync + 'static>(&mut self, part: &mut Part<T>) {
        let known = self.0.entry(part.0.0).or_insert_with(|| part.0.clone());
        // Parts of two types may have one digest, as empty ones do: then the second is not shared.
        if let Ok(known) = known.clone().downcast() {
            part.0 = known;
        }
    }

    /// Lets go of what no world has any more.
    pub(super) fn sweep(&mut self) {
        self.0.retain(|_, part| Arc::strong_count(part) > 1);
    }
}

/// Builds hashers for digests, which need no more hashing.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct AsIs(u64);

impl BuildHasher for AsIs {
    type Hasher = Self;

    fn build_hasher(&self) -> Self {
        Self(0)
    }
}

impl Hasher for AsIs {
    fn write(&mut self, bytes: &[u8]) {
        if let Some(word) = bytes.first_chunk() {
            self.0 = u64::from_le_bytes(*word);
        }
    }

    fn write_u128(&mut self, number: u128) {
        self.write(&number.to_le_bytes());
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn what_differs_has_another_digest() {
        let mut digests = BTreeSet::new();
        for number in 0..10_000_u64 {
            digests.insert(Digest::of(&number));
            digests.insert(Digest::of(&(number, 0_u64)));
            digests.insert(Digest::of(&(0_u64, number + 1)));
            digests.insert(Digest::of(number.to_string().as_str()));
        }
        // (0, 0) is counted once.
        assert_eq!(digests.len(), 40_000);
    }

    #[test]
    fn a_part_changes_in_one_world_only_and_comes_back_to_its_digest() {
        let one = Part::new(vec![1, 2]);
        let mut other = one.clone();
        other.change(|list| list.push(3));
        assert_eq!((&*one, &*other), (&vec![1, 2], &vec![1, 2, 3]));
        assert_ne!(Digest::of(&one), Digest::of(&other));
        other.change(Vec::pop);
        assert_eq!(Digest::of(&one), Digest::of(&other));
    }
}
