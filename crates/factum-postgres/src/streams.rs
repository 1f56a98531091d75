//! What is known of streams in memory: versions that they have reached, and their partition keys.
//!
//! Versions never go back, so that what was once seen stays true as "at least". A commit that is decided on it and is
//! wrong meets the unique index, and is decided anew on what the database says.

use std::collections::BTreeMap;

use factum_core::{Error, Key, StreamId, StreamKey, Version};
use tokio_postgres::Row;

use crate::{
    call::{Blob, Call},
    error::{column, damaged},
    schema::Schema,
};

/// How many streams are remembered: at 250 bytes each, 16 MB.
const STREAMS_REMEMBERED_MAX: usize = 65_536;

/// A stream's key as two columns of a record.
pub(crate) fn key_columns(key: &StreamKey) -> (i16, Option<Blob>) {
    match key {
        StreamKey::Open => (0, None),
        StreamKey::Fixed(None) => (1, None),
        StreamKey::Fixed(Some(key)) => (2, Some(Blob(key.to_bytes()))),
    }
}

/// A stream's key from its columns.
pub(crate) fn key_from(keyed: i16, key: Option<Vec<u8>>) -> StreamKey {
    match keyed {
        0 => StreamKey::Open,
        1 => StreamKey::Fixed(None),
        _ => StreamKey::Fixed(Some(Key::from(key.unwrap_or_default()))),
    }
}

/// What is known of a stream.
#[derive(Clone, Debug, Default)]
pub(crate) struct Head {
    /// The version of its last event.
    pub(crate) version: Version,
    /// Its partition key as of then.
    pub(crate) key: StreamKey,
}

/// The streams used lately: what is used moves to the young generation; when that is full, the old one is dropped.
#[derive(Debug, Default)]
pub(crate) struct Heads {
    young: Known,
    old: Known,
}

/// Streams with new ids are looked up most, and their ids begin alike: in a tree each look-up compares a dozen of them.
#[expect(
    clippy::disallowed_types,
    reason = "it is looked up in, and never walked through"
)]
type Known = std::collections::HashMap<StreamId, Head>;

impl Heads {
    /// What is remembered of `stream`.
    pub(crate) fn get(&mut self, stream: &StreamId) -> Option<&Head> {
        if let Some((stream, head)) = self.old.remove_entry(stream) {
            self.insert(stream, head);
        }
        self.young.get(stream)
    }

    /// Remembers what was seen, unless more is remembered.
    pub(crate) fn learn(&mut self, stream: StreamId, head: Head) {
        let less = |known: &Head| known.version <= head.version;
        if self.get(&stream).is_none_or(less) {
            self.insert(stream, head);
        }
    }

    /// Forgets all: a new time line may have shorter streams.
    pub(crate) fn clear(&mut self) {
        self.young.clear();
        self.old.clear();
    }

    fn insert(&mut self, stream: StreamId, head: Head) {
        if self.young.len() >= STREAMS_REMEMBERED_MAX / 2 {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(stream, head);
    }
}

/// Asks for the heads of streams: rows of [`head_of`] behind the number of the stream among those given.
pub(crate) fn heads<'a>(schema: &Schema, streams: impl Iterator<Item = &'a StreamId>) -> Call {
    let (mut categories, mut ids) = (Vec::new(), Vec::new());
    for stream in streams {
        categories.push(stream.category().as_str().to_string());
        ids.push(stream.id().to_string());
    }
    schema
        .call(
            "SELECT h.version, h.keyed, h.partition_key, s.ordinal - 1 \
             FROM unnest($1, $2) WITH ORDINALITY s (category, stream, ordinal) \
             CROSS JOIN LATERAL (SELECT version, keyed, partition_key FROM factum.records r \
               WHERE r.category = s.category AND r.stream = s.stream ORDER BY r.version DESC LIMIT 1) h",
        )
        .with(categories)
        .with(ids)
}

/// Asks for the head of one stream.
pub(crate) fn head(schema: &Schema, stream: &StreamId) -> Call {
    schema
        .call(
            "SELECT version, keyed, partition_key FROM factum.records \
             WHERE category = $1 AND stream = $2 ORDER BY version DESC LIMIT 1",
        )
        .with(stream.category().as_str().to_string())
        .with(stream.id().to_string())
}

/// The head in the first three columns of a row.
pub(crate) fn head_of(row: &Row) -> Result<Head, Error> {
    Ok(Head {
        version: Version(column::<i64>(row, 0)?.cast_unsigned()),
        key: key_from(column(row, 1)?, column(row, 2)?),
    })
}

/// The heads that [`heads`] asked for, each with the number of its stream.
pub(crate) fn heads_of(rows: &[Row]) -> Result<BTreeMap<usize, Head>, Error> {
    let numbered = |row: &Row| {
        let number =
            usize::try_from(column::<i64>(row, 3)?).map_err(|_| damaged("a stream's head"))?;
        Ok((number, head_of(row)?))
    };
    rows.iter().map(numbered).collect()
}
