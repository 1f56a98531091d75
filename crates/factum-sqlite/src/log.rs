//! The log: appending to it in a commit, completing its indexes behind it, and reading it.
//!
//! A record is written with its key alone. The indexes by stream and by correlation id are completed in slices of
//! many records, within the transaction of some group of commits, so that they cost no sync of their own and
//! each of their pages is written once for many records. Up to then, the tail stands in for them.

use std::sync::Arc;

use factum_core::{
    At, Draft, Error, LogFilter, LogPage, MessageId, PAGE_BYTES_MAX, Position, Record, RecordState,
    StreamId, StreamPage, StreamSummary, Version,
};
use rusqlite::{Connection, OptionalExtension, params};

use crate::{
    error::{Doing, damaged},
    number::{position, record_key, signed},
    reader::Reading,
    record::{self, COLUMNS, IdColumn, Interned, integer, text},
    shared::Shared,
    state::StoreState,
    streams::{indexed_version, version_column},
};

/// How far the indexes may trail the log, in records, before a group completes them. The bound of what is kept in
/// memory (100 bytes each) and of what a start has to read, one group of commits aside. Larger slices write each
/// page of the indexes less often; this one holds up the commits for two or three milliseconds.
pub(crate) const INDEX_SLICE: u64 = 512;

impl StoreState {
    /// Appends a record of a stream, or of none.
    pub(crate) fn append(
        &mut self,
        connection: &Connection,
        draft: Draft,
        stream: Option<i64>,
        version: Version,
    ) -> Result<(), Error> {
        let at = At {
            epoch: self.epoch(),
            position: self.head.position.next(),
        };
        let key = record_key(self.number, at.position);
        let topic = draft
            .destination
            .as_ref()
            .and_then(|to| self.topics.get(&to.topic));
        let names = Interned {
            stream,
            event_type: self.types.number(connection, &draft.event_type)?,
            topic: topic.map(|topic| topic.number),
        };
        self.head_checksum = record::insert(connection, key, at, version, &draft, &names)?;
        if let Some(stream) = stream {
            self.pending.events.push((stream, version, key));
        }
        if self.shared.is_followed() {
            self.pending.records.push(Record {
                at,
                version,
                state: RecordState::Live,
                draft: Arc::new(draft),
            });
        }
        self.head = at;
        Ok(())
    }
}

/// Puts the records behind `from` up to `to` into the indexes, and says how many it has read.
pub(crate) fn index(
    connection: &Connection,
    store: i64,
    from: Position,
    to: Position,
) -> Result<usize, Error> {
    const WHAT: &str = "complete the indexes of the log";
    // `OR FAIL`: a statement that fails ends the whole group, so SQLite need not keep what it would undo.
    let bounds = [record_key(store, from), record_key(store, to)];
    let mut read = 0;
    for sql in [
        "INSERT OR FAIL INTO stream_events SELECT stream, version, key FROM records \
         WHERE key > ?1 AND key <= ?2 AND stream IS NOT NULL ORDER BY stream, version",
        "INSERT OR FAIL INTO correlated SELECT key >> 40, correlation_id, key FROM records \
         WHERE key > ?1 AND key <= ?2 ORDER BY correlation_id, key",
    ] {
        // The second has an entry for each record.
        read = connection
            .prepare_cached(sql)
            .and_then(|mut statement| statement.execute(bounds))
            .doing(WHAT)?;
    }
    connection
        .prepare_cached("UPDATE stores SET indexed = ?2 WHERE number = ?1")
        .and_then(|mut statement| statement.execute([store, signed(to.0)]))
        .doing(WHAT)?;
    Ok(read)
}

/// Records behind `after`, looking through at most `limit`.
pub(crate) fn page(
    reading: &Reading,
    shared: &Shared,
    after: At,
    filter: &LogFilter,
    limit: usize,
) -> Result<LogPage, Error> {
    const WHAT: &str = "read the log";
    let head = {
        let published = shared.read();
        published.check_cursor(after)?;
        published.head
    };
    let sql = format!(
        "SELECT {COLUMNS} FROM records r WHERE r.key > ?1 AND r.key <= ?2 ORDER BY r.key LIMIT ?3"
    );
    let mut statement = reading.connection.prepare_cached(&sql).doing(WHAT)?;
    let store = shared.number;
    let bounds = [
        record_key(store, after.position),
        record_key(store, head.position),
        rows(limit),
    ];
    let mut found = statement.query(bounds).doing(WHAT)?;
    let mut page = LogPage {
        records: Vec::new(),
        next: after,
        head,
    };
    let mut bytes = 0;
    while bytes < PAGE_BYTES_MAX
        && let Some(row) = found.next().doing(WHAT)?
    {
        let at = At {
            epoch: factum_core::Epoch(integer(row, 1).unwrap_or_default().cast_unsigned()),
            position: position(integer(row, 0).unwrap_or_default()),
        };
        // Positions are dense: one that is missing was lost, and must not be passed over.
        if at.position != page.next.position.next() {
            return Err(missing(reading, page.next.position.next()));
        }
        page.next = at;
        shared.count_read(1);
        if let Some(record) = record::decode(reading, row, Some(filter))? {
            bytes += record.draft.encoded_len();
            page.records.push(record);
        }
    }
    // Nor must a page end early, as if there were nothing more yet: whoever follows the log would wait for ever.
    let read = page.next.position.0 - after.position.0;
    if bytes < PAGE_BYTES_MAX && read < limit as u64 && page.next.position < head.position {
        return Err(missing(reading, page.next.position.next()));
    }
    Ok(page)
}

fn missing(reading: &Reading, position: Position) -> Error {
    damaged(format!(
        "the record at position {position} of `{}`",
        reading.path.display()
    ))
}

/// Reads every record behind `from` up to `to` as a reader would, and gives each to `see`. Fails at the first that is
/// missing or damaged.
pub(crate) fn check(
    reading: &Reading,
    store: i64,
    from: Position,
    to: Position,
    mut see: impl FnMut(Record) -> Result<(), Error>,
) -> Result<(), Error> {
    const WHAT: &str = "check the log";
    let sql =
        format!("SELECT {COLUMNS} FROM records r WHERE r.key > ?1 AND r.key <= ?2 ORDER BY r.key");
    let mut statement = reading.connection.prepare_cached(&sql).doing(WHAT)?;
    let bounds = [record_key(store, from), record_key(store, to)];
    let mut found = statement.query(bounds).doing(WHAT)?;
    let mut next = from.next();
    while let Some(row) = found.next().doing(WHAT)? {
        let at = position(integer(row, 0).unwrap_or_default());
        if at != next {
            break;
        }
        next = next.next();
        if let Some(record) = record::decode(reading, row, None)? {
            see(record)?;
        }
    }
    if next > to {
        return Ok(());
    }
    Err(missing(reading, next))
}

/// Events of one stream from version `from` on.
pub(crate) fn stream_page(
    reading: &Reading,
    shared: &Shared,
    stream: &StreamId,
    from: Version,
    limit: usize,
) -> Result<StreamPage, Error> {
    match stream_number(&reading.connection, shared.number, stream)? {
        Some(number) => page_of(reading, shared, stream, number, from, limit),
        None => Ok(StreamPage {
            records: Vec::new(),
            version: Version::ZERO,
        }),
    }
}

/// [`stream_page`] of a stream whose number is known.
fn page_of(
    reading: &Reading,
    shared: &Shared,
    stream: &StreamId,
    number: i64,
    from: Version,
    limit: usize,
) -> Result<StreamPage, Error> {
    const WHAT: &str = "read a stream";
    let connection = &reading.connection;
    let mut page = StreamPage {
        records: Vec::new(),
        version: Version::ZERO,
    };
    // First the tail and then the index: what moves from one to the other in between is seen twice, not never.
    let (tail, last) = {
        let published = shared.read();
        (
            published.tail.events(number, from),
            published.tail.last(number),
        )
    };
    let from = Version(from.0.max(1));
    let mut next = from;
    {
        // An entry whose record is gone is a row all the same: the stream must not become shorter by it.
        let sql = format!(
            "SELECT {COLUMNS} FROM stream_events e LEFT JOIN records r ON r.key = e.record \
             WHERE e.stream = ?1 AND e.version >= ?2 ORDER BY e.version LIMIT ?3"
        );
        let mut statement = connection.prepare_cached(&sql).doing(WHAT)?;
        let mut found = statement
            .query([number, version_column(from), rows(limit)])
            .doing(WHAT)?;
        while let Some(row) = found.next().doing(WHAT)? {
            take(reading, row, stream, &mut next, &mut page)?;
        }
    }
    let sql = format!("SELECT {COLUMNS} FROM records r WHERE r.key = ?1");
    let mut statement = connection.prepare_cached(&sql).doing(WHAT)?;
    for (version, key) in tail {
        if version < next || page.records.len() >= limit {
            continue;
        }
        let mut found = statement.query([key]).doing(WHAT)?;
        let row = found.next().doing(WHAT)?;
        let row = row.ok_or_else(|| lacks(reading, stream, next))?;
        take(reading, row, stream, &mut next, &mut page)?;
    }
    page.version = match last {
        Some((version, _)) => version,
        None => indexed_version(connection, number)?,
    };
    page.version = page
        .records
        .last()
        .map_or(page.version, |record| record.version.max(page.version));
    shared.count_read(page.records.len());
    Ok(page)
}

/// Events of one stream from version `from` on, when no more than `brief` are to be read; `None` when there are more.
pub(crate) fn stream_end(
    reading: &Reading,
    shared: &Shared,
    stream: &StreamId,
    from: Version,
    limit: usize,
    brief: u64,
) -> Result<Option<StreamPage>, Error> {
    let connection = &reading.connection;
    let Some(number) = stream_number(connection, shared.number, stream)? else {
        return Ok(Some(StreamPage {
            records: Vec::new(),
            version: Version::ZERO,
        }));
    };
    let tail = shared.read().tail.version(number);
    let last = match tail {
        Some(version) => version,
        None => indexed_version(connection, number)?,
    };
    let wanted = (last.0 + 1).saturating_sub(from.0).min(limit as u64);
    match wanted {
        0 => Ok(Some(StreamPage {
            records: Vec::new(),
            version: last,
        })),
        wanted if wanted > brief => Ok(None),
        _ => page_of(reading, shared, stream, number, from, limit).map(Some),
    }
}

fn take(
    reading: &Reading,
    row: &rusqlite::Row<'_>,
    stream: &StreamId,
    next: &mut Version,
    page: &mut StreamPage,
) -> Result<(), Error> {
    if integer(row, 0).is_none() {
        return Err(lacks(reading, stream, *next));
    }
    let record = record::decode(reading, row, None)?;
    let Some(record) = record else { return Ok(()) };
    // What an index says is compared with the record: it has a checksum, and the index has none.
    if record.version != *next || record.draft.stream.as_ref() != Some(stream) {
        return Err(lacks(reading, stream, *next));
    }
    *next = next.next();
    page.records.push(record);
    Ok(())
}

/// An index leads to another record in the place of this version, or to none.
fn lacks(reading: &Reading, stream: &StreamId, version: Version) -> Error {
    damaged(format!(
        "version {version} of stream `{stream}` in `{}`",
        reading.path.display()
    ))
}

/// The number of a stream, when it has events.
pub(crate) fn stream_number(
    connection: &Connection,
    store: i64,
    stream: &StreamId,
) -> Result<Option<i64>, Error> {
    connection
        .prepare_cached("SELECT number FROM streams WHERE store = ?1 AND category = ?2 AND id = ?3")
        .and_then(|mut statement| {
            let names = params![store, stream.category().as_str(), stream.id()];
            statement.query_row(names, |row| row.get(0)).optional()
        })
        .doing("look up a stream")
}

/// Records with a correlation id behind `after`.
pub(crate) fn correlated(
    reading: &Reading,
    shared: &Shared,
    id: &MessageId,
    after: Position,
    limit: usize,
) -> Result<Vec<Record>, Error> {
    const WHAT: &str = "read correlated records";
    let connection = &reading.connection;
    let store = shared.number;
    let head = shared.read().head;
    // One snapshot for the index and for what it trails.
    let transaction = connection.unchecked_transaction().doing(WHAT)?;
    let indexed: i64 = transaction
        .prepare_cached("SELECT indexed FROM stores WHERE number = ?1")
        .and_then(|mut statement| statement.query_row([store], |row| row.get(0)))
        .doing(WHAT)?;
    let indexed = Position(indexed.cast_unsigned());
    let mut records = Vec::new();
    let in_index = format!(
        "SELECT {COLUMNS} FROM correlated c LEFT JOIN records r ON r.key = c.record \
         WHERE c.store = ?1 AND c.correlation_id = ?2 AND c.record > ?3 AND c.record <= ?4 ORDER BY c.record LIMIT ?5"
    );
    let behind = format!(
        "SELECT {COLUMNS} FROM records r \
         WHERE ?1 = ?1 AND r.correlation_id = ?2 AND r.key > ?3 AND r.key <= ?4 ORDER BY r.key LIMIT ?5"
    );
    for (sql, from, to) in [
        (in_index, after, head.position),
        (behind, after.max(indexed), head.position),
    ] {
        let wanted = rows(limit.saturating_sub(records.len()));
        let bounds = params![
            store,
            IdColumn::from(id),
            record_key(store, from),
            record_key(store, to),
            wanted
        ];
        let mut statement = transaction.prepare_cached(&sql).doing(WHAT)?;
        let mut found = statement.query(bounds).doing(WHAT)?;
        while let Some(row) = found.next().doing(WHAT)? {
            let record = match integer(row, 0) {
                Some(_) => record::decode(reading, row, None)?,
                None => None,
            };
            // As for streams: the index is not taken at its word.
            let record = record.filter(|record| record.draft.correlation_id == *id);
            records.push(record.ok_or_else(|| {
                damaged(format!(
                    "a record of correlation id `{id}` in `{}`",
                    reading.path.display()
                ))
            })?);
        }
    }
    shared.count_read(records.len());
    Ok(records)
}

/// Streams in the order of their names behind `after`.
pub(crate) fn streams(
    reading: &Reading,
    shared: &Shared,
    category: Option<&factum_core::Category>,
    after: Option<&StreamId>,
    limit: usize,
) -> Result<Vec<StreamSummary>, Error> {
    const WHAT: &str = "list streams";
    let connection = &reading.connection;
    let (after_category, after_id) =
        after.map_or(("", ""), |after| (after.category().as_str(), after.id()));
    let sql = match category {
        Some(_) => {
            "SELECT number, category, id FROM streams WHERE store = ?1 AND category = ?4 \
             AND (category, id) > (?2, ?3) ORDER BY category, id LIMIT ?5"
        }
        None => {
            "SELECT number, category, id FROM streams WHERE store = ?1 AND ?4 IS NULL \
             AND (category, id) > (?2, ?3) ORDER BY category, id LIMIT ?5"
        }
    };
    let category = category.map(factum_core::Category::as_str);
    let mut statement = connection.prepare_cached(sql).doing(WHAT)?;
    let mut found = statement
        .query(params![
            shared.number,
            after_category,
            after_id,
            category,
            rows(limit)
        ])
        .doing(WHAT)?;
    let mut listed = Vec::new();
    while let Some(row) = found.next().doing(WHAT)? {
        let number: i64 = row.get(0).doing(WHAT)?;
        let read = || {
            let category = factum_core::Category::new(text(row, 1)?).ok()?;
            StreamId::new(category, text(row, 2)?).ok()
        };
        let stream = read().ok_or_else(|| damaged(format!("stream number {number}")))?;
        let last = match shared.read().tail.last(number) {
            Some(last) => Some(last),
            None => indexed_last(connection, number)?,
        };
        // Without an event, it is being committed at this moment.
        if let Some((version, key)) = last {
            listed.push(StreamSummary {
                stream,
                version,
                last: position(key),
            });
        }
    }
    Ok(listed)
}

fn indexed_last(connection: &Connection, stream: i64) -> Result<Option<(Version, i64)>, Error> {
    connection
        .prepare_cached("SELECT version, record FROM stream_events WHERE stream = ?1 ORDER BY version DESC LIMIT 1")
        .and_then(|mut statement| {
            let last = statement.query_row([stream], |row| {
                Ok((Version(row.get::<_, i64>(0)?.cast_unsigned()), row.get(1)?))
            });
            last.optional()
        })
        .doing("read a stream's last event")
}

/// A bound of rows as SQLite takes it.
pub(crate) fn rows(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}
