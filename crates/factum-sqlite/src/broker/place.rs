//! A message's place among those of all partitions: the key of its row.

/// How many bits of a place are the offset: about 10^12 messages in a partition, in 8 million partitions.
const OFFSET_BITS: u32 = 40;

/// The number of a partition, in the upper bits, and the offset of a message in it. Places of one partition
/// follow each other, so that its chunks lie side by side in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place(i64);

impl Place {
    /// The place of `offset` in the partition with this number.
    ///
    /// `None` when either is too large, which takes centuries.
    pub(super) fn new(partition: i64, offset: u64) -> Option<Self> {
        let fits = offset >> OFFSET_BITS == 0 && (0..1 << (63 - OFFSET_BITS)).contains(&partition);
        fits.then(|| Self(partition << OFFSET_BITS | offset.cast_signed()))
    }

    /// The last place of its partition.
    pub(super) fn last(self) -> Self {
        Self(self.0 | ((1 << OFFSET_BITS) - 1))
    }

    /// The place as it is stored.
    pub(super) const fn number(self) -> i64 {
        self.0
    }

    /// The place that was stored as `number`.
    pub(super) const fn stored(number: i64) -> Self {
        Self(number)
    }

    /// The offset in the partition.
    pub(super) const fn offset(self) -> u64 {
        (self.0 & ((1 << OFFSET_BITS) - 1)).cast_unsigned()
    }

    /// The place behind this one.
    pub(super) const fn following(self) -> Self {
        Self(self.0 + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_ordered_by_partition_and_offset() {
        let place = |partition, offset| Place::new(partition, offset).unwrap();
        assert!(place(1, 5) < place(1, 6));
        assert!(place(1, (1 << 40) - 1) < place(2, 0));
        assert_eq!(place(1, 5).last(), place(1, (1 << 40) - 1));
        assert_eq!(Place::stored(place(3, 7).number()).offset(), 7);
    }

    #[test]
    fn what_does_not_fit_has_no_place() {
        assert_eq!(Place::new(1, 1 << 40), None);
        assert_eq!(Place::new(1 << 23, 0), None);
        assert_eq!(Place::new(-1, 0), None);
    }
}
