//! A record as a row: how it is written, and how it is read and verified.

use std::sync::Arc;

use bytes::Bytes;
use factum_core::{
    At, Category, Codec, Destination, Draft, Epoch, Error, Key, Metadata, Record, RecordKind,
    RecordState, StreamId, StreamKey, Timestamp, Topic, TypeName, Version, checksum,
};
use tokio_postgres::Row;
use uuid::Uuid;

use crate::{
    call::{Blob, Call, id_of},
    error::{column, damaged},
    number::{micros, place, signed, small},
    schema::Schema,
    streams::{key_columns, key_from},
    text::{escape, unescape},
};

/// The columns that [`decode`] reads, in its order.
pub(crate) const COLUMNS: &str = "r.position, r.epoch, r.kind, r.category, r.stream, r.version, r.event_id, \
     r.type_name, r.type_version, r.topic, r.partition, r.keyed, r.partition_key, r.timestamp, r.correlation_id, \
     r.causation_id, r.metadata, r.tags, r.codec, r.protection, r.checksum, r.state, r.data";

/// What the records of a batch are, column by column.
#[derive(Debug, Default)]
pub(crate) struct Drafts {
    kinds: Vec<i16>,
    categories: Vec<Option<String>>,
    streams: Vec<Option<String>>,
    versions: Vec<i64>,
    event_ids: Vec<Blob>,
    type_names: Vec<String>,
    type_versions: Vec<i32>,
    topics: Vec<Option<String>>,
    partitions: Vec<Option<i32>>,
    keyeds: Vec<i16>,
    partition_keys: Vec<Option<Blob>>,
    timestamps: Vec<i64>,
    correlation_ids: Vec<Blob>,
    causation_ids: Vec<Option<Blob>>,
    metadatas: Vec<Option<String>>,
    tagses: Vec<Option<String>>,
    codecs: Vec<i16>,
    protections: Vec<Option<String>>,
    checksums: Vec<i32>,
    datas: Vec<Blob>,
}

/// What a record's checksum is of, besides what its writer made: nothing. Its place is given within the section, where
/// nobody could sum it up; that is what the keys of the table are for.
fn sum(draft: &Draft) -> i32 {
    checksum(At::ZERO, Version::ZERO, draft).cast_signed()
}

impl Drafts {
    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.kinds.len()
    }

    /// Adds one. `key` is its stream's key as of it.
    pub(crate) fn push(
        &mut self,
        draft: &Draft,
        version: Version,
        key: &StreamKey,
    ) -> Result<(), Error> {
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
        let (keyed, partition_key) = key_columns(key);
        self.kinds.push(draft.kind.code().into());
        let stream = draft.stream.as_ref();
        self.categories
            .push(stream.map(|stream| stream.category().as_str().into()));
        self.streams.push(stream.map(|stream| stream.id().into()));
        self.versions.push(signed(version.0));
        self.event_ids.push(Blob::id(&draft.event_id));
        self.type_names
            .push(escape(&draft.event_type.name).into_owned());
        self.type_versions
            .push(draft.event_type.version.cast_signed());
        self.topics.push(to.map(|to| to.topic.as_str().into()));
        self.partitions.push(to.map(|to| small(to.partition)));
        self.keyeds.push(keyed);
        self.partition_keys.push(partition_key);
        self.timestamps.push(micros(draft.timestamp));
        self.correlation_ids.push(Blob::id(&draft.correlation_id));
        self.causation_ids
            .push(draft.causation_id.as_ref().map(Blob::id));
        self.metadatas.push(metadata);
        self.tagses.push(tags);
        self.codecs.push(draft.codec.code().into());
        self.protections.push(
            draft
                .protection
                .as_deref()
                .map(|id| escape(id).into_owned()),
        );
        self.checksums.push(sum(draft));
        self.datas.push(Blob(draft.data.clone()));
        Ok(())
    }

    /// The statement that appends all of them. What is written travels once: a batch that has to be written again is made
    /// again.
    pub(crate) fn append(self, schema: &Schema, writer: Uuid, number: i64, epoch: Epoch) -> Call {
        schema
            .call(
                "SELECT head_epoch, head_position FROM factum.append($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, \
                 $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23)",
            )
            .with(writer)
            .with(number)
            .with(signed(epoch.0))
            .with(self.kinds)
            .with(self.categories)
            .with(self.streams)
            .with(self.versions)
            .with(self.event_ids)
            .with(self.type_names)
            .with(self.type_versions)
            .with(self.topics)
            .with(self.partitions)
            .with(self.keyeds)
            .with(self.partition_keys)
            .with(self.timestamps)
            .with(self.correlation_ids)
            .with(self.causation_ids)
            .with(self.metadatas)
            .with(self.tagses)
            .with(self.codecs)
            .with(self.protections)
            .with(self.checksums)
            .with(self.datas)
    }
}

/// Where the record in a row of [`COLUMNS`] stands.
pub(crate) fn at(row: &Row) -> Result<At, Error> {
    Ok(place(column(row, 1)?, column(row, 0)?))
}

/// The stream's key as of the record in a row of [`COLUMNS`].
pub(crate) fn key(row: &Row) -> Result<StreamKey, Error> {
    Ok(key_from(column(row, 11)?, column(row, 12)?))
}

/// The record in a row of [`COLUMNS`], verified.
pub(crate) fn decode(row: &Row) -> Result<Record, Error> {
    let at = at(row)?;
    let broken = || damaged(format!("the record at position {}", at.position));
    let record = Record {
        at,
        version: Version(column::<i64>(row, 5)?.cast_unsigned()),
        state: code(column(row, 21)?)
            .and_then(RecordState::from_code)
            .ok_or_else(broken)?,
        draft: Arc::new(draft(row)?.ok_or_else(broken)?),
    };
    if sum(&record.draft) != column::<i32>(row, 20)? {
        return Err(Error::fatal(format!(
            "the record at position {} is damaged: its checksum does not match; restore the newest backup",
            at.position
        )));
    }
    Ok(record)
}

/// All that the record's writer made; `None` when a column holds what we never write.
fn draft(row: &Row) -> Result<Option<Draft>, Error> {
    let stream = stream(row)?;
    let topic: Option<String> = column(row, 9)?;
    let destination = match topic {
        None => None,
        Some(topic) => {
            let key: Option<Vec<u8>> = column(row, 12)?;
            let partition: i32 = column(row, 10)?;
            match (Topic::new(topic), u32::try_from(partition)) {
                (Ok(topic), Ok(partition)) => Some(Destination {
                    topic,
                    partition,
                    key: key.map(Key::from),
                }),
                _ => return Ok(None),
            }
        }
    };
    let metadata: Option<String> = column(row, 16)?;
    let tags: Option<String> = column(row, 17)?;
    let protection: Option<String> = column(row, 19)?;
    let data: Vec<u8> = column(row, 22)?;
    let causation_id: Option<Vec<u8>> = column(row, 15)?;
    let (event_id, correlation_id): (Vec<u8>, Vec<u8>) = (column(row, 6)?, column(row, 14)?);
    let name: String = column(row, 7)?;
    let read = |timestamp: i64, kind: i16, codec: i16, version: i32| {
        Some(Draft {
            kind: code(kind).and_then(RecordKind::from_code)?,
            stream,
            event_id: id_of(&event_id)?,
            event_type: TypeName::new(unescape(name), version.cast_unsigned()),
            destination,
            timestamp: Timestamp::from_micros(timestamp),
            correlation_id: id_of(&correlation_id)?,
            causation_id: match causation_id {
                Some(id) => Some(id_of(&id)?),
                None => None,
            },
            metadata: match metadata {
                Some(json) => serde_json::from_str(&json).ok()?,
                None => Metadata::new(),
            },
            tags: match tags {
                Some(json) => serde_json::from_str(&json).ok()?,
                None => Vec::new(),
            },
            codec: code(codec).and_then(Codec::from_code)?,
            protection: protection.map(|id| Arc::from(unescape(id))),
            data: Bytes::from(data),
        })
    };
    Ok(read(
        column(row, 13)?,
        column(row, 2)?,
        column(row, 18)?,
        column(row, 8)?,
    ))
}

fn stream(row: &Row) -> Result<Option<StreamId>, Error> {
    let id: Option<String> = column(row, 4)?;
    let Some(id) = id else { return Ok(None) };
    stream_of(&column::<String>(row, 3)?, &id).map(Some)
}

/// The stream with this category and id.
pub(crate) fn stream_of(category: &str, id: &str) -> Result<StreamId, Error> {
    Category::new(category)
        .ok()
        .and_then(|category| StreamId::new(category, id).ok())
        .ok_or_else(|| damaged(format!("stream `{category}/{id}`")))
}

fn code(code: i16) -> Option<u8> {
    u8::try_from(code).ok()
}
