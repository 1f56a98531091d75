//! A bank for the tests of views: accounts with their balances, faults on demand, and a second service that imports.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use factum::{
    App, Broker, Commit, Env, Error, Event, Executed, Failure, GroupSpec, Health, Projection,
    Query, Reaction, Reactor, Recorded, RowSet, Running, RunningService, Service, ServiceName,
    Status, Store, StoreId, Topic, TopicSpec, View, ViewDefinition,
};
use factum_testkit::{
    MemoryDisk, MemoryStore, MemoryTopicsDisk, TestEnv,
    faults::{Faults as Plan, FaultyStore},
};
use serde::{Deserialize, Serialize};

use crate::world::{Account, AccountCommand, AccountEvent, until};

/// The rows of accounts.
pub(crate) const BALANCES: View<Balance> = View::new("balances");

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Balance {
    pub(crate) total: u64,
    pub(crate) deposits: u64,
    /// Which program wrote the row.
    pub(crate) revision: u32,
}

/// What happened to each account, in its order.
pub(crate) const STORIES: View<Story> = View::new("stories");

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Story {
    /// Of all amounts, in their order.
    hash: u64,
}

impl Story {
    /// The story with one more amount.
    #[must_use]
    pub(crate) fn with(self, amount: u64) -> Self {
        let hash = self.hash.rotate_left(7) ^ amount;
        Self {
            hash: hash.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 1,
        }
    }

    /// An amount that looks at all accounts: it stands for itself and for all `stories` so far.
    pub(crate) fn looking(amount: u64, stories: impl IntoIterator<Item = Self>) -> u64 {
        let add = |sum: u64, story: Self| sum.wrapping_add(story.hash);
        stories.into_iter().fold(amount, add)
    }
}

/// Whether a deposit of this amount looks at the stories of all accounts.
pub(crate) fn looks_around(amount: u64) -> bool {
    amount.is_multiple_of(10)
}

/// What the projection reads: closing an account is void for it.
#[derive(Event, Clone, Debug, PartialEq)]
pub(crate) enum Deposits {
    #[event(name = "Deposited", version = 1)]
    Deposited { amount: u64 },
}

/// What goes wrong with events of an amount, as long as it is set.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// It fails, after its rows were written.
    Fails(Failure),
    /// It fails this often.
    FailsTimes(u32),
    /// It panics.
    Panics,
    /// It waits.
    Waits,
}

/// Faults by amount, and what was tried.
#[derive(Clone, Default)]
pub(crate) struct Faults(Arc<Mutex<Shared>>);

#[derive(Default)]
struct Shared {
    faults: BTreeMap<u64, Fault>,
    tried: Vec<u64>,
    /// Projects by row, and takes times that are drawn from this.
    by_row: Option<fastrand::Rng>,
}

impl Faults {
    pub(crate) fn set(&self, amount: u64, fault: Fault) {
        self.0.lock().unwrap().faults.insert(amount, fault);
    }

    pub(crate) fn clear(&self) {
        self.0.lock().unwrap().faults.clear();
    }

    /// The amounts that were tried since this was asked last.
    pub(crate) fn tried(&self) -> Vec<u64> {
        std::mem::take(&mut self.0.lock().unwrap().tried)
    }

    /// Whether the amount was tried since that was asked last.
    pub(crate) fn has_tried(&self, amount: u64) -> bool {
        self.0.lock().unwrap().tried.contains(&amount)
    }

    /// From now on the projection names the rows of its events, and takes a while for each.
    pub(crate) fn by_row(&self, seed: u64) {
        self.0.lock().unwrap().by_row = Some(fastrand::Rng::with_seed(seed));
    }

    fn is_by_row(&self) -> bool {
        self.0.lock().unwrap().by_row.is_some()
    }

    async fn dawdle(&self) {
        let drawn = self
            .0
            .lock()
            .unwrap()
            .by_row
            .as_mut()
            .map(|by_row| by_row.u64(0..4));
        if let Some(millis) = drawn.filter(|millis| *millis > 0) {
            tokio::time::sleep(Duration::from_millis(millis)).await;
        }
    }

    fn get(&self, amount: u64) -> Option<Fault> {
        self.0.lock().unwrap().faults.get(&amount).cloned()
    }

    async fn meet(&self, amount: u64) -> Result<(), Failure> {
        self.0.lock().unwrap().tried.push(amount);
        match self.get(amount) {
            None => Ok(()),
            Some(Fault::Fails(failure)) => Err(failure),
            Some(Fault::FailsTimes(times)) => {
                self.set(amount, Fault::FailsTimes(times.saturating_sub(1)));
                if times == 0 {
                    Ok(())
                } else {
                    Err(Failure::transient("not now"))
                }
            }
            Some(Fault::Panics) => panic!("amount {amount} is too much"),
            Some(Fault::Waits) => {
                until("the fault is cleared", async || {
                    !matches!(self.get(amount), Some(Fault::Waits))
                })
                .await;
                Ok(())
            }
        }
    }
}

/// Keeps the balances, as program number `R` does.
pub(crate) struct Balances<const R: u32>(pub(crate) Faults);

impl<const R: u32> Projection for Balances<R> {
    const NAME: &'static str = "balances";
    const REVISION: u32 = R;
    type Event = Deposits;

    fn views(&self) -> Vec<ViewDefinition> {
        vec![
            BALANCES.kept_by::<Self>().integer("total").index(["total"]),
            STORIES.kept_by::<Self>(),
        ]
    }

    fn row(&self, event: &Recorded<Deposits>) -> Option<String> {
        let Deposits::Deposited { amount } = event.data;
        let account = event.aggregate_id.as_deref().map(Into::into);
        account.filter(|_| self.0.is_by_row() && !looks_around(amount))
    }

    async fn project(
        &self,
        event: &Recorded<Deposits>,
        rows: &mut RowSet<'_>,
    ) -> Result<(), Failure> {
        let Deposits::Deposited { amount } = event.data;
        let account = event.aggregate_id.as_deref().unwrap_or_default();
        let row = rows.get(BALANCES, account).await?;
        let mut row = row.unwrap_or(Balance {
            total: 0,
            deposits: 0,
            revision: R,
        });
        row.total += amount;
        row.deposits += 1;
        let story = rows.get(STORIES, account).await?.unwrap_or_default();
        self.0.dawdle().await;
        rows.put(BALANCES, account, &row)?;
        let seen = if looks_around(amount) {
            let stories = rows.find(STORIES, Query::all()).await?;
            Story::looking(amount, stories.into_iter().map(|(_, story)| story))
        } else {
            amount
        };
        rows.put(STORIES, account, &story.with(seen))?;
        self.0.meet(amount).await
    }
}

/// Records deposits in the log of the service that it runs in.
pub(crate) struct ImportDeposits(pub(crate) Faults);

impl Reactor for ImportDeposits {
    type Event = AccountEvent;

    fn name(&self) -> &'static str {
        "import-deposits"
    }

    async fn react(
        &self,
        event: &Recorded<AccountEvent>,
        cx: &mut Reaction,
    ) -> Result<(), Failure> {
        if let AccountEvent::Deposited { amount } = event.data {
            self.0.meet(amount).await?;
            let account = event.aggregate_id.as_deref().unwrap_or_default();
            cx.import(
                "account",
                account,
                &Deposits::Deposited { amount },
                event.timestamp,
            )?;
        }
        Ok(())
    }
}

/// What outlives its processes.
pub(crate) struct Bank {
    pub(crate) env: TestEnv,
    pub(crate) accounts: MemoryDisk,
    pub(crate) statements: MemoryDisk,
    pub(crate) topics: MemoryTopicsDisk,
    /// Whether several processes may use its stores. Where they don't, one that starts behind a crash waits for none.
    pub(crate) shared: bool,
    /// What goes wrong with the accounts' store.
    pub(crate) plan: Plan,
    /// Of the accounts' projection.
    pub(crate) faults: Faults,
    /// Of the import.
    pub(crate) import_faults: Faults,
}

impl Bank {
    pub(crate) fn new(seed: u64) -> Self {
        let env = TestEnv::seeded(seed);
        let disk = |name| {
            MemoryDisk::new(
                StoreId(env.env().uuid()),
                ServiceName::of(name),
                env.env().now(),
            )
        };
        let (accounts, statements) = (disk("accounts"), disk("statements"));
        let (faults, import_faults) = (Faults::default(), Faults::default());
        let plan = Plan::new();
        Self {
            accounts,
            statements,
            topics: MemoryTopicsDisk::new(),
            shared: false,
            env,
            plan,
            faults,
            import_faults,
        }
    }

    /// Program number `R`, with the accounts and their balances.
    pub(crate) async fn start<const R: u32>(&self) -> Running {
        let (env, broker) = self.outside();
        let service = Service::new("accounts")
            .aggregate::<Account>()
            .topic(TopicSpec::new(Topic::of("accounts"), 2))
            .projection(Balances::<R>(self.faults.clone()));
        self.run(App::new(env, broker).service_on(self.store(), service))
            .await
    }

    /// Accounts without views, and statements that import what happens to them.
    pub(crate) async fn start_with_statements(&self) -> Running {
        let (env, broker) = self.outside();
        let topic = || TopicSpec::new(Topic::of("accounts"), 2);
        let accounts = Service::new("accounts")
            .aggregate::<Account>()
            .topic(topic());
        let import = ImportDeposits(self.import_faults.clone());
        let statements = Service::new("statements")
            .topic(topic())
            .group(GroupSpec::new("statements").on(import))
            .projection(Balances::<1>(self.faults.clone()));
        let store = Arc::new(self.open(&self.statements));
        self.run(
            App::new(env, broker)
                .service_on(self.store(), accounts)
                .service_on(store, statements),
        )
        .await
    }

    pub(crate) fn outside(&self) -> (Env, Arc<dyn Broker>) {
        let env = self.env.env();
        (env.clone(), Arc::new(self.topics.open(env)))
    }

    fn open(&self, disk: &MemoryDisk) -> MemoryStore {
        let store = MemoryStore::open(disk.clone());
        if self.shared { store } else { store.alone() }
    }

    pub(crate) fn store(&self) -> Arc<dyn Store> {
        let store = Arc::new(self.open(&self.accounts));
        Arc::new(FaultyStore::new("accounts", store, &self.plan))
    }

    async fn run(&self, app: App) -> Running {
        app.start().await.unwrap()
    }
}

/// The service of the accounts.
pub(crate) fn accounts(running: &Running) -> &RunningService {
    running.service("accounts").unwrap()
}

pub(crate) async fn deposit(running: &Running, account: &str, amount: u64) -> Executed {
    let commands = accounts(running).commands();
    commands
        .execute::<Account>(&account.to_string(), AccountCommand::Deposit(amount))
        .await
        .unwrap()
}

pub(crate) async fn close(running: &Running, account: &str) -> Executed {
    let commands = accounts(running).commands();
    commands
        .execute::<Account>(&account.to_string(), AccountCommand::Close)
        .await
        .unwrap()
}

/// The generations of the accounts' projection that are stored.
pub(crate) async fn generations(running: &Running) -> Vec<u32> {
    let states = accounts(running).store().projections().await.unwrap();
    states.into_iter().map(|state| state.generation).collect()
}

/// How a part does.
pub(crate) fn status(health: &Health, part: &str) -> Option<Status> {
    health.parts().remove(part).map(|(status, _)| status)
}

/// Commits something by hand.
pub(crate) async fn commit(
    store: &dyn Store,
    env: &Env,
    change: impl FnOnce(&mut Commit),
) -> Result<(), Error> {
    let mut commit = Commit::new(env.commit_id(), env.now());
    change(&mut commit);
    store
        .commit(commit)
        .await
        .map(|_| ())
        .map_err(|error| Error::fatal(error.to_string()))
}
