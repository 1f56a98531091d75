//! Timers: the rows and their order by due time.

use std::collections::{BTreeMap, BTreeSet};

use factum_core::{CommitError, Timer, TimerInput, TimerWrite, Timestamp};

/// All timers that are set.
#[derive(Clone, Default)]
pub(super) struct Timers {
    rows: BTreeMap<String, Timer>,
    due: BTreeSet<(Timestamp, String)>,
    /// Counts settings of all timers together: one that is cancelled and set again must not get the
    /// generation that it had before, or a firing decided on the old one would take the new one.
    generation: u64,
    /// Grows with each change.
    pub(super) changes: u64,
}

impl Timers {
    /// Refuses to fire a timer that is not set as its owner saw it.
    pub(super) fn check(&self, input: &TimerInput) -> Result<(), CommitError> {
        let known = self
            .rows
            .get(&input.id)
            .is_some_and(|timer| timer.generation == input.generation);
        if known {
            Ok(())
        } else {
            Err(CommitError::TimerChanged(input.id.clone()))
        }
    }

    /// Removes a timer that has fired or was cancelled.
    pub(super) fn remove(&mut self, id: &str) {
        if let Some(timer) = self.rows.remove(id) {
            self.due.remove(&(timer.due, timer.id));
            self.changes += 1;
        }
    }

    /// Sets or cancels a timer.
    pub(super) fn write(&mut self, write: TimerWrite) {
        match write {
            TimerWrite::Cancel { id } => self.remove(&id),
            TimerWrite::Set { id, due, payload } => {
                self.remove(&id);
                self.generation += 1;
                self.changes += 1;
                self.due.insert((due, id.clone()));
                let timer = Timer {
                    id: id.clone(),
                    generation: self.generation,
                    due,
                    payload,
                };
                self.rows.insert(id, timer);
            }
        }
    }

    /// Those that come due first.
    pub(super) fn next(&self, limit: usize) -> Vec<Timer> {
        self.due
            .iter()
            .take(limit)
            .map(|(_, id)| self.rows[id].clone())
            .collect()
    }
}
