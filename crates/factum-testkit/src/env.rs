//! Time and chance under a test's control.
//!
//! A [`TestEnv`] is a [`Source`]: its clock moves only when told, and its randomness follows from a seed, so
//! that a run can be repeated exactly. It says nothing about timers of the executor; those are tokio's.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use factum_core::{Env, Source, Timestamp};

/// When a manual clock starts, unless told otherwise: 2026-01-01T00:00:00Z, in microseconds.
const START_MICROS: i64 = 1_767_225_600_000_000;

/// A clock that moves only when told. Clones are handles of one clock.
#[derive(Clone, Debug)]
pub struct ManualClock(Arc<Mutex<Timestamp>>);

impl ManualClock {
    /// A clock that shows `now`.
    pub fn starting_at(now: Timestamp) -> Self {
        Self(Arc::new(Mutex::new(now)))
    }

    /// What it shows.
    pub fn now(&self) -> Timestamp {
        self.change(|_| {})
    }

    /// Moves it on, and says what it shows then.
    pub fn advance(&self, duration: Duration) -> Timestamp {
        self.change(|now| *now = *now + duration)
    }

    /// Sets it: clocks jump, back too.
    pub fn set(&self, now: Timestamp) {
        self.change(|shown| *shown = now);
    }

    fn change(&self, change: impl FnOnce(&mut Timestamp)) -> Timestamp {
        // A timestamp is whole whatever its holder did, so a panic elsewhere does not matter here.
        let mut now = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut now);
        *now
    }
}

impl Default for ManualClock {
    fn default() -> Self {
        Self::starting_at(Timestamp::from_micros(START_MICROS))
    }
}

/// An environment under a test's control. Clones are handles of one environment.
///
/// ```
/// use std::time::Duration;
/// use factum_testkit::TestEnv;
/// let test = TestEnv::seeded(7);
/// let env = test.env();
/// let before = env.now();
/// assert_eq!(env.now(), before);
/// test.advance(Duration::from_secs(30));
/// assert_eq!(env.now().since(before), Duration::from_secs(30));
/// // The same seed gives the same ids.
/// assert_eq!(TestEnv::seeded(1).env().uuid(), TestEnv::seeded(1).env().uuid());
/// ```
#[derive(Clone, Debug)]
pub struct TestEnv {
    clock: ManualClock,
    random: Arc<Mutex<fastrand::Rng>>,
    seed: u64,
}

impl TestEnv {
    /// An environment whose randomness follows from `seed`.
    pub fn seeded(seed: u64) -> Self {
        Self::with_clock(seed, ManualClock::default())
    }

    /// An environment that shares its clock with others: several processes of one simulated world.
    pub fn with_clock(seed: u64, clock: ManualClock) -> Self {
        Self {
            clock,
            random: Arc::new(Mutex::new(fastrand::Rng::with_seed(seed))),
            seed,
        }
    }

    /// The environment as code under test takes it.
    pub fn env(&self) -> Env {
        Env::new(self.clone())
    }

    /// Its clock.
    pub fn clock(&self) -> &ManualClock {
        &self.clock
    }

    /// The seed, to be printed when a test fails.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Moves the clock on, and says what it shows then.
    pub fn advance(&self, duration: Duration) -> Timestamp {
        self.clock.advance(duration)
    }

    /// Sets the clock.
    pub fn set(&self, now: Timestamp) {
        self.clock.set(now);
    }
}

impl Source for TestEnv {
    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn random(&self) -> u64 {
        self.random
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .u64(..)
    }
}
