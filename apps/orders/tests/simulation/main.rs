//! The whole order platform on the memory adapters, on one thread, crashed anywhere and restarted each time.
//!
//! Each seed draws a script: what users do, how many lives there are, what goes wrong in each. In the end all is
//! quiet, and everything holds. The same seed gives the same story: a failure names its seed and is made short, and
//! `cargo xtask simulate --seeds 1 --from <seed>` tells it again. `docs/internals/simulation.md` says what is simulated.

mod campaign;
mod checkers;
mod deeds;
mod outside;
mod plant;
mod report;
mod script;
mod story;
mod world;

use std::collections::BTreeSet;

use self::{
    campaign::Campaign,
    plant::Plant,
    script::Script,
    story::{Told, tell},
};

#[test]
fn every_law_holds_whatever_crashes_and_wherever() {
    let asked = Campaign::asked_for();
    let campaign = asked.unwrap_or_else(Campaign::usual);
    let totals = campaign.run().unwrap_or_else(|broken| panic!("{broken}"));
    assert!(totals.seeds >= campaign.seeds, "{totals:?}");
    if asked.is_some() {
        return;
    }
    // Together the seeds crash at every kind of point, before and after.
    let never: Vec<_> = totals
        .kinds
        .iter()
        .filter(|(_, kind)| kind.crashed == 0)
        .collect();
    assert!(never.is_empty(), "no life ended at {never:#?}");
    assert!(totals.seeds >= 1_000, "only {} seeds", totals.seeds);
    let commits = totals.commits;
    assert!(commits >= 1_000_000, "only {commits} commits");
    // Owners that were stalled woke up, and were kept out.
    for role in ["message", "void", "projection", "relay"] {
        let times = totals.fenced.get(role).copied().unwrap_or(0);
        assert!(times >= 10, "{role}: {:?}", totals.fenced);
    }
    let readings = totals.readings;
    assert!(readings >= 10_000, "only {readings} rows read with a token");
}

/// Whatever can be seen of a story is the same when it is told again: each point that it passes, when what happened,
/// each record and its id, all messages and rows.
#[test]
fn the_same_seed_tells_the_same_story() {
    let told = |seed| match tell(&Script::draw(seed)) {
        Ok(told) => told,
        Err(failure) => panic!("seed {seed}: {failure:#?}"),
    };
    for seed in [1, 7, 42, 1_001] {
        let (one, other) = (told(seed), told(seed));
        assert_eq!(one.journal, other.journal, "seed {seed}");
        let points = |told: &Told| (told.steps, told.trace, told.commits);
        assert_eq!(points(&one), points(&other), "seed {seed}");
        assert_eq!(one.digest(), other.digest(), "seed {seed}");
    }
    let traces: BTreeSet<_> = (1..20).map(|seed| told(seed).trace).collect();
    assert_eq!(traces.len(), 19);
}

/// Each fault that is planted in the world around the platform is found, by a law that it breaks.
#[test]
fn a_world_that_is_wrong_is_found_out() {
    let plants: [_; Plant::ALL.len()] = [
        (Plant::ForgetfulGateway, "invariants"),
        (Plant::LostRecord, "commits whole"),
        (Plant::DoubledRecord, "records once"),
        (Plant::ForgottenInput, "effects once"),
        (Plant::LostEffects, "commits whole"),
        (Plant::LostRow, "views"),
        (Plant::LateRow, "read your writes"),
        (Plant::ZombieOwner, "effects once"),
        (Plant::Reordered, "published whole"),
        (Plant::LostMessage, "published whole"),
    ];
    for (plant, law) in plants {
        let scripts = (1..300).map(|seed| Script {
            plant: Some(plant),
            ..Script::draw(seed)
        });
        let laws = scripts.filter_map(|script| Some(tell(&script).err()?.laws));
        let mut others = Vec::new();
        let found = laws.take(20).any(|laws| {
            others.extend(laws.iter().copied());
            laws.contains(&law)
        });
        assert!(
            found,
            "{plant:?} breaks `{law}`, and was found by {others:?}"
        );
    }
}

/// What a person gets to read of a story that fails: what it takes, and no more.
#[test]
fn a_story_that_fails_is_told_shortly() {
    let script = Script {
        plant: Some(Plant::ForgetfulGateway),
        ..Script::draw(3)
    };
    let failure = tell(&script)
        .err()
        .expect("cards are charged twice in this story");
    let text = report::report(&script, *failure);
    let lines: Vec<_> = text.lines().collect();
    assert!(lines.len() < 30, "{text}");
    assert!(lines[0].starts_with("seed 3 breaks the law `"), "{text}");
    assert!(text.contains("places order-"), "{text}");
    assert!(
        text.contains("simulate --seeds 1 --from 3 --plant ForgetfulGateway"),
        "{text}"
    );
}
