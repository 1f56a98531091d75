//! Answers to commands with idempotency keys.

use bytes::Bytes;
use factum_core::{
    Answered, At, CommandInput, CommitError, Committed, Epoch, Error, Position, Timestamp,
};
use rusqlite::{Connection, OptionalExtension, params};

use crate::{
    error::Doing,
    number::{micros, signed},
};

/// Refuses a command that was answered before, or whose key was used for another.
pub(crate) fn check(
    connection: &Connection,
    store: i64,
    command: &CommandInput,
    now: Timestamp,
) -> Result<(), CommitError> {
    match look_up(connection, store, &command.scope, &command.key)? {
        Some((request, answered, expires)) if expires > now => {
            if request == command.request {
                Err(CommitError::Answered(Box::new(answered)))
            } else {
                Err(CommitError::KeyReused {
                    key: command.key.clone(),
                })
            }
        }
        _ => Ok(()),
    }
}

/// Remembers an answer.
pub(crate) fn put(
    connection: &Connection,
    store: i64,
    command: &CommandInput,
    committed: &Committed,
) -> Result<(), Error> {
    connection
        .prepare_cached(
            "INSERT OR REPLACE INTO answers VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        )
        .and_then(|mut statement| {
            statement.execute(params![
                store,
                command.scope,
                command.key,
                signed(command.request),
                &*command.answer,
                signed(committed.head.epoch.0),
                signed(committed.head.position.0),
                committed.first.map(|first| signed(first.0)),
                micros(command.expires),
            ])
        })
        .doing("keep an answer")?;
    Ok(())
}

/// What was answered, with the hash of the request and until when it is remembered.
pub(crate) fn look_up(
    connection: &Connection,
    store: i64,
    scope: &str,
    key: &str,
) -> Result<Option<(u64, Answered, Timestamp)>, Error> {
    connection
        .prepare_cached(
            "SELECT request, answer, head_epoch, head_position, first, expires FROM answers \
             WHERE store = ?1 AND scope = ?2 AND key = ?3",
        )
        .and_then(|mut statement| {
            statement
                .query_row(params![store, scope, key], |row| {
                    let unsigned = |index| row.get::<_, i64>(index).map(i64::cast_unsigned);
                    let head = At {
                        epoch: Epoch(unsigned(2)?),
                        position: Position(unsigned(3)?),
                    };
                    let first: Option<i64> = row.get(4)?;
                    let answered = Answered {
                        answer: Bytes::from(row.get::<_, Vec<u8>>(1)?),
                        head,
                        first: first.map(|first| Position(first.cast_unsigned())),
                    };
                    Ok((unsigned(0)?, answered, Timestamp::from_micros(row.get(5)?)))
                })
                .optional()
        })
        .doing("look up an answer")
}

/// Drops what expired before a time, at most `limit`, and says how many that were.
pub(crate) fn prune(
    connection: &Connection,
    store: i64,
    expired: Timestamp,
    limit: u32,
) -> Result<u64, Error> {
    let dropped = connection
        .prepare_cached(
            "DELETE FROM answers WHERE rowid IN \
             (SELECT rowid FROM answers WHERE store = ?1 AND expires < ?2 LIMIT ?3)",
        )
        .and_then(|mut statement| statement.execute(params![store, micros(expired), limit]))
        .doing("drop expired answers")?;
    Ok(dropped as u64)
}
