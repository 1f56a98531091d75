//! Virtual time that goes on over lives, and randomness from the story's seed.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use factum_core::{Env, Source, Timestamp};
use tokio::time::Instant;

/// When stories begin: 2026-01-01T00:00:00Z.
const BEGINNING_MICROS: i64 = 1_767_225_600_000_000;

/// The time and chance of a story. Within a life it follows the executor's virtual time; lives follow each other.
///
/// What it shows may [jump](SimClock::jump), as a real clock does when somebody sets it: waits go on meanwhile.
#[derive(Clone, Debug)]
pub struct SimClock(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    /// The time at which the present life began.
    base: Timestamp,
    /// When it began, for the executor.
    began: Option<Instant>,
    /// The latest time that was ever shown.
    latest: Timestamp,
    random: fastrand::Rng,
}

impl SimClock {
    /// The time and chance of the story of `seed`.
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(Inner {
            base: Timestamp::from_micros(BEGINNING_MICROS),
            began: None,
            latest: Timestamp::from_micros(BEGINNING_MICROS),
            random: fastrand::Rng::with_seed(seed),
        })))
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A life begins. Called on its executor.
    pub(crate) fn begin(&self) {
        self.inner().began = Some(Instant::now());
    }

    /// The life has ended; the next one begins a second later.
    pub(crate) fn end(&self, lived: Duration) {
        let mut inner = self.inner();
        inner.base = inner.base + lived + Duration::from_secs(1);
        inner.began = None;
    }

    /// How long the present life has lasted.
    pub(crate) fn lived(&self) -> Duration {
        self.inner()
            .began
            .map_or(Duration::ZERO, |began| began.elapsed())
    }

    /// Sets the clock on by so many seconds, or back.
    pub fn jump(&self, seconds: i64) {
        let mut inner = self.inner();
        let micros = seconds.saturating_mul(1_000_000);
        inner.base = Timestamp::from_micros(inner.base.as_micros().saturating_add(micros));
    }

    /// Sets the clock right: if it was set back, it shows no time any more that it has shown before.
    pub fn set_right(&self) {
        let now = self.now();
        let mut inner = self.inner();
        let behind = inner.latest.since(now);
        inner.base = inner.base + behind;
    }

    /// How long the story has gone on by the clock on its wall, lives and what lies between them.
    pub fn lasted(&self) -> Duration {
        self.now().since(Timestamp::from_micros(BEGINNING_MICROS))
    }

    /// The environment that the application gets.
    pub fn env(&self) -> Env {
        Env::new(self.clone())
    }
}

impl Source for SimClock {
    fn now(&self) -> Timestamp {
        let mut inner = self.inner();
        let now = inner.base + inner.began.map_or(Duration::ZERO, |began| began.elapsed());
        inner.latest = inner.latest.max(now);
        now
    }

    fn random(&self) -> u64 {
        self.inner().random.u64(..)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_was_set_back_is_set_right_again() {
        let clock = SimClock::new(1);
        let before = clock.now();
        clock.jump(-3_600);
        assert_eq!(before.since(clock.now()), Duration::from_hours(1));
        clock.set_right();
        assert_eq!(clock.now(), before);
        clock.jump(60);
        clock.set_right();
        assert_eq!(clock.now().since(before), Duration::from_mins(1));
    }
}
