//! What survives a life: the disks, the topics, the books outside, and what the users know was answered.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use factum::{Env, RetryPolicy, ServiceName, Store, StoreId};
use factum_sim::{Points, SimClock};
use factum_testkit::{
    Faults, FaultyBroker, FaultyStore, MemoryBroker, MemoryDisk, MemoryStore, MemoryTopicsDisk,
    faults::Moment,
};
use orders::{
    outside::{MemoryLedger, Outside},
    platform::{Platform, Role, World as Parts},
};

use crate::outside::PointedLedger;

pub(crate) struct World {
    pub(crate) env: Env,
    pub(crate) points: Points,
    disks: [MemoryDisk; 5],
    topics: MemoryTopicsDisk,
    gateway: MemoryLedger,
    notifier: MemoryLedger,
    forgetful: bool,
    /// After how many more entries somebody panics at a book outside.
    pub(crate) panics: Arc<AtomicU64>,
    /// What was answered to which command: nothing of it may be lost.
    pub(crate) answered: BTreeMap<String, bool>,
}

impl World {
    pub(crate) fn new(clock: &SimClock, points: &Points, forgetful: bool) -> Self {
        let env = clock.env();
        let disk = |role: Role| {
            MemoryDisk::new(StoreId(env.uuid()), ServiceName::of(role.name()), env.now())
        };
        Self {
            disks: Role::ALL.map(disk),
            topics: MemoryTopicsDisk::new(),
            gateway: MemoryLedger::default(),
            notifier: MemoryLedger::default(),
            forgetful,
            panics: Arc::default(),
            answered: BTreeMap::new(),
            points: points.clone(),
            env,
        }
    }

    /// The broker of one life: it dies with it, and its topics don't.
    pub(crate) fn broker(&self) -> Arc<MemoryBroker> {
        Arc::new(self.topics.open(self.env.clone()))
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
            let what: String = operation
                .subject
                .chars()
                .take_while(char::is_ascii_alphabetic)
                .collect();
            let what = if operation.call == factum_testkit::faults::Call::Commit {
                what
            } else {
                String::new()
            };
            let when = if moment == Moment::Before {
                "before"
            } else {
                "after"
            };
            let kind = format!("{:?} {what} {when}", operation.call);
            let subject = format!("{} {}", operation.node, operation.subject);
            async move { points.pass(&kind, &subject).await }
        });
        let mut index = 0;
        let stores = Role::ALL.map(|role| {
            let inner: Arc<dyn Store> = Arc::new(MemoryStore::open(self.disks[index].clone()));
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
                forgetful: self.forgetful,
                panics: self.panics.clone(),
            })
        };
        let outside = Outside::over(
            book(&self.gateway, "gateway"),
            book(&self.notifier, "notifier"),
        );
        let broker = Arc::new(FaultyBroker::new(name, broker.clone(), faults));
        let retry = RetryPolicy::exponential(Duration::from_millis(200)).retries(8);
        let parts = Parts {
            env: self.env.clone(),
            broker,
            stores,
            outside,
        };
        // A life that ends while its node starts never comes to this.
        Platform::over(parts, &retry)
            .await
            .expect("a platform over healthy adapters starts")
    }
}
