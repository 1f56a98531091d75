//! Rejections are answers, too: none is given that stands on a state which another process has changed, or on events
//! that never came to be.

use std::sync::Arc;

use factum::{
    Aggregate, App, CommandError, Commands, Commit, CommitError, Committed, Decision, Error, Event,
    Running, Service, ServiceName, Store, StoreId, Version,
};
use factum_testkit::{
    Layered, MemoryDisk, MemoryStore, MemoryTopicsDisk, StoreLayer, TestEnv,
    faults::{Call, Faults, FaultyStore},
};
use futures_util::FutureExt as _;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[derive(Event, Clone, Debug, PartialEq)]
enum ShopEvent {
    #[event(name = "Opened", version = 1)]
    Opened,
    #[event(name = "Closed", version = 1)]
    Closed,
    #[event(name = "Bought", version = 1)]
    Bought,
}

#[derive(Clone, Copy, Debug)]
enum Shopping {
    Open,
    Close,
    Buy,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the shop is closed")]
struct ShopClosed;

/// Sells while it is open.
#[derive(Default, Clone, Debug, Serialize, Deserialize, JsonSchema)]
struct Shop {
    open: bool,
}

impl Aggregate for Shop {
    const CATEGORY: &'static str = "shop";
    type Id = String;
    type Command = Shopping;
    type Event = ShopEvent;
    type Error = ShopClosed;

    fn handle(&self, command: Shopping, _: &Decision) -> Result<Vec<ShopEvent>, ShopClosed> {
        match command {
            Shopping::Open => Ok(vec![ShopEvent::Opened]),
            Shopping::Close => Ok(vec![ShopEvent::Closed]),
            Shopping::Buy if self.open => Ok(vec![ShopEvent::Bought]),
            Shopping::Buy => Err(ShopClosed),
        }
    }

    fn apply(&mut self, event: &ShopEvent) {
        match event {
            ShopEvent::Opened => self.open = true,
            ShopEvent::Closed => self.open = false,
            ShopEvent::Bought => {}
        }
    }
}

struct World {
    env: TestEnv,
    disk: MemoryDisk,
    plan: Faults,
}

impl World {
    fn new() -> Self {
        let env = TestEnv::seeded(1);
        let id = StoreId(env.env().uuid());
        let disk = MemoryDisk::new(id, ServiceName::of("shops"), env.env().now());
        let plan = Faults::new();
        Self { env, disk, plan }
    }

    /// A process on the store, whose commits go through the plan.
    async fn start(&self, node: &str) -> Running {
        self.start_on(node, Arc::new(MemoryStore::open(self.disk.clone())))
            .await
    }

    async fn start_on(&self, node: &str, store: Arc<dyn Store>) -> Running {
        let store = Arc::new(FaultyStore::new(node, store, &self.plan));
        let broker = Arc::new(MemoryTopicsDisk::new().open(self.env.env()));
        App::new(self.env.env(), broker)
            .service_on(store, Service::new("shops").aggregate::<Shop>())
            .start()
            .await
            .unwrap()
    }
}

fn commands(running: &Running) -> Commands {
    running.service("shops").unwrap().commands()
}

async fn order(running: &Running, command: Shopping) -> Result<Version, CommandError<ShopClosed>> {
    let id = "corner".to_string();
    let executed = commands(running).execute::<Shop>(&id, command).await?;
    Ok(executed
        .version
        .expect("a command that is carried out has a version"))
}

#[tokio::test]
async fn what_the_state_in_memory_would_refuse_and_the_stored_one_accepts_is_carried_out() {
    let world = World::new();
    let (one, other) = (world.start("one").await, world.start("other").await);
    order(&one, Shopping::Open).await.unwrap();
    order(&one, Shopping::Close).await.unwrap();
    // What is in memory is refused while it is so: the rejection is confirmed and given.
    let refused = order(&one, Shopping::Buy).await.unwrap_err();
    assert!(matches!(refused, CommandError::Rejected(_)), "{refused}");

    order(&other, Shopping::Open).await.unwrap();
    assert_eq!(order(&one, Shopping::Buy).await.unwrap(), Version(4));
    one.stop().await;
    other.stop().await;
}

/// A store that confirms whatever it is asked to, as if nobody asked.
#[derive(Debug)]
struct Obliging(Arc<dyn Store>);

#[async_trait::async_trait]
impl StoreLayer for Obliging {
    fn below(&self) -> &Arc<dyn Store> {
        &self.0
    }

    async fn commit(&self, mut commit: Commit) -> Result<Committed, CommitError> {
        if commit.appends.is_empty() {
            commit.conditions.clear();
            commit.stands_on.clear();
        }
        self.0.commit(commit).await
    }
}

/// Nothing but the store's word keeps a stale rejection from being given: without it, it is, and would be seen.
#[tokio::test]
async fn a_rejection_that_nobody_confirms_is_given_on_a_stale_state() {
    let world = World::new();
    let obliging = Layered(Obliging(Arc::new(MemoryStore::open(world.disk.clone()))));
    let one = world.start_on("one", Arc::new(obliging)).await;
    let other = world.start("other").await;
    order(&one, Shopping::Open).await.unwrap();
    order(&one, Shopping::Close).await.unwrap();
    order(&other, Shopping::Open).await.unwrap();
    let refused = order(&one, Shopping::Buy).await.unwrap_err();
    assert!(matches!(refused, CommandError::Rejected(_)), "{refused}");
    one.stop().await;
    other.stop().await;
}

/// `one` closes the shop, and a purchase is refused because of that, before the closing is durable. The closing fails.
/// With `another`, another process has an event at the place of the closing when the rejection is confirmed, so that
/// all versions fit: nothing but what the rejection stands on tells that it is wrong.
async fn check_a_rejection_that_stands_on_what_fails(another: bool) {
    let world = World::new();
    let (one, other) = (world.start("one").await, world.start("other").await);
    order(&one, Shopping::Open).await.unwrap();
    let closing = || world.plan.at(Call::Commit).on("one").about("nothing");
    closing().fails(Error::transient("the disk is full"));
    let gate = closing().waits();
    let mut close = Box::pin(order(&one, Shopping::Close));
    assert!(close.as_mut().now_or_never().is_none(), "it is under way");
    let mut buy = Box::pin(order(&one, Shopping::Buy));
    assert!(
        buy.as_mut().now_or_never().is_none(),
        "its rejection waits for what it stands on"
    );
    if another {
        assert_eq!(order(&other, Shopping::Buy).await.unwrap(), Version(2));
    }
    gate.open();
    let failed = close.await.unwrap_err();
    assert!(matches!(failed, CommandError::Failed(_)), "{failed}");
    let bought = Version(if another { 3 } else { 2 });
    assert_eq!(buy.await.unwrap(), bought, "another: {another}");
    assert_eq!(world.plan.unmet(), [""; 0]);
    one.stop().await;
    other.stop().await;
}

#[tokio::test]
async fn a_rejection_that_stands_on_an_event_which_fails_is_decided_again() {
    check_a_rejection_that_stands_on_what_fails(false).await;
}

#[tokio::test]
async fn a_rejection_that_stands_on_an_event_which_fails_is_decided_again_whatever_stands_in_its_place()
 {
    check_a_rejection_that_stands_on_what_fails(true).await;
}
