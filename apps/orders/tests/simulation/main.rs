//! The whole order platform on the memory adapters, on one thread, crashed anywhere and restarted each time.
//!
//! Each seed draws its lives, its crash points and what its users do; all ends with every invariant whole. The same
//! seed gives the same story: a failure names its seed, and `SEED=<n>` with `SEEDS=1` tells it again.

mod outside;
mod story;
mod world;

use std::collections::BTreeMap;

use factum_sim::Kind;

use self::story::{Told, tell};

fn number(variable: &str, otherwise: u64) -> u64 {
    std::env::var(variable)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(otherwise)
}

#[test]
fn every_invariant_holds_whatever_crashes_and_wherever() {
    let (from, seeds) = (number("SEED", 1), number("SEEDS", 1_000));
    let mut kinds: BTreeMap<String, Kind> = BTreeMap::new();
    let mut commits = 0;
    for seed in from..from + seeds {
        let told = tell(seed).unwrap_or_else(|broken| {
            panic!("seed {seed}: {broken}\n(tell it again: SEED={seed} SEEDS=1 cargo test -p orders --test simulation)")
        });
        commits += told.steps;
        for (kind, count) in told.kinds {
            let total = kinds.entry(kind).or_default();
            total.passed += count.passed;
            total.crashed += count.crashed;
        }
    }
    if seeds < 1_000 {
        return;
    }
    // Together the seeds crash at every kind of point, before and after.
    let never: Vec<_> = kinds.iter().filter(|(_, kind)| kind.crashed == 0).collect();
    assert!(never.is_empty(), "no life ended at {never:#?}");
    assert!(commits > 100_000, "only {commits} steps were simulated");
}

#[test]
fn the_same_seed_tells_the_same_story() {
    for seed in [1, 7, 42, 1_001] {
        let (one, other) = (tell(seed).unwrap(), tell(seed).unwrap());
        assert_eq!(
            (one.steps, one.trace),
            (other.steps, other.trace),
            "seed {seed}"
        );
    }
    let traces: std::collections::BTreeSet<_> =
        (1..20).map(|seed| tell(seed).unwrap().trace).collect();
    assert_eq!(traces.len(), 19);
}

/// A fault in the platform itself is found: an outside world that charges twice breaks the invariants.
#[test]
fn a_gateway_that_forgets_its_keys_is_found_out() {
    let found = (1..200).any(|seed| story::tell_with(seed, true).is_err());
    assert!(
        found,
        "200 seeds did not notice that cards were charged twice"
    );
}

impl std::fmt::Debug for Told {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} steps, trace {:08x}", self.steps, self.trace)
    }
}
