//! Inbox rows: which messages of a partition a group has finished.
//!
//! A row's revision grows with each change of the row or of what is parked from its inbox. The writer keeps the rows in
//! memory and writes a changed one once for a whole batch, comparing the revision: what was decided on an outdated row,
//! or on what was parked then, is never committed.

use factum_core::{
    Begin, Epoch, Error, Fence, Group, InboxId, InboxRow, Mark, OwnerEpoch, Start, Timestamp,
    Topic, Trying,
};
use tokio_postgres::Row;

use crate::{
    call::Call,
    error::{column, damaged},
    number::{fence, signed, small},
    schema::Schema,
};

/// The columns that [`decode`] reads, in its order.
const COLUMNS: &str = "number, group_name, topic, partition, revision, parked, fence_epoch, fence_owner, start, low, done, \
     lasts, clean, trying_offset, trying_tries, mark_offset, mark_time";

/// An inbox as the database has it, or as a batch leaves it.
#[derive(Clone, Debug)]
pub(crate) struct Inbox {
    pub(crate) number: i64,
    pub(crate) revision: i64,
    /// How many messages are parked from it: all but the discarded ones.
    pub(crate) parked: u64,
    pub(crate) row: InboxRow,
}

/// Asks for all inboxes, in the order of their ids.
pub(crate) fn all(schema: &Schema) -> Call {
    schema.call(&format!(
        "SELECT {COLUMNS} FROM factum.inboxes ORDER BY group_name, topic, partition"
    ))
}

/// Asks for one inbox.
pub(crate) fn one(schema: &Schema, id: &InboxId) -> Call {
    with_id(
        schema.call(&format!(
            "SELECT {COLUMNS} FROM factum.inboxes WHERE group_name = $1 AND topic = $2 AND partition = $3"
        )),
        id,
    )
}

/// Claims an inbox, which is made if it does not exist.
pub(crate) fn claim(schema: &Schema, id: &InboxId, begin: &Begin) -> Result<Call, Error> {
    let call = schema.call(&format!(
        "SELECT {COLUMNS} FROM factum.claim_inbox($1, $2, $3, $4, $5, $6)"
    ));
    let call = with_id(call, id).with(start_code(begin.start));
    Ok(call.with(signed(begin.low)).with(json(&begin.lasts)?))
}

/// With the three columns that name an inbox.
pub(crate) fn with_id(call: Call, id: &InboxId) -> Call {
    call.with(id.group.as_str().to_string())
        .with(id.topic.as_str().to_string())
        .with(small(id.partition))
}

/// Writes rows as a batch leaves them. `before` is the revision that was decided on.
pub(crate) fn update<'a>(
    schema: &Schema,
    rows: impl ExactSizeIterator<Item = &'a Inbox>,
) -> Result<Call, Error> {
    let count = signed(rows.len() as u64);
    let (mut numbers, mut revisions, mut parked, mut lows) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let (mut done, mut lasts, mut clean) = (Vec::new(), Vec::new(), Vec::new());
    let (mut offsets, mut tries) = (Vec::new(), Vec::new());
    let (mut marks, mut times) = (Vec::new(), Vec::new());
    for inbox in rows {
        numbers.push(inbox.number);
        revisions.push(inbox.revision);
        parked.push(signed(inbox.parked));
        lows.push(signed(inbox.row.low));
        done.push(json(&inbox.row.done)?);
        lasts.push(json(&inbox.row.lasts)?);
        clean.push(inbox.row.clean);
        offsets.push(inbox.row.trying.map(|trying| signed(trying.offset)));
        tries.push(inbox.row.trying.map(|trying| trying.tries.cast_signed()));
        marks.push(inbox.row.mark.map(|mark| signed(mark.offset)));
        times.push(inbox.row.mark.map(|mark| mark.timestamp.as_micros()));
    }
    Ok(schema
        .call(
            "WITH written AS (UPDATE factum.inboxes i SET revision = i.revision + 1, parked = given.parked, \
             low = given.low, done = given.done, lasts = given.lasts, clean = given.clean, \
             trying_offset = given.trying_offset, trying_tries = given.trying_tries, \
             mark_offset = given.mark_offset, mark_time = given.mark_time \
             FROM unnest($2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) AS given (number, revision, parked, low, done, lasts, \
               clean, trying_offset, trying_tries, mark_offset, mark_time) \
             WHERE i.number = given.number AND i.revision = given.revision RETURNING 1) \
             SELECT factum.must((SELECT count(*) FROM written) = $1, 'inbox')",
        )
        .with(count)
        .with(numbers)
        .with(revisions)
        .with(parked)
        .with(lows)
        .with(done)
        .with(lasts)
        .with(clean)
        .with(offsets)
        .with(tries)
        .with(marks)
        .with(times))
}

fn json<T: serde::Serialize>(part: &T) -> Result<String, Error> {
    serde_json::to_string(part)
        .map_err(|error| Error::fatal("an inbox row can't be encoded").caused_by(error))
}

/// The inbox in a row.
pub(crate) fn decode(row: &Row) -> Result<(InboxId, Inbox), Error> {
    let number: i64 = column(row, 0)?;
    let broken = || damaged(format!("inbox row {number}"));
    let (group, topic): (String, String) = (column(row, 1)?, column(row, 2)?);
    let id = InboxId {
        group: Group::new(group).map_err(|_| broken())?,
        topic: Topic::new(topic).map_err(|_| broken())?,
        partition: u32::try_from(column::<i32>(row, 3)?).map_err(|_| broken())?,
    };
    let (done, lasts): (String, String) = (column(row, 10)?, column(row, 11)?);
    let trying: (Option<i64>, Option<i32>) = (column(row, 13)?, column(row, 14)?);
    let mark: (Option<i64>, Option<i64>) = (column(row, 15)?, column(row, 16)?);
    let inbox = Inbox {
        number,
        revision: column(row, 4)?,
        parked: column::<i64>(row, 5)?.cast_unsigned(),
        row: InboxRow {
            fence: fence(column(row, 6)?, column(row, 7)?),
            start: start_of(column(row, 8)?).ok_or_else(broken)?,
            low: column::<i64>(row, 9)?.cast_unsigned(),
            done: serde_json::from_str(&done).map_err(|_| broken())?,
            lasts: serde_json::from_str(&lasts).map_err(|_| broken())?,
            clean: column(row, 12)?,
            trying: match trying {
                (Some(offset), Some(tries)) => Some(Trying {
                    offset: offset.cast_unsigned(),
                    tries: tries.cast_unsigned(),
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
        },
    };
    Ok((id, inbox))
}

/// A fence that nobody has.
pub(crate) const NOBODY: Fence = Fence {
    store: Epoch(0),
    owner: OwnerEpoch(0),
};

const fn start_code(start: Start) -> i16 {
    match start {
        Start::Beginning => 1,
        Start::Anchor => 2,
    }
}

const fn start_of(code: i16) -> Option<Start> {
    match code {
        1 => Some(Start::Beginning),
        2 => Some(Start::Anchor),
        _ => None,
    }
}
