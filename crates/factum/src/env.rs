//! The real environment: the system's clock and a generator seeded by the operating system.

use std::time::{SystemTime, UNIX_EPOCH};

use factum_core::{Env, Source, Timestamp};

/// The environment of a real process.
pub fn system_env() -> Env {
    Env::new(System)
}

struct System;

impl Source for System {
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the one place where the real clock is read"
    )]
    fn now(&self) -> Timestamp {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Timestamp::from_micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "this is the one place where randomness is drawn"
    )]
    fn random(&self) -> u64 {
        fastrand::u64(..)
    }
}
