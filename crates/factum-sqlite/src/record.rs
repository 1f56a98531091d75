//! A record as a row: how it is written, and how it is read and verified.

use std::sync::Arc;

use bytes::Bytes;
use factum_core::{
    At, Category, Codec, Destination, Draft, Epoch, Error, Key, LogFilter, MessageId, Record,
    RecordKind, RecordState, StreamId, Timestamp, Topic, TypeName, Version, checksum,
};
use rusqlite::{
    Connection, Row, ToSql, params,
    types::{ToSqlOutput, ValueRef},
};
use uuid::Uuid;

use crate::{
    error::{Doing, damaged},
    number::{micros, position, signed},
    reader::{self, Reading},
};

/// The columns that [`decode`] reads, in its order.
pub(crate) const COLUMNS: &str = "r.key, r.epoch, r.kind, r.stream, r.version, r.event_id, r.type, r.topic, \
     r.partition, r.partition_key, r.timestamp, r.correlation_id, r.causation_id, r.metadata, r.tags, r.codec, \
     r.protection, r.checksum, r.state, r.data";

/// The numbers that stand for a record's names.
pub(crate) struct Interned {
    pub(crate) stream: Option<i64>,
    pub(crate) event_type: i64,
    pub(crate) topic: Option<i64>,
}

/// A message id as a column: 16 bytes when it is a UUID, else its text.
pub(crate) enum IdColumn {
    Uuid([u8; 16]),
    Text(String),
}

impl From<&MessageId> for IdColumn {
    fn from(id: &MessageId) -> Self {
        id.as_uuid().map_or_else(
            || Self::Text(id.to_string()),
            |uuid| Self::Uuid(uuid.into_bytes()),
        )
    }
}

impl ToSql for IdColumn {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Uuid(bytes) => ValueRef::Blob(bytes),
            Self::Text(text) => ValueRef::Text(text.as_bytes()),
        }))
    }
}

/// The message id in a column; `None` when it is NULL or no id.
pub(crate) fn id_of(column: ValueRef<'_>) -> Option<MessageId> {
    match column {
        ValueRef::Blob(bytes) => Uuid::from_slice(bytes).ok().map(MessageId::from),
        ValueRef::Text(text) => str::from_utf8(text).ok().map(MessageId::from),
        _ => None,
    }
}

/// Writes one record, and says its checksum.
pub(crate) fn insert(
    connection: &Connection,
    key: i64,
    at: At,
    version: Version,
    draft: &Draft,
    names: &Interned,
) -> Result<u32, Error> {
    const WHAT: &str = "write a record";
    let json = |error: serde_json::Error| {
        Error::poison(format!("event `{}` can't be stored", draft.event_id)).caused_by(error)
    };
    let metadata = (!draft.metadata.is_empty())
        .then(|| serde_json::to_string(&draft.metadata))
        .transpose()
        .map_err(json)?;
    let tags = (!draft.tags.is_empty())
        .then(|| serde_json::to_string(&draft.tags))
        .transpose()
        .map_err(json)?;
    let to = draft.destination.as_ref();
    let checksum = checksum(at, version, draft);
    let mut statement = connection
        .prepare_cached(
            "INSERT INTO records VALUES \
             (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20)",
        )
        .doing(WHAT)?;
    statement
        .execute(params![
            key,
            signed(at.epoch.0),
            draft.kind.code(),
            names.stream,
            signed(version.0),
            IdColumn::from(&draft.event_id),
            names.event_type,
            names.topic,
            to.map(|to| to.partition),
            to.and_then(|to| to.key.as_ref()).map(Key::as_bytes),
            micros(draft.timestamp),
            IdColumn::from(&draft.correlation_id),
            draft.causation_id.as_ref().map(IdColumn::from),
            metadata,
            tags,
            draft.codec.code(),
            draft.protection.as_deref(),
            checksum,
            RecordState::Live.code(),
            &*draft.data,
        ])
        .doing(WHAT)?;
    Ok(checksum)
}

/// The record in a row of [`COLUMNS`], verified; `None` when `filter` leaves it out.
pub(crate) fn decode(
    reading: &Reading,
    row: &Row<'_>,
    filter: Option<&LogFilter>,
) -> Result<Option<Record>, Error> {
    let key: i64 = row.get(0).doing("read a record")?;
    let place = reader::Place(&reading.path, position(key));
    let broken = || damaged(&place);
    if filter.is_some_and(|filter| filter.sent) && integer(row, 7).is_none() {
        return Ok(None);
    }
    let event_type = type_of(reading, row.get(6).doing("read a record")?)?;
    let stream = match column(row, 3) {
        ValueRef::Integer(number) => Some(stream_of(reading, number)?),
        _ => None,
    };
    if let Some(LogFilter {
        categories, types, ..
    }) = filter
    {
        let category = |stream: &StreamId| categories.contains(stream.category());
        if !(categories.is_empty() || stream.as_ref().is_some_and(category))
            || !(types.is_empty() || types.iter().any(|name| **name == *event_type.name))
        {
            return Ok(None);
        }
    }
    let draft = draft(reading, row, event_type, stream)?.ok_or_else(broken)?;
    let number = |index| {
        integer(row, index)
            .map(i64::cast_unsigned)
            .ok_or_else(broken)
    };
    let record = Record {
        at: At {
            epoch: Epoch(number(1)?),
            position: position(key),
        },
        version: Version(number(4)?),
        state: small(row, 18)
            .and_then(RecordState::from_code)
            .ok_or_else(broken)?,
        draft: Arc::new(draft),
    };
    if u64::from(record.checksum()) != number(17)? {
        return Err(Error::fatal(format!(
            "{place} is damaged: its checksum does not match; restore the newest backup"
        )));
    }
    Ok(Some(record))
}

/// All that the record's writer made; `None` when a column holds what we never write.
fn draft(
    reading: &Reading,
    row: &Row<'_>,
    event_type: TypeName,
    stream: Option<StreamId>,
) -> Result<Option<Draft>, Error> {
    let destination = match column(row, 7) {
        ValueRef::Integer(topic) => {
            let Some(partition) = integer(row, 8).and_then(|number| u32::try_from(number).ok())
            else {
                return Ok(None);
            };
            let key = bytes(row, 9).map(Key::from);
            Some(Destination {
                topic: topic_of(reading, topic)?,
                partition,
                key,
            })
        }
        _ => None,
    };
    let read = || {
        Some(Draft {
            kind: small(row, 2).and_then(RecordKind::from_code)?,
            stream,
            event_id: id_of(column(row, 5))?,
            event_type,
            destination,
            timestamp: Timestamp::from_micros(integer(row, 10)?),
            correlation_id: id_of(column(row, 11))?,
            causation_id: id_of(column(row, 12)),
            metadata: match text(row, 13) {
                Some(json) => serde_json::from_str(json).ok()?,
                None => factum_core::Metadata::new(),
            },
            tags: match text(row, 14) {
                Some(json) => serde_json::from_str(json).ok()?,
                None => Vec::new(),
            },
            codec: small(row, 15).and_then(Codec::from_code)?,
            protection: text(row, 16).map(Arc::from),
            data: bytes(row, 19)?,
        })
    };
    Ok(read())
}

/// A column, or NULL where there is none.
pub(crate) fn column<'a>(row: &'a Row<'_>, index: usize) -> ValueRef<'a> {
    row.get_ref(index).unwrap_or(ValueRef::Null)
}

pub(crate) fn integer(row: &Row<'_>, index: usize) -> Option<i64> {
    match column(row, index) {
        ValueRef::Integer(number) => Some(number),
        _ => None,
    }
}

pub(crate) fn small(row: &Row<'_>, index: usize) -> Option<u8> {
    integer(row, index).and_then(|number| u8::try_from(number).ok())
}

pub(crate) fn text<'a>(row: &'a Row<'_>, index: usize) -> Option<&'a str> {
    match column(row, index) {
        ValueRef::Text(text) => str::from_utf8(text).ok(),
        _ => None,
    }
}

pub(crate) fn bytes(row: &Row<'_>, index: usize) -> Option<Bytes> {
    match column(row, index) {
        ValueRef::Blob(bytes) => Some(Bytes::copy_from_slice(bytes)),
        _ => None,
    }
}

fn stream_of(reading: &Reading, number: i64) -> Result<StreamId, Error> {
    let known = reading
        .streams
        .borrow_mut()
        .get(&number, |known| known.clone());
    if let Some(known) = known {
        return Ok(known);
    }
    let columns: (String, String) = one(
        reading,
        "SELECT category, id FROM streams WHERE number = ?1",
        number,
        |row| Ok((row.get(0)?, row.get(1)?)),
    )?;
    let category =
        Category::new(&columns.0).map_err(|_| damaged(format!("stream number {number}")))?;
    let stream = StreamId::new(category, &columns.1)
        .map_err(|_| damaged(format!("stream number {number}")))?;
    reading.streams.borrow_mut().put(number, stream.clone());
    Ok(stream)
}

fn type_of(reading: &Reading, number: i64) -> Result<TypeName, Error> {
    let known = reading
        .types
        .borrow_mut()
        .get(&number, |known| known.clone());
    if let Some(known) = known {
        return Ok(known);
    }
    let columns: (String, u32) = one(
        reading,
        "SELECT name, version FROM types WHERE number = ?1",
        number,
        |row| Ok((row.get(0)?, row.get(1)?)),
    )?;
    let event_type = TypeName::new(columns.0, columns.1);
    reading.types.borrow_mut().put(number, event_type.clone());
    Ok(event_type)
}

fn topic_of(reading: &Reading, number: i64) -> Result<Topic, Error> {
    let known = reading
        .topics
        .borrow_mut()
        .get(&number, |known| known.clone());
    if let Some(known) = known {
        return Ok(known);
    }
    let name: String = one(
        reading,
        "SELECT topic FROM topics WHERE number = ?1",
        number,
        |row| row.get(0),
    )?;
    let topic = Topic::new(name).map_err(|_| damaged(format!("topic number {number}")))?;
    reading.topics.borrow_mut().put(number, topic.clone());
    Ok(topic)
}

fn one<T>(
    reading: &Reading,
    sql: &str,
    number: i64,
    read: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
) -> Result<T, Error> {
    let mut statement = reading
        .connection
        .prepare_cached(sql)
        .doing("read a name")?;
    match statement.query_row([number], read) {
        Err(rusqlite::Error::QueryReturnedNoRows) => Err(damaged(format!(
            "number {number} of `{}`, which a record names,",
            reading.path.display()
        ))),
        other => other.doing("read a name"),
    }
}
