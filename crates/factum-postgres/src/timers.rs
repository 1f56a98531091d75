//! Durable timers.

use bytes::Bytes;
use factum_core::{Error, Timer, Timestamp};
use tokio_postgres::Row;

use crate::{
    call::{Blob, Call},
    error::column,
    number::{micros, rows, signed},
    schema::Schema,
    text::{escape, unescape},
};

/// What a batch leaves of a timer.
#[derive(Clone, Debug)]
pub(crate) enum Left {
    /// It is set.
    Set { due: Timestamp, payload: Bytes },
    /// It is not.
    Nothing,
}

/// Asks for the timers that come due first.
pub(crate) fn next(schema: &Schema, limit: usize) -> Call {
    schema
        .call("SELECT id, generation, due, payload FROM factum.timers ORDER BY due, id LIMIT $1")
        .with(rows(limit))
}

/// Asks for the generations of timers.
pub(crate) fn generations<'a>(schema: &Schema, ids: impl Iterator<Item = &'a String>) -> Call {
    schema
        .call("SELECT id, generation FROM factum.timers WHERE id = ANY ($1)")
        .with(ids.map(|id| escape(id).into_owned()).collect::<Vec<_>>())
}

/// A timer's id and generation, as [`generations`] asked for them.
pub(crate) fn generation_of(row: &Row) -> Result<(String, u64), Error> {
    Ok((
        unescape(column(row, 0)?),
        column::<i64>(row, 1)?.cast_unsigned(),
    ))
}

/// The timer in a row.
pub(crate) fn decode(row: &Row) -> Result<Timer, Error> {
    let (id, generation) = generation_of(row)?;
    Ok(Timer {
        id,
        generation,
        due: Timestamp::from_micros(column(row, 2)?),
        payload: Bytes::from(column::<Vec<u8>>(row, 3)?),
    })
}

/// Removes timers that have fired, if they are still set as their owner saw them.
pub(crate) fn fire(schema: &Schema, fired: &[(String, u64)]) -> Call {
    let ids = fired.iter().map(|(id, _)| escape(id).into_owned());
    let generations = fired.iter().map(|(_, generation)| signed(*generation));
    schema
        .call(
            "WITH fired AS (DELETE FROM factum.timers t USING unnest($2, $3) AS given (id, generation) \
             WHERE t.id = given.id AND t.generation = given.generation RETURNING 1) \
             SELECT factum.must((SELECT count(*) FROM fired) = $1, 'timer')",
        )
        .with(signed(fired.len() as u64))
        .with(ids.collect::<Vec<_>>())
        .with(generations.collect::<Vec<_>>())
}

/// Compares the owner of all timers, and keeps it until the end of the transaction.
pub(crate) fn compare_owner(schema: &Schema, fence: factum_core::Fence) -> Call {
    schema
        .call(
            "WITH owner AS (SELECT 1 FROM factum.store WHERE timers_fence_epoch = $1 AND timers_fence_owner = $2 \
             FOR SHARE) SELECT factum.must((SELECT count(*) FROM owner) = 1, 'timers')",
        )
        .with(signed(fence.store.0))
        .with(signed(fence.owner.0))
}

/// Sets and cancels timers: one statement for each of both.
pub(crate) fn write<'a>(
    schema: &Schema,
    writes: impl Iterator<Item = (&'a String, &'a Left)>,
) -> [Option<Call>; 2] {
    let (mut ids, mut dues, mut payloads, mut gone) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for (id, left) in writes {
        let id = escape(id).into_owned();
        match left {
            Left::Nothing => gone.push(id),
            Left::Set { due, payload } => {
                ids.push(id);
                dues.push(micros(*due));
                payloads.push(Blob(payload.clone()));
            }
        }
    }
    let set = (!ids.is_empty()).then(|| {
        schema
            .call(
                "INSERT INTO factum.timers SELECT id, nextval('factum.timer_generations'), due, payload \
                 FROM unnest($1, $2, $3) AS given (id, due, payload) \
                 ON CONFLICT (id) DO UPDATE SET generation = excluded.generation, due = excluded.due, \
                 payload = excluded.payload",
            )
            .with(ids)
            .with(dues)
            .with(payloads)
    });
    let cancel = (!gone.is_empty()).then(|| {
        schema
            .call("DELETE FROM factum.timers WHERE id = ANY ($1)")
            .with(gone)
    });
    [set, cancel]
}
