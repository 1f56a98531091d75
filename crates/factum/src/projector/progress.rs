//! How far each projection has come: what queries wait for and operators look at.
//!
//! It lives in memory and repeats what is stored, so that a query need not ask the store again and again. A
//! `Notify` wakes who waits, and not a watch channel, which wakes its receivers in a random order.

use std::{
    collections::BTreeMap,
    fmt,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use factum_core::{At, Position, ProjectionName};
use tokio::sync::Notify;

/// The progress of a service's projections. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Progress {
    parts: Arc<Mutex<BTreeMap<ProjectionName, Arc<Part>>>>,
}

impl Progress {
    /// The progress of one projection.
    pub(crate) fn of(&self, projection: &ProjectionName) -> Arc<Part> {
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        parts.entry(projection.clone()).or_default().clone()
    }
}

/// The progress of one projection, and what is asked of it.
#[derive(Default)]
pub(crate) struct Part {
    standing: Mutex<Standing>,
    changed: Notify,
    request: Mutex<Option<Request>>,
    asked: Notify,
}

/// Where a projection stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Standing {
    /// The generation that readers see; `None` before the first was ready.
    pub(crate) active: Option<Seen>,
    /// Whether that generation goes on: not while rows of another shape are built to take its place.
    pub(crate) followed: bool,
    /// The generation that is being built.
    pub(crate) rebuild: Option<Rebuild>,
    /// Why it has stopped, when it waits for a person.
    pub(crate) failed: Option<String>,
    /// Why the last rebuild came to nothing, while the old rows are kept up.
    pub(crate) rebuild_failed: Option<String>,
}

/// A generation that readers see, and how far it has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) generation: u32,
    pub(crate) reached: At,
}

/// A generation that is being built, and how far it has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rebuild {
    pub(crate) generation: u32,
    pub(crate) reached: Position,
    pub(crate) head: Position,
}

/// What an operator asks of a projection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Request {
    /// Go on where it stopped.
    Resume,
    /// Build all rows anew.
    Rebuild,
}

/// What a projection says to a query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Read this generation.
    Ready(Seen),
    /// It has stopped before it got there.
    Failed(String),
    /// Not yet.
    Later,
}

impl Standing {
    /// Whether the rows show everything up to `target`; without a target, whether there are rows.
    pub(crate) fn answer(&self, target: Option<At>) -> Answer {
        match (self.active, &self.failed) {
            (Some(seen), _) if target.is_none_or(|target| seen.reached >= target) => {
                Answer::Ready(seen)
            }
            (_, Some(reason)) => Answer::Failed(reason.clone()),
            _ => Answer::Later,
        }
    }

    /// Whether queries wait for rows that are being built.
    pub(crate) fn is_rebuilding(&self) -> bool {
        !self.followed
    }
}

impl Part {
    /// Where it stands.
    pub(crate) fn standing(&self) -> Standing {
        self.lock().clone()
    }

    /// Notes where it stands now.
    pub(crate) fn change(&self, change: impl FnOnce(&mut Standing)) {
        let mut standing = self.lock();
        let before = standing.clone();
        change(&mut standing);
        let changed = *standing != before;
        drop(standing);
        if changed {
            self.changed.notify_waiters();
        }
    }

    /// Waits until the rows show everything up to `target`, or never will. Without a target, until there are rows.
    pub(crate) async fn reach(&self, target: Option<At>) -> Result<Seen, String> {
        loop {
            // Register before looking: a change between the look and the wait would be slept through.
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            let answer = self.lock().answer(target);
            match answer {
                Answer::Ready(seen) => return Ok(seen),
                Answer::Failed(reason) => return Err(reason),
                Answer::Later => changed.await,
            }
        }
    }

    /// Whether the rows show everything up to `target`.
    pub(crate) fn has_reached(&self, target: At) -> bool {
        matches!(self.lock().answer(Some(target)), Answer::Ready(_))
    }

    /// Waits until readers see another generation than `generation`.
    pub(crate) async fn left(&self, generation: u32) {
        loop {
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            if self
                .lock()
                .active
                .is_none_or(|seen| seen.generation != generation)
            {
                return;
            }
            changed.await;
        }
    }

    /// Asks something of it. Of two requests that were not taken yet, the greater one counts.
    pub(crate) fn ask(&self, request: Request) {
        let mut asked = self.request();
        *asked = (*asked).max(Some(request));
        drop(asked);
        self.asked.notify_one();
    }

    /// Takes what was asked.
    pub(crate) fn take_request(&self) -> Option<Request> {
        self.request().take()
    }

    /// Whether something is asked.
    pub(crate) fn is_asked(&self) -> bool {
        self.request().is_some()
    }

    /// Waits until something is asked. There is one who waits: the projection itself.
    pub(crate) async fn asked(&self) {
        while !self.is_asked() {
            self.asked.notified().await;
        }
    }

    fn request(&self) -> MutexGuard<'_, Option<Request>> {
        self.request.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, Standing> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Part")
            .field("standing", &self.standing())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(reached: At, failed: Option<&str>) -> Standing {
        let active = Some(Seen {
            generation: 1,
            reached,
        });
        Standing {
            active,
            followed: true,
            failed: failed.map(Into::into),
            ..Standing::default()
        }
    }

    #[test]
    fn what_was_reached_before_a_failure_is_fresh_and_what_was_not_never_will_be() {
        let failed = standing(At::new(1, 7), Some("why"));
        assert!(matches!(
            failed.answer(Some(At::new(1, 7))),
            Answer::Ready(_)
        ));
        assert_eq!(
            failed.answer(Some(At::new(1, 8))),
            Answer::Failed("why".into())
        );
        assert!(matches!(failed.answer(None), Answer::Ready(_)));
    }

    #[test]
    fn a_lost_time_line_never_answers_for_the_new_one() {
        // Position 15 was reached in epoch 1, of which only 10 positions survived.
        assert_eq!(
            standing(At::new(1, 15), None).answer(Some(At::new(2, 12))),
            Answer::Later
        );
    }

    #[test]
    fn a_rebuild_is_more_than_a_resume() {
        let part = Part::default();
        part.ask(Request::Rebuild);
        part.ask(Request::Resume);
        assert_eq!(part.take_request(), Some(Request::Rebuild));
        assert_eq!(part.take_request(), None);
    }
}
