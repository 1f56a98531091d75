//! Inbox rows: which messages of a partition a group has finished.
//!
//! The rows of a store are few and small, so the writer keeps all of them in memory and writes a changed one once
//! for a whole group of commits, just before the group is committed.

use std::collections::BTreeMap;

use factum_core::{
    Begin, Epoch, Error, Fence, Group, InboxId, InboxRow, Mark, OwnerEpoch, Start, Timestamp,
    Topic, Trying,
};
use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::Serialize;

use crate::{
    error::{Doing, damaged},
    number::{numbered, signed},
    streams::next_number,
};

const COLUMNS: &str = "number, group_name, topic, partition, fence_epoch, fence_owner, start, low, done, lasts, clean, \
     trying_offset, trying_tries, mark_offset, mark_time";

/// An inbox as the writer knows it.
#[derive(Debug)]
pub(crate) struct Inbox {
    pub(crate) number: i64,
    pub(crate) row: InboxRow,
    /// How many messages are parked from it: all but the discarded ones.
    pub(crate) parked: u64,
    changed: bool,
}

/// All inboxes of one store.
#[derive(Debug)]
pub(crate) struct Inboxes {
    store: i64,
    rows: BTreeMap<InboxId, Inbox>,
}

impl Inboxes {
    /// Those of the store `store`.
    pub(crate) fn load(connection: &Connection, store: i64) -> Result<Self, Error> {
        const WHAT: &str = "count parked messages";
        let mut rows = BTreeMap::new();
        for (number, id, row) in read_all(connection, store)? {
            let parked: i64 = connection
                .prepare_cached("SELECT count(*) FROM parked WHERE inbox = ?1 AND state < 4")
                .and_then(|mut statement| statement.query_row([number], |row| row.get(0)))
                .doing(WHAT)?;
            rows.insert(
                id,
                Inbox {
                    number,
                    row,
                    parked: parked.cast_unsigned(),
                    changed: false,
                },
            );
        }
        Ok(Self { store, rows })
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// One of them.
    pub(crate) fn get(&self, id: &InboxId) -> Option<&Inbox> {
        self.rows.get(id)
    }

    /// Puts another row in place of what an inbox has, to be written with the group.
    pub(crate) fn set(&mut self, id: &InboxId, row: InboxRow) {
        let inbox = self
            .rows
            .get_mut(id)
            .expect("the inbox was looked up before");
        inbox.row = row;
        inbox.changed = true;
    }

    /// Takes note that messages were parked from an inbox, or left it.
    pub(crate) fn count(&mut self, id: &InboxId, change: i64) {
        let inbox = self
            .rows
            .get_mut(id)
            .expect("the inbox was looked up before");
        inbox.parked = inbox.parked.saturating_add_signed(change);
    }

    /// How many messages of a group are parked.
    pub(crate) fn parked_in(&self, group: &Group) -> u64 {
        let of_group = self.rows.iter().filter(|(id, _)| id.group == *group);
        of_group.map(|(_, inbox)| inbox.parked).sum()
    }

    /// Claims an inbox, which is made if it does not exist.
    pub(crate) fn claim(
        &mut self,
        connection: &Connection,
        id: &InboxId,
        epoch: Epoch,
        begin: &Begin,
    ) -> Result<InboxRow, Error> {
        const WHAT: &str = "claim an inbox";
        if !self.rows.contains_key(id) {
            let number = numbered(self.store, next_number(connection, "inboxes", self.store)?);
            connection
                .execute(
                    "INSERT INTO inboxes (number, store, group_name, topic, partition, fence_epoch, fence_owner, \
                     start, low, done, lasts, clean) VALUES (?1, ?2, ?3, ?4, ?5, 0, 0, ?6, ?7, '[]', ?8, 1)",
                    params![
                        number,
                        self.store,
                        id.group.as_str(),
                        id.topic.as_str(),
                        id.partition,
                        start_code(begin.start),
                        signed(begin.low),
                        json(&begin.lasts)?,
                    ],
                )
                .doing(WHAT)?;
            let inbox = Inbox {
                number,
                row: begin.row(),
                parked: 0,
                changed: false,
            };
            self.rows.insert(id.clone(), inbox);
        }
        let inbox = self.rows.get_mut(id).expect("it was made above");
        inbox.row.fence = raised(inbox.row.fence, epoch);
        // The owner is told how the one before it ended; until it releases the row, it has not ended well.
        let told = inbox.row.clone();
        inbox.row.clean = false;
        inbox.changed = true;
        Ok(told)
    }

    /// Writes the rows that have changed.
    pub(crate) fn flush(&mut self, connection: &Connection) -> Result<(), Error> {
        const WHAT: &str = "write an inbox row";
        for inbox in self.rows.values_mut().filter(|inbox| inbox.changed) {
            let row = &inbox.row;
            connection
                .prepare_cached(
                    "UPDATE inboxes SET fence_epoch = ?2, fence_owner = ?3, low = ?4, done = ?5, lasts = ?6, \
                     clean = ?7, trying_offset = ?8, trying_tries = ?9, mark_offset = ?10, mark_time = ?11 \
                     WHERE number = ?1",
                )
                .doing(WHAT)?
                .execute(params![
                    inbox.number,
                    signed(row.fence.store.0),
                    signed(row.fence.owner.0),
                    signed(row.low),
                    json(&row.done)?,
                    json(&row.lasts)?,
                    row.clean,
                    row.trying.map(|trying| signed(trying.offset)),
                    row.trying.map(|trying| trying.tries),
                    row.mark.map(|mark| signed(mark.offset)),
                    row.mark.map(|mark| mark.timestamp.as_micros()),
                ])
                .doing(WHAT)?;
            inbox.changed = false;
        }
        Ok(())
    }
}

fn json<T: Serialize>(part: &T) -> Result<String, Error> {
    serde_json::to_string(part)
        .map_err(|error| Error::fatal("an inbox row can't be encoded").caused_by(error))
}

/// The fence of the next owner of a role.
pub(crate) fn raised(fence: Fence, epoch: Epoch) -> Fence {
    Fence {
        store: epoch,
        owner: OwnerEpoch(fence.owner.0 + 1),
    }
}

/// All inboxes of a store, in the order of their ids.
pub(crate) fn read_all(
    connection: &Connection,
    store: i64,
) -> Result<Vec<(i64, InboxId, InboxRow)>, Error> {
    const WHAT: &str = "read inbox rows";
    let sql = format!(
        "SELECT {COLUMNS} FROM inboxes WHERE store = ?1 ORDER BY group_name, topic, partition"
    );
    let mut statement = connection.prepare_cached(&sql).doing(WHAT)?;
    let mut rows = statement.query([store]).doing(WHAT)?;
    let mut inboxes = Vec::new();
    while let Some(row) = rows.next().doing(WHAT)? {
        inboxes.push(decode(row)?);
    }
    Ok(inboxes)
}

/// One inbox with its number.
pub(crate) fn read_one(
    connection: &Connection,
    store: i64,
    id: &InboxId,
) -> Result<Option<(i64, InboxRow)>, Error> {
    const WHAT: &str = "read an inbox row";
    let sql = format!(
        "SELECT {COLUMNS} FROM inboxes WHERE store = ?1 AND group_name = ?2 AND topic = ?3 AND partition = ?4"
    );
    let found = connection
        .prepare_cached(&sql)
        .doing(WHAT)?
        .query_row(
            params![store, id.group.as_str(), id.topic.as_str(), id.partition],
            |row| Ok(decode(row)),
        )
        .optional()
        .doing(WHAT)?;
    found
        .transpose()
        .map(|found| found.map(|(number, _, row)| (number, row)))
}

fn decode(row: &Row<'_>) -> Result<(i64, InboxId, InboxRow), Error> {
    const WHAT: &str = "read an inbox row";
    let number: i64 = row.get(0).doing(WHAT)?;
    let broken = || damaged(format!("inbox row {number}"));
    let unsigned = |index| row.get::<_, i64>(index).map(i64::cast_unsigned).doing(WHAT);
    let text = |index| row.get::<_, String>(index).doing(WHAT);
    let id = InboxId {
        group: Group::new(text(1)?).map_err(|_| broken())?,
        topic: Topic::new(text(2)?).map_err(|_| broken())?,
        partition: row.get(3).doing(WHAT)?,
    };
    let trying: (Option<i64>, Option<u32>) = (row.get(11).doing(WHAT)?, row.get(12).doing(WHAT)?);
    let mark: (Option<i64>, Option<i64>) = (row.get(13).doing(WHAT)?, row.get(14).doing(WHAT)?);
    let row = InboxRow {
        fence: Fence {
            store: Epoch(unsigned(4)?),
            owner: OwnerEpoch(unsigned(5)?),
        },
        start: start_of(unsigned(6)?).ok_or_else(broken)?,
        low: unsigned(7)?,
        done: serde_json::from_str(&text(8)?).map_err(|_| broken())?,
        lasts: serde_json::from_str(&text(9)?).map_err(|_| broken())?,
        clean: row.get(10).doing(WHAT)?,
        trying: match trying {
            (Some(offset), Some(tries)) => Some(Trying {
                offset: offset.cast_unsigned(),
                tries,
            }),
            _ => None,
        },
        mark: match mark {
            (Some(offset), Some(time)) => Some(Mark {
                offset: offset.cast_unsigned(),
                timestamp: Timestamp::from_micros(time),
            }),
            _ => None,
        },
    };
    Ok((number, id, row))
}

const fn start_code(start: Start) -> i64 {
    match start {
        Start::Beginning => 1,
        Start::Anchor => 2,
    }
}

const fn start_of(code: u64) -> Option<Start> {
    match code {
        1 => Some(Start::Beginning),
        2 => Some(Start::Anchor),
        _ => None,
    }
}
