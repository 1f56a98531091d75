//! Where things lead without further faults: to an end, and to a good one.

use super::{AGAIN, Counterexample, ENDS_WELL, Graph, Origin, Violation, World, index, story};

/// Why the course of events does not come to a good end.
pub(super) enum Astray {
    /// It can go round for ever: these states, one after another.
    Circle(Vec<u32>),
    /// No good end can be reached from this state.
    Lost(u32),
}

impl Graph {
    fn from(&self, state: u32) -> &[u32] {
        let first = match state {
            0 => 0,
            _ => self.bounds[state as usize - 1],
        };
        &self.targets[first as usize..self.bounds[state as usize] as usize]
    }

    /// The same steps from their targets' side.
    fn reversed(&self) -> Self {
        let states = self.bounds.len();
        let mut bounds = vec![0_u32; states + 1];
        for target in &self.targets {
            bounds[(target & !AGAIN) as usize + 1] += 1;
        }
        for state in 0..states {
            bounds[state + 1] += bounds[state];
        }
        let mut free = bounds.clone();
        let mut targets = vec![0; self.targets.len()];
        for state in 0..index(states) {
            for target in self.from(state) {
                let place = &mut free[(target & !AGAIN) as usize];
                targets[*place as usize] = state | target & AGAIN;
                *place += 1;
            }
        }
        bounds.remove(0);
        Self {
            bounds,
            targets,
            ends: Vec::new(),
        }
    }

    /// Looks whether every course of events comes to one of the ends.
    pub(super) fn check(&self) -> Result<(), Astray> {
        let reversed = self.reversed();
        self.check_circles(&reversed)?;
        let mut reached = vec![false; self.bounds.len()];
        let mut todo = self.ends.clone();
        for end in &self.ends {
            reached[*end as usize] = true;
        }
        while let Some(state) = todo.pop() {
            for before in reversed.from(state) {
                let before = before & !AGAIN;
                if !std::mem::replace(&mut reached[before as usize], true) {
                    todo.push(before);
                }
            }
        }
        match reached.iter().position(|reached| !reached) {
            Some(lost) => Err(Astray::Lost(index(lost))),
            None => Ok(()),
        }
    }

    /// Looks for a circle of steps that are no mere attempts: takes away, again and again, states without such steps.
    fn check_circles(&self, reversed: &Self) -> Result<(), Astray> {
        let goes_on = |target: &&u32| **target & AGAIN == 0;
        let mut open: Vec<u32> = (0..index(self.bounds.len()))
            .map(|state| index(self.from(state).iter().filter(goes_on).count()))
            .collect();
        let mut todo: Vec<u32> = (0..index(open.len()))
            .filter(|state| open[*state as usize] == 0)
            .collect();
        while let Some(state) = todo.pop() {
            for before in reversed.from(state).iter().filter(goes_on) {
                let open = &mut open[*before as usize];
                *open -= 1;
                if *open == 0 {
                    todo.push(*before);
                }
            }
        }
        let Some(first) = open.iter().position(|open| *open > 0) else {
            return Ok(());
        };
        // Whatever is left leads to a circle: follow it until a state comes again.
        let mut way = vec![index(first)];
        loop {
            let last = way[way.len() - 1];
            let left = self.from(last).iter().filter(goes_on);
            let next = left.copied().find(|target| open[*target as usize] > 0);
            let next = next.expect("a state that is left has a step to another that is left");
            if let Some(begins) = way.iter().position(|state| *state == next) {
                way.drain(..begins);
                way.push(next);
                return Err(Astray::Circle(way));
            }
            way.push(next);
        }
    }
}

impl Astray {
    /// The story of it.
    pub(super) fn tell<W: World>(self, beginnings: &[W], origins: &[Origin]) -> Counterexample {
        match self {
            Self::Lost(state) => {
                let what = "from here no course of events without faults leads to a good end";
                let violation = Violation::new(ENDS_WELL, what);
                story::broken(beginnings, origins, state, violation)
            }
            Self::Circle(states) => {
                let (mut steps, mut world) = story::replay(beginnings, origins, states[0]);
                let begins = steps.len() + 1;
                for state in &states[1..] {
                    let (_, there) = story::replay(beginnings, origins, *state);
                    let (step, next) = story::step_to(&world, there.digest())
                        .expect("a step leads from each state of the circle to the next");
                    steps.push(step);
                    world = next;
                }
                let what = format!("from step {begins} on, this goes round for ever");
                Counterexample {
                    steps,
                    violation: Violation::new(ENDS_WELL, what),
                }
            }
        }
    }
}
