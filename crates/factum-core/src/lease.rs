//! Leases: which process does what only one may do for a store.
//!
//! The relay, the timers and each projection are the work of one process at a time. That a process which was replaced
//! without knowing does no harm is the fence's part: it is compared in every commit. The lease keeps processes from
//! replacing each other: who has it goes on, and who has not waits.
//!
//! There is no time in a lease, since adapters look at no clock and the clocks of two processes differ. Its holder
//! counts it on; who waits measures by its own clock how long it has stood still.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::ProjectionName;

/// What one process at a time does for a store.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Publishing the log.
    Relay,
    /// Firing timers.
    Timers,
    /// Keeping up the rows of a projection as the program with this fingerprint makes them: in a rolling deploy the
    /// rows of two programs are kept up side by side.
    Projection(ProjectionName, String),
}

/// As it is stored: roles that differ differ here.
impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Relay => f.write_str("relay"),
            Self::Timers => f.write_str("timers"),
            Self::Projection(name, fingerprint) => write!(f, "projection/{name}/{fingerprint}"),
        }
    }
}

/// A process, as those who have leases are told apart: drawn when it starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Holder(pub Uuid);

/// Who has a role.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Lease {
    /// Who has it; `None` when it was given back, or nobody ever had it.
    pub holder: Option<Holder>,
    /// Grows by one with each sign of life and each change of hands, from 0.
    pub beat: u64,
}

/// What a process that waits for a lease has seen of it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Watch {
    seen: Option<Lease>,
    silent: Duration,
}

impl Watch {
    /// Whether `lease`, looked at after waiting for so long, is there to be taken: nobody has it, or its holder has
    /// given no sign of life for `term`. What the waiting process itself was asleep for doesn't count.
    pub fn is_free(&mut self, lease: &Lease, waited: Duration, term: Duration) -> bool {
        if lease.holder.is_none() {
            return true;
        }
        if self.seen.replace(*lease) == Some(*lease) {
            self.silent += waited;
        } else {
            self.silent = Duration::ZERO;
        }
        self.silent >= term
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TERM: Duration = Duration::from_secs(5);

    fn held(beat: u64) -> Lease {
        Lease {
            holder: Some(Holder(Uuid::nil())),
            beat,
        }
    }

    fn look(watch: &mut Watch, beat: u64, waited_ms: u64) -> bool {
        watch.is_free(&held(beat), Duration::from_millis(waited_ms), TERM)
    }

    #[test]
    fn a_lease_is_free_when_its_holder_was_silent_for_the_whole_term() {
        let mut watch = Watch::default();
        // What was waited before the first look says nothing about the holder.
        assert!(!look(&mut watch, 7, 60_000));
        assert!(!look(&mut watch, 7, 3_000));
        assert!(!look(&mut watch, 7, 1_999));
        assert!(look(&mut watch, 7, 1));
    }

    #[test]
    fn a_sign_of_life_begins_the_term_anew() {
        let mut watch = Watch::default();
        look(&mut watch, 7, 0);
        assert!(!look(&mut watch, 7, 4_999));
        assert!(!look(&mut watch, 8, 4_999));
        assert!(!look(&mut watch, 8, 4_999));
        assert!(look(&mut watch, 8, 4_999));
    }

    #[test]
    fn what_nobody_has_is_free_at_once() {
        assert!(Watch::default().is_free(&Lease::default(), Duration::ZERO, TERM));
    }

    #[test]
    fn roles_are_stored_under_names_of_their_own() {
        let projection = |name, print: &str| {
            Role::Projection(ProjectionName::of(name), print.into()).to_string()
        };
        assert_eq!(projection("orders", "a1"), "projection/orders/a1");
        assert_ne!(projection("orders", "a1"), projection("orders", "a2"));
        assert_ne!(Role::Relay.to_string(), Role::Timers.to_string());
    }
}
