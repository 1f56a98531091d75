//! Parked messages as the writer reads and writes them. What operators and owners ask is in `parked_read`.

use factum_core::{HandlerName, InboxId, Lane, Parked};

use crate::{
    call::{Blob, Call},
    number::{micros, signed, small},
    parked_read::{COLUMNS, FROM},
    schema::Schema,
    text::escape,
};

/// A lane's key, and the offset of the one message of a lane that has none.
fn lane_columns(lane: &Lane) -> (Option<Blob>, Option<i64>) {
    match lane {
        Lane::Key(key) => (Some(Blob(key.to_bytes())), None),
        Lane::Alone(offset) => (None, Some(signed(*offset))),
    }
}

/// Asks how many are parked in lanes: the number of the lane among those given, and the count, if it is not 0.
pub(crate) fn counts<'a>(
    schema: &Schema,
    lanes: impl Iterator<Item = &'a (InboxId, Lane)>,
) -> Call {
    let (mut groups, mut topics, mut partitions) = (Vec::new(), Vec::new(), Vec::new());
    let (mut keys, mut offsets) = (Vec::new(), Vec::new());
    for (inbox, lane) in lanes {
        groups.push(inbox.group.as_str().to_string());
        topics.push(inbox.topic.as_str().to_string());
        partitions.push(small(inbox.partition));
        let (key, offset) = lane_columns(lane);
        keys.push(key);
        offsets.push(offset);
    }
    // Two conditions and not one, so that each is served by its index.
    schema
        .call(
            "SELECT given.ordinal - 1, CASE WHEN given.lane_key IS NULL \
               THEN (SELECT count(*) FROM factum.parked p WHERE p.inbox = i.number AND p.lane_key IS NULL \
                 AND p.message_offset = given.message_offset AND p.state < 4) \
               ELSE (SELECT count(*) FROM factum.parked p WHERE p.inbox = i.number AND p.lane_key = given.lane_key \
                 AND p.state < 4) END \
             FROM unnest($1, $2, $3, $4, $5) WITH ORDINALITY \
               AS given (group_name, topic, partition, lane_key, message_offset, ordinal) \
             JOIN factum.inboxes i ON i.group_name = given.group_name AND i.topic = given.topic \
               AND i.partition = given.partition",
        )
        .with(groups)
        .with(topics)
        .with(partitions)
        .with(keys)
        .with(offsets)
}

/// Asks for the message that waits behind the head in the lane of a parked one, if any does.
pub(crate) fn waiting(schema: &Schema, parked: &Parked) -> Option<Call> {
    let Lane::Key(key) = &parked.lane else {
        return None;
    };
    let inbox = &parked.id.inbox;
    let call = schema.call(&format!(
        "SELECT {COLUMNS} {FROM} WHERE i.group_name = $1 AND i.topic = $2 AND i.partition = $3 AND p.lane_key = $4 \
         AND p.message_offset <> $5 AND p.state < 4 ORDER BY p.message_offset LIMIT 1"
    ));
    let call = crate::inbox::with_id(call, inbox);
    Some(
        call.with(Blob(key.to_bytes()))
            .with(signed(parked.id.offset)),
    )
}

/// Parks a message.
pub(crate) fn insert(schema: &Schema, inbox: i64, parked: &Parked) -> Call {
    let (key, _) = lane_columns(&parked.lane);
    let headers = &parked.message.headers;
    let names: Vec<_> = headers
        .iter()
        .map(|(name, _)| escape(name).into_owned())
        .collect();
    let values: Vec<_> = headers
        .iter()
        .map(|(_, value)| Blob(value.clone()))
        .collect();
    let call = schema
        .call(
            "INSERT INTO factum.parked (inbox, message_offset, state, revision, edited, tries, due, failure_class, failure, \
             cause, handler, failed_at, redrives, discarded_at, lane_key, timestamp, header_names, header_values, value, event_id, \
             type_name, type_version, correlation_id, parked_at) VALUES \
             ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24)",
        )
        .with(inbox)
        .with(signed(parked.id.offset));
    with_changes(call, parked)
        .with(key)
        .with(micros(parked.message.timestamp))
        .with(names)
        .with(values)
        .with(parked.message.value.clone().map(Blob))
        .with(parked.event_id.as_ref().map(Blob::id))
        .with(
            parked
                .event_type
                .as_ref()
                .map(|name| escape(&name.name).into_owned()),
        )
        .with(
            parked
                .event_type
                .as_ref()
                .map(|name| name.version.cast_signed()),
        )
        .with(parked.correlation_id.as_ref().map(Blob::id))
        .with(micros(parked.parked_at))
}

/// Writes what has changed of a parked message: never its bytes. The inbox's revision guards it.
pub(crate) fn update(schema: &Schema, inbox: i64, parked: &Parked) -> Call {
    let call = schema
        .call(
            "UPDATE factum.parked SET state = $3, revision = $4, edited = $5, tries = $6, due = $7, failure_class = $8, \
             failure = $9, cause = $10, handler = $11, failed_at = $12, redrives = $13, discarded_at = $14 \
             WHERE inbox = $1 AND message_offset = $2",
        )
        .with(inbox)
        .with(signed(parked.id.offset));
    with_changes(call, parked)
}

/// With what changes of a parked message, from its state to when it was discarded.
fn with_changes(call: Call, parked: &Parked) -> Call {
    let failure = parked.failure.as_ref();
    let handler = failure.and_then(|failure| failure.handler.as_ref());
    call.with(i16::from(parked.state.code()))
        .with(signed(parked.revision))
        .with(parked.edited.clone().map(Blob))
        .with(i64::from(parked.tries))
        .with(parked.due.map(micros))
        .with(failure.map(|failure| failure.class.as_str().to_string()))
        .with(failure.map(|failure| escape(&failure.message).into_owned()))
        .with(failure.map(|failure| escape(&failure.cause).into_owned()))
        .with(handler.map(HandlerName::as_str).map(String::from))
        .with(failure.map(|failure| micros(failure.at)))
        .with(i64::from(parked.redrives))
        .with(parked.discarded_at.map(micros))
}

/// Removes a message that was settled.
pub(crate) fn remove(schema: &Schema, inbox: i64, offset: u64) -> Call {
    schema
        .call("DELETE FROM factum.parked WHERE inbox = $1 AND message_offset = $2")
        .with(inbox)
        .with(signed(offset))
}
