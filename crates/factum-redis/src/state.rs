//! The state of a projection, as the server keeps it: a hash whose fields say which generation readers see, and of each
//! generation its stamp, its views, its owner and its checkpoint.

use std::collections::BTreeMap;

use factum_core::{
    At, Epoch, Error, Fence, OwnerEpoch, Position, ProjectionState, ViewDefinition, ViewName,
};

use crate::{
    table::{Home, Table},
    value::digits,
};

/// The state of a projection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct State {
    /// The generation that readers see.
    pub(crate) active: Option<u32>,
    pub(crate) generations: BTreeMap<u32, Generation>,
}

/// One generation of a projection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Generation {
    /// Which of all generations that ever had this number; `None` when it has no views.
    pub(crate) stamp: Option<String>,
    pub(crate) views: BTreeMap<ViewName, ViewDefinition>,
    /// `None`: nobody ever claimed it, or it is forgotten.
    pub(crate) fingerprint: Option<String>,
    pub(crate) checkpoint: At,
}

/// How a place in the log is kept: as text whose length is always the same.
pub(crate) fn place(at: At) -> String {
    format!("{}-{}", digits(at.epoch.0), digits(at.position.0))
}

/// A place that [`place`] wrote.
pub(crate) fn read_place(text: &str) -> Option<At> {
    let (epoch, position) = text.split_once('-')?;
    Some(At {
        epoch: Epoch(epoch.parse().ok()?),
        position: Position(position.parse().ok()?),
    })
}

/// A fence of `epoch` whose owner's number the server keeps as text.
pub(crate) fn read_fence(epoch: Epoch, text: &str) -> Option<Fence> {
    Some(Fence {
        store: epoch,
        owner: OwnerEpoch(text.parse().ok()?),
    })
}

/// What is kept is not as it was written.
pub(crate) fn damaged(home: &Home) -> Error {
    Error::fatal(format!(
        "key `{}` of projection `{}` is not as it was written: somebody else has changed it; delete it, and the views are \
         built anew",
        home.state(),
        home.projection
    ))
}

impl State {
    /// Reads the fields of the hash.
    pub(crate) fn read(home: &Home, fields: &BTreeMap<String, String>) -> Result<Self, Error> {
        let mut state = Self::default();
        for (field, value) in fields {
            let broken = || damaged(home);
            if field == "active" {
                state.active = Some(value.parse().map_err(|_| broken())?);
            }
            let Some((generation, what)) = field.split_once('/') else {
                continue;
            };
            let generation = generation.parse().map_err(|_| broken())?;
            let generation: &mut Generation = state.generations.entry(generation).or_default();
            match what.split_once('/') {
                None if what == "made" => generation.stamp = Some(value.clone()),
                None if what == "fingerprint" => generation.fingerprint = Some(value.clone()),
                None if what == "at" => {
                    generation.checkpoint = read_place(value).ok_or_else(broken)?;
                }
                Some(("view", name)) => {
                    let name = ViewName::new(name).map_err(|_| broken())?;
                    let definition = serde_json::from_str(value).map_err(|_| broken())?;
                    generation.views.insert(name, definition);
                }
                _ => {}
            }
        }
        Ok(state)
    }

    /// The generations that somebody claimed and nobody forgot.
    pub(crate) fn projections(self, home: &Home) -> impl Iterator<Item = ProjectionState> {
        self.generations
            .into_iter()
            .filter_map(|(number, generation)| {
                Some(ProjectionState {
                    projection: home.projection.clone(),
                    generation: number,
                    fingerprint: generation.fingerprint?,
                    checkpoint: generation.checkpoint,
                })
            })
    }

    /// The views of a generation.
    pub(crate) fn tables(&self, home: &Home, generation: u32) -> Vec<Table> {
        let Some(known) = self.generations.get(&generation) else {
            return Vec::new();
        };
        let Some(stamp) = &known.stamp else {
            return Vec::new();
        };
        let table = |definition: &ViewDefinition| {
            Table::new(definition.clone(), home.clone(), generation, stamp.clone())
        };
        known.views.values().map(table).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_reads_back_and_its_text_has_the_order_of_places() {
        let places = [
            At::ZERO,
            At::new(1, 9),
            At::new(1, 10),
            At::new(2, 1),
            At::new(u64::MAX, 3),
        ];
        for pair in places.windows(2) {
            assert!(place(pair[0]) < place(pair[1]), "{pair:?}");
            assert_eq!(read_place(&place(pair[1])), Some(pair[1]));
        }
        assert_eq!(read_place("7"), None);
    }
}
