//! Generations of projections: their owners and checkpoints.

use std::collections::BTreeMap;

use factum_core::{At, Error, Fence, ProjectionClaim, ProjectionName, ProjectionState};
use tokio_postgres::Row;

use crate::{
    call::Call,
    error::{column, damaged},
    number::{fence, place, signed},
    schema::Schema,
    text::{escape, unescape},
};

/// One generation of a projection.
#[derive(Clone, Debug)]
pub(crate) struct Projection {
    pub(crate) fence: Fence,
    pub(crate) checkpoint: At,
    /// `None` when the generation was forgotten: only its fence is kept, so that no owner gets it back.
    pub(crate) fingerprint: Option<String>,
}

const COLUMNS: &str = "projection, generation, fence_epoch, fence_owner, checkpoint_epoch, checkpoint_position, fingerprint";

/// Asks for all generations.
pub(crate) fn all(schema: &Schema) -> Call {
    schema.call(&format!(
        "SELECT {COLUMNS} FROM factum.projections ORDER BY projection, generation"
    ))
}

/// Claims a generation, which is made at position 0 if it does not exist.
pub(crate) fn claim(
    schema: &Schema,
    projection: &ProjectionName,
    generation: u32,
    fingerprint: &str,
) -> Call {
    schema
        .call(&format!(
            "SELECT {COLUMNS} FROM factum.claim_projection($1, $2, $3)"
        ))
        .with(projection.as_str().to_string())
        .with(i64::from(generation))
        .with(escape(fingerprint).into_owned())
}

/// Forgets a generation.
pub(crate) fn forget(schema: &Schema, projection: &ProjectionName, generation: u32) -> Call {
    schema
        .call("UPDATE factum.projections SET fingerprint = NULL WHERE projection = $1 AND generation = $2")
        .with(projection.as_str().to_string())
        .with(i64::from(generation))
}

/// Moves a checkpoint, if its owner and the checkpoint are still those that were decided on.
pub(crate) fn advance(
    schema: &Schema,
    id: &(ProjectionName, u32),
    before: &Projection,
    to: At,
) -> Call {
    schema
        .call(
            "WITH written AS (UPDATE factum.projections SET checkpoint_epoch = $7, checkpoint_position = $8 \
             WHERE projection = $1 AND generation = $2 AND fence_epoch = $3 AND fence_owner = $4 \
             AND checkpoint_epoch = $5 AND checkpoint_position = $6 AND fingerprint IS NOT NULL RETURNING 1) \
             SELECT factum.must((SELECT count(*) FROM written) = 1, 'projection')",
        )
        .with(id.0.as_str().to_string())
        .with(i64::from(id.1))
        .with(signed(before.fence.store.0))
        .with(signed(before.fence.owner.0))
        .with(signed(before.checkpoint.epoch.0))
        .with(signed(before.checkpoint.position.0))
        .with(signed(to.epoch.0))
        .with(signed(to.position.0))
}

/// All generations that were asked for, forgotten ones too.
pub(crate) fn decode_all(
    rows: &[Row],
) -> Result<BTreeMap<(ProjectionName, u32), Projection>, Error> {
    rows.iter().map(decode).collect()
}

fn decode(row: &Row) -> Result<((ProjectionName, u32), Projection), Error> {
    let name: String = column(row, 0)?;
    let broken = || damaged(format!("projection `{name}`"));
    let id = (
        ProjectionName::new(&name).map_err(|_| broken())?,
        u32::try_from(column::<i64>(row, 1)?).map_err(|_| broken())?,
    );
    let projection = Projection {
        fence: fence(column(row, 2)?, column(row, 3)?),
        checkpoint: place(column(row, 4)?, column(row, 5)?),
        fingerprint: column::<Option<String>>(row, 6)?.map(unescape),
    };
    Ok((id, projection))
}

/// What the new owner of a generation reads.
pub(crate) fn claimed(row: Option<&Row>) -> Result<ProjectionClaim, Error> {
    let (_, row) = decode(row.ok_or_else(|| damaged("a projection's row"))?)?;
    Ok(ProjectionClaim {
        fence: row.fence,
        checkpoint: row.checkpoint,
    })
}

/// All generations that are not forgotten.
pub(crate) fn states(rows: &[Row]) -> Result<Vec<ProjectionState>, Error> {
    let state = |((projection, generation), row): ((ProjectionName, u32), Projection)| {
        Some(ProjectionState {
            projection,
            generation,
            fingerprint: row.fingerprint?,
            checkpoint: row.checkpoint,
        })
    };
    Ok(decode_all(rows)?.into_iter().filter_map(state).collect())
}
