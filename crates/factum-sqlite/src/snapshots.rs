//! Snapshots: one for each stream, the newest.

use bytes::Bytes;
use factum_core::{Error, Snapshot, StreamId, Version};
use rusqlite::{Connection, OptionalExtension, params};
use tracing::warn;

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
    let found = connection
        .prepare_cached(
            "SELECT version, checksum, state FROM snapshots WHERE stream = ?1 AND fingerprint = ?2",
        )
        .and_then(|mut statement| {
            let read = |row: &rusqlite::Row<'_>| {
                let version = Version(row.get::<_, i64>(0)?.cast_unsigned());
                let snapshot = Snapshot {
                    version,
                    state: Bytes::from(row.get::<_, Vec<u8>>(2)?),
                };
                let whole = row.get::<_, i64>(1)? == checksum(number, fingerprint, &snapshot);
                Ok(whole.then_some(snapshot))
            };
            statement
                .query_row(params![number, fingerprint], read)
                .optional()
        })
        .doing("read a snapshot")?;
    // One that was damaged is as good as none: the events say the same.
    if found.as_ref().is_some_and(Option::is_none) {
        warn!("the snapshot of stream `{stream}` is damaged: it is made again from events");
    }
    Ok(found.flatten())
}

fn checksum(stream: i64, fingerprint: &str, snapshot: &Snapshot) -> i64 {
    let mut sum = crc32fast::Hasher::new();
    sum.update(&stream.to_le_bytes());
    sum.update(&snapshot.version.0.to_le_bytes());
    sum.update(fingerprint.as_bytes());
    sum.update(&snapshot.state);
    sum.finalize().into()
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
        .prepare_cached("INSERT OR REPLACE INTO snapshots VALUES (?1, ?2, ?3, ?4, ?5)")
        .and_then(|mut statement| {
            statement.execute(params![
                number,
                fingerprint,
                signed(snapshot.version.0),
                checksum(number, fingerprint, snapshot),
                &*snapshot.state
            ])
        })
        .doing("keep a snapshot")?;
    Ok(())
}
