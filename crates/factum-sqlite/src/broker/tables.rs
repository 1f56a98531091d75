//! The broker's tables: what is written and read in one transaction, as plain functions on a connection.

use std::{cell::RefCell, collections::BTreeMap};

use factum_core::{
    Error, Group, Message, Outgoing, Timestamp, Topic, TopicPartition, TopicSpec, Watermarks,
    groups::{Age, Keep, ReadLimit, Slice},
};
use rusqlite::{Connection, OptionalExtension, params};

use super::{
    chunk::{ChunkReader, ChunkWriter, Stored},
    place::Place,
};
use crate::error::{Doing, damaged, sql};

/// A chunk is closed when it has this many bytes: a reader that starts in its middle passes over no more.
const CHUNK_BYTES_MAX: usize = 64 * 1024;

/// How many messages one trim drops at most, so that it holds up no commit for long: some milliseconds.
const TRIM_MESSAGES_MAX: usize = 2_000;

/// A partition's row.
#[derive(Clone, Copy, Debug)]
pub(super) struct Partition {
    pub(super) number: i64,
    pub(super) watermarks: Watermarks,
    bytes: u64,
    /// When a restore last brought messages back.
    restored: Option<Timestamp>,
}

/// How far a partition reaches after an append, and how many bytes came to it.
#[derive(Debug)]
pub(super) struct Growth {
    pub(super) partition: TopicPartition,
    pub(super) first: u64,
    pub(super) end: u64,
    pub(super) bytes: u64,
    /// What came to it.
    pub(super) messages: RefCell<Vec<Message>>,
}

/// The offsets of a batch, and what grew.
#[derive(Debug, Default)]
pub(super) struct Appended {
    pub(super) offsets: Vec<u64>,
    pub(super) growth: Vec<Growth>,
}

/// A number that SQLite stores signed. What is beyond its range is cut to it: no offset or size ever is.
pub(super) fn stored(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(super) fn partition(db: &Connection, wanted: &TopicPartition) -> Result<Partition, Error> {
    const QUERY: &str = "
        SELECT number, first_offset, end_offset, bytes, restored
        FROM partitions
        WHERE topic = ?1 AND partition = ?2";
    let read = |row: &rusqlite::Row<'_>| {
        Ok(Partition {
            number: row.get(0)?,
            watermarks: Watermarks {
                first: row.get::<_, i64>(1)?.cast_unsigned(),
                end: row.get::<_, i64>(2)?.cast_unsigned(),
            },
            bytes: row.get::<_, i64>(3)?.cast_unsigned(),
            restored: row.get::<_, Option<i64>>(4)?.map(Timestamp::from_micros),
        })
    };
    let found = db
        .prepare_cached(QUERY)
        .and_then(|mut query| {
            query
                .query_row(params![wanted.topic.as_str(), wanted.partition], read)
                .optional()
        })
        .doing(&format!("read partition `{wanted}`"))?;
    found.ok_or_else(|| Error::fatal(format!("unknown partition `{wanted}`")))
}

pub(super) fn place(wanted: &TopicPartition, number: i64, offset: u64) -> Result<Place, Error> {
    Place::new(number, offset)
        .ok_or_else(|| Error::fatal(format!("partition `{wanted}` is full at offset {offset}")))
}

/// All topics, in the order of their names.
pub(super) fn topics(db: &Connection) -> Result<Vec<TopicSpec>, Error> {
    const QUERY: &str = "
        SELECT name, partitions, retention_micros, retention_bytes
        FROM topicspecs
        ORDER BY name";
    let read = |row: &rusqlite::Row<'_>| {
        let name: String = row.get(0)?;
        let retention: Option<i64> = row.get(2)?;
        let retention_bytes: Option<i64> = row.get(3)?;
        Ok((name, row.get(1)?, retention, retention_bytes))
    };
    let rows: Vec<(String, u32, Option<i64>, Option<i64>)> = db
        .prepare_cached(QUERY)
        .and_then(|mut query| query.query_map([], read)?.collect())
        .doing("read the topics")?;
    let spec = |(name, partitions, retention, bytes): (String, u32, Option<i64>, Option<i64>)| {
        let topic =
            Topic::new(&name).map_err(|error| damaged("a topic's name").caused_by(error))?;
        Ok(TopicSpec {
            topic,
            partitions,
            retention: retention
                .map(|micros| std::time::Duration::from_micros(micros.cast_unsigned())),
            retention_bytes: bytes.map(i64::cast_unsigned),
        })
    };
    rows.into_iter().map(spec).collect()
}

/// Makes the topic, or takes over its retention if it has as many partitions. Returns what there is then.
pub(super) fn put_topic(db: &Connection, spec: &TopicSpec) -> Result<TopicSpec, Error> {
    const PUT: &str = "
        INSERT INTO topicspecs (name, partitions, retention_micros, retention_bytes)
        VALUES (?1, ?2, ?3, ?4)
        ON CONFLICT (name) DO UPDATE
        SET retention_micros = excluded.retention_micros, retention_bytes = excluded.retention_bytes
        WHERE partitions = excluded.partitions";
    const ADD_PARTITION: &str = "
        INSERT INTO partitions (topic, partition)
        VALUES (?1, ?2)
        ON CONFLICT (topic, partition) DO NOTHING";
    let topic = spec.topic.as_str();
    let put = || {
        let retention = spec
            .retention
            .map(|time| i64::try_from(time.as_micros()).unwrap_or(i64::MAX));
        let bytes = spec.retention_bytes.map(stored);
        if db.execute(PUT, params![topic, spec.partitions, retention, bytes])? > 0 {
            for partition in 0..spec.partitions {
                db.prepare_cached(ADD_PARTITION)?
                    .execute(params![topic, partition])?;
            }
        }
        Ok(())
    };
    put().doing(&format!("make topic `{topic}`"))?;
    let found = topics(db)?
        .into_iter()
        .find(|known| known.topic == spec.topic);
    found.ok_or_else(|| Error::fatal(format!("topic `{topic}` was made and is not there")))
}

/// The offsets that a partition holds.
pub(super) fn watermarks(db: &Connection, wanted: &TopicPartition) -> Result<Watermarks, Error> {
    partition(db, wanted).map(|partition| partition.watermarks)
}

/// Appends a batch. The offsets are in its order. Looks at all partitions before it writes to the first.
pub(super) fn append(db: &Connection, batch: Vec<Outgoing>) -> Result<Appended, Error> {
    let mut appended = Appended {
        offsets: vec![0; batch.len()],
        growth: Vec::new(),
    };
    let mut by_partition = BTreeMap::<_, Vec<(usize, Outgoing)>>::new();
    for (index, message) in batch.into_iter().enumerate() {
        let wanted = TopicPartition::new(message.topic.clone(), message.partition);
        by_partition
            .entry(wanted)
            .or_default()
            .push((index, message));
    }
    let mut parts = Vec::with_capacity(by_partition.len());
    for (wanted, messages) in by_partition {
        let found = partition(db, &wanted)?;
        let last = found.watermarks.end + messages.len() as u64 - 1;
        place(&wanted, found.number, last)?;
        parts.push((wanted, found, messages));
    }
    for (wanted, found, messages) in parts {
        let growth = append_to(db, wanted, found, messages, &mut appended.offsets)?;
        appended.growth.push(growth);
    }
    Ok(appended)
}

/// Appends messages to one partition, and notes the offset of each by its index.
fn append_to(
    db: &Connection,
    wanted: TopicPartition,
    found: Partition,
    messages: Vec<(usize, Outgoing)>,
    offsets: &mut [u64],
) -> Result<Growth, Error> {
    const GROW: &str = "
        UPDATE partitions
        SET end_offset = ?2, bytes = bytes + ?3
        WHERE number = ?1";
    let number = found.number;
    let mut end = found.watermarks.end;
    let written = messages.iter().map(|(_, message)| message);
    let bytes = put_chunks(db, &wanted, number, end, written)?;
    let mut placed = Vec::with_capacity(messages.len());
    for (index, message) in messages {
        offsets[index] = end;
        placed.push(Message {
            topic: message.topic,
            partition: message.partition,
            offset: end,
            timestamp: message.timestamp,
            key: message.key,
            headers: message.headers,
            value: message.value,
        });
        end += 1;
    }
    db.prepare_cached(GROW)
        .and_then(|mut grow| grow.execute(params![number, stored(end), stored(bytes)]))
        .doing(&format!("append to `{wanted}`"))?;
    Ok(Growth {
        messages: RefCell::new(placed),
        partition: wanted,
        first: found.watermarks.first,
        end,
        bytes,
    })
}

/// Writes messages from offset `from` on, and says how many bytes they have. The partition's row is the caller's.
pub(super) fn put_chunks<'a>(
    db: &Connection,
    wanted: &TopicPartition,
    number: i64,
    from: u64,
    messages: impl IntoIterator<Item = &'a Outgoing>,
) -> Result<u64, Error> {
    const INSERT: &str = "INSERT INTO chunks (place, data) VALUES (?1, ?2)";
    let failed = |error| sql(&format!("append to `{wanted}`"), error);
    let mut insert = db.prepare_cached(INSERT).map_err(failed)?;
    let mut write = |(first, chunk): (Place, ChunkWriter)| {
        insert
            .execute(params![first.number(), chunk.finish()])
            .map_err(failed)
    };
    let (mut next, mut bytes) = (from, 0);
    let mut open = None;
    for message in messages {
        let at = place(wanted, number, next)?;
        let (_, chunk) = open.get_or_insert_with(|| (at, ChunkWriter::at(at)));
        chunk.push(message);
        next += 1;
        bytes += size(
            message.key.as_ref(),
            &message.headers,
            message.value.as_deref(),
        );
        if chunk.len() >= CHUNK_BYTES_MAX
            && let Some(full) = open.take()
        {
            write(full)?;
        }
    }
    open.map_or(Ok(0), write)?;
    Ok(bytes)
}

/// What a message counts as for retention.
pub(super) fn size(
    key: Option<&factum_core::Key>,
    headers: &factum_core::Headers,
    value: Option<&[u8]>,
) -> u64 {
    let headers: usize = headers
        .iter()
        .map(|(name, value)| name.len() + value.len())
        .sum();
    let key = key.map_or(0, |key| key.as_bytes().len());
    (key + headers + value.map_or(0, <[u8]>::len)) as u64
}

/// Calls `visit` with the messages from `from` on, until it has enough.
pub(super) fn scan(
    db: &Connection,
    wanted: &TopicPartition,
    number: i64,
    from: u64,
    mut visit: impl FnMut(Stored) -> bool,
) -> Result<(), Error> {
    // The chunk that holds `from` starts at or before it.
    const QUERY: &str = "
        SELECT place, data
        FROM chunks
        WHERE place BETWEEN coalesce(
            (SELECT max(place) FROM chunks WHERE place BETWEEN ?1 AND ?2), ?2
        ) AND ?3
        ORDER BY place";
    let failed = |error| sql(&format!("read `{wanted}`"), error);
    let (low, from) = (place(wanted, number, 0)?, place(wanted, number, from)?);
    let mut query = db.prepare_cached(QUERY).map_err(failed)?;
    let mut rows = query
        .query(params![low.number(), from.number(), low.last().number()])
        .map_err(failed)?;
    while let Some(row) = rows.next().map_err(failed)? {
        let first = Place::stored(row.get(0).map_err(failed)?);
        for message in ChunkReader::new(first, row.get(1).map_err(failed)?) {
            let message =
                message.map_err(|damage| damaged(format_args!("`{wanted}`")).caused_by(damage))?;
            if message.offset >= from.offset() && !visit(message) {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Messages from `offset` on, or from the first that is kept behind it. The caller holds a transaction.
pub(super) fn read(
    db: &Connection,
    wanted: &TopicPartition,
    offset: u64,
    limit: ReadLimit,
) -> Result<Slice, Error> {
    let found = partition(db, wanted)?;
    read_in(db, wanted, found, offset, limit)
}

/// [`read`] when the partition ends no more than `brief` messages behind `offset`; `None` when there are more.
pub(super) fn read_end(
    db: &Connection,
    wanted: &TopicPartition,
    offset: u64,
    limit: ReadLimit,
    brief: u64,
) -> Result<Option<Slice>, Error> {
    let found = partition(db, wanted)?;
    if found.watermarks.end.saturating_sub(offset) > brief {
        return Ok(None);
    }
    read_in(db, wanted, found, offset, limit).map(Some)
}

fn read_in(
    db: &Connection,
    wanted: &TopicPartition,
    Partition {
        number,
        watermarks,
        restored,
        ..
    }: Partition,
    offset: u64,
    limit: ReadLimit,
) -> Result<Slice, Error> {
    let from = offset.max(watermarks.first);
    let mut messages = Vec::new();
    if from < watermarks.end && limit.messages > 0 {
        let mut room = limit.bytes as u64;
        scan(db, wanted, number, from, |message| {
            let Stored {
                offset,
                timestamp,
                key,
                headers,
                value,
            } = message;
            let bytes = size(key.as_ref(), &headers, value.as_deref());
            if bytes > room && !messages.is_empty() {
                return false;
            }
            room = room.saturating_sub(bytes);
            let TopicPartition { topic, partition } = wanted.clone();
            messages.push(Message {
                topic,
                partition,
                offset,
                timestamp,
                key,
                headers,
                value,
            });
            messages.len() < limit.messages
        })?;
        // A partition ends with a message, but for one that was remade from backups, which know how far it had come and
        // not what was there. Without this, a consumer would wait at a lost one for ever.
        if messages.is_empty() && restored.is_some() {
            return Ok(Slice {
                messages,
                next: watermarks.end,
                watermarks,
            });
        }
        if messages.is_empty() {
            return Err(damaged(format!(
                "the message at offset {from} of partition `{wanted}`"
            )));
        }
    }
    let next = messages.last().map_or(from, |last| last.offset + 1);
    Ok(Slice {
        messages,
        next,
        watermarks,
    })
}

/// What retention takes from the start of a partition.
#[derive(Debug)]
pub(super) struct Expired {
    /// What the partition holds before anything is taken.
    pub(super) watermarks: Watermarks,
    /// How many messages may go.
    pub(super) count: usize,
    /// The first that stays.
    first: u64,
    number: i64,
    /// The bytes that are left without them.
    left: u64,
}

/// Looks for messages that may go, `count_max` at most.
pub(super) fn expired(
    db: &Connection,
    wanted: &TopicPartition,
    keep: &Keep,
    count_max: usize,
) -> Result<Expired, Error> {
    let Partition {
        number,
        watermarks,
        bytes,
        restored,
    } = partition(db, wanted)?;
    let mut expired = Expired {
        watermarks,
        count: 0,
        first: watermarks.first,
        number,
        left: bytes,
    };
    if watermarks.first < watermarks.end {
        scan(db, wanted, number, watermarks.first, |message| {
            let Stored {
                offset,
                timestamp,
                key,
                headers,
                value,
            } = message;
            let bytes = size(key.as_ref(), &headers, value.as_deref());
            // What a restore brought back is kept as long as if it had been published then.
            let timestamp = restored.map_or(timestamp, |restored| timestamp.max(restored));
            if keep.expired(
                expired.left,
                [Age {
                    offset,
                    timestamp,
                    bytes,
                }],
            ) == 0
            {
                return false;
            }
            expired.left = expired.left.saturating_sub(bytes);
            expired.count += 1;
            // Not the next by counting: a restore may leave offsets out.
            expired.first = offset + 1;
            expired.count < count_max
        })?;
    }
    Ok(expired)
}

/// Drops messages from the start of a partition, [`TRIM_MESSAGES_MAX`] at most.
pub(super) fn trim(
    db: &Connection,
    wanted: &TopicPartition,
    keep: &Keep,
) -> Result<Watermarks, Error> {
    // A chunk goes when the one behind it starts at or before the first message that is kept.
    const DROP: &str = "
        DELETE FROM chunks
        WHERE place >= ?1
          AND place < coalesce(
              (SELECT max(place) FROM chunks WHERE place BETWEEN ?1 AND ?2), ?1
          )";
    const DROP_ALL: &str = "DELETE FROM chunks WHERE place BETWEEN ?1 AND ?2";
    const SHRINK: &str = "
        UPDATE partitions
        SET first_offset = ?2, bytes = ?3
        WHERE number = ?1";
    let Expired {
        watermarks: Watermarks { first, end },
        count,
        first: kept,
        number,
        left,
    } = expired(db, wanted, keep, TRIM_MESSAGES_MAX)?;
    if count == 0 {
        return Ok(Watermarks { first, end });
    }
    let first = kept;
    let (low, kept) = (place(wanted, number, 0)?, place(wanted, number, first)?);
    let write = || {
        if first == end {
            db.prepare_cached(DROP_ALL)?
                .execute(params![low.number(), low.last().number()])?;
        } else {
            db.prepare_cached(DROP)?
                .execute(params![low.number(), kept.number()])?;
        }
        db.prepare_cached(SHRINK)?
            .execute(params![number, stored(first), stored(left)])
    };
    write().doing(&format!("trim `{wanted}`"))?;
    Ok(Watermarks { first, end })
}

/// Keeps the offsets that a group committed.
pub(super) fn put_offsets(
    db: &Connection,
    group: &Group,
    offsets: &[(TopicPartition, u64)],
    now: Timestamp,
) -> Result<(), Error> {
    const PUT: &str = "
        INSERT INTO offsets (group_name, topic, partition, next_offset, committed_at)
        VALUES (?1, ?2, ?3, ?4, ?5)
        ON CONFLICT (group_name, topic, partition) DO UPDATE
        SET next_offset = excluded.next_offset, committed_at = excluded.committed_at";
    let write = || {
        let mut put = db.prepare_cached(PUT)?;
        for (TopicPartition { topic, partition }, offset) in offsets {
            put.execute(params![
                group.as_str(),
                topic.as_str(),
                partition,
                stored(*offset),
                now.as_micros()
            ])?;
        }
        Ok(())
    };
    write().doing(&format!("keep the offsets of group `{group}`"))
}

/// The offsets that a group committed.
pub(super) fn offsets(db: &Connection, group: &Group) -> Result<Vec<(TopicPartition, u64)>, Error> {
    const QUERY: &str = "
        SELECT topic, partition, next_offset
        FROM offsets
        WHERE group_name = ?1
        ORDER BY topic, partition";
    let read = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
    let rows: Vec<(String, u32, i64)> = db
        .prepare_cached(QUERY)
        .and_then(|mut query| query.query_map([group.as_str()], read)?.collect())
        .doing(&format!("read the offsets of group `{group}`"))?;
    let offset = |(topic, partition, offset): (String, u32, i64)| {
        let topic = Topic::new(&topic)
            .map_err(|error| damaged("a committed offset's topic").caused_by(error))?;
        Ok((
            TopicPartition::new(topic, partition),
            offset.cast_unsigned(),
        ))
    };
    rows.into_iter().map(offset).collect()
}

#[cfg(test)]
mod tests;
