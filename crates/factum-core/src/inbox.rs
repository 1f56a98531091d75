//! The inbox row: which messages of a partition a group has finished, in one small row.
//!
//! All offsets below `low` are finished or parked; a bitmap says which above it are. The row is computed
//! when a commit is applied, from the row that the commit before it left, and written whole; the only
//! thing compared is the fence. Nothing here depends on what a handler did, so the row can't be wrong
//! because a handler was.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{
    AcceptedLoss, At, Error, Fence, Group, Lasts, Link, Loss, PassedOffsets, RetiredSource, Start,
    Timestamp, Topic, chain::SOURCES_MAX,
};

/// How many offsets above `low` may be finished before it: the bound of the bitmap, and so of the row.
pub const WINDOW_MAX: u64 = 4096;

/// Which inbox: a group's row for one partition of a topic.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct InboxId {
    /// The consumer group.
    pub group: Group,
    /// The topic.
    pub topic: Topic,
    /// The partition.
    pub partition: u32,
}

impl fmt::Display for InboxId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.group, self.topic, self.partition)
    }
}

/// What the owner saw at an offset: a pure consequence of the partition's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Seen {
    /// From this offset on, up to its own, the broker has no other message: its own offset, if there is no hole.
    pub from: u64,
    /// The offset.
    pub offset: u64,
    /// Whether no handler runs for it: a duplicate, a premature one, or one of a type that nobody in the group handles.
    pub void: bool,
    /// The message's link, if it has one.
    pub link: Option<Link>,
    /// When the message was published.
    pub timestamp: Timestamp,
}

/// All that the owner saw from some offset at or below `low`, one entry for each message, in order, each from where the
/// one before ends: holes, however large, cost nothing.
pub type Advance = Arc<[Seen]>;

/// The attempt mark after an unclean end: what is being tried alone, and how often it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Trying {
    /// The offset that is tried.
    pub offset: u64,
    /// How often, this time included.
    pub tries: u32,
}

/// A finished message, by which a partition is known again: offsets say nothing of the log that they are in, and a topic
/// that was made anew has the same ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Mark {
    /// Its offset.
    pub offset: u64,
    /// When it was published.
    pub timestamp: Timestamp,
}

/// Where a group begins in a partition that it has no row for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Begin {
    /// With the oldest message, or in the middle.
    pub start: Start,
    /// The first offset that it reads.
    pub low: u64,
    /// Where the chains stood before: of a group that begins in the middle. They are stored with the row that is made, once
    /// and for all: looked up at a later claim they would undo what was done meanwhile.
    pub lasts: Lasts,
}

impl Begin {
    /// At offset `low`, of chains of which nothing is known.
    pub fn at(start: Start, low: u64) -> Self {
        Self {
            start,
            low,
            lasts: Lasts::default(),
        }
    }

    /// The row that is made there.
    pub fn row(&self) -> InboxRow {
        InboxRow {
            lasts: self.lasts.clone(),
            ..InboxRow::new(self.start, self.low)
        }
    }
}

/// A group's row for one partition.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct InboxRow {
    /// Who owns it.
    pub fence: Fence,
    /// Where the group started.
    pub start: Start,
    /// All offsets below are finished or parked.
    pub low: u64,
    /// Which of `low`, `low + 1`, … are finished: one bit each, at most [`WINDOW_MAX`].
    pub done: Bits,
    /// The last place of each source as of `low`.
    pub lasts: Lasts,
    /// Whether the last owner released it in good order.
    pub clean: bool,
    /// The attempt mark, after an unclean end.
    pub trying: Option<Trying>,
    /// Of the finished messages, the one with the largest offset; `None` before the first.
    pub mark: Option<Mark>,
}

impl InboxRow {
    /// The row of a group that has not read the partition yet and starts at offset `low`.
    pub fn new(start: Start, low: u64) -> Self {
        Self {
            fence: Fence::default(),
            start,
            low,
            done: Bits::default(),
            lasts: Lasts::default(),
            clean: true,
            trying: None,
            mark: None,
        }
    }

    /// Whether the message at `offset` is finished.
    pub fn is_done(&self, offset: u64) -> bool {
        offset < self.low || self.done.get(offset - self.low)
    }

    /// Marks `offset` as finished, then moves `low` over all that is finished or void, folding each.
    ///
    /// # Errors
    ///
    /// An error of class fatal when `offset` lies outside of the window or is finished already: the owner
    /// has a different picture of the row than the store, which the fence should have made impossible.
    pub fn apply(&mut self, offset: Option<u64>, advance: &[Seen]) -> Result<(), Error> {
        if let Some(offset) = offset {
            if offset >= self.low + WINDOW_MAX || self.is_done(offset) {
                return Err(Error::fatal(format!(
                    "offset {offset} can't be finished: low is {}, the window {WINDOW_MAX}, {}",
                    self.low,
                    if self.is_done(offset) {
                        "and it is finished already"
                    } else {
                        "and it lies beyond"
                    },
                )));
            }
            self.done.set(offset - self.low);
            let at = advance.binary_search_by_key(&offset, |seen| seen.offset);
            if let Ok(index) = at {
                self.know_again_by(&advance[index]);
            }
        }
        let first = advance.partition_point(|seen| seen.offset < self.low);
        let mut finished = 0;
        for seen in &advance[first..] {
            if seen.from > self.low + finished {
                break;
            }
            finished = seen.offset - self.low;
            if !(self.done.get(finished) || seen.void) {
                break;
            }
            self.lasts.fold(self.start, seen.link.as_ref());
            self.know_again_by(seen);
            finished += 1;
        }
        self.low += finished;
        self.done.shift(finished);
        if self
            .trying
            .is_some_and(|trying| self.is_done(trying.offset))
        {
            self.trying = None;
        }
        Ok(())
    }

    fn know_again_by(&mut self, seen: &Seen) {
        let Seen {
            offset, timestamp, ..
        } = *seen;
        if self.mark.is_none_or(|mark| mark.offset < offset) {
            self.mark = Some(Mark { offset, timestamp });
        }
    }

    /// Lets the group go on without what it lost.
    ///
    /// # Errors
    ///
    /// Class poison when the group has come that far already: an older place would let what was done come again; and when
    /// the source is [one too many](SOURCES_MAX). Class
    /// conflict when it does not stand at the place before what is lost: what it is still at work on is not missing,
    /// and must not be taken for a duplicate.
    pub fn accept(&mut self, loss: Loss) -> Result<(), Error> {
        match loss {
            Loss::Missing(loss) => self.go_on_behind(loss),
            Loss::Passed(loss) => self.go_on_at(loss),
            Loss::Retired(loss) => self.retire(loss),
        }
    }

    fn retire(&mut self, RetiredSource { source, last }: RetiredSource) -> Result<(), Error> {
        let known = self.lasts.get(source);
        if known == At::ZERO {
            return Err(Error::poison(format!(
                "nothing was taken from source {source}"
            )));
        }
        if known != last {
            return Err(Error::conflict(format!(
                "source {source} can't be retired at {last}: it goes on, {known} was taken from it"
            )));
        }
        self.lasts.retire(source);
        Ok(())
    }

    /// Moves `low` over what the partition no longer has. What is finished behind that stays finished. The chains stay
    /// where they are: what was not read of them comes again when their relays are set back.
    fn go_on_at(&mut self, PassedOffsets { low, to }: PassedOffsets) -> Result<(), Error> {
        if to <= self.low {
            return Err(Error::poison(format!(
                "the group can't go on at offset {to}: all below {} is finished",
                self.low
            )));
        }
        if low != self.low {
            return Err(Error::conflict(format!(
                "the group can't go on at offset {to}: it was to stand at {low}, and stands at {}",
                self.low
            )));
        }
        // What is marked and finished is parked: it is in the store, whatever the partition has.
        let parked = self.trying.filter(|trying| self.is_done(trying.offset));
        self.done.shift(to - self.low);
        self.low = to;
        self.trying = parked.or(self.trying.filter(|trying| trying.offset >= to));
        Ok(())
    }

    /// Lets a source's chain go on behind a place, whatever is missing before it.
    fn go_on_behind(&mut self, loss: AcceptedLoss) -> Result<(), Error> {
        let AcceptedLoss { source, last, from } = loss;
        let known = self.lasts.get(source);
        if self.lasts.is_too_many_for(source) {
            return Err(Error::poison(format!(
                "the chain of source {source} can't go on behind {from}: the group keeps {SOURCES_MAX} others in mind; \
                 retire one that publishes no more"
            )));
        }
        if from <= known {
            return Err(Error::poison(format!(
                "the chain of source {source} can't go on behind {from}: the last place taken from it is {known}"
            )));
        }
        if known != last {
            return Err(Error::conflict(format!(
                "the chain of source {source} can't go on behind {from} yet: all before {last} was taken, and the group \
                 has finished it up to {known} only"
            )));
        }
        self.lasts.set(source, from);
        Ok(())
    }
}

/// A small set of numbers, as bits.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Bits(Vec<u64>);

impl Bits {
    /// Whether `index` is in the set.
    pub fn get(&self, index: u64) -> bool {
        let word = usize::try_from(index / 64)
            .ok()
            .and_then(|word| self.0.get(word));
        word.is_some_and(|word| word >> (index % 64) & 1 == 1)
    }

    /// Puts `index`, which is below [`WINDOW_MAX`], into the set.
    fn set(&mut self, index: u64) {
        let word = usize::try_from(index / 64).expect("an index is below WINDOW_MAX");
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        self.0[word] |= 1 << (index % 64);
    }

    /// Drops the first `count` numbers and moves the others down.
    fn shift(&mut self, count: u64) {
        let words = usize::try_from(count / 64)
            .unwrap_or(usize::MAX)
            .min(self.0.len());
        self.0.drain(..words);
        let bits = count % 64;
        if bits > 0 {
            for index in 0..self.0.len() {
                let above = self.0.get(index + 1).map_or(0, |next| next << (64 - bits));
                self.0[index] = self.0[index] >> bits | above;
            }
        }
        while self.0.last() == Some(&0) {
            self.0.pop();
        }
    }

    /// The numbers in the set, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u64> + '_ {
        (0..self.0.len() as u64 * 64).filter(|index| self.get(*index))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::StoreId;
    use proptest::prelude::*;
    use uuid::Uuid;

    fn seen(offset: u64, void: bool) -> Seen {
        Seen {
            from: offset,
            offset,
            void,
            link: None,
            timestamp: Timestamp::from_micros(offset.cast_signed() * 3),
        }
    }

    #[test]
    fn low_moves_over_what_is_finished_or_void_and_stops_at_the_first_that_is_not() {
        let mut row = InboxRow::new(Start::Beginning, 10);
        let advance: Vec<_> = (10..15).map(|offset| seen(offset, offset == 11)).collect();
        row.apply(Some(12), &advance).unwrap();
        assert_eq!((row.low, row.is_done(12)), (10, true));
        row.apply(Some(10), &advance).unwrap();
        assert_eq!(row.low, 13);
        assert_eq!(row.done, Bits::default());
    }

    #[test]
    fn low_moves_over_a_hole_of_any_size_and_stops_at_the_message_behind_it() {
        let mut row = InboxRow::new(Start::Beginning, 10);
        let far = 10_000_000;
        let behind = Seen {
            from: 11,
            ..seen(far, false)
        };
        row.apply(None, &[seen(10, false), behind]).unwrap();
        assert_eq!(row.low, 10, "the message before it is not finished");
        row.apply(Some(10), &[seen(10, false), behind]).unwrap();
        assert_eq!(row.low, far);
        row.apply(Some(far), &[behind, seen(far + 2, true)])
            .unwrap();
        assert_eq!(
            row.low,
            far + 1,
            "what lies behind was not seen from there on"
        );
    }

    #[test]
    fn finishing_twice_is_an_error_and_not_a_second_effect() {
        let mut row = InboxRow::new(Start::Beginning, 0);
        row.apply(Some(1), &[]).unwrap();
        assert!(row.apply(Some(1), &[]).unwrap_err().is_fatal());
        assert!(row.apply(Some(WINDOW_MAX), &[]).unwrap_err().is_fatal());
    }

    #[test]
    fn a_group_goes_on_where_the_partition_begins_and_what_it_had_finished_there_stays_finished() {
        let mut row = InboxRow::new(Start::Beginning, 10);
        for offset in [12, 300] {
            row.apply(Some(offset), &[]).unwrap();
        }
        let go_on =
            |row: &mut InboxRow, low, to| row.accept(Loss::Passed(PassedOffsets { low, to }));
        assert!(go_on(&mut row, 9, 200).unwrap_err().is_conflict());
        assert!(go_on(&mut row, 10, 10).unwrap_err().is_poison());

        go_on(&mut row, 10, 299).unwrap();

        assert_eq!(
            (row.low, row.is_done(299), row.is_done(300)),
            (299, false, true)
        );
        let before = row.clone();
        assert!(go_on(&mut row, 10, 299).unwrap_err().is_poison());
        assert_eq!(row, before);
        row.apply(Some(299), &[seen(299, false), seen(300, false)])
            .unwrap();
        assert_eq!(row.low, 301);
    }

    #[test]
    fn going_on_elsewhere_ends_the_mark_of_what_is_gone_and_keeps_that_of_what_is_parked() {
        for (offset, stays) in [(3, true), (12, true), (15, false), (20, true)] {
            let mut row = InboxRow::new(Start::Beginning, 10);
            row.apply(Some(12), &[]).unwrap();
            row.trying = Some(Trying { offset, tries: 2 });
            let passed = PassedOffsets { low: 10, to: 20 };
            row.accept(Loss::Passed(passed)).unwrap();
            assert_eq!(row.trying.is_some(), stays, "offset {offset}");
        }
    }

    /// It went wrong: by accepting a loss a row came to more sources than it may keep.
    #[test]
    fn a_source_too_many_can_not_go_on_until_another_is_retired() {
        let source = |number| StoreId(Uuid::from_u128(number));
        let mut begin = Begin::at(Start::Anchor, 5);
        for number in 0..SOURCES_MAX as u128 {
            begin.lasts.set(source(number), At::new(1, 1));
        }
        let mut row = begin.row();
        let loss = AcceptedLoss {
            source: source(1_000),
            last: At::ZERO,
            from: At::new(1, 9),
        };
        assert!(row.accept(loss.into()).unwrap_err().is_poison());
        assert_eq!(row, begin.row());
        let retired = RetiredSource {
            source: source(7),
            last: At::new(1, 1),
        };
        row.accept(Loss::Retired(retired)).unwrap();
        row.accept(loss.into()).unwrap();
        assert_eq!(row.lasts.get(source(1_000)), At::new(1, 9));
    }

    proptest! {
        /// Whatever the order in which messages finish, low is the first unfinished one, and the
        /// bitmap and a plain set agree.
        #[test]
        fn the_row_agrees_with_a_plain_set(
            order in Just((0_u64..200).collect::<Vec<_>>()).prop_shuffle(),
            voids in proptest::collection::btree_set(0_u64..200, 0..50),
            cut in 0_usize..200,
        ) {
            let advance: Vec<_> = (0..200).map(|offset| seen(offset, voids.contains(&offset))).collect();
            let mut row = InboxRow::new(Start::Beginning, 0);
            let mut finished = voids.clone();
            for offset in order.into_iter().filter(|offset| !voids.contains(offset)).take(cut) {
                row.apply(Some(offset), &advance).unwrap();
                finished.insert(offset);
                let low = (0..=200).find(|offset| !finished.contains(offset)).unwrap();
                prop_assert_eq!(row.low, low);
                // What is void counts as finished only when it is passed over.
                let last = finished.iter().rfind(|offset| **offset < low || !voids.contains(offset));
                prop_assert_eq!(row.mark.map(|mark| mark.offset), last.copied());
                prop_assert!(row.mark.is_none_or(|mark| mark.timestamp == seen(mark.offset, false).timestamp));
                for offset in low..200 {
                    prop_assert_eq!(row.is_done(offset), finished.contains(&offset) && !voids.contains(&offset));
                }
            }
        }
    }
}
