//! Snapshots: one for each stream, the newest.

use bytes::Bytes;
use factum_core::{Error, Snapshot, StreamId, Version};
use tokio_postgres::Row;

use crate::{
    call::{Blob, Call, id_of},
    error::{column, damaged},
    number::signed,
    schema::Schema,
    text::escape,
};

/// Asks for the snapshot of a stream, if it was saved with this fingerprint.
pub(crate) fn read(schema: &Schema, stream: &StreamId, fingerprint: &str) -> Call {
    schema
        .call(
            "SELECT version, state, event_id FROM factum.snapshots WHERE category = $1 AND stream = $2 AND fingerprint = $3",
        )
        .with(stream.category().as_str().to_string())
        .with(stream.id().to_string())
        .with(escape(fingerprint).into_owned())
}

/// The snapshot in a row.
pub(crate) fn decode(row: &Row) -> Result<Snapshot, Error> {
    let event_id: Vec<u8> = column(row, 2)?;
    Ok(Snapshot {
        event_id: id_of(&event_id).ok_or_else(|| damaged("a snapshot"))?,
        version: Version(column::<i64>(row, 0)?.cast_unsigned()),
        state: Bytes::from(column::<Vec<u8>>(row, 1)?),
    })
}

/// Keeps a snapshot in place of the one before. One of a stream without events is of nothing, and is not kept.
pub(crate) fn save(
    schema: &Schema,
    stream: &StreamId,
    fingerprint: &str,
    snapshot: Snapshot,
) -> Call {
    schema
        .call(
            "INSERT INTO factum.snapshots (category, stream, fingerprint, version, state, event_id) \
             SELECT $1, $2, $3, $4, $5, $6 WHERE EXISTS \
               (SELECT 1 FROM factum.records WHERE category = $1 AND stream = $2 AND version = 1) \
             ON CONFLICT (category, stream) DO UPDATE SET fingerprint = excluded.fingerprint, \
             version = excluded.version, state = excluded.state, event_id = excluded.event_id",
        )
        .with(stream.category().as_str().to_string())
        .with(stream.id().to_string())
        .with(escape(fingerprint).into_owned())
        .with(signed(snapshot.version.0))
        .with(Blob(snapshot.state))
        .with(Blob::id(&snapshot.event_id))
}
