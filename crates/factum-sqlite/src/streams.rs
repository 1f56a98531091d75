//! Streams as the writer knows them: their numbers, last versions and partition keys.
//!
//! What was used lately is in memory, so that most commits are decided without a look into the file. Behind it
//! stand the table of streams, the index of their events, and the tail of the log that the index trails.

use factum_core::{Error, Key, StreamId, StreamKey, Version};
use rusqlite::{Connection, OptionalExtension, params};

use crate::{
    error::Doing,
    number::{numbered, range, signed, within_store},
    recent::Recent,
    shared::Shared,
    state::Pending,
};

/// How many streams the writer remembers for each store: at 250 bytes each, 16 MB.
const STREAMS_REMEMBERED_MAX: usize = 65_536;

/// What the writer knows of a stream.
#[derive(Clone, Debug, Default)]
pub(crate) struct Head {
    /// Its number; `None` before its first event.
    pub(crate) number: Option<i64>,
    /// The version of its last event.
    pub(crate) version: Version,
    /// Its partition key.
    pub(crate) key: StreamKey,
}

/// All streams of one store.
#[derive(Debug)]
pub(crate) struct Streams {
    store: i64,
    next: u64,
    heads: Recent<StreamId, Head>,
}

impl Streams {
    /// Those of the store `store`.
    pub(crate) fn load(connection: &Connection, store: i64) -> Result<Self, Error> {
        let next = next_number(connection, "streams", store)?;
        Ok(Self {
            store,
            next,
            heads: Recent::at_most(STREAMS_REMEMBERED_MAX),
        })
    }

    /// What is known of `stream`, the present group's events included.
    pub(crate) fn head(
        &mut self,
        connection: &Connection,
        shared: &Shared,
        pending: &Pending,
        stream: &StreamId,
    ) -> Result<Head, Error> {
        if let Some(head) = self.heads.get(stream, |head| head.clone()) {
            return Ok(head);
        }
        let head = self.look_up(connection, shared, pending, stream)?;
        self.heads.put(stream.clone(), head.clone());
        Ok(head)
    }

    fn look_up(
        &self,
        connection: &Connection,
        shared: &Shared,
        pending: &Pending,
        stream: &StreamId,
    ) -> Result<Head, Error> {
        const WHAT: &str = "look up a stream";
        let known = connection
            .prepare_cached(
                "SELECT number, keyed, partition_key FROM streams WHERE store = ?1 AND category = ?2 AND id = ?3",
            )
            .doing(WHAT)?
            .query_row(params![self.store, stream.category().as_str(), stream.id()], |row| {
                Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, Option<Vec<u8>>>(2)?))
            })
            .optional()
            .doing(WHAT)?;
        let Some((number, keyed, key)) = known else {
            return Ok(Head::default());
        };
        let key = if keyed == 0 {
            StreamKey::Open
        } else {
            StreamKey::Fixed(key.map(Key::from))
        };
        let version = pending
            .version(number)
            .or_else(|| shared.read().tail.version(number));
        let version = match version {
            Some(version) => version,
            None => indexed_version(connection, number)?,
        };
        Ok(Head {
            number: Some(number),
            version,
            key,
        })
    }

    /// Keeps what a commit has made of a stream, and says its number.
    pub(crate) fn advance(
        &mut self,
        connection: &Connection,
        stream: &StreamId,
        mut head: Head,
        was_open: bool,
    ) -> Result<i64, Error> {
        const WHAT: &str = "write a stream";
        let (keyed, key) = match &head.key {
            StreamKey::Open => (0, None),
            StreamKey::Fixed(None) => (1, None),
            StreamKey::Fixed(Some(key)) => (2, Some(key.as_bytes())),
        };
        let number = head
            .number
            .unwrap_or_else(|| numbered(self.store, self.next));
        if head.number.is_none() {
            connection
                .prepare_cached("INSERT INTO streams VALUES (?1, ?2, ?3, ?4, ?5, ?6)")
                .and_then(|mut statement| {
                    let (category, id) = (stream.category().as_str(), stream.id());
                    statement.execute(params![number, self.store, category, id, keyed, key])
                })
                .doing(WHAT)?;
            self.next += 1;
        } else if was_open && keyed != 0 {
            connection
                .prepare_cached(
                    "UPDATE streams SET keyed = ?2, partition_key = ?3 WHERE number = ?1",
                )
                .and_then(|mut statement| statement.execute(params![number, keyed, key]))
                .doing(WHAT)?;
        }
        head.number = Some(number);
        self.heads.put(stream.clone(), head);
        Ok(number)
    }
}

/// The last version that the index knows.
pub(crate) fn indexed_version(connection: &Connection, stream: i64) -> Result<Version, Error> {
    let version: Option<i64> = connection
        .prepare_cached("SELECT max(version) FROM stream_events WHERE stream = ?1")
        .and_then(|mut statement| statement.query_row([stream], |row| row.get(0)))
        .doing("read a stream's version")?;
    Ok(Version(version.map_or(0, i64::cast_unsigned)))
}

/// The number behind the greatest that a table of the store has.
pub(crate) fn next_number(connection: &Connection, table: &str, store: i64) -> Result<u64, Error> {
    let (first, last) = range(store);
    let sql = format!("SELECT max(number) FROM {table} WHERE number BETWEEN ?1 AND ?2");
    let greatest: Option<i64> = connection
        .query_row(&sql, [first, last], |row| row.get(0))
        .doing("read the last number given")?;
    Ok(greatest.map_or(1, |number| within_store(number) + 1))
}

/// The version of a stream's event as SQLite takes it.
pub(crate) fn version_column(version: Version) -> i64 {
    signed(version.0)
}
