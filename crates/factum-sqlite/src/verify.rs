//! Verifying a data directory: reading all of it, and naming what is damaged.
//!
//! It looks at more than a start does, which reads the log's end only: at every page and index of the file, at every
//! record as a reader would decode it, at whether the indexes know each record, and at every message of the topics. It
//! changes nothing.

use std::{
    fs,
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::Arc,
};

use factum_core::{At, Epoch, Error, Position, ServiceName};
use rusqlite::Connection;

use crate::{
    broker,
    error::Doing,
    file::{DirectoryLock, FILE_NAME, check_magic, connect, connect_to_read},
    log,
    number::{range, record_key, signed},
    opening, parked_read,
    reader::Reading,
    schema, snapshots,
    sqlite::Sqlite,
    state::StoreState,
};

/// How many records are read between two signs of life: a tenth of a second.
const RECORDS_AT_A_TIME: u64 = 10_000;

/// How many damages are named. Whoever has more needs no longer list.
const DAMAGES_MAX: usize = 100;

/// How many lines SQLite writes about one table.
const LINES_MAX: u32 = 10;

/// How far a verification has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verifying {
    /// What is looked at: `the log of store order`.
    pub what: String,
    /// How much of it was.
    pub done: u64,
    /// Of how much; 0: nobody knows.
    pub of: u64,
}

/// What a verification has found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// The file.
    pub file: PathBuf,
    /// Its stores.
    pub stores: Vec<VerifiedStore>,
    /// How many messages its topics hold.
    pub messages: u64,
    /// What is damaged or missing, the first hundred of it; empty: nothing is.
    pub damages: Vec<String>,
}

/// A store that was read whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedStore {
    /// Its service.
    pub service: ServiceName,
    /// Its epoch.
    pub epoch: Epoch,
    /// Where its log ends.
    pub head: At,
}

impl Sqlite {
    /// Reads all that the data directory holds and says what is damaged, telling `progress` now and then how far it has
    /// come. No process may use the directory meanwhile. Nothing is changed, so that the directory may be mounted read-only,
    /// as long as its log is in the file, as a process leaves it that has ended well.
    ///
    /// ```
    /// # let directory = tempfile::tempdir().unwrap();
    /// use factum_sqlite::{Sqlite, SqliteOptions};
    ///
    /// drop(Sqlite::open(&SqliteOptions::new(directory.path()))?);
    /// let verified = Sqlite::verify(directory.path(), |_| {})?;
    /// assert!(verified.damages.is_empty());
    /// # Ok::<(), factum_core::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Class fatal when there is no data file, when the directory is in use, when the file has an older schema, or when nothing
    /// can be written and there is a log. Damage is no error: it is what was asked for.
    pub fn verify(
        directory: &Path,
        mut progress: impl FnMut(&Verifying),
    ) -> Result<Verified, Error> {
        let path = directory.join(FILE_NAME);
        if !path.is_file() {
            return Err(Error::fatal(format!(
                "there is no data file `{}`",
                path.display()
            )));
        }
        let lock = DirectoryLock::take_to_read(directory)?;
        let mut verification = Verification {
            progress: &mut progress,
            verified: Verified {
                file: path.clone(),
                stores: Vec::new(),
                messages: 0,
                damages: Vec::new(),
            },
        };
        verification.run(directory, &path, lock.is_read_only)?;
        Ok(verification.verified)
    }
}

struct Verification<'a> {
    progress: &'a mut dyn FnMut(&Verifying),
    verified: Verified,
}

impl Verification<'_> {
    fn run(&mut self, directory: &Path, path: &Path, is_read_only: bool) -> Result<(), Error> {
        let opened = opening::damaged_log(directory).map(|(_, objection)| objection);
        if let Some(Some(objection)) = self.keep(opened) {
            self.damaged(objection.into_text());
        }
        if self.keep(check_magic(path)).is_none() {
            return Ok(());
        }
        let log = directory.join(format!("{FILE_NAME}-wal"));
        if is_read_only && fs::metadata(&log).is_ok_and(|log| log.len() > 0) {
            return Err(Error::fatal(format!(
                "`{}` has what is not in the file yet, and can't be read where nothing can be written: copy the \
                 directory, and verify the copy",
                log.display()
            )));
        }
        let connect = if is_read_only {
            connect_to_read
        } else {
            connect
        };
        let connection = connect(path).and_then(|connection| {
            connection
                .pragma_update(None, "query_only", true)
                .doing("open the file to read it")?;
            Ok((schema::is_present(&connection, path)?, connection))
        });
        let Some((is_present, connection)) = self.keep(connection) else {
            return Ok(());
        };
        if !is_present {
            return Err(Error::fatal(format!(
                "`{}` has an older schema than this program: start the program on it once, and verify it then",
                path.display()
            )));
        }
        // A copy is verified before it is used: that it lies in another place is no damage.
        let objection = opening::objection(directory, &connection);
        if let Some(Some(objection)) = self.keep(objection)
            && !objection.is_moved
        {
            self.damaged(objection.into_text());
        }
        self.tables(&connection);
        let reading = Reading::new(connection, Arc::new(path.to_path_buf()));
        let numbers = self.keep(numbers(&reading.connection)).unwrap_or_default();
        for number in numbers {
            if let Some(store) = self.keep(StoreState::load(&reading.connection, number, None)) {
                self.store(&reading, &store);
            }
        }
        self.topics(&reading.connection);
        Ok(())
    }

    /// Every page and index, as SQLite can check them.
    fn tables(&mut self, connection: &Connection) {
        const WHAT: &str = "list the tables";
        let listed = || {
            let mut statement = connection
                .prepare("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")
                .doing(WHAT)?;
            let names = statement.query_map([], |row| row.get(0)).doing(WHAT)?;
            names.collect::<Result<Vec<String>, _>>().doing(WHAT)
        };
        let tables = self.keep(listed()).unwrap_or_default();
        for (done, table) in tables.iter().enumerate() {
            self.tell("tables and indexes", done as u64, tables.len() as u64);
            let check = || {
                // A table's name can't be bound here; a quote in it is doubled.
                let name = table.replace('\'', "''");
                let what = format!("check table `{table}`");
                let mut statement = connection
                    .prepare(&format!("PRAGMA integrity_check('{name}')"))
                    .doing(&what)?;
                let lines = statement.query_map([], |row| row.get(0)).doing(&what)?;
                let lines = lines.take(LINES_MAX as usize);
                lines.collect::<Result<Vec<String>, _>>().doing(&what)
            };
            for line in self.keep(check()).unwrap_or_default() {
                if line != "ok" {
                    self.damaged(format!("table `{table}`: {}", line.replace('\n', " ")));
                }
            }
        }
    }

    fn store(&mut self, reading: &Reading, store: &StoreState) {
        let service = &store.identity.service;
        self.verified.stores.push(VerifiedStore {
            service: service.clone(),
            epoch: store.epoch(),
            head: store.head,
        });
        let what = format!("the log of store `{service}`");
        let mut next = Position(0);
        while next < store.head.position {
            self.tell(&what, next.0, store.head.position.0);
            let to = Position(next.0 + RECORDS_AT_A_TIME).min(store.head.position);
            if self.records(reading, store.number, next, to).is_break() {
                return;
            }
            let indexed = to.min(store.indexed);
            if next < indexed {
                let missing = not_indexed(&reading.connection, store.number, next, indexed);
                for text in self.keep(missing).unwrap_or_default() {
                    self.damaged(format!("store `{service}`: {text}"));
                }
            }
            next = to;
        }
        let connection = &reading.connection;
        let surplus = surplus(connection, store);
        for text in self.keep(surplus).unwrap_or_default() {
            self.damaged(format!("store `{service}`: {text}"));
        }
        self.tell(&format!("what store `{service}` has parked and kept"), 0, 0);
        let all = factum_core::ParkedFilter::default();
        self.keep(parked_read::find(
            connection,
            store.number,
            &all,
            usize::MAX,
        ));
        for text in self
            .keep(snapshots::damaged(connection, store.number))
            .unwrap_or_default()
        {
            self.damaged(format!("store `{service}`: {text}"));
        }
        let views = store
            .views
            .tables
            .values()
            .flat_map(|generations| generations.values());
        for table in views {
            let wrong = documents(connection, &table.name);
            if let Some(count @ 1..) = self.keep(wrong) {
                self.damaged(format!(
                    "view `{}` of store `{service}` has {count} rows that can't be read: rebuild it",
                    table.definition.name
                ));
            }
        }
    }

    /// Reads the records behind `from` up to `to`, past those that can't be read.
    fn records(
        &mut self,
        reading: &Reading,
        store: i64,
        mut from: Position,
        to: Position,
    ) -> ControlFlow<()> {
        loop {
            let mut last = from;
            let read = log::check(reading, store, from, to, |record| {
                last = record.at.position;
                Ok(())
            });
            if self.keep(read).is_some() {
                return ControlFlow::Continue(());
            }
            if self.verified.damages.len() >= DAMAGES_MAX {
                return ControlFlow::Break(());
            }
            from = last.next();
            if from >= to {
                return ControlFlow::Continue(());
            }
        }
    }

    fn topics(&mut self, connection: &Connection) {
        let Some(partitions) = self.keep(broker::partitions(connection)) else {
            return;
        };
        for (done, partition) in partitions.iter().enumerate() {
            self.tell("messages of topics", done as u64, partitions.len() as u64);
            if let Some(count) = self.keep(broker::check(connection, partition)) {
                self.verified.messages += count;
            }
        }
    }

    fn tell(&mut self, what: &str, done: u64, of: u64) {
        (self.progress)(&Verifying {
            what: what.into(),
            done,
            of,
        });
    }

    /// What was found out, or its failure among the damages.
    fn keep<T>(&mut self, result: Result<T, Error>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(error) => {
                self.damaged(format!("{error:#}"));
                None
            }
        }
    }

    fn damaged(&mut self, text: String) {
        if self.verified.damages.len() < DAMAGES_MAX && !self.verified.damages.contains(&text) {
            self.verified.damages.push(text);
        }
    }
}

fn numbers(connection: &Connection) -> Result<Vec<i64>, Error> {
    const WHAT: &str = "list the stores";
    let mut statement = connection
        .prepare("SELECT number FROM stores ORDER BY number")
        .doing(WHAT)?;
    let numbers = statement.query_map([], |row| row.get(0)).doing(WHAT)?;
    numbers.collect::<Result<_, _>>().doing(WHAT)
}

/// Which indexes of the log don't know records that they should know.
fn not_indexed(
    connection: &Connection,
    store: i64,
    from: Position,
    to: Position,
) -> Result<Vec<String>, Error> {
    let mut wrong = Vec::new();
    for (index, sql) in [
        (
            "stream_events",
            "SELECT count(*) FROM records r WHERE r.key > ?1 AND r.key <= ?2 AND r.stream IS NOT NULL AND NOT EXISTS \
             (SELECT 1 FROM stream_events e WHERE e.stream = r.stream AND e.version = r.version AND e.record = r.key)",
        ),
        (
            "correlated",
            "SELECT count(*) FROM records r WHERE r.key > ?1 AND r.key <= ?2 AND NOT EXISTS \
             (SELECT 1 FROM correlated c WHERE c.store = r.key >> 40 AND c.correlation_id = r.correlation_id AND c.record = r.key)",
        ),
        (
            "streams",
            "SELECT count(*) FROM records r JOIN streams s ON s.number = r.stream WHERE r.key > ?1 AND r.key <= ?2 \
             AND NOT EXISTS (SELECT 1 FROM streams f WHERE f.store = s.store AND f.category = s.category AND f.id = s.id \
             AND f.number = s.number AND f.store = r.key >> 40)",
        ),
    ] {
        let bounds = [record_key(store, from), record_key(store, to)];
        let count: i64 = connection
            .prepare_cached(sql)
            .and_then(|mut statement| statement.query_row(bounds, |row| row.get(0)))
            .doing(&format!("compare index `{index}` with the log"))?;
        if count > 0 {
            wrong.push(format!(
                "index `{index}` does not know {count} of the records from position {} to {}",
                from.next(),
                to
            ));
        }
    }
    Ok(wrong)
}

/// Which indexes of the log know more than there is.
fn surplus(connection: &Connection, store: &StoreState) -> Result<Vec<String>, Error> {
    let (first, last) = range(store.number);
    let count = |what: &str, sql: &str, bounds: &[i64]| {
        connection
            .query_row(sql, rusqlite::params_from_iter(bounds), |row| {
                row.get::<_, i64>(0)
            })
            .doing(&format!("compare index `{what}` with the log"))
    };
    let indexed = record_key(store.number, store.indexed);
    let events = count(
        "stream_events",
        "SELECT count(*) FROM records WHERE key > ?1 AND key <= ?2 AND stream IS NOT NULL",
        &[first, indexed],
    )?;
    let mut wrong = Vec::new();
    for (index, entries, wanted) in [
        (
            "stream_events",
            count(
                "stream_events",
                "SELECT count(*) FROM stream_events WHERE stream BETWEEN ?1 AND ?2",
                &[first, last],
            )?,
            events,
        ),
        (
            "correlated",
            count(
                "correlated",
                "SELECT count(*) FROM correlated WHERE store = ?1",
                &[store.number],
            )?,
            signed(store.indexed.0),
        ),
    ] {
        if entries != wanted {
            wrong.push(format!(
                "index `{index}` has {entries} entries, and the log has {wanted} records for it"
            ));
        }
    }
    Ok(wrong)
}

/// How many rows of a view's table hold no document.
fn documents(connection: &Connection, table: &str) -> Result<i64, Error> {
    connection
        .query_row(
            &format!("SELECT count(*) FROM {table} WHERE document IS NOT NULL AND NOT json_valid(document)"),
            [],
            |row| row.get(0),
        )
        .doing(&format!("read table `{table}`"))
}
