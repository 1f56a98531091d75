//! What a backup carries of topics: the messages that its store's groups have not finished.
//!
//! An inbox row says by offsets which messages are finished, and what they were depends on the partition's content. So a
//! backup takes each partition with it from where the slowest of its groups stands. Where the directory that it is
//! restored into still has the topics, nothing is done. Where they are lost, they begin again with these messages at their
//! offsets; what others had published there comes again from the logs (`set_back.rs`). Backups of several stores may bring
//! back pieces of one partition: offsets between them are left out, as a broker may.

use factum_core::{Error, InboxRow, Lasts, Message, Outgoing, TopicPartition, chain::Link};
use rusqlite::{Connection, OptionalExtension, params};

use super::{
    place::Place,
    tables::{self, Partition},
};
use crate::{error::Doing, inbox};
use factum_core::groups::ReadLimit;

/// How much is copied at a time.
const LIMIT: ReadLimit = ReadLimit {
    messages: 1_000,
    bytes: 8 << 20,
};

/// Copies into `backup` what the groups of a store have not finished in the topics of the attached database `live`.
pub(crate) fn carry(backup: &Connection, live: &str, store: i64) -> Result<(), Error> {
    const WHAT: &str = "copy unfinished messages";
    const CONSUMED: &str = "SELECT topic FROM main.inboxes WHERE store = ?1";
    let topics = format!(
        "INSERT INTO main.topicspecs SELECT * FROM {live}.topicspecs WHERE name IN ({CONSUMED})"
    );
    let partitions = format!(
        "INSERT INTO main.partitions SELECT * FROM {live}.partitions WHERE topic IN ({CONSUMED})"
    );
    // The chunk that holds a message starts at or before it.
    let chunks = format!(
        "INSERT INTO main.chunks SELECT * FROM {live}.chunks WHERE place BETWEEN coalesce(
            (SELECT max(place) FROM {live}.chunks WHERE place BETWEEN ?1 AND ?2), ?2
        ) AND ?3"
    );
    backup.execute(&topics, [store]).doing(WHAT)?;
    backup.execute(&partitions, [store]).doing(WHAT)?;
    let inboxes = inbox::read_all(backup, store)?;
    for wanted in super::partitions(backup)? {
        let Partition {
            number, watermarks, ..
        } = tables::partition(backup, &wanted)?;
        let of_this = inboxes
            .iter()
            .filter(|(_, id, _)| id.topic == wanted.topic && id.partition == wanted.partition);
        let low = of_this.map(|(_, _, row)| row.low).min();
        // The last one is always there, so that the partition ends with a message.
        let last = watermarks.end.saturating_sub(1);
        let from = low.unwrap_or(last).min(last).max(watermarks.first);
        let (first, from) = (
            tables::place(&wanted, number, 0)?,
            tables::place(&wanted, number, from)?,
        );
        backup
            .execute(
                &chunks,
                params![first.number(), from.number(), first.last().number()],
            )
            .doing(WHAT)?;
        let begins = first_chunk(backup, first)?.unwrap_or(watermarks.end);
        begin_at(backup, &wanted, begins.max(watermarks.first))?;
    }
    Ok(())
}

/// Gives back to the topics of `db` what they have lost of those that the backup carries.
///
/// # Errors
///
/// Class fatal when the directory has a topic of the same name that is another one.
pub(crate) fn put_back(db: &Connection, backup: &Connection) -> Result<(), Error> {
    for spec in tables::topics(backup)? {
        let there = tables::topics(db)?
            .into_iter()
            .find(|there| there.topic == spec.topic);
        let there = match there {
            Some(there) => there,
            None => tables::put_topic(db, &spec)?,
        };
        if there.partitions != spec.partitions {
            return Err(Error::fatal(format!(
                "topic `{}` has {} partitions in the directory and {} in the backup: restore into an empty directory",
                spec.topic, there.partitions, spec.partitions
            )));
        }
    }
    for wanted in super::partitions(backup)? {
        put_back_partition(db, backup, &wanted)?;
    }
    Ok(())
}

fn put_back_partition(
    db: &Connection,
    backup: &Connection,
    wanted: &TopicPartition,
) -> Result<(), Error> {
    let carried = tables::watermarks(backup, wanted)?;
    let Partition {
        number,
        watermarks: there,
        ..
    } = tables::partition(db, wanted)?;
    if carried.end == 0 || (there.end >= carried.end && there.first == there.end) {
        // Nothing was published, or retention has dropped all of it since.
        return Ok(());
    }
    if there.first == there.end || carried.first == carried.end {
        if carried.end > there.end {
            // Nothing of what is there can be needed: retention had dropped it before the backup was made.
            drop_all(db, wanted, number, carried.first)?;
            append(db, backup, wanted, carried.first)?;
        }
        return Ok(());
    }
    let shared = there.end.min(carried.end) - 1;
    if shared >= there.first
        && shared >= carried.first
        && one(db, wanted, shared)? != one(backup, wanted, shared)?
    {
        return Err(Error::fatal(format!(
            "partition `{wanted}` of the directory holds other messages than those that the backup's store had read: \
             restore into an empty directory"
        )));
    }
    if carried.end > there.end {
        append(db, backup, wanted, there.end.max(carried.first))?;
    }
    if carried.first < there.first {
        // Retention may have left messages in a chunk that begins before the first one that counts.
        let origin = tables::place(wanted, number, 0)?;
        let begins = chunk_of(db, origin, tables::place(wanted, number, there.first)?)?;
        let until = begins.unwrap_or(there.first).max(carried.first);
        let mut next = carried.first;
        while next < until.min(carried.end) {
            let mut slice = tables::read(backup, wanted, next, LIMIT)?.messages;
            slice.retain(|message| message.offset < until);
            let Some(last) = slice.last() else { break };
            let (from, after) = (slice[0].offset, last.offset + 1);
            let messages: Vec<_> = slice.into_iter().map(outgoing).collect();
            tables::put_chunks(db, wanted, number, from, &messages)?;
            next = after;
        }
        begin_at(db, wanted, carried.first)?;
    }
    Ok(())
}

/// Appends what the backup carries from offset `from` on, which lies at or behind the partition's end.
fn append(
    db: &Connection,
    backup: &Connection,
    wanted: &TopicPartition,
    from: u64,
) -> Result<(), Error> {
    const END: &str = "UPDATE partitions SET end_offset = ?3 WHERE topic = ?1 AND partition = ?2 AND end_offset < ?3";
    let end_at = |end: u64| {
        db.execute(
            END,
            params![wanted.topic.as_str(), wanted.partition, tables::stored(end)],
        )
        .doing(&format!("append to `{wanted}`"))
    };
    let end = tables::watermarks(backup, wanted)?.end;
    let mut next = from;
    while next < end {
        let slice = tables::read(backup, wanted, next, LIMIT)?;
        end_at(slice.messages.first().map_or(end, |first| first.offset))?;
        let messages: Vec<_> = slice.messages.into_iter().map(outgoing).collect();
        tables::append(db, messages)?;
        next = slice.next;
    }
    end_at(end).map(drop)
}

/// What a group has taken of each source when it has read its partition to the end. `None`: the partition is not here.
pub(crate) fn fold_unfinished(
    db: &Connection,
    wanted: &TopicPartition,
    row: &InboxRow,
) -> Result<Option<Lasts>, Error> {
    let known = tables::topics(db)?;
    if !known.iter().any(|spec| spec.topic == wanted.topic) {
        return Ok(None);
    }
    let Partition { number, .. } = tables::partition(db, wanted)?;
    let mut lasts = row.lasts.clone();
    tables::scan(db, wanted, number, row.low, |message| {
        let link = Link::from_headers(|name| message.headers.get(name));
        lasts.fold(row.start, link.ok().flatten().as_ref());
        true
    })?;
    Ok(Some(lasts))
}

fn outgoing(message: Message) -> Outgoing {
    Outgoing {
        topic: message.topic,
        partition: message.partition,
        key: message.key,
        headers: message.headers,
        value: message.value,
        timestamp: message.timestamp,
    }
}

fn one(db: &Connection, wanted: &TopicPartition, offset: u64) -> Result<Option<Message>, Error> {
    let limit = ReadLimit {
        messages: 1,
        bytes: 0,
    };
    let mut messages = tables::read(db, wanted, offset, limit)?.messages;
    Ok(messages.pop())
}

/// The offset at which the first chunk of a partition begins.
fn first_chunk(db: &Connection, origin: Place) -> Result<Option<u64>, Error> {
    const QUERY: &str = "SELECT min(place) FROM chunks WHERE place BETWEEN ?1 AND ?2";
    offset(db, QUERY, origin, origin.last())
}

/// The offset at which the chunk begins that holds `place`.
fn chunk_of(db: &Connection, origin: Place, place: Place) -> Result<Option<u64>, Error> {
    const QUERY: &str = "SELECT max(place) FROM chunks WHERE place BETWEEN ?1 AND ?2";
    offset(db, QUERY, origin, place)
}

fn offset(db: &Connection, query: &str, from: Place, to: Place) -> Result<Option<u64>, Error> {
    let found = db
        .query_row(query, [from.number(), to.number()], |row| {
            row.get::<_, Option<i64>>(0)
        })
        .optional()
        .doing("look for a chunk")?;
    Ok(found.flatten().map(|number| Place::stored(number).offset()))
}

/// Lets a partition begin at `first`, and counts its bytes anew.
fn begin_at(db: &Connection, wanted: &TopicPartition, first: u64) -> Result<(), Error> {
    const BEGIN: &str = "UPDATE partitions SET first_offset = ?2, bytes = ?3 WHERE number = ?1";
    let Partition { number, .. } = tables::partition(db, wanted)?;
    let mut bytes = 0;
    tables::scan(db, wanted, number, first, |message| {
        bytes += tables::size(
            message.key.as_ref(),
            &message.headers,
            message.value.as_deref(),
        );
        true
    })?;
    db.execute(
        BEGIN,
        params![number, tables::stored(first), tables::stored(bytes)],
    )
    .doing(&format!("begin `{wanted}`"))
    .map(drop)
}

/// Empties a partition, which goes on at `offset`.
fn drop_all(
    db: &Connection,
    wanted: &TopicPartition,
    number: i64,
    offset: u64,
) -> Result<(), Error> {
    const DROP: &str = "DELETE FROM chunks WHERE place BETWEEN ?1 AND ?2";
    const EMPTY: &str =
        "UPDATE partitions SET first_offset = ?2, end_offset = ?2, bytes = 0 WHERE number = ?1";
    let origin = tables::place(wanted, number, 0)?;
    db.execute(DROP, [origin.number(), origin.last().number()])
        .and_then(|_| db.execute(EMPTY, params![number, tables::stored(offset)]))
        .doing(&format!("begin `{wanted}`"))
        .map(drop)
}
