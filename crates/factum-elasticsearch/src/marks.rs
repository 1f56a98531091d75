//! How far the rows of an index have come, and how far queries show them, as this process knows it.
//!
//! An index may go back: a copy that was behind became the first. Then what queries showed once says nothing about the rows
//! that come again, so nothing is remembered of it beyond that. That it may have is told by a checkpoint that is lower than
//! before, or by another primary term in which the state was written.

use factum_core::At;

/// The marks of an index.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Marks {
    /// The furthest checkpoint that was seen.
    applied: At,
    /// The checkpoint that was seen last.
    checkpoint: At,
    /// The primary term in which that was written.
    term: u64,
    /// How often it may have gone back.
    turns: u64,
    /// Queries show all up to here.
    searchable: At,
    /// Queries have to show all up to here.
    wanted: At,
    /// How often they still had to when it went back.
    owed: u64,
    /// How many of these they have shown.
    owed_shown: u64,
    /// How often rows may have been written that queries don't show.
    writes: u64,
    /// How many of these they show.
    writes_shown: u64,
}

impl Marks {
    /// Those of an index that is new to this process: what was written before, by whomever, may not be shown yet.
    pub(crate) fn new() -> Self {
        Self {
            writes: 1,
            ..Self::default()
        }
    }

    /// Notes a checkpoint, and the primary term in which it was written.
    pub(crate) fn note(&mut self, checkpoint: At, term: u64) {
        if term < self.term {
            return; // It was read before the last.
        }
        if checkpoint < self.applied || term > self.term {
            self.turns += 1;
            self.owed += u64::from(self.wanted > self.searchable);
            (self.searchable, self.wanted) = (At::ZERO, At::ZERO);
        }
        (self.checkpoint, self.term) = (checkpoint, term);
        self.applied = self.applied.max(checkpoint);
    }

    /// The furthest checkpoint that this process has seen.
    pub(crate) fn applied(&self) -> At {
        self.applied
    }

    /// Notes that queries have to show all up to `at`, which is written.
    pub(crate) fn want(&mut self, at: At) {
        self.wanted = self.wanted.max(at);
    }

    /// Whether queries show what they have to.
    pub(crate) fn show_wanted(&self) -> bool {
        self.wanted <= self.searchable && self.owed_shown >= self.owed
    }

    /// Notes that rows may have been written which queries don't show.
    pub(crate) fn wrote(&mut self) {
        self.writes += 1;
    }

    /// Whether queries show all that was written before these marks were taken.
    pub(crate) fn show_all_of(&self, before: &Self) -> bool {
        self.writes_shown >= before.writes
    }

    /// Notes that queries show all that was there when the marks were `before`.
    pub(crate) fn shown(&mut self, before: &Self) {
        self.owed_shown = self.owed_shown.max(before.owed);
        self.writes_shown = self.writes_shown.max(before.writes);
        if self.turns == before.turns {
            let shown = before.wanted.max(before.checkpoint);
            self.searchable = self.searchable.max(shown);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(position: u64) -> At {
        At::new(1, position)
    }

    /// An index that has come to 5, and shows it.
    fn shown() -> Marks {
        let mut marks = Marks::new();
        marks.note(at(5), 1);
        marks.want(at(5));
        assert!(!marks.show_wanted());
        let before = marks;
        marks.shown(&before);
        assert!(marks.show_wanted());
        marks
    }

    #[test]
    fn what_is_shown_is_wanted_at_no_cost() {
        let mut marks = shown();
        for position in [1, 5] {
            marks.want(at(position));
            assert!(marks.show_wanted());
        }
        // Beyond the checkpoint there was nothing to write, and it is looked at once.
        marks.want(at(7));
        assert!(!marks.show_wanted());
        let before = marks;
        marks.shown(&before);
        marks.want(at(7));
        assert!(marks.show_wanted());
    }

    #[test]
    fn what_was_wanted_while_rows_were_made_searchable_is_not_shown_by_that() {
        let mut marks = shown();
        marks.note(at(7), 1);
        marks.want(at(6));
        let before = marks;
        marks.want(at(7));
        marks.note(at(8), 1);
        marks.shown(&before);
        assert!(marks.show_wanted(), "it was written before");
        let before = marks;
        marks.want(at(8));
        assert!(!marks.show_wanted());
        marks.shown(&before);
        assert!(marks.show_wanted(), "so was this");
        let before = marks;
        marks.note(at(9), 1);
        marks.want(at(9));
        marks.shown(&before);
        assert!(!marks.show_wanted());
    }

    /// Queries did without what came again, since they had shown it once.
    #[test]
    fn what_comes_again_after_a_loss_is_not_taken_for_shown() {
        // Seen as a lower checkpoint, or as another term alone: somebody else has written all of it again.
        for (seen, term) in [(Some(at(3)), 1), (None, 2)] {
            let mut marks = shown();
            if let Some(lower) = seen {
                marks.note(lower, 1);
                // Shown in between: not what comes afterwards.
                let before = marks;
                marks.shown(&before);
            }
            marks.note(at(5), term);
            marks.want(at(5));
            assert!(!marks.show_wanted(), "{seen:?}");
        }
    }

    #[test]
    fn rows_that_were_made_searchable_before_a_loss_are_not_taken_for_those_behind_it() {
        let mut marks = shown();
        let before = marks;
        marks.note(at(3), 1);
        marks.shown(&before);
        marks.note(at(5), 1);
        marks.want(at(5));
        assert!(!marks.show_wanted());
    }

    #[test]
    fn what_was_read_before_a_loss_and_heard_behind_it_changes_nothing() {
        let mut marks = shown();
        marks.note(at(3), 2);
        marks.note(at(5), 1);
        let before = marks;
        marks.shown(&before);
        marks.note(at(5), 2);
        marks.want(at(5));
        assert!(!marks.show_wanted());
        assert_eq!(marks.applied(), at(5));
    }

    #[test]
    fn who_was_about_to_read_when_the_index_went_back_still_refreshes() {
        let mut marks = shown();
        marks.note(at(6), 1);
        marks.want(at(6));
        marks.note(at(6), 2);
        assert!(!marks.show_wanted());
    }
}
