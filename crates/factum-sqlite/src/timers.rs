//! Durable timers.

use bytes::Bytes;
use factum_core::{CommitError, Error, Fence, Timer, TimerInput, TimerWrite, Timestamp};
use rusqlite::{Connection, params};

use crate::{
    error::Doing,
    number::{micros, signed},
};

/// What the writer keeps of the timers: their owner, and a counter.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Timers {
    pub(crate) fence: Fence,
    /// Counts settings of all timers together: one that is cancelled and set again must not get the generation
    /// that it had before, or a firing decided on the old one would take the new one.
    pub(crate) generation: u64,
}

/// Refuses to fire a timer that is not set as its owner saw it.
pub(crate) fn check(
    connection: &Connection,
    store: i64,
    input: &TimerInput,
) -> Result<(), CommitError> {
    let known: bool = connection
        .prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM timers WHERE store = ?1 AND id = ?2 AND generation = ?3)",
        )
        .and_then(|mut statement| {
            statement.query_row(params![store, input.id, signed(input.generation)], |row| {
                row.get(0)
            })
        })
        .doing("look up a timer")?;
    if known {
        Ok(())
    } else {
        Err(CommitError::TimerChanged(input.id.clone()))
    }
}

/// Removes a timer that has fired or was cancelled, and says whether it was set.
pub(crate) fn remove(connection: &Connection, store: i64, id: &str) -> Result<bool, Error> {
    let removed = connection
        .prepare_cached("DELETE FROM timers WHERE store = ?1 AND id = ?2")
        .and_then(|mut statement| statement.execute(params![store, id]))
        .doing("remove a timer")?;
    Ok(removed > 0)
}

impl Timers {
    /// Sets or cancels a timer, and says whether that changed anything.
    pub(crate) fn write(
        &mut self,
        connection: &Connection,
        store: i64,
        write: &TimerWrite,
    ) -> Result<bool, Error> {
        match write {
            TimerWrite::Cancel { id } => remove(connection, store, id),
            TimerWrite::Set { id, due, payload } => {
                self.generation += 1;
                connection
                    .prepare_cached("INSERT OR REPLACE INTO timers VALUES (?1, ?2, ?3, ?4, ?5)")
                    .and_then(|mut statement| {
                        statement.execute(params![
                            store,
                            id,
                            signed(self.generation),
                            micros(*due),
                            &**payload
                        ])
                    })
                    .doing("set a timer")?;
                Ok(true)
            }
        }
    }
}

/// Those that come due first.
pub(crate) fn next(connection: &Connection, store: i64, limit: usize) -> Result<Vec<Timer>, Error> {
    const WHAT: &str = "read timers";
    let mut statement = connection
        .prepare_cached("SELECT id, generation, due, payload FROM timers WHERE store = ?1 ORDER BY due, id LIMIT ?2")
        .doing(WHAT)?;
    let rows = statement
        .query_map(
            params![store, i64::try_from(limit).unwrap_or(i64::MAX)],
            |row| {
                Ok(Timer {
                    id: row.get(0)?,
                    generation: row.get::<_, i64>(1)?.cast_unsigned(),
                    due: Timestamp::from_micros(row.get(2)?),
                    payload: Bytes::from(row.get::<_, Vec<u8>>(3)?),
                })
            },
        )
        .doing(WHAT)?;
    rows.collect::<Result<_, _>>().doing(WHAT)
}
