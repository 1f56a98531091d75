//! Answers to commands with idempotency keys.

use bytes::Bytes;
use factum_core::{Answered, CommandInput, Error, Position, Timestamp};
use tokio_postgres::Row;
use uuid::Uuid;

use crate::{
    call::{Blob, Call},
    error::column,
    number::{micros, place, rows, signed},
    schema::Schema,
    text::{escape, unescape},
};

/// An answer that is remembered.
#[derive(Clone, Debug)]
pub(crate) struct Remembered {
    pub(crate) request: u64,
    pub(crate) answered: Answered,
    pub(crate) expires: Timestamp,
}

/// Asks which of some commands were answered, by scope and key.
pub(crate) fn known<'a>(schema: &Schema, keys: impl Iterator<Item = (&'a str, &'a str)>) -> Call {
    let (scopes, keys): (Vec<_>, Vec<_>) = keys
        .map(|(scope, key)| (escape(scope).into_owned(), escape(key).into_owned()))
        .unzip();
    schema
        .call(
            "SELECT a.scope, a.key, a.request, a.answer, a.head_epoch, a.head_position, a.first, a.expires \
             FROM unnest($1, $2) AS given (scope, key) \
             JOIN factum.answers a ON a.scope = given.scope AND a.key = given.key",
        )
        .with(scopes)
        .with(keys)
}

/// An answer as [`known`] asked for it.
pub(crate) fn decode(row: &Row) -> Result<((String, String), Remembered), Error> {
    let first: Option<i64> = column(row, 6)?;
    let remembered = Remembered {
        request: column::<i64>(row, 2)?.cast_unsigned(),
        answered: Answered {
            answer: Bytes::from(column::<Vec<u8>>(row, 3)?),
            head: place(column(row, 4)?, column(row, 5)?),
            first: first.map(|first| Position(first.cast_unsigned())),
        },
        expires: Timestamp::from_micros(column(row, 7)?),
    };
    Ok((
        (unescape(column(row, 0)?), unescape(column(row, 1)?)),
        remembered,
    ))
}

/// Where a commit's records lie within its batch.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Span {
    /// How many records of the batch come before it.
    pub(crate) before: u64,
    /// How many it has.
    pub(crate) records: u64,
}

/// The columns of a span, as places behind the head that the batch found.
#[derive(Default)]
pub(crate) struct Spans {
    /// How far the head is behind that which the batch found.
    heads: Vec<i64>,
    /// The same of the first record, if there is one.
    firsts: Vec<Option<i64>>,
}

impl Spans {
    pub(crate) fn push(&mut self, span: Span) {
        self.heads.push(signed(span.before + span.records));
        self.firsts
            .push((span.records > 0).then(|| signed(span.before + 1)));
    }

    pub(crate) fn with(self, call: Call) -> Call {
        call.with(self.heads).with(self.firsts)
    }
}

/// Remembers answers, if none is remembered for their keys at `now`. Behind the records of its batch, whose places they name.
pub(crate) fn put<'a>(
    schema: &Schema,
    writer: Uuid,
    number: i64,
    epoch: i64,
    now: Timestamp,
    answers: impl ExactSizeIterator<Item = (&'a CommandInput, Span)>,
) -> Call {
    let count = signed(answers.len() as u64);
    let (mut scopes, mut keys, mut requests) = (Vec::new(), Vec::new(), Vec::new());
    let (mut bodies, mut expiries, mut spans) = (Vec::new(), Vec::new(), Spans::default());
    for (command, span) in answers {
        scopes.push(escape(&command.scope).into_owned());
        keys.push(escape(&command.key).into_owned());
        requests.push(signed(command.request));
        bodies.push(Blob(command.answer.clone()));
        expiries.push(micros(command.expires));
        spans.push(span);
    }
    let call = schema
        .call(
            "WITH batch AS (SELECT head_epoch, head_position FROM factum.batches WHERE writer = $1 AND number = $2), \
             put AS (INSERT INTO factum.answers AS a SELECT given.scope, given.key, given.request, given.answer, \
               CASE WHEN given.head > 0 THEN $3 ELSE batch.head_epoch END, batch.head_position + given.head, \
               batch.head_position + given.first, given.expires \
             FROM unnest($6, $7, $8, $9, $10, $11, $12) AS given (scope, key, request, answer, expires, head, first), batch \
             ORDER BY given.scope COLLATE \"C\", given.key COLLATE \"C\" \
             ON CONFLICT (scope, key) DO UPDATE SET request = excluded.request, answer = excluded.answer, \
             head_epoch = excluded.head_epoch, head_position = excluded.head_position, first = excluded.first, \
             expires = excluded.expires WHERE a.expires <= $5 RETURNING 1) \
             SELECT factum.must((SELECT count(*) FROM put) = $4, 'answer')",
        )
        .with(writer)
        .with(number)
        .with(epoch)
        .with(count)
        .with(micros(now))
        .with(scopes)
        .with(keys)
        .with(requests)
        .with(bodies)
        .with(expiries);
    spans.with(call)
}

/// Drops what expired before a time, at most `limit`.
pub(crate) fn prune(schema: &Schema, expired: Timestamp, limit: usize) -> Call {
    schema
        .call(
            "DELETE FROM factum.answers WHERE (scope, key) IN \
             (SELECT scope, key FROM factum.answers WHERE expires < $1 LIMIT $2) RETURNING 1",
        )
        .with(micros(expired))
        .with(rows(limit))
}
