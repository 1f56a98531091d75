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
#[derive(Clone, Debug)]
pub struct SimClock(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    /// The time at which the present life began.
    base: Timestamp,
    /// When it began, for the executor.
    began: Option<Instant>,
    random: fastrand::Rng,
}

impl SimClock {
    /// The time and chance of the story of `seed`.
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(Inner {
            base: Timestamp::from_micros(BEGINNING_MICROS),
            began: None,
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

    /// The environment that the application gets.
    pub fn env(&self) -> Env {
        Env::new(self.clone())
    }
}

impl Source for SimClock {
    fn now(&self) -> Timestamp {
        let inner = self.inner();
        inner.base + inner.began.map_or(Duration::ZERO, |began| began.elapsed())
    }

    fn random(&self) -> u64 {
        self.inner().random.u64(..)
    }
}
