//! The ids of foreign messages that a group has handled or parked, so that none is handled twice.

use factum_core::{Error, Group, MessageId, Timestamp};
use tokio_postgres::Row;

use crate::{
    call::{Blob, Call, id_of},
    error::{column, damaged},
    number::{micros, rows, signed},
    schema::Schema,
};

/// Until when an id is taken.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Taken {
    pub(crate) until: Timestamp,
    /// Whether the parked message that took it is still there: that keeps it.
    pub(crate) parked: bool,
}

impl Taken {
    /// Whether it is, at a time.
    pub(crate) fn at(&self, now: Timestamp) -> bool {
        self.parked || self.until > now
    }
}

/// An id that a batch takes.
#[derive(Clone, Debug)]
pub(crate) struct Take {
    pub(crate) until: Timestamp,
    /// The number of the inbox and the offset of the parked message that takes it.
    pub(crate) parked: Option<(i64, u64)>,
}

/// Asks which of some ids are known.
pub(crate) fn known<'a>(
    schema: &Schema,
    ids: impl Iterator<Item = &'a (Group, MessageId)>,
) -> Call {
    let (groups, ids): (Vec<_>, Vec<_>) = ids
        .map(|(group, id)| (group.as_str().to_string(), Blob::id(id)))
        .unzip();
    schema
        .call(
            "SELECT m.group_name, m.event_id, m.until, EXISTS (SELECT 1 FROM factum.parked p \
               WHERE p.inbox = m.parked_inbox AND p.message_offset = m.parked_offset) \
             FROM unnest($1, $2) AS given (group_name, event_id) \
             JOIN factum.message_ids m ON m.group_name = given.group_name AND m.event_id = given.event_id",
        )
        .with(groups)
        .with(ids)
}

/// An id as [`known`] asked for it.
pub(crate) fn decode(row: &Row) -> Result<((Group, MessageId), Taken), Error> {
    let (group, id): (String, Vec<u8>) = (column(row, 0)?, column(row, 1)?);
    let read = || Some((Group::new(group).ok()?, id_of(&id)?));
    let taken = Taken {
        until: Timestamp::from_micros(column(row, 2)?),
        parked: column(row, 3)?,
    };
    Ok((read().ok_or_else(|| damaged("an event id"))?, taken))
}

/// Takes ids, if each was free at `now`.
pub(crate) fn take<'a>(
    schema: &Schema,
    ids: impl ExactSizeIterator<Item = (&'a (Group, MessageId), &'a Take)>,
    now: Timestamp,
) -> Call {
    let count = signed(ids.len() as u64);
    let (mut groups, mut event_ids, mut untils) = (Vec::new(), Vec::new(), Vec::new());
    let (mut inboxes, mut offsets) = (Vec::new(), Vec::new());
    for ((group, id), take) in ids {
        groups.push(group.as_str().to_string());
        event_ids.push(Blob::id(id));
        untils.push(micros(take.until));
        inboxes.push(take.parked.map(|(inbox, _)| inbox));
        offsets.push(take.parked.map(|(_, offset)| signed(offset)));
    }
    // In the order of the key, so that two who take the same ids don't wait for each other.
    schema
        .call(
            "WITH taken AS (INSERT INTO factum.message_ids AS m \
             SELECT * FROM unnest($3, $4, $5, $6, $7) AS given (group_name, event_id, until, inbox, message_offset) \
             ORDER BY group_name COLLATE \"C\", event_id \
             ON CONFLICT (group_name, event_id) DO UPDATE SET until = greatest(m.until, excluded.until), \
             parked_inbox = coalesce(excluded.parked_inbox, m.parked_inbox), \
             parked_offset = coalesce(excluded.parked_offset, m.parked_offset) \
             WHERE m.until <= $2 AND NOT EXISTS (SELECT 1 FROM factum.parked p WHERE p.inbox = m.parked_inbox \
               AND p.message_offset = m.parked_offset) RETURNING 1) \
             SELECT factum.must((SELECT count(*) FROM taken) = $1, 'event id')",
        )
        .with(count)
        .with(micros(now))
        .with(groups)
        .with(event_ids)
        .with(untils)
        .with(inboxes)
        .with(offsets)
}

/// Drops what expired before a time and has no parked row, at most `limit`.
pub(crate) fn prune(schema: &Schema, expired: Timestamp, limit: usize) -> Call {
    schema
        .call(
            "DELETE FROM factum.message_ids WHERE (group_name, event_id) IN ( \
             SELECT group_name, event_id FROM factum.message_ids m WHERE until < $1 AND NOT EXISTS ( \
               SELECT 1 FROM factum.parked p WHERE p.inbox = m.parked_inbox AND p.message_offset = m.parked_offset) \
             LIMIT $2) RETURNING 1",
        )
        .with(micros(expired))
        .with(rows(limit))
}
