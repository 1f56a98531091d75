//! Generations of projections: their owners and checkpoints.
//!
//! The rows of a store are few, so the writer keeps them in memory, and writes a checkpoint that moved once for a
//! whole group of commits.

use std::collections::BTreeMap;

use factum_core::{
    At, Epoch, Error, Fence, OwnerEpoch, Position, ProjectionClaim, ProjectionName, ProjectionState,
};
use rusqlite::{Connection, params};

use crate::{
    error::{Doing, damaged},
    inbox::raised,
    number::signed,
};

/// One generation of a projection.
#[derive(Clone, Debug)]
pub(crate) struct Projection {
    pub(crate) fence: Fence,
    pub(crate) checkpoint: At,
    /// `None` when the generation was forgotten: only its fence is kept, so that no owner gets it back.
    pub(crate) fingerprint: Option<String>,
    changed: bool,
}

/// All generations of one store.
#[derive(Debug)]
pub(crate) struct Projections {
    store: i64,
    rows: BTreeMap<(ProjectionName, u32), Projection>,
}

impl Projections {
    /// Those of the store `store`.
    pub(crate) fn load(connection: &Connection, store: i64) -> Result<Self, Error> {
        Ok(Self {
            store,
            rows: read(connection, store)?,
        })
    }

    /// A generation that is not forgotten.
    pub(crate) fn get(&self, projection: &ProjectionName, generation: u32) -> Option<&Projection> {
        let row = self.rows.get(&(projection.clone(), generation));
        row.filter(|row| row.fingerprint.is_some())
    }

    /// Moves a checkpoint, to be written with the group.
    pub(crate) fn advance(&mut self, projection: ProjectionName, generation: u32, to: At) {
        let row = self
            .rows
            .get_mut(&(projection, generation))
            .expect("its fence was compared before");
        row.checkpoint = to;
        row.changed = true;
    }

    /// Claims a generation.
    pub(crate) fn claim(
        &mut self,
        projection: &ProjectionName,
        generation: u32,
        fingerprint: &str,
        epoch: Epoch,
    ) -> ProjectionClaim {
        let row = self
            .rows
            .entry((projection.clone(), generation))
            .or_insert_with(|| Projection {
                fence: Fence::default(),
                checkpoint: At::ZERO,
                fingerprint: None,
                changed: false,
            });
        row.fence = raised(row.fence, epoch);
        if row.fingerprint.as_deref() != Some(fingerprint) {
            row.checkpoint = At::ZERO;
            row.fingerprint = Some(fingerprint.into());
        }
        row.changed = true;
        ProjectionClaim {
            fence: row.fence,
            checkpoint: row.checkpoint,
        }
    }

    /// Forgets a generation.
    pub(crate) fn forget(&mut self, projection: &ProjectionName, generation: u32) {
        if let Some(row) = self.rows.get_mut(&(projection.clone(), generation)) {
            row.fingerprint = None;
            row.changed = true;
        }
    }

    /// Moves checkpoints beyond `head` back to it.
    pub(crate) fn move_back(&mut self, head: At) {
        for row in self
            .rows
            .values_mut()
            .filter(|row| row.checkpoint.position > head.position)
        {
            row.checkpoint = head;
            row.changed = true;
        }
    }

    /// Writes the rows that have changed.
    pub(crate) fn flush(&mut self, connection: &Connection) -> Result<(), Error> {
        for ((projection, generation), row) in self.rows.iter_mut().filter(|(_, row)| row.changed) {
            connection
                .prepare_cached(
                    "INSERT INTO projections VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) \
                     ON CONFLICT (store, projection, generation) DO UPDATE SET fence_epoch = excluded.fence_epoch, \
                     fence_owner = excluded.fence_owner, checkpoint_epoch = excluded.checkpoint_epoch, \
                     checkpoint_position = excluded.checkpoint_position, fingerprint = excluded.fingerprint",
                )
                .and_then(|mut statement| {
                    statement.execute(params![
                        self.store,
                        projection.as_str(),
                        generation,
                        signed(row.fence.store.0),
                        signed(row.fence.owner.0),
                        signed(row.checkpoint.epoch.0),
                        signed(row.checkpoint.position.0),
                        row.fingerprint,
                    ])
                })
                .doing("write a projection's checkpoint")?;
            row.changed = false;
        }
        Ok(())
    }
}

/// All generations that are not forgotten.
pub(crate) fn states(connection: &Connection, store: i64) -> Result<Vec<ProjectionState>, Error> {
    let rows = read(connection, store)?.into_iter();
    let state = |((projection, generation), row): ((ProjectionName, u32), Projection)| {
        let fingerprint = row.fingerprint?;
        Some(ProjectionState {
            projection,
            generation,
            fingerprint,
            checkpoint: row.checkpoint,
        })
    };
    Ok(rows.filter_map(state).collect())
}

fn read(
    connection: &Connection,
    store: i64,
) -> Result<BTreeMap<(ProjectionName, u32), Projection>, Error> {
    const WHAT: &str = "read projections";
    let mut statement = connection
        .prepare_cached(
            "SELECT projection, generation, fence_epoch, fence_owner, checkpoint_epoch, checkpoint_position, \
             fingerprint FROM projections WHERE store = ?1",
        )
        .doing(WHAT)?;
    let mut rows = statement.query([store]).doing(WHAT)?;
    let mut projections = BTreeMap::new();
    while let Some(row) = rows.next().doing(WHAT)? {
        let name: String = row.get(0).doing(WHAT)?;
        let name =
            ProjectionName::new(&name).map_err(|_| damaged(format!("projection `{name}`")))?;
        let unsigned = |index| row.get::<_, i64>(index).map(i64::cast_unsigned).doing(WHAT);
        let projection = Projection {
            fence: Fence {
                store: Epoch(unsigned(2)?),
                owner: OwnerEpoch(unsigned(3)?),
            },
            checkpoint: At {
                epoch: Epoch(unsigned(4)?),
                position: Position(unsigned(5)?),
            },
            fingerprint: row.get(6).doing(WHAT)?,
            changed: false,
        };
        projections.insert((name, row.get(1).doing(WHAT)?), projection);
    }
    Ok(projections)
}
