//! Backup and restore of one store, while the others go on.

use std::{
    fs,
    path::{Path, PathBuf},
};

use factum_core::{Epoch, Error, ServiceName, StoreIdentity, Timestamp};
use rusqlite::{Connection, OptionalExtension, TransactionBehavior};
use tokio::sync::oneshot;

use crate::{
    SqliteOptions, broker, copy,
    error::{Doing, damaged, of_file},
    file::{DirectoryLock, FILE_NAME, check_magic, closed, connect},
    opening, own_sql, schema, set_back,
    sqlite::Sqlite,
    state::StoreState,
    store::SqliteStore,
    witness::{self, Found, WITNESS_NAME},
};

/// How a backup is put in place of what a store holds.
#[derive(Clone, Debug)]
pub struct Restore {
    /// The present time: the new epoch is its milliseconds, unless a greater one was used.
    pub at: Timestamp,
    /// The smallest epoch to open: behind the largest that was seen of this store in topics elsewhere. Those of the
    /// directory itself are looked through.
    pub epoch_min: Epoch,
    /// Who restores, and why; it is kept with the epoch.
    pub reason: String,
}

impl SqliteStore {
    /// Writes all that this store holds, as of one moment, into a new file at `path`, while commits go on.
    ///
    /// The file appears under its name when it is whole. As long as it is written, the write-ahead log can't be
    /// started over: it grows by what is committed meanwhile.
    ///
    /// # Errors
    ///
    /// Class poison when `path` exists, transient on a full disk.
    pub async fn backup(&self, path: &Path) -> Result<(), Error> {
        let (live, path, store) = (
            self.file.path.clone(),
            path.to_path_buf(),
            self.shared.number,
        );
        let service = self.shared.read().identity.service.clone();
        let (done, wait) = oneshot::channel();
        let run = move || {
            // Whoever waited may have gone; the backup is whole all the same.
            done.send(write(&live, &path, store, &service))
                .unwrap_or_default();
        };
        std::thread::Builder::new()
            .name("factum-backup".into())
            .spawn(run)
            .map_err(|error| {
                Error::transient("failed to start a thread for the backup").caused_by(error)
            })?;
        wait.await.map_err(|_| closed())?
    }
}

fn write(live: &Path, path: &Path, store: i64, service: &ServiceName) -> Result<(), Error> {
    let failed = |what: &str, error: std::io::Error| {
        Error::transient(format!("failed to {what} backup `{}`", path.display())).caused_by(error)
    };
    if path.exists() {
        return Err(Error::poison(format!(
            "backup `{}` exists: choose another name",
            path.display()
        )));
    }
    let partial = partial(path);
    remove(&partial).map_err(|error| failed("begin", error))?;
    let result = fill(&partial, live, store, service);
    let result =
        result.and_then(|()| fs::rename(&partial, path).map_err(|error| failed("finish", error)));
    if result.is_err() {
        // The error at hand says more than that of the clearing up.
        remove(&partial).unwrap_or_default();
        return result;
    }
    let directory = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    fs::File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(|error| failed("finish", error))
}

/// How a backup reads and writes. An immediate transaction would lock the live file for writers, too: all commits of the
/// directory would wait for the backup. Deferred, it keeps its first sight of the file to the end, and locks nobody out.
const COPYING: TransactionBehavior = TransactionBehavior::Deferred;

fn fill(path: &Path, live: &Path, store: i64, service: &ServiceName) -> Result<(), Error> {
    const WHAT: &str = "write a backup";
    let mut connection = connect(path)?;
    schema::prepare(&mut connection, path)?;
    attach(&connection, live, "live")?;
    let transaction = connection.transaction_with_behavior(COPYING).doing(WHAT)?;
    copy::copy(&transaction, "live", store, service)?;
    broker::carry(&transaction, "live", store)?;
    opening::mark_as_backup(&transaction)?;
    transaction.commit().doing(WHAT)
}

impl Sqlite {
    /// Puts a backup in place of what its service's store holds in the directory of `options`, which no process
    /// may have open, and opens a new epoch: greater than that of the backup, than that of what it replaces, than any
    /// that the topics of the directory or its witness know of the store, and below neither `epoch_min` nor the time in
    /// milliseconds. Blocks until it is done.
    ///
    /// Other stores of the directory and the topics are left alone, as far as they are whole. Where topics were lost, they
    /// begin again with the messages that the backup carries, at their offsets and with their times, and retention counts
    /// from the restore for them; each relay that has published what no
    /// group can come to have any more is set back.
    ///
    /// # Errors
    ///
    /// Class fatal when the directory is in use, when the file at `backup` is no backup, or when the directory
    /// holds another store of the service; nothing has changed then.
    pub fn restore(
        backup: &Path,
        options: &SqliteOptions,
        restore: &Restore,
    ) -> Result<StoreIdentity, Error> {
        const WHAT: &str = "restore a backup";
        let _lock = DirectoryLock::take(&options.directory)?;
        let path = options.directory.join(FILE_NAME);
        // What it knew before: the file may be gone.
        let known = witness::read(&options.directory.join(WITNESS_NAME));
        let (mut connection, witness) =
            opening::open(options).map_err(|error| of_file(error, &path))?;
        connection
            .pragma_update(None, "synchronous", "FULL")
            .doing(WHAT)?;
        let copied = options.directory.join("restored.partial");
        let identity = {
            let backup = present(backup, &copied)?;
            attach(&connection, &backup, "backup")?;
            let transaction = connection
                .transaction_with_behavior(TransactionBehavior::Immediate)
                .doing(WHAT)?;
            broker::put_back(&transaction, &connect(&backup)?, restore.at)?;
            let identity = replace(&transaction, &backup, restore, known.as_ref().ok())?;
            set_back::set_back(&transaction)?;
            transaction.commit().doing(WHAT)?;
            identity
        };
        connection.execute_batch("DETACH backup").doing(WHAT)?;
        opening::begin_witness(&connection, &path, Some(&witness.testimony))?;
        opening::empty_log(&connection)?;
        remove(&copied).map_err(|error| {
            Error::transient("failed to clear up after a restore").caused_by(error)
        })?;
        Ok(identity)
    }
}

/// What a file says of a store that it holds: its number there, its id, its service.
struct Known {
    number: i64,
    id: Vec<u8>,
    service: ServiceName,
}

impl Sqlite {
    /// The services whose stores the directory holds. No process may use it meanwhile. Nothing is changed.
    ///
    /// # Errors
    ///
    /// Class fatal when there is no data file, when the directory is in use, or when the file is damaged.
    pub fn services(directory: &Path) -> Result<Vec<ServiceName>, Error> {
        let path = directory.join(FILE_NAME);
        if !path.is_file() {
            return Err(Error::fatal(format!(
                "there is no data file `{}`",
                path.display()
            )));
        }
        let _lock = DirectoryLock::take(directory)?;
        let known = stores_of(&path)?.into_iter();
        Ok(known.map(|store| store.service).collect())
    }

    /// Looks whether all `backups` can be restored into `directory`, and says whose they are. Whoever restores more than
    /// one asks this first: the first would be in place when the second is refused. Nothing is changed.
    ///
    /// # Errors
    ///
    /// Class fatal when one of them is missing, damaged or no backup, when two are of one service, or when the directory
    /// is in use or holds another store of such a service.
    pub fn check_restore(backups: &[PathBuf], directory: &Path) -> Result<Vec<ServiceName>, Error> {
        let path = directory.join(FILE_NAME);
        let mut there = Vec::new();
        if path.is_file() {
            let _lock = DirectoryLock::take(directory)?;
            there = stores_of(&path)?;
        }
        let mut services: Vec<ServiceName> = Vec::new();
        for backup in backups {
            let of = check_backup(backup)?;
            if services.contains(&of.service) {
                return Err(Error::fatal(format!(
                    "`{}` is a second backup of service `{}`: restore one of them",
                    backup.display(),
                    of.service
                )));
            }
            let is_it = |store: &&Known| store.number == of.number || store.service == of.service;
            let mut same = there.iter().filter(is_it);
            if same.any(|store| (store.number, &store.id) != (of.number, &of.id)) {
                return Err(another_store(of.service.as_str()));
            }
            services.push(of.service);
        }
        Ok(services)
    }
}

fn another_store(service: &str) -> Error {
    Error::fatal(format!(
        "the directory holds another store in the place of the backup's store `{service}`: restore into an empty directory"
    ))
}

/// Reads a backup whole, and says what store it holds.
fn check_backup(backup: &Path) -> Result<Known, Error> {
    is_there(backup)?;
    let stores = stores_of(backup)?;
    let count = stores.len();
    let Ok([known]) = <[Known; 1]>::try_from(stores) else {
        return Err(no_backup(backup, count));
    };
    let connection = connect(backup)?;
    let found: String = connection
        .query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))
        .doing(&format!("read `{}`", backup.display()))?;
    if found == "ok" {
        return Ok(known);
    }
    Err(Error::fatal(format!(
        "backup `{}` is damaged: {found}",
        backup.display()
    )))
}

fn no_backup(backup: &Path, stores: usize) -> Error {
    Error::fatal(format!(
        "`{}` holds {stores} stores and is no backup: a backup holds one",
        backup.display()
    ))
}

/// The stores that a file holds.
fn stores_of(path: &Path) -> Result<Vec<Known>, Error> {
    let what = format!("read `{}`", path.display());
    check_magic(path)?;
    let connection = connect(path)?;
    connection
        .pragma_update(None, "query_only", true)
        .doing(&what)?;
    // Refuses what is of another application, or of a newer program.
    schema::is_present(&connection, path)?;
    if !opening::has_table(&connection, "stores")? {
        return Ok(Vec::new());
    }
    let mut statement = connection
        .prepare("SELECT number, id, service FROM stores ORDER BY number")
        .doing(&what)?;
    let rows = statement
        .query_map([], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get::<_, String>(2)?))
        })
        .doing(&what)?;
    rows.map(|row| {
        let (number, id, service) = row.doing(&what)?;
        let service =
            ServiceName::new(&service).map_err(|_| damaged(format!("service `{service}`")))?;
        Ok(Known {
            number,
            id,
            service,
        })
    })
    .collect()
}

fn is_there(backup: &Path) -> Result<(), Error> {
    if backup.is_file() {
        return Ok(());
    }
    Err(Error::fatal(format!(
        "there is no backup at `{}`",
        backup.display()
    )))
}

/// The backup in the present schema: itself, or a migrated copy.
fn present(backup: &Path, copied: &Path) -> Result<PathBuf, Error> {
    is_there(backup)?;
    check_magic(backup)?;
    let connection = connect(backup)?;
    if schema::is_present(&connection, backup)? {
        return Ok(backup.to_path_buf());
    }
    drop(connection);
    fs::copy(backup, copied)
        .map_err(|error| Error::transient("failed to copy the backup").caused_by(error))?;
    schema::prepare(&mut connect(copied)?, copied)?;
    Ok(copied.to_path_buf())
}

/// Replaces the store within a transaction.
fn replace(
    connection: &Connection,
    backup: &Path,
    restore: &Restore,
    witness: Option<&Found>,
) -> Result<StoreIdentity, Error> {
    const WHAT: &str = "restore a backup";
    let mut statement = connection
        .prepare("SELECT number, id, service FROM backup.stores")
        .doing(WHAT)?;
    let stores = statement
        .query_map([], |row| {
            Ok((
                row.get::<_, i64>(0)?,
                row.get::<_, Vec<u8>>(1)?,
                row.get::<_, String>(2)?,
            ))
        })
        .doing(WHAT)?;
    let stores: Vec<_> = stores.collect::<Result<_, _>>().doing(WHAT)?;
    let [(number, id, service)] = &stores[..] else {
        return Err(no_backup(backup, stores.len()));
    };
    let name = ServiceName::new(service).map_err(|_| damaged(format!("service `{service}`")))?;
    let known: Option<(i64, Vec<u8>)> = connection
        .query_row(
            "SELECT number, id FROM main.stores WHERE service = ?1 OR number = ?2 ORDER BY number <> ?2",
            (service, number),
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
        .optional()
        .doing(WHAT)?;
    let (mut replaced, mut lost, mut before) = (None, String::new(), 0);
    match known {
        None => {}
        Some((known, of)) if known == *number && of == *id => {
            let state = StoreState::open(connection, *number)?;
            replaced = Some(state.epoch());
            before = state.head.position.0;
            lost = format!(", in place of a log that had reached {}", state.head);
            copy::delete(connection, *number, &name)?;
        }
        Some(_) => {
            return Err(another_store(service));
        }
    }
    copy::copy(connection, "backup", *number, &name)?;
    own_sql::settle(connection, "backup", &name)?;
    let mut state = StoreState::open(connection, *number)?;
    let id = state.identity.id;
    let witnessed = match witness {
        Some(Found::Testimony(known)) => known.heads.iter().find(|head| head.id == id),
        _ => None,
    };
    let used = [
        Some(state.epoch()),
        replaced,
        witnessed.map(|head| head.epoch),
        broker::epoch_of(connection, id)?,
    ];
    let greatest = used.into_iter().flatten().max().unwrap_or_default();
    let epoch = Epoch::opened_at(restore.at, greatest).max(restore.epoch_min);
    let reason = format!("restored to {}{lost}: {}", state.head, restore.reason);
    state.open_epoch(connection, epoch, restore.at, &reason)?;
    state.flush(connection)?;
    // What the witness compares never goes back, though the log may.
    opening::advance_sequence(connection, before.saturating_sub(state.head.position.0) + 1)?;
    Ok(state.identity)
}

/// Attaches another file under a name.
fn attach(connection: &Connection, path: &Path, name: &str) -> Result<(), Error> {
    let text = path
        .to_str()
        .ok_or_else(|| Error::fatal(format!("`{}` is no UTF-8 path", path.display())))?;
    connection
        .execute(&format!("ATTACH ?1 AS {name}"), [text])
        .doing(&format!("open `{text}`"))?;
    Ok(())
}

fn partial(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".partial");
    path.with_file_name(name)
}

fn remove(path: &Path) -> std::io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A backup once held the live file's write lock, so that no store of the directory could commit.
    #[test]
    fn commits_go_on_while_a_backup_is_written() {
        let directory = tempfile::tempdir().unwrap();
        let (live, backup) = (
            directory.path().join("live.db"),
            directory.path().join("backup.db"),
        );
        let mut writer = connect(&live).unwrap();
        schema::prepare(&mut writer, &live).unwrap();
        writer.pragma_update(None, "journal_mode", "WAL").unwrap();
        writer.busy_timeout(std::time::Duration::ZERO).unwrap();
        let commit = |writer: &Connection| {
            writer.execute("INSERT INTO witnessed VALUES (1, 1, 1) ON CONFLICT DO UPDATE SET sequence = sequence + 1", [])
        };
        commit(&writer).unwrap();

        let mut copying = connect(&backup).unwrap();
        schema::prepare(&mut copying, &backup).unwrap();
        attach(&copying, &live, "live").unwrap();
        let transaction = copying.transaction_with_behavior(COPYING).unwrap();
        let copy = "INSERT OR REPLACE INTO main.witnessed SELECT * FROM live.witnessed";
        transaction.execute(copy, []).unwrap();
        commit(&writer).expect("the backup locks nobody out");
        // And it goes on seeing the moment that it began with.
        transaction.execute(copy, []).unwrap();
        let seen = "SELECT sequence FROM main.witnessed";
        let seen: i64 = transaction.query_row(seen, [], |row| row.get(0)).unwrap();
        assert_eq!(seen, 1);
    }
}
