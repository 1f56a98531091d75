//! Snapshots: one for each stream, the newest.

use bytes::Bytes;
use factum_core::{Error, Snapshot, StreamId, Version};
use rusqlite::{Connection, OptionalExtension, params};

use crate::{error::Doing, log::stream_number, number::signed};

/// The snapshot of a stream, if it was saved with this fingerprint.
pub(crate) fn read(
    connection: &Connection,
    store: i64,
    stream: &StreamId,
    fingerprint: &str,
) -> Result<Option<Snapshot>, Error> {
    let Some(number) = stream_number(connection, store, stream)? else {
        return Ok(None);
    };
    connection
        .prepare_cached(
            "SELECT version, state FROM snapshots WHERE stream = ?1 AND fingerprint = ?2",
        )
        .and_then(|mut statement| {
            let read = |row: &rusqlite::Row<'_>| {
                let version = Version(row.get::<_, i64>(0)?.cast_unsigned());
                Ok(Snapshot {
                    version,
                    state: Bytes::from(row.get::<_, Vec<u8>>(1)?),
                })
            };
            statement
                .query_row(params![number, fingerprint], read)
                .optional()
        })
        .doing("read a snapshot")
}

/// Keeps a snapshot in place of the one before. One of a stream without events is of nothing, and is not kept.
pub(crate) fn save(
    connection: &Connection,
    store: i64,
    stream: &StreamId,
    fingerprint: &str,
    snapshot: &Snapshot,
) -> Result<(), Error> {
    let Some(number) = stream_number(connection, store, stream)? else {
        return Ok(());
    };
    connection
        .prepare_cached("INSERT OR REPLACE INTO snapshots VALUES (?1, ?2, ?3, ?4)")
        .and_then(|mut statement| {
            statement.execute(params![
                number,
                fingerprint,
                signed(snapshot.version.0),
                &*snapshot.state
            ])
        })
        .doing("keep a snapshot")?;
    Ok(())
}
