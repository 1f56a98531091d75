//! Stories: what happened, step by step, until a rule was broken.

use std::fmt;

use super::{NOWHERE, Next, Origin, Violation, World};

/// A violation, and a shortest story that leads to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counterexample {
    /// What happened, in order.
    pub steps: Vec<String>,
    /// The rule that is broken behind the last step.
    pub violation: Violation,
}

impl fmt::Display for Counterexample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Violation { rule, what } = &self.violation;
        for (number, step) in (1..).zip(&self.steps) {
            writeln!(f, "{number:>4}. {step}")?;
        }
        write!(f, "broken: {rule}: {what}")
    }
}

/// The story that leads to `state`.
pub(super) fn broken<W: World>(
    beginnings: &[W],
    origins: &[Origin],
    state: u32,
    violation: Violation,
) -> Counterexample {
    let (steps, _) = replay(beginnings, origins, state);
    Counterexample { steps, violation }
}

/// The story that leads to `state`, and its last step, which broke a rule.
pub(super) fn tell<W: World>(
    beginnings: &[W],
    origins: &[Origin],
    state: u32,
    last: Option<(u32, Violation)>,
) -> Counterexample {
    let (mut steps, world) = replay(beginnings, origins, state);
    let (nth, violation) = last.expect("a step broke a rule");
    steps.push(step(&world, nth).0);
    Counterexample { steps, violation }
}

/// What led to `state`, in words, and the world there.
pub(super) fn replay<W: World>(
    beginnings: &[W],
    origins: &[Origin],
    state: u32,
) -> (Vec<String>, W) {
    let mut way = Vec::new();
    let mut at = origins[state as usize];
    while at.before != NOWHERE {
        way.push(at.nth);
        at = origins[at.before as usize];
    }
    let mut world = beginnings[at.nth as usize].clone();
    let mut steps = Vec::with_capacity(way.len());
    for nth in way.into_iter().rev() {
        let (text, next) = step(&world, nth);
        steps.push(text);
        world = next.expect("a step that was gone before breaks no rule");
    }
    (steps, world)
}

/// One step of `world` in words, and what it leads to.
fn step<W: World>(world: &W, nth: u32) -> (String, Result<W, Violation>) {
    let mut found = None;
    let mut count = 0;
    world.steps(&mut |next: Next<W>| {
        if count == nth {
            found = Some((next.step.to_string(), next.world));
        }
        count += 1;
    });
    found.expect("a world shows the same steps each time")
}

/// The step from `world` to the world with this digest, in words.
pub(super) fn step_to<W: World>(world: &W, digest: u128) -> Option<(String, W)> {
    let mut found = None;
    world.steps(&mut |next: Next<W>| {
        if found.is_none()
            && let Ok(there) = next.world
            && there.digest() == digest
        {
            found = Some((next.step.to_string(), there));
        }
    });
    found
}
