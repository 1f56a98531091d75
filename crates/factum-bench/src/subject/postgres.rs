//! Factum on PostgreSQL: each directory of a run is a schema on the server, which is dropped when it is removed.

use std::{path::Path, sync::Arc};

use async_trait::async_trait;
use factum::{Broker, ServiceName, Sqlite, SqliteOptions, system_env};
use factum_postgres::{Postgres, PostgresOptions};
use tokio_postgres::{Client, NoTls};

use super::{Backend, Base, Closing, names, ours::SERVICE, remove};
use crate::failure::Failure;

/// The server, for ours and for what ours is compared with.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    url: String,
}

impl Server {
    /// The server at `url`.
    pub(crate) fn new(url: impl Into<String>) -> Self {
        Self { url: url.into() }
    }

    /// A connection without anything between it and the server.
    pub(super) async fn connect(&self) -> Result<Client, Failure> {
        let connected = tokio_postgres::connect(&self.url, NoTls).await;
        let (client, connection) =
            connected.map_err(|error| said("connecting to PostgreSQL", &error))?;
        // What it fails with is what statements fail with.
        tokio::spawn(async move { drop(connection.await) });
        Ok(client)
    }

    /// What the server calls itself.
    pub(crate) async fn version(&self) -> Result<String, Failure> {
        let row = self.connect().await?;
        let row = row.query_one("SHOW server_version", &[]).await;
        row.and_then(|row| row.try_get(0))
            .map_err(|error| said("asking PostgreSQL for its version", &error))
    }

    /// Drops all schemas of a directory, or of all directories of a run.
    pub(crate) async fn drop_all(&self, directory: &Path) -> Result<(), Failure> {
        let client = self.connect().await?;
        let names = client
            .query(
                "SELECT quote_ident(nspname) FROM pg_namespace WHERE starts_with(nspname, $1)",
                &[&prefix(directory)],
            )
            .await
            .map_err(|error| said("looking for schemas", &error))?;
        for name in names {
            let name: String = name
                .try_get(0)
                .map_err(|error| said("reading a schema's name", &error))?;
            client
                .batch_execute(&format!("DROP SCHEMA {name} CASCADE"))
                .await
                .map_err(|error| said(&format!("dropping schema {name}"), &error))?;
        }
        Ok(())
    }
}

/// What the names of a directory's schemas begin with.
pub(super) fn prefix(directory: &Path) -> String {
    names(directory, "_")
}

/// What the server said, not only that it said something.
pub(super) fn said(doing: &str, error: &tokio_postgres::Error) -> Failure {
    match error.as_db_error() {
        Some(error) => Failure::while_(doing, error),
        None => Failure::while_(doing, error),
    }
}

/// Stores on PostgreSQL. Nothing of what is measured on them goes to a topic: their broker is an embedded one that idles.
pub(crate) struct OnPostgres(pub(crate) Server);

struct Open {
    postgres: Postgres,
    sqlite: Sqlite,
}

#[async_trait]
impl Backend for OnPostgres {
    async fn open(&self, directory: &Path) -> Result<Base, Failure> {
        let env = system_env();
        let options = PostgresOptions::new(&self.0.url).schema_prefix(prefix(directory));
        let postgres = Postgres::new(&options)?;
        let store = postgres.store(&ServiceName::of(SERVICE), &env).await?;
        // Several processes may have the directory.
        let topics = directory.join(format!("topics-{}", std::process::id()));
        let sqlite = Sqlite::open(&SqliteOptions::new(topics))?;
        let broker: Arc<dyn Broker> = Arc::new(sqlite.broker(&env).await?);
        Ok(Base {
            store,
            broker,
            closing: Box::new(Open { postgres, sqlite }),
        })
    }

    async fn remove(&self, directory: &Path) -> Result<(), Failure> {
        self.0.drop_all(directory).await?;
        remove(directory)
    }
}

#[async_trait]
impl Closing for Open {
    async fn close(&self) {
        self.postgres.close().await;
        self.sqlite.clone().close().await;
    }
}
