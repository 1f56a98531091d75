//! What a backup carries of topics: the messages that its store's groups have not finished.
//!
//! An inbox row says by offsets which messages are finished, and what they were depends on the partition's content. So a
//! backup takes each partition with it from where the slowest of its groups stands. Where the directory that it is
//! restored into still has the topics, nothing is done. Where they are lost, they begin again with these messages at their
//! offsets; what others had published there comes again from the logs (`set_back.rs`). Backups of several stores, and of
//! different moments, may bring back pieces of one partition, in any order and overlapping: each puts what is missing in
//! its place, and offsets between the pieces are left out, as a broker may; those behind the last piece too, where a backup
//! knows that the partition had come further and retention has taken what was there. Messages keep the times at which they were
//! published, which consumers see; retention by age counts from the restore for them, or it would take them at the first
//! start. That by size is a bound on the disk, and holds for them as for all.

use factum_core::{
    Error, InboxRow, Lasts, Message, Outgoing, Timestamp, TopicPartition, Watermarks, chain::Link,
};
use rusqlite::{Connection, params};

use super::{
    chunk::Stored,
    place::Place,
    tables::{self, Partition},
};
use crate::{error::Doing, inbox, number::micros};
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
        let begins = begins.max(watermarks.first);
        reach(backup, &wanted, number, begins, watermarks.end)?;
    }
    Ok(())
}

/// Gives back to the topics of `db` what they have lost of those that the backup carries. Retention counts from `at` for it.
///
/// # Errors
///
/// Class fatal when the directory has a topic of the same name that is another one.
pub(crate) fn put_back(db: &Connection, backup: &Connection, at: Timestamp) -> Result<(), Error> {
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
        put_back_partition(db, backup, &wanted, at)?;
    }
    Ok(())
}

fn put_back_partition(
    db: &Connection,
    backup: &Connection,
    wanted: &TopicPartition,
    at: Timestamp,
) -> Result<(), Error> {
    let carried = tables::watermarks(backup, wanted)?;
    let Partition {
        number,
        watermarks: there,
        ..
    } = tables::partition(db, wanted)?;
    let is_empty = |marks: &Watermarks| marks.first == marks.end;
    if is_empty(&carried) && carried.end <= there.end {
        return Ok(());
    }
    let end = there.end.max(carried.end);
    // What retention had emptied says where it ends, and nothing of where what others carry begins.
    let first = match (is_empty(&there), is_empty(&carried)) {
        (true, true) => end,
        (true, false) => carried.first,
        (false, true) => there.first,
        (false, false) => there.first.min(carried.first),
    };
    let mut next = carried.first;
    let mut filled = false;
    while next < carried.end {
        // The backup's own messages may have holes between them, and behind them.
        let slice = tables::read(backup, wanted, next, LIMIT)?;
        filled |= fill(db, wanted, number, slice.messages)?;
        next = slice.next;
    }
    if filled || (first, end) != (there.first, there.end) {
        reach(db, wanted, number, first, end)?;
    }
    if filled || end > there.end {
        const RESTORED: &str = "UPDATE partitions SET restored = ?2 WHERE number = ?1";
        db.execute(RESTORED, [number, micros(at)])
            .doing(&format!("restore `{wanted}`"))?;
    }
    Ok(())
}

/// Puts in their places those of some messages, which are in the order of their offsets, that a partition lacks. Says
/// whether there were any. The partition's row is the caller's.
///
/// Between what several backups brought there are holes, of which the next one may fill a part. Nor does what lies in a
/// chunk before the partition's first message lack: retention has left it there.
fn fill(
    db: &Connection,
    wanted: &TopicPartition,
    number: i64,
    messages: Vec<Message>,
) -> Result<bool, Error> {
    let Some(from) = messages.first().map(|first| first.offset) else {
        return Ok(false);
    };
    let mut carried = messages.into_iter().peekable();
    let (mut lacking, mut other) = (Vec::new(), None);
    tables::scan(db, wanted, number, from, |held| {
        while let Some(before) = carried.next_if(|message| message.offset < held.offset) {
            lacking.push(before);
        }
        if let Some(same) = carried.next_if(|message| message.offset == held.offset)
            && !is(&held, &same)
        {
            other = Some(held.offset);
        }
        other.is_none() && carried.peek().is_some()
    })?;
    if let Some(offset) = other {
        return Err(Error::fatal(format!(
            "partition `{wanted}` of the directory holds other messages than those that the backup's store had read, at \
             offset {offset}: restore into an empty directory"
        )));
    }
    lacking.extend(carried);
    for run in lacking.chunk_by(|before, next| before.offset + 1 == next.offset) {
        let messages: Vec<_> = run.iter().cloned().map(outgoing).collect();
        tables::put_chunks(db, wanted, number, run[0].offset, &messages)?;
    }
    Ok(!lacking.is_empty())
}

/// Whether a partition holds this very message.
fn is(held: &Stored, message: &Message) -> bool {
    held.timestamp == message.timestamp
        && held.key == message.key
        && held.headers == message.headers
        && held.value == message.value
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

/// The offset at which the first chunk of a partition begins.
fn first_chunk(db: &Connection, origin: Place) -> Result<Option<u64>, Error> {
    const QUERY: &str = "SELECT min(place) FROM chunks WHERE place BETWEEN ?1 AND ?2";
    let found: Option<i64> = db
        .query_row(QUERY, [origin.number(), origin.last().number()], |row| {
            row.get(0)
        })
        .doing("look for a chunk")?;
    Ok(found.map(|number| Place::stored(number).offset()))
}

/// Lets a partition reach from `first` to `end`, and counts its bytes anew.
fn reach(
    db: &Connection,
    wanted: &TopicPartition,
    number: i64,
    first: u64,
    end: u64,
) -> Result<(), Error> {
    const REACH: &str =
        "UPDATE partitions SET first_offset = ?2, end_offset = ?3, bytes = ?4 WHERE number = ?1";
    let mut bytes = 0;
    tables::scan(db, wanted, number, first, |message| {
        bytes += tables::size(
            message.key.as_ref(),
            &message.headers,
            message.value.as_deref(),
        );
        true
    })?;
    let [first, end, bytes] = [first, end, bytes].map(tables::stored);
    db.execute(REACH, [number, first, end, bytes])
        .doing(&format!("let `{wanted}` reach from {first} to {end}"))
        .map(drop)
}
