//! Two small services for the runtime's tests: accounts take deposits, and receipts are written for them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use factum::{
    Aggregate, App, Broker, Decision, Env, Event, Failure, GroupSpec, Reaction, Reactor, Recorded,
    RetryPolicy, Room, Running, Service, ServiceName, Start, StoreId, Topic, TopicSpec,
};
use factum_testkit::{
    MemoryDisk, MemoryStore, MemoryTopicsDisk, TestEnv,
    faults::{Faults, FaultyStore},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[derive(Event, Clone, Debug, PartialEq)]
#[event(topic = "accounts")]
pub(crate) enum AccountEvent {
    #[event(name = "Deposited", version = 1)]
    Deposited { amount: u64 },
    #[event(name = "Closed", version = 1)]
    Closed,
}

#[derive(Clone, Debug)]
pub(crate) enum AccountCommand {
    Deposit(u64),
    DepositOnce(u64),
    Close,
    Panic,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AccountError {
    #[error("the account is closed")]
    Closed,
}

#[derive(Default, Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Account {
    pub(crate) balance: u64,
    pub(crate) deposits: u64,
    pub(crate) closed: bool,
}

impl Aggregate for Account {
    const CATEGORY: &'static str = "account";
    const SNAPSHOT_EVERY: u64 = 10;
    type Id = String;
    type Command = AccountCommand;
    type Event = AccountEvent;
    type Error = AccountError;

    fn handle(
        &self,
        command: AccountCommand,
        _: &Decision,
    ) -> Result<Vec<AccountEvent>, AccountError> {
        match command {
            AccountCommand::Panic => panic!("asked to"),
            _ if self.closed => Err(AccountError::Closed),
            AccountCommand::DepositOnce(_) if self.deposits > 0 => Ok(vec![]),
            AccountCommand::Deposit(amount) | AccountCommand::DepositOnce(amount) => {
                Ok(vec![AccountEvent::Deposited { amount }])
            }
            AccountCommand::Close => Ok(vec![AccountEvent::Closed]),
        }
    }

    fn apply(&mut self, event: &AccountEvent) {
        match event {
            AccountEvent::Deposited { amount } => {
                self.balance += amount;
                self.deposits += 1;
            }
            AccountEvent::Closed => self.closed = true,
        }
    }
}

#[derive(Event, Clone, Debug, PartialEq)]
#[event(topic = "receipts")]
pub(crate) enum ReceiptEvent {
    #[event(name = "ReceiptWritten", version = 1)]
    Written { amount: u64 },
}

#[derive(Default, Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Receipt {
    pub(crate) amounts: Vec<u64>,
}

impl Aggregate for Receipt {
    const CATEGORY: &'static str = "receipt";
    type Id = String;
    type Command = u64;
    type Event = ReceiptEvent;
    type Error = AccountError;

    fn handle(&self, amount: u64, _: &Decision) -> Result<Vec<ReceiptEvent>, AccountError> {
        if amount == ONLY_ONCE && self.amounts.contains(&amount) {
            return Err(AccountError::Closed);
        }
        Ok(vec![ReceiptEvent::Written { amount }])
    }

    fn apply(&mut self, ReceiptEvent::Written { amount }: &ReceiptEvent) {
        self.amounts.push(*amount);
    }
}

/// A receipt for so much is longer than any record.
pub(crate) const TOO_MUCH: u64 = 1_000_000;

/// There is one receipt at most for so much. Whoever writes it notes an amount of 0 before.
pub(crate) const ONLY_ONCE: u64 = 55;

/// Handlers of amounts of 13, while they hang.
#[derive(Default)]
pub(crate) struct Hanging {
    pub(crate) hangs: AtomicBool,
    /// How many have begun.
    pub(crate) begun: AtomicU32,
}

impl Hanging {
    /// Waits until another one hangs, than the `before` that did.
    pub(crate) async fn until_more_than(&self, before: u32) {
        until("a handler hangs", async || {
            self.begun.load(Ordering::SeqCst) > before
        })
        .await;
    }
}

/// Writes receipts; fails, panics or refuses by the amount.
pub(crate) struct WriteReceipt {
    pub(crate) hanging: Arc<Hanging>,
    /// How often amounts of 13 fail before they succeed.
    pub(crate) flaky: AtomicU32,
    pub(crate) mended: Arc<AtomicU32>,
}

impl Reactor for WriteReceipt {
    type Event = AccountEvent;

    fn name(&self) -> &'static str {
        "write-receipt"
    }

    async fn react(
        &self,
        event: &Recorded<AccountEvent>,
        cx: &mut Reaction,
    ) -> Result<(), Failure> {
        let AccountEvent::Deposited { amount } = event.data else {
            return Ok(());
        };
        let account = event
            .aggregate_id
            .as_deref()
            .unwrap_or_default()
            .to_string();
        match amount {
            13 if self.hanging.hangs.load(Ordering::SeqCst) => {
                self.hanging.begun.fetch_add(1, Ordering::SeqCst);
                std::future::pending::<()>().await;
            }
            ONLY_ONCE => {
                let noted = ReceiptEvent::Written { amount: 0 };
                cx.import("receipt", &account, &noted, event.timestamp)?;
            }
            13 if self.flaky.load(Ordering::SeqCst) > 0 => {
                self.flaky.fetch_sub(1, Ordering::SeqCst);
                return Err(Failure::transient("the printer is out of paper"));
            }
            66 if self.mended.load(Ordering::SeqCst) == 0 => {
                return Err(Failure::poison("amount `66` can't be printed"));
            }
            TOO_MUCH => {
                let long = "x".repeat(2_000_000);
                return cx.send(long.as_str(), &ReceiptEvent::Written { amount });
            }
            99 => panic!("the printer burns"),
            _ => {}
        }
        cx.execute::<Receipt>(&account, amount)?;
        Ok(())
    }
}

pub(crate) struct World {
    pub(crate) env: TestEnv,
    pub(crate) accounts: MemoryDisk,
    pub(crate) receipts: MemoryDisk,
    pub(crate) topics: MemoryTopicsDisk,
    pub(crate) mended: Arc<AtomicU32>,
    pub(crate) hanging: Arc<Hanging>,
    pub(crate) room: Room,
    pub(crate) retry: RetryPolicy,
    /// How long topics keep messages.
    pub(crate) retention: Option<Duration>,
    /// Where the group of the receipts starts; without, there is no such service.
    pub(crate) receipts_start: Option<Start>,
    /// What goes wrong with the accounts' store, process by process.
    pub(crate) faults: Faults,
    /// The topic that receipts are written from.
    pub(crate) reads: &'static str,
    /// What goes wrong with the receipts' store.
    pub(crate) plan: Faults,
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let env = TestEnv::seeded(seed);
        let disk = |name| {
            MemoryDisk::new(
                StoreId(env.env().uuid()),
                ServiceName::of(name),
                env.env().now(),
            )
        };
        let (accounts, receipts) = (disk("accounts"), disk("receipts"));
        Self {
            accounts,
            receipts,
            topics: MemoryTopicsDisk::new(),
            mended: Arc::default(),
            hanging: Arc::default(),
            room: Room::default(),
            retry: RetryPolicy::exponential(Duration::from_millis(20)).without_jitter(),
            retention: None,
            receipts_start: Some(Start::Beginning),
            faults: Faults::new(),
            reads: "accounts",
            plan: Faults::new(),
            env,
        }
    }

    pub(crate) async fn start(&self) -> Running {
        self.start_as("one", &self.broker()).await
    }

    pub(crate) fn broker(&self) -> Arc<dyn Broker> {
        Arc::new(self.topics.open(self.env.env()))
    }

    /// One of several processes over the same stores, on one broker.
    pub(crate) async fn start_as(&self, process: &str, broker: &Arc<dyn Broker>) -> Running {
        let env: Env = self.env.env();
        let topic = |name| TopicSpec {
            retention: self.retention,
            ..TopicSpec::new(Topic::of(name), 3)
        };
        let accounts = Service::new("accounts")
            .aggregate::<Account>()
            .topic(topic("accounts"));
        let store = Arc::new(MemoryStore::open(self.accounts.clone()));
        let store = FaultyStore::new(process, store, &self.faults);
        let app = App::new(env, broker.clone()).service_on(Arc::new(store), accounts);
        let Some(start) = self.receipts_start else {
            return app.start().await.unwrap();
        };
        let reactor = WriteReceipt {
            hanging: self.hanging.clone(),
            flaky: AtomicU32::new(2),
            mended: self.mended.clone(),
        };
        let receipts = Service::new("receipts")
            .aggregate::<Receipt>()
            .topic(topic("accounts"))
            .topic(topic("receipts"))
            .group(
                GroupSpec::new("receipt-service")
                    .on_topic(self.reads, reactor)
                    .starts(start)
                    .retry(self.retry.clone())
                    .room(self.room),
            );
        let receipts_store = FaultyStore::new(
            "receipts",
            Arc::new(MemoryStore::open(self.receipts.clone())),
            &self.plan,
        );
        app.service_on(Arc::new(receipts_store), receipts)
            .start()
            .await
            .unwrap()
    }
}

/// Waits until `condition` holds; a bound keeps a broken test from hanging.
pub(crate) async fn until<F: Future<Output = bool>>(what: &str, mut condition: impl FnMut() -> F) {
    for _ in 0..1_000 {
        if condition().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never came true: {what}");
}

/// Lets the manual clock follow tokio's time, so that retries come due.
pub(crate) fn follow_time(env: &TestEnv) -> tokio::task::JoinHandle<()> {
    let env = env.clone();
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(Duration::from_millis(5)).await;
            env.advance(Duration::from_millis(5));
        }
    })
}

pub(crate) async fn deposit(running: &Running, account: &str, amount: u64) {
    let commands = running.service("accounts").unwrap().commands();
    commands
        .execute::<Account>(&account.to_string(), AccountCommand::Deposit(amount))
        .await
        .unwrap();
}

/// The amounts on the receipts of an account.
pub(crate) async fn amounts(running: &Running, account: &str) -> Vec<u64> {
    let commands = running.service("receipts").unwrap().commands();
    commands
        .load::<Receipt>(&account.to_string())
        .await
        .unwrap()
        .0
        .amounts
}
