//! The protocol between services, explored: every state that small worlds can come to, with the code that runs.
//!
//! `docs/internals/exploration.md` says what is explored, how to explore more, and what breaks without each rule.

use std::io::Write as _;

use factum_sim::explore::{Counterexample, ENDS_WELL, Explored, Explorer};

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
use mutation::Mutation;
use world::{FENCE, FINISHED, ONCE, ORDER, PICTURE, PUBLISHED, SOUND, World};

/// More states than any world has that is explored in each run: at 100 bytes each, 0.3 GB.
const STATES_MAX: usize = 3_000_000;

/// When larger worlds are asked for: 2.5 GB, and as much again at worst for the worlds of one level.
const STATES_MAX_DEEP: usize = 25_000_000;

/// Larger worlds are explored with `FACTUM_EXPLORE=deep`.
fn is_deep() -> bool {
    std::env::var("FACTUM_EXPLORE").is_ok_and(|depth| depth == "deep")
}

fn explore(bounds: Bounds) -> Result<Explored, Counterexample> {
    let states_max = if is_deep() {
        STATES_MAX_DEEP
    } else {
        STATES_MAX
    };
    Explorer { states_max }.explore(&World::beginnings(bounds))
}

fn explore_all(all: Vec<Bounds>) {
    for bounds in all {
        let title = bounds.to_string();
        let explored = explore(bounds).unwrap_or_else(|story| panic!("{title}:\n{story}"));
        let Explored {
            states,
            steps,
            depth,
            ends,
            complete,
        } = explored;
        // Past the test runner's capture, so that the log of a run says what it has explored.
        writeln!(
            std::io::stderr(),
            "explored {title}: {states} states, {steps} steps, depth {depth}, {ends} ends{}",
            if complete { "" } else { ", cut" }
        )
        .expect("the log of a run can be written");
        assert!(complete || is_deep(), "{title}: there are more states");
    }
}

#[test]
fn relays_publish_each_record_behind_the_one_before_it() {
    explore_all(worlds::publishing(is_deep()));
}

#[test]
fn a_group_that_starts_in_the_middle_misses_nothing_from_there_on() {
    explore_all(worlds::middle(is_deep()));
}

#[test]
fn a_restored_source_publishes_its_new_time_line_and_nothing_of_the_lost_one_behind_it() {
    explore_all(worlds::restore(is_deep()));
}

#[test]
fn owners_make_each_effect_once_and_in_order() {
    explore_all(worlds::consuming(is_deep()));
}

#[test]
fn relays_and_owners_together_make_each_effect_once_and_in_order() {
    explore_all(worlds::together(is_deep()));
}

#[test]
fn what_is_missing_is_mended_by_a_person_without_harm() {
    explore_all(worlds::incidents());
}

/// Each mutation breaks a rule, and does harm as well. The world without it breaks none.
#[test]
fn every_mutation_is_found() {
    use Mutation as M;
    // The rule that is broken first, and the harm that is done.
    let table = [
        (M::M1, PICTURE, ORDER),
        (M::M2, FENCE, SOUND),
        (M::M3, ORDER, ORDER),
        (M::M4, PUBLISHED, ENDS_WELL),
        (M::M5, PUBLISHED, ENDS_WELL),
        (M::M6, PUBLISHED, ENDS_WELL),
        (M::M7, PICTURE, ONCE),
        (M::M8, ORDER, ORDER),
        (M::M9, ORDER, ORDER),
        (M::M10, PICTURE, ENDS_WELL),
        (M::M11, PICTURE, ORDER),
        (M::M12, ORDER, ORDER),
        (M::M13, PUBLISHED, ENDS_WELL),
        (M::M14, PICTURE, FINISHED),
        (M::M15, PICTURE, FINISHED),
        (M::M16, PICTURE, SOUND),
        (M::M17, ENDS_WELL, ENDS_WELL),
        (M::M18, FENCE, ORDER),
        (M::M19, PICTURE, ORDER),
        (M::M20, ENDS_WELL, ENDS_WELL),
        (M::M21, ENDS_WELL, ENDS_WELL),
        (M::M22, PUBLISHED, ENDS_WELL),
    ];
    let mut wrong = Vec::new();
    for (mutation, first, harm) in table {
        let bounds = worlds::mutated(mutation);
        for (harm_only, expected) in [(false, first), (true, harm)] {
            let bounds = Bounds {
                harm_only,
                ..bounds.clone()
            };
            match explore(bounds) {
                Ok(explored) => wrong.push(format!("{mutation:?}: not found in {explored:?}")),
                Err(found) => {
                    println!("{mutation:?}, expected `{expected}`:\n{found}\n");
                    if found.violation.rule != expected {
                        wrong.push(format!("{mutation:?}: expected `{expected}`\n{found}"));
                    }
                }
            }
        }
        let sound = Bounds {
            mutation: None,
            ..bounds
        };
        if let Err(found) = explore(sound) {
            wrong.push(format!("without {mutation:?}:\n{found}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
