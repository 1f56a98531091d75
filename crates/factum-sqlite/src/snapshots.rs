//! Snapshots: one for each stream, the newest.

use bytes::Bytes;
use factum_core::{Error, MessageId, Snapshot, StreamId, Version};
use rusqlite::{Connection, OptionalExtension, params};
use tracing::warn;

use crate::{
    error::Doing,
    log::stream_number,
    number::{range, signed},
};

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
            "SELECT version, checksum, state, event_id FROM snapshots WHERE stream = ?1 AND fingerprint = ?2",
        )
        .and_then(|mut statement| {
            let read = |row: &rusqlite::Row<'_>| {
                let version = Version(row.get::<_, i64>(0)?.cast_unsigned());
                let snapshot = Snapshot {
                    version,
                    event_id: MessageId::from(row.get::<_, String>(3)?),
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

/// Which snapshots of a store are damaged. That harms nobody: they are made again from events.
pub(crate) fn damaged(connection: &Connection, store: i64) -> Result<Vec<String>, Error> {
    const WHAT: &str = "check the snapshots";
    let (first, last) = range(store);
    let mut statement = connection
        .prepare("SELECT stream, fingerprint, version, state, checksum, event_id FROM snapshots WHERE stream BETWEEN ?1 AND ?2")
        .doing(WHAT)?;
    let mut rows = statement.query([first, last]).doing(WHAT)?;
    let mut damaged = Vec::new();
    while let Some(row) = rows.next().doing(WHAT)? {
        let read = || {
            let snapshot = Snapshot {
                version: Version(row.get::<_, i64>(2)?.cast_unsigned()),
                event_id: MessageId::from(row.get::<_, String>(5)?),
                state: Bytes::from(row.get::<_, Vec<u8>>(3)?),
            };
            let (stream, fingerprint): (i64, String) = (row.get(0)?, row.get(1)?);
            Ok::<_, rusqlite::Error>(
                row.get::<_, i64>(4)? == checksum(stream, &fingerprint, &snapshot),
            )
        };
        if !read().unwrap_or(false) {
            let stream: i64 = row.get(0).doing(WHAT)?;
            damaged.push(format!(
                "the snapshot of stream number {stream} is damaged: it is made again from events"
            ));
        }
    }
    Ok(damaged)
}

fn checksum(stream: i64, fingerprint: &str, snapshot: &Snapshot) -> i64 {
    let mut sum = crc32fast::Hasher::new();
    sum.update(&stream.to_le_bytes());
    sum.update(&snapshot.version.0.to_le_bytes());
    sum.update(snapshot.event_id.to_string().as_bytes());
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
        .prepare_cached("INSERT OR REPLACE INTO snapshots VALUES (?1, ?2, ?3, ?4, ?5, ?6)")
        .and_then(|mut statement| {
            statement.execute(params![
                number,
                fingerprint,
                signed(snapshot.version.0),
                snapshot.event_id.to_string(),
                checksum(number, fingerprint, snapshot),
                &*snapshot.state
            ])
        })
        .doing("keep a snapshot")?;
    Ok(())
}
