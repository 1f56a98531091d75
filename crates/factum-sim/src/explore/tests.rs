//! The explorer finds what is there: all states of a small world, the shortest way to a fault, dead ends, circles.

use super::*;

/// A token on a line of places: it walks on, may be thrown back, and must come to the end.
#[derive(Clone, Debug, Hash)]
struct Walk {
    place: u8,
    throws: u8,
    /// What is wrong with this world.
    flaw: Flaw,
}

#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
enum Flaw {
    None,
    /// Place 7 must not be entered by the long way.
    Forbidden,
    /// Nothing leads on from place 5.
    Hole,
    /// From place 6 it goes back to 4 by itself.
    Circle,
    /// At place 5 it only tries, for ever.
    Vain,
}

const END: u8 = 9;

impl World for Walk {
    type Step = String;

    fn digest(&self) -> u128 {
        Digest::of(self)
    }

    fn steps(&self, visit: &mut impl FnMut(Next<Self>)) {
        let mut go = |kind, place: u8, throws| {
            let world = Self {
                place,
                throws,
                flaw: self.flaw,
            };
            let forbidden = self.flaw == Flaw::Forbidden && place == 7 && self.place == 6;
            visit(Next {
                step: format!("from {} to {place}", self.place),
                kind,
                world: if forbidden {
                    Err(Violation::new("seven", "entered"))
                } else {
                    Ok(world)
                },
            });
        };
        if self.throws > 0 && self.place > 0 {
            go(Kind::Fault, 0, self.throws - 1);
        }
        match self.place {
            5 if self.flaw == Flaw::Hole => {}
            5 if self.flaw == Flaw::Vain => go(Kind::Again, 5, self.throws),
            5 => {
                // An attempt that comes to nothing, beside a way out.
                go(Kind::Again, 5, self.throws);
                go(Kind::Course, 6, self.throws);
            }
            6 if self.flaw == Flaw::Circle => {
                go(Kind::Course, 4, self.throws);
                go(Kind::Course, 7, self.throws);
            }
            END => {}
            place => go(Kind::Course, place + 1, self.throws),
        }
    }

    fn check(&self) -> Result<(), Violation> {
        Ok(())
    }

    fn ended(&self) -> Result<(), String> {
        match self.place {
            END => Ok(()),
            place => Err(format!("it stands at {place}")),
        }
    }
}

fn explore(flaw: Flaw) -> Result<Explored, Counterexample> {
    let walk = Walk {
        place: 0,
        throws: 2,
        flaw,
    };
    Explorer { states_max: 1_000 }.explore(&[walk.clone(), walk])
}

#[test]
fn every_state_is_found_once() {
    let explored = explore(Flaw::None).unwrap();
    let expected = Explored {
        states: 30,
        steps: 27 + 3 + 18,
        depth: 13,
        ends: 3,
        complete: true,
    };
    assert_eq!(explored, expected);
}

#[test]
fn a_broken_rule_is_told_with_its_shortest_story() {
    let found = explore(Flaw::Forbidden).unwrap_err();
    assert_eq!(found.violation.rule, "seven");
    assert_eq!(found.steps.len(), 7);
    let story = found.to_string();
    assert!(story.starts_with("   1. from 0 to 1\n"), "{story}");
    assert!(
        story.ends_with("   7. from 6 to 7\nbroken: seven: entered"),
        "{story}"
    );
}

#[test]
fn a_dead_end_a_circle_and_vain_attempts_do_not_end_well() {
    for (flaw, steps, what) in [
        (
            Flaw::Hole,
            5,
            "nothing more happens by itself, but it stands at 5",
        ),
        (Flaw::Circle, 7, "from step 1 on, this goes round for ever"),
        (
            Flaw::Vain,
            0,
            "from here no course of events without faults leads to a good end",
        ),
    ] {
        let found = explore(flaw).unwrap_err();
        assert_eq!(
            found.violation,
            Violation::new(ENDS_WELL, what.replace("step 1", &format!("step {}", 5))),
            "{found}"
        );
        assert_eq!(found.steps.len(), steps, "{found}");
    }
}

#[test]
fn a_cut_exploration_says_so() {
    let walk = Walk {
        place: 0,
        throws: 200,
        flaw: Flaw::None,
    };
    let explored = Explorer { states_max: 50 }.explore(&[walk]).unwrap();
    assert!(!explored.complete);
    assert!(explored.states > 50 && explored.states < 100);
}
