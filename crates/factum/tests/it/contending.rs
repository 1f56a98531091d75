//! Two processes that write to one aggregate.

use std::{sync::Arc, time::Duration};

use factum::{
    App, Commands, ParkedFilter, ParkedState, Running, Service, ServiceName, StoreId, Topic,
    TopicSpec, Version,
};
use factum_testkit::{
    MemoryDisk, MemoryStore, MemoryTopicsDisk, TestEnv,
    faults::{Call, Faults, FaultyStore, Moment},
};

use crate::world::{
    Account, AccountCommand, ONLY_ONCE, Receipt, World, amounts, deposit as deposit_in,
    follow_time, until,
};

const TASKS: u64 = 8;
const COMMANDS: u64 = 100;

struct Contest {
    env: TestEnv,
    disk: MemoryDisk,
    faults: Faults,
}

impl Contest {
    fn new(seed: u64) -> Self {
        let env = TestEnv::seeded(seed);
        let (id, now) = (StoreId(env.env().uuid()), env.env().now());
        Self {
            disk: MemoryDisk::new(id, ServiceName::of("accounts"), now),
            faults: Faults::new(),
            env,
        }
    }

    async fn start(&self, process: &str) -> Running {
        let env = self.env.env();
        let broker = Arc::new(MemoryTopicsDisk::new().open(env.clone()));
        let store = Arc::new(MemoryStore::open(self.disk.clone()));
        let store = Arc::new(FaultyStore::new(process, store, &self.faults));
        let service = Service::new("accounts").aggregate::<Account>();
        let app = App::new(env, broker).service_on(store, service);
        app.start().await.unwrap()
    }
}

fn commands(running: &Running) -> Commands {
    running.service("accounts").unwrap().commands()
}

async fn deposit(commands: &Commands) {
    let deposit = AccountCommand::Deposit(1);
    let executed = commands.execute::<Account>("hot", deposit).await;
    executed.expect("no command is refused");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_commands_of_two_processes_on_one_aggregate_none_is_refused() {
    let contest = Contest::new(71);
    let processes = [contest.start("one").await, contest.start("two").await];
    let tasks = processes.iter().flat_map(|running| {
        let commands = commands(running);
        (0..TASKS).map(move |_| {
            let commands = commands.clone();
            tokio::spawn(async move {
                for _ in 0..COMMANDS {
                    deposit(&commands).await;
                    tokio::task::yield_now().await;
                }
            })
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    let loaded = commands(&processes[0]).load::<Account>("hot").await;
    let (account, version) = loaded.unwrap();
    assert_eq!(version, Version(2 * TASKS * COMMANDS));
    assert_eq!(account.balance, 2 * TASKS * COMMANDS);
    for running in &processes {
        running.stop().await;
    }
}

/// Commands were decided again at once, 32 times at most: a process that is a little slower than another could have
/// that many conflicts within some milliseconds, and its commands were refused.
#[tokio::test(start_paused = true)]
async fn a_storm_of_another_process_is_waited_out() {
    let contest = Contest::new(72);
    let (slow, quick) = (contest.start("slow").await, contest.start("quick").await);
    // Whatever the slow one decides, the quick one has committed meanwhile.
    contest.faults.on_write(|operation, moment| {
        let slow = operation.call == Call::Commit && &*operation.node == "slow";
        let wait = Duration::from_micros(if slow && moment == Moment::Before {
            1_500
        } else {
            0
        });
        tokio::time::sleep(wait)
    });
    let storm = tokio::spawn({
        let quick = commands(&quick);
        async move {
            for _ in 0..150 {
                deposit(&quick).await;
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    });
    deposit(&commands(&slow)).await;
    storm.await.unwrap();
    contest.faults.clear();
    let loaded = commands(&slow).load::<Account>("hot").await;
    assert_eq!(loaded.unwrap().1, Version(151));
    slow.stop().await;
    quick.stop().await;
}

/// It went wrong: the first of the two said that any version would do, and the aggregate decided on what it no longer was.
#[tokio::test(start_paused = true)]
async fn a_decision_behind_an_import_into_the_same_stream_stands_on_what_the_aggregate_is() {
    let world = World::new(73);
    let (_time, broker) = (follow_time(&world.env), world.broker());
    let running = world.start_as("one", &broker).await;
    deposit_in(&running, "a", 1).await;
    until("a receipt", async || amounts(&running, "a").await == [1]).await;
    // Another process writes the receipt of which there is one at most.
    let store = Arc::new(MemoryStore::open(world.receipts.clone()));
    let service = Service::new("receipts")
        .aggregate::<Receipt>()
        .topic(TopicSpec::new(Topic::of("accounts"), 3))
        .topic(TopicSpec::new(Topic::of("receipts"), 3));
    let other = App::new(world.env.env(), broker).service_on(store, service);
    let other = other.start().await.unwrap();
    let commands = other.service("receipts").unwrap().commands();
    commands.execute::<Receipt>("a", ONLY_ONCE).await.unwrap();

    deposit_in(&running, "a", ONLY_ONCE).await;

    let store = running.service("receipts").unwrap().store();
    until("it is refused", async || {
        let rows = store.parked(&ParkedFilter::default(), 10).await.unwrap();
        rows.first()
            .is_some_and(|row| row.state == ParkedState::Dead)
    })
    .await;
    assert_eq!(amounts(&other, "a").await, [1, ONLY_ONCE]);
    other.stop().await;
    running.stop().await;
}
