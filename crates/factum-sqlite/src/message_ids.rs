//! The ids of foreign messages that a group has handled or parked, so that none is handled twice.

use factum_core::{Error, Group, MessageId, ParkedId, Timestamp};
use rusqlite::{Connection, OptionalExtension, params};

use crate::{
    error::Doing,
    inbox::Inboxes,
    number::{micros, signed},
    record::IdColumn,
};

/// Whether an id is taken in a group at a time.
pub(crate) fn is_taken(
    connection: &Connection,
    store: i64,
    group: &Group,
    id: &MessageId,
    now: Timestamp,
) -> Result<bool, Error> {
    let taken: Option<bool> = connection
        .prepare_cached(
            "SELECT until > ?4 OR EXISTS (SELECT 1 FROM parked WHERE inbox = parked_inbox \
             AND message_offset = parked_offset) \
             FROM message_ids WHERE store = ?1 AND group_name = ?2 AND event_id = ?3",
        )
        .and_then(|mut statement| {
            let values = params![store, group.as_str(), IdColumn::from(id), micros(now)];
            statement.query_row(values, |row| row.get(0)).optional()
        })
        .doing("look up an event id")?;
    Ok(taken == Some(true))
}

/// Takes an id until a time, or for as long as `parked` is there if that is longer.
pub(crate) fn take(
    connection: &Connection,
    store: i64,
    inboxes: &Inboxes,
    group: &Group,
    id: &MessageId,
    until: Timestamp,
    parked: Option<&ParkedId>,
) -> Result<(), Error> {
    let parked =
        parked.and_then(|parked| Some((inboxes.get(&parked.inbox)?.number, signed(parked.offset))));
    connection
        .prepare_cached(
            "INSERT INTO message_ids VALUES (?1, ?2, ?3, ?4, ?5, ?6) \
             ON CONFLICT (store, group_name, event_id) DO UPDATE SET until = max(until, excluded.until), \
             parked_inbox = coalesce(excluded.parked_inbox, parked_inbox), \
             parked_offset = coalesce(excluded.parked_offset, parked_offset)",
        )
        .and_then(|mut statement| {
            statement.execute(params![
                store,
                group.as_str(),
                IdColumn::from(id),
                micros(until),
                parked.map(|(inbox, _)| inbox),
                parked.map(|(_, offset)| offset),
            ])
        })
        .doing("keep an event id")?;
    Ok(())
}

/// Drops what expired before a time and has no parked row, at most `limit`, and says how many that were.
pub(crate) fn prune(
    connection: &Connection,
    store: i64,
    expired: Timestamp,
    limit: u32,
) -> Result<u64, Error> {
    let dropped = connection
        .prepare_cached(
            "DELETE FROM message_ids WHERE (store, group_name, event_id) IN ( \
               SELECT store, group_name, event_id FROM message_ids m WHERE store = ?1 AND until < ?2 \
               AND NOT EXISTS (SELECT 1 FROM parked WHERE inbox = m.parked_inbox AND message_offset = m.parked_offset) \
               LIMIT ?3)",
        )
        .and_then(|mut statement| statement.execute(params![store, micros(expired), limit]))
        .doing("drop expired event ids")?;
    Ok(dropped as u64)
}
