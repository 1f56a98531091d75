//! A store's schema: its names, and the migrations that bring it to where this version wants it.

use factum_core::{Error, ServiceName, StoreId, Timestamp};
use tracing::info;

use crate::{
    call::Call,
    connection::Connection,
    error::{Doing, column},
    number::micros,
    text::escape,
};

/// What was changed, in order. A migration that was released is never edited.
const MIGRATIONS: &[&str] = &[
    include_str!("migrations/0001_begin.sql"),
    include_str!("migrations/0002_server.sql"),
    include_str!("migrations/0003_marks.sql"),
];

/// The longest name of a schema that PostgreSQL keeps whole, without the ending of own tables' schemas.
const NAME_BYTES_MAX: usize = 59;

/// The names of one store's schema.
#[derive(Clone, Debug)]
pub(crate) struct Schema {
    /// The plain name, as in the catalog.
    pub(crate) name: String,
    /// The name as it is written in a statement.
    pub(crate) quoted: String,
    /// The schema of the service's own tables, as it is written in a statement.
    pub(crate) own: String,
    /// The channel of notifications.
    pub(crate) channel: String,
    /// The numbers of its two locks. Stores whose numbers are the same by accident wait for each other, and are right.
    section: i64,
    time_line: i64,
}

impl Schema {
    /// That of the store of `service`.
    pub(crate) fn new(prefix: &str, service: &ServiceName) -> Result<Self, Error> {
        let name = format!("{prefix}{service}");
        if name.len() > NAME_BYTES_MAX || name.contains('\0') {
            return Err(Error::fatal(format!(
                "`{name}` can't name a schema: that has at most {NAME_BYTES_MAX} bytes"
            )));
        }
        let quote = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
        // "FACT", and what tells the stores of one database apart.
        let lock = |kind: &str| {
            let sum = crc32fast::hash(format!("{kind} {name}").as_bytes());
            0x4641_4354 << 32 | i64::from(sum)
        };
        Ok(Self {
            quoted: quote(&name),
            own: quote(&format!("{name}_own")),
            channel: quote(&format!("fc_{name}")),
            section: lock("section"),
            time_line: lock("time line"),
            name,
        })
    }

    /// `sql` with the schema's own name in place of `factum.`.
    pub(crate) fn of(&self, sql: &str) -> String {
        sql.replace("factum.", &format!("{}.", self.quoted))
    }

    /// A statement that comes again with other values; `factum.` stands for the schema.
    pub(crate) fn call(&self, sql: &str) -> Call {
        Call::new(self.of(sql))
    }

    /// Makes what is missing. However many processes come together, one does it, and the others wait.
    pub(crate) async fn migrate(
        &self,
        connection: &Connection,
        service: &ServiceName,
        id: StoreId,
        at: Timestamp,
    ) -> Result<(), Error> {
        const WHAT: &str = "prepare the schema";
        let encoding = connection
            .row(&Call::once("SHOW server_encoding"))
            .await
            .doing(WHAT)?;
        let encoding: String = encoding.map_or(Ok(String::new()), |row| column(&row, 0))?;
        if encoding != "UTF8" {
            return Err(Error::fatal(format!(
                "the database keeps texts as {encoding}; create one with the encoding UTF8"
            )));
        }
        // The usual start finds all done, and needs no right to create anything.
        if self.version(connection).await? == Some(MIGRATIONS.len()) {
            return self.verify(connection, service).await;
        }
        connection
            .within(WHAT, self.migrate_alone(connection, service, id, at))
            .await?;
        self.verify(connection, service).await
    }

    async fn migrate_alone(
        &self,
        connection: &Connection,
        service: &ServiceName,
        id: StoreId,
        at: Timestamp,
    ) -> Result<(), Error> {
        const WHAT: &str = "prepare the schema";
        let run = async |sql: &str| connection.client.batch_execute(sql).await.doing(WHAT);
        run(&format!("SELECT pg_advisory_xact_lock({})", self.section)).await?;
        // What is not there can't be looked at, and what is there may belong to somebody else.
        let found = self.version(connection).await?;
        let mut version = found.unwrap_or(0);
        if version > MIGRATIONS.len() {
            return Err(Error::fatal(format!(
                "schema {} is of version {version}, and this program knows {} at most: it was used by a newer one",
                self.quoted,
                MIGRATIONS.len()
            )));
        }
        if found.is_none() {
            run(&format!(
                "CREATE SCHEMA IF NOT EXISTS {0}; CREATE SCHEMA IF NOT EXISTS {1}; \
                 CREATE TABLE {0}.migrations (version bigint PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT now())",
                self.quoted, self.own
            ))
            .await?;
        }
        for migration in &MIGRATIONS[version..] {
            let sql = self
                .of(migration)
                .replace("@section@", &self.section.to_string())
                .replace("@time_line@", &self.time_line.to_string());
            run(&sql).await?;
            version += 1;
            run(&format!(
                "INSERT INTO {}.migrations (version) VALUES ({version})",
                self.quoted
            ))
            .await?;
            info!("schema {} is at version {version}", self.quoted);
        }
        if found.is_none() {
            let store =
                Call::once(self.of("INSERT INTO factum.store (id, service) VALUES ($1, $2)"))
                    .with(id.0)
                    .with(escape(service.as_str()).into_owned());
            let epoch =
                Call::once(self.of("INSERT INTO factum.epochs VALUES (1, 1, 1, $1, 'created')"))
                    .with(micros(at));
            for call in [store, epoch] {
                connection.rows(&call).await.doing(WHAT)?;
            }
        }
        Ok(())
    }

    /// How many migrations were applied; `None` when there is no schema.
    async fn version(&self, connection: &Connection) -> Result<Option<usize>, Error> {
        const WHAT: &str = "look at the schema";
        // Not by `to_regclass`: it may answer from what the session knew before it waited for the lock.
        let exists = Call::once(
            "SELECT EXISTS (SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
             WHERE n.nspname = $1 AND c.relname = 'migrations')",
        )
        .with(self.name.clone());
        let exists = connection.row(&exists).await.doing(WHAT)?;
        if !exists.is_some_and(|row| row.get(0)) {
            return Ok(None);
        }
        let version = Call::once(format!(
            "SELECT max(version) FROM {}.migrations",
            self.quoted
        ));
        let row = connection.row(&version).await.doing(WHAT)?;
        let version: Option<i64> = row.map_or(Ok(None), |row| column(&row, 0))?;
        Ok(version.map(|version| usize::try_from(version).unwrap_or(usize::MAX)))
    }

    async fn verify(&self, connection: &Connection, service: &ServiceName) -> Result<(), Error> {
        let call = Call::once(self.of("SELECT service FROM factum.store"));
        let row = connection.row(&call).await.doing("look at the schema")?;
        let found: Option<String> = row.map(|row| column(&row, 0)).transpose()?;
        if found.as_deref() == Some(service.as_str()) {
            return Ok(());
        }
        Err(Error::fatal(format!(
            "schema {} is the store of service `{}`, not of `{service}`",
            self.quoted,
            found.unwrap_or_default()
        )))
    }
}
