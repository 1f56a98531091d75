//! Plain SQLite as one would write it by hand: one table, unique by stream and version, one writer with group commit.
//!
//! Its clients know their versions; the unique index is the only check. Nobody reads, nothing else is kept.

use std::{path::Path, sync::Arc};

use async_trait::async_trait;
use factum::Event as _;
use rusqlite::{Connection, params};

use super::{CarriesOut, Opened, Subject, batching::Batching};
use crate::{failure::Failure, workload::Step};

/// Plain SQLite.
pub(super) struct PlainSqlite;

struct Row {
    stream: String,
    version: i64,
    name: &'static str,
    data: Vec<u8>,
}

struct Open(Batching<Row>);

#[async_trait]
impl Subject for PlainSqlite {
    fn name(&self) -> &'static str {
        "plain SQLite"
    }

    async fn open(&self, directory: &Path) -> Result<Box<dyn Opened>, Failure> {
        let made = Connection::open(directory.join("plain.db")).and_then(|connection| {
            connection.execute_batch(
                "PRAGMA journal_mode = WAL; \
                 PRAGMA synchronous = FULL; \
                 CREATE TABLE events (position INTEGER PRIMARY KEY, stream TEXT NOT NULL, \
                   version INTEGER NOT NULL, type TEXT NOT NULL, data BLOB NOT NULL, UNIQUE (stream, version));",
            )?;
            Ok(connection)
        });
        let connection = made.map_err(|error| Failure::while_("making a table", error))?;
        let batching = Batching::start(move |group| {
            let write = || {
                connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
                let mut insert = connection.prepare_cached(
                    "INSERT INTO events (stream, version, type, data) VALUES (?1, ?2, ?3, ?4)",
                )?;
                for writing in group {
                    let row: &Row = &writing.what;
                    insert.execute(params![row.stream, row.version, row.name, row.data])?;
                }
                connection.prepare_cached("COMMIT")?.execute([])
            };
            write()
                .map(drop)
                .map_err(|error: rusqlite::Error| error.to_string())
        })?;
        Ok(Box::new(Arc::new(Open(batching))))
    }
}

impl CarriesOut for Open {
    async fn carry_out(&self, order: &str, step: Step, number: u64) -> Result<(), Failure> {
        let event = step.event(number);
        let row = Row {
            stream: order.to_owned(),
            version: step.version(),
            name: event.stored_type().0,
            data: event
                .encode()
                .map_err(|error| Failure::while_("encoding an event", error))?,
        };
        self.0.write(row).await
    }

    async fn close(&self) {
        self.0.close();
    }
}
