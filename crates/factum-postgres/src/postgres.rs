//! A database as its user sees it: the stores of services, each in a schema of its own.

use std::{collections::BTreeMap, fmt, sync::Arc};

use async_trait::async_trait;
use factum_core::{Env, Error, ServiceName, Signal, Store, StoreId, StoreIdentity, Stores};
use tokio::sync::{Mutex, watch};
use uuid::Uuid;

use crate::{
    call::Call,
    connect::Connector,
    error::{Doing, column, damaged},
    listener::{self, Listener},
    options::PostgresOptions,
    pool::Pool,
    queue::Queue,
    schema::Schema,
    server,
    shared::Shared,
    store::PostgresStore,
    writer::Writer,
};

/// Stores of services in one PostgreSQL database, version 13 or newer. Clones are the same.
///
/// Any number of processes may use a store at a time. Within a process each store has one writer, so that what is committed
/// at the same moment shares one transaction; the connections that read are shared by all stores.
///
/// ```
/// # use factum_core::{Env, ServiceName, Store as _};
/// # use factum_postgres::{Postgres, PostgresOptions};
/// # async fn example(env: Env) -> Result<(), factum_core::Error> {
/// let postgres = Postgres::new(&PostgresOptions::new("postgres://factum@localhost/shop"))?;
/// let orders = postgres.store(&ServiceName::of("order"), &env).await?;
/// println!("the log ends at {}", orders.head().await?);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Postgres {
    options: PostgresOptions,
    pool: Arc<Pool>,
    stores: Arc<Mutex<BTreeMap<ServiceName, Arc<PostgresStore>>>>,
}

impl Postgres {
    /// Reads the address and the certificates that it names. Nothing is connected yet.
    ///
    /// # Errors
    ///
    /// Class fatal when the address or a certificate can't be read.
    pub fn new(options: &PostgresOptions) -> Result<Self, Error> {
        let connector = Connector::new(options)?;
        Ok(Self {
            pool: Arc::new(Pool::new(connector, options.readers)),
            options: options.clone(),
            stores: Arc::default(),
        })
    }

    /// The store of `service`, whose schema is made if it does not exist.
    ///
    /// # Errors
    ///
    /// Class transient when the server can't be reached, fatal when it refuses us or the schema is somebody else's.
    pub async fn store(
        &self,
        service: &ServiceName,
        env: &Env,
    ) -> Result<Arc<PostgresStore>, Error> {
        let mut stores = self.stores.lock().await;
        if let Some(open) = stores.get(service) {
            return Ok(open.clone());
        }
        let store = Arc::new(self.open_store(service, env).await?);
        stores.insert(service.clone(), store.clone());
        Ok(store)
    }

    async fn open_store(&self, service: &ServiceName, env: &Env) -> Result<PostgresStore, Error> {
        const WHAT: &str = "open a store";
        let schema = Schema::new(&self.options.schema_prefix, service)?;
        let connection = self.pool.lend().await?;
        schema
            .migrate(&connection, service, StoreId(env.uuid()), env.now())
            .await?;
        server::recognise(&connection, &schema, env).await?;
        let who = Call::once(schema.of(
            "SELECT id, (SELECT epoch FROM factum.epochs ORDER BY ordinal DESC LIMIT 1) FROM factum.store",
        ));
        let row = connection.row(&who).await.doing(WHAT)?;
        drop(connection);
        let row = row.ok_or_else(|| damaged("the store's row"))?;
        let identity = StoreIdentity {
            id: StoreId(column::<Uuid>(&row, 0)?),
            service: service.clone(),
            epoch: factum_core::Epoch(column::<i64>(&row, 1)?.cast_unsigned()),
        };
        let shared = Arc::new(Shared::new(self.pool.clone(), schema, identity));
        // Whoever waits for what has happened before must not sleep.
        let found = listener::look(&shared).await?;
        shared.signal(Signal::Head, found.head);
        shared.signal(Signal::Parking, u64::from(found.parking > 0));
        shared.signal(Signal::Timers, u64::from(found.timers > 0));

        let queue = Arc::new(Queue::default());
        let (close, closed) = watch::channel(false);
        let answer_max = self.options.statement_max + self.options.idle_max;
        let writer = Writer::new(
            shared.clone(),
            queue.clone(),
            env.clone(),
            self.options.patience,
            answer_max,
        );
        let listener = Listener {
            shared: shared.clone(),
            env: env.clone(),
            poll: self.options.poll,
            listens: !self.options.pooled,
            closed,
        };
        let tasks = vec![tokio::spawn(writer.run()), tokio::spawn(listener.run())];
        Ok(PostgresStore::new(shared, queue, env.clone(), close, tasks))
    }

    /// Finishes what was handed over and closes all stores: what they are asked afterwards fails.
    pub async fn close(&self) {
        let stores = std::mem::take(&mut *self.stores.lock().await);
        for store in stores.into_values() {
            store.close().await;
        }
        self.pool.close();
    }
}

impl fmt::Debug for Postgres {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Postgres")
            .field("database", &self.pool.connector.describe())
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl Stores for Postgres {
    async fn open(&self, service: &ServiceName, env: &Env) -> Result<Arc<dyn Store>, Error> {
        let store: Arc<dyn Store> = self.store(service, env).await?;
        Ok(store)
    }

    async fn close(&self) {
        Self::close(self).await;
    }
}
