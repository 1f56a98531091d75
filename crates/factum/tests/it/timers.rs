//! Timers: durable, once, and those that fail hold nobody up.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use factum::{
    App, Broker, Failure, Reaction, Running, Service, ServiceName, Status, Store, StoreId, Timer,
    TimerHandler, TimerWrite, Topic, TopicSpec,
};
use factum_testkit::{MemoryDisk, MemoryStore, MemoryTopicsDisk, TestEnv};

use crate::{
    bank::{commit, status},
    world::{Account, AccountCommand, follow_time, until},
};

const PART: &str = "accounts/timers";

/// How timers fail, by id.
#[derive(Clone)]
enum Fault {
    FailsTimes(u32),
    Panics,
    Skips,
    Waits,
    /// Fires, and is set again after an hour.
    Recurs,
}

#[derive(Clone, Default)]
struct Shared {
    faults: Arc<Mutex<BTreeMap<String, Fault>>>,
    /// The idempotency key of each try, by timer.
    keys: Arc<Mutex<Vec<(String, String)>>>,
}

impl Shared {
    fn set(&self, id: &str, fault: Fault) {
        self.faults.lock().unwrap().insert(id.into(), fault);
    }

    fn get(&self, id: &str) -> Option<Fault> {
        self.faults.lock().unwrap().get(id).cloned()
    }

    fn keys(&self, id: &str) -> Vec<String> {
        let keys = self.keys.lock().unwrap();
        keys.iter()
            .filter(|(known, _)| known == id)
            .map(|(_, key)| key.clone())
            .collect()
    }
}

/// Deposits what the payload says into the account that the id names.
struct Interest(Shared);

impl TimerHandler for Interest {
    const NAME: &'static str = "pay-interest";

    async fn fire(&self, timer: &Timer, cx: &mut Reaction) -> Result<(), Failure> {
        self.0
            .keys
            .lock()
            .unwrap()
            .push((timer.id.clone(), cx.idempotency_key("pay")));
        match self.0.get(&timer.id) {
            Some(Fault::FailsTimes(times)) if times > 0 => {
                self.0.set(&timer.id, Fault::FailsTimes(times - 1));
                return Err(Failure::transient("the bank is closed"));
            }
            Some(Fault::Panics) => panic!("no money"),
            Some(Fault::Skips) => return Err(Failure::skip("interest was abolished")),
            Some(Fault::Waits) => {
                until("the fault is cleared", async || {
                    !matches!(self.0.get(&timer.id), Some(Fault::Waits))
                })
                .await;
            }
            Some(Fault::Recurs) => {
                cx.set_timer(
                    timer.id.clone(),
                    timer.due + Duration::from_hours(1),
                    timer.payload.clone(),
                );
            }
            Some(Fault::FailsTimes(_)) | None => {}
        }
        let account = timer.id.rsplit('/').next().unwrap_or_default().to_string();
        let amount = std::str::from_utf8(&timer.payload)
            .unwrap()
            .parse()
            .unwrap();
        cx.execute::<Account>(&account, AccountCommand::Deposit(amount))?;
        Ok(())
    }
}

struct World {
    env: TestEnv,
    disk: MemoryDisk,
    topics: MemoryTopicsDisk,
    shared: Shared,
}

impl World {
    fn new(seed: u64) -> Self {
        let env = TestEnv::seeded(seed);
        let (id, now) = (StoreId(env.env().uuid()), env.env().now());
        let disk = MemoryDisk::new(id, ServiceName::of("accounts"), now);
        Self {
            env,
            disk,
            topics: MemoryTopicsDisk::new(),
            shared: Shared::default(),
        }
    }

    async fn start(&self) -> Running {
        let env = self.env.env();
        let broker: Arc<dyn Broker> = Arc::new(self.topics.open(env.clone()));
        let service = Service::new("accounts")
            .aggregate::<Account>()
            .topic(TopicSpec::new(Topic::of("accounts"), 2))
            .timer("interest", Interest(self.shared.clone()));
        let store: Arc<dyn Store> = Arc::new(MemoryStore::open(self.disk.clone()));
        App::new(env, broker)
            .service_on(store, service)
            .start()
            .await
            .unwrap()
    }

    async fn write(&self, write: TimerWrite) {
        let store = MemoryStore::open(self.disk.clone());
        commit(&store, &self.env.env(), |commit| commit.timers.push(write))
            .await
            .unwrap();
    }

    async fn set(&self, id: &str, after: Duration, amount: u64) {
        let due = self.env.env().now() + after;
        self.write(TimerWrite::Set {
            id: id.into(),
            due,
            payload: amount.to_string().into(),
        })
        .await;
    }

    /// How many timers are set.
    async fn left(&self) -> usize {
        MemoryStore::open(self.disk.clone())
            .next_timers(100)
            .await
            .unwrap()
            .len()
    }
}

async fn balance(running: &Running, account: &str) -> u64 {
    let commands = running.service("accounts").unwrap().commands();
    commands
        .load::<Account>(&account.to_string())
        .await
        .unwrap()
        .0
        .balance
}

async fn until_degraded(running: &Running) -> String {
    let health = running.service("accounts").unwrap().health();
    let reason = || match status(health, PART) {
        Some(Status::Degraded(reason)) => Some(reason),
        _ => None,
    };
    until("it says that it is in trouble", async || reason().is_some()).await;
    reason().unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_timer_fires_once_when_it_is_due_and_not_before() {
    let world = World::new(41);
    let running = world.start().await;
    world.set("interest/a", Duration::from_mins(1), 5).await;
    world.env.advance(Duration::from_secs(59));
    tokio::time::advance(Duration::from_secs(5)).await;
    assert_eq!((balance(&running, "a").await, world.left().await), (0, 1));
    world.env.advance(Duration::from_secs(1));
    until("it fired", async || world.left().await == 0).await;
    assert_eq!(balance(&running, "a").await, 5);
    assert_eq!(world.shared.keys("interest/a").len(), 1);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn timers_that_came_due_while_nobody_ran_fire_after_the_start() {
    let world = World::new(42);
    for account in 0..200 {
        world
            .set(
                &format!("interest/{account}"),
                Duration::from_secs(account % 7),
                1,
            )
            .await;
    }
    world.env.advance(Duration::from_mins(1));
    let running = world.start().await;
    until("all fired", async || world.left().await == 0).await;
    for account in 0..200_u64 {
        assert_eq!(balance(&running, &account.to_string()).await, 1);
    }
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_timer_that_fails_is_tried_again_with_the_same_key_while_the_others_go_on() {
    let world = World::new(43);
    world.shared.set("interest/a", Fault::FailsTimes(2));
    let running = world.start().await;
    world.set("interest/a", Duration::ZERO, 5).await;
    until("it failed", async || {
        !world.shared.keys("interest/a").is_empty()
    })
    .await;
    // The clock stands still: it is not tried again before its time, the other one fires at once.
    world.set("interest/b", Duration::ZERO, 7).await;
    until("the other one", async || balance(&running, "b").await == 7).await;
    assert!(
        until_degraded(&running)
            .await
            .contains("`interest/a`: the bank is closed")
    );
    assert_eq!(world.shared.keys("interest/a").len(), 1);

    let _time = follow_time(&world.env);
    until("it fired", async || balance(&running, "a").await == 5).await;
    let keys = world.shared.keys("interest/a");
    assert_eq!(keys.len(), 3);
    assert!(
        keys.iter().all(
            |key| *key == keys[0] && key.starts_with("accounts/pay-interest/timer/interest/a/")
        )
    );
    let health = running.service("accounts").unwrap().health();
    until("it is well", async || {
        status(health, PART) == Some(Status::Running)
    })
    .await;
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_timer_that_is_cancelled_or_set_again_while_its_handler_runs_has_no_effect_of_the_old_setting()
 {
    let world = World::new(44);
    let running = world.start().await;
    for id in ["interest/a", "interest/b"] {
        world.shared.set(id, Fault::Waits);
        world.set(id, Duration::ZERO, 5).await;
        until("its handler runs", async || {
            !world.shared.keys(id).is_empty()
        })
        .await;
    }
    world
        .write(TimerWrite::Cancel {
            id: "interest/a".into(),
        })
        .await;
    world.set("interest/b", Duration::from_hours(1), 7).await;
    world.shared.faults.lock().unwrap().clear();
    world.set("interest/c", Duration::ZERO, 1).await;
    until("a later one", async || balance(&running, "c").await == 1).await;
    running.stop().await;
    assert_eq!(
        (balance(&running, "a").await, balance(&running, "b").await),
        (0, 0)
    );
    assert_eq!(world.left().await, 1);
}

#[tokio::test(start_paused = true)]
async fn a_timer_may_set_itself_again_and_each_setting_has_keys_of_its_own() {
    let world = World::new(49);
    world.shared.set("interest/a", Fault::Recurs);
    let running = world.start().await;
    world.set("interest/a", Duration::ZERO, 5).await;
    for hour in 1..=3_u64 {
        until("it fired", async || {
            balance(&running, "a").await == 5 * hour
        })
        .await;
        assert_eq!(world.left().await, 1);
        world.env.advance(Duration::from_hours(1));
    }
    until("it fired", async || balance(&running, "a").await == 20).await;
    let mut keys = world.shared.keys("interest/a");
    keys.dedup();
    assert_eq!(keys.len(), 4);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_caught_and_a_timer_without_a_handler_is_named() {
    let world = World::new(45);
    world.shared.set("interest/a", Fault::Panics);
    let running = world.start().await;
    world.set("interest/a", Duration::ZERO, 5).await;
    let reason = until_degraded(&running).await;
    assert!(
        reason.contains("handler `pay-interest` panicked: no money"),
        "{reason}"
    );
    running.stop().await;

    let world = World::new(46);
    let running = world.start().await;
    world.set("dividend/a", Duration::ZERO, 5).await;
    let reason = until_degraded(&running).await;
    assert!(
        reason.contains("`dividend/a`: no handler is given for it (known: interest/)"),
        "{reason}"
    );
    assert_eq!(world.left().await, 1, "nothing is thrown away");
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_timer_that_is_left_out_is_in_the_audit_record() {
    let world = World::new(47);
    world.shared.set("interest/a", Fault::Skips);
    let running = world.start().await;
    world.set("interest/a", Duration::ZERO, 5).await;
    until("it is gone", async || world.left().await == 0).await;
    let audit = running
        .service("accounts")
        .unwrap()
        .operator()
        .audit(None, 1)
        .await
        .unwrap();
    let entry = &audit[0].entry;
    assert_eq!(
        (&*entry.actor, &*entry.action, &*entry.reason),
        ("pay-interest", "skip", "interest was abolished")
    );
    assert_eq!(balance(&running, "a").await, 0);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn of_two_processes_one_fires_the_timers_and_the_other_takes_over() {
    let world = World::new(48);
    let _time = follow_time(&world.env);
    let first = world.start().await;
    let second = world.start().await;
    for account in 0..50 {
        world
            .set(
                &format!("interest/{account}"),
                Duration::from_millis(account),
                1,
            )
            .await;
    }
    until("all fired", async || world.left().await == 0).await;
    drop(first);
    world.set("interest/last", Duration::ZERO, 1).await;
    until("taken over", async || world.left().await == 0).await;
    for account in (0..50)
        .map(|account| account.to_string())
        .chain(["last".into()])
    {
        let commands = second.service("accounts").unwrap().commands();
        assert_eq!(
            commands.load::<Account>(&account).await.unwrap().0.deposits,
            1,
            "{account}"
        );
    }
    second.stop().await;
}
