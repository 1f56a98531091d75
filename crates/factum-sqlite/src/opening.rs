//! Opening the file: what is looked at before the first commit, and when a start is refused.
//!
//! The write-ahead log must end where it was meant to, and the file must hold all that its witness knows of. Until
//! that is settled nothing is written, not even when the connection is closed: what a start refuses, a person may
//! still want to mend.

use std::{fmt::Write as _, io, path::Path};

use factum_core::{At, Epoch, Error, StoreId, Timestamp};
use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};
use tracing::{info, warn};
use uuid::Uuid;

use crate::{
    error::{Doing, damaged},
    file::{FILE_NAME, check_magic, connect},
    number::{record_key, signed},
    options::{Accept, SqliteOptions},
    schema,
    state::{StoreState, read_epochs, read_head},
    wal,
    witness::{self, Found, Place, StoreHead, Testimony, WITNESS_NAME, Witness},
};

/// The states of the row in `witnessed`.
const LIVE: i64 = 1;
const BACKUP: i64 = 2;

/// What the file says of itself: to be compared with its witness.
struct Contents {
    stores: Vec<Known>,
    /// The state in `witnessed`; `None` when the file never had a witness.
    state: Option<i64>,
    sequence: u64,
}

/// A store of the file.
struct Known {
    number: i64,
    service: String,
    head: StoreHead,
}

impl Contents {
    fn read(connection: &Connection) -> Result<Self, Error> {
        const WHAT: &str = "compare the file with its witness";
        let mut contents = Self {
            stores: Vec::new(),
            state: None,
            sequence: 0,
        };
        if has_table(connection, "witnessed")? {
            let row: Option<(i64, i64)> = connection
                .query_row("SELECT state, sequence FROM witnessed", [], |row| {
                    Ok((row.get(0)?, row.get(1)?))
                })
                .optional()
                .doing(WHAT)?;
            if let Some((state, sequence)) = row {
                contents.state = Some(state);
                contents.sequence = sequence.cast_unsigned();
            }
        }
        if !has_table(connection, "stores")? {
            return Ok(contents);
        }
        let mut statement = connection
            .prepare("SELECT number, id, service FROM stores ORDER BY number")
            .doing(WHAT)?;
        let mut rows = statement.query([]).doing(WHAT)?;
        while let Some(row) = rows.next().doing(WHAT)? {
            let number: i64 = row.get(0).doing(WHAT)?;
            let broken = || damaged(format!("store number {number}"));
            let id: Vec<u8> = row.get(1).doing(WHAT)?;
            let epochs = read_epochs(connection, number)?;
            let (head, checksum) = read_head(connection, number)?;
            contents.stores.push(Known {
                number,
                service: row.get(2).doing(WHAT)?,
                head: StoreHead {
                    id: StoreId(Uuid::from_slice(&id).map_err(|_| broken())?),
                    epoch: epochs.last().ok_or_else(broken)?.epoch,
                    head,
                    checksum,
                },
            });
        }
        Ok(contents)
    }

    fn total(&self) -> u64 {
        let positions = self.stores.iter().map(|store| store.head.head.position.0);
        positions.sum::<u64>() + self.sequence
    }

    /// What the witness knows of and the file does not hold, in words; `None` when it holds all.
    fn lacks(&self, connection: &Connection, known: &Testimony) -> Result<Option<String>, Error> {
        for of in &known.heads {
            let Some(store) = self.stores.iter().find(|store| store.head.id == of.id) else {
                return Ok(Some(format!(
                    "store {} is not in it, whose log had reached {}",
                    of.id, of.head
                )));
            };
            let service = &store.service;
            // A restore has put another log in its place, and has written that down.
            if store.head.epoch > of.epoch {
                continue;
            }
            if store.head.epoch < of.epoch || store.head.head.position < of.head.position {
                return Ok(Some(format!(
                    "the log of store `{service}` ends at {}, and it had reached {}",
                    store.head.head, of.head
                )));
            }
            if checksum(connection, store.number, of.head)? != Some(of.checksum) {
                return Ok(Some(format!(
                    "the record at {} of store `{service}` is not the one that was written there",
                    of.head
                )));
            }
        }
        let total = self.total();
        Ok((total < known.total).then(|| {
            format!(
                "its last commits are missing: it counts {total}, and had reached {}",
                known.total
            )
        }))
    }
}

pub(crate) fn has_table(connection: &Connection, name: &str) -> Result<bool, Error> {
    connection
        .query_row(
            "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?1)",
            [name],
            |row| row.get(0),
        )
        .doing("compare the file with its witness")
}

/// The checksum in the record at `at`; `None` when there is no such record.
fn checksum(connection: &Connection, store: i64, at: At) -> Result<Option<u32>, Error> {
    if at == At::ZERO {
        return Ok(Some(0));
    }
    let row: Option<(i64, i64)> = connection
        .query_row(
            "SELECT epoch, checksum FROM records WHERE key = ?1",
            [record_key(store, at.position)],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
        .optional()
        .doing("compare the file with its witness")?;
    Ok(row
        .filter(|(epoch, _)| *epoch == signed(at.epoch.0))
        .and_then(|(_, checksum)| u32::try_from(checksum).ok()))
}

/// What speaks against opening a file, in words with the way out.
///
/// `None` when nothing does. Nothing is changed by looking.
pub(crate) fn objection(
    directory: &Path,
    connection: &Connection,
) -> Result<Option<Objection>, Error> {
    let path = directory.join(FILE_NAME);
    let contents = Contents::read(connection)?;
    let (file, witness) = (path.display(), directory.join(WITNESS_NAME));
    let found = witness::read(&witness).map_err(|error| unreadable(&witness, error))?;
    let witness = witness.display();
    let known = match found {
        Found::Testimony(known) => known,
        Found::Damaged => {
            return Ok(Some(Objection::short(format!(
                "`{witness}` is damaged, so that nobody can tell whether `{file}` holds all that was acknowledged: \
                 put a whole witness back"
            ))));
        }
        Found::Nothing => {
            return Ok(match contents.state {
                None => None,
                Some(BACKUP) => Some(Objection::short(format!(
                    "`{file}` is a backup of one store that was put in the place of a data file: restore it instead, \
                     which gives the store a time line of its own"
                ))),
                Some(_) => Some(Objection::short(format!(
                    "`{witness}` is missing, so that nobody can tell whether `{file}` holds all that was acknowledged: \
                     put it back"
                ))),
            });
        }
    };
    if let Some(lacks) = contents.lacks(connection, &known)? {
        return Ok(Some(Objection::short(format!(
            "`{file}` does not hold all that was acknowledged, as its witness `{witness}` knows: {lacks}. Its log \
             `{file}-wal` was shortened, damaged or taken away, or an older copy of the file was put in its place: \
             put back what belongs together, or restore the newest backup"
        ))));
    }
    let place = Place::of(&path).map_err(|error| unreadable(&path, error))?;
    if place != known.place {
        return Ok(Some(Objection {
            is_moved: true,
            text: format!(
                "`{file}` is not the file that its witness `{witness}` was written for: the directory was copied, or \
                 moved to another file system. If the former one is never used again and this is its latest state, say \
                 so once with `--moved` (`SqliteOptions::moved`). If both go on, or this is an older state"
            ),
        }));
    }
    Ok(None)
}

/// Why a start is refused.
pub(crate) struct Objection {
    /// The file is whole, and in another place.
    pub(crate) is_moved: bool,
    text: String,
}

impl Objection {
    fn short(mut text: String) -> Self {
        text.push_str(". To go on with what is there");
        Self {
            is_moved: false,
            text,
        }
    }

    /// In words, with the last way out.
    pub(crate) fn into_text(mut self) -> String {
        self.text.push_str(
            ", open a new epoch once with `--new-epoch` (`SqliteOptions::new_epoch`): whoever has seen what is lost is then told",
        );
        self.text
    }

    /// As an error of class fatal.
    pub(crate) fn into_error(self) -> Error {
        Error::fatal(self.into_text())
    }
}

/// Looks at the write-ahead log of `directory` as it lies there.
pub(crate) fn damaged_log(directory: &Path) -> Result<(wal::Wal, Option<Objection>), Error> {
    let path = directory.join(format!("{FILE_NAME}-wal"));
    let found = wal::examine(&path).map_err(|error| unreadable(&path, error))?;
    let objection = found.is_damaged().then(|| {
        let path = path.display();
        Objection::short(if found.is_headless {
            format!("`{path}` is damaged at its beginning, and what it holds would be lost: put a whole one back, or restore the newest backup")
        } else {
            format!(
                "`{path}` is damaged in its frame {}, and {} commits behind it would be lost: put a whole one back, or \
                 restore the newest backup",
                found.frames + 1,
                found.stranded
            )
        })
    });
    Ok((found, objection))
}

/// Opens the file in the directory of `options`, or makes it, and settles with its witness.
///
/// # Errors
///
/// Class fatal, with the file and the way out, when it can't be used as it is.
pub(crate) fn open(options: &SqliteOptions) -> Result<(Connection, Witness), Error> {
    let (path, accept) = (options.directory.join(FILE_NAME), &options.accept);
    let anew = matches!(accept, Accept::NewEpoch { .. });
    check_magic(&path)?;
    let witness_path = options.directory.join(WITNESS_NAME);
    if !path.exists() && !anew {
        refuse_without_file(&path, &witness_path)?;
    }
    let mut lost = String::new();
    let mut settle = |objection: Option<Objection>| match objection {
        Some(objection) if anew || (objection.is_moved && matches!(accept, Accept::Moved)) => {
            warn!("accepted: {}", objection.text);
            if !objection.is_moved {
                write!(lost, "; {}", objection.text).expect("a text takes everything");
            }
            Ok(())
        }
        Some(objection) => Err(objection.into_error()),
        None => Ok(()),
    };
    let (log, objection) = damaged_log(&options.directory)?;
    settle(objection)?;
    let mut connection = connect(&path)?;
    schema::check(&connection, &path)?;
    settle(objection_of(options, &connection)?)?;
    wal_mode(&connection, &path)?;
    schema::prepare(&mut connection, &path)?;
    if log.tail > 0 {
        // Another torn group behind this one could not be told from damage.
        empty_log(&connection)?;
    }
    let known = match witness::read(&witness_path) {
        Ok(Found::Testimony(known)) => Some(known),
        _ => None,
    };
    if let Accept::NewEpoch { at, reason } = accept {
        let reason = format!("{reason}{lost}");
        open_epochs(&mut connection, *at, &reason, known.as_ref())?;
    }
    let witness = begin_witness(&connection, &path, known.as_ref())?;
    connection
        .execute(
            "INSERT INTO witnessed VALUES (1, ?1, 0) ON CONFLICT DO UPDATE SET state = ?1 WHERE state <> ?1",
            [LIVE],
        )
        .doing("note that the file has a witness")?;
    tell(&path, &log);
    Ok((connection, witness))
}

/// Says what a start has found in the file's log: what the last life left there, and what of it nobody was told of.
fn tell(path: &Path, log: &wal::Wal) {
    let (path, pages, cut) = (path.display(), log.committed, log.cut());
    if pages + cut == 0 {
        info!("opened `{path}`: its log is empty, so that it was closed in good order or is new");
    } else {
        info!(
            wal.cut = cut,
            wal.pages = pages,
            "opened `{path}`: {pages} pages of its log are whole, and {cut} behind them are of a commit that nobody was told of"
        );
    }
}

fn objection_of(
    options: &SqliteOptions,
    connection: &Connection,
) -> Result<Option<Objection>, Error> {
    objection(&options.directory, connection)
}

/// A file that is gone is not made anew in silence.
fn refuse_without_file(path: &Path, witness: &Path) -> Result<(), Error> {
    let knows = match witness::read(witness).map_err(|error| unreadable(witness, error))? {
        Found::Nothing => false,
        Found::Damaged => true,
        Found::Testimony(known) => known.total > 0 || !known.heads.is_empty(),
    };
    if !knows {
        return Ok(());
    }
    let text = format!(
        "`{}` is missing, and its witness `{}` is there: put it back, or restore the newest backup",
        path.display(),
        witness.display()
    );
    Err(Objection::short(text).into_error())
}

/// Notes what the file holds now. From here on it may be ahead of its witness, never behind.
pub(crate) fn begin_witness(
    connection: &Connection,
    path: &Path,
    known: Option<&Testimony>,
) -> Result<Witness, Error> {
    let contents = Contents::read(connection)?;
    let mut testimony = Testimony {
        count: known.map_or(0, |known| known.count),
        place: Place::of(path).map_err(|error| unreadable(path, error))?,
        total: contents.total(),
        heads: Vec::new(),
    };
    for store in contents.stores {
        testimony.note(store.head);
    }
    let path = path.with_file_name(WITNESS_NAME);
    Witness::begin(&path, testimony).map_err(|error| {
        Error::fatal(format!("failed to write `{}`", path.display())).caused_by(error)
    })
}

/// Opens a new epoch in every store, so that positions beyond its head are used a second time by nobody.
fn open_epochs(
    connection: &mut Connection,
    at: Timestamp,
    reason: &str,
    known: Option<&Testimony>,
) -> Result<(), Error> {
    const WHAT: &str = "open a new epoch";
    let contents = Contents::read(connection)?;
    let transaction = connection
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .doing(WHAT)?;
    for store in &contents.stores {
        let of = known.and_then(|known| known.heads.iter().find(|of| of.id == store.head.id));
        let greatest = of.map_or(store.head.epoch, |of| of.epoch.max(store.head.epoch));
        let epoch = Epoch::opened_at(at, greatest);
        let lost = of
            .filter(|of| of.head.position > store.head.head.position)
            .map_or(String::new(), |of| {
                format!(", in place of a log that had reached {}", of.head)
            });
        let mut state = StoreState::open(&transaction, store.number)?;
        let reason = format!("opened anew at {}{lost}: {reason}", store.head.head);
        state.open_epoch(&transaction, epoch, at, &reason)?;
        state.flush(&transaction)?;
    }
    // What the witness compares never goes back, so that a crash before it is written is no loss to it.
    let behind = known.map_or(0, |known| known.total.saturating_sub(contents.total()));
    advance_sequence(&transaction, behind + 1)?;
    transaction.commit().doing(WHAT)
}

/// Lets the file's sequence grow: within a transaction that moves the head of no log, or moves one back.
pub(crate) fn advance_sequence(connection: &Connection, by: u64) -> Result<(), Error> {
    connection
        .prepare_cached(
            "INSERT INTO witnessed VALUES (1, ?1, ?2) ON CONFLICT DO UPDATE SET sequence = sequence + ?2",
        )
        .and_then(|mut statement| statement.execute(params![LIVE, signed(by)]))
        .doing("count a group of commits")?;
    Ok(())
}

/// Marks a file as a backup, which must be restored and not be opened.
pub(crate) fn mark_as_backup(connection: &Connection) -> Result<(), Error> {
    connection
        .execute("INSERT INTO witnessed VALUES (1, ?1, 0)", [BACKUP])
        .doing("write a backup")?;
    Ok(())
}

/// Moves the whole log into the file.
pub(crate) fn empty_log(connection: &Connection) -> Result<(), Error> {
    connection
        .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
        .doing("start the log over")
}

fn wal_mode(connection: &Connection, path: &Path) -> Result<(), Error> {
    let what = format!("open `{}`", path.display());
    let mode: String = connection
        .pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))
        .doing(&what)?;
    if mode != "wal" {
        return Err(Error::fatal(format!(
            "failed to {what}: the file system can't hold a write-ahead log (mode `{mode}`); choose a directory on a \
             local disk"
        )));
    }
    Ok(())
}

fn unreadable(path: &Path, error: io::Error) -> Error {
    Error::fatal(format!("failed to read `{}`", path.display())).caused_by(error)
}
