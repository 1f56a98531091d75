//! A platform under test, and what tests ask of it again and again.

use std::{
    fmt::Debug,
    sync::{Arc, Mutex},
    time::Duration,
};

use factum::{
    Env, Executed, Headers, Outgoing, RetryPolicy, ServiceName, Source, Store, StoreId, Timestamp,
    Token, Topic,
};
use factum_testkit::{MemoryDisk, MemoryStore, MemoryTopicsDisk};
use orders::{
    contracts::{Currency, Item, OrderId, PaymentMode, Sku, UserId},
    invariants::check,
    order::{BuyerRow, Order, OrderCommand, OrderRow, PlaceOrder, Status},
    outside::Outside,
    platform::{Platform, Quiet, Role, World},
    stock::{Shelf, ShelfCommand, ShelfRow},
    users::{RegisterUser, User},
};
use serde_json::Value;

/// How long anything may take, on the clock of the test.
const PATIENCE: Duration = Duration::from_mins(10);

/// The clock of the test's executor, which moves when all wait, and chance that follows from a seed.
struct Paused {
    start: tokio::time::Instant,
    random: Mutex<u64>,
}

impl Source for Paused {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(1_767_225_600_000_000) + self.start.elapsed()
    }

    fn random(&self) -> u64 {
        // SplitMix64: small, and good enough for ids and jitter.
        let mut state = self.random.lock().unwrap();
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = *state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

pub(crate) struct Fixture {
    pub(crate) platform: Platform,
}

pub(crate) fn tea(qty: u32) -> Vec<Item> {
    vec![Item {
        sku: Sku::of("tea"),
        name: "Green tea".into(),
        qty,
        price: 600,
    }]
}

impl Fixture {
    /// A new platform, with a user `u-1` and ten of `tea`.
    pub(crate) async fn new() -> Self {
        let env = Env::new(Paused {
            start: tokio::time::Instant::now(),
            random: Mutex::new(7),
        });
        let stores = Role::ALL.map(|role| {
            let disk =
                MemoryDisk::new(StoreId(env.uuid()), ServiceName::of(role.name()), env.now());
            Arc::new(MemoryStore::open(disk)) as Arc<dyn Store>
        });
        let broker = Arc::new(MemoryTopicsDisk::new().open(env.clone()));
        let world = World {
            env,
            broker,
            stores,
            outside: Outside::in_memory(),
        };
        Self::on(
            Platform::over(world, &RetryPolicy::default(), None)
                .await
                .unwrap(),
        )
        .await
    }

    /// The same on a new `platform`.
    pub(crate) async fn on(platform: Platform) -> Self {
        let fixture = Self::again(platform);
        let kim = RegisterUser {
            user_id: UserId::of("u-1"),
            name: "Kim".into(),
            email: "kim@example.org".into(),
        };
        let users = fixture.platform.commands(Role::Users);
        users
            .execute::<User>(&UserId::of("u-1"), kim)
            .await
            .unwrap();
        fixture.receive("tea", 10).await;
        fixture.settle().await;
        fixture
    }

    /// The fixture of a platform that has a past.
    pub(crate) fn again(platform: Platform) -> Self {
        Self { platform }
    }

    pub(crate) async fn receive(&self, sku: &str, qty: u64) {
        let sku = Sku::of(sku);
        let receive = ShelfCommand::Receive {
            sku: sku.clone(),
            qty,
        };
        self.platform
            .commands(Role::Stock)
            .execute::<Shelf>(&sku, receive)
            .await
            .unwrap();
    }

    /// Places an order of user `u-1`.
    pub(crate) async fn place(&self, order: &str, items: Vec<Item>, card: &str) -> Executed {
        self.place_to_be_paid(order, items, card, PaymentMode::Auto)
            .await
    }

    pub(crate) async fn place_to_be_paid(
        &self,
        order: &str,
        items: Vec<Item>,
        card: &str,
        payment: PaymentMode,
    ) -> Executed {
        let command = OrderCommand::Place(PlaceOrder {
            order_id: OrderId::of(order),
            user_id: UserId::of("u-1"),
            items,
            currency: Currency::won(),
            payment,
            card: Some(card.into()),
        });
        self.order(order, command).await
    }

    pub(crate) async fn order(&self, order: &str, command: OrderCommand) -> Executed {
        let orders = self.platform.commands(Role::Order);
        orders
            .execute::<Order>(&OrderId::of(order), command)
            .await
            .unwrap()
    }

    /// The user thinks better of it.
    pub(crate) async fn cancel(&self, order: &str) {
        let reason = "changed my mind".into();
        self.order(order, OrderCommand::Cancel { reason }).await;
    }

    /// Expects all of these orders to be in this state.
    #[track_caller]
    pub(crate) fn all_are(&self, orders: &[&str], expected: Status) -> impl Future<Output = ()> {
        let place = std::panic::Location::caller();
        async move {
            for order in orders {
                let status = self.status(order).await;
                assert_eq!(status, Some(expected), "{place}: order `{order}`");
            }
        }
    }

    /// How many charges the gateway has made.
    pub(crate) fn charges(&self) -> usize {
        self.platform.outside().gateway.charges().unwrap().len()
    }

    /// A shelf as queries show it.
    pub(crate) async fn shelf(&self, sku: &str) -> Option<ShelfRow> {
        let queries = self.platform.queries(Role::Stock);
        let shelf = queries.get(orders::stock::SHELVES, sku, None).await;
        shelf.unwrap().value
    }

    /// An order as queries show it.
    pub(crate) async fn row(&self, order: &str, token: Option<&Token>) -> Option<OrderRow> {
        self.platform
            .queries(Role::Order)
            .get(orders::order::ORDERS, order, token)
            .await
            .unwrap()
            .value
    }

    /// A user as orders show them.
    pub(crate) async fn buyer(&self, user: &str) -> Option<BuyerRow> {
        let queries = self.platform.queries(Role::Order);
        let buyer = queries.get(orders::order::BUYERS, user, None).await;
        buyer.unwrap().value
    }

    pub(crate) async fn status(&self, order: &str) -> Option<Status> {
        self.row(order, None).await.map(|row| row.status)
    }

    /// The stored names of what happened to an order, in the log of the order service.
    pub(crate) async fn history(&self, order: &str) -> Vec<String> {
        self.events(Role::Order, "order", order).await
    }

    pub(crate) async fn events(&self, role: Role, category: &str, id: &str) -> Vec<String> {
        let stream = format!("{category}/{id}").parse().unwrap();
        let page = self
            .platform
            .service(role)
            .store()
            .read_stream(&stream, factum::Version(1), 100)
            .await
            .unwrap();
        page.records
            .iter()
            .map(|record| record.draft.event_type.name.to_string())
            .collect()
    }

    /// What users were told about an order, in no particular order.
    pub(crate) fn told(&self, order: &str) -> Vec<String> {
        let told = self.platform.outside().notifier.told().unwrap();
        let mut told: Vec<_> = told
            .into_iter()
            .filter(|notice| notice.order_id.as_str() == order)
            .map(|notice| notice.text)
            .collect();
        told.sort();
        told
    }

    /// Publishes a foreign message, as a producer in any language would.
    pub(crate) async fn publish(&self, topic: &'static str, key: &str, message: &Value) {
        let key = factum::Key::from(key);
        let topics = self.platform.running().broker().topics().await.unwrap();
        let spec = topics
            .iter()
            .find(|spec| spec.topic.as_str() == topic)
            .unwrap();
        let outgoing = Outgoing {
            topic: Topic::of(topic),
            partition: key.partition(spec.partitions),
            key: Some(key),
            headers: Headers::new(),
            value: Some(message.to_string().into()),
            timestamp: Timestamp::UNIX_EPOCH,
        };
        let mut producer = self.platform.running().broker().producer().await.unwrap();
        producer.send(vec![(1, outgoing)]).await.unwrap();
        producer.reports().await.unwrap()[0].result.clone().unwrap();
    }

    /// Waits until nothing is on its way, and views show all of it. Says how many messages are dead.
    pub(crate) async fn settle_with_dead(&self) -> u64 {
        let mut dead = 0;
        let quiet = async || match self.platform.quiet().await.unwrap() {
            Quiet::Quiet => Ok(0),
            Quiet::Held(dead) => Ok(dead),
            Quiet::Busy(what) => Err(what),
        };
        until(Ok(()), async || {
            dead = quiet().await?;
            Ok::<_, String>(())
        })
        .await;
        dead
    }

    /// Waits until nothing is on its way, and nothing is dead, and checks the invariants.
    pub(crate) async fn settle(&self) {
        assert_eq!(self.settle_with_dead().await, 0, "there are dead letters");
        let broken = check(&self.platform.facts().await.unwrap());
        assert!(broken.is_empty(), "{broken:#?}");
    }

    pub(crate) async fn stop(self) {
        self.platform.stop().await;
    }
}

/// Waits until `look` sees it.
#[track_caller]
pub(crate) fn until<T: Debug + PartialEq>(
    expected: T,
    mut look: impl AsyncFnMut() -> T,
) -> impl Future<Output = ()> {
    let place = std::panic::Location::caller();
    async move {
        let mut seen = None;
        let waited = tokio::time::timeout(PATIENCE, async {
            loop {
                let now = look().await;
                if now == expected {
                    return;
                }
                seen = Some(now);
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        assert!(
            waited.await.is_ok(),
            "{place}: expected {expected:?}, and saw {seen:?} at last"
        );
    }
}
