//! Parked messages as the writer reads and writes them. What operators and owners ask is in `parked_read`.

use factum_core::{
    CommitError, Error, HandlerName, InboxId, Lane, Parked, ParkedId, ParkedState, Room, Timestamp,
};
use rusqlite::{Connection, OptionalExtension, params};

use crate::{
    error::Doing,
    headers,
    inbox::{Inbox, Inboxes},
    number::{micros, signed},
    parked_read::{self, COLUMNS},
    record::IdColumn,
};

/// A lane as two columns: its key, or the offset of the one message that has none.
pub(crate) fn lane_columns(lane: &Lane) -> (Option<&[u8]>, Option<i64>) {
    match lane {
        Lane::Key(key) => (Some(key.as_bytes()), None),
        Lane::Alone(offset) => (None, Some(signed(*offset))),
    }
}

/// The condition that picks a lane's messages, discarded ones aside, by the columns of [`lane_columns`]. Two
/// statements and not one, so that each is served by its index.
fn in_lane(lane: &Lane) -> &'static str {
    match lane {
        Lane::Key(_) => "inbox = ?1 AND lane_key = ?2 AND ?3 IS NULL AND state < 4",
        Lane::Alone(_) => {
            "inbox = ?1 AND ?2 IS NULL AND lane_key IS NULL AND message_offset = ?3 AND state < 4"
        }
    }
}

/// Whether a lane is parked.
pub(crate) fn is_parked(
    connection: &Connection,
    inbox: &Inbox,
    lane: &Lane,
) -> Result<bool, Error> {
    if inbox.parked == 0 {
        return Ok(false);
    }
    let (key, offset) = lane_columns(lane);
    connection
        .prepare_cached(&format!(
            "SELECT EXISTS (SELECT 1 FROM parked WHERE {})",
            in_lane(lane)
        ))
        .and_then(|mut statement| {
            statement.query_row(params![inbox.number, key, offset], |row| row.get(0))
        })
        .doing("look up a parked lane")
}

/// Refuses one more than the bounds allow.
pub(crate) fn check_room(
    connection: &Connection,
    inboxes: &Inboxes,
    id: &InboxId,
    inbox: &Inbox,
    lane: &Lane,
    room: Room,
) -> Result<(), CommitError> {
    let (key, offset) = lane_columns(lane);
    let in_lane: i64 = connection
        .prepare_cached(&format!(
            "SELECT count(*) FROM parked WHERE {}",
            in_lane(lane)
        ))
        .and_then(|mut statement| {
            statement.query_row(params![inbox.number, key, offset], |row| row.get(0))
        })
        .doing("count a parked lane")?;
    room.check(in_lane.cast_unsigned(), inboxes.parked_in(&id.group))
}

/// One parked message.
pub(crate) fn get(
    connection: &Connection,
    inboxes: &Inboxes,
    id: &ParkedId,
) -> Result<Option<Parked>, Error> {
    const WHAT: &str = "read a parked message";
    let Some(inbox) = inboxes.get(&id.inbox) else {
        return Ok(None);
    };
    let sql =
        format!("SELECT {COLUMNS} FROM parked p WHERE p.inbox = ?1 AND p.message_offset = ?2");
    let found = connection
        .prepare_cached(&sql)
        .doing(WHAT)?
        .query_row(params![inbox.number, signed(id.offset)], |row| {
            Ok(parked_read::decode(row, &id.inbox))
        })
        .optional()
        .doing(WHAT)?;
    found.transpose()
}

/// Parks a message.
pub(crate) fn insert(
    connection: &Connection,
    inboxes: &mut Inboxes,
    parked: &Parked,
) -> Result<(), Error> {
    let inbox = inboxes
        .get(&parked.id.inbox)
        .expect("the inbox was looked up before")
        .number;
    let (key, _) = lane_columns(&parked.lane);
    let failure = parked.failure.as_ref();
    connection
        .prepare_cached(
            "INSERT INTO parked (inbox, message_offset, lane_key, state, revision, timestamp, headers, value, edited, \
             event_id, type_name, type_version, correlation_id, tries, due, failure_class, failure, cause, handler, \
             failed_at, parked_at, redrives, discarded_at) VALUES \
             (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23)",
        )
        .doing("park a message")?
        .execute(params![
            inbox,
            signed(parked.id.offset),
            key,
            parked.state.code(),
            signed(parked.revision),
            micros(parked.message.timestamp),
            headers::encode(&parked.message.headers),
            parked.message.value.as_deref(),
            parked.edited.as_deref(),
            parked.event_id.as_ref().map(IdColumn::from),
            parked.event_type.as_ref().map(|name| &*name.name),
            parked.event_type.as_ref().map(|name| name.version),
            parked.correlation_id.as_ref().map(IdColumn::from),
            parked.tries,
            parked.due.map(micros),
            failure.map(|failure| failure.class.as_str()),
            failure.map(|failure| &*failure.message),
            failure.map(|failure| &*failure.cause),
            failure.and_then(|failure| failure.handler.as_ref()).map(HandlerName::as_str),
            failure.map(|failure| micros(failure.at)),
            micros(parked.parked_at),
            parked.redrives,
            parked.discarded_at.map(micros),
        ])
        .doing("park a message")?;
    inboxes.count(&parked.id.inbox, 1);
    Ok(())
}

/// Writes what has changed of a parked message: never its bytes.
pub(crate) fn update(
    connection: &Connection,
    inboxes: &mut Inboxes,
    parked: &Parked,
) -> Result<(), Error> {
    let inbox = inboxes
        .get(&parked.id.inbox)
        .expect("the inbox was looked up before")
        .number;
    let failure = parked.failure.as_ref();
    connection
        .prepare_cached(
            "UPDATE parked SET state = ?3, revision = ?4, edited = ?5, tries = ?6, due = ?7, failure_class = ?8, \
             failure = ?9, cause = ?10, handler = ?11, failed_at = ?12, redrives = ?13, discarded_at = ?14 \
             WHERE inbox = ?1 AND message_offset = ?2",
        )
        .doing("change a parked message")?
        .execute(params![
            inbox,
            signed(parked.id.offset),
            parked.state.code(),
            signed(parked.revision),
            parked.edited.as_deref(),
            parked.tries,
            parked.due.map(micros),
            failure.map(|failure| failure.class.as_str()),
            failure.map(|failure| &*failure.message),
            failure.map(|failure| &*failure.cause),
            failure.and_then(|failure| failure.handler.as_ref()).map(HandlerName::as_str),
            failure.map(|failure| micros(failure.at)),
            parked.redrives,
            parked.discarded_at.map(micros),
        ])
        .doing("change a parked message")?;
    if parked.state == ParkedState::Discarded {
        // Only the head of a lane is discarded, and only once, so it was counted until now.
        inboxes.count(&parked.id.inbox, -1);
    }
    Ok(())
}

/// Removes a message that was settled.
pub(crate) fn remove(
    connection: &Connection,
    inboxes: &mut Inboxes,
    id: &ParkedId,
) -> Result<(), Error> {
    let inbox = inboxes
        .get(&id.inbox)
        .expect("the inbox was looked up before")
        .number;
    connection
        .prepare_cached("DELETE FROM parked WHERE inbox = ?1 AND message_offset = ?2")
        .and_then(|mut statement| statement.execute(params![inbox, signed(id.offset)]))
        .doing("remove a parked message")?;
    inboxes.count(&id.inbox, -1);
    Ok(())
}

/// Makes the next of a lane its head, due `now`, after the one before has left.
pub(crate) fn release(
    connection: &Connection,
    inboxes: &mut Inboxes,
    id: &InboxId,
    lane: &Lane,
    now: Timestamp,
) -> Result<(), Error> {
    const WHAT: &str = "release a parked message";
    let inbox = inboxes.get(id).expect("the inbox was looked up before");
    let (key, offset) = lane_columns(lane);
    let sql = format!(
        "SELECT {COLUMNS} FROM parked p WHERE {} ORDER BY message_offset LIMIT 1",
        in_lane(lane)
    );
    let next = connection
        .prepare_cached(&sql)
        .doing(WHAT)?
        .query_row(params![inbox.number, key, offset], |row| {
            Ok(parked_read::decode(row, id))
        })
        .optional()
        .doing(WHAT)?
        .transpose()?;
    if let Some(mut next) = next.filter(|next| next.state == ParkedState::Waiting) {
        next.released(now);
        update(connection, inboxes, &next)?;
    }
    Ok(())
}
