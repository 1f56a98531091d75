//! SQLite's errors, sorted by what the caller should do about them.

use std::path::Path;

use factum_core::Error;
use rusqlite::{ErrorCode, ffi};

/// `error`, met while doing `what` (`write records`), as the port's error.
pub(crate) fn sql(what: &str, error: rusqlite::Error) -> Error {
    const DAMAGED: &str = "the file is damaged; restore the newest backup, or copy what can be read with SQLite's `.recover`";
    let code = error
        .sqlite_error()
        .map(|failure| (failure.code, failure.extended_code));
    let sorted = match code {
        Some((ErrorCode::DiskFull, _)) => Error::transient(format!(
            "failed to {what}: the disk is full; make room, and it goes on by itself"
        )),
        Some((ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked, _)) => {
            Error::transient(format!(
                "failed to {what}: another program holds the file's lock; close it, and it goes on by itself"
            ))
        }
        Some((ErrorCode::OutOfMemory | ErrorCode::OperationInterrupted, _)) => {
            Error::transient(format!("failed to {what}"))
        }
        // All constraints were looked at before: what breaks one now is not what was written. And without a code, a
        // value is of another type than was written, or there is none where there was one.
        Some((
            ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase | ErrorCode::ConstraintViolation,
            _,
        ))
        | None => Error::fatal(format!("failed to {what}: {DAMAGED}")),
        // After a failed sync nobody knows what the disk holds, and a second sync may succeed without having
        // written anything: it is not tried.
        Some((_, ffi::SQLITE_IOERR_FSYNC | ffi::SQLITE_IOERR_DIR_FSYNC)) => Error::fatal(format!(
            "failed to {what}: the disk did not confirm a sync; check the disk, then start again"
        )),
        // Among them what happens behind the write of a commit: nobody knows whether a start would find it.
        _ => Error::fatal(format!(
            "failed to {what}: check the disk, then start again; if it fails again, restore the newest backup"
        )),
    };
    sorted.caused_by(error)
}

/// What to do about SQLite's errors in one line: `statement.execute([]).doing("write records")?`.
pub(crate) trait Doing<T> {
    /// The error, with what was being done.
    fn doing(self, what: &str) -> Result<T, Error>;
}

impl<T> Doing<T> for rusqlite::Result<T> {
    fn doing(self, what: &str) -> Result<T, Error> {
        self.map_err(|error| sql(what, error))
    }
}

/// `error`, with the file's name if it is fatal and does not have it: SQLite names none.
pub(crate) fn of_file(error: Error, path: &Path) -> Error {
    let path = path.display().to_string();
    if error.is_fatal() && !error.to_string().contains(&path) {
        return error.while_(format!("`{path}`"));
    }
    error
}

/// A stored value that can't be what we wrote.
pub(crate) fn damaged(what: impl std::fmt::Display) -> Error {
    Error::fatal(format!("{what} can't be read; restore the newest backup"))
}
