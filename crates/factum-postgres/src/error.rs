//! PostgreSQL's errors, sorted by what the caller should do about them.

use factum_core::Error;
use tokio_postgres::{Row, error::SqlState, types::FromSqlOwned};

/// What the functions of the schema raise when something does not hold that was taken for granted.
pub(crate) const STALE: &str = "FC409";

/// What they raise when the server is not the one that the store was on.
pub(crate) const PROMOTED: &str = "FC410";

/// What an error means for what was being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// Something was not as it was taken for granted: look again.
    Stale,
    /// The server was promoted or restored: a new epoch is to be opened first.
    Promoted,
    /// The connection is gone, or going: whether it was done is not known.
    Gone,
    /// It was not done, and may work later.
    Transient,
    /// It was not done, because the statement is bad: only own SQL can be.
    Refused,
    /// Nothing more should be tried.
    Fatal,
}

/// What `error` means.
pub(crate) fn meaning(error: &tokio_postgres::Error) -> Meaning {
    let Some(told) = error.as_db_error() else {
        // What has no code comes from the connection or from before it: closed, reset, refused, timed out.
        return Meaning::Gone;
    };
    let code = told.code().code();
    match code {
        STALE | "23505" => Meaning::Stale,
        PROMOTED => Meaning::Promoted,
        // Administrator's shutdown, crash of another backend, cannot connect now, idle for too long in a transaction.
        "57P01" | "57P02" | "57P03" | "57P04" | "57P05" | "25P03" | "25P04" => Meaning::Gone,
        // A deadlock, a serialization failure, a lock or statement that took too long, a server that is being
        // demoted or only reads, a full disk, no memory or connections left.
        "40001" | "40P01" | "55P03" | "57014" | "25006" => Meaning::Transient,
        _ => match &code[..2] {
            "08" => Meaning::Gone,
            "53" => Meaning::Transient,
            "21" | "22" | "23" | "26" | "0A" | "42" | "44" | "P0" | "38" | "39" => Meaning::Refused,
            _ => Meaning::Fatal,
        },
    }
}

/// `error`, met while doing `what` (`read the log`) outside of a commit, as the port's error.
pub(crate) fn sorted(what: &str, error: tokio_postgres::Error) -> Error {
    let sorted = match meaning(&error) {
        Meaning::Gone => {
            if let Some(way_out) = refused_connection(&error) {
                Error::fatal(format!("failed to {what}: {way_out}"))
            } else {
                Error::transient(format!(
                    "failed to {what}: the connection to PostgreSQL is lost"
                ))
            }
        }
        Meaning::Transient => Error::transient(format!("failed to {what}: {}", way_out(&error))),
        Meaning::Promoted => Error::transient(format!(
            "failed to {what}: the server was promoted or restored, and the next commit or claim opens a new epoch"
        )),
        Meaning::Stale => Error::conflict(format!("failed to {what}: somebody else was first")),
        Meaning::Refused | Meaning::Fatal => {
            Error::fatal(format!("failed to {what}: {}", way_out(&error)))
        }
    };
    sorted.caused_by(error)
}

fn refused_connection(error: &tokio_postgres::Error) -> Option<&'static str> {
    // tokio-postgres tells what it finds wrong with the configuration before it connects, without a code.
    let text = error.to_string();
    (text.contains("invalid configuration") || text.contains("authentication"))
        .then_some("the connection's settings are refused")
}

/// What a person can do about an error with a code.
fn way_out(error: &tokio_postgres::Error) -> &'static str {
    let Some(told) = error.as_db_error() else {
        return "the connection is lost";
    };
    match told.code() {
        code if *code == SqlState::DISK_FULL => {
            "the server's disk is full; make room, and it goes on by itself"
        }
        code if *code == SqlState::TOO_MANY_CONNECTIONS => {
            "the server has no connections left; raise `max_connections`, or give this process fewer"
        }
        code if *code == SqlState::READ_ONLY_SQL_TRANSACTION => {
            "the server only reads: it is a standby, or was demoted"
        }
        code if *code == SqlState::QUERY_CANCELED => "it took too long, and the server gave it up",
        code if *code == SqlState::LOCK_NOT_AVAILABLE => "somebody else holds a lock for too long",
        code if *code == SqlState::INSUFFICIENT_PRIVILEGE => {
            "the user may not do that; grant it the schema, or `CREATE` on the database for the first start"
        }
        code if *code == SqlState::INVALID_PASSWORD
            || *code == SqlState::INVALID_AUTHORIZATION_SPECIFICATION =>
        {
            "the server refuses the user or the password"
        }
        code if *code == SqlState::UNDEFINED_DATABASE => "the database does not exist; create it",
        code if *code == SqlState::DATA_CORRUPTED || *code == SqlState::INDEX_CORRUPTED => {
            "the database is damaged; restore the newest backup"
        }
        _ => "the server refuses it",
    }
}

/// What to do about errors in one line: `call.rows(..).await.doing("read the log")?`.
pub(crate) trait Doing<T> {
    /// The error, with what was being done.
    fn doing(self, what: &str) -> Result<T, Error>;
}

impl<T> Doing<T> for Result<T, tokio_postgres::Error> {
    fn doing(self, what: &str) -> Result<T, Error> {
        self.map_err(|error| sorted(what, error))
    }
}

/// A stored value that can't be what we wrote.
pub(crate) fn damaged(what: impl std::fmt::Display) -> Error {
    Error::fatal(format!("{what} can't be read; restore the newest backup"))
}

/// A column that must be of the type that we gave it.
pub(crate) fn column<T: FromSqlOwned>(row: &Row, index: usize) -> Result<T, Error> {
    row.try_get(index).map_err(|error| {
        let name = row
            .columns()
            .get(index)
            .map_or("?", tokio_postgres::Column::name);
        damaged(format!("column `{name}`")).caused_by(error)
    })
}
