//! What survives a life: the disks, the topics, the books outside, and what the users know was answered.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use factum::{Broker, Env, Error, RetryPolicy, ServiceName, Store, StoreId};
use factum_sim::{Book, Chronicle, History, Meddler, Points, SimClock, Story, Witness};
use factum_testkit::{
    Faults, FaultyBroker, FaultyStore, MemoryBroker, MemoryDisk, MemoryStore, MemoryTopicsDisk,
    faults::{Call, Moment},
};
use orders::{
    outside::{MemoryLedger, Outside},
    platform::{Platform, Role, World as Parts},
};

use crate::{
    outside::{Manners, PointedLedger},
    plant::{Plant, SpoiltBroker},
    script::Script,
};

pub(crate) struct World {
    pub(crate) env: Env,
    pub(crate) points: Points,
    pub(crate) clock: SimClock,
    disks: [MemoryDisk; 5],
    chronicles: [Chronicle; 5],
    topics: MemoryTopicsDisk,
    gateway: MemoryLedger,
    notifier: MemoryLedger,
    plant: Option<Plant>,
    snapshot_every: Option<u64>,
    pub(crate) manners: Arc<Manners>,
    /// What was answered to which deed, and so may not be lost: whether it was done.
    pub(crate) answered: BTreeMap<usize, bool>,
    /// What was read from views right after.
    pub(crate) readings: Vec<Reading>,
    /// How often owners were kept out that had been followed by others, by what they were about to write.
    pub(crate) fenced: BTreeMap<String, u64>,
    /// What happened, for people: when, and what.
    pub(crate) journal: Vec<(Duration, String)>,
    /// What was planted in the stores.
    meddlers: [Option<Meddler>; 5],
}

/// What a view showed to one who brought the token of a deed.
#[derive(Clone, Debug)]
pub(crate) struct Reading {
    /// The deed.
    pub(crate) deed: usize,
    /// Whose view it was.
    pub(crate) role: Role,
    /// The view, and the row.
    pub(crate) view: &'static str,
    pub(crate) id: String,
    /// The position in the log of that service that the token stands for; `None`: the token is another service's.
    pub(crate) token: Option<u64>,
    /// Up to where the view said that it showed the log.
    pub(crate) at: u64,
    /// The row.
    pub(crate) row: Option<serde_json::Value>,
}

impl World {
    pub(crate) fn new(story: &Story, script: &Script) -> Self {
        let (clock, points, plant) = (story.clock(), story.points(), script.plant);
        let env = clock.env();
        let disk = |role: Role| {
            MemoryDisk::new(StoreId(env.uuid()), ServiceName::of(role.name()), env.now())
        };
        Self {
            disks: Role::ALL.map(disk),
            chronicles: Role::ALL.map(|_| Chronicle::default()),
            topics: MemoryTopicsDisk::new(),
            gateway: MemoryLedger::default(),
            notifier: MemoryLedger::default(),
            plant,
            snapshot_every: script.snapshot_every,
            manners: Arc::default(),
            answered: BTreeMap::new(),
            readings: Vec::new(),
            fenced: BTreeMap::new(),
            journal: Vec::new(),
            meddlers: Role::ALL.map(|_| plant.and_then(Plant::meddler)),
            points: points.clone(),
            clock: clock.clone(),
            env,
        }
    }

    /// Writes down what happens.
    pub(crate) fn tell(&mut self, what: impl Into<String>) {
        let line = (self.clock.lasted(), what.into());
        self.journal.push(line);
    }

    /// How many commits there were, in all stores.
    pub(crate) fn commits(&self) -> u64 {
        self.chronicles
            .iter()
            .map(|chronicle| chronicle.len() as u64)
            .sum()
    }

    /// The broker of one life: it dies with it, and its topics don't.
    pub(crate) fn broker(&self) -> Arc<MemoryBroker> {
        Arc::new(self.topics.open(self.env.clone()))
    }

    /// What is on the disks, without a node between.
    pub(crate) fn store(&self, role: Role) -> Arc<dyn Store> {
        let index = Role::ALL.iter().position(|known| *known == role);
        let index = index.expect("each role is one of all");
        Arc::new(MemoryStore::open(self.disks[index].clone()))
    }

    /// All that happened.
    pub(crate) async fn history(&self, broker: &MemoryBroker) -> Result<History, Error> {
        let mut history = History::default();
        for (index, role) in Role::ALL.into_iter().enumerate() {
            let store = self.store(role);
            let book = Book::read(&*store, &self.chronicles[index]).await?;
            history.books.push(book);
        }
        history.read_topics(broker).await?;
        Ok(history)
    }

    /// A node of the platform: all services, each behind the plan of faults.
    pub(crate) async fn node(
        &self,
        name: &str,
        broker: &Arc<MemoryBroker>,
        faults: &Faults,
    ) -> Platform {
        let points = self.points.clone();
        faults.on_write(move |operation, moment| {
            let points = points.clone();
            let what = match operation.call {
                Call::Commit => {
                    let end = operation
                        .subject
                        .find(|letter: char| !letter.is_ascii_alphabetic());
                    &operation.subject[..end.unwrap_or(operation.subject.len())]
                }
                _ => "",
            };
            let when = match moment {
                Moment::Before => "before",
                Moment::After => "after",
            };
            let kind = format!("{:?} {what} {when}", operation.call);
            let subject = format!("{} {}", operation.node, operation.subject);
            async move { points.pass(&kind, &subject).await }
        });
        let mut index = 0;
        let stores = Role::ALL.map(|role| {
            let inner = self.store(role);
            let witness = Witness::new(inner, self.chronicles[index].clone());
            let inner = Arc::new(witness.meddled(self.meddlers[index].clone()));
            index += 1;
            let store: Arc<dyn Store> =
                Arc::new(FaultyStore::new(&format!("{name}/{role}"), inner, faults));
            store
        });
        let book = |book: &MemoryLedger, name| {
            Arc::new(PointedLedger {
                book: book.clone(),
                name,
                points: self.points.clone(),
                forgetful: self.plant == Some(Plant::ForgetfulGateway),
                manners: self.manners.clone(),
            })
        };
        let outside = Outside::over(
            book(&self.gateway, "gateway"),
            book(&self.notifier, "notifier"),
        );
        let inner: Arc<dyn Broker> = match self.plant {
            Some(plant @ (Plant::Reordered | Plant::LostMessage)) => Arc::new(SpoiltBroker {
                inner: broker.clone(),
                plant,
            }),
            _ => broker.clone(),
        };
        let broker = Arc::new(FaultyBroker::new(name, inner, faults));
        let retry = RetryPolicy::exponential(Duration::from_millis(200)).retries(8);
        let parts = Parts {
            env: self.env.clone(),
            broker,
            stores,
            outside,
        };
        // A life that ends while its node starts never comes to this.
        Platform::over(parts, &retry, self.snapshot_every)
            .await
            .expect("a platform over healthy adapters starts")
    }
}
