//! The protocol between services, explored: every state that small worlds can come to, with the code that runs.

use std::io::Write as _;

use factum_sim::explore::{Explored, Explorer};

mod bounds;
mod check;
mod mutation;
mod operator;
mod owner;
mod relay;
mod story;
mod topic;
mod world;
mod worlds;

use bounds::Bounds;
use world::World;

/// More states than any world has that is explored in each run: at 100 bytes each, 0.3 GB.
const STATES_MAX: usize = 3_000_000;

fn explore(bounds: Bounds) -> Explored {
    let (name, faults, records) = (bounds.name, bounds.faults, bounds.records.len());
    let explored = Explorer {
        states_max: STATES_MAX,
    }
    .explore(&World::beginnings(bounds));
    let explored =
        explored.unwrap_or_else(|story| panic!("{name}; {records} records; {faults}:\n{story}"));
    let Explored {
        states,
        steps,
        depth,
        ends,
        complete,
    } = explored;
    let kind = if complete { "complete" } else { "cut" };
    // Past the test runner's capture, so that a run's log says what was explored.
    let _ = writeln!(
        std::io::stderr(),
        "explored {name}; {records} records; {faults}: {states} states, {steps} steps, depth {depth}, {ends} ends, {kind}"
    );
    explored
}

/// Larger worlds are explored with `FACTUM_EXPLORE=deep`.
fn is_deep() -> bool {
    std::env::var("FACTUM_EXPLORE").is_ok_and(|depth| depth == "deep")
}

fn explore_all(all: Vec<Bounds>) {
    for bounds in all {
        explore(bounds);
    }
}

#[test]
fn publishing() {
    explore_all(worlds::publishing(is_deep()));
}

#[test]
fn middle() {
    explore_all(worlds::middle(is_deep()));
}

#[test]
fn restore() {
    explore_all(worlds::restore(is_deep()));
}

#[test]
fn consuming() {
    explore_all(worlds::consuming(is_deep()));
}

#[test]
fn together() {
    explore_all(worlds::together(is_deep()));
}

#[test]
fn incidents() {
    explore_all(worlds::incidents());
}

/// Each mutation breaks a rule, with all rules and with those of harm alone.
#[test]
fn mutations() {
    for mutation in mutation::Mutation::ALL {
        for harm_only in [false, true] {
            let bounds = Bounds {
                harm_only,
                ..worlds::mutated(mutation)
            };
            let found = Explorer {
                states_max: STATES_MAX,
            }
            .explore(&World::beginnings(bounds));
            match found {
                Ok(explored) => panic!("{mutation:?}: not found in {explored:?}"),
                Err(story) => println!("{mutation:?}:\n{story}"),
            }
        }
    }
}
