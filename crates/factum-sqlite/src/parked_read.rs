//! Parked messages as operators and owners ask for them.

use std::collections::BTreeMap;

use factum_core::{
    Error, FailureClass, FailureNote, Group, HandlerName, InboxId, Key, Lane, Message,
    PAGE_BYTES_MAX, Parked, ParkedCount, ParkedFilter, ParkedId, ParkedState, Timestamp, Topic,
    TypeName,
};
use rusqlite::{Connection, OptionalExtension, Row, params, params_from_iter, types::Value};

use crate::{
    error::{Doing, damaged},
    headers, inbox,
    number::{micros, range, signed},
    parking::lane_columns,
    record::{bytes, column, id_of, integer, small, text},
};

/// The columns that [`decode`] reads, in its order.
pub(crate) const COLUMNS: &str = "p.message_offset, p.lane_key, p.state, p.revision, p.timestamp, p.headers, p.value, \
     p.edited, p.event_id, p.type_name, p.type_version, p.correlation_id, p.tries, p.due, p.failure_class, p.failure, \
     p.cause, p.handler, p.failed_at, p.parked_at, p.redrives, p.discarded_at";

/// The parked message in a row of [`COLUMNS`].
pub(crate) fn decode(row: &Row<'_>, inbox: &InboxId) -> Result<Parked, Error> {
    let offset = integer(row, 0).unwrap_or_default().cast_unsigned();
    let id = ParkedId {
        inbox: inbox.clone(),
        offset,
    };
    let broken = damaged(format!("parked message `{id}`"));
    let read = || {
        let time = |index| integer(row, index).map(Timestamp::from_micros);
        let count = |index| integer(row, index).and_then(|number| u32::try_from(number).ok());
        let key = bytes(row, 1).map(Key::from);
        let event_type = match text(row, 9) {
            Some(name) => Some(TypeName::new(name, count(10)?)),
            None => None,
        };
        let failure = match text(row, 14) {
            None => None,
            Some(class) => Some(FailureNote {
                class: FailureClass::parse(class)?,
                message: text(row, 15)?.into(),
                cause: text(row, 16)?.into(),
                handler: match text(row, 17) {
                    Some(name) => Some(HandlerName::new(name).ok()?),
                    None => None,
                },
                at: time(18)?,
            }),
        };
        Some(Parked {
            lane: key.clone().map_or(Lane::Alone(offset), Lane::Key),
            state: small(row, 2).and_then(ParkedState::from_code)?,
            revision: integer(row, 3)?.cast_unsigned(),
            message: Message {
                topic: inbox.topic.clone(),
                partition: inbox.partition,
                offset,
                timestamp: time(4)?,
                key,
                headers: headers::decode(bytes(row, 5)?)?,
                value: bytes(row, 6),
            },
            edited: bytes(row, 7),
            event_id: id_of(column(row, 8)),
            event_type,
            correlation_id: id_of(column(row, 11)),
            tries: count(12)?,
            due: time(13),
            failure,
            parked_at: time(19)?,
            redrives: count(20)?,
            discarded_at: time(21),
            id,
        })
    };
    read().ok_or(broken)
}

/// Those that match, in the order of their ids.
pub(crate) fn find(
    connection: &Connection,
    store: i64,
    filter: &ParkedFilter,
    limit: usize,
) -> Result<Vec<Parked>, Error> {
    const WHAT: &str = "read parked messages";
    let mut sql = format!(
        "SELECT {COLUMNS}, i.group_name, i.topic, i.partition FROM inboxes i \
         CROSS JOIN parked p ON p.inbox = i.number WHERE i.store = ?"
    );
    let mut values = vec![Value::Integer(store)];
    let mut with = |condition: &str, given: Vec<Value>| {
        sql.push_str(condition);
        values.extend(given);
    };
    if let Some(group) = &filter.group {
        with(
            " AND i.group_name = ?",
            vec![Value::Text(group.to_string())],
        );
    }
    if let Some(inbox) = &filter.inbox {
        with(
            " AND (i.group_name, i.topic, i.partition) = (?, ?, ?)",
            inbox_values(inbox),
        );
    }
    if let Some(lane) = &filter.lane {
        match lane_columns(lane) {
            (Some(key), _) => with(" AND p.lane_key = ?", vec![Value::Blob(key.to_vec())]),
            (None, Some(offset)) => {
                with(
                    " AND p.lane_key IS NULL AND p.message_offset = ?",
                    vec![Value::Integer(offset)],
                );
            }
            (None, None) => {}
        }
    }
    if let Some(state) = filter.state {
        with(
            " AND p.state = ?",
            vec![Value::Integer(state.code().into())],
        );
    }
    if let Some(cause) = &filter.cause {
        with(" AND p.cause = ?", vec![Value::Text(cause.clone())]);
    }
    if let Some(due) = filter.due {
        // Only those that are retrying are due, which the index by due time needs to be told.
        with(
            " AND p.state = 1 AND p.due <= ?",
            vec![Value::Integer(micros(due))],
        );
    }
    if let Some(after) = &filter.after {
        let mut values = inbox_values(&after.inbox);
        values.push(Value::Integer(signed(after.offset)));
        with(
            " AND (i.group_name, i.topic, i.partition, p.message_offset) > (?, ?, ?, ?)",
            values,
        );
    }
    with(
        " ORDER BY i.group_name, i.topic, i.partition, p.message_offset LIMIT ?",
        vec![Value::Integer(i64::try_from(limit).unwrap_or(i64::MAX))],
    );
    let mut statement = connection.prepare_cached(&sql).doing(WHAT)?;
    let mut rows = statement.query(params_from_iter(values)).doing(WHAT)?;
    let (mut found, mut bytes) = (Vec::new(), 0);
    while bytes < PAGE_BYTES_MAX
        && let Some(row) = rows.next().doing(WHAT)?
    {
        let broken = || damaged("the inbox of a parked message");
        let inbox = InboxId {
            group: text(row, 22)
                .and_then(|name| Group::new(name).ok())
                .ok_or_else(broken)?,
            topic: text(row, 23)
                .and_then(|name| Topic::new(name).ok())
                .ok_or_else(broken)?,
            partition: integer(row, 24)
                .and_then(|number| u32::try_from(number).ok())
                .ok_or_else(broken)?,
        };
        let parked = decode(row, &inbox)?;
        bytes += parked.size();
        found.push(parked);
    }
    Ok(found)
}

fn inbox_values(inbox: &InboxId) -> Vec<Value> {
    vec![
        Value::Text(inbox.group.to_string()),
        Value::Text(inbox.topic.to_string()),
        Value::Integer(inbox.partition.into()),
    ]
}

/// How many there are, by group, state and cause.
pub(crate) fn counts(connection: &Connection, store: i64) -> Result<Vec<ParkedCount>, Error> {
    const WHAT: &str = "count parked messages";
    let mut statement = connection
        .prepare_cached(
            "SELECT i.group_name, p.state, p.cause, count(*), min(p.parked_at) FROM inboxes i \
             CROSS JOIN parked p ON p.inbox = i.number WHERE i.store = ?1 GROUP BY i.group_name, p.state, p.cause",
        )
        .doing(WHAT)?;
    let mut rows = statement.query([store]).doing(WHAT)?;
    let mut counts = BTreeMap::new();
    while let Some(row) = rows.next().doing(WHAT)? {
        let read = || {
            let group = Group::new(text(row, 0)?).ok()?;
            let state = small(row, 1).and_then(ParkedState::from_code)?;
            let count = integer(row, 3)?.cast_unsigned();
            let oldest = Timestamp::from_micros(integer(row, 4)?);
            Some(ParkedCount {
                group,
                state,
                cause: text(row, 2).map(Into::into),
                count,
                oldest,
            })
        };
        let count = read().ok_or_else(|| damaged("a parked message"))?;
        counts.insert(
            (count.group.clone(), count.state, count.cause.clone()),
            count,
        );
    }
    Ok(counts.into_values().collect())
}

/// When the first retry of an inbox is due.
pub(crate) fn next_retry(
    connection: &Connection,
    store: i64,
    id: &InboxId,
) -> Result<Option<Timestamp>, Error> {
    let Some((number, _)) = inbox::read_one(connection, store, id)? else {
        return Ok(None);
    };
    let due: Option<i64> = connection
        .prepare_cached("SELECT min(due) FROM parked WHERE inbox = ?1 AND state = 1")
        .and_then(|mut statement| statement.query_row([number], |row| row.get(0)))
        .doing("read the next retry")?;
    Ok(due.map(Timestamp::from_micros))
}

/// The lanes of an inbox that are parked.
pub(crate) fn lanes(
    connection: &Connection,
    store: i64,
    id: &InboxId,
    limit: usize,
) -> Result<Vec<Lane>, Error> {
    const WHAT: &str = "read parked lanes";
    let Some((number, _)) = inbox::read_one(connection, store, id)? else {
        return Ok(Vec::new());
    };
    let mut statement = connection
        .prepare_cached(
            "SELECT DISTINCT lane_key FROM parked WHERE inbox = ?1 AND state < 4 AND lane_key IS NOT NULL LIMIT ?2",
        )
        .doing(WHAT)?;
    let mut rows = statement
        .query(params![number, i64::try_from(limit).unwrap_or(i64::MAX)])
        .doing(WHAT)?;
    let mut lanes = Vec::new();
    while let Some(row) = rows.next().doing(WHAT)? {
        let key = bytes(row, 0).ok_or_else(|| damaged("a parked message"))?;
        lanes.push(Lane::Key(key.into()));
    }
    Ok(lanes)
}

/// Drops those that were discarded before a time, at most `limit`, and says how many.
pub(crate) fn prune(
    connection: &Connection,
    store: i64,
    before: Timestamp,
    limit: u32,
) -> Result<u64, Error> {
    let (first, last) = range(store);
    let dropped = connection
        .prepare_cached(
            "DELETE FROM parked WHERE rowid IN (SELECT p.rowid FROM inboxes i \
             CROSS JOIN parked p ON p.inbox = i.number AND p.state = 4 \
             WHERE i.number BETWEEN ?1 AND ?2 AND p.discarded_at < ?3 LIMIT ?4)",
        )
        .and_then(|mut statement| statement.execute(params![first, last, micros(before), limit]))
        .doing("drop discarded messages")?;
    Ok(dropped as u64)
}

/// One parked message.
pub(crate) fn one(
    connection: &Connection,
    store: i64,
    id: &ParkedId,
) -> Result<Option<Parked>, Error> {
    const WHAT: &str = "read a parked message";
    let Some((number, _)) = inbox::read_one(connection, store, &id.inbox)? else {
        return Ok(None);
    };
    let sql =
        format!("SELECT {COLUMNS} FROM parked p WHERE p.inbox = ?1 AND p.message_offset = ?2");
    let found = connection
        .prepare_cached(&sql)
        .doing(WHAT)?
        .query_row(params![number, signed(id.offset)], |row| {
            Ok(decode(row, &id.inbox))
        })
        .optional()
        .doing(WHAT)?;
    found.transpose()
}
