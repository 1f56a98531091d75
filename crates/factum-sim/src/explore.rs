//! Exploration: every state that a small world can come to, in the order of how few steps lead there.
//!
//! A [`World`] is a value. It says which steps are possible, what each leads to, and what must hold. The explorer goes
//! breadth first from the beginnings until no new state is found, so the first violation that it meets has a shortest
//! story. States are told apart by 128 bits of hash, which leaves no room for two that meet by chance.
//!
//! Besides what must hold in each state it looks at where things lead. Steps are of three [`Kind`]s: the course of
//! events, attempts that come to nothing and are made again, and faults. Without further faults every course must come
//! to an end, and every end must be a good one: there is no dead end, no circle, and no state from which no good end
//! can be reached.

use std::fmt;

mod course;
mod digest;
pub use digest::{Digest, Part, Pool};
mod story;
pub use story::Counterexample;

use digest::AsIs;

/// The rule that the explorer itself checks: without further faults, every course of events comes to a good end.
pub const ENDS_WELL: &str = "ends well";

/// A world that is explored.
pub trait World: Clone {
    /// What may happen, in words.
    type Step: fmt::Display;

    /// The hash of all that decides what may happen from here on.
    fn digest(&self) -> u128;

    /// Shares its parts with those worlds that have equal ones.
    fn share(&mut self, _: &mut Pool) {}

    /// Shows every step that is possible now, always in the same order, with what it leads to.
    fn steps(&self, visit: &mut impl FnMut(Next<Self>));

    /// Looks at what must hold in every state.
    ///
    /// # Errors
    ///
    /// The rule that is broken.
    fn check(&self) -> Result<(), Violation>;

    /// Whether it is a good end if nothing more happens by itself.
    ///
    /// # Errors
    ///
    /// What is missing.
    fn ended(&self) -> Result<(), String>;
}

/// A step, and what it leads to.
#[derive(Debug)]
pub struct Next<W: World> {
    /// What happens.
    pub step: W::Step,
    /// Of which kind it is.
    pub kind: Kind,
    /// The world behind it, or the rule that it breaks.
    pub world: Result<W, Violation>,
}

/// Of which kind a step is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Things go their way.
    Course,
    /// An attempt came to nothing and will be made again: a circle of such steps is no livelock as long as another way
    /// leads out of it.
    Again,
    /// Something goes wrong, or a person interferes. It may happen, and never has to.
    Fault,
}

/// A rule that is broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The rule.
    pub rule: &'static str,
    /// What happened.
    pub what: String,
}

impl Violation {
    /// `rule` is broken by this.
    pub fn new(rule: &'static str, what: impl Into<String>) -> Self {
        Self {
            rule,
            what: what.into(),
        }
    }
}

/// How far to explore.
#[derive(Clone, Copy, Debug)]
pub struct Explorer {
    /// The most states that are looked at; beyond them the exploration is cut. Each costs about 100 bytes, besides those
    /// of the last two levels, which are kept whole.
    pub states_max: usize,
}

/// What was explored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Explored {
    /// How many states.
    pub states: usize,
    /// How many steps between them.
    pub steps: usize,
    /// The largest number of steps that is needed to come to one of them.
    pub depth: u32,
    /// In how many of them nothing more happens by itself.
    pub ends: usize,
    /// Whether these are all that there are.
    pub complete: bool,
}

/// Where a state was first come to from: the state before it, and which of its steps. For a beginning, [`NOWHERE`] and
/// which beginning.
#[derive(Clone, Copy)]
struct Origin {
    before: u32,
    nth: u32,
}

const NOWHERE: u32 = u32::MAX;

/// The steps without faults, from each state that was looked at in turn.
#[derive(Default)]
struct Graph {
    /// For each state, where its steps end in `targets`.
    bounds: Vec<u32>,
    /// States, with [`AGAIN`] for attempts that came to nothing.
    targets: Vec<u32>,
    /// States in which nothing more happens by itself, and that is good.
    ends: Vec<u32>,
}

const AGAIN: u32 = 1 << 31;

impl Explorer {
    /// Explores everything that can come of `beginnings`.
    ///
    /// # Errors
    ///
    /// The first violation, with a shortest story that leads to it.
    ///
    /// # Panics
    ///
    /// With more than two thousand million states.
    pub fn explore<W: World>(&self, beginnings: &[W]) -> Result<Explored, Counterexample> {
        #[expect(
            clippy::disallowed_types,
            reason = "it is asked and never listed, so its order can't be seen"
        )]
        let mut known = std::collections::HashMap::<u128, u32, AsIs>::default();
        let mut origins: Vec<Origin> = Vec::new();
        let mut graph = Graph::default();
        let mut explored = Explored::default();
        let mut level: Vec<W> = Vec::new();
        let tell = |origins: &[Origin], state, last: Option<(u32, Violation)>| {
            story::tell(beginnings, origins, state, last)
        };

        for (nth, world) in (0..).zip(beginnings) {
            let next = index(known.len());
            if known.contains_key(&world.digest()) {
                continue;
            }
            known.insert(world.digest(), next);
            origins.push(Origin {
                before: NOWHERE,
                nth,
            });
            if let Err(violation) = world.check() {
                return Err(story::broken(beginnings, &origins, next, violation));
            }
            level.push(world.clone());
        }
        let mut before = 0;
        let mut pool = Pool::default();
        while !level.is_empty() && known.len() <= self.states_max {
            let mut next_level = Vec::new();
            for world in level.drain(..) {
                let mut nth = 0;
                let mut found = None;
                let first = graph.targets.len();
                world.steps(&mut |next: Next<W>| {
                    let this = nth;
                    nth += 1;
                    if found.is_some() {
                        return;
                    }
                    explored.steps += 1;
                    let mut world = match next.world {
                        Ok(world) => world,
                        Err(violation) => {
                            found = Some(tell(&origins, before, Some((this, violation))));
                            return;
                        }
                    };
                    let new = index(known.len());
                    let digest = world.digest();
                    let target = *known.entry(digest).or_insert(new);
                    if target == new {
                        origins.push(Origin { before, nth: this });
                        if let Err(violation) = world.check() {
                            found = Some(story::broken(beginnings, &origins, new, violation));
                            return;
                        }
                        world.share(&mut pool);
                        next_level.push(world);
                    }
                    match next.kind {
                        Kind::Course => graph.targets.push(target),
                        Kind::Again => graph.targets.push(target | AGAIN),
                        Kind::Fault => {}
                    }
                });
                if let Some(found) = found {
                    return Err(found);
                }
                if graph.targets.len() == first {
                    explored.ends += 1;
                    graph.ends.push(before);
                    if let Err(missing) = world.ended() {
                        let what = format!("nothing more happens by itself, but {missing}");
                        let violation = Violation::new(ENDS_WELL, what);
                        return Err(story::broken(beginnings, &origins, before, violation));
                    }
                }
                graph.bounds.push(index(graph.targets.len()));
                before += 1;
            }
            level = next_level;
            pool.sweep();
            if !level.is_empty() {
                explored.depth += 1;
            }
        }
        explored.states = known.len();
        explored.complete = level.is_empty();
        drop(known);
        if explored.complete
            && let Err(astray) = graph.check()
        {
            return Err(astray.tell(beginnings, &origins));
        }
        Ok(explored)
    }
}

fn index(count: usize) -> u32 {
    let index = u32::try_from(count).ok().filter(|index| *index < AGAIN);
    index.expect("an exploration has less than two thousand million states")
}

#[cfg(test)]
mod tests;
