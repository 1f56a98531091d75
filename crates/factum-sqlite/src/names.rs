//! Interned names of one store: stored types, and topics with their pinned partition counts.

use std::collections::BTreeMap;

use factum_core::{Error, PinnedTopic, Topic, TypeName};
use rusqlite::{Connection, OptionalExtension, params};

use crate::{
    error::{Doing, damaged},
    number::numbered,
    recent::Recent,
    streams::next_number,
};

/// How many types the writer remembers for each store; a program has some hundreds, foreign ones included.
const TYPES_REMEMBERED_MAX: usize = 8_192;

/// The numbers of stored types.
#[derive(Debug)]
pub(crate) struct Types {
    store: i64,
    next: u64,
    numbers: Recent<TypeName, i64>,
}

impl Types {
    /// Those of the store `store`.
    pub(crate) fn load(connection: &Connection, store: i64) -> Result<Self, Error> {
        let next = next_number(connection, "types", store)?;
        Ok(Self {
            store,
            next,
            numbers: Recent::at_most(TYPES_REMEMBERED_MAX),
        })
    }

    /// The number of a type, which is made if it has none.
    pub(crate) fn number(
        &mut self,
        connection: &Connection,
        name: &TypeName,
    ) -> Result<i64, Error> {
        const WHAT: &str = "look up a type";
        if let Some(number) = self.numbers.get(name, |number| *number) {
            return Ok(number);
        }
        let known = connection
            .prepare_cached(
                "SELECT number FROM types WHERE store = ?1 AND name = ?2 AND version = ?3",
            )
            .and_then(|mut statement| {
                statement
                    .query_row(params![self.store, &*name.name, name.version], |row| {
                        row.get(0)
                    })
                    .optional()
            })
            .doing(WHAT)?;
        let number = known.unwrap_or_else(|| numbered(self.store, self.next));
        if known.is_none() {
            connection
                .prepare_cached("INSERT INTO types VALUES (?1, ?2, ?3, ?4)")
                .and_then(|mut statement| {
                    statement.execute(params![number, self.store, &*name.name, name.version])
                })
                .doing(WHAT)?;
            self.next += 1;
        }
        self.numbers.put(name.clone(), number);
        Ok(number)
    }
}

/// A pinned topic.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pinned {
    pub(crate) number: i64,
    pub(crate) partitions: u32,
}

/// All pinned topics.
#[derive(Debug)]
pub(crate) struct Topics {
    store: i64,
    pinned: BTreeMap<Topic, Pinned>,
}

impl Topics {
    /// Those of the store `store`.
    pub(crate) fn load(connection: &Connection, store: i64) -> Result<Self, Error> {
        let rows = read(connection, store)?;
        let pinned = |(number, pinned): (i64, PinnedTopic)| {
            (
                pinned.topic,
                Pinned {
                    number,
                    partitions: pinned.partitions,
                },
            )
        };
        Ok(Self {
            store,
            pinned: rows.into_iter().map(pinned).collect(),
        })
    }

    /// A topic, if it is pinned.
    pub(crate) fn get(&self, topic: &Topic) -> Option<Pinned> {
        self.pinned.get(topic).copied()
    }

    /// Pins a topic, or verifies its count.
    pub(crate) fn pin(
        &mut self,
        connection: &Connection,
        topic: &Topic,
        partitions: u32,
        service: &factum_core::ServiceName,
    ) -> Result<(), Error> {
        if partitions == 0 {
            return Err(Error::poison(format!(
                "topic `{topic}` can't have 0 partitions"
            )));
        }
        match self.get(topic) {
            Some(pinned) if pinned.partitions == partitions => Ok(()),
            Some(pinned) => Err(Error::fatal(format!(
                "topic `{topic}` is pinned with {} partitions in store `{service}`, not {partitions}",
                pinned.partitions
            ))),
            None => {
                let number = numbered(self.store, next_number(connection, "topics", self.store)?);
                connection
                    .execute(
                        "INSERT INTO topics VALUES (?1, ?2, ?3, ?4)",
                        params![number, self.store, topic.as_str(), partitions],
                    )
                    .doing("pin a topic")?;
                self.pinned
                    .insert(topic.clone(), Pinned { number, partitions });
                Ok(())
            }
        }
    }
}

/// All pinned topics with their numbers, in the order of their names.
pub(crate) fn read(connection: &Connection, store: i64) -> Result<Vec<(i64, PinnedTopic)>, Error> {
    const WHAT: &str = "read pinned topics";
    let mut statement = connection
        .prepare_cached(
            "SELECT number, topic, partitions FROM topics WHERE store = ?1 ORDER BY topic",
        )
        .doing(WHAT)?;
    let mut rows = statement.query([store]).doing(WHAT)?;
    let mut topics = Vec::new();
    while let Some(row) = rows.next().doing(WHAT)? {
        let name: String = row.get(1).doing(WHAT)?;
        let topic = Topic::new(&name).map_err(|_| damaged(format!("topic `{name}`")))?;
        topics.push((
            row.get(0).doing(WHAT)?,
            PinnedTopic {
                topic,
                partitions: row.get(2).doing(WHAT)?,
            },
        ));
    }
    Ok(topics)
}
