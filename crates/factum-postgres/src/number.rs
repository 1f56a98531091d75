//! Numbers as PostgreSQL keeps them: signed.

use factum_core::{At, Epoch, Fence, OwnerEpoch, Position, Timestamp};

/// `number` as a `bigint`: the same 64 bits. Counters never come near the sign.
pub(crate) const fn signed(number: u64) -> i64 {
    number.cast_signed()
}

/// A time as a `bigint`.
pub(crate) const fn micros(time: Timestamp) -> i64 {
    time.as_micros()
}

/// A bound of rows as a `bigint`.
pub(crate) fn rows(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

/// A count of partitions, or the number of one, as an `integer`: there are far fewer than 2^31.
pub(crate) fn small(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

/// A place from its two columns.
pub(crate) const fn place(epoch: i64, position: i64) -> At {
    At {
        epoch: Epoch(epoch.cast_unsigned()),
        position: Position(position.cast_unsigned()),
    }
}

/// A fence from its two columns.
pub(crate) const fn fence(epoch: i64, owner: i64) -> Fence {
    Fence {
        store: Epoch(epoch.cast_unsigned()),
        owner: OwnerEpoch(owner.cast_unsigned()),
    }
}
