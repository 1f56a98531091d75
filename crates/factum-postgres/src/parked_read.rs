//! Parked messages as operators and owners ask for them.

use std::fmt::Write as _;

use bytes::Bytes;
use factum_core::{
    Error, FailureClass, FailureNote, Group, HandlerName, Headers, InboxId, Key, Lane, Message,
    PAGE_BYTES_MAX, Parked, ParkedCount, ParkedFilter, ParkedId, ParkedState, Timestamp, Topic,
    TypeName,
};
use tokio_postgres::Row;

use crate::{
    call::{Blob, Call, id_of},
    error::{column, damaged},
    inbox,
    number::{micros, rows, signed, small},
    schema::Schema,
    text::{escape, unescape},
};

/// The columns that [`decode`] reads, in its order.
pub(crate) const COLUMNS: &str = "i.group_name, i.topic, i.partition, p.message_offset, p.lane_key, p.state, p.revision, \
     p.timestamp, p.header_names, p.header_values, p.value, p.edited, p.event_id, p.type_name, p.type_version, \
     p.correlation_id, p.tries, p.due, p.failure_class, p.failure, p.cause, p.handler, p.failed_at, p.parked_at, \
     p.redrives, p.discarded_at";

/// The tables that they are in.
pub(crate) const FROM: &str = "FROM factum.inboxes i JOIN factum.parked p ON p.inbox = i.number";

/// The parked message in a row of [`COLUMNS`].
pub(crate) fn decode(row: &Row) -> Result<Parked, Error> {
    let inbox = inbox_of(row)?;
    let offset = column::<i64>(row, 3)?.cast_unsigned();
    let id = ParkedId {
        inbox: inbox.clone(),
        offset,
    };
    let broken = || damaged(format!("parked message `{id}`"));
    let time =
        |index| Ok::<_, Error>(column::<Option<i64>>(row, index)?.map(Timestamp::from_micros));
    let bytes = |index| Ok::<_, Error>(column::<Option<Vec<u8>>>(row, index)?.map(Bytes::from));
    let text = |index| Ok::<_, Error>(column::<Option<String>>(row, index)?.map(unescape));
    let count = |index| u32::try_from(column::<i64>(row, index)?).map_err(|_| broken());
    let message_id = |index| match column::<Option<Vec<u8>>>(row, index)? {
        None => Ok(None),
        Some(bytes) => id_of(&bytes).map(Some).ok_or_else(broken),
    };
    let key = bytes(4)?.map(Key::from);
    let mut headers = Headers::new();
    let (names, values): (Vec<String>, Vec<Vec<u8>>) = (column(row, 8)?, column(row, 9)?);
    for (name, value) in names.into_iter().zip(values) {
        headers.push(unescape(name), value);
    }
    let event_type = match text(13)? {
        None => None,
        Some(name) => {
            let version: Option<i32> = column(row, 14)?;
            Some(TypeName::new(
                name,
                version.ok_or_else(broken)?.cast_unsigned(),
            ))
        }
    };
    let failure = match text(18)? {
        None => None,
        Some(class) => Some(FailureNote {
            class: FailureClass::parse(&class).ok_or_else(broken)?,
            message: text(19)?.ok_or_else(broken)?,
            cause: text(20)?.ok_or_else(broken)?,
            handler: match text(21)? {
                Some(name) => Some(HandlerName::new(name).map_err(|_| broken())?),
                None => None,
            },
            at: time(22)?.ok_or_else(broken)?,
        }),
    };
    Ok(Parked {
        lane: key.clone().map_or(Lane::Alone(offset), Lane::Key),
        state: u8::try_from(column::<i16>(row, 5)?)
            .ok()
            .and_then(ParkedState::from_code)
            .ok_or_else(broken)?,
        revision: column::<i64>(row, 6)?.cast_unsigned(),
        message: Message {
            topic: inbox.topic.clone(),
            partition: inbox.partition,
            offset,
            timestamp: time(7)?.ok_or_else(broken)?,
            key,
            headers,
            value: bytes(10)?,
        },
        edited: bytes(11)?,
        event_id: message_id(12)?,
        event_type,
        correlation_id: message_id(15)?,
        tries: count(16)?,
        due: time(17)?,
        failure,
        parked_at: time(23)?.ok_or_else(broken)?,
        redrives: count(24)?,
        discarded_at: time(25)?,
        id: id.clone(),
    })
}

/// The inbox in the first three columns of a row.
pub(crate) fn inbox_of(row: &Row) -> Result<InboxId, Error> {
    let broken = || damaged("the inbox of a parked message");
    let (group, topic): (String, String) = (column(row, 0)?, column(row, 1)?);
    Ok(InboxId {
        group: Group::new(group).map_err(|_| broken())?,
        topic: Topic::new(topic).map_err(|_| broken())?,
        partition: u32::try_from(column::<i32>(row, 2)?).map_err(|_| broken())?,
    })
}

/// Asks for those that match, in the order of their ids.
pub(crate) fn find(schema: &Schema, filter: &ParkedFilter, limit: usize) -> Call {
    let mut call = Call::once("");
    let mut sql = format!("SELECT {COLUMNS} {FROM} WHERE true");
    let mut push = |text: std::fmt::Arguments<'_>| {
        sql.write_fmt(text).expect("writing to a string can't fail");
    };
    if let Some(group) = &filter.group {
        let number = call.put(group.as_str().to_string());
        push(format_args!(" AND i.group_name = ${number}"));
    }
    if let Some(inbox) = &filter.inbox {
        let group = call.put(inbox.group.as_str().to_string());
        let topic = call.put(inbox.topic.as_str().to_string());
        let partition = call.put(small(inbox.partition));
        push(format_args!(
            " AND (i.group_name, i.topic, i.partition) = (${group}, ${topic}, ${partition})"
        ));
    }
    match &filter.lane {
        None => {}
        Some(Lane::Key(key)) => {
            let number = call.put(Blob(key.to_bytes()));
            push(format_args!(" AND p.lane_key = ${number}"));
        }
        Some(Lane::Alone(offset)) => {
            let number = call.put(signed(*offset));
            push(format_args!(
                " AND p.lane_key IS NULL AND p.message_offset = ${number}"
            ));
        }
    }
    if let Some(state) = filter.state {
        let number = call.put(i16::from(state.code()));
        push(format_args!(" AND p.state = ${number}"));
    }
    if let Some(cause) = &filter.cause {
        let number = call.put(escape(cause).into_owned());
        push(format_args!(" AND p.cause = ${number}"));
    }
    if let Some(due) = filter.due {
        let number = call.put(micros(due));
        // Only those that are retrying are due, which the index by due time needs to be told.
        push(format_args!(" AND p.state = 1 AND p.due <= ${number}"));
    }
    if let Some(after) = &filter.after {
        let group = call.put(after.inbox.group.as_str().to_string());
        let topic = call.put(after.inbox.topic.as_str().to_string());
        let partition = call.put(small(after.inbox.partition));
        let offset = call.put(signed(after.offset));
        push(format_args!(
            " AND (i.group_name, i.topic, i.partition, p.message_offset) > (${group}, ${topic}, ${partition}, ${offset})"
        ));
    }
    let number = call.put(rows(limit));
    push(format_args!(
        " ORDER BY i.group_name, i.topic, i.partition, p.message_offset LIMIT ${number}"
    ));
    // Cut where the messages before have the bytes of a page: what is not going to be taken is not sent.
    let sql = format!(
        "SELECT * FROM (SELECT page.*, sum(coalesce(octet_length(value), 0) + coalesce(octet_length(edited), 0)) OVER \
           (ORDER BY group_name, topic, partition, message_offset ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) \
           AS bytes FROM ({sql}) page) page \
         WHERE coalesce(bytes, 0) < {PAGE_BYTES_MAX} ORDER BY group_name, topic, partition, message_offset"
    );
    call.sql = schema.of(&sql).into();
    call
}

/// The page of parked messages that [`find`] asked for.
pub(crate) fn page(found: &[Row]) -> Result<Vec<Parked>, Error> {
    let (mut page, mut bytes) = (Vec::with_capacity(found.len()), 0);
    for row in found {
        let parked = decode(row)?;
        bytes += parked.size();
        page.push(parked);
        if bytes >= PAGE_BYTES_MAX {
            break;
        }
    }
    Ok(page)
}

/// Asks for some parked messages by their ids.
pub(crate) fn some<'a>(schema: &Schema, ids: impl Iterator<Item = &'a ParkedId>) -> Call {
    let (mut groups, mut topics, mut partitions, mut offsets) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for id in ids {
        groups.push(id.inbox.group.as_str().to_string());
        topics.push(id.inbox.topic.as_str().to_string());
        partitions.push(small(id.inbox.partition));
        offsets.push(signed(id.offset));
    }
    schema
        .call(&format!(
            "SELECT {COLUMNS} FROM unnest($1, $2, $3, $4) AS given (group_name, topic, partition, message_offset) \
             JOIN factum.inboxes i ON i.group_name = given.group_name AND i.topic = given.topic \
               AND i.partition = given.partition \
             JOIN factum.parked p ON p.inbox = i.number AND p.message_offset = given.message_offset"
        ))
        .with(groups)
        .with(topics)
        .with(partitions)
        .with(offsets)
}

/// Asks how many there are, by group, state and cause.
pub(crate) fn counts(schema: &Schema) -> Call {
    schema.call(&format!(
        "SELECT i.group_name, p.state, p.cause, count(*), min(p.parked_at) {FROM} \
         GROUP BY i.group_name, p.state, p.cause ORDER BY i.group_name, p.state, p.cause NULLS FIRST"
    ))
}

/// A count as [`counts`] asked for it.
pub(crate) fn count_of(row: &Row) -> Result<ParkedCount, Error> {
    let broken = || damaged("a parked message");
    let group: String = column(row, 0)?;
    Ok(ParkedCount {
        group: Group::new(group).map_err(|_| broken())?,
        state: u8::try_from(column::<i16>(row, 1)?)
            .ok()
            .and_then(ParkedState::from_code)
            .ok_or_else(broken)?,
        cause: column::<Option<String>>(row, 2)?.map(unescape),
        count: column::<i64>(row, 3)?.cast_unsigned(),
        oldest: Timestamp::from_micros(column(row, 4)?),
    })
}

/// Asks when the first retry of an inbox is due.
pub(crate) fn next_retry(schema: &Schema, id: &InboxId) -> Call {
    inbox::with_id(
        schema.call(&format!(
            "SELECT min(p.due) {FROM} WHERE i.group_name = $1 AND i.topic = $2 AND i.partition = $3 AND p.state = 1"
        )),
        id,
    )
}

/// Asks for the lanes with a key of an inbox that are parked.
pub(crate) fn lanes(schema: &Schema, id: &InboxId, limit: usize) -> Call {
    let call = schema.call(&format!(
        "SELECT DISTINCT p.lane_key {FROM} WHERE i.group_name = $1 AND i.topic = $2 \
         AND i.partition = $3 AND p.state < 4 AND p.lane_key IS NOT NULL LIMIT $4"
    ));
    inbox::with_id(call, id).with(rows(limit))
}

/// A lane as [`lanes`] asked for it.
pub(crate) fn lane_of(row: &Row) -> Result<Lane, Error> {
    let key: Vec<u8> = column(row, 0)?;
    Ok(Lane::Key(key.into()))
}

/// Drops those that were discarded before a time, at most `limit`.
pub(crate) fn prune(schema: &Schema, before: Timestamp, limit: usize) -> Call {
    schema
        .call(
            "DELETE FROM factum.parked WHERE (inbox, message_offset) IN \
             (SELECT inbox, message_offset FROM factum.parked WHERE state = 4 AND discarded_at < $1 LIMIT $2) RETURNING 1",
        )
        .with(micros(before))
        .with(rows(limit))
}
