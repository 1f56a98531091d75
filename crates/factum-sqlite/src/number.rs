//! Numbers as the file keeps them: signed, and grouped by store.

use factum_core::{Position, Timestamp};

/// How many bits of a number count within a store: 2^40 records are a year at 34,000 a second.
const WITHIN_STORE_BITS: u32 = 40;

/// How many stores one file can hold: what is left of 63 bits, and one bit in reserve.
pub(crate) const STORES_MAX: i64 = 1 << 22;

/// The number `n` of the store `store`.
pub(crate) const fn numbered(store: i64, n: u64) -> i64 {
    (store << WITHIN_STORE_BITS) | n.cast_signed()
}

/// The number within its store.
pub(crate) const fn within_store(number: i64) -> u64 {
    (number & ((1 << WITHIN_STORE_BITS) - 1)).cast_unsigned()
}

/// The first number of `store`, and the last.
pub(crate) const fn range(store: i64) -> (i64, i64) {
    (numbered(store, 0), numbered(store + 1, 0) - 1)
}

/// The key of the record at `position`. Positions beyond what fits in 40 bits stay behind all that exist.
pub(crate) fn record_key(store: i64, position: Position) -> i64 {
    numbered(store, position.0.min((1 << WITHIN_STORE_BITS) - 1))
}

/// The position of the record with this key.
pub(crate) const fn position(key: i64) -> Position {
    Position(within_store(key))
}

/// `number` as the file keeps it: the same 64 bits. Counters never come near the sign.
pub(crate) const fn signed(number: u64) -> i64 {
    number.cast_signed()
}

/// A time as the file keeps it.
pub(crate) const fn micros(time: Timestamp) -> i64 {
    time.as_micros()
}
