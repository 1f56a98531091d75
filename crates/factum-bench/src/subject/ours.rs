//! Factum: the command bus of a running service, with everything that an application has.

use std::{path::Path, sync::Arc};

use async_trait::async_trait;
use factum::{
    App, Broker, Commands, RunningService, Service, ServiceName, Sqlite, SqliteOptions, Store,
    system_env,
};

use super::{Backend, Base, CarriesOut, Closing, Opened, Subject};
use crate::{
    failure::Failure,
    workload::{Account, KeepOrders, Order, Step, Take},
};

/// The service's name.
pub(super) const SERVICE: &str = "bench";

/// The embedded backend: one SQLite file.
pub(crate) struct Embedded;

#[async_trait]
impl Backend for Embedded {
    async fn open(&self, directory: &Path) -> Result<Base, Failure> {
        let env = system_env();
        let sqlite = Sqlite::open(&SqliteOptions::new(directory.join("factum")))?;
        let store: Arc<dyn Store> = sqlite.store(&ServiceName::of(SERVICE), &env).await?;
        let broker: Arc<dyn Broker> = Arc::new(sqlite.broker(&env).await?);
        Ok(Base {
            store,
            broker,
            closing: Box::new(sqlite),
        })
    }
}

#[async_trait]
impl Closing for Sqlite {
    async fn close(&self) {
        self.clone().close().await;
    }
}

/// A service on a backend, running.
pub(crate) struct Running {
    app: factum::Running,
    closing: Box<dyn Closing>,
    pub(crate) store: Arc<dyn Store>,
}

impl Running {
    /// Starts the service on what is in `directory`, with or without its projection.
    pub(crate) async fn start(
        backend: &dyn Backend,
        directory: &Path,
        projecting: bool,
    ) -> Result<Self, Failure> {
        let mut service = Self::plain_service()
            .aggregate::<Order>()
            .aggregate::<Account>();
        if projecting {
            service = service.projection(KeepOrders);
        }
        Self::start_service(backend, directory, service).await
    }

    /// A service with nothing in it.
    pub(crate) fn plain_service() -> Service {
        Service::new(SERVICE)
    }

    /// Starts `service`, which was made of a plain one.
    pub(crate) async fn start_service(
        backend: &dyn Backend,
        directory: &Path,
        service: Service,
    ) -> Result<Self, Failure> {
        let Base {
            store,
            broker,
            closing,
        } = backend.open(directory).await?;
        let app = App::new(system_env(), broker)
            .service_on(store.clone(), service)
            .start()
            .await?;
        Ok(Self {
            app,
            closing,
            store,
        })
    }

    /// The service.
    pub(crate) fn service(&self) -> &RunningService {
        self.app.service(SERVICE).expect("it was started")
    }

    /// Its broker.
    #[cfg(feature = "engines")]
    pub(crate) fn broker(&self) -> &Arc<dyn Broker> {
        self.app.broker()
    }

    /// Ends it in good order.
    pub(crate) async fn stop(&self) {
        self.app.stop().await;
        self.closing.close().await;
    }
}

/// Factum on a backend.
pub(crate) struct Ours(pub(crate) Arc<dyn Backend>);

struct Open {
    running: Running,
    commands: Commands,
}

#[async_trait]
impl Subject for Ours {
    fn name(&self) -> &'static str {
        "factum"
    }

    async fn open(&self, directory: &Path) -> Result<Box<dyn Opened>, Failure> {
        let running = Running::start(&*self.0, directory, false).await?;
        let commands = running.service().commands();
        Ok(Box::new(Arc::new(Open { running, commands })))
    }

    async fn remove(&self, directory: &Path) -> Result<(), Failure> {
        self.0.remove(directory).await
    }
}

impl CarriesOut for Open {
    async fn carry_out(&self, order: &str, step: Step, number: u64) -> Result<(), Failure> {
        let carried_out = self
            .commands
            .execute::<Order>(&order.to_owned(), Take { step, number })
            .await;
        carried_out
            .map(drop)
            .map_err(|error| Failure::while_("a command", error))
    }

    async fn close(&self) {
        self.running.stop().await;
    }
}
