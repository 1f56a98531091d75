//! The platform: all services, wired.
//!
//! The only module, beside the HTTP interface, that knows several services. It runs them on one data directory
//! ([`Platform::open`]), or on whatever stores, broker, clock and outside world it is given ([`Platform::over`]), which
//! is how the simulator runs it.

mod quiet;
pub use quiet::Quiet;

use std::{fmt, path::PathBuf, sync::Arc};

use factum::{
    Accept, App, Broker, Commands, Env, Error, Event as _, Queries, RetryPolicy, Running,
    RunningService, Service, ServiceName, Sqlite, SqliteOptions, Status, Store, Timestamp, Topic,
    TopicSpec, system_env,
};

use crate::{
    contracts::{OrderEvent, PaymentEvent, StockEvent, UserRegistered},
    invariants::Facts,
    notification, order,
    outside::Faults,
    outside::Outside,
    payment, stock, users,
};

/// How many partitions a topic has. More than the embedded platform needs, so that keys spread.
const PARTITIONS: u32 = 8;

/// Where backups are put that are made while the platform runs, within the data directory.
const BACKUPS: &str = "backups";

/// What each service is called, in the order in which they are told about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// The user registry.
    Users,
    /// The order service.
    Order,
    /// The payment service.
    Payment,
    /// The stock service.
    Stock,
    /// The notification service.
    Notification,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Users,
        Self::Order,
        Self::Payment,
        Self::Stock,
        Self::Notification,
    ];

    /// The service's name, and that of its store.
    pub fn name(self) -> &'static str {
        match self {
            Self::Users => users::NAME,
            Self::Order => order::NAME,
            Self::Payment => payment::NAME,
            Self::Stock => stock::NAME,
            Self::Notification => notification::NAME,
        }
    }

    /// The role whose service has this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.name() == name)
    }

    /// The topic that its service publishes to.
    fn topic(self) -> Option<&'static str> {
        match self {
            Self::Users => UserRegistered::TOPIC,
            Self::Order => OrderEvent::TOPIC,
            Self::Payment => PaymentEvent::TOPIC,
            Self::Stock => StockEvent::TOPIC,
            Self::Notification => None,
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How the platform is run.
#[derive(Clone, Debug)]
pub struct PlatformOptions {
    /// The directory of the stores, the topics, and, below it, the outside world's books.
    pub data: PathBuf,
    /// How often failed messages are tried again. Default: three times, after 1, 2 and 4 seconds.
    pub retry: RetryPolicy,
    /// How many bytes of messages each partition of a topic keeps. Default: what it was told before, else all.
    pub retention_bytes: Option<u64>,
    /// After how many events of an aggregate a snapshot of it is kept. Default: as the aggregates say.
    pub snapshot_every: Option<u64>,
    /// What a person has said about a data directory that a start would refuse. Default: nothing.
    pub accept: Accept,
}

impl PlatformOptions {
    /// The platform in the directory `data`, with defaults.
    pub fn new(data: impl Into<PathBuf>) -> Self {
        Self {
            data: data.into(),
            retry: RetryPolicy::default(),
            retention_bytes: None,
            snapshot_every: None,
            accept: Accept::Nothing,
        }
    }

    /// With other waits before failed messages are tried again.
    #[must_use]
    pub fn retry(mut self, retry: RetryPolicy) -> Self {
        self.retry = retry;
        self
    }

    /// With a bound of what the partitions of topics keep. What a consumer has not read by then is lost to it.
    #[must_use]
    pub fn retention_bytes(mut self, bytes: Option<u64>) -> Self {
        self.retention_bytes = bytes;
        self
    }

    /// With snapshots after so many events, whatever the aggregates say; 0: never.
    #[must_use]
    pub fn snapshot_every(mut self, events: Option<u64>) -> Self {
        self.snapshot_every = events;
        self
    }

    /// With what a person has said about a data directory that a start would refuse.
    #[must_use]
    pub fn accept(mut self, accept: Accept) -> Self {
        self.accept = accept;
        self
    }
}

/// What a platform runs on: everything that is not its own code.
#[derive(Clone)]
pub struct World {
    /// Time and chance.
    pub env: Env,
    /// The topics.
    pub broker: Arc<dyn Broker>,
    /// A store for each role, in the order of [`Role::ALL`].
    pub stores: [Arc<dyn Store>; 5],
    /// The firms outside.
    pub outside: Outside,
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("World")
            .field("stores", &self.stores)
            .finish_non_exhaustive()
    }
}

/// The platform, running. Dropping it ends it as a crash would; [`Platform::stop`] is the clean way.
#[derive(Debug)]
pub struct Platform {
    running: Arc<Running>,
    outside: Outside,
    /// The data directory, if it runs on one.
    sqlite: Option<Sqlite>,
}

impl Platform {
    /// Opens the platform's data directory, and starts all services on it.
    ///
    /// # Errors
    ///
    /// When the directory can't be used, or a service doesn't start.
    pub async fn open(options: PlatformOptions) -> Result<Self, Error> {
        let data = &options.data;
        let env = system_env();
        // First of all: whoever has the file has the directory, the books included.
        let mut file = SqliteOptions::new(data);
        file.accept = options.accept.clone();
        let sqlite = Sqlite::open(&file)?;
        let now = env.clone();
        let books = data.join("outside");
        let outside = Outside::open(&books).map_err(|error| {
            let books = books.display();
            Error::fatal(format!(
                "opening the books of the outside world in `{books}`"
            ))
            .caused_by(error)
        })?;
        let mut stores = Vec::with_capacity(Role::ALL.len());
        for role in Role::ALL {
            let store: Arc<dyn Store> = sqlite.store(&ServiceName::of(role.name()), &env).await?;
            stores.push(store);
        }
        let stores = stores.try_into().expect("a store was opened for each role");
        let broker = Arc::new(sqlite.broker(&env).await?);
        let world = World {
            env,
            broker,
            stores,
            outside,
        };
        let platform = Self::run(world, &options).await?;
        let (failed, running) = (sqlite.failed(), Arc::downgrade(&platform.running));
        tokio::spawn(async move {
            let error = failed.await;
            if let Some(running) = running.upgrade() {
                tell_failure(&running, &error, now.now());
            }
        });
        Ok(Self {
            sqlite: Some(sqlite),
            ..platform
        })
    }

    /// Starts all services on the given world, with snapshots after so many events if that is not for the aggregates
    /// to say.
    ///
    /// # Errors
    ///
    /// When a service doesn't start.
    pub async fn over(
        world: World,
        retry: &RetryPolicy,
        snapshot_every: Option<u64>,
    ) -> Result<Self, Error> {
        // All is where the world is: there is no directory.
        let options = PlatformOptions::new("").retry(retry.clone());
        Self::run(world, &options.snapshot_every(snapshot_every)).await
    }

    async fn run(world: World, options: &PlatformOptions) -> Result<Self, Error> {
        let World {
            env,
            broker,
            stores,
            outside,
        } = world;
        let mut app = App::new(env, broker).partitions(PARTITIONS);
        for (role, store) in Role::ALL.into_iter().zip(stores) {
            let service = service(role, &store, &outside, options);
            app = app.service_on(store, service);
        }
        Ok(Self {
            running: Arc::new(app.start().await?),
            outside,
            sqlite: None,
        })
    }

    /// Waits until the data directory can't be written to any more, and says why. Without one, for ever.
    pub async fn failed(&self) -> Error {
        match &self.sqlite {
            Some(sqlite) => sqlite.failed().await,
            None => std::future::pending().await,
        }
    }

    /// Whether it runs on a data directory, of which backups can be made.
    pub fn is_on_disk(&self) -> bool {
        self.sqlite.is_some()
    }

    /// Writes what a service's store holds into a new file, while all goes on, and says where: in the directory
    /// `backups` of the data directory.
    ///
    /// # Errors
    ///
    /// Class poison without a data directory; else what the store says, a full disk above all.
    pub async fn backup(&self, service: &ServiceName) -> Result<PathBuf, Error> {
        let Some(sqlite) = &self.sqlite else {
            return Err(Error::poison(
                "without a data directory there are no backups",
            ));
        };
        let env = system_env();
        let directory = sqlite.path().with_file_name(BACKUPS);
        std::fs::create_dir_all(&directory).map_err(|error| {
            let what = format!("failed to make `{}`", directory.display());
            Error::transient(what).caused_by(error)
        })?;
        let time = env.now().to_string();
        let time = time.chars().filter(char::is_ascii_alphanumeric);
        let file = directory.join(format!("{service}-{}.backup", time.collect::<String>()));
        let store = sqlite.store(service, &env).await?;
        store.backup(&file).await?;
        Ok(file)
    }

    /// All that runs.
    pub fn running(&self) -> &Arc<Running> {
        &self.running
    }

    /// One service.
    pub fn service(&self, role: Role) -> &RunningService {
        self.running
            .service(role.name())
            .expect("every role was started")
    }

    /// Gives commands to a service's aggregates.
    pub fn commands(&self, role: Role) -> Commands {
        self.service(role).commands()
    }

    /// Answers queries from a service's views.
    pub fn queries(&self, role: Role) -> Queries {
        self.service(role).queries()
    }

    /// The firms outside.
    pub fn outside(&self) -> &Outside {
        &self.outside
    }

    /// What is out of order, on demand.
    pub fn faults(&self) -> &Faults {
        &self.outside.faults
    }

    /// What happened, as all services and the firms outside have it in their books: read it when all is quiet, and
    /// [`check`](crate::invariants::check) it.
    ///
    /// # Errors
    ///
    /// When a log or book can't be read.
    pub async fn facts(&self) -> Result<Facts, Error> {
        let mut facts = Facts::outside(&self.outside)?;
        for service in self.running.services() {
            facts.read(&**service.store()).await?;
        }
        facts.read_topic(&**self.running.broker()).await?;
        Ok(facts)
    }

    /// Whether anything is on its way.
    ///
    /// # Errors
    ///
    /// When a store or the broker doesn't answer.
    pub async fn quiet(&self) -> Result<Quiet, Error> {
        quiet::quiet(&self.running).await
    }

    /// Stops all services in good order, and closes the data directory: commands and queries fail afterwards.
    pub async fn stop(&self) {
        self.running.stop().await;
        if let Some(sqlite) = self.sqlite.clone() {
            sqlite.close().await;
        }
    }
}

/// Tells the health of every service that its store can't be written to.
fn tell_failure(running: &Running, error: &Error, now: Timestamp) {
    for service in running.services() {
        let part = format!("{}/store", service.name());
        let status = Status::Failed(format!("{error:#}"));
        service.health().set(&part, status, now);
    }
}

/// The service of a role.
fn service(
    role: Role,
    store: &Arc<dyn Store>,
    outside: &Outside,
    options: &PlatformOptions,
) -> Service {
    let retry = &options.retry;
    let mut service = match role {
        Role::Users => users::service(),
        Role::Order => order::service(retry),
        Role::Payment => payment::service(&outside.gateway, retry),
        Role::Stock => stock::service(store, retry),
        Role::Notification => notification::service(&outside.notifier, retry),
    };
    if let Some(events) = options.snapshot_every {
        service = service.snapshot_every(events);
    }
    if let Some(topic) = role.topic()
        && options.retention_bytes.is_some()
    {
        service = service.topic(TopicSpec {
            retention_bytes: options.retention_bytes,
            ..TopicSpec::new(Topic::of(topic), PARTITIONS)
        });
    }
    service
}
