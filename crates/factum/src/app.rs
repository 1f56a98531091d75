//! The app: services with their stores, on one broker, running.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use factum_core::{Broker, Env, Error, Group, ServiceName, Store, Stores, Topic, TopicSpec};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    Commands, GroupSpec, Health, Operations, Queries, Service, Status,
    consumer::{self, Suspects},
    gauges, maintenance,
    metrics::{Metrics, Registered},
    post::TERM,
    projector::{self, Progress},
    relay, timers, topics,
    work::Core,
};

/// How long a stop waits for handlers that are running. What is not finished by then is given back, and done
/// again by the next owner.
const DRAIN_MAX: Duration = Duration::from_secs(20);

/// How many partitions a topic gets that nobody describes.
const PARTITIONS: u32 = 8;

/// Services, each with its store, on one broker. Nothing runs before [`App::start`].
#[must_use]
pub struct App {
    env: Env,
    broker: Arc<dyn Broker>,
    /// Where services find their stores that did not bring one.
    stores: Option<Arc<dyn Stores>>,
    services: Vec<(Service, Option<Arc<dyn Store>>)>,
    partitions: u32,
    term: Duration,
    metrics: Registered,
}

impl App {
    /// An app without services on `broker`.
    pub fn new(env: Env, broker: Arc<dyn Broker>) -> Self {
        Self {
            env,
            broker,
            stores: None,
            services: Vec::new(),
            partitions: PARTITIONS,
            term: TERM,
            metrics: Registered::default(),
        }
    }

    /// An app with everything in one directory, which is made if there is none: stores, views and topics.
    ///
    /// # Errors
    ///
    /// When the directory can't be used, or another process uses it.
    #[cfg(feature = "sqlite")]
    pub async fn embedded(directory: impl Into<std::path::PathBuf>) -> Result<Self, Error> {
        let env = crate::system_env();
        let sqlite = crate::Sqlite::open(&crate::SqliteOptions::new(directory))?;
        let broker = Arc::new(sqlite.broker(&env).await?);
        Ok(Self::new(env, broker).stores(Arc::new(sqlite)))
    }

    /// Where the services' stores are. They are closed when the app has stopped.
    pub fn stores(mut self, stores: Arc<dyn Stores>) -> Self {
        self.stores = Some(stores);
        self
    }

    /// How many partitions a topic gets that no service describes and that does not exist yet. Default: 8.
    pub fn partitions(mut self, partitions: u32) -> Self {
        self.partitions = partitions.max(1);
        self
    }

    /// Where several processes share a store: for how long the one that publishes, fires timers or keeps up a
    /// projection gives no sign of life before another takes its place. Default: 5 seconds. One that stops in good order
    /// is not waited for, nor is anybody in a store that one process uses.
    pub fn lease(mut self, term: Duration) -> Self {
        self.term = term.max(Duration::from_millis(100));
        self
    }

    /// Adds a service, with the store of its name.
    pub fn service(mut self, service: Service) -> Self {
        self.services.push((service, None));
        self
    }

    /// Adds a service on a store that was opened elsewhere, and is closed there.
    pub fn service_on(mut self, store: Arc<dyn Store>, service: Service) -> Self {
        self.services.push((service, Some(store)));
        self
    }

    /// Checks everything, prepares topics and views, and starts all services.
    ///
    /// # Errors
    ///
    /// Class fatal, naming the service and the mistake; else what the store or broker said.
    pub async fn start(self) -> Result<Running, Error> {
        let described = self
            .services
            .iter()
            .flat_map(|(service, _)| &service.topics);
        let described: Vec<TopicSpec> = described.cloned().collect();
        self.groups_are_of_one_service()?;
        let mut services = BTreeMap::new();
        let suspects = Suspects::default();
        for (service, store) in self.services {
            let name = service.name.clone();
            service.check()?;
            let running = async {
                let store = match (store, &self.stores) {
                    (Some(store), _) => store,
                    (None, Some(stores)) => stores.open(&name, &self.env).await?,
                    (None, None) => {
                        return Err(Error::fatal(
                            "it has no store: say where with `App::stores`, or bring one with `App::service_on`",
                        ));
                    }
                };
                let topics = topics::ensure(
                    &service,
                    &described,
                    self.partitions,
                    &*store,
                    &*self.broker,
                )
                .await?;
                let metrics = self.metrics.of(&name);
                metrics.watch(&store);
                let groups = service.groups.iter().map(|group| &group.name);
                metrics.begin(service.kinds.values(), groups, topics.keys());
                let mut core = Core::new(
                    name.clone(),
                    store,
                    self.env.clone(),
                    service.kinds.clone(),
                    topics,
                    metrics,
                    suspects.clone(),
                );
                core.term = self.term;
                core.snapshot_every = service.snapshot_every;
                Ok(RunningService::new(
                    service,
                    Arc::new(core),
                    self.broker.clone(),
                ))
            };
            let running = running
                .await
                .map_err(|error: Error| error.while_(format!("starting service `{name}`")))?;
            if services.insert(name.clone(), running).is_some() {
                return Err(Error::fatal(format!("service `{name}` is declared twice")));
            }
        }
        for service in services.values() {
            service.start().await;
        }
        Ok(Running {
            services,
            broker: self.broker,
            stores: self.stores,
            metrics: self.metrics,
        })
    }
}

impl App {
    /// Two services with one group would be two members of it, and each would see half of its messages.
    fn groups_are_of_one_service(&self) -> Result<(), Error> {
        let mut owners: BTreeMap<&Group, &ServiceName> = BTreeMap::new();
        for (service, _) in &self.services {
            for group in &service.groups {
                match owners.insert(&group.name, &service.name) {
                    Some(other) if *other != service.name => {
                        return Err(Error::fatal(format!(
                            "services `{other}` and `{}` both have group `{}`, so each would get a part of its messages: give one of them another name",
                            service.name, group.name
                        )));
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }
}

impl fmt::Debug for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("App")
            .field("services", &self.services)
            .finish_non_exhaustive()
    }
}

/// An app that runs. Dropping it ends it as a crash would; [`Running::stop`] is the clean way.
#[derive(Debug)]
pub struct Running {
    services: BTreeMap<ServiceName, RunningService>,
    broker: Arc<dyn Broker>,
    stores: Option<Arc<dyn Stores>>,
    metrics: Registered,
}

impl Running {
    /// The service `name`.
    pub fn service(&self, name: &str) -> Option<&RunningService> {
        self.services.get(name)
    }

    /// All services.
    pub fn services(&self) -> impl Iterator<Item = &RunningService> {
        self.services.values()
    }

    /// The broker.
    pub fn broker(&self) -> &Arc<dyn Broker> {
        &self.broker
    }

    /// All metrics in the text format that scrapers of Prometheus and its kin read, with how far everything has come
    /// as of now.
    pub async fn metrics(&self) -> String {
        for service in self.services.values() {
            gauges::read(service, &*self.broker).await;
        }
        self.metrics.render()
    }

    /// Stops all services: finishes or gives back what is held, commits, leaves the groups. Then closes the stores
    /// that it opened: commands and queries fail afterwards.
    pub async fn stop(&self) {
        let stops = self.services.values().map(RunningService::stop);
        futures_util::future::join_all(stops).await;
        if let Some(stores) = &self.stores {
            stores.close().await;
        }
    }
}

/// A service that runs, or can be started again.
pub struct RunningService {
    core: Arc<Core>,
    service: Arc<Service>,
    broker: Arc<dyn Broker>,
    progress: Progress,
    health: Health,
    tasks: Mutex<Option<Arc<Tasks>>>,
}

struct Tasks {
    stop: CancellationToken,
    /// Cancelled by dropping the service: tasks that are still there end where they stand.
    abort: CancellationToken,
    tracker: TaskTracker,
}

impl Drop for Tasks {
    fn drop(&mut self) {
        self.abort.cancel();
    }
}

impl RunningService {
    fn new(service: Service, core: Arc<Core>, broker: Arc<dyn Broker>) -> Self {
        Self {
            core,
            service: Arc::new(service),
            broker,
            progress: Progress::default(),
            health: Health::default(),
            tasks: Mutex::new(None),
        }
    }

    /// Its name.
    pub fn name(&self) -> &ServiceName {
        &self.service.name
    }

    /// Its store.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.core.store
    }

    /// Gives commands to its aggregates.
    pub fn commands(&self) -> Commands {
        Commands::new(self.core.clone())
    }

    /// Answers queries from its views.
    pub fn queries(&self) -> Queries {
        Queries::new(
            self.core.clone(),
            self.progress.clone(),
            self.service.clone(),
        )
    }

    /// What an operator may do with it.
    pub fn operator(&self) -> Operations {
        Operations::new(
            self.core.clone(),
            self.broker.clone(),
            self.progress.clone(),
            self.service.clone(),
        )
    }

    /// How its parts are doing.
    pub fn health(&self) -> &Health {
        &self.health
    }

    /// Why nothing can be written to its store at present, such as a full disk; `None` when all is well. When the last
    /// commit failed this looks again, with one that means nothing, and says in health what it found.
    pub async fn unwritable(&self) -> Option<Error> {
        let found = self.core.unwritable().await;
        let (part, now) = (format!("{}/store", self.name()), self.core.env.now());
        if let Some(error) = &found {
            self.health
                .set(&part, Status::Degraded(format!("{error:#}")), now);
        } else {
            let parts = self.health.parts();
            if matches!(parts.get(&part), Some((Status::Degraded(_), _))) {
                self.health.set(&part, Status::Running, now);
            }
        }
        found
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.core.metrics
    }

    /// Which groups read which topics.
    pub(crate) fn reads(&self) -> impl Iterator<Item = (&Group, Topic)> {
        let of = |group: &'_ GroupSpec| group.topics();
        self.service
            .groups
            .iter()
            .flat_map(move |group| of(group).into_iter().map(move |topic| (&group.name, topic)))
    }

    /// Its consumer groups.
    pub fn groups(&self) -> impl Iterator<Item = &Group> {
        self.service.groups.iter().map(|group| &group.name)
    }

    /// The categories of its aggregates.
    pub fn categories(&self) -> impl Iterator<Item = &factum_core::Category> {
        self.service.kinds.keys()
    }

    /// The aggregate in `stream` as it was at `version`, or as it is: its state as JSON, and its version.
    ///
    /// # Errors
    ///
    /// When no aggregate of this service has that category, the store fails, or an event can't be read.
    pub async fn state_at(
        &self,
        stream: &factum_core::StreamId,
        version: Option<factum_core::Version>,
    ) -> Result<(factum_core::Json, factum_core::Version), Error> {
        self.core.state_at(stream, version).await
    }

    /// Whether its background parts run, and are not being stopped.
    pub fn is_running(&self) -> bool {
        self.running()
            .is_some_and(|tasks| !tasks.stop.is_cancelled())
    }

    fn running(&self) -> Option<Arc<Tasks>> {
        let tasks = self.tasks.lock();
        tasks.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Starts its relay, consumers, projections and timers, if they don't run. Those that are being stopped are
    /// waited for.
    pub async fn start(&self) {
        if !self.is_running() {
            self.stop().await;
            self.launch();
        }
    }

    fn launch(&self) {
        let mut running = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        if running.is_some() {
            return;
        }
        let tasks = Tasks {
            stop: CancellationToken::new(),
            abort: CancellationToken::new(),
            tracker: TaskTracker::new(),
        };
        let name = &self.service.name;
        let (core, broker) = (&self.core, &self.broker);
        let stop = || tasks.stop.clone();
        self.spawn(
            &tasks,
            format!("{name}/relay"),
            relay::run(core.clone(), broker.clone(), self.health.clone(), stop()),
        );
        for group in &self.service.groups {
            let part = format!("{name}/group/{}", group.name);
            let run = consumer::run(
                core.clone(),
                broker.clone(),
                group.clone(),
                self.health.clone(),
                stop(),
            );
            self.spawn(&tasks, part, run);
        }
        for projection in &self.service.projections {
            let part = format!("{name}/projection/{}", projection.name());
            let run = projector::run(
                core.clone(),
                self.service.clone(),
                projection.clone(),
                self.progress.clone(),
                self.health.clone(),
                stop(),
            );
            self.spawn(&tasks, part, run);
        }
        let prune = maintenance::run(core.clone(), broker.clone(), stop());
        self.spawn(&tasks, format!("{name}/maintenance"), prune);
        if !self.service.timers.is_empty() {
            let run = timers::run(
                core.clone(),
                self.service.clone(),
                self.health.clone(),
                stop(),
            );
            self.spawn(&tasks, format!("{name}/timers"), run);
        }
        *running = Some(Arc::new(tasks));
    }

    fn spawn(
        &self,
        tasks: &Tasks,
        part: String,
        run: impl Future<Output = Result<(), Error>> + Send + 'static,
    ) {
        let (health, env, abort) = (
            self.health.clone(),
            self.core.env.clone(),
            tasks.abort.clone(),
        );
        health.set(&part, Status::Running, env.now());
        tasks.tracker.spawn(async move {
            let status = tokio::select! {
                biased;
                () = abort.cancelled() => Status::Stopped,
                result = run => match result {
                    Ok(()) => Status::Stopped,
                    Err(error) => Status::Failed(format!("{error:#}")),
                },
            };
            health.set(&part, status, env.now());
        });
    }

    /// Stops its relay, consumers, projections and timers in good order. Commands and queries are answered on. When it
    /// returns they have ended, also when somebody else stopped them.
    pub async fn stop(&self) {
        let Some(tasks) = self.running() else { return };
        tasks.stop.cancel();
        tasks.tracker.close();
        if tokio::time::timeout(DRAIN_MAX, tasks.tracker.wait())
            .await
            .is_err()
        {
            tracing::warn!(
                "service `{}` gave back what was not finished in time",
                self.service.name
            );
            tasks.abort.cancel();
            tasks.tracker.wait().await;
        }
        let mut running = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        if running
            .as_ref()
            .is_some_and(|running| Arc::ptr_eq(running, &tasks))
        {
            *running = None;
        }
    }
}

impl fmt::Debug for RunningService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunningService")
            .field("name", self.name())
            .finish_non_exhaustive()
    }
}
