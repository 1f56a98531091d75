//! Which generation of a projection's rows is kept up, which is built, and which go: a function of what is stored.
//!
//! So a process that dies at any point of a rebuild is followed by one that goes on where it was: the half-built
//! generation is itself the note that a rebuild is under way.

use std::collections::BTreeSet;

use factum_core::ProjectionState;

/// The fingerprint of a generation whose rows go: nobody's, so that what a death leaves of them is never gone on with.
pub(super) const DROPPED: &str = "dropped";

/// What is stored of one projection.
#[derive(Clone, Debug, Default)]
pub(super) struct Stored {
    /// Its generations.
    pub(super) generations: Vec<ProjectionState>,
    /// The one that readers see.
    pub(super) active: Option<u32>,
}

impl Stored {
    /// The state of a generation.
    pub(super) fn state(&self, generation: u32) -> Option<&ProjectionState> {
        self.generations
            .iter()
            .find(|state| state.generation == generation)
    }

    /// The state of the generation that readers see.
    pub(super) fn seen(&self) -> Option<&ProjectionState> {
        self.active.and_then(|active| self.state(active))
    }
}

/// What this program wants.
#[derive(Clone, Debug)]
pub(super) struct Wish<'a> {
    /// The fingerprint of its rows.
    pub(super) fingerprint: &'a str,
    /// Whether rows shall be built anew, whatever is there.
    pub(super) rebuild: bool,
    /// Generations that can't be gone on with: they stand on a lost time line, or failed while they were built.
    pub(super) useless: &'a BTreeSet<u32>,
    /// Whether a newer generation with another fingerprint may be one that another process builds at this moment.
    pub(super) others: bool,
}

/// What is done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    /// The generation that readers see is kept up.
    pub(super) follow: Option<u32>,
    /// This one is built, to take its place.
    pub(super) build: Option<u32>,
    /// These go.
    pub(super) drop: Vec<u32>,
}

/// What to do about `stored`.
pub(super) fn plan(stored: &Stored, wish: &Wish<'_>) -> Plan {
    let is_ours = |state: &&ProjectionState| {
        state.fingerprint == wish.fingerprint && !wish.useless.contains(&state.generation)
    };
    let follow = stored.seen().filter(is_ours).map(|state| state.generation);
    let is_newer = |generation: u32| stored.active.is_none_or(|active| generation > active);
    let ours = stored
        .generations
        .iter()
        .filter(is_ours)
        .map(|state| state.generation);
    let half_built = ours.filter(|generation| is_newer(*generation)).max();
    let last = stored
        .generations
        .iter()
        .map(|state| state.generation)
        .chain(stored.active)
        .max();
    let new = (follow.is_none() || wish.rebuild).then(|| last.unwrap_or(0) + 1);
    let build = half_built.or(new);
    let goes = |state: &&ProjectionState| {
        let generation = state.generation;
        let used = [stored.active, build].contains(&Some(generation));
        // A newer program may be building it at this moment. When it is ready, this one goes instead.
        let others = wish.others
            && ![wish.fingerprint, DROPPED].contains(&&*state.fingerprint)
            && is_newer(generation);
        !used && !others
    };
    let drop = stored
        .generations
        .iter()
        .filter(goes)
        .map(|state| state.generation)
        .collect();
    Plan {
        follow,
        build,
        drop,
    }
}

#[cfg(test)]
mod tests {
    use factum_core::{At, ProjectionName};

    use super::*;

    const OURS: &str = "ours";

    fn check(
        generations: &[(u32, &str)],
        active: Option<u32>,
        change: impl FnOnce(&mut Wish<'_>),
    ) -> Plan {
        let state = |(generation, fingerprint): &(u32, &str)| ProjectionState {
            projection: ProjectionName::of("orders"),
            generation: *generation,
            fingerprint: (*fingerprint).into(),
            checkpoint: At::ZERO,
        };
        let stored = Stored {
            generations: generations.iter().map(state).collect(),
            active,
        };
        let useless = BTreeSet::new();
        let mut wish = Wish {
            fingerprint: OURS,
            rebuild: false,
            useless: &useless,
            others: false,
        };
        change(&mut wish);
        plan(&stored, &wish)
    }

    fn follow(follow: u32) -> Plan {
        Plan {
            follow: Some(follow),
            ..Plan::default()
        }
    }

    fn build(build: u32, drop: &[u32]) -> Plan {
        Plan {
            follow: None,
            build: Some(build),
            drop: drop.into(),
        }
    }

    #[test]
    fn the_first_start_builds_the_first_generation() {
        assert_eq!(check(&[], None, |_| {}), build(1, &[]));
    }

    #[test]
    fn rows_of_this_program_are_kept_up() {
        assert_eq!(check(&[(3, OURS)], Some(3), |_| {}), follow(3));
    }

    #[test]
    fn rows_of_another_program_are_built_anew_beside_it() {
        assert_eq!(check(&[(1, "old")], Some(1), |_| {}), build(2, &[]));
    }

    #[test]
    fn a_half_built_generation_is_gone_on_with_after_a_crash() {
        assert_eq!(
            check(&[(1, "old"), (2, OURS)], Some(1), |_| {}),
            build(2, &[])
        );
        assert_eq!(check(&[(1, OURS)], None, |_| {}), build(1, &[]));
    }

    #[test]
    fn a_generation_whose_rows_were_going_is_not_gone_on_with_whoever_else_builds() {
        for others in [false, true] {
            let stored = [(1, "old"), (2, DROPPED)];
            assert_eq!(
                check(&stored, Some(1), |wish| wish.others = others),
                build(3, &[2])
            );
        }
    }

    #[test]
    fn a_half_built_generation_of_another_program_goes() {
        assert_eq!(
            check(&[(1, "old"), (2, "other")], Some(1), |_| {}),
            build(3, &[2])
        );
    }

    #[test]
    fn a_rebuild_that_was_asked_for_survives_a_crash() {
        let plan = check(&[(1, OURS)], Some(1), |wish| wish.rebuild = true);
        assert_eq!(
            plan,
            Plan {
                build: Some(2),
                ..follow(1)
            }
        );
        // The request is forgotten, the generation is not.
        assert_eq!(
            check(&[(1, OURS), (2, OURS)], Some(1), |_| {}),
            Plan {
                build: Some(2),
                ..follow(1)
            }
        );
    }

    #[test]
    fn old_rows_go_when_new_ones_were_activated() {
        assert_eq!(
            check(&[(1, OURS), (2, OURS)], Some(2), |_| {}),
            Plan {
                drop: vec![1],
                ..follow(2)
            }
        );
    }

    #[test]
    fn what_a_newer_program_builds_beside_us_is_left_alone() {
        let plan = check(&[(1, OURS), (2, "newer")], Some(1), |wish| {
            wish.others = true;
        });
        assert_eq!(plan, follow(1));
    }

    #[test]
    fn a_generation_on_a_lost_time_line_is_built_anew() {
        let useless = BTreeSet::from([1]);
        let stored = Stored {
            generations: vec![ProjectionState {
                projection: ProjectionName::of("orders"),
                generation: 1,
                fingerprint: OURS.into(),
                checkpoint: At::new(1, 15),
            }],
            active: Some(1),
        };
        let wish = Wish {
            fingerprint: OURS,
            rebuild: false,
            useless: &useless,
            others: false,
        };
        assert_eq!(plan(&stored, &wish), build(2, &[]));
    }

    #[test]
    fn rows_without_a_checkpoint_are_built_anew() {
        assert_eq!(check(&[], Some(4), |_| {}), build(5, &[]));
    }
}
