//! Guessing: an aggregate that is not in memory is first taken to be new, and not read.
//!
//! A command that begins an aggregate would else ask the store for a snapshot and events that don't exist. What is
//! decided on a guess is either a first event, which the store commits only when the stream has none, or it is
//! decided again on what is stored; so a wrong guess costs time and nothing else. Kinds of aggregates for which guesses
//! turn out wrong are loaded for a while before the next guess.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU32, Ordering},
};

use factum_core::{Category, StreamId};

use super::{Attempt, Core, deciding::Plan};

/// How many aggregates of a kind are loaded behind a wrong guess before there is another: of a kind that is hardly ever
/// new, one in so many commands is decided twice.
const LOADS_BEHIND_WRONG: u32 = 64;

/// For each kind of aggregate, how many are still to be loaded before the next guess.
pub(super) struct Guesses(BTreeMap<Category, AtomicU32>);

impl Guesses {
    /// No guess was wrong yet.
    pub(super) fn of<'a>(kinds: impl Iterator<Item = &'a Category>) -> Self {
        Self(
            kinds
                .map(|kind| (kind.clone(), AtomicU32::new(0)))
                .collect(),
        )
    }

    /// Whether to guess that an aggregate is new.
    pub(super) fn is_worth_it(&self, stream: &StreamId) -> bool {
        let less = |loads: u32| loads.checked_sub(1);
        self.0.get(stream.category()).is_some_and(|loads| {
            loads
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, less)
                .is_err()
        })
    }

    fn was_wrong(&self, stream: &StreamId) {
        if let Some(loads) = self.0.get(stream.category()) {
            loads.store(LOADS_BEHIND_WRONG, Ordering::Relaxed);
        }
    }
}

impl Core {
    /// Decides again on what is stored.
    pub(super) fn doubt(&self, plan: &Plan) -> Attempt {
        self.note_wrong_guesses(plan.guessed());
        Attempt::Load
    }

    pub(super) fn note_wrong_guesses<'a>(&self, guessed: impl Iterator<Item = &'a StreamId>) {
        guessed.for_each(|stream| self.guesses.was_wrong(stream));
    }
}

impl Plan {
    /// The aggregates that are taken to be new.
    pub(super) fn guessed(&self) -> impl Iterator<Item = &StreamId> {
        let guessed = self.locked.iter().filter(|(_, held)| held.guessed);
        guessed.map(|(stream, _)| stream)
    }

    pub(super) fn has_guess(&self) -> bool {
        self.guessed().next().is_some()
    }

    /// Whether an aggregate is taken to be new, and nothing was decided that the store would refuse if it is not.
    pub(super) fn has_unproven_guess(&self) -> bool {
        let mut locked = self.locked.iter();
        locked.any(|(_, held)| held.guessed && !held.is_changed())
    }
}
