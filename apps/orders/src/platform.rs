//! The platform: all services, wired.
//!
//! The only module, beside the HTTP interface, that knows several services. It runs them on one data directory
//! ([`Platform::open`]), or on whatever stores, broker, clock and outside world it is given ([`Platform::over`]), which
//! is how the simulator runs it; or only some of them, where others are other processes ([`Platform::part`]).

mod options;
pub use options::PlatformOptions;
mod quiet;
pub use quiet::{Depth, Quiet};
pub(crate) use quiet::{heads, quiet};
mod role;
pub use role::Role;
mod standing;
pub use standing::Standing;
mod world;
pub use world::{Part, World};

use std::{path::PathBuf, sync::Arc};

use factum::{
    App, Commands, Error, Queries, RetryPolicy, Running, RunningService, Service, ServiceName,
    Sqlite, SqliteOptions, Status, Store, Stores, Timestamp, Topic, TopicSpec, system_env,
};

use crate::{
    invariants::Facts,
    notification, order,
    outside::{Faults, Outside},
    payment, query, stock, users,
};

/// How many partitions a topic has. More than the embedded platform needs, so that keys spread.
const PARTITIONS: u32 = 8;

/// Where backups are put that are made while the platform runs, within the data directory.
const BACKUPS: &str = "backups";

/// The platform, running. Dropping it ends it as a crash would; [`Platform::stop`] is the clean way.
#[derive(Debug)]
pub struct Platform {
    running: Arc<Running>,
    outside: Outside,
    /// The data directory, if it runs on one.
    sqlite: Option<Sqlite>,
    /// Where the stores are from, if not from a directory.
    opened: Option<Arc<dyn Stores>>,
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
        let platform = Self::part(world.into(), &options).await?;
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
        Self::part(world.into(), &options.snapshot_every(snapshot_every)).await
    }

    /// Starts those services that have a store here. The directory of the options is not looked at.
    ///
    /// # Errors
    ///
    /// When a service doesn't start.
    pub async fn part(part: Part, options: &PlatformOptions) -> Result<Self, Error> {
        let Part {
            env,
            broker,
            stores,
            outside,
            opened,
        } = part;
        let mut app = App::new(env, broker).partitions(PARTITIONS);
        for (role, store) in stores {
            let service = service(role, &store, &outside, options);
            app = app.service_on(store, service);
        }
        Ok(Self {
            running: Arc::new(app.start().await?),
            outside,
            sqlite: None,
            opened,
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

    /// Whether a service runs here.
    pub fn has(&self, role: Role) -> bool {
        self.running.service(role.name()).is_some()
    }

    /// Whether some of the services are other processes.
    pub fn is_part(&self) -> bool {
        !Role::ALL.into_iter().all(|role| self.has(role))
    }

    /// One service.
    ///
    /// # Panics
    ///
    /// When it doesn't run here.
    pub fn service(&self, role: Role) -> &RunningService {
        self.running
            .service(role.name())
            .expect("whoever asks for a service has seen that it runs here")
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

    /// What happened, as the services here have it in their books, and the firms outside that they speak to: read it when
    /// all is quiet, and [`check`](crate::invariants::check) it.
    ///
    /// # Errors
    ///
    /// When a log or book can't be read.
    pub async fn own_facts(&self) -> Result<Facts, Error> {
        let mut facts = Facts::default();
        if self.has(Role::Payment) || self.has(Role::Notification) {
            let books = self.outside.books().await?;
            facts.take_books(books, self.has(Role::Payment), self.has(Role::Notification));
        }
        for role in Role::ALL.into_iter().filter(|role| self.has(*role)) {
            facts.read(&**self.service(role).store()).await?;
        }
        Ok(facts)
    }

    /// [`Platform::own_facts`], and what was placed on the topic of orders.
    ///
    /// # Errors
    ///
    /// When a log, a book or the topic can't be read.
    pub async fn facts(&self) -> Result<Facts, Error> {
        let mut facts = self.own_facts().await?;
        facts.read_topic(&**self.running.broker()).await?;
        Ok(facts)
    }

    /// How the services here stand.
    ///
    /// # Errors
    ///
    /// When a store or the broker doesn't answer.
    pub async fn standings(&self, depth: Depth) -> Result<Vec<Standing>, Error> {
        let broker = &**self.running.broker();
        let mut standings = Vec::new();
        for service in self.running.services() {
            standings.push(Standing::of(service, broker, depth).await?);
        }
        Ok(standings)
    }

    /// Whether anything is on its way in the services here.
    ///
    /// # Errors
    ///
    /// When a store or the broker doesn't answer.
    pub async fn quiet(&self) -> Result<Quiet, Error> {
        quiet(|depth| self.standings(depth)).await
    }

    /// Stops all services in good order, and closes the data directory: commands and queries fail afterwards.
    pub async fn stop(&self) {
        self.running.stop().await;
        if let Some(sqlite) = self.sqlite.clone() {
            sqlite.close().await;
        }
        if let Some(opened) = &self.opened {
            opened.close().await;
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
        Role::Query => query::service(retry),
    };
    if let Some(events) = options.snapshot_every {
        service = service.snapshot_every(events);
    }
    if let Some(session) = options.session {
        service = service.session(session);
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
