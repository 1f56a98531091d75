//! PostgreSQL as one would write it by hand for speed alone: one table, and one `INSERT` of arrays for all that has gathered.
//!
//! Its positions are a sequence's, neither dense nor in the order of commits, and a version that is taken is left out in
//! silence. Its clients know their versions. Nobody reads, nothing else is kept.

use std::{path::Path, sync::Arc};

use async_trait::async_trait;
use factum::Event as _;
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
};
use tokio_postgres::{Client, Statement};

use super::{
    CarriesOut, Opened, Subject,
    postgres::{Server, prefix, said},
    remove,
};
use crate::{failure::Failure, workload::Step};

/// How many rows wait to be taken: more than there are clients.
const WAITING_MAX: usize = 1_024;

/// The hand-written group commit.
pub(crate) struct Unnest(pub(crate) Server);

struct Row {
    stream: String,
    version: i64,
    name: &'static str,
    data: String,
    done: oneshot::Sender<Result<(), String>>,
}

struct Open {
    rows: mpsc::Sender<Row>,
    writing: JoinHandle<()>,
}

#[async_trait]
impl Subject for Unnest {
    fn name(&self) -> &'static str {
        "UNNEST by hand"
    }

    async fn open(&self, directory: &Path) -> Result<Box<dyn Opened>, Failure> {
        let client = self.0.connect().await?;
        let schema = format!("\"{}plain\"", prefix(directory));
        let table = format!(
            "SET synchronous_commit = on; \
             CREATE SCHEMA {schema}; \
             CREATE TABLE {schema}.events (position bigserial PRIMARY KEY, stream text NOT NULL, version bigint NOT NULL, \
               type text NOT NULL, data text NOT NULL, UNIQUE (stream, version));",
        );
        client
            .batch_execute(&table)
            .await
            .map_err(|error| said("making a table", &error))?;
        let insert = format!(
            "INSERT INTO {schema}.events (stream, version, type, data) \
             SELECT * FROM unnest($1::text[], $2::bigint[], $3::text[], $4::text[]) ON CONFLICT DO NOTHING"
        );
        let insert = client.prepare(&insert).await;
        let insert = insert.map_err(|error| said("preparing a statement", &error))?;
        let (rows, given) = mpsc::channel(WAITING_MAX);
        let writing = tokio::spawn(write(client, insert, given));
        Ok(Box::new(Arc::new(Open { rows, writing })))
    }

    async fn remove(&self, directory: &Path) -> Result<(), Failure> {
        self.0.drop_all(directory).await?;
        remove(directory)
    }
}

/// Writes whatever has gathered, one group after another.
async fn write(client: Client, insert: Statement, mut given: mpsc::Receiver<Row>) {
    let mut group = Vec::with_capacity(WAITING_MAX);
    while given.recv_many(&mut group, WAITING_MAX).await > 0 {
        // Those that were answered together come again together: who takes the first of them at once gets half groups.
        tokio::task::yield_now().await;
        while group.len() < WAITING_MAX
            && let Ok(row) = given.try_recv()
        {
            group.push(row);
        }
        let streams: Vec<&str> = group.iter().map(|row| &*row.stream).collect();
        let versions: Vec<i64> = group.iter().map(|row| row.version).collect();
        let names: Vec<&str> = group.iter().map(|row| row.name).collect();
        let data: Vec<&str> = group.iter().map(|row| &*row.data).collect();
        let inserted = client
            .execute(&insert, &[&streams, &versions, &names, &data])
            .await
            .map(drop)
            .map_err(|error| said("inserting a group", &error).to_string());
        for row in group.drain(..) {
            // Whoever waited may have gone.
            drop(row.done.send(inserted.clone()));
        }
    }
}

impl CarriesOut for Open {
    async fn carry_out(&self, order: &str, step: Step, number: u64) -> Result<(), Failure> {
        let event = step.event(number);
        let encoded = event.encode();
        let data = encoded.map_err(|error| Failure::while_("encoding an event", error))?;
        let (done, answer) = oneshot::channel();
        let row = Row {
            stream: order.to_owned(),
            version: step.version(),
            name: event.stored_type().0,
            data: String::from_utf8(data)
                .map_err(|error| Failure::while_("encoding an event", error))?,
            done,
        };
        let ended = || Failure::new("the writing task has ended");
        self.rows.send(row).await.map_err(|_| ended())?;
        answer.await.map_err(|_| ended())?.map_err(Failure::new)
    }

    async fn close(&self) {
        self.writing.abort();
    }
}
