//! Two processes that write to one aggregate.

use std::{sync::Arc, time::Duration};

use factum::{App, Commands, Running, Service, ServiceName, StoreId, Version};
use factum_testkit::{
    MemoryDisk, MemoryStore, MemoryTopicsDisk, TestEnv,
    faults::{Call, Faults, FaultyStore, Moment},
};

use crate::world::{Account, AccountCommand};

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
